"""Draws a retrain: the verdict first and last, the exam and the edge between, and what can be done next."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hftcl.formats import count, describe_edge, format_interval, format_timings, list_left_out
from hftcl.views import Cell, Styled, describe_source, draw_table, explain_words, number, say
from hftcl.views.next_steps import list_next_steps
from hftcl.views.scores import SCORE_ROWS, draw_coverage, draw_findings, draw_slices, draw_worth, say_novel

if TYPE_CHECKING:
    from hftcl.exam.entry import EntryChoice
    from hftcl.exam.importance import Selection
    from hftcl.learning.reports import EvidenceReport, ExamSpan, RetrainReport, ScoreReport


def draw_retrain(report: "RetrainReport", verbosity: int = 0) -> None:
    """Draw a RetrainReport."""
    _say_verdict(report)
    say(describe_source(report), "bold magenta" if report.synthetic else "")
    for note in report.repaired:
        say(f"repaired: {note}", "yellow")
    for line in list_left_out(report.left_out):
        say(line, "yellow")
    if report.outcome == "skipped":
        say("`hftcl retrain --force` skips the check, never the exam.")
        return
    _draw_training(report, verbosity)
    if report.challenger is not None and report.exam is not None:
        _draw_scores(report, report.challenger, report.exam)
        if verbosity > 0:
            draw_slices(report.challenger, "Challenger")
    for line in list_next_steps(report):
        say(line)
    say(format_timings(report.timings_s), "dim")
    _say_verdict(report)


def _draw_training(report: "RetrainReport", verbosity: int) -> None:
    """Draw the bars, and what was chosen inside the training window."""
    draw_findings(report.findings, everything=verbosity > 0)
    if verbosity > 0 and report.coverage:
        draw_coverage(report.coverage)
    say(
        f"{count(report.rows, 'training row')}, {count(report.sessions, 'session')}, "
        f"{count(len(report.tickers), 'ticker')}; {report.engine}"
    )
    if report.max_rows:
        say(
            "more rows than [model] max_rows: each fit, or each tree of a forest, learnt from a sample of at most "
            f"{report.max_rows:,} rows"
        )
    if report.horizon is not None:
        say(f"horizon: {report.horizon.reason}")
    if report.selection is not None:
        _draw_selection(report.selection, verbosity)
    if report.entry is not None:
        _draw_entry(report.entry, verbosity)


def _say_verdict(report: "RetrainReport") -> None:
    """Say what became of the candidate, and whether the bot may trade; a retrain that was skipped judged neither."""
    style = {"deployed": "bold green", "skipped": "bold"}.get(report.outcome, "bold red")
    dry = " (dry run: nothing was archived or deployed)" if report.dry_run else ""
    say(f"{report.outcome.upper()} {report.model_id or ''}: {report.reason}{dry}".replace(" :", ":"), style)
    if report.outcome != "skipped":
        style = "bold green" if report.edge == "live" else "bold yellow"
        say(f"{describe_edge(report.edge)}: {report.edge_reason}", style)


def _draw_selection(selection: "Selection", verbosity: int) -> None:
    """Draw which features left; with -v what each is worth."""
    names = ", ".join(worth.name for worth in selection.dropped)
    say(f"features: {selection.reason}{': ' + names if names else ''}")
    if verbosity > 0:
        left = {worth.name for worth in selection.dropped}
        rows = [
            (
                worth.name,
                number(worth.importance, "+.5f"),
                number(worth.standard_error, ".5f"),
                "left out" if worth.name in left else "",
            )
            for worth in (*selection.kept, *selection.dropped)
        ]
        title = f"What the information coefficient loses without a feature, {count(selection.seeds, 'draw')}"
        draw_table(title, ("feature", "importance", "standard error", ""), rows, numbers=frozenset({1, 2}))


def _draw_entry(entry: "EntryChoice", verbosity: int) -> None:
    """Draw what was chosen inside the training window; with -v what each threshold earned there."""
    if entry.quantile is None:
        say(f"entry: {entry.reason}; so it trades nothing", "yellow")
    else:
        say(f"entry: {entry.reason}")
    if verbosity > 0:
        rows = [
            (
                f"{one.quantile:g}",
                f"{one.threshold:.4f}",
                number(one.net, "+.4%"),
                number(one.standard_error, ".4%"),
                number(one.turnover, ".1f"),
            )
            for one in entry.tried
        ]
        title = f"Entry thresholds on {count(entry.sessions, 'held-out session')} of the training, a session"
        columns = ("quantile", "threshold", "net P&L", "standard error", "turnover")
        draw_table(title, columns, rows, numbers=frozenset(range(5)))


def _draw_scores(report: "RetrainReport", challenger: "ScoreReport", exam: "ExamSpan") -> None:
    champion = report.champion
    models = "both" if champion else "the challenger"
    title = f"Exam: {count(exam.sessions, 'session')}, {exam.from_} to {exam.to}, unseen by {models}"
    others = [*((champion,) if champion else ()), *((report.baseline,) if report.baseline else ())]
    columns = [
        "",
        "challenger",
        *(["champion " + (champion.model_id or "")] if champion else []),
        *(["ridge, the baseline"] if report.baseline else []),
    ]
    rows = [[name, form(challenger), *(form(other) for other in others)] for name, form in SCORE_ROWS]
    draw_table(title, columns, rows, numbers=frozenset(range(1, len(columns))))
    explain_words("exam")
    say_novel(challenger)
    if exam.chance_of_noise is not None and exam.noise_deviation is not None:
        say(
            f"A coin flip shows a Sharpe ratio of 0 +- {exam.noise_deviation:.1f} (one standard deviation) over "
            f"{count(exam.sessions, 'session')} and passes the threshold in {exam.chance_of_noise:.0%} of such exams."
        )
    draw_worth(challenger.worth)
    _draw_facts("Promote: is it the best model there is?", report.evidence)
    _draw_facts(_build_edge_title(report), report.edge_evidence)
    explain_words("edge", "record", "policy", "stand aside")


def _build_edge_title(report: "RetrainReport") -> str:
    title = "Edge: does the record of this policy let the bot trade?"
    if not report.record_sessions:
        return title
    return (
        f"{title} {count(report.record_sessions, 'session')}, {report.record_from} to {report.record_to}, unseen by "
        f"the model of their day: net Sharpe {number(report.record_sharpe)} "
        f"(90 %: {format_interval(report.record_interval, '.1f')})"
    )


def _draw_facts(title: str, evidence: "Sequence[EvidenceReport]") -> None:
    rows: list[list[Cell]] = [
        [
            fact.text,
            Styled("for information", "dim")
            if not fact.decides
            else Styled("ok", "green")
            if fact.passed
            else Styled("missed", "red"),
        ]
        for fact in evidence
    ]
    draw_table(title, ("condition", "result"), rows)
