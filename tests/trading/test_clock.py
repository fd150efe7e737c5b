"""The clock of the machine that is put while the bot trades: who says the time again, and what is opened until then."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from hftcl.errors import BrokerError
from hftcl.trading.feeds import Delivery
from hftcl.trading.feeds.replay import StoredFeed
from tests.trading.bot_stand import DAY, TICKERS, PutBack, archived, bars_of, some_minutes, stand

BACK = timedelta(minutes=10)


class SaysTheTimeWithItsBars(StoredFeed):
    """Knows the time by the answers that brought bars, and forgets it as the clock is put, as a vendor over REST."""

    def __init__(self, clock: PutBack) -> None:
        super().__init__(bars_of(DAY), TICKERS)
        self.clock = clock
        self.heard_after_it_was_put = False

    def clock_ahead_s(self) -> float | None:
        return -BACK.total_seconds() if self.heard_after_it_was_put else None

    def minute(self, minute: datetime, now: datetime) -> Delivery:
        delivery = super().minute(minute, now)
        self.heard_after_it_was_put = self.clock.put
        return delivery


@pytest.mark.hazard(69)
def test_of_a_clock_that_was_put_the_bars_tell_before_the_first_order_where_the_broker_is_silent(
    tmp_path: Path,
) -> None:
    """The answer that brought the bars brought the vendor's time too; they may be of a minute that is long over."""
    archived(tmp_path)
    minutes = some_minutes(110, 2)
    clock = PutBack(minutes[0], minutes[1], -BACK)
    bot = stand(tmp_path, first=110, feed=SaysTheTimeWithItsBars(clock))
    bot.loop.clock = clock

    def their_time() -> datetime:
        raise BrokerError("Connection reset.")

    bot.loop.their_time = their_time
    bot.run(DAY, minutes)
    assert (bot.minutes, bot.alerts) == ([], []), "the clock was put before the first bars"
    bot.run(DAY, minutes[:1])
    (alert,) = [alert for alert in bot.alerts if alert.subject == "the clock is wrong"]
    assert "600 s behind the vendor's" in alert.text
    assert set(bot.ledger.read_orders()["code"]) == {"barred"}, "in the very minute whose bars brought it"
    bot.close()
