"""A forest above `[model] max_rows` whose trees grow as tasks is the one that grows here, to the bit."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hftcl import ContinuousLearning
from hftcl.archive.registry import Registry
from hftcl.compute import Arrays, open_engine
from hftcl.compute.parcels import OpenArrays, divide_arrays
from hftcl.errors import ComputeError
from hftcl.events import Event, OnEvent, ignore
from hftcl.learning.tree_blocks import BlockOrder, BlockTrainer, _gather
from hftcl.model.sampling import Sampler
from hftcl.model.training import Trained, TrainingPool
from hftcl.settings import Settings
from tests.compute.processes import list_trainers, run_cluster, wait_until
from tests.loop_cases import NOW, small
from tests.model.test_sampling import build_task

distributed = pytest.importorskip("distributed", reason="the extra hftcl[dask] is not installed")


@pytest.fixture(scope="module")
def pool() -> Iterator[TrainingPool]:
    with TrainingPool() as held:
        yield held


def describe(trained: Trained) -> dict[str, Any]:
    """Return all but the seconds; the graphs and the joblib file as they are, so that one bit would show."""
    return {name: getattr(trained, name) for name in Trained.__dataclass_fields__ if name != "seconds"}


@pytest.mark.parametrize(
    ("case", "inner"),
    [
        ({"max_rows": 300}, True),
        ({"max_rows": 300, "weights": np.linspace(0.1, 1.9, 1200, dtype=np.float32)}, True),
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
        blocks = BlockTrainer(pool, engine).train(task, told.append)
    assert describe(blocks) == describe(pool.train(task))
    assert told[0] == Event("fit", 0, 24, "entry threshold" if inner else "all rows")
    steps = [event.done for event in told]
    assert steps == sorted(steps), "no step goes back"
    assert {event.total for event in told if event.total} == {24}
    assert all(value >= 0 for value in (blocks.seconds.inner_fit, blocks.seconds.fit))


@pytest.mark.parametrize("family", ["forest", "ridge"])
def test_what_has_no_trees_of_samples_is_trained_here(family: str, pool: TrainingPool) -> None:
    task = build_task(family, max_rows=0, with_groups=False)

    class Unasked:
        def gather(self, wanted: Any) -> Any:
            raise AssertionError("no engine is asked")

    trained = BlockTrainer(pool, Unasked()).train(task)
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
    order = BlockOrder(**of_task, first=3, trees=2, only_fitted=True, timeout_s=None)
    sampler = Sampler(task.groups, np.flatnonzero(task.fitted), 300, 42)
    sample, rows = _gather(pieces, sampler, 3, order, 1), sampler.draw(3)
    assert (rows.size, sample.seed) == (300, sampler.derive_seed(3))
    assert np.array_equal(sample.X, task.X[rows])
    assert np.array_equal(sample.y, task.y[rows])


def learn(home: Path, on_event: OnEvent, **compute: object) -> tuple[bytes, bytes, int]:
    """Return the archived files of a retrain above `max_rows`, and how many rows a fit holds."""
    model: dict[str, object] = {"n_estimators": 40, "max_depth": 6, "max_rows": 3_000}
    market: dict[str, object] = {"watchlist": ("AAPL", "AMD"), "lookback_days": 32}
    settings = small(home, model=model, exam={"sessions": 5}, market=market, compute=compute)
    report = ContinuousLearning(settings, clock=lambda: NOW, on_event=on_event).retrain(force=True, as_of="2025-12-15")
    assert report.model_id is not None
    kept = Registry(home)
    return kept.onnx_path(report.model_id).read_bytes(), kept.pkl_path(report.model_id).read_bytes(), report.max_rows


def test_a_retrain_whose_trees_grow_on_a_cluster_has_the_same_files_although_a_worker_is_killed(tmp_path: Path) -> None:
    here = learn(tmp_path / "here", ignore)
    killed: list[int] = []
    with run_cluster(tmp_path) as cluster:

        def kill_one(event: Event) -> None:
            if event.stage == "fit" and event.done and not killed:
                wait_until(lambda: all(list_trainers(worker.pid) for worker in cluster.workers))
                cluster.workers[0].kill()
                killed.append(event.done)

        there = learn(tmp_path / "there", kill_one, backend="dask", scheduler=cluster.url, wait_s=240.0)
    assert killed == [10], "in the middle: of eight blocks one had grown"
    assert there == here
    assert here[2] == 3_000


def test_a_scheduler_that_dies_while_trees_grow_is_one_sentence_and_the_retrain_goes_on_here(tmp_path: Path) -> None:
    with run_cluster(tmp_path, workers=1) as cluster:

        def kill_scheduler(event: Event) -> None:
            if event.stage == "fit" and event.done:
                cluster.scheduler.kill()

        with pytest.raises(ComputeError, match=r"^The Dask scheduler tcp://.* is gone. What is done is kept"):
            learn(tmp_path / "there", kill_scheduler, backend="dask", scheduler=cluster.url, wait_s=240.0)
    assert Registry(tmp_path / "there").models() == ()
    assert learn(tmp_path / "there", ignore)[:2] == learn(tmp_path / "here", ignore)[:2]
