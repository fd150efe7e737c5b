"""Which columns of a frame lie in an unnamed file, by the maps of this process: what lies there takes no memory."""

from pathlib import Path

import polars as pl


def list_in_files(frame: pl.DataFrame) -> list[str]:
    """Return the names of the columns all of whose values polars reads from an unnamed file."""
    spans = _list_unnamed()
    return [one.name for one in frame if all(_begins_in(spans, piece) for piece in one.get_chunks())]


def _list_unnamed() -> list[range]:
    spans = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith(" (deleted)"):
            begin, end = line.split(maxsplit=1)[0].split("-")
            spans.append(range(int(begin, 16), int(end, 16)))
    return spans


def _begins_in(spans: list[range], piece: pl.Series) -> bool:
    column = piece.to_arrow(compat_level=pl.CompatLevel.newest())  # texts too as polars has them, without a copy
    values = column.buffers()[1]  # after the bits of what is known
    return any(values.address in span and values.address + values.size <= span.stop for span in spans)
