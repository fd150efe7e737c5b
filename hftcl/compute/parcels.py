"""Rows on their way to a worker: a block for each month of a table, named by the hash of what it holds.

A month, so that a task waits for the months that it reads and no others, and each lies on a worker once.
"""

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

import polars as pl

from hftcl import durable
from hftcl.compute.tasks import cut_sessions
from hftcl.errors import ComputeError

_ORDER: Final = ("ticker", "ts")  # of every table


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """The rows of one month. data: an Arrow file, compressed with LZ4; first, last: its sessions."""

    first: date
    last: date
    data: bytes

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


def join(blocks: Sequence[bytes | StoredBlock], first: date | None, last: date | None) -> pl.DataFrame:
    """Return the rows of the sessions `first` to `last` of these blocks, in the order of the table."""
    parts = (block.read() if isinstance(block, StoredBlock) else block for block in blocks)
    frames = [cut_sessions(pl.read_ipc(part), first, last) for part in parts]
    return pl.concat(frames).sort(_ORDER).rechunk()


def store(block: Block, folder: Path) -> StoredBlock:
    """Return the block as it lies in `folder`, where it is written unless it is there. Raises StorageError."""
    digest = block.digest
    path = folder / f"{digest}.arrow"
    with durable.convert_storage_faults("keeping bars for the workers"):
        durable.make_folder(folder)
        if not path.exists() or path.stat().st_size != len(block.data):
            durable.write_atomically(path, block.data)
    return StoredBlock(path=str(path), digest=digest)
