"""The story of `check`: gather the facts, let `triggers` decide. Changes nothing, on disk or elsewhere.

Called by `loop`, and by `retraining` before it begins.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from hftcl.archive import artifact
from hftcl.archive.records import ModelRecord
from hftcl.archive.registry import Registry
from hftcl.errors import HftclError
from hftcl.events import OnEvent
from hftcl.exam import metrics
from hftcl.exam.split import sessions_of, unseen
from hftcl.learning import triggers
from hftcl.learning.dataset import AsOf, assemble, find_as_of, open_market
from hftcl.learning.examining import defined, examine
from hftcl.learning.reports import CheckReport
from hftcl.learning.timing import Stopwatch
from hftcl.settings import Settings


def check(settings: Settings, *, as_of: str | None, now: datetime, on_event: OnEvent) -> CheckReport:
    """Return whether a retrain is due, with every trigger's evidence.

    Bars that the cache lacks are fetched and not kept. A source that cannot answer is evidence, not an error, as long
    as the other triggers can be told.
    """
    registry = Registry(Path(settings.paths.home))
    live, last = registry.live(), _last_judged(registry)
    source, calendar = open_market(settings)
    known = find_as_of(source, calendar, settings, as_of, now)
    clock = known.at if known.explicit else now
    if known.explicit and last is not None:
        last = _as_of_then(registry, last)
    if live is None:
        recent = triggers.recent_sharpe(
            None, 0, threshold=settings.triggers.min_recent_sharpe, needed=1, problem="no model serves"
        )
    else:
        recent = _recent(settings, live, known, on_event)
    rules = (
        triggers.no_model(live.model_id if live else None),
        triggers.age(last, clock, settings.triggers.max_age_days),
        recent,
    )
    cooling = triggers.cooling(last, clock, settings.triggers.cooldown_hours)
    due, reason = triggers.decide(rules, cooling)
    return CheckReport(
        due=due,
        reason=reason,
        triggers=rules,
        live=live.model_id if live else None,
        as_of=known.at,
        as_of_note=known.note,
        source=source.name,
        synthetic=source.synthetic,
    )


def _last_judged(registry: Registry) -> triggers.Judged | None:
    attempt = registry.last_judged()
    if attempt is None:
        return None
    return triggers.Judged(model_id=attempt.model_id, at=attempt.at, outcome=attempt.outcome)


def _as_of_then(registry: Registry, last: triggers.Judged) -> triggers.Judged:
    """Return `last` dated by what it knew, not by the clock: with --as-of, time is what the bars say."""
    if last.model_id is None:
        return last
    known = registry.find(last.model_id).report.get("as_of")
    if known is None:
        return last
    at = datetime.fromisoformat(known).astimezone(UTC)
    return triggers.Judged(model_id=last.model_id, at=at, outcome=last.outcome)


@dataclass(frozen=True, slots=True)
class _Recent:
    value: float | None
    sessions: int


def _recent(settings: Settings, live: ModelRecord, known: AsOf, on_event: OnEvent) -> triggers.Trigger:
    rule = settings.triggers
    needed = min(rule.recent_sessions, settings.exam.min_sessions)
    try:
        found = _score_recent(settings, live, known, on_event)
    except HftclError as problem:  # a model or a source that fails is told; age and absence still decide
        return triggers.recent_sharpe(None, 0, threshold=rule.min_recent_sharpe, needed=needed, problem=str(problem))
    return triggers.recent_sharpe(found.value, found.sessions, threshold=rule.min_recent_sharpe, needed=needed)


def _score_recent(settings: Settings, live: ModelRecord, known: AsOf, on_event: OnEvent) -> _Recent:
    """Score the production model on the last sessions that it has not seen, by the code of the exam."""
    home = Path(settings.paths.home)
    model = artifact.load(
        Registry(home).production, expected_sha256=live.sha256, expected_features=artifact.our_features()
    )
    source, calendar = open_market(settings)
    data = assemble(settings, source, calendar, known, save=False, on_event=on_event, watch=Stopwatch())
    later = unseen(sessions_of(data.frame), live.label_end, embargo_sessions=settings.exam.embargo_sessions)
    days = tuple(session.day for session in later[-settings.triggers.recent_sessions :])
    if len(days) < 2:
        return _Recent(None, len(days))
    net = examine(model, data.frame, days, cost_bps=settings.strategy.cost_bps).simulation.net
    return _Recent(defined(lambda: metrics.sharpe(net)), len(days))
