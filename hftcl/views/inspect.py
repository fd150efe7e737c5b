"""Draws what is in a folder of files: a table of the files, then each one's day as a sparkline, and what is asked."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hftcl.views import SPARKS, Cell, Styled, draw_table, find_terminal, say

if TYPE_CHECKING:
    from hftcl.market.inspect import FileReport

_FEW = 12  # files whose day is drawn


def files(reports: "Sequence[FileReport]") -> None:
    """Draw one row a file, then evidence, guesses and refusals."""
    columns = ("file", "layout", "tickers", "rows", "from", "to", "zone", "label", "interval", "coverage", "")
    draw_table("", columns, [_row(report) for report in reports], numbers=frozenset({3, 9}), spare=("rows", "from"))
    for report in [report for report in reports if report.day][:_FEW]:
        say("")
        say(f"{report.file}: volume by quarter of an hour, against the exchange's hours [ ]", "bold")
        say(f"  {_draw(report.day)}")
        for line in (*_describe(report), *report.evidence, *(f"guess: {guess}" for guess in report.guesses)):
            say(f"  {line}")
    for report in reports:
        if report.refused:
            say(f"refused: {report.refused}", "bold red")
    for report in reports:
        if report.ignored:
            say(f"ignored: {report.file}: {report.ignored}", "dim")


def _row(report: "FileReport") -> tuple[Cell, ...]:
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


def _draw(day: Sequence[Sequence[float]]) -> str:
    """Blocks by the root of the volume, or the open would flatten everything else."""
    top = max((value for part in day for value in part), default=0.0) or 1.0
    last = len(SPARKS) - 1
    before, inside, after = (
        "".join(SPARKS[round((value / top) ** 0.5 * last)] if value else " " for value in part) for part in day
    )
    return f"{before}[{inside}]{after}"


def draw_questions(questions: Sequence[str]) -> None:
    """Say what `init --files` could not decide."""
    for question in questions:
        say(f"to decide: {question}", "yellow" if find_terminal() else "")
