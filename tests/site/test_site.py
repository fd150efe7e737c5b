"""The documentation as a site: every page is there, every link leads somewhere, and nothing comes from elsewhere."""

import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from tests.browser import PATIENCE_MS, do_without, list_serious_faults
from tests.site.build import ROOT

DOCS = ROOT / "docs"


class Page(HTMLParser):
    """The ids of a page, where its links lead, and what a browser fetches to show it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids.add(given.get("id", ""))
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and "href" in given and given.get("rel") != "canonical":
            self.fetched.append(given["href"])
        elif tag in {"script", "img", "iframe", "source"} and "src" in given:
            self.fetched.append(given["src"])


def find_faults(site: Path) -> list[str]:
    """Return each link that leads nowhere, and each thing that a browser would fetch from elsewhere."""
    pages = {path: Page(path.read_text()) for path in site.rglob("*.html")}
    faults: list[str] = []
    for path, page in pages.items():
        for address in [*page.links, *page.fetched]:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                faults += [f"{path.name} fetches {address}"] * (address in page.fetched and parts.scheme != "data")
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                faults.append(f"{path.name}: {address} is not there")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
                faults.append(f"{path.name}: {address} is no heading")
    return faults


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return the folder of the site, and what its building complained of."""
    if None in map(find_spec, ("sphinx", "myst_parser", "furo")):
        do_without('what builds the site is not installed: pip install -e ".[site]"')
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "tests.site.build", out], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (out / "index.html").is_file(), done.stderr
    return out, "" if done.returncode == 0 else done.stderr


@pytest.fixture(scope="module")
def site(built: tuple[Path, str]) -> Path:
    """Return the folder of the site: a new release of a library that warns of its next one makes no page worse."""
    return built[0]


@pytest.mark.slow
def test_the_site_has_every_page_and_opens_from_the_file_system(built: tuple[Path, str]) -> None:
    site, complaint = built
    assert complaint == ""
    for page in DOCS.rglob("*.md"):
        assert (site / page.relative_to(DOCS).with_suffix(".html")).is_file(), page
    assert find_faults(site) == []


@pytest.fixture
def tab(browser: Any, site: Path) -> Iterator[Any]:
    """Return a tab of the browser; `site` is built first, for without it there is nothing to look at."""
    context = browser.new_context()
    context.set_default_timeout(PATIENCE_MS)
    yield context.new_page()
    context.close()


WIDER = """() => [document.documentElement.scrollWidth > innerWidth ? "the page" : "",
    ...[...document.querySelectorAll("article *")].filter(e => { const box = e.getBoundingClientRect()
        return box.width > 0 && box.right > innerWidth + 1 && !e.closest("[tabindex]") }).map(e => e.tagName)
    ].filter(Boolean)"""
"""What of a page is wider than the screen and lies in no box of its own that can be pushed."""


@pytest.mark.browser
def test_each_page_fits_a_phone_and_a_screen_and_has_no_serious_fault(site: Path, tab: Any) -> None:
    """Each is opened once and its window then drawn wider: to load a page takes a quarter of a look by axe."""
    for page in DOCS.rglob("*.md"):
        tab.goto((site / page.relative_to(DOCS).with_suffix(".html")).as_uri())
        for width, scheme in ((375, "light"), (800, "dark"), (1440, "light")):
            tab.set_viewport_size({"width": width, "height": 900})
            tab.emulate_media(color_scheme=scheme)
            assert tab.evaluate(WIDER) == [], (page, width)
            if width > 375:  # once in each scheme: axe takes a second a page
                assert list_serious_faults(tab) == [], (page, width, scheme)


@pytest.mark.browser
def test_a_terminal_is_read_at_its_own_size_on_a_phone(site: Path, tab: Any) -> None:
    tab.set_viewport_size({"width": 375, "height": 900})
    tab.goto((site / "tour.html").as_uri())
    wide = tab.evaluate("[...document.querySelectorAll('article img[src$=svg]')].map(e => e.clientWidth)")
    assert len(wide) > 3
    assert min(wide) > 700, "110 columns of 6 pixels or more"


@pytest.mark.slow
def test_a_link_that_leads_nowhere_and_a_script_from_elsewhere_are_found(site: Path) -> None:
    added = (
        '<a href="nothing.html">x</a><a href="index.html#nowhere">y</a><script src="https://example.org/x.js"></script>'
    )
    page = site / "tour.html"
    text = page.read_text()
    page.write_text(text + added)
    try:
        assert len(find_faults(site)) == 3
    finally:
        page.write_text(text)


def test_each_page_is_in_the_contents_of_the_site_once() -> None:
    listed = [
        name
        for tree in re.findall(r"```\{toctree\}\n(.*?)```", (DOCS / "index.md").read_text(), flags=re.DOTALL)
        for name in tree.splitlines()
        if name and not name.startswith(":")
    ]
    pages = {str(page.relative_to(DOCS).with_suffix("")) for page in DOCS.rglob("*.md")} - {"index"}
    assert sorted(listed) == sorted(pages)


def test_no_picture_names_an_address_elsewhere_that_a_browser_would_fetch() -> None:
    pictures = sorted((DOCS / "pictures").glob("*.svg"))
    assert pictures
    for picture in pictures:
        assert not re.search(r"(url\(|href=|src=)[\"']?https?:", picture.read_text()), picture


def test_each_picture_shows_something_of_its_own_and_stands_on_a_page() -> None:
    shown = "".join(page.read_text() for page in (ROOT / "README.md", *DOCS.rglob("*.md")))
    pictures = sorted((DOCS / "pictures").iterdir())
    assert len({picture.read_bytes() for picture in pictures}) == len(pictures)
    assert [picture.name for picture in pictures if f"pictures/{picture.name}" not in shown] == []
