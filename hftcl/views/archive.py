"""Draws the archive: the history, a rollback, an unpin, the record."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hftcl.formats import UNDEFINED, count, interval, moment, sharpe_ratio
from hftcl.views import Styled, draw_sparkline, draw_table, say

if TYPE_CHECKING:
    from hftcl.archive.records import ModelRecord, RollbackPlan
    from hftcl.learning.archive_reports import HistoryRow, RollbackReport, UnpinReport
    from hftcl.learning.stories.record import RecordRow


def draw_history(rows: "Sequence[HistoryRow]") -> None:
    """Draw the archive, newest first: a row a model, then a line with the course of the exams' Sharpe ratios."""
    if not rows:
        say("No model yet. `hftcl retrain --force` trains the first.")
        return
    marks = {"deployed": "green", "rejected": "red", "inconclusive": "yellow"}
    columns = (
        "model",
        "trained, UTC",
        "on sessions",
        "rows",
        "Sharpe (90 %)",
        "verdict",
        "edge",
        "serves",
        "bars",
        "why",
    )
    drawn = [
        (
            Styled(row.model_id, "bold green" if row.is_deployed else ""),
            moment(row.trained_date) if row.trained_date else UNDEFINED,
            f"{row.trained_from} to {row.trained_to}" if row.trained_from else UNDEFINED,
            str(row.rows) if row.rows else UNDEFINED,
            sharpe_ratio(row.val_sharpe, row.exam_sessions)
            + (f" ({interval(row.sharpe_interval, '.1f')})" if row.sharpe_interval else ""),
            Styled(row.outcome, marks.get(row.outcome, "")),
            Styled(row.edge or "-", "green" if row.edge == "live" else ""),
            _describe_serving(row) if row.outcome != "adopted" else UNDEFINED,
            Styled("SYNTHETIC", "magenta") if row.synthetic else row.source,
            row.reason,
        )
        for row in rows
    ]
    draw_table(
        "", columns, drawn, numbers=frozenset({3, 4}), spare=("rows", "bars", "trained, UTC", "on sessions", "edge")
    )
    for row in rows:
        for gap in row.gaps:
            say(
                f"Before {row.model_id} the record lacks {gap.first} to {gap.last} ({count(gap.sessions, 'session')}): "
                "nothing was collected or retrained for longer than [market] lookback_days, or there were no bars.",
                "yellow",
            )
    examined = [
        row for row in rows if row.outcome != "adopted"
    ]  # another program measured the Sharpe ratio of the rest
    if len(examined) > 1:
        course = [row.val_sharpe for row in reversed(examined)]
        say(f"Sharpe of the exams, oldest to newest: {draw_sparkline(course)}")


def _describe_serving(row: "HistoryRow") -> str:
    if row.is_deployed:
        since = row.served[-1][0] if row.served else None
        return f"now{', since ' + format(since, '%Y-%m-%d') if since else ''}{', PINNED' if row.pinned else ''}"
    spans = [
        f"{begin:%Y-%m-%d} to {end:%Y-%m-%d}" if end else f"from {begin:%Y-%m-%d} on, and its file is gone"
        for begin, end in row.served
    ]
    return ", ".join(spans) or "never"


def draw_rollback_plan(plan: "RollbackPlan") -> None:
    """Draw what a rollback would change, on stderr, before it asks."""
    current = _describe_model(plan.current) if plan.current else "no model"
    for line in (
        f"serves now: {current}",
        f"will serve: {_describe_model(plan.target)}",
        "It will be pinned: no retrain replaces it until `hftcl unpin`.",
    ):
        sys.stderr.write(line + "\n")


def _describe_model(record: "ModelRecord") -> str:
    return (
        f"{record.model_id}, trained {record.trained_from} to {record.trained_to} on "
        f"{'SYNTHETIC' if record.synthetic else record.source} bars, exam Sharpe "
        f"{sharpe_ratio(record.val_sharpe, record.judgement.exam_sessions)}"
    )


def draw_rollback(report: "RollbackReport") -> None:
    """Draw a RollbackReport."""
    for note in report.repaired:
        say(f"repaired: {note}", "yellow")
    before = f", in place of {report.from_model}" if report.from_model else ""
    say(f"{report.to_model} serves now{before}. It is pinned until `hftcl unpin`.", "bold green")


def draw_unpin(report: "UnpinReport") -> None:
    """Draw an UnpinReport."""
    for note in report.repaired:
        say(f"repaired: {note}", "yellow")
    if report.unpinned is None:
        say("Nothing was pinned.")
    else:
        say(f"{report.unpinned} is no longer pinned: the next retrain may replace it.")


def draw_record(rows: "Sequence[RecordRow]") -> None:
    """Draw the policy's record, oldest first, then how many of its sessions count."""
    if not rows:
        say("No session is recorded yet. The first retrain begins the record.")
        return
    drawn = [
        (
            row.session.isoformat(),
            f"{row.net:+.3%}",
            row.model_id,
            row.kind,
            row.policy or "unknown",
            Styled("SYNTHETIC", "magenta") if row.synthetic else row.source,
            _list_bars(row.bars),
            Styled("yes", "green") if row.counts else f"no: {row.why}",
        )
        for row in rows
    ]
    columns = ("session", "net", "model", "earned by", "policy", "source", "bars", "counts")
    draw_table("", columns, drawn, numbers=frozenset({1}), spare=("bars", "earned by", "policy", "source"))
    for row in rows:
        if row.lacking_before:
            say(
                f"The record lacks {count(row.lacking_before, 'session')} before {row.session}: nothing was collected "
                "or retrained for longer than [market] lookback_days, or there were no bars.",
                "yellow",
            )
    say(f"{sum(row.counts for row in rows)} of {count(len(rows), 'session')} count for the policy that is configured.")


def _list_bars(bars: str) -> str:
    """Return a session's bars for the eye: of how many tickers; the JSON has the digest of each."""
    count = len(bars.split())
    return f"{count} ticker{'s' if count > 1 else ''}" if count else "unknown"
