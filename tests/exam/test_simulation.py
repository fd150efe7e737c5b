"""What positions earn on bars."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftcl.errors import NoDataError, UndefinedStatisticError
from hftcl.exam.simulation import Simulation, compute_accounts, list_trades, simulate

MONDAY = date(2026, 1, 5)


@dataclass(frozen=True)
class Bar:
    """One bar with what is decided on it."""

    ticker: str
    day: int
    minute: int
    open: float
    close: float
    position: float

    @property
    def ts(self) -> datetime:
        return datetime(2026, 1, 5, 14, 30, tzinfo=UTC) + timedelta(days=self.day, minutes=self.minute)


def frames(bars: list[Bar]) -> tuple[pl.DataFrame, pl.DataFrame]:
    keys = {"ticker": [b.ticker for b in bars], "ts": pl.Series([b.ts for b in bars], dtype=pl.Datetime("us", "UTC"))}
    prices = {
        "session": [b.ts.date() for b in bars],
        "open": [b.open for b in bars],
        "close": [b.close for b in bars],
    }
    positions = {"position": pl.Series([b.position for b in bars], dtype=pl.Float64)}
    return pl.DataFrame({**keys, **prices}), pl.DataFrame({**keys, **positions})


def run(bars: list[Bar], cost_bps: float = 1.0) -> Simulation:
    prices, positions = frames(bars)
    return simulate(prices, positions, cost_bps=cost_bps)


def session(
    opens: list[float], last_close: float, positions: list[float], *, day: int = 0, ticker: str = "A"
) -> list[Bar]:
    closes = [*opens[1:], last_close]
    return [Bar(ticker, day, m, o, c, p) for m, (o, c, p) in enumerate(zip(opens, closes, positions, strict=True))]


def cash_and_shares(bars: list[Bar], cost_bps: float) -> dict[date, float]:
    """Return net P&L per session from a cash account, bar by bar: a second implementation, in shares and not returns.

    The target is a share of a capital of 1 at every fill; what the price moved is settled there, free of charge, and
    commission is paid on the change of the target.
    """
    result: dict[date, float] = {}
    for ticker, day in sorted({(b.ticker, b.day) for b in bars}):
        own = sorted((b for b in bars if (b.ticker, b.day) == (ticker, day)), key=lambda b: b.minute)
        cash, shares, target, ordered = 0.0, 0.0, 0.0, None
        for bar in own:
            if ordered is not None:
                cash -= (ordered / bar.open - shares) * bar.open
                cash -= abs(ordered - target) * cost_bps / 10_000
                shares, target = ordered / bar.open, ordered
            ordered = bar.position
        cash += shares * own[-1].close - abs(target) * cost_bps / 10_000
        result[own[0].ts.date()] = result.get(own[0].ts.date(), 0.0) + cash
    return result


prices = st.floats(50, 150)
targets = st.sampled_from([0.0, 0.0, 0.5, -0.5, 0.25, 0.1])


@st.composite
def markets(draw: st.DrawFn) -> list[Bar]:
    bars = []
    for ticker in ("A", "B"):
        for day in range(2):
            minutes = sorted(draw(st.sets(st.integers(0, 12), min_size=1, max_size=10)))
            bars += [Bar(ticker, day, m, draw(prices), draw(prices), draw(targets)) for m in minutes]
    return bars


def test_a_session_worked_by_hand() -> None:
    bars = session([100.0, 110.0, 99.0, 99.0], 108.9, [0.5, 0.5, -0.25, 1.0])
    # +0.5 fills at 110 and falls to 99: 0.5 * -0.1; stays, 99 to 99: 0; -0.25 fills at the last open, 99 to 108.9:
    # -0.25 * 0.1; the order of the last bar never fills. Turnover 0.5 + 0 + 0.75 + 0.25 at the close = 1.5
    found = run(bars, cost_bps=10.0)
    assert found.gross.tolist() == pytest.approx([-0.05 - 0.025])
    assert found.turnover.tolist() == pytest.approx([1.5])
    assert found.net.tolist() == pytest.approx([-0.075 - 0.0015])
    assert (found.trades, found.wins, found.hit_rate) == (2, 0, 0.0)
    assert found.max_drawdown == pytest.approx(0.0765)
    assert found.exposure == pytest.approx((0 + 0.5 + 0.5 + 0.25) / 4)
    assert found.pnl_by_session == {"2026-01-05": pytest.approx(-0.0765)}


def test_a_decision_earns_nothing_of_its_own_bar_nor_of_the_gap_to_the_next_open() -> None:
    bars = [Bar("A", 0, 0, 100, 200, 1.0), Bar("A", 0, 1, 300, 300, 0.0), Bar("A", 0, 2, 300, 300, 0.0)]
    assert run(bars, cost_bps=0.0).net.tolist() == [0.0]


def test_nothing_is_held_over_night() -> None:
    bars = session([100.0, 100.0], 100.0, [1.0, 1.0]) + session([200.0, 200.0], 200.0, [0.0, 0.0], day=1)
    found = run(bars, cost_bps=10.0)
    assert found.net.tolist() == pytest.approx([-0.002, 0.0])
    assert found.trades == 1


def test_a_position_whose_later_bars_are_missing_is_closed_at_the_last_close_with_cost() -> None:
    bars = session([100.0, 100.0], 105.0, [1.0, 1.0])  # trading halts in the second minute of the day
    assert run(bars, cost_bps=10.0).net.tolist() == pytest.approx([0.05 - 0.001 - 0.001])


def test_a_minute_without_a_bar_is_held_through() -> None:
    bars = [Bar("A", 0, 0, 100, 100, 1.0), Bar("A", 0, 1, 100, 100, 0.0), Bar("A", 0, 9, 120, 120, 0.0)]
    found = run(bars, cost_bps=0.0)
    assert found.net.tolist() == pytest.approx([0.2])
    assert found.exposure == pytest.approx(8 / 10)


def test_a_session_without_a_trade_or_without_a_bar_counts_as_zero() -> None:
    prices, positions = frames(session([100.0, 100.0], 105.0, [0.0, 0.0], day=1))
    days = (MONDAY, MONDAY + timedelta(days=1), MONDAY + timedelta(days=2))
    found = simulate(prices, positions, cost_bps=1.0, sessions=days)
    assert found.pnl_by_session == {"2026-01-05": 0.0, "2026-01-06": 0.0, "2026-01-07": 0.0}
    assert (found.trades, found.hit_rate, found.exposure, found.max_drawdown) == (0, None, 0.0, 0.0)


def test_an_exam_of_no_sessions_is_an_empty_result_and_not_an_error() -> None:
    prices, positions = frames([])
    found = simulate(prices.with_columns(pl.col("session").cast(pl.Date)), positions, cost_bps=1.0, sessions=())
    assert (found.sessions, found.net.tolist(), found.pnl_by_session) == ((), [], {})
    assert (found.trades, found.hit_rate, found.exposure, found.max_drawdown) == (0, None, 0.0, 0.0)


def test_one_bar_a_session_trades_nothing() -> None:
    assert run([Bar("A", 0, 0, 100, 120, 1.0)]).net.tolist() == [0.0]


def test_a_turn_from_long_to_short_is_two_trades_each_with_its_own_cost() -> None:
    bars = session([100.0, 100.0, 101.0, 100.0], 100.0, [1.0, -1.0, 0.0, 0.0])
    # +1 earns 1 %, -1 earns 100 / 101: both win at 10 bps a side, and the long one loses at 60
    assert (run(bars, 10.0).trades, run(bars, 10.0).wins) == (2, 2)
    assert (run(bars, 49.75).wins, run(bars, 60.0).wins) == (1, 0)


@settings(max_examples=80)
@given(bars=markets(), cost_bps=st.sampled_from([0.0, 1.0, 250.0]))
def test_cash_and_shares_agree_with_returns(bars: list[Bar], cost_bps: float) -> None:
    found = run(bars, cost_bps)
    expected = cash_and_shares(bars, cost_bps)
    assert found.sessions == tuple(sorted(expected))
    assert found.net.tolist() == pytest.approx([expected[day] for day in found.sessions], abs=1e-12)


@settings(max_examples=30)
@given(bars=markets(), cost_bps=st.sampled_from([0.0, 1.0, 250.0]), seed=st.integers(0, 9))
def test_every_way_of_adding_up_gives_the_same_net(bars: list[Bar], cost_bps: float, seed: int) -> None:
    prices, positions = frames(bars)
    found = simulate(prices, positions, cost_bps=cost_bps)
    rows = compute_accounts(prices, positions, cost_bps=cost_bps)
    assert (found.gross - found.cost).tolist() == found.net.tolist()
    assert found.cost.sum() == pytest.approx(rows["cost"].sum(), abs=1e-12)
    assert sum(one.net for one in found.tickers) == pytest.approx(found.net.sum(), abs=1e-12)
    assert sum(one.trades for one in found.tickers) == found.trades
    assert found.wins <= found.trades
    shuffled = simulate(prices.sample(fraction=1.0, shuffle=True, seed=seed), positions.reverse(), cost_bps=cost_bps)
    assert shuffled.net.tolist() == found.net.tolist()  # to the bit


@settings(max_examples=40)
@given(bars=markets(), cost_bps=st.sampled_from([0.0, 1.0, 250.0]))
def test_the_trades_add_up_to_the_net(bars: list[Bar], cost_bps: float) -> None:
    prices, positions = frames(bars)
    trades = list_trades(compute_accounts(prices, positions, cost_bps=cost_bps), cost_bps)
    assert trades["net"].sum() == pytest.approx(run(bars, cost_bps).net.sum(), abs=1e-12)


def test_a_bar_without_a_decision_is_an_error_and_a_decision_without_a_bar_is_not() -> None:
    bars = session([100.0, 101.0, 102.0], 103.0, [0.5, 0.5, 0.5])
    prices, positions = frames(bars)
    with pytest.raises(NoDataError, match="2 of 3 bars have one target position; the first A at 2026-01-05 14:31"):
        simulate(prices, positions.filter(pl.col("ts") != bars[1].ts), cost_bps=1.0)
    assert simulate(prices.head(2), positions, cost_bps=1.0).turnover.tolist() == pytest.approx([1.0])


def test_two_decisions_for_one_bar_are_an_error() -> None:
    prices, positions = frames(session([100.0, 101.0], 103.0, [0.5, 0.5]))
    with pytest.raises(NoDataError, match="several for one bar"):
        simulate(prices, pl.concat([positions, positions.head(1)]), cost_bps=1.0)


def test_bars_of_another_session_are_an_error() -> None:
    prices, positions = frames(session([100.0, 101.0], 103.0, [0.5, 0.5]))
    with pytest.raises(NoDataError, match="2 bars of 2026-01-05"):
        simulate(prices, positions, cost_bps=1.0, sessions=[MONDAY + timedelta(days=1)])
    with pytest.raises(NoDataError, match="no bars"):
        simulate(prices.clear(), positions, cost_bps=1.0)
    with pytest.raises(NoDataError, match="2 bars of 2026-01-05"):
        simulate(prices, positions, cost_bps=1.0, sessions=[])


@pytest.mark.parametrize("position", [float("nan"), float("inf")])
def test_a_position_that_is_not_finite_is_an_error(position: float) -> None:
    with pytest.raises(UndefinedStatisticError, match="1 positions are not finite, the first of A"):
        run(session([100.0, 101.0], 103.0, [position, 0.0]))


def test_a_price_that_is_not_a_number_spoils_the_session_only_if_something_rode_on_it() -> None:
    nan = float("nan")
    flat = session([100.0, nan, 100.0], 100.0, [0.0, 0.0, 0.0])
    held = session([100.0, 100.0, nan], 100.0, [1.0, 0.0, 0.0])
    assert run(flat).net.tolist() == [0.0]
    assert run(held).net.tolist() != run(held).net.tolist()
    assert run(held).wins == 0
