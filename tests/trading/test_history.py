"""What a feed knows before the first minute of a session, from the store alone, and how its waits end."""

import threading
from datetime import date, timedelta
from pathlib import Path

import pytest

from hftcl.errors import SourceError
from hftcl.events import ignore
from hftcl.market.hours import find_hours
from hftcl.market.store import BarStore
from hftcl.model.features import WARMUP_SESSIONS
from hftcl.settings import Market
from hftcl.trading.feeds.history import prepare_sessions, sleep_until
from tests.market.exchange import Exchange, quiet_bars
from tests.trading.bot_stand import CALENDAR

DAY = date(2026, 2, 6)
LONGER_THAN_A_TEST_S = 3600.0


def test_a_session_is_prepared_with_the_hours_that_are_traded_then(tmp_path: Path) -> None:
    first = CALENDAR.find_previous_session(DAY, WARMUP_SESSIONS)
    exchange = Exchange(quiet_bars("AAA", first=first, last=DAY))
    traded = [False, True, False]
    market = Market(watchlist=("AAA",), min_coverage=0.5)
    store = BarStore(tmp_path, exchange, CALENDAR)
    begin = prepare_sessions(store, exchange, CALENDAR, market, lambda: traded[0], ignore)
    while traded:
        hours = find_hours(CALENDAR, DAY, extended_hours=traded[0])
        morning = begin(hours, hours.opens + timedelta(minutes=30))
        for bars in (morning.earlier, morning.so_far):
            assert bars["regular"].all() != traded[0], "before the open and after the close"
            assert bars["regular"].any()
        assert morning.tickers == ("AAA",)
        assert morning.earlier["session"].min() == first
        assert morning.so_far["session"].unique().to_list() == [DAY]
        assert morning.so_far.filter("regular").height == 30, "what is known half an hour after the open"
        traded.pop(0)


def test_a_wait_of_a_feed_ends_with_the_bot_and_is_told_as_a_question_that_failed() -> None:
    stop = threading.Event()
    sleep = sleep_until(stop)
    sleep(0.0)
    stop.set()
    with pytest.raises(SourceError, match="The bot is stopping"):
        sleep(LONGER_THAN_A_TEST_S)
