"""What the tracker found, as frozen values: the document of `report --json`, and what every view of it draws.

Names ending in `_usd` are US dollars; `pnl` and the others without a unit are fractions of the constant capital, so
that sessions add up. What is not defined is None.
"""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from hftcl.document import ShortForm

TRADES_SHOWN: Final = 200  # chosen: as many as a person looks through; all trades are in the ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a book made over its sessions, oldest to newest.

    gross_usd: had each fill been at the reference price of its decision. commission_usd + slippage_usd is what trading
    took. hit_rate: share of the trades that ended with a P&L above 0. profit_factor: what the winners made / what the
    losers lost. turnover: money moved / capital. exposure: mean gross position, over the minutes that the bot recorded.
    cost_bps: what was paid per unit of turnover; break_even_bps: what could have been paid at a P&L of 0.
    """

    sessions: int
    sharpe: float | None
    sharpe_interval: tuple[float, float] | None
    psr: float | None
    net_usd: float
    pnl: float
    gross_usd: float
    commission_usd: float
    slippage_usd: float
    fill_cost_usd: float | None
    """Of the slippage what was paid beyond the opens of the bars, where these are known; None where no fill has one."""
    timing_usd: float | None
    """Of the slippage what lies between the decision's reference price and these opens; None likewise."""
    charges_usd: float
    """Fees, borrow, dividends and interest, as the broker told them: + into the account; in the net."""
    max_drawdown: float
    trades: int
    hit_rate: float | None
    profit_factor: float | None
    fills: int
    turnover: float
    exposure: float | None
    cost_bps: float | None
    break_even_bps: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFigures:
    """One model: what it made live, beside what its exam had said. Its sessions are those in which it decided."""

    model_id: str
    from_: date
    to: date
    live: Figures
    exam_sharpe: float | None
    exam_interval: tuple[float, float] | None
    exam_from: date | None
    exam_to: date | None
    exam_sessions: int | None
    in_use: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFigures:
    """A part of the P&L: a ticker, a weekday, an hour of the session. Each kind of part adds up to the whole."""

    name: str
    net_usd: float
    pnl: float
    turnover: float
    trades: int
    hit_rate: float | None
    profit_factor: float | None
    cost_bps: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CellFigures:
    """One weekday's hour. hour: place of the hour of the session, from 0; -1 where it was held from the day before.

    clock: the same by the clock of the exchange, "15:30-16:00", or "overnight".
    """

    weekday: str
    hour: int
    clock: str
    net_usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkFigures:
    """Equal amounts of the watchlist, bought at the first open and held; `difference` is Sharpe of the bot less its.

    equal_risk_share: of the capital so held, the rest in cash or borrowed, it would have had the bot's volatility;
    equal_risk_pnl: what that would have made. None where one of the two never moved.
    """

    tickers: tuple[str, ...]
    sharpe: float | None
    sharpe_interval: tuple[float, float] | None
    pnl: float
    max_drawdown: float
    difference: float | None
    difference_interval: tuple[float, float] | None
    pnl_by_session: dict[str, float]
    note: str
    equal_risk_share: float | None
    equal_risk_pnl: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Swap:
    """From which minute on another model decided; the first entry is the model that the span begins with."""

    ts: datetime
    session: date
    model_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """Equity less capital at the end of a minute, as the ledger holds it."""

    ts: datetime
    session: date
    pnl: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RollingPoint:
    """Sharpe ratio over the sessions that end with `session`."""

    session: date
    sharpe: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeRow:
    """One trade: from flat, or from the other side, until flat or the other side. Times UTC; quantity < 0: short."""

    ticker: str
    model_id: str
    opened: datetime
    closed: datetime
    quantity: float
    entry: float
    exit: float
    net_usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeBin:
    """How many trades ended with a P&L from `low_usd` up to `high_usd`; one of exactly 0 is neither gain nor loss."""

    low_usd: float
    high_usd: float
    trades: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionBin:
    """How many sessions ended with a P&L from `low` up to `high`, fractions of capital."""

    low: float
    high: float
    sessions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawdown:
    """A fall of the cumulative P&L. from_: the first session below the highest point; to: that reached it again."""

    depth: float
    from_: date
    lowest: date
    to: date | None
    sessions: int
    """From `from_` up to the one before `to`, or to the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskFigures:
    """What days and falls were like, net; fractions of capital unless named otherwise.

    cagr: a year's growth, were profits reinvested. volatility, sortino: annual. calmar: cagr / the deepest drawdown.
    var: what one session in twenty falls below; cvar: the mean of those; None of fewer than twenty sessions.
    """

    cagr: float | None
    volatility: float | None
    sortino: float | None
    calmar: float | None
    var: float | None
    cvar: float | None
    best: float | None
    best_session: date | None
    worst: float | None
    worst_session: date | None
    average_win_usd: float | None
    average_loss_usd: float | None
    drawdowns: tuple[Drawdown, ...]
    """The five deepest, the deepest first."""
    session_bins: tuple[SessionBin, ...]
    """With 0 as an edge; those that made exactly 0, as without a trade, are in none."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PerformanceReport(ShortForm):
    """What was traded, net of everything, and whose work it was. `ledger`: "live", "paper" or "replay".

    trades: the newest, at most 200 unless all are asked for, newest first; trade_bins count all that made or lost
    something. notes: what a reader should know before the figures are believed.
    """

    ledger: str
    source: str
    synthetic: bool
    capital_usd: float
    as_of: datetime
    from_: date
    to: date
    total: Figures
    assumed_cost_bps: float
    shadow: Figures | None
    benchmark: BenchmarkFigures | None
    risk: RiskFigures
    models: tuple[ModelFigures, ...]
    tickers: tuple[PartFigures, ...]
    weekdays: tuple[PartFigures, ...]
    hours: tuple[PartFigures, ...]
    cells: tuple[CellFigures, ...]
    months: dict[str, float]
    pnl_by_session: dict[str, float]
    rolling_sessions: int
    rolling: tuple[RollingPoint, ...]
    swaps: tuple[Swap, ...]
    curve: tuple[CurvePoint, ...]
    trades: tuple[TradeRow, ...]
    trade_bins: tuple[TradeBin, ...]
    held: dict[str, float]
    notes: tuple[str, ...]

    @property
    def model_id(self) -> str | None:
        """The model in use at the end of the span."""
        return self.swaps[-1].model_id if self.swaps else None
