"""docs/benchmarks.md, made of the figures of a benchmark. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median, quantiles
from typing import Final

from tests.benchmarks.environments import NOT_ASKED, PINNED
from tests.benchmarks.figures import (
    CASES,
    UNSEEN,
    Figures,
    Measured,
    find_slope,
    list_ratios,
    name_minute,
    name_size,
)

_UNSEEN: Final = "not seen"
_ORIGIN: Final = "measured of"


def build_page(figures: Figures) -> str:
    """Return docs/benchmarks.md."""
    parts = [_HEAD]
    if not figures.cases and not figures.startup:
        parts.append("Nothing has been measured on an idle machine yet.\n")
    else:
        tables = (tell_machine, tell_cases, tell_ratios, tell_growth, tell_minutes)
        parts += [text for tell in tables if (text := tell(figures))]
    missing = tell_missing(figures)
    return "\n".join([*parts, missing] if missing else parts)


_HEAD: Final = """\
# Benchmarks

How long hftcl takes beside what people would use instead, on the same bars: ten tickers of the built-in market, 60
days. `python -m tests.benchmarks.page --peers FOLDER` measures everything in turns, so that a busy moment falls on
all, and writes this page and `tests/benchmarks/figures.json`. FreqAI and Qlib get an environment of their own in
FOLDER, of pinned versions, which is kept. With `--short` it measures each once and prints its ratios beside the
recorded ones, with a mark where one is worse by more than a third. It gates nothing: machines are noisy.

FreqAI and Qlib are given the same bars in their own form, 31 columns of the same kind, the same target and the
parameters of hftcl's family `lightgbm`. They fit once, on all rows of the 60 days, and end with a model that nothing
has examined; hftcl fits twice, examines the first model on sessions that it has not seen, and decides whether it may
serve. Their columns roll over the night. FreqAI is spared the candles that it puts into each night. Not counted on
their side are a whole `freqtrade` command, which takes longer with its exchange and its data provider, and Qlib's
`qrun`: nothing is claimed but what is measured here.
"""


def tell_machine(figures: Figures) -> str:
    """Say what was measured with, and which parts other programs disturbed."""
    said = [f"{name} {value}" for of in (figures.machine, figures.versions) for name, value in of.items()]
    busy = ", ".join(f"{part} ({cores:.1f} cores)" for part, cores in figures.busy.items())
    told = f"\n**Other programs ran meanwhile: no figure is that of an idle machine of {busy}.**\n" if busy else ""
    newest = (
        f"\nThe newest run measured {figures.newest}. A row of earlier code says so in its last column: it tells "
        "nothing of the newest.\n"
        if figures.newest
        else ""
    )
    return f"Measured with: {'; '.join(said)}.\n{newest}{told}"


def tell_cases(figures: Figures) -> str:
    head = ("", "what it does", "turns", "CPU, s", "clock, s", "memory, MiB", _ORIGIN)
    rows = ((*_tell_case(name, taken), figures.tell_origin(name)) for name, taken in figures.cases.items())
    return build_table(head, rows)


def _tell_case(name: str, taken: Measured) -> tuple[str, ...]:
    cpu_s, wall_s = _UNSEEN if name in UNSEEN else f"{median(taken.cpu_s):.1f}", f"{median(taken.wall_s):.1f}"
    memory = f"{max(taken.memory) / 2**20:.0f}" if any(taken.memory) else _UNSEEN
    return name, CASES[name], str(len(taken.wall_s)), cpu_s, wall_s, memory


def tell_ratios(figures: Figures) -> str:
    """Return the ratios of processor time and by the clock: their median, and the least and the greatest."""
    of_processor = list_ratios(figures)
    by_clock = list_ratios(figures, by_clock=True)
    rows = (
        (name, str(of_processor.get(name, _UNSEEN)), str(ratio), figures.tell_origin(*name.split(" / ")))
        for name, ratio in by_clock.items()
    )
    return build_table(("ratio: median (least to most)", "processor time", "by the clock", _ORIGIN), rows)


def tell_growth(figures: Figures) -> str:
    """Return what grows, with the exponents of time and memory: the slopes of their logarithms."""
    rows = []
    for what, sizes in figures.growth.items():
        cpu = {size: min(taken.cpu_s) for size, taken in sizes.items()}
        clock = {size: min(taken.wall_s) for size, taken in sizes.items()}
        memory = {size: float(max(taken.memory)) for size, taken in sizes.items()}
        row = [what, ", ".join(map(str, sizes))]
        for costs, form, unit in ((cpu, ".1f", 1), (clock, ".1f", 1), (memory, ".0f", 2**20)):
            row += [", ".join(f"{cost / unit:{form}}" for cost in costs.values()), _tell_slope(costs)]
        rows.append([*row, figures.tell_origin(*(name_size(what, size) for size in sizes))])
    power = "as its power"
    head = ("what grows", "sizes", "CPU, s", power, "clock, s", power, "memory, MiB", power, _ORIGIN)
    return build_table(head, rows)


def _tell_slope(costs: Mapping[int, float]) -> str:
    return f"{find_slope(costs):.2f}" if len(costs) > 1 else "one size"


def tell_minutes(figures: Figures) -> str:
    """Return what a minute of the bot takes, by the number of tickers."""
    rows = (
        (
            str(tickers),
            f"{median(ms):.1f}",
            f"{quantiles(ms, n=100)[98]:.1f}",
            figures.tell_origin(name_minute(tickers)),
        )
        for tickers, ms in figures.minutes.items()
    )
    return build_table(("a minute of the bot, tickers", "bar known to order, ms: median", "p99", _ORIGIN), rows)


def tell_missing(figures: Figures) -> str:
    """Say which peers were not measured, and why."""
    missing = {name: figures.missing.get(name, NOT_ASKED) for name in PINNED if name not in figures.cases}
    if not missing:
        return ""
    return "\n".join(["Not measured:", "", *(f"- {name}: {why}." for name, why in missing.items()), ""])


def build_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of Markdown; an empty text where there is no row."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([f"| {' | '.join(head)} |", "| --- " * len(head) + "|", *lines, ""]) if lines else ""
