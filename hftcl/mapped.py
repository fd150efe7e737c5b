"""Arrays that lie in an unnamed file and not in memory: pages come in as they are read, and leave when room is needed.

No folder lists the file (O_TMPFILE): it is gone with the last process that holds it, even after kill -9, and no other
one can damage it. It lies in $TMPDIR, or in /tmp: where that is a tmpfs, its pages are memory or swap, and TMPDIR on a
disk, such as /var/tmp, spares them. Its room is taken at once: a full disk is an error here, and not the death of a
process that writes into a hole of the file.
"""

import os
import tempfile
import weakref
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from hftcl.errors import StorageError


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
    """Return an array of zeros in an unnamed file, C-ordered. Raises StorageError where there is no room for it."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    file = open_unnamed_file()
    try:
        os.posix_fallocate(file.fileno(), 0, max(size, 1))
    except OSError as error:
        file.close()
        raise build_no_room_error(error) from error
    array = FileArray(file, dtype, "r+", shape=shape)
    array.file = file
    weakref.finalize(array, file.close)  # what is mapped stays mapped as long as a part of it is held
    return array


def open_unnamed_file() -> IO[bytes]:
    """Open a file that no folder lists. Raises StorageError."""
    try:
        return tempfile.TemporaryFile()
    except OSError as error:
        raise build_no_room_error(error) from error


def build_no_room_error(error: OSError) -> StorageError:
    """Return the error of a command that cannot write what it works with."""
    return StorageError(
        f"The training rows could not be written to {tempfile.gettempdir()}: {error.strerror or error}. "
        "Free space there, or set TMPDIR to another folder."
    )
