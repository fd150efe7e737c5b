"""What features would cost as tasks of a cluster: `python -m tests.benchmarks.feature_tasks`.

Blocks of five tickers go to a worker and come back with features and target. Told are the processor time that this
machine would save, the bytes that travel for it, and the speed of a network on which that takes no longer than the work
does here. In favour of tasks: what the second look at the tickers needs of the first, 64 bytes a minute, is left out.
"""

import sys
import time
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import polars as pl

from hftcl.compute import Bench, Rows, Table, Task, Wanted
from hftcl.compute.cluster import ClusterEngine
from hftcl.events import ignore
from hftcl.learning.dataset import open_window
from hftcl.model.training import TrainingPool
from hftcl.settings import Compute, Market, Paths, Settings
from tests.benchmarks.test_retrain_cost import AS_OF
from tests.compute.orders import compute_features
from tests.compute.processes import run_cluster

TICKERS: Final = tuple(f"T{number:03}" for number in range(20))
BLOCK: Final = 5
"""Tickers of a task: as many as hftcl computes at a time."""
SIZES: Final = (500, 2000)
"""Watchlists that are told of: all grows with the tickers, for each is computed for itself."""
CORES: Final = 2


def main() -> None:
    """Measure, and print the table."""
    with TemporaryDirectory(prefix="hftcl-features-") as name:
        folder = Path(name)
        settings = Settings(paths=Paths(home=str(folder / "home")), market=Market(watchlist=TICKERS))
        now = datetime(2026, 2, 1, tzinfo=UTC)
        window = open_window(settings, as_of=AS_OF, now=now, save=False, on_event=ignore)
        bars, since = window.read_bars().bars, window.list_days()[0]
        blocks = [
            bars.filter(pl.col("ticker").is_in(TICKERS[begin : begin + BLOCK]))
            for begin in range(0, len(TICKERS), BLOCK)
        ]
        bench = Bench(pool=TrainingPool(), jobs=1, on_event=ignore)  # neither trains nor tells
        compute_features(blocks[0], since, bench)  # not counted: what the first call loads
        began = time.process_time()
        here = [compute_features(block, since, bench) for block in blocks]
        here_s = time.process_time() - began
        back = sum(column.nbytes for block in here for column in block.values())
        there_s, sent = send_blocks(blocks, since, folder, here)
    for tickers in SIZES:
        tell(tickers, here_s / len(TICKERS), there_s / len(TICKERS), (sent + back) / len(TICKERS))


def send_blocks(blocks: list[pl.DataFrame], since: date, folder: Path, here: list[dict[str, Any]]) -> tuple[float, int]:
    """Return the processor time of this process while workers compute all blocks, and the bytes of bars it sent."""
    engine: Any
    with run_cluster(folder) as cluster:
        settings = Settings(compute=Compute(backend="dask", scheduler=cluster.url))
        with ClusterEngine(settings) as engine:
            team = engine.gather(Wanted(rows_bytes=0, stage="features"))
            tasks = [
                Task(
                    name=f"features {number}",
                    function=compute_features,
                    rows=Rows(table=Table(partial(pl.DataFrame, block))),
                    order=since,
                )
                for number, block in enumerate(blocks)
            ]
            list(team.run(tasks[:1]))  # not counted: what the first one loads
            before, began = engine.sent_bytes, time.process_time()
            there = dict(team.run([*tasks[1:], tasks[0]]))
            spent, sent = time.process_time() - began, engine.sent_bytes
    for number, block in there.items():
        wanted = here[(number + 1) % len(here)]
        assert all(np.array_equal(block[name], wanted[name], equal_nan=True) for name in wanted)
    assert before < sent
    return spent, sent


def tell(tickers: int, here_s: float, there_s: float, travelling: float) -> None:
    """Print a line; all but `tickers` of one of them."""
    bits = 8 * travelling / (here_s / CORES)
    sys.stdout.write(
        f"{tickers} tickers: {here_s * tickers:.0f} s of processor time here; as tasks {there_s * tickers:.0f} s of it "
        f"stay, and {travelling * tickers / 1e9:.1f} GB travel, which takes longer than {CORES} cores here do below "
        f"{bits / 1e9:.1f} Gbit/s\n"
    )


if __name__ == "__main__":
    main()
