"""Which rows of a window train, as the arrays that a model learns from."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from hftcl.compute.crew import count_cores
from hftcl.errors import NoDataError
from hftcl.events import RequireGoing
from hftcl.exam.split import ExamSplit, list_sessions, split_inner
from hftcl.formats import count
from hftcl.mapped import FileArray, FrameFiles, create_array
from hftcl.model.families import find_family
from hftcl.model.features import is_known
from hftcl.model.inputs import Inputs
from hftcl.model.sampling import Sampler
from hftcl.model.training import TrainingTask
from hftcl.settings import Settings

# Labels of half an hour overlap: a thousand rows, three sessions, hold some thirty that do not. Below it a model of one
# ticker is chance, and the quantile that sets its threshold too.
_FEWEST_ROWS: Final = 1_000
_BLOCK_ROWS: Final = 65_536  # 8 MB of 31 features: what is copied at a time
_READ: Final = ("ts", "session", "label_end", "target")  # what tells which rows train, and how


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRows:
    """The rows of a window that may train, each with every feature and a target; `inner` divides them.

    frame: ts, session, label_end and target of each, and its ticker where there is a model a ticker. These, and X and y
    where they were gathered, lie in unnamed files.

    first, last: sessions that may train, and label_end, when the last label ends (UTC): also where a sample lacks them.
    max_rows: `[model] max_rows` where there were more rows than that, else 0: where `groups` numbers the sessions of
    tickers each tree draws from all the rows here, else these are the one sample.
    inputs: what X holds of a row. thin: where there is a model a ticker, those that have too few rows for one, with
    their number; the frame has none of them.
    """

    inputs: Inputs
    thin: dict[str, int] = field(default_factory=dict)
    frame: pl.DataFrame = field(repr=False)
    X: npt.NDArray[np.float32] = field(repr=False)  # the field's name for the features
    y: npt.NDArray[np.float32] = field(repr=False)
    inner: ExamSplit
    first: date
    last: date
    label_end: datetime
    groups: npt.NDArray[np.int32] | None = field(default=None, repr=False)
    max_rows: int = 0

    @classmethod
    def gather(
        cls,
        frame: pl.DataFrame,
        split: ExamSplit,
        settings: Settings,
        names: tuple[str, ...],
        require_going: RequireGoing,
    ) -> "TrainingRows":
        """Return those of `frame` that `split` lets train; names: the features, in order.

        require_going: is asked before each block that is copied.
        Raises NoDataError where there is none, or too few.
        """
        known = frame.select(is_known(names) & pl.col("target").is_not_null()).to_series()
        trains = known & split.mask_training(frame)
        per_ticker = settings.model.per == "ticker"
        rows = _read_rows(frame, trains, ("ticker", *_READ) if per_ticker else _READ, require_going)
        if rows.is_empty():
            raise _build_none_error(frame, split)
        first, last = rows["session"].min(), rows["session"].max()
        label_end = rows["label_end"].max()
        groups, max_rows = None, settings.model.max_rows if 0 < settings.model.max_rows < rows.height else 0
        if max_rows:
            groups = _number_groups(frame, trains)
            if per_ticker or not getattr(find_family(settings.model.family), "takes_samples", False):
                drawn = Sampler(groups, np.arange(rows.height), max_rows, settings.model.seed).draw(0)
                trains, rows, groups = _keep(trains, drawn), rows[drawn], None
        inner = split_inner(list_sessions(rows), embargo_sessions=settings.exam.embargo_sessions)
        inputs = Inputs(names=names)
        thin: dict[str, int] = {}
        if per_ticker:
            tickers, thin = _find_ticker_models(rows, inner)
            inputs, rows = Inputs(names=names, tickers=tickers), rows.filter(pl.col("ticker").is_in(tickers))
            trains &= frame["ticker"].is_in(list(tickers))
        return cls(
            inputs=inputs,
            thin=thin,
            frame=rows,
            X=_gather_matrix(frame, trains, inputs, require_going),
            y=np.asarray(rows["target"].to_numpy(), dtype=np.float32),
            inner=inner,
            first=first,  # type: ignore[arg-type]
            last=last,  # type: ignore[arg-type]
            label_end=label_end,  # type: ignore[arg-type]
            groups=groups,
            max_rows=max_rows,
        )

    @property
    def features(self) -> npt.NDArray[np.float32]:
        """The columns of X that are features, float32 (n, k)."""
        return self.X[:, : len(self.inputs.names)]

    @property
    def held_out(self) -> npt.NDArray[np.bool_]:
        """Which rows the inner split holds out."""
        mask: npt.NDArray[np.bool_] = self.inner.mask_exam(self.frame).to_numpy()
        return mask

    def build_task(
        self,
        settings: Settings,
        params: Mapping[str, object],
        *,
        keep_inner: bool,
        only_inner: bool = False,
        with_pkl: bool = True,
    ) -> TrainingTask:
        """Return what the training process is told."""
        return TrainingTask(
            X=self.X,
            y=self.y,
            weights=weigh_rows(self.frame["session"], settings.model.half_life_days),
            fitted=self.inner.mask_training(self.frame).to_numpy(),
            held_out=self.held_out,
            family=settings.model.family,
            params=params,
            seed=settings.model.seed,
            jobs=count_cores(settings),
            entry_quantile=settings.strategy.entry_quantile,
            keep_inner=keep_inner,
            only_inner=only_inner,
            with_pkl=with_pkl,
            tickers=self.inputs.tickers,
            groups=self.groups,
            max_rows=self.max_rows,
        )


def _number_groups(frame: pl.DataFrame, trains: pl.Series) -> npt.NDArray[np.int32]:
    """Return the number of the session of a ticker of each row that trains. frame: sorted by ticker and session."""
    both = pl.col("ticker", "session")
    rows = frame.select("ticker", "session").filter(trains)
    other = rows.select(pl.any_horizontal(both.ne_missing(both.shift()))).to_series().to_numpy()
    return np.cumsum(other, dtype=np.int32)


def _keep(trains: pl.Series, drawn: npt.NDArray[np.int64]) -> pl.Series:
    """Return `trains` with only those of its rows that are `drawn`, by their place among them."""
    kept = np.zeros(trains.len(), dtype=np.bool_)
    kept[trains.arg_true().to_numpy()[drawn]] = True
    return pl.Series(trains.name, kept)


def _build_none_error(frame: pl.DataFrame, split: ExamSplit) -> NoDataError:
    """Return why no bar can train; `frame` has rows of other sessions too."""
    n_bars, n_sessions = int(split.mask_training(frame).sum()), len(split.train)
    return NoDataError(
        f"None of the {count(n_bars, 'bar')} of {count(n_sessions, 'training session')} has all features and a target. "
        "Features read half an hour of bars in a session, and the session before, which the first one that the source "
        "has lacks. Where the source has earlier bars, raise [market] lookback_days; else wait for more sessions, or "
        "lower [exam] sessions and min_sessions. The findings (-v) tell which bars were dropped."
    )


def _read_rows(
    frame: pl.DataFrame, trains: pl.Series, names: Sequence[str], require_going: RequireGoing
) -> pl.DataFrame:
    """Return these columns of the rows that train; numbers and times lie in an unnamed file."""
    files = FrameFiles()
    # a column after the other: no more than one is in memory before it lies in the file
    columns = (frame.select(name) for name in names)
    parts = (files.put(one.clear(), *_cut_blocks(one, trains, require_going)) for one in columns)
    return pl.concat(parts, how="horizontal")


def _cut_blocks(frame: pl.DataFrame, trains: pl.Series, require_going: RequireGoing) -> Iterator[pl.DataFrame]:
    """Yield the rows that train, block for block; `require_going` is asked before each."""
    for begin in range(0, frame.height, _BLOCK_ROWS):
        require_going()
        block = slice(begin, begin + _BLOCK_ROWS)
        yield frame[block].filter(trains[block])


def _gather_matrix(frame: pl.DataFrame, trains: pl.Series, inputs: Inputs, require_going: RequireGoing) -> FileArray:
    """Return the input of the rows that train, in a file from which the training process reads it."""
    X = create_array((int(trains.sum()), inputs.width), np.float32)
    done = 0
    for block in _cut_blocks(frame, trains, require_going):
        rows = inputs.build_matrix(block)
        X[done : done + len(rows)] = rows
        done += len(rows)
    return X


def _find_ticker_models(rows: pl.DataFrame, inner: ExamSplit) -> tuple[tuple[str, ...], dict[str, int]]:
    """Return the tickers with rows enough for a model of their own, then the others with how many they have.

    Raises NoDataError where none has.
    """
    kinds = rows.select("ticker", fitted=inner.mask_training(rows), held_out=inner.mask_exam(rows))
    counts = kinds.group_by("ticker").agg(pl.col("fitted", "held_out").sum()).sort("ticker")
    enough = (pl.col("fitted") >= _FEWEST_ROWS) & (pl.col("held_out") > 0)
    thin = counts.filter(~enough)
    tickers = tuple(counts.filter(enough)["ticker"])
    if not tickers:
        raise NoDataError(
            f'[model] per = "ticker": none of {count(thin.height, "ticker")} has {_FEWEST_ROWS:,} rows to learn from; '
            f'{thin["ticker"][0]} has {thin["fitted"][0]:,}. Raise [market] lookback_days, or set per = "watchlist".'
        )
    return tickers, dict(zip(thin["ticker"], thin["fitted"], strict=True))


def weigh_rows(session: pl.Series, half_life_days: float) -> npt.NDArray[np.float32] | None:
    """Return what each row counts: half of what one does that is `half_life_days` younger; None where all count alike.

    session: the date of each row. The age is in calendar days before the newest of them.
    """
    if not half_life_days:
        return None
    days = session.cast(pl.Date).to_physical().to_numpy().astype(np.float64)
    # a row of ten years with a half-life of a day still counts a little: the least float32 that is normal
    weights = np.maximum(0.5 ** ((days.max() - days) / half_life_days), np.finfo(np.float32).tiny)
    return np.asarray(weights, dtype=np.float32)
