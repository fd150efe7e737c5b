"""The promises of a layout of files: `check_layout`, on a file as its vendor writes it."""

import math
import re
import tempfile
from pathlib import Path
from zoneinfo import available_timezones

import polars as pl

from hftcl.contracts.findings import Findings
from hftcl.errors import SourceError
from hftcl.market.bars import RAW_SCHEMA
from hftcl.market.layouts import ROLES, Layout
from hftcl.market.layouts.sheet import open_sheet
from hftcl.market.sources.files import FilesSource
from hftcl.settings import Files, Paths, Settings


def check_layout(layout: Layout, sample: Path, bars: pl.DataFrame, *, timezone: str = "") -> tuple[str, ...]:
    r"""Return the promises that `layout` breaks for `sample`, a file as its vendor writes it, which holds `bars`.

    bars: RAW_SCHEMA, every row of the file in its order. timezone: `[files] timezone`, where the layout has no zone.

    >>> from datetime import UTC, datetime
    >>> acme = Layout(name="acme", title="Acme, minute bars", page="https://example.com/format",
    ...               marks=frozenset({"acme_time", "o", "h", "l", "c", "v"}), columns={"ts": ("acme_time",)},
    ...               zone="America/New_York")
    >>> sample = Path("AAPL.csv")
    >>> _ = sample.write_text("acme_time,o,h,l,c,v\n2026-01-06 09:30,1.5,2,1,1.75,100\n")
    >>> row = ["AAPL", datetime(2026, 1, 6, 14, 30, tzinfo=UTC), 1.5, 2.0, 1.0, 1.75, 100.0]
    >>> check_layout(acme, sample, pl.DataFrame([row], schema=RAW_SCHEMA, orient="row"))
    ()
    """
    promises = Findings()
    promises.check(re.fullmatch(r"[a-z][a-z0-9_]*", layout.name) is not None, "name is one plain word in lower case")
    promises.check(layout.page.startswith("https://"), "page is where the vendor describes the format, https://...")
    roles = {*layout.columns, *(role for role in layout.order if role)}
    promises.check(roles <= set(ROLES), f"columns and order say {', '.join(ROLES)}, and nothing else")
    promises.check(0 < layout.price_divisor < math.inf, "price_divisor is a number above zero")
    promises.check(layout.zone in {"", *available_timezones()}, "zone is a name of the zone database, or empty")
    if promises.broken or not promises.check(_compiles(layout), "files and suffix are patterns"):
        return tuple(promises.broken)
    with tempfile.TemporaryDirectory() as folder, promises.hear(layout):
        stranger = Path(folder) / "others" / "AAPL.csv"
        stranger.parent.mkdir()
        stranger.write_text("ts,open,high,low,close,volume\n2026-01-06T14:30:00Z,1.5,2,1,1.75,100\n")
        promises.check(not layout.match(open_sheet(stranger)), "match() leaves the files of others alone")
        copy = Path(folder) / "own" / sample.name
        copy.parent.mkdir()
        copy.write_bytes(sample.read_bytes())
        if promises.check(layout.match(open_sheet(copy)) > 0, "match() finds the vendor's own file"):
            _check_reading(promises, layout, copy, bars, timezone)
    return tuple(promises.broken)


def _compiles(layout: Layout) -> bool:
    try:
        return all(re.compile(pattern) for pattern in (layout.files, layout.suffix, layout.shape))
    except re.error:
        return False


def _check_reading(promises: Findings, layout: Layout, path: Path, bars: pl.DataFrame, timezone: str) -> None:
    """Read the file as a collection does, and compare it with what is in it."""
    settings = Settings(
        files=Files(folder=str(path.parent), timezone=timezone), paths=Paths(home=str(path.parent / "home"))
    )
    source = FilesSource(settings, layout=layout)
    for (ticker,), mine in bars.partition_by("ticker", as_dict=True, maintain_order=True).items():
        try:
            source.minutes(str(ticker), mine["ts"].min().date(), mine["ts"].min().date())  # type: ignore[union-attr]
            rows = source.read_rows(path, str(ticker))
        except SourceError as error:
            promises.check(False, f"the file is read: {error}")
            continue
        if promises.check(rows.height == mine.height, f"every row of {ticker} is read, and no other"):
            for name in RAW_SCHEMA.names():
                promises.check(rows[name].equals(mine[name]), f"{name} of {ticker} is what the file says, to the bit")
