"""A ledger as a bot leaves it, built through the bot's own writer: a few tickers, two models, half-hourly trades."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np

from hftcl.ledger.rows import BookName, CloseRow, Decision, EquityRow, FillRecord
from hftcl.ledger.writer import Ledger
from hftcl.market.sessions import Calendar

CAPITAL = 100_000.0
MODELS = ("20250531_010000", "20250613_010000")
MINUTE = timedelta(minutes=1)


@dataclass
class World:
    """What was written: the fills, and what the account was worth at each session's end."""

    fills: list[FillRecord] = field(default_factory=list)
    equity: dict[date, float] = field(default_factory=dict)
    swapped: list[tuple[datetime, str]] = field(default_factory=list)

    @property
    def net(self) -> dict[date, float]:
        """P&L of each session in USD, as the account's worth changed."""
        ends = [CAPITAL, *self.equity.values()]
        return {day: end - before for day, before, end in zip(self.equity, ends, ends[1:], strict=False)}


def sessions(first: date, last: date) -> list[tuple[date, datetime]]:
    """Return the sessions of New York with their opens, UTC."""
    table = Calendar("XNYS").list_sessions(first, last)
    return list(table.select("session", "open").iter_rows())


def write_ledger(
    path: Path,
    *,
    first: date = date(2025, 6, 2),
    last: date = date(2025, 6, 30),
    tickers: tuple[str, ...] = ("AAPL", "AMD", "TSLA"),
    model: str = MODELS[0],
    swaps: Mapping[date, str] | None = None,
    drift: float = 0.0004,
    meta: Mapping[str, str] | None = None,
    seed: int = 5,
    book: BookName = "production",
) -> World:
    """Write a ledger at `path`; a day of `swaps` brings another model at noon. drift: what a half hour's bet earns."""
    rng = np.random.default_rng(seed)
    days = sessions(first, last)
    due = {days[len(days) // 2][0]: MODELS[1]} if swaps is None else dict(swaps)
    world, cash = World(), CAPITAL
    price = {ticker: 50.0 * (1 + place) for place, ticker in enumerate(tickers)}
    held = dict.fromkeys(tickers, 0.0)
    world.swapped.append((days[0][1], model))
    with Ledger(path, durable=False) as ledger:
        about = {"capital": str(CAPITAL), "mode": "paper", "source": "files", "synthetic": "0", "cost_bps": "1.0"}
        ledger.set_meta(**{**about, **(meta or {})})
        for day, opens in days:
            opened, rows, fills, equity = dict(price), [], [], []
            for half in range(13):
                ts = opens + 30 * half * MINUTE
                if half == 5 and day in due:
                    model = due[day]
                    world.swapped.append((ts, model))
                for ticker in tickers:
                    side = 0.0 if half == 12 else float(rng.integers(-1, 2))
                    rows.append(
                        Decision(
                            book=book,
                            ts=ts,
                            ticker=ticker,
                            model_id=model,
                            features_hash="f" * 16,
                            prediction=side,
                            target=side / len(tickers),
                            code="TRADE",
                            decided_at=ts + MINUTE,
                        )
                    )
                    wanted = round(side * CAPITAL / len(tickers) / price[ticker])
                    quantity = wanted - held[ticker]
                    reference, price[ticker] = price[ticker], price[ticker] * float(np.exp(rng.normal(0, 0.0005)))
                    if quantity:
                        paid = price[ticker] * (1 + np.sign(quantity) * 1e-4)
                        fill = FillRecord(
                            fill_id=f"{book}-{ts:%Y%m%dT%H%M}-{ticker}",
                            client_order_id=f"{book}-{ts:%Y%m%dT%H%M}-{ticker}",
                            book=book,
                            ts=ts + MINUTE,
                            ticker=ticker,
                            model_id=model,
                            quantity=quantity,
                            price=float(paid),
                            commission=round(abs(quantity) * 0.001, 4),
                            reference_price=reference,
                            filled_at=ts + 2 * MINUTE,
                        )
                        fills.append(fill)
                        cash -= quantity * fill.price + fill.commission
                        held[ticker] = wanted
                for ticker in tickers:
                    price[ticker] *= float(np.exp(rng.normal(drift * np.sign(held[ticker]), 0.002)))
                gross = sum(abs(held[ticker]) * price[ticker] for ticker in tickers)
                net = sum(held[ticker] * price[ticker] for ticker in tickers)
                equity.append(
                    EquityRow(
                        book=book, ts=ts, session=day, equity=cash + net, cash=cash, gross=gross, net=net, realised=0.0
                    )
                )
            ledger.write_decisions(rows)
            ledger.write_outcomes(fills=fills, equity=equity)
            ledger.note_closes(
                [CloseRow(session=day, ticker=t, ts=opens, open=opened[t], close=price[t]) for t in tickers]
            )
            world.fills += fills
            world.equity[day] = cash
    return world
