"""What the stories return: the very values from which a table, the JSON of `--json` and a notebook are served.

Frozen, made of plain values: `document` gives the documented JSON; what is undefined is None, never NaN.
"""

from dataclasses import dataclass, field, fields
from datetime import date, datetime
from typing import TYPE_CHECKING, Self

from hftcl.document import ShortForm
from hftcl.document import build_document as build_document
from hftcl.learning.triggers import Trigger

if TYPE_CHECKING:
    from hftcl.exam.entry import EntryChoice, HorizonChoice
    from hftcl.exam.importance import Selection
    from hftcl.exam.slices import Slice
    from hftcl.exam.worth import Worth
    from hftcl.market.received import TickerCoverage


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class CheckReport(ShortForm):
    """Is a retrain due? Every trigger with its evidence."""

    due: bool
    reason: str
    triggers: tuple[Trigger, ...]
    live: str | None
    as_of: datetime
    as_of_note: str
    source: str
    synthetic: bool
    coverage: "tuple[TickerCoverage, ...]" = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceReport:
    """A part of an exam, see `exam.slices.Slice`; P&L, cost and turnover as in `ScoreReport`."""

    name: str
    detail: str
    net: float
    gross: float
    cost: float
    turnover: float
    trades: int
    held_share: float

    @classmethod
    def from_slice(cls, part: "Slice") -> Self:
        """Return `part` with its net P&L told."""
        return cls(**{item.name: getattr(part, item.name) for item in fields(cls)})


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldReport:
    """What the signals of an exam would have earned, each held for `minutes`, see `exam.worth.Held`; basis points."""

    minutes: int
    signals: int
    sessions: int
    earned_bps: float
    error_bps: float | None
    break_even_bps: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WorthReport:
    """Whether cost, horizon or model is at fault, see `exam.worth.Worth`; it decides nothing."""

    break_even_bps: float | None
    fades: tuple[HeldReport, ...]
    fault: str
    conclusion: str

    @classmethod
    def from_worth(cls, worth: "Worth") -> Self:
        """Return `worth` with what each trade may cost."""
        names = [item.name for item in fields(HeldReport)]
        held = (HeldReport(**{name: getattr(one, name) for name in names}) for one in worth.fades)
        return cls(
            break_even_bps=worth.break_even_bps, fades=tuple(held), fault=worth.fault, conclusion=worth.conclusion
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ScoreReport(ShortForm):
    """One model's exam: Sharpe ratios annual, P&L and drawdown as fractions of capital, turnover in capitals.

    novel_share: of the bars with complete features, those too far from the training for a signal; None where all may.
    """

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
    slices: dict[str, tuple[SliceReport, ...]]
    worth: WorthReport
    positions_sha256: str | None
    novel_share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ExamReport(ScoreReport):
    """What `exam` found: one archived model on the sessions `from_` to `to`, none of which it had seen.

    trials, effective_trials, dsr: as in `RetrainReport`.
    """

    from_: date
    to: date
    sessions: int
    trials: int
    effective_trials: float
    dsr: float | None
    tickers: tuple[str, ...]
    left_out: dict[str, str]
    trained_from: date
    trained_to: date
    source: str
    synthetic: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ExamSpan:
    """The bars of the exam, and how many of its sessions either model had seen.

    noise_deviation: of the annual Sharpe ratio that a worthless model shows over so many sessions; chance_of_noise: how
    often such a model shows more than `[promote] min_sharpe`. None for an exam of no sessions.
    """

    from_: date | None
    to: date | None
    sessions: int
    overlap_challenger: int
    overlap_champion: int
    noise_deviation: float | None
    chance_of_noise: float | None


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


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RetrainReport(ShortForm):
    """What one retrain did, and why. What a run that was skipped never came to is None or empty.

    trials: candidates that were examined on these sessions or some of them, this one included; effective_trials: each
    by the share of these sessions; dsr, also called deflated_sharpe: the confidence that the best of them is better
    than luck. twin: the examined model, where `model_id` is its refit on all sessions. serves: the model that serves
    after this retrain, which `champion`, the examined one of a refit, need not be. waits_beside: the
    model that serves and cannot be scored, where the candidate waits for a person. implausible: figures that are
    nearly always an error in the bars. entry, horizon: how threshold and horizon were
    chosen, None where they are given.
    features: that the model reads; selection: which of those in force left, and why, None where all stay.
    baseline: the family `ridge` in the same exam, which decides nothing; None where the model is one.
    max_rows: most rows that a fit held where there were more, see `[model] max_rows`, else 0.
    calendar, extended_hours: of the sessions of the market; None of an earlier hftcl.
    policy_digest: of the whole policy that was judged; record_digest: of the sessions and bars on which the edge was.
    """

    outcome: str
    reason: str
    model_id: str | None = None
    dry_run: bool
    source: str
    synthetic: bool
    calendar: str | None = None
    extended_hours: bool | None = None
    as_of: datetime
    as_of_note: str
    rows: int = 0
    max_rows: int = 0
    sessions: int = 0
    tickers: tuple[str, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    findings: tuple[FindingReport, ...] = ()
    coverage: "tuple[TickerCoverage, ...]" = ()
    engine: str | None = None
    threshold: float | None = None
    horizon: "HorizonChoice | None" = None
    entry: "EntryChoice | None" = None
    features: tuple[str, ...] = ()
    selection: "Selection | None" = None
    challenger: ScoreReport | None = None
    champion: ScoreReport | None = None
    baseline: ScoreReport | None = None
    exam: ExamSpan | None = None
    evidence: tuple[EvidenceReport, ...] = ()
    p_better: float | None = None
    conceded: bool = False
    policy: str | None = None
    policy_digest: str | None = None
    waits_beside: str | None = None
    serves: str | None = None
    implausible: tuple[str, ...] = ()
    trials: int = 1
    effective_trials: float = 1.0
    dsr: float | None = None
    deflated_sharpe: float | None = None
    twin: str | None = None
    edge: str = "stand aside"
    edge_reason: str = ""
    edge_evidence: tuple[EvidenceReport, ...] = ()
    p_edge: float | None = None
    record_sessions: int = 0
    record_from: date | None = None
    record_to: date | None = None
    record_digest: str | None = None
    record_sharpe: float | None = None
    record_interval: tuple[float, float] | None = None
    record_psr: float | None = None
    sessions_missing: int | None = None
    repaired: tuple[str, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    timings_s: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ProofReport(ShortForm):
    """What `prove` compared, and how often it differed. Every count of differences is 0 where `proved`.

    cases: cut points, each with all of `replacements`; values_compared: features, predictions and positions of all
    bars up to the cuts. frame_differences, label_differences: features, and labels known at the cut, of the rows that
    train against those computed again. label_overlap: training rows whose label ends where they must not have seen.
    closes_foretell, returns_repeat: the two correlations of `market.doubts`, the largest of a ticker. gross_sharpe: of
    the serving model on sessions that it has not seen, as it is and with all that it sees a minute late; None with
    fewer than five. doubts: what is too good to be true; nothing is `proved` then. model_id: whose predictions were
    compared; None for a fixed sum of the features, where no model serves. unfit: why the one that is deployed may not
    serve this market.
    """

    proved: bool
    cases: int
    replacements: tuple[str, ...]
    values_compared: int
    differences: int
    frame_differences: int
    label_differences: int
    planted_leak_caught: bool
    label_overlap: int
    streamed_bars: int
    streaming_differences: int
    closes_foretell: float | None
    returns_repeat: float | None
    gross_sharpe: float | None
    gross_sharpe_a_minute_later: float | None
    doubts: tuple[str, ...]
    model_id: str | None
    unfit: str | None = None
    source: str
    synthetic: bool
    as_of: datetime
    as_of_note: str
    sessions: int
    tickers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureReport:
    """One feature on the training sessions of the window.

    coverage: share of bars that have it. quantiles: at 1, 25, 50, 75 and 99 %. ic: by horizon in minutes, the mean over
    sessions of the rank correlation with the target, between the ends of its 90 % interval. importance: in the model
    that serves. cost_us: microseconds a bar. own: from a file of the user's.
    """

    name: str
    group: str
    lookback: int
    sessions: int
    own: bool
    formula: str
    coverage: float
    quantiles: tuple[float, ...] | None
    ic: dict[str, tuple[float, float, float] | None]
    importance: float | None
    cost_us: float


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class FeaturesReport(ShortForm):
    """The features that a model would be trained on. left_out: those of ours that would not be."""

    features: tuple[FeatureReport, ...]
    left_out: tuple[str, ...]
    horizon_minutes: int
    training_sessions: int
    bars: int
    model_id: str | None
    source: str
    synthetic: bool
    as_of: datetime
    as_of_note: str

    @property
    def intervals(self) -> int:
        """How many intervals were looked at."""
        return sum(ic is not None for feature in self.features for ic in feature.ic.values())

    @property
    def beyond_zero(self) -> int:
        """How many of them leave out zero; one in ten does where a feature is worth nothing."""
        return sum(
            ic is not None and not ic[0] <= 0 <= ic[2] for feature in self.features for ic in feature.ic.values()
        )
