"""Frames in unnamed files: the same to the bit, no memory of their own, and an error where the disk is full."""

import errno
import os
import pickle
import resource
import tempfile
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hftcl import mapped
from hftcl.errors import StorageError
from hftcl.mapped import FrameFiles
from tests.in_files import list_in_files


def make_frame(rows: int) -> pl.DataFrame:
    numbers = np.arange(rows)
    return pl.DataFrame(
        {
            "ticker": ["AAPL"] * rows,
            "ts": pl.Series(numbers * 60_000_000).cast(pl.Datetime("us", "UTC")),
            "session": [date(2026, 1, 5)] * rows,
            "minute": pl.Series(numbers.astype(np.int32)),
            "regular": numbers % 2 == 0,
            "close": numbers / 7,
            "known": pl.Series([None, *numbers[1:].tolist()], dtype=pl.Float64),
            "label_end": [datetime(2026, 1, 5, tzinfo=UTC)] * rows,
        }
    )


def read_anonymous() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


def count_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def find_free_descriptor() -> int:
    number = os.open(os.devnull, os.O_RDONLY)
    os.close(number)
    return number


def test_a_frame_comes_out_of_its_file_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "_SEGMENT_BYTES", 4096)  # so that some frames begin a file, and one is larger
    files, frames = FrameFiles(), [make_frame(rows) for rows in (1, 30, 30, 700, 1)]
    kept = [files.put(frame) for frame in frames]
    for one, other in zip(kept, frames, strict=True):
        assert_frame_equal(one, other, check_exact=True)
    assert_frame_equal(files.put(make_frame(2).clear()), make_frame(2).clear())
    whole = files.put(*frames)
    assert_frame_equal(whole, pl.concat(frames), check_exact=True)
    assert set(whole.n_chunks("all")) == {1}, "each column is in one piece"


def test_texts_come_out_as_they_were_whatever_their_length_and_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "_SEGMENT_BYTES", 4096)
    names = ["", "A", "twelve bytes", "thirteen byte", "BRK.B", "Ü" * 40, "thirteen byt!", "A"]
    parts = [pl.DataFrame({"ticker": [name] * rows}) for name in names for rows in (1, 40)]
    whole = pl.concat(parts, rechunk=True)
    for frame in (FrameFiles().put(*parts), FrameFiles().put(whole), FrameFiles().put(whole[7:19], whole[3:300])):
        wanted = whole if frame.height == whole.height else pl.concat([whole[7:19], whole[3:300]])
        assert_frame_equal(frame, wanted, check_exact=True)
        assert frame["ticker"].n_chunks() == 1
        assert frame.filter(pl.col("ticker") == "thirteen byt!").height == (wanted["ticker"] == "thirteen byt!").sum()
        assert_frame_equal(frame.sort("ticker"), wanted.sort("ticker"))
        assert frame["ticker"].rle().equals(wanted["ticker"].rle())
        assert pickle.loads(pickle.dumps(frame)).equals(wanted)  # noqa: S301
    for names_in_memory in (["A", "B"] * 50, ["A", None] * 50):
        mixed = pl.DataFrame({"ticker": names_in_memory})
        assert_frame_equal(FrameFiles().put(mixed, mixed), pl.concat([mixed, mixed]))


def test_a_frame_in_a_file_takes_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    FrameFiles().put(make_frame(40))  # loads libraries
    before, opened = read_anonymous(), count_descriptors()
    numbers = np.arange(1 << 19)
    frame = pl.DataFrame(
        {
            "ticker": pl.Series(["AAPL", "a ticker with a long name"]).gather(numbers >> 18),
            "ts": pl.Series(numbers).cast(pl.Datetime("us", "UTC")),
            "session": pl.Series(numbers.astype(np.int32)).cast(pl.Date),
            "minute": numbers.astype(np.int32),
            "close": np.zeros(1 << 19),
            "target": np.zeros(1 << 19, dtype=np.float32),
            "volume": np.ones(1 << 19, dtype=np.uint32),
        }
    )
    files = FrameFiles()
    halves = frame.head(1 << 18), frame.tail(1 << 18)  # of one part polars would make no copy
    kept = pl.concat([files.put(*halves) for _ in range(8)])
    del frame, halves, numbers  # what is kept may share no memory with them
    assert kept["volume"].sum() == 8 << 19
    assert list_in_files(kept) == kept.columns
    assert read_anonymous() - before < 32 << 20, "192 MB lie in the files"
    assert count_descriptors() - opened <= 1 + 3, "one of each file, and that in use a second one"
    del kept, files
    lines = Path("/proc/self/maps").read_text()
    assert str(tmp_path) not in lines, "gone with the last frame"
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_a_sentence_that_names_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(StorageError, match=r"could not be written to .*: No space left on device\. Free space there"):
        FrameFiles().put(make_frame(3))


def test_no_folder_that_takes_a_file_is_a_sentence_that_names_those_that_were_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = [str(tmp_path / "gone"), str(tmp_path / "gone too")]
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: nowhere)
    with pytest.raises(StorageError, match=rf"{nowhere[1]}.*\. Free space in one of these folders, or set TMPDIR to"):
        FrameFiles().put(make_frame(3))


@pytest.mark.parametrize("spare", [0, 1], ids=["for the file", "for the map beside it"])
def test_too_few_descriptors_are_a_sentence_too(spare: int) -> None:
    frame = make_frame(3)
    assert FrameFiles().put(frame).equals(frame)  # the first one loads libraries, and tries the folder
    free, before = find_free_descriptor(), resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + spare, before[1]))
        with pytest.raises(StorageError, match=r"Too many open files\. Raise the limit \(ulimit -n"):
            FrameFiles().put(frame)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_small_frame_is_put_away_where_there_was_no_room_for_a_large_one(monkeypatch: pytest.MonkeyPatch) -> None:
    files, small, large = FrameFiles(), make_frame(3), make_frame(100_000)
    monkeypatch.setattr("hftcl.mapped._SEGMENT_BYTES", 100_000)
    files.put(small)
    with monkeypatch.context() as full:

        def refuse() -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        full.setattr(tempfile, "TemporaryFile", refuse)
        with pytest.raises(StorageError, match="No space left"):
            files.put(large)
    assert files.put(small).equals(small)
