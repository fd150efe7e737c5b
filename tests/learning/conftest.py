"""The trainings of a file of tests share their processes, as those of one retrain do: each loads for seconds."""

from collections.abc import Iterator

import pytest

from hftcl.model.training import TrainingPool
from hftcl.model.training_process import TrainingProcess


@pytest.fixture(scope="module")
def idle_trainers() -> Iterator[list[TrainingProcess]]:
    """Hold the processes that no test uses now, and end them at the end."""
    idle: list[TrainingProcess] = []
    yield idle
    while idle:
        idle.pop().close()


@pytest.fixture(autouse=True, scope="module")
def _warm_trainers(idle_trainers: list[TrainingProcess]) -> Iterator[None]:
    """Give each pool those processes, and let it leave them running."""
    begin_cold = TrainingPool.__init__

    def begin(self: TrainingPool) -> None:
        begin_cold(self)
        self._idle = idle_trainers

    def leave(self: TrainingPool, *exception: object) -> None:
        pass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingPool, "__init__", begin)
        patch.setattr(TrainingPool, "__exit__", leave)
        yield
