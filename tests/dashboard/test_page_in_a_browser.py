"""The dashboard in a real browser: on a phone, a screen and paper, light and dark, with scripts and without.

Skipped by name where playwright or a chromium is missing: neither is needed to use hftcl.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hftcl.archive.registry import Registry
from hftcl.dashboard.charts import HALF, build_record_chart, draw_record
from hftcl.ledger.writer import Ledger
from hftcl.pages.chart_data import enliven
from tests.browser import OVERFLOWS, PATIENCE_MS, list_serious_faults
from tests.dashboard.served import Served, serving
from tests.dashboard.test_charts import record_of
from tests.ledger.ledger_cases import write_ledger
from tests.loop_cases import deploy_once
from tests.trained import Homes

pytestmark = pytest.mark.browser
LONG = "X:" + "VERYLONGNAME" * 4
"""A ticker that no narrow column holds in one line."""


@pytest.fixture(scope="module")
def home(browser: Any, tmp_path_factory: pytest.TempPathFactory, homes: Homes) -> Path:
    home = tmp_path_factory.mktemp("browser") / "home"
    homes.copy(home, deploy_once)
    write_ledger(home / "ledger.sqlite", tickers=("AAPL", "AMD", LONG))
    return home


@pytest.fixture(scope="module")
def served(home: Path) -> Iterator[Served]:
    with serving(home) as page:
        page.wait_for("/", lambda text: "Is being read" not in text)
        yield page


@pytest.fixture
def opened(browser: Any, served: Served) -> Iterator[Any]:
    """Return how to open the first page: options of a browser's context in, the page and what was wrong out."""
    contexts = []

    def open_page(**options: Any) -> tuple[Any, list[str]]:
        context = browser.new_context(**options)
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        tab, told = context.new_page(), []
        tab.on("console", lambda message: told.append(message.text))
        tab.on("pageerror", lambda error: told.append(str(error)))
        context.on(
            "request", lambda request: None if f"127.0.0.1:{served.port}/" in request.url else told.append(request.url)
        )
        tab.goto(served.url)
        assert tab.url == f"http://127.0.0.1:{served.port}/", "the token is gone from the address"
        return tab, told

    yield open_page
    for context in contexts:
        context.close()


def list_pages(home: Path) -> list[str]:
    return ["", "models", f"model/{Registry(home).list_models()[0].model_id}", "ticker/AAPL", f"ticker/{LONG}"]


@pytest.mark.parametrize("width", [375, 800, 1440])
def test_nothing_is_wider_than_the_screen_and_nothing_is_cut(home: Path, opened: Any, width: int) -> None:
    tab, told = opened(viewport={"width": width, "height": 900}, color_scheme="dark" if width == 800 else "light")
    first = tab.url
    for path in list_pages(home):
        tab.goto(first + path)
        tab.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
        assert tab.evaluate(OVERFLOWS) == [], path
    assert told == [], "and nothing was asked elsewhere"


@pytest.mark.parametrize("width", [375, 1100, 1440])
def test_beside_the_equity_there_is_no_room_that_is_left_empty(opened: Any, width: int) -> None:
    tab, _ = opened(viewport={"width": width, "height": 900})
    filled, all_of_it = tab.evaluate(
        """() => { const place = document.querySelector(".beside"), size = e => { const box = e.getBoundingClientRect()
            return box.width * box.height }
            const parts = [place.firstElementChild, ...place.querySelectorAll(".tile")]
            return [parts.reduce((sum, e) => sum + size(e), 0), size(place)] }"""
    )
    assert filled > 0.8 * all_of_it


def test_the_id_of_the_model_that_serves_stands_on_one_line(opened: Any) -> None:
    tab, _ = opened(viewport={"width": 1200, "height": 900})
    tab.locator(".tile a[href^='/model/']").wait_for()
    for width in range(1100, 1300, 20):
        tab.set_viewport_size({"width": width, "height": 900})
        high = tab.evaluate("document.querySelector('.tile a[href^=\"/model/\"]').getClientRects().length")
        assert high == 1, width


def test_on_paper_everything_is_there_and_nothing_is_cut(opened: Any) -> None:
    tab, _ = opened(viewport={"width": 720, "height": 1000})  # A4 between its margins, in CSS pixels
    tab.emulate_media(media="print")
    assert tab.evaluate(OVERFLOWS) == []
    assert tab.evaluate("[...document.querySelectorAll('.tall')].every(e => e.scrollHeight <= e.clientHeight + 1)")


def test_light_and_dark_follow_the_reader_s_system(opened: Any) -> None:
    backs = {}
    for scheme in ("light", "dark"):
        tab, _ = opened(color_scheme=scheme)
        backs[scheme] = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert backs == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 24, 29)"}


def test_without_javascript_it_is_whole_and_reloads(opened: Any) -> None:
    tab, told = opened(java_script_enabled=False, viewport={"width": 1200, "height": 900})
    assert tab.locator("svg[role=img]:visible").count() == 2
    assert tab.locator("table:visible").count() >= 5
    assert tab.locator("meta[http-equiv=refresh]").count() == 1
    assert told == []


def test_a_change_of_the_ledger_appears_by_itself_in_every_tab_and_what_is_open_stays_open(
    home: Path, opened: Any
) -> None:
    tab, told = opened(viewport={"width": 1200, "height": 900})
    other = tab.context.new_page()
    other.goto(tab.url)
    tab.bring_to_front()
    tab.locator("#record-rows summary").click()
    with Ledger(home / "ledger.sqlite") as ledger:
        ledger.latch("kill_switch", "of the browser's test", datetime(2025, 6, 30, 16, 0, tzinfo=UTC))
    for page in (tab, other):
        page.bring_to_front()
        page.locator(".verdict", has_text="of the browser's test").wait_for()
    assert tab.locator("#record-rows").get_attribute("open") is not None
    assert "as of" in tab.locator("#contact").inner_text()
    assert told == []


def test_after_a_restart_a_page_that_stayed_open_lives_again_once_one_is_opened(home: Path, browser: Any) -> None:
    context = browser.new_context()
    context.set_default_timeout(PATIENCE_MS)
    with serving(home) as first:
        stayed = context.new_page()
        stayed.goto(first.url)
        stayed.locator("#contact", has_text="as of").wait_for()
    with serving(home, port=first.port) as second:
        stayed.wait_for_timeout(6000)  # by then the browser has asked with the cookie of the first run, and was refused
        context.new_page().goto(second.url)
        stayed.bring_to_front()
        with Ledger(home / "ledger.sqlite") as ledger:
            ledger.latch("daily_loss", "after the restart", datetime(2025, 6, 30, 16, 0, tzinfo=UTC))
        stayed.locator(".verdict", has_text="after the restart").wait_for()
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_has_no_serious_fault_for_who_reads_it_otherwise(home: Path, opened: Any, scheme: str) -> None:
    """By the rules of axe-core: contrast, names, headings, tables, what can be reached by the keyboard."""
    tab, _ = opened(viewport={"width": 1440, "height": 900}, color_scheme=scheme, bypass_csp=True)
    first = tab.url
    for path in list_pages(home)[:4]:
        tab.goto(first + path)
        assert list_serious_faults(tab) == [], path


def test_charts_are_read_out_and_what_was_zoomed_stays_so_when_a_part_is_put_anew(home: Path, opened: Any) -> None:
    tab, told = opened(viewport={"width": 1200, "height": 900})
    chart = tab.locator("#chart-equity")
    box = chart.locator("svg:visible").bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + 60)
    assert "bot " in chart.locator(".told").inner_text()
    chart.focus()
    for key in ("Home", "PageDown", "+", "l"):
        tab.keyboard.press(key)
    points = "each => each.querySelector('svg [data-series=\"0\"]').getAttribute('points')"
    zoomed = chart.evaluate(points)
    tab.evaluate("document.getElementById('performance').dataset.digest = 'of before'")
    with Ledger(home / "ledger.sqlite") as ledger:
        ledger.latch("broker", "so that the page asks", datetime(2025, 6, 30, 16, 0, tzinfo=UTC))
    tab.locator("#performance:not([data-digest='of before'])").wait_for()
    assert chart.evaluate(points) == zoomed
    assert tab.evaluate("document.activeElement.id") == "chart-equity"
    tab.keyboard.press("0")
    assert len(chart.evaluate(points)) > len(zoomed)
    tab.goto(tab.url + "ticker/AAPL")
    assert told == []


def test_what_was_shown_up_to_the_newest_session_goes_along_with_newer_ones(opened: Any) -> None:
    """And a part further back stays, until it is drawn no more: then the whole is shown."""
    tab, told = opened(viewport={"width": 1200, "height": 900})
    rows = record_of(170)
    shown = []
    for until, keys in ((120, ("+", "+")), (121, ()), (121, ("0", "Home", "+", "+")), (122, ()), (170, ())):
        course = build_record_chart(rows[:until])
        chart = enliven(f'<div class="chart">{draw_record(rows[:until], HALF)}</div>', course)
        tab.evaluate(
            """html => { const put = document.getElementById("put")
            const old = put || document.body.appendChild(document.createElement("div"))
            old.outerHTML = `<div id="put">${html}</div>`
            document.getElementById("put").dispatchEvent(new Event("part", { bubbles: true })) }""",
            chart,
        )
        place = tab.locator(f"#put #chart-{course.name}")
        place.focus()
        for key in ("End", *keys):
            tab.keyboard.press(key)
        ends = []
        for key in ("Home", "End"):
            tab.keyboard.press(key)
            ends.append(place.locator(".told").inner_text()[:10])
        shown.append([next(nth for nth, row in enumerate(rows) if str(row.session) == day) for day in ends])
    (first, last), moved, back, stayed, whole = shown
    assert 10 < last - first < 60
    assert last == 119
    assert moved == [first + 1, last + 1]
    assert back[0] == 121 - 103
    assert stayed == [back[0] + 1, back[1]], "of its first session there is no bar any more"
    assert whole == [170 - 103, 169]
    assert told == []
