"""A real browser for the tests of pages: Chromium by playwright, skipped by name where one of them is missing.

They run alone, with `pytest -m browser`: until its browser is closed playwright keeps an event loop running in its
process, where the `asyncio.run` of any other test would raise. `.ci/run` installs all and sets
PYTEST_HFTCL_BROWSER=required: then a test that would be skipped fails.
"""

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
PATIENCE_MS = 120_000  # a loaded machine takes its time, and is not wrong

OVERFLOWS = """() => [document.documentElement.scrollWidth > innerWidth ? "the page is too wide" : "",
    ...[...document.querySelectorAll("body *")].filter(e => {
        const style = getComputedStyle(e)
        return e.clientWidth > 0 && e.scrollWidth > e.clientWidth + 1 && style.display !== "inline" &&
            !e.closest("svg") && !e.classList.contains("sr") && !e.querySelector("svg[aria-label^=Importance]") &&
            style.overflowX !== "auto" }).map(e => e.tagName + " " + e.textContent.slice(0, 40)),
    ...[...document.querySelectorAll("svg[role=img]")].filter(s => s.clientWidth > 0).flatMap(s => {
        const view = s.getBoundingClientRect()
        return [...s.querySelectorAll("text")].filter(t => { const b = t.getBoundingClientRect()
            return b.width > 0 && (b.left < view.left - 1 || b.right > view.right + 1) })
            .map(t => "cut: " + t.textContent) })
    ].filter(Boolean)"""
"""What of a page is wider than its place. The chart of the features may be pushed: its names leave no room."""


def launch() -> Iterator[Any]:
    """Yield a browser; skip, or fail where one is required, without playwright or Chromium."""
    try:
        from playwright import sync_api
    except ImportError:
        do_without("playwright is not installed")
    if not CHROMIUM:
        do_without("no chromium on this machine")
    with sync_api.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield found
        found.close()


def do_without(what: str) -> None:
    """Skip the test, or fail it where a browser is required."""
    if os.environ.get("PYTEST_HFTCL_BROWSER") == "required":
        pytest.fail(f"{what}, and PYTEST_HFTCL_BROWSER says that it has to be")
    pytest.skip(what)


def list_serious_faults(tab: Any) -> list[tuple[str, str]]:
    """Return what axe-core calls serious or critical: contrast, names, headings, tables, reach by the keyboard."""
    try:
        from axe_playwright_python.base import AXE_SCRIPT
    except ImportError:
        do_without("axe-playwright-python is not installed")
    if not tab.evaluate("'axe' in window"):  # a page that is looked at twice reads its half megabyte once
        tab.evaluate(AXE_SCRIPT)
    found = tab.evaluate("axe.run({ resultTypes: ['violations'] }).then(told => told.violations)")
    return [
        (fault["id"], node["html"][:120])
        for fault in found
        if fault["impact"] in {"serious", "critical"}
        for node in fault["nodes"][:2]
    ]
