"""Features that a real cluster computes are those of this machine, to the bit, whoever dies."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hftcl import ContinuousLearning
from hftcl.archive.registry import Registry
from hftcl.compute import Task, open_engine
from hftcl.compute.cluster import ClusterEngine
from hftcl.errors import ComputeError, IntegrityError
from hftcl.events import Event, OnEvent, ignore
from hftcl.learning.dataset import Window, open_window
from hftcl.learning.feature_tasks import spreads_features
from hftcl.model.by_ticker import FirstLook
from hftcl.model.features import FEATURES
from hftcl.settings import Compute, Settings
from tests.compute.answering import Answering
from tests.compute.processes import Cluster, run_cluster, wait_until
from tests.loop_cases import NOW, small

distributed = pytest.importorskip("distributed", reason="the extra hftcl[dask] is not installed")

TICKERS = ("AAPL", "AMD", "AMZN", "GOOG", "INTC", "META")
SCHEDULER = "tcp://127.0.0.1:1"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Hold a cluster of two workers for the tests that kill none."""
    with run_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture
def one_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hftcl.model.by_ticker._BLOCK_BARS", 1)


def configure(home: Path, url: str = "", **compute: object) -> Settings:
    named: dict[str, object] = {"backend": "dask", "scheduler": url, "wait_s": 240.0, "min_feature_bars": 0}
    market: dict[str, object] = {"watchlist": TICKERS, "lookback_days": 25}
    return small(home, market=market, compute={**(named if url else {}), **compute})


def open_quietly(settings: Settings, on_event: OnEvent = ignore) -> Window:
    return open_window(settings, as_of="2025-12-15", now=NOW, save=False, on_event=on_event)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """Return the rows of this machine."""
    return open_quietly(configure(tmp_path_factory.mktemp("here"))).assemble().frame


def require_equal(there: pl.DataFrame, here: pl.DataFrame) -> None:
    assert_frame_equal(there, here, check_exact=True)
    for name in (*(feature.name for feature in FEATURES), "target"):
        assert there[name].to_numpy().tobytes() == here[name].to_numpy().tobytes(), name


@pytest.mark.usefixtures("one_a_block")
@pytest.mark.parametrize("stored", [False, True], ids=["sent", "on the storage"])
def test_features_of_a_cluster_are_those_of_this_machine_to_the_bit(
    stored: bool, cluster: Cluster, here: pl.DataFrame, tmp_path: Path
) -> None:
    told: list[Event] = []
    settings = configure(tmp_path / "home", cluster.url, storage=str(tmp_path / "store") if stored else "")
    with ClusterEngine(settings) as engine:
        there = open_quietly(settings, told.append).assemble(engine).frame
        assert (engine.sent_bytes == 0) is stored, "bars travel once, or lie there"
    require_equal(there, here)
    steps = [event.done for event in told if event.stage == "features" and not event.text]
    assert steps == list(range(1, 13)), "two looks at each of six tickers"


@pytest.mark.usefixtures("one_a_block")
def test_a_worker_that_is_killed_while_it_computes_features_costs_nothing_but_time(
    here: pl.DataFrame, tmp_path: Path
) -> None:
    killed: list[int] = []
    with run_cluster(tmp_path) as mine:

        def kill_one(event: Event) -> None:
            if event.stage == "features" and event.done and not killed:
                mine.workers[0].kill()
                mine.workers[0].wait()
                killed.append(event.done)

        settings = configure(tmp_path / "home", mine.url)
        with ClusterEngine(settings) as engine:
            there = open_quietly(settings, kill_one).assemble(engine).frame
    assert killed == [1], "in the middle"
    require_equal(there, here)


def count_keys(engine: ClusterEngine, begin: str) -> int:
    def count(dask_scheduler: Any, begin: str = begin) -> int:
        return sum(str(key).startswith(begin) for key in dask_scheduler.tasks)

    return int(engine._client.run_on_scheduler(count))


@pytest.mark.usefixtures("one_a_block")
def test_few_tickers_are_on_their_way_at_the_same_time_and_those_that_are_back_leave_nothing_there(
    cluster: Cluster, tmp_path: Path
) -> None:
    sent: list[int] = []
    back: list[int] = []

    class Counting(ClusterEngine):
        def submit(self, task: Task[Any], topic: str, look: Callable[[], None]) -> Any:
            sent.append(len(back))
            return super().submit(task, topic, look)

    settings = configure(tmp_path / "home", cluster.url)
    with Counting(settings) as engine:

        def hear(event: Event) -> None:
            if event.stage == "features" and event.done == len(back) + 1 <= len(TICKERS):
                back.append(event.done)

        open_quietly(settings, hear).assemble(engine)
        assert len(sent) == len(back) == 6
        ahead = [number + 1 - done for number, done in enumerate(sent)]
        assert max(ahead) <= 5, "two for each of two workers, and the next while the caller takes one"
        wait_until(lambda: count_keys(engine, "hftcl") == 0)


@pytest.mark.usefixtures("one_a_block")
def test_ctrl_c_while_a_cluster_computes_features_leaves_nothing_there(cluster: Cluster, tmp_path: Path) -> None:
    settings = configure(tmp_path / "home", cluster.url)

    def interrupt(event: Event) -> None:
        if event.stage == "features" and event.done == 1:
            raise KeyboardInterrupt

    with ClusterEngine(settings) as engine:
        with pytest.raises(KeyboardInterrupt):
            open_quietly(settings, interrupt).assemble(engine)
        wait_until(lambda: count_keys(engine, "hftcl") == 0)


# --- what is not of the block -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("one_a_block")
@pytest.mark.parametrize(
    "answer",
    [
        lambda look: replace(look, tickers=("AAPL",)),
        lambda look: replace(look, values=look.values[1:]),
        lambda look: replace(look, places=look.places[:1]),
        lambda look: replace(look, minutes=look.minutes[:1]),
    ],
    ids=["tickers", "values", "places", "minutes"],
)
def test_a_task_that_comes_back_with_other_bars_ends_the_retrain(answer: Any, tmp_path: Path) -> None:
    def answer_last(task: Task[FirstLook], look: FirstLook) -> FirstLook:
        return answer(look) if task.name == "the features of META" else look

    settings = configure(tmp_path / "home", SCHEDULER)
    with (
        open_engine(configure(tmp_path / "home"), ignore) as engine,
        pytest.raises(IntegrityError, match=r"^The features of META came back of other bars\."),
    ):
        open_quietly(settings).assemble(Answering(engine, answer_last))


# --- whom is asked ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("compute", "own", "bars", "elsewhere"),
    [
        ({"scheduler": SCHEDULER}, False, 100, True),
        ({"scheduler_file": "scheduler.json"}, False, 100, True),
        ({"scheduler": SCHEDULER}, False, 99, False),
        ({}, False, 100, False),
        ({"scheduler": SCHEDULER, "backend": "local"}, False, 100, False),
        ({"scheduler": SCHEDULER}, True, 100, False),
    ],
    ids=["named", "by a file", "few bars", "of this machine", "local", "the user's features"],
)
def test_features_are_the_clusters_only_where_one_is_named_and_there_are_enough_bars_and_no_code_of_the_users(
    compute: dict[str, Any], own: bool, bars: int, elsewhere: bool
) -> None:
    settings = Settings(compute=Compute(**{"backend": "dask", "min_feature_bars": 100, **compute}))
    table = (*FEATURES, replace(FEATURES[0], name="mine", source="a digest")) if own else FEATURES
    assert spreads_features(settings, table, bars) is elsewhere


def learn(settings: Settings, on_event: OnEvent = ignore) -> bytes:
    """Return the archived file of the model of a retrain that asks no cluster for folds or trees."""
    settings = replace(settings, exam=replace(settings.exam, sessions=5))
    report = ContinuousLearning(settings, clock=lambda: NOW, on_event=on_event).retrain(force=True, as_of="2025-12-15")
    assert report.model_id is not None
    return Registry(Path(settings.paths.home)).locate_onnx(report.model_id).read_bytes()


@pytest.mark.usefixtures("warm_trainers")
def test_a_cluster_that_is_missing_is_told_before_bars_are_collected_where_features_may_need_it(
    tmp_path: Path,
) -> None:
    """Six tickers of 25 days have at most 6 x 17 x 390 - 6 x 180 minutes: below that limit none is asked."""
    stages: list[str] = []
    missing: dict[str, Any] = {"wait_s": 3.0}
    with pytest.raises(ComputeError, match=f"^The Dask scheduler {SCHEDULER} does not answer"):
        learn(configure(tmp_path / "home", SCHEDULER, **missing), lambda event: stages.append(event.stage))
    assert stages == []
    few = configure(tmp_path / "home", SCHEDULER, min_feature_bars=60_000, **missing)
    assert learn(few) == learn(configure(tmp_path / "here"))


@pytest.mark.usefixtures("warm_trainers", "one_a_block")
def test_a_scheduler_that_dies_while_features_are_computed_is_one_sentence_and_the_retrain_goes_on_here(
    tmp_path: Path,
) -> None:
    with run_cluster(tmp_path, workers=1) as mine:

        def kill_scheduler(event: Event) -> None:
            if event.stage == "features" and event.done == 1:
                mine.scheduler.kill()

        with pytest.raises(ComputeError, match=r"^The Dask scheduler tcp://.* is gone. What is done is kept"):
            learn(configure(tmp_path / "home", mine.url), kill_scheduler)
    assert Registry(tmp_path / "home").list_models() == ()
    assert learn(configure(tmp_path / "home")) == learn(configure(tmp_path / "here"))
