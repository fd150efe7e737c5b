"""The tracker against the account that the ledger was written from, and against figures by hand."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftcl.errors import IntegrityError, NoDataError, UsageError
from hftcl.exam import metrics
from hftcl.ledger.rows import CloseRow, EquityRow, FillRecord
from hftcl.ledger.writer import Ledger
from hftcl.performance.attribution import AMOUNTS
from hftcl.performance.benchmark import Close, compute_benchmark
from hftcl.performance.figures import compute_figures, compute_profit_factor, trade_bins
from hftcl.performance.recent import read_recent
from hftcl.performance.reports import PerformanceReport
from hftcl.performance.story import measure_performance, read_importances
from hftcl.settings import Settings
from tests.archive.sample_models import a_model, archive_in, onnx_bytes
from tests.ledger.ledger_cases import CAPITAL, MODELS, World, write_ledger
from tests.trading.trading_cases import a_decision

CENT = 0.005
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
MONDAY = date(2025, 6, 2)


def at(home: Path) -> Settings:
    return replace(Settings(), paths=replace(Settings().paths, home=str(home)))


@pytest.fixture(scope="module")
def traded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, World]:
    home = tmp_path_factory.mktemp("traded")
    return home, write_ledger(home / "ledger.sqlite")


@pytest.fixture(scope="module")
def report(traded: tuple[Path, World]) -> PerformanceReport:
    return measure_performance(at(traded[0]))


def test_each_session_s_pnl_is_the_change_of_the_account_to_the_cent(
    traded: tuple[Path, World], report: PerformanceReport
) -> None:
    world = traded[1]
    assert list(report.pnl_by_session) == [day.isoformat() for day in world.net]
    for day, net in world.net.items():
        assert CAPITAL * report.pnl_by_session[day.isoformat()] == pytest.approx(net, abs=CENT)
    assert report.total.net_usd == pytest.approx(sum(world.net.values()), abs=CENT)
    assert report.notes == (), "the bot's own equity agrees with its fills"


def test_models_tickers_weekdays_hours_and_months_each_add_up_to_the_whole(report: PerformanceReport) -> None:
    total = report.total.net_usd
    assert sum(model.live.net_usd for model in report.models) == pytest.approx(total, abs=CENT)
    for parts in (report.tickers, report.weekdays, report.hours, report.cells):
        assert sum(part.net_usd for part in parts) == pytest.approx(total, abs=CENT)
    assert CAPITAL * sum(report.months.values()) == pytest.approx(total, abs=CENT)
    for parts in (report.tickers, report.weekdays, report.hours):
        assert sum(part.trades for part in parts) == report.total.trades
        assert sum(part.turnover for part in parts) == pytest.approx(report.total.turnover)
    assert sum(each.trades for each in report.trade_bins) == report.total.trades
    assert sum(model.live.trades for model in report.models) == report.total.trades


def test_two_good_sessions_make_nobody_certain() -> None:
    days = [date(2026, 1, 5), date(2026, 1, 6)]
    amounts = {name: [0.0, 0.0] for name in AMOUNTS} | {"moved": [24.47, 39.70]}
    figures = compute_figures(
        pl.DataFrame({"session": days, **amounts}),
        pl.DataFrame({"net": [24.47, 39.70]}),
        days,
        capital=CAPITAL,
        exposure=None,
        sessions_per_year=252,
    )
    assert metrics.psr([24.47, 39.70]) > 0.99
    assert figures.sharpe is not None
    assert (figures.sharpe_interval, figures.psr) == (None, None)


@pytest.mark.parametrize(
    ("fills", "opens", "parts"), [(5.0, 0.0, (None, None)), (5.0, 2.0, (3.0, 1.5)), (0.0, 0.0, (0.0, 0.0))]
)
def test_the_parts_of_the_slippage_are_unknown_where_no_fill_has_the_open_of_its_bar(
    fills: float, opens: float, parts: tuple[float | None, float | None]
) -> None:
    amounts = {"fills": fills, "opens": opens, "slippage": 80.31, "fill_cost": 1.5 * opens, "timing": 0.75 * opens}
    figures = compute_figures(
        pl.DataFrame({"session": [date(2026, 1, 5)], **{name: [amounts.get(name, 0.0)] for name in AMOUNTS}}),
        pl.DataFrame({"net": [0.0]}),
        [date(2026, 1, 5)],
        capital=CAPITAL,
        exposure=None,
        sessions_per_year=252,
    )
    assert (figures.fill_cost_usd, figures.timing_usd) == parts


def test_the_figures_of_merit_are_those_of_the_exam_on_the_account_s_sessions(
    traded: tuple[Path, World], report: PerformanceReport
) -> None:
    net = np.array(list(traded[1].net.values())) / CAPITAL
    assert report.total.sharpe == pytest.approx(metrics.sharpe(net))
    interval = metrics.sharpe_interval(net, sessions_per_year=252)
    assert report.total.sharpe_interval == pytest.approx((interval.low, interval.high))
    assert report.total.max_drawdown == pytest.approx(metrics.max_drawdown(net))
    assert report.rolling_sessions == 20
    assert [point.sharpe for point in report.rolling] == pytest.approx([report.total.sharpe])


def test_of_a_market_that_never_closes_a_year_has_365_sessions(traded: tuple[Path, World]) -> None:
    settings = at(traded[0])
    report = measure_performance(replace(settings, market=replace(settings.market, calendar="24/7")))
    net = np.array(list(report.pnl_by_session.values()))
    by_hand = float(net.mean() / net.std(ddof=1) * np.sqrt(365))
    assert report.total.sharpe == pytest.approx(by_hand)
    assert [point.sharpe for point in report.rolling] == pytest.approx([by_hand])
    assert report.benchmark is not None
    held = np.array(list(report.benchmark.pnl_by_session.values()))
    assert report.benchmark.sharpe == pytest.approx(float(held.mean() / held.std(ddof=1) * np.sqrt(365)))


def test_cost_is_commission_and_slippage_over_the_money_moved(
    traded: tuple[Path, World], report: PerformanceReport
) -> None:
    fills = traded[1].fills
    moved = sum(abs(fill.quantity) * fill.price for fill in fills)
    paid = sum(fill.commission + fill.quantity * (fill.price - fill.reference_price) for fill in fills)
    assert report.total.turnover == pytest.approx(moved / CAPITAL)
    assert report.total.cost_bps == pytest.approx(1e4 * paid / moved)
    assert report.total.break_even_bps == pytest.approx(1e4 * (report.total.net_usd + paid) / moved)
    assert report.assumed_cost_bps == 1.0
    assert report.total.fills == len(fills)


def test_the_minute_of_a_swap_is_found_and_both_models_have_that_session(
    traded: tuple[Path, World], report: PerformanceReport
) -> None:
    assert [(swap.ts, swap.model_id) for swap in report.swaps] == traded[1].swapped
    old, new = report.models
    assert (old.model_id, new.model_id, new.in_use) == (*MODELS, True)
    assert old.to == new.from_ == report.swaps[1].session
    assert old.live.sessions + new.live.sessions == report.total.sessions + 1


def test_the_curve_ends_each_session_where_the_account_did(
    traded: tuple[Path, World], report: PerformanceReport
) -> None:
    ends = {point.session: point.pnl for point in report.curve}
    for day, equity in traded[1].equity.items():
        assert ends[day] == pytest.approx(equity / CAPITAL - 1, abs=1e-9)


def test_a_part_of_the_span_is_told_as_the_whole_tells_it(
    traded: tuple[Path, World], report: PerformanceReport
) -> None:
    part = measure_performance(at(traded[0]), since=date(2025, 6, 10), until=date(2025, 6, 20))
    assert (part.from_, part.to) == (date(2025, 6, 10), date(2025, 6, 20))
    assert part.pnl_by_session == {
        day: net for day, net in report.pnl_by_session.items() if "2025-06-10" <= day <= "2025-06-20"
    }
    assert part.curve[0].pnl == pytest.approx(0.0, abs=0.01), "it begins from nothing"
    assert part.swaps[0].model_id == MODELS[0]


def test_reading_changes_nothing_and_says_the_same_again(traded: tuple[Path, World], report: PerformanceReport) -> None:
    before = (traded[0] / "ledger.sqlite").read_bytes()
    assert measure_performance(at(traded[0])) == report
    assert (traded[0] / "ledger.sqlite").read_bytes() == before


def test_each_model_stands_beside_its_exam(tmp_path: Path) -> None:
    write_ledger(tmp_path / "ledger.sqlite", last=date(2025, 6, 6))
    challenger = {"sharpe": 2.5, "sharpe_interval": [-1.0, 6.0]}
    model = replace(a_model(MODELS[0]), val_sharpe=2.5, report={"challenger": challenger})
    archive_in(tmp_path).add(model, onnx_bytes(MODELS[0]), b"pkl", now=datetime(2025, 5, 31, 1, tzinfo=UTC))
    known, unknown = measure_performance(at(tmp_path)).models
    assert (known.exam_sharpe, known.exam_interval) == (2.5, (-1.0, 6.0))
    assert (unknown.exam_sharpe, unknown.exam_interval) == (None, None)
    assert "No model" in read_importances(tmp_path, MODELS[1]).problem
    assert read_importances(tmp_path, MODELS[0]).shares == (), "those bytes are no model, which is told and is no error"


def test_what_no_model_decided_is_told_apart_and_counts(tmp_path: Path) -> None:
    """A person flattens: the broker sold what a model had bought."""
    opens = datetime(2025, 6, 2, 13, 30, tzinfo=UTC)
    with Ledger(tmp_path / "ledger.sqlite", durable=False) as ledger:
        ledger.set_meta(capital="1000", mode="live", source="polygon", synthetic="0")
        bought = fill("a", opens, 10, 10.0, "20250531_010000")
        sold = fill("b", opens + timedelta(minutes=61), -10, 11.0, None)
        ledger.write_outcomes(fills=[bought, sold])
    report = measure_performance(at(tmp_path))
    assert {model.model_id: model.live.net_usd for model in report.models} == {
        "20250531_010000": pytest.approx(9.0),
        "no model": pytest.approx(-1.0),
    }
    hours = {part.name: part.net_usd for part in report.hours}
    assert hours == {"09:30-10:30": pytest.approx(9.0), "10:30-11:30": pytest.approx(-1.0)}
    assert report.ledger == "live"
    assert report.total.exposure is None, "no minute was noted"
    assert report.total.sharpe is None, "one session has none"
    assert report.total.profit_factor is None, "nothing was lost"
    assert report.benchmark is None
    assert len(report.curve) == 1


def fill(name: str, ts: datetime, quantity: float, price: float, model_id: str | None) -> FillRecord:
    return FillRecord(
        fill_id=name,
        client_order_id=name,
        book="production",
        ts=ts,
        ticker="AAPL",
        model_id=model_id,
        quantity=quantity,
        price=price,
        commission=1.0,
        reference_price=price,
        filled_at=ts,
    )


def test_a_position_that_is_still_open_is_worth_its_last_close(tmp_path: Path) -> None:
    opens = datetime(2025, 6, 2, 13, 30, tzinfo=UTC)
    with Ledger(tmp_path / "ledger.sqlite", durable=False) as ledger:
        ledger.set_meta(capital="1000", mode="paper")
        ledger.write_outcomes(fills=[fill("a", opens, -10, 10.0, "20250531_010000")])
        ledger.note_closes([CloseRow(session=MONDAY, ticker="AAPL", ts=opens, open=10.0, close=9.5)])
    report = measure_performance(at(tmp_path))
    assert report.total.net_usd == pytest.approx(5.0 - 1.0)
    assert (report.held, report.total.trades) == ({"AAPL": -10.0}, 0)


def test_a_span_that_ends_earlier_tells_what_was_held_then(tmp_path: Path) -> None:
    opens = datetime(2025, 6, 2, 13, 30, tzinfo=UTC)
    with Ledger(tmp_path / "ledger.sqlite", durable=False) as ledger:
        ledger.set_meta(capital="1000", mode="paper")
        sold = fill("a", opens, -10, 10.0, "20250531_010000")
        bought = fill("b", opens + timedelta(days=1), 14, 9.0, "20250531_010000")
        ledger.write_outcomes(fills=[sold, bought])
        ledger.note_closes([CloseRow(session=MONDAY, ticker="AAPL", ts=opens, open=10.0, close=9.5)])
    assert measure_performance(at(tmp_path)).held == {"AAPL": 4.0}
    monday = measure_performance(at(tmp_path), until=MONDAY)
    assert monday.held == {"AAPL": -10.0}
    assert monday.total.net_usd == pytest.approx(5.0 - 1.0)


def test_a_fill_that_was_learnt_of_late_counts_when_it_traded(tmp_path: Path) -> None:
    opens = datetime(2025, 6, 2, 13, 30, tzinfo=UTC)
    old, new, newest = "20250529_010000", "20250530_010000", "20250531_010000"
    with Ledger(tmp_path / "ledger.sqlite", durable=False) as ledger:
        ledger.set_meta(capital="1000", mode="paper")
        ledger.write_outcomes(fills=[fill("b", opens + timedelta(minutes=1), 10, 20.0, new)])
        ledger.write_outcomes(fills=[fill("a", opens, 10, 10.0, old)])
        ledger.write_outcomes(fills=[fill("c", opens + timedelta(minutes=2), -10, 30.0, newest)])
    made = {model.model_id: model.live.net_usd for model in measure_performance(at(tmp_path)).models}
    assert made == {old: pytest.approx(200.0 - 1.0), new: pytest.approx(-1.0), newest: pytest.approx(-1.0)}


def test_an_equity_that_the_fills_do_not_explain_is_said(tmp_path: Path) -> None:
    opens = datetime(2025, 6, 2, 13, 30, tzinfo=UTC)
    with Ledger(tmp_path / "ledger.sqlite", durable=False) as ledger:
        ledger.set_meta(capital="1000", mode="paper")
        row = EquityRow(
            book="production", ts=opens, session=MONDAY, equity=1005.5, cash=1005.5, gross=0, net=0, realised=0
        )
        ledger.write_outcomes(equity=[row])
    (note,) = measure_performance(at(tmp_path)).notes
    assert "1,005.50" in note
    assert "1,000.00" in note


def test_in_the_middle_of_a_session_what_is_held_counts_at_its_price_and_that_is_said(tmp_path: Path) -> None:
    """The bot notes closes when a session ends, and equity minute by minute; the curve follows the equity."""
    opens, tuesday = datetime(2025, 6, 2, 13, 30, tzinfo=UTC), MONDAY + timedelta(days=1)
    today = opens + timedelta(days=1)
    model = "20250531_010000"
    with Ledger(tmp_path / "ledger.sqlite", durable=False) as ledger:
        ledger.set_meta(capital="1000", mode="paper")
        there = [
            fill("a", opens, 10, 10.0, model),
            fill("b", opens + MINUTE, -10, 11.0, model),
            fill("c", today + MINUTE, 10, 10.0, model),
        ]
        account = [(opens, 1000), (opens + MINUTE, 1008), (today, 1008), (today + MINUTE, 1007), (today + HOUR, 1019)]
        rows = [equity_at(ts, equity) for ts, equity in account]
        ledger.write_outcomes(fills=there, equity=rows)
    report = measure_performance(at(tmp_path))
    assert report.total.net_usd == pytest.approx(8.0 - 1.0)
    (note,) = report.notes
    assert note.startswith(f"the session {tuesday} is under way, or was cut short: what is held of AAPL has no close")
    assert [round(point.pnl * 1000) for point in report.curve] == [0, 8, 8, 7, 19]
    assert [round(point.pnl * 1000) for point in measure_performance(at(tmp_path), since=tuesday).curve] == [0, -1, 11]


def equity_at(ts: datetime, equity: float) -> EquityRow:
    return EquityRow(
        book="production", ts=ts, session=ts.date(), equity=equity, cash=equity, gross=0, net=0, realised=0
    )


def test_what_a_person_flattens_without_a_bot_hides_no_swap(tmp_path: Path) -> None:
    """`--flatten` notes the account in a minute that nobody decided on."""
    opens = datetime(2025, 6, 2, 13, 30, tzinfo=UTC)
    with Ledger(tmp_path / "ledger.sqlite", durable=False) as ledger:
        ledger.set_meta(capital="1000", mode="paper")
        for place, model in enumerate(MODELS):
            ledger.write_decisions([a_decision(ts=opens + place * MINUTE, model_id=model)])
        ledger.write_outcomes(equity=[equity_at(opens, 1000), equity_at(opens + HOUR, 1000)])
    report = measure_performance(at(tmp_path))
    assert [(swap.ts, swap.model_id) for swap in report.swaps] == [(opens, MODELS[0]), (opens + MINUTE, MODELS[1])]
    assert [model.model_id for model in report.models if model.in_use] == [MODELS[1]]


def test_a_session_that_begins_on_the_day_before_by_utc_has_its_first_fills(tmp_path: Path) -> None:
    """Sydney opens at 23:00 UTC in its summer."""
    opens = datetime(2026, 1, 5, 23, 0, tzinfo=UTC)
    with Ledger(tmp_path / "ledger.sqlite", durable=False) as ledger:
        ledger.set_meta(capital="1000", mode="paper")
        ledger.write_outcomes(fills=[fill("a", opens + MINUTE, 10, 10.0, "20250531_010000")])
    sydney = replace(at(tmp_path), market=replace(Settings().market, calendar="XASX"))
    report = measure_performance(sydney)
    assert (report.from_, report.to) == (date(2026, 1, 6), date(2026, 1, 6))
    assert [part.name for part in report.hours] == ["10:00-11:00"], "by the clock of Sydney"


def test_a_fact_that_cannot_be_what_was_written_is_damage(tmp_path: Path) -> None:
    write_ledger(tmp_path / "ledger.sqlite", last=MONDAY, meta={"cost_bps": "cheap"})
    with pytest.raises(IntegrityError, match=r"ledger\.sqlite is damaged.*cheap"):
        measure_performance(at(tmp_path))


def test_the_shadow_s_book_is_a_row_of_its_own(tmp_path: Path) -> None:
    production = write_ledger(tmp_path / "ledger.sqlite", last=date(2025, 6, 6))
    shadow = write_ledger(tmp_path / "ledger.sqlite", last=date(2025, 6, 6), seed=9, book="shadow")
    report = measure_performance(at(tmp_path))
    assert report.shadow is not None
    assert report.total.net_usd == pytest.approx(sum(production.net.values()), abs=CENT)
    assert report.shadow.net_usd == pytest.approx(sum(shadow.net.values()), abs=CENT)


def test_a_ledger_that_is_missing_is_one_plain_sentence(tmp_path: Path) -> None:
    with pytest.raises(NoDataError, match=r"Nothing has been traded yet.*hftcl trade"):
        measure_performance(at(tmp_path))
    with pytest.raises(NoDataError, match=r"replay/ledger\.sqlite.*trade --replay"):
        measure_performance(at(tmp_path), replay=True)
    assert list(tmp_path.iterdir()) == []


def test_a_span_without_a_session_says_which_there_are(traded: tuple[Path, World]) -> None:
    with pytest.raises(NoDataError, match="holds 2025-06-02 to 2025-06-30"):
        measure_performance(at(traded[0]), since=date(2026, 1, 7))
    with pytest.raises(UsageError, match="ends before it begins"):
        measure_performance(at(traded[0]), since=date(2026, 1, 7), until=date(2026, 1, 6))


@pytest.mark.parametrize("capital", ["", "0", "nan", "inf", "-5"])
def test_without_a_capital_no_figure_is_guessed(tmp_path: Path, capital: str) -> None:
    write_ledger(tmp_path / "ledger.sqlite", last=MONDAY, meta={"capital": capital})
    with pytest.raises(NoDataError, match="capital"):
        measure_performance(at(tmp_path))


def test_the_replay_s_ledger_is_never_mixed_with_the_live_one(tmp_path: Path) -> None:
    live = write_ledger(tmp_path / "ledger.sqlite", last=date(2025, 6, 6))
    replay = write_ledger(tmp_path / "replay" / "ledger.sqlite", last=date(2025, 6, 6), seed=2, meta={"mode": "replay"})
    found = measure_performance(at(tmp_path)), measure_performance(at(tmp_path), replay=True)
    assert [each.ledger for each in found] == ["paper", "replay"]
    assert [each.total.net_usd for each in found] == pytest.approx(
        [sum(live.net.values()), sum(replay.net.values())], abs=CENT
    )


# --- the benchmark ----------------------------------------------------------------------------------------------------

DAYS = [date(2025, 6, day) for day in (2, 3, 4)]


def closes(prices: Mapping[str, list[tuple[float, float]]]) -> list[Close]:
    return [
        Close(day, ticker, *pair) for ticker, pairs in prices.items() for day, pair in zip(DAYS, pairs, strict=False)
    ]


def test_buy_and_hold_is_bought_at_the_first_open_in_equal_amounts() -> None:
    """By hand: A goes 10 -> 11 -> 12, B 100 -> 100 -> 90; the holding is worth 1, 1.05, 1.05, 1.05."""
    rows = closes({"A": [(10, 11), (11, 12), (12, 12)], "B": [(100, 100), (100, 90), (90, 90)]})
    found = compute_benchmark(rows, DAYS, np.zeros(3), cost_bps=0.0, sessions_per_year=252)
    assert found is not None
    assert found.tickers == ("A", "B")
    assert list(found.pnl_by_session.values()) == pytest.approx([0.05, 0.0, 0.0], abs=1e-12)
    dear = compute_benchmark(rows, DAYS, np.zeros(3), cost_bps=10.0, sessions_per_year=252)
    assert dear is not None
    assert dear.pnl == pytest.approx(0.05 - 0.001)


def test_a_split_over_night_is_no_return_and_is_said() -> None:
    rows = closes({"A": [(100, 102), (25.6, 26), (26, 26)]})
    found = compute_benchmark(rows, DAYS, np.zeros(3), cost_bps=0.0, sessions_per_year=252)
    assert found is not None
    assert list(found.pnl_by_session.values()) == pytest.approx([0.02, 1.02 * (26 / 25.6 - 1), 0.0])
    assert "A before 2025-06-03" in found.note
    fell = compute_benchmark(
        closes({"A": [(100, 102), (70, 71), (71, 71)]}), DAYS, np.zeros(3), cost_bps=0.0, sessions_per_year=252
    )
    assert fell is not None
    assert (fell.note, fell.pnl < -0.25) == ("", True), "a third less is news, not a split"


def test_what_is_held_grows_from_what_it_is_worth() -> None:
    """Bought once: a stock that doubles each day makes 1, 2 and 4 times what was paid, and no more on the way down."""
    grown = compute_benchmark(
        closes({"A": [(10, 20), (20, 40), (40, 80)]}), DAYS, np.zeros(3), cost_bps=0.0, sessions_per_year=252
    )
    fell = compute_benchmark(
        closes({"A": [(10, 20), (20, 10), (10, 5)]}), DAYS, np.zeros(3), cost_bps=0.0, sessions_per_year=252
    )
    assert grown is not None
    assert fell is not None
    assert list(grown.pnl_by_session.values()) == pytest.approx([1.0, 2.0, 4.0])
    assert [grown.pnl, fell.pnl] == pytest.approx([7.0, -0.5])


def test_a_split_is_told_by_the_night_and_not_by_the_day() -> None:
    """A 4:1 split after a day up and before a day down; and days of such moves without a split."""
    split = compute_benchmark(
        closes({"A": [(100, 160), (40, 28), (28, 28)]}), DAYS, np.zeros(3), cost_bps=0.0, sessions_per_year=252
    )
    assert split is not None
    assert list(split.pnl_by_session.values()) == pytest.approx([0.6, (28 / 40 - 1) * 1.6, 0.0])
    assert "A before 2025-06-03" in split.note
    wild = compute_benchmark(
        closes({"A": [(100, 100), (98, 302), (302, 302)]}), DAYS, np.zeros(3), cost_bps=0.0, sessions_per_year=252
    )
    assert wild is not None
    assert wild.note == ""
    assert wild.pnl == pytest.approx(2.02)


def test_a_first_session_without_prices_does_not_cost_the_benchmark() -> None:
    rows = closes({"A": [(10, 11), (11, 12), (12, 12)], "B": [(5, 5)]})
    late = compute_benchmark(
        [row for row in rows if row.session > DAYS[0]], DAYS, np.zeros(3), cost_bps=0.0, sessions_per_year=252
    )
    assert late is not None
    assert late.tickers == ("A",)
    assert list(late.pnl_by_session.values()) == pytest.approx([0.0, 12 / 11 - 1, 0.0])
    assert "bought on 2025-06-03" in late.note
    assert compute_benchmark([], DAYS, np.zeros(3), cost_bps=0.0, sessions_per_year=252) is None


def test_at_equal_volatility_the_benchmark_moves_as_the_bot_does(report: PerformanceReport) -> None:
    """Empyrical's annual volatility of both is the same then: the ratio of the standard deviations, by definition."""
    bench = report.benchmark
    assert bench is not None
    assert bench.equal_risk_share is not None
    held, net = (np.array(list(told.pnl_by_session.values())) for told in (bench, report))
    assert np.std(bench.equal_risk_share * held, ddof=1) == pytest.approx(np.std(net, ddof=1))
    assert bench.equal_risk_pnl == pytest.approx(bench.equal_risk_share * bench.pnl)
    still = compute_benchmark(closes({"A": [(1, 2), (2, 3)]}), DAYS, np.zeros(3), cost_bps=0.0, sessions_per_year=252)
    assert still is not None
    assert (still.equal_risk_share, still.equal_risk_pnl) == (None, None), "what never moves has no volatility to meet"


def test_the_difference_from_buy_and_hold_is_paired(report: PerformanceReport) -> None:
    assert report.benchmark is not None
    held = np.array(list(report.benchmark.pnl_by_session.values()))
    net = np.array(list(report.pnl_by_session.values()))
    assert report.benchmark.difference == pytest.approx(metrics.sharpe_difference(net, held).difference)
    assert report.benchmark.difference_interval is not None


# --- what the check trigger asks --------------------------------------------------------------------------------------


def test_the_trigger_gets_the_sessions_that_a_model_alone_decided(traded: tuple[Path, World]) -> None:
    home, world = traded
    swap = world.swapped[1][0].date()
    later = [net / CAPITAL for day, net in world.net.items() if day > swap]
    found = read_recent(at(home), MODELS[1], until=date(2025, 6, 30), most=20, of_synthetic=False)
    assert found is not None
    assert found.net == pytest.approx(later, abs=1e-9)
    assert found.ledger == "paper"
    early = read_recent(at(home), MODELS[1], until=date(2025, 6, 26), most=3, of_synthetic=False)
    assert early is not None
    assert early.net == pytest.approx(later[-5:-2], abs=1e-9), "nothing after `until`, and the newest of the rest"


def test_the_trigger_gets_nothing_of_other_bars_of_another_model_or_of_a_replay(
    traded: tuple[Path, World], tmp_path: Path
) -> None:
    home = traded[0]
    assert read_recent(at(home), MODELS[0], until=date(2025, 6, 30), most=20, of_synthetic=True) is None
    assert read_recent(at(home), "20240101_000000", until=date(2025, 6, 30), most=20, of_synthetic=False) is None
    write_ledger(tmp_path / "replay" / "ledger.sqlite")
    assert read_recent(at(tmp_path), MODELS[0], until=date(2025, 6, 30), most=20, of_synthetic=False) is None
    write_ledger(tmp_path / "ledger.sqlite")
    assert read_recent(at(tmp_path), MODELS[0], until=date(2025, 6, 30), most=20, of_synthetic=False) is not None
    with Ledger(tmp_path / "ledger.sqlite") as ledger:  # as if a replay's had been put where the bot's own belongs
        ledger.set_meta(mode="replay")
    assert read_recent(at(tmp_path), MODELS[0], until=date(2025, 6, 30), most=20, of_synthetic=False) is None


# --- pure figures -----------------------------------------------------------------------------------------------------


@given(nets=st.lists(st.floats(-1e6, 1e6), max_size=50))
@settings(max_examples=100)
def test_the_histogram_holds_every_trade_that_made_or_lost_something_and_parts_the_two(nets: list[float]) -> None:
    bins = trade_bins(np.array(nets, float))
    assert sum(each.trades for each in bins) == sum(net != 0 for net in nets)
    lost = sum(each.trades for each in bins if each.high_usd <= 0)
    assert lost == sum(net < 0 for net in nets)


def test_a_profit_factor_is_what_was_won_over_what_was_lost() -> None:
    assert compute_profit_factor(np.array([3.0, -1.0, 1.0, -1.0])) == pytest.approx(2.0)
    assert compute_profit_factor(np.array([-1.0])) == 0.0
    assert compute_profit_factor(np.array([])) is None
