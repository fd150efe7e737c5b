"""Builds the documentation as a site that opens from the file system: `python -m tests.site.build FOLDER`.

The pages are docs/*.md as they stand; Sphinx reads them by MyST. Neither it nor a reader
fetches anything from elsewhere.
"""

import io
import re
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
SETTINGS: Final[dict[str, Any]] = {
    "project": "hftcl",
    "copyright": "The hftcl authors",
    "extensions": ["myst_parser"],
    "html_theme": "furo",
    "html_title": "hftcl",
    "myst_heading_anchors": 4,  # the pages name each other's headings down to the fourth level
    "exclude_patterns": ["site"],
    "html_show_sphinx": False,
    "html_copy_source": False,
    "html_baseurl": "",
    "html_static_path": [str(Path(__file__).with_name("static"))],
    "html_css_files": ["phone.css"],
    # the pages show shortened output and settings, which no lexer takes for code
    "suppress_warnings": ["misc.highlighting_failure"],
}


def build_site(out: Path) -> list[str]:
    """Write the site to `out`, which need not exist, and return what Sphinx warns of: a link that leads nowhere."""
    from sphinx.application import Sphinx

    warnings = io.StringIO()
    with tempfile.TemporaryDirectory() as kept:
        app = Sphinx(
            srcdir=ROOT / "docs", confdir=None, outdir=out, doctreedir=kept, buildername="html",
            confoverrides=SETTINGS, status=None, warning=warnings, freshenv=True,
        )  # fmt: skip
        app.build(force_all=True)
    for page in out.rglob("*.html"):
        page.write_text(open_to_keyboards(page.read_text()))
    plain = re.sub(r"\x1b\[[0-9;]*m", "", warnings.getvalue())
    return [line for line in plain.splitlines() if line.strip()]


def open_to_keyboards(text: str) -> str:
    """Return a page of the theme whose boxes that are pushed sideways are reached by the keyboard too.

    And whose captions say of which level they are: both are rules of WCAG that axe-core calls serious.
    """
    for plain, reached in (
        ("<pre>", '<pre tabindex="0">'),
        ('<div class="table-wrapper', '<div tabindex="0" class="table-wrapper'),
        ('role="heading"><span class="caption-text"', 'role="heading" aria-level="2"><span class="caption-text"'),
    ):
        text = text.replace(plain, reached)
    return re.sub(r'<p>(?=<img [^>]*\.svg")', '<p tabindex="0">', text)


def main() -> int:
    """Build into the folder that is named, tell what is wrong, and return the exit status."""
    out = Path(sys.argv[1]) if len(sys.argv) == 2 else Path("site")
    told = build_site(out)
    sys.stderr.writelines(f"{line}\n" for line in told)
    sys.stdout.write(f"{out / 'index.html'}\n")
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main())
