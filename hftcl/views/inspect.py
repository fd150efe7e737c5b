"""Draws what is in a folder of files: a table of the files, then each one's day as a sparkline, and what is asked."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hftcl.formats import count
from hftcl.views import SPARKS, Cell, Styled, draw_table, find_terminal, find_width, say

if TYPE_CHECKING:
    from hftcl.market.inspect import FileReport

_FEW = 12  # files whose day is drawn
_CELLS = (1, 2, 3, 5, 6, 10, 15, 30)  # minutes of a cell: each divides the 330 and 390 minutes before and in a session


def draw_files(reports: "Sequence[FileReport]") -> None:
    """Draw one row a file, then evidence, guesses and refusals."""
    columns = ("file", "layout", "tickers", "rows", "from", "to", "zone", "label", "interval", "coverage", "")
    spare = ("rows", "from", "to", "interval")  # one of another interval is refused, which is said below
    draw_table("", columns, [_draw_row(report) for report in reports], numbers=frozenset({3, 9}), spare=spare)
    for report in [report for report in reports if report.day][:_FEW]:
        say("")
        minutes, line = draw_day(report.day, find_width())
        say(f"{report.file}: volume by {count(minutes, 'minute')} a cell, against the exchange's hours [ ]", "bold")
        say(f"  {line}")
        for line in (*_describe(report), *report.evidence, *(f"guess: {guess}" for guess in report.guesses)):
            say(f"  {line}")
    for report in reports:
        if report.refused:
            say(f"refused: {report.refused}", "bold red")
    for report in reports:
        if report.ignored:
            say(f"ignored: {report.file}: {report.ignored}", "dim")


def _draw_row(report: "FileReport") -> tuple[Cell, ...]:
    if report.ignored:
        return (report.file, "", "", "", "", "", "", "", "", "", Styled("ignored", "dim"))
    state = Styled("refused", "bold red") if report.refused else Styled("read", "green" if report.sure else "yellow")
    names = ", ".join(report.tickers[:3]) + (f" +{len(report.tickers) - 3}" if len(report.tickers) > 3 else "")
    span = [f"{at:%Y-%m-%d}" if at else "" for at in (report.first, report.last)]
    interval = f"{report.interval_s} s" if report.interval_s else ""
    share = f"{report.coverage:.0%}" if report.coverage is not None else ""
    return (
        report.file, report.layout or "", names, f"{report.rows:,}" if report.rows else "", *span,
        report.zone or "?", report.label or "?", interval, share, state,
    )  # fmt: skip


def _describe(report: "FileReport") -> tuple[str, str]:
    """Return what the columns mean, and how stamps and prices are written."""
    columns = ", ".join(f"{ours} = {theirs!r}" for ours, theirs in (report.columns or {}).items())
    unit = "as they are" if report.price_unit in (None, 1.0) else f"in units of {report.price_unit:g}"
    splits = {
        True: "adjusted for splits",
        False: "not adjusted for splits",
        None: "adjusted for splits or not, not said",
    }
    return f"columns: {columns}", f"stamps: {report.stamps}; prices: {unit}, {splits[report.adjusted]}"


def draw_day(day: Sequence[Sequence[float]], width: int) -> tuple[int, str]:
    """Return the minutes that a cell covers, the fewest that fit into `width` characters, and the cells.

    day: volume by minute before, in and after the session; hours at both ends without any are left out.
    Blocks by the root of the volume, or the open would flatten everything else.
    """
    before, inside, after = (list(part) for part in day)
    head = next((n for n, value in enumerate(before) if value), len(before))
    tail = next((n for n, value in enumerate(reversed(after)) if value), len(after))
    room = width - 4  # the indent and the brackets
    for minutes in _CELLS:
        cells = [
            _sum_up(before[head - head % minutes :], minutes), _sum_up(inside, minutes),
            _sum_up(after[: len(after) - tail], minutes),
        ]  # fmt: skip
        if sum(map(len, cells)) <= room:
            break
    top = max((value for part in cells for value in part), default=0.0) or 1.0
    last = len(SPARKS) - 1
    drawn = ["".join(SPARKS[round((value / top) ** 0.5 * last)] if value else " " for value in part) for part in cells]
    return minutes, f"{drawn[0]}[{drawn[1]}]{drawn[2]}"


def _sum_up(volumes: Sequence[float], minutes: int) -> list[float]:
    """Return the mean volume of each run of `minutes`, the last of which may be shorter."""
    runs = [volumes[n : n + minutes] for n in range(0, len(volumes), minutes)]
    return [sum(run) / len(run) for run in runs]


def draw_questions(questions: Sequence[str]) -> None:
    """Say what `init --files` could not decide."""
    for question in questions:
        say(f"to decide: {question}", "yellow" if find_terminal() else "")
