"""How fast bars come in: from the local stand-in of Polygon's service, and from its flat files. Prints figures.

Run: python -m pytest tests/benchmarks/test_collecting.py -m bench -s
BENCH_TICKERS and BENCH_DAYS make the flat files smaller.
"""

import gzip
import json
import os
import resource
import subprocess
import sys
import threading
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hftcl.market.sessions import Calendar
from tests.polygon_server import synthetic_bars

pytestmark = pytest.mark.bench
# no HFTCL_: the suite removes those from its environment
MOST_TICKERS = int(os.environ.get("BENCH_TICKERS", "10000"))
MOST_DAYS = int(os.environ.get("BENCH_DAYS", "42"))
CALENDAR = Calendar("XNYS")


def serve_prepared(bodies: dict[str, bytes]) -> ThreadingHTTPServer:
    """Serve gzipped bodies by ticker, made before the clock runs: the stand-in's own time is not the product's."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = self.path.split("/")
            body = bodies.get(parts[4], b"") if "/aggs/" in self.path else bodies["splits"]
            self.send_response(200)
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def test_the_first_collection_of_twenty_tickers_and_sixty_days(tmp_path: Path) -> None:
    days = CALENDAR.list_sessions(date(2026, 1, 6), date(2026, 3, 6))["session"].to_list()
    tickers = [f"TK{chr(65 + n)}" for n in range(20)]
    bodies = {"splits": gzip.compress(b'{"results": [], "status": "OK"}')}
    bars = 0
    for ticker in tickers:
        rows = synthetic_bars(ticker, days)
        bars += len(rows)
        page = {"ticker": ticker, "resultsCount": len(rows), "adjusted": False, "results": rows, "status": "OK"}
        bodies[ticker] = gzip.compress(json.dumps(page).encode(), 1)
    server = serve_prepared(bodies)
    program = f"""
import time
from datetime import UTC, date, datetime
from pathlib import Path
from hftcl.market.sessions import Calendar
from hftcl.market.sources.polygon import PolygonSource
from hftcl.market.store import BarStore
from hftcl.settings import Paths, Polygon, Settings
import polygon as client  # a second of imports, the calendar's too, is not what is measured
home = Path({str(tmp_path)!r})
calendar = Calendar("XNYS")
calendar.list_sessions(date(2026, 1, 6), date(2026, 3, 6))
polygon = Polygon(base_url="http://127.0.0.1:{server.server_address[1]}", calls_per_minute=10_000)
began, before = time.perf_counter(), time.process_time()
source = PolygonSource(Settings(paths=Paths(home=str(home)), polygon=polygon), key="k")
store = BarStore(home / "bars", source, calendar)
got = store.collect(
    {tickers!r}, date(2026, 1, 6), date(2026, 3, 6), as_of=datetime(2026, 3, 7, 12, tzinfo=UTC),
    extended_hours=True, min_coverage=1.0,
)
print(got.bars.height, time.perf_counter() - began, time.process_time() - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    server.shutdown()
    server.server_close()
    height, took, cpu = done.stdout.split()
    assert int(height) == bars
    sys.stdout.write(
        f"\nfirst collection: {bars:,} bars in {float(took):.2f} s, {bars / float(took):,.0f} bars/s, "
        f"{float(cpu):.2f} s CPU, {bars / float(cpu):,.0f} bars a second of CPU\n"
    )


def write_market_day(path: Path, day: date, tickers: list[str], seed: int) -> int:
    """Write a day of the whole market as the vendor does: a few tickers trade each minute, most of them seldom."""
    chance = np.random.default_rng(seed)
    begin = int(datetime(day.year, day.month, day.day, 9, tzinfo=UTC).timestamp())  # the open is minute 330 of winter
    share = np.clip(chance.pareto(1.2, len(tickers)) * 0.04, 0.02, 0.95)
    share[:500] = 0.95
    there = chance.random((len(tickers), 960)) < share[:, None]
    nth, minute = np.nonzero(there)
    base = 20 + 200 * np.random.default_rng(0).random(len(tickers))  # of each ticker, the same every day
    close = np.round(base[nth] * (1 + 0.001 * chance.standard_normal(nth.size)), 2)
    frame = pl.DataFrame(
        {
            "ticker": pl.Series(np.arange(len(tickers)))[nth].replace_strict(dict(enumerate(tickers))),
            "volume": chance.integers(100, 90_000, nth.size) * np.where((minute >= 330) & (minute < 335), 20, 1),
            "open": close,
            "close": close,
            "high": close + 0.05,
            "low": close - 0.05,
            "window_start": (begin + minute * 60) * 1_000_000_000,
            "transactions": chance.integers(1, 900, nth.size),
        }
    )
    path.write_bytes(gzip.compress(frame.write_csv().encode(), 1))
    return frame.height


def test_the_flat_files_of_a_market_for_a_watchlist_of_five_hundred(tmp_path: Path) -> None:
    days = CALENDAR.list_sessions(date(2026, 1, 6), date(2026, 3, 9))["session"].to_list()
    days = days[:MOST_DAYS]
    letters = [chr(65 + n) for n in range(26)]
    tickers = [a + b + c for a in letters for b in letters for c in letters][:MOST_TICKERS]
    (tmp_path / "flat").mkdir()
    rows = sum(write_market_day(tmp_path / "flat" / f"{day}.csv.gz", day, tickers, n) for n, day in enumerate(days))
    program = f"""
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from hftcl.market.sessions import Calendar
from hftcl.market.sources.polygon_flat import FlatFilesSource
from hftcl.market.store import BarStore
from hftcl.settings import Paths, Polygon, Settings
home = Path({str(tmp_path)!r})
began = time.perf_counter()
source = FlatFilesSource(Settings(paths=Paths(home=str(home)), polygon=Polygon(flat_files=str(home / "flat"))))
last = date.fromisoformat("{days[-1]}")
got = BarStore(home / "bars", source, Calendar("XNYS")).collect(
    {tickers[:500]!r}, date.fromisoformat("{days[0]}"), last,
    as_of=datetime(last.year, last.month, last.day, tzinfo=UTC) + timedelta(days=2), extended_hours=False,
    min_coverage=0.5,
)
print(got.bars.height, time.perf_counter() - began, time.process_time())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    height, took, cpu = done.stdout.split()
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    size = sum(path.stat().st_size for path in (tmp_path / "flat").iterdir()) / 1e9
    sys.stdout.write(
        f"\nflat files: {len(days)} days, {rows:,} rows, {size:.2f} GB gzipped; {int(height):,} regular bars of "
        f"500 tickers in {float(took):.0f} s, {rows / float(took):,.0f} rows/s, {float(cpu):.0f} s CPU, "
        f"at most {peak:.2f} GB\n"
    )
    assert int(height) > 0
