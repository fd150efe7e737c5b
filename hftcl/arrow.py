"""Columns of polars that read memory of ours, as it lies there: texts, and numbers of which some are not known.

By Arrow's C data interface, https://arrow.apache.org/docs/format/CDataInterface.html: numpy alone hands over numbers
that are all known. Nothing here is copied, so that what lies in a file stays there.
"""

import ctypes
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:  # the child that trains loads no library of frames
    import polars as pl

VIEW_BYTES: Final = 16  # of a text: Arrow's "variable-size binary view layout"
_INLINE_BYTES: Final = 12  # of the same: what is longer lies elsewhere
_PREFIX_BYTES: Final = 4  # of a longer one, beside where it lies
_NULLABLE: Final = 2  # ARROW_FLAG_NULLABLE
_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]


class _Schema(ctypes.Structure):
    """ArrowSchema."""


class _Array(ctypes.Structure):
    """ArrowArray."""


_ReleaseSchema = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Schema))
_ReleaseArray = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Array))
_Schema._fields_ = [
    ("format", ctypes.c_char_p),
    ("name", ctypes.c_char_p),
    ("metadata", ctypes.c_char_p),
    ("flags", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("children", ctypes.c_void_p),
    ("dictionary", ctypes.c_void_p),
    ("release", _ReleaseSchema),
    ("private_data", ctypes.c_void_p),
]
_Array._fields_ = [
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", ctypes.c_void_p),
    ("children", ctypes.c_void_p),
    ("dictionary", ctypes.c_void_p),
    ("release", _ReleaseArray),
    ("private_data", ctypes.c_void_p),
]
_held: dict[int, tuple[object, ...]] = {}
"""What columns read, by the address of their list of buffers, until polars lets go of it."""


def _release_schema(schema: Any) -> None:
    schema.contents.release = _ReleaseSchema()


def _release_array(array: Any, held: dict[int, tuple[object, ...]] = _held, none: Any = _ReleaseArray) -> None:
    # by its own arguments: polars may let go when Python ends, and the names of this module are gone
    held.pop(array.contents.buffers, None)
    array.contents.release = none()


# For ever, as polars calls them whenever it lets go.
_RELEASE_SCHEMA: Final = _ReleaseSchema(_release_schema)
_RELEASE_ARRAY: Final = _ReleaseArray(_release_array)


class _Handed:
    """What polars asks for the two structures; once."""

    def __init__(self, form: str, length: int, nulls: int, buffers: tuple[npt.NDArray[Any] | None, ...]) -> None:
        """Take a format of Arrow's, and the buffers that it wants; None where all values are known."""
        self._form, self._length, self._nulls, self._buffers = form.encode(), length, nulls, buffers

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
        schema = _Schema(format=self._form, name=b"", flags=_NULLABLE, release=_RELEASE_SCHEMA)
        places = (ctypes.c_void_p * len(self._buffers))(
            *(None if buffer is None else buffer.ctypes.data for buffer in self._buffers)
        )
        address = ctypes.addressof(places)
        array = _Array(
            length=self._length,
            null_count=self._nulls,
            n_buffers=len(self._buffers),
            buffers=address,
            release=_RELEASE_ARRAY,
        )
        _held[address] = (places, self._buffers, schema, array)
        return (
            _new_capsule(ctypes.addressof(schema), b"arrow_schema", None),
            _new_capsule(ctypes.addressof(array), b"arrow_array", None),
        )


def build_view(text: str, texts: bytearray) -> bytes:
    r"""Return how Arrow writes a text, 16 bytes; a long one is added to `texts`, which the column then needs.

    >>> texts = bytearray()
    >>> build_view("AAPL", texts)[:8], texts
    (b'\x04\x00\x00\x00AAPL', bytearray(b''))
    >>> build_view("a name that is long", texts)[4:8], texts
    (b'a na', bytearray(b'a name that is long'))
    """
    written = text.encode()
    length = len(written).to_bytes(4, "little")
    if len(written) <= _INLINE_BYTES:
        return length + written.ljust(_INLINE_BYTES, b"\0")
    begin = len(texts)
    texts += written
    return length + written[:_PREFIX_BYTES] + (0).to_bytes(4, "little") + begin.to_bytes(4, "little")


def map_texts(name: str, views: npt.NDArray[np.uint8], texts: bytes) -> "pl.Series":
    """Return a column of the texts that `views`, uint8 (n, 16), stand for: see `build_view`."""
    import polars as pl

    long = np.frombuffer(bytes(texts) or b"\0", np.uint8)
    sizes = np.array([len(texts)], np.int64)  # of each buffer of long texts, of which there is one
    return pl.Series(_Handed("vu", len(views), 0, (None, views, long, sizes))).alias(name)


def map_times(name: str, values: npt.NDArray[np.int64], known: npt.NDArray[np.bool_]) -> "pl.Series":
    """Return a column of UTC times, `values` microseconds; null where they are not known."""
    import polars as pl

    bits = np.packbits(known, bitorder="little")
    nulls = len(known) - int(np.count_nonzero(known))
    return pl.Series(_Handed("tsu:UTC", len(values), nulls, (bits, values))).alias(name)
