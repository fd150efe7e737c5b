"""Where tasks run: in processes of this machine, or on the Dask cluster that `[compute]` names; the same to the bit."""

from contextlib import AbstractContextManager

from hftcl.compute.tasks import Arrays, Bench, Engine, Piece, Rows, Table, Task, Team, Wanted
from hftcl.events import OnEvent
from hftcl.model.training import TrainingPool
from hftcl.settings import Settings

__all__ = ["Arrays", "Bench", "Engine", "Piece", "Rows", "Table", "Task", "Team", "Wanted", "open_engine"]


def open_engine(
    settings: Settings, on_event: OnEvent, pool: TrainingPool | None = None
) -> AbstractContextManager[Engine]:
    """Return what runs tasks where the settings say, as a context that ends all that it started.

    on_event: is told of what a person should know, such as memory that does not suffice. pool: of the caller, whose
    processes train where the tasks run on this machine; None for one that ends with the context. With `[compute]
    backend = "dask"` entering it raises ComputeError where the scheduler does not answer or a worker is of other
    versions.
    """
    if settings.compute.backend == "dask":
        from hftcl.compute.cluster import ClusterEngine  # here: who trains on this machine needs no Dask

        return ClusterEngine(settings)
    from hftcl.compute.local import LocalEngine

    return LocalEngine(settings, on_event, pool)
