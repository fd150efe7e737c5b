"""Cells of a file to moments and figures, leniently: what cannot be read becomes null and is counted by `bars.clean`.

Pure; called by the source `files`, whose columns may be texts, numbers or times.
"""

from typing import Final

import polars as pl

from hftcl.market.bars import TS

_ISO: Final = (  # ISO 8601 and what vendors make of it: a blank for the T, a comma, no seconds, up to nine decimals
    r"^(?P<day>\d{4}-\d{2}-\d{2})[T ](?P<minute>\d{2}:\d{2})(?::(?P<second>\d{2}))?(?:[.,](?P<fraction>\d{1,9}))?"
    r" ?(?P<zone>Z|z|UTC|[+-]\d{2}:?\d{2})?$"
)
# 9 digits are seconds from 1973, 19 are nanoseconds to 2262, the most that an int64 holds.
_NUMBER: Final = r"^\d{9,19}(?:\.\d+)?$"
# Groups of three from the left: "1,5" is a decimal comma, and is refused rather than guessed.
_THOUSANDS: Final = r"^[+-]?\d{1,3}(?:,\d{3})+(?:\.\d*)?$"
_EPOCH_UNITS: Final = ((10**10, 1_000_000), (10**13, 1_000), (10**16, 1))  # below this: seconds, milli-, microseconds
# Our calendars begin in 1990; a number read in the wrong unit falls outside.
_YEARS: Final = (1990, 2099)
_USUAL: Final = (  # the commonest first: polars' own parser reads them 60 times faster than the pattern
    *(f"%Y-%m-%d{t}%H:%M:%S" for t in " T"),
    *(f"%Y-%m-%d{t}%H:%M:%S%#z" for t in " T"),
    *(f"%Y-%m-%d{t}%H:%M:%S%.f%#z" for t in " T"),
)
_FEW: Final = 100  # a file keeps to one form: if none of the first hundred has it, the rest is not tried


def parse_moments(cells: pl.Expr, dtype: pl.DataType, zone: str) -> pl.Expr:
    """Return the moments (Datetime us UTC) that a column means; null for what is no moment of 1990 to 2099.

    Times with a zone keep it; those without, also dates, are local to `zone`: of an hour that the clock change repeats
    the first is meant, one that it skips is null. Numbers count seconds, milli-, micro- or nanoseconds since 1970,
    told apart by their size. Texts are such numbers, or ISO 8601 with or without zone, mixed as they come.
    """
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        moment = cells.dt.convert_time_zone("UTC").cast(TS)
    elif isinstance(dtype, pl.Datetime | pl.Date):
        moment = _localise(cells.cast(pl.Datetime("us")), zone)
    elif dtype.is_integer():
        moment = _parse_epoch(cells.cast(pl.Int64, strict=False))
    elif dtype.is_numeric():
        moment = _parse_epoch(cells.cast(pl.Float64))
    elif dtype == pl.String:
        moment = _parse_text(cells.str.strip_chars(), zone)
    else:
        moment = pl.lit(None, dtype=TS)
    return pl.when(moment.dt.year().is_between(*_YEARS)).then(moment)


def parse_figures(cells: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Return a column as Float64; texts may have thousands separators ("1,234") and exponents; else null."""
    if dtype != pl.String:
        return cells.cast(pl.Float64, strict=False)
    text = cells.str.strip_chars()
    plain = pl.when(text.str.contains(_THOUSANDS)).then(text.str.replace_all(",", "", literal=True)).otherwise(text)
    return plain.cast(pl.Float64, strict=False)


def _localise(naive: pl.Expr, zone: str) -> pl.Expr:
    local = naive.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return local.dt.convert_time_zone("UTC").cast(TS)


def _parse_epoch(number: pl.Expr) -> pl.Expr:
    """Microseconds since 1970 from a number whose unit shows in its size; nanoseconds are cut to microseconds."""
    micros: pl.Expr = pl.when(number >= 10**16).then(number // 1000)
    for below, factor in reversed(_EPOCH_UNITS):
        micros = pl.when(number < below).then(number * factor).otherwise(micros)
    return pl.when(number > 0).then(micros).cast(pl.Int64, strict=False).cast(TS)


def _parse_text(text: pl.Expr, zone: str) -> pl.Expr:
    return text.map_batches(lambda cells: _read(cells, zone), return_dtype=TS)


def _read(cells: pl.Series, zone: str) -> pl.Series:
    """Read the usual ways of writing a time first, and only what is left by the pattern: it takes 60 times as long."""
    moments = pl.Series(cells.name, [None], dtype=TS).new_from_index(0, len(cells))
    for form in _USUAL:
        left = moments.is_null().arg_true()
        if not left.len():
            return moments
        text = cells.gather(left)
        if not text.head(_FEW).str.to_datetime(form, time_unit="us", strict=False).is_not_null().any():
            continue
        moment = pl.select(text.str.to_datetime(form, time_unit="us", strict=False)).to_series()
        utc = moment if moment.dtype == TS else pl.select(_localise(pl.lit(moment), zone)).to_series()
        moments = moments.scatter(left, utc.cast(TS))
    left = moments.is_null().arg_true()
    rest = cells.gather(left).alias("text").to_frame().select(_parse_by_pattern(pl.col("text"), zone)).to_series()
    return moments.scatter(left, rest)


def _parse_by_pattern(text: pl.Expr, zone: str) -> pl.Expr:
    parts = text.str.extract_groups(_ISO)
    day, minute, second, fraction, offset = (
        parts.struct.field(name) for name in ("day", "minute", "second", "fraction", "zone")
    )
    naive = (day + "T" + minute + ":" + second.fill_null("00")).str.to_datetime(
        "%Y-%m-%dT%H:%M:%S", time_unit="us", strict=False
    )
    micros = (fraction.fill_null("") + "000000").str.slice(0, 6).cast(pl.Int64, strict=False)
    naive = naive + pl.duration(microseconds=micros)
    hours, minutes = offset.str.slice(1, 2), offset.str.slice(-2)
    east = hours.cast(pl.Int64, strict=False) * 60 + minutes.cast(pl.Int64, strict=False)
    east = pl.when(offset.str.starts_with("-")).then(-east).otherwise(east).fill_null(0)  # Z and UTC have no digits
    zoned = (naive - pl.duration(minutes=east)).dt.replace_time_zone("UTC")
    iso = pl.when(offset.is_null()).then(_localise(naive, zone)).otherwise(zoned)
    digits = pl.when(text.str.contains(_NUMBER)).then(text)
    whole = _parse_epoch(digits.cast(pl.Int64, strict=False))
    return pl.coalesce(iso, whole, _parse_epoch(digits.cast(pl.Float64, strict=False)))
