"""The first retrain of a policy whose record begins on a cluster, while workers and schedulers die."""

from pathlib import Path

import pytest

from hftcl import ContinuousLearning
from hftcl.archive.record import read_all
from hftcl.archive.registry import Registry
from hftcl.errors import ComputeError
from hftcl.events import Event, OnEvent, ignore
from tests.compute.processes import list_trainers, run_cluster
from tests.loop_cases import NOW, small

distributed = pytest.importorskip("distributed", reason="the extra hftcl[dask] is not installed")

pytestmark = pytest.mark.usefixtures("warm_trainers")


def learn(home: Path, on_event: OnEvent, **compute: object) -> tuple[object, ...]:
    """Return the archived file and the record of a retrain with two folds: the candidate, and one that is a task.

    Of so many trees that the task is at work for a second after it has told that it fits.
    """
    model: dict[str, object] = {"n_estimators": 200, "max_depth": 6}
    market: dict[str, object] = {"watchlist": ("AAPL", "AMD"), "lookback_days": 46}
    settings = small(home, model=model, market=market, compute=compute)
    report = ContinuousLearning(settings, clock=lambda: NOW, on_event=on_event).retrain(force=True, as_of="2025-12-15")
    assert report.model_id is not None
    rows = [(row.session, row.net, row.gross, row.turnover) for row, _ in read_all(Registry(home), synthetic=True)]
    assert len(rows) == 10
    return Registry(home).locate_onnx(report.model_id).read_bytes(), rows


@pytest.fixture(scope="module")
def here(warm_trainers: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    """Return what the retrain comes to on this machine."""
    return learn(tmp_path_factory.mktemp("here") / "home", ignore)


def is_of_a_fold_that_trains(event: Event) -> bool:
    return event.stage == "record" and event.text == "walk-forward, entry threshold"


@pytest.mark.slow  # has its like, as the next: the worker that is killed while trees grow, in test_tree_blocks
def test_a_worker_that_is_killed_in_the_middle_of_a_fold_costs_nothing_but_time(
    here: tuple[object, ...], tmp_path: Path
) -> None:
    with run_cluster(tmp_path, workers=1) as cluster:

        def kill_worker(event: Event) -> None:
            if is_of_a_fold_that_trains(event) and len(cluster.workers) == 1:
                assert list_trainers(cluster.workers[0].pid), "it trains there"
                cluster.workers[0].kill()
                cluster.start_worker()

        there = learn(tmp_path / "there", kill_worker, backend="dask", scheduler=cluster.url, wait_s=240.0)
        assert len(cluster.workers) == 2, "a fold was at work"
    assert there == here


@pytest.mark.slow  # each run has its like: the scheduler that dies while trees grow, in test_tree_blocks
def test_a_scheduler_that_dies_in_the_middle_of_a_fold_is_one_sentence_and_the_next_retrain_goes_on(
    here: tuple[object, ...], tmp_path: Path
) -> None:
    home, died = tmp_path / "home", []
    with run_cluster(tmp_path, workers=1) as cluster:

        def kill_scheduler(event: Event) -> None:
            if is_of_a_fold_that_trains(event):
                cluster.scheduler.kill()
                died.append(event)

        with pytest.raises(ComputeError) as told:
            learn(home, kill_scheduler, backend="dask", scheduler=cluster.url, wait_s=240.0)
    assert died, "a fold was at work"
    assert str(told.value).startswith(f"The Dask scheduler {cluster.url} is gone. What is done is kept: run the same")
    assert ("\n" in str(told.value), told.value.exit_code) == (False, 1)
    assert not Registry(home).list_models()
    assert not read_all(Registry(home), synthetic=True)
    assert learn(home, ignore) == here
