"""The trees of samples, above `[model] max_rows`, as tasks: a block of them each, which grow where the engine says.

The rest of a training, which reads every row, stays in a process of this machine: threshold, graph and comparison.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hftcl.compute import Arrays, Bench, Engine, Piece, Task, Wanted
from hftcl.errors import IntegrityError
from hftcl.events import Event, OnEvent, ignore
from hftcl.formats import count
from hftcl.mapped import create_array
from hftcl.model.deadline import Deadline
from hftcl.model.families import Family, complete, find_family, find_grower
from hftcl.model.sampling import Sampler, scale_weights
from hftcl.model.training import Begun, Trained, Trainer, TrainingTask, TreeTask, require_arrays
from hftcl.settings import Settings

_BLOCK_TREES: Final = 10  # of one task: 200 trees and both fits are forty, enough for as many workers
_INNER: Final = "entry threshold"  # as the training process names its two fits
_WHOLE: Final = "all rows"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockOrder:
    """What a task is told. first, trees: numbers of its samples; only_fitted: they are drawn from the inner split's.

    width: of a row of X.
    """

    family: str
    params: dict[str, object]
    seed: int
    max_rows: int
    first: int
    trees: int
    only_fitted: bool
    width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeBlock:
    """What a task comes to. trees: what `TrainingPool.grow` made of each sample that `order` names."""

    order: BlockOrder
    trees: tuple[bytes, ...] = field(repr=False)


def grow_block(pieces: Iterable[Piece], order: BlockOrder, bench: Bench) -> TreeBlock:
    """Return the trees of the samples. Raises as `TrainingPool.grow`."""
    few = ("groups", "fitted")
    groups, fitted = (
        np.concatenate(column) for column in zip(*([p[name] for name in few] for p in pieces), strict=True)
    )
    among = np.flatnonzero(fitted) if order.only_fitted else np.arange(len(groups))
    sampler = Sampler(groups, among, order.max_rows, order.seed)
    trees = []
    for number in range(order.first, order.first + order.trees):
        bench.require_going()
        task = _gather(pieces, sampler, number, order, bench.jobs)
        trees.append(bench.pool.grow(task, bench.on_event))
    return TreeBlock(order=order, trees=tuple(trees))


def _gather(pieces: Iterable[Piece], sampler: Sampler, number: int, order: BlockOrder, jobs: int) -> TreeTask:
    """Return what a tree is told, with a copy of its rows; that of X lies in an unnamed file."""
    rows = sampler.draw(number)
    X: npt.NDArray[np.float32] = create_array((rows.size, order.width), np.float32)
    vectors: dict[str, list[npt.NDArray[np.float32]]] = {"y": [], "weights": []}
    before = done = 0
    for piece in pieces:
        size = len(piece["y"])
        mine = rows[np.searchsorted(rows, before) : np.searchsorted(rows, before + size)] - before
        X[done : done + mine.size] = piece["X"][mine]
        for name, parts in vectors.items():
            if name in piece:
                parts.append(piece[name][mine])
        before, done = before + size, done + mine.size
    return TreeTask(
        X=X,
        y=np.concatenate(vectors["y"]),
        weights=np.concatenate(vectors["weights"]) if vectors["weights"] else None,
        family=order.family,
        params=order.params,
        seed=sampler.derive_seed(number),
        jobs=jobs,
    )


@dataclass(frozen=True, slots=True)
class BlockTrainer:
    """Trains as `trainer` does, to the bit, but for the trees of samples: these grow as tasks of `engine`."""

    trainer: Trainer
    engine: Engine

    @contextmanager
    def begin(
        self, task: TrainingTask, on_event: OnEvent = ignore, *, deadline: Deadline | None = None
    ) -> Iterator[Begun]:
        """Give the training as soon as its graph stands: see `TrainingPool.begin`. deadline: the trees included.

        Raises as that, ComputeError where the cluster cannot go on, and IntegrityError where what came back are not
        the trees that a task was told to grow. Where the time is over while trees grow, none of their processes is
        asked what it wrote to stderr.
        """
        deadline = deadline or Deadline(None)
        fits = _list_fits(task)
        if not fits:
            with self.trainer.begin(task, on_event, deadline=deadline) as begun:
                yield begun
            return
        require_arrays(task)  # here, where it can be said of the whole training: a worker sees a sample
        growth = _Growth(task=task, fits=fits, on_event=on_event, deadline=deadline)
        inner_s, whole_s = growth.run(self.engine)
        told = replace(task, inner_grown=growth.list_grown(_INNER), grown=growth.list_grown(_WHOLE))
        with self.trainer.begin(told, growth.tell_rest, deadline=deadline) as begun:

            def finish() -> Trained:
                trained = begun.finish()
                seconds = trained.seconds
                waited = replace(seconds, inner_fit=seconds.inner_fit + inner_s, fit=seconds.fit + whole_s)
                return replace(trained, seconds=waited)

            yield replace(begun, finish=finish)


def choose_trainer(settings: Settings, trainer: Trainer, engine: Engine) -> Trainer:
    """Return what trains as the settings say: on this machine alone, or with the trees of samples on the cluster."""
    return BlockTrainer(trainer, engine) if grows_on_cluster(settings) else trainer


def grows_on_cluster(settings: Settings) -> bool:
    """Whether the trees of a model above `[model] max_rows` grow on a cluster.

    On one of this machine they would take as many cores, and the training rows once more for each worker.
    """
    model = settings.model
    limited = model.max_rows > 0 and model.per != "ticker"
    return settings.compute.names_cluster and limited and _grows_apart(find_family(model.family))


def _list_fits(task: TrainingTask) -> tuple[str, ...]:
    """Return which fits learn from samples whose trees may grow elsewhere."""
    if task.groups is None or not _grows_apart(find_family(task.family)):
        return ()
    sizes = {_INNER: int(np.count_nonzero(task.fitted)), _WHOLE: 0 if task.only_inner else len(task.y)}
    return tuple(name for name, size in sizes.items() if size > task.max_rows)


def _grows_apart(family: Family) -> bool:
    """Whether its trees may grow elsewhere; not those of a family that chooses something between its two fits."""
    return find_grower(family) is not None and not hasattr(family, "settle")


@dataclass(slots=True, kw_only=True)
class _Growth:
    """The trees of one training, growing. fits: which of the two have samples."""

    task: TrainingTask
    fits: tuple[str, ...]
    on_event: OnEvent
    deadline: Deadline
    _blocks: dict[str, dict[int, tuple[bytes, ...]]] = field(default_factory=dict, init=False)
    _told: Event = field(default=Event("fit"), init=False)

    def run(self, engine: Engine) -> tuple[float, float]:
        """Let all trees grow; return the seconds until those of the threshold's model had, and the rest of them."""
        task, family = self.task, find_family(self.task.family)
        params = complete(family, task.params)
        total: int = family.count_trees(params)  # type: ignore[attr-defined]  # see `_list_fits`
        arrays = Arrays(_list_columns(task))
        tasks = [
            Task(
                name=f"trees {order.first + 1} to {order.first + order.trees}, {name}",
                function=grow_block,
                rows=arrays,
                order=order,
            )
            for name in self.fits
            for order in _list_orders(task, params, total, only_fitted=name == _INNER)
        ]
        self._blocks = {name: {} for name in self.fits}
        self._tell(0, 2 * total, self.fits[0])
        sample_bytes = task.max_rows * arrays.row_bytes
        wanted = Wanted(rows_bytes=sample_bytes, stage="fit", tasks=len(tasks), uses_all_cores=True)
        began = inner_done = time.monotonic()
        for number, block in engine.gather(wanted).run(tasks, self._hear, self.deadline.require_left):
            self.deadline.require_left()  # here too: after the last block there is no further glance
            _require_block(block, tasks[number])
            name = _INNER if block.order.only_fitted else _WHOLE
            self._blocks[name][block.order.first] = block.trees
            if name == _INNER:
                inner_done = time.monotonic()
            self._tell(self._told.done + len(block.trees), 2 * total, name)
        return inner_done - began, time.monotonic() - inner_done

    def list_grown(self, name: str) -> tuple[bytes, ...]:
        """Return the trees of a fit, in the order of their samples; none of one without samples."""
        blocks = self._blocks.get(name, {})
        return tuple(tree for first in sorted(blocks) for tree in blocks[first])

    def tell_rest(self, event: Event) -> None:
        """Tell what the training process tells; no step of its fits goes back behind what has grown."""
        steps = event.total and event.stage == self._told.stage
        self.on_event(replace(event, done=max(self._told.done, event.done)) if steps else event)

    def _hear(self, number: int, event: Event) -> None:
        """Tell that a task works or waits, as far as all are: a step of one tree is no sign of how far."""
        self.on_event(self._told if event.total else replace(self._told, text=event.text))

    def _tell(self, done: int, total: int, text: str) -> None:
        self._told = Event("fit", done, total, text)
        self.on_event(self._told)


def _require_block(block: TreeBlock, task: Task[TreeBlock]) -> None:
    """Raise IntegrityError where a task came to other trees than it was told to grow: a worker may answer anything."""
    if block.order != task.order:
        faulty = "the trees of another task"
    elif len(block.trees) != task.order.trees:
        faulty = count(len(block.trees), "tree")
    else:
        return
    raise IntegrityError(f"The task of {task.name} came back with {faulty}. Nothing is archived: run it again.")


def _list_columns(task: TrainingTask) -> dict[str, npt.NDArray[Any]]:
    columns: dict[str, npt.NDArray[Any]] = {"X": task.X, "y": task.y, "fitted": task.fitted}
    if task.groups is not None:
        columns["groups"] = task.groups
    if task.weights is not None:
        columns["weights"] = scale_weights(task.weights)
    return columns


def _list_orders(
    task: TrainingTask, params: dict[str, object], total: int, *, only_fitted: bool
) -> Iterator[BlockOrder]:
    for first in range(0, total, _BLOCK_TREES):
        yield BlockOrder(
            family=task.family,
            params=params,
            seed=task.seed,
            max_rows=task.max_rows,
            first=first,
            trees=min(_BLOCK_TREES, total - first),
            only_fitted=only_fitted,
            width=task.X.shape[1],
        )
