"""Where bars come from: [market], [files], [polygon], [synthetic]."""

from __future__ import annotations  # texts until they are read, as `settings` says why

from dataclasses import field
from typing import Annotated, Literal

from msgspec import Meta

from hftcl.settings.forms import NAME_FORM, TICKER, TICKER_FORM, ZONE, text
from hftcl.values import Value, value_class

# Chosen: large US shares that trade in nearly every minute, so few bars are missing; any other tickers serve.
DEFAULT_WATCHLIST = ("AAPL", "AMZN", "AMD", "GOOGL", "META", "MSFT", "NVDA", "TSLA")


@value_class(frozen=True, slots=True, kw_only=True)
class Market(Value):
    """Which bars, of what, and how far back."""

    source: Annotated[
        str,
        text(
            "Where bars come from.",
            allowed='"synthetic", "files", "polygon", "polygon-flat", "alpaca", or an installed plug-in',
        ),
    ] = "synthetic"
    watchlist: Annotated[
        tuple[Annotated[str, text("", allowed=TICKER, pattern=TICKER_FORM)], ...],
        Meta(min_length=1, max_length=10_000, description="The tickers that are traded, each once."),
    ] = DEFAULT_WATCHLIST
    calendar: Annotated[
        str, text("Sessions of the exchange.", allowed='a name of exchange_calendars such as "XNYS", or "24/7"')
    ] = "XNYS"
    lookback_days: Annotated[
        int, Meta(ge=1, le=3650, description="Calendar days of bars for training and exam together.")
    ] = 60
    extended_hours: Annotated[
        bool, text("Use bars outside the regular session too (04:00 to 20:00 for US shares).")
    ] = False
    min_coverage: Annotated[
        float,
        Meta(
            ge=0, le=1, description="A ticker with bars in fewer than this share of the window's sessions is left out."
        ),
    ] = 0.5
    columns: Annotated[
        tuple[Annotated[str, text("", allowed='a name such as "vwap"', pattern=NAME_FORM)], ...],
        Meta(
            max_length=16,
            description="Further numbers of a bar that the source delivers, for features of your own; docs/edge.md.",
        ),
    ] = ()
    context: Annotated[
        tuple[Annotated[str, text("", allowed=TICKER, pattern=TICKER_FORM)], ...],
        Meta(max_length=32, description="Tickers that features of your own read, and that are not traded."),
    ] = ()


@value_class(frozen=True, slots=True, kw_only=True)
class Files(Value):
    """The source `files`: a folder of Parquet or CSV, as a vendor sells it. `hftcl inspect` says what is in it."""

    folder: Annotated[
        str,
        text(
            "One file per ticker, or many tickers in a file, sub-folders included; relative to hftcl.toml.",
            allowed="a folder",
            least=1,
        ),
    ] = "data"
    layout: Annotated[
        str,
        text(
            "How the files are written; found by their columns and names unless named.",
            allowed='"auto", or a layout that `hftcl inspect` names, such as "firstrate"',
            least=1,
        ),
    ] = "auto"
    timezone: Annotated[
        str,
        text(
            "Time zone of stamps that carry none; asked for, never assumed.",
            allowed=ZONE + ', or "" where the stamps carry one',
        ),
    ] = ""
    label: Annotated[
        Literal["auto", "start", "end"],
        text(
            "Whether a stamp is the start or the end of its minute; auto: as the layout says, else the start, and bars "
            "that say otherwise are refused."
        ),
    ] = "auto"
    date_order: Annotated[
        Literal["auto", "dmy", "mdy"],
        text("Order of day and month in dates such as 05/12/2025; auto: found from the whole column."),
    ] = "auto"
    columns: Annotated[
        dict[
            Annotated[
                str,
                text(
                    "",
                    allowed="ticker, ts, date, time, open, high, low, close, volume, or those of [market] columns",
                    pattern=NAME_FORM,
                ),
            ],
            Annotated[str, Meta(min_length=1)],
        ],
        text(
            'Your column names, ours = yours, such as { ts = "datetime", close = "c" }; the usual names are known. '
            "Date and time may be in two columns."
        ),
    ] = field(default_factory=dict)
    splits: Annotated[
        str,
        text("JSON file with splits in Polygon's format; relative to the folder.", allowed='a file, or "" for none'),
    ] = ""


@value_class(frozen=True, slots=True, kw_only=True)
class Polygon(Value):
    """The source `polygon` (today also named Massive). The key comes from POLYGON_API_KEY or MASSIVE_API_KEY."""

    base_url: Annotated[
        str,
        text(
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
        text(
            "Address of the live minutes, for the bot.",
            allowed='an address such as "wss://socket.polygon.io/stocks", without user name, password or query',
            pattern=r"^wss?://[^\s@?#]+$",
        ),
    ] = "wss://socket.polygon.io/stocks"
    flat_files: Annotated[
        str,
        text(
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
    column_edge: Annotated[
        float,
        Meta(
            ge=0, le=2, description="What the column imbalance tells of the next half hour: 1 is a net Sharpe near 10."
        ),
    ] = 1.0
