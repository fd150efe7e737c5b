"""The tests of this room train in processes that are ready: see `warm_trainers`."""

import pytest

from hftcl.schedule import new_york
from tests.schedule.new_york import write_table


@pytest.fixture(autouse=True, scope="module")
def _use_warm_trainers(warm_trainers: None) -> None:
    pass


@pytest.fixture
def _installed_table(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the shipped table be that of the installed library: with another one hftcl asks that one."""
    monkeypatch.setattr(new_york, "TABLE", write_table(tmp_path_factory.mktemp("shipped")))
