"""Features and target of a few tickers each, as tasks of a cluster: what needs no other ticker.

What the others are needed for, a twentieth of the work, is computed on this machine, of what came back.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import polars as pl

from hftcl.compute import Bench, Engine, Rows, Table, Task, Wanted
from hftcl.events import Event, OnEvent
from hftcl.model.by_ticker import LOOKS, FirstLook, LookOrder, look_alone, name_tickers
from hftcl.model.feature import Feature, list_columns
from hftcl.settings import Settings

STAGE: Final = "features"  # the name by which a view shows progress
_READ: Final = ("ticker", "ts", "session", "minute", "open", "high", "low", "close", "volume")  # by every grid


def spreads_features(settings: Settings, table: Sequence[Feature], bars: int) -> bool:
    """Whether a cluster computes the features of so many bars of the window.

    One that is named: one of this machine has the same cores. Not where one of `table` is the user's: its code stays on
    this machine, and to compute it alone takes the same minutes as to compute all.
    """
    compute = settings.compute
    own = any(one.source for one in table)
    return compute.names_cluster and not own and bars >= compute.min_feature_bars


def compute_block(bars: pl.DataFrame, order: LookOrder, bench: Bench) -> FirstLook:
    """Return what needs no other ticker than those of `bars`. Raises as `look_alone`."""
    bench.require_going()
    return look_alone(bars, order)


@dataclass(frozen=True, slots=True)
class ClusterLooks:
    """Looks at blocks of bars on the cluster of `engine`, as `by_ticker.LookElsewhere` says."""

    engine: Engine
    on_event: OnEvent = field(repr=False)

    def __call__(self, blocks: Sequence[pl.DataFrame], order: LookOrder) -> Iterator[tuple[int, FirstLook]]:
        """Yield them as they come back: a few blocks, and what they came to, are on their way at the same time.

        Raises ComputeError where the cluster cannot go on.
        """
        done = 0

        def hear(_: int, event: Event) -> None:
            self.on_event(Event(STAGE, done, LOOKS * len(blocks), event.text))

        wanted = Wanted(rows_bytes=0, stage=STAGE, tasks=len(blocks), streams=True)
        tasks = (_build_task(bars, order) for bars in blocks)  # one after the other: with its task a block is let go
        for number, look in self.engine.gather(wanted).run(tasks, hear):
            done += 1
            yield number, look


def _build_task(bars: pl.DataFrame, order: LookOrder) -> Task[FirstLook]:
    read = bars.select(*_READ, *list_columns(order.table))
    return Task(
        name=f"the features of {name_tickers(bars)}",
        function=compute_block,
        rows=Rows(table=Table(lambda: read)),
        order=order,
    )
