"""A Dask cluster on this machine, as a child process: `python -m hftcl.compute.local_cluster PARENT`.

A child, so that it works from a notebook, a script without a main guard and stdin, that no secret of this process's
environment reaches a worker, and that all of it is gone with the command; one that is killed by SIGKILL leaves files
in $TMPDIR, and no process. A client has to show a certificate that is made for this one cluster and lies in no file:
other users of the machine could else run what they like as this user.
"""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import forkserver
from typing import IO, Final, cast

from hftcl.compute.connection import Address, require_installed
from hftcl.errors import ComputeError
from hftcl.interrupts import die_with
from hftcl.model.lasting_thread import run_in_lasting_thread
from hftcl.model.training_process import build_environment
from hftcl.waiting import wait_until_readable

_END_S: Final = 10  # seconds: an idle machine needs one
_START_S: Final = 300  # seconds: an idle machine needs three; a loaded one takes its time

# What Dask sets just before it starts a worker (distributed.nanny.pre-spawn-environ), which comes too late for a fork:
# a thread for each worker, and memory that is freed goes back.
_OF_A_WORKER: Final = {
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}

# No one looks at what Dask notes of itself here: profiles a hundred times a second, its loops' health fifty times, the
# machine's load twice. By itself four idle workers take 4.4 s of a core in 30 s; with these 0.6 s (measured).
_QUIET: Final = {
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
    "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "1s",
    "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__INTERVAL": "10s",
}


@contextmanager
def start_local_cluster(workers: int) -> Iterator["StartingCluster"]:
    """Start a cluster of so many workers, a thread each; it loads while the caller does something else."""
    require_installed()
    command = [sys.executable, "-P", "-W", "ignore", "-m", "hftcl.compute.local_cluster", str(os.getpid())]
    # what is killed may still write there while it is removed
    files = tempfile.TemporaryDirectory(prefix="hftcl-dask-", ignore_cleanup_errors=True)
    with tempfile.TemporaryFile() as said, files as folder:

        def start() -> "subprocess.Popen[bytes]":
            return subprocess.Popen(  # noqa: S603 - our own interpreter and module
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                env=build_environment(),
                start_new_session=True,  # a terminal's Ctrl-C does not reach it: its end is what ends it
            )

        cluster = StartingCluster(run_in_lasting_thread(start), said)
        try:
            cluster.tell({"workers": workers, "folder": folder, "sys_path": sys.path})
            yield cluster
        finally:
            cluster.end()


class StartingCluster:
    """A cluster whose scheduler may not listen yet."""

    def __init__(self, child: "subprocess.Popen[bytes]", said: IO[bytes]) -> None:
        """Take the child process, and the file that it writes to what it has to say."""
        self._child, self._said = child, said
        self._is_ready = False

    def tell(self, order: dict[str, object]) -> None:
        """Send the order, which is shorter than what a pipe holds."""
        with suppress(BrokenPipeError):  # it has ended; `find_address` says why
            asked = cast("IO[bytes]", self._child.stdin)
            asked.write(json.dumps(order).encode() + b"\n")
            asked.flush()

    def find_address(self) -> Address:
        """Wait for the scheduler and return where it is. Raises ComputeError where none starts."""
        answer = json.loads(self._read_line())
        self._is_ready = True
        security = require_installed().Security(require_encryption=True, **answer["tls"])
        return Address(url=answer["url"], security=security)

    def _read_line(self) -> bytes:
        answered = cast("IO[bytes]", self._child.stdout)
        line, until = b"", time.monotonic() + _START_S
        while not line.endswith(b"\n"):
            ready = wait_until_readable(answered.fileno(), until - time.monotonic())
            chunk = os.read(answered.fileno(), 65536) if ready else b""
            if not chunk:
                self._said.seek(0)
                last = self._said.read().decode(errors="replace").strip().rpartition("\n")[2]
                raise ComputeError(
                    f"The Dask cluster on this machine did not start: {last or 'it said nothing'}. Set [compute] "
                    'backend = "local".'
                )
            line += chunk
        return line

    def end(self) -> None:
        """Let the cluster end, or kill what does not; the workers are of its session, and trainings end with theirs.

        One that no caller has waited for does nothing that is worth an end in order. SIGTERM comes first: it ends all
        but multiprocessing's tracker, which then removes the semaphores of the others from /dev/shm.
        """
        with self._child:  # closes its pipes and waits
            if self._child.stdin:
                with suppress(BrokenPipeError):
                    self._child.stdin.close()
            if self._wait_for_end(_END_S if self._is_ready else 0):
                return
            os.killpg(self._child.pid, signal.SIGTERM)
            if not self._wait_for_end(_END_S):
                os.killpg(self._child.pid, signal.SIGKILL)

    def _wait_for_end(self, seconds: float) -> bool:
        try:
            self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True


def main() -> None:
    """Serve until stdin is closed, or the parent has ended."""
    die_with(int(sys.argv[1]))  # and Dask's workers end with this process
    order = json.loads(sys.stdin.readline())
    sys.path.extend(entry for entry in order["sys_path"] if entry not in sys.path)  # a family may live there
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    _start_fork_server(order["folder"])
    from distributed import LocalCluster, Security

    security = Security.temporary()
    with LocalCluster(
        n_workers=order["workers"],
        local_directory=order["folder"],
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address=None,
        worker_dashboard_address=None,
        memory_limit=0,  # a training lies in a process of its own, whose memory Dask does not see
        security=security,
    ) as cluster:
        names = ("tls_ca_file", "tls_client_cert", "tls_client_key")  # texts here, and no files
        tls = {name: getattr(security, name) for name in names}
        channel.write(json.dumps({"url": cluster.scheduler_address, "tls": tls}) + "\n")
        channel.flush()
        sys.stdin.read()


def _start_fork_server(folder: str) -> None:
    """Have Dask's workers forked from one process that has loaded Dask: by itself each would load it.

    Nothing of ours is loaded there, nor polars: its threads would not be in a fork. folder: for Dask's own files.
    """
    for name, value in _OF_A_WORKER.items():
        os.environ.setdefault(name, value)
    os.environ.update(_QUIET)
    os.environ["DASK_TEMPORARY_DIRECTORY"] = folder  # else Dask leaves a folder of its own in $TMPDIR
    os.environ["DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD"] = "forkserver"
    multiprocessing.get_context("forkserver").set_forkserver_preload(["distributed"])
    forkserver.ensure_running()  # Dask's own list of what to load, pandas in it, comes too late


if __name__ == "__main__":
    main()
