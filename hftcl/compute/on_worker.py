"""What runs on a worker of a Dask cluster: the check of its versions, then a task, which ends when it is cancelled."""

import pickle
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Final

from hftcl.compute.parcels import StoredBlock
from hftcl.compute.tasks import Bench
from hftcl.compute.versions import describe_difference, describe_versions
from hftcl.errors import ComputeError, ConfigError, NoRoomError, TrainingKilledError
from hftcl.events import Event, Level, RequireGoing, ignore
from hftcl.model.training import TrainingPool

_GLANCE_S: Final = 0.5  # how long a task that was cancelled can go on
_of_thread = threading.local()  # a worker runs a task in each of its threads: their processes are kept warm apart


def run_task(
    blocks: Sequence[bytes | StoredBlock],
    packed: bytes,
    expected: Mapping[str, str],
) -> Any:
    """Return what a task comes to.

    packed: its function, what makes its rows of the blocks, its order, and the topic of Dask's events under which it
    tells of its steps, "" for none; only a worker of the same versions opens it.
    Raises ComputeError on another one, and where something is missing here; TrainingKilledError and NoRoomError name
    the worker.
    """
    from distributed import get_worker

    worker = get_worker()
    difference = describe_difference(expected, describe_versions())
    if difference:
        raise ComputeError(refuse(worker.address, difference))
    function, open_rows, order, topic = pickle.loads(packed)  # noqa: S301 - from who may run anything here anyway
    pool, key = _take_pool(), worker.get_current_task()

    def tell(event: Event) -> None:
        worker.log_event(topic, {"key": key, **asdict(event), "level": event.level.value})

    with _name_worker(worker.address), _end_when_cancelled(worker, key, pool) as require_going:
        bench = Bench(pool=pool, jobs=1, on_event=tell if topic else ignore, require_going=require_going)
        return function(open_rows(blocks), order, bench)


def read_told(message: Mapping[str, Any]) -> tuple[str, str, Event]:
    """Return the key of a task, the worker's address, which the scheduler adds, and what the task told."""
    fields = {name: message[name] for name in ("stage", "done", "total", "text")}
    return message["key"], message["worker"], Event(**fields, level=Level(message["level"]))


@contextmanager
def _name_worker(address: str) -> Iterator[None]:
    """Say which worker is at fault where the task is not: another one might do it."""
    try:
        yield
    except TrainingKilledError as fault:
        raise TrainingKilledError(f"The worker {address}: {fault}") from fault
    except NoRoomError as fault:  # it is that machine's disk that is full
        raise NoRoomError(f"The worker {address}: {fault}") from fault
    except ConfigError as fault:  # the settings were judged before they travelled: what they name is not installed here
        raise ComputeError(f"The worker {address}: {fault}") from fault


def refuse(address: str, difference: str) -> str:
    """Return why a worker gets no task."""
    return (
        f"The worker {address} has {difference}: its results would be others. Install there what is installed here, "
        "or stop it."
    )


def explain_import(who: str, error: ImportError) -> str:
    """Return why a worker, or a scheduler, can do nothing: it has not what a task is made of."""
    return f"{who} cannot load hftcl ({error}). Install there what is installed here."


def _take_pool() -> TrainingPool:
    if not hasattr(_of_thread, "pool"):
        _of_thread.pool = TrainingPool()  # its processes end with the worker
    pool: TrainingPool = _of_thread.pool
    return pool


@contextmanager
def _end_when_cancelled(worker: Any, key: str, pool: TrainingPool) -> Iterator[RequireGoing]:
    """End the trainings within once the task is wanted no more: Dask itself lets a running task go on to its end.

    Give what ends the task itself between two blocks of its work, as a training that is killed does.
    """
    over = threading.Event()

    def is_cancelled() -> bool:
        task = worker.state.tasks.get(key)
        return task is None or task.state == "cancelled"

    def watch() -> None:
        while not over.wait(_GLANCE_S):
            if is_cancelled():
                pool.kill()  # at each glance: none may train at this one, and the next one begins after it

    def require_going() -> None:
        if is_cancelled():
            raise TrainingKilledError("The task was cancelled.")

    watcher = threading.Thread(target=watch, name=f"watch {key}", daemon=True)
    watcher.start()
    try:
        yield require_going
    finally:
        over.set()
        watcher.join()
