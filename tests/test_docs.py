"""The documentation is true: each shown command and snippet runs, each command and option is told."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from hftcl import config
from hftcl.archive.artifact import list_our_features
from hftcl.cli.process import load_app
from tests.in_process import call

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
BIN = Path(sys.executable).parent
QUICK = {
    "HFTCL_MODEL__N_ESTIMATORS": "24",
    "HFTCL_MARKET__WATCHLIST": '["AAPL", "AMD"]',
    "HFTCL_PROMOTE__MIN_SHARPE": "-100",
    "PATH": f"{BIN}:{os.environ['PATH']}",
}


def environment() -> dict[str, str]:
    return {**os.environ, **QUICK}


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(), flags=re.DOTALL)


def commands() -> dict[str, Any]:
    group: Any = typer.main.get_command(load_app())
    return dict(group.commands)


@pytest.mark.usefixtures("warm_trainers")
def test_each_command_of_the_quick_start_runs_in_the_order_shown(tmp_path: Path) -> None:
    """In this process, else each would load for a second, with the variables that stand before it."""
    shown = [line[2:] for block in blocks(DOCS / "quickstart.md", "console") for line in block.splitlines()]
    assert len(shown) >= 8
    less = {name: text for name, text in QUICK.items() if name != "PATH"} | {"HFTCL_MARKET__LOOKBACK_DAYS": "46"}
    with_variables = 0
    for command in shown:
        words = shlex.split(command)
        program = words.index("hftcl")
        given = dict(word.split("=", 1) for word in words[:program])
        with_variables += bool(given)
        done = call(tmp_path, *words[program + 1 :], **less | given)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        assert done.stdout
    assert with_variables


@pytest.mark.usefixtures("warm_trainers")
def test_each_command_of_the_tour_runs_in_the_order_shown_and_ends_as_told(tmp_path: Path) -> None:
    """With fewer trees, tickers and sessions: a walk of seconds. The pictures have the figures of the whole one."""
    shown = [line[2:] for block in blocks(DOCS / "tour.md", "console") for line in block.splitlines()]
    assert [command.split()[1] for command in shown] == ["retrain", "retrain", "history", "check", "trade", "report"]
    less = {**QUICK, "HFTCL_MODEL__N_ESTIMATORS": "8", "HFTCL_MARKET__LOOKBACK_DAYS": "46"}
    less |= {"HFTCL_MARKET__WATCHLIST": '["AAPL"]', "HFTCL_PROMOTE__MIN_P_BETTER": "0.99"}  # so few show no difference
    said = {}
    for command in shown:
        words = shlex.split(command)[1:]
        done = call(tmp_path, *words, **less)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        said[command] = done.stdout
    first, second, _, _, replay, _ = said.values()
    assert ("DEPLOYED" in first, "REJECTED" in second) == (True, True)
    assert "trained on some of these sessions" not in replay
    assert (tmp_path / "report.html").is_file()


@pytest.mark.parametrize("index", range(len(blocks(DOCS / "python.md", "python"))))
def test_each_snippet_runs_as_a_script_without_a_main_guard(index: int, tmp_path: Path) -> None:
    body = blocks(DOCS / "python.md", "python")[index]
    for shown, less in (("lookback_days=90", "lookback_days=46"), ('"n_estimators": 300', '"n_estimators": 24')):
        assert index or shown in body
        body = body.replace(shown, less)
    script = tmp_path / "snippet.py"
    script.write_text("from hftcl import ContinuousLearning\n" + body)
    one = environment() | {"HFTCL_MARKET__WATCHLIST": '["AAPL"]'}
    done = subprocess.run([sys.executable, script], cwd=tmp_path, env=one, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def shown_commands() -> list[tuple[str, list[str]]]:
    """Return each `hftcl ...` that a page shows, with its page, as the words of a shell."""
    found: list[tuple[str, list[str]]] = []
    for page in (ROOT / "README.md", *sorted(DOCS.rglob("*.md"))):
        text = page.read_text()
        blocks_of_it = re.findall(r"^```(?:console|sh|bash)\n(.*?)```", text, flags=re.DOTALL | re.MULTILINE)
        lines = [line for block in blocks_of_it for line in block.splitlines()]
        lines += [" ".join(code.split()) for code in re.findall(r"`([^`\n]+(?:\n[^`\n]+)?)`", text)]
        for line in lines:
            if "useradd" in line:  # the name of the service's user
                continue
            if shown := re.search(r"(?:^|[ /])hftcl ((?:-{1,2})?[a-z].*)", line.partition("  #")[0]):
                first = re.split(r" (?:&&|\|\|?|>|;) ", shown[1])[0]
                found.append((page.name, first.replace("'", " ").replace('"', " ").rstrip(";,.").split()))
    return found


def test_each_command_that_a_page_shows_is_there_with_its_options() -> None:
    known = {name: {option for each in command.params for option in each.opts} for name, command in commands().items()}
    everywhere = {"--help", "-h", "--config", "--version", "-v", "-vv", "--verbose", "-q", "--quiet", "--json",
                  "--install-completion", "--show-completion"}  # fmt: skip
    shown = shown_commands()
    assert len(shown) > 150
    faults: list[str] = []
    for page, words in shown:
        names = [word for word in words if not word.startswith("-")]
        command = next((name for name in names if name in known), None)
        if command is None and not {*words} & everywhere and re.fullmatch("[a-z]+", names[0] if names else "x"):
            faults.append(f"{page}: hftcl {' '.join(words)}: no such command")
        options = {word.partition("=")[0].rstrip(":;,.)") for word in words if re.match(r"--?[a-z]", word)}
        faults += [f"{page}: hftcl {' '.join(words)}: no option {one}"
                   for one in options - everywhere - known.get(command or "", set())]  # fmt: skip
    assert faults == []


def test_every_command_and_every_option_is_documented() -> None:
    told = (DOCS / "commands.md").read_text()
    readme = (ROOT / "README.md").read_text()
    for name, command in commands().items():
        assert f"## hftcl {name}" in told, f"docs/commands.md lacks hftcl {name}"
        assert f"`hftcl {name}`" in readme, f"README.md lacks hftcl {name}"
        for parameter in command.params:
            for option in parameter.opts:
                if option.startswith("--") and option != "--help":
                    assert option in told, f"docs/commands.md lacks {option} of hftcl {name}"


def test_no_command_is_documented_that_is_not_there() -> None:
    named = set(re.findall(r"^## hftcl ([a-z]+)", (DOCS / "commands.md").read_text(), flags=re.MULTILINE))
    assert named == set(commands())


def test_the_json_fields_of_each_report_are_documented() -> None:
    from dataclasses import fields

    from hftcl.learning import archive_reports, reports, why_reports
    from hftcl.learning.backtest import reports as backtest_reports
    from hftcl.learning.search import reports as search_reports
    from hftcl.performance import reports as tracker_reports
    from hftcl.schedule import reports as schedule_reports

    told = (DOCS / "commands.md").read_text()
    for report in (
        reports.CheckReport,
        reports.RetrainReport,
        reports.ScoreReport,
        reports.SliceReport,
        reports.HeldReport,
        reports.WorthReport,
        why_reports.ExplainReport,
        why_reports.ExplainRow,
        why_reports.DecidedReport,
        why_reports.DecidedOrderReport,
        why_reports.ReproduceReport,
        why_reports.ModelDifference,
        reports.ExamReport,
        reports.ExamSpan,
        reports.EvidenceReport,
        archive_reports.HistoryRow,
        archive_reports.Gap,
        archive_reports.RollbackReport,
        archive_reports.UnpinReport,
        archive_reports.NoteReport,
        reports.ProofReport,
        reports.FeatureReport,
        backtest_reports.BacktestReport,
        backtest_reports.PolicyReport,
        tracker_reports.PerformanceReport,
        tracker_reports.Figures,
        tracker_reports.ModelFigures,
        tracker_reports.PartFigures,
        tracker_reports.CellFigures,
        tracker_reports.BenchmarkFigures,
        tracker_reports.Swap,
        tracker_reports.CurvePoint,
        tracker_reports.RollingPoint,
        tracker_reports.TradeRow,
        tracker_reports.TradeBin,
        backtest_reports.ServedReport,
        backtest_reports.DifferenceReport,
        backtest_reports.AttemptReport,
        search_reports.SearchReport,
        search_reports.TrialReport,
        search_reports.WinnerReport,
        search_reports.InnerReport,
        search_reports.SearchExamReport,
        schedule_reports.ComingReport,
        schedule_reports.RanReport,
    ):
        for item in fields(report):
            assert f"`{item.name.rstrip('_')}`" in told, f"docs/commands.md lacks {report.__name__}.{item.name}"


def test_ci_runs_exactly_the_test_command_of_the_readme() -> None:
    _, tests = [block.strip() for block in blocks(ROOT / "README.md", "sh")][:2]
    assert tests.endswith(".venv/bin/pytest -n 3 --dist loadfile")
    assert tests in (ROOT / ".ci" / "run").read_text().splitlines()


def test_the_readme_s_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((docs/[^)]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / target).is_file(), target


def test_each_row_of_the_ml_test_score_names_a_test_that_exists() -> None:
    """28 rows, 4 sections of 7, at least 6 held in each."""
    text = (DOCS / "ml-test-score.md").read_text()
    sections = {
        title: re.findall(r"^\| (?!the rubric|---)[^|]+\| (yes|no) \| (.+) \|$", body, re.MULTILINE)
        for title, body in re.findall(r"^## (\w+)$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    }
    assert {title: len(rows) for title, rows in sections.items()} == dict.fromkeys(
        ("Data", "Model", "Infrastructure", "Monitoring"), 7
    )
    held = {title: [by for answer, by in rows if answer == "yes"] for title, rows in sections.items()}
    assert min(map(len, held.values())) >= 6
    assert f"{sum(map(len, held.values()))} of 28 are held" in text
    for by in (by for section in held.values() for by in section):
        named = re.match(r"`([\w/]+\.py)::(\w+)`", by)
        assert named is not None, by
        assert f"def {named[2]}(" in (ROOT / "tests" / named[1]).read_text(), by


def test_whatever_the_page_of_security_says_is_never_written_names_a_test_that_exists() -> None:
    body = (DOCS / "security.md").read_text().partition("## What is never written")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (?!never|---)[^|]+\| `([\w/]+\.py)::(\w+)` \|$", body, re.MULTILINE)
    assert len(rows) == body.count("\n| ") - 2, "every row but the two of the head"
    for file, name in rows:
        assert f"def {name}(" in (ROOT / "tests" / file).read_text(), name


def test_the_changelog_names_the_version() -> None:
    from hftcl import __version__

    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_every_dependency_is_explained() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    told = (DOCS / "dependencies.md").read_text()
    for requirement in project["dependencies"]:
        name = re.split(r"[><=;\s]", requirement)[0]
        assert name in told, f"docs/dependencies.md lacks {name}"


def save_the_features_of_the_page(folder: Path) -> list[str]:
    """Save the two files of docs/edge.md where it says, and return its commands."""
    module, of_column = blocks(DOCS / "edge.md", "python")
    (folder / "my_features.py").write_text(module)
    (folder / "column").mkdir()
    (folder / "column" / "lean.py").write_text(of_column)
    return [line[2:] for block in blocks(DOCS / "edge.md", "console") for line in block.splitlines()]


def test_hftcl_takes_every_configuration_that_the_page_on_an_edge_writes(tmp_path: Path) -> None:
    shown = save_the_features_of_the_page(tmp_path)
    names: dict[str, tuple[str, ...]] = {}
    for command in shown:
        if not command.startswith(("hftcl", "HFTCL_")):
            subprocess.run(["/bin/bash", "-c", command], cwd=tmp_path, env=environment(), check=True)
        for file in (tmp_path / "hftcl.toml", tmp_path / "column" / "hftcl.toml"):
            if file.exists():
                names[file.parent.name] = list_our_features(
                    config.load(file, environ={}, cwd=file.parent).settings
                ).names
    assert names["column"][-1] == "lean"
    assert names[tmp_path.name][-1] == "stretch"


@pytest.mark.slow
def test_the_page_on_an_edge_of_ones_own_comes_out_as_it_says(tmp_path: Path) -> None:
    page = (DOCS / "edge.md").read_text()
    shown = save_the_features_of_the_page(tmp_path)
    environment = {**os.environ, "PATH": QUICK["PATH"], "COLUMNS": "200"}
    said = {}
    for command in shown:
        done = subprocess.run(
            ["/bin/bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == (1 if command.endswith("# exits 1") else 0), f"{command}: {done.stderr}"
        said[command] = done.stdout + done.stderr
    assert "REJECTED" in said["hftcl retrain --as-of 2025-12-15"]
    assert "DEPLOYED" in said["hftcl retrain --force --as-of 2025-12-15"]
    leak, nothing = (said[command] for command in shown if command.startswith("HFTCL_"))
    assert "The feature stretch breaks a promise: a value never changes when later bars arrive" in leak
    assert "REJECTED" in nothing
    alone, with_column = (said[command] for command in shown if command.startswith("hftcl --config column"))
    assert "REJECTED" in alone
    assert "DEPLOYED" in with_column
    for home in (tmp_path, tmp_path / "nothing", tmp_path / "column"):
        done = subprocess.run(
            [BIN / "hftcl", "history", "--json"],
            cwd=tmp_path,
            env={**environment, "HFTCL_PATHS__HOME": str(home)},
            capture_output=True,
            text=True,
            check=True,
        )
        for row in json.loads(done.stdout):
            assert f"{row['val_sharpe']:.2f}" in page, row
