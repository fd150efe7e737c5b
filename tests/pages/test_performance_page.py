"""`hftcl report` and its page as a user meets them: real ledgers, real processes, a page that needs no network."""

import base64
import csv
import hashlib
import json
import os
import pty
import re
import subprocess
from dataclasses import fields, replace
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hftcl import PerformanceTracker, config
from hftcl import pages as page
from hftcl.document import build_document
from hftcl.errors import IntegrityError, UsageError
from hftcl.home import Home
from hftcl.market.store import BarStore
from hftcl.market.window import open_market
from hftcl.pages.chart_data import read_script
from hftcl.pages.performance import draw_tiles
from hftcl.pages.performance_charts import draw_monthly, draw_session_bins, draw_weekly, trade_bins
from hftcl.pages.risk import draw_sessions
from hftcl.performance.prices import read_prices
from hftcl.performance.reports import CellFigures, PerformanceReport
from hftcl.performance.risk import compute_risk
from hftcl.performance.story import Importances, measure_performance
from hftcl.settings import Settings
from tests.in_process import call
from tests.installed import HFTCL, one_line, run
from tests.ledger.ledger_cases import write_ledger
from tests.loop_cases import deploy_once
from tests.pages.test_backtest_page import HOSTILE, Tags
from tests.trained import Homes

SHARES = Importances(shares=(("ret_5", 0.7), ("vol_30", 0.3)))
SPAN = (date(2025, 6, 2), date(2025, 7, 31))


def at(home: Path) -> Settings:
    return replace(Settings(), paths=replace(Settings().paths, home=str(home)))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home with a paper ledger of two months and a replay's of a week, both on synthetic bars."""
    home = tmp_path_factory.mktemp("reported")
    about = {"synthetic": "1", "source": "synthetic"}
    write_ledger(home / "ledger.sqlite", first=SPAN[0], last=SPAN[1], meta=about)
    replay = {**about, "mode": "replay"}
    write_ledger(home / "replay" / "ledger.sqlite", last=date(2025, 6, 6), meta=replay, seed=1)
    return home


@pytest.fixture(scope="module")
def found(home: Path) -> PerformanceReport:
    return measure_performance(at(home))


def test_the_same_ledger_gives_the_same_bytes(home: Path, found: PerformanceReport) -> None:
    text = page.draw_performance(found, SHARES)
    assert page.draw_performance(measure_performance(at(home)), SHARES) == text
    assert len(text) < 190_000


def test_the_page_is_well_formed_and_fetches_nothing(found: PerformanceReport) -> None:
    text = page.draw_performance(found, SHARES)
    tags = Tags(text)
    assert tags.open == []
    assert tags.count("link") == tags.count("img") == tags.count("iframe") == 0
    for tag, attributes in tags.found:
        assert not {"src", "href", "style"} & set(attributes), tag
        assert not [name for name in attributes if name.startswith("on")], tag
    assert "url(" not in text
    assert "@import" not in text


def test_its_own_script_and_no_other_may_run(found: PerformanceReport) -> None:
    text = page.draw_performance(found, SHARES)
    script = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    assert len(script) == 1
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def test_the_series_lie_in_the_page_as_json(found: PerformanceReport) -> None:
    text = page.draw_performance(found, SHARES)
    (held,) = re.findall(r'<script type="application/json" id="series">(.*?)</script>', text, flags=re.DOTALL)
    series = json.loads(held)
    assert dict(zip(series["sessions"], series["pnl"], strict=True)) == found.pnl_by_session
    assert [model for _, model in series["models"]] == [swap.model_id for swap in found.swaps]


def read_chart_data(text: str) -> dict[str, Any]:
    """Return what each chart of a page is read out from, by its name."""
    found = re.findall(r'id="chart-([\w-]+)">.*?<script type="application/json">(.*?)</script>', text, flags=re.DOTALL)
    return {name: json.loads(data) for name, data in found}


def test_what_the_charts_are_read_out_from_are_the_report_s_figures(found: PerformanceReport) -> None:
    courses = read_chart_data(page.draw_performance(found, SHARES))
    assert set(courses) == {"equity", "drawdown", "rolling"}
    bot, held, equal = courses["equity"]["series"]
    assert len(bot["y"]) == len(bot["x"]) == len(found.curve) + 1 == len(courses["equity"]["labels"])
    assert bot["y"][-1] == pytest.approx(100 * found.total.pnl, abs=1e-3)
    assert found.benchmark is not None
    assert held["y"][-1] == pytest.approx(100 * found.benchmark.pnl, abs=1e-3)
    assert found.benchmark.equal_risk_pnl is not None
    assert equal["y"][-1] == pytest.approx(100 * found.benchmark.equal_risk_pnl, abs=1e-3)
    assert courses["rolling"]["series"][0]["y"][-1] == pytest.approx(found.rolling[-1].sharpe, abs=1e-2)
    assert -min(courses["drawdown"]["series"][0]["y"]) == pytest.approx(100 * found.total.max_drawdown, abs=1e-3)


def test_each_ticker_s_trades_stand_on_its_price_and_what_is_left_out_is_told(home: Path, tmp_path: Path) -> None:
    """Where no bars are stored the prices are those that were paid; more tickers than a page has room for are named."""
    names = tuple("ABCDEFGHIJ")
    write_ledger(tmp_path / "ledger.sqlite", tickers=names, meta={"synthetic": "1", "source": "synthetic"})
    few, many = measure_performance(at(home)), measure_performance(at(tmp_path))
    for report, settings in ((few, at(home)), (many, at(tmp_path))):
        prices = read_prices(settings, report)
        text = page.draw_performance(report, SHARES, prices)
        assert Tags(text).open == []
        assert {chart.ticker for chart in prices.charts} | set(prices.left_out) == {t.ticker for t in report.trades}
        drawn = read_chart_data(text)
        assert sum(name.startswith("price-") for name in drawn) == len(prices.charts)
        for place, chart in enumerate(prices.charts, start=1):
            mine = [trade for trade in report.trades if trade.ticker == chart.ticker]
            title = f'aria-label="Price of {chart.ticker} in USD'
            svg = text.split(title, 1)[1].partition("</svg>")[0]
            assert svg.count('class="buy"') == sum(trade.quantity > 0 for trade in mine)
            assert svg.count('class="sell"') == sum(trade.quantity < 0 for trade in mine)
            assert svg.count(' exit"') == len(mine)
            assert "no bars" in chart.note
            paid = {round(price, 3) for trade in mine for price in (trade.entry, trade.exit)}
            assert {round(value, 3) for value in drawn[f"price-{place}"]["series"][0]["y"]} == paid
    assert prices.left_out
    assert f"Left out: {len(prices.left_out)} tickers" in text
    assert f"Entries and exits of the newest 200 trades of {many.total.trades:,}" in text
    assert len(text) < 400_000


def test_prices_are_the_stored_bars_of_the_market_that_was_traded(tmp_path: Path, homes: Homes) -> None:
    homes.copy(tmp_path / "home", deploy_once)
    settings = config.load(None, environ={}, cwd=tmp_path / "home").settings
    source, calendar = open_market(settings)
    ticker = settings.market.watchlist[0]
    store = BarStore(Home.of(settings).bars, source, calendar)
    days = sorted(store.read_held(ticker)[0])[-3:]
    write_ledger(
        tmp_path / "home" / "ledger.sqlite",
        first=days[0],
        last=days[-1],
        tickers=(ticker,),
        meta={"source": "synthetic"},
    )
    report = measure_performance(settings)
    (chart,) = read_prices(settings, report).charts
    bars, _ = store.read_sessions(ticker, days)
    closes = dict(bars.select("ts", "close").iter_rows())
    assert 200 <= len(chart.points) <= 240
    assert all(closes[point.ts] == point.price for point in chart.points)
    places = [point.place for point in chart.points]
    assert places == sorted(places)
    assert 0 <= places[0] < places[-1] < len(days)
    (other,) = read_prices(settings, replace(report, source="files")).charts
    assert "not those that hftcl.toml names" in other.note
    assert len(other.points) < 200
    opened, closed = datetime(2025, 6, 4, 9, 0, tzinfo=UTC), datetime(2025, 6, 4, 9, 30, tzinfo=UTC)  # before the open
    at_night = tuple(replace(trade, opened=opened, closed=closed) for trade in report.trades)
    outside = replace(report, trades=at_night)
    (early,) = read_prices(settings, outside).charts
    assert early.note == "what was paid and got, and no bars: every trade lies outside the hours of trading"
    assert early.sessions == ()
    assert page.draw_performance(outside, SHARES, prices=read_prices(settings, outside))


def test_every_part_is_drawn_and_every_swap_is_a_mark_on_the_curve(found: PerformanceReport) -> None:
    text = page.draw_performance(found, SHARES)
    tags = Tags(text)
    for title in ("Equity", "Drawdown", "Sharpe ratio over 20", "Months", "Sessions", "Models", "Cost", "Trades"):
        assert title in tags.text
    assert tags.count("circle", "class", "mark") == len(found.swaps) == 2
    for model in found.models:
        assert model.model_id in tags.text
    assert tags.count("rect", "class", "share") == 2 * 2, "for a screen and for a phone"
    months = [f"{100 * value:+.2f}" for value in found.months.values()]
    assert len(months) == 2
    assert all(month in tags.text for month in months)


def test_each_session_and_each_trade_is_counted_in_one_bar(found: PerformanceReport) -> None:
    text = page.draw_performance(found, SHARES)
    bars = re.findall(r"<title>([\d,]+) (session|trade)s? from ", text)
    for what, many in (("session", found.total.sessions), ("trade", found.total.trades)):
        assert sum(int(counted.replace(",", "")) for counted, kind in bars if kind == what) == many > 0


def test_the_bars_of_calm_sessions_tell_ranges_that_differ_and_what_made_nothing_is_no_gain(
    found: PerformanceReport,
) -> None:
    """Sixty sessions that spread by 0.03 % were told as "4 sessions from -0.01 to -0.01 %"."""
    net = np.random.default_rng(7).normal(0.0, 0.0003, 60)
    net[:25] = 0.0
    days = [SPAN[0] + timedelta(days=n) for n in range(60)]
    risk = compute_risk(net, days, np.empty(0), sessions_per_year=252)
    text = "".join(draw_sessions(risk, net.size))
    told = re.findall(r'class="(gain|loss)".*?<title>(\d+) sessions? from ([+-]?[\d.]+) to ([+-]?[\d.]+) %<', text)
    assert len({(low, high) for _, _, low, high in told}) == len(told) == 24
    assert all(float(low) < float(high) for _, _, low, high in told)
    for kind, many in (("gain", (net > 0).sum()), ("loss", (net < 0).sum())):
        assert sum(int(counted) for side, counted, *_ in told if side == kind) == many
    assert "25 sessions made nothing, without a bar." in text


def test_where_no_session_made_or_lost_anything_that_is_said_and_no_bar_is_drawn() -> None:
    idle = compute_risk(np.zeros(2), [SPAN[0], SPAN[1]], np.empty(0), sessions_per_year=252)
    assert draw_sessions(idle, 2) == ['<p class="soft">No session made or lost anything.</p>']
    assert draw_session_bins(()) == trade_bins(()) == ""


def test_where_all_trades_made_exactly_nothing_no_caption_stands_without_a_chart(found: PerformanceReport) -> None:
    text = page.draw_performance(replace(found, trade_bins=()), SHARES)
    assert "No trade made or lost anything." in text
    assert "How many trades made how much" not in text
    assert "newest of" in text, "they are listed all the same"


def test_a_figure_of_a_year_never_stands_alone_where_it_is_of_few_sessions(found: PerformanceReport) -> None:
    """One session of +1 % was told as a growth of 1127 % a year, three as a Calmar ratio of 237."""
    net = np.array([0.01, -0.002, 0.008])
    days = [SPAN[0] + timedelta(days=n) for n in range(3)]
    risk = compute_risk(net, days, np.empty(0), sessions_per_year=252)
    text = draw_tiles(replace(found, risk=risk, total=replace(found.total, sessions=3)))
    told = dict(re.findall(r"<span>([^<]*)</span><b>([^<]*)</b>", text))
    for name in ("CAGR", "Volatility", "Sortino ratio", "Calmar ratio"):
        assert told[name].endswith(" (3 sessions)"), name
    assert told["VaR, 95 %"] == told["CVaR, 95 %"] == "-"
    assert "(" not in dict(re.findall(r"<span>([^<]*)</span><b>([^<]*)</b>", draw_tiles(found)))["CAGR"]


def test_a_phone_is_shown_the_months_and_hours_one_below_the_other_and_none_that_is_empty(
    found: PerformanceReport,
) -> None:
    title = 'aria-label="Net P&amp;L by month in percent of capital"'
    wide, narrow = (drawn.partition("</svg>")[0] for drawn in page.draw_performance(found, SHARES).split(title)[1:])
    assert re.findall(r">([A-Z][a-z]{2})<", wide)[::11] == ["Jan", "Dec"]
    assert re.findall(r">([A-Z][a-z]{2})<", narrow) == ["Jun", "Jul"]
    figures = [re.findall(r">([+-][\d.]+)<", drawn) for drawn in (wide, narrow)]
    assert figures[0] == figures[1] == [f"{100 * value:+.2f}" for value in (*found.months.values(), found.total.pnl)]


@pytest.mark.parametrize("hours", [7, 24])
def test_no_cell_of_a_heat_map_is_narrower_than_its_figure_and_none_is_lost(
    found: PerformanceReport, hours: int
) -> None:
    """Ten years on a phone, and the hours of a market that never closes on a screen too, lay on one another."""
    days = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[: 5 if hours == 7 else 7]
    cells = tuple(
        CellFigures(weekday=day, hour=hour, clock=f"{hour:02}:00-{hour + 1:02}:00", net_usd=100.0 * place + hour)
        for place, day in enumerate(days)
        for hour in range(hours)
    )
    weekdays = tuple(replace(found.weekdays[0], name=day) for day in days)
    months = {f"{year}-{month:02}": 0.0001 * month for year in range(2016, 2026) for month in range(1, 13)}
    maps = (
        (draw_monthly(months), 10 * 13),
        (draw_weekly(replace(found, cells=cells, weekdays=weekdays)), len(days) * hours),
    )
    for drawn, many in maps:
        for size in ("960", "360"):
            svg = drawn.partition(f'viewBox="0 0 {size} ')[2].partition("</svg>")[0]
            assert len(re.findall("<rect", svg)) == many
            assert min(float(wide) for wide in re.findall(r'<rect[^>]* width="([\d.]+)"', svg)) >= 47
            corners = re.findall(r'<rect[^>]* x="([\d.]+)" y="([\d.]+)"', svg)
            assert len(set(corners)) == many, "none lies on another"


def test_marks_lie_on_the_equity_curve(found: PerformanceReport) -> None:
    text = page.draw_performance(found, SHARES)
    (curve,) = re.findall(r'<polyline class="curve main" stroke="var\(--c0\)" points="([^"]+)"', text)
    marks = re.findall(r'<circle class="mark"[^>]*cx="([\d.]+)" cy="([\d.]+)"', text)
    assert all(f"{x},{y}" in curve.split() for x, y in marks)


def test_a_text_from_elsewhere_stays_a_text(found: PerformanceReport) -> None:
    hostile = replace(
        found,
        synthetic=False,
        source=HOSTILE,
        ledger=HOSTILE,
        models=tuple(replace(each, model_id=HOSTILE) for each in found.models),
        swaps=tuple(replace(each, model_id=HOSTILE) for each in found.swaps),
        tickers=tuple(replace(each, name=HOSTILE) for each in found.tickers),
        trades=tuple(replace(each, ticker=HOSTILE, model_id=HOSTILE) for each in found.trades),
        notes=(HOSTILE,),
    )
    for shares in (Importances(shares=((HOSTILE, 1.0),)), Importances(shares=(), problem=HOSTILE)):
        tags = Tags(page.draw_performance(hostile, shares))
        assert tags.open == []
        assert tags.count("script") == 5, "the series, those of three charts, and our own"
        assert not [tag for tag, attributes in tags.found if "src" in attributes]
        assert HOSTILE in tags.text, "it is shown as it is"


def test_what_is_undefined_is_a_dash_and_no_nan_is_drawn(home: Path) -> None:
    day = measure_performance(at(home), until=SPAN[0])
    nothing = replace(day.total, sharpe=None, hit_rate=None, cost_bps=None, break_even_bps=None, exposure=None)
    bare = replace(day, total=nothing, benchmark=None, trades=(), trade_bins=(), models=(), swaps=(), notes=())
    for each in (day, bare):
        text = page.draw_performance(each, Importances(shares=(), problem="no model decided"))
        assert Tags(text).open == []
        assert not re.search(r"\bnan\b|\binf\b|None", text.replace(read_script(), ""))
        assert "A curve needs 21 sessions" in text


def test_synthetic_is_labelled_on_the_page(found: PerformanceReport) -> None:
    assert "SYNTHETIC" in page.draw_performance(found, SHARES)
    assert "SYNTHETIC" not in page.draw_performance(replace(found, synthetic=False, source="files"), SHARES)


# --- the command ------------------------------------------------------------------------------------------------------


def test_piped_each_row_is_one_line_and_the_last_one_is_the_course(home: Path) -> None:
    done = call(home, "report", "--since", "2025-06-10")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("SYNTHETIC bars, paper ledger, 36 sessions, 2025-06-10 to 2025-07-31")
    assert sum(line.startswith("AAPL") for line in lines) == 1
    assert {"Mon", "Tue", "Wed", "Thu", "Fri"} <= {line.split()[0] for line in lines}
    assert re.match(r"Equity, 2025-06-10 to 2025-07-31: [▁▂▃▄▅▆▇█]+ [+-]\d+\.\d\d% of capital$", lines[-1])
    assert "\x1b" not in done.stdout


def test_json_is_the_report_with_every_field(home: Path, found: PerformanceReport) -> None:
    done = call(home, "report", "--json")
    assert done.stderr == ""
    told = json.loads(done.stdout)
    assert told == json.loads(json.dumps(build_document(found)))
    assert set(told) == {item.name.rstrip("_") for item in fields(PerformanceReport)}


def test_the_replay_is_another_ledger_and_html_is_written(home: Path, tmp_path: Path) -> None:
    done = call(home, "report", "--replay", "--html", str(tmp_path / "r.html"), "--until", "2025-06-05")
    assert done.returncode == 0, done.stderr
    assert "replay ledger, 4 sessions" in done.stdout
    assert re.search(
        r"^Sharpe less that of buy and hold \(\d tickers\): not defined over \d sessions", done.stdout, re.M
    )
    text = (tmp_path / "r.html").read_text()
    assert "replay ledger" in text
    assert "Not known: No model 20250613_010000 is in the archive" in text


def on_a_terminal(home: Path, columns: int) -> str:
    """Return what `report` shows on a terminal that is `columns` wide."""
    primary, secondary = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns)}
    with subprocess.Popen([HFTCL, "report"], cwd=home, stdout=secondary, env=environment) as process:
        os.close(secondary)
        shown = b""
        while True:
            try:
                chunk = os.read(primary, 65536)
            except OSError:  # the other end is closed
                break
            if not chunk:
                break
            shown += chunk
    os.close(primary)
    assert process.returncode == 0
    return shown.decode()


def test_on_a_terminal_it_is_tables_and_80_columns_break_no_number(home: Path, found: PerformanceReport) -> None:
    assert any(abs(part.net_usd) >= 1000 for part in found.tickers)
    shown = on_a_terminal(home, 80)
    assert "┏" in shown
    assert "Performance, net of every cost" in shown
    for part in (*found.tickers, *found.weekdays, *found.hours):
        assert f"{part.net_usd:+,.2f} " in shown


def test_a_terminal_of_another_alphabet_gets_the_report_without_its_sparkline(home: Path) -> None:
    done = run(home, "report", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "By hour" in done.stdout


def test_an_empty_ledger_is_one_sentence_and_status_one(tmp_path: Path) -> None:
    done = call(tmp_path, "report", "--html", "page.html")
    assert (done.returncode, done.stdout) == (1, "")
    assert one_line(done).startswith("hftcl: Nothing has been traded yet")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(("--since", "last week"), "is no date"), (("--html", "missing/page.html"), "does not exist")],
)
def test_wrong_input_is_told_in_a_line(home: Path, arguments: tuple[str, ...], told: str) -> None:
    done = call(home, "report", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in one_line(done)


def test_a_damaged_ledger_is_named(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(b"SQLite format 3\x00" + b"\xff" * 5000)
    with pytest.raises(IntegrityError, match=r"ledger\.sqlite is damaged"):
        PerformanceTracker(at(tmp_path)).report()


# --- from Python ------------------------------------------------------------------------------------------------------


def test_the_guide_s_call_prints_the_report_from_that_day_on(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)
    PerformanceTracker().print_report(start_date="2025-07-01")
    assert "2025-07-01 to 2025-07-31" in capsys.readouterr().out
    tracker = PerformanceTracker(at(home), replay=True)
    assert tracker.report(start_date=date(2025, 6, 4)).total.sessions == 3
    assert capsys.readouterr().out == ""
    assert tracker.html(tracker.report()).startswith("<!doctype html>")


def test_drawdown_is_one_figure_in_tile_chart_and_table(found: PerformanceReport) -> None:
    told = page.draw_performance(found, Importances(shares=()))
    deepest = f"{100 * found.total.max_drawdown:.2f}%"
    assert f"<span>Drawdown</span><b>{deepest}</b>" in told
    assert found.risk.drawdowns[0].depth == pytest.approx(found.total.max_drawdown)
    assert f'<td data-name="depth">{deepest}</td>' in told
    ends = accumulate(found.pnl_by_session.values(), initial=0.0)
    tops = accumulate(accumulate(found.pnl_by_session.values(), initial=0.0), max)
    assert max(top - end for top, end in zip(tops, ends, strict=True)) == pytest.approx(found.total.max_drawdown)
    (area,) = re.findall(r'class="under" points="([^"]*)"', told)
    assert area.count(",") == len(found.pnl_by_session) + 3, "the end of each session, as the tile counts; and two feet"


def test_all_trades_are_written_with_their_opening(found: PerformanceReport, tmp_path: Path) -> None:
    many = tuple(replace(found.trades[0], ticker="=cmd") for _ in range(250))
    assert page.write_trades(tmp_path / "t.csv", many) == f"hftcl: wrote {tmp_path / 't.csv'}, 250 trades."
    rows = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    assert len(rows) == 250
    assert rows[0]["opened"] == many[0].opened.isoformat()
    assert rows[0]["ticker"] == "'=cmd", "no formula for a spreadsheet"
    page.write_trades(tmp_path / "t.json", many)
    assert json.loads((tmp_path / "t.json").read_text())[0]["opened"] == many[0].opened.isoformat()
    with pytest.raises(UsageError, match=r"ends with .csv or .json"):
        page.require_trades_file(tmp_path / "t.xlsx")
