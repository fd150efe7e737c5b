"""What a replay came to: what was decided, ordered, earned, and what a person would have been told."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Final

import numpy as np
import polars as pl

from hftcl.alerts import Alert, Kind
from hftcl.document import ShortForm
from hftcl.errors import BrokerError
from hftcl.ledger.account import SAME
from hftcl.ledger.writer import Ledger
from hftcl.market.sources import BarSource
from hftcl.strategy.positions import hash_positions
from hftcl.trading.decide.bot import CLEAR, Minute
from hftcl.trading.run.replay_window import ReplayWindow
from hftcl.trading.run.session_loop import Loop

_LAST_LOOKS: Final = 20  # in a storm one call in seven gets no answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a person would have been told by a live run: how often, and first when (UTC, of the bars)."""

    at: datetime
    kind: str
    subject: str
    text: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ReplayReport(ShortForm):
    """The values of `trade --replay`. P&L is net, a fraction of capital, by session; USD only where a name says so.

    unseen: whether none of the sessions, nor their embargo, was trained on; else what is earned here proves nothing.
    decisions, orders, fills: how many; orders are those that were sent. refusals: of orders, by code; codes: of
    decisions. positions_sha256: of the target positions, as in `exam`. latency_ms: from a minute's bars to its last
    order, p50 and p99. broker: "paper", "strict-paper" in a rehearsal, or one of a plug-in that replays. alerts:
    what a live run would have told. apart: shares by which the broker's positions differ from the ledger's at the end.
    """

    model_id: str
    from_: date
    to: date
    sessions: int
    tickers: tuple[str, ...]
    left_out: dict[str, str]
    source: str
    synthetic: bool
    unseen: bool
    edge: str | None
    decisions: int
    orders: int
    fills: int
    reloads: int
    pnl: float
    pnl_by_session: dict[str, float]
    positions_sha256: str
    latency_ms: dict[str, float | None]
    refusals: dict[str, int]
    codes: dict[str, int]
    capital: float
    halted: str | None
    broker: str
    alerts: tuple[Told, ...]
    apart: dict[str, float]
    seconds: float

    @property
    def shortfall(self) -> str | None:
        """Why this is not the replay that was asked for, and what to do; None where it is."""
        halts = [alert.text for alert in self.alerts if alert.kind == Kind.HALTED]
        if halts or self.halted:
            reason = (halts[0] if halts else str(self.halted)).removesuffix(f" {CLEAR}").rstrip(".")
            return f"The replay was halted, and opened nothing more: {reason}. Mend that, and replay again."
        if self.apart:
            shares = ", ".join(f"{ticker} {difference:+g}" for ticker, difference in self.apart.items())
            return (
                f"The replay ended with more shares at the broker {self.broker} than in its ledger: {shares}. "
                "Replay again; a broker that errs twice has a fault, which its author should see."
            )
        return None


@dataclass(slots=True)
class Tally:
    """What is counted while a replay runs. positions: a frame of ticker, ts, position for each session."""

    latencies: list[float] = field(default_factory=list)
    positions: list[pl.DataFrame] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)
    alerts: dict[tuple[str, str], Told] = field(default_factory=dict)

    def hear(self, alert: Alert) -> None:
        """Count an alert with those of the same subject."""
        key = str(alert.kind), alert.subject
        earlier_alert = self.alerts.get(key)
        self.alerts[key] = Told(
            at=earlier_alert.at if earlier_alert else alert.at,
            kind=str(alert.kind),
            subject=alert.subject,
            text=earlier_alert.text if earlier_alert else alert.text,
            count=earlier_alert.count + 1 if earlier_alert else 1,
        )

    def count_minute(self, done: Minute) -> None:
        """Count a minute in which something was decided."""
        if done.decided:
            self.latencies.append(1000.0 * done.latency_s)

    def count_session(self, ledger: Ledger, first: datetime, last: datetime) -> None:
        """Count what was decided on the minutes from `first` to `last`, UTC."""
        made = ledger.read_decisions("production", first, last)
        self.codes.update(made["code"].to_list())
        self.positions.append(made.select("ticker", "ts", pl.col("target").alias("position")).drop_nulls())


def build_report(
    loop: Loop, window: ReplayWindow, source: BarSource, tally: Tally, *, unseen: bool, seconds: float
) -> ReplayReport:
    """Return what `loop` did on the bars of `window`; `seconds`: how long it took."""
    ledger, capital = loop.ledger, loop.bot.production.desk.capital
    by_session = compute_pnl_by_session(ledger.read_equity(), window.days, capital)
    orders, in_use = ledger.read_orders(), loop.serving.in_use
    latches = ledger.read_latches()
    return ReplayReport(
        model_id=in_use.model_id if in_use else "",
        from_=window.days[0],
        to=window.days[-1],
        sessions=len(window.days),
        tickers=window.tickers,
        left_out=window.left_out,
        source=source.name,
        synthetic=source.synthetic,
        unseen=unseen,
        edge=loop.serving.edge,
        decisions=sum(tally.codes.values()),
        orders=orders.filter(pl.col("state") != "refused").height,
        fills=ledger.read_fills_by_order().height,
        reloads=loop.reloads,
        pnl=float(sum(by_session.values())),
        pnl_by_session=by_session,
        positions_sha256=hash_positions(pl.concat(tally.positions)),
        latency_ms=compute_percentiles(tally.latencies),
        refusals=ledger.count_refusals(),
        codes=dict(sorted(tally.codes.items())),
        capital=capital,
        halted="; ".join(f"{latch.name}: {latch.reason}" for latch in latches) or None,
        broker=loop.bot.production.desk.broker.name,
        alerts=tuple(tally.alerts.values()),
        apart=_list_differences(loop),
        seconds=seconds,
    )


def _list_differences(loop: Loop) -> dict[str, float]:
    """Return the shares by which the broker holds more than the ledger, without those of none."""
    broker, in_ledger = loop.bot.production.desk.broker, loop.ledger.read_positions()
    for _ in range(_LAST_LOOKS):
        try:
            at_broker = broker.account().positions
        except BrokerError:  # the weather of a rehearsal
            continue
        differences = {
            name: at_broker.get(name, 0.0) - in_ledger.get(name, 0.0)
            for name in sorted(in_ledger.keys() | at_broker.keys())
        }
        return {name: shares for name, shares in differences.items() if abs(shares) > SAME}
    raise BrokerError(f"The broker {broker.name} did not say what it holds at the end. Run it again with another seed.")


def compute_pnl_by_session(equity: pl.DataFrame, days: Sequence[date], capital: float) -> dict[str, float]:
    """Return what each session added to the equity, as a fraction of capital; 0.0 for one without a row."""
    last = dict(equity.group_by("session", maintain_order=True).agg(pl.col("equity").last()).iter_rows())
    pnl, before = {}, capital
    for day in days:
        after = last.get(day, before)
        pnl[day.isoformat()] = (after - before) / capital
        before = after
    return pnl


def compute_percentiles(values: Sequence[float]) -> dict[str, float | None]:
    """Return the median and the 99th percentile; None where there is no value."""
    if not values:
        return {"p50": None, "p99": None}
    p50, p99 = np.percentile(np.asarray(values), [50, 99])
    return {"p50": float(p50), "p99": float(p99)}
