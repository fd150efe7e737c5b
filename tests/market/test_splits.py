"""Bars on both sides of a split: the night of the jump, what lies before it, and what is no split."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hftcl.market.bars import BAR_SCHEMA, Finding
from hftcl.market.sources import Split
from hftcl.market.splits import (
    adjust_for_splits,
    drop_past,
    find_edges,
    find_unannounced_splits,
    has_step,
    looks_like_split,
    name_parts,
)

FIRST = date(2026, 1, 5)


def session(ticker: str, day: int, closes: list[float]) -> pl.DataFrame:
    """Return the bars of one session, `day` days after 5 January, a minute a close."""
    on = FIRST + timedelta(days=day)
    opens = datetime(on.year, on.month, on.day, 14, 30, tzinfo=UTC)
    return pl.DataFrame(
        {
            "ticker": [ticker] * len(closes),
            "ts": [opens + timedelta(minutes=n) for n in range(len(closes))],
            "session": [on] * len(closes),
            "minute": list(range(len(closes))),
            "session_minutes": [390] * len(closes),
            "regular": [True] * len(closes),
            **dict.fromkeys(("open", "high", "low", "close"), closes),
            "volume": [1000.0] * len(closes),
        },
        schema=BAR_SCHEMA,
    )


def jump(ticker: str, day: int) -> Finding:
    return Finding(ticker, "unannounced_split", 1, None, FIRST + timedelta(days=day))


def test_the_edges_of_a_session_are_the_medians_of_its_first_and_its_last_five_closes() -> None:
    bars = session("A", 0, [9.0, 1.0, 2.0, 3.0, 4.0, 50.0, 6.0, 7.0, 8.0, 5.0, 900.0])
    edges = find_edges(pl.concat([bars, session("A", 1, [2.0, 4.0, 90.0])]))
    assert edges["session"].to_list() == [FIRST, FIRST + timedelta(days=1)]
    assert edges["bars"].to_list() == [11, 3]
    assert edges["first"].to_list() == [3.0, 4.0], "a session of three bars has them all on both sides"
    assert edges["last"].to_list() == [7.0, 4.0]
    assert edges["ts"].to_list() == [datetime(2026, 1, day, 14, 30, tzinfo=UTC) for day in (5, 6)]


def test_where_two_tickers_meet_on_one_day_each_has_a_session_of_its_own() -> None:
    edges = find_edges(pl.concat([session("A", 0, [10.0] * 6), session("B", 0, [70.0] * 6)]))
    assert edges.select("ticker", "bars", "first", "last").rows() == [("A", 6, 10.0, 10.0), ("B", 6, 70.0, 70.0)]


def test_no_bar_has_no_edge_and_no_step() -> None:
    edges = find_edges(BAR_SCHEMA.to_frame())
    assert edges.is_empty()
    assert not has_step(edges, 1.5)
    assert find_unannounced_splits(BAR_SCHEMA.to_frame(), ()) == ()


@pytest.mark.parametrize(
    ("before", "after", "steps"),
    [(100.0, 151.0, True), (151.0, 100.0, True), (100.0, 149.0, False), (149.0, 100.0, False)],
)
def test_a_step_is_a_change_by_more_than_the_factor_up_or_down(before: float, after: float, steps: bool) -> None:
    edges = find_edges(pl.concat([session("A", 0, [before] * 6), session("A", 1, [after] * 6)]))
    assert has_step(edges, 1.5) is steps


def test_the_move_of_a_day_is_no_split_and_the_one_of_the_night_after_it_is() -> None:
    climbing = [10.0] * 5 + [15.0] * 5 + [20.0] * 5
    bars = pl.concat([session("A", 0, climbing), session("A", 1, [20.0] * 6), session("A", 2, [5.0] * 6)])
    (finding,) = find_unannounced_splits(bars, ())
    assert (finding.session, finding.count) == (FIRST + timedelta(days=2), 21)
    assert finding.detail == "the price changed by a factor of 0.25 over the night before 2026-01-07"
    assert finding.first == datetime(2026, 1, 7, 14, 30, tzinfo=UTC)


def test_bars_in_any_order_show_the_same_splits_and_count_those_of_their_own_ticker() -> None:
    mine = pl.concat([session("A", 0, [10.0] * 4), session("B", 0, [30.0] * 9), session("B", 1, [10.0] * 9)])
    (finding,) = find_unannounced_splits(mine, ())
    assert (finding.ticker, finding.count) == ("B", 9)
    assert find_unannounced_splits(mine.sample(fraction=1.0, shuffle=True, seed=3), ()) == (finding,)


def test_a_price_that_differs_between_two_tickers_is_no_split_of_either() -> None:
    apart = pl.concat([session("A", 0, [10.0] * 6), session("A", 1, [10.0] * 6), session("B", 1, [20.0] * 6)])
    assert has_step(find_edges(apart), 1.5), "the quick look stops here, the whole one goes by ticker"
    assert find_unannounced_splits(apart, ()) == ()


@given(whole=st.sampled_from([2, 3, 5, 10, 20, 100]), drift=st.floats(-0.09, 0.09), up=st.booleans())
def test_a_split_is_seen_with_the_ordinary_move_of_a_night_on_top(whole: int, drift: float, up: bool) -> None:
    ratio = whole * (1 + drift) if up else 1 / (whole * (1 + drift))
    assert pl.select(looks_like_split(pl.lit(ratio))).item() is True


@pytest.mark.parametrize("ratio", [1.0, 1.4, 1.75, 1 / 1.75, 200.0, 1 / 200.0])
def test_a_ratio_far_from_each_whole_number_is_no_split(ratio: float) -> None:
    assert pl.select(looks_like_split(pl.lit(ratio))).item() is False


def test_what_lies_before_a_jump_is_dropped_of_its_own_ticker_and_the_session_of_the_jump_stays() -> None:
    bars = pl.concat([session(ticker, day, [10.0] * 2) for ticker in "AB" for day in range(4)])
    left = drop_past(bars, [jump("A", 2)])
    assert left.group_by("ticker").len().sort("ticker").rows() == [("A", 4), ("B", 8)]
    assert left.filter(ticker="A")["session"].min() == FIRST + timedelta(days=2)
    assert drop_past(bars, [jump("A", 1), jump("A", 3)]).filter(ticker="A").height == 2, "the newest jump counts"
    assert drop_past(bars, []).equals(bars)


def test_parts_of_a_ticker_on_both_sides_of_a_jump_have_names_of_their_own_in_its_place() -> None:
    bars = pl.concat([session(ticker, day, [10.0]) for ticker in ("A", "AB") for day in range(3)])
    named = name_parts(bars, [jump("A", 1), jump("A", 2)])
    assert named["ticker"].to_list() == ["A\x002", "A\x001", "A", "AB", "AB", "AB"]
    assert sorted({*named["ticker"]}) == ["A", "A\x001", "A\x002", "AB"], "sorted, no other ticker comes between"
    assert name_parts(bars, []).equals(bars)


def test_a_split_on_the_last_session_is_in_force_and_one_after_it_has_not_happened() -> None:
    bars = pl.concat([session("A", 0, [40.0] * 2), session("A", 1, [10.0] * 2)])
    in_force = adjust_for_splits(bars, [Split("A", FIRST + timedelta(days=1), 1, 4)])
    assert in_force["close"].to_list() == [10.0] * 4
    assert in_force["volume"].to_list() == [4000.0, 4000.0, 1000.0, 1000.0]
    assert adjust_for_splits(bars, [Split("A", FIRST + timedelta(days=2), 1, 4)]).equals(bars)
    assert adjust_for_splits(bars, [Split("OTHER", FIRST, 1, 4)]).equals(bars)


def test_one_split_that_a_vendor_lists_twice_divides_once() -> None:
    bars = pl.concat([session("A", 0, [40.0]), session("A", 1, [10.0])])
    twice = [Split("A", FIRST + timedelta(days=1), 1, 4), Split("A", FIRST + timedelta(days=1), 2, 8)]
    assert adjust_for_splits(bars, twice)["close"].to_list() == [10.0, 10.0]
