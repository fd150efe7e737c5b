"""The documentation is true: each shown command and snippet runs, each command and option is told."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from hftcl.cli.process import load_app

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


def test_each_command_of_the_quick_start_runs_in_the_order_shown(tmp_path: Path) -> None:
    shown = [line[2:] for block in blocks(DOCS / "quickstart.md", "console") for line in block.splitlines()]
    assert len(shown) >= 8
    for command in shown:
        done = subprocess.run(
            ["/bin/bash", "-c", command], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        assert done.stdout


@pytest.mark.parametrize("index", range(len(blocks(DOCS / "python.md", "python"))))
def test_each_snippet_runs_as_a_script_without_a_main_guard(index: int, tmp_path: Path) -> None:
    body = blocks(DOCS / "python.md", "python")[index]
    script = tmp_path / "snippet.py"
    script.write_text("from hftcl import ContinuousLearning\n" + body)
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


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

    from hftcl.learning import archive_reports, reports
    from hftcl.performance import reports as tracker_reports
    from hftcl.schedule import reports as schedule_reports

    told = (DOCS / "commands.md").read_text()
    for report in (
        reports.CheckReport,
        reports.RetrainReport,
        reports.ScoreReport,
        reports.SliceReport,
        reports.ExamReport,
        reports.ExamSpan,
        reports.EvidenceReport,
        archive_reports.HistoryRow,
        archive_reports.Gap,
        archive_reports.RollbackReport,
        archive_reports.UnpinReport,
        reports.ProofReport,
        reports.FeatureReport,
        reports.BacktestReport,
        reports.PolicyReport,
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
        reports.ServedReport,
        reports.DifferenceReport,
        reports.AttemptReport,
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


@pytest.mark.slow
def test_the_page_on_an_edge_of_ones_own_comes_out_as_it_says(tmp_path: Path) -> None:
    page = (DOCS / "edge.md").read_text()
    (module,) = blocks(DOCS / "edge.md", "python")
    (tmp_path / "my_features.py").write_text(module)
    shown = [line[2:] for block in blocks(DOCS / "edge.md", "console") for line in block.splitlines()]
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
    for home in (tmp_path, tmp_path / "nothing"):
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
