"""The command line as a user meets it: real processes, exit statuses, what is on stdout and what is not."""

import json
import os
import pty
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any, TextIO

import pytest

from hftcl.cli import process
from hftcl.cli.process import move_globals_first
from hftcl.home import Home
from tests.in_process import call
from tests.installed import CALENDAR, HFTCL, PATIENCE_S, one_line, run
from tests.ledger.ledger_cases import write_ledger
from tests.loop_cases import SMALL_TOML


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home with two deployed models."""
    home = tmp_path_factory.mktemp("trained")
    (home / "hftcl.toml").write_text(SMALL_TOML + "[promote]\npolicy = 'seed'\nmin_sharpe = -100\ntolerance = 0.99\n")
    first = call(home, "retrain", "--force", "--json", "--as-of", "2025-09-30")
    assert json.loads(first.stdout)["outcome"] == "deployed", first.stderr
    second = call(home, "retrain", "--force", "--json", "--as-of", "2025-12-15", "--param", "alpha=2.0")
    assert json.loads(second.stdout)["outcome"] == "deployed", second.stdout
    return home


@pytest.fixture
def home(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "home"))


@pytest.fixture
def trees(home: Path) -> Path:
    """Return that home, with trees from now on: LightGBM's process begins in a third of the time of a forest's."""
    settings = home / "hftcl.toml"
    settings.write_text(settings.read_text().replace('family = "ridge"', 'family = "lightgbm"'))
    return home


def test_help_is_there_by_both_names_even_with_a_broken_configuration(tmp_path: Path) -> None:
    (tmp_path / "hftcl.toml").write_text("[nonsense")
    for arguments in (["-h"], ["--help"], ["retrain", "-h"], ["history", "--help"]):
        done = call(tmp_path, *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        assert "Usage: hftcl" in done.stdout


def test_commands_are_listed_in_the_order_of_their_use(tmp_path: Path) -> None:
    lines = call(tmp_path, "--help").stdout.partition("Commands:")[2].splitlines()
    listed = [line.split()[0] for line in lines if line]
    learning = ["init", "check", "retrain", "prove", "exam", "backtest"]
    commands = [*learning, "history", "rollback", "unpin", "trade", "report", "schedule", "doctor"]
    assert [word for word in listed if word in commands] == commands


def test_the_version_is_the_package_s(tmp_path: Path) -> None:
    from importlib.metadata import version

    assert run(tmp_path, "--version").stdout == f"hftcl {version('hftcl')}\n"


def test_a_script_learns_from_the_exit_status_that_a_retrain_is_due(tmp_path: Path) -> None:
    (tmp_path / "hftcl.toml").write_text(SMALL_TOML)
    done = run(tmp_path, "check", "--json", "--exit-code")
    assert done.returncode == 3
    assert json.loads(done.stdout)["due"] is True
    assert sorted(path.name for path in tmp_path.iterdir()) == [CALENDAR, "hftcl.toml"]  # which `run` has put there


def test_a_fresh_model_is_not_due(home: Path) -> None:
    done = call(home, "check", "--json", "--exit-code", "--as-of", "2025-12-16")
    assert done.returncode == 0
    assert json.loads(done.stdout)["due"] is False


def test_json_is_alone_on_stdout_and_progress_on_stderr(home: Path) -> None:
    done = run(home, "retrain", "--force", "--dry-run", "--json", "--as-of", "2025-12-15")
    report = json.loads(done.stdout)
    assert report["outcome"] == "deployed"
    assert "fit: " in done.stderr
    assert {"from", "to", "sessions", "overlap_challenger", "overlap_champion"} <= set(report["exam"])
    assert set(report["timings_s"]) >= {"collect", "features", "fit", "exam", "total"}


def test_quiet_says_nothing_but_warnings_and_the_report(home: Path) -> None:
    done = call(home, "-q", "retrain", "--force", "--dry-run", "--json", "--as-of", "2025-12-15")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "the record of this policy lacks 2025-10-01" in done.stderr, "nothing was trained in October"
    assert json.loads(done.stdout)["dry_run"] is True


def test_history_shows_the_serving_model_first_and_which_it_replaced(trained: Path) -> None:
    rows = json.loads(call(trained, "history", "--json").stdout)
    assert [row["is_deployed"] for row in rows] == [True, False]
    assert rows[0]["parent"] == rows[1]["model_id"]
    assert set(rows[0]) >= {"trained_date", "val_sharpe", "outcome", "reason", "sha256", "source"}
    assert len(json.loads(call(trained, "history", "--json", "--limit", "1").stdout)) == 1
    assert len(json.loads(call(trained, "history", "--json", "--lineage").stdout)) == 2


def test_in_a_pipe_each_model_is_one_uncut_line(trained: Path) -> None:
    done = call(trained, "history", COLUMNS="40")
    rows = [line for line in done.stdout.splitlines() if "SYNTHETIC" in line]
    assert len(rows) == 2
    assert all("deployed" in line and "met every condition" in line for line in rows)
    assert "\x1b" not in done.stdout


def on_a_terminal(home: Path, *arguments: str, **environment: str) -> str:
    """Return what a terminal of 200 columns shows."""
    master, slave = pty.openpty()
    child = subprocess.Popen(
        [HFTCL, *arguments],
        cwd=home,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "200", **environment},
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            chunk = os.read(master, 65536)
        except OSError:  # the terminal is closed: the child has ended
            break
        if not chunk:
            break
        shown += chunk
    os.close(master)
    assert child.wait(PATIENCE_S) == 0, shown
    return shown.decode()


def test_a_terminal_gets_a_table_in_colour_and_none_where_no_color_is_set(trained: Path) -> None:
    coloured = on_a_terminal(trained, "history")
    assert "┃" in coloured
    assert "\x1b[" in coloured
    plain = on_a_terminal(trained, "history", NO_COLOR="1")
    assert "\x1b[3" not in plain, "no colour"
    dumb = on_a_terminal(trained, "history", TERM="dumb")
    assert "\x1b" not in dumb


@pytest.mark.parametrize(
    ("redirected", "status", "told"),
    [
        (">&-", 0, ""),
        ("<&- >&- 2>&-", 0, ""),
        ("| true; exit ${PIPESTATUS[0]}", 0, ""),
        ("> /dev/full", 1, "hftcl: the output could not be written: No space left on device."),
    ],
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_output_that_takes_nothing_breaks_no_command(
    trained: Path, redirected: str, status: int, told: str, unbuffered: str
) -> None:
    done = subprocess.run(
        ["/bin/bash", "-c", f"'{HFTCL}' history {redirected}"],
        cwd=trained,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith(told)
    assert len(done.stderr.splitlines()) == status


@contextmanager
def open_dead(*, is_full: bool = False) -> Iterator[TextIO]:
    """Return what takes nothing: a pipe whose reader has left, or a full disk."""
    reader, writer = os.pipe()
    os.close(reader)
    with Path("/dev/full").open("w") if is_full else os.fdopen(os.dup(writer), "w") as dead:
        yield dead
    os.close(writer)


def run_with(home: Path, *arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run `hftcl` in `home`; options: of `subprocess.run`, the others are variables of the environment."""
    streams = {name: options.pop(name, subprocess.PIPE) for name in ("stdout", "stderr")}
    return subprocess.run(
        [HFTCL, *arguments],
        cwd=home,
        env={**os.environ, "PYTHONUNBUFFERED": "", **options},
        stdin=subprocess.DEVNULL,
        text=True,
        check=False,
        timeout=PATIENCE_S,
        **streams,
    )


@pytest.mark.parametrize(
    ("is_full", "status"), [(False, 0), (True, 1)], ids=["a reader that has left wants to know nothing", "a full disk"]
)
def test_lines_on_the_way_that_cannot_be_written_end_no_work_and_the_status_says_what_was_lost(
    trained: Path, is_full: bool, status: int
) -> None:
    """The report is on stdout all the same."""
    with open_dead(is_full=is_full) as dead:
        done = run_with(trained, "check", "--json", "--as-of", "2025-12-15", stderr=dead)
    assert done.returncode == status
    assert json.loads(done.stdout)["due"] in (True, False)


@pytest.mark.parametrize("is_full", [False, True], ids=["a reader that has left", "a full disk"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_the_kill_switch_that_did_nothing_fails_also_where_its_report_is_not_read(
    tmp_path: Path, is_full: bool, unbuffered: str
) -> None:
    (tmp_path / "hftcl.toml").touch()
    with open_dead(is_full=is_full) as dead:
        done = run_with(tmp_path, "trade", "--flatten", "--json", stdout=dead, PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 1
    assert done.stderr.startswith("hftcl: No bot has ever traded in")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("environment", [{}, {"PYTHONUNBUFFERED": "1"}, {"FORCE_COLOR": "1"}], ids=str)
def test_a_reader_that_has_left_changes_no_status(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "hftcl.toml").write_text("[nonsense")
    with open_dead() as dead:
        done = run_with(tmp_path, "doctor", stdout=dead, **environment)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_that_takes_the_report_keeps_a_status_that_tells_more(tmp_path: Path, unbuffered: str) -> None:
    (tmp_path / "hftcl.toml").write_text(SMALL_TOML)  # no model serves: a retrain is due
    with open_dead(is_full=True) as dead:
        done = run_with(tmp_path, "check", "--exit-code", "--quiet", stdout=dead, PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 3


def test_a_question_that_cannot_be_asked_is_no_yes_and_no_success(home: Path) -> None:
    before = (home / "trained_stock_model.onnx").read_bytes()
    with open_dead() as dead:
        assert run_with(home, "rollback", stderr=dead).returncode == 1
    assert (home / "trained_stock_model.onnx").read_bytes() == before


def test_each_file_that_is_asked_for_is_written_although_no_line_can_say_so(tmp_path: Path) -> None:
    write_ledger(tmp_path / "ledger.sqlite", last=date(2025, 6, 4))
    files = [tmp_path / "report.html", tmp_path / "trades.csv"]
    with open_dead() as dead:
        done = run_with(tmp_path, "report", "--html", str(files[0]), "--trades", str(files[1]), stderr=dead)
    assert done.returncode == 0
    assert all(file.stat().st_size for file in files)


def test_rollback_goes_back_pins_and_unpin_lets_go(home: Path) -> None:
    newest, oldest = json.loads(call(home, "history", "--json").stdout)
    done = call(home, "rollback", "--yes", "--json")
    report = json.loads(done.stdout)
    assert (report["from_model"], report["to_model"]) == (newest["model_id"], oldest["model_id"])
    rows = json.loads(call(home, "history", "--json").stdout)
    assert [(row["is_deployed"], row["pinned"]) for row in rows] == [(False, False), (True, True)]
    again = call(home, "rollback", "--yes")
    assert again.returncode == 1
    one_line(again)
    assert json.loads(call(home, "unpin", "--json").stdout)["unpinned"] == oldest["model_id"]
    assert json.loads(call(home, "unpin", "--json").stdout)["unpinned"] is None


def test_rollback_shows_the_change_and_without_a_yes_does_nothing(home: Path) -> None:
    before = (home / "trained_stock_model.onnx").read_bytes()
    done = subprocess.run([HFTCL, "rollback"], cwd=home, input="n\n", capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "serves now: " in done.stderr
    assert "will serve: " in done.stderr
    assert (home / "trained_stock_model.onnx").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["retrain", "--force", "--param", "n_estimator=3"], 2, "n_estimators"),
        (["retrain", "--force", "--param", "n_estimators"], 2, "K=V"),
        (["retrain", "--force", "--param", "n_estimators=many"], 2, "n_estimators"),
        (["retrain", "--force", "--as-of", "yesterday"], 2, "2026-01-31"),
        (["retrain", "--force", "--lookback-days", "0"], 2, "lookback_days"),
        (["retrain", "--forced"], 2, "--forced"),
        (["retrian"], 2, "retrian"),
        (["rollback", "20200101_000000", "--yes"], 1, "20200101_000000"),
        (["rollback", "../../etc/passwd", "--yes"], 2, "not a model id"),
        (["--config", "missing.toml", "history"], 78, "missing.toml"),
    ],
)
def test_wrong_input_is_one_plain_line_with_the_right_status(
    trees: Path, arguments: list[str], status: int, told: str
) -> None:
    done = call(trees, *arguments)
    assert done.returncode == status, done.stderr
    assert told in one_line(done)
    assert done.stdout == ""


def test_every_fault_of_the_configuration_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "hftcl.toml").write_text('[model]\nn_estimator = 3\nmax_depth = "12"\n[exam]\nsessions = 20.5\n')
    done = call(tmp_path, "check")
    assert done.returncode == 78
    told = done.stderr.splitlines()
    assert len(told) == 3
    assert "Traceback" not in done.stderr


def test_an_empty_home_has_no_history_and_nothing_to_roll_back(tmp_path: Path) -> None:
    assert json.loads(call(tmp_path, "history", "--json").stdout) == []
    assert "No model yet" in call(tmp_path, "history").stdout
    done = call(tmp_path, "rollback", "--yes")
    assert done.returncode == 1
    one_line(done)
    assert list(tmp_path.iterdir()) == []


def test_all_tickers_without_bars_end_with_status_one(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "OTHER.csv").write_text("ts,open,high,low,close,volume\n2026-01-05T15:00:00Z,1,1,1,1,1\n")
    (tmp_path / "hftcl.toml").write_text('[market]\nsource = "files"\nwatchlist = ["AAPL", "AMD"]\n')
    done = call(tmp_path, "retrain", "--force")
    assert done.returncode == 1
    assert "AAPL" in one_line(done)


def test_a_missing_folder_of_bars_is_named(tmp_path: Path) -> None:
    (tmp_path / "hftcl.toml").write_text('[market]\nsource = "files"\n[files]\nfolder = "nowhere"\n')
    done = call(tmp_path, "retrain", "--force")
    assert done.returncode == 1
    assert "nowhere" in one_line(done)


@pytest.mark.parametrize(("folds", "told"), [(0, ""), (1, ", as is 1 fold of a first record"),
                                              (3, ", as are 3 folds of a first record")])  # fmt: skip
def test_an_interrupted_command_says_that_folds_are_kept_where_there_are_some(
    folds: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "homes_read", [Home(tmp_path)])
    for number in range(folds):
        Home(tmp_path).locate_fold(f"{number:032}").parent.mkdir(parents=True, exist_ok=True)
        Home(tmp_path).locate_fold(f"{number:032}").write_bytes(b"a fold")
    assert process._describe_interruption() == (
        f"interrupted. Bars that were fetched are kept{told}, and no model serves. Run it again to go on."
    )


@pytest.mark.parametrize(
    ("number", "status"), [pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow), (signal.SIGINT, 130)]
)
@pytest.mark.hazard(45)
def test_a_signal_during_training_ends_it_soon_with_nothing_half_done(
    trees: Path, number: signal.Signals, status: int
) -> None:
    before = (trees / "trained_stock_model.onnx").read_bytes()
    arguments = [HFTCL, "retrain", "--force", "--param", "n_estimators=10000", "--as-of", "2025-12-15"]
    child = subprocess.Popen(arguments, cwd=trees, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    while not child.stderr.readline().startswith("fit"):
        assert child.poll() is None
    time.sleep(0.3)
    child.send_signal(number)
    out, err = child.communicate(timeout=PATIENCE_S)
    assert child.returncode == status, err
    assert "Traceback" not in err
    serving = json.loads(call(trees, "history", "--json").stdout)[0]["model_id"]
    told = f"hftcl: interrupted. Bars that were fetched are kept, and {serving} serves. Run it again to go on."
    assert err.splitlines()[-1:] == ([told] if number == signal.SIGINT else []), err
    assert out == ""
    assert (trees / "trained_stock_model.onnx").read_bytes() == before
    assert len(json.loads(call(trees, "history", "--json").stdout)) == 2
    assert call(trees, "unpin").returncode == 0, "no lock is left"


def test_a_production_file_that_was_deleted_is_restored_by_the_next_command_that_changes_something(home: Path) -> None:
    whole = (home / "trained_stock_model.onnx").read_bytes()
    (home / "trained_stock_model.onnx").unlink()
    done = call(home, "unpin")
    assert done.returncode == 0
    assert "repaired: " in done.stdout
    assert (home / "trained_stock_model.onnx").read_bytes() == whole


def test_init_writes_once_and_never_overwrites(tmp_path: Path) -> None:
    assert call(tmp_path, "init").returncode == 0
    written = (tmp_path / "hftcl.toml").read_text()
    assert call(tmp_path, "check", "--json").returncode == 0
    again = call(tmp_path, "init")
    assert again.returncode == 2
    assert (tmp_path / "hftcl.toml").read_text() == written


def test_init_show_says_where_each_setting_came_from_and_hides_secrets(tmp_path: Path) -> None:
    (tmp_path / "hftcl.toml").write_text("[model]\nmax_depth = 9\n")
    done = call(tmp_path, "init", "--show", "--json", HFTCL_MODEL__SEED="5", POLYGON_API_KEY="canary-secret-1234")
    rows = {row["key"]: row for row in json.loads(done.stdout)}
    assert (rows["model.max_depth"]["value"], rows["model.seed"]["value"]) == (9, 5)
    assert "hftcl.toml" in rows["model.max_depth"]["origin"]
    assert rows["model.seed"]["origin"] == "HFTCL_MODEL__SEED"
    assert rows["model.n_estimators"]["origin"] == "default"
    assert "canary-secret" not in done.stdout + done.stderr


def test_a_traceback_is_shown_only_on_request(tmp_path: Path) -> None:
    (tmp_path / "hftcl.toml").write_text('[market]\nsource = "nonsense"\n')
    assert "Traceback" not in call(tmp_path, "check").stderr
    assert "Traceback" in call(tmp_path, "check", "-vv").stderr


def test_global_options_may_follow_the_command() -> None:
    assert move_globals_first(["retrain", "--force", "--config", "a.toml", "-v"]) == [
        "--config",
        "a.toml",
        "-v",
        "retrain",
        "--force",
    ]
    assert move_globals_first(["rollback", "--", "-v"]) == ["rollback", "--", "-v"]


def test_shell_completion_knows_the_commands(tmp_path: Path) -> None:
    done = run(tmp_path, _HFTCL_COMPLETE="complete_bash", COMP_WORDS="hftcl re", COMP_CWORD="1")
    assert "retrain" in done.stdout


def test_no_command_prints_the_help_as_it_is(tmp_path: Path) -> None:
    done = call(tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: hftcl")
    assert "hftcl: " not in done.stderr
    assert "[default: 0]" not in done.stderr, "how often -v was not given tells a reader nothing"


def test_each_summary_of_the_help_is_whole_and_an_unknown_command_names_the_help(tmp_path: Path) -> None:
    summaries = call(tmp_path, "--help").stdout.partition("Commands:")[2].splitlines()
    assert len(summaries) > 12
    assert not [line for line in summaries if line.endswith("...")]
    assert "`hftcl --help`" in call(tmp_path, "help").stderr


def test_a_time_that_lies_in_the_future_is_named_so(tmp_path: Path) -> None:
    done = call(tmp_path, "check", "--as-of", "2999-01-01")
    assert done.returncode == 2
    assert "lies in the future" in done.stderr
