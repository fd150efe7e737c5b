"""The check of where trainings run: the Dask cluster, where the settings name one."""

from collections.abc import Iterator
from typing import Final

from hftcl.compute.connection import connect, find_scheduler, require_fit_workers, require_installed
from hftcl.compute.crew import count_cores
from hftcl.doctor.row import Context, Row, fault, report_ok
from hftcl.errors import ComputeError, ConfigError, split_remedy
from hftcl.formats import count

_PATIENCE_S: Final = 10.0  # a person waits; a scheduler of the same network answers in milliseconds


def check_compute(context: Context) -> Iterator[Row]:
    """Whether the scheduler answers, and each worker has the versions of this process; how many threads they have."""
    compute = context.settings.compute
    try:
        cores = count(count_cores(context.settings), "core")
        if compute.backend == "local":
            yield report_ok("compute", f"this machine, {cores}")
            return
        require_installed()
        address = find_scheduler(compute)
        if address is None:
            yield report_ok("compute", f"a Dask cluster of this machine that each command starts, {cores}")
            return
        wait_s = min(compute.wait_s, _PATIENCE_S)
        with connect(address, wait_s) as client:
            threads = require_fit_workers(client, address.url, wait_s)
    except (ComputeError, ConfigError) as error:
        yield fault("compute", *split_remedy(str(error)))
        return
    workers, together = count(len(threads), "worker"), count(sum(threads.values()), "thread")
    yield report_ok("compute", f"{address.url} answers: {workers} of these versions, {together}")
