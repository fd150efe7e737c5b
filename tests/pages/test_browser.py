"""The page of `hftcl report` in a real browser: drawn without scripts, quiet with them, light, dark and on a phone.

Skipped by name where playwright or a chromium is missing: neither is needed to use hftcl.
"""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from hftcl import pages as page
from hftcl.performance.story import Importances, performance
from hftcl.settings import Settings
from tests.ledger.ledger_cases import sessions, write_ledger

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no chromium on this machine")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    home = tmp_path_factory.mktemp("page")
    days = [day for day, _ in sessions(date(2025, 6, 4), date(2025, 7, 15))]
    swaps = {day: f"{day:%Y%m%d}_010000" for day in days[::2]}  # too many for a label each
    write_ledger(home / "ledger.sqlite", last=days[-1], swaps=swaps, meta={"synthetic": "1"})
    report = performance(replace(Settings(), paths=replace(Settings().paths, home=str(home))))
    shares = Importances(shares=tuple((f"feature_{n}", (31 - n) / 496) for n in range(31)))
    page.write(home / "page.html", page.performance(report, shares))
    return (home / "page.html").as_uri()


@pytest.fixture
def opened(browser: Any, address: str) -> Iterator[Any]:
    """Return how to open the page: options of a browser's context in, the page and what it complained of out."""
    contexts = []

    def open_page(**options: Any) -> tuple[Any, list[str]]:
        context = browser.new_context(**options)
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


def test_it_is_whole_without_javascript(opened: Any) -> None:
    tab, told = opened(java_script_enabled=False, viewport={"width": 1100, "height": 900})
    charts = tab.locator("svg[role=img]")
    assert charts.count() == 8
    for place in range(charts.count()):
        box = charts.nth(place).bounding_box()
        assert box is not None
        assert box["height"] > 30
        assert box["width"] > 600
    assert tab.locator("table").first.is_visible()
    assert told == []


def test_with_javascript_it_is_quiet_and_asks_for_nothing(opened: Any) -> None:
    _, told = opened()
    assert told == []


def test_dark_and_light_follow_the_reader_s_system(opened: Any) -> None:
    backs = {}
    for scheme in ("light", "dark"):
        tab, _ = opened(color_scheme=scheme, viewport={"width": 1100, "height": 900})
        backs[scheme] = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert len(tab.screenshot(full_page=True)) > 50_000, "a blank page of this size has about 10 kB"
    assert backs == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 24, 29)"}


def test_on_a_phone_nothing_but_charts_and_tables_reaches_beyond_the_screen(opened: Any) -> None:
    tab, _ = opened(viewport={"width": 390, "height": 800})
    assert tab.evaluate("document.documentElement.scrollWidth") == 390


def test_no_text_of_a_chart_is_cut_off_or_lies_on_another(opened: Any) -> None:
    tab, _ = opened(viewport={"width": 1100, "height": 900})
    faults = tab.evaluate(
        """() => Array.from(document.querySelectorAll("svg[role=img]")).flatMap(svg => {
            const view = svg.getBoundingClientRect()
            const boxes = Array.from(svg.querySelectorAll("text")).map(t => [t.textContent, t.getBoundingClientRect()])
            const cut = boxes.filter(([, b]) => b.left < view.left - 1 || b.right > view.right + 1 ||
                b.top < view.top - 1 || b.bottom > view.bottom + 1).map(([text]) => "cut: " + text)
            const over = boxes.flatMap(([a, p], i) => boxes.slice(i + 1).filter(([, q]) =>
                p.left < q.right - 1 && q.left < p.right - 1 && p.top < q.bottom - 4 && q.top < p.bottom - 4)
                .map(([b]) => a + " on " + b))
            return cut.concat(over)
        })"""
    )
    assert faults == []


def test_the_pointer_reads_the_equity_curve_and_a_heading_sorts(opened: Any) -> None:
    tab, told = opened(viewport={"width": 1100, "height": 900})
    box = tab.locator("#equity svg").bounding_box()
    tab.mouse.move(box["x"] + box["width"] - 20, box["y"] + 100)
    assert tab.locator("#told").inner_text().startswith("2025-07-15")
    tickers = tab.locator("table").nth(1)
    tickers.locator("th").nth(0).click()
    first = tickers.locator("tbody tr td:first-child").all_inner_texts()
    tickers.locator("th").nth(0).click()
    assert tickers.locator("tbody tr td:first-child").all_inner_texts() == first[::-1]
    assert first == sorted(first, reverse=True)
    assert told == []


@pytest.mark.parametrize(
    ("heading", "number"), [("closed, UTC", False), ("held, min", True), ("net USD", True)], ids=["day", "min", "usd"]
)
def test_a_column_sorts_by_what_it_holds(opened: Any, heading: str, number: bool) -> None:
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
