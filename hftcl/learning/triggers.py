"""Is a retrain due, and why. Pure: facts in, one `Trigger` per rule out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

from hftcl.formats import count, format_moment, number

# A daily job does not begin on the second: a verdict of 02:00:40 is not seven days old at 02:00:05 a week later, and
# without an hour of tolerance the model would wait for the eighth day.
_AGE_TOLERANCE: Final = timedelta(hours=1)
_TOLERANCE_SHARE: Final = 0.1  # of an age so short that an hour would be much of it
_HEALTHY: Final = 2.0  # annual net Sharpe ratio of a model that one would keep, as in the simulation of docs/judging.md


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """One rule with its evidence: `value` against `threshold`; None where it is not defined."""

    name: str
    fired: bool
    value: float | None
    threshold: float | None
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LastVerdict:
    """The last candidate that reached a verdict, whatever the verdict was."""

    model_id: str | None
    at: datetime
    outcome: str


def check_no_model(live: str | None, unfit: str | None = None) -> Trigger:
    """Fire where no model serves. live: id of the production model. unfit: why it cannot serve this market."""
    if live is None:
        return Trigger(name="no_model", fired=True, value=None, threshold=None, evidence="no model serves")
    if unfit is not None:
        evidence = f"{live} cannot serve this market: {unfit}"
        return Trigger(name="no_model", fired=True, value=None, threshold=None, evidence=evidence)
    return Trigger(name="no_model", fired=False, value=None, threshold=None, evidence=f"{live} serves")


def check_age(last: LastVerdict | None, now: datetime, max_age_days: float) -> Trigger:
    """Fire when the last judged candidate is `max_age_days` old, an hour (or a tenth of that age) more or less.

    Counted from the last verdict, not from the last deployment: a rejected candidate was an honest attempt, and must
    not make the trigger fire again every night.

    >>> from datetime import UTC
    >>> last = LastVerdict(model_id="20260102_060000", at=datetime(2026, 1, 2, 7, 0, tzinfo=UTC), outcome="rejected")
    >>> check_age(last, datetime(2026, 1, 9, 7, 0, tzinfo=UTC), 7).fired
    True
    >>> check_age(last, datetime(2026, 1, 8, 7, 0, tzinfo=UTC), 7).evidence
    'candidate 20260102_060000 was judged 6.0 days ago (rejected)'
    """
    if last is None:
        evidence = "no candidate was ever judged"
        return Trigger(name="age", fired=True, value=None, threshold=max_age_days, evidence=evidence)
    days = (now - last.at) / timedelta(days=1)
    what = f"candidate {last.model_id}" if last.model_id else "the last candidate"
    evidence = f"{what} was judged {days:.1f} days ago ({last.outcome})"
    return Trigger(
        name="age",
        fired=now - last.at >= _find_age_limit(max_age_days),
        value=days,
        threshold=max_age_days,
        evidence=evidence,
    )


def _find_age_limit(max_age_days: float) -> timedelta:
    """Return the age that counts as `max_age_days`."""
    age = timedelta(days=max_age_days)
    return age - min(_AGE_TOLERANCE, age * _TOLERANCE_SHARE)


def check_recent_sharpe(
    value: float | None,
    sessions: int,
    *,
    threshold: float,
    needed: int,
    problem: str | None = None,
    ledger: str | None = None,
    sessions_per_year: int,
) -> Trigger:
    """Fire when the production model's net Sharpe over the last `sessions` unseen sessions is below `threshold`.

    `value` is annualised; None where it is not defined. `ledger`: of which kind of trading ("live", "paper") the
    figure is, where it is not of scoring the model on stored bars. Fewer than `needed` sessions are no evidence: the
    standard error of an annual Sharpe ratio over n sessions is about sqrt(252 / n), 3.5 for 20 of them (Lo 2002); from
    it the evidence computes how often a healthy model falls below `threshold` in as many sessions.

    >>> check_recent_sharpe(0.1, 20, threshold=0.3, needed=20, sessions_per_year=252).fired
    True
    >>> check_recent_sharpe(0.1, 12, threshold=0.3, needed=20, sessions_per_year=252).evidence
    '12 unseen sessions, needs 20'
    """
    if problem is not None or value is None or sessions < needed:
        why = problem or f"{count(sessions, 'unseen session')}, needs {needed}"
        return Trigger(name="recent_sharpe", fired=False, value=None, threshold=threshold, evidence=why)
    which = f"that it traded, by the {ledger} ledger" if ledger else "that the model has not seen"
    error = math.sqrt(sessions_per_year / sessions)
    below = 0.5 * (1 + math.erf((threshold - _HEALTHY) / error / math.sqrt(2)))
    evidence = (
        f"net Sharpe {number(value)} over {count(sessions, 'session')} {which}; advisory: the standard error over so "
        f"few is {error:.1f}, and a model with a true Sharpe of {_HEALTHY:g} falls below {threshold:g} in {below:.0%} "
        "of such stretches"
    )
    return Trigger(name="recent_sharpe", fired=value < threshold, value=value, threshold=threshold, evidence=evidence)


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorRun:
    """What the degradation detector has seen: `recorded` sessions of the policy's record and `later` ones.

    statistic: its R after the last of them; alarm: the newest session since the last verdict that brought an alarm,
    and the R it had then.
    """

    statistic: float
    recorded: int
    later: int
    alarm: tuple[date, float] | None


def check_degradation(
    seen: DetectorRun | None, *, floor: float, alarm_at: float, problem: str | None = None
) -> Trigger:
    """Fire when the Shiryaev-Roberts detector has raised an alarm since the last verdict: see `exam.metrics`.

    floor: annual Sharpe ratio that is still healthy. alarm_at: the alarms' least mean distance, in sessions, while it
    is. The delays in the evidence were simulated at a floor of 0.3 and 126 sessions, as those of `check_recent_sharpe`.
    """
    if problem is not None or seen is None:
        return Trigger(name="degraded", fired=False, value=None, threshold=alarm_at, evidence=problem or "no session")
    what = f"{count(seen.recorded + seen.later, 'session')} ({seen.recorded} recorded, {seen.later} since)"
    limit = (
        f"false alarms {alarm_at:g} sessions apart or more at a true Sharpe of {floor:g}; it is slow: "
        "a fall from 3 to 0 shows after 57 sessions (median), to -3 after 28"
    )
    if seen.alarm is None:
        evidence = f"R {seen.statistic:.1f} after {what}; {limit}"
        return Trigger(name="degraded", fired=False, value=seen.statistic, threshold=alarm_at, evidence=evidence)
    day, value = seen.alarm
    evidence = f"R {value:.1f} on {day}, after the last verdict; {what}; {limit}"
    return Trigger(name="degraded", fired=True, value=value, threshold=alarm_at, evidence=evidence)


def check_drift(
    stability: Mapping[str, float] | None, sessions: int, *, threshold: float, needed: int, problem: str | None = None
) -> Trigger:
    """Fire when a feature has moved: its population stability index over recent sessions is above `threshold`.

    stability: index by feature, against the training rows; None where the model file does not tell how those were
    distributed. Fewer than `needed` sessions are no evidence.
    """
    if problem is None and stability is None:
        problem = "the model file is of an earlier hftcl and does not tell how the features were distributed"
    if problem is not None or not stability or sessions < needed:
        why = problem or f"{sessions} unseen sessions, needs {needed}"
        return Trigger(name="drift", fired=False, value=None, threshold=threshold, evidence=why)
    ranked = sorted(stability.items(), key=lambda item: -item[1])
    largest = ranked[0][1]
    moves = ", ".join(f"{name} {value:.2f}" for name, value in ranked[:3])
    evidence = f"population stability index of the features that moved most, over {sessions} unseen sessions: {moves}"
    return Trigger(name="drift", fired=largest > threshold, value=largest, threshold=threshold, evidence=evidence)


def check_manual(*, asked: bool) -> Trigger:
    """Fire where a person asks: `hftcl retrain --force` skips the check, and is recorded as this trigger."""
    evidence = "asked for by --force; the check was skipped" if asked else "`hftcl retrain --force` asks for one"
    return Trigger(name="manual", fired=asked, value=None, threshold=None, evidence=evidence)


def explain_cooldown(last: LastVerdict | None, now: datetime, cooldown_hours: float, max_age_days: float) -> str | None:
    """Return why nothing is due yet: a candidate was judged within `cooldown_hours`. None where that is not so.

    It is never longer than `max_age_days`: a model that is old is due.

    >>> from datetime import UTC
    >>> last = LastVerdict(model_id=None, at=datetime(2026, 1, 2, 7, 0, tzinfo=UTC), outcome="rejected")
    >>> explain_cooldown(last, datetime(2026, 1, 3, tzinfo=UTC), cooldown_hours=72, max_age_days=7)
    'cooling down until 2026-01-05 07:00 UTC: a candidate was judged at 2026-01-02 07:00 UTC'
    """
    cooldown = min(timedelta(hours=cooldown_hours), _find_age_limit(max_age_days))
    if last is None or now - last.at >= cooldown or now < last.at:
        return None
    until = last.at + cooldown
    return f"cooling down until {format_moment(until)} UTC: a candidate was judged at {format_moment(last.at)} UTC"


def decide(triggers: Sequence[Trigger], cooling_down: str | None) -> tuple[bool, str]:
    """Return whether a retrain is due, and the reason in one line."""
    fired = [trigger for trigger in triggers if trigger.fired]
    if not fired:
        return False, "no trigger fired"
    evidence = "; ".join(f"{trigger.name}: {trigger.evidence}" for trigger in fired)
    if cooling_down is not None:
        return False, f"{cooling_down} ({evidence})"
    return True, evidence
