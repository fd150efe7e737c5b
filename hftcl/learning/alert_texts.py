"""What a person hears about the loop: an alert from a retrain, a rollback, an error, and the weekly digest.

Pure but for `digest`, which reads the registry.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from hftcl.alerts import Alert, Kind
from hftcl.archive.fitness import find_unfit_here
from hftcl.archive.permission import find_permission
from hftcl.archive.records import ModelRecord
from hftcl.archive.registry import Registry
from hftcl.errors import HftclError
from hftcl.formats import count, describe_edge, format_moment, format_sharpe, group_by_reason
from hftcl.home import Home
from hftcl.learning.archive_reports import RollbackReport
from hftcl.learning.reports import RetrainReport, ScoreReport
from hftcl.settings import Settings

Facts = tuple[tuple[str, str], ...]


def build_retrain_alerts(report: RetrainReport, at: datetime, *, weekly: bool = False) -> tuple[Alert, ...]:
    """Return what there is to tell about a retrain: its verdict, and that the weekly one is done.

    Empty for a dry run, and for a check that found none due.
    """
    if report.dry_run:
        return ()
    verdict = () if report.outcome == "skipped" else (_build_verdict_alert(report, at),)
    return (*verdict, _build_weekly_alert(report, at)) if weekly else verdict


def build_rollback_alert(report: RollbackReport, at: datetime) -> Alert:
    """Return that an older model serves again."""
    reason = f" The reason given: {report.reason}." if report.reason else ""
    return Alert(
        kind=Kind.ROLLBACK,
        subject=f"Rolled back to model {report.to_model}",
        text=f"Model {report.to_model} serves in place of {report.from_model or 'none'}, and is pinned: no retrain "
        f"replaces it until `hftcl unpin`.{reason}",
        at=at,
        model_id=report.to_model,
        facts=tuple(("repaired", note) for note in report.repaired),
    )


def build_error_alert(error: BaseException, doing: str, at: datetime) -> Alert:
    """Return that `doing`, such as "the daily check", failed; an error that is not ours has its type told too."""
    what = str(error) if isinstance(error, HftclError) else f"unexpected {type(error).__name__}: {error}"
    return Alert(
        kind=Kind.ERROR,
        subject=f"{doing[:1].upper()}{doing[1:]} failed",
        text=f"{what}\nWhat served still serves.",
        at=at,
        facts=tuple(("note", note) for note in getattr(error, "__notes__", ())),
    )


def build_digest(settings: Settings, since: datetime, now: datetime, extra: Facts = ()) -> Alert:
    """Return what happened from `since` on and before `now` (UTC). extra: what the caller has to add, as missed jobs.

    Raises HftclError where the registry cannot be read.
    """
    registry = Registry(Home.of(settings).root)
    live, pin = registry.find_live(), registry.find_pin()
    attempts = [attempt for attempt in registry.list_attempts() if since <= attempt.at < now]
    outcomes = ", ".join(
        f"{sum(attempt.outcome == outcome for attempt in attempts)} {outcome}"
        for outcome in dict.fromkeys(attempt.outcome for attempt in attempts)
    )
    changes = [change for change in registry.list_deployments() if since <= change.at < now]
    facts: list[tuple[str, str]] = [("serving model", _describe_serving(live, now))]
    if live is not None and (unfit := find_unfit_here(settings)):
        facts.append(("but serves not here", unfit))
    if pin is not None:
        facts.append(("pinned", f"{pin.model_id} since {pin.since:%Y-%m-%d}; `hftcl unpin` ends that"))
    facts.append(("edge", find_permission(settings).text))
    facts.append(("retrains", outcomes or "none"))
    facts += [
        (f"{attempt.at:%a} {format_moment(attempt.at)} UTC", f"{attempt.outcome}: {attempt.reason}")
        for attempt in reversed(attempts)
    ]
    facts += [
        (f"{change.at:%a} {format_moment(change.at)} UTC", f"{change.kind} of model {change.model_id}")
        for change in changes
    ]
    days = max(round((now - since) / timedelta(days=1)), 1)
    return Alert(
        kind=Kind.DIGEST,
        subject=f"The last {'day' if days == 1 else f'{days} days'}: {outcomes or 'no retrain'}",
        text=f"Time: {format_moment(since)} to {format_moment(now)} UTC.",
        at=now,
        model_id=live.model_id if live else None,
        facts=(*facts, *extra),
    )


def _describe_serving(live: ModelRecord | None, now: datetime) -> str:
    if live is None:
        return "none"
    sharpe = (
        ""
        if live.val_sharpe is None
        else f", exam Sharpe {format_sharpe(live.val_sharpe, live.judgement.exam_sessions)}"
    )
    bars = ", on SYNTHETIC bars" if live.synthetic else ""
    return f"{live.model_id}, {(now - live.trained_at) / timedelta(days=1):.1f} days old{sharpe}{bars}"


def _build_verdict_alert(report: RetrainReport, at: datetime) -> Alert:
    kind = Kind(report.outcome)
    subject = {
        Kind.DEPLOYED: f"New model {report.model_id} deployed",
        Kind.REJECTED: f"Candidate rejected: {report.reason}",
        Kind.INCONCLUSIVE: f"Exam inconclusive: {report.reason}",
    }[kind]
    lines = [f"{report.outcome.upper()}: {report.reason}."]
    if kind is not Kind.DEPLOYED:
        lines.append(f"Model {report.serves} serves on." if report.serves else "No model serves.")
    elif report.twin:
        lines.append(f"It is the refit on all sessions of model {report.twin}, which was examined.")
    lines.append(f"{describe_edge(report.edge)}: {report.edge_reason}.")
    if report.synthetic:
        lines.append("The bars are SYNTHETIC: none of these figures says anything about a market.")
    return Alert(
        kind=kind, subject=subject, text="\n".join(lines), at=at, model_id=report.model_id, facts=_list_facts(report)
    )


def _build_weekly_alert(report: RetrainReport, at: datetime) -> Alert:
    total = report.timings_s.get("total")
    took = f" It took {total:.0f} s." if total is not None else ""
    return Alert(
        kind=Kind.RETRAINED,
        subject=f"Weekly retrain completed: {report.outcome}",
        text=f"{report.outcome.upper()}: {report.reason}.{took}",
        at=at,
        model_id=report.model_id,
    )


def _list_facts(report: RetrainReport) -> Facts:
    """Return the verdict as a table: both scores, then each condition and whether it was met."""
    scores = (*_list_score("challenger", report.challenger), *_list_score("champion", report.champion))
    span = report.exam
    exam = (("exam", f"{count(span.sessions, 'session')}, {span.from_} to {span.to}"),) if span is not None else ()
    conditions = tuple(
        (f"{about}{fact.text}", "for information" if not fact.decides else "ok" if fact.passed else "MISSED")
        for about, evidence in (("", report.evidence), ("edge: ", report.edge_evidence))
        for fact in evidence
    )
    trained = (
        "trained on",
        f"{count(report.rows, 'row')}, {count(report.sessions, 'session')}, {count(len(report.tickers), 'ticker')}",
    )
    left_out = tuple((f"left out: {names}", why) for names, _, why in group_by_reason(report.left_out))
    repaired = tuple(("repaired", note) for note in report.repaired)
    return (*exam, *scores, *conditions, trained, *left_out, *repaired)


def _list_score(who: str, score: ScoreReport | None) -> Sequence[tuple[str, str]]:
    if score is None:
        return ()
    low, high = score.sharpe_interval or (None, None)
    interval = f" (90 %: {low:.1f} to {high:.1f})" if low is not None and high is not None else ""
    sharpe = (
        "undefined" if score.sharpe is None else f"{format_sharpe(score.sharpe, len(score.pnl_by_session))}{interval}"
    )
    name = f"{who} {score.model_id or ''}".rstrip()
    return (
        (f"{name}, net Sharpe", sharpe),
        (f"{name}, net P&L", f"{score.pnl:+.3%} of capital, {score.trades} trades, turnover {score.turnover:.1f}"),
    )
