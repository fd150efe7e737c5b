"""Where an exam's P&L came from: each slicing is the whole exam, cut another way."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftcl.errors import NoDataError
from hftcl.exam.simulation import compute_accounts, list_trades, simulate
from hftcl.exam.slices import Slice, compute_slices

NEW_YORK = "America/New_York"
OPEN = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)


def bars_of(closes: dict[tuple[str, int], list[float]], step: int = 1) -> pl.DataFrame:
    """Return bars by (ticker, day), one every `step` minutes; each opens at the close before."""
    rows = [
        {
            "ticker": ticker,
            "ts": OPEN + timedelta(days=day, minutes=step * index),
            "session": (OPEN + timedelta(days=day)).date(),
            "minute": step * index,
            "session_minutes": 390,
            "open": prices[max(index - 1, 0)],
            "close": close,
        }
        for (ticker, day), prices in closes.items()
        for index, close in enumerate(prices)
    ]
    return pl.DataFrame(
        rows, schema_overrides={"ts": pl.Datetime("us", "UTC"), "minute": pl.Int32(), "session_minutes": pl.Int32()}
    )


def sliced(bars: pl.DataFrame, positions: list[float], cost_bps: float = 1.0) -> dict[str, tuple[Slice, ...]]:
    decided = bars.select("ticker", "ts").with_columns(position=pl.Series(positions, dtype=pl.Float64))
    rows = compute_accounts(bars, decided, cost_bps=cost_bps)
    return compute_slices(rows, list_trades(rows, cost_bps), bars, cost_bps=cost_bps, zone=NEW_YORK)


@st.composite
def exams(draw: st.DrawFn) -> tuple[pl.DataFrame, list[float]]:
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    closes = {}
    for ticker in ("A", "BB", "C")[: draw(st.integers(1, 3))]:
        for day in range(draw(st.integers(1, 5))):
            length = draw(st.integers(1, 12))
            closes[ticker, day] = (100 * np.exp(np.cumsum(rng.normal(0, 0.01, length)))).tolist()
    bars = bars_of(closes, step=draw(st.sampled_from([1, 35])))
    return bars, rng.choice([-0.5, -0.25, 0.0, 0.25, 0.5], bars.height).tolist()


@settings(max_examples=40)
@given(exam=exams(), cost_bps=st.sampled_from([0.0, 1.0, 250.0]))
def test_each_slicing_adds_up_to_the_whole_exam(exam: tuple[pl.DataFrame, list[float]], cost_bps: float) -> None:
    bars, positions = exam
    decided = bars.select("ticker", "ts").with_columns(position=pl.Series(positions, dtype=pl.Float64))
    whole = simulate(bars, decided, cost_bps=cost_bps)
    for parts in sliced(bars, positions, cost_bps).values():
        assert sum(part.net for part in parts) == pytest.approx(whole.net.sum(), abs=1e-12)
        assert sum(part.gross for part in parts) == pytest.approx(whole.gross.sum(), abs=1e-12)
        assert sum(part.cost for part in parts) == pytest.approx(whole.cost.sum(), abs=1e-12)
        assert sum(part.turnover for part in parts) == pytest.approx(whole.turnover.sum(), abs=1e-12)
        assert sum(part.trades for part in parts) == whole.trades


@settings(max_examples=60)
@given(exam=exams(), cost_bps=st.sampled_from([0.0, 1.0, 250.0]))
def test_the_sides_are_those_of_the_trades(exam: tuple[pl.DataFrame, list[float]], cost_bps: float) -> None:
    """A second way: each trade's net, which pays for its own opening and closing, by the side that it is on."""
    bars, positions = exam
    decided = bars.select("ticker", "ts").with_columns(position=pl.Series(positions, dtype=pl.Float64))
    rows = compute_accounts(bars, decided, cost_bps=cost_bps)
    trades = list_trades(rows, cost_bps).join(
        rows.select("ticker", pl.col("ts").alias("opened"), "held"), on=["ticker", "opened"]
    )
    for side, sign in zip(sliced(bars, positions, cost_bps)["side"], (1, -1), strict=True):
        mine = trades.filter(pl.col("held").sign() == sign)
        assert side.net == pytest.approx(mine["net"].sum(), abs=1e-12)
        assert side.trades == mine.height


@given(exam=exams())
@settings(max_examples=30)
def test_the_order_of_the_bars_does_not_matter_to_the_bit(exam: tuple[pl.DataFrame, list[float]]) -> None:
    bars, positions = exam
    decided = bars.select("ticker", "ts").with_columns(position=pl.Series(positions, dtype=pl.Float64))
    rows = compute_accounts(bars, decided, cost_bps=1.0)
    trades = list_trades(rows, 1.0)
    assert compute_slices(rows, trades, bars.reverse(), cost_bps=1.0, zone=NEW_YORK) == compute_slices(
        rows, trades, bars, cost_bps=1.0, zone=NEW_YORK
    )


def test_a_turn_charges_the_old_side_for_closing_and_the_new_one_for_opening() -> None:
    """Long 0.5 from the second bar, short 0.25 from the third, closed at its end; by hand, at 100 bps, flat prices."""
    found = sliced(bars_of({("A", 0): [100.0, 100.0, 100.0]}), [0.5, -0.25, 0.0], cost_bps=100)["side"]
    long, short = found
    assert (long.name, long.turnover, long.trades) == ("long", 1.0, 1)
    assert long.held_share == pytest.approx(1 / 3)
    assert (short.name, short.turnover, short.trades) == ("short", 0.5, 1)
    assert [long.net, short.net] == pytest.approx([-0.01, -0.005])


def test_an_hour_holds_sixty_minutes_from_the_open_and_the_last_one_what_is_left() -> None:
    bars = bars_of({("A", 0): [100.0] * 390})
    found = sliced(bars, [1.0] * 390)["hour"]
    assert [part.name for part in found] == [*(f"{9 + h:02}:30-{10 + h}:30" for h in range(6)), "15:30-16:00"]
    assert {part.detail for part in found} == {""}
    assert found[0].trades == 1, "it began in the first hour and is counted there alone"
    assert found[-1].turnover == 1.0, "closed in the last"
    assert [part.held_share for part in found] == [pytest.approx(59 / 60), 1, 1, 1, 1, 1, 1]


def test_hours_keep_their_names_in_summer_and_on_a_half_day() -> None:
    summer = pl.col("ts") - timedelta(hours=1)
    winter = bars_of({("A", 0): [100.0] * 210}).with_columns(session_minutes=pl.lit(210, pl.Int32))
    later = bars_of({("A", 100): [100.0] * 390}).with_columns(summer)
    found = sliced(pl.concat([winter, later]), [0.0] * 600)["hour"]
    assert [part.name for part in found][2:4] == ["11:30-12:30", "12:30-13:30"]
    assert [part.name for part in sliced(winter, [0.0] * 210)["hour"]][-1] == "12:30-13:00"


def test_bars_before_the_open_and_after_the_close_have_hours_too() -> None:
    bars = bars_of({("A", 0): [100.0] * 500}).with_columns(pl.col("ts") - timedelta(minutes=60), pl.col("minute") - 60)
    names = [part.name for part in sliced(bars, [0.0] * 500)["hour"]]
    assert (names[0], names[-2:]) == ("08:30-09:30", ["15:30-16:30", "16:30-16:50"])


def test_sessions_are_cut_into_three_regimes_by_what_they_moved() -> None:
    """Day d moves by (1 + d) % up and down; by hand: two moves of ln(1 + x) make sqrt(2) * ln(1 + x)."""
    closes = {("A", day): [100.0, 101.0 + day, 100.0] for day in (4, 0, 5, 2, 1, 3)}
    bars = bars_of(closes).sort("ts")
    long_on_the_wild_days = [1.0 if session >= date(2026, 1, 9) else 0.0 for session in bars["session"]]
    low, middle, high = sliced(bars, long_on_the_wild_days)["volatility"]
    assert (low.trades, middle.trades, high.trades) == (0, 0, 2)
    assert (
        low.detail
        == f"2 sessions of {141.42 * np.log(1.01):.2f} % to {141.42 * np.log(1.02):.2f} % realised volatility"
    )
    assert high.held_share == pytest.approx(2 / 3)


def test_a_slice_that_held_nothing_is_there_with_zeros() -> None:
    found = sliced(bars_of({("A", 0): [100.0, 101.0], ("B", 0): [50.0, 50.5]}), [0.0, 0.0, 0.0, 0.0])
    assert [part.name for part in found["ticker"]] == ["A", "B"]
    empty = Slice(name="A", gross=0.0, cost=0.0, turnover=0.0, trades=0, held_share=0.0)
    assert found["ticker"][0] == empty
    assert found["volatility"][0] == replace(
        empty, name="low", detail="1 session of 1.00 % to 1.00 % realised volatility"
    )
    assert found["volatility"][2].detail == "no session"


def test_an_exam_of_no_session_has_slices_of_nothing() -> None:
    bars = bars_of({("A", 0): [100.0]}).clear()
    found = sliced(bars, [])
    assert found["ticker"] == found["hour"] == ()
    assert [part.net for part in found["side"]] == [0.0, 0.0]


def test_bars_of_another_exam_are_refused() -> None:
    bars = bars_of({("A", 0): [100.0, 101.0]})
    decided = bars.select("ticker", "ts").with_columns(position=pl.lit(0.0))
    rows = compute_accounts(bars, decided, cost_bps=1.0)
    with pytest.raises(NoDataError, match="2 accounts and 1 bars"):
        compute_slices(rows, list_trades(rows, 1.0), bars.head(1), cost_bps=1.0, zone=NEW_YORK)
