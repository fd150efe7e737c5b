"""A gate replayed over hand-made trainings: who serves when, what that earns, and what it is compared with."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from hftcl.exam import metrics
from hftcl.exam.compare import compare
from hftcl.exam.edge import EdgeState
from hftcl.exam.policies import (
    NOTHING,
    PolicyAttempt,
    PolicyRun,
    SessionPnl,
    always_newest,
    apply_edge,
    build_run,
    build_stored_scores_gate,
    build_verdict_gate,
    buy_and_hold,
    conclude,
    never_retrain,
    run_policy,
)
from hftcl.exam.split import Session
from hftcl.settings import Edge, Exam, Promote

EXAM = Exam(sessions=10, embargo_sessions=1, min_sessions=5)
WINDOW = 22  # 11 to train on, 1 embargoed, 10 for the exam
WEEKS = 6


def days(count: int) -> tuple[Session, ...]:
    """Return weekdays from Monday 2025-01-06, each opening at 14:30 UTC."""
    found: list[Session] = []
    day = date(2025, 1, 6)
    while len(found) < count:
        if day.weekday() < 5:
            found.append(Session(start=datetime(day.year, day.month, day.day, 14, 30, tzinfo=UTC), day=day))
        day += timedelta(days=1)
    return tuple(found)


SESSIONS = days(WINDOW + 5 * WEEKS)


def close(session: Session) -> datetime:
    return session.start + timedelta(hours=6.5)


def pnl(sharpe: float, place: int) -> float:
    """Return the P&L of the session at `place`; 10 in a row, from an even one on, have exactly this Sharpe ratio."""
    deviation = 0.01 / math.sqrt(10 / 9)  # alternating +-a has a ddof=1 deviation of a * sqrt(n / (n - 1))
    return sharpe / math.sqrt(252) * 0.01 + deviation * (1 if place % 2 else -1)


def attempt(week: int, earns: float | Callable[[int], float], *, turnover: float = 1.0) -> PolicyAttempt:
    """Return the training at the end of `week`, 0 the first; `earns` is a Sharpe ratio, or gives each session's P&L."""
    end = WINDOW + 5 * week
    window = SESSIONS[end - WINDOW : end]
    earned = earns if callable(earns) else lambda place: pnl(earns, place)
    marks = {
        session.day: SessionPnl(gross=earned(place) + 0.0001, net=earned(place), turnover=turnover)
        for place, session in enumerate(SESSIONS)
        if session.day >= window[-10].day
    }
    return PolicyAttempt(
        model_id=f"week{week}",
        at=close(window[-1]),
        label_end=close(window[10]),
        window=window,
        marks=marks,
        synthetic=True,
        sessions_per_year=252,
    )


def served(run: PolicyRun) -> list[str]:
    return [step.attempt.model_id for step in run.deployments]


LATER = SESSIONS[WINDOW:]


def test_a_model_earns_only_in_sessions_that_start_after_its_deployment() -> None:
    def level(week: int) -> Callable[[int], float]:
        return lambda place: week + place / 1000

    attempts = [attempt(week, level(week)) for week in range(3)]
    run = run_policy(attempts, always_newest, LATER)
    expected = [min(index // 5, 2) + (WINDOW + index) / 1000 for index in range(len(LATER))]
    assert run.net.tolist() == expected
    assert run.gross.tolist() == pytest.approx([net + 0.0001 for net in expected])


def policy_run(sharpe: float, *, trades: bool = True) -> PolicyRun:
    """Return all sessions with this Sharpe ratio; without a trade, 0 in each."""
    noise = np.random.default_rng(1).normal(size=len(SESSIONS))
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    earned = (0.01 * (noise + sharpe / math.sqrt(252))).tolist()
    marks = [SessionPnl(gross=net, net=net, turnover=1.0) if trades else NOTHING for net in earned]
    return build_run(marks, SESSIONS)


@pytest.mark.parametrize(
    ("gated", "free", "never", "concluded"),
    [
        (9.0, 9.0, -9.0, "paid"),
        (-9.0, -9.0, 9.0, "cost"),
        (1.0, 1.0, 1.0, "not shown"),
        (None, -9.0, -9.1, "not shown"),  # a gate that stands aside beats a model that loses: not by retraining
        (None, 9.0, -9.0, "not shown"),  # what was never traded did not pay
        (-9.0, 9.0, -9.0, "paid"),  # like with like: what the gate cost is told apart
        (None, None, -9.0, "not shown"),
    ],
)
def test_retraining_paid_where_without_the_gate_it_beat_never_retraining_and_was_traded(
    gated: float | None, free: float | None, never: float, concluded: str
) -> None:
    runs = [policy_run(sharpe or 0.0, trades=sharpe is not None) for sharpe in (gated, free, never)]
    assert conclude(*runs, sessions_per_year=252) == concluded


def test_nothing_is_earned_before_the_first_deployment() -> None:
    attempts = [attempt(0, -3.0), attempt(1, -3.0), attempt(2, 6.0)]
    run = run_policy(attempts, build_verdict_gate(Promote(policy="guarded"), EXAM), LATER)
    assert served(run) == ["week2"]
    assert not run.net[:10].any()
    assert run.net[10:].tolist() == [pnl(6.0, WINDOW + index) for index in range(10, len(LATER))]


def test_the_first_model_for_ever_and_the_newest_each_week_ask_no_exam() -> None:
    attempts = [attempt(week, -9.0) for week in range(4)]
    assert served(run_policy(attempts, never_retrain, LATER)) == ["week0"]
    assert served(run_policy(attempts, always_newest, LATER)) == ["week0", "week1", "week2", "week3"]


@pytest.mark.parametrize(
    ("stored", "own", "deploys"),
    [(5.0, 4.6, True), (5.0, 4.4, False), (5.0, 5.1, True), (0.4, 9.0, True), (5.0, 0.4, False)],
    ids=["8 % below", "12 % below", "above", "the first failed, so there is none to beat", "below the least Sharpe"],
)
def test_the_rule_on_stored_scores_takes_ten_percent_off_the_champion_s_own_exam(
    stored: float, own: float, deploys: bool
) -> None:
    run = run_policy([attempt(0, stored), attempt(2, own)], build_stored_scores_gate(Promote(), EXAM), LATER)
    assert ("week2" in served(run)) is deploys


def test_the_stored_rule_ratchets_where_the_paired_rule_sees_that_the_champion_has_decayed() -> None:
    lucky = attempt(0, lambda place: pnl(8.0 if place < WINDOW else -2.0, place))
    steady = [attempt(week, 3.0) for week in (2, 4)]
    assert served(run_policy([lucky, *steady], build_stored_scores_gate(Promote(), EXAM), LATER)) == ["week0"]
    assert "week2" in served(run_policy([lucky, *steady], build_verdict_gate(Promote(policy="seed"), EXAM), LATER))


def test_champion_and_challenger_are_scored_on_sessions_unseen_by_both() -> None:
    run = run_policy([attempt(0, 3.0), attempt(1, 4.0)], build_verdict_gate(Promote(policy="seed"), EXAM), LATER)
    first, second = run.steps
    assert first.decision.exam == tuple(session.day for session in SESSIONS[12:22])
    assert second.decision.exam == tuple(session.day for session in SESSIONS[17:27])
    assert second.decision.verdict is not None
    assert second.decision.verdict.champion_sharpe == pytest.approx(
        metrics.sharpe([pnl(3.0, place) for place in range(17, 27)])
    )


def test_sessions_that_the_champion_has_seen_are_left_out_of_the_exam() -> None:
    champion = replace(attempt(0, 3.0), label_end=close(SESSIONS[18]))
    run = run_policy([champion, attempt(1, 4.0)], build_verdict_gate(Promote(policy="seed"), EXAM), LATER)
    assert run.steps[1].decision.exam == tuple(session.day for session in SESSIONS[20:27]), "19 is its embargo"


def test_concessions_do_not_add_up() -> None:
    attempts = [attempt(week, 6.0 * 0.96**week) for week in range(WEEKS)]
    run = run_policy(attempts, build_verdict_gate(Promote(policy="seed"), EXAM), LATER)
    assert served(run) == ["week0", "week1", "week2"], "0.96 ** 3 is more than 10 % below the best"


def test_a_champion_that_was_beaten_bounds_no_later_concession_whatever_it_earns_since() -> None:
    def bloom(place: int) -> float:
        return pnl(3.0 if place < WINDOW + 5 else 9.0, place)

    attempts = [attempt(0, bloom), *(attempt(week, sharpe) for week, sharpe in enumerate((6.0, 5.8, 5.6, 5.2), 1))]
    run = run_policy(attempts, build_verdict_gate(Promote(policy="seed"), EXAM), LATER)
    conceded = [step.decision.verdict.conceded for step in run.deployments if step.decision.verdict]
    assert served(run) == ["week0", "week1", "week2", "week3"], "5.2 is more than 10 % below the 6.0 that gave way"
    assert conceded == [False, False, True, True]


def test_an_earlier_champion_without_a_sharpe_ratio_leaves_the_verdict_open() -> None:
    def stop(place: int) -> float:
        return pnl(6.0, place) if place < WINDOW + 5 else 0.0

    attempts = [attempt(0, stop), attempt(1, 5.8), attempt(2, 5.6), attempt(3, 5.5)]
    run = run_policy(attempts, build_verdict_gate(Promote(policy="seed"), EXAM), LATER)
    decision = run.steps[3].decision
    assert decision.reason == "an earlier champion that gave way has no Sharpe ratio on these sessions"
    assert not decision.deploys


def test_no_decision_changes_with_what_comes_after_it() -> None:
    random = np.random.default_rng(3)
    attempts = [attempt(week, float(random.normal(3, 2))) for week in range(WEEKS)]
    cut = attempts[2].at

    def tampered(one: PolicyAttempt) -> PolicyAttempt:
        later = {session.day for session in SESSIONS if session.start > cut}
        marks = {
            day: SessionPnl(gross=0, net=float(random.normal()), turnover=9.0) if day in later else mark
            for day, mark in one.marks.items()
        }
        return replace(one, marks=marks)

    gates = [
        build_verdict_gate(Promote(), EXAM),
        build_verdict_gate(Promote(policy="seed"), EXAM),
        build_stored_scores_gate(Promote(), EXAM),
    ]
    for gate in gates:
        honest = run_policy(attempts, gate, LATER)
        other = run_policy([tampered(one) for one in attempts], gate, LATER)
        for before, after in zip(honest.steps[:3], other.steps[:3], strict=True):
            assert (before.attempt.model_id, before.decision) == (after.attempt.model_id, after.decision)
        assert honest.net[:10].tolist() == other.net[:10].tolist()
        assert honest.net[10:].tolist() != other.net[10:].tolist() or not honest.net.any()


def gated(attempts: Sequence[PolicyAttempt], begun: Sequence[float], policy: str = "guarded") -> PolicyRun:
    free = run_policy(attempts, build_verdict_gate(Promote(policy=policy), EXAM), LATER)  # type: ignore[arg-type]
    return apply_edge(free, LATER, begun=begun, rule=Edge(), policy=policy)  # type: ignore[arg-type]


def test_the_bot_stands_aside_until_the_record_shows_an_edge() -> None:
    attempts = [attempt(week, 7.0) for week in range(WEEKS)]
    run = gated(attempts, begun=[pnl(7.0, place) for place in range(10)])
    sizes = [step.edge.sessions for step in run.steps if step.edge]
    assert sizes == [10, 15, 20, 25, 30, 35], "the walk-forward, and a week more at each attempt"
    states = [step.edge.state for step in run.steps if step.edge]
    live = states.index(EdgeState.LIVE)
    assert live >= 2, "20 sessions are asked for"
    assert not run.net[: 5 * live].any()
    assert run.net[5 * live :].all()


def test_a_worthless_record_never_trades_and_grows_with_the_last_candidate_before_any_serves() -> None:
    run = gated([attempt(week, -4.0) for week in range(WEEKS)], begun=[])
    assert not run.net.any()
    assert run.days_traded == 0
    last = run.steps[-1].edge
    assert last is not None
    assert last.sessions == 25
    assert last.p_edge is not None
    assert last.p_edge < 0.5


def test_under_the_seed_policy_what_is_promoted_trades() -> None:
    attempts = [attempt(week, 2.0) for week in range(3)]
    free = run_policy(attempts, build_verdict_gate(Promote(policy="seed"), EXAM), LATER)
    run = gated(attempts, begun=[pnl(-9.0, place) for place in range(10)], policy="seed")
    assert run.net.tolist() == free.net.tolist()


def test_a_run_can_begin_later() -> None:
    run = run_policy([attempt(0, 3.0)], always_newest, LATER)
    cut = run.cut_since(LATER[7].day)
    assert cut.days == run.days[7:]
    assert cut.net.tolist() == run.net[7:].tolist()
    assert len(cut.turnover) == len(cut.gross) == len(cut.days)


def test_buy_and_hold_is_the_return_of_equal_amounts_bought_once() -> None:
    # 100 each of two: 200 -> 210 (110 + 100) -> 201 (121 + 80)
    marks = buy_and_hold([[100.0, 50.0], [110.0, 50.0], [121.0, 40.0]], cost_bps=10.0)
    assert [mark.gross for mark in marks] == pytest.approx([0.05, 201 / 210 - 1])
    assert [mark.net for mark in marks] == pytest.approx([0.05 - 0.001, 201 / 210 - 1])
    assert [mark.turnover for mark in marks] == [1.0, 0.0]


def test_a_ticker_without_a_close_keeps_its_worth_and_one_without_the_first_is_not_bought() -> None:
    nan = float("nan")
    marks = buy_and_hold([[100.0, 50.0, nan], [nan, 60.0, 7.0], [120.0, 60.0, 70.0]], cost_bps=0.0)
    assert [mark.gross for mark in marks] == pytest.approx([0.10, 2.4 / 2.2 - 1])
    assert buy_and_hold([[nan], [5.0]], cost_bps=1.0) == [NOTHING]


def test_a_difference_is_the_paired_one_with_1_645_standard_errors_to_each_side() -> None:
    random = np.random.default_rng(1)
    shared = random.normal(size=120)
    mine, theirs = shared + random.normal(0.3, 1, 120), shared + random.normal(0, 1, 120)
    found, expected = compare(mine, theirs, sessions_per_year=252), metrics.sharpe_difference(mine, theirs)
    assert found.difference == expected.difference
    assert found.interval == pytest.approx(
        (
            expected.difference - 1.6449 * expected.standard_error,
            expected.difference + 1.6449 * expected.standard_error,
        ),
        rel=1e-4,
    )


def test_against_a_book_that_never_traded_the_difference_is_one_s_own_sharpe_ratio() -> None:
    x = np.random.default_rng(2).normal(0.1, 1, 60)
    flat = np.zeros(60)
    found, mirrored = compare(x, flat, sessions_per_year=252), compare(flat, x, sessions_per_year=252)
    assert found.difference == pytest.approx(metrics.sharpe(x))
    assert found.standard_error == pytest.approx(
        metrics.sharpe_standard_error(x, sessions_per_year=252) * math.sqrt(60 / 56)
    )
    assert mirrored.difference == -(found.difference or 0)
    alike = compare(flat, flat, sessions_per_year=252)
    assert (alike.difference, alike.conclusion) == (0.0, "not shown")


@pytest.mark.parametrize(("mean", "conclusion"), [(1.0, "paid"), (0.0, "not shown"), (-1.0, "cost")])
def test_the_conclusion_follows_the_interval(mean: float, conclusion: str) -> None:
    random = np.random.default_rng(6)
    theirs = random.normal(0, 1, 100)
    assert compare(random.normal(mean, 1, 100), theirs, sessions_per_year=252).conclusion == conclusion


def test_sessions_that_define_nothing_show_nothing() -> None:
    short = compare(np.array([0.1, -0.2]), np.array([0.0, 0.3]), sessions_per_year=252)
    assert (short.difference, short.interval, short.conclusion) == (None, None, "not shown")
