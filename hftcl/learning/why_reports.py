"""What `explain` and `reproduce` return: see `learning.reports`."""

from dataclasses import dataclass
from datetime import date, datetime

from hftcl.document import ShortForm


@dataclass(frozen=True, slots=True, kw_only=True)
class DecidedReport:
    """What the bot decided on a bar, as its ledger has it; `model_id` of the model that served then."""

    model_id: str | None
    prediction: float | None
    target: float | None
    code: str
    decided_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DecidedOrderReport:
    """The order of that bar: shares, + to buy; null where it was refused before a number was known."""

    quantity: float | None
    reference_price: float | None
    state: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainRow:
    """One bar, and what the model makes of it.

    ts: start of the minute, UTC. bar: open, high, low, close, volume. features: by name; null where a feature is not
    known, and then there is no prediction. quantiles: by name, the shares of the training rows between which the value
    lies, [below, up to]. base, contributions: in units of the target (trailing volatilities); they add up to
    `prediction`. novel: whether the bar lies too far from the training for a signal. signal: -1, 0 or 1. target:
    position, a signed fraction of capital. code, decided, order: of the bot, where its ledger has the bar; null
    elsewhere.
    """

    ticker: str
    ts: datetime
    session: date
    bar: dict[str, float]
    features: dict[str, float | None]
    quantiles: dict[str, tuple[float, float] | None]
    prediction: float | None
    base: float | None
    contributions: dict[str, float] | None
    novel: bool
    signal: int
    target: float
    code: str | None
    decided: DecidedReport | None
    order: DecidedOrderReport | None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ExplainReport(ShortForm):
    """Why a model predicted what it did, bar by bar.

    idle: why the model trades nothing whatever it predicts, so that its threshold is no number to compare with; null
    for one that trades. unexplained: why there are no contributions; null where there are. lacking: tickers without a
    bar there. zone: the exchange's, by whose clock a person reads the bars.
    """

    model_id: str
    family: str
    threshold: float
    idle: str | None
    horizon_minutes: int
    trained_from: date
    trained_to: date
    rows: tuple[ExplainRow, ...]
    lacking: tuple[str, ...]
    unexplained: str | None
    zone: str
    source: str
    synthetic: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDifference:
    """What of a model came out otherwise, or may be why: as it was, as it is."""

    what: str
    was: str
    is_: str


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ReproduceReport(ShortForm):
    """Whether a model, trained again from the bars that it names, is the same to the bit.

    differences: in the trees and the threshold first, then their causes as far as they are known; none where `equal`.
    rows, was_rows: trained on now, and then. seconds: of the training.
    """

    model_id: str
    equal: bool
    differences: tuple[ModelDifference, ...]
    rows: int
    was_rows: int
    seconds: float
    source: str
    synthetic: bool
