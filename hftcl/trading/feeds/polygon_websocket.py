"""The feed `polygon-websocket`: Polygon's minute aggregates, channel AM.

A minute's aggregate is sent AGAIN for each late trade, for up to 15 minutes after it: each is handed over as corrected.
Source: https://massive.com/docs/websocket/stocks/aggregates-per-minute.md
"""

from typing import Any, Final

from hftcl.errors import SourceError
from hftcl.market.sources.polygon_rest import Key
from hftcl.trading.feeds.polygon_rest import build_raw_bar
from hftcl.trading.feeds.websocket import Reaction, WebsocketFeed

DELIVERED: Final = ("vwap",)
"""Further numbers that its messages hold (`vw`, on the page above): they name no number of trades, only `z`, the
average size of one, rounded."""
_AT_ONCE: Final = 200
"""Tickers in one subscription message."""
# Statuses of its messages, https://massive.com/docs/websocket/quickstart; all else is a complaint.
_GOOD_NEWS: Final = frozenset({"connected", "auth_success", "success"})


class _PolygonSpeech:
    """Log in at once, subscribe when that was taken, then aggregates."""

    def __init__(self, key: Key, columns: tuple[str, ...]) -> None:
        self._key = key
        self._columns = columns
        self._subscribed = False

    def redact(self, text: str) -> str:
        return self._key.redact(text)

    def open(self) -> tuple[dict[str, Any], ...]:
        self._subscribed = False
        return ({"action": "auth", "params": self._key.value},)

    def hear(self, message: dict[str, Any], tickers: tuple[str, ...]) -> Reaction:
        if message.get("ev") == "AM":
            return Reaction(row=build_raw_bar(str(message.get("sym", "")), message, "s", self._columns))
        if message.get("ev") != "status":
            return Reaction()
        status, text = message.get("status"), self.redact(str(message.get("message", "")))
        if status == "auth_failed":
            raise SourceError(f"the key in {self._key.variable} was refused: {text}")
        # of a subscription, or of too many connections, after which it hangs up
        complaint = "" if status in _GOOD_NEWS else f"{status}: {text}"
        if status != "auth_success" or self._subscribed:
            return Reaction(complaint=complaint)
        self._subscribed = True
        parts = [tickers[place : place + _AT_ONCE] for place in range(0, len(tickers), _AT_ONCE)]
        topics = [",".join(f"AM.{ticker}" for ticker in part) for part in parts]
        return Reaction(send=tuple({"action": "subscribe", "params": params} for params in topics), up=True)


class PolygonWebsocketFeed(WebsocketFeed[Key]):
    """Minutes from Polygon's socket, such as wss://socket.polygon.io/stocks. columns: of DELIVERED."""

    name = "polygon-websocket"
    speech = _PolygonSpeech
