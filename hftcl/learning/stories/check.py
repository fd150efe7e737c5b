"""The story of `check`: gather the facts, let `triggers` decide. Changes nothing, on disk or elsewhere."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np

from hftcl.archive.fitness import (
    MarketKind,
    find_market_kind,
    find_unfit,
    find_untrained,
    is_about,
    load_fit,
    require_same_kind,
)
from hftcl.archive.policy import hash_policy
from hftcl.archive.record import read_sessions
from hftcl.archive.records import ModelRecord
from hftcl.archive.registry import JUDGED, Registry
from hftcl.errors import HftclError, ImplausibleBarsError, NoDataError, RefusedBarsError
from hftcl.events import Event, Level, OnEvent
from hftcl.exam import metrics
from hftcl.exam.detector import ShiryaevRoberts
from hftcl.home import Home
from hftcl.learning import triggers
from hftcl.learning.dataset import Window, open_window
from hftcl.learning.gaps import describe_holes, find_holes
from hftcl.learning.record import Record
from hftcl.learning.reports import CheckReport
from hftcl.learning.session_scores import score_unseen
from hftcl.market.received import TickerCoverage
from hftcl.market.sources import as_local
from hftcl.performance.recent import read_recent
from hftcl.settings import Settings


def check(settings: Settings, *, as_of: str | None, now: datetime, on_event: OnEvent) -> CheckReport:
    """Return whether a retrain is due, with every trigger's evidence; bars that the cache lacks are not kept."""
    window = open_window(settings, as_of=as_of, now=now, save=False, on_event=on_event)
    report = check_window(window, now)
    _tell_holes(window, on_event)
    if report.live is not None:
        registry = Registry(Home.of(settings).root)
        untrained = find_untrained(registry, registry.find(report.live), settings.market.watchlist)
        if untrained:
            on_event(Event("check", text=untrained, level=Level.WARNING))
    return report


def _tell_holes(window: Window, on_event: OnEvent) -> None:
    registry, synthetic = Registry(Home.of(window.settings).root), window.source.synthetic
    policy = hash_policy(window.settings, features=window.read_features())
    rows = read_sessions(registry, synthetic=synthetic, policy=policy)
    begin = window.list_days()[0]
    days = [row.session for row in rows if row.session <= window.list_days()[-1]]
    hole = describe_holes(find_holes(days, window.calendar, begin))
    if hole:
        on_event(Event("check", text=hole, level=Level.WARNING))


def check_window(window: Window, now: datetime) -> CheckReport:
    """Return whether a retrain is due by what an open window holds. now: UTC.

    A source that cannot answer is evidence, not an error, as long as the other triggers can be told.
    """
    settings, known_end = window.settings, window.known_end
    registry = Registry(Home.of(settings).root)
    live, market = registry.find_live(), find_market_kind(settings)
    at = known_end.at if known_end.explicit else None
    if at is not None:
        live = _find_model_then(registry, at)
    last, waits = _find_last_verdict(registry, market, live, at)
    unfit = find_unfit(registry, market, window.read_features()) if at is None and not waits else None
    clock = at or now
    observed, covered = _evaluate_triggers(window, live, last)
    rules = (
        triggers.check_no_model(live.model_id if live else None, unfit),
        triggers.check_age(last, clock, settings.triggers.max_age_days),
        *observed,
        triggers.check_manual(asked=False),
    )
    rule = settings.triggers
    cooling = triggers.explain_cooldown(last, clock, rule.cooldown_hours, rule.max_age_days)
    due, reason = triggers.decide(rules, cooling)
    return CheckReport(
        due=due,
        reason=reason,
        triggers=rules,
        live=live.model_id if live else None,
        as_of=known_end.at,
        as_of_note=known_end.note,
        source=window.source.name,
        synthetic=window.source.synthetic,
        coverage=covered,
    )


def _find_last_verdict(
    registry: Registry, market: MarketKind, live: ModelRecord | None, at: datetime | None
) -> tuple[triggers.LastVerdict | None, bool]:
    """Return the newest verdict on this market, and whether its candidate waits beside the one that serves.

    One that waits so has had its verdict, and so has one whose figures are doubted: to train another one each night
    would change nothing about what keeps it waiting. A candidate's verdict is dated by when its retrain began: one that
    takes hours would else be due a day late at each daily check. at: the present that is asked about; verdicts are
    then dated by what they knew, as time is what the bars say. What is judged in another market makes nothing here too
    young.
    """
    models = {model.model_id: model for model in registry.list_models()}
    for attempt in registry.list_attempts():
        model = models.get(attempt.model_id or "")
        date_known = attempt.at if model is None else model.trained_at if at is None else model.known_until
        if at is not None and date_known > at:
            continue
        waits = model is not None and live is not None and model.judgement.waits_beside == live.model_id
        doubted = model is not None and model.judgement.doubted
        judged = attempt.outcome in JUDGED or waits or doubted
        if judged and (model is None or is_about(registry, model, market)):
            verdict = triggers.LastVerdict(model_id=attempt.model_id, at=date_known, outcome=attempt.outcome)
            return verdict, waits
    return None, False


def _find_model_then(registry: Registry, at: datetime) -> ModelRecord | None:
    """Return the model that served when `at` was the present, by what each knew: None where there was none yet, or
    none serves today.
    """
    live, known = registry.find_live(), {model.model_id: model for model in registry.list_models()}
    if live is None:
        return None
    served = [known[deployment.model_id] for deployment in reversed(registry.list_deployments())]
    return next((model for model in (live, *served) if model.known_until <= at), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """What the bars say of the production model; `sessions` of them are recent and unseen by it."""

    sharpe: float | None
    stability: dict[str, float] | None
    watched: triggers.DetectorRun
    sessions: int
    coverage: tuple[TickerCoverage, ...]


def _evaluate_triggers(
    window: Window, live: ModelRecord | None, last: triggers.LastVerdict | None
) -> tuple[tuple[triggers.Trigger, ...], tuple[TickerCoverage, ...]]:
    """Return the triggers that need bars, recent Sharpe ratio, degradation, drift, and what the bars cover."""
    settings, rule = window.settings, window.settings.triggers
    needed = min(rule.recent_sessions, settings.exam.min_sessions)
    facts, problem = None, None
    covered: tuple[TickerCoverage, ...] = ()
    try:
        if live is None:
            problem = "no model serves"
            if as_local(window.source):  # the bars lie here, so that looking at them costs no call
                with contextlib.suppress(NoDataError):
                    covered = window.read_coverage()
        else:
            require_same_kind(live.model_id, trained_synthetic=live.synthetic, synthetic=window.source.synthetic)
            facts = _gather(window, live, last)
    except (ImplausibleBarsError, RefusedBarsError):  # of every ticker: bars that cannot be used are no evidence
        raise
    except HftclError as fault:  # a model or a source that fails is told; age and absence still decide
        problem = str(fault)
    sessions = facts.sessions if facts else 0
    sharpe, stability, watched = (facts.sharpe, facts.stability, facts.watched) if facts else (None, None, None)
    scored = triggers.check_recent_sharpe(
        sharpe,
        sessions,
        threshold=rule.min_recent_sharpe,
        needed=needed,
        problem=problem,
        sessions_per_year=window.calendar.sessions_per_year,
    )
    results = (
        _evaluate_ledger_sharpe(window, live, needed) or scored,
        triggers.check_degradation(
            watched, floor=rule.min_recent_sharpe, alarm_at=rule.alarm_sessions, problem=problem
        ),
        triggers.check_drift(stability, sessions, threshold=rule.max_psi, needed=needed, problem=problem),
    )
    return results, facts.coverage if facts else covered


def _evaluate_ledger_sharpe(window: Window, live: ModelRecord | None, needed: int) -> triggers.Trigger | None:
    """Return `recent_sharpe` by the ledger, which knows real fills; None where it has too little of this model."""
    rule, synthetic = window.settings.triggers, window.source.synthetic
    if live is None or live.synthetic != synthetic:
        return None
    last, a_year = window.calendar.find_last_complete(window.known_end.at), window.calendar.sessions_per_year
    try:
        recent = read_recent(
            window.settings, live.model_id, until=last, most=rule.recent_sessions, of_synthetic=synthetic
        )
    except HftclError as fault:
        return triggers.check_recent_sharpe(
            None,
            0,
            threshold=rule.min_recent_sharpe,
            needed=needed,
            problem=str(fault),
            sessions_per_year=a_year,
        )
    if recent is None or recent.net.size < needed:
        return None
    sharpe = metrics.compute_sharpe_or_none(recent.net, sessions_per_year=a_year)
    if sharpe is None:
        return None
    return triggers.check_recent_sharpe(
        sharpe,
        recent.net.size,
        threshold=rule.min_recent_sharpe,
        needed=needed,
        ledger=recent.ledger,
        sessions_per_year=a_year,
    )


def _gather(window: Window, live: ModelRecord, last: triggers.LastVerdict | None) -> _Facts:
    """Score the production model on the sessions that it has not seen, by the code of the exam; count its features."""
    settings = window.settings
    registry = Registry(Home.of(settings).root)
    file = registry.production if live.is_deployed else registry.locate_onnx(live.model_id)  # the latter with --as-of
    market, features = find_market_kind(settings), window.read_features()
    model = load_fit(file, sha256=live.sha256, market=market, features=features)
    scores = score_unseen(window, model, live.label_end)
    net, days = scores.net, tuple(scores.sessions)
    recent = days[-settings.triggers.recent_sessions :]
    a_year = window.calendar.sessions_per_year
    return _Facts(
        sharpe=metrics.compute_sharpe_or_none(np.array([net[day] for day in recent]), sessions_per_year=a_year)
        if len(recent) > 1
        else None,
        stability=scores.compute_stability(recent),
        watched=_run_detector(window, registry, net, last),
        sessions=len(recent),
        coverage=window.read_coverage(),
    )


def _run_detector(
    window: Window,
    registry: Registry,
    scored: Mapping[date, float],
    last: triggers.LastVerdict | None,
) -> triggers.DetectorRun:
    """Run the detector over the policy's record and what the production model has made since it ends.

    Not started again at a promotion: that would double the delay. An alarm counts until the next verdict answers it.
    """
    settings = window.settings
    policy = hash_policy(settings, features=window.read_features())
    rows = read_sessions(registry, synthetic=window.source.synthetic, policy=policy)
    recorded_sessions = tuple(session for session in rows if session.session <= window.list_days()[-1])
    record = Record(recorded_sessions=recorded_sessions, added=(), cost_bps=settings.strategy.cost_bps)
    pnl = dict(zip((session.session for session in recorded_sessions), record.net.tolist(), strict=True))
    begun = max(pnl, default=date.min)
    later = {day: net for day, net in scored.items() if day > begun}
    answered = window.calendar.find_last_complete(last.at) if last is not None else date.min
    rule = settings.triggers
    state = ShiryaevRoberts(
        floor=rule.min_recent_sharpe,
        alarm_at=rule.alarm_sessions,
        sessions_per_year=window.calendar.sessions_per_year,
    )
    alarm = None
    for day, net in {**pnl, **later}.items():
        state = state.update(net)
        if state.alarmed and day > answered:
            alarm = (day, state.statistic)
    return triggers.DetectorRun(statistic=state.statistic, recorded=len(pnl), later=len(later), alarm=alarm)
