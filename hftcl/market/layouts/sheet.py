"""A file as rows and columns, before anybody says what they mean: unpacked, decoded, its header found.

polars and pyarrow read the cells. Reads, never writes. Raises SourceError naming the file where it is damaged.
"""

import bz2
import gzip
import io
import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import polars as pl

from hftcl.errors import SourceError

PARQUET: Final = (".parquet", ".pq")
TEXT: Final = (".csv", ".txt", ".tsv")
PACKED: Final = (".gz", ".bz2", ".zst", ".zip")
OVERFLOW: Final = "overflow"
"""Column of a text sheet: not null in lines with more cells than the header."""

_SEPARATORS: Final = "\t;|,"  # the comma last: it may be the decimal mark in a file of the others
_SNIFFED: Final = 1 << 16  # characters that show preamble, header and first rows
_FEWEST: Final = 5  # cells of a line of the table: a time and four prices
_FOREIGN: Final = 10  # first lines that may be no rows: titles, notes, the lines of a tall header
_NUMBER: Final = re.compile(r"^[$€£]?[-+]?[\d.,:/ \-T]*\d[\d.,:/ \-TZ+APM]*$", re.IGNORECASE)
_LEAST_MEMBER: Final = 1  # a zip holds one table


class NoTableError(SourceError):
    """A text without a line of a time and four prices: notes, a watchlist."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """Rows and columns of one file.

    frame: text as String columns and OVERFLOW, in the order of the file; Parquet with its types. header: the cells of
    the header's lines, one tuple a line; empty where the file has none, and then the columns are "1", "2", ...
    separator: "" for Parquet. first_row: the line of the file in which the rows begin, counted from 1.
    """

    path: Path
    frame: pl.LazyFrame
    columns: tuple[str, ...]
    header: tuple[tuple[str, ...], ...] = ()
    sample: tuple[tuple[str, ...], ...] = ()
    separator: str = ""
    first_row: int = 1
    inner: str = ""

    @property
    def text(self) -> bool:
        return bool(self.separator)


def find_kind(path: Path) -> str:
    """Return the ending that says how to read the file, in lower case; "" for a file that holds no table."""
    name = path.name.lower()
    if name.endswith(PARQUET):  # before the rest: folders of thousands of them are usual
        return next(ending for ending in PARQUET if name.endswith(ending))
    packed = next((ending for ending in PACKED if name.endswith(ending)), "")
    bare = name[: len(name) - len(packed)]
    plain = next((ending for ending in TEXT if bare.endswith(ending)), "")
    if plain or packed == ".zip":
        return plain + packed
    return ""


def open_sheet(path: Path) -> Sheet:
    """Return the table in `path`. Raises SourceError where it is empty, damaged or not what its name says."""
    if find_kind(path) in PARQUET:
        return _open_parquet(path)
    try:
        data, inner = _unpack(path)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise explain_unreadable(path, error) from error
    text = _decode(data)
    if not text.strip():
        raise SourceError(f"{path} is empty. Restore it, or take it out of the folder.")
    return _open_text(path, text, inner)


def explain_unreadable(path: Path, error: Exception) -> SourceError:
    """Return the error of a damaged file, with the remedy."""
    why = str(error).strip().split("\n")[0] or type(error).__name__
    return SourceError(f"{path} cannot be read ({why}). Restore it, or take it out of the folder.")


def _unpack(path: Path) -> tuple[bytes, str]:
    """Return the bytes of the table and, in a zip, the name of the file in it."""
    ending = find_kind(path)
    if ending.endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
            tables = [name for name in names if name.lower().endswith(TEXT)]
            if len(tables) != _LEAST_MEMBER:
                raise ValueError(
                    f"a zip with {len(tables)} tables, {', '.join(names[:3])}, not one: unpack it into the folder"
                )
            return archive.read(tables[0]), tables[0]
    data = path.read_bytes()
    if ending.endswith(".gz"):
        return gzip.decompress(data), ""
    if ending.endswith(".bz2"):
        return bz2.decompress(data), ""
    if ending.endswith(".zst"):
        import pyarrow as pa

        with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
            return bytes(stream.read()), ""
    return data, ""


def _decode(data: bytes) -> bytes:
    """Return the text as UTF-8, lines ended by a line feed, without a mark of its order.

    A text of UTF-16 shows in its mark or its zero bytes; carriage returns alone come from an old Mac or from Excel.
    """
    head = data[:200]
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        data = data.decode("utf-16", "replace").encode()
    elif len(head) > 20 and head[1::2].count(0) > len(head) // 3:
        data = data.decode("utf-16-le", "replace").encode()
    elif len(head) > 20 and head[0::2].count(0) > len(head) // 3:
        data = data.decode("utf-16-be", "replace").encode()
    data = data.removeprefix(b"\xef\xbb\xbf")
    return data if b"\n" in data else data.replace(b"\r", b"\n")


def _open_text(path: Path, data: bytes, inner: str) -> Sheet:
    lines = data[:_SNIFFED].decode("utf-8", "replace").splitlines()
    if len(data) > _SNIFFED and len(lines) > 1:
        lines = lines[:-1]
    separator = _find_separator([line for line in lines if line.strip()])
    rows = [_split_cells(line, separator) for line in lines]
    start = next((n for n, row in enumerate(rows) if _is_table(row, rows, n)), None)
    if start is None:
        first_line = next((line for line in lines if line.strip()), "")[:60]
        raise NoTableError(
            f"{path} is no table of bars: its first line is {first_line!r}, and no line has a time and four prices. "
            "Take it out of the folder, or export it again."
        )
    header: list[tuple[str, ...]] = []
    while start + len(header) < len(rows) and len(header) < _FOREIGN:
        row = rows[start + len(header)]
        if not any(row) or _is_data(row):
            break
        header.append(row)
    begin = start + len(header)
    width = max([len(row) for row in header] or [len(rows[start])])
    frame, total = _read(path, data, begin, width, separator)
    names = _name_columns(header[0] if header else (), width)
    frame = frame.rename({f"f{place}": name for place, name in enumerate(names)} | {f"f{width}": OVERFLOW})
    if total == 0 and not header:
        raise SourceError(f"{path} is empty. Restore it, or take it out of the folder.")
    return Sheet(
        path=path,
        frame=frame.lazy(),
        columns=names,
        header=tuple(header),
        sample=tuple(row for row in rows[begin : begin + 50] if any(row)),
        separator=separator,
        first_row=begin + 1,
        inner=inner,
    )


def _find_separator(lines: Sequence[str]) -> str:
    few = lines[:40]
    for separator in _SEPARATORS:
        counts = [line.count(separator) for line in few]
        if sum(count >= _FEWEST - 1 for count in counts) * 2 >= len(counts):
            return separator
    return max(_SEPARATORS, key=lambda mark: sum(line.count(mark) for line in few))


def _split_cells(line: str, separator: str) -> tuple[str, ...]:
    """Return the cells of one line of the head, read as the whole file is."""
    if '"' not in line:
        return tuple(cell.strip() for cell in line.split(separator))
    try:
        row = pl.read_csv(
            io.BytesIO(line.encode()), has_header=False, separator=separator, infer_schema=False, raise_if_empty=False
        )
    except pl.exceptions.PolarsError:
        return tuple(cell.strip().strip('"') for cell in line.split(separator))
    return tuple(str(cell or "").strip() for cell in row.row(0)) if row.height else ()


def _is_table(row: tuple[str, ...], rows: Sequence[tuple[str, ...]], place: int) -> bool:
    """Whether the table begins here: as many cells as it takes, and lines like it below."""
    if len(row) < _FEWEST:
        return False
    below = [other for other in rows[place + 1 : place + 1 + _FOREIGN] if any(other)]
    return not below or any(len(other) >= _FEWEST for other in below)


def _is_data(row: Sequence[str]) -> bool:
    """Whether a line holds figures: most of its cells that are not empty are numbers or times."""
    filled = [cell for cell in row if cell]
    return sum(bool(_NUMBER.match(cell)) for cell in filled) * 2 > len(filled)


def _name_columns(header: Sequence[str], width: int) -> tuple[str, ...]:
    """Return one name a column; those that are empty are their place, those that repeat get it added."""
    names: list[str] = []
    for place in range(width):
        name = header[place] if place < len(header) and header[place] else str(place + 1)
        names.append(f"{name} ({place + 1})" if name in {*names, OVERFLOW} else name)
    return tuple(names)


def _read(path: Path, data: bytes, begin: int, width: int, separator: str) -> tuple[pl.DataFrame, int]:
    """Return the rows from line `begin` (from 0) on as columns f0, f1, ... of String, blank lines left out.

    Marks of quotes that do not pair would swallow the lines between them: where fewer rows come than lines, the file
    is read again with the marks as plain characters.
    """
    columns = [f"f{place}" for place in range(width + 1)]
    schema = pl.Schema(dict.fromkeys(columns, pl.String()))

    def read(quote: str | None) -> pl.DataFrame:
        frame = pl.read_csv(
            io.BytesIO(data),
            has_header=False,
            skip_lines=begin,
            separator=separator,
            schema=schema,
            missing_columns="insert",
            extra_columns="ignore",
            truncate_ragged_lines=True,
            encoding="utf8-lossy",
            quote_char=quote,
            raise_if_empty=False,
        )
        blank = pl.all_horizontal(pl.col(place).str.strip_chars().fill_null("") == "" for place in columns)
        return frame.filter(~blank)

    if data.count(b"\n", 0, len(data)) < begin:
        return schema.to_frame(), 0
    plain: pl.DataFrame | None = None
    try:
        if b'"' in data:
            plain = read(None)
            quoted = _try_to(lambda: read('"'))
            if quoted is not None and quoted.height == plain.height:
                return quoted, quoted.height
            stripped = plain.with_columns(pl.col(columns).str.strip_chars('"'))
            return stripped, stripped.height
        plain = read(None)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise explain_unreadable(path, error) from error
    return plain, plain.height


def _try_to(act: Callable[[], pl.DataFrame]) -> pl.DataFrame | None:
    try:
        return act()
    except pl.exceptions.PolarsError:  # marks that do not pair; the caller reads the file without them
        return None


def _open_parquet(path: Path) -> Sheet:
    """Open Parquet; columns of times in a zone that polars does not know are read by pyarrow, as UTC."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
        foreign = [name for name, kind in zip(schema.names, schema.types, strict=True) if _is_foreign(kind)]
        if foreign:
            table = pq.read_table(path)
            for name in foreign:
                place = table.schema.get_field_index(name)
                moments = table.column(name).cast(pa.timestamp(schema.field(name).type.unit, "UTC"))
                table = table.set_column(place, name, moments)
            frame = pl.DataFrame(pl.from_arrow(table)).lazy()
        else:
            frame = pl.scan_parquet(path, hive_partitioning=False)
        names = tuple(frame.collect_schema().names())
    except (pl.exceptions.PolarsError, pa.ArrowException, OSError) as error:
        raise explain_unreadable(path, error) from error
    return Sheet(path=path, frame=frame, columns=names, header=(names,))


def _is_foreign(kind: object) -> bool:
    zone = getattr(kind, "tz", None)
    if zone is None:
        return False
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        return True
    return False
