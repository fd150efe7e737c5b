"""Draws the pictures of docs/tour.md and the README: `python -m tests.site.pictures`.

Each is the product itself at work, on its synthetic market: a terminal as SVG by Rich, a page by Debian's chromium. The
pictures go to docs/pictures.
"""

import contextlib
import fcntl
import io
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path
from typing import Final

from tests.dashboard.served import serving
from tests.installed import HFTCL, PATIENCE_S
from tests.site.build import ROOT

PICTURES: Final = ROOT / "docs" / "pictures"
COLUMNS: Final = 110  # of the terminals: their lines are read in a column of the site without scrolling
AS_OF: Final = "2025-12-15"  # the same market each time that the pictures are drawn
BROWSER: Final = "chromium"
_FONTS: Final = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)  # Rich's own would be fetched from elsewhere


def run_in_terminal(home: Path, *arguments: str) -> str:
    """Return what `hftcl` shows on a terminal, in colour. Raises CalledProcessError for a status that is not 0."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 60, COLUMNS, 0, 0))
    plain = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "COLUMNS", "LINES"}}
    with contextlib.closing(io.FileIO(leader)) as screen:
        process = subprocess.Popen(
            [str(HFTCL), *arguments], cwd=home, stdin=follower, stdout=follower, stderr=subprocess.DEVNULL,
            env={**plain, "TERM": "xterm-256color"},
        )  # fmt: skip
        os.close(follower)
        parts: list[bytes] = []
        with contextlib.suppress(OSError):  # a terminal whose other side is gone is at its end
            while part := screen.read(65536):
                parts.append(part)
        if status := process.wait(PATIENCE_S):
            raise subprocess.CalledProcessError(status, process.args)
    return b"".join(parts).decode().replace("\r\n", "\n")


def draw_terminal(name: str, command: str, shown: str) -> Path:
    """Write what a terminal showed as docs/pictures/NAME.svg, below the command, and return the file."""
    from rich.console import Console
    from rich.terminal_theme import MONOKAI
    from rich.text import Text

    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text(f"$ {command}", style="bold"))
    console.print(Text.from_ansi(shown.rstrip("\n")))
    picture = PICTURES / f"{name}.svg"
    svg = console.export_svg(title="", theme=MONOKAI, unique_id=name)
    picture.write_text(_FONTS.sub("", svg))
    return picture


def draw_page(name: str, url: str, *, width: int, height: int, part: str = "") -> Path:
    """Write a page as the browser draws it, or the first `part` of it, to docs/pictures/NAME.png; return the file."""
    from playwright.sync_api import sync_playwright

    picture = PICTURES / f"{name}.png"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which(BROWSER), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": height})
        page.goto(url)
        page.wait_for_timeout(500)  # the charts draw themselves once
        shown = page.locator(part).first if part else page
        shown.screenshot(path=picture)
        browser.close()
    return picture


def draw_all(home: Path) -> None:
    """Walk the tour in `home`, an empty folder, and draw each of its pictures."""
    PICTURES.mkdir(exist_ok=True)
    told = run_in_terminal(home, "retrain", "--force", "--as-of", AS_OF)
    draw_terminal("retrain", f"hftcl retrain --force --as-of {AS_OF}", told)
    draw_terminal("verdict", f"hftcl retrain --force --as-of {AS_OF}", "\n".join(told.split("\n")[:24]))
    run_in_terminal(home, "retrain", "--force", "--as-of", "2025-12-22", "--param", "max_depth=8")
    draw_terminal("history", "hftcl history", run_in_terminal(home, "history"))
    draw_terminal("check", "hftcl check", run_in_terminal(home, "check", "--as-of", "2025-12-22"))
    draw_terminal("replay", "hftcl trade --replay 2025-12-16..2026-01-16",
                  run_in_terminal(home, "trade", "--replay", "2025-12-16..2026-01-16"))  # fmt: skip
    run_in_terminal(home, "report", "--replay", "--html", "report.html")
    draw_page("report", (home / "report.html").as_uri(), width=1200, height=900)
    draw_page("equity", (home / "report.html").as_uri(), width=1000, height=900, part="svg")
    with serving(home) as served:
        served.wait_for("/", lambda text: "Is being read" not in text)  # its equity comes last
        draw_page("dashboard", served.url, width=1200, height=900)


def main() -> int:
    """Draw the pictures and name them."""
    with tempfile.TemporaryDirectory() as folder:
        draw_all(Path(folder))
    sys.stdout.writelines(f"{path.relative_to(ROOT)}\n" for path in sorted(PICTURES.iterdir()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
