"""A desk on a bench, with the strict account as its broker: a test says what is wished, and what the market does."""

import math
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from hftcl.alerts import Kind
from hftcl.ledger.rows import OrderRecord
from hftcl.ledger.writer import Ledger
from hftcl.settings import Settings
from hftcl.strategy.risk import Limits
from hftcl.trading.brokers import Broker
from hftcl.trading.brokers.strict import StrictPaper
from hftcl.trading.execute.desk import Desk
from hftcl.trading.execute.minute import FLATTEN, REBALANCE, DesiredPosition, MinuteContext
from tests.trading.trading_cases import MINUTE, OPEN, SESSION, at, bars

CAPITAL = 100_000.0


def strict_settings(**ours: object) -> Settings:
    """Return settings of a strict account in fair weather."""
    plain = Settings()
    return replace(plain, strict_paper=replace(plain.strict_paper, **{"weather": "fair", **ours}))  # type: ignore[arg-type]


@dataclass
class Bench:
    """One desk. told: what a person hears, as (kind, subject, text)."""

    ledger: Ledger
    broker: Broker
    tickers: tuple[str, ...] = ("AAPL", "AMD", "TSLA")
    fractional: bool = False
    hands_off: frozenset[str] = frozenset()
    told: list[tuple[Kind, str, str]] = field(default_factory=list)
    prices: dict[str, float] = field(default_factory=dict)
    halted: set[str] = field(default_factory=set)
    """Tickers that do not trade: no bars come, and what is sent waits for the reopening."""
    silent_for: dict[str, int] = field(default_factory=dict)
    desk: Desk = field(init=False)

    def __post_init__(self) -> None:
        self.prices = dict.fromkeys(self.tickers, 100.0) | self.prices
        self.desk = Desk(
            book="production",
            broker=self.broker,
            ledger=self.ledger,
            capital=CAPITAL,
            fractional=self.fractional,
            limits=Limits.from_settings(Settings().risk, capital=CAPITAL, tickers=len(self.tickers), flat_minutes=2),
            on_fault=lambda text, _: self.told.append((Kind.ERROR, "fault", text)),
            tell=lambda kind, subject, text, _: self.told.append((kind, subject, text)),
            hands_off=self.hands_off,
        )
        self.ledger.set_meta(capital=repr(CAPITAL))
        self.desk.open(SESSION, OPEN, self.prices)

    @property
    def account(self):  # type: ignore[no-untyped-def]
        """The account behind the broker."""
        assert isinstance(self.broker, StrictPaper)
        return self.broker.account_now

    @property
    def subjects(self) -> list[str]:
        return [subject for _, subject, _ in self.told]

    def context(self, minute: int, *, left: float = math.inf, now: datetime | None = None) -> MinuteContext:
        return MinuteContext(
            session=SESSION,
            minute=at(minute),
            now=now or at(minute + 1),
            prices=self.prices,
            ages={ticker: float(self.silent_for.get(ticker, 0)) for ticker in self.prices},
            minutes_to_close=left,
        )

    def minute(self, minute: int, wanted: dict[str, float] | None = None) -> tuple[OrderRecord, ...]:
        """Let a minute's bars trade, then lead positions to `wanted` shares; those not named stay unwished."""
        self.silent_for = {ticker: self.silent_for.get(ticker, 0) + 1 for ticker in self.halted}
        context = self.context(minute)
        equity = self.desk.book_minute(self.bars(minute), context, trades=True)
        desired_positions = {
            ticker: DesiredPosition(target=shares * self.prices[ticker] / CAPITAL, price=self.prices[ticker])
            for ticker, shares in (wanted or {}).items()
        }
        return self.desk.trade([], desired_positions, context, equity)

    def close_all(self, minute: int, purpose: str = REBALANCE) -> tuple[OrderRecord, ...]:
        """Close every position in a minute."""
        context = self.context(minute, left=2.0)
        equity = self.desk.book_minute(self.bars(minute), context, trades=True)
        desired_positions = {
            ticker: DesiredPosition(target=0.0, price=self.prices[ticker], purpose=purpose)
            for ticker in self.desk.list_touched()
        }
        return self.desk.trade([], desired_positions, context, equity)

    def bars(self, minute: int) -> pl.DataFrame:
        return bars(*((minute, ticker, price) for ticker, price in self.prices.items() if ticker not in self.halted))

    @property
    def apart(self) -> dict[str, tuple[float, float]]:
        """Tickers that ledger and broker hold otherwise."""
        ours, theirs = self.desk.positions, self.account.positions
        return {
            ticker: (ours.get(ticker, 0.0), theirs.get(ticker, 0.0))
            for ticker in ours.keys() | theirs.keys()
            if abs(ours.get(ticker, 0.0) - theirs.get(ticker, 0.0)) > 1e-6
        }


@contextmanager
def bench(
    folder: Path, *, fractional: bool = False, hands_off: frozenset[str] = frozenset(), tickers: int = 0, **ours: object
) -> Iterator[Bench]:
    """Return a desk whose broker is `strict-paper`; ours: settings of it."""
    names = tuple(f"T{n:03d}" for n in range(tickers)) or ("AAPL", "AMD", "TSLA")
    broker = StrictPaper(strict_settings(**ours), folder=folder, durable=False)
    broker.now = OPEN - timedelta(minutes=1)
    with closing(broker), Ledger(folder / "ledger.sqlite", durable=False) as ledger:
        ledger.set_meta(fills_cursor_production=(OPEN - timedelta(days=1)).isoformat())
        yield Bench(ledger, broker, tickers=names, fractional=fractional, hands_off=hands_off)


__all__ = ["CAPITAL", "FLATTEN", "MINUTE", "Bench", "bench", "strict_settings"]
