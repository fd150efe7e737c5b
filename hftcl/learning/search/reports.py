"""What `search` returns: the values from which its table, its page and its JSON are made."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING

from hftcl.document import ShortForm

if TYPE_CHECKING:
    from hftcl.learning.search.space import Choice


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialReport:
    """One choice of settings, and its net annual Sharpe ratio inside the training window; None where `fault` says why.

    settings: what was chosen, by setting. pnl: net, over all inner sessions, as a fraction of capital.
    """

    number: int
    settings: "Choice"
    inner_sharpe: float | None
    pnl: float
    turnover: float
    trades: int
    fault: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WinnerReport:
    """The best trial inside. dsr: the confidence that the best of them all is better than luck; see `exam.metrics`."""

    number: int
    settings: "Choice"
    inner_sharpe: float
    inner_interval: tuple[float, float] | None
    dsr: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class InnerReport:
    """The sessions inside the training window on which each trial was scored, and in how many parts."""

    from_: date
    to: date
    sessions: int
    folds: int
    training_sessions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchExamReport:
    """The winner in the exam, which no trial saw: what a retrain with its settings would decide today.

    The fields are those of `RetrainReport` and its challenger.
    """

    from_: date | None
    to: date | None
    sessions: int
    outcome: str
    reason: str
    sharpe: float | None
    sharpe_interval: tuple[float, float] | None
    gross_sharpe: float | None
    psr: float | None
    pnl: float
    turnover: float
    pnl_by_session: dict[str, float]
    positions_sha256: str | None
    trials: int
    effective_trials: float
    dsr: float | None
    champion_sharpe: float | None
    p_better: float | None
    edge: str
    edge_reason: str
    p_edge: float | None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SearchReport(ShortForm):
    """What was tried inside the training window, the best of it, and what that is worth.

    trials: by number; 0 is the configuration as it is. distinct: how many of them held different positions: two that
    hold the same are one. others: trials of other searches of this home, on sessions of these, each that differs once.
    effective_trials: all of them, each of another search by the share of the sessions in common. best_of_worthless:
    the Sharpe ratio that the best of so many, spread as these are, would show if none were worth anything; None below
    two. changes: what the winner has in place of the configuration.
    difference: the same as the lines of hftcl.toml. importances: by setting, its share in what made a trial good;
    sum 1. resumed: trials of an earlier run.
    """

    trials: tuple[TrialReport, ...]
    distinct: int
    others: int
    effective_trials: float
    winner: WinnerReport | None
    changes: "Choice"
    difference: str
    best_of_worthless: float | None
    exam: SearchExamReport | None
    reason: str
    importances: dict[str, float]
    inner: InnerReport
    resumed: int
    space: float
    notes: tuple[str, ...]
    cost_bps: float
    tickers: tuple[str, ...]
    left_out: dict[str, str]
    source: str
    synthetic: bool
    as_of: datetime
    as_of_note: str
    sessions_per_year: int
    timings_s: dict[str, float]
