"""Features and target of a whole watchlist, computed a few tickers at a time: memory grows with theirs alone.

The values are those of `features.features` and `target.compute_targets`, to the bit. They are written as float32 to an
unnamed file, see `mapped`, and read from it without a copy.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from hftcl.arrow import map_times
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
OnBlock = Callable[[int, int], None]
"""Called with (done, total) looks at a block of tickers; each gets two."""


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
    jumps: Sequence[Finding]
    sessions: pl.DataFrame
    horizon_minutes: int
    table: tuple[Feature, ...]
    matrix: FileArray
    ends: FileArray
    minutes: FileArray
    places: FileArray
    kept: npt.NDArray[np.bool_]
    own: tuple[Feature, ...]
    broken: list[pl.DataFrame] = field(default_factory=list)

    def look(self, block: _Block) -> None:
        """Compute what needs no other ticker."""
        grid = self._build(block)
        for place, name in enumerate((*_KEPT, *OWN)):
            self.minutes[place, block.minutes] = grid.frame[name].cast(pl.Int64).fill_null(_NONE).to_numpy()
        self.places[block.rows] = grid.rows
        scaled = MinuteGrid(frame=grid.frame.with_columns(pl.col(name) * LOG_UNIT for name in OWN), rows=grid.rows)
        target = evaluate_target(grid, self.horizon_minutes)
        self._write(block, evaluate_expressions(scaled, [one for one in self.table if not _reads_peers(one)]))
        self._write(block, target.select("target"))
        ends = target["label_end"].to_physical().fill_null(_NONE).to_numpy()
        self.ends[block.answers] = ends[self.kept[block.rows]]

    def read_minutes(self, block: _Block) -> pl.DataFrame:
        """Return what the first look has kept; own_5, own_15, own_30 are whole LOG_UNITs."""
        columns = dict(zip((*_KEPT, *OWN), np.asarray(self.minutes[:, block.minutes]), strict=True))
        kept = [pl.Series(name, columns[name]).cast(dtype) for name, dtype in _KEPT.items()]
        return pl.DataFrame([*kept, *(pl.Series(name, columns[name]).replace(_NONE, None) for name in OWN)])

    def look_again(self, block: _Block, peers: PeerSums) -> None:
        """Compute what the other tickers are needed for."""
        table = [one for one in self.table if _reads_peers(one)]
        enough = all(_list_roots(one) <= {*_KEPT, *OWN, *PEERS} for one in table)
        minutes = self.read_minutes(block) if enough else self._build(block).frame
        grid = MinuteGrid(frame=peers.add_peers(minutes), rows=np.asarray(self.places[block.rows]))
        self._write(block, evaluate_expressions(grid, table))

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

    def _build(self, block: _Block) -> MinuteGrid:
        bars = name_parts(self.bars[block.rows], self.jumps)  # here: of all bars the new names would lie in memory
        return build_grid_alone(bars, self.sessions, list_columns(self.table))

    def _write(self, block: _Block, values: pl.DataFrame) -> None:
        places = {**{one.name: place for place, one in enumerate(self.table)}, "target": len(self.table)}
        kept = self.kept[block.rows]
        for name in values.columns:
            self.matrix[places[name], block.answers] = values[name].to_numpy()[kept]
        for name in {one.name for one in self.own}.intersection(values.columns):
            self._note_broken(block, values[name])

    def _note_broken(self, block: _Block, values: pl.Series) -> None:
        infinite = find_infinite(values) & pl.Series(self.kept[block.rows])
        if infinite.any():
            rows = self.bars[block.rows].select("ticker", "ts").with_columns(values).filter(infinite)
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
) -> pl.DataFrame:
    """Return the bars of the sessions from `since` on with the features of `table`, the target and label_end.

    bars: sorted by ticker and ts, with `minute`, and what the features read; those before `since` are read and left
    out. jumps: nights that no feature reads across. jobs: processor cores, which change no bit. Raises ValueError for
    bars that are not clean, FeatureError where one of `own`, the user's features of `table` that are trained on, is NaN
    or infinite, NoRoomError where the unnamed file has no room.
    """
    sessions = find_sessions(bars.select("session", pl.col("minute").cast(pl.Int32)))
    kept = (bars["session"] >= since).to_numpy()
    answers = int(np.count_nonzero(kept))
    blocks = _list_blocks(bars, sessions, kept)
    work = _Work(
        bars=bars,
        jumps=jumps,
        sessions=sessions,
        horizon_minutes=horizon_minutes,
        table=table,
        matrix=create_array((len(table) + 1, answers), np.float32),
        ends=create_array((answers,), np.int64),
        minutes=create_array((len(_KEPT) + len(OWN), blocks[-1].minutes.stop if blocks else 0), np.int64),
        places=create_array((bars.height,), np.int64),
        kept=kept,
        own=own,
    )
    peers = PeerSums(sessions)
    with ThreadPoolExecutor(jobs, "features") as threads:
        for done, _ in enumerate(map_in_threads(threads, work.look, blocks)):
            peers.add(work.read_minutes(blocks[done]))
            on_block(done + 1, 2 * len(blocks))
        # In place, as above: with the loop the generator ends, and its end cancels the blocks that have not begun.
        for done, _ in enumerate(map_in_threads(threads, lambda block: work.look_again(block, peers), blocks), 1):
            on_block(len(blocks) + done, 2 * len(blocks))
    work.require_finite()
    work.compare_across()
    return FrameFiles().put(bars.clear(), *cut_runs(bars, kept)).hstack(work.list_values())


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
