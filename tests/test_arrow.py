"""Columns over memory of ours: as polars' own, and nothing is held longer than one of them lives."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_series_equal

from hftcl import arrow
from hftcl.arrow import build_view, map_texts, map_times

NAMES = ["AAPL", "", "thirteen byte", "Ü" * 50]


def map_names(names: list[str]) -> pl.Series:
    texts = bytearray()
    views = np.frombuffer(b"".join(build_view(name, texts) for name in names), np.uint8).reshape(-1, 16)
    return map_texts("name", views, bytes(texts))


@pytest.mark.parametrize("names", [[], ["A"], NAMES, NAMES * 100], ids=["none", "one", "some", "many"])
def test_a_column_of_texts_is_the_one_that_polars_makes_of_them(names: list[str]) -> None:
    column, wanted = map_names(names), pl.Series("name", names, dtype=pl.String)
    assert_series_equal(column, wanted)
    assert_series_equal(column.sort(), wanted.sort())
    assert_series_equal(pl.concat([column, wanted], rechunk=True), pl.concat([wanted, wanted]))
    assert column.unique().sort().to_list() == sorted(set(names))
    assert column.hash().to_list() == wanted.hash().to_list()


@pytest.mark.parametrize("rows", [0, 1, 7, 8, 9, 1000])
def test_a_time_that_is_not_known_is_null(rows: int) -> None:
    values = np.arange(rows, dtype=np.int64) * 60_000_000
    known = np.arange(rows) % 3 != 1
    wanted = [datetime.fromtimestamp(n * 60, UTC) if n % 3 != 1 else None for n in range(rows)]
    column = map_times("label_end", values, known)
    assert_series_equal(column, pl.Series("label_end", wanted, dtype=pl.Datetime("us", "UTC")))
    assert (column.null_count(), column.min()) == (rows - int(known.sum()), wanted[0] if rows else None)


def test_memory_is_read_where_it_lies_and_let_go_with_the_last_that_reads_it() -> None:
    before = len(arrow._held)
    values = np.zeros(4, np.int64)
    column = map_times("ts", values, np.ones(4, np.bool_))
    values[1] = 60_000_000
    assert column.dt.epoch("s").to_list() == [0, 60, 0, 0], "it is no copy"
    part = pl.DataFrame({"ts": column}).lazy().slice(1, 2).collect()
    assert len(arrow._held) == before + 1
    del column
    assert part["ts"].dt.epoch("s").to_list() == [60, 0]
    assert len(arrow._held) == before + 1, "a part of it lives"
    del part
    assert len(arrow._held) == before


def test_many_threads_may_make_columns_and_drop_them() -> None:
    before = len(arrow._held)

    def work(number: int) -> object:
        frame = pl.DataFrame({"name": map_names(NAMES * 50), "other": range(len(NAMES) * 50)})
        return frame.filter(pl.col("name") == NAMES[number % 4]).group_by("name").len()["len"].item()

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(work, range(400))) == {50}
    assert len(arrow._held) == before


def test_a_process_may_end_while_columns_live() -> None:
    code = (
        "import numpy as np, threading, polars as pl\n"
        "from hftcl.arrow import build_view, map_texts\n"
        "views = np.frombuffer(build_view('A', bytearray()) * 9, np.uint8).reshape(-1, 16)\n"
        "column = map_texts('name', views, b'')\n"
        "class Keeps: pass\n"
        "one, other = Keeps(), Keeps()\n"
        "one.it, other.it, one.column = other, one, pl.DataFrame([column]).lazy()\n"
        "print(column.len())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=Path.cwd())
    assert (done.returncode, done.stdout, done.stderr) == (0, "9\n", "")
