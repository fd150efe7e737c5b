"""Training in a child process: rows in, a model and its entry threshold out.

A child, because a fit holds the interpreter until it is done: Ctrl-C, SIGTERM, a deadline or a lack of memory then end
the child and not the caller. Spawned, not forked, so that it works from a notebook, a running event loop, a script
without a main guard and stdin. The rows go over as unnamed files and the model comes back the same way: after a
kill, at any moment, nothing is left on the disk.
"""

import json
import os
import selectors
import signal
import site
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Final, cast

import msgspec
import numpy as np
import numpy.typing as npt

import hftcl
from hftcl.errors import StorageError, TrainingError
from hftcl.events import Event, OnEvent, ignore
from hftcl.model.families import complete, find_family

# A traceback's end: its last lines say why, and a library that writes megabytes fills no memory.
_TAIL_BYTES: Final = 4096
_GLANCE_S: Final = 0.5  # how long a child that is gone can stay unnoticed
_IDLE: Final = "idle"  # no name of a stream: tells that the child was silent for a glance

# Everything else stays behind: a list of what may go over holds, a list of names that secrets might have does not.
_CHILD_ENVIRONMENT: Final = frozenset({"PATH", "HOME", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV"})
# Language and the settings of number libraries, such as how many threads they take.
_CHILD_ENVIRONMENT_PREFIXES: Final = ("LC_", "OMP_", "KMP_", "MKL_", "OPENBLAS_", "TBB_", "SKLEARN", "DAAL", "ONEDAL")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingTask:
    """What to train on.

    X: float32 (n, k), finite. y: float32 (n,), finite, in units of the target. fitted, held_out: bool (n,), the rows
    that the threshold's own model learns from, and those that it predicts for it: see `exam.split.split_inner`. The
    model itself learns from all rows. seed: 0 to 2**32 - 1. params: some or all of the family's parameters. jobs:
    processor cores, 0 for all; changes no result. entry_quantile: in [0, 1).
    """

    X: npt.NDArray[np.float32] = field(repr=False)  # the field's name for the features
    y: npt.NDArray[np.float32] = field(repr=False)
    fitted: npt.NDArray[np.bool_] = field(repr=False)
    held_out: npt.NDArray[np.bool_] = field(repr=False)
    family: str = "forest"
    params: Mapping[str, object] = field(default_factory=dict)
    seed: int = 42
    jobs: int = 0
    entry_quantile: float = 0.90


@dataclass(frozen=True, slots=True)
class Seconds:
    """Wall time of each part, in seconds."""

    inner_fit: float
    fit: float
    export: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A trained model: the graph, the joblib file for a researcher, and what a model file tells about them.

    threshold: the entry threshold on |prediction|, exactly a float32, so that no comparison depends on its width.
    params: every parameter of the family, defaults included. importances: per feature, sum 1, or None.
    """

    onnx: bytes = field(repr=False)
    pkl: bytes = field(repr=False)
    threshold: float
    engine: str
    params: dict[str, Any]
    importances: tuple[float, ...] | None
    seconds: Seconds


def train(
    task: TrainingTask, on_event: OnEvent = ignore, *, timeout_s: float | None = None, silence_s: float = 30.0
) -> Trained:
    """Train in a child process and return the model; reports Event("fit", trees done, trees of both fits).

    A family that grows all trees in one go says nothing for minutes: then the processor time that the child has used
    is told every `silence_s` seconds, as long as it grows, so that a watchdog can tell work from a child that hangs.
    Two fits: on the rows `fitted`, which sets the threshold, then on all rows. Whatever ends this call, an exception
    out of `on_event` and Ctrl-C included, ends the child at once. Blocks; may be called from any thread.
    Raises ConfigError and UsageError for a family or parameter that does not exist,
    StorageError where the rows cannot be handed over, TrainingError where the child fails, is killed or takes longer
    than `timeout_s`; the end of what it wrote to stderr is a note on that error. ValueError for wrong arrays.
    """
    _require_arrays(task)
    params = complete(find_family(task.family), task.params)
    with ExitStack() as stack:
        files = {name: stack.enter_context(_hand_over(rows)) for name, rows in _build_arrays(task).items()}
        files |= {name: stack.enter_context(_open_unnamed_file()) for name in ("onnx", "pkl")}
        child = stack.enter_context(_spawn([file.fileno() for file in files.values()]))
        _tell(child, _build_order(task, params, files))
        facts = _follow(child, on_event, timeout_s, silence_s)
        models = {name: _read_whole(files[name]) for name in ("onnx", "pkl")}
        return msgspec.convert({**facts, **models, "params": params}, Trained)


def _require_arrays(task: TrainingTask) -> None:
    rows = len(task.X)
    wanted = {"X": (np.float32, 2), "y": (np.float32, 1), "fitted": (np.bool_, 1), "held_out": (np.bool_, 1)}
    for name, array in _build_arrays(task).items():
        dtype, dimensions = wanted[name]
        if array.dtype != dtype or array.ndim != dimensions or len(array) != rows:
            raise ValueError(f"{name} must be {np.dtype(dtype)} with {rows} rows, got {array.dtype} {array.shape}.")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds a value that is not finite; leave such rows out.")
    if not (task.fitted.any() and task.held_out.any()) or (task.fitted & task.held_out).any():
        raise ValueError("fitted and held_out must each name a row, and no row in both.")


def _build_arrays(task: TrainingTask) -> dict[str, npt.NDArray[Any]]:
    return {"X": task.X, "y": task.y, "fitted": task.fitted, "held_out": task.held_out}


@contextmanager
def _open_unnamed_file() -> Iterator[IO[bytes]]:
    """Open a file that no folder lists (O_TMPFILE): it is gone with its last descriptor, even after kill -9."""
    try:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - closed below
    except OSError as error:
        raise _build_no_room_error(error) from error
    with file:
        yield file


@contextmanager
def _hand_over(array: npt.NDArray[Any]) -> Iterator[IO[bytes]]:
    with _open_unnamed_file() as file:
        try:
            file.write(np.ascontiguousarray(array).data.cast("B"))  # not tofile, which forgets why it failed
            file.flush()
        except OSError as error:
            raise _build_no_room_error(error) from error
        yield file


def _build_no_room_error(error: OSError) -> StorageError:
    return StorageError(
        f"The training rows could not be written to {tempfile.gettempdir()}: {error.strerror or error}. "
        "Free space there, or set TMPDIR to another folder."
    )


def _read_whole(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def _build_order(task: TrainingTask, params: Mapping[str, object], files: Mapping[str, IO[bytes]]) -> dict[str, object]:
    """Return what the child is told, in one line of JSON, on its stdin."""
    return {
        "parent": os.getpid(),
        "sys_path": [str(Path(entry).absolute()) for entry in sys.path],
        "files": {name: file.fileno() for name, file in files.items()},
        "shape": task.X.shape,
        "family": task.family,
        "params": params,
        "seed": task.seed,
        "jobs": task.jobs or len(os.sched_getaffinity(0)),
        "entry_quantile": task.entry_quantile,
    }


def _build_environment() -> dict[str, str]:
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


@contextmanager
def _spawn(descriptors: list[int]) -> Iterator["subprocess.Popen[bytes]"]:
    """Start the child in a session of its own, where a terminal's Ctrl-C does not reach it; kill it on the way out."""
    # -P: a numpy.py in the current folder is not numpy. -W: warnings are ours to deal with, not the user's.
    command = [sys.executable, "-P", "-W", "ignore", "-m", "hftcl.model.trainer"]
    try:
        child = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_build_environment(),
            pass_fds=descriptors,
            start_new_session=True,
        )
    except OSError as error:
        raise TrainingError(f"The training process did not start: {error.strerror or error}.") from error
    with child:
        try:
            yield child
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)  # with whatever a family has started
                child.wait()


def _tell(child: "subprocess.Popen[bytes]", order: Mapping[str, object]) -> None:
    stdin = cast("IO[bytes]", child.stdin)
    try:
        stdin.write(json.dumps(order).encode() + b"\n")
        stdin.close()
    except BrokenPipeError:  # it is gone already; its exit status and stderr say why
        return


def _follow(
    child: "subprocess.Popen[bytes]", on_event: OnEvent, timeout_s: float | None, silence_s: float
) -> dict[str, Any]:
    """Pass the child's progress on until it has ended, and return the facts of its last line."""
    messages, tail, facts, failed = b"", b"", None, None
    last, told_at, used = Event("fit"), time.monotonic(), 0.0
    for channel, chunk in _read_chunks(child, timeout_s):
        if channel == _IDLE:
            if last.total and time.monotonic() - told_at >= silence_s:
                told_at, spent = time.monotonic(), _measure_processor_s(child.pid)
                if spent >= used + 1:
                    used = spent
                    on_event(replace(last, text=f"{last.text}, {used:.0f} s of processor time"))
            continue
        if channel == "stderr":
            tail = (tail + chunk)[-_TAIL_BYTES:]
            continue
        *lines, messages = (messages + chunk).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "done" in message:
                last = Event("fit", message["done"], message["total"], message["text"])
                told_at, used = time.monotonic(), _measure_processor_s(child.pid)
                on_event(last)
            failed, facts = message.get("failed"), message.get("facts")
    status = child.wait()
    if failed is not None or status != 0 or facts is None:
        raise _build_failure(failed or _describe_death(status, tail), tail)
    return dict(facts)


def _read_chunks(child: "subprocess.Popen[bytes]", timeout_s: float | None) -> Iterator[tuple[str, bytes]]:
    """Yield ("stdout" or "stderr", bytes) as the child writes, (_IDLE, b"") while it does not, until it has ended."""
    began = time.monotonic()
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ, "stdout")  # type: ignore[arg-type]
        selector.register(child.stderr, selectors.EVENT_READ, "stderr")  # type: ignore[arg-type]
        while selector.get_map():
            left = _GLANCE_S if timeout_s is None else began + timeout_s - time.monotonic()
            if left <= 0:
                raise _build_failure(f"did not end within {timeout_s:g} s and was stopped", b"")
            ended = child.poll() is not None  # before the look: what it wrote is then already in the pipes
            ready = selector.select(min(left, _GLANCE_S))
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


def _measure_processor_s(pid: int) -> float:
    """Return the seconds of processor time that all threads of a process have used; 0 for one that is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime and stime: see proc(5)


def _describe_death(status: int, tail: bytes) -> str:
    if status == -signal.SIGKILL:
        return "was killed (SIGKILL), most likely for lack of memory; use fewer tickers, days or trees"
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    last = tail.decode(errors="replace").strip().rpartition("\n")[2]
    return f"failed with exit status {status}: {last or 'it said nothing'}"


def _build_failure(reason: str, tail: bytes) -> TrainingError:
    error = TrainingError(f"The training process {reason}. The serving model is untouched.")
    if tail:
        error.add_note(tail.decode(errors="replace"))
    return error
