"""A watchlist computed one ticker after another: to the bit what it is computed at once, in an unnamed file."""

import errno
import os
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from hftcl import mapped
from hftcl.errors import FeatureError, StorageError
from hftcl.learning.dataset import add_features
from hftcl.market.bars import Finding
from hftcl.market.splits import name_parts
from hftcl.model.by_ticker import FirstLook, LookElsewhere, LookOrder, add_features_by_ticker, look_alone
from hftcl.model.feature import Feature
from hftcl.model.features import FEATURES, WARMUP_SESSIONS
from tests.in_files import list_in_files
from tests.model.feature_cases import market
from tests.model.test_feature_check import a_feature

T = TypeVar("T")

peers, own = pl.col("peers_15"), pl.col("own_15")
# beside ours: one that reads peers and more of the grid, ones across tickers, one of these that reads peers
TABLE = (
    *FEATURES,
    a_feature("gap_to_peers", (peers - own) * pl.col("vol")),
    replace(a_feature("move_rank", own), across="rank"),
    replace(a_feature("peers_z", peers), across="zscore"),
)


def by_ticker(
    bars: pl.DataFrame,
    jumps: Sequence[Finding],
    since: date,
    table: tuple[Feature, ...] = TABLE,
    own_features: tuple[Feature, ...] = (),
    elsewhere: LookElsewhere | None = None,
) -> pl.DataFrame:
    told: list[tuple[int, int]] = []
    rows = add_features_by_ticker(
        bars,
        5,
        jumps=jumps,
        table=table,
        own=own_features,
        since=since,
        jobs=2,
        on_block=lambda done, total: told.append((done, total)),
        elsewhere=elsewhere,
    )
    total = 2 * max(1, len(told) // 2) if bars.height else 0
    assert told == [(done, total) for done in range(1, total + 1)], "a watchdog hears of each look at a block"
    return rows


def look_elsewhere(blocks: Sequence[pl.DataFrame], order: LookOrder) -> Iterator[tuple[int, FirstLook]]:
    """Take the last block first; what is told and what comes back travels."""
    for number, bars in reversed(list(enumerate(blocks))):
        yield number, travel(look_alone(bars, travel(order)))


def travel(value: T) -> T:
    return cast("T", pickle.loads(pickle.dumps(value)))  # noqa: S301 - our own bytes


@settings(max_examples=5)
@given(
    seed=st.integers(0, 10**6),
    missing=st.sampled_from([0.0, 0.3, 0.8]),
    tickers=st.sampled_from([["A"], ["A", "B"], ["A", "B", "C", "D"]]),
    jumping=st.booleans(),
    block=st.sampled_from([1, 300, 80_000]),
)
def test_one_after_another_is_to_the_bit_all_at_once_wherever_and_in_whatever_order_the_first_looks_are_done(
    seed: int, missing: float, tickers: list[str], jumping: bool, block: int
) -> None:
    bars = market(seed, tickers=tickers, sessions=7, minutes=[50, 40, 50, 20, 50, 50, 45], missing=missing)
    # one ticker has no bar in a session, and the last is new
    bars = bars.filter(~((pl.col("ticker") == "B") & (pl.col("session") == date(2025, 3, 7))))
    bars = bars.filter((pl.col("ticker") != "D") | (pl.col("session") >= date(2025, 3, 8))).sort("ticker", "ts")
    jumps = (Finding("A", "unannounced_split", 1, None, date(2025, 3, 8)),) if jumping else ()
    since = date(2025, 3, 6)
    expected = add_features(bars, 5, jumps, table=TABLE).filter(pl.col("session") >= since)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hftcl.model.by_ticker._BLOCK_BARS", block)
        found, other = by_ticker(bars, jumps, since), by_ticker(bars, jumps, since, elsewhere=look_elsewhere)
    for rows in (found, other):
        assert_frame_equal(rows, expected, check_exact=True)
        for name in (*(one.name for one in TABLE), "target"):
            assert rows[name].to_numpy().tobytes() == expected[name].to_numpy().tobytes(), name


@settings(max_examples=5)
@given(seed=st.integers(0, 10**6), missing=st.sampled_from([0.0, 0.3, 0.8]), absent=st.integers(0, 8))
def test_the_sessions_of_the_warm_up_before_a_session_give_the_values_that_all_of_them_give(
    seed: int, missing: float, absent: int
) -> None:
    """Also of a ticker that has had no bar for more sessions than the warm-up has."""
    bars = market(seed, tickers=["A", "B", "C"], sessions=12, minutes=45, missing=missing).sort("ticker", "ts")
    days = bars["session"].unique().sort()
    gone = days.slice(9 - absent, absent).to_list()
    bars = bars.filter(~((pl.col("ticker") == "B") & pl.col("session").is_in(gone)))
    since = days[9]
    shorter = bars.filter(pl.col("session") >= days[9 - WARMUP_SESSIONS])
    assert_frame_equal(by_ticker(shorter, (), since, FEATURES), by_ticker(bars, (), since, FEATURES), check_exact=True)


@pytest.mark.parametrize("across", ["", "rank"])
@pytest.mark.parametrize("reads", ["own", "peers"])
def test_a_feature_of_the_users_that_is_nan_is_refused_with_its_first_bar(
    across: str, reads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bars = market(0).sort("ticker", "ts")
    bad = bars.filter(pl.col("minute") >= 40).sort("ts", "ticker")
    rest = own if reads == "own" else peers
    nan = replace(
        a_feature("rare", pl.when(pl.col("minute") >= 40).then(pl.lit(float("nan"))).otherwise(rest), 0), across=across
    )
    first = f"{bad['ticker'][0]} {bad['ts'][0]:%Y-%m-%d %H:%M} UTC (nan)"
    monkeypatch.setattr("hftcl.model.by_ticker._BLOCK_BARS", 1)
    with pytest.raises(FeatureError) as raised:
        by_ticker(bars, (), date(2025, 3, 3), (*FEATURES, nan), (nan,))
    assert str(raised.value) == (
        "The feature rare breaks a promise: it is null where it has no value, and never NaN or infinite; first broken "
        f"at {first}. Nothing was trained."
    )
    by_ticker(bars, (), date(2025, 3, 3), (*FEATURES, nan))  # as one that is dropped


def test_a_watchlist_without_bars_has_no_rows() -> None:
    bars = market(0).clear()
    assert by_ticker(bars, (), date(2025, 3, 6), FEATURES).schema == add_features(bars, 5).schema


def test_the_values_lie_in_a_file_that_no_folder_lists(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    rows = by_ticker(market(0).sort("ticker", "ts"), (), date(2025, 3, 3), FEATURES)
    assert list(tmp_path.iterdir()) == []
    mapped_files = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(tmp_path) in line]
    assert mapped_files
    assert all("(deleted)" in line for line in mapped_files), "no copy in memory, and nothing to clean up"
    assert rows["ret_5"].null_count() < rows.height
    assert {"ticker", "ts", "session", "ret_5", "target", "label_end"} <= {*list_in_files(rows)}
    assert set(rows.n_chunks("all")) == {1}, "else polars copies all columns for a question about one"


def test_names_across_a_jump_are_made_for_a_few_tickers_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all bars they would lie in memory, where the tickers of the bars do not."""
    named: list[int] = []

    def name(bars: pl.DataFrame, jumps: Sequence[Finding]) -> pl.DataFrame:
        named.append(bars.height)
        return name_parts(bars, jumps)

    monkeypatch.setattr("hftcl.model.by_ticker.name_parts", name)
    monkeypatch.setattr("hftcl.model.by_ticker._BLOCK_BARS", 1)
    bars = market(0).sort("ticker", "ts")
    jump = Finding("A", "unannounced_split", 1, None, date(2025, 3, 6))
    by_ticker(bars, (jump,), date(2025, 3, 3), FEATURES[:1])
    assert sum(named) == bars.height
    assert max(named) < bars.height


def test_a_disk_without_room_is_one_sentence_before_anything_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_descriptor: int, _offset: int, _size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.posix_fallocate", refuse)
    with pytest.raises(StorageError, match=r"No space left on device\. Free space there, or set TMPDIR"):
        by_ticker(market(0).sort("ticker", "ts"), (), date(2025, 3, 3), FEATURES)


def test_an_array_in_a_file_knows_its_file_and_no_part_of_it_does() -> None:
    array = mapped.create_array((3, 2), np.float32)
    array[:] = 1
    file = mapped.find_file(array)
    assert file is not None
    assert os.pread(file.fileno(), 99, 0) == np.ones((3, 2), np.float32).tobytes()
    for part in (array[1:], array + 1, array.copy(), np.ones(3)):
        assert mapped.find_file(part) is None
    part = array[1:]
    del array
    assert part.sum() == 4
    del part
    assert file.closed, "with the last that holds it"
