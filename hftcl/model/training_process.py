"""The child process that trains: how it is started, told what to do, followed and ended.

Spawned, not forked, so that it works from a notebook, a running event loop, a script without a main guard and stdin.
It trains one task after the other, because its libraries take seconds to load; whatever goes wrong ends it.
"""

import json
import os
import selectors
import signal
import site
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

import hftcl
from hftcl.errors import HftclError, NoRoomError, TrainingError, TrainingKilledError
from hftcl.events import FINISH, Event, OnEvent
from hftcl.model.deadline import Deadline

# A traceback's end: its last lines say why, and a library that writes megabytes fills no memory.
_TAIL_BYTES: Final = 4096
_GLANCE_S: Final = 0.5  # how long a child that is gone can stay unnoticed
_IDLE: Final = "idle"  # no name of a stream: tells that the child was silent for a glance
# Of each message that `trainer` sends, its fields and their types: what a line that a library wrote is not.
_MESSAGES: Final[tuple[dict[str, type], ...]] = (
    {"done": int, "total": int, "text": str},
    {"facts": dict, "is_last": bool},
    {"no_room": str},
    {"failed": str},
)
_FINISHING: Final = "graph and estimator"  # what the child works at once it has sent the graph
_LINE_BYTES: Final = 1 << 20  # of a message: the longest one tells importances, 25 kB for a thousand features
_SHOWN_BYTES: Final = 60  # of a line that is none of these: enough to know again what wrote it, on one line of a screen

# Everything else stays behind: a list of what may go over holds, a list of names that secrets might have does not.
_CHILD_ENVIRONMENT: Final = frozenset(
    # TMPDIR, TEMP and TMP: where the child's unnamed files lie is where ours do
    {"PATH", "HOME", "LANG", "TZ", "TMPDIR", "TEMP", "TMP", "LD_LIBRARY_PATH", "VIRTUAL_ENV"}
)
# Language and the settings of number libraries, such as how many threads they take.
_CHILD_ENVIRONMENT_PREFIXES: Final = ("LC_", "OMP_", "KMP_", "MKL_", "OPENBLAS_", "TBB_", "SKLEARN", "DAAL", "ONEDAL")

_Failure = TypeVar("_Failure", bound=HftclError)


class TrainingProcess:
    """One child, started by the constructor and ended by `close`; trains one task at a time, from any thread.

    The kernel ends it with the thread that calls the constructor. Raises TrainingError where it does not start.
    """

    def __init__(self) -> None:
        """Start the child in a session of its own, where a terminal's Ctrl-C does not reach it."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # -P: a numpy.py in the current folder is not numpy. -W: warnings are ours to deal with, not the user's.
        command = [sys.executable, "-P", "-W", "ignore", "-m", "hftcl.model.trainer", str(os.getpid())]
        try:
            with theirs:
                self._child = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                    command,
                    stdin=theirs.fileno(),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env=build_environment(),
                    start_new_session=True,
                )
        except OSError as error:
            ours.close()
            raise TrainingError(f"The training process did not start: {error.strerror or error}.") from error
        self._orders, self._unread, self._tail = ours, b"", b""

    @property
    def alive(self) -> bool:
        """Whether the child runs, so that it can be told of another task."""
        return self._child.poll() is None

    def measure_memory(self) -> tuple[int, int]:
        """Return how many bytes the child holds, and the most that it has held; 0 for one that is gone."""
        try:
            lines = Path(f"/proc/{self._child.pid}/status").read_text().splitlines()
        except OSError:
            return 0, 0
        sizes = dict(line.split(":", 1) for line in lines)  # in kB; a child that has just ended has none: see proc(5)
        held, most = (1024 * int(sizes.get(name, "0").split()[0]) for name in ("VmRSS", "VmHWM"))
        return held, most

    def close(self) -> None:
        """End the child at once, with whatever a family has started."""
        self._orders.close()
        with self._child:  # closes its pipes and waits
            if self._child.poll() is None:
                os.killpg(self._child.pid, signal.SIGKILL)

    def kill(self) -> None:
        """End the child from another thread than the one that waits for it, which then raises TrainingKilledError."""
        with suppress(ProcessLookupError):
            if self.alive:
                os.killpg(self._child.pid, signal.SIGKILL)

    def prepare(self, family: str) -> None:
        """Have the child load what a family needs, while this process does something else."""
        self._tell({"prepare": family}, ())

    def train(
        self,
        order: Mapping[str, object],
        descriptors: Sequence[int],
        on_event: OnEvent,
        deadline: Deadline,
        silence_s: float,
    ) -> Generator[dict[str, Any], None, None]:
        """Hand over the order with its open files, and pass the progress on; yield the facts of the graph, once its
        file is written, and then, once all is, those of what was made beside it.

        Raises NoRoomError where the child has no room for a file, else TrainingError; the end of what it wrote to
        stderr is a note on both.
        """
        self._tell(order, descriptors)
        self._tail, last, told_at, used = b"", Event("fit"), time.monotonic(), 0.0
        for channel, chunk in self._read_chunks(deadline):
            if channel == _IDLE:
                if last.total and time.monotonic() - told_at >= silence_s:
                    told_at, spent = time.monotonic(), _measure_processor_s(self._child.pid)
                    if spent >= used + 1:
                        used = spent
                        on_event(replace(last, text=f"{last.text}, {used:.0f} s of processor time"))
                continue
            if channel == "stderr":
                self._tail = (self._tail + chunk)[-_TAIL_BYTES:]
                continue
            for message in self._split_messages(chunk):
                if "done" in message:
                    last = Event("fit", message["done"], message["total"], message["text"])
                    told_at, used = time.monotonic(), _measure_processor_s(self._child.pid)
                    on_event(last)
                elif "facts" in message:
                    with deadline.pause():  # the caller examines the graph
                        yield message["facts"]
                    if message["is_last"]:
                        return
                    last, told_at = Event(FINISH, 0, 1, _FINISHING), time.monotonic()
                else:
                    raise _read_failure(message, self._tail)
        status = self._child.wait()
        kind = TrainingKilledError if status == -signal.SIGKILL else TrainingError
        raise _build_failure(_describe_death(status, self._tail), self._tail, kind)

    def _tell(self, order: Mapping[str, object], descriptors: Sequence[int]) -> None:
        paths = [str(Path(entry).absolute()) for entry in sys.path]  # where a family may live
        try:
            socket.send_fds(self._orders, [json.dumps({**order, "sys_path": paths}).encode()], list(descriptors))
        except (BrokenPipeError, ConnectionResetError):  # it is gone already; its exit status and stderr say why
            return

    def _split_messages(self, chunk: bytes) -> Iterator[dict[str, Any]]:
        *lines, self._unread = (self._unread + chunk).split(b"\n")
        for line in lines:
            yield _parse_message(line, self._tail)
        if len(self._unread) > _LINE_BYTES:  # a library that ends no line fills no memory either
            raise _build_garbage_failure(self._unread, self._tail)

    def _read_chunks(self, deadline: Deadline) -> Iterator[tuple[str, bytes]]:
        """Yield ("stdout" or "stderr", bytes) as the child writes, until it has ended, and (_IDLE, b"") in between."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._child.stdout, selectors.EVENT_READ, "stdout")  # type: ignore[arg-type]
            selector.register(self._child.stderr, selectors.EVENT_READ, "stderr")  # type: ignore[arg-type]
            while selector.get_map():
                try:
                    left = deadline.measure_left_s()
                except TrainingError as error:
                    _add_note(error, self._tail)
                    raise
                ended = self._child.poll() is not None  # before the look: what it wrote is then already in the pipes
                ready = selector.select(_GLANCE_S if left is None else min(left, _GLANCE_S))
                if ended and not ready:  # something that it started still holds the pipes
                    return
                if not ready:
                    yield _IDLE, b""
                for key, _ in ready:
                    chunk = os.read(key.fd, 65536)
                    if chunk:
                        yield key.data, chunk
                    else:
                        selector.unregister(key.fileobj)


def build_environment() -> dict[str, str]:
    """Return the child's environment: no secret in it, and hftcl on its path where only this process's has it."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _CHILD_ENVIRONMENT or name.startswith(_CHILD_ENVIRONMENT_PREFIXES)
    }
    paths = [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
    home = str(Path(hftcl.__file__).resolve().parents[1])
    installed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), site.getusersitepackages()}
    if home not in {str(Path(folder).resolve()) for folder in installed}:  # PYTHONPATH goes before the standard library
        paths.append(home)
    return {**kept, "PYTHONPATH": os.pathsep.join(paths)} if paths else kept


def _measure_processor_s(pid: int) -> float:
    """Return the seconds of processor time that all threads of a process have used; 0 for one that is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime and stime: see proc(5)


def _parse_message(line: bytes, tail: bytes) -> dict[str, Any]:
    """Return a line of the child's; a library that found the channel may have written into it."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):  # the second one: brackets within brackets
        message = None
    if not isinstance(message, dict) or {name: type(value) for name, value in message.items()} not in _MESSAGES:
        raise _build_garbage_failure(line, tail)
    return message


def _build_garbage_failure(line: bytes, tail: bytes) -> TrainingError:
    return _build_failure(f"wrote {line[:_SHOWN_BYTES]!r} where its messages belong, and was ended", tail)


def _describe_death(status: int, tail: bytes) -> str:
    if status == -signal.SIGKILL:
        return "was killed (SIGKILL), most likely for lack of memory; use fewer tickers, days or trees"
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    last = tail.decode(errors="replace").strip().rpartition("\n")[2]
    return f"failed with exit status {status}: {last or 'it said nothing'}"


def _read_failure(message: Mapping[str, str], tail: bytes) -> HftclError:
    if "no_room" in message:
        return _add_note(NoRoomError(message["no_room"]), tail)
    return _build_failure(message["failed"], tail)


def _build_failure(reason: str, tail: bytes, kind: type[TrainingError] = TrainingError) -> TrainingError:
    return _add_note(kind(f"The training process {reason}. The serving model is untouched."), tail)


def _add_note(error: _Failure, tail: bytes) -> _Failure:
    if tail:
        error.add_note(tail.decode(errors="replace"))
    return error
