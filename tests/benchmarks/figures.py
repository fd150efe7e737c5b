"""What the figures of a benchmark say: ratios with their spread, growth, what fell; and their page. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

FELL: Final = 1 / 3
"""A ratio that is worse by more than this share is marked: two runs on a quiet machine differ by a tenth."""
CASES: Final = {
    "hftcl retrain, forest": "bars, features, two fits, exam, baseline, record, file",
    "hftcl retrain, lightgbm": "the same with the family lightgbm",
    "the guide's stack": "pandas and scikit-learn: features and one fit; no exam",
    "scikit-learn-intelex": "one fit of the same matrix",
    "LightGBM": "one fit of the same matrix",
}
"""What is measured in turn on the same bars, and what each does."""
PAIRS: Final = (
    ("hftcl retrain, forest", "the guide's stack"),
    ("hftcl retrain, forest", "scikit-learn-intelex"),
    ("hftcl retrain, lightgbm", "LightGBM"),
    ("first retrain, forest", "hftcl retrain, forest"),
    ("first retrain, lightgbm", "hftcl retrain, lightgbm"),
)
"""The first is divided by the second: how many times as much processor time hftcl takes."""
NOT_MEASURED: Final = {
    "FreqAI": "it needs an environment of its own, and none was made",
    "Qlib": "it needs an environment of its own, and none was made",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One case, a number a turn: seconds of processor time, seconds by the clock, most memory of its own in bytes."""

    cpu_s: tuple[float, ...] = ()
    wall_s: tuple[float, ...] = ()
    memory: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All of one run. growth: by what grows, sizes with what they cost. idle: whether nothing else ran meanwhile."""

    cases: Mapping[str, Measured] = field(default_factory=dict)
    growth: Mapping[str, Mapping[int, Measured]] = field(default_factory=dict)
    startup: Mapping[str, Measured] = field(default_factory=dict)
    machine: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    idle: bool = True

    @classmethod
    def from_json(cls, read: Mapping[str, Any]) -> "Figures":
        """Return what `json.loads` made of one."""
        growth = {
            what: {int(size): of_json(one) for size, one in sizes.items()} for what, sizes in read["growth"].items()
        }
        cases, startup = ({name: of_json(one) for name, one in read[of].items()} for of in ("cases", "startup"))
        return cls(
            cases=cases, growth=growth, startup=startup, machine=read["machine"], versions=read["versions"],
            idle=read["idle"],
        )  # fmt: skip


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


def list_ratios(figures: Figures) -> dict[str, Ratio]:
    """Return each ratio of processor time by its name: of PAIRS, and of start-up to an empty Python."""
    ratios = {
        f"{one} / {other}": divide(figures.cases[one].cpu_s, figures.cases[other].cpu_s)
        for one, other in PAIRS
        if one in figures.cases and other in figures.cases
    }
    empty = figures.startup.get("python -c pass")
    if empty:
        others = {name: taken for name, taken in figures.startup.items() if taken is not empty}
        ratios |= {f"{name} / python -c pass": divide(taken.cpu_s, empty.cpu_s) for name, taken in others.items()}
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


def build_page(figures: Figures) -> str:
    """Return docs/benchmarks.md."""
    parts = [_HEAD]
    if not figures.cases:
        parts.append("Nothing has been measured on an idle machine yet.\n")
    else:
        parts += [_tell_machine(figures), _tell_cases(figures), _tell_ratios(figures), _tell_growth(figures)]
    parts.append(_tell_missing())
    return "\n".join(parts)


_HEAD: Final = """\
# Benchmarks

How long hftcl takes beside what people would use instead, on the same bars: ten tickers of the built-in market, 60
days. `python -m tests.benchmarks.page` measures everything in turns, so that a busy moment falls on all, and writes
this page and `tests/benchmarks/figures.json`. With `--short` it measures each once and prints its ratios beside the
recorded ones, with a mark where one is worse by more than a third. It gates nothing: machines are noisy.
"""


def _tell_machine(figures: Figures) -> str:
    said = [f"{name} {value}" for of in (figures.machine, figures.versions) for name, value in of.items()]
    loaded = "" if figures.idle else "\n**Other programs ran meanwhile: no figure here is that of an idle machine.**\n"
    return f"Measured with: {'; '.join(said)}.\n{loaded}"


def _tell_cases(figures: Figures) -> str:
    lines = ["| | what it does | CPU, s | clock, s | memory, MiB |", "| --- | --- | --- | --- | --- |"]
    for name, taken in figures.cases.items():
        told = CASES.get(name, "the same in a new home, with the record of 20 sessions")
        lines.append(
            f"| {name} | {told} | {median(taken.cpu_s):.1f} | {median(taken.wall_s):.1f} | "
            f"{max(taken.memory) / 2**20:.0f} |"
        )
    return "\n".join([*lines, ""])


def _tell_ratios(figures: Figures) -> str:
    lines = ["| processor time, ratio | median (least to most) |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| {name} | {ratio} |" for name, ratio in list_ratios(figures).items()), ""])


def _tell_growth(figures: Figures) -> str:
    lines = [
        "| what grows | sizes | CPU, s | grows as its power | memory, MiB | as its power |",
        "| --- |" + " --- |" * 5,
    ]
    for what, sizes in figures.growth.items():
        cpu = {size: min(taken.cpu_s) for size, taken in sizes.items()}
        memory = {size: float(max(taken.memory)) for size, taken in sizes.items()}
        lines.append(
            f"| {what} | {', '.join(map(str, sizes))} | {', '.join(f'{one:.1f}' for one in cpu.values())} | "
            f"{find_slope(cpu):.2f} | {', '.join(f'{one / 2**20:.0f}' for one in memory.values())} | "
            f"{find_slope(memory):.2f} |"
        )
    return "\n".join([*lines, ""])


def _tell_missing() -> str:
    return "\n".join(["Not measured:", "", *(f"- {name}: {why}." for name, why in NOT_MEASURED.items()), ""])
