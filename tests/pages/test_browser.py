"""The HTML pages in a real browser: drawn without scripts, quiet with them, light, dark, on a phone and on paper.

Skipped by name where playwright or a chromium is missing: neither is needed to use hftcl.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from hftcl import pages as page
from hftcl.performance.prices import read_prices
from hftcl.performance.reports import CellFigures, PerformanceReport
from hftcl.performance.story import Importances, measure_performance
from hftcl.settings import Settings
from tests.browser import OVERFLOWS, PATIENCE_MS, list_serious_faults
from tests.ledger.ledger_cases import sessions, write_ledger
from tests.pages import test_backtest_page, test_features_page, test_search_page

pytestmark = pytest.mark.browser
PAGES = ("report", "backtest", "search")
ALL = (*PAGES, "features")  # the last one has no script and nothing to read out
Open = Callable[..., tuple[Any, list[str]]]


@pytest.fixture(scope="module")
def folder(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a page of each kind; `browser` comes first, for without one there is no need of them."""
    home = tmp_path_factory.mktemp("page")
    days = [day for day, _ in sessions(date(2025, 6, 4), date(2025, 7, 15))]
    swaps = {day: f"{day:%Y%m%d}_010000" for day in days[::2]}  # too many for a label each
    about = {"synthetic": "1", "source": "synthetic"}
    write_ledger(home / "ledger.sqlite", last=days[-1], swaps=swaps, meta=about)
    settings = replace(Settings(), paths=replace(Settings().paths, home=str(home)))
    report = measure_performance(settings)
    shares = Importances(shares=tuple((f"feature_{n}", (31 - n) / 496) for n in range(31)))
    page.write(home / "report.html", page.draw_performance(report, shares, read_prices(settings, report)))
    page.write(home / "backtest.html", page.draw_backtest(test_backtest_page.REPORT))
    page.write(home / "search.html", page.draw_search(test_search_page.REPORT))
    page.write(home / "features.html", page.draw_features(test_features_page.REPORT))
    at_the_left = {"5": None, "30": (-0.25, -0.2, -0.15)}
    long_name = "volume_of_the_last_sessions_" * 2 + "and_more"
    named = replace(test_features_page.WORTHLESS, name=long_name, ic=at_the_left)
    features = replace(test_features_page.REPORT, features=(*test_features_page.REPORT.features, named))
    page.write(home / "features_of_long_names.html", page.draw_features(features))
    page.write(home / "report_of_a_decade.html", page.draw_performance(stretch(report), shares))
    return home


def stretch(report: PerformanceReport) -> PerformanceReport:
    """Return it with ten years of months, and with the days and hours of a market that never closes."""
    days = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
    cells = tuple(
        CellFigures(weekday=day, hour=hour, clock=f"{hour:02}:00-{hour + 1:02}:00", net_usd=-12_345.0 + 1000 * hour)
        for day in days
        for hour in range(24)
    )
    months = {f"{year}-{month:02}": 0.123 - 0.02 * month for year in range(2016, 2026) for month in range(1, 13)}
    weekdays = tuple(replace(report.weekdays[0], name=day) for day in days)
    return replace(report, cells=cells, weekdays=weekdays, months=months)


@pytest.fixture
def opened(browser: Any, folder: Path) -> Iterator[Open]:
    """Return how to open a page: options of a browser's context in, the page and what it complained of out."""
    contexts = []

    def open_page(name: str = "report", **options: Any) -> tuple[Any, list[str]]:
        address = (folder / f"{name}.html").as_uri()
        context = browser.new_context(**{"viewport": {"width": 1100, "height": 900}} | options)
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        tab, told = context.new_page(), []
        tab.on("console", lambda message: told.append(message.text))
        tab.on("pageerror", lambda error: told.append(str(error)))
        tab.on("request", lambda request: None if request.url == address else told.append(request.url))
        tab.goto(address)
        return tab, told

    yield open_page
    for context in contexts:
        context.close()


@pytest.mark.parametrize("name", PAGES)
def test_it_is_whole_without_javascript(opened: Open, name: str) -> None:
    tab, told = opened(name, java_script_enabled=False)
    charts = tab.locator("svg[role=img]:visible")
    assert charts.count() == {"report": 12, "backtest": 7, "search": 2}[name]
    for place in range(charts.count()):
        box = charts.nth(place).bounding_box()
        assert box is not None
        assert box["height"] > 30
        assert box["width"] > 600
    assert tab.locator("table").first.is_visible()
    assert tab.locator("button").count() == 0, "nothing that would do nothing"
    assert told == []


@pytest.mark.parametrize("name", PAGES)
def test_with_javascript_it_is_quiet_and_asks_for_nothing(opened: Open, name: str) -> None:
    tab, told = opened(name)
    assert tab.locator(".chart-box .tools").count() == tab.locator(".chart-box").count() > 0
    assert told == []


def test_dark_and_light_follow_the_reader_s_system(opened: Open) -> None:
    backs = {}
    for scheme in ("light", "dark"):
        tab, _ = opened(color_scheme=scheme, viewport={"width": 1100, "height": 900})
        backs[scheme] = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert len(tab.screenshot(full_page=True)) > 50_000, "a blank page of this size has about 10 kB"
    assert backs == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 24, 29)"}


@pytest.mark.parametrize("width", [375, 800, 1440])
def test_charts_and_tables_are_shown_whole(opened: Open, width: int) -> None:
    """As they come, and zoomed in logs with what is read under them."""
    for name in ALL:
        tab, _ = opened(
            name, viewport={"width": width, "height": 800}, color_scheme="dark" if width == 800 else "light"
        )
        tab.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
        assert tab.evaluate(OVERFLOWS) == [], name
        for chart in tab.locator(".chart-box").all():
            chart.focus()
            for key in ("End", "ArrowLeft", "+", "l"):
                tab.keyboard.press(key)
        assert tab.evaluate(OVERFLOWS) == [], name


@pytest.mark.parametrize("width", [375, 1100])
def test_no_text_of_a_chart_is_cut_off_or_lies_on_another(opened: Open, width: int) -> None:
    for name in (*ALL, "features_of_long_names", "report_of_a_decade"):
        tab, _ = opened(name, viewport={"width": width, "height": 900})
        assert tab.evaluate(TEXTS_AT_FAULT) == [], name
        assert tab.evaluate(TEXTS_TOO_SMALL) == [], name


TEXTS_TOO_SMALL = """() => [...document.querySelectorAll(".chart.small text")].filter(t => t.getBBox().width > 0)
    .map(t => [t.textContent, parseFloat(getComputedStyle(t).fontSize) * t.getScreenCTM().a])
    .filter(([, px]) => px < 10)"""
"""Which texts of the drawings for a phone are below ten pixels, where these are shown."""

TEXTS_AT_FAULT = """() => Array.from(document.querySelectorAll("svg[role=img]")).flatMap(svg => {
            const view = svg.getBoundingClientRect()
            const boxes = Array.from(svg.querySelectorAll("text")).map(t => [t.textContent, t.getBoundingClientRect()])
                .filter(([, b]) => b.width > 0)
            const cut = boxes.filter(([, b]) => b.left < view.left - 1 || b.right > view.right + 1 ||
                b.top < view.top - 4 || b.bottom > view.bottom + 4).map(([text]) => "cut: " + text)
            const lines = Array.from(svg.querySelectorAll("path.curve")).map(r => r.getBoundingClientRect())
                .filter(r => r.width > 0)
            const under = boxes.filter(([, p]) => lines.some(q => p.left < q.right - 1 && q.left < p.right - 1 &&
                p.top + 1 < q.bottom && q.top < p.bottom - 1)).map(([a]) => a + " on a line")
            const over = boxes.flatMap(([a, p], i) => boxes.slice(i + 1).filter(([, q]) =>
                p.left < q.right - 1 && q.left < p.right - 1 && p.top < q.bottom - 2 && q.top < p.bottom - 2)
                .map(([b]) => a + " on " + b))
            const bars = Array.from(svg.querySelectorAll("rect:not([fill-opacity])"))
                .map(r => r.getBoundingClientRect()).filter(r => r.width > 0)
            const on = boxes.filter(([, p]) => bars.some(q => p.left < q.right - 1 && q.left < p.right - 1 &&
                p.top < q.bottom - 2 && q.top < p.bottom - 2)).map(([a]) => a + " on a bar")
            return cut.concat(over, on, under)
        })"""
"""What of a drawing's texts is outside it, or lies on a text, an interval's line or a bar that is no cell of it."""


def test_the_pointer_reads_the_curve_that_lies_under_it(opened: Open) -> None:
    tab, told = opened()
    chart = tab.locator("#chart-equity")
    box = chart.locator("svg").bounding_box()
    tab.mouse.move(box["x"] + box["width"] - 20, box["y"] + 100)
    said = chart.locator(".told").inner_text()
    assert said.startswith("2025-07-15")
    assert "bot +" in said
    assert "buy and hold at the bot's volatility" in said
    assert chart.locator(".hair").count() == 1
    tab.mouse.move(5, 5)
    assert chart.locator(".told").inner_text() == ""
    assert told == []


def test_the_keyboard_reads_every_point_and_shows_where_it_is(opened: Open) -> None:
    tab, told = opened()
    chart = tab.locator("#chart-drawdown")
    chart.focus()
    tab.keyboard.press("Shift+Tab")
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.id") == "chart-drawdown", "the tabulator comes there"
    assert "2px" in chart.evaluate("each => getComputedStyle(each).outline")
    read = []
    for key in ("Home", "ArrowRight", "ArrowRight", "PageDown", "End", "ArrowRight", "ArrowLeft"):
        tab.keyboard.press(key)
        read.append(chart.locator(".told").inner_text().partition(":")[0])
    held = chart.evaluate("each => JSON.parse(each.querySelector('script').textContent)")
    last = len(held["labels"]) - 1
    assert read == [held["labels"][place] for place in (0, 1, 2, 12, last, last, last - 1)]
    assert f"{held['series'][0]['y'][last - 1]:+.3f} %" in chart.locator(".told").inner_text().replace("+-", "-")
    assert chart.get_attribute("role") == "group"
    assert "Left and right read the values" in chart.get_attribute("aria-label")
    assert chart.locator(".told").get_attribute("role") == "status", "a screen reader says it"
    assert told == []


def list_points(chart: Any) -> list[tuple[float, float]]:
    """Return the points of the first line of a chart as they are drawn."""
    points = chart.locator("[data-series='0']").get_attribute("points")
    return [(float(x), float(y)) for x, _, y in (point.partition(",") for point in points.split())]


def test_a_drag_shows_a_part_and_all_shows_the_whole_again(opened: Open) -> None:
    tab, told = opened()
    chart = tab.locator("#chart-equity")
    whole = list_points(chart)
    box = chart.locator("svg").bounding_box()
    tab.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 80)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 120, steps=4)
    assert chart.locator(".band").count() == 1
    tab.mouse.up()
    assert chart.locator(".band").count() == 0
    part = list_points(chart)
    assert len(whole) / 6 < len(part) < len(whole) / 3
    assert part[0][0] == pytest.approx(whole[0][0], abs=1), "it takes the whole width"
    assert part[-1][0] == pytest.approx(whole[-1][0], abs=1)
    heights = [y for _, y in part]
    assert max(heights) - min(heights) > 200, "and the height"
    marks = chart.locator("circle.mark").count()
    assert 0 < marks < 12, "marks that lie outside are gone"
    chart.get_by_role("button", name="Show the whole span").click()
    assert list_points(chart) == whole
    assert chart.locator("circle.mark").count() > marks
    assert told == []


def test_a_zoomed_line_runs_through_the_marks_that_lie_on_it(opened: Open) -> None:
    tab, _ = opened()
    chart = tab.locator("#chart-equity")
    chart.focus()
    for key in ("Home", "+", "+", "l"):
        tab.keyboard.press(key)
    off = chart.evaluate(
        """each => { const line = each.querySelector("[data-series='0']")
            const points = line.getAttribute("points").split(" ").map(p => p.split(",").map(Number))
            return [...each.querySelectorAll("circle.mark")].map(mark => {
                const [dx, dy] = mark.getAttribute("transform").match(/-?[\\d.]+/g).map(Number)
                const [x, y] = [Number(mark.getAttribute("cx")) + dx, Number(mark.getAttribute("cy")) + dy]
                return Math.min(...points.map(([a, b]) => Math.hypot(a - x, b - y))) }) }"""
    )
    assert off
    assert max(off) < 1


def test_keys_zoom_and_the_scale_can_be_logarithmic(opened: Open) -> None:
    """In logs of wealth equal growth is equally high: a line that grows evenly is straight."""
    tab, told = opened("backtest")
    chart = tab.locator("#chart-wealth")
    whole = list_points(chart)
    chart.focus()
    for key, fewer in (("Home", 1.0), ("+", 0.55), ("=", 0.3), ("-", 0.55), ("0", 1.0)):
        tab.keyboard.press(key)
        assert len(list_points(chart)) <= fewer * len(whole), key
    assert list_points(chart) == whole
    tab.keyboard.press("l")
    button = chart.get_by_role("button", name="Logarithmic scale")
    assert button.get_attribute("aria-pressed") == "true"
    held = chart.evaluate("each => JSON.parse(each.querySelector('script').textContent).series[0].y")
    grown = [math.log1p(value / 100) for value in held]
    heights = [y for _, y in list_points(chart)]
    slope = (heights[-1] - heights[0]) / (grown[-1] - grown[0])
    assert heights == pytest.approx([heights[0] + slope * (value - grown[0]) for value in grown], abs=0.2)
    assert heights != pytest.approx([y for _, y in whole], abs=0.01)
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert list_points(chart) == whole
    assert told == []


def test_a_drawing_without_a_chart_s_data_is_read_by_the_keys_too(opened: Open) -> None:
    tab, told = opened()
    chart = tab.locator("div[role=group]", has=tab.locator("svg[aria-label^='How many trades']"))
    chart.focus()
    tab.keyboard.press("ArrowRight")
    first = chart.locator(".told").inner_text()
    tab.keyboard.press("ArrowRight")
    assert " trades from " in first
    assert chart.locator(".told").inner_text() != first
    assert told == []


def test_on_paper_nothing_is_cut_and_what_only_a_screen_has_use_for_is_gone(opened: Open) -> None:
    for name in ALL:
        tab, _ = opened(name, viewport={"width": 720, "height": 900})
        tab.emulate_media(media="print")
        assert tab.evaluate(OVERFLOWS) == [], name
        assert tab.locator(".tools:visible").count() == 0
        heads = tab.evaluate("[...document.querySelectorAll('thead')].map(e => getComputedStyle(e).display)")
        assert set(heads) == {"table-header-group"}, "they come again on each sheet"
        kept = tab.evaluate("[...document.querySelectorAll('h2, h3')].map(e => getComputedStyle(e).breakAfter)")
        assert set(kept) == {"avoid"}, "no heading stands alone at the foot of a sheet"
        assert len(tab.pdf()) > 20_000


def test_on_paper_what_is_folded_on_the_screen_is_there(opened: Open) -> None:
    tab, _ = opened(viewport={"width": 720, "height": 900})
    folded = tab.locator("details:not([open])")
    assert folded.count() > 0
    assert not folded.first.locator("tr").last.is_visible()
    tab.emulate_media(media="print")
    for each in folded.all():
        assert each.locator("tr").last.is_visible()


def test_on_a_phone_a_name_of_a_card_keeps_its_room_beside_a_long_value(opened: Open) -> None:
    tab, _ = opened("search", viewport={"width": 375, "height": 800})
    shrinks = tab.evaluate(
        "[...document.querySelectorAll('.cards td')].map(e => getComputedStyle(e, '::before').flexShrink)"
    )
    assert set(shrinks) == {"0"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_has_no_serious_fault_for_who_reads_it_otherwise(opened: Open, scheme: str) -> None:
    for name in ALL:
        tab, _ = opened(name, color_scheme=scheme, bypass_csp=True)
        assert list_serious_faults(tab) == [], name


def test_a_heading_sorts(opened: Open) -> None:
    tab, _ = opened()
    tickers = tab.locator("table", has=tab.locator("th", has_text="turnover"))
    tickers.locator("th").nth(0).click()
    first = tickers.locator("tbody tr td:first-child").all_inner_texts()
    tickers.locator("th").nth(0).click()
    assert tickers.locator("tbody tr td:first-child").all_inner_texts() == first[::-1]
    assert first == sorted(first, reverse=True)


@pytest.mark.parametrize(
    ("heading", "number"), [("closed, UTC", False), ("held, min", True), ("net USD", True)], ids=["day", "min", "usd"]
)
def test_a_column_sorts_by_what_it_holds(opened: Open, heading: str, number: bool) -> None:
    """A day and time is no number 2025, and 1,024.50 is no text."""
    tab, _ = opened(viewport={"width": 1100, "height": 900})
    trades = tab.locator("table", has=tab.locator("th", has_text="closed, UTC"))
    tab.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
    column = trades.locator("th").all_inner_texts().index(heading)
    trades.locator("th").nth(column).dblclick()
    shown = [cells.split("\t")[column].strip() for cells in trades.locator("tbody tr").all_inner_texts()]
    wanted = sorted(shown, key=lambda text: float(text.replace(",", "")) if number else text)
    assert len(set(shown)) > 5
    assert shown == wanted


def put_hand(tab: Any) -> Callable[..., None]:
    """Return how a hand touches the page: what it does, and where its fingers then are; none where it leaves."""
    hand = tab.context.new_cdp_session(tab)

    def touch(kind: str, *places: tuple[float, float]) -> None:
        points = [{"x": x, "y": y, "id": finger} for finger, (x, y) in enumerate(places)]
        hand.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        # the browser tells of what moves once a frame
        tab.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    return touch


def test_two_fingers_zoom_on_a_phone_hold_what_they_touched_and_one_reads(opened: Open) -> None:
    tab, told = opened(viewport={"width": 375, "height": 800}, has_touch=True, is_mobile=True)
    touch = put_hand(tab)
    chart = tab.locator("#chart-equity")
    chart.scroll_into_view_if_needed()
    whole = list_points(chart)
    box = chart.locator("svg:visible").bounding_box()
    x, y, wide = box["x"], box["y"] + 60, box["width"]
    touch("touchStart", (x + 0.5 * wide, y))
    touch("touchMove", (x + 0.55 * wide, y))
    read = chart.locator(".told").inner_text()
    assert read.startswith("2025-0"), "one finger reads"
    touch("touchEnd")
    left, right = (x + 0.45 * wide, y), (x + 0.65 * wide, y)
    under = [nearest_point(chart, (place[0] - x) / wide) for place in (left, right)]
    touch("touchStart", left, right)
    for step in (1, 2, 3, 4):
        touch("touchMove", (left[0] - 0.05 * step * wide, y), (right[0] + 0.05 * step * wide, y))
    part = list_points(chart)
    assert len(whole) / 4 < len(part) < 0.6 * len(whole), "a third of the span"
    after = [nearest_point(chart, (place - x) / wide) for place in (left[0] - 0.2 * wide, right[0] + 0.2 * wide)]
    assert all(abs(one - other) <= 1 for one, other in zip(after, under, strict=True)), "under the fingers"
    for step in (3, 2, 1, 0):
        touch("touchMove", (left[0] - 0.05 * step * wide, y), (right[0] + 0.05 * step * wide, y))
    assert list_points(chart) == whole, "together again: the whole"
    touch("touchEnd")
    assert tab.evaluate("visualViewport.scale") == 1, "the page itself stays as it is"
    assert told == []


def nearest_point(chart: Any, share: float) -> int:
    """Return which session of the chart lies at a share of its drawing's width, by what is read out there."""
    return int(
        chart.evaluate(
            """(each, share) => { const svg = [...each.querySelectorAll("svg[data-frame]")].find(s => s.clientWidth)
            const box = svg.getBoundingClientRect()
            const at = { clientX: box.left + share * box.width, clientY: box.top + 60, pointerType: "mouse" }
            svg.dispatchEvent(new PointerEvent("pointermove", at))
            const day = each.querySelector(".told").textContent.slice(0, 10)
            return JSON.parse(each.querySelector("script").textContent).labels.indexOf(day) }""",
            share,
        )
    )
