"""A bot over 200 sessions as a process of its own: `python -m tests.benchmarks.trading_memory HOME` prints what memory
it held after each 20 sessions, MB, as JSON. Of each session an hour and the last minute are traded.
"""

import gc
import json
import resource
import sys
from datetime import date
from pathlib import Path

import polars as pl

from hftcl.market.bars import label
from hftcl.market.hours import find_hours
from hftcl.market.sources.synthetic import SyntheticSource
from tests.loop_cases import small
from tests.trading.bot_stand import CALENDAR, stand

TICKERS = tuple(f"T{number:03d}" for number in range(10))
SESSIONS = 200


def main(home: Path) -> None:
    """Trade, and print."""
    days = CALENDAR.list_sessions(date(2025, 1, 2), date(2025, 12, 31))["session"].to_list()[:SESSIONS]
    first = CALENDAR.find_previous_session(days[0], 5)
    sessions, source = CALENDAR.list_sessions(first, days[-1]), SyntheticSource(small(Path()))
    parts = [
        label(source.minutes(ticker, first, days[-1]), sessions).filter(pl.col("minute") < 60) for ticker in TICKERS
    ]
    rules: dict[str, dict[str, object]] = {"trade": {"max_model_age_days": 3650.0}}
    bot = stand(home, day=days[0], bars=pl.concat(parts), sections=rules)
    del parts
    held = []
    for number, day in enumerate(days, 1):
        hours = find_hours(CALENDAR, day, extended_hours=False)
        minutes = hours.list_minutes(hours.begins)
        bot.loop.wait_until(minutes[0])
        bot.run(day, [*minutes[:60], minutes[-1]])
        bot.minutes.clear()
        if number % 20 == 0:
            gc.collect()
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            held.append(round(pages * resource.getpagesize() / 2**20, 1))
    decided = bot.ledger.find_last_decided()
    bot.close()
    json.dump({"held": held, "last": str(decided)}, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
