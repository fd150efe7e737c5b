"""What the stories return: the very values from which a table, the JSON of `--json` and a notebook are served.

Frozen, made of plain values: `document` gives the documented JSON; what is undefined is None, never NaN.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import date, datetime
from pathlib import PurePath
from typing import Any

from hftcl.learning.triggers import Trigger


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """Is a retrain due? Every trigger with its evidence."""

    due: bool
    reason: str
    triggers: tuple[Trigger, ...]
    live: str | None
    as_of: datetime
    as_of_note: str
    source: str
    synthetic: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreReport:
    """One model's exam: Sharpe ratios annual, P&L and drawdown as fractions of capital, turnover in capitals."""

    model_id: str | None
    sharpe: float | None
    sharpe_interval: tuple[float, float] | None
    gross_sharpe: float | None
    psr: float | None
    pnl: float
    gross_pnl: float
    cost: float
    turnover: float
    trades: int
    hit_rate: float | None
    max_drawdown: float
    exposure: float
    information_coefficient: float | None
    pnl_by_session: dict[str, float]
    pnl_by_ticker: dict[str, float]
    positions_sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExamSpan:
    """The bars of the exam, and how many of its sessions either model had seen."""

    from_: date | None
    to: date | None
    sessions: int
    overlap_challenger: int
    overlap_champion: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingReport:
    """Bars that were dropped or suspected."""

    ticker: str
    reason: str
    count: int
    first: datetime | None
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceReport:
    """One fact of the verdict; `decides` is False for one that is only there to be read. `text` says it in words."""

    name: str
    value: float | None
    threshold: float | None
    passed: bool
    decides: bool
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainReport:
    """What one retrain did, and why. What a run that was skipped never came to is None or empty."""

    outcome: str
    reason: str
    model_id: str | None = None
    dry_run: bool
    source: str
    synthetic: bool
    as_of: datetime
    as_of_note: str
    rows: int = 0
    sessions: int = 0
    tickers: tuple[str, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    findings: tuple[FindingReport, ...] = ()
    engine: str | None = None
    threshold: float | None = None
    challenger: ScoreReport | None = None
    champion: ScoreReport | None = None
    exam: ExamSpan | None = None
    evidence: tuple[EvidenceReport, ...] = ()
    p_better: float | None = None
    conceded: bool = False
    edge: str = "stand aside"
    p_edge: float | None = None
    record_sessions: int = 0
    record_psr: float | None = None
    repaired: tuple[str, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    timings_s: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackReport:
    """Which model serves after a rollback, and that it is pinned."""

    rolled_back: bool
    from_model: str | None
    to_model: str
    pinned: bool
    reason: str
    repaired: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpinReport:
    """The model that was pinned; None where none was."""

    unpinned: str | None
    repaired: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryRow:
    """One archived model, as `history` shows it; times UTC."""

    model_id: str
    trained_date: datetime
    val_sharpe: float | None
    sharpe_interval: tuple[float, float] | None
    is_deployed: bool
    pinned: bool
    outcome: str
    reason: str
    served: tuple[tuple[datetime, datetime | None], ...]
    parent: str | None
    source: str
    synthetic: bool
    family: str
    trained_from: date
    trained_to: date
    exam_from: date | None
    exam_to: date | None
    rows: int
    sessions: int
    tickers: tuple[str, ...]
    sha256: str
    kept: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofReport:
    """What `prove` compared, and how often it differed. Every count of differences is 0 where `proved`.

    cases: cut points, each with all of `replacements`; values_compared: features, predictions and positions of all
    bars up to the cuts. label_overlap: training rows whose label ends where they must not have seen. model_id: whose
    predictions were compared; None for a fixed sum of the features, where no model serves.
    """

    proved: bool
    cases: int
    replacements: tuple[str, ...]
    values_compared: int
    differences: int
    planted_leak_caught: bool
    label_overlap: int
    streamed_bars: int
    streaming_differences: int
    model_id: str | None
    source: str
    synthetic: bool
    as_of: datetime
    as_of_note: str
    sessions: int
    tickers: tuple[str, ...]


def document(report: Any) -> Any:
    """Return a frozen dataclass, or a sequence of them, as the document of `--json`.

    Dates are ISO 8601 texts; a field whose name Python reserves, such as `from_`, loses its underscore.
    """
    if is_dataclass(report) and not isinstance(report, type):
        return {item.name.rstrip("_"): document(getattr(report, item.name)) for item in fields(report)}
    if isinstance(report, Mapping):
        return {str(name): document(item) for name, item in report.items()}
    if isinstance(report, (list, tuple)):
        return [document(item) for item in report]
    if isinstance(report, (date, datetime)):
        return report.isoformat()
    if isinstance(report, PurePath):
        return str(report)
    return report
