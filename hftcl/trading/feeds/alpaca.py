"""The feed `alpaca`: Alpaca's minute bars over a websocket, what is missed over REST, by the keys of the broker.

Sources: https://docs.alpaca.markets/docs/streaming-market-data (welcome, log-in, error codes; most plans allow one
connection) and https://docs.alpaca.markets/docs/real-time-stock-pricing-data (channels `bars`, and `updatedBars` half a
minute later where late trades changed one; `t` is the START of the minute; `statuses` tells of halts, in the plans that
have it).
"""

import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from hftcl.errors import SourceError
from hftcl.events import OnEvent
from hftcl.formats import name_some
from hftcl.home import Home
from hftcl.market.sessions import Calendar
from hftcl.market.sources.alpaca import FURTHER, AlpacaSource, ask_bars, stamp
from hftcl.market.sources.alpaca_rest import DataService, Keys, find_keys
from hftcl.market.sources.transport import parse_figure
from hftcl.market.store import BarStore
from hftcl.settings import Settings
from hftcl.trading.feeds import Feed
from hftcl.trading.feeds.history import prepare_sessions, sleep_until
from hftcl.trading.feeds.intake import RawBar
from hftcl.trading.feeds.websocket import Halt, Reaction, WebsocketFeed

_TIMEOUT_S: Final = 10.0
"""Of one call within a minute; the settings' time-out is for collecting, which has longer."""
_MOST_SYMBOLS: Final = 100  # as of the source alpaca
_AT_ONCE: Final = 500
"""Tickers in one subscription message, 10 KB. Of more than 3,227 in one message bars came of some alone:
https://github.com/alpacahq/alpaca-trade-api-csharp/issues/763"""
_REFUSED: Final = frozenset({401, 402, 404, 409})
"""Not logged in, wrong key, log-in too late, a feed that the plan does not have."""
_NOT_IN_THE_PLAN: Final = frozenset({400, 405, 409, 410})
"""What the answer to the further channel may be: words that it does not know, too many symbols, not in the plan."""
_BARS: Final = frozenset({"b", "u"})
_HALTED: Final = frozenset({"2", "H", "P"})  # of tapes A and B the digit: a halt; of tape C also a pause
_TRADES_AGAIN: Final = frozenset({"3", "T"})
"""Status codes; all others leave a ticker as it is: quotes alone, imbalances, ranges."""


class _AlpacaSpeech:
    """Wait for the welcome, log in, subscribe when that was taken, then bars and what replaces them."""

    def __init__(self, keys: Keys, columns: tuple[str, ...]) -> None:
        self._keys = keys
        self._columns = columns
        self._subscribed = False
        self._unanswered = 0

    def redact(self, text: str) -> str:
        return self._keys.redact(text)

    def open(self) -> tuple[dict[str, Any], ...]:
        self._subscribed = False
        return ()

    def hear(self, message: dict[str, Any], tickers: tuple[str, ...]) -> Reaction:
        kind = message.get("T")
        if kind in _BARS:
            return Reaction(row=_build_bar(message, self._columns))
        if kind == "success" and message.get("msg") == "connected":
            words = {"action": "auth", "key": self._keys.ident.value, "secret": self._keys.secret.value}
            return Reaction(send=(words,))
        if kind == "success" and message.get("msg") == "authenticated":
            parts = _divide(tickers)
            self._unanswered = len(parts)
            return Reaction(send=tuple({"action": "subscribe", "bars": part, "updatedBars": part} for part in parts))
        if kind == "subscription" and self._unanswered > 1:
            self._unanswered -= 1  # each names all that is subscribed so far: the last one tells what is lacking
            return Reaction(up=True)
        if kind == "subscription":
            lacking = sorted(set(tickers) - set(message.get("bars") or ()))
            said = f"no bars of {name_some(lacking, 3)}"
            is_first, self._subscribed = not self._subscribed, True
            # on its own: a plan without it must not cost the bars
            more = tuple({"action": "subscribe", "statuses": part} for part in _divide(tickers)) if is_first else ()
            return Reaction(up=True, complaint=said if lacking else "", send=more)
        if kind == "s":
            return Reaction(halt=_read_halt(message, self.redact))
        if kind == "error" and self._subscribed and message.get("code") in _NOT_IN_THE_PLAN:
            return Reaction()
        if kind == "error":
            self._unanswered -= 1  # of a part that is refused: the others' last answer tells what is lacking
            code, text = message.get("code"), self.redact(str(message.get("msg", "")))
            if code in _REFUSED:
                raise SourceError(f"the key in {self._keys.ident.variable} was refused: {code}: {text}")
            return Reaction(complaint=f"{code}: {text}")
        return Reaction()


def _divide(tickers: tuple[str, ...]) -> list[list[str]]:
    """Return the tickers in parts, one for each message."""
    return [list(tickers[place : place + _AT_ONCE]) for place in range(0, len(tickers), _AT_ONCE)]


def _read_halt(message: dict[str, Any], redact: Callable[[str], str]) -> Halt | None:
    """Return what a status means for whether its ticker trades; None for nothing."""
    code, at = message.get("sc"), stamp(message.get("t"))
    if at is None or code not in _HALTED | _TRADES_AGAIN:
        return None
    words = [str(message[name]) for name in ("sm", "rc", "rm") if message.get(name)]
    why = redact(", ".join(words)) or "no reason given"
    return Halt(ticker=str(message.get("S", "")), at=at, why=why if code in _HALTED else "")


def _build_bar(message: dict[str, Any], columns: tuple[str, ...]) -> RawBar:
    """Return a bar of the service as a row of RAW_SCHEMA and the columns; what is no number or stamp is null."""
    names = ("o", "h", "l", "c", "v", *(FURTHER[name] for name in columns))
    return str(message.get("S", "")), stamp(message.get("t")), *(parse_figure(message.get(name)) for name in names)


class AlpacaFeed(WebsocketFeed[Keys]):
    """Minutes from Alpaca's socket, such as wss://stream.data.alpaca.markets/v2/iex. columns: of `alpaca.FURTHER`."""

    name = "alpaca"
    speech = _AlpacaSpeech


def build_alpaca_feed(settings: Settings, calendar: Calendar, extended: Callable[[], bool], on_event: OnEvent) -> Feed:
    """Return the feed. extended: whether extended hours are traded, asked at each session.

    Raises ConfigError where a key is missing.
    """
    keys, stop = find_keys(settings), threading.Event()
    sleep = sleep_until(stop)
    source = AlpacaSource(settings, keys=keys, sleep=sleep)
    # Bars of another source lie in the usual place: each would throw the other's away.
    shared = settings.market.source == source.name
    home = Home.of(settings)
    store = BarStore(home.bars if shared else home.locate_feed_bars(source.name), source, calendar)
    service = DataService(settings, keys, timeout_s=min(settings.alpaca.timeout_s, _TIMEOUT_S), sleep=sleep)

    def backfill(tickers: tuple[str, ...], first: datetime, last: datetime) -> list[RawBar]:
        rows: list[RawBar] = []
        for place in range(0, len(tickers), _MOST_SYMBOLS):
            part = list(tickers[place : place + _MOST_SYMBOLS])
            for ticker, bars in ask_bars(service, settings.alpaca.data_feed, part, first, last).items():
                rows += [_build_bar({**bar, "S": ticker}, source.columns) for bar in bars]
        return rows

    url = f"{settings.alpaca.stream_url.rstrip('/')}/{settings.alpaca.data_feed}"
    return AlpacaFeed(
        prepare_sessions(store, source, calendar, settings.market, extended, on_event),
        url,
        keys,
        backfill,
        stop=stop,
        vendor_time=service.transport.time,
        ask_time=service.transport.ask_time,
        columns=source.columns,
    )
