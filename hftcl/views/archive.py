"""Draws the archive: the history, a rollback, an unpin, the record."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from hftcl.formats import (
    SYNTHETIC,
    UNDEFINED,
    count,
    describe_edge,
    format_interval,
    format_moment,
    format_sharpe,
    number,
)
from hftcl.learning.gaps import CAUSES
from hftcl.views import Cell, Styled, draw_sparkline, draw_table, explain_words, say
from hftcl.views.terminal import LastingTerminal

if TYPE_CHECKING:
    from hftcl.archive.note_rows import Note
    from hftcl.archive.record import EdgeInForce
    from hftcl.archive.records import Deployment, ModelRecord, RollbackPlan
    from hftcl.learning.archive_reports import HistoryRow, NoteReport, RollbackReport, UnpinReport
    from hftcl.learning.reports import RetrainReport
    from hftcl.learning.stories.diff import DiffReport
    from hftcl.learning.stories.record import RecordRow

_OUTCOMES: Final = {"deployed": "green", "rejected": "red", "inconclusive": "yellow"}
_LONGEST = 60  # characters of a value: a formula or a digest is recognised by its beginning, --json has all of it


def draw_history(rows: "Sequence[HistoryRow]") -> None:
    """Draw the archive, newest first: a row a model, then a line with the course of the exams' Sharpe ratios."""
    if not rows:
        say("No model yet. `hftcl retrain --force` trains the first.")
        return
    columns = (
        "model",
        "trained, UTC",
        "on sessions",
        "rows",
        "Sharpe (90 %)",
        "verdict",
        "may trade",
        "serves",
        "bars",
        "why",
    )
    drawn = [
        (
            Styled(row.model_id, "bold green" if row.is_deployed else ""),
            format_moment(row.trained_date) if row.trained_date else UNDEFINED,
            f"{row.trained_from} to {row.trained_to}" if row.trained_from else UNDEFINED,
            (f"{row.rows}, at most {row.max_rows} a fit" if row.max_rows else str(row.rows)) if row.rows else UNDEFINED,
            format_sharpe(row.val_sharpe, row.exam_sessions)
            + (f" ({format_interval(row.sharpe_interval, '.1f')})" if row.sharpe_interval else ""),
            Styled(row.outcome, _OUTCOMES.get(row.outcome, "")),
            _describe_may_trade(row.edge),
            _describe_serving(row) if row.outcome != "adopted" else UNDEFINED,
            Styled("SYNTHETIC", "magenta") if row.synthetic else row.source,
            row.reason,
        )
        for row in rows
    ]
    spare = ("rows", *_spare_source("bars", rows), "trained, UTC", "on sessions", "may trade")
    draw_table("", columns, drawn, numbers=frozenset({3, 4}), spare=spare)
    for row in rows:
        for gap in row.gaps:
            say(
                f"Before {row.model_id} the record lacks {gap.first} to {gap.last} "
                f"({count(gap.sessions, 'session')}): {CAUSES}.",
                "yellow",
            )
    for row in rows:
        _draw_remarks(row.model_id, row.notes, row.tags)
    examined = [
        row for row in rows if row.outcome != "adopted"
    ]  # another program measured the Sharpe ratio of the rest
    if len(examined) > 1:
        sharpes = [row.val_sharpe for row in reversed(examined)]
        say(f"Sharpe of the exams, oldest to newest: {draw_sparkline(sharpes)}")
    explain_words("exam")


def draw_verdicts(rows: "Sequence[HistoryRow]") -> None:
    """Draw each model in a few words: what was decided, and why."""
    drawn = [
        (
            Styled(row.model_id, "bold green" if row.is_deployed else ""),
            Styled(row.outcome, _OUTCOMES.get(row.outcome, "")),
            (f"{SYNTHETIC}, " if row.synthetic else "") + row.reason,
        )
        for row in rows
    ]
    if drawn:
        draw_table("", ("model", "verdict", "why"), drawn)


def _describe_may_trade(edge: str | None) -> Cell:
    return UNDEFINED if edge is None else Styled("yes", "green") if edge == "live" else "no"


def _spare_source(column: str, rows: "Sequence[HistoryRow] | Sequence[RecordRow]") -> tuple[str, ...]:
    """Return the column of the sources where a narrow terminal may go without it: never where bars are SYNTHETIC."""
    return () if any(row.synthetic for row in rows) else (column,)


def _draw_remarks(model_id: str, notes: "Sequence[Note]", tags: Sequence[str]) -> None:
    if tags:
        say(f"{model_id} is tagged {', '.join(tags)}")
    for note in notes:
        say(f"{model_id}, noted {format_moment(note.at)} UTC: {note.text}")


def draw_note(report: "NoteReport") -> None:
    """Draw what is written about a model."""
    for note in report.repaired:
        say(f"repaired: {note}", "yellow")
    _draw_remarks(report.model_id, report.notes, report.tags)
    if not report.notes and not report.tags:
        say(f"Nothing is noted of {report.model_id}, and it has no tag.")


def draw_permission(permission: "EdgeInForce") -> None:
    """Draw whether the record lets the bot trade at this moment, and why."""
    say(permission.text, "bold green" if permission.edge == "live" else "bold yellow")


def draw_serving(
    model_id: str, put_there: "Deployment | None", own: "RetrainReport | None", unfit: str | None = None
) -> None:
    """Draw which model serves, since when and why. own: its retrain, where that was not the newest one.

    unfit: why it may not serve this market; the bot refuses it.
    """
    if put_there is not None:
        pinned = ", pinned" if put_there.kind == "rollback" and put_there.unpinned_at is None else ""
        why = f": {put_there.reason}" if put_there.reason else ""
        say(f"{model_id} serves since {format_moment(put_there.at)} UTC, by {put_there.kind}{pinned}{why}")
    if unfit is not None:
        say(f"It cannot serve this market: {unfit}", "bold yellow")
    if own is not None:
        say(f"Its own retrain said {describe_edge(own.edge)}: {own.edge_reason}", "yellow")


def draw_lineage(rows: "Sequence[HistoryRow]") -> None:
    """Draw the serving model and those that it stands on, then which features each reads, and what changed."""
    if not rows:
        say("No model serves, so none stands on another. `hftcl history` lists all.")
        return
    draw_history(rows)
    for row, before in zip(rows, [*rows[1:], None], strict=True):
        if not row.features:  # an earlier hftcl did not say
            continue
        text = f"{row.model_id} reads {count(len(row.features), 'feature')}"
        if row.dropped:
            text += f"; {', '.join(f'{name} ({worth:+.5f})' for name, worth in row.dropped.items())} left out"
        if before is not None and before.features:
            came = [f"+{name}" for name in row.features if name not in before.features]
            went = [f"-{name}" for name in before.features if name not in row.features]
            text += f"; against {before.model_id}: {' '.join([*came, *went]) or 'the same'}"
        say(text)


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
        LastingTerminal(sys.stderr).put(f"{line}\n")


def _describe_model(record: "ModelRecord") -> str:
    return (
        f"{record.model_id}, trained {record.trained_from} to {record.trained_to} on "
        f"{'SYNTHETIC' if record.synthetic else record.source} bars, exam Sharpe "
        f"{format_sharpe(record.val_sharpe, record.judgement.exam_sessions)}"
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


def draw_diff(report: "DiffReport") -> None:
    """Draw a DiffReport: the exam on shared sessions, then what differs, a row each."""
    shared = report.shared
    if shared is None:
        say("No session was in both exams: their Sharpe ratios are not to be compared.", "yellow")
    else:
        rows = [
            (
                "Sharpe, net",
                format_sharpe(shared.sharpe_a, shared.sessions),
                format_sharpe(shared.sharpe_b, shared.sessions),
            ),
            ("P&L, net", number(shared.pnl_a, "+.3%"), number(shared.pnl_b, "+.3%")),
        ]
        title = f"On the {count(shared.sessions, 'session')} of both exams, {shared.from_} to {shared.to}"
        draw_table(title, ("", report.a, report.b), rows, numbers=frozenset({1, 2}))
        say(
            f"Sharpe of the first less the second's: {number(shared.difference, '+.2f')} +- "
            f"{number(shared.standard_error)} (one standard error); P(better) {number(shared.p_better)}"
        )
    drawn = [(item.kind, item.what, _show_value(item.a), _show_value(item.b)) for item in report.differences]
    draw_table("What differs", ("of", "what", report.a, report.b), drawn)


def _show_value(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or UNDEFINED
    if isinstance(value, dict):
        return ", ".join(f"{name} {each}" for name, each in value.items())
    text = UNDEFINED if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


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
    draw_table(
        "",
        columns,
        drawn,
        numbers=frozenset({1}),
        spare=("bars", "earned by", "policy", *_spare_source("source", rows)),
    )
    for row in rows:
        if row.lacking_before:
            say(
                f"The record lacks {count(row.lacking_before, 'session')} before {row.session}: {CAUSES}.",
                "yellow",
            )
    say(f"{sum(row.counts for row in rows)} of {count(len(rows), 'session')} count for the policy that is configured.")
    explain_words("record", "policy")


def _list_bars(bars: str) -> str:
    """Return a session's bars for the eye: of how many tickers; the JSON has the digest of each."""
    count = len(bars.split())
    return f"{count} ticker{'s' if count > 1 else ''}" if count else "unknown"
