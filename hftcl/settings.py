"""The typed tree of settings with its defaults. Pure: values only; `config` reads file, environment and flags into it.

Each leaf carries its range and one sentence of meaning in `msgspec.Meta`; `config` validates by it, and the
configuration reference and hftcl.toml.example are held to it by tests.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from msgspec import Meta

DEFAULT_WATCHLIST = ("AAPL", "AMZN", "AMD", "GOOGL", "META", "MSFT", "NVDA", "TSLA")


def _text(description: str) -> Meta:
    return Meta(description=description)


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """Where the product keeps its files."""

    home: Annotated[str, _text("Folder of models, bars and registry; relative to the configuration file.")] = "."
    env_file: Annotated[str, _text("File with secrets, KEY=value a line; relative to the configuration file.")] = ".env"


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """Which bars."""

    source: Annotated[str, _text('Where bars come from: "synthetic", "files", "polygon", or an installed plug-in.')] = (
        "synthetic"
    )
    watchlist: Annotated[
        tuple[Annotated[str, Meta(pattern=r"^[A-Z0-9][A-Z0-9.:\-]{0,15}$")], ...],
        Meta(min_length=1, max_length=1000, description="The tickers that are traded, in capitals."),
    ] = DEFAULT_WATCHLIST
    calendar: Annotated[str, _text('Exchange calendar, such as "XNYS", or "24/7".')] = "XNYS"
    lookback_days: Annotated[
        int, Meta(ge=2, le=3650, description="Calendar days of bars for training and exam together.")
    ] = 60
    extended_hours: Annotated[
        bool, _text("Use bars outside the regular session too (04:00 to 20:00 for US shares).")
    ] = False
    min_coverage: Annotated[
        float,
        Meta(
            ge=0, le=1, description="A ticker with bars in fewer than this share of the window's sessions is left out."
        ),
    ] = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """The source `files`: a folder of Parquet or CSV."""

    folder: Annotated[
        str, _text("Folder with one file per ticker, or many tickers in a file; relative to the configuration file.")
    ] = "data"
    timezone: Annotated[str, _text("Time zone of stamps that carry none.")] = "UTC"
    label: Annotated[Literal["start", "end"], _text("Whether a stamp is the start or the end of its minute.")] = "start"
    columns: Annotated[
        dict[Literal["ticker", "ts", "open", "high", "low", "close", "volume"], str],
        _text('Your column names, ours = yours, such as { ts = "datetime", close = "c" }.'),
    ] = field(default_factory=dict)
    splits: Annotated[str, _text("Optional JSON file with splits in Polygon's format; relative to the folder.")] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Polygon:
    """The source `polygon` (today also named Massive). The key comes from POLYGON_API_KEY or MASSIVE_API_KEY."""

    base_url: Annotated[str, Meta(pattern=r"^https?://", description="Address of the REST service.")] = (
        "https://api.polygon.io"
    )
    calls_per_minute: Annotated[
        int, Meta(ge=1, le=100_000, description="Most requests in 60 seconds; the free plan allows 5.")
    ] = 5
    timeout_s: Annotated[float, Meta(gt=0, le=3600, description="Total time for one request, in seconds.")] = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthetic:
    """The built-in market."""

    seed: Annotated[int, Meta(ge=0, le=2**32 - 1, description="Seed; the same seed is the same market.")] = 7
    edge: Annotated[
        float, Meta(ge=0, le=10, description="Strength of the planted edge: 1 is a true net Sharpe near 10, 0 none.")
    ] = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The model that is trained."""

    family: Annotated[str, _text('Model family: "forest", or an installed plug-in.')] = "forest"
    n_estimators: Annotated[int, Meta(ge=1, le=10_000, description="Trees.")] = 200
    max_depth: Annotated[int, Meta(ge=1, le=64, description="Greatest depth of a tree.")] = 12
    min_samples_leaf: Annotated[int, Meta(ge=1, le=1_000_000, description="Fewest training rows in a leaf.")] = 50
    min_samples_split: Annotated[int, Meta(ge=2, le=1_000_000, description="Fewest training rows to split a node.")] = 2
    max_features: Annotated[
        Literal["sqrt", "log2"] | Annotated[float, Meta(gt=0, le=1)],
        _text('Features tried per split: "sqrt", "log2", or a share such as 1.0.'),
    ] = "sqrt"
    seed: Annotated[int, Meta(ge=0, le=2**32 - 1, description="Seed of the training.")] = 42
    horizon_minutes: Annotated[
        int, Meta(ge=1, le=240, description="Minutes that the target reaches ahead, and that a signal is held.")
    ] = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """From prediction to position."""

    entry_quantile: Annotated[
        float,
        Meta(
            ge=0,
            lt=1,
            description="A signal needs |prediction| above this quantile of it, taken on an inner split.",
        ),
    ] = 0.90
    cost_bps: Annotated[
        float,
        Meta(
            ge=0,
            le=1000,
            description="Cost per unit of turnover in basis points: half a spread, commission and slippage.",
        ),
    ] = 1.0
    flat_minutes_before_close: Annotated[
        int, Meta(ge=0, le=240, description="Minutes before the close at which every position is flat.")
    ] = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Exam:
    """The bars that the candidate has not seen."""

    sessions: Annotated[int, Meta(ge=1, le=1000, description="Sessions held out for the exam.")] = 20
    embargo_sessions: Annotated[
        int, Meta(ge=1, le=60, description="Whole sessions dropped between training and exam.")
    ] = 1
    min_sessions: Annotated[
        int, Meta(ge=2, le=1000, description="An exam with fewer shared sessions is inconclusive.")
    ] = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Promote:
    """What a candidate must show."""

    policy: Annotated[
        Literal["seed", "guarded"],
        _text('"seed" is the plain rule on paired scores; "guarded" asks for P(better) as well.'),
    ] = "seed"
    min_sharpe: Annotated[float, Meta(ge=-100, le=100, description="The exam's net Sharpe must be above this.")] = 0.5
    tolerance: Annotated[
        float,
        Meta(ge=0, lt=1, description="How far below the current model's Sharpe a candidate may be, as a share of it."),
    ] = 0.10
    min_p_better: Annotated[
        float, Meta(ge=0, lt=1, description='Least P(better than the current model) under "guarded".')
    ] = 0.60


@dataclass(frozen=True, slots=True, kw_only=True)
class Triggers:
    """When a retrain is due."""

    max_age_days: Annotated[float, Meta(gt=0, le=3650, description="Days after which the model is old.")] = 7
    min_recent_sharpe: Annotated[float, Meta(ge=-100, le=100, description="A recent Sharpe below this is weak.")] = 0.3
    recent_sessions: Annotated[int, Meta(ge=2, le=1000, description="Sessions that count as recent.")] = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When the scheduler acts."""

    timezone: Annotated[str, _text("Time zone of the times below.")] = "America/New_York"
    check: Annotated[str, _text("Daily check.")] = "02:00"
    retrain: Annotated[str, _text("Weekly forced retrain.")] = "Sun 01:00"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """The bot."""

    reload_interval_hours: Annotated[
        float, Meta(gt=0, le=168, description="Hours between two looks at the production model.")
    ] = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """The models kept."""

    keep: Annotated[
        int,
        Meta(
            ge=2, le=100_000, description="Newest models whose files are kept; the live one and its parents always are."
        ),
    ] = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """The machine."""

    jobs: Annotated[int, Meta(ge=0, le=1024, description="Processor cores for training; 0 is all of them.")] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting. Immutable: `dataclasses.replace` makes a changed one."""

    paths: Paths = field(default_factory=Paths)
    market: Market = field(default_factory=Market)
    files: Files = field(default_factory=Files)
    polygon: Polygon = field(default_factory=Polygon)
    synthetic: Synthetic = field(default_factory=Synthetic)
    model: Model = field(default_factory=Model)
    strategy: Strategy = field(default_factory=Strategy)
    exam: Exam = field(default_factory=Exam)
    promote: Promote = field(default_factory=Promote)
    triggers: Triggers = field(default_factory=Triggers)
    schedule: Schedule = field(default_factory=Schedule)
    trade: Trade = field(default_factory=Trade)
    archive: Archive = field(default_factory=Archive)
    compute: Compute = field(default_factory=Compute)
