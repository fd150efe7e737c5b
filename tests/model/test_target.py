"""The target: the return that a decision on this bar can really earn, in units of what is usual."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal, assert_series_equal

from hftcl.model.features import features
from hftcl.model.target import compute_targets
from tests.model.feature_cases import market, one_session


def expected(bars: pl.DataFrame, horizon: int) -> list[tuple[float, datetime] | None]:
    """Walk the bars one by one: a second implementation."""
    out: list[tuple[float, datetime] | None] = []
    vols = features(bars)["vol_30"]
    for bar, vol in zip(bars.iter_rows(named=True), vols, strict=True):
        own = sorted(
            (b["minute"], b["open"], b["ts"])
            for b in bars.iter_rows(named=True)
            if (b["ticker"], b["session"]) == (bar["ticker"], bar["session"])
        )
        entry = next((b for b in own if b[0] >= bar["minute"] + 1), None)
        exit_ = next((b for b in own if b[0] >= bar["minute"] + 1 + horizon), None)
        if entry is None or exit_ is None or not vol:
            out.append(None)
        else:
            out.append(((exit_[1] / entry[1] - 1) / (vol * horizon**0.5), exit_[2]))
    return out


@pytest.mark.parametrize("horizon", [1, 5, 30])
def test_the_target_is_what_a_second_implementation_computes(horizon: int) -> None:
    bars = market(2, tickers=("AAA", "BBB"), sessions=2, minutes=80)
    got = compute_targets(bars, horizon)
    assert got.schema == pl.Schema({"target": pl.Float32(), "label_end": pl.Datetime("us", "UTC")})
    want = expected(bars, horizon)
    assert [x is None for x in got["target"]] == [x is None for x in got["label_end"]] == [x is None for x in want]
    known = [(x, y) for x, y in zip(got.iter_rows(), want, strict=True) if y is not None]
    assert len(known) > 20
    assert [label for (_, label), _ in known] == [label for _, (_, label) in known]
    np.testing.assert_allclose([x for (x, _), _ in known], [x for _, (x, _) in known], rtol=1e-5)


def test_a_decision_is_paid_from_the_next_open_to_the_open_after_the_horizon() -> None:
    closes = [100.0 if minute % 2 == 0 else 101.0 for minute in range(40)]
    bars = one_session(closes).with_columns(
        open=pl.when(pl.col("minute") == 31).then(80.0).when(pl.col("minute") == 36).then(88.0).otherwise(100.0)
    )
    row = compute_targets(bars, 5).row(30)
    assert row[0] == pytest.approx(0.1 / (np.log(1.01) * 5**0.5), rel=1e-6)  # by hand: +10 %, vol_30 = ln 1.01
    assert row[1] == datetime(2025, 3, 3, 15, 6, tzinfo=UTC)


def test_the_close_that_a_decision_was_computed_from_is_not_what_it_earns() -> None:
    bars = market(3, tickers=("AAA",), sessions=1, missing=0, latest_start=0)
    jumped = bars.with_columns(close=pl.when(pl.col("minute") == 59).then(500.0).otherwise("close"))
    assert_frame_equal(compute_targets(jumped, 5), compute_targets(bars, 5), check_exact=True)


def test_an_order_in_a_minute_without_trades_fills_at_the_next_trade() -> None:
    bars = one_session([100.0 + minute % 3 for minute in range(45)])
    gap = bars.filter(~pl.col("minute").is_in([36, 37]))
    label = compute_targets(gap, 5).filter(gap["minute"] == 30)["label_end"].item()
    assert label == datetime(2025, 3, 3, 15, 8, tzinfo=UTC)  # 31 + 5 = 36, first bar at 38


def test_no_target_reaches_into_the_next_session() -> None:
    bars = market(4, tickers=("AAA",), sessions=2, minutes=50, missing=0, latest_start=0)
    result = compute_targets(bars, 10).with_columns(bars["session", "minute"])
    known = result.drop_nulls()
    assert (known["label_end"].dt.date() == known["session"]).all()
    assert known["minute"].unique().sort().to_list() == list(range(30, 39))  # 39 + 1 + 10 would be minute 50


def test_a_price_that_stood_still_has_no_scale_and_so_no_target() -> None:
    result = compute_targets(one_session([100.0] * 50 + [110.0] * 30), 5)
    assert result["target"][:50].null_count() == result["label_end"][:50].null_count() == 50
    assert result["target"][50] == 0.0


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), cut=st.integers(35, 79))
def test_a_label_is_settled_when_the_bar_at_label_end_has_opened_and_later_bars_do_not_change_it(
    seed: int, cut: int
) -> None:
    bars = market(seed, tickers=("AAA", "BBB"), sessions=1, minutes=80)
    now = datetime(2025, 3, 3, 14, 30, tzinfo=UTC) + timedelta(minutes=cut)
    known = bars["ts"] <= now
    early, late = compute_targets(bars.filter(known), 5), compute_targets(bars, 5).filter(known)
    settled = late["label_end"].is_not_null() & (late["label_end"] <= now)
    assert_frame_equal(early.filter(settled), late.filter(settled), check_exact=True)
    assert early.filter(~settled)["target"].null_count() == (~settled).sum()


def test_rows_come_back_in_the_order_in_which_the_bars_came() -> None:
    bars = market(5, sessions=2)
    order = np.random.default_rng(0).permutation(bars.height)
    assert_frame_equal(compute_targets(bars[order], 5), compute_targets(bars, 5)[order], check_exact=True)


def test_the_target_has_no_unit_of_price() -> None:
    bars = market(6)
    scaled = bars.with_columns(pl.col("open", "high", "low", "close") * 4)
    assert_series_equal(compute_targets(bars, 5)["target"], compute_targets(scaled, 5)["target"], rel_tol=1e-5)


def test_no_bars_give_no_rows_and_a_horizon_of_nothing_is_refused() -> None:
    assert compute_targets(market(0).clear(), 30).schema == compute_targets(market(0), 30).schema
    with pytest.raises(ValueError, match="at least 1 minute, got 0"):
        compute_targets(market(0), 0)
