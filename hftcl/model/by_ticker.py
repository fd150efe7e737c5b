"""Features and target of a whole watchlist, computed a few tickers at a time: memory grows with theirs alone.

The values are those of `features.features` and `target.compute_targets`, to the bit. They are written as float32 to an
unnamed file, see `mapped`, and read from it without a copy. The first look at a few tickers needs no other one: it is a
pure function, `look_alone`, that may run anywhere.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from hftcl.arrow import map_times
from hftcl.errors import IntegrityError
from hftcl.mapped import FileArray, FrameFiles, create_array
from hftcl.market.bars import Finding
from hftcl.market.splits import name_parts
from hftcl.market.ticker_blocks import cut_runs, find_begins
from hftcl.model.across import compare_minutes
from hftcl.model.feature import Feature, list_columns
from hftcl.model.feature_check import find_infinite, require_finite
from hftcl.model.features import evaluate_expressions
from hftcl.model.grid import MOST_MINUTES, MinuteGrid, build_grid_alone, find_sessions
from hftcl.model.peers import LOG_UNIT, OWN, PEERS, PeerSums
from hftcl.model.target import evaluate_target
from hftcl.waiting import map_in_threads

# What is kept of a ticker's minutes until its peers are known; a feature that reads nothing else needs no other look.
_KEPT: Final = {"part": pl.UInt32, "session_no": pl.Int32, "minute": pl.Int32, "age": pl.Int32, "seen": pl.Boolean}
_BLOCK_BARS: Final = 80_000  # five tickers of 60 days: a call of polars for each alone would cost half as much again
_NONE: Final = np.iinfo(np.int64).min  # stands for null in a file of whole numbers
LOOKS: Final = 2
"""At each block of tickers: one that needs no other ticker, and one once all have had the first."""
OnBlock = Callable[[int, int], None]
"""Called with (done, total) looks at a block of tickers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LookOrder:
    """What a first look is told. sessions: of all tickers, see `find_sessions`. since: the first of the answer's.

    jumps: nights that no feature reads across.
    """

    jumps: tuple[Finding, ...]
    sessions: pl.DataFrame = field(repr=False)
    horizon_minutes: int
    table: tuple[Feature, ...] = field(repr=False)
    since: date


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstLook:
    """What needs no other ticker, of the bars of a few. tickers: theirs, in their order.

    values: of each bar that the answer has, the features that read no peers, target and label_end. minutes: of _KEPT
    and OWN, these in whole LOG_UNITs. places: of each bar its row among the minutes, UInt32.
    """

    tickers: tuple[str, ...]
    values: pl.DataFrame = field(repr=False)
    minutes: pl.DataFrame = field(repr=False)
    places: pl.Series = field(repr=False)


LookElsewhere = Callable[[Sequence[pl.DataFrame], LookOrder], Iterator[tuple[int, FirstLook]]]
"""Yields (number, what `look_alone` comes to) of each block of bars, in the order in which they are done."""


def look_alone(bars: pl.DataFrame, order: LookOrder) -> FirstLook:
    """Compute what needs no other ticker. bars: of whole tickers, sorted by ticker and ts. Raises ValueError."""
    table = [one for one in order.table if not _reads_peers(one)]
    grid = _build_grid(bars, order)
    scaled = MinuteGrid(frame=grid.frame.with_columns(pl.col(name) * LOG_UNIT for name in OWN), rows=grid.rows)
    columns = evaluate_expressions(scaled, table), evaluate_target(grid, order.horizon_minutes)
    return FirstLook(
        tickers=list_tickers(bars),
        values=pl.concat(columns, how="horizontal").filter(bars["session"] >= order.since),
        minutes=grid.frame.select(*_KEPT, *OWN),
        places=pl.Series(grid.rows, dtype=pl.UInt32),
    )


def _build_grid(bars: pl.DataFrame, order: LookOrder) -> MinuteGrid:
    named = name_parts(bars, order.jumps)  # of a few tickers: of all bars the new names would lie in memory
    return build_grid_alone(named, order.sessions, list_columns(order.table))


def list_tickers(bars: pl.DataFrame) -> tuple[str, ...]:
    """Return the tickers of bars that are sorted by ticker, in their order."""
    return tuple(bars["ticker"].gather(find_begins(bars["ticker"])))


def name_tickers(bars: pl.DataFrame) -> str:
    """Return which tickers they are, for a person.

    >>> name_tickers(pl.DataFrame({"ticker": ["AAPL", "AMD", "AMD", "AMZN"]}))
    'AAPL to AMZN'
    """
    first, *others = list_tickers(bars)
    return f"{first} to {others[-1]}" if others else first


@dataclass(frozen=True, slots=True)
class _Block:
    """A few tickers: which bars are theirs, which rows of the answer, and which of all tickers' minutes on the grid."""

    rows: slice
    answers: slice
    minutes: slice


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """All that is shared by the tickers.

    matrix: float32, a row for each feature and one for the target. ends: int64, of the labels. minutes: int64, a row
    for each of _KEPT and OWN, what the first look leaves for the second. places: int64, for each bar its row on its
    block's grid. kept: bool, for each bar whether the answer has it. own: features that must be finite. broken: where
    one of them is not, the first such bar of a block: in the matrix NaN stands for null.
    """

    bars: pl.DataFrame
    order: LookOrder
    matrix: FileArray
    ends: FileArray
    minutes: FileArray
    places: FileArray
    kept: npt.NDArray[np.bool_]
    own: tuple[Feature, ...]
    broken: list[pl.DataFrame] = field(default_factory=list)

    @property
    def table(self) -> tuple[Feature, ...]:
        """The features."""
        return self.order.table

    def look(self, block: _Block) -> None:
        """Compute what needs no other ticker, and keep it."""
        self.keep(block, look_alone(self.bars[block.rows], self.order))

    def keep(self, block: _Block, look: FirstLook) -> None:
        """Keep what a first look came to."""
        for place, name in enumerate((*_KEPT, *OWN)):
            self.minutes[place, block.minutes] = look.minutes[name].cast(pl.Int64).fill_null(_NONE).to_numpy()
        self.places[block.rows] = look.places.to_numpy()
        self.ends[block.answers] = look.values["label_end"].to_physical().fill_null(_NONE).to_numpy()
        self._write(block, look.values.drop("label_end"))

    def read_minutes(self, block: _Block) -> pl.DataFrame:
        """Return what the first look has kept; own_5, own_15, own_30 are whole LOG_UNITs."""
        columns = dict(zip((*_KEPT, *OWN), np.asarray(self.minutes[:, block.minutes]), strict=True))
        kept = [pl.Series(name, columns[name]).cast(dtype) for name, dtype in _KEPT.items()]
        return pl.DataFrame([*kept, *(pl.Series(name, columns[name]).replace(_NONE, None) for name in OWN)])

    def look_again(self, block: _Block, peers: PeerSums) -> None:
        """Compute what the other tickers are needed for."""
        table = [one for one in self.table if _reads_peers(one)]
        enough = all(_list_roots(one) <= {*_KEPT, *OWN, *PEERS} for one in table)
        minutes = self.read_minutes(block) if enough else _build_grid(self.bars[block.rows], self.order).frame
        grid = MinuteGrid(frame=peers.add_peers(minutes), rows=np.asarray(self.places[block.rows]))
        kept = pl.Series(self.kept[block.rows])
        self._write(block, evaluate_expressions(grid, table).filter(kept))

    def compare_across(self) -> None:
        """Put each feature that is one across tickers in the place of its expression's value."""
        crossing = [place for place, one in enumerate(self.table) if one.across]
        if not crossing:
            return
        days, minutes = self.bars["session"].to_physical().to_numpy(), self.bars["minute"].to_numpy()
        at = (days.astype(np.int64) * MOST_MINUTES + minutes)[self.kept]
        for place in crossing:
            values = np.asarray(self.matrix[place]).astype(np.float64)
            self.matrix[place] = compare_minutes(values, at, self.table[place].across).astype(np.float32)

    def require_finite(self) -> None:
        """Raise FeatureError where a user's feature is NaN or infinite, also one that is to be compared across."""
        for feature in self.own:
            found = [rows for rows in self.broken if feature.name in rows.columns]
            if found:
                require_finite([feature], pl.concat(found))

    def list_values(self) -> list[pl.Series]:
        """Return the columns of the features, the target and label_end; null where not known."""
        names, ends = [*(one.name for one in self.table), "target"], np.asarray(self.ends)
        values = [
            pl.Series(name, np.asarray(values), dtype=pl.Float32, nan_to_null=True)
            for name, values in zip(names, self.matrix, strict=True)
        ]
        return [*values, map_times("label_end", ends, ends != _NONE)]

    def _write(self, block: _Block, values: pl.DataFrame) -> None:
        """Write columns of the block's rows of the answer."""
        places = {**{one.name: place for place, one in enumerate(self.table)}, "target": len(self.table)}
        for name in values.columns:
            self.matrix[places[name], block.answers] = values[name].to_numpy()
        for name in {one.name for one in self.own}.intersection(values.columns):
            self._note_broken(block, values[name])

    def _note_broken(self, block: _Block, values: pl.Series) -> None:
        infinite = find_infinite(values)
        if infinite.any():
            kept = pl.Series(self.kept[block.rows])
            rows = self.bars[block.rows].select("ticker", "ts").filter(kept).with_columns(values).filter(infinite)
            self.broken.append(rows.sort("ts", "ticker").head(1))


def add_features_by_ticker(
    bars: pl.DataFrame,
    horizon_minutes: int,
    *,
    jumps: Sequence[Finding],
    table: tuple[Feature, ...],
    own: tuple[Feature, ...] = (),
    since: date,
    jobs: int,
    on_block: OnBlock,
    elsewhere: LookElsewhere | None = None,
) -> pl.DataFrame:
    """Return the bars of the sessions from `since` on with the features of `table`, the target and label_end.

    bars: sorted by ticker and ts, with `minute`, and what the features read; those before `since` are read and left
    out. jumps: nights that no feature reads across. jobs: processor cores, which change no bit. elsewhere: where the
    first looks are done; here where that is left out. Raises ValueError for bars that are not clean, FeatureError where
    one of `own`, the user's features of `table` that are trained on, is NaN or infinite, NoRoomError where the unnamed
    file has no room, IntegrityError where `elsewhere` gives what is not of its bars, and what that raises.
    """
    sessions = find_sessions(bars.select("session", pl.col("minute").cast(pl.Int32)))
    kept = (bars["session"] >= since).to_numpy()
    answers = int(np.count_nonzero(kept))
    blocks = _list_blocks(bars, sessions, kept)
    work = _Work(
        bars=bars,
        order=LookOrder(
            jumps=tuple(jumps), sessions=sessions, horizon_minutes=horizon_minutes, table=table, since=since
        ),
        matrix=create_array((len(table) + 1, answers), np.float32),
        ends=create_array((answers,), np.int64),
        minutes=create_array((len(_KEPT) + len(OWN), blocks[-1].minutes.stop if blocks else 0), np.int64),
        places=create_array((bars.height,), np.int64),
        kept=kept,
        own=own,
    )
    peers = PeerSums(sessions)
    with ThreadPoolExecutor(jobs, "features") as threads:
        for done, number in enumerate(_look_at_each(work, blocks, threads, elsewhere), 1):
            peers.add(work.read_minutes(blocks[number]))
            on_block(done, LOOKS * len(blocks))
        # In place, as above: with the loop the generator ends, and its end cancels the blocks that have not begun.
        for done, _ in enumerate(map_in_threads(threads, lambda block: work.look_again(block, peers), blocks), 1):
            on_block(len(blocks) + done, LOOKS * len(blocks))
    work.require_finite()
    work.compare_across()
    return FrameFiles().put(bars.clear(), *cut_runs(bars, kept)).hstack(work.list_values())


def _look_at_each(
    work: _Work, blocks: Sequence[_Block], threads: Executor, elsewhere: LookElsewhere | None
) -> Iterator[int]:
    """Yield the number of each block once what needs no other ticker is kept."""
    if elsewhere is None:
        for number, _ in enumerate(map_in_threads(threads, work.look, blocks)):
            yield number
        return
    for number, look in elsewhere([work.bars[block.rows] for block in blocks], work.order):
        _require_whole(look, blocks[number], work.bars)
        work.keep(blocks[number], look)
        yield number


def _require_whole(look: FirstLook, block: _Block, bars: pl.DataFrame) -> None:
    """Raise IntegrityError where what came back is not of the block's bars: another machine may answer anything."""
    found = look.places.len(), look.values.height, look.minutes.height
    sizes = tuple(part.stop - part.start for part in (block.rows, block.answers, block.minutes))
    if found != sizes or look.tickers != list_tickers(bars[block.rows]):
        raise IntegrityError(
            f"The features of {name_tickers(bars[block.rows])} came back of other bars. Nothing is trained: run it "
            "again."
        )


def _list_blocks(bars: pl.DataFrame, sessions: pl.DataFrame, kept: npt.NDArray[np.bool_]) -> list[_Block]:
    """Cut between tickers, and look up how many minutes each block has on the grid."""
    tickers, days = find_begins(bars["ticker"]), bars["session"].to_physical().to_numpy()
    first_rows = np.union1d(tickers, np.flatnonzero(days[1:] != days[:-1]) + 1)
    parts = (
        bars.select(pl.col("session", "minute").gather(first_rows))
        .with_columns(row=first_rows, other=np.isin(first_rows, tickers))
        .join(sessions, on="session", how="left", maintain_order="left")
    )
    sizes = parts.select((pl.col("newest") - pl.col("minute") + 1).cast(pl.Int64)).to_series().to_numpy()
    begun = np.concatenate([[0], np.cumsum(sizes)])  # minutes before each part, and of all
    first = parts["other"].arg_true().to_numpy()
    rows = np.append(parts["row"].to_numpy()[first], bars.height)
    minutes = np.append(begun[first], begun[-1])
    answers = np.concatenate([[0], np.cumsum(kept)])[rows]
    if not first.size:
        return []
    # the first ticker at or after each full block of bars begins the next one
    starts = np.unique(np.searchsorted(rows[:-1], np.arange(0, bars.height, _BLOCK_BARS)))
    cuts = [*starts[starts < first.size].tolist(), first.size]
    return [
        _Block(*(slice(int(of[one]), int(of[two])) for of in (rows, answers, minutes))) for one, two in pairwise(cuts)
    ]


def _list_roots(feature: Feature) -> frozenset[str]:
    return frozenset(feature.expr.meta.root_names())


def _reads_peers(feature: Feature) -> bool:
    return not _list_roots(feature).isdisjoint(PEERS)
