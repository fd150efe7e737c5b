"""How long a person waits for the cheap commands, as a multiple of an empty Python: the unit that any machine has."""

import os
import resource
import statistics
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from tests.archive.sample_models import archive_in, deployed
from tests.installed import HFTCL
from tests.ledger.ledger_cases import write_ledger

ROUNDS = 15


def median_s(commands: dict[str, list[str]], cwd: Path, cache: Path) -> dict[str, float]:
    """Return the median time of the processor of each command, s: what a person waits on a machine that is idle.

    They take turns, so that a busy moment falls on all of them.

    The bytecode of each module lies in `cache`, as an installation has it, whatever the environment says about that.
    """
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(ROUNDS + 1):
        for name, command in commands.items():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(
                command, cwd=cwd, env={**kept, "PYTHONPYCACHEPREFIX": str(cache)}, capture_output=True, check=True
            )
            if turn:  # the first is not counted: it fills the caches
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                seconds[name].append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


@pytest.mark.bench
def test_help_status_preview_and_history_of_thirty_models_come_at_once(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    deployed(archive_in(tmp_path), 30)
    write_ledger(tmp_path / "ledger.sqlite", last=date(2025, 6, 4))
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "hftcl --help": [HFTCL, "--help"],
        "hftcl history": [HFTCL, "history"],
        "hftcl history --json": [HFTCL, "history", "--json"],
        "hftcl trade --status": [HFTCL, "trade", "--status"],
        "hftcl schedule --preview 3": [HFTCL, "schedule", "--preview", "3"],
    }
    taken = median_s(commands, tmp_path, tmp_path_factory.mktemp("bytecode"))
    unit = taken["python -c pass"]
    with capsys.disabled():
        for name, seconds in taken.items():
            sys.stdout.write(f"\n{name:<27}{1000 * seconds:6.0f} ms {seconds / unit:6.1f} x python -c pass")
        sys.stdout.write("\n")
    assert max(taken.values()) <= 8 * unit
