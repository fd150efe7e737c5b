"""What a bot did between its start and its end."""

import logging
from dataclasses import dataclass
from datetime import datetime

from hftcl.ledger.writer import Ledger
from hftcl.trading.brokers import Broker
from hftcl.trading.decide.bot import Minute
from hftcl.trading.run.session_loop import Loop

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeReport:
    """What a bot did between its start and its end; counts are of this run. Times UTC."""

    mode: str
    model_id: str | None
    started_at: datetime
    stopped_at: datetime
    decisions: int
    orders: int
    reloads: int
    positions: dict[str, float]
    equity: float
    halted: str | None
    note: str


@dataclass(slots=True)
class MinuteCount:
    """What the minutes of a run came to."""

    minutes: int = 0
    decisions: int = 0
    orders: int = 0

    def add(self, done: Minute) -> None:
        """Count a minute, and write its line of the log."""
        self.minutes += 1
        self.decisions += done.decided
        self.orders += done.ordered
        log.info(
            "decided minute=%s decisions=%d orders=%d latency_ms=%.1f",
            done.minute.isoformat(),
            done.decided,
            done.ordered,
            1000 * done.latency_s,
        )


def build_report(loop: Loop, count: MinuteCount, note: str) -> TradeReport:
    """Return what `loop` did; `note`: why it ended, for a person."""
    ledger, desk = loop.ledger, loop.bot.production.desk
    meta, row = ledger.open_meta(), ledger.read_last_equity()
    latches = ledger.read_latches()
    return TradeReport(
        mode=meta["mode"],
        model_id=meta.get("model_id"),
        started_at=meta.read_moment("started_at") or loop.clock.now(),
        stopped_at=loop.clock.now(),
        decisions=count.decisions,
        orders=count.orders,
        reloads=loop.reloads,
        positions=dict(desk.positions),
        equity=float(row["equity"][0]) if row.height else desk.capital,
        halted="; ".join(f"{latch.name}: {latch.reason}" for latch in latches) or None,
        note=note,
    )


def report_no_begin(ledger: Ledger, broker: Broker, now: datetime) -> TradeReport:
    """Return the report of a run that was stopped before the broker answered."""
    return TradeReport(
        mode="live" if broker.live_money else "paper",
        model_id=None,
        started_at=now,
        stopped_at=now,
        decisions=0,
        orders=0,
        reloads=0,
        positions=dict(ledger.read_positions()),
        equity=0.0,
        halted="; ".join(f"{latch.name}: {latch.reason}" for latch in ledger.read_latches()) or None,
        note=f"Stopped as asked, before the broker {broker.name} answered.",
    )
