"""What a person is told of the bot: by `trade --status`, after a replay, at its end, of the kill switch."""

from dataclasses import replace
from datetime import UTC, date, datetime

import polars as pl
import pytest

from hftcl.trading.run.kill_switch import ClearReport, HaltReport
from hftcl.trading.run.replay_report import ReplayReport, Told
from hftcl.trading.run.status import BookStatus, StatusReport, Usage
from hftcl.trading.run.trade_report import TradeReport
from hftcl.views import trading
from hftcl.views.blocks import collect_blocks
from tests.views.drawn import find_style, list_grids, list_lines, read_columns, read_pairs

AT = datetime(2025, 6, 2, 14, 31, 59, tzinfo=UTC)
MODEL = "20250531_120000"

BOOK = BookStatus(
    book="production",
    model_id=MODEL,
    since=AT,
    positions={"AAPL": -7.0, "BTC": 0.25},
    pnl_today=12.5,
    equity=100_012.5,
    orders=1200,
    fills=1100,
    refusals={"max_gross": 2, "cooldown": 1},
    fill_cost_bps=1.234,
    timing_bps=-0.5,
    charges=-3.2,
)
EMPTY_BOOK = replace(
    BOOK, book="shadow", charges=0.5, model_id=None, since=None, positions={}, pnl_today=None, refusals={}
)
STATUS = StatusReport(
    running=True,
    mode="paper",
    pid=77,
    source="polygon",
    synthetic=False,
    model_id=MODEL,
    since=AT,
    last_decision=AT,
    last_minute=AT,
    data_lag_s=2.6,
    session="2025-06-02",
    positions={},
    pnl_today=None,
    equity=None,
    capital=None,
    limits={
        "max_gross": Usage(used=79.9, limit=100.0),
        "max_net": Usage(used=80.0, limit=100.0),
        "daily_loss": Usage(used=100.0, limit=100.0),
        "orders": Usage(used=0.0, limit=0.0),
    },
    halted=None,
    reloads=3,
    errors=(),
    codes={"trade": 1000, "hold": 2},
    left_alone={},
    awaited_splits={},
    barred=None,
    flatten_minutes=None,
    strange_months=(),
    books=(BOOK, EMPTY_BOOK),
)


def test_status_tells_first_whether_the_bot_runs() -> None:
    blocks = collect_blocks(trading.draw_status, STATUS)
    assert list_lines(blocks) == ["RUNNING (process 77), paper"], "and nothing that is not so"
    assert find_style(blocks, "RUNNING") == "bold green"
    stopped = collect_blocks(trading.draw_status, replace(STATUS, running=False, pid=None))
    assert list_lines(stopped) == ["NOT RUNNING, paper"]
    assert find_style(stopped, "NOT RUNNING") == "bold yellow"


def test_status_of_a_home_without_a_bot_says_how_to_begin_and_draws_no_empty_table() -> None:
    (line,) = collect_blocks(trading.draw_status, replace(STATUS, mode=None))
    assert "`hftcl trade` starts one" in line.text  # type: ignore[union-attr]


def test_status_says_whatever_keeps_the_bot_from_trading_and_how_to_end_it() -> None:
    report = replace(
        STATUS,
        halted="daily_loss: it lost 1,000 USD",
        barred="the account is blocked",
        left_alone={"TSLA": -3.0},
        awaited_splits={"NVDA": 10.0},
        strange_months=("2025-04", "2025-05"),
        errors=("the feed was away",),
    )
    blocks = collect_blocks(trading.draw_status, report)
    told = list_lines(blocks)
    assert told[1] == "HALTED: daily_loss: it lost 1,000 USD. `hftcl trade --clear` lets it trade again."
    assert told[2] == "OPENS NOTHING: the account is blocked"
    assert told[3] == "left alone: -3 TSLA, which the bot did not trade or cannot explain"
    assert told[4] == "left alone: NVDA, until the broker has done its split, 10 for 1"
    assert "archived decisions of 2025-04, 2025-05 are not those of this ledger" in told[5]
    assert told[6] == "error: the feed was away"
    assert {find_style(blocks, begin) for begin in ("HALTED", "OPENS NOTHING", "The archived")} == {"bold red"}


def test_status_shows_a_limit_in_yellow_from_four_fifths_on_and_in_red_once_it_is_used_up() -> None:
    bot, _ = list_grids(collect_blocks(trading.draw_status, STATUS))
    limits = {name.text: value for name, value in bot.rows if name.text.startswith("limit ")}
    assert {name: cell.style for name, cell in limits.items()} == {
        "limit max_gross": "",
        "limit max_net": "yellow",
        "limit daily_loss": "red",
        "limit orders": "",
    }
    assert limits["limit max_gross"].text == "79.90 of 100.00 USD (80%)"
    assert limits["limit orders"].text == "0.00 of 0.00 USD (0%)", "a limit of nothing divides by nothing"


def test_status_tells_bars_lag_and_codes_of_the_bot_and_the_money_of_each_book() -> None:
    bot, books = list_grids(collect_blocks(trading.draw_status, STATUS))
    told = dict(read_pairs(bot))
    assert told["bars"] == "bars from polygon"
    assert told["last decision on"] == "2025-06-02 14:31 UTC"
    assert told["lag of the data, s"] == "3"
    assert told["decisions by code"] == "trade 1,000, hold 2"
    assert told["to close everything, min"] == "-"
    assert books.columns == ("", "production", "shadow")
    rows = {name.text: (one.text, other.text) for name, one, other in books.rows}
    assert rows["model"] == (MODEL, "none")
    assert rows["since"] == ("2025-06-02 14:31 UTC", "-")
    assert rows["P&L today, USD"] == ("+12.50", "-")
    assert rows["equity, USD"] == ("100,012.50", "100,012.50")
    assert (rows["orders today"][0], rows["fills today"][0]) == ("1,200", "1,100")
    assert rows["fills beyond the open, bp"][0] == "1.23"
    assert rows["timing, bp"][0] == "-0.50"
    assert rows["fees, dividends, interest"] == ("-3.20", "+0.50")
    assert rows["refused today"] == ("max_gross 2, cooldown 1", "none")
    assert rows["positions"] == ("-7 AAPL, 0.25 BTC", "flat")


def test_status_never_calls_invented_bars_by_the_name_of_their_source() -> None:
    bot, _ = list_grids(collect_blocks(trading.draw_status, replace(STATUS, synthetic=True)))
    assert dict(read_pairs(bot))["bars"] == "SYNTHETIC bars"


# --- orders and fills -------------------------------------------------------------------------------------------------

ORDERS = pl.DataFrame(
    {
        "number": [1, 2],
        "ts": [AT, AT],
        "ticker": ["AAPL", "AMD"],
        "quantity": [1234.5, None],
        "reference_price": [1000.0, None],
        "state": ["filled", "refused"],
        "code": ["", "max_gross"],
        "reason": [None, "over the limit"],
    }
)


def test_an_order_is_drawn_with_its_sign_and_a_refused_one_with_the_reason() -> None:
    lines = trading.list_lines(trading.OrderLine, ORDERS)
    (grid,) = list_grids(collect_blocks(trading.draw_orders, lines))
    filled, refused = read_columns(grid)
    assert (filled["shares"], filled["price"], filled["why"]) == ("+1,234.5", "1,000.00", "")
    assert (refused["shares"], refused["price"], refused["why"]) == ("-", "-", "max_gross over the limit")
    assert [row[4].style for row in grid.rows] == ["green", "yellow"]
    assert list_lines(collect_blocks(trading.draw_orders, [])) == ["No order in this session."]


def test_a_column_that_the_ledger_no_longer_has_is_an_error_and_no_empty_cell() -> None:
    with pytest.raises(pl.exceptions.ColumnNotFoundError, match="reason"):
        trading.list_lines(trading.OrderLine, ORDERS.drop("reason"))


def test_a_fill_is_drawn_beside_the_price_that_it_was_decided_at() -> None:
    line = trading.FillLine(
        ts=AT, ticker="AMD", quantity=-71.0, price=99.98765, reference_price=100.0, commission=0.355, model_id=None
    )
    (grid,) = list_grids(collect_blocks(trading.draw_fills, [line]))
    (row,) = read_columns(grid)
    assert row == {
        "bar, UTC": "2025-06-02 14:31",
        "ticker": "AMD",
        "shares": "-71",
        "price": "99.9877",
        "decided at": "100.0000",
        "commission": "0.35",
        "model": "-",
    }
    assert list_lines(collect_blocks(trading.draw_fills, [])) == ["No fill in this session."]


# --- a run's end, the kill switch -------------------------------------------------------------------------------------


def test_a_bot_s_last_words_tell_what_it_did_what_it_holds_and_why_it_was_halted() -> None:
    report = TradeReport(
        mode="paper",
        model_id=None,
        started_at=AT,
        stopped_at=AT,
        decisions=1,
        orders=2,
        reloads=0,
        positions={"AAPL": 5.0, "AMD": -0.5},
        equity=99_000.0,
        halted="drawdown: 10 %",
        note="Stopped by SIGTERM.",
    )
    assert list_lines(collect_blocks(trading.draw_trade, report)) == [
        "Stopped by SIGTERM. paper, model none: 1 decision, 2 orders, 0 reloads; equity 99,000.00 USD.",
        "HALTED drawdown: 10 %",
        "held: 5 AAPL",
        "held: -0.5 AMD",
    ]
    calm = collect_blocks(trading.draw_trade, replace(report, halted=None, positions={}))
    assert len(list_lines(calm)) == 1


def test_a_kill_switch_that_did_not_act_is_not_called_halted() -> None:
    report = HaltReport(halted=True, by_bot=False, orders=1, positions={"AMD": 3.0}, note="1 order was sent.")
    assert list_lines(collect_blocks(trading.draw_halt, report)) == [
        "HALTED. 1 order was sent.",
        "held: 3 AMD",
        "`hftcl trade --clear` lets it trade again.",
    ]
    assert list_lines(collect_blocks(trading.draw_halt, replace(report, halted=False)))[0] == "NOT HALTED YET."


@pytest.mark.parametrize(
    ("cleared", "file", "told"),
    [
        ((), False, "Nothing was halted."),
        ((), True, "Cleared: the halt file. The bot may trade again."),
        (("daily_loss", "drawdown"), True, "Cleared: daily_loss, drawdown. The bot may trade again."),
    ],
)
def test_it_is_told_what_was_cleared(cleared: tuple[str, ...], file: bool, told: str) -> None:
    report = ClearReport(cleared=cleared, file=file)
    assert list_lines(collect_blocks(trading.draw_clear, report)) == [told]


# --- a replay ---------------------------------------------------------------------------------------------------------

REPLAY = ReplayReport(
    model_id=MODEL,
    from_=date(2025, 6, 2),
    to=date(2025, 6, 3),
    sessions=2,
    tickers=("AAPL", "AMD"),
    left_out={"TSLA": "no bars"},
    source="files",
    synthetic=False,
    unseen=True,
    edge="live",
    decisions=1560,
    orders=40,
    fills=1041,
    reloads=1,
    pnl=-0.001,
    pnl_by_session={"2025-06-02": 0.002, "2025-06-03": -0.003},
    positions_sha256="a" * 64,
    latency_ms={"p50": 1.25, "p99": None},
    refusals={},
    codes={"trade": 40},
    capital=50_000.0,
    halted=None,
    broker="paper",
    alerts=(),
    apart={},
    seconds=1.26,
)


def test_a_replay_tells_each_session_in_capital_and_dollars_and_the_command_that_must_agree() -> None:
    blocks = collect_blocks(trading.draw_replay, REPLAY)
    days, figures = list_grids(blocks)
    assert [tuple(cell.text for cell in row) for row in days.rows] == [
        ("2025-06-02", "+0.200%", "+100.00"),
        ("2025-06-03", "-0.300%", "-150.00"),
    ]
    told = dict(read_pairs(figures))
    assert told["P&L, net"] == "-0.100%"
    assert (told["decisions"], told["orders"], told["fills"]) == ("1,560", "40", "1,041")
    assert told["refused orders"] == "none"
    assert told["bar to order, ms"] == "p50 1.2, p99 -"
    lines = list_lines(blocks)
    assert lines[0] == (f"REPLAY of model {MODEL} on bars from files: 2 sessions, 2025-06-02 to 2025-06-03; AAPL, AMD")
    assert lines[1] == "left out: TSLA: no bars"
    assert lines[-1] == (
        f"`hftcl exam {MODEL} --from 2025-06-02 --to 2025-06-03` gives the same positions_sha256. 1.3 s"
    )
    assert lines[2] == f"positions_sha256 {'a' * 64}", "a line of its own: a cell would break what is to be copied"
    assert len(lines) == 5


def test_a_replay_of_sessions_that_the_model_knows_says_so_before_its_figures() -> None:
    blocks = collect_blocks(trading.draw_replay, replace(REPLAY, unseen=False, halted="drawdown: 10 %", synthetic=True))
    lines = list_lines(blocks)
    assert "on SYNTHETIC bars" in lines[0]
    assert lines[1] == "The model was trained on some of these sessions: what it earns here says nothing."
    assert lines[2] == "HALTED drawdown: 10 %"
    assert find_style(blocks, "REPLAY") == "bold magenta"
    assert find_style(collect_blocks(trading.draw_replay, REPLAY), "REPLAY") == "bold"


def test_a_rehearsal_is_named_so_and_tells_each_alert_of_a_live_run_and_shares_that_are_apart() -> None:
    once = Told(at=AT, kind="halted", subject="trading is halted", text="It lost.", count=1)
    often = replace(once, subject="no bars", text="Polygon is away.", count=12)
    report = replace(REPLAY, broker="strict-paper", alerts=(once, often), apart={"AMD": -2.0})
    lines = list_lines(collect_blocks(trading.draw_replay, report))
    assert lines[0].startswith("REHEARSAL of model ")
    assert lines[3:6] == [
        "would be told 2025-06-02 14:31 UTC: trading is halted. It lost.",
        "would be told 2025-06-02 14:31 UTC (12 times): no bars. Polygon is away.",
        "the broker holds -2 AMD more than the ledger",
    ]


def test_a_replay_falls_short_by_the_first_halt_that_was_told_else_by_the_latch_else_by_shares_that_are_apart() -> None:
    told = Told(at=AT, kind="halted", subject="trading is halted", text="The session has lost 2 %.", count=1)
    halted = replace(REPLAY, halted="drawdown: 10 %", apart={"AMD": -2.0, "TSLA": 1.5})
    by_alert = replace(halted, alerts=(replace(told, kind="data_hole", text="No bars."), told)).shortfall
    assert by_alert == (
        "The replay was halted, and opened nothing more: The session has lost 2 %. Mend that, and replay again."
    )
    assert "nothing more: drawdown: 10 %. Mend" in str(halted.shortfall)
    assert "AMD -2, TSLA +1.5." in str(replace(halted, halted=None).shortfall)
    assert REPLAY.shortfall is None
