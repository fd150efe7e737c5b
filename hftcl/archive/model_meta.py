"""What a model file says about itself, and how that is read. Touches no file."""

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from hftcl import __version__
from hftcl.archive.feature_set import FeatureSet
from hftcl.archive.looks import Look
from hftcl.errors import IntegrityError, NewerVersionError
from hftcl.exam.drift import FeatureBins
from hftcl.exam.entry import EntryChoice, HorizonChoice
from hftcl.exam.importance import Selection
from hftcl.exam.slices import Slice
from hftcl.market.received import TickerCoverage
from hftcl.model.inputs import Inputs
from hftcl.model.novelty import Novelty
from hftcl.settings import Side

FORMAT: Final = 1  # the first: raise it when a reader of today would misread the file
# Of a file that says what a reader of format 1 would pass over, and so trade otherwise: side, weights or novelty.
FORMAT_OF_HAND: Final = 2
FORMAT_PER_TICKER: Final = 3  # of a file that holds a model a ticker, to each of which its rows must be brought


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelMeta:
    """What a model file says about itself. Dates are sessions, times UTC; the target's unit is trailing volatility.

    threshold: on |prediction|, from the `entry_quantile` of an inner split. label_end: when the last label that was
    trained on was known; no bar up to it may examine this model. data_digest: SHA-256 of the training rows.
    feature_sources: SHA-256 of the user's file of each feature, "" for ours; empty where all are ours. Never the code.
    columns: what the features read of a bar beside prices and volume; a bot whose bars lack one refuses the model.
    feature_bins: how each feature was distributed over the training rows; None in a file of an earlier hftcl.
    exam_slices: where the P&L of its first exam came from, see `exam.slices`; None before it, or of an earlier hftcl.
    exam_look: that exam as `archive.looks` counts it, in case the registry is lost; None likewise.
    coverage: what of the window's bars had come, by ticker, those that are left out too; None of an earlier hftcl.
    bars_by_session, bars_by_ticker: short digests of the bars of its training sessions, see `learning.bars_digest`:
    where they differ later, bars were revised. None of an earlier hftcl.
    side, volatility: as [strategy] side and weighting were; volatility of a session by ticker, None where each weighs
    the same. entry, horizon: how the threshold and `horizon_minutes` were chosen; None where the settings gave them.
    half_life_days: after which a training row weighed half; 0 where all weighed the same. novelty: which rows lie too
    far from the training to decide on; None where every one may.
    max_rows: where there were more rows than these, each tree of a forest learnt from a sample of its own, and another
    family from one, of which `rows` then tells; 0 where every row was learnt from.
    selection: which features left, and why; None where `[features] drop_below` is off.
    ticker_models: those of `tickers` that have a model of their own, in the order of their numbers; on any other the
    model says nothing. Empty where one model is for all.
    versions: of the libraries that trained it, and of those that wrote it; see `artifact.find_library_versions`.
    canary_*: rows, float32, and the predictions that this file must give for them on every machine; `build`
    fills them in.
    """

    model_id: str
    feature_names: tuple[str, ...]
    feature_formulae: tuple[str, ...] = field(repr=False)
    features_hash: str
    target: str
    horizon_minutes: int
    threshold: float
    entry_quantile: float
    cost_bps: float
    flat_minutes_before_close: int
    tickers: tuple[str, ...]
    calendar: str
    extended_hours: bool
    trained_from: date
    trained_to: date
    label_end: Annotated[datetime, Meta(tz=True)]
    exam_from: date | None
    exam_to: date | None
    rows: int
    data_digest: str
    family: str
    params: dict[str, str | int | float | bool | None]
    seed: int
    versions: dict[str, str]
    source: str
    synthetic: bool
    importances: tuple[float, ...] | None = field(repr=False)
    feature_sources: tuple[str, ...] = field(default=(), repr=False)
    columns: tuple[str, ...] = ()
    feature_bins: tuple[FeatureBins, ...] | None = field(default=None, repr=False)
    exam_slices: dict[str, tuple[Slice, ...]] | None = field(default=None, repr=False)
    exam_look: Look | None = field(default=None, repr=False)
    coverage: tuple[TickerCoverage, ...] | None = field(default=None, repr=False)
    bars_by_session: dict[str, str] | None = field(default=None, repr=False)
    bars_by_ticker: dict[str, str] | None = field(default=None, repr=False)
    side: Side = "both"
    volatility: dict[str, float] | None = field(default=None, repr=False)
    entry: EntryChoice | None = field(default=None, repr=False)
    half_life_days: float = 0.0
    max_rows: int = 0
    novelty: Novelty | None = field(default=None, repr=False)
    horizon: HorizonChoice | None = field(default=None, repr=False)
    selection: Selection | None = field(default=None, repr=False)
    ticker_models: tuple[str, ...] = field(default=(), repr=False)
    canary_rows: tuple[tuple[float, ...], ...] = field(default=(), repr=False)
    canary_predictions: tuple[float, ...] = field(default=(), repr=False)
    format: int = FORMAT

    @property
    def idle(self) -> str:
        """Why the model trades nothing whatever it predicts; "" for one that trades."""
        return self.entry.reason if self.entry and self.entry.quantile is None else ""

    @property
    def weighting(self) -> str:
        """As `[strategy] weighting` was."""
        return "equal" if self.volatility is None else "inverse_volatility"

    @property
    def per(self) -> Literal["watchlist", "ticker"]:
        """As `[model] per` was."""
        return "ticker" if self.ticker_models else "watchlist"

    @property
    def inputs(self) -> Inputs:
        """What the model is given of a row."""
        return Inputs(names=self.feature_names, tickers=self.ticker_models)

    @property
    def features(self) -> FeatureSet:
        """The features that the model reads."""
        return FeatureSet(
            names=self.feature_names,
            definitions_hash=self.features_hash,
            formulae=self.feature_formulae,
            sources=self.feature_sources,
            columns=self.columns,
        )


def decode_meta(text: str, name: str) -> ModelMeta:
    """Return the metadata of the file `name`, whole, from its JSON.

    Raises NewerVersionError for a file of a newer hftcl, IntegrityError for metadata that are incomplete.
    """
    try:
        stated = msgspec.json.decode(text, type=dict[str, Any]).get("format")
        if isinstance(stated, int) and stated > FORMAT_PER_TICKER:
            raise NewerVersionError(
                f"{name} has format {stated}; this hftcl {__version__} reads up to {FORMAT_PER_TICKER}. Upgrade hftcl."
            )
        meta = msgspec.json.decode(text, type=ModelMeta)
    except msgspec.DecodeError as error:  # ValidationError is one of them
        raise IntegrityError(f"{name} has incomplete metadata: {error}.") from error
    width = len(meta.feature_names)
    rows_fit = all(len(row) == meta.inputs.width for row in meta.canary_rows)
    if not meta.canary_rows or len(meta.canary_predictions) != len(meta.canary_rows) or not rows_fit:
        raise IntegrityError(f"{name} has incomplete metadata: no canary rows of {width} features with predictions.")
    bins = meta.feature_bins
    if bins is not None and (len(bins) != width or any(len(one.shares) != len(one.edges) + 1 for one in bins)):
        raise IntegrityError(f"{name} has incomplete metadata: its bins are not those of {width} features.")
    novelty = meta.novelty
    if novelty is not None and not len(novelty.mean) == len(novelty.deviation) == width:
        raise IntegrityError(f"{name} has incomplete metadata: its novelty is not that of {width} features.")
    return meta
