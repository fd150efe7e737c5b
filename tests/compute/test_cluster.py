"""Tasks on real schedulers and workers of Dask: each counts once, whoever dies, and what cannot work says so."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hftcl.archive.policy import complete_params
from hftcl.compute import Rows, Table, Task, Wanted, open_engine
from hftcl.compute.cluster import ClusterEngine, ClusterTeam
from hftcl.compute.code_digest import list_versions
from hftcl.compute.connection import require_fit_workers
from hftcl.compute.parcels import StoredBlock, divide, join, keep_block
from hftcl.compute.tasks import cut_sessions
from hftcl.compute.versions import describe_difference
from hftcl.errors import ComputeError, HftclError, NoRoomError
from hftcl.events import Event, ignore
from hftcl.exam.split import Session, list_sessions, split
from hftcl.learning.backtest.courses import _collect_closes
from hftcl.learning.dataset import open_window
from hftcl.learning.folds import FoldTrainer
from hftcl.learning.search.inner import InnerExam
from hftcl.learning.search.space import Choice
from hftcl.settings import Settings
from hftcl.waiting import wait_for_result
from tests.compute.orders import (
    Order,
    add_up,
    always_lose_its_training,
    ask_often,
    die,
    fail,
    fill_the_disk,
    find_unknown_family,
    lack_room_once,
    lose_its_training,
    tell_often,
    tell_steps,
    train_long,
    train_when_cancelled,
    work_alone,
)
from tests.compute.processes import (
    PATIENCE_S,
    Cluster,
    list_descendants,
    list_trainers,
    run_cluster,
    wait_for,
    wait_until,
    wait_until_ended,
)
from tests.loop_cases import NOW, small
from tests.processes import read_command

distributed = pytest.importorskip("distributed", reason="the extra hftcl[dask] is not installed")

WANTED = Wanted(rows_bytes=0, stage="train")


def build_rows(sessions: int = 70) -> pl.DataFrame:
    """Return a bar a session of two tickers, over three months."""
    first = datetime(2025, 8, 1, 14, tzinfo=UTC)
    at = [first + timedelta(days=n) for n in range(sessions)]
    frames = [
        pl.DataFrame({"ticker": ticker, "ts": at, "close": [base + n / 7 for n in range(sessions)]})
        for ticker, base in (("AAPL", 100.0), ("MSFT", 200.0))
    ]
    stamps = pl.col("ts").cast(pl.Datetime("us", "UTC"))
    return pl.concat(frames).with_columns(stamps, session=pl.col("ts").dt.date())


ROWS = build_rows()
EARLIER = ROWS.filter(pl.col("session") < date(2025, 10, 1))
TABLE = Table(lambda: ROWS)
FIRST, LAST = date(2025, 8, 20), date(2025, 9, 10)


def configured(url: str, **compute: object) -> Settings:
    settings = Settings()
    values = {"backend": "dask", "scheduler": url, "wait_s": 60.0, **compute}
    return replace(settings, compute=replace(settings.compute, **values))  # type: ignore[arg-type]


def task_of(number: int, folder: Path, function: Any = add_up, rows: Rows | None = None, **order: Any) -> Task[Any]:
    told = Order(number=number, folder=folder, **order)
    return Task(name=f"task {number}", function=function, rows=rows or Rows(table=TABLE), order=told)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Hold a cluster of two workers for the tests that kill none."""
    with run_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


# --- rows on their way ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "last"), [(None, None), (FIRST, LAST), (FIRST, FIRST)])
def test_rows_arrive_as_they_were_whatever_their_months(first: date | None, last: date | None) -> None:
    blocks = [block.data for block in divide(ROWS)]
    assert len(blocks) == 3
    assert_frame_equal(join(blocks, first, last), cut_sessions(ROWS, first, last), check_exact=True)


def test_a_block_is_named_by_what_it_holds_and_nothing_else() -> None:
    ours = [block.digest for block in divide(ROWS)]
    again = [block.digest for block in divide(pl.concat([ROWS[:50], ROWS[50:]]))]
    assert again == ours
    changed = ROWS.with_columns(pl.when(pl.col("session") == LAST).then(1.0).otherwise("close").alias("close"))
    assert [a == b for a, b in zip(ours, (block.digest for block in divide(changed)), strict=True)] == [
        True,
        False,
        True,
    ]


def test_a_block_on_the_storage_that_was_changed_is_not_taken(tmp_path: Path) -> None:
    stored = keep_block(next(divide(ROWS)), tmp_path)
    data = stored.read()
    Path(stored.path).write_bytes(data[:-1] + b"?")
    with pytest.raises(ComputeError, match=r"is damaged\. Delete it"):
        stored.read()
    with pytest.raises(ComputeError, match="a worker cannot read"):
        StoredBlock(path=str(tmp_path / "gone"), digest="").read()


# --- the same as here -------------------------------------------------------------------------------------------------


def test_a_cluster_comes_to_what_this_machine_does_and_sends_each_month_once(cluster: Cluster, tmp_path: Path) -> None:
    rows = [Rows(table=TABLE), Rows(table=TABLE, first=FIRST, last=LAST), Rows(table=Table(lambda: EARLIER))]
    tasks = [task_of(number, tmp_path, rows=rows[number % 3]) for number in range(9)]
    with open_engine(Settings(), ignore) as here:
        expected = sorted(result for _, result in here.gather(WANTED).run(tasks))
    with ClusterEngine(configured(cluster.url)) as there:
        team = there.gather(WANTED)
        assert team.at_once == 2
        assert sorted(result for _, result in team.run(tasks)) == expected
        months = {block.digest: len(block.data) for part in (ROWS, EARLIER) for block in divide(part)}
        assert len(months) == 3, "two of them are of both tables"
        assert there.sent_bytes == sum(months.values())
        with ThreadPoolExecutor(2) as threads:
            assert list(threads.map(lambda task: team.call(task, lambda: None), tasks[:4])) == expected[:4]
        assert there.sent_bytes == sum(months.values())


def test_rows_on_a_storage_that_all_see_are_not_sent(cluster: Cluster, tmp_path: Path) -> None:
    with ClusterEngine(configured(cluster.url, storage=str(tmp_path / "store"))) as engine:
        assert engine.gather(WANTED).call(task_of(1, tmp_path), lambda: None) == (1, ROWS["close"].sum())
        assert engine.sent_bytes == 0
    assert len(list((tmp_path / "store").glob("*.arrow"))) == 3


def test_a_trial_of_a_search_on_a_cluster_earns_what_it_does_here(cluster: Cluster, tmp_path: Path) -> None:
    settings = small(tmp_path, market={"watchlist": ("AAPL", "AMD")}, search={"folds": 1})
    inner = InnerExam(
        settings, open_window(settings, as_of="2025-12-15", now=NOW, save=False, on_event=ignore).assemble()
    )
    choice: Choice = {"model.horizon_minutes": 10, "strategy.entry_quantile": 0.7}
    with open_engine(settings, ignore) as here, ClusterEngine(configured(cluster.url)) as there:
        ours, theirs = (inner.try_choice(1, choice, engine.gather(WANTED)) for engine in (here, there))
    assert replace(ours, seconds=0.0) == replace(theirs, seconds=0.0)
    assert ours.trades > 0


FOREST: dict[str, dict[str, object]] = {
    "model": {"n_estimators": 3, "max_depth": 4, "horizon_minutes": "auto", "horizons": (10, 30), "max_rows": 3000},
    "features": {"drop_below": 0.0005},
}


@pytest.mark.parametrize(
    "chosen",
    [
        pytest.param(FOREST, marks=pytest.mark.slow, id="forest"),
        pytest.param({"model": {"per": "ticker", "half_life_days": 30.0}}, id="per_ticker"),
    ],
)
def test_a_fold_on_a_cluster_is_that_of_this_machine_to_the_bit_whatever_it_chooses(
    chosen: dict[str, dict[str, object]], cluster: Cluster, tmp_path: Path
) -> None:
    settings = small(tmp_path, market={"watchlist": ("AAPL", "AMD"), "lookback_days": 32}, **chosen)
    data = open_window(settings, as_of="2025-12-15", now=NOW, save=False, on_event=ignore).assemble()
    part = split(list_sessions(data.frame), exam_sessions=5, embargo_sessions=1)
    trainer = FoldTrainer(data=data, settings=settings, params=complete_params(settings), model_id="one")
    task = trainer._build_task(part, Table(lambda: data.frame))
    with open_engine(settings, ignore) as here, ClusterEngine(configured(cluster.url)) as there:
        ours, theirs = (engine.gather(WANTED).call(task, lambda: None) for engine in (here, there))
    assert ours == theirs
    assert ours.trained is not None
    meta = ours.trained.meta
    assert (meta.max_rows, bool(meta.horizon), bool(meta.ticker_models)) == (
        (3000, True, False) if chosen is FOREST else (0, False, True)
    )


@pytest.mark.parametrize("place", ["here", "cluster"])
def test_the_thread_that_waits_hears_what_each_task_tells(place: str, cluster: Cluster, tmp_path: Path) -> None:
    told: list[tuple[int, Event]] = []
    threads: set[int] = set()

    def hear(number: int, event: Event) -> None:
        threads.add(threading.get_ident())
        if event.total:  # else it waits for a worker, on a loaded machine
            told.append((number, event))
        if event.total and event.done == event.total:
            (tmp_path / f"heard_{number}").touch()

    settings = Settings() if place == "here" else configured(cluster.url)
    tasks = [task_of(number, tmp_path, tell_steps) for number in range(2)]
    with open_engine(settings, ignore) as engine:
        assert sorted(engine.gather(WANTED).run(tasks, hear)) == [(0, 0), (1, 1)]
    steps = [(number, Event("fit", done, 2, f"of {number}")) for number in range(2) for done in (1, 2)]
    assert sorted(told, key=lambda one: (one[0], one[1].done)) == steps
    assert threads == {threading.get_ident()}


def test_a_task_that_waits_for_workers_that_are_busy_is_no_silence(cluster: Cluster, tmp_path: Path) -> None:
    """The watchdog of a scheduled retrain would end it."""
    told: list[str] = []

    def hear(number: int, event: Event) -> None:
        told.append(event.text)
        (tmp_path / "go").touch()

    with ClusterEngine(configured(cluster.url)) as engine:
        task = task_of(1, tmp_path, wait_for="go", seconds=1.0)
        assert list(engine.gather(WANTED).run([task], hear)) == [(0, (1, ROWS["close"].sum()))]
    assert told[0].startswith("waiting for the cluster, ")


def test_a_task_whose_worker_died_and_that_waits_for_another_one_is_no_silence_either(tmp_path: Path) -> None:
    told: list[str] = []
    killed: list[int] = []
    with run_cluster(tmp_path) as mine:
        settings = configured(mine.url, storage=str(tmp_path / "store"))
        with ClusterEngine(settings) as other, ClusterEngine(settings) as engine:
            busy = task_of(9, tmp_path, wait_for="free")
            keeps = threading.Thread(target=lambda: list(other.gather(WANTED).run([busy])))
            keeps.start()
            (begun,) = wait_for(tmp_path, "begun_9_*")
            (idle,) = [worker for worker in mine.workers if not begun.name.endswith(f"_{worker.pid}")]

            def hear(number: int, event: Event) -> None:
                if event.total:
                    idle.kill()
                    killed.append(number)
                elif killed:
                    told.append(event.text)
                    (tmp_path / "heard_1").touch()
                    (tmp_path / "free").touch()

            assert list(engine.gather(WANTED).run([task_of(1, tmp_path, tell_steps)], hear)) == [(0, 1)]
            keeps.join()
    assert told[0].startswith("waiting for the cluster, ")


def test_workers_are_counted_while_tasks_tell_something_all_the_time(cluster: Cluster, tmp_path: Path) -> None:
    """A worker that was lost for a moment then counts as missing from that moment on, not from the first event."""

    class Counted(ClusterEngine):
        def list_workers(self, look: Callable[[], None]) -> frozenset[str]:
            (tmp_path / "asked").touch()
            return super().list_workers(look)

    with Counted(configured(cluster.url)) as engine:
        task = task_of(1, tmp_path, tell_often, wait_for="asked", seconds=20.0)
        assert list(engine.gather(WANTED).run([task], lambda number, event: None)) == [(0, True)]


# --- who dies ---------------------------------------------------------------------------------------------------------


def test_what_a_worker_was_doing_when_it_was_killed_is_done_elsewhere_and_counts_once(tmp_path: Path) -> None:
    with run_cluster(tmp_path) as mine, ClusterEngine(configured(mine.url)) as engine:
        tasks = [task_of(number, tmp_path, wait_for="go") for number in range(6)]
        results: list[tuple[int, float]] = []
        done = threading.Thread(target=lambda: results.extend(r for _, r in engine.gather(WANTED).run(tasks)))
        done.start()
        begun = wait_for(tmp_path, "begun_*", 2)
        victim = mine.workers[0]
        mine_too = [path for path in begun if path.name.endswith(f"_{victim.pid}")]
        assert mine_too, "it has a task, and the only copy of some rows"
        victim.kill()
        (tmp_path / "go").touch()
        done.join()
    assert sorted(results) == [(number, ROWS["close"].sum()) for number in range(6)]
    number = mine_too[0].name.split("_")[1]
    assert len(list(tmp_path.glob(f"begun_{number}_*"))) == 2, "begun a second time"


def test_rows_that_lay_on_a_worker_that_died_and_nowhere_else_are_sent_again(tmp_path: Path) -> None:
    with run_cluster(tmp_path, workers=1) as mine, ClusterEngine(configured(mine.url, wait_s=300.0)) as engine:
        tasks = [task_of(number, tmp_path, wait_for="go") for number in range(3)]
        results: list[tuple[int, float]] = []
        done = threading.Thread(target=lambda: results.extend(r for _, r in engine.gather(WANTED).run(tasks)))
        done.start()
        wait_for(tmp_path, "begun_*")
        months = sum(len(block.data) for block in divide(ROWS))
        assert engine.sent_bytes == months
        mine.workers[0].kill()
        mine.start_worker()
        (tmp_path / "go").touch()
        done.join(PATIENCE_S)
    assert sorted(results) == [(number, ROWS["close"].sum()) for number in range(3)]
    assert engine.sent_bytes == 2 * months


@pytest.mark.slow  # five workers
def test_a_task_that_kills_each_worker_is_given_up_by_name(tmp_path: Path) -> None:
    with run_cluster(tmp_path, workers=0) as mine:
        for _ in range(5):
            mine.start_worker()
        with (
            ClusterEngine(configured(mine.url, storage=str(tmp_path / "store"))) as engine,
            pytest.raises(ComputeError, match="worker died while it did task 3, most likely for lack of memory"),
        ):
            engine.gather(WANTED).call(task_of(3, tmp_path, die), lambda: None)


@pytest.mark.parametrize("function", [lose_its_training, lack_room_once])
def test_a_training_that_lacked_memory_or_room_on_one_worker_is_done_again(
    cluster: Cluster, tmp_path: Path, function: Any
) -> None:
    with ClusterEngine(configured(cluster.url)) as engine:
        assert engine.gather(WANTED).call(task_of(1, tmp_path, function), lambda: None) == "done"


@pytest.mark.parametrize(
    ("function", "kind", "told"),
    [
        (
            always_lose_its_training,
            ComputeError,
            r"task 1 was given up after 5 tries\. The worker tcp://\S+: The training process was killed \(SIGKILL\)\. "
            "Give the workers more",
        ),
        (find_unknown_family, ComputeError, r"The worker tcp://\S+: No model family 'mine' is installed"),
        (fill_the_disk, NoRoomError, r"The worker tcp://\S+: Bars and training rows could not be written to /tmp"),
    ],
    ids=["killed", "no_family", "full_disk"],
)
def test_what_a_worker_lacks_is_no_fault_of_the_task_and_names_the_worker(
    cluster: Cluster, tmp_path: Path, function: Any, kind: type[HftclError], told: str
) -> None:
    """As the fault of a trial it would be kept, and the choice never tried again."""
    with ClusterEngine(configured(cluster.url)) as engine, pytest.raises(kind, match=told):
        engine.gather(WANTED).call(task_of(1, tmp_path, function), lambda: None)


@contextmanager
def open_impatient(mine: Cluster, store: Path) -> Iterator[ClusterEngine]:
    """Give a cluster whose first worker is there, and which is waited for no longer than five seconds later.

    store: where the rows lie, so that no task is cancelled for the lack of them.
    """
    with distributed.Client(mine.url, set_as_default=False) as looker:
        looker.wait_for_workers(1, timeout=PATIENCE_S)
    with ClusterEngine(configured(mine.url, wait_s=5.0, storage=str(store))) as engine:
        yield engine


@pytest.mark.parametrize("dies", ["worker", "scheduler"])
def test_a_result_whose_last_way_here_is_cut_is_waited_for_no_longer_than_is_wanted(dies: str, tmp_path: Path) -> None:
    with run_cluster(tmp_path, workers=1) as mine, open_impatient(mine, tmp_path / "store") as engine:
        results = engine.gather(WANTED).run([task_of(number, tmp_path) for number in range(2)])
        number, _ = next(results)
        with distributed.Client(mine.url, set_as_default=False) as looker:
            wait_until(lambda: any(key.startswith(f"hftcl task {1 - number} ") for key in looker.who_has()))
        if dies == "worker":
            mine.workers[0].kill()
            mine.workers[0].wait()
        else:
            mine.workers[0].send_signal(signal.SIGSTOP)  # so that the result is on its way until then
            threading.Timer(1.0, mine.scheduler.kill).start()
        with pytest.raises(ComputeError, match="has had no worker" if dies == "worker" else r"is gone\. What is done"):
            next(results)


@pytest.mark.slow
def test_work_that_is_left_when_the_way_to_the_scheduler_is_closed_ends_without_a_word(tmp_path: Path) -> None:
    with run_cluster(tmp_path, workers=1) as mine, open_impatient(mine, tmp_path / "store") as engine:
        results = engine.gather(WANTED).run([task_of(0, tmp_path), task_of(1, tmp_path, wait_for="never")])
        assert next(results)[0] == 0
        mine.scheduler.kill()
        wait_until(lambda: engine._client.status == "closed")
        results.close()  # type: ignore[attr-defined]
        (tmp_path / "never").touch()


def test_a_scheduler_that_dies_is_one_plain_sentence(tmp_path: Path) -> None:
    with run_cluster(tmp_path, workers=1) as mine, ClusterEngine(configured(mine.url)) as engine:

        def kill() -> None:
            wait_for(tmp_path, "begun_*")
            mine.scheduler.kill()

        threading.Thread(target=kill).start()
        with pytest.raises(ComputeError) as told:
            list(engine.gather(WANTED).run([task_of(n, tmp_path, wait_for="never") for n in range(3)]))
        (tmp_path / "never").touch()
    assert str(told.value) == (
        f"The Dask scheduler {mine.url} is gone. What is done is kept: run the same command again once it is back."
    )


def test_work_that_is_not_wanted_any_more_is_cancelled(cluster: Cluster, tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop() -> None:
        if list(tmp_path.glob("begun_*")):
            raise StopError

    with ClusterEngine(configured(cluster.url)) as engine:
        team = engine.gather(WANTED)
        with pytest.raises(StopError):
            team.call(task_of(1, tmp_path, wait_for="go"), stop)
        (tmp_path / "go").touch()
        assert team.call(task_of(2, tmp_path), lambda: None)[0] == 2, "and the others go on"


class StandingError(Exception):
    """What waits for processes that stand still is not wanted any more."""


@contextmanager
def stand_still(*processes: "subprocess.Popen[bytes]") -> Iterator[Callable[[], None]]:
    """Stop processes, which go on at the end, or after a minute; give what raises StandingError where it is called for
    the third time while they stand.
    """
    over = threading.Event()
    glances = 0

    def go_on() -> None:
        over.set()
        for process in processes:
            process.send_signal(signal.SIGCONT)

    def look() -> None:
        nonlocal glances
        glances += 1
        if glances >= 3 and not over.is_set():
            raise StandingError

    later = threading.Timer(60, go_on)
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    later.start()
    try:
        yield look
    finally:
        later.cancel()
        go_on()


def test_rows_on_their_way_to_workers_that_stand_still_are_waited_for_no_longer_than_is_wanted(
    cluster: Cluster, tmp_path: Path
) -> None:
    """Dask takes such a worker for dead after five minutes, and a training may have less left."""
    with ClusterEngine(configured(cluster.url)) as engine:
        team = engine.gather(WANTED)
        with stand_still(*cluster.workers) as look, pytest.raises(StandingError):
            list(team.run([task_of(1, tmp_path)], lambda number, event: None, look))
        assert team.call(task_of(2, tmp_path), lambda: None)[0] == 2, "and where it is wanted they are sent again"
    assert list(tmp_path.glob("begun_1_*")) == []


def test_a_worker_that_stands_still_is_named_after_the_time_that_may_be_waited(cluster: Cluster) -> None:
    """As long as it takes a person to lose patience: Dask itself waits for five minutes."""
    with ClusterEngine(configured(cluster.url)) as engine:
        addresses = sorted(engine.list_workers(lambda: None))
    told = r"The worker (tcp://[\d.:]+) has not answered for 5 s \(\[compute\] wait_s\)\. Stop it, or start it again, "
    with stand_still(cluster.workers[0]), pytest.raises(ComputeError, match=told) as failed:
        ClusterEngine(configured(cluster.url, wait_s=5.0)).__enter__()
    named = re.search(told, str(failed.value))
    assert named is not None
    assert named[1] in addresses
    assert str(failed.value).count("tcp://") == 1, "the other one answers"


def test_a_scheduler_that_stands_still_is_told_when_it_is_joined(cluster: Cluster) -> None:
    with distributed.Client(cluster.url, set_as_default=False) as client, stand_still(cluster.scheduler):
        told = r"The Dask scheduler tcp://\S+ has not answered for 3 s"
        with pytest.raises(ComputeError, match=told):
            require_fit_workers(client, cluster.url, 3.0)


def test_a_scheduler_that_dies_while_it_is_joined_is_one_plain_sentence(tmp_path: Path) -> None:
    with (
        run_cluster(tmp_path, workers=1) as mine,
        distributed.Client(mine.url, set_as_default=False, timeout=5) as client,
    ):
        mine.scheduler.kill()
        mine.scheduler.wait()
        told = f"The Dask scheduler {mine.url} (was lost while it was asked|has not answered for 3 s)"
        with pytest.raises(ComputeError, match=told):
            require_fit_workers(client, mine.url, 3.0)


def test_a_scheduler_that_stands_still_is_asked_for_its_workers_no_longer_than_is_wanted(cluster: Cluster) -> None:
    with ClusterEngine(configured(cluster.url)) as engine:
        engine.gather(WANTED)
        with stand_still(cluster.scheduler) as look, pytest.raises(StandingError):
            engine.list_workers(look)
        assert len(engine.list_workers(lambda: None)) == 2


def test_a_training_that_is_not_wanted_any_more_ends_on_its_worker(cluster: Cluster, tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    pids: list[int] = []

    def stop() -> None:
        for begun in tmp_path.glob("begun_*"):  # of its worker: an idle process of the other one lives on
            pids.extend(list_trainers(int(begun.name.rpartition("_")[2])))
        if pids:
            raise StopError

    with ClusterEngine(configured(cluster.url)) as engine, pytest.raises(StopError):
        engine.gather(WANTED).call(task_of(1, tmp_path, train_long), stop)
    wait_until_ended(pids)


def test_a_training_that_begins_after_its_task_was_cancelled_ends_too(cluster: Cluster, tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop() -> None:
        if list(tmp_path.glob("begun_*")):
            raise StopError

    with ClusterEngine(configured(cluster.url)) as engine, pytest.raises(StopError):
        engine.gather(WANTED).call(task_of(1, tmp_path, train_when_cancelled), stop)
    wait_for(tmp_path, "over")


def test_a_task_that_computes_when_it_is_not_wanted_any_more_ends_at_its_next_block(
    cluster: Cluster, tmp_path: Path
) -> None:
    """Else it would gather rows for a training that ends as it begins, and keep the worker from the next command."""

    class StopError(Exception):
        pass

    def stop() -> None:
        if list(tmp_path.glob("begun_*")):
            raise StopError

    with ClusterEngine(configured(cluster.url)) as engine:
        team = engine.gather(WANTED)
        with pytest.raises(StopError):
            team.call(task_of(1, tmp_path, ask_often, wait_for="go"), stop)
        try:
            wait_for(tmp_path, "ended")
        finally:
            (tmp_path / "go").touch()

        def let_go() -> None:
            if list(tmp_path.glob("begun_2_*")):
                (tmp_path / "on").touch()

        assert team.call(task_of(2, tmp_path, ask_often, wait_for="on"), let_go) is None, "one that is wanted goes on"


@pytest.mark.parametrize("place", ["here", "cluster"])
def test_tasks_that_tell_nothing_end_where_they_are_not_wanted_any_more(
    place: str, cluster: Cluster, tmp_path: Path
) -> None:
    class StopError(Exception):
        pass

    threads: set[int] = set()

    def stop() -> None:
        threads.add(threading.get_ident())
        if list(tmp_path.glob("begun_*")):
            raise StopError

    settings = Settings() if place == "here" else configured(cluster.url)
    with open_engine(settings, ignore) as engine:
        with pytest.raises(StopError):
            list(engine.gather(WANTED).run([task_of(1, tmp_path, ask_often, wait_for="go")], require_going=stop))
        wait_for(tmp_path, "ended")
    assert threads == {threading.get_ident()}


def test_the_package_of_a_family_is_compared_by_name_and_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "scipy" in list_versions(), "by which a vote is weighed"
    assert not [name for name in list_versions() if "family" in name], "ours are of the hashed code"
    info = tmp_path / "mine_of_us-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine-of-us\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text("[hftcl.families]\nmine = mine_of_us:Mine\n")
    without = list_versions()
    monkeypatch.syspath_prepend(tmp_path)
    assert describe_difference(list_versions(), without) == "the family mine absent, not mine-of-us 1.5"


# --- who is refused ---------------------------------------------------------------------------------------------------

OLDER = """
import importlib.metadata as real

asked = real.version
real.version = lambda name: "2.0.0" if name == "numpy" else asked(name)
"""


def test_a_worker_of_another_version_is_refused_by_name_before_any_task_and_does_none_where_it_comes_later(
    tmp_path: Path,
) -> None:
    (tmp_path / "sitecustomize.py").write_text(OLDER)
    with run_cluster(tmp_path, workers=1) as mine, ClusterEngine(configured(mine.url)) as engine:
        mine.start_worker(path=(tmp_path,))
        with distributed.Client(mine.url, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=PATIENCE_S)
        with pytest.raises(ComputeError, match=r"The worker tcp://127.0.0.1:\d+ has numpy 2.0.0, not "):
            ClusterEngine(configured(mine.url)).__enter__()
        mine.workers[0].kill()
        with pytest.raises(ComputeError, match=r"has numpy 2.0.0, not .* or stop it"):
            engine.gather(WANTED).call(task_of(1, tmp_path), lambda: None)
    assert list(tmp_path.glob("begun_*")) == []


def test_a_cluster_without_a_worker_and_one_that_is_not_there_are_told(tmp_path: Path) -> None:
    with run_cluster(tmp_path, workers=0) as mine:
        settings = configured(mine.url, wait_s=3.0)  # half a second is too short to connect in on a loaded machine
        with pytest.raises(ComputeError, match=r"has no worker\. Start one, such as `dask worker tcp://"):
            ClusterEngine(settings).__enter__()
    with pytest.raises(ComputeError, match=r"The Dask scheduler tcp://.* does not answer.* Start it, or set"):
        ClusterEngine(configured(mine.url, wait_s=0.5)).__enter__()


def test_without_distributed_one_sentence_names_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ComputeError, match=r"is an extra: pip install 'hftcl\[dask\]'"):
        ClusterEngine(configured("tcp://127.0.0.1:1")).__enter__()


@pytest.mark.parametrize(
    ("compute", "told"),
    [
        ({"scheduler_file": "/nowhere/scheduler.json"}, "scheduler_file /nowhere/scheduler.json cannot be read"),
        ({"scheduler": "tls://127.0.0.1:1"}, "wants certificates, and none are named"),
        ({"scheduler": "tls://127.0.0.1:1", "tls_cert": "/nowhere/cert.pem"}, "there is no file /nowhere/cert.pem"),
    ],
    ids=["scheduler_file", "no_certificate", "no_file"],
)
def test_a_way_to_the_cluster_that_does_not_exist_is_told(compute: dict[str, str], told: str) -> None:
    with pytest.raises(ComputeError, match=told):
        ClusterEngine(configured(**{"url": "", **compute})).__enter__()


def test_the_closes_that_holding_is_worth_stand_in_the_order_of_the_tickers() -> None:
    """A group has no order of its own: from one run to the next the last digit of buy and hold was another one."""
    days = [Session(day=day, start=datetime(day.year, day.month, day.day, tzinfo=UTC)) for day in (FIRST, LAST)]
    frame = pl.concat([ROWS.with_columns(ticker=pl.lit(f"T{n:02}"), close=float(n), regular=True) for n in range(40)])
    assert _collect_closes(frame, days).tolist() == [list(range(40))] * 3


# --- a cluster of this machine ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """What a cluster of this machine did from its start, in a thread that then ended, to its end.

    told: of each worker and of the scheduler, its settings of what it notes down about itself. left: in the folder of
    temporary files, once it had ended.
    """

    started: list[int]
    result: tuple[int, float]
    below: list[int]
    has_forkserver: bool
    told: list[list[Any]]
    written: list[Path]
    left: list[Path]


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Life:
    """Return the life of a cluster of two workers that did a task."""
    names = ("worker.profile.enabled", "admin.tick.interval", "admin.system-monitor.interval")

    def read_settings() -> list[Any]:
        import dask

        return [dask.config.get(f"distributed.{name}") for name in names]

    engine: Any
    with TemporaryDirectory(prefix="h") as folder, pytest.MonkeyPatch.context() as patch:
        # short: the name of a socket below it has 107 bytes at most
        patch.setenv("TMPDIR", folder)
        patch.setattr("tempfile.tempdir", folder)
        engine = ClusterEngine(configured("", jobs=2))
        opener = threading.Thread(target=engine.__enter__)
        opener.start()
        opener.join()
        try:
            descendants = list_descendants(os.getpid())
            started = [pid for pid in descendants if b"hftcl.compute.local_cluster" in read_command(pid)]
            result = engine.gather(WANTED).call(task_of(1, tmp_path_factory.mktemp("life")), lambda: None)
            below = list_descendants(started[0])
            has_forkserver = any(b"forkserver" in read_command(pid) for pid in below)
            told = [*engine._client.run(read_settings).values(), engine._client.run_on_scheduler(read_settings)]
            written = [*Path(folder).iterdir()]
        finally:
            engine.__exit__()
        return Life(
            started=started,
            result=result,
            below=below,
            has_forkserver=has_forkserver,
            told=told,
            written=written,
            left=[*Path(folder).iterdir()],
        )


def test_a_cluster_of_this_machine_starts_before_it_is_asked_and_outlives_the_thread_that_opened_it(life: Life) -> None:
    assert len(life.started) == 1
    assert life.result == (1, ROWS["close"].sum())
    assert life.has_forkserver
    wait_until_ended([*life.started, *life.below])


def test_a_cluster_of_this_machine_leaves_no_file_when_it_ends(life: Life) -> None:
    assert life.written
    assert life.left == []


def test_a_cluster_of_this_machine_keeps_no_notes_of_itself_while_others_compute(life: Life) -> None:
    """Without these settings its idle processes took a seventh of a core."""
    assert life.told == [[False, "1s", "10s"]] * 3


def test_a_cluster_of_this_machine_does_no_more_at_once_than_there_are_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    with ClusterEngine(configured("", jobs=3)) as engine:
        team = engine.gather(WANTED)
        done = list(team.run([task_of(number, tmp_path, work_alone, seconds=0.2) for number in range(6)]))
        assert len(engine.list_workers(lambda: None)) == 3
        asked = Wanted(rows_bytes=0, stage="search", workers=2)
        assert engine.gather(asked).at_once == 2, "[search] workers is what a person wants"
    assert [number for number, _ in done] == list(range(6))
    assert team.at_once == 1


class Watched(ClusterEngine):
    """A cluster of which it is known when each task that was sent has ended."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.ended: list[threading.Event] = []

    def submit(self, task: Task[Any], topic: str, look: Callable[[], None]) -> Any:
        future = super().submit(task, topic, look)
        self.ended.append(threading.Event())
        future.add_done_callback(lambda _, one=self.ended[-1]: one.set())
        return future

    def wait_for_all(self) -> None:
        assert all(one.wait(PATIENCE_S) for one in self.ended)


@pytest.mark.parametrize("most_sent", [1, 2, None])
def test_all_results_that_are_here_are_given_before_it_is_told_that_the_next_task_cannot_be_sent(
    most_sent: int | None, cluster: Cluster, tmp_path: Path
) -> None:
    def find_no_room() -> pl.DataFrame:
        engine.wait_for_all()
        raise NoRoomError("Rows could not be written to /mnt: No space left on device.")

    tasks = [*(task_of(number, tmp_path) for number in range(most_sent or 3))]
    last = task_of(9, tmp_path, rows=Rows(table=Table(find_no_room)))
    given: list[int] = []

    def take() -> None:
        for number, _ in ClusterTeam(engine=engine, at_once=1, most_sent=most_sent).run([*tasks, last]):
            given.append(number)

    with Watched(configured(cluster.url)) as engine, pytest.raises(NoRoomError, match="No space left"):
        take()
    assert sorted(given) == list(range(len(tasks)))


def test_all_results_that_are_here_are_given_before_the_fault_of_another_task_is_raised(
    cluster: Cluster, tmp_path: Path
) -> None:
    """As the trainings of a backtest, each of which is kept as soon as it is given."""
    tasks = [
        task_of(0, tmp_path),
        task_of(1, tmp_path, fail, wait_for="go"),
        task_of(2, tmp_path, wait_for="failed", seconds=1.0),  # its result comes after the fault, mostly
    ]
    given: list[int] = []

    def take() -> None:
        # the last one is sent once the first has come back: else it might keep a worker from that
        for number, _ in ClusterTeam(engine=engine, at_once=1, most_sent=2).run(tasks):
            given.append(number)
            (tmp_path / "go").touch()
            engine.wait_for_all()

    with Watched(configured(cluster.url)) as engine, pytest.raises(ValueError, match="a feature without variation"):
        take()
    assert sorted(given) == [0, 2]


def test_all_results_that_are_here_are_given_where_a_task_that_was_lost_cannot_be_sent_again(
    cluster: Cluster, tmp_path: Path
) -> None:
    """As where the disk of this machine has become full since, and a worker was killed."""

    class Full(Watched):
        def submit(self, task: Task[Any], topic: str, look: Callable[[], None]) -> Any:
            if len(self.ended) == 2:
                (tmp_path / "go").touch()  # so the one that is lost has ended before the other
                self.wait_for_all()
                raise NoRoomError("Rows could not be written to /mnt: No space left on device.")
            return super().submit(task, topic, look)

    (tmp_path / "lost").mkdir()  # a folder of its own, where none has begun before
    tasks = [task_of(0, tmp_path / "lost", lose_its_training), task_of(1, tmp_path, wait_for="go")]
    given: list[int] = []

    def take() -> None:
        for number, _ in ClusterTeam(engine=engine, at_once=1).run(tasks):
            given.append(number)

    with Full(configured(cluster.url)) as engine, pytest.raises(NoRoomError, match="No space left"):
        take()
    assert given == [1]


def test_a_cluster_that_is_named_sees_all_tasks_at_once_so_that_it_can_grow(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    tasks = [task_of(number, tmp_path, wait_for="go") for number in range(7)]
    engine: Any

    def count_sent() -> int:
        def count(dask_scheduler: Any) -> int:
            return sum(str(key).startswith("hftcl task") for key in dask_scheduler.tasks)

        return int(engine._client.run_on_scheduler(count))

    with ClusterEngine(configured(cluster.url)) as engine, ThreadPoolExecutor(1) as thread:
        coming = thread.submit(lambda: list(engine.gather(WANTED).run(tasks)))
        try:
            wait_until(lambda: count_sent() == 7)
        finally:
            (tmp_path / "go").touch()
        assert len(wait_for_result(coming)) == 7


def test_a_cluster_of_this_machine_that_nothing_was_asked_of_ends_before_it_is_up() -> None:
    before = set(list_descendants(os.getpid()))
    with ClusterEngine(configured("", jobs=2)):
        started = set(list_descendants(os.getpid())) - before
    assert started
    wait_until_ended([*started])


def test_a_cluster_of_this_machine_that_nothing_was_asked_of_leaves_no_semaphore() -> None:
    def find_semaphores() -> set[Path]:
        """Return those that a process of the cluster has open, which /proc/PID/maps names."""
        lines = [line for pid in set(list_descendants(os.getpid())) - before for line in read_maps(pid)]
        return {Path(line.split()[5]) for line in lines if "/dev/shm/sem.mp-" in line}  # noqa: S108 - no file of ours

    before = set(list_descendants(os.getpid()))
    with ClusterEngine(configured("", jobs=1)):
        wait_until(lambda: bool(find_semaphores()))
        found, started = find_semaphores(), set(list_descendants(os.getpid())) - before
    wait_until_ended([*started])
    assert [path for path in found if path.exists()] == []


def read_maps(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/maps").read_text().splitlines()
    except OSError:  # it has ended
        return []
