"""Arrays and frames in an unnamed file, not in memory: pages come in as they are read, and leave when room is needed.

No folder lists the file (O_TMPFILE): it is gone with the last process that holds it, even after kill -9, and no other
one can damage it. It lies in $TMPDIR, or in /tmp: where that is a tmpfs, its pages are memory or swap, and TMPDIR on a
disk, such as /var/tmp, spares them. Its room is taken at once: a full disk is an error here, and not the death of a
process that writes into a hole of the file.
"""

import errno
import os
import tempfile
import weakref
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from hftcl.arrow import VIEW_BYTES, build_view, map_texts
from hftcl.errors import NoRoomError

if TYPE_CHECKING:  # the child that trains maps arrays, and loads no library of frames
    import polars as pl

_SEGMENT_BYTES: Final = 64 << 20  # of address space, not of the disk: 2,000 tickers of 60 days take some 55 descriptors
_RUN_ROWS: Final = 16  # of one text in a row, on average: below that Python would write one after the other
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})  # of a disk, a quota, a limit: man 3 errno
_ALIGNMENT: Final = 64  # bytes: a line of the processor's cache, which is what Arrow asks of a column


class FileArray(np.memmap):
    """An array whose bytes are those of a whole file of its own; a part or a copy of it is an array like any other.

    `file` is that file, open; None in a part.
    """

    file: IO[bytes] | None

    def __array_finalize__(self, other: Any) -> None:
        """Let what is derived from it have no file."""
        super().__array_finalize__(other)
        self.file = None


def find_file(array: npt.NDArray[Any]) -> IO[bytes] | None:
    """Return the file that holds an array, byte by byte and nothing else; None where it lies in memory."""
    return array.file if isinstance(array, FileArray) else None


def create_array(shape: tuple[int, ...], dtype: npt.DTypeLike) -> FileArray:
    """Return an array of zeros in an unnamed file, C-ordered. Raises NoRoomError where there is no room for it."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    file = open_unnamed_file()
    try:
        _take_room(file, 0, size)
    except NoRoomError:
        file.close()
        raise
    return _map_whole(file, shape, dtype)


class FrameFiles:
    """Puts frames into unnamed files, one after the other, so that their number grows no memory; not for many threads.

    A file is gone with the last frame that lies in it.
    """

    def __init__(self) -> None:
        """Begin without a file: the first frame brings it."""
        self._segment: FileArray | None = None
        self._used = 0

    def put(self, *parts: "pl.DataFrame") -> "pl.DataFrame":
        """Return the rows of all `parts`, the same to the bit, whose numbers, dates and times are read from a file.

        Each column is in one piece: of a frame whose columns end their pieces at other rows, polars copies them all for
        a question about one. So are texts that come many times in a row, such as tickers. Other texts, booleans and
        columns with nulls stay in memory. parts: one or more, with the same columns. Raises NoRoomError where there is
        no room.

        >>> import polars as pl
        >>> bars = pl.DataFrame({"ticker": ["AAPL", "AAPL"], "close": [101.5, 102.0]})
        >>> FrameFiles().put(bars, bars).equals(pl.concat([bars, bars]))
        True
        """
        import polars as pl

        return pl.DataFrame([self._move([part[name] for part in parts]) for name in parts[0].columns])

    def _move(self, parts: "Sequence[pl.Series]") -> "pl.Series":
        import polars as pl

        first, rows = parts[0], sum(part.len() for part in parts)
        if not rows or any(part.null_count() for part in parts):
            return pl.concat(parts, rechunk=True)
        if first.dtype == pl.String:
            return self._move_texts(parts, rows)
        if not (first.dtype.is_numeric() or first.dtype.is_temporal()):
            return pl.concat(parts, rechunk=True)
        physical = first.clear().to_physical().to_numpy().dtype
        room, done = self._take(rows * physical.itemsize).view(physical), 0
        for part in parts:
            room[done : done + part.len()] = part.to_physical().to_numpy()
            done += part.len()
        return pl.Series(first.name, np.asarray(room)).cast(first.dtype)

    def _move_texts(self, parts: "Sequence[pl.Series]", rows: int) -> "pl.Series":
        import polars as pl

        runs = [part.rle().struct for part in parts]
        if rows < _RUN_ROWS * sum(run.field("len").len() for run in runs):
            return pl.concat(parts, rechunk=True)
        room, texts, done = self._take(rows * VIEW_BYTES).reshape(rows, VIEW_BYTES), bytearray(), 0
        for run in runs:
            for text, length in zip(run.field("value"), run.field("len"), strict=True):
                room[done : done + length] = np.frombuffer(build_view(text, texts), np.uint8)
                done += length
        return map_texts(parts[0].name, np.asarray(room), bytes(texts))

    def _take(self, size: int) -> npt.NDArray[np.uint8]:
        """Return so many bytes of a file; their place on the disk is taken at once."""
        if self._segment is None or self._used + size > len(self._segment):
            if self._segment is not None and self._segment.file is not None:
                self._segment.file.close()  # it is full, and stays mapped by a descriptor of its own
                self._segment = None
            self._segment, self._used = _reserve(max(size, _SEGMENT_BYTES)), 0
        assert self._segment.file is not None  # noqa: S101 - that of a whole file has one
        _take_room(self._segment.file, self._used, size)
        begin, self._used = self._used, -(-(self._used + size) // _ALIGNMENT) * _ALIGNMENT
        return self._segment[begin : begin + size]


def _reserve(size: int) -> FileArray:
    """Return an array of a file that has no room yet: `_take_room` first what is written."""
    file = open_unnamed_file()
    try:
        os.ftruncate(file.fileno(), size)
    except OSError as error:
        file.close()
        raise build_no_room_error(error) from error
    return _map_whole(file, (size,), np.uint8)


def _take_room(file: IO[bytes], begin: int, size: int) -> None:
    try:
        os.posix_fallocate(file.fileno(), begin, max(size, 1))
    except OSError as error:
        raise build_no_room_error(error) from error


def _map_whole(file: IO[bytes], shape: tuple[int, ...], dtype: npt.DTypeLike) -> FileArray:
    try:
        array = FileArray(file, dtype, "r+", shape=shape)
    except OSError as error:  # no descriptor is left for the map, or no address space
        file.close()
        raise build_no_room_error(error) from error
    array.file = file
    weakref.finalize(array, file.close)  # what is mapped stays mapped as long as a part of it is held
    return array


def open_unnamed_file() -> IO[bytes]:
    """Open a file that no folder lists. Raises NoRoomError."""
    try:
        return tempfile.TemporaryFile()
    except OSError as error:
        raise build_no_room_error(error) from error


def build_no_room_error(error: OSError) -> NoRoomError:
    """Return the error of a command that cannot write what it works with."""
    if error.errno in {errno.EMFILE, errno.ENFILE}:
        return NoRoomError(
            f"Bars and training rows could not be put into a file: {error.strerror}. Raise the limit (ulimit -n, or "
            "LimitNOFILE= of the unit)."
        )
    if error.errno == errno.ENOMEM:
        return NoRoomError("Bars and training rows could not be mapped into memory: none is left. Use fewer tickers.")
    try:
        folder = tempfile.gettempdir()
    except FileNotFoundError as nowhere:  # none that it looked for takes a file; it names them
        return NoRoomError(
            f"Bars and training rows could not be written: {nowhere.strerror or nowhere}. "
            "Free space in one of these folders, or set TMPDIR to another one."
        )
    remedy = "Free space there" if error.errno in _FULL else "Look at that disk and the kernel's log (dmesg)"
    return NoRoomError(
        f"Bars and training rows could not be written to {folder}: {error.strerror or error}. "
        f"{remedy}, or set TMPDIR to another folder."
    )
