"""A Dask cluster on this machine, as a child process: `python -m hftcl.compute.local_cluster PARENT`.

A child, so that it works from a notebook, a script without a main guard and stdin, that no secret of this process's
environment reaches a worker, and that all of it is gone with the command. A client has to show a certificate
that is made for this one cluster and lies in no file: other users of the machine could else run what they like as this
user.
"""

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, Final, cast

from hftcl.compute.connection import Address, require_installed
from hftcl.errors import ComputeError
from hftcl.model.training_process import build_environment

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
_END_S: Final = 10  # seconds: an idle machine needs one
_START_S: Final = 300  # seconds: an idle machine needs three; a loaded one takes its time


@contextmanager
def start_local_cluster(workers: int) -> Iterator[Address]:
    """Give the scheduler of a cluster of so many workers, a thread each. Raises ComputeError where none starts."""
    distributed = require_installed()
    command = [sys.executable, "-P", "-W", "ignore", "-m", "hftcl.compute.local_cluster", str(os.getpid())]
    with tempfile.TemporaryFile() as said, tempfile.TemporaryDirectory(prefix="hftcl-dask-") as folder:
        child = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            env=build_environment(),
            start_new_session=True,  # a terminal's Ctrl-C does not reach it: its end is what ends it
        )
        try:
            answer = _ask(child, {"workers": workers, "folder": folder, "sys_path": sys.path}, said)
            yield Address(url=answer["url"], security=distributed.Security(require_encryption=True, **answer["tls"]))
        finally:
            _end(child)


def _end(child: "subprocess.Popen[bytes]") -> None:
    """Let the cluster end, or kill what does not; the workers are of its session, and trainings end with theirs."""
    with child:  # closes its pipes and waits
        if child.stdin:
            with suppress(BrokenPipeError):
                child.stdin.close()
        try:
            child.wait(_END_S)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)


def _ask(child: "subprocess.Popen[bytes]", order: dict[str, object], said: IO[bytes]) -> dict[str, Any]:
    """Send the order, and return the line in which the child answers."""
    asked, answered = cast("IO[bytes]", child.stdin), cast("IO[bytes]", child.stdout)
    asked.write(json.dumps(order).encode() + b"\n")
    asked.flush()
    line, until = b"", time.monotonic() + _START_S
    while not line.endswith(b"\n"):
        left = until - time.monotonic()
        ready = select.select([answered], [], [], max(left, 0))[0]
        chunk = os.read(answered.fileno(), 65536) if ready else b""
        if not chunk:
            said.seek(0)
            last = said.read().decode(errors="replace").strip().rpartition("\n")[2]
            raise ComputeError(
                f"The Dask cluster on this machine did not start: {last or 'it said nothing'}. Set [compute] backend = "
                '"local".'
            )
        line += chunk
    answer: dict[str, Any] = json.loads(line)
    return answer


def main() -> None:
    """Serve until stdin is closed, or the parent has ended."""
    _die_with(int(sys.argv[1]))
    order = json.loads(sys.stdin.readline())
    sys.path.extend(entry for entry in order["sys_path"] if entry not in sys.path)  # a family may live there
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
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


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when the parent ends, however it ends; Dask's workers end with this one."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was gone before the kernel knew
        sys.exit(1)


if __name__ == "__main__":
    main()
