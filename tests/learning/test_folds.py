"""The folds of a first record: trained at the same time, ended together, and no other record for it."""

import contextlib
import errno
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import polars as pl
import pytest

from hftcl import ContinuousLearning
from hftcl.archive import artifact
from hftcl.archive.record import RecordedSession, read_all
from hftcl.archive.registry import Registry
from hftcl.compute import Bench, Engine, Rows, Task, Team, Wanted, open_engine
from hftcl.compute.code_digest import hash_family_code
from hftcl.compute.tasks import OnTold
from hftcl.errors import ComputeError, IntegrityError, TrainingError
from hftcl.events import Event, Level, RequireGoing, go_on, ignore
from hftcl.exam.split import ExamSplit, Session, list_sessions
from hftcl.home import Home
from hftcl.learning import folds, inside, training_rows
from hftcl.learning.backtest.plan import Planner, SessionBars
from hftcl.learning.backtest.trainings import build_shop, train_all
from hftcl.learning.candidate import Candidate, merge_params, train_candidate
from hftcl.learning.dataset import Dataset, open_window
from hftcl.learning.folds import FoldOrder, FoldProgress, FoldTrainer, require_unseen, train_fold
from hftcl.learning.orders import select_settings
from hftcl.learning.record_scoring import RecordScorer
from hftcl.learning.score import examine
from hftcl.learning.search.inner import InnerExam
from hftcl.learning.training_digest import hash_training
from hftcl.market.sessions import Calendar
from hftcl.model.training import TrainingPool
from hftcl.settings import Compute, Model, Settings
from tests.archive.test_artifact import META
from tests.compute.processes import list_trainers, wait_until
from tests.loop_cases import NOW, first_retrain, small
from tests.processes import lives
from tests.test_plug_ins import Stranger, install
from tests.trained import Homes

R = TypeVar("R")

CHOSEN: dict[str, dict[str, object]] = {
    "synthetic": {"edge": 1.0},
    "exam": {"sessions": 20},
    "promote": {"min_sharpe": -100},
}
LATER = NOW + timedelta(days=7)
CUT = datetime(2026, 1, 6, 14, 30, tzinfo=UTC)
WATCHED = """\
import os, pathlib, signal, time
from hftcl.model.families.ridge import Ridge

HERE = pathlib.Path(__file__).parent

class Watched(Ridge):
    name = "watched"
    fills_cores = True

    def count_nodes(self, params, rows):
        return 10**12 if (HERE / "fail").exists() or (HERE / "grow").exists() else 0

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
        if (HERE / "upgrade").exists():
            import onnx
            onnx.__version__ = "99.0"
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


def retrain(home: Path, on_event: Callable[[Event], None]) -> tuple[RecordedSession, ...]:
    """Retrain for the first time, and return the record."""
    learning = ContinuousLearning(settings_of(home), clock=lambda: NOW, on_event=on_event)
    assert learning.retrain(force=True).record_sessions == 15
    return read_record(home)


def read_record(home: Path) -> tuple[RecordedSession, ...]:
    return tuple(row for row, _ in read_all(Registry(home), synthetic=True))


def figures(record: tuple[RecordedSession, ...]) -> list[Any]:
    return [(row.session, row.net, row.gross, row.turnover, row.bars) for row in record]


class MixedUpTeam:
    """Hands out the result of one task as that of another, as a worker at fault might."""

    at_once = 2

    def __init__(self, team: Team) -> None:
        self.team = team

    def call(self, task: Task[R], require_going: Callable[[], None]) -> R:
        return self.team.call(task, require_going)

    def run(
        self, tasks: Iterable[Task[R]], on_told: OnTold | None = None, require_going: RequireGoing = go_on
    ) -> Iterator[tuple[int, R]]:
        given = list(tasks)
        for number, result in self.team.run(given, on_told, require_going):
            yield len(given) - 1 - number, result


class MixedUpEngine:
    """A place where tasks run whose teams mix their results up."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def gather(self, wanted: Wanted) -> Team:
        return MixedUpTeam(self.engine.gather(wanted))


@dataclass(slots=True)
class FailingEngine:
    """A place where the tasks after the first result fail, where there are `least` or more; counts those it got."""

    engine: Engine
    least: int = 2
    asked: int = 0
    at_once: int = 1
    team: Any = None

    def gather(self, wanted: Wanted) -> Any:
        self.team = self.engine.gather(wanted)
        return self

    def run(
        self, tasks: Iterable[Task[R]], on_told: OnTold | None = None, require_going: RequireGoing = go_on
    ) -> Iterator[tuple[int, R]]:
        asked = list(tasks)
        self.asked = len(asked)
        for result in self.team.run(asked, on_told, require_going):
            yield result
            if self.asked >= self.least:
                raise TrainingError("The training process was killed.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """A home with a record of three folds, the rows behind it, and the split of each fold, cut out by hand."""

    home: Path
    settings: Settings
    data: Dataset
    division: ExamSplit
    parts: tuple[ExamSplit, ...]
    pool: TrainingPool

    def train(self, part: ExamSplit) -> Candidate:
        return train_candidate(
            self.data.frame,
            part,
            self.settings,
            model_id="20260109_070000",
            params=merge_params(self.settings),
            features=self.data.features,
            source="synthetic",
            synthetic=True,
            pool=self.pool,
            on_event=ignore,
        )

    def walk_forward(
        self, candidate: Candidate, mix_up: Callable[[Engine], Engine] = lambda engine: engine, *, may_keep: bool = True
    ) -> Any:
        params = merge_params(self.settings)
        scorer = RecordScorer(Registry(self.home), self.data, self.settings, params, ignore, may_keep=may_keep)
        with open_engine(self.settings, ignore) as engine:
            return scorer.walk_forward(self.division, candidate, mix_up(engine))


@pytest.fixture(scope="module")
def walk(homes: Homes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    home = tmp_path_factory.mktemp("walk") / "home"
    homes.copy(home, first_retrain, **CHOSEN)
    settings = small(home, **CHOSEN)
    data = open_window(settings, as_of=None, now=NOW, save=False, on_event=ignore).assemble()
    sessions = list_sessions(data.frame)
    trained = len(sessions) - 16  # an exam of three weeks, and a session of embargo before it

    def cut(start: int, exam: int) -> ExamSplit:
        end = start + trained
        return ExamSplit(
            train=sessions[start:end],
            embargoed=sessions[end : end + 1],
            exam=sessions[end + 1 : end + 1 + exam],
            withheld=(),
        )

    parts = tuple(cut(start, 5) for start in (0, 5, 10))
    with TrainingPool() as pool:
        yield Walk(home=home, settings=settings, data=data, division=cut(0, 15), parts=parts, pool=pool)


def test_each_week_of_the_walk_forward_is_scored_by_the_model_that_was_trained_just_before_it(walk: Walk) -> None:
    """A second way to it: each fold cut out by hand, trained to a whole model's file, and examined."""
    by_hand: list[Any] = []
    for part in walk.parts:
        model, watchlist = walk.train(part).model, walk.settings.market.watchlist
        earned = examine(model, walk.data.frame, part.exam_days, cost_bps=1.0, watchlist=watchlist).simulation
        columns = (earned.net.tolist(), earned.gross.tolist(), earned.turnover.tolist())
        by_hand += zip(part.exam_days, *columns, strict=True)
    record = read_record(walk.home)
    assert [(row.session, row.net, row.gross, row.turnover) for row in record] == by_hand, "to the bit"
    assert len({row.net for row in record}) == 15


def test_a_model_says_which_libraries_the_process_that_trained_it_had_loaded(
    walk: Walk, plan: Callable[[str], None]
) -> None:
    """A scheduler that began before an upgrade has the old ones in memory, its training process the new ones."""
    plan("upgrade")
    model = replace(walk.settings.model, family="watched")
    trained = replace(walk, settings=replace(walk.settings, model=model)).train(walk.parts[0])
    here = artifact.find_library_versions(trained.trained.engine)
    assert trained.model.meta.versions == {**here, "onnx": "99.0"}


def test_a_model_that_comes_back_as_that_of_another_fold_scores_nothing(walk: Walk) -> None:
    before, after = walk.parts[1].exam_days[0], walk.parts[2].exam_days[0]
    candidate = walk.train(walk.division)
    assert len(walk.walk_forward(candidate)) == 15
    with pytest.raises(IntegrityError, match=f"The fold before {before} came back with .* the fold before {after}"):
        walk.walk_forward(candidate, MixedUpEngine)


def test_the_folds_that_came_back_before_another_one_failed_are_not_trained_again(walk: Walk) -> None:
    candidate = walk.train(walk.parts[0])
    whole = walk.walk_forward(candidate)
    with pytest.raises(TrainingError, match="killed"):
        walk.walk_forward(candidate, FailingEngine)
    (kept,) = Home.of(walk.settings).folds.iterdir()
    engines: list[FailingEngine] = []

    def count(engine: Engine) -> Engine:
        engines.append(FailingEngine(engine, least=2))
        return engines[-1]

    assert walk.walk_forward(candidate, count) == whole
    assert [engine.asked for engine in engines] == [1]
    assert not kept.parent.exists()


def test_who_does_not_hold_the_lock_of_the_retrain_reads_the_kept_folds_and_changes_none(walk: Walk) -> None:
    candidate, folder = walk.train(walk.parts[0]), Home.of(walk.settings).folds
    with pytest.raises(TrainingError, match="killed"):
        walk.walk_forward(candidate, FailingEngine, may_keep=False)
    assert not folder.exists()
    with pytest.raises(TrainingError, match="killed"):
        walk.walk_forward(candidate, FailingEngine)
    kept = {path: path.read_bytes() for path in folder.iterdir()}
    other = replace(walk, settings=replace(walk.settings, model=replace(walk.settings.model, seed=7)))
    with pytest.raises(TrainingError, match="killed"):
        other.walk_forward(candidate, FailingEngine, may_keep=False)
    engines: list[FailingEngine] = []

    def count(engine: Engine) -> Engine:
        engines.append(FailingEngine(engine, least=2))
        return engines[-1]

    assert len(walk.walk_forward(candidate, count, may_keep=False)) == 15
    assert [engine.asked for engine in engines] == [1], "the kept one is not trained again"
    assert {path: path.read_bytes() for path in folder.iterdir()} == kept
    shutil.rmtree(folder)


def test_a_dry_run_leaves_the_kept_folds_to_the_retrain(tmp_path: Path) -> None:
    learning = ContinuousLearning(settings_of(tmp_path, "ridge"), clock=lambda: NOW)
    folds_there = Home(tmp_path).folds
    folds_there.mkdir(parents=True)
    (folds_there / "kept").touch()
    learning.retrain(force=True, dry_run=True)
    assert (folds_there / "kept").exists()
    learning.retrain(force=True)
    assert not folds_there.exists()


def test_folds_of_another_walk_do_not_lie_beside_those_that_are_kept(walk: Walk) -> None:
    candidate = walk.train(walk.parts[0])
    other = replace(walk, settings=replace(walk.settings, model=replace(walk.settings.model, seed=7)))
    kept = []
    for one in (other, walk):
        with pytest.raises(TrainingError, match="killed"):
            one.walk_forward(candidate, FailingEngine)
        kept += list(Home.of(walk.settings).folds.iterdir())
    assert len({path.name for path in kept}) == 2 == len(kept)
    shutil.rmtree(Home.of(walk.settings).folds)


def test_folds_that_cannot_be_deleted_cost_no_model(walk: Walk, monkeypatch: pytest.MonkeyPatch) -> None:
    candidate = walk.train(walk.parts[0])
    with pytest.raises(TrainingError, match="killed"):
        walk.walk_forward(candidate, FailingEngine)

    def fail(path: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", fail)
        assert len(walk.walk_forward(candidate)) == 15
    shutil.rmtree(Home.of(walk.settings).folds)


def test_a_family_that_is_mended_under_the_same_version_trains_each_fold_again(
    walk: Walk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    settings = replace(walk.settings, model=replace(walk.settings.model, family="acme"))
    code = "from hftcl.model.families.ridge import Ridge\nclass Acme(Ridge):\n    name = 'acme'\n"
    digests = []
    for text in (code, code, f"{code}    mended = True\n"):
        shutil.rmtree(tmp_path, ignore_errors=True)
        install(tmp_path, Stranger("families", text, "", "", ""))
        hash_family_code.cache_clear()
        digests.append(hash_training(settings, {}, walk.data.features, "synthetic"))
    assert digests[0] == digests[1] != digests[2]


def test_each_module_that_a_family_s_distribution_brings_is_in_the_hash_of_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    install(tmp_path, Stranger("families", "from acme_core import fast\nclass Acme: pass\n", "", "", ""))
    compiled = f"acme_core/fast{EXTENSION_SUFFIXES[0]}"
    (tmp_path / "acme_core").mkdir()
    for path in ("acme_core/__init__.py", compiled, "acme_core/notes.txt", "neighbour.py"):
        (tmp_path / path).write_text("1")
    mine = ("acme_plug.py", "acme_core/__init__.py", compiled, "acme_core/notes.txt")
    (tmp_path / "acme_plug-1.0.dist-info" / "RECORD").write_text("".join(f"{path},,\n" for path in mine))

    def hash_now() -> str:
        hash_family_code.cache_clear()
        return hash_family_code("acme")

    before = hash_now()
    for path, seen in (("acme_core/__init__.py", True), (compiled, True), ("acme_core/notes.txt", False),
                       ("neighbour.py", False)):  # fmt: skip
        (tmp_path / path).write_text("2")
        assert (hash_now() != before) == seen, path
        (tmp_path / path).write_text("1")
        assert hash_now() == before


@pytest.mark.parametrize("change", ["damage", "settings"])
def test_a_fold_that_was_kept_of_something_else_or_was_damaged_is_trained_again(walk: Walk, change: str) -> None:
    candidate = walk.train(walk.parts[0])
    with pytest.raises(TrainingError, match="killed"):
        walk.walk_forward(candidate, FailingEngine)
    (kept,) = Home.of(walk.settings).folds.iterdir()
    other = walk
    if change == "damage":
        kept.write_bytes(kept.read_bytes()[:-1])
    else:
        other = replace(walk, settings=replace(walk.settings, model=replace(walk.settings.model, seed=7)))
    engines: list[FailingEngine] = []

    def count(engine: Engine) -> Engine:
        engines.append(FailingEngine(engine, least=3))
        return engines[-1]

    other.walk_forward(candidate, count)
    assert [engine.asked for engine in engines] == [2]


@pytest.mark.parametrize("fold", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_model_that_has_seen_a_week_of_the_walk_forward_does_not_score_it(walk: Walk, fold: int) -> None:
    seen = walk.parts[fold].train_days[-1]
    with pytest.raises(
        IntegrityError, match=f"trained up to {seen} is not to be scored from {walk.parts[0].exam_days[0]}"
    ):
        walk.walk_forward(walk.train(walk.parts[fold]))


@pytest.mark.parametrize(
    ("changes", "is_let"),
    [
        ({}, True),
        ({"label_end": CUT}, False),  # `ExamSplit.cut`: a label must end before it
        ({"label_end": CUT - timedelta(minutes=1)}, True),
        ({"label_end": CUT + timedelta(days=1)}, False),
        ({"trained_to": date(2026, 1, 6)}, False),  # whose last label ended early, as of a ticker that was halted
    ],
)
def test_no_model_is_scored_that_was_trained_beyond_its_fold_or_by_a_label_that_reaches_beyond_it(
    changes: dict[str, Any], is_let: bool
) -> None:
    days = [Session(day=date(2026, 1, day), start=datetime(2026, 1, day, 14, 30, tzinfo=UTC)) for day in (5, 6, 7)]
    part = ExamSplit(train=(days[0],), embargoed=(days[1],), exam=(days[2],), withheld=())
    assert part.cut == CUT
    meta = replace(META, **{"trained_to": days[0].day, "label_end": CUT - timedelta(hours=18), **changes})
    with contextlib.nullcontext() if is_let else pytest.raises(IntegrityError, match="is not to be scored from"):
        require_unseen(artifact.Model(meta, "", None), part)  # type: ignore[arg-type]  # nothing is predicted


@pytest.mark.parametrize(
    ("model", "rows_a_core", "fills"),
    [
        ({"family": "lightgbm"}, 1_000_000, True),
        ({"family": "lightgbm"}, 400_000, False),
        ({"family": "lightgbm", "max_rows": 900_000}, 1_000_000, False),  # two cores, and each fit holds 900,000
        ({"family": "lightgbm", "max_rows": 1_100_000}, 1_000_000, True),
        ({"family": "lightgbm", "per": "ticker"}, 1_000_000, False),
        ({"family": "xgboost"}, 1_000_000, False),
        ({"family": "ridge"}, 1_000_000, False),
        ({"family": "forest"}, 1_000_000, False),
    ],
)
def test_folds_train_one_after_the_other_only_where_one_fit_keeps_all_cores(
    walk: Walk, model: dict[str, Any], rows_a_core: int, *, fills: bool
) -> None:
    days, part = walk.data.frame["session"].n_unique(), walk.parts[0]
    height = 2 * rows_a_core * days // len(part.train)  # of the window, so that the part has two cores' rows
    frame = pl.select(session=pl.int_range(height) % days)
    trainer = FoldTrainer(
        data=replace(walk.data, frame=frame),
        settings=replace(walk.settings, model=Model(**model), compute=Compute(jobs=2)),
        params={},
        model_id="20260109_070000",
    )
    assert trainer._keeps_cores_busy([part]) is fills


def test_the_folds_train_at_the_same_time_and_the_record_is_the_same(
    walk: Walk, plan: Callable[[str], None], tmp_path: Path
) -> None:
    seen: list[Event] = []

    def listen(event: Event) -> None:
        if event.stage == "record":
            plan("meet")
            seen.append(event)

    together = retrain(tmp_path / "together", listen)
    assert len(list((tmp_path / "plugin").glob("met_*"))) == 2
    assert figures(together) == figures(read_record(walk.home)), "as of a ridge of ours"
    progress = [(event.done / event.total, event.text) for event in seen if event.level is Level.PROGRESS]
    shares = [share for share, text in progress if text.startswith("walk-forward")]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert {text for _, text in progress} >= {"walk-forward, entry threshold", "walk-forward, all rows"}


def test_folds_of_so_many_rows_that_one_fills_the_cores_train_one_after_the_other(
    walk: Walk, plan: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folds, "_FULL_ROWS", 1)
    in_turn = retrain(tmp_path / "in turn", lambda event: None)
    assert len(list((tmp_path / "plugin").glob("fitted_*"))) == 1, "a second process has trained"
    assert figures(in_turn) == figures(read_record(walk.home))


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


def test_what_folds_warned_of_is_told_once_each_where_all_end_well(plan: Callable[[str], None], tmp_path: Path) -> None:
    told: list[str] = []

    def listen(event: Event) -> None:
        if event.stage == "record":
            plan("grow")
        if event.level is Level.WARNING:
            told.append(event.text)

    retrain(tmp_path / "home", listen)
    assert len([text for text in told if text.startswith("the model may take up to")]) == 2


def build_order(walk: Walk, settings: Settings) -> FoldOrder:
    return FoldOrder(
        model_id="20260109_070000",
        split=walk.parts[1],
        settings=select_settings(settings),
        params=merge_params(settings),
        features=walk.data.features.describe(),
        source="synthetic",
        synthetic=True,
    )


def test_a_fold_without_a_row_to_train_on_says_so_in_its_result(walk: Walk) -> None:
    """As an error it would end the others, and which of two is told would hang on which one ends first."""
    order = build_order(walk, walk.settings)
    rows = walk.data.frame.with_columns(target=pl.lit(None, pl.Float32))
    with TrainingPool() as pool:
        result = train_fold(rows, order, Bench(pool=pool, jobs=1, on_event=ignore))
    assert result.trained is None
    assert result.problem.startswith("None of the")


def test_the_progress_of_folds_that_train_several_times_never_steps_back(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "ridge")
    settings = replace(
        settings,
        model=replace(settings.model, horizon_minutes="auto", horizons=(10, 30)),
        features=replace(settings.features, drop_below=0.0),
    )
    told: list[Event] = []
    ContinuousLearning(settings, clock=lambda: NOW, on_event=told.append).retrain(force=True)
    steps = [event.done / event.total for event in told if event.text.startswith("walk-forward")]
    assert steps == sorted(steps)
    assert len(set(steps)) > 6, "and each training of a fold is seen"


@pytest.mark.parametrize(
    ("folds", "done", "heard"),
    [
        (3, 1, [(0, 2, 3), (1, 3, 7), (1, 1, 2), (0, 1, 200), (0, 1, 3), (0, 0, 7), (0, 7, 7), (0, 1, 3)]),
        (
            1,
            0,
            [(0, 400, 400), (0, 0, 400), (0, 400, 400), (0, 10, 10)],
        ),  # the most that is told before the end: 799 of 800
    ],
    ids=["begun again", "near the end"],
)
def test_a_fold_that_is_begun_again_or_counts_in_other_units_is_no_step_back(
    folds: int, done: int, heard: list[tuple[int, int, int]]
) -> None:
    told: list[Event] = []
    progress = FoldProgress(on_event=told.append, folds=folds, done=done, trainings=2)
    progress.begin()
    for number, step, total in heard:
        progress.hear(number, Event("fit", step, total))
    steps = [event.done / event.total for event in told]
    assert steps == sorted(steps)
    assert steps[-1] < 1


class UnwantedError(Exception):
    """What ends a task that is not wanted any more."""


@dataclass(slots=True)
class Watch:
    """Counts the calls of a function of ours in this thread, and wants no more from the first on."""

    name: str
    calls: int = 0

    def see(self, frame: FrameType, event: str, argument: object) -> None:
        ours = frame.f_code.co_qualname == self.name and "/hftcl/" in frame.f_code.co_filename
        self.calls += ours and event == "call"

    def require_going(self) -> None:
        if self.calls:
            raise UnwantedError


@pytest.mark.parametrize("place", ["evaluate_target", "_cut_blocks", "Inputs.build_matrix", "_predict_near"])
def test_a_fold_that_is_not_wanted_any_more_ends_before_its_next_block(
    walk: Walk, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inside, "_PART_ROWS", 1)  # a ticker
    monkeypatch.setattr(training_rows, "_BLOCK_ROWS", 1_000)
    settings = replace(walk.settings, model=replace(walk.settings.model, horizon_minutes="auto", horizons=(10, 30)))
    watch, before = Watch(place), sys.getprofile()
    with TrainingPool() as pool:
        bench = Bench(pool=pool, jobs=1, on_event=ignore, require_going=watch.require_going)
        sys.setprofile(watch.see)
        try:
            with pytest.raises(UnwantedError):
                train_fold(walk.data.frame, build_order(walk, settings), bench)
        finally:
            sys.setprofile(before)
    assert watch.calls == 1


def test_the_importance_of_features_is_not_measured_for_a_fold_that_is_not_wanted_any_more(walk: Walk) -> None:
    settings = replace(walk.settings, features=replace(walk.settings.features, drop_below=0.0))
    is_trained: list[bool] = []

    def require_going() -> None:
        if threading.current_thread() is not threading.main_thread():
            is_trained.append(True)
            raise UnwantedError

    with TrainingPool() as pool:
        bench = Bench(pool=pool, jobs=1, on_event=ignore, require_going=require_going)
        with pytest.raises(UnwantedError):
            train_fold(walk.data.frame, build_order(walk, settings), bench)
    assert is_trained


class UnwantingTeam:
    """Runs tasks here, which are wanted no more as soon as they ask."""

    at_once = 1

    def call(self, task: Task[R], require_going: Callable[[], None]) -> R:
        def refuse() -> None:
            raise UnwantedError

        assert isinstance(task.rows, Rows)
        with TrainingPool() as pool:
            bench = Bench(pool=pool, jobs=1, on_event=ignore, require_going=refuse)
            return task.function(task.rows.load(), task.order, bench)

    def run(
        self, tasks: Iterable[Task[R]], on_told: OnTold | None = None, require_going: RequireGoing = go_on
    ) -> Iterator[tuple[int, R]]:
        for number, task in enumerate(tasks):
            yield number, self.call(task, lambda: None)

    def gather(self, wanted: Wanted) -> Team:
        return self


def test_a_trial_and_a_training_of_a_backtest_ask_too_whether_they_are_wanted(walk: Walk) -> None:
    team = UnwantingTeam()
    with pytest.raises(UnwantedError):
        InnerExam(settings=walk.settings, data=walk.data).try_choice(0, {}, team)
    data = walk.data
    planner = Planner(SessionBars.from_frame(data.frame), data.jumps, Calendar(walk.settings.market.calendar))
    units, _ = planner.plan_weeks(walk.settings, [data.sessions[-1]])
    tasks = build_shop(walk.settings, data, merge_params(walk.settings)).prepare(units)
    with pytest.raises(UnwantedError):
        train_all(tasks, team, ignore)


def test_what_stops_the_walk_forward_ends_its_trainings_and_no_other_is_begun(
    plan: Callable[[str], None], tmp_path: Path
) -> None:
    class StopError(Exception):
        pass

    told: list[str] = []

    def listen(event: Event) -> None:
        if event.level is Level.WARNING:
            told.append(event.text)
        elif event.stage == "record" and event.text == "walk-forward":
            plan("hang")
        elif event.stage == "record" and len(list((tmp_path / "plugin").glob("hung_*"))) == 2:
            raise StopError

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
