"""What a minute costs the bot at the end of a session, against computing the session's features anew each minute."""

import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import polars as pl
import pytest

from hftcl.market.bars import BAR_SCHEMA
from hftcl.model.features import WARMUP_SESSIONS, features
from hftcl.model.streaming import StreamingFeatures

pytestmark = [pytest.mark.bench, pytest.mark.slow]
SESSION_MINUTES = 390
MEASURED = 120
FIRST = date(2024, 1, 1)
Say = Callable[[str], None]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Print a line of figures whatever pytest captures."""

    def line(text: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{text}")

    return line


def sessions(tickers: int, minutes: int = SESSION_MINUTES) -> Iterator[pl.DataFrame]:
    """Yield one session after the other of random walks, a bar in each minute; synthetic."""
    random = np.random.default_rng(0)
    closes = random.uniform(20, 400, (tickers, 1))
    for number in count():
        day = FIRST + timedelta(days=number)
        path = closes * np.exp(np.cumsum(random.normal(0, 3e-4, (tickers, minutes)), axis=1))
        opens = np.concatenate([closes, path[:, :-1]], axis=1)
        closes = path[:, -1:]
        midnight = datetime.combine(day, datetime.min.time(), UTC)
        stamps = [midnight + timedelta(minutes=minute) for minute in range(minutes)]
        yield pl.DataFrame(
            {
                "ticker": np.repeat([f"T{n:03d}" for n in range(tickers)], minutes),
                "ts": stamps * tickers,
                "session": [day] * (tickers * minutes),
                "minute": np.tile(np.arange(minutes), tickers),
                "session_minutes": np.full(tickers * minutes, minutes),
                "regular": np.full(tickers * minutes, fill_value=True),
                "open": opens.ravel(),
                "high": (np.maximum(opens, path) * 1.0002).ravel(),
                "low": (np.minimum(opens, path) * 0.9998).ravel(),
                "close": path.ravel(),
                "volume": random.lognormal(7, 1, tickers * minutes).round(),
            },
            schema=BAR_SCHEMA,
        )


def milliseconds(work: Callable[[], object]) -> float:
    began = perf_counter()
    work()
    return 1000 * (perf_counter() - began)


@pytest.mark.parametrize(("tickers", "most_ms"), [(20, 8), (500, 90)])
def test_a_minute_at_the_end_of_a_session(tickers: int, most_ms: float, say: Say) -> None:
    world = sessions(tickers)
    earlier = pl.concat(next(world) for _ in range(WARMUP_SESSIONS))
    today = next(world)
    stream = StreamingFeatures(earlier)
    start = milliseconds(lambda: stream.start(today["session"][0]))
    taken, computed = [], []  # computed: processor time, which does not count what others on the machine took
    for bars in today.sort("ts").partition_by("ts"):
        began = process_time()
        taken.append(milliseconds(partial(stream.push, bars)))
        computed.append(1000 * (process_time() - began))
    anew = float(np.median([milliseconds(lambda: features(today)) for _ in range(5)]))
    half, most = np.percentile(taken[-MEASURED:], [50, 99])
    own = np.percentile(computed[-MEASURED:], 99)
    say(
        f"{tickers} tickers, last {MEASURED} minutes of {SESSION_MINUTES}: p50 {half:.1f} ms, p99 {most:.1f} ms, of "
        f"processor time {own:.1f} ms (wanted: {most_ms} ms); start of the session {start:.0f} ms; today's features "
        f"anew {anew:.0f} ms, {anew / half:.1f} times as long"
    )
    assert half < most_ms
    assert half < anew


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system does not tell a process's memory")
def test_memory_is_flat_over_two_hundred_sessions(say: Say) -> None:
    world = sessions(20, minutes=40)
    stream = StreamingFeatures(pl.DataFrame(schema=BAR_SCHEMA))
    resident = []
    for bars in (next(world) for _ in range(200)):
        stream.start(bars["session"][0])
        for minute in bars.sort("ts").partition_by("ts"):
            stream.push(minute)
        stream.end()
        resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20)
    told = ", ".join(f"{resident[after - 1]:.0f}" for after in (20, 100, 200))
    say(f"resident memory after 20, 100 and 200 sessions: {told} MiB")
    assert resident[199] < resident[19] + 30
