"""How many trainings run at the same time: no more than fit into memory, and fewer after one was killed."""

import errno
import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import gettempdir

import numpy as np
import pytest

from hftcl import ContinuousLearning
from hftcl.compute.crew import Crew
from hftcl.errors import NoRoomError, TrainingKilledError
from hftcl.events import Event, Level, ignore
from hftcl.mapped import build_no_room_error
from hftcl.model.training import TrainingPool, TrainingTask
from tests.loop_cases import NOW, small

GB = 10**9


@pytest.fixture(autouse=True, scope="module")
def _warm_trainers() -> None:
    """Leave each pool its own processes: what they take is measured here."""


def build_task() -> TrainingTask:
    X = np.random.default_rng(7).normal(size=(400, 2)).astype(np.float32)
    row = np.arange(400)
    return TrainingTask(X=X, y=X[:, 0], fitted=row < 300, held_out=row >= 350, family="ridge")


@dataclass(slots=True)
class Watched:
    """Counts how many trainings run at the same time, by the real pool, `times` one after the other in each thread."""

    pool: TrainingPool
    most: int = 0
    running: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def train(self) -> float:
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        try:
            return self.pool.train(build_task()).threshold
        finally:
            with self.lock:
                self.running -= 1

    def run(self, crew: Crew, threads: int) -> list[float]:
        with ThreadPoolExecutor(threads) as team:  # a process ends with the thread that started it
            return list(team.map(lambda _: crew.train(self.train), range(threads)))


def test_as_many_train_as_one_training_was_seen_to_fit_and_that_is_told() -> None:
    told: list[Event] = []
    with TrainingPool() as pool:
        watched = Watched(pool)
        crew = Crew(3, pool, 0, "search", told.append, read_free=lambda: GB // 100)
        assert crew.limit == 1, "nothing is known yet, and there is no room for whatever one may take"
        assert len(watched.run(crew, 3)) == 3
        _, peak = pool.measure_memory()
    assert watched.most == 1
    assert 20e6 < peak < 1e9, "NumPy alone takes more, and a ridge of 400 rows less"
    (event,) = told
    assert event.level is Level.WARNING
    assert event.text.startswith("1 of 3 trainings at the same time: one takes ")
    assert event.text.endswith(", and 10 MB of memory are free")


def test_with_room_for_two_two_train() -> None:
    with TrainingPool() as pool:
        crew = Crew(3, pool, GB, "search", ignore, read_free=lambda: 2 * GB + 400_000_000)
        watched = Watched(pool)
        watched.run(crew, 1)
        assert crew.limit == 2, "of 1 GB of rows each"


def test_a_training_that_finds_no_room_for_its_rows_is_done_again_with_fewer_beside_it() -> None:
    told: list[Event] = []
    left = [1]

    def work() -> str:
        if left:
            left.pop()
            raise build_no_room_error(OSError(errno.ENOSPC, "No space left on device"))
        return "done"

    def fail() -> None:
        raise build_no_room_error(OSError(errno.ENOSPC, "No space left on device"))

    with TrainingPool() as pool:
        crew = Crew(2, pool, 0, "record", told.append, read_free=lambda: None)
        assert crew.train(work) == "done"
        (event,) = told
        assert event.text == (
            f"a training found no place for its rows (Bars and training rows could not be written to {gettempdir()}: "
            "No space left on device): it is done again, and from here on 1 training in place of 2 at the same time"
        )
        with pytest.raises(NoRoomError, match="set TMPDIR to another folder"):
            crew.train(fail)


@pytest.mark.parametrize(
    ("number", "told"),
    [(errno.EMFILE, "could not be put into a file: "), (errno.ENOMEM, "mapped into memory: none is")],
)
def test_what_a_training_lacked_is_told_as_what_it_was(number: int, told: str) -> None:
    """A descriptor or an address is no room in $TMPDIR, which who reads of it would go and empty."""
    text = train_after(build_no_room_error(OSError(number, os.strerror(number))))
    assert told in text
    assert "TMPDIR" not in text


def train_after(fault: NoRoomError) -> str:
    """Return what is told of a training that is done again after `fault`."""
    heard: list[Event] = []
    faults = [fault]

    def work() -> None:
        if faults:
            raise faults.pop()

    with TrainingPool() as pool:
        Crew(2, pool, 0, "record", heard.append, read_free=lambda: None).train(work)
    (event,) = heard
    return event.text


def test_a_disk_that_fails_is_not_told_as_one_that_is_full() -> None:
    fault = build_no_room_error(OSError(errno.EIO, os.strerror(errno.EIO)))
    assert "room" not in train_after(fault)
    assert re.search(
        r"Input/output error\. Look at that disk and the kernel's log \(dmesg\), or set TMPDIR", str(fault)
    )
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        assert "Free space there" in str(build_no_room_error(OSError(number, os.strerror(number))))


MORTAL = """\
import os, pathlib, signal
from hftcl.model.families.ridge import Ridge

class Mortal(Ridge):
    name = "mortal"

    def fit(self, X, y, params, **more):
        deaths = sorted(pathlib.Path(__file__).parent.glob("death_*"))
        if deaths:
            deaths[0].unlink(missing_ok=True)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().fit(X, y, params, **more)
"""


@pytest.fixture
def mortal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Install a ridge whose process is killed as by the kernel's killer; return what sets how many more of them are."""
    info = tmp_path / "mortal-1.0.dist-info"
    info.mkdir()
    (tmp_path / "mortal.py").write_text(MORTAL)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mortal\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[hftcl.families]\nmortal = mortal:Mortal\n")
    monkeypatch.syspath_prepend(tmp_path)

    def set_deaths(times: int) -> None:
        for number in range(times):
            (tmp_path / f"death_{number}").touch()

    return set_deaths


@pytest.mark.hazard(46)
def test_a_search_goes_on_with_fewer_after_a_training_was_killed_for_lack_of_memory(
    tmp_path: Path, mortal: Callable[[int], None]
) -> None:
    values: dict[str, tuple[object, ...]] = {"model.family": ("mortal",), "model.horizon_minutes": (10, 30, 60)}
    settings = small(
        tmp_path / "home",
        market={"watchlist": ("AAPL", "AMD")},
        model={"family": "mortal"},
        search={"values": values, "vary": ("horizon",), "workers": 2, "trials": 3, "folds": 1},
    )
    told: list[Event] = []
    mortal(1)
    done = ContinuousLearning(settings, clock=lambda: NOW, on_event=told.append).search(as_of="2025-12-15")
    assert [(trial.number, trial.fault) for trial in done.trials] == [(0, ""), (1, ""), (2, "")]
    assert [event.text for event in told if event.level is Level.WARNING] == [
        "a training was killed, most likely for lack of memory: it is done again, and from here on 1 training in place "
        "of 2 at the same time"
    ]


@pytest.mark.hazard(46)
def test_a_training_that_is_killed_though_it_runs_alone_is_at_fault(mortal: Callable[[int], None]) -> None:
    told: list[Event] = []
    with TrainingPool() as pool:
        crew = Crew(2, pool, 0, "search", told.append)
        mortal(2)
        with pytest.raises(TrainingKilledError, match=r"was killed \(SIGKILL\), most likely for lack of memory"):
            crew.train(lambda: pool.train(replace(build_task(), family="mortal")))
        assert (crew.limit, len(told)) == (1, 1)
        assert crew.train(lambda: pool.train(build_task())).threshold > 0, "and its place is free again"
