"""`import hftcl` is cheap, and the structure that the map draws is the structure of the code."""

import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from tests.archive.sample_models import archive_in, deployed
from tests.ledger.ledger_cases import write_ledger
from tests.schedule.new_york import write_table

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("sklearn", "pandas", "polars", "scipy", "onnxruntime", "onnx", "exchange_calendars", "numpy", "pydantic")
UNUSED = ("rich", "logging", "email", "http", "importlib.metadata", "tempfile", "tomllib", "zoneinfo", "json")
"""What the status in a home without a file needs none of; together they would take as long as its own modules."""


def loaded_after(statement: str, folder: Path | None = None) -> set[str]:
    code = f"import sys\n{statement}\nprint('\\nloaded', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("\nloaded ")[2].split())


@pytest.mark.parametrize(
    "statement",
    [
        "import hftcl",
        "import hftcl.cli",
        "from hftcl.learning.stories.history import history",
        "from hftcl import ContinuousLearning",
        "from hftcl import views",
    ],
)
def test_nothing_heavy_is_loaded_by(statement: str) -> None:
    assert loaded_after(statement).isdisjoint(HEAVY)


def test_the_interval_of_a_sharpe_ratio_loads_arrays_alone() -> None:
    loaded = loaded_after(
        "from hftcl.exam.metrics import sharpe_interval\n"
        "sharpe_interval([1.0, -0.5, 0.7, -0.2] * 5, sessions_per_year=252)"
    )
    assert loaded.isdisjoint({*HEAVY} - {"numpy"})


@pytest.fixture(scope="module")
def looked_at(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home where there is something to look at: a model that serves, and a ledger of three days."""
    home = tmp_path_factory.mktemp("home")
    deployed(archive_in(home), 1)
    write_ledger(home / "ledger.sqlite", last=date(2025, 6, 4))
    return home


@pytest.mark.parametrize(
    "arguments", ["--help", "trade --help", "history", "history --json", "trade --status", "trade --status --json"]
)
def test_a_command_that_only_looks_does_not_wait_for_the_libraries_of_numbers(arguments: str, looked_at: Path) -> None:
    look = f"import contextlib\nsys.argv = {['hftcl', *arguments.split()]}\nfrom hftcl.cli import main\n"
    loaded = loaded_after(f"{look}with contextlib.suppress(SystemExit):\n    main()", looked_at)
    assert "hftcl.cli.process" in loaded
    assert loaded.isdisjoint(HEAVY)
    assert ("typer" in loaded) is ("--help" in arguments), "to load it takes longer than all the rest of a look"


def test_the_status_of_the_bot_loads_its_own_command_and_what_it_needs(looked_at: Path) -> None:
    look = "import contextlib\nsys.argv = ['hftcl', 'trade', '--status']\nfrom hftcl.cli import main\n"
    loaded = loaded_after(f"{look}with contextlib.suppress(SystemExit):\n    main()", looked_at)
    assert loaded.isdisjoint(UNUSED)
    assert "hftcl.trading.run.status" in loaded
    assert "hftcl.learning.stories.history" not in loaded


def test_the_help_waits_for_no_settings(tmp_path: Path) -> None:
    look = "import contextlib\nsys.argv = ['hftcl', '--help']\nfrom hftcl.cli import main\n"
    loaded = loaded_after(f"{look}with contextlib.suppress(SystemExit):\n    main()", tmp_path)
    assert "hftcl.cli.trade" in loaded
    assert loaded.isdisjoint({"hftcl.settings", "msgspec", "zoneinfo", "sqlite3", "socket", "rich"})


@pytest.mark.parametrize("in_a_home", [True, False])
def test_the_first_preview_of_the_schedule_waits_for_no_calendar(
    looked_at: Path, tmp_path: Path, *, in_a_home: bool
) -> None:
    look = "import contextlib\nsys.argv = ['hftcl', 'schedule', '--preview', '30']\nfrom hftcl.cli import main\n"
    imports = "from pathlib import Path\nfrom hftcl.schedule import new_york\n"
    table = f"{imports}new_york.TABLE = Path({str(write_table(tmp_path))!r})\n"
    run_it = f"{look}{table}with contextlib.suppress(SystemExit):\n    main()"
    loaded = loaded_after(run_it, looked_at if in_a_home else tmp_path)
    assert "hftcl.schedule.plan" in loaded
    assert loaded.isdisjoint({*HEAVY, "typer", "importlib.metadata", "logging", "email", "hftcl.alerts"})


def test_a_preview_of_another_exchange_asks_its_calendar_once(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "hftcl.toml").write_text('[market]\ncalendar = "XLON"\n')
    look = "import contextlib\nsys.argv = ['hftcl', 'schedule', '--preview', '30']\nfrom hftcl.cli import main\n"
    run_it = f"{look}with contextlib.suppress(SystemExit):\n    main()"
    assert "exchange_calendars" in loaded_after(run_it, tmp_path)
    assert loaded_after(run_it, tmp_path).isdisjoint(HEAVY)


def test_the_end_of_a_session_loads_no_pandas(tmp_path: Path) -> None:
    write_ledger(tmp_path / "ledger.sqlite", last=date(2025, 6, 4))
    loaded = loaded_after(
        "from datetime import UTC, datetime\nfrom pathlib import Path\n"
        "from hftcl.ledger.archive import archive_decisions\n"
        "assert archive_decisions(Path('ledger.sqlite'), datetime(2025, 6, 5, tzinfo=UTC)) > 0",
        tmp_path,
    )
    assert "pyarrow" in loaded
    assert loaded.isdisjoint({"pandas", "sklearn", "scipy"})


def test_an_unknown_name_is_an_attribute_error() -> None:
    import hftcl

    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = hftcl.Nonsense


def test_imports_point_downwards() -> None:
    """Hold the rooms of the map, in their order, and what the pure ones may not touch: pyproject.toml lists both."""
    tool = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([tool, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
