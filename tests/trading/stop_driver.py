"""A bot that waits for something, for a test to stop: python -m tests.trading.stop_driver HOME URL STATE.

Its clock is this machine's, put to ten minutes after the open of a session, so that bars are collected at once; at
`night` to some hours before it. At URL is its source, or in the states `broker` and `down` its broker.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path

from hftcl.cli.trade import _signals
from hftcl.home import Home
from hftcl.systemd import Notifier
from hftcl.trading.feeds import find_feed
from hftcl.trading.run.clock import SystemClock
from hftcl.trading.run.controls import Controls
from hftcl.trading.run.live import trade
from hftcl.trading.run.present import Present
from tests.calendars import read_shared_calendar
from tests.loop_cases import small

OPENED = datetime(2025, 6, 2, 13, 40, tzinfo=UTC)
_BROKER = frozenset({"broker", "down"})
NIGHT = datetime(2025, 6, 2, 4, 0, tzinfo=UTC)


class ShiftedClock(SystemClock):
    """The clock of this machine, put to `begins` when it was made."""

    def __init__(self, begins: datetime) -> None:
        super().__init__()
        self._shift = begins - super().now()

    def now(self) -> datetime:
        """Return the time of the session."""
        return super().now() + self._shift


def main(home: Path, url: str, state: str) -> None:
    """Trade until a signal says stop; say so at the end."""
    read_shared_calendar()
    settings = small(
        home,
        market={"source": "polygon"},
        trade={"feed": "polygon-rest", "broker": "alpaca" if state in _BROKER else "paper", "live": True},
        alpaca={"base_url": url, "timeout_s": 600.0},
        polygon={"base_url": url, "calls_per_minute": 500},
    )
    clock, controls = (
        ShiftedClock(NIGHT if state == "night" else OPENED),
        Controls(halt_file=Home.of(settings).halt_file),
    )
    present = Present(
        clock=clock,
        feed=lambda calendar, extended, hears: find_feed(settings.trade.feed)(settings, calendar, extended, hears),
        service=Notifier.from_environment({}, pid=0),
        controls=controls,
        on_event=lambda _: None,
        on_alert=lambda _: None,
    )
    with _signals(controls, stops=True, clock=clock):
        sys.stdout.write(f"{trade(settings, present, real_money=state in _BROKER).note}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
