"""When a retrain is due: the rules by themselves."""

from datetime import UTC, date, datetime, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hftcl.learning.triggers import (
    DetectorRun,
    LastVerdict,
    check_age,
    check_degradation,
    check_drift,
    check_manual,
    check_no_model,
    check_recent_sharpe,
    decide,
    explain_cooldown,
)

NOW = datetime(2026, 1, 9, 7, 0, tzinfo=UTC)


def judged(days_ago: float, outcome: str = "deployed") -> LastVerdict:
    return LastVerdict(model_id="20260102_060000", at=NOW - timedelta(days=days_ago), outcome=outcome)


def test_a_home_without_a_model_is_due() -> None:
    due, reason = decide((check_no_model(None), check_age(None, NOW, 7)), explain_cooldown(None, NOW, 72, 7))
    assert due
    assert reason == "no_model: no model serves; age: no candidate was ever judged"


@pytest.mark.parametrize(("days", "fired"), [(6.95, False), (6.96, True), (7.0, True), (30.0, True)])
def test_a_model_is_old_at_seven_days_within_an_hour_and_not_before(days: float, fired: bool) -> None:
    assert check_age(judged(days), NOW, 7).fired is fired


def test_a_rejected_candidate_resets_the_age_so_that_it_does_not_fire_every_night() -> None:
    assert not check_age(judged(1, "rejected"), NOW, 7).fired


@pytest.mark.parametrize(("value", "fired"), [(0.29, True), (0.3, False), (2.0, False)])
def test_a_recent_sharpe_below_the_threshold_is_weak(value: float, fired: bool) -> None:
    assert check_recent_sharpe(value, 20, threshold=0.3, needed=10, sessions_per_year=252).fired is fired


def test_a_few_sessions_are_no_evidence_of_weakness() -> None:
    trigger = check_recent_sharpe(-9.0, 9, threshold=0.3, needed=10, sessions_per_year=252)
    assert not trigger.fired
    assert trigger.value is None
    assert "9 unseen sessions" in trigger.evidence


def test_a_model_that_cannot_be_scored_says_why_and_does_not_fire() -> None:
    trigger = check_recent_sharpe(
        None, 0, threshold=0.3, needed=10, problem="the file is damaged", sessions_per_year=252
    )
    assert (trigger.fired, trigger.evidence) == (False, "the file is damaged")


def test_a_recent_sharpe_tells_how_often_it_is_wrong_at_these_settings() -> None:
    """A normal statistic of that standard error, by a table: Phi(-0.48) = 0.316; of 5 sessions and 0.9, Phi(-0.155)."""
    twenty = check_recent_sharpe(0.1, 20, threshold=0.3, needed=10, sessions_per_year=252).evidence
    assert "few is 3.5, and a model with a true Sharpe of 2 falls below 0.3 in 32% of such stretches" in twenty
    five = check_recent_sharpe(0.1, 5, threshold=0.9, needed=5, sessions_per_year=252).evidence
    assert "few is 7.1, and a model with a true Sharpe of 2 falls below 0.9 in 44% of such stretches" in five
    one = check_recent_sharpe(0.1, 1, threshold=0.9, needed=1, sessions_per_year=252).evidence
    assert one.startswith("net Sharpe 0.10 over 1 session that the model has not seen")


def test_the_detector_fires_for_an_alarm_since_the_last_verdict_and_tells_its_limits() -> None:
    quiet = check_degradation(DetectorRun(statistic=40.0, recorded=20, later=5, alarm=None), floor=0.3, alarm_at=126)
    assert (quiet.fired, quiet.value, quiet.threshold) == (False, 40.0, 126)
    assert "R 40.0 after 25 sessions (20 recorded, 5 since)" in quiet.evidence
    assert "126 sessions apart or more" in quiet.evidence
    assert "57 sessions (median)" in quiet.evidence
    alarm = DetectorRun(statistic=0.9, recorded=20, later=5, alarm=(date(2026, 1, 6), 131.0))
    fired = check_degradation(alarm, floor=0.3, alarm_at=126)
    assert (fired.fired, fired.value) == (True, 131.0), "the R of the alarm, not that of the new beginning after it"
    assert "R 131.0 on 2026-01-06, after the last verdict" in fired.evidence


@pytest.mark.parametrize(("largest", "fired"), [(1.5, False), (1.51, True)])
def test_drift_fires_above_the_limit_and_names_the_features_that_moved_most(largest: float, fired: bool) -> None:
    trigger = check_drift({"ret_1": 0.1, "vol_30": largest, "ret_5": 0.2, "rsi_14": 0.0}, 20, threshold=1.5, needed=10)
    assert (trigger.fired, trigger.value) == (fired, largest)
    assert trigger.evidence.endswith(f"over 20 unseen sessions: vol_30 {largest:.2f}, ret_5 0.20, ret_1 0.10")


def test_drift_of_too_few_sessions_or_against_an_unknown_past_is_not_told() -> None:
    few = check_drift({"ret_1": 9.0}, 9, threshold=1.5, needed=10)
    old = check_drift(None, 20, threshold=1.5, needed=10)
    assert (few.fired, few.value, few.evidence) == (False, None, "9 unseen sessions, needs 10")
    assert (old.fired, old.value) == (False, None)
    assert "earlier hftcl" in old.evidence


def test_a_forced_retrain_is_its_own_trigger() -> None:
    assert check_manual(asked=True).fired
    assert decide((check_manual(asked=False),), None) == (False, "no trigger fired")


def test_nothing_is_due_while_a_verdict_is_fresh() -> None:
    last = judged(1)
    due, reason = decide((check_no_model(None),), explain_cooldown(last, NOW, 72, 7))
    assert not due
    assert reason.startswith("cooling down until 2026-01-11 07:00 UTC")


def test_a_clock_that_was_set_back_does_not_cool_down_for_years() -> None:
    assert explain_cooldown(judged(-4000), NOW, 72, 7) is None


@given(days=st.floats(0, 5000), limit=st.floats(0.01, 3650))
def test_age_fires_from_the_limit_on_and_not_an_hour_before_it(days: float, limit: float) -> None:
    last = judged(days)
    age = (NOW - last.at) / timedelta(days=1)
    assert check_age(last, NOW, limit).fired or age < limit
    assert not check_age(last, NOW, limit).fired or age >= limit - min(1 / 24, limit / 10) - 1e-9


@pytest.mark.parametrize("max_age_days", [1, 2, 3, 7, 14])
@pytest.mark.parametrize("cooldown_hours", [0, 72, 8760])
def test_a_daily_check_retrains_at_the_age_that_was_set_to_the_day(max_age_days: int, cooldown_hours: float) -> None:
    random = Random(1)  # noqa: S311 - a job begins some minutes late, and its verdict comes some minutes later
    last, retrained = judged(0), []
    for day in range(1, 200):
        begin = NOW + timedelta(days=day, minutes=random.uniform(0, 20))
        cooling = explain_cooldown(last, begin, cooldown_hours, max_age_days)
        if decide((check_age(last, begin, max_age_days),), cooling)[0]:
            retrained.append(day)
            last = LastVerdict(model_id="m", at=begin + timedelta(minutes=random.uniform(0, 20)), outcome="rejected")
    assert retrained == list(range(max_age_days, 200, max_age_days))
