"""When a retrain is due: the rules by themselves."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hftcl.learning.triggers import Judged, age, cooling, decide, no_model, recent_sharpe

NOW = datetime(2026, 1, 9, 7, 0, tzinfo=UTC)


def judged(days_ago: float, outcome: str = "deployed") -> Judged:
    return Judged(model_id="20260102_060000", at=NOW - timedelta(days=days_ago), outcome=outcome)


def test_a_home_without_a_model_is_due() -> None:
    due, reason = decide((no_model(None), age(None, NOW, 7)), cooling(None, NOW, 72))
    assert due
    assert reason == "no_model: no model serves; age: no candidate was ever judged"


@pytest.mark.parametrize(("days", "fired"), [(6.99, False), (7.0, True), (30.0, True)])
def test_a_model_is_old_at_seven_days_and_not_before(days: float, fired: bool) -> None:
    assert age(judged(days), NOW, 7).fired is fired


def test_a_rejected_candidate_resets_the_age_so_that_it_does_not_fire_every_night() -> None:
    assert not age(judged(1, "rejected"), NOW, 7).fired


@pytest.mark.parametrize(("value", "fired"), [(0.29, True), (0.3, False), (2.0, False)])
def test_a_recent_sharpe_below_the_threshold_is_weak(value: float, fired: bool) -> None:
    assert recent_sharpe(value, 20, threshold=0.3, needed=10).fired is fired


def test_a_few_sessions_are_no_evidence_of_weakness() -> None:
    trigger = recent_sharpe(-9.0, 9, threshold=0.3, needed=10)
    assert not trigger.fired
    assert trigger.value is None
    assert "9 unseen sessions" in trigger.evidence


def test_a_model_that_cannot_be_scored_says_why_and_does_not_fire() -> None:
    trigger = recent_sharpe(None, 0, threshold=0.3, needed=10, problem="the file is damaged")
    assert (trigger.fired, trigger.evidence) == (False, "the file is damaged")


def test_nothing_is_due_while_a_verdict_is_fresh() -> None:
    last = judged(1)
    due, reason = decide((no_model(None),), cooling(last, NOW, 72))
    assert not due
    assert reason.startswith("cooling down until 2026-01-11 07:00 UTC")


def test_a_clock_that_was_set_back_does_not_cool_down_for_years() -> None:
    assert cooling(judged(-4000), NOW, 72) is None


@given(days=st.floats(0, 5000), limit=st.floats(0.01, 3650))
def test_age_fires_exactly_from_the_limit_on(days: float, limit: float) -> None:
    last = judged(days)
    assert age(last, NOW, limit).fired == ((NOW - last.at) / timedelta(days=1) >= limit)
