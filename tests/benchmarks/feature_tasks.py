"""What features cost as tasks of a cluster: `python -m tests.benchmarks.feature_tasks`.

A window of 20 tickers and 60 days is assembled on this machine, and with the workers of a real cluster on it. Told are
the processor time that stays, what it takes to join, the bytes that travel, and from how many bars on tasks pay: where
they spare more than joining takes, on two cores and a network of 10 Gbit/s.
"""

import pickle
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import polars as pl

from hftcl.compute.cluster import ClusterEngine
from hftcl.events import ignore
from hftcl.learning.dataset import Window, open_window
from hftcl.settings import Compute, Market, Paths, Settings
from tests.benchmarks.test_retrain_cost import AS_OF
from tests.compute.processes import run_cluster

TICKERS: Final = tuple(f"T{number:03}" for number in range(20))
TURNS: Final = 3
SIZES: Final = (100, 500, 2000)
"""Watchlists that are told of: all grows with the tickers, for each is computed for itself."""
CORES: Final = 2
BITS: Final = 10e9
"""Of the network, a second."""


def main() -> None:
    """Measure, and print the table."""
    with TemporaryDirectory(prefix="hftcl-features-") as name, run_cluster(Path(name)) as cluster:
        settings = Settings(
            paths=Paths(home=f"{name}/home"),
            market=Market(watchlist=TICKERS),
            compute=Compute(backend="dask", scheduler=cluster.url, min_feature_bars=0),
        )
        here, expected = measure(lambda: open_read(settings), lambda window: window.assemble().frame)
        began = time.process_time()
        with Counting(settings) as engine:
            joining_s = time.process_time() - began
            there, found = measure(lambda: open_read(settings), lambda window: window.assemble(engine).frame)
            sent = engine.sent_bytes / TURNS
            engine.counts = True
            open_read(settings).assemble(engine)
    assert found.equals(expected)
    tell(expected.height, here, there, joining_s, sent + engine.back)


def open_read(settings: Settings) -> Window:
    """Return a window whose bars are read."""
    now = datetime(2026, 2, 1, tzinfo=UTC)
    window = open_window(settings, as_of=AS_OF, now=now, save=False, on_event=ignore)
    window.read_bars()
    return window


def measure(prepare: Callable[[], Window], compute: Callable[[Window], pl.DataFrame]) -> tuple[float, pl.DataFrame]:
    """Return the least processor time of this process in several turns, and what was computed."""
    spent = []
    for _ in range(TURNS):
        window = prepare()
        began = time.process_time()
        rows = compute(window)
        spent.append(time.process_time() - began)
    return min(spent), rows


class Counting(ClusterEngine):
    """Counts the bytes that come back, where it is told to: that takes processor time."""

    counts = False
    back = 0

    def fetch(self, future: Any, look: Callable[[], None]) -> Any:
        result = super().fetch(future, look)
        if self.counts:
            self.back += len(pickle.dumps(result))
        return result


def tell(bars: int, here_s: float, there_s: float, joining_s: float, travelling: float) -> None:
    """Print the table; bars: of all tickers of the run."""
    network_s = 8 * travelling / BITS
    for tickers in SIZES:
        more = tickers / len(TICKERS)
        sys.stdout.write(
            f"{tickers} tickers: {here_s * more:.1f} s of processor time here; as tasks {there_s * more:.1f} s of it "
            f"stay, and {travelling * more / 1e9:.2f} GB travel\n"
        )
    sys.stdout.write(f"joining takes {joining_s:.2f} s of processor time; {travelling / bars:.0f} bytes a bar travel\n")
    spared = (here_s / CORES - max(there_s, network_s)) / bars
    if spared > 0:
        sys.stdout.write(f"tasks pay from {joining_s / spared:,.0f} bars on\n")
    even = 8 * travelling / (here_s / CORES)
    sys.stdout.write(
        f"on {CORES} cores they never do below {even / 1e9:.1f} Gbit/s, nor on more than {here_s / there_s:.0f} cores\n"
    )


if __name__ == "__main__":
    main()
