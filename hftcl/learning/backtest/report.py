"""What `backtest` tells: the replayed policy runs as plain figures, their differences, and the conclusion in one line.

Computes no figure of its own: `exam.metrics`, `exam.replay` and `performance.risk` do.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Final

import numpy as np

from hftcl.exam import metrics
from hftcl.exam.compare import compare
from hftcl.exam.policies import PolicyRun, Step, conclude
from hftcl.formats import count
from hftcl.learning.backtest.reports import (
    AttemptReport,
    BacktestReport,
    DifferenceReport,
    PolicyReport,
    SearchedReport,
    ServedReport,
)
from hftcl.learning.dataset import Dataset
from hftcl.market.sessions import Calendar
from hftcl.performance.risk import compute_risk
from hftcl.settings import Settings

POLICY: Final = "policy"  # a name as the JSON and the page show it, so it stays
# Differs from POLICY by the gate alone: against NEVER it says what retraining is worth.
FREE: Final = "policy, ungated"
SEARCHED: Final = "searched"  # differs from POLICY by the settings alone, which a search inside each window chose
SEARCHED_FREE: Final = "searched, ungated"
NEVER: Final = "never retrain"  # what every retrain has to beat
RULES: Final = {  # each sentence stands beside its curve in table and page: a name alone does not say what was done
    POLICY: "retrain weekly, promote by [promote], trade while [edge] lets it",
    FREE: "the same without the edge gate: trade whatever the record says",
    NEVER: "the first model, whatever its exam said, for ever",
    "always newest": "retrain weekly, deploy each model",
    "seed, stored scores": "retrain weekly; a model's Sharpe on its own exam against the champion's as it was stored",
    "stand aside": "no trade at all",
    "buy and hold": "equal amounts of the watchlist, bought at the close before the first session; no dividends",
    SEARCHED: "search inside each week's window, retrain with what it found, promote and trade as the policy does",
    SEARCHED_FREE: "the same without the edge gate",
}


def build_report(
    runs: Mapping[str, PolicyRun],
    settings: Settings,
    data: Dataset,
    *,
    first: date,
    trainings: int,
    resumed: int,
    notes: tuple[str, ...],
    searched: SearchedReport | None,
    timings: dict[str, float],
) -> BacktestReport:
    """Return the report; `first` is the first session that is compared. searched: where there was a search."""
    a_year = Calendar(settings.market.calendar).sessions_per_year
    pairs = [(POLICY, name) for name in runs if name not in {POLICY, SEARCHED, SEARCHED_FREE}] + [(FREE, NEVER)]
    if SEARCHED in runs:
        pairs += [(SEARCHED, POLICY), (SEARCHED_FREE, FREE)]
    differences = tuple(_report_difference(runs, mine, baseline, a_year) for mine, baseline in pairs)
    return BacktestReport(
        conclusion=conclude(runs[POLICY], runs[FREE], runs[NEVER], sessions_per_year=a_year),
        reason=_explain_conclusion(runs, differences, a_year),
        policies={name: _report_policy(name, run, a_year) for name, run in runs.items()},
        differences=differences,
        attempts=tuple(
            _report_attempt(step, runs[POLICY].steps[:place]) for place, step in enumerate(runs[POLICY].steps)
        ),
        from_=first,
        to=data.sessions[-1],
        sessions=len(runs[POLICY].days),
        sessions_per_year=a_year,
        trainings=trainings,
        resumed=resumed,
        tickers=data.tickers,
        left_out=data.left_out,
        notes=notes,
        promote_policy=settings.promote.policy,
        cost_bps=settings.strategy.cost_bps,
        source=data.source,
        synthetic=data.synthetic,
        as_of=data.as_of.at,
        as_of_note=data.as_of.note,
        search=searched,
        timings_s=timings,
    )


def _report_policy(name: str, run: PolicyRun, sessions_per_year: int) -> PolicyReport:
    net = run.net
    return PolicyReport(
        rule=RULES[name],
        sharpe=metrics.compute_sharpe_or_none(net, sessions_per_year=sessions_per_year),
        interval=metrics.compute_sharpe_interval(net, sessions_per_year),
        gross_sharpe=metrics.compute_sharpe_or_none(run.gross, sessions_per_year=sessions_per_year),
        pnl=float(net.sum()),
        gross_pnl=float(run.gross.sum()),
        turnover=float(run.turnover.sum()),
        max_drawdown=metrics.max_drawdown(net),
        traded_sessions=run.days_traded,
        deployments=len(run.deployments),
        served=tuple(_report_served(step, run.days) for step in run.deployments),
        pnl_by_session={day.isoformat(): pnl for day, pnl in zip(run.days, net.tolist(), strict=True)},
        risk=compute_risk(net, run.days, np.empty(0), sessions_per_year=sessions_per_year),  # no trade of its own
    )


def _report_served(step: Step, days: Sequence[date]) -> ServedReport:
    later = [day for day in days if day > step.attempt.window[-1].day]
    return ServedReport(model_id=step.attempt.model_id, from_=later[0] if later else None, reason=step.decision.reason)


def _report_difference(
    runs: Mapping[str, PolicyRun], mine: str, baseline: str, sessions_per_year: int
) -> DifferenceReport:
    comparison = compare(runs[mine].net, runs[baseline].net, sessions_per_year=sessions_per_year)
    return DifferenceReport(
        policy=mine,
        against=baseline,
        difference=comparison.difference,
        interval=comparison.interval,
        standard_error=comparison.standard_error,
        p_better=comparison.p_better,
    )


def _report_attempt(step: Step, earlier: Sequence[Step]) -> AttemptReport:
    verdict, edge = step.decision.verdict, step.edge
    served = [earlier_step.attempt.model_id for earlier_step in earlier if earlier_step.decision.deploys]
    return AttemptReport(
        model_id=step.attempt.model_id,
        at=step.attempt.at,
        outcome=str(verdict.outcome) if verdict else "",
        reason=step.decision.reason,
        exam_sessions=len(step.decision.exam),
        sharpe=verdict.challenger_sharpe if verdict else None,
        champion=served[-1] if served else None,
        champion_sharpe=verdict.champion_sharpe if verdict else None,
        p_better=verdict.p_better if verdict else None,
        edge=str(edge.state) if edge else None,
        edge_reason=edge.reason if edge else "",
        p_edge=edge.p_edge if edge else None,
        record_sessions=edge.sessions if edge else 0,
    )


def describe_difference(mine: PolicyRun, other: PolicyRun, name: str, against: str, *, sessions_per_year: int) -> str:
    """Say how the Sharpe ratios of two ways to run the loop differ, both without the edge gate."""
    comparison = compare(mine.net, other.net, sessions_per_year=sessions_per_year)
    sessions = count(len(mine.days), "session")
    if comparison.interval is None or comparison.difference is None:
        return f"the difference of {name} and {against} is not defined on these {sessions}"
    low, high = comparison.interval
    where = "lies above 0" if low > 0 else "lies below 0" if high < 0 else "includes 0"
    return (
        f"Sharpe of {name} less that of {against}, both without the edge gate, is {comparison.difference:+.2f} over "
        f"{sessions}; its 90 % interval, {low:+.2f} to {high:+.2f}, {where}"
    )


def _explain_conclusion(
    runs: Mapping[str, PolicyRun], differences: Sequence[DifferenceReport], sessions_per_year: int
) -> str:
    """Say by which figures it was concluded, and apart from them what standing aside did."""
    by_name = {(difference.policy, difference.against): difference for difference in differences}
    gated, policy = by_name[POLICY, NEVER], runs[POLICY]
    n = len(policy.days)
    text = describe_difference(
        runs[FREE], runs[NEVER], "retraining", "never retraining", sessions_per_year=sessions_per_year
    )
    if by_name[FREE, NEVER].interval is None:
        return text
    if runs[FREE].days_traded == 0:
        return f"{text}. No model that retraining deployed ever traded"
    if policy.days_traded == 0:
        return f"{text}. The edge gate let the policy trade in none of them, so it earned nothing"
    if policy.days_traded < n and gated.interval is not None and gated.difference is not None:
        low, high = gated.interval
        text += (
            f". The edge gate let the policy trade in {policy.days_traded} of them; with it the difference, of which "
            f"standing aside is a part, is {gated.difference:+.2f} ({low:+.2f} to {high:+.2f})"
        )
    return text
