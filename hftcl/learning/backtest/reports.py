"""What `backtest` tells: the runs of the policies, the attempts of the weeks, and whether `--search` paid."""

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING

from hftcl.document import ShortForm
from hftcl.performance.reports import RiskFigures

if TYPE_CHECKING:
    from hftcl.learning.search.space import Choice


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchedWeekReport:
    """One week's search, and what its winner came to in the exam, which no trial saw.

    trials, distinct, others, effective_trials, best_of_worthless: as of a `SearchReport`; the others are the trials of
    earlier weeks. changes: what the winner has in place of the configuration. inner_sharpe, dsr: of the winner, where
    it was chosen; exam_sharpe: in the exam. candidate: whether a model was trained; where not, `reason` says why.
    """

    model_id: str
    at: datetime
    trials: int
    distinct: int
    others: int
    effective_trials: float
    best_of_worthless: float | None
    candidate: bool
    changes: "Choice"
    inner_sharpe: float | None
    dsr: float | None
    exam_sharpe: float | None
    exam_sessions: int
    outcome: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchedReport:
    """Whether searching paid, by the rule that `reason` tells. trials: of all weeks; resumed: of an earlier run.

    space: how many choices there are.
    """

    conclusion: str
    reason: str
    trials: int
    resumed: int
    space: float
    weeks: tuple[SearchedWeekReport, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedReport:
    """A model that a policy deployed: from the first session that it could serve."""

    model_id: str
    from_: date | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyReport:
    """What one way to run the loop earned, out of sample: Sharpe ratios annual, P&L in capitals, turnover in capitals.

    traded_sessions: sessions with a trade; deployments: how often a model was put in place; served: which. risk: as in
    `report`, but that the trades of a policy are not told apart.
    """

    rule: str
    sharpe: float | None
    interval: tuple[float, float] | None
    gross_sharpe: float | None
    pnl: float
    gross_pnl: float
    turnover: float
    max_drawdown: float
    traded_sessions: int
    deployments: int
    served: tuple[ServedReport, ...]
    pnl_by_session: dict[str, float]
    risk: RiskFigures


@dataclass(frozen=True, slots=True, kw_only=True)
class DifferenceReport:
    """Annual Sharpe ratio of `policy` less that of `against`, on the same sessions, with its 90 % interval."""

    policy: str
    against: str
    difference: float | None
    interval: tuple[float, float] | None
    standard_error: float | None
    p_better: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptReport:
    """One week of the loop: the candidate, its verdict under the configured policy, and whether the bot then traded."""

    model_id: str
    at: datetime
    outcome: str
    reason: str
    exam_sessions: int
    sharpe: float | None
    champion: str | None
    champion_sharpe: float | None
    p_better: float | None
    edge: str | None
    edge_reason: str
    p_edge: float | None
    record_sessions: int


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class BacktestReport(ShortForm):
    """The loop replayed over history. `conclusion`: whether retraining paid, by the rule that `reason` tells.

    search: whether searching each week paid; None where that was not asked.
    """

    conclusion: str
    reason: str
    policies: dict[str, PolicyReport]
    differences: tuple[DifferenceReport, ...]
    attempts: tuple[AttemptReport, ...]
    from_: date
    to: date
    sessions: int
    trainings: int
    resumed: int
    tickers: tuple[str, ...]
    left_out: dict[str, str]
    notes: tuple[str, ...]
    promote_policy: str
    cost_bps: float
    source: str
    synthetic: bool
    as_of: datetime
    as_of_note: str
    sessions_per_year: int
    search: "SearchedReport | None" = None
    timings_s: dict[str, float] = field(default_factory=dict)
