"""The tests of this room train in processes that are ready: see `warm_trainers`."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def _use_warm_trainers(warm_trainers: None) -> None:
    pass
