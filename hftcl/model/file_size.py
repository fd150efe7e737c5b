"""How large a model's file may be, and that it would be too large: known before hours of training, not after. Pure."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from hftcl.errors import TrainingError
from hftcl.formats import count
from hftcl.model.families import Family

# A model is read whole into memory, by bot and doctor too; 50 times the 5 MB that the doctor reckons with.
MAX_BYTES: Final = 256 * 2**20
# What a node of a tree takes in the graph: 34.7 to 36.9 measured, of forests, LightGBM, XGBoost and their vote.
_NODE_BYTES: Final = 37
# By so much must what the first tickers take foretell too large a file before the training ends for it: tickers of one
# watchlist differ by less.
_SURE: Final = 1.5


def count_tree_nodes(params: Mapping[str, object], rows: int) -> int:
    """Return the most nodes that trees have that were grown on so many rows; params: as a forest names them.

    >>> count_tree_nodes({"n_estimators": 10, "max_depth": 12, "min_samples_leaf": 50}, rows=100)
    30
    """
    trees, depth, leaf = (int(str(params[name])) for name in ("n_estimators", "max_depth", "min_samples_leaf"))
    leaves = min(1 << depth, max(1, rows // leaf))
    return trees * (2 * leaves - 1)


def count_most_bytes(family: Family, params: Mapping[str, object], rows: Sequence[int]) -> int:
    """Return the most bytes that models on so many rows each take together; 0 where the family cannot tell."""
    count_nodes: Callable[[Mapping[str, object], int], int] | None = getattr(family, "count_nodes", None)
    nodes: int = sum(map(partial(count_nodes, params), rows)) if count_nodes else 0
    return _NODE_BYTES * nodes


def describe_bound(family: Family, params: Mapping[str, object], rows: Sequence[int], *, per_ticker: bool) -> str:
    """Return what to tell before a training whose file may be too large; "" where it cannot be.

    A bound: trees seldom fill it. Of leaves that the rows limit some two thirds come, of those that the depth limits a
    seventh or more.
    """
    most = count_most_bytes(family, params, rows)
    if most <= MAX_BYTES:
        return ""
    return (
        f"the model may take up to {_format_mebibytes(most)}, and a file may have "
        f"{_format_mebibytes(MAX_BYTES)}: as soon as that is "
        f"certain the training ends. {_advise(per_ticker=per_ticker)}"
    )


def require_room(sizes: Sequence[int], rows: Sequence[int]) -> None:
    """Raise TrainingError where a file of models of these sizes, and of those that are still to come, is too large.

    sizes: bytes of the graphs that are there, of the first tickers. rows: of every ticker.
    """
    taken, done = sum(sizes), len(sizes)
    if not taken:
        return
    by_ticker = taken / done * len(rows)
    by_row = taken / max(1, sum(rows[:done])) * sum(rows)
    if taken > MAX_BYTES or min(by_ticker, by_row) > _SURE * MAX_BYTES:
        foreseen = max(taken, min(by_ticker, by_row))
        raise TrainingError(
            f"The models of {done} of {count(len(rows), 'ticker')} take {_format_mebibytes(taken)}: all "
            "would take some "
            f"{_format_mebibytes(foreseen)}, and a model file may have {_format_mebibytes(MAX_BYTES)}. "
            f"{_advise(per_ticker=True)}"
        )


def require_small(size: int, *, per_ticker: bool = False) -> None:
    """Raise TrainingError for a model of so many bytes that no file may hold it."""
    if size > MAX_BYTES:
        raise TrainingError(
            f"The model takes {_format_mebibytes(size)}, and a model file may have {_format_mebibytes(MAX_BYTES)}. "
            + _advise(per_ticker=per_ticker)
        )


def _format_mebibytes(size: float) -> str:
    return f"{size / 2**20:,.0f} MiB"


def _advise(*, per_ticker: bool) -> str:
    other = ', or one model for all: [model] per = "watchlist"' if per_ticker else ""
    return f"Use fewer or shallower trees, or a larger min_samples_leaf{other}."
