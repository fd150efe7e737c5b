"""What the bot of the present is given: its clock, its feed, who supervises it, who is told."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from hftcl.alerts import Alert
from hftcl.events import OnEvent
from hftcl.market.sessions import Calendar
from hftcl.trading.feeds import Feed
from hftcl.trading.run.clock import Clock
from hftcl.trading.run.controls import Controls


class Service(Protocol):
    """Who supervises this process; `systemd.Notifier` is one."""

    def tell_ready(self) -> None: ...
    def tell_alive(self) -> None: ...
    def tell_status(self, text: str) -> None: ...
    def tell_stopping(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """What the story needs of the world: tests bring their own feed and clock, the command the real ones."""

    clock: Clock
    feed: Callable[[Calendar, Callable[[], bool], OnEvent], Feed]
    """(calendar, whether extended hours count, who hears of its progress) -> the feed."""
    service: Service
    controls: Controls
    on_event: OnEvent
    on_alert: Callable[[Alert], None]
    is_replaced: Callable[[], bool] = lambda: False
    """Whether the code on the disk is another one by now: then the bot ends before a session, to be started again."""
