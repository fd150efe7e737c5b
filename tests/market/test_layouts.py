"""Sixty ways of writing the same bars: each is read to the bit, or refused with its remedy; never read wrong."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hftcl.contracts import check_layout
from hftcl.errors import ConfigError, SourceError
from hftcl.market.layouts import Layout, find_layout, find_layouts
from hftcl.market.sources.files import FilesSource
from hftcl.settings import Files, Market, Settings
from tests.market.layout_cases import CASES, FIRST, LAST, Case, market

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def source(folder: Path, case: Case) -> FilesSource:
    return FilesSource(Settings(files=Files(folder=str(folder), **case.files), market=Market(calendar=case.calendar)))


@pytest.mark.hazard(75)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_layout_is_read_to_the_bit_or_refused_with_its_remedy(tmp_path: Path, case: Case) -> None:
    case.write(tmp_path)
    for ticker in case.tickers:
        asked = case.rename.get(ticker, ticker)
        if case.refused:
            with pytest.raises(SourceError) as caught:
                source(tmp_path, case).minutes(asked, FIRST, LAST)
            assert case.refused in str(caught.value)
            assert str(tmp_path) in str(caught.value), "the file is named"
            continue
        read = source(tmp_path, case)
        bars = read.minutes(asked, FIRST, LAST).filter(pl.col("ts").is_not_null()).unique(keep="first").sort("ts")
        expected = market(ticker).with_columns(pl.lit(asked).alias("ticker"))
        week = expected.filter(pl.col("ts").dt.date().is_between(FIRST, LAST))
        columns = ("ticker", "ts", "open", "high", "low", "close", "volume")
        assert_frame_equal(bars.select(columns), week.select(columns), check_exact=True)
        assert read.known_until((asked,), NOW) == expected["ts"].max() + timedelta(minutes=1)  # type: ignore[operator]


def test_there_are_sixty_of_them_and_each_of_our_layouts_is_documented() -> None:
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)
    for name, layout in find_layouts().items():
        assert layout.page.startswith("https://"), name


def test_the_documents_say_of_each_layout_where_its_page_is_and_what_it_was_compared_with() -> None:
    documents = (Path(__file__).parents[2] / "docs" / "files.md").read_text().splitlines()
    for name, layout in find_layouts().items():
        (row,) = [line for line in documents if line.startswith(f"| `{name}` |")]
        assert row.endswith(f"| {layout.checked} |"), name
        assert name == "generic" or f"({layout.page})" in row, name


def test_a_layout_that_is_not_installed_is_named_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match=r"No layout 'bloomburg' is installed.*auto, algoseek"):
        find_layout("bloomburg")


ACME = Layout(
    name="acme",
    title="Acme, minute bars",
    page="https://example.com/format",
    marks=frozenset({"acme_time", "o", "h", "l", "c", "v"}),
    columns={"ts": ("acme_time",)},
    zone="America/New_York",
    label="end",
    price_divisor=100.0,
)


def acme(folder: Path) -> tuple[Path, pl.DataFrame]:
    """Write a file as a vendor of ours writes it, in cents and the end of the minute; return it with what it holds."""
    bars = market("AAPL")
    stamp = pl.col("ts").dt.offset_by("1m").dt.convert_time_zone("America/New_York").dt.strftime("%d-%b-%Y %H:%M")
    cents = [(pl.col(name) * 100).round(0).cast(pl.Int64).alias(name[0]) for name in ("open", "high", "low", "close")]
    table = bars.select(stamp.alias("acme_time"), *cents, pl.col("volume").cast(pl.Int64).alias("v"))
    table.write_csv(folder / "AAPL.csv")
    return folder / "AAPL.csv", bars


def test_a_layout_of_a_stranger_that_keeps_its_promises_breaks_none(tmp_path: Path) -> None:
    assert check_layout(ACME, *acme(tmp_path)) == ()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"name": "Acme bars"}, "name is one plain word"),
        ({"page": "my notes"}, "page is where the vendor"),
        ({"columns": {"moment": ("acme_time",)}}, "columns and order say ticker, ts"),
        ({"zone": "New York"}, "zone is a name"),
        ({"price_divisor": 0.0}, "price_divisor is a number above zero"),
        ({"files": "(?P<ticker>["}, "files and suffix are patterns"),
        ({"applies": lambda sheet: True}, "match() leaves the files of others alone"),
        ({"marks": frozenset({"time"})}, "match() finds the vendor's own file"),
        ({"label": "start"}, "the stamps are at the wrong hour"),
        ({"zone": "America/Chicago"}, "the stamps are at the wrong hour"),
        ({"price_divisor": 1.0}, "open of AAPL is what the file says"),
        ({"columns": {"ts": ("acme_time",), "high": ("l",), "low": ("h",)}}, "are not what they are taken for"),
        ({"columns": {"ts": ("acme_date",)}}, "the file is read"),
        ({"reshape": lambda sheet: replace(sheet, frame=sheet.frame.slice(1))}, "every row of AAPL is read"),
    ],
    ids=[
        "name",
        "page",
        "role",
        "zone",
        "divisor",
        "pattern",
        "greedy",
        "unfound",
        "label",
        "other-zone",
        "cents",
        "swapped",
        "no-column",
        "lost-row",
    ],
)
def test_a_layout_that_breaks_a_promise_is_told_which(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    broken = check_layout(replace(ACME, **changes), *acme(tmp_path))
    assert any(told in promise for promise in broken), broken
