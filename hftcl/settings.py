"""The typed tree of settings with its defaults. Pure: values only; `config` reads file, environment and flags into it.

Each leaf carries its range and one sentence of meaning in `msgspec.Meta`; `config` validates by it, and the
configuration reference and hftcl.toml.example are held to it by tests.
"""

from dataclasses import field, fields
from typing import Annotated, Any, Literal, TypeVar

from msgspec import Meta

from hftcl.values import Value, value_class

# Chosen: large US shares that trade in nearly every minute, so few bars are missing; any other tickers serve.
DEFAULT_WATCHLIST = ("AAPL", "AMZN", "AMD", "GOOGL", "META", "MSFT", "NVDA", "TSLA")


# 16 characters: the longest of Polygon's, "X:" and a pair of coins, fit with room.
_TICKER = 'a ticker such as "AAPL", "BRK.B", "BACpK" or "X:BTCUSD", in capitals, at most 16 characters'
# With lower case only preferred shares (p), when-issued ones (w) and rights (r), as Polygon writes them; so a slip such
# as "Aapl" is told at once. https://massive.com/docs/rest/stocks/aggregates/custom-bars: tickers are case-sensitive
_TICKER_FORM = r"^([A-Z0-9][A-Z0-9.:\-]{0,15}|[A-Z]{1,6}(p[A-Z]?|w|r)(\.[A-Z0-9]{1,3})?)$"
_ZONE = 'a time zone such as "America/New_York" or "UTC"'  # names of the IANA database: "EST" would ignore summer time
_CLOCK = r"([01]\d|2[0-3]):[0-5]\d"  # 24 hours, two digits: what sorts as text and has no a.m. to forget
# A day and a time, or the five fields of cron; `config.times` says what is wrong with them.
_TIMES = rf"^(((Mon|Tue|Wed|Thu|Fri|Sat|Sun) )?{_CLOCK}|\S+( \S+){{4}})$"
_FAMILIES = '"forest", "ridge", "lightgbm", "xgboost", "vote", or an installed plug-in'
_FEATURE_FORM = r"^[a-z][a-z0-9_]*$"  # names of columns, of JSON and of TOML keys alike
_DAYS = "the days are Mon, Tue, Wed, Thu, Fri, Sat, Sun"  # three letters, English, as cron and systemd take them


P = TypeVar("P")
"""The settings of a plug-in."""


def setting(
    description: str,
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    pattern: str | None = None,
    allowed: str | None = None,
) -> Meta:
    """Return what describes and limits one field of a plug-in's settings.

    As in `depth: Annotated[int, setting("Levels.", ge=1, le=9)] = 3`.

    A number needs a least value (ge, gt) and a greatest (le, lt), which also keeps NaN out; a text may have a pattern,
    and `allowed` says in words what it demands.
    """
    extra = {"allowed": allowed} if allowed else None
    limits: dict[str, Any] = {"ge": ge, "gt": gt, "le": le, "lt": lt, "pattern": pattern}
    return Meta(description=description, extra=extra, **limits)


def _text(
    description: str, *, allowed: str | None = None, pattern: str | None = None, least: int | None = None
) -> Meta:
    """Describe a text; `allowed` says in words what `pattern` (or the room that reads it) demands."""
    return Meta(
        description=description, pattern=pattern, min_length=least, extra={"allowed": allowed} if allowed else None
    )


@value_class(frozen=True, slots=True, kw_only=True)
class Paths(Value):
    """Where hftcl keeps its files."""

    home: Annotated[
        str, _text("Models, bars and registry are here; relative to hftcl.toml.", allowed="a folder", least=1)
    ] = "."
    env_file: Annotated[str, _text("Secrets, KEY=value a line; relative to hftcl.toml.", allowed="a file", least=1)] = (
        ".env"
    )


@value_class(frozen=True, slots=True, kw_only=True)
class Market(Value):
    """Which bars, of what, and how far back."""

    source: Annotated[
        str,
        _text(
            "Where bars come from.",
            allowed='"synthetic", "files", "polygon", "polygon-flat", "alpaca", or an installed plug-in',
        ),
    ] = "synthetic"
    watchlist: Annotated[
        tuple[Annotated[str, _text("", allowed=_TICKER, pattern=_TICKER_FORM)], ...],
        Meta(min_length=1, max_length=1000, description="The tickers that are traded, each once."),
    ] = DEFAULT_WATCHLIST
    calendar: Annotated[
        str, _text("Sessions of the exchange.", allowed='a name of exchange_calendars such as "XNYS", or "24/7"')
    ] = "XNYS"
    lookback_days: Annotated[
        int, Meta(ge=1, le=3650, description="Calendar days of bars for training and exam together.")
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


@value_class(frozen=True, slots=True, kw_only=True)
class Files(Value):
    """The source `files`: a folder of Parquet or CSV, as a vendor sells it. `hftcl inspect` says what is in it."""

    folder: Annotated[
        str,
        _text(
            "One file per ticker, or many tickers in a file, sub-folders included; relative to hftcl.toml.",
            allowed="a folder",
            least=1,
        ),
    ] = "data"
    layout: Annotated[
        str,
        _text(
            "How the files are written; found by their columns and names unless named.",
            allowed='"auto", or a layout that `hftcl inspect` names, such as "firstrate"',
            least=1,
        ),
    ] = "auto"
    timezone: Annotated[
        str,
        _text(
            "Time zone of stamps that carry none; asked for, never assumed.",
            allowed=_ZONE + ', or "" where the stamps carry one',
        ),
    ] = ""
    label: Annotated[
        Literal["auto", "start", "end"],
        _text(
            "Whether a stamp is the start or the end of its minute; auto: as the layout says, else the start, and bars "
            "that say otherwise are refused."
        ),
    ] = "auto"
    date_order: Annotated[
        Literal["auto", "dmy", "mdy"],
        _text("Order of day and month in dates such as 05/12/2025; auto: found from the whole column."),
    ] = "auto"
    columns: Annotated[
        dict[
            Literal["ticker", "ts", "date", "time", "open", "high", "low", "close", "volume"],
            Annotated[str, Meta(min_length=1)],
        ],
        _text(
            'Your column names, ours = yours, such as { ts = "datetime", close = "c" }; the usual names are known. '
            "Date and time may be in two columns."
        ),
    ] = field(default_factory=dict)
    splits: Annotated[
        str,
        _text("JSON file with splits in Polygon's format; relative to the folder.", allowed='a file, or "" for none'),
    ] = ""


@value_class(frozen=True, slots=True, kw_only=True)
class Polygon(Value):
    """The source `polygon` (today also named Massive). The key comes from POLYGON_API_KEY or MASSIVE_API_KEY."""

    base_url: Annotated[
        str,
        _text(
            "Address of the REST service.",
            allowed='an address such as "https://api.polygon.io", without user name, password or query',
            pattern=r"^https?://[^\s@?#]+$",
        ),
    ] = "https://api.polygon.io"
    calls_per_minute: Annotated[
        int, Meta(ge=1, le=100_000, description="Most requests in 60 seconds; the free plan allows 5.")
    ] = 5
    timeout_s: Annotated[float, Meta(gt=0, le=3600, description="Total time for one request, in seconds.")] = 30.0
    websocket_url: Annotated[
        str,
        _text(
            "Address of the live minutes, for the bot.",
            allowed='an address such as "wss://socket.polygon.io/stocks", without user name, password or query',
            pattern=r"^wss?://[^\s@?#]+$",
        ),
    ] = "wss://socket.polygon.io/stocks"
    flat_files: Annotated[
        str,
        _text(
            'Downloaded flat files of minute aggregates, for the source "polygon-flat"; relative to hftcl.toml.',
            allowed="a folder",
            least=1,
        ),
    ] = "flat"


@value_class(frozen=True, slots=True, kw_only=True)
class Synthetic(Value):
    """The source `synthetic`: the built-in market, for a first look without an API key. Seeded, with a planted edge."""

    seed: Annotated[int, Meta(ge=0, le=2**32 - 1, description="Seed; the same seed is the same market.")] = 7
    edge: Annotated[
        float, Meta(ge=0, le=10, description="Strength of the planted edge: 1 is a true net Sharpe near 10, 0 none.")
    ] = 1.0


@value_class(frozen=True, slots=True, kw_only=True)
class Model(Value):
    """The model that is trained."""

    family: Annotated[str, _text("Kind of model.", allowed=_FAMILIES)] = "forest"
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


@value_class(frozen=True, slots=True, kw_only=True)
class Features(Value):
    """The features that a model reads: ours, and those of your own files."""

    modules: Annotated[
        tuple[Annotated[str, _text("", allowed='a Python file such as "my_features.py"', pattern=r"\.py$")], ...],
        Meta(
            max_length=32,
            description="Your own features: Python files, each with a tuple FEATURES; they are run. "
            "Relative to hftcl.toml, and there below its folder; elsewhere write the whole path.",
        ),
    ] = ()
    use: Annotated[
        tuple[Annotated[str, _text("", allowed="a feature or a group of features", pattern=_FEATURE_FORM)], ...],
        Meta(max_length=1000, description="Features, or groups, that a model is trained on; empty: all."),
    ] = ()
    drop: Annotated[
        tuple[Annotated[str, _text("", allowed="a feature or a group of features", pattern=_FEATURE_FORM)], ...],
        Meta(max_length=1000, description="Features, or groups, that are left out."),
    ] = ()


@value_class(frozen=True, slots=True, kw_only=True)
class Ridge(Value):
    """The family `ridge`: a weighted sum of the features, the baseline that a forest must beat."""

    alpha: Annotated[
        float, Meta(ge=0, le=1e9, description="Penalty on the squared weights of the standardised features.")
    ] = 100.0


@value_class(frozen=True, slots=True, kw_only=True)
class LightGBM(Value):
    """The family `lightgbm`, of the extra `hftcl[boosting]`: trees that each mend what those before left over."""

    n_estimators: Annotated[int, Meta(ge=1, le=10_000, description="Boosted trees of LightGBM.")] = 100
    learning_rate: Annotated[float, Meta(gt=0, le=1, description="How much of its mending each tree may do.")] = 0.05
    max_depth: Annotated[int, Meta(ge=1, le=64, description="Greatest depth of a boosted tree.")] = 5
    min_samples_leaf: Annotated[int, Meta(ge=1, le=1_000_000, description="Fewest rows in a leaf (LightGBM).")] = 100
    max_features: Annotated[
        Literal["sqrt", "log2"] | Annotated[float, Meta(gt=0, le=1)],
        _text('Features that LightGBM tries per split: "sqrt", "log2", or a share such as 1.0.'),
    ] = "sqrt"


@value_class(frozen=True, slots=True, kw_only=True)
class XGBoost(Value):
    """The family `xgboost`, of the extra `hftcl[boosting]`: the same idea, another library."""

    n_estimators: Annotated[int, Meta(ge=1, le=10_000, description="Boosted trees of XGBoost.")] = 100
    learning_rate: Annotated[float, Meta(gt=0, le=1, description="How much each tree of XGBoost may mend.")] = 0.05
    max_depth: Annotated[int, Meta(ge=1, le=64, description="Greatest depth of a tree of XGBoost.")] = 5
    min_samples_leaf: Annotated[int, Meta(ge=1, le=1_000_000, description="Fewest rows in a leaf (XGBoost).")] = 100
    max_features: Annotated[
        Literal["sqrt", "log2"] | Annotated[float, Meta(gt=0, le=1)],
        _text('Features that XGBoost tries per split: "sqrt", "log2", or a share such as 1.0.'),
    ] = "sqrt"


@value_class(frozen=True, slots=True, kw_only=True)
class Vote(Value):
    """The family `vote`: forest (of [model]), LightGBM and XGBoost, averaged; of the extra `hftcl[boosting]`."""

    weight_forest: Annotated[float, Meta(ge=0, le=1000, description="What the forest's vote weighs.")] = 1.0
    weight_lightgbm: Annotated[float, Meta(ge=0, le=1000, description="What LightGBM's vote weighs.")] = 1.0
    weight_xgboost: Annotated[float, Meta(ge=0, le=1000, description="What XGBoost's vote weighs.")] = 1.0
    fit_weights: Annotated[
        bool, _text("Fit the weights on the sessions that set the entry threshold, in place of those above.")
    ] = False
    boosting_n_estimators: Annotated[int, Meta(ge=1, le=10_000, description="Trees of each boosted member.")] = 100
    boosting_learning_rate: Annotated[float, Meta(gt=0, le=1, description="How much each of them may mend.")] = 0.05
    boosting_max_depth: Annotated[int, Meta(ge=1, le=64, description="Greatest depth of the boosted members.")] = 5


@value_class(frozen=True, slots=True, kw_only=True)
class Strategy(Value):
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


@value_class(frozen=True, slots=True, kw_only=True)
class Exam(Value):
    """The newest sessions, kept from the candidate in training and used to judge it and the model that serves."""

    sessions: Annotated[int, Meta(ge=2, le=1000, description="Sessions held out for the exam.")] = 20
    embargo_sessions: Annotated[
        int, Meta(ge=1, le=60, description="Whole sessions dropped between training and exam.")
    ] = 1
    min_sessions: Annotated[
        int,
        Meta(
            ge=2,
            le=1000,
            description="An exam with fewer shared sessions is inconclusive; not above `sessions`, and lowered to it "
            "where only that is set.",
        ),
    ] = 10
    plausible_sharpe: Annotated[
        float,
        Meta(
            gt=0,
            le=1000,
            description="On real bars a net Sharpe above this that chance does not explain is doubted, as are other "
            "figures that belong to it: the exam is inconclusive and the bot stands aside until a person confirms it.",
        ),
    ] = 8.0


@value_class(frozen=True, slots=True, kw_only=True)
class Promote(Value):
    """What a candidate must show before it replaces the model that serves."""

    policy: Annotated[
        Literal["seed", "guarded", "balanced", "strict"],
        _text(
            '"seed" is the plain rule on paired scores, and what passes it trades; the others ask for P(better) too, '
            "and for a record before the bot trades: see [edge]."
        ),
    ] = "guarded"
    min_sharpe: Annotated[float, Meta(ge=-100, le=100, description="The exam's net Sharpe must be above this.")] = 0.5
    tolerance: Annotated[
        float,
        Meta(ge=0, lt=1, description="How far below the current model's Sharpe a candidate may be, as a share of it."),
    ] = 0.10
    min_p_better: Annotated[
        float, Meta(ge=0, lt=1, description='Least P(better than the current model), unless policy is "seed".')
    ] = 0.60
    refit_on_promote: Annotated[
        bool,
        _text(
            "Refit what is promoted on all sessions, the exam's included, and deploy that; the examined twin is kept "
            "and stands for it in later exams and in the record."
        ),
    ] = False
    when_champion_cannot_be_scored: Annotated[
        Literal["wait", "deploy"],
        _text(
            "A model that serves and cannot be scored, such as one with features of an earlier release: the candidate "
            'is judged against min_sharpe and against no position, and "wait" leaves it to a person to let it serve.'
        ),
    ] = "wait"


@value_class(frozen=True, slots=True, kw_only=True)
class Edge(Value):
    """What the policy's own record must show before the bot trades, and below what it stands aside again."""

    min_p_edge: Annotated[
        float, Meta(ge=0, lt=1, description='Least P(true net Sharpe > 0); under "strict" at least 0.95.')
    ] = 0.80
    min_psr: Annotated[
        float,
        Meta(ge=0, lt=1, description='Least probabilistic Sharpe ratio of the record; asked for under "guarded" only.'),
    ] = 0.90
    stand_down_below: Annotated[
        float, Meta(ge=0, lt=1, description="Once live, the bot stands aside when P(true net Sharpe > 0) is below it.")
    ] = 0.50
    min_sessions: Annotated[int, Meta(ge=2, le=1000, description="Fewest sessions that a record is judged by.")] = 20


@value_class(frozen=True, slots=True, kw_only=True)
class Triggers(Value):
    """When a retrain is due."""

    max_age_days: Annotated[
        float, Meta(gt=0, le=3650, description="Days after which the model is old, to the hour.")
    ] = 7
    min_recent_sharpe: Annotated[float, Meta(ge=-100, le=100, description="A recent Sharpe below this is weak.")] = 0.3
    recent_sessions: Annotated[int, Meta(ge=2, le=1000, description="Sessions that count as recent.")] = 20
    alarm_sessions: Annotated[
        float,
        Meta(
            ge=2,
            le=100_000,
            description="Least mean distance of two alarms of the degradation detector while the true Sharpe is "
            "`min_recent_sharpe` or more, in sessions; more is slower.",
        ),
    ] = 126
    max_psi: Annotated[
        float,
        Meta(gt=0, le=100, description="A feature has drifted when its population stability index is above this."),
    ] = 1.5
    cooldown_hours: Annotated[
        float,
        Meta(
            ge=0,
            le=8760,
            description="Hours after a verdict in which no trigger makes a retrain due; at most `max_age_days`.",
        ),
    ] = 72


@value_class(frozen=True, slots=True, kw_only=True)
class Schedule(Value):
    """When `hftcl schedule` acts; each job at most once a day."""

    timezone: Annotated[str, _text("Time zone of the times below.", allowed=_ZONE)] = "America/New_York"
    check: Annotated[
        str,
        _text(
            "Daily check, which retrains if a retrain is due.",
            allowed='a time such as "02:00", a day and a time such as "Sun 02:00", or cron syntax such as "0 2 * * *"; '
            + _DAYS,
            pattern=_TIMES,
        ),
    ] = "02:00"
    retrain: Annotated[
        str,
        _text(
            "Weekly forced retrain.",
            allowed='a day and a time such as "Sun 01:00", a time, or cron syntax such as "0 1 * * SUN"; ' + _DAYS,
            pattern=_TIMES,
        ),
    ] = "Sun 01:00"
    digest: Annotated[
        str,
        _text(
            "Weekly digest, told as an alert.",
            allowed='a day and a time such as "Sun 08:00", a time, or cron syntax such as "0 8 * * SUN"; ' + _DAYS,
            pattern=_TIMES,
        ),
    ] = "Sun 08:00"
    collect_delay_minutes: Annotated[
        int,
        Meta(
            ge=0,
            le=1440,
            description="Minutes from a session's end, its extended hours included, to the collection of its bars.",
        ),
    ] = 20


@value_class(frozen=True, slots=True, kw_only=True)
class Trade(Value):
    """The bot: `hftcl trade`."""

    feed: Annotated[
        str,
        _text(
            'Where the bars of this minute come from; "polygon-rest" asks once a minute for each ticker.',
            allowed='"polygon-websocket", "polygon-rest", "alpaca", or an installed plug-in',
        ),
    ] = "polygon-websocket"
    grace_s: Annotated[
        float,
        Meta(
            ge=0,
            le=30,
            description="Seconds after a minute's end in which its bars may still come; where they keep coming later "
            "the bot waits longer, up to 20 seconds.",
        ),
    ] = 3.0
    capital: Annotated[
        float,
        Meta(
            ge=0, le=1e12, description="Dollars that positions are shares of; 0 is the account's equity at the start."
        ),
    ] = 0.0
    broker: Annotated[
        str, _text("Who carries orders out.", allowed='"paper", "strict-paper", "alpaca", or an installed plug-in')
    ] = "paper"
    hands_off: Annotated[
        tuple[Annotated[str, _text("", allowed=_TICKER, pattern=_TICKER_FORM)], ...],
        Meta(max_length=1000, description="Tickers of the account that are a person's: never traded, never counted."),
    ] = ()
    fractional: Annotated[
        bool,
        _text(
            "Trade parts of a share; whole shares otherwise, rounded toward zero, and where the broker sells no parts "
            "short, on the short side."
        ),
    ] = False
    reload_interval_hours: Annotated[
        float, Meta(gt=0, le=168, description="Hours between two looks at the production model.")
    ] = 6
    reload_interval_minutes: Annotated[
        float, Meta(ge=0, le=10_080, description="The same in minutes; 0 leaves it to `reload_interval_hours`.")
    ] = 0
    max_model_age_days: Annotated[
        float, Meta(gt=0, le=3650, description="A model trained longer ago than this decides nothing.")
    ] = 60
    live: Annotated[bool, _text("Let the bot trade real money; it also takes `--live` and an edge that is live.")] = (
        False
    )
    override_edge: Annotated[
        bool, _text('Trade real money although the edge says "stand aside". Paper trades whatever the edge says.')
    ] = False
    shadow: Annotated[
        bool, _text("Let the last candidate that was rejected narrowly trade virtually beside the model that serves.")
    ] = False
    shadow_min_p_better: Annotated[
        float, Meta(ge=0, lt=1, description="Least P(better) at which a rejected candidate counts as narrow.")
    ] = 0.40


@value_class(frozen=True, slots=True, kw_only=True)
class Risk(Value):
    """What no order of the bot may lead beyond. What reduces a position always passes."""

    max_position_share: Annotated[
        Literal["auto"] | Annotated[float, Meta(gt=0, le=10)],
        _text('Greatest position of one ticker as a share of capital; "auto" is twice its equal weight.'),
    ] = "auto"
    max_order_notional: Annotated[
        Literal["auto"] | Annotated[float, Meta(gt=0, le=1e12)],
        _text('Greatest value of one order in dollars; "auto" is twice the greatest position.'),
    ] = "auto"
    max_gross: Annotated[
        float,
        Meta(
            gt=0, le=10, description="Greatest sum of all positions' sizes as a share of capital; the strategy uses 1."
        ),
    ] = 1.1
    max_net: Annotated[
        float, Meta(gt=0, le=10, description="Greatest surplus of long over short, or short over long, likewise.")
    ] = 1.1
    max_orders_per_minute: Annotated[
        Literal["auto"] | Annotated[int, Meta(ge=1, le=100_000)],
        _text('Most orders in 60 seconds; "auto" is two for each ticker, at least 10.'),
    ] = "auto"
    price_collar: Annotated[
        float, Meta(gt=0, le=1, description="A price further than this from the last good close is not traded on.")
    ] = 0.10
    stale_bars: Annotated[
        float,
        Meta(ge=0, le=240, description="A ticker whose newest bar is more than this many bars old is not traded."),
    ] = 2
    max_daily_loss: Annotated[
        float,
        Meta(
            gt=0,
            le=1,
            description="Loss since the last session's close, as a share of capital, at which the bot closes all and "
            "waits for a person.",
        ),
    ] = 0.03
    max_drawdown: Annotated[
        float,
        Meta(
            gt=0,
            le=1,
            description="Loss since the best close of the last 20 sessions, likewise; a person clears it.",
        ),
    ] = 0.10


@value_class(frozen=True, slots=True, kw_only=True)
class Paper(Value):
    """The broker `paper`: it fills at the next bar's open, in the ledger's folder, without money."""

    cash: Annotated[float, Meta(gt=0, le=1e12, description="Dollars that the account begins with.")] = 100_000.0
    half_spread_bps: Annotated[
        float, Meta(ge=0, le=1000, description="Half of the spread in basis points, paid by each fill.")
    ] = 0.5
    slippage_bps: Annotated[float, Meta(ge=0, le=1000, description="What each fill pays beyond that.")] = 0.5
    commission_per_share: Annotated[float, Meta(ge=0, le=100, description="Dollars a share.")] = 0.0
    commission_bps: Annotated[
        float, Meta(ge=0, le=1000, description="Commission in basis points of the traded value; both are added.")
    ] = 0.0
    max_volume_share: Annotated[
        float, Meta(gt=0, le=1, description="Most of a bar's volume that fills in it; the rest fills in later bars.")
    ] = 0.1
    shorting: Annotated[bool, _text("Whether what is not held may be sold.")] = True
    leverage: Annotated[
        float, Meta(ge=1, le=10, description="Gross exposure that a dollar of equity carries; 2 is Regulation T.")
    ] = 2.0


@value_class(frozen=True, slots=True, kw_only=True)
class StrictPaper(Value):
    """The broker `strict-paper`: no money, and the rules, refusals and silences of a real one, to rehearse with."""

    cash: Annotated[
        float,
        Meta(gt=0, le=1e12, description="Dollars that the account begins with; below 25000 day trades are counted."),
    ] = 100_000.0
    weather: Annotated[
        Literal["fair", "rain", "storm"],
        _text('How often fills come late or in parts, and calls get no answer; "fair" is never.'),
    ] = "rain"
    hard_to_borrow: Annotated[
        tuple[Annotated[str, _text("", allowed=_TICKER, pattern=_TICKER_FORM)], ...],
        Meta(max_length=1000, description="Tickers that it does not sell short."),
    ] = ()
    pdt_check: Annotated[
        bool, _text("Refuse what could be the fourth day trade in five sessions of an account below 25000 dollars.")
    ] = True
    calls_per_minute: Annotated[int, Meta(ge=10, le=100_000, description="Most calls that it takes in a minute.")] = 200
    seed: Annotated[int, Meta(ge=0, le=2**32 - 1, description="Seed of the weather; the same seed, the same day.")] = 1


@value_class(frozen=True, slots=True, kw_only=True)
class Alpaca(Value):
    """The broker `alpaca` (extra `hftcl[alpaca]`), and the source and the feed `alpaca`, which need no extra.

    The keys come from APCA_API_KEY_ID and APCA_API_SECRET_KEY.
    """

    base_url: Annotated[
        str,
        _text(
            "Address of the trading service; real money is at https://api.alpaca.markets.",
            allowed='an address such as "https://paper-api.alpaca.markets", without user name, password or query',
            pattern=r"^https?://[^\s@?#]+$",
        ),
    ] = "https://paper-api.alpaca.markets"
    timeout_s: Annotated[float, Meta(gt=0, le=600, description="Total time for one request to Alpaca, in seconds.")] = (
        10.0
    )
    shorting: Annotated[bool, _text("Let the bot sell what it does not hold, which takes a margin account.")] = True
    calls_per_minute: Annotated[
        int, Meta(ge=10, le=100_000, description="Most calls in a minute that the plan allows; orders are paced to it.")
    ] = 200
    data_url: Annotated[
        str,
        _text(
            "Address of the market data service.",
            allowed='an address such as "https://data.alpaca.markets", without user name, password or query',
            pattern=r"^https?://[^\s@?#]+$",
        ),
    ] = "https://data.alpaca.markets"
    stream_url: Annotated[
        str,
        _text(
            "Address of the live minutes, without the name of the data feed at its end.",
            allowed='an address such as "wss://stream.data.alpaca.markets/v2", without user name, password or query',
            pattern=r"^wss?://[^\s@?#]+$",
        ),
    ] = "wss://stream.data.alpaca.markets/v2"
    data_feed: Annotated[
        Literal["iex", "sip"],
        _text('Bars of the exchange IEX alone, in every plan, or of all exchanges ("sip"), in the larger plans.'),
    ] = "iex"
    data_calls_per_minute: Annotated[
        int,
        Meta(ge=1, le=100_000, description="Most requests for market data in 60 seconds; the free plan allows 200."),
    ] = 200


@value_class(frozen=True, slots=True, kw_only=True)
class Alerts(Value):
    """Who is told what happened. Addresses and passwords are secrets: ALERT_EMAIL_TO, SMTP_HOST, ALERT_URLS, ..."""

    email: Annotated[
        bool, _text("Send alerts by mail, over verified TLS; ALERT_EMAIL_ENABLED, where it is set, goes before this.")
    ] = False
    sender: Annotated[
        str, _text("Address that mails come from.", allowed='a mail address, or "" for SMTP_USER or hftcl@<host name>')
    ] = ""
    smtp_tls: Annotated[
        Literal["auto", "starttls", "implicit"],
        _text('How the mail server begins TLS; "auto" is implicit on port 465, STARTTLS on any other.'),
    ] = "auto"
    command: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        _text("A program, with arguments, that gets each alert as JSON on stdin.", allowed="a list of texts"),
    ] = ()
    heartbeat_url: Annotated[
        str,
        _text(
            "Address that is fetched after each finished duty: its owner sees when this machine is dead.",
            allowed='an address such as "https://hc-ping.com/...", or "" for none',
            pattern=r"^(https?://[^\s@]+)?$",
        ),
    ] = ""
    mute: Annotated[
        tuple[
            Literal[
                "deployed",
                "rejected",
                "inconclusive",
                "retrained",
                "error",
                "rollback",
                "halted",
                "reload_refused",
                "data_hole",
                "behind",
                "digest",
            ],
            ...,
        ],
        Meta(max_length=11, description="Kinds of alerts that are not sent."),
    ] = ()
    repeat_hours: Annotated[
        float, Meta(ge=0, le=8760, description="Hours in which a fault that goes on is told once, then with a count.")
    ] = 24
    timeout_s: Annotated[
        float, Meta(gt=0, le=600, description="Most seconds for one alert on one way, after which it waits.")
    ] = 20.0


@value_class(frozen=True, slots=True, kw_only=True)
class Log(Value):
    """What is said on stderr while a command works."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        _text("Least level that `schedule` and `trade` show; other commands show warnings, and with -v this."),
    ] = "info"
    format: Annotated[
        Literal["text", "json"],
        _text('"text" is a line of key=value, "json" one JSON object a line.'),
    ] = "text"
    prometheus: Annotated[
        str,
        _text(
            "The scheduler keeps the state here for node_exporter; relative to hftcl.toml.",
            allowed='a file whose name ends in .prom, or "" for none',
            pattern=r"^(.*\.prom)?$",
        ),
    ] = ""


@value_class(frozen=True, slots=True, kw_only=True)
class Archive(Value):
    """The models kept."""

    keep: Annotated[
        int,
        Meta(
            ge=2, le=100_000, description="Newest models whose files are kept; the live one and its parents always are."
        ),
    ] = 200


@value_class(frozen=True, slots=True, kw_only=True)
class Compute(Value):
    """The machine."""

    jobs: Annotated[int, Meta(ge=0, le=1024, description="Processor cores for training; 0 is all of them.")] = 0
    max_training_hours: Annotated[
        float, Meta(gt=0, le=168, description="Hours after which one training that has not ended is stopped.")
    ] = 12


@value_class(frozen=True, slots=True, kw_only=True)
class Settings(Value):
    """Every setting. Immutable: `dataclasses.replace` makes a changed one.

    >>> Settings().market.source
    'synthetic'
    """

    paths: Paths = field(default_factory=Paths)
    market: Market = field(default_factory=Market)
    files: Files = field(default_factory=Files)
    polygon: Polygon = field(default_factory=Polygon)
    synthetic: Synthetic = field(default_factory=Synthetic)
    model: Model = field(default_factory=Model)
    features: Features = field(default_factory=Features)
    ridge: Ridge = field(default_factory=Ridge)
    lightgbm: LightGBM = field(default_factory=LightGBM)
    xgboost: XGBoost = field(default_factory=XGBoost)
    vote: Vote = field(default_factory=Vote)
    strategy: Strategy = field(default_factory=Strategy)
    exam: Exam = field(default_factory=Exam)
    promote: Promote = field(default_factory=Promote)
    edge: Edge = field(default_factory=Edge)
    triggers: Triggers = field(default_factory=Triggers)
    schedule: Schedule = field(default_factory=Schedule)
    trade: Trade = field(default_factory=Trade)
    risk: Risk = field(default_factory=Risk)
    paper: Paper = field(default_factory=Paper)
    strict_paper: StrictPaper = field(default_factory=StrictPaper)
    alpaca: Alpaca = field(default_factory=Alpaca)
    alerts: Alerts = field(default_factory=Alerts)
    log: Log = field(default_factory=Log)
    archive: Archive = field(default_factory=Archive)
    compute: Compute = field(default_factory=Compute)
    plugins: dict[str, Any] = field(default_factory=dict)
    """The sections of the plug-ins in use, by name; `of_plugin` finds one by its type."""

    def of_plugin(self, kind: type[P]) -> P:
        """Return the section whose dataclass is `kind`; with every default where none was read from hftcl.toml."""
        sections = (*(getattr(self, item.name) for item in fields(self)), *self.plugins.values())
        return next((section for section in sections if isinstance(section, kind)), kind())
