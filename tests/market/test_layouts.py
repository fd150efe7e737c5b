"""Sixty ways of writing the same bars: each is read to the bit, or refused with its remedy; never read wrong."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hftcl.errors import ConfigError, SourceError
from hftcl.market.layouts import find_layout, find_layouts
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


def test_a_layout_that_is_not_installed_is_named_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match=r"No layout 'bloomburg' is installed.*auto, algoseek"):
        find_layout("bloomburg")
