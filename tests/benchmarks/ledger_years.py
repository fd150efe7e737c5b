"""A year of a ledger of 500 tickers: python -m tests.benchmarks.ledger_years HOME build N, or start, status, report."""

import json
import resource
import sys
import time
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from hftcl.ledger.rows import CloseRow, Decision, EquityRow, FillOpen, FillRecord, OrderRecord
from hftcl.ledger.schema import DECIDED
from hftcl.ledger.writer import Ledger
from hftcl.market.sessions import Calendar
from hftcl.settings import Settings

TICKERS = tuple(f"T{number:03d}" for number in range(500))
MODEL = "20250102_020000"
MINUTE = timedelta(minutes=1)
WRITTEN = 2  # sessions whose decisions are written one by one; of the others the counts are


def build(path: Path, sessions: int) -> dict[str, float]:
    """Write the ledger at `path`: 4,000 fills a session, half of them closing the others."""
    table = Calendar("XNYS").list_sessions(date(2024, 12, 2), date(2025, 12, 2)).tail(sessions)
    rng = np.random.default_rng(3)
    figures: dict[str, float] = {}
    with Ledger(path, durable=False) as ledger:
        ledger.set_meta(capital="1000000.0", mode="paper", source="files", synthetic="0", cost_bps="1.0")
        for place, (day, opens) in enumerate(table.select("session", "open").iter_rows()):
            orders: list[OrderRecord] = []
            fills: list[FillRecord] = []
            at_open: datetime = opens
            for number, ticker in enumerate(TICKERS):
                for trade in range(4):
                    for leg, sign in ((0, 1.0), (1, -1.0)):
                        ts = opens + (10 + 90 * trade + 40 * leg + number % 30) * MINUTE
                        name = f"production-{ts:%Y%m%dT%H%M}-{ticker}"
                        price = 100.0 + float(rng.normal())
                        about: dict[str, Any] = {
                            "client_order_id": name,
                            "book": "production",
                            "ticker": ticker,
                            "model_id": MODEL,
                        }
                        orders.append(
                            OrderRecord(
                                **about, ts=ts, session=day, quantity=10 * sign, reference_price=price, state="filled",
                                broker_order_id=f"{name}-00000000", created_at=ts + MINUTE, updated_at=ts + 2 * MINUTE,
                            )
                        )  # fmt: skip
                        fills.append(
                            FillRecord(
                                **about, fill_id=f"{name}-1", ts=ts + MINUTE, quantity=10 * sign, price=price,
                                commission=0.0, reference_price=price, filled_at=ts + 2 * MINUTE,
                            )
                        )  # fmt: skip
            equity = [
                EquityRow(
                    book="production", ts=opens + minute * MINUTE, session=day, equity=1e6, cash=1e6, gross=0.0,
                    net=0.0, realised=0.0,
                )
                for minute in range(390)
            ]  # fmt: skip
            ledger.write_decisions([], orders)
            fills.sort(key=lambda fill: fill.ts)
            opens = [FillOpen(fill_id=fill.fill_id, open=fill.price) for fill in fills]
            ledger.write_outcomes(fills=fills, equity=equity, opens=opens)
            ledger.note_closes([CloseRow(session=day, ticker=t, ts=at_open, open=100.0, close=100.0) for t in TICKERS])
            ends = at_open + 390 * MINUTE
            if place < sessions - WRITTEN:
                count_only(ledger, at_open)
                ledger.archive(ends)  # the fills into a block, as at each close
            else:
                figures |= decide(ledger, at_open, ends, rng)
            ledger.write_snapshots(ends)
    return figures


def count_only(ledger: Ledger, opens: datetime) -> None:
    hours = [opens + 30 * MINUTE * half for half in range(13)]
    rows = {at.replace(minute=0): [] for at in hours}  # type: ignore[var-annotated]
    for at in hours:
        rows[at.replace(minute=0)].append(at)
    for hour, halves in rows.items():
        values = {
            "book": "production", "hour": int(hour.timestamp()) * 10**6, "model_id": MODEL, "code": "trade",
            "first": int(halves[0].timestamp()) * 10**6, "last": int((halves[-1] + 29 * MINUTE).timestamp()) * 10**6,
            "decisions": 30 * len(halves) * len(TICKERS),
        }  # fmt: skip
        ledger._db.execute(DECIDED.insert, values)


def decide(ledger: Ledger, opens: datetime, ends: datetime, rng: np.random.Generator) -> dict[str, float]:
    signals = np.zeros((15, len(TICKERS)))
    before = ledger.path.stat().st_size
    for minute in range(390):
        predictions = rng.normal(0, 1e-3, len(TICKERS)).astype(np.float32)
        signals = np.vstack([signals[1:], np.sign(predictions) * (np.abs(predictions) > 2e-3)])
        targets = signals.sum(axis=0) / 15 / len(TICKERS)
        ts = opens + minute * MINUTE
        ledger.write_decisions(
            [
                Decision(
                    book="production", ts=ts, ticker=ticker, model_id=MODEL, features_hash="f" * 16,
                    prediction=float(prediction), target=float(target),
                    code="trade" if rng.random() > 0.02 else "hold_no_bar",
                    decided_at=ts + timedelta(seconds=62.345678),
                )
                for ticker, prediction, target in zip(TICKERS, predictions, targets, strict=True)
            ]
        )  # fmt: skip
    journal = ledger.path.stat().st_size + ledger.path.with_name("ledger.sqlite-wal").stat().st_size - before
    began = time.perf_counter()
    moved = ledger.archive(ends)
    files = sum(file.stat().st_size for file in (ledger.path.parent / "decisions").iterdir())
    return {"archive_s": time.perf_counter() - began, "journal_bytes": journal, "archived": moved, "files_bytes": files}


def main(home: Path, what: str) -> None:
    began = time.perf_counter()
    path, figures = home / "ledger.sqlite", {}
    if what == "build":
        figures = build(path, int(sys.argv[3]))
    elif what == "start":
        with Ledger(path) as ledger:
            figures = {"positions": len(ledger.read_positions()), "cash": ledger.read_cash()}
    elif what == "status":
        from hftcl.home import Home
        from hftcl.trading.run.status import read_status_at

        figures = {"equity": read_status_at(Home.live(home)).equity or 0.0}
    else:
        from hftcl.performance.story import measure_performance

        settings = replace(Settings(), paths=replace(Settings().paths, home=str(home)))
        since = date.fromisoformat(sys.argv[3]) if len(sys.argv) > 3 else None
        figures = {"fills": measure_performance(settings, since=since).total.fills}
    took, usage = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    cpu = usage.ru_utime + usage.ru_stime
    print(json.dumps({"what": what, "s": took, "cpu_s": cpu, "mb": usage.ru_maxrss / 1e3, **figures}))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
