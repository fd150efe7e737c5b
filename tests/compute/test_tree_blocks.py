"""A forest above `[model] max_rows` whose trees grow as tasks is the one that grows here, to the bit."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hftcl import ContinuousLearning
from hftcl.archive.registry import Registry
from hftcl.compute import Arrays, Bench, Task, open_engine
from hftcl.compute.parcels import OpenArrays, divide_arrays, keep_block
from hftcl.compute.tasks import OnTold
from hftcl.errors import ComputeError, IntegrityError, TrainingError
from hftcl.events import Event, Level, OnEvent, RequireGoing, go_on, ignore
from hftcl.learning.tree_blocks import BlockOrder, BlockTrainer, TreeBlock, _gather, choose_trainer, grow_block
from hftcl.model.deadline import Deadline
from hftcl.model.families import complete
from hftcl.model.families.forest import Forest
from hftcl.model.sampling import Sampler
from hftcl.model.training import Begun, Seconds, Trained, TrainingPool, TrainingTask
from hftcl.settings import Compute, Model, Settings
from tests.compute.answering import Answering
from tests.compute.processes import list_trainers, run_cluster, wait_until
from tests.loop_cases import NOW, small
from tests.model.test_sampling import build_task
from tests.training import train_with

distributed = pytest.importorskip("distributed", reason="the extra hftcl[dask] is not installed")

pytestmark = pytest.mark.usefixtures("warm_trainers")


@pytest.fixture(scope="module")
def pool(warm_trainers: None) -> Iterator[TrainingPool]:
    with TrainingPool() as held:
        yield held


def describe(trained: Trained) -> dict[str, Any]:
    """Return all but the seconds; the graphs and the joblib file as they are, so that one bit would show."""
    return {name: getattr(trained, name) for name in Trained.__dataclass_fields__ if name != "seconds"}


@pytest.mark.parametrize(
    ("case", "inner"),
    [
        ({"max_rows": 300}, True),
        ({"max_rows": 300, "weights": np.linspace(0.1, 4.9, 1200, dtype=np.float32)}, True),  # of mean 2.5: they scale
        ({"max_rows": 1000}, False),  # the inner fit has room for all of its rows
        ({"max_rows": 300, "keep_inner": True, "only_inner": True}, True),
        ({"max_rows": 300, "keep_inner": True, "with_pkl": False}, True),
    ],
    ids=["both fits", "weights", "one fit", "inner alone", "no file"],
)
def test_trees_that_grow_in_blocks_make_the_same_forest_to_the_bit(
    case: dict[str, Any], pool: TrainingPool, *, inner: bool
) -> None:
    task = build_task(**case)
    told: list[Event] = []
    with open_engine(Settings(), ignore, pool) as engine:
        blocks = train_with(BlockTrainer(pool, engine), task, told.append)
    assert describe(blocks) == describe(pool.train(task))
    assert told[0] == Event("fit", 0, 24, "entry threshold" if inner else "all rows")
    steps = [event.done for event in told]
    assert steps == sorted(steps), "no step goes back"
    assert {event.total for event in told if event.total} == {24}
    assert all(value >= 0 for value in (blocks.seconds.inner_fit, blocks.seconds.fit))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (
            lambda _, block: replace(block, trees=block.trees[:-1]),
            r"trees 11 to 12, all rows came back with 1 tree\. Nothing is archived",
        ),
        (lambda _, block: replace(block, trees=()), r"came back with 0 trees\."),
        (lambda _, block: replace(block, order=replace(block.order, first=3)), r"with the trees of another task\."),
        (lambda _, block: replace(block, order=replace(block.order, seed=7)), r"with the trees of another task\."),
    ],
    ids=["fewer", "none", "of another block", "of another training"],
)
def test_a_task_that_comes_to_other_trees_than_it_was_told_to_grow_ends_the_training(
    answer: Any, reason: str, pool: TrainingPool
) -> None:
    """The last of them, while no other is at work: what grows when a training ends is ended with its process."""

    def answer_last(task: Task[TreeBlock], block: TreeBlock) -> TreeBlock:
        return answer(task, block) if is_last(task.order) else block

    with open_engine(Settings(), ignore, pool) as engine, pytest.raises(IntegrityError, match=reason):
        train_with(BlockTrainer(pool, Answering(engine, answer_last)), build_task(max_rows=300))


def grow_each(task: TrainingTask, pool: TrainingPool) -> TrainingTask:
    """Return the task with its trees, as they come back from a cluster."""
    handed: list[TrainingTask] = []

    class Handed:
        @contextmanager
        def begin(self, task: TrainingTask, *_: Any, **__: Any) -> Iterator[Begun]:
            handed.append(task)
            with pool.begin(task) as begun:
                yield begun

    with open_engine(Settings(), ignore, pool) as engine:
        train_with(BlockTrainer(Handed(), engine), task)  # all that it calls
    return handed[0]


def test_trees_that_came_grown_are_the_forest_and_their_number_is_held(pool: TrainingPool) -> None:
    task = build_task(max_rows=300)
    own, other = grow_each(task, pool), grow_each(replace(task, seed=7), pool)
    mixed = pool.train(replace(own, grown=other.grown))
    assert mixed.onnx != pool.train(task).onnx, "they are not grown again"
    assert mixed.threshold == pool.train(task).threshold
    assert pool.train(replace(own, inner_grown=other.inner_grown)).threshold != mixed.threshold
    with pytest.raises(TrainingError, match="11 trees came grown where the forest has 12"):
        pool.train(replace(own, grown=own.grown[:-1]))
    told: list[Event] = []
    pool.train(own, told.append)
    steps = [Event("fit", 12, 24, "entry threshold"), Event("fit", 24, 24, "all rows")]
    assert told == steps, "or no processor time would be told while they are exported and compared"


def test_a_training_whose_tree_hangs_is_stopped_though_none_tells_anything(stuck: str, pool: TrainingPool) -> None:
    task = replace(build_task(max_rows=300), family=stuck)
    with (
        open_engine(Settings(), ignore, pool) as engine,
        pytest.raises(TrainingError, match=r"did not end within 3 s and was stopped"),
    ):
        train_with(BlockTrainer(pool, engine), task, deadline=Deadline(3.0))


@pytest.fixture
def pass_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return what lets half an hour pass."""
    now = time.monotonic()
    return lambda: monkeypatch.setattr(time, "monotonic", lambda: now + 1800)


def is_last(order: BlockOrder) -> bool:
    return (order.first, order.only_fitted) == (10, False)


def test_a_training_whose_time_is_over_with_its_last_block_is_stopped_before_the_rest(
    pass_time: Callable[[], None], pool: TrainingPool
) -> None:
    class Rest:
        def begin(self, *_: Any, **__: Any) -> Any:
            raise AssertionError("the rest is begun")

    def answer(task: Task[TreeBlock], block: TreeBlock) -> TreeBlock:
        if is_last(task.order):
            pass_time()
        return block

    trainer: Any = Rest()
    with (
        open_engine(Settings(), ignore, pool) as engine,
        pytest.raises(TrainingError, match=r"did not end within 600 s and was stopped"),
    ):
        train_with(BlockTrainer(trainer, Answering(engine, answer)), build_task(max_rows=300), deadline=Deadline(600.0))


def test_the_rest_of_a_training_has_what_its_trees_left_of_the_time_and_tells_what_was_set(
    pass_time: Callable[[], None], pool: TrainingPool
) -> None:
    class Rest:
        @contextmanager
        def begin(self, task: TrainingTask, *_: Any, deadline: Deadline | None = None) -> Iterator[Begun]:
            pass_time()
            with pool.begin(task, deadline=deadline) as begun:
                yield begun

    trainer: Any = Rest()
    with (
        open_engine(Settings(), ignore, pool) as engine,
        pytest.raises(TrainingError, match=r"did not end within 600 s and was stopped"),
    ):
        train_with(BlockTrainer(trainer, engine), build_task(max_rows=300), deadline=Deadline(600.0))


def test_the_seconds_of_trees_that_grew_elsewhere_count_as_those_of_the_fits(pool: TrainingPool) -> None:
    class Rest:
        @contextmanager
        def begin(self, task: TrainingTask, *_: Any, **__: Any) -> Iterator[Begun]:
            with pool.begin(task) as begun:
                seconds = Seconds(inner_fit=1.0, fit=2.0, export=3.0)
                yield replace(begun, finish=lambda: replace(begun.finish(), seconds=seconds))

    with open_engine(Settings(), ignore, pool) as engine:
        trainer: Any = Rest()
        seconds = train_with(BlockTrainer(trainer, engine), build_task(max_rows=300)).seconds
    assert seconds.inner_fit > 1.0
    assert seconds.fit > 2.0
    assert seconds.export == 3.0


def test_trees_that_wait_for_a_worker_are_told(pool: TrainingPool) -> None:
    """Else the watchdog of systemd would take a busy cluster for a fault."""
    told: list[Event] = []

    class Busy(Answering):
        def run(
            self, tasks: Iterable[Task[Any]], on_told: OnTold | None = None, require_going: RequireGoing = go_on
        ) -> Iterator[tuple[int, Any]]:
            assert on_told is not None
            on_told(3, Event("cluster", text="waiting for the cluster, 5 s"))
            yield from super().run(tasks, on_told, require_going)

    with open_engine(Settings(), ignore, pool) as engine:
        train_with(BlockTrainer(pool, Busy(engine, lambda _, block: block)), build_task(max_rows=300), told.append)
    assert told[1] == Event("fit", 0, 24, "waiting for the cluster, 5 s")


SETTLING = """
from hftcl.model.families.forest import Forest

class Settling(Forest):
    name = "settling"

    def settle(self, fitted, X, y, params):
        return fitted, {**params, "max_depth": 3}
"""
STUCK = """
import time
from hftcl.model.families.forest import Forest

class Stuck(Forest):
    name = "stuck"

    def grow_tree(self, X, y, params, **options):
        time.sleep(60)
        raise SystemExit
"""


def install(name: str, code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Install a family, whose class has the same name, and return it."""
    sys.modules.pop(name, None)  # one of this name may be another test's
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (folder / f"{name}.py").write_text(code)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[hftcl.families]\n{name} = {name}:{name.capitalize()}\n")
    monkeypatch.syspath_prepend(folder)
    return name


@pytest.fixture
def settling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Install a forest that chooses its depth between the two fits; return its name."""
    return install("settling", SETTLING, tmp_path, monkeypatch)


@pytest.fixture
def stuck(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Install a forest whose trees take a minute, of which they tell nothing; return its name."""
    return install("stuck", STUCK, tmp_path, monkeypatch)


def test_trees_whose_parameters_are_chosen_between_the_fits_grow_here(settling: str, pool: TrainingPool) -> None:
    task = replace(build_task(max_rows=300), family=settling)
    assert train_with(BlockTrainer(pool, Unasked()), task).params["max_depth"] == 3


SCHEDULER = "tcp://127.0.0.1:1"  # where none is


@pytest.mark.parametrize(
    ("compute", "model", "elsewhere"),
    [
        ({"scheduler": SCHEDULER}, {}, True),
        ({"scheduler_file": "scheduler.json"}, {}, True),
        ({}, {}, False),
        ({"scheduler": SCHEDULER, "backend": "local"}, {}, False),
        ({"scheduler": SCHEDULER}, {"max_rows": 0}, False),
        ({"scheduler": SCHEDULER}, {"per": "ticker"}, False),
        ({"scheduler": SCHEDULER}, {"family": "ridge"}, False),
    ],
)
def test_trees_grow_elsewhere_only_where_a_cluster_is_named(
    compute: dict[str, Any], model: dict[str, Any], pool: TrainingPool, *, elsewhere: bool
) -> None:
    """One of this machine would take as many cores, and the rows once more for each worker."""
    settings = Settings(compute=Compute(**{"backend": "dask", **compute}), model=Model(**model))
    chosen = choose_trainer(settings, pool, Unasked())
    assert (chosen is pool) is not elsewhere


def test_rows_that_are_wrong_are_told_before_any_tree_grows(pool: TrainingPool) -> None:
    task = build_task(max_rows=300)
    bad = task.X.copy()
    bad[5, 0] = np.nan
    with pytest.raises(ValueError, match="X holds a value that is not finite"):
        train_with(BlockTrainer(pool, Unasked()), replace(task, X=bad))


class Unasked:
    def gather(self, wanted: Any) -> Any:
        raise AssertionError("no engine is asked")


@pytest.mark.parametrize("family", ["forest", "ridge"])
def test_what_has_no_trees_of_samples_is_trained_here(family: str, pool: TrainingPool) -> None:
    task = build_task(family, max_rows=0, with_groups=False)
    trained = train_with(BlockTrainer(pool, Unasked()), task)
    assert describe(trained) == describe(pool.train(task))


def test_rows_that_come_in_pieces_are_drawn_as_those_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    task = build_task(max_rows=300)
    assert task.groups is not None
    columns = {"X": task.X, "y": task.y, "groups": task.groups, "fitted": task.fitted}
    arrays = Arrays(columns)
    monkeypatch.setattr("hftcl.compute.parcels._PIECE_BYTES", 100 * arrays.row_bytes)
    blocks = [block.data for block in divide_arrays(arrays)]
    assert len(blocks) == 12
    assert blocks == [block.data for block in divide_arrays(Arrays(columns))], "named by what they hold"
    pieces = OpenArrays(names=tuple(columns))(blocks)
    for name, column in columns.items():
        assert np.array_equal(np.concatenate([piece[name] for piece in pieces]), column)
    of_task: dict[str, Any] = {"family": "forest", "params": dict(task.params), "seed": 42, "max_rows": 300}
    order = BlockOrder(**of_task, first=3, trees=2, only_fitted=True, width=task.X.shape[1])
    sampler = Sampler(task.groups, np.flatnonzero(task.fitted), 300, 42)
    sample, rows = _gather(pieces, sampler, 3, order, 1), sampler.draw(3)
    assert (rows.size, sample.seed) == (300, sampler.derive_seed(3))
    assert np.array_equal(sample.X, task.X[rows])
    assert np.array_equal(sample.y, task.y[rows])


def test_a_block_that_is_not_wanted_any_more_grows_no_further_tree(pool: TrainingPool) -> None:
    """A worker has no other way to hear of it: its task runs in a thread."""

    class UnwantedError(Exception):
        pass

    def require_going() -> None:
        if grown:
            raise UnwantedError

    task, grown = build_task(max_rows=300), list[Event]()
    assert task.groups is not None
    arrays = Arrays({"X": task.X, "y": task.y, "groups": task.groups, "fitted": task.fitted})
    of_task: dict[str, Any] = {"family": "forest", "params": complete(Forest(), task.params), "seed": 42}
    order = BlockOrder(**of_task, max_rows=300, first=0, trees=3, only_fitted=False, width=task.X.shape[1])
    bench = Bench(pool=pool, jobs=1, on_event=grown.append, require_going=require_going)
    with pytest.raises(UnwantedError):
        grow_block(arrays.load(), order, bench)
    assert [event.done for event in grown if event.done] == [1], "of three"


def test_what_lies_on_the_storage_is_read_once_a_worker_and_held_for_no_longer_than_its_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = Arrays({"X": build_task(max_rows=300).X})
    monkeypatch.setattr("hftcl.compute.parcels._PIECE_BYTES", 100 * arrays.row_bytes)
    stored = [keep_block(block, tmp_path) for block in divide_arrays(arrays)]
    assert {Path(block.path).suffix for block in stored} == {".npy"}
    pieces, others = OpenArrays(names=("X",))(stored), OpenArrays(names=("X",))(stored)
    assert len(list(pieces)) == 12
    for block in stored:
        Path(block.path).unlink()
    for held in (pieces, others):  # of this task, and of one in another thread
        assert np.array_equal(np.concatenate([piece["X"] for piece in held]), arrays.columns["X"])
    del pieces, others, held
    with pytest.raises(ComputeError, match="a worker cannot read"):
        list(OpenArrays(names=("X",))(stored))


PROMOTED: dict[str, dict[str, object]] = {
    "exam": {"sessions": 10},  # five are too few to promote by
    "promote": {"refit_on_promote": True, "min_sharpe": -100.0, "min_p_better": 0.0},
}


def learn(
    home: Path, on_event: OnEvent, max_rows: int = 3_000, others: dict[str, Any] | None = None, **compute: object
) -> tuple[bytes, bytes, int]:
    """Return the archived files of the model that a retrain examined, and how many rows a fit holds."""
    model: dict[str, object] = {"n_estimators": 40, "max_depth": 6, "max_rows": max_rows}
    sections: dict[str, Any] = {"exam": {"sessions": 5}, **(others or {})}
    market = {"watchlist": ("AAPL", "AMD"), "lookback_days": 22 + 2 * sections["exam"]["sessions"]}
    settings = small(home, model=model, market=market, compute=compute, **sections)
    report = ContinuousLearning(settings, clock=lambda: NOW, on_event=on_event).retrain(force=True, as_of="2025-12-15")
    examined, kept = report.twin or report.model_id, Registry(home)
    assert examined is not None
    return kept.locate_onnx(examined).read_bytes(), kept.locate_pkl(examined).read_bytes(), report.max_rows


def test_a_retrain_whose_trees_grow_on_a_cluster_has_the_same_files_although_a_worker_is_killed(tmp_path: Path) -> None:
    """And its refit asks the cluster too: without a scheduler it fails, and the model that was examined serves."""
    here = learn(tmp_path / "here", ignore, others=PROMOTED)
    killed: list[int] = []
    warnings: list[str] = []
    with run_cluster(tmp_path) as cluster:

        def kill_one(event: Event) -> None:
            if event.level is Level.WARNING:
                warnings.append(event.text)
            if event.stage == "fit" and event.done and not killed:
                wait_until(lambda: all(list_trainers(worker.pid) for worker in cluster.workers))
                cluster.workers[0].kill()
                killed.append(event.done)
            if event.stage == "deploy" and not event.done:
                cluster.scheduler.kill()

        named: dict[str, Any] = {"backend": "dask", "scheduler": cluster.url, "wait_s": 240.0}
        there = learn(tmp_path / "there", kill_one, others=PROMOTED, **named)
    assert killed == [10], "in the middle: of eight blocks one had grown"
    assert there == here
    assert here[2] == 3_000
    (refit,) = (text for text in warnings if "refit" in text)
    assert f"The Dask scheduler {cluster.url} is gone" in refit


def test_a_cluster_that_is_missing_is_told_before_bars_are_collected_where_trees_may_need_it(tmp_path: Path) -> None:
    """Two tickers of 32 days have at most 2 x 22 x 390 minutes: below that limit none is asked."""
    stages: list[str] = []
    missing: dict[str, Any] = {"backend": "dask", "scheduler": SCHEDULER, "wait_s": 3.0}
    with pytest.raises(ComputeError, match=f"^The Dask scheduler {SCHEDULER} does not answer"):
        learn(tmp_path / "home", lambda event: stages.append(event.stage), **missing)
    assert "collect" not in stages
    learn(tmp_path / "home", lambda event: stages.append(event.stage), max_rows=17_161, **missing)
    assert "collect" in stages


def test_a_scheduler_that_dies_while_trees_grow_is_one_sentence_and_the_retrain_goes_on_here(tmp_path: Path) -> None:
    with run_cluster(tmp_path, workers=1) as cluster:

        def kill_scheduler(event: Event) -> None:
            if event.stage == "fit" and event.done:
                cluster.scheduler.kill()

        with pytest.raises(ComputeError, match=r"^The Dask scheduler tcp://.* is gone. What is done is kept"):
            learn(tmp_path / "there", kill_scheduler, backend="dask", scheduler=cluster.url, wait_s=240.0)
    assert Registry(tmp_path / "there").list_models() == ()
    assert learn(tmp_path / "there", ignore)[:2] == learn(tmp_path / "here", ignore)[:2]
