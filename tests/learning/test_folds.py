"""The folds of a first record: trained at the same time, ended together, and no other record for it."""

import os
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from hftcl import ContinuousLearning
from hftcl.archive.record import RecordedSession, read_all
from hftcl.archive.registry import Registry
from hftcl.errors import ComputeError, TrainingError
from hftcl.events import Event, Level
from hftcl.learning import folds
from hftcl.settings import Settings
from tests.compute.processes import list_trainers, wait_until
from tests.loop_cases import NOW, first_retrain, small
from tests.processes import lives
from tests.trained import Homes

CHOSEN: dict[str, dict[str, object]] = {
    "synthetic": {"edge": 1.0},
    "exam": {"sessions": 20},
    "promote": {"min_sharpe": -100},
}
LATER = NOW + timedelta(days=7)
WATCHED = """\
import os, pathlib, signal, time
from hftcl.model.families.ridge import Ridge

HERE = pathlib.Path(__file__).parent

class Watched(Ridge):
    name = "watched"
    fills_cores = True

    def count_nodes(self, params, rows):
        return 10**12 if (HERE / "fail").exists() else 0

    def fit(self, X, y, params, *, on_step, **more):
        (HERE / f"fitted_{os.getpid()}").touch()
        if (HERE / "meet").exists():
            on_step(0, 1)
            (HERE / f"met_{os.getpid()}").touch()
            until = time.monotonic() + 60
            while len(list(HERE.glob("met_*"))) < 2:
                assert time.monotonic() < until, "no other fold is trained meanwhile"
                time.sleep(0.02)
        if (HERE / "fail").exists():
            raise ValueError("it fails")
        if (HERE / "hang").exists():
            (HERE / f"hung_{os.getpid()}").touch()
            on_step(0, 1)
            time.sleep(3600)
        for death in sorted(HERE.glob("death_*"))[:1]:
            death.unlink(missing_ok=True)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().fit(X, y, params, on_step=on_step, **more)
"""


@pytest.fixture(autouse=True, scope="module")
def _use_warm_trainers() -> None:
    """Leave each pool its own processes: one that has loaded a test's family reads that one's files."""


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Install a ridge that does what a file beside it says; return what writes that file."""
    place = tmp_path / "plugin"
    info = place / "watched-1.0.dist-info"
    info.mkdir(parents=True)
    (place / "watched.py").write_text(WATCHED)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: watched\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[hftcl.families]\nwatched = watched:Watched\n")
    monkeypatch.syspath_prepend(place)
    monkeypatch.delitem(sys.modules, "watched", raising=False)  # that of another test, which looks beside itself
    return lambda name: (place / name).touch()


def settings_of(home: Path, family: str = "watched") -> Settings:
    """Return a market of two tickers with an exam of three weeks: two folds beside the candidate's."""
    return small(
        home,
        market={"watchlist": ("AAPL", "AMD")},
        model={"family": family},
        compute={"jobs": 2},
        **CHOSEN,
    )


def retrain(home: Path, on_event: Callable[[Event], None], family: str = "watched") -> tuple[RecordedSession, ...]:
    """Retrain for the first time, and return the record."""
    learning = ContinuousLearning(settings_of(home, family), clock=lambda: NOW, on_event=on_event)
    assert learning.retrain(force=True).record_sessions == 15
    return tuple(row for row, _ in read_all(Registry(home), synthetic=True))


def figures(record: tuple[RecordedSession, ...]) -> list[Any]:
    return [(row.session, row.net, row.gross, row.turnover, row.bars) for row in record]


def test_the_folds_train_at_the_same_time_and_the_record_is_the_same(
    plan: Callable[[str], None], tmp_path: Path
) -> None:
    seen: list[Event] = []

    def listen(event: Event) -> None:
        if event.stage == "record":
            plan("meet")
            seen.append(event)

    together = retrain(tmp_path / "together", listen)
    assert len(list((tmp_path / "plugin").glob("met_*"))) == 2
    alone = retrain(tmp_path / "alone", lambda event: None, family="ridge")
    assert figures(together) == figures(alone)
    progress = [(event.done / event.total, event.text) for event in seen if event.level is Level.PROGRESS]
    shares = [share for share, text in progress if text.startswith("walk-forward")]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert {text for _, text in progress} >= {"walk-forward, entry threshold", "walk-forward, all rows"}


def test_folds_of_so_many_rows_that_one_fills_the_cores_train_one_after_the_other(
    plan: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folds, "_FULL_ROWS", 1)
    in_turn = retrain(tmp_path / "in turn", lambda event: None)
    assert len(list((tmp_path / "plugin").glob("fitted_*"))) == 1, "a second process has trained"
    assert figures(in_turn) == figures(retrain(tmp_path / "alone", lambda event: None, family="ridge"))


def test_a_fold_that_was_killed_for_lack_of_memory_is_trained_again(
    plan: Callable[[str], None], tmp_path: Path
) -> None:
    told: list[Event] = []

    def listen(event: Event) -> None:
        if event.stage == "record" and event.done == 0 and event.text == "walk-forward":
            plan("death_0")
        told.append(event)

    retrain(tmp_path / "home", listen)
    (warning,) = [event.text for event in told if event.level is Level.WARNING]
    assert warning.startswith("a training was killed, most likely for lack of memory: it is done again")


def test_what_folds_warned_of_is_told_where_one_fails(plan: Callable[[str], None], tmp_path: Path) -> None:
    told: list[str] = []

    def listen(event: Event) -> None:
        if event.stage == "record":
            plan("fail")
        if event.level is Level.WARNING:
            told.append(event.text)

    with pytest.raises(TrainingError, match="it fails"):
        retrain(tmp_path / "home", listen)
    assert any(text.startswith("the model may take up to") for text in told)


def test_what_stops_the_walk_forward_ends_its_trainings_and_no_other_is_begun(
    plan: Callable[[str], None], tmp_path: Path
) -> None:
    class StopError(Exception):
        pass

    told: list[str] = []

    def listen(event: Event) -> None:
        if event.stage == "record" and event.text == "walk-forward":
            plan("hang")
        elif event.stage == "record" and len(list((tmp_path / "plugin").glob("hung_*"))) == 2:
            raise StopError
        if event.level is Level.WARNING:
            told.append(event.text)

    with pytest.raises(StopError):
        retrain(tmp_path / "home", listen)
    pids = [int(path.name.partition("_")[2]) for path in (tmp_path / "plugin").glob("hung_*")]
    wait_until(lambda: not any(map(lives, pids)))
    assert not set(list_trainers(os.getpid())) & set(pids)
    assert told == [], "and none was done again as one that memory did not suffice for"


def test_a_cluster_that_does_not_answer_ends_a_first_retrain_before_bars_are_collected_and_no_later_one(
    homes: Homes, tmp_path: Path
) -> None:
    gone: dict[str, object] = {"backend": "dask", "scheduler": "tcp://127.0.0.1:1", "wait_s": 0.2}
    seen: list[str] = []

    def learning(home: Path) -> ContinuousLearning:
        settings = small(home, compute=gone, **CHOSEN)
        return ContinuousLearning(settings, clock=lambda: LATER, on_event=lambda event: seen.append(event.stage))

    with pytest.raises(ComputeError, match="does not answer"):
        learning(tmp_path / "new").retrain(force=True)
    assert "collect" not in seen
    homes.copy(tmp_path / "home", first_retrain, **CHOSEN)
    assert learning(tmp_path / "home").retrain(force=True).record_sessions == 20


def test_a_first_retrain_whose_exam_has_no_further_fold_asks_no_cluster(tmp_path: Path) -> None:
    gone: dict[str, object] = {"backend": "dask", "scheduler": "tcp://127.0.0.1:1", "wait_s": 0.2}
    chosen: dict[str, dict[str, object]] = {**CHOSEN, "exam": {"sessions": 5}, "compute": gone}
    settings = small(tmp_path / "home", **chosen)
    learning = ContinuousLearning(settings, clock=lambda: NOW)
    assert learning.retrain(force=True).record_sessions == 5
