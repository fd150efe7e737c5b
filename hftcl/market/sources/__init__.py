"""What a source of bars is, and how one is found by name."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Final, Protocol, cast, runtime_checkable

from hftcl.errors import SourceError
from hftcl.market.columns import choose_columns
from hftcl.plug_ins import close_refused, find_point, load_plug_in, make_plug_in
from hftcl.settings import Settings

if TYPE_CHECKING:
    import polars as pl


_GREATEST_RATIO: Final = 1000.0  # shares for one: the greatest splits on record are below; what is beyond is a fault


@dataclass(frozen=True, slots=True)
class Split:
    """`split_to` new shares for `split_from` old ones, from the session `execution_date` on.

    >>> Split('AAPL', date(2020, 8, 31), 1, 4).ratio
    4.0
    """

    ticker: str
    execution_date: date
    split_from: float
    split_to: float

    @property
    def ratio(self) -> float:
        """New shares per old one: 4.0 for a 4:1 split; prices before it are divided by this."""
        return self.split_to / self.split_from

    @property
    def is_plausible(self) -> bool:
        """Whether a company can have made it."""
        return self.split_from > 0 and 1 / _GREATEST_RATIO <= self.ratio <= _GREATEST_RATIO


def build_split(
    ticker: str, day: date, before: float | None, after: float | None, refuse: Callable[[str], SourceError]
) -> Split:
    """Return a vendor's split: from `day` on, `after` shares for `before`. Raises what `refuse` makes of its fault.

    >>> build_split("AAPL", date(2020, 8, 31), 1.0, 4.0, SourceError).ratio
    4.0
    """
    if not (before and after and before > 0 and after > 0 and math.isfinite(before) and math.isfinite(after)):
        raise refuse(f"hold one of {day} that is not so many shares for so many")
    split = Split(ticker=ticker, execution_date=day, split_from=before, split_to=after)
    if not split.is_plausible:
        raise refuse(f"hold one of {day} of {split.ratio:g} for 1, which no company does")
    return split


@dataclass(frozen=True, slots=True)
class Question:
    """One call of `minutes` that is to come: the sessions `first` to `last` of `ticker`, both included."""

    ticker: str
    first: date
    last: date


class BarSource(Protocol):
    """Where minute bars come from. Unadjusted prices; extended hours where the source has them.

    A source whose answers never change under one fingerprint may say so by an attribute `unchanging = True`; a session
    that any other source leaves empty or broken is asked for again. One whose bars no feed goes on with, such as a
    folder of files, says `past = True`: it is for trainings and replays, and `hftcl trade` refuses it. One that knows
    that its stamps are the start of their minute, as a vendor's documents say, has `label_known = True`, and is not
    doubted. One that can deliver further numbers of a bar has `columns`, those of `[market] columns`, which
    `market.columns.choose_columns` returns or refuses when the source is made.
    """

    name: str
    synthetic: bool

    def fingerprint(self, ticker: str) -> str:
        """Return what identifies these bars: those stored under another one are fetched again. Never a secret."""
        ...

    def minutes(self, ticker: str, first: date, last: date) -> "pl.DataFrame":
        """Return raw bars of the sessions `first` to `last`, both included, as `market.bars.RAW_SCHEMA`.

        The source's `columns`, Float64, stand behind it. As delivered: disorder, duplicates and faulty bars are left
        for `bars.clean`. Empty where there are none.
        Raises SourceError where the answer is incomplete: never a part as if it were the whole; RefusedBarsError where
        the bars of this ticker alone cannot be used.
        """
        ...

    def splits(self, ticker: str) -> tuple[Split, ...]:
        """Return the known splits of `ticker`, oldest first."""
        ...

    def known_until(self, tickers: tuple[str, ...], now: datetime) -> datetime | None:
        """Return the end (UTC) of the newest minute that this source has for any of `tickers`; None where it has none.

        `now` is the clock, UTC. A live source answers `now`; a folder of files its newest bar's end.
        """
        ...


class LocalSource(BarSource, Protocol):
    """A source of files on this machine: what has the same fingerprint is the same bars."""

    def remember(self) -> None:
        """Keep what the look into the files found, for the next run. Raises StorageError."""
        ...

    def explain_absence(self, ticker: str) -> str:
        """Return what to tell of a ticker without bars: which tickers there are, and how one is found."""
        ...


def as_local(source: BarSource) -> LocalSource | None:
    """Return `source` where it says that it is local, which a stranger's may too; else None."""
    return cast("LocalSource", source) if getattr(source, "local", False) else None


@runtime_checkable
class Foresight(Protocol):
    """A source that needs fewer calls when it knows beforehand what it will be asked."""

    def expect(self, tickers: tuple[str, ...], first: date, questions: tuple[Question, ...], *, kept: bool) -> None:
        """Hear which `questions` come next, in their order; `first` is the oldest session whose splits matter.

        kept: whether the answers will be stored; where not, the same is soon asked again.
        """
        ...


@runtime_checkable
class Stepwise(Protocol):
    """A source that asks in steps which take a while, such as pages and tries, and says when one begins."""

    def report_steps(self, on_step: Callable[[str], None] | None) -> None:
        """From now on call `on_step` with the name of each step, in the thread that calls this; None ends it."""
        ...


OFFERED: Final = (Foresight, Stepwise)
"""What a source may offer beside `BarSource`."""


def find_source(name: str) -> Callable[[Settings], BarSource]:
    """Return the factory registered as `name` in the entry-point group `hftcl.sources`; no other one is imported.

    >>> find_source('synthetic')(Settings()).name
    'synthetic'
    """
    return cast("Callable[[Settings], BarSource]", load_plug_in(find_point("hftcl.sources", name)))


def make_source(settings: Settings) -> BarSource:
    """Return the configured source, whichever columns it delivers. Raises ConfigError; PlugInError of a stranger's."""
    point = find_point("hftcl.sources", settings.market.source)
    return cast("BarSource", make_plug_in(point, BarSource, OFFERED, settings))


def open_source(settings: Settings) -> BarSource:
    """Return the configured source. Raises as `make_source`, and ConfigError where it delivers no such columns.

    >>> open_source(Settings()).name
    'synthetic'
    """
    source = make_source(settings)
    with close_refused(source):
        choose_columns(settings.market.columns, getattr(source, "columns", ()), f"the source {source.name!r}")
    return source
