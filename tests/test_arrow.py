"""Columns over memory of ours: as polars' own, and nothing is held longer than one of them lives."""

import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_series_equal

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
    values = np.zeros(4, np.int64)
    held = weakref.ref(values)
    column = map_times("ts", values, np.ones(4, np.bool_))
    values[1] = 60_000_000
    del values
    assert column.dt.epoch("s").to_list() == [0, 60, 0, 0], "it is no copy"
    part = pl.DataFrame({"ts": column}).lazy().slice(1, 2).collect()
    del column
    assert part["ts"].dt.epoch("s").to_list() == [60, 0]
    assert held() is not None, "a part of it lives"
    del part
    assert held() is None


def test_texts_are_read_where_they_lie() -> None:
    views = np.frombuffer(bytearray(build_view("A", bytearray()) * 3), np.uint8).reshape(-1, 16)
    held, column = weakref.ref(views), map_texts("name", views, b"")
    views[1, 4] = ord("B")
    del views
    assert column.to_list() == ["A", "B", "A"]
    assert held() is not None
    del column
    assert held() is None


def test_an_array_that_arrow_would_read_as_another_one_is_refused() -> None:
    views = np.frombuffer(b"".join(build_view(name, bytearray()) for name in "ABCDEF"), np.uint8).reshape(-1, 16)
    minutes, known = np.arange(6) * 60_000_000, np.ones(6, np.bool_)
    texts: list[npt.NDArray[Any]] = [
        views[::2],
        views[:, :8],
        views.ravel(),
        np.asfortranarray(views),
        views.astype(np.int8),
    ]
    for wrong in texts:
        with pytest.raises(ValueError, match="A column reads uint8"):
            map_texts("name", wrong, b"")
    times: list[npt.NDArray[Any]] = [
        minutes[::2],
        minutes.astype(np.int32),
        minutes.astype(np.float64),
        minutes.reshape(2, 3),
    ]
    for other in times:
        with pytest.raises(ValueError, match="A column reads int64"):
            map_times("ts", other, known[: len(other)])
    masks: list[npt.NDArray[Any]] = [known[:5], known.astype(np.uint8)]
    for mask in masks:
        with pytest.raises(ValueError, match="A column reads bool"):
            map_times("ts", minutes, mask)


def test_many_threads_may_make_columns_and_drop_them() -> None:
    texts = bytearray()
    views = np.frombuffer(b"".join(build_view(name, texts) for name in NAMES * 50), np.uint8).reshape(-1, 16)
    held = weakref.ref(views)

    def work(views: npt.NDArray[np.uint8], number: int) -> object:
        frame = pl.DataFrame({"name": map_texts("name", views, bytes(texts)), "other": range(len(views))})
        return frame.filter(pl.col("name") == NAMES[number % 4]).group_by("name").len()["len"].item()

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(partial(work, views), range(400))) == {50}
    del views
    assert held() is None


def run_to_its_end(more: str) -> subprocess.CompletedProcess[str]:
    code = (
        "import numpy as np, polars as pl\n"
        "from hftcl.arrow import build_view, map_texts\n"
        "views = np.frombuffer(build_view('A', bytearray()) * 1_000_000, np.uint8).reshape(-1, 16)\n"
        "def make(): return map_texts('name', views, b'').to_frame().lazy()\n"
        f"{more}\n"
        "print('done', flush=True)\n"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=Path.cwd())


def test_a_process_may_end_while_columns_live() -> None:
    done = run_to_its_end(
        "class Keeps: pass\none, other = Keeps(), Keeps()\none.it, other.it, one.frame = other, one, make()"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


@pytest.mark.skipif(
    int(pa.__version__.partition(".")[0]) < 25,
    reason="earlier ones wait for Python then, and abort: https://github.com/apache/arrow/issues/49942",
)
def test_a_process_may_end_while_a_thread_of_polars_holds_the_last_column() -> None:
    done = run_to_its_end(
        "import time\n"
        "class Late:\n"
        "    def __del__(self, sleep=time.sleep): sleep(2)\n"  # Python ends already, and the queries end meanwhile
        "late = Late()\n"
        "queries = [make().group_by('name').len().collect(background=True) for _ in range(20)]"
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr  # polars tells there that its asker is gone
