"""The installed commands on a disk that fails, as the figures of the hazards ask them; the whole of it is slow."""

from pathlib import Path

import pytest

from tests.hazards import disk_faults
from tests.hazards.disk_faults import COMMANDS, fail_each
from tests.hazards.test_archive_hazards import needs_strace
from tests.loop_cases import deploy_once
from tests.trained import Homes


@needs_strace
@pytest.mark.hazard(2)
def test_a_command_on_a_disk_that_fails_says_what_is_true(homes: Homes, tmp_path: Path) -> None:
    homes.copy(tmp_path / "template", deploy_once)
    assert fail_each(tmp_path, tmp_path / "template", "hftcl record --begin-anew", stride=5) >= 5


@needs_strace
@pytest.mark.slow
@pytest.mark.hazard(2)
@pytest.mark.hazard(4)
@pytest.mark.parametrize("command", [command for command in COMMANDS if command != "hftcl retrain"])
def test_no_failing_call_of_a_command_makes_it_lie(homes: Homes, tmp_path: Path, command: str) -> None:
    homes.copy(tmp_path / "template", disk_faults.train_twice)
    assert fail_each(tmp_path, tmp_path / "template", command, stride=2) >= 10
