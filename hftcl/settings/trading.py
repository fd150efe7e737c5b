"""From prediction to order: [strategy], [trade], [risk], and the brokers."""

from __future__ import annotations  # texts until they are read, as `settings` says why

from typing import Annotated, Literal

from msgspec import Meta

from hftcl.settings.forms import ASSET, ASSET_FORM, TICKER, TICKER_FORM, text
from hftcl.values import Value, value_class

Side = Literal["both", "long", "short"]
"""Which signals are traded."""


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
    entry: Annotated[
        Literal["quantile", "net"],
        text(
            '"quantile" is the setting above; "net" is the threshold that earned most after cost on the inner split, '
            "or none where none earned more than its standard error: such a model trades nothing."
        ),
    ] = "quantile"
    side: Annotated[
        Side, text('Trade signals to both sides, or "long" or "short" alone: the others count as none.')
    ] = "both"
    weighting: Annotated[
        Literal["equal", "inverse_volatility"],
        text(
            "How capital is divided: the same for each ticker, or less for one that moves more in training; at most "
            "1.5 times the equal share."
        ),
    ] = "equal"
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
class Trade(Value):
    """The bot: `hftcl trade`."""

    feed: Annotated[
        str,
        text(
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
        str, text("Who carries orders out.", allowed='"paper", "strict-paper", "alpaca", or an installed plug-in')
    ] = "paper"
    hands_off: Annotated[
        tuple[Annotated[str, text("", allowed=ASSET, pattern=ASSET_FORM)], ...],
        Meta(max_length=1000, description="Tickers of the account that are a person's: never traded, never counted."),
    ] = ()
    fractional: Annotated[
        bool,
        text(
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
    live: Annotated[
        bool, text("Let the bot trade real money; it also takes `--live` and a record that lets it trade.")
    ] = False
    override_edge: Annotated[
        bool, text("Trade real money although the record does not let it. Paper trades whatever the edge says.")
    ] = False
    shadow: Annotated[
        bool, text("Let the last candidate that was rejected narrowly trade virtually beside the model that serves.")
    ] = False
    shadow_min_p_better: Annotated[
        float, Meta(ge=0, lt=1, description="Least P(better) at which a rejected candidate counts as narrow.")
    ] = 0.40


@value_class(frozen=True, slots=True, kw_only=True)
class Risk(Value):
    """What no order of the bot may lead beyond. What reduces a position always passes."""

    max_position_share: Annotated[
        Literal["auto"] | Annotated[float, Meta(gt=0, le=10)],
        text('Greatest position of one ticker as a share of capital; "auto" is twice its equal weight.'),
    ] = "auto"
    max_order_notional: Annotated[
        Literal["auto"] | Annotated[float, Meta(gt=0, le=1e12)],
        text('Greatest value of one order in dollars; "auto" is twice the greatest position.'),
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
        text('Most orders in 60 seconds; "auto" is two for each ticker, at least 10.'),
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
    shorting: Annotated[bool, text("Whether what is not held may be sold.")] = True
    leverage: Annotated[
        float, Meta(ge=1, le=10, description="Gross exposure that a dollar of equity carries; 2 is Regulation T.")
    ] = 2.0


@value_class(frozen=True, slots=True, kw_only=True)
class StrictPaper(Value):
    """The broker `strict-paper`: no money, and the rules, refusals and silences of a real one, to rehearse with."""

    cash: Annotated[
        float,
        Meta(gt=0, le=1e12, description="Dollars that the account begins with; below 2000 it carries no margin."),
    ] = 100_000.0
    weather: Annotated[
        Literal["fair", "rain", "storm"],
        text('How often fills come late or in parts, and calls get no answer; "fair" is never.'),
    ] = "rain"
    hard_to_borrow: Annotated[
        tuple[Annotated[str, text("", allowed=TICKER, pattern=TICKER_FORM)], ...],
        Meta(max_length=1000, description="Tickers that it does not sell short."),
    ] = ()
    pdt_check: Annotated[
        bool,
        text(
            "Refuse what could be the fourth day trade in five sessions of an account below 25000 dollars: the rule "
            "that ended at Alpaca in June 2026; other brokers may keep it until October 2027."
        ),
    ] = False
    calls_per_minute: Annotated[int, Meta(ge=10, le=100_000, description="Most calls that it takes in a minute.")] = 200
    seed: Annotated[int, Meta(ge=0, le=2**32 - 1, description="Seed of the weather; the same seed, the same day.")] = 1


@value_class(frozen=True, slots=True, kw_only=True)
class Alpaca(Value):
    """The broker `alpaca` (extra `hftcl[alpaca]`), and the source and the feed `alpaca`, which need no extra.

    The keys come from APCA_API_KEY_ID and APCA_API_SECRET_KEY.
    """

    base_url: Annotated[
        str,
        text(
            "Address of the trading service; real money is at https://api.alpaca.markets.",
            allowed='an address such as "https://paper-api.alpaca.markets", without user name, password or query',
            pattern=r"^https?://[^\s@?#]+$",
        ),
    ] = "https://paper-api.alpaca.markets"
    timeout_s: Annotated[float, Meta(gt=0, le=600, description="Total time for one request to Alpaca, in seconds.")] = (
        10.0
    )
    shorting: Annotated[bool, text("Let the bot sell what it does not hold, which takes a margin account.")] = True
    calls_per_minute: Annotated[
        int, Meta(ge=10, le=100_000, description="Most calls in a minute that the plan allows; orders are paced to it.")
    ] = 200
    data_url: Annotated[
        str,
        text(
            "Address of the market data service.",
            allowed='an address such as "https://data.alpaca.markets", without user name, password or query',
            pattern=r"^https?://[^\s@?#]+$",
        ),
    ] = "https://data.alpaca.markets"
    stream_url: Annotated[
        str,
        text(
            "Address of the live minutes, without the name of the data feed at its end.",
            allowed='an address such as "wss://stream.data.alpaca.markets/v2", without user name, password or query',
            pattern=r"^wss?://[^\s@?#]+$",
        ),
    ] = "wss://stream.data.alpaca.markets/v2"
    data_feed: Annotated[
        Literal["iex", "sip"],
        text('Bars of the exchange IEX alone, in every plan, or of all exchanges ("sip"), in the larger plans.'),
    ] = "iex"
    data_calls_per_minute: Annotated[
        int,
        Meta(ge=1, le=100_000, description="Most requests for market data in 60 seconds; the free plan allows 200."),
    ] = 200
