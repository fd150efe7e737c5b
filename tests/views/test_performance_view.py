"""What a person is told of what was traded: by `report`, on the page and after `trade`."""

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from hftcl.performance.reports import (
    BenchmarkFigures,
    Figures,
    ModelFigures,
    PartFigures,
    PerformanceReport,
    RiskFigures,
)
from hftcl.views import performance
from hftcl.views.blocks import collect_blocks
from tests.views.drawn import find_style, list_grids, list_lines, read_columns, read_pairs

DAYS = {f"2026-01-0{day}": pnl for day, pnl in ((5, 0.001), (6, -0.002), (7, 0.004), (8, 0.0))}
TOTAL = Figures(
    sessions=4,
    sharpe=1.5,
    sharpe_interval=(-2.0, 5.0),
    psr=0.75,
    net_usd=300.0,
    pnl=0.003,
    gross_usd=400.5,
    commission_usd=20.25,
    slippage_usd=80.25,
    fill_cost_usd=50.0,
    timing_usd=30.25,
    charges_usd=-3.5,
    max_drawdown=0.002,
    trades=1234,
    hit_rate=0.5,
    profit_factor=1.25,
    fills=2345,
    turnover=6.75,
    exposure=0.333,
    cost_bps=1.5,
    break_even_bps=6.0,
)
BENCHMARK = BenchmarkFigures(
    tickers=("AAPL", "AMD"),
    sharpe=2.5,
    sharpe_interval=(0.0, 4.0),
    pnl=0.02,
    max_drawdown=0.01,
    difference=-1.0,
    difference_interval=(-3.0, 1.0),
    pnl_by_session=DAYS,
    note="",
    equal_risk_share=None,
    equal_risk_pnl=None,
)
RISK = RiskFigures(
    **dict.fromkeys(
        (name for name in RiskFigures.__dataclass_fields__ if name not in {"drawdowns", "session_bins"}), None
    ),
    drawdowns=(),
    session_bins=(),
)
REPORT = PerformanceReport(
    ledger="paper",
    source="polygon",
    synthetic=False,
    capital_usd=100_000.0,
    as_of=datetime(2026, 1, 9, tzinfo=UTC),
    from_=date(2026, 1, 5),
    to=date(2026, 1, 8),
    total=TOTAL,
    assumed_cost_bps=1.0,
    shadow=None,
    benchmark=None,
    risk=RISK,
    models=(),
    tickers=(),
    weekdays=(),
    hours=(),
    cells=(),
    months={},
    pnl_by_session=DAYS,
    rolling_sessions=20,
    rolling=(),
    swaps=(),
    curve=(),
    trades=(),
    trade_bins=(),
    held={},
    notes=("a session is missing",),
)


def test_the_report_begins_with_what_it_is_of_and_each_figure_has_its_own_row() -> None:
    blocks = collect_blocks(performance.draw_performance, REPORT)
    lines = list_lines(blocks)
    assert lines[0] == ("bars from polygon, paper ledger, 4 sessions, 2026-01-05 to 2026-01-08, capital 100,000 USD")
    assert lines[1] == "note: a session is missing"
    assert read_pairs(list_grids(blocks)[0]) == [
        ("P&L, net, USD", "+300.00"),
        ("P&L, net", "+0.300%"),
        ("P&L, gross, USD", "+400.50"),
        ("Sharpe, net", "1.50 (4 sessions)"),
        ("  90 % interval", "-2.00 to +5.00"),
        ("P(true Sharpe > 0)", "0.75"),
        ("max drawdown", "0.200%"),
        ("trades", "1,234"),
        ("win rate", "50.0%"),
        ("profit factor", "1.25"),
        ("fills", "2,345"),
        ("turnover, x capital", "6.8"),
        ("exposure", "33.3%"),
        ("commission, USD", "20.25"),
        ("slippage, USD", "80.25"),
        ("  beyond the open, USD", "50.00"),
        ("  timing, USD", "30.25"),
        ("fees, dividends, interest", "-3.50"),
        ("cost, bp of turnover", "1.50"),
        ("break-even cost, bp", "6.00"),
    ]
    invented = collect_blocks(performance.draw_performance, replace(REPORT, synthetic=True))
    assert find_style(invented, "SYNTHETIC bars, paper ledger") == "bold magenta"


def test_what_trading_cost_is_said_beside_what_was_assumed_and_what_it_might_have_been() -> None:
    (line,) = [line for line in list_lines(collect_blocks(performance.draw_performance, REPORT)) if "assumed" in line]
    assert line == "Cost 1.5 bp of turnover against 1 bp assumed; the P&L would be used up at 6 bp."
    untraded = replace(REPORT, total=replace(TOTAL, cost_bps=None))
    assert "assumed" not in str(list_lines(collect_blocks(performance.draw_performance, untraded)))


def test_shadow_and_buy_and_hold_stand_beside_the_bot_with_what_can_be_compared() -> None:
    report = replace(REPORT, shadow=replace(TOTAL, net_usd=-1.0, pnl=-0.5, charges_usd=0.5), benchmark=BENCHMARK)
    blocks = collect_blocks(performance.draw_performance, report)
    grid = list_grids(blocks)[0]
    assert grid.columns == ("", "bot", "shadow", "buy and hold")
    rows = {row[0].text: tuple(cell.text for cell in row[1:]) for row in grid.rows}
    assert rows["P&L, net, USD"] == ("+300.00", "-1.00", "")
    assert rows["fees, dividends, interest"] == ("-3.50", "+0.50", "")
    assert rows["P&L, net"] == ("+0.300%", "-50.000%", "+2.000%")
    assert rows["Sharpe, net"] == ("1.50 (4 sessions)", "1.50 (4 sessions)", "2.50 (4 sessions)")
    assert rows["  90 % interval"][2] == "+0.00 to +4.00"
    assert rows["max drawdown"] == ("0.200%", "0.200%", "1.000%")
    assert [name for name, cells in rows.items() if cells[2]] == [
        "P&L, net",
        "Sharpe, net",
        "  90 % interval",
        "max drawdown",
    ]
    assert "Sharpe less that of buy and hold (2 tickers): -1.00 (-3.00 to +1.00)" in list_lines(blocks)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"note": "bought on 2026-01-06"}, "-1.00 (-3.00 to +1.00); bought on 2026-01-06"),
        ({"difference": None, "difference_interval": None}, "not defined over 4 sessions"),
    ],
)
def test_a_comparison_that_needs_a_word_has_it(changes: dict[str, object], told: str) -> None:
    report = replace(REPORT, benchmark=replace(BENCHMARK, **changes))  # type: ignore[arg-type]
    lines = list_lines(collect_blocks(performance.draw_performance, report))
    assert f"Sharpe less that of buy and hold (2 tickers): {told}" in lines


def test_the_model_in_use_stands_out_and_each_model_s_exam_stands_beside_what_it_made() -> None:
    model = ModelFigures(
        model_id="old",
        from_=date(2026, 1, 5),
        to=date(2026, 1, 6),
        live=replace(TOTAL, sessions=20),
        exam_sharpe=3.0,
        exam_interval=None,
        exam_from=None,
        exam_to=None,
        exam_sessions=3,
        in_use=False,
    )
    models = [model, replace(model, model_id="new", in_use=True, exam_sharpe=None)]
    blocks = collect_blocks(performance.draw_models, models, "paper")
    (grid,) = list_grids(blocks)
    old, new = read_columns(grid)
    assert (old["paper"], old["90 %"], old["exam"]) == ("1.50", "-2.00 to +5.00", "3.00 (3 sessions)")
    assert (new["exam"], new["net USD"], new["sessions"]) == ("-", "+300.00", "20")
    assert [row[0].style for row in grid.rows] == ["", "bold green"]
    assert list_lines(blocks)[-1] == "In use: new"
    assert list_lines(collect_blocks(performance.draw_models, [model], "paper"))[-1] == "In use: none"


def test_the_parts_of_the_pnl_are_told_by_ticker_weekday_and_hour_in_this_order() -> None:
    part = PartFigures(
        name="AAPL",
        net_usd=-12.5,
        pnl=0.1,
        turnover=1.25,
        trades=1000,
        hit_rate=None,
        profit_factor=None,
        cost_bps=2.5,
    )
    report = replace(
        REPORT, tickers=(part,), weekdays=(replace(part, name="Monday"),), hours=(replace(part, name="9"),)
    )
    grids = list_grids(collect_blocks(performance.draw_performance, report))[-3:]
    assert [grid.title for grid in grids] == [
        "By ticker",
        "By weekday",
        "By hour of the exchange's clock: the shares opened, and the trades begun in it",
    ]
    assert [grid.rows[0][0].text for grid in grids] == ["AAPL", "Monday", "9"]
    assert read_columns(grids[0]) == [
        {
            "ticker": "AAPL",
            "net USD": "-12.50",
            "turnover": "1.2",
            "trades": "1,000",
            "won": "-",
            "profit factor": "-",
            "cost bp": "2.50",
        }
    ]


def test_the_course_of_the_equity_begins_at_nothing_and_ends_with_the_sum() -> None:
    lines = list_lines(collect_blocks(performance.draw_performance, REPORT))
    assert lines[-1] == "Equity, 2026-01-05 to 2026-01-08: ▃▅▁██ +0.30% of capital", "0, 0.1, -0.1, 0.3 and 0.3 %"
    years = replace(REPORT, pnl_by_session={**{str(n): 0.001 for n in range(999)}, "last": -0.999})
    equity = list_lines(collect_blocks(performance.draw_performance, years))[-1].split(": ")[1].split(" ")[0]
    assert len(equity) <= 61
    assert (equity[0], equity[-2], equity[-1]) == ("▁", "█", "▁"), "the last session is shown however many there are"
