"""Tasks on a Dask cluster: what is sent, what is done again, and what ends the command.

A worker that dies takes its tasks and blocks with it. Dask runs the tasks elsewhere, but those that wait for a block
that lay there alone it cancels (https://github.com/dask/distributed/issues/3149): the block is sent again, then they
are. A result is taken once, and no task counts before its result is here.
"""

import asyncio
import pickle
import threading
import time
import uuid
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, Self, TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary

from hftcl.compute.connection import connect, find_scheduler, require_fit_workers, require_installed
from hftcl.compute.cores import count_usable_cores
from hftcl.compute.crew import count_cores
from hftcl.compute.local_cluster import StartingCluster, start_local_cluster
from hftcl.compute.on_worker import explain_import, read_told, run_task
from hftcl.compute.parcels import Block, choose_opener, divide_rows, keep_block
from hftcl.compute.tasks import Arrays, OnTold, Rows, Table, Task, Wanted
from hftcl.compute.versions import describe_versions
from hftcl.errors import ComputeError, NoRoomError, TrainingKilledError, split_remedy
from hftcl.events import Event, RequireGoing, go_on
from hftcl.settings import Settings

R = TypeVar("R")

_GLANCE_S: Final = 0.5  # between two looks whether the work is still wanted
_LOOK_S: Final = 5.0  # between two questions whether the scheduler has a worker
_STAGE: Final = "cluster"  # of what is told while tasks wait for a worker
# Times that a task is begun: a worker that dies takes blocks with it for which others wait, and they are no worse.
_TRIES: Final = 5
# Of those that stream, for each that is at work: while it computes, the rows of the next one travel.
_AHEAD: Final = 2
_LOST: Final = frozenset({"cancelled", "lost"})  # statuses of a block whose worker died
_GONE: Final = "What is done is kept: run the same command again once it is back."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sent:
    """Where a block is: a future of Dask's, or its place on the storage. first, last: its sessions; None of arrays."""

    digest: str
    place: Any
    first: date | None
    last: date | None

    @property
    def is_lost(self) -> bool:
        return getattr(self.place, "status", "") in _LOST

    def is_read(self, rows: Rows | Arrays) -> bool:
        """Whether it holds some of these rows."""
        if isinstance(rows, Arrays) or None in (rows.first, rows.last, self.first, self.last):
            return True
        return bool(self.last >= rows.first and self.first <= rows.last)  # type: ignore[operator]


class ClusterEngine:
    """The cluster that the settings name, or one of this machine; a context."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = ExitStack()
        self._lock = threading.RLock()
        self._client: Any = None
        self._starting: StartingCluster | None = None
        self._threads: dict[str, int] = {}
        self._tables: WeakKeyDictionary[Table | Arrays, list[_Sent]] = WeakKeyDictionary()
        self._futures: WeakValueDictionary[str, Any] = WeakValueDictionary()
        self.url = ""
        self.sent_bytes = 0  # of blocks, as they travel

    def __enter__(self) -> Self:
        """Connect, so that a cluster that cannot work is told before bars are collected. Raises ComputeError.

        One of this machine starts meanwhile.
        """
        require_installed()
        address = find_scheduler(self._settings.compute)
        with self._stack:
            if address is None:
                cluster = start_local_cluster(count_cores(self._settings))
                self._starting = self._stack.enter_context(cluster)
            else:
                self._join(address)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def _join(self, address: Any) -> None:
        wait_s = self._settings.compute.wait_s
        self.url = address.url
        self._client = self._stack.enter_context(connect(address, wait_s))
        self._threads = require_fit_workers(self._client, self.url, wait_s)

    def gather(self, wanted: Wanted) -> "ClusterTeam":
        """Return a team of every worker. Raises ComputeError where those of this machine do not start."""
        with self._lock:
            if self._client is None and self._starting is not None:
                self._join(self._starting.find_address())
        threads = sum(self._threads.values())
        if self._starting is None:
            at_once = wanted.count_at_once(threads)
            return ClusterTeam(engine=self, at_once=at_once, most_sent=_AHEAD * at_once if wanted.streams else None)
        # its workers share the cores of this machine: more trainings than those would take turns, and the memory of all
        at_once = wanted.count_at_once(min(threads, count_usable_cores()))
        return ClusterTeam(engine=self, at_once=at_once, most_sent=at_once)

    def submit(self, task: Task[Any], topic: str, look: Callable[[], None]) -> Any:
        """Send a task, with the blocks of its rows that are not there yet, and return Dask's future of it.

        topic: under which it tells of its steps, see `listen`; "" where none is to be told. `look` is called before
        each block and while it travels; where it raises, that block is not sent.
        """
        blocks = self._send(task.rows, look)
        # packed here: then a worker of other versions, which might not even open it, says so
        packed = pickle.dumps((task.function, choose_opener(task.rows), task.order, topic))
        key = f"hftcl {task.name} {uuid.uuid4().hex}"  # of its own: what another command asked for is not this
        return self._client.submit(run_task, blocks, packed, describe_versions(), key=key, pure=False)

    def _send(self, rows: Rows | Arrays, look: Callable[[], None]) -> list[Any]:
        source = rows if isinstance(rows, Arrays) else rows.table
        with self._lock:
            sent = self._tables.get(source)
            if sent is None or any(block.is_lost for block in sent):
                here = {block.digest: block for block in sent or () if not block.is_lost}
                sent = [here.get(block.digest) or self._place(block, look) for block in divide_rows(rows)]
                self._tables[source] = sent
        return [block.place for block in sent if block.is_read(rows)]

    def _place(self, block: Block, look: Callable[[], None]) -> _Sent:
        look()
        return _Sent(first=block.first, last=block.last, digest=block.digest, place=self._find_place(block, look))

    def _find_place(self, block: Block, look: Callable[[], None]) -> Any:
        folder, digest = self._settings.compute.storage, block.digest
        if folder:
            return keep_block(block, Path(folder))
        future = self._futures.get(digest)  # of another table: the windows of two weeks share whole months
        if future is None or future.status in _LOST:
            key = f"hftcl-rows-{digest}-{uuid.uuid4().hex[:8]}"  # a block that was lost has its name still
            self.sent_bytes += len(block.data)
            future = self._futures[digest] = self._scatter(key, block.data, look)
        return future

    def _scatter(self, key: str, data: bytes, look: Callable[[], None]) -> Any:
        """Send a block to one worker; to another one where that has just died, which the scheduler may not know yet.

        A worker that has stopped answers nothing, and Dask takes it for dead after five minutes.
        """
        began = time.monotonic()
        while True:
            sending = self._await(self._client.scatter({key: data}, asynchronous=True), look)
            try:
                return sending.result(0)[key]
            except OSError:  # CommClosedError and TimeoutError are
                self.require_running()
                self.require_worker(time.monotonic() - began)
                look()
                time.sleep(_GLANCE_S)

    def _await(
        self, coroutine: Coroutine[Any, Any, R], look: Callable[[], None], *, is_shared: bool = False
    ) -> "Future[R]":
        """Return what the client's own loop came to, once it is done; `look` is called at each glance until then.

        Where `look` raises, the coroutine is cancelled, unless others may wait for the same.
        """
        coming = asyncio.run_coroutine_threadsafe(coroutine, self._client.loop.asyncio_loop)
        try:
            while not wait([coming], timeout=_GLANCE_S).done:
                look()
        finally:
            if not is_shared:
                coming.cancel()  # of one that is done it says nothing
        return coming

    def fetch(self, future: Any, look: Callable[[], None]) -> Any:
        """Return the result of a task that has ended, or raise what it raised; `look` is called while it travels.

        Raises ComputeError where the scheduler is gone. Only the waiting ends where `look` raises: Dask gathers what
        several threads want in one go, and who cancels its own share, as a timeout does, cancels all of it.
        """
        # at glances: a result whose last worker dies now is waited for until a worker has it again
        coming = self._await(self._client.gather(future, asynchronous=True), look, is_shared=True)
        try:
            return coming.result(0)
        except OSError as error:
            if future.status == "error":  # the task's own
                raise
            raise self._describe_loss() from error

    def cancel(self, futures: Sequence[Any]) -> None:
        """Cancel tasks; without a scheduler there is none to tell."""
        from distributed.client import ClosedClientError

        if futures and self._client.status == "running":
            with suppress(ClosedClientError):  # it has closed since
                self._client.cancel(list(futures), force=True)

    @contextmanager
    def listen(self, on_told: Callable[[str, str, Event], None]) -> Iterator[str]:
        """Give a topic; within, `on_told` is called with the key of a task, its worker, and what it tells under it.

        In a thread of Dask's. Telling is a courtesy: nothing may hang on what is told, or how often.
        """
        from distributed.client import ClosedClientError

        self.require_running()
        topic = f"hftcl {uuid.uuid4().hex}"  # one for all tasks: the scheduler keeps each for as long as it runs
        self._client.subscribe_topic(topic, lambda event: on_told(*read_told(event[1])))
        try:
            yield topic
        finally:
            with suppress(ClosedClientError, OSError):  # without a scheduler there is none to tell
                self._client.unsubscribe_topic(topic)

    def require_running(self) -> None:
        """Raise ComputeError where the scheduler is gone."""
        if self._client.status != "running":
            raise self._describe_loss()

    def _describe_loss(self) -> ComputeError:
        return ComputeError(f"The Dask scheduler {self.url} is gone. {_GONE}")

    def list_workers(self, look: Callable[[], None]) -> frozenset[str]:
        """Return the addresses of the workers that are there. Raises ComputeError where the scheduler is gone.

        `look` is called while the scheduler does not answer.
        """
        self.require_running()
        asked = self._await(self._client.nthreads(asynchronous=True), look)
        try:
            return frozenset(asked.result(0))
        except OSError as error:
            raise self._describe_loss() from error

    def require_worker(self, missing_s: float) -> None:
        """Raise ComputeError where none has been there for longer than a person wants to wait."""
        if missing_s > self._settings.compute.wait_s:
            raise ComputeError(
                f"The Dask scheduler {self.url} has had no worker for {missing_s:.0f} s. Start one. {_GONE}"
            )


@dataclass(slots=True)
class _Begun:
    """A task that was sent: its number, Dask's future, how often it was begun, and the worker that told of it last."""

    number: int
    task: Task[Any]
    future: Any
    tries: int = 1
    told_by: str = ""


class _Lost:
    """In the place of a result: the task has to be begun again."""


@dataclass(slots=True, kw_only=True)
class ClusterTeam:
    """Every worker of the cluster. A result comes back once, however often its task was begun.

    most_sent: how many tasks of `run` are there at the same time, the others wait here; None for all.
    """

    engine: ClusterEngine = field(repr=False)
    at_once: int
    most_sent: int | None = None

    def call(self, task: Task[R], require_going: Callable[[], None]) -> R:
        """Wait for what a task comes to; one that is not wanted any more is cancelled."""
        for _, result in _Watch(self.engine, require_going).work([task]):
            return result  # type: ignore[no-any-return]
        raise AssertionError("a task without an end")

    def run(
        self, tasks: Iterable[Task[R]], on_told: OnTold | None = None, require_going: RequireGoing = go_on
    ) -> Iterator[tuple[int, R]]:
        """Send tasks, all of them so that a cluster that grows with its work sees them, unless `most_sent` limits it;
        yield (number, result) as they end.
        """
        watch = _Watch(self.engine, require_going, self.most_sent)
        yield from watch.work(tasks) if on_told is None else watch.work_aloud(tasks, on_told)


class _Watch:
    """Waits for tasks that were sent, begins again what a dead worker lost, and cancels what is left at the end."""

    def __init__(self, engine: ClusterEngine, require_going: RequireGoing, most_sent: int | None = None) -> None:
        self._engine = engine
        self._require_going = require_going
        self._most_sent = most_sent
        self._ended: SimpleQueue[Any] = SimpleQueue()  # futures, and (key, worker, event) of what is told
        self._topic = ""
        self._on_told: OnTold | None = None
        self._begun: dict[str, _Begun] = {}
        self._looked_at = self._worked_at = self._heard_at = time.monotonic()

    def work_aloud(self, tasks: Iterable[Task[Any]], on_told: OnTold) -> Iterator[tuple[int, Any]]:
        """As `work`; `on_told` hears what the tasks tell of their steps."""
        self._on_told = on_told
        with self._engine.listen(lambda *told: self._ended.put(told)) as self._topic:
            yield from self.work(tasks)

    def work(self, tasks: Iterable[Task[Any]]) -> Iterator[tuple[int, Any]]:
        left = iter(enumerate(tasks))
        try:
            self._begin_next(left, self._most_sent)
            while self._begun:
                try:
                    future = self._ended.get(timeout=_GLANCE_S)
                except Empty:
                    self._look()
                    continue
                if isinstance(future, tuple):
                    self._hear(*future)
                    self._look()  # by the clock: tasks may tell something all the time
                    continue
                ended = self._begun.pop(future.key)
                result = self._fetch(ended)
                self._worked_at = self._heard_at = time.monotonic()
                if isinstance(result, _Lost):
                    self._begin(ended.number, ended.task, ended.tries + 1)
                    continue
                try:
                    self._begin_next(left, 1)  # before the caller does its part with the result
                except Exception:
                    yield ended.number, result
                    raise
                yield ended.number, result
        except Exception:
            yield from self._take_ended()  # what one fault ends is not to cost what others came to before it
            raise
        finally:
            self._engine.cancel([begun.future for begun in self._begun.values()])
            self._begun.clear()  # with its task a block of rows is let go, and Dask holds on to who heard of a topic

    def _begin_next(self, left: Iterator[tuple[int, Task[Any]]], most: int | None) -> None:
        for number, task in islice(left, most):
            self._begin(number, task, 1)

    def _take_ended(self) -> Iterator[tuple[int, Any]]:
        """Yield the results that are there, up to the first one that cannot be had: a fault ends the work already."""
        for ended in [begun for begun in self._begun.values() if begun.future.status == "finished"]:
            del self._begun[ended.future.key]
            try:
                result = self._fetch(ended)
            except Exception:  # noqa: BLE001 - the fault that ended the work is the one to tell
                return
            if not isinstance(result, _Lost):
                yield ended.number, result

    def _hear(self, key: str, worker: str, event: Event) -> None:
        if self._on_told is not None and key in self._begun:  # else it has ended, or was begun again
            self._heard_at, self._begun[key].told_by = time.monotonic(), worker
            self._on_told(self._begun[key].number, event)

    def _begin(self, number: int, task: Task[Any], tries: int) -> None:
        future = self._engine.submit(task, self._topic, self._look)
        self._begun[future.key] = _Begun(number, task, future, tries)
        future.add_done_callback(self._ended.put)

    def _look(self) -> None:
        """Raise what ends the work: it is not wanted any more, the scheduler is gone, or there is no worker."""
        self._require_going()
        self._engine.require_running()
        now = time.monotonic()
        if now - self._looked_at >= _LOOK_S:
            self._looked_at = now
            if workers := self._engine.list_workers(self._require_going):
                self._worked_at = now
                self._tell_waiting(now, workers)
            self._engine.require_worker(now - self._worked_at)

    def _tell_waiting(self, now: float, workers: frozenset[str]) -> None:
        """Tell that tasks wait for workers that others keep busy, so that a watchdog does not take it for a fault.

        Of one that has begun and tells nothing more it hears nothing from here; one whose worker died waits as before,
        for Dask itself begins it again, under the same key.
        """
        silent_s = now - self._heard_at
        begun = any(one.told_by in workers for one in self._begun.values())
        if self._on_told is not None and self._begun and silent_s >= _LOOK_S and not begun:
            number = next(iter(self._begun.values())).number
            self._on_told(number, Event(_STAGE, text=f"waiting for the cluster, {silent_s:.0f} s"))

    def _fetch(self, ended: _Begun) -> Any:
        """Return the result, once; `_Lost` where a worker took the task with it. Raises what it raised."""
        from distributed.scheduler import KilledWorker

        try:
            return self._engine.fetch(ended.future, self._look)
        except (CancelledError, TrainingKilledError) as fault:
            self._engine.require_running()
            if ended.tries >= _TRIES:
                raise _give_up(ended.task, fault) from fault
            return _Lost()
        except NoRoomError:  # on the disk of one worker; another one may have it
            if ended.tries >= _TRIES:
                raise
            return _Lost()
        except KilledWorker as fault:  # Dask has tried several already
            raise _give_up(ended.task, fault) from fault
        except ImportError as error:  # of a worker that came after the others
            raise ComputeError(explain_import("A worker", error)) from error


def _give_up(task: Task[Any], fault: BaseException) -> ComputeError:
    """Return why a task is not begun again: the cluster is at fault, where alone on this machine the task might be."""
    remedy = "Give the workers more, or fewer threads each."
    if isinstance(fault, TrainingKilledError):  # `run_task` names the worker
        happened, _ = split_remedy(str(fault))
        return ComputeError(f"{task.name} was given up after {_TRIES} tries. {happened} {remedy}")
    return ComputeError(
        f"Again and again a worker died while it did {task.name}, most likely for lack of memory. {remedy}"
    )
