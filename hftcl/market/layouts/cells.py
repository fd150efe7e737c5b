"""Cells of a column to moments and figures, decided by the whole column. What cannot be read becomes null. Pure."""

from dataclasses import dataclass, field
from typing import Final, Literal
from zoneinfo import ZoneInfo

import polars as pl

_TS: Final = pl.Datetime("us", "UTC")
Order = Literal["", "dmy", "mdy"]

_TIME = r"(?P<hour>\d{1,2})(?::?(?P<minute>\d{2}))(?::?(?P<second>\d{2}))?(?:[.,](?P<fraction>\d{1,9}))? ?(?P<half>[AaPp][Mm])?"  # noqa: E501 - one pattern
_ZONE = r" ?(?P<zone>Z|z|(?:GMT|UTC)?[+-]\d{2}:?\d{2}|UTC|GMT|EST|EDT)?"
_BETWEEN = r"(?:[T ,]+|[:-])"
_DATES: Final = (
    r"(?P<year>\d{4})[-./ ]?(?P<month>\d{1,2})[-./ ]?(?P<day>\d{1,2})",
    r"(?P<first>\d{1,2})[-./](?P<second_part>\d{1,2})[-./](?P<year>\d{4}|\d{2})",
    r"(?P<day>\d{1,2})[- ](?P<name>[A-Za-z]{3})[a-z]*[- ,]+(?P<year>\d{4}|\d{2})",
    r"(?P<name>[A-Za-z]{3})[a-z]* (?P<day>\d{1,2}),? (?P<year>\d{4})",
)
_FIELDS: Final = (
    "year",
    "month",
    "day",
    "first",
    "second_part",
    "name",
    "hour",
    "minute",
    "second",
    "fraction",
    "half",
    "zone",
)
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_EPOCH: Final = r"^\d{9,19}(?:\.\d+)?$"
_CALENDAR: Final = r"^(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:[01]\d|2[0-3])[0-5]\d(?:[0-5]\d)?$"
_ZONED: Final = r"\d ?(?:Z|z|UTC|GMT|EST|EDT|(?:GMT|UTC)?[+-]\d{2}:?\d{2}|[A-Z][A-Za-z]+/[A-Za-z_/]+)$"
_NAMED: Final = r"\d +([A-Z][A-Za-z]+/[A-Za-z_/]+)$"  # a zone by its name, as "20250512 09:30:00 US/Eastern"
_CLOCK: Final = r"\d{1,2}:\d{2}|[T ]\d{4,6}"
_EPOCH_UNITS: Final = ((10**10, 1_000_000), (10**13, 1_000), (10**16, 1))  # below this: seconds, milli-, microseconds
_TICKS: Final = (630_000_000_000_000_000, 662_000_000_000_000_000)  # 100 ns since the year 1: 1997 to 2098
_TICKS_OF_1970: Final = 621_355_968_000_000_000  # 100 ns from the year 1 to the epoch
_DAYS_OF_1970: Final = 25_569  # days of a spreadsheet, counted from the end of 1899
_SERIAL: Final = (30_000.0, 70_000.0)  # 1982 to 2091
_YEARS: Final = (1990, 2099)  # minute bars are younger, and a stamp beyond is another unit
_HOURS: Final = {"EST": -300, "EDT": -240}  # minutes from UTC, for the two names that no zone database has
_THOUSANDS: Final = r"^[+-]?\d{1,3}(?:,\d{3})+(?:\.\d*)?$"
_SUFFIX: Final = r"([KMB])$"  # a volume of "69.0K"
_TIMES: Final = {"K": 1e3, "M": 1e6, "B": 1e9}  # thousands, millions and billions, as web pages abbreviate them
_SPACED: Final = r"^[+-]?\d{1,3}(?:[ '\u00a0\u202f]\d{3})+(?:[.,]\d*)?$"
_DECIMAL_COMMA: Final = r"^[+-]?(?:\d+|\d{1,3}(?:\.\d{3})+),\d+$"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamps:
    """How a column writes its moments: counts of cells that name a zone, none, are numbers, or cannot be read.

    order: of day and month where the cells write 05/12/2025; "?" where the whole column leaves it open, "!" where it
    contradicts itself. example: the first cell that cannot be read.
    """

    naive: int = 0
    zoned: int = 0
    epoch: int = 0
    unread: int = 0
    order: str = ""
    example: str = ""
    form: str = ""
    moments: pl.Series | None = field(default=None, repr=False, compare=False)
    """What the cells mean, row for row, where no cell leaves a zone open: so that they are read once."""

    @property
    def kind(self) -> str:
        """Which way of writing prevails: "naive", "zoned", "epoch", or "" where nothing can be read."""
        best = max((self.naive, "naive"), (self.zoned, "zoned"), (self.epoch, "epoch"))
        return best[1] if best[0] else ""


def survey(cells: pl.Series) -> Stamps:
    """Say how a column writes its moments, from every cell of it."""
    dtype = cells.dtype
    filled = cells.drop_nulls()
    form = str(filled[0]) if filled.len() else ""
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        return Stamps(zoned=filled.len(), form=form)
    if isinstance(dtype, pl.Datetime | pl.Date):
        return Stamps(naive=filled.len(), form=form)
    text = filled.cast(pl.String).str.strip_chars()
    if dtype == pl.String and text.len() == cells.len() and (usual := _read_usual(text)) is not None:
        form_zone, moments = usual
        if form_zone:
            return Stamps(zoned=text.len(), form=form, moments=moments)
        return Stamps(naive=text.len(), form=form)
    text = text.filter(text != "")
    serial = _is_serial(text)
    epoch = text.str.contains(_EPOCH) & ~text.str.contains(_CALENDAR)
    ticks = epoch & text.str.slice(0, 18).cast(pl.Int64, strict=False).is_between(*_TICKS).fill_null(value=False)
    ticks = ticks & (text.str.len_chars() == 18)
    zoned = text.str.contains(_ZONED) & text.str.contains(_CLOCK)
    order = _order(text)
    moments = read(text, "UTC", order if order in ("dmy", "mdy") else "mdy")
    good = moments.is_not_null()
    naive = good & ((~epoch & ~zoned) | ticks | serial)
    bad = text.filter(~good)
    whole = naive.sum() == 0 and text.len() == cells.len() and dtype == pl.String
    return Stamps(
        moments=moments if whole else None,
        naive=int(naive.sum()),
        zoned=int((good & zoned).sum()),
        epoch=int((good & epoch & ~ticks & ~serial).sum()),
        unread=bad.len(),
        order=order,
        example=bad[0] if bad.len() else "",
        form=form,
    )


def _order(text: pl.Series) -> str:
    """Decide by the whole column whether 05/12/2025 is in May or in December."""
    text = text.filter(text.str.contains(r"^\d{1,2}[-./]"))
    parts = text.str.extract_groups(rf"^{_DATES[1]}(?:\D|$)").struct.unnest().select("first", "second_part")
    first, second = (parts[name].cast(pl.Int32, strict=False).drop_nulls() for name in ("first", "second_part"))
    if not first.len():
        return ""
    over_first, over_second = int((first > 12).sum()), int((second > 12).sum())
    if over_first and over_second:
        return "!"
    if over_first or over_second:
        return "dmy" if over_first else "mdy"
    return "?"


def read(cells: pl.Series, zone: str, order: str = "") -> pl.Series:
    """Return the moments (Datetime us UTC) that a column means; null for what is no moment of 1990 to 2099.

    Times with a zone keep it; those without, also dates, are local to `zone`: of an hour that the clock change repeats
    the first is meant, one that it skips is null. Numbers count seconds to nanoseconds since 1970, told apart by their
    size, the 100 ns of .NET since the year 1, or the days of a spreadsheet; the latter two are local, too.
    """
    dtype = cells.dtype
    column = pl.col(cells.name)
    frame = cells.to_frame()
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        moment = column.dt.convert_time_zone("UTC").cast(_TS)
    elif isinstance(dtype, pl.Datetime | pl.Date):
        moment = _localise(column.cast(pl.Datetime("us")), zone)
    elif dtype == pl.String:
        return _read_text(cells, zone, order)
    elif dtype.is_numeric():
        moment = _number(column, zone)
    else:
        moment = pl.lit(None, dtype=_TS)
    return frame.select(_is_in_range(moment).alias(cells.name)).to_series()


def _read_text(cells: pl.Series, zone: str, order: str) -> pl.Series:
    """Read the usual ways of writing a time first, and by the patterns, which take 60 times as long, what is left."""
    text = cells.str.strip_chars()
    moments = pl.Series(cells.name, [None], dtype=_TS).new_from_index(0, len(cells))
    if text.head(_FEW).str.contains(_NAMED).any():
        return _read_named(text, zone, order)
    for form, form_zone in _USUAL:
        left = moments.is_null().arg_true()
        if not left.len():
            break
        rest = text if left.len() == len(text) else text.gather(left)
        moment = _parse(rest, form, form_zone or zone)
        if moment is None:
            continue
        moments = moment if left.len() == len(text) else moments.scatter(left, moment)
    left = moments.is_null().arg_true()
    if left.len():
        rest = _parse_by_patterns(text.gather(left).alias("text"), zone, order)
        moments = moments.scatter(left, rest)
    return moments.alias(cells.name).to_frame().select(_is_in_range(pl.col(cells.name))).to_series()


def _read_named(text: pl.Series, zone: str, order: str) -> pl.Series:
    """Read a column whose cells name their zone; null where no database has it."""
    names = text.str.extract(_NAMED)
    moments = pl.Series(text.name, [None], dtype=_TS).new_from_index(0, len(text))
    for name in names.unique().to_list():
        mine = (names.is_null() if name is None else (names == name).fill_null(value=False)).arg_true()
        rest = text.gather(mine)
        if name is None:
            known = _parse_by_patterns(rest.alias("text"), zone, order)
        elif _is_zone(name):
            bare = rest.str.strip_suffix(name).str.strip_chars()
            known = _parse_by_patterns(bare.alias("text"), name, order)
        else:
            continue
        moments = moments.scatter(mine, known)
    return moments.to_frame().select(_is_in_range(pl.col(text.name))).to_series()


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True


_USUAL: Final = (
    *((f"%Y-%m-%d{t}%H:%M:%S", "") for t in " T"),
    *((f"%Y-%m-%d{t}%H:%M:%SZ", "UTC") for t in " T"),  # a third of the time that %#z takes
    *((f"%Y-%m-%d{t}%H:%M:%S%#z", "UTC") for t in " T"),
    *((f"%Y-%m-%d{t}%H:%M:%S%.f%#z", "UTC") for t in " T"),
)
"""Forms, and the zone of what they mean; "" where the text names none."""
_FEW: Final = 100  # stamps on which a form is tried before the whole column: a wrong one fails on the first


def _parse(text: pl.Series, form: str, zone: str) -> pl.Series | None:
    """Return the moments of the texts of one form, null for others; None where none of the first has it."""
    if not text.head(_FEW).str.to_datetime(form, time_unit="us", strict=False).is_not_null().any():
        return None
    moment = text.str.to_datetime(form, time_unit="us", strict=False)
    if moment.dtype == _TS:
        return moment
    if zone == "UTC":
        return moment.dt.replace_time_zone("UTC")
    return pl.select(_localise(pl.lit(moment), zone)).to_series().cast(_TS)


def _read_usual(text: pl.Series) -> tuple[str, pl.Series] | None:
    """Return zone and moments of a column that is in one usual form throughout; None for any other."""
    for form, zone in _USUAL:
        moments = _parse(text, form, "UTC")
        if moments is not None:
            whole = text.len() > 0 and not moments.null_count()
            years = moments.dt.year()
            return (zone, moments) if whole and years.is_between(*_YEARS).all() else None
    return None


def _parse_by_patterns(text: pl.Series, zone: str, order: str) -> pl.Series:
    column = pl.col("text")
    digits = pl.when(column.str.contains(_EPOCH) & ~column.str.contains(_CALENDAR)).then(column)
    whole = _number(digits.cast(pl.Int64, strict=False), zone)
    part = _number(digits.cast(pl.Float64, strict=False), zone)
    numbers = text.to_frame().select(pl.coalesce(whole, part).alias("text")).to_series()
    if _is_serial(text).any():
        serial = text.to_frame().select(_number(column.cast(pl.Float64, strict=False), zone)).to_series()
        numbers = numbers.to_frame().select(pl.coalesce(pl.col("text"), pl.lit(serial))).to_series()
    moments = numbers
    for date in _DATES:
        left = moments.is_null().arg_true()
        if not left.len():
            break
        rest = text.gather(left)
        moments = moments.scatter(left, _parse_by_pattern(rest, date, zone, order))
    return moments


def _parse_by_pattern(text: pl.Series, date: str, zone: str, order: str) -> pl.Series:
    fields = text.str.extract_groups(rf"^{date}(?:{_BETWEEN}?{_TIME})?{_ZONE}$").struct.unnest()
    absent = [name for name in _FIELDS if name not in fields.columns]
    parts = fields.with_columns(pl.lit(None, pl.String).alias(name) for name in absent)

    def parse_whole(name: str) -> pl.Expr:
        return pl.col(name).cast(pl.Int32, strict=False)

    year = parse_whole("year")
    year = pl.when(year < 100).then(year + 2000).otherwise(year)
    first, second = ("first", "second_part") if order == "dmy" else ("second_part", "first")
    named = pl.col("name").str.to_lowercase().replace_strict(list(_MONTHS), list(range(1, 13)), default=None)
    month = pl.coalesce(parse_whole("month"), named.cast(pl.Int32, strict=False), parse_whole(second))
    day = pl.coalesce(parse_whole("day"), parse_whole(first))
    half = pl.col("half").str.to_lowercase()
    hour = parse_whole("hour").fill_null(0)
    hour = pl.when(half == "pm").then(hour % 12 + 12).when(half == "am").then(hour % 12).otherwise(hour)
    minute, clock_second = parse_whole("minute").fill_null(0), parse_whole("second").fill_null(0)
    real = (
        month.is_between(1, 12) & day.is_between(1, 31) & (hour < 24) & (minute < 60) & (clock_second < 60)
    ) & year.is_between(*_YEARS)
    iso = pl.format("{}-{}-{}", year, month, day)
    midnight = pl.when(real).then(iso).str.to_datetime("%Y-%m-%d", time_unit="us", strict=False)
    micros = (pl.col("fraction").fill_null("") + "000000").str.slice(0, 6).cast(pl.Int64, strict=False)
    naive = midnight + pl.duration(hours=hour, minutes=minute, seconds=clock_second, microseconds=micros)
    mark = pl.col("zone")
    east = mark.str.extract(r"[+-](\d{2})").cast(pl.Int64) * 60 + mark.str.extract(r"[+-]\d{2}:?(\d{2})").cast(pl.Int64)
    east = pl.when(mark.str.contains("-", literal=True)).then(-east).otherwise(east)
    east = pl.coalesce(mark.replace_strict(_HOURS, default=None, return_dtype=pl.Int64), east).fill_null(0)
    zoned = (naive - pl.duration(minutes=east)).dt.replace_time_zone("UTC")
    return parts.select(pl.when(mark.is_null()).then(_localise(naive, zone)).otherwise(zoned).alias("text")).to_series()


def _localise(naive: pl.Expr, zone: str) -> pl.Expr:
    # neither pass of the hour that the clocks repeat: as the first, the second one's bars would be known an hour early
    local = naive.dt.replace_time_zone(zone, ambiguous="null", non_existent="null")
    return local.dt.convert_time_zone("UTC").cast(_TS)


def _is_serial(text: pl.Series) -> pl.Series:
    value = text.cast(pl.Float64, strict=False)
    return (value.is_between(*_SERIAL) & text.str.contains(".", literal=True)).fill_null(value=False)


def _number(number: pl.Expr, zone: str) -> pl.Expr:
    """Moments from numbers whose unit shows in their size; nanoseconds are cut to microseconds."""
    micros: pl.Expr = pl.when(number >= 10**16).then(number // 1000)
    for below, factor in reversed(_EPOCH_UNITS):
        micros = pl.when(number < below).then(number * factor).otherwise(micros)
    since_1970 = pl.when(number >= 10**8).then(micros).cast(pl.Int64, strict=False).cast(_TS)
    calendar = number.cast(pl.Int64, strict=False).cast(pl.String)
    digits = pl.when(calendar.str.contains(_CALENDAR)).then(calendar.str.pad_end(14, "0"))
    written = _localise(digits.str.to_datetime("%Y%m%d%H%M%S", time_unit="us", strict=False), zone)
    ticks = _localise(((number.cast(pl.Int64, strict=False) - _TICKS_OF_1970) // 10).cast(pl.Datetime("us")), zone)
    seconds = ((number.cast(pl.Float64) - _DAYS_OF_1970) * 86_400).round()  # a serial is exact to a few microseconds
    serial = _localise((seconds * 1_000_000).cast(pl.Int64, strict=False).cast(pl.Datetime("us")), zone)
    return (
        pl.when(number.is_between(*_TICKS))
        .then(ticks)
        .when(number.is_between(*_SERIAL))
        .then(serial)
        .when(digits.is_not_null())
        .then(written)
        .otherwise(since_1970)
    )


def _is_in_range(moment: pl.Expr) -> pl.Expr:
    return pl.when(moment.dt.year().is_between(*_YEARS)).then(moment)


def writes_decimal_comma(columns: list[pl.Series]) -> bool:
    """Whether the price columns of a file write 201,45: decided by all cells, for 1,234 may be either."""
    if not any(column.str.contains(",", literal=True).any() for column in columns):
        return False
    comma = dot = clear = 0
    for column in columns:
        text = column.drop_nulls()
        text = text.filter(text.str.contains(",", literal=True) | text.str.contains(".", literal=True))
        if not text.str.contains(",", literal=True).any():
            dot += text.len()
            continue
        text = text.str.strip_chars()
        comma += int(text.str.contains(_DECIMAL_COMMA).sum())
        clear += int((text.str.contains(_DECIMAL_COMMA) & ~text.str.contains(r",\d{3}$")).sum())
        dot += int(text.str.contains(r"^[+-]?[\d,]*\.\d+$").sum())
    cells = sum(column.drop_nulls().len() for column in columns)
    return clear > 0 and comma * 2 > cells and dot * 20 < cells


def parse_figures(cells: pl.Series, *, decimal_comma: bool = False) -> pl.Series:
    """Return a column as Float64: thousands marks, a currency sign and exponents are understood; else null."""
    if cells.dtype != pl.String:
        return cells.cast(pl.Float64, strict=False)
    if not decimal_comma:
        plain = cells.cast(pl.Float64, strict=False)
        left = (plain.is_null() & cells.is_not_null()).arg_true()
        if not left.len():
            return plain
        return plain.scatter(left, _parse_plain_figures(cells.gather(left)))
    turned = cells.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
    return _parse_plain_figures(turned)


def _parse_plain_figures(cells: pl.Series) -> pl.Series:
    text = pl.col("text")
    bare = text.str.strip_chars().str.replace(r"^([+-]?)[$€£]", "${1}")
    bare = pl.when(bare.str.contains(_SPACED)).then(bare.str.replace_all(r"[ '\u00a0\u202f]", "")).otherwise(bare)
    bare = pl.when(bare.str.contains(_THOUSANDS)).then(bare.str.replace_all(",", "", literal=True)).otherwise(bare)
    times = bare.str.extract(_SUFFIX, 1).replace_strict(_TIMES, default=None, return_dtype=pl.Float64).fill_null(1.0)
    value = bare.str.replace(_SUFFIX, "").cast(pl.Float64, strict=False)
    value = pl.when(times > 1).then((value * times).round(3)).otherwise(value)  # 13.399 * 1000 is 13399.000000000002
    return cells.alias("text").to_frame().select(value).to_series().alias(cells.name)


def is_naive(cells: pl.Series) -> pl.Series:
    """Whether each text is a time that names no zone, and no number of seconds since 1970."""
    text = cells.str.strip_chars()
    epoch = text.str.contains(_EPOCH) & ~text.str.contains(_CALENDAR)
    return ~(epoch | (text.str.contains(_ZONED) & text.str.contains(_CLOCK))).fill_null(value=False)
