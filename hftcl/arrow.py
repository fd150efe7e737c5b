"""Columns of polars that read memory of ours, as it lies there: texts, and times of which some are not known.

Through pyarrow: numpy alone hands over numbers that are all known. Nothing here is copied, so that what lies in a file
stays there.
"""

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:  # the child that trains loads no library of frames
    import polars as pl

VIEW_BYTES: Final = 16  # of a text: Arrow's "variable-size binary view layout"
_INLINE_BYTES: Final = 12  # of the same: what is longer lies elsewhere
_PREFIX_BYTES: Final = 4  # of a longer one, beside where it lies


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
    """Return a column of the texts that `views` stand for, each written by `build_view` with these `texts`.

    views: uint8 (n, 16), C-contiguous; not copied. Raises ValueError for another one.
    """
    import polars as pl
    import pyarrow as pa

    _require(views, np.uint8, (len(views), VIEW_BYTES))
    long = pa.py_buffer(bytes(texts) or b"\0")
    column = pa.Array.from_buffers(pa.string_view(), len(views), [None, pa.py_buffer(views), long], null_count=0)
    return pl.Series(name, column)


def map_times(name: str, values: npt.NDArray[np.int64], known: npt.NDArray[np.bool_]) -> "pl.Series":
    """Return a column of UTC times; null where they are not known.

    values: int64 (n,), microseconds, contiguous; not copied. known: bool (n,). Raises ValueError for others.
    """
    import polars as pl
    import pyarrow as pa

    _require(values, np.int64, (len(values),))
    _require(known, np.bool_, (len(values),))
    bits = pa.py_buffer(np.packbits(known, bitorder="little"))
    nulls = len(known) - int(np.count_nonzero(known))
    times = pa.timestamp("us", "UTC")
    return pl.Series(name, pa.Array.from_buffers(times, len(values), [bits, pa.py_buffer(values)], null_count=nulls))


def _require(array: npt.NDArray[Any], dtype: npt.DTypeLike, shape: tuple[int, ...]) -> None:
    """Raise ValueError for an array whose bytes Arrow would take for others: it is told no dtype, shape or strides."""
    if array.dtype != dtype or array.shape != shape or not array.flags.c_contiguous:
        raise ValueError(
            f"A column reads {np.dtype(dtype)} {shape} in one piece, got {array.dtype} {array.shape} with strides of "
            f"{array.strides} bytes."
        )
