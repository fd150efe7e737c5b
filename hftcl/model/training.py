"""Training in a child process: rows in, a model and its entry threshold out.

A child, because a fit holds the interpreter until it is done: Ctrl-C, SIGTERM, a deadline or a lack of memory then end
the child and not the caller. The rows go over as unnamed files and the model comes back the same way: after a kill, at
any moment, nothing is left on the disk.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from typing import IO, Any, Final, Protocol, Self

import msgspec
import numpy as np
import numpy.typing as npt

from hftcl.events import OnEvent, ignore
from hftcl.formats import count
from hftcl.free_memory import give_back
from hftcl.mapped import build_no_room_error, find_file, open_unnamed_file
from hftcl.model.deadline import Deadline
from hftcl.model.families import complete, find_family
from hftcl.model.lasting_thread import run_in_lasting_thread
from hftcl.model.training_process import TrainingProcess

_SILENCE_S: Final = 30.0  # a watchdog of systemd asks for a sign of life every few minutes
_ANSWERS: Final = ("onnx", "pkl", "inner_onnx")  # the files that the child writes


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingTask:
    """What to train on.

    X: float32 (n, k), finite. y: float32 (n,), finite, in units of the target. weights: float32 (n,), above 0, for a
    family that takes them; None where each row counts alike. fitted, held_out: bool (n,), the rows
    that the threshold's own model learns from, and those that it predicts for it: see `exam.split.split_inner`. The
    model itself learns from all rows. seed: 0 to 2**32 - 1. params: some or all of the family's parameters. jobs:
    processor cores, 0 for all; changes no result. entry_quantile: in [0, 1). keep_inner: return the threshold's own
    model too; only_inner: nothing else, so that `onnx` and `pkl` are empty and the importances its own. tickers: those
    that get a model of their own, each with rows of both kinds; then the last column of X is the number of a row's
    ticker among them, see `families.per_ticker`. Empty: one model is for all. with_pkl: return the estimator as a
    joblib file too; `pkl` is empty where no researcher will ever see it. groups: int32 (n,), which rows are of one
    session of one ticker, they follow each other; then a fit of more than `max_rows` learns from samples of whole
    groups, see `sampling`. None: each fit holds all its rows. inner_grown, grown: what `TrainingPool.grow` made of
    every sample of the threshold's own model, and of the model's, in their order; empty where the trees are to grow.
    """

    X: npt.NDArray[np.float32] = field(repr=False)  # the field's name for the features
    y: npt.NDArray[np.float32] = field(repr=False)
    weights: npt.NDArray[np.float32] | None = field(default=None, repr=False)
    fitted: npt.NDArray[np.bool_] = field(repr=False)
    held_out: npt.NDArray[np.bool_] = field(repr=False)
    family: str = "forest"
    params: Mapping[str, object] = field(default_factory=dict)
    seed: int = 42
    jobs: int = 0
    entry_quantile: float = 0.90
    keep_inner: bool = False
    only_inner: bool = False
    tickers: tuple[str, ...] = ()
    with_pkl: bool = True
    groups: npt.NDArray[np.int32] | None = field(default=None, repr=False)
    max_rows: int = 0
    inner_grown: Sequence[bytes] = field(default=(), repr=False)
    grown: Sequence[bytes] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeTask:
    """What one tree of samples learns from: its rows, as of a `TrainingTask`, weights scaled. seed: of the tree."""

    X: npt.NDArray[np.float32] = field(repr=False)  # the field's name for the features
    y: npt.NDArray[np.float32] = field(repr=False)
    weights: npt.NDArray[np.float32] | None = field(default=None, repr=False)
    family: str
    params: Mapping[str, object]
    seed: int
    jobs: int


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
    versions: by package, of libraries as the process that trained had them loaded. params: every parameter of the
    family, defaults included. importances: per feature, sum 1, or None. inner_onnx: the graph of the threshold's own
    model, empty where it was not asked for.
    """

    onnx: bytes = field(repr=False)
    pkl: bytes = field(repr=False)
    threshold: float
    engine: str
    versions: dict[str, str]
    params: dict[str, Any]
    importances: tuple[float, ...] | None
    seconds: Seconds
    inner_onnx: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A training whose graph stands, while the process still compares it and writes the estimator's file.

    The rest are the fields of `Trained`; `finish` gives them all.
    """

    onnx: bytes = field(repr=False)
    threshold: float
    engine: str
    versions: dict[str, str]
    params: dict[str, Any]
    inner_onnx: bytes = field(repr=False)
    finish: Callable[[], Trained] = field(repr=False)
    """Waits for the end and returns the model; once, within the context. Raises as `TrainingPool.train`."""


class Trainer(Protocol):
    """Trains as a `TrainingPool`, here or elsewhere."""

    def begin(
        self, task: TrainingTask, on_event: OnEvent = ignore, *, deadline: Deadline | None = None
    ) -> AbstractContextManager[Begun]:
        """Give the training as soon as its graph stands: see `TrainingPool.begin`."""
        ...


class TrainingPool:
    """Child processes that train, kept warm between two trainings; a context, which ends them all.

    From several threads at once: each training has a process of its own, and none ends with the thread that it first
    trained for. Whatever ends a training, an exception out of `on_event` and Ctrl-C included, ends its process at once.

    >>> import numpy as np
    >>> X = np.random.default_rng(7).normal(size=(400, 2)).astype(np.float32)
    >>> row = np.arange(400)
    >>> task = TrainingTask(X=X, y=X[:, 0], fitted=row < 300, held_out=row >= 350, params={"n_estimators": 5})
    >>> with TrainingPool() as pool:
    ...     thresholds = [pool.train(task).threshold for _ in range(2)]
    >>> thresholds[0] == thresholds[1] > 0
    True
    """

    def __init__(self) -> None:
        """Begin without a process."""
        self._idle: list[TrainingProcess] = []
        self._lent: set[TrainingProcess] = set()
        self._peak_bytes = 0
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._closed = True  # a thread that still trains ends its own
        while self._idle:
            self._idle.pop().close()

    def measure_memory(self) -> tuple[int, int]:
        """Return how many bytes the processes hold together, and the most that one has held in a training that ended.

        (0, 0) before the first one.
        """
        processes = (*self._idle, *self._lent)
        return sum(process.measure_memory()[0] for process in processes), self._peak_bytes

    def kill(self) -> None:
        """End what is trained now, from another thread; each of these trainings raises TrainingKilledError."""
        for process in tuple(self._lent):
            process.kill()

    def prepare(self, family: str) -> None:
        """Let an idle process, or a new one, load what a family needs, while this one does something else."""
        process = self._take()
        self._idle.append(process)
        process.prepare(family)

    def train(
        self,
        task: TrainingTask,
        on_event: OnEvent = ignore,
        *,
        timeout_s: float | None = None,
        silence_s: float = _SILENCE_S,
    ) -> Trained:
        """Train in a child process and return the model; reports Event("fit", trees done, trees of both fits).

        A family that grows all trees in one go says nothing for minutes: then the processor time that the child has
        used is told every `silence_s` seconds, as long as it grows, so that a watchdog can tell work from a child that
        hangs. Two fits: on the rows `fitted`, which sets the threshold, then on all rows. Blocks.
        Raises ConfigError and UsageError for a family or parameter that does not exist, NoRoomError where there is no
        room for rows or models, here or in the child, TrainingError where the child fails, is killed or takes longer
        than `timeout_s`; the end of what it wrote to stderr is a note on that error. ValueError for wrong arrays.
        """
        with self.begin(task, on_event, deadline=Deadline(timeout_s), silence_s=silence_s) as begun:
            return begun.finish()

    @contextmanager
    def begin(
        self,
        task: TrainingTask,
        on_event: OnEvent = ignore,
        *,
        deadline: Deadline | None = None,
        silence_s: float = _SILENCE_S,
    ) -> Iterator[Begun]:
        """Give the training as soon as its graph stands, to examine it while the process does what is left.

        A context: what is not finished at its end is ended at once. Until `finish` has returned, that the graph
        predicts what was fitted is not known: nothing may be decided by it. deadline: of the whole training, None for
        no limit; what the caller does until it finishes takes nothing of it. As `train`, and raises as that.
        """
        deadline = deadline or Deadline(None)
        require_arrays(task)
        params = complete(find_family(task.family), task.params)
        with ExitStack() as stack:
            files = {name: stack.enter_context(_hand_over(rows)) for name, rows in _build_arrays(task).items()}
            for name, grown in (("inner_grown", task.inner_grown), ("grown", task.grown)):
                if grown:
                    files[name] = stack.enter_context(_write_all(grown))
            files |= {name: stack.enter_context(open_unnamed_file()) for name in _ANSWERS}
            give_back()  # what an exam or the features left: this process only waits now, and the child needs memory
            process = stack.enter_context(self._lend())
            descriptors = [file.fileno() for file in files.values()]
            order = _build_order(task, params, files)
            answers = stack.enter_context(closing(process.train(order, descriptors, on_event, deadline, silence_s)))
            graph = {
                **next(answers),
                "onnx": _read_whole(files["onnx"]),
                "inner_onnx": _read_whole(files["inner_onnx"]),
            }

            finished: list[Trained] = []

            def finish() -> Trained:
                rest = {**next(answers), "pkl": _read_whole(files["pkl"])}
                finished.append(msgspec.convert({**graph, **rest}, Trained))
                return finished[0]

            yield Begun(**graph, finish=finish)
            if not finished:
                process.close()  # or the next training would hear the answer of this one

    def grow(self, task: TreeTask, on_event: OnEvent = ignore) -> bytes:
        """Return what the family's `grow_tree` makes of the rows, pickled, for a `TrainingTask`. Raises as `train`.

        Without a limit of its own: who waits for all of the trees ends them.
        """
        arrays = {"X": task.X, "y": task.y} | ({} if task.weights is None else {"weights": task.weights})
        with ExitStack() as stack:
            files = {name: stack.enter_context(_hand_over(rows)) for name, rows in arrays.items()}
            files["tree"] = stack.enter_context(open_unnamed_file())
            order = {
                "files": list(files),
                "shape": task.X.shape,
                "family": task.family,
                "grow": dict(task.params),
                "seed": task.seed,
                "jobs": task.jobs,
            }
            with self._lend() as process:
                descriptors = [file.fileno() for file in files.values()]
                for _ in process.train(order, descriptors, on_event, Deadline(None), _SILENCE_S):
                    pass  # one answer, without facts: the tree is in the file
            return _read_whole(files["tree"])

    @contextmanager
    def _lend(self) -> Iterator[TrainingProcess]:
        """Hold a process that is free; it is kept where the training came to its end, and ended where it did not."""
        process = self._take()
        self._lent.add(process)
        try:
            yield process
            self._peak_bytes = max(self._peak_bytes, process.measure_memory()[1])
        except BaseException:
            process.close()
            raise
        finally:
            self._lent.discard(process)
        if self._closed:
            process.close()
        else:
            self._idle.append(process)

    def _take(self) -> TrainingProcess:
        while self._idle:
            process = self._idle.pop()
            if process.alive:
                return process
            process.close()  # the kernel ended it, for lack of memory
        return run_in_lasting_thread(TrainingProcess)


def train(
    task: TrainingTask, on_event: OnEvent = ignore, *, timeout_s: float | None = None, silence_s: float = _SILENCE_S
) -> Trained:
    """Train one task in a process of its own: see `TrainingPool.train`."""
    with TrainingPool() as pool:
        return pool.train(task, on_event, timeout_s=timeout_s, silence_s=silence_s)


def require_arrays(task: TrainingTask) -> None:
    """Raise ValueError where the arrays of a task are not what `TrainingTask` says."""
    rows = len(task.X)
    wanted = {
        "X": (np.float32, 2),
        "y": (np.float32, 1),
        "weights": (np.float32, 1),
        "groups": (np.int32, 1),
        "fitted": (np.bool_, 1),
        "held_out": (np.bool_, 1),
    }
    for name, array in _build_arrays(task).items():
        dtype, dimensions = wanted[name]
        if array.dtype != dtype or array.ndim != dimensions or len(array) != rows:
            raise ValueError(
                f"{name} must be {np.dtype(dtype)} with {count(rows, 'row')}, got {array.dtype} {array.shape}."
            )
        if array.size and not np.isfinite([array.min(), array.max()]).all():  # a NaN is both
            raise ValueError(f"{name} holds a value that is not finite; leave such rows out.")
    if task.weights is not None and not (task.weights > 0).all():
        raise ValueError("weights must be above 0; leave rows out that shall not count.")
    if not (task.fitted.any() and task.held_out.any()) or (task.fitted & task.held_out).any():
        raise ValueError("fitted and held_out must each name a row, and no row in both.")


def _build_arrays(task: TrainingTask) -> dict[str, npt.NDArray[Any]]:
    arrays: dict[str, npt.NDArray[Any]] = {"X": task.X, "y": task.y, "fitted": task.fitted, "held_out": task.held_out}
    further = {"weights": task.weights, "groups": task.groups}
    return arrays | {name: array for name, array in further.items() if array is not None}


@contextmanager
def _hand_over(array: npt.NDArray[Any]) -> Iterator[IO[bytes]]:
    file = find_file(array)
    if file is not None:  # it lies in one: the child gets that, without a copy
        yield file
        return
    with open_unnamed_file() as file:
        try:
            file.write(np.ascontiguousarray(array).data.cast("B"))  # not tofile, which forgets why it failed
            file.flush()
        except OSError as error:
            raise build_no_room_error(error) from error
        yield file


@contextmanager
def _write_all(parts: Sequence[bytes]) -> Iterator[IO[bytes]]:
    with open_unnamed_file() as file:
        try:
            file.writelines(parts)
            file.flush()
        except OSError as error:
            raise build_no_room_error(error) from error
        file.seek(0)  # the child reads on from here
        yield file


def _read_whole(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def _build_order(task: TrainingTask, params: Mapping[str, object], files: Mapping[str, IO[bytes]]) -> dict[str, object]:
    """Return what the child is told, beside the descriptors of `files`."""
    return {
        "files": list(files),  # in the order of their descriptors
        "shape": task.X.shape,
        "family": task.family,
        "params": params,
        "seed": task.seed,
        "jobs": task.jobs or len(os.sched_getaffinity(0)),
        "entry_quantile": task.entry_quantile,
        "keep_inner": task.keep_inner,
        "only_inner": task.only_inner,
        "tickers": task.tickers,
        "with_pkl": task.with_pkl,
        "max_rows": task.max_rows,
    }
