"""What the figures of a benchmark say: ratios with their spread, growth, and what fell. Pure."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from statistics import median
from typing import Any, Final

FELL: Final = 1 / 3
"""A ratio that is worse by more than this share is marked: two runs on a quiet machine differ by a tenth."""
IDLE: Final = 0.15
"""Cores that other programs may keep busy on a machine that is called idle: what a system does by itself is less."""
CASES: Final = {
    "first retrain, forest": "in a new home: the second one's work, and the record of 20 sessions",
    "hftcl retrain, forest": "bars, features, two fits, exam, baseline, record, file",
    "first retrain, lightgbm": "the same with the family lightgbm",
    "hftcl retrain, lightgbm": "the same with the family lightgbm",
    "the guide's stack": "pandas and scikit-learn: features and one fit; no exam, no file",
    "scikit-learn-intelex": "one fit of the matrix of hftcl's first fit, and nothing else",
    "LightGBM": "one fit of the matrix of hftcl's first fit, and nothing else",
    "FreqAI": "its classes, as in its bot: history, columns, ten LightGBM models, files; no exam, no deployment",
    "FreqAI, start alone": "its imports; a bot that runs for days does them once",
    "Qlib": "its expressions, dataset, one LightGBM model, its recorder; no exam, no deployment",
    "Qlib, start alone": "its imports",
    "hftcl retrain, all features": "a forest that tries all features at each split, as scikit-learn's does by itself",
    "scikit-learn-intelex, all features": "one fit, all features at each split",
    "the guide's stack, all features": "features and one fit, all features at each split",
    "backtest, ten months": "the loop replayed over ten months of ten tickers, one training after the other",
    "backtest, three months": "three months of three tickers, on this machine alone",
    "backtest, four Dask workers": "the same by four workers of a cluster on the same machine",
    "sleepers, one thread": "eight tasks that sleep 3 s as they would train, on a named cluster of one thread",
    "sleepers, sixteen threads": "eight for each of sixteen threads: 16 / ratio is how many times one thread they do",
}
"""What each case does."""
PAIRS: Final = (
    ("hftcl retrain, forest", "the guide's stack"),
    ("hftcl retrain, forest", "FreqAI"),
    ("hftcl retrain, lightgbm", "FreqAI"),
    ("hftcl retrain, forest", "Qlib"),
    ("hftcl retrain, lightgbm", "Qlib"),
    ("hftcl retrain, forest", "scikit-learn-intelex"),
    ("hftcl retrain, lightgbm", "LightGBM"),
    ("first retrain, forest", "hftcl retrain, forest"),
    ("first retrain, lightgbm", "hftcl retrain, lightgbm"),
    ("hftcl retrain, all features", "scikit-learn-intelex, all features"),
    ("backtest, four Dask workers", "backtest, three months"),
    ("sleepers, sixteen threads", "sleepers, one thread"),
)
"""The first is divided by the second, where both took turns."""
UNSEEN: Final = frozenset({"backtest, four Dask workers", "sleepers, one thread", "sleepers, sixteen threads"})
"""Cases whose processor time nothing tells: a cluster's workers are ended with it, and no parent counts theirs."""
UNSEEN_PARTS: Final = frozenset({"Dask"})
"""Parts of these: what is seen of other programs meanwhile is mostly their own workers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One case, a number a turn: seconds of processor time, seconds by the clock, most memory of its own in bytes."""

    cpu_s: tuple[float, ...] = ()
    wall_s: tuple[float, ...] = ()
    memory: tuple[int, ...] = ()

    def add(self, other: "Measured") -> "Measured":
        """Return the turns of both, these first."""
        return Measured(
            cpu_s=self.cpu_s + other.cpu_s, wall_s=self.wall_s + other.wall_s, memory=self.memory + other.memory
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Which hftcl was measured, and when. code: a hash of its package; commit: the one that was checked out, if any.

    at: "YYYY-MM-DD HH:MM", UTC.
    """

    code: str
    commit: str
    version: str
    at: str

    def __str__(self) -> str:
        return f"hftcl {self.version}{f', commit {self.commit}' if self.commit else ''}, {self.at[:10]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What was measured, of one run or of parts of it.

    growth: by what grows, sizes with what they cost. minutes: by tickers, milliseconds from the bar to the order of
    each minute of a session. missing: by peer, why it is not among the cases. others: by part, how many cores other
    programs kept busy while it was measured. origins: by name of a figure, see `list_names`, what was measured.
    """

    cases: Mapping[str, Measured] = field(default_factory=dict)
    growth: Mapping[str, Mapping[int, Measured]] = field(default_factory=dict)
    startup: Mapping[str, Measured] = field(default_factory=dict)
    minutes: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    machine: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    others: Mapping[str, float] = field(default_factory=dict)
    origins: Mapping[str, Origin] = field(default_factory=dict)

    def list_names(self) -> Iterator[str]:
        """Yield the name of each figure."""
        yield from self.cases
        yield from (name_size(what, size) for what, sizes in self.growth.items() for size in sizes)
        yield from self.startup
        yield from (name_minute(tickers) for tickers in self.minutes)

    def sign(self, origin: Origin) -> "Figures":
        """Return the same, all of it measured of `origin`."""
        return replace(self, origins=dict.fromkeys(self.list_names(), origin))

    @property
    def newest(self) -> Origin | None:
        """What was measured last; None where that is not known of any figure."""
        return max(self.origins.values(), key=lambda origin: origin.at, default=None)

    def tell_origin(self, *names: str) -> str:
        """Return of which hftcl these figures are: "newest", or what it was, each once."""
        newest, told = self.newest, dict[str, None]()
        for name in names:
            origin = self.origins.get(name)
            is_newest = origin is not None and newest is not None and origin.code == newest.code
            told["newest" if is_newest else f"older: {origin}" if origin else "not known"] = None
        return "; ".join(told)

    @property
    def busy(self) -> dict[str, float]:
        """The parts during which the machine was not idle, where that is known."""
        return {part: cores for part, cores in self.others.items() if cores >= IDLE and part not in UNSEEN_PARTS}

    def add(self, other: "Figures") -> "Figures":
        """Return what both hold; where both hold the same thing, the other's."""
        both = {one.name: {**getattr(self, one.name), **getattr(other, one.name)} for one in fields(self)}
        # a size is a part of its own: the others stay
        both["growth"] = {
            what: dict(sorted({**self.growth.get(what, {}), **other.growth.get(what, {})}.items()))
            for what in both["growth"]
        }
        return Figures(**both)

    @classmethod
    def from_json(cls, read: Mapping[str, Any]) -> "Figures":
        """Return what `json.loads` made of one."""
        growth = {
            what: {int(size): of_json(one) for size, one in sizes.items()} for what, sizes in read["growth"].items()
        }
        cases, startup = ({name: of_json(one) for name, one in read[of].items()} for of in ("cases", "startup"))
        return cls(
            cases=cases, growth=growth, startup=startup, machine=read["machine"], versions=read["versions"],
            minutes={int(tickers): tuple(ms) for tickers, ms in read["minutes"].items()},
            missing=read["missing"], others=read["others"],
            origins={name: Origin(**one) for name, one in read["origins"].items()},
        )  # fmt: skip


def name_size(what: str, size: int) -> str:
    """Return the name of a figure of growth."""
    return f"{what}, {size}"


def name_minute(tickers: int) -> str:
    """Return the name of the figures of a bot's minute."""
    return f"a minute, {tickers} tickers"


def of_json(one: Mapping[str, Sequence[float]]) -> Measured:
    return Measured(cpu_s=tuple(one["cpu_s"]), wall_s=tuple(one["wall_s"]), memory=tuple(map(int, one["memory"])))


@dataclass(frozen=True, slots=True)
class Ratio:
    """Of two that took turns: the median over the turns, the least and the greatest."""

    middle: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.middle:.2f} ({self.least:.2f} to {self.most:.2f})"


def divide(one: Sequence[float], other: Sequence[float]) -> Ratio:
    """Return the ratio turn by turn, so that a busy moment falls on both.

    >>> str(divide([2.0, 4.0, 3.0], [1.0, 1.0, 2.0]))
    '2.00 (1.50 to 4.00)'
    """
    turns = [first / second for first, second in zip(one, other, strict=True)]
    return Ratio(median(turns), min(turns), max(turns))


def find_slope(costs: Mapping[int, float]) -> float:
    """Return the exponent with which a cost grows: the slope of its logarithm, by least squares.

    >>> round(find_slope({10: 1.0, 20: 2.0, 40: 4.0}), 6)
    1.0
    """
    x, y = [math.log(size) for size in costs], [math.log(cost) for cost in costs.values()]
    centre_x, centre_y = sum(x) / len(x), sum(y) / len(y)
    spread = sum((one - centre_x) ** 2 for one in x)
    return sum((one - centre_x) * (two - centre_y) for one, two in zip(x, y, strict=True)) / spread


def list_ratios(figures: Figures, *, by_clock: bool = False) -> dict[str, Ratio]:
    """Return each ratio by its name: of PAIRS, and of start-up to an empty Python.

    Of processor time, which holds on a machine that does other work too, but for those of `UNSEEN`; by_clock: of what
    a person waits.
    """

    def pick(taken: Measured) -> tuple[float, ...]:
        return taken.wall_s if by_clock else taken.cpu_s

    ratios = {
        f"{one} / {other}": divide(pick(figures.cases[one]), pick(figures.cases[other]))
        for one, other in PAIRS
        if one in figures.cases and other in figures.cases and (by_clock or one not in UNSEEN)
    }
    empty = figures.startup.get("python -c pass")
    if empty:
        others = {name: taken for name, taken in figures.startup.items() if taken is not empty}
        ratios |= {f"{name} / python -c pass": divide(pick(taken), pick(empty)) for name, taken in others.items()}
    return ratios


def compare(now: Figures, recorded: Figures) -> list[str]:
    """Return a line a ratio, beside the recorded one, and a mark where it is worse by more than a third."""
    was, lines = list_ratios(recorded), []
    for name, ratio in list_ratios(now).items():
        before = was.get(name)
        worse = before is not None and ratio.middle > before.middle * (1 + FELL)
        told = str(before) if before else "not recorded"
        lines.append(f"{name:<55}{ratio!s:>24}{told:>24}{'  WORSE' if worse else ''}")
    return lines
