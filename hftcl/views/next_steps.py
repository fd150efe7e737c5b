"""What can be done after a rejection on real bars, by the figures of the user's own exam."""

from typing import TYPE_CHECKING

from hftcl.exam.worth import TRADES
from hftcl.formats import number
from hftcl.strategy.costs import BASIS_POINT

if TYPE_CHECKING:
    from hftcl.learning.reports import RetrainReport, ScoreReport


def list_next_steps(report: "RetrainReport") -> tuple[str, ...]:
    """Return the lines after a rejection on real bars: that it is usual, then each step with what the exam says of it.

    Empty for any other report, and for one whose exam could not be held.
    """
    score = report.challenger
    if report.outcome != "rejected" or report.synthetic or score is None:
        return ()
    return (
        "This is the usual result: in real minute bars there is little to foretell, and trading costs. What your exam "
        "says of what can be done next:",
        f"- lower costs: {_weigh_costs(score)}",
        f"- another horizon: {_weigh_horizons(score)}",
        f"- features of your own: the information coefficient is {number(score.information_coefficient, '+.4f')}; a "
        "feature that raises it helps, and `hftcl docs edge.md` shows how one is added",
        "- other settings: `hftcl search` tries them inside the training window, and judges the best as one of many",
    )


def _weigh_costs(score: "ScoreReport") -> str:
    """Return gross against cost, and what a trade may cost."""
    earned = f"gross {number(score.gross_pnl, '+.3%')} against cost {number(score.cost, '.3%')}"
    may_cost = score.worth.break_even_bps
    if may_cost is None or not score.turnover:
        return "nothing was traded, so nothing can be said"
    reckoned = score.cost / score.turnover / BASIS_POINT
    if may_cost <= 0:
        return f"{earned}: no cost is low enough, for nothing was earned before it"
    if may_cost >= reckoned:
        return f"{earned}: not at fault, for a trade may cost {may_cost:.2f} bp, and {reckoned:.2g} bp was reckoned"
    return (
        f"{earned}: {reckoned:.2g} bp a trade was reckoned ([strategy] cost_bps), and below {may_cost:.2f} bp the same "
        "trades would have earned"
    )


def _weigh_horizons(score: "ScoreReport") -> str:
    """Return what the best horizon earned for two trades, beside what they cost."""
    if not score.worth.fades or not score.turnover:
        return "no signal was given, so nothing can be said"
    cost = TRADES * score.cost / score.turnover / BASIS_POINT
    best = max(score.worth.fades, key=lambda held: held.earned_bps)
    error = "" if best.error_bps is None else f" +- {best.error_bps:.1f}"
    held = f"held {best.minutes} min a signal earns {best.earned_bps:.1f}{error} bp, and two trades cost {cost:.2g} bp"
    if best.earned_bps <= cost:
        return f"{held}: no horizon that was looked at pays"
    if best.error_bps is not None and best.earned_bps - cost <= best.error_bps:
        return f"{held}: within its error, so it may be chance; [model] horizon_minutes tries it"
    return f"{held}: [model] horizon_minutes tries it"
