"""What can be done after a rejection: each step says of the user's own exam whether it would have helped."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from hftcl.learning.reports import HeldReport, RetrainReport, ScoreReport, WorthReport
from hftcl.views.next_steps import list_next_steps

HELD = HeldReport(minutes=5, signals=10, sessions=4, earned_bps=1.0, error_bps=0.5, break_even_bps=0.5)
SCORE = ScoreReport(
    model_id="m",
    sharpe=-1.0,
    sharpe_interval=None,
    gross_sharpe=1.0,
    psr=None,
    pnl=-0.002,
    gross_pnl=0.002,
    cost=0.004,
    turnover=40.0,
    trades=100,
    hit_rate=0.5,
    max_drawdown=0.01,
    exposure=0.1,
    information_coefficient=None,
    pnl_by_session={},
    pnl_by_ticker={},
    slices={},
    worth=WorthReport(break_even_bps=0.5, fades=(HELD,), fault="cost", conclusion="x"),
    positions_sha256=None,
)
REPORT = RetrainReport(
    outcome="rejected",
    reason="no better",
    dry_run=False,
    source="polygon",
    synthetic=False,
    as_of=datetime(2026, 1, 5, tzinfo=UTC),
    as_of_note="",
    challenger=SCORE,
)


def list_steps(score: ScoreReport) -> tuple[str, ...]:
    return list_next_steps(replace(REPORT, challenger=score))


def weigh_costs(break_even_bps: float | None, **changes: object) -> str:
    score = replace(SCORE, worth=replace(SCORE.worth, break_even_bps=break_even_bps), **changes)  # type: ignore[arg-type]
    return list_steps(score)[1].removeprefix("- lower costs: ")


def weigh_horizons(*fades: HeldReport, **changes: object) -> str:
    score = replace(SCORE, worth=replace(SCORE.worth, fades=fades), **changes)  # type: ignore[arg-type]
    return list_steps(score)[2].removeprefix("- another horizon: ")


@pytest.mark.parametrize(
    ("break_even_bps", "told"),
    [
        (-0.5, ": no cost is low enough, for nothing was earned before it"),
        (0.0, ": no cost is low enough, for nothing was earned before it"),
        (
            0.99,
            ": 1 bp a trade was reckoned ([strategy] cost_bps), and below 0.99 bp the same trades would have earned",
        ),
        (1.0, ": not at fault, for a trade may cost 1.00 bp, and 1 bp was reckoned"),
    ],
)
def test_costs_are_at_fault_only_where_trades_that_cost_less_would_have_earned(
    break_even_bps: float, told: str
) -> None:
    assert weigh_costs(break_even_bps) == f"gross +0.200% against cost 0.400%{told}"


def test_of_an_exam_without_a_trade_or_a_signal_nothing_is_said_of_costs_and_horizons() -> None:
    nothing_traded = "nothing was traded, so nothing can be said"
    assert weigh_costs(None) == weigh_costs(0.5, turnover=0.0) == nothing_traded
    no_signal = "no signal was given, so nothing can be said"
    assert weigh_horizons() == weigh_horizons(HELD, turnover=0.0) == no_signal


@pytest.mark.parametrize(
    ("earned_bps", "error_bps", "told"),
    [
        (2.0, 0.5, "earns 2.0 +- 0.5 bp, and two trades cost 2 bp: no horizon that was looked at pays"),
        (2.5, 0.5, "earns 2.5 +- 0.5 bp, and two trades cost 2 bp: within its error, so it may be chance; [model]"),
        (2.6, 0.5, "earns 2.6 +- 0.5 bp, and two trades cost 2 bp: [model] horizon_minutes tries it"),
        (2.1, None, "earns 2.1 bp, and two trades cost 2 bp: [model] horizon_minutes tries it"),
    ],
)
def test_a_horizon_is_named_with_what_two_trades_cost_and_with_its_chance(
    earned_bps: float, error_bps: float | None, told: str
) -> None:
    best = replace(HELD, minutes=30, earned_bps=earned_bps, error_bps=error_bps)
    assert weigh_horizons(HELD, best, replace(HELD, minutes=60)).startswith(f"held 30 min a signal {told}")


def test_a_reader_is_told_that_a_rejection_is_usual_and_only_after_one_on_real_bars() -> None:
    first, *_, features, search = list_steps(SCORE)
    assert first.startswith("This is the usual result")
    assert "the information coefficient is -;" in features
    assert "`hftcl search`" in search
    for other in (
        replace(REPORT, outcome="inconclusive"),
        replace(REPORT, synthetic=True),
        replace(REPORT, challenger=None),
    ):
        assert list_next_steps(other) == ()
