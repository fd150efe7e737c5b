"""Rows on their way to a worker, in blocks named by the hash of what they hold: of a table one for each month.

A month, so that a task waits for the months that it reads and no others, and each lies on a worker once.
"""

import hashlib
import io
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

import numpy as np
import polars as pl

from hftcl import durable
from hftcl.compute.tasks import Arrays, Piece, Rows, cut_sessions
from hftcl.errors import ComputeError

_ORDER: Final = ("ticker", "ts")  # of every table
_PIECE_BYTES: Final = 64 << 20  # of arrays: what a task holds of them beside what it takes out, and a worker sends on


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Rows that travel together. first, last: sessions of a table's; None of arrays.

    data: of a table's an Arrow file, compressed with LZ4; of arrays one after the other as numpy.save writes them.
    """

    data: bytes
    first: date | None = None
    last: date | None = None

    @property
    def suffix(self) -> str:
        """Return by what its file is known: Arrow, or what numpy.load reads."""
        return ".npy" if self.first is None else ".arrow"

    @property
    def digest(self) -> str:
        """SHA-256 of the data, hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBlock:
    """A block that lies on storage which every worker sees."""

    path: str
    digest: str

    def read(self) -> bytes:
        """Return its data. Raises ComputeError where the file cannot be read, or is not what was written."""
        try:
            data = Path(self.path).read_bytes()
        except OSError as error:
            raise ComputeError(
                f"[compute] storage: a worker cannot read {self.path}: {error.strerror or error}. Name a folder that "
                "this machine and each worker know by the same path."
            ) from error
        if hashlib.sha256(data).hexdigest() != self.digest:
            raise ComputeError(f"[compute] storage: {self.path} is damaged. Delete it, and run the command again.")
        return data


def divide(table: pl.DataFrame) -> Iterator[Block]:
    """Yield the blocks of a table, oldest first; none of one without rows."""
    month = table["session"].dt.month_start()
    for begin in month.unique().sort():
        rows = table.filter(month == begin)
        buffer = io.BytesIO()
        rows.rechunk().write_ipc(buffer, compression="lz4")
        first: date = rows["session"].min()  # type: ignore[assignment]
        last: date = rows["session"].max()  # type: ignore[assignment]
        yield Block(first=first, last=last, data=buffer.getvalue())


def divide_arrays(arrays: Arrays) -> Iterator[Block]:
    """Yield the blocks of arrays, in their order."""
    step = max(1, _PIECE_BYTES // arrays.row_bytes)
    for begin in range(0, arrays.rows, step):
        buffer = io.BytesIO()
        for column in arrays.columns.values():
            np.save(buffer, np.asarray(column[begin : begin + step]), allow_pickle=False)
        yield Block(data=buffer.getvalue())


def divide_rows(rows: Rows | Arrays) -> Iterator[Block]:
    """Yield all blocks of what a task reads of."""
    return divide_arrays(rows) if isinstance(rows, Arrays) else divide(rows.table.read())


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinTable:
    """Makes the frame of the sessions `first` to `last` of blocks, in the order of the table."""

    first: date | None
    last: date | None

    def __call__(self, blocks: Sequence[bytes | StoredBlock]) -> pl.DataFrame:
        """Return it."""
        return join(blocks, self.first, self.last)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenArrays:
    """Opens the blocks of arrays of these names, a piece each time that one is asked for."""

    names: tuple[str, ...]

    def __call__(self, blocks: Sequence[bytes | StoredBlock]) -> Iterable[Piece]:
        """Return what yields the pieces, in order, as often as it is gone through."""
        return _Pieces(blocks, self.names)


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class _Held:
    """What a file on the storage holds, in memory."""

    data: bytes


_held: WeakValueDictionary[str, _Held] = WeakValueDictionary()  # by digest: the threads of a worker share them
_reading = threading.Lock()


def _hold(block: bytes | StoredBlock) -> _Held:
    """Return its data, which another thread may hold already. Raises as `StoredBlock.read`."""
    if not isinstance(block, StoredBlock):
        return _Held(block)
    with _reading:
        held = _held.get(block.digest)
        if held is None:
            held = _held[block.digest] = _Held(block.read())
        return held


class _Pieces:
    """Reads each file once: a task goes through the pieces for each of its trees."""

    def __init__(self, blocks: Sequence[bytes | StoredBlock], names: tuple[str, ...]) -> None:
        self._blocks, self._names = blocks, names
        self._held: list[_Held] = []

    def __iter__(self) -> Iterator[Piece]:
        for number, block in enumerate(self._blocks):
            if number == len(self._held):
                self._held.append(_hold(block))
            buffer = io.BytesIO(self._held[number].data)
            yield {name: np.load(buffer, allow_pickle=False) for name in self._names}


def choose_opener(rows: Rows | Arrays) -> JoinTable | OpenArrays:
    """Return what makes of blocks, on a worker, what a task is called with."""
    if isinstance(rows, Arrays):
        return OpenArrays(names=tuple(rows.columns))
    return JoinTable(first=rows.first, last=rows.last)


def join(blocks: Sequence[bytes | StoredBlock], first: date | None, last: date | None) -> pl.DataFrame:
    """Return the rows of the sessions `first` to `last` of these blocks, in the order of the table."""
    frames = [cut_sessions(pl.read_ipc(_read(block)), first, last) for block in blocks]
    return pl.concat(frames).sort(_ORDER).rechunk()


def _read(block: bytes | StoredBlock) -> bytes:
    return block.read() if isinstance(block, StoredBlock) else block


def keep_block(block: Block, folder: Path) -> StoredBlock:
    """Return the block as it lies in `folder`, where it is written unless it is there. Raises StorageError."""
    digest = block.digest
    path = folder / f"{digest}{block.suffix}"
    with durable.convert_storage_faults("keeping rows for the workers"):
        durable.make_folder(folder)
        if not path.exists() or path.stat().st_size != len(block.data):
            durable.write_atomically(path, block.data)
    return StoredBlock(path=str(path), digest=digest)
