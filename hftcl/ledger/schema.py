"""The file `ledger.sqlite`: its tables, how a row becomes columns and back, and its unit of time.

The fields of the row classes are the columns: CREATE TABLE, INSERT and the frames' types are made from them. Times are
INTEGER microseconds since 1970 UTC, sessions ISO dates, money REAL in USD and rounded nowhere. Only the standard
library is imported.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from operator import attrgetter
from types import NoneType
from typing import Any, Final, Literal, get_args, get_origin

from hftcl.ledger.rows import (
    CashRow,
    CloseRow,
    Decided,
    Decision,
    EquityRow,
    FillBlock,
    FillOpen,
    FillRecord,
    Latch,
    LedgerEvent,
    MonthFile,
    OrderRecord,
    Snapshot,
)
from hftcl.sqlite import Database, seal_rows
from hftcl.values import Value, value_class

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)  # of Unix, as polars and the vendors count
_MICROSECOND: Final = timedelta(microseconds=1)  # the finest that a datetime has: what is written comes back equal

Kind = Literal["time", "session", "number", "text", "count", "bytes"]
_SQL: Final[Mapping[Kind, str]] = {
    "time": "INTEGER",
    "session": "TEXT",
    "number": "REAL",
    "text": "TEXT",
    "count": "INTEGER",
    "bytes": "BLOB",
}
_KINDS: Final[Mapping[type, Kind]] = {
    datetime: "time",
    date: "session",
    float: "number",
    str: "text",
    int: "count",
    bytes: "bytes",
}


def to_microseconds(at: datetime) -> int:
    """Return `at`, which carries a time zone, as the ledger keeps it."""
    # Only of UTC, which polars calls by its key: in a zone with summer time the two hours that are repeated are equal.
    return _count_utc(at) if at.tzinfo is UTC or getattr(at.tzinfo, "key", "") == "UTC" else _count(at)


def _count(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND


_count_utc = lru_cache(maxsize=1024)(_count)  # a minute's rows have three or four times between them, hundreds of each


def to_moment(value: int) -> datetime:
    """Return what `microseconds` kept, in UTC."""
    return _read_utc(value)


@lru_cache(maxsize=1024)
def _read_utc(value: int) -> datetime:
    return _EPOCH + value * _MICROSECOND


_WRITE: Final[Mapping[Kind, Callable[[Any], object]]] = {
    "time": to_microseconds,
    "session": lambda value: value.isoformat(),
    "number": lambda value: value,
    "text": str,  # codes are enums
    "count": lambda value: value,
    "bytes": lambda value: value,
}


def _write_each(write: Callable[[Any], object]) -> Callable[[Sequence[Any]], Sequence[object]]:
    """Return what writes a whole column, once where each row has the very same value."""

    def write_all(values: Sequence[Any]) -> Sequence[object]:
        one = values[0] if values else None
        if all(value is one for value in values):
            return [None if one is None else write(one)] * len(values)
        return [None if value is None else write(value) for value in values]

    return write_all


_SEALED: Final[Mapping[Kind, Callable[[Sequence[Any]], Sequence[object]]]] = {
    **{kind: _write_each(write) for kind, write in _WRITE.items()},
    # a text is itself unless it is a code, and a number is by far the most often one: without a call for each
    "text": lambda values: [value if value is None or type(value) is str else str(value) for value in values],
    "number": lambda values: [None if value is None or value != value else float(value) + 0.0 for value in values],
    "count": _write_each(int),
}
"""The same to the bit as SQLite gives it back, which a seal that is not computed by SQLite is over; see `as_real`."""
_READ: Final[Mapping[Kind, Callable[[Any], Any]]] = {
    "time": to_moment,
    "session": date.fromisoformat,
    "number": lambda value: value,
    "text": lambda value: value,
    "count": lambda value: value,
    "bytes": lambda value: value,
}


@value_class(frozen=True, slots=True)
class Column(Value):
    """One column. required: never NULL."""

    name: str
    kind: Kind
    required: bool

    @property
    def sql(self) -> str:
        """The column as CREATE TABLE takes it."""
        return f"{self.name} {_SQL[self.kind]}{' NOT NULL' if self.required else ''}"


def _build_columns(row: type, loose: Sequence[str]) -> tuple[Column, ...]:
    return tuple(_build_column(item.name, item.type, loose) for item in fields(row))


def _build_column(name: str, hint: Any, loose: Sequence[str]) -> Column:
    parts = [part for part in get_args(hint) if part is not NoneType]
    optional = NoneType in get_args(hint)
    plain = str if get_origin(hint) is Literal else parts[0] if optional else hint
    return Column(name, _KINDS[plain], not optional and name not in loose)


@value_class(frozen=True, slots=True, kw_only=True)
class LedgerTable(Value):
    """One table of the ledger. key: the columns of its primary key; numbered: rows count up instead, as they come.

    loose: columns whose field is always there and may be NaN, which SQLite keeps as NULL. rowid: whether SQLite keeps
    its own number of each row. checks: further clauses of CREATE TABLE. after: the indexes.
    """

    name: str
    row: type
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    numbered: bool = False
    unique: str = ""
    rowid: bool = True
    checks: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    @property
    def names(self) -> str:
        """The columns, as a SELECT takes them."""
        return ", ".join(column.name for column in self.columns)

    @property
    def create(self) -> str:
        """The statements that make the table."""
        number = ["number INTEGER PRIMARY KEY"] if self.numbered else []
        columns = [f"{column.sql}{' UNIQUE' if column.name == self.unique else ''}" for column in self.columns]
        key = [f"PRIMARY KEY ({', '.join(self.key)})"] if self.key else []
        options = "STRICT" if self.rowid else "STRICT, WITHOUT ROWID"
        body = ", ".join([*number, *columns, *key, *self.checks])
        return ";\n".join([f"CREATE TABLE {self.name} ({body}) {options}", *self.after])

    @property
    def insert(self) -> str:
        """The statement that adds a row, given by name as `values` returns it; the conflict's clause is to follow."""
        placeholders = ", ".join(f":{column.name}" for column in self.columns)
        return f"INSERT INTO {self.name} ({self.names}) VALUES ({placeholders})"  # noqa: S608 - our names

    def list_values(self, row: Any) -> dict[str, object]:
        """Return the columns of `row` by name. Raises OverflowError for a number that SQLite cannot keep."""
        given = ((column, getattr(row, column.name)) for column in self.columns)
        return {column.name: None if value is None else _WRITE[column.kind](value) for column, value in given}

    @property
    def insert_sealed(self) -> str:
        """The statement that adds a row as `seal` gives it; the conflict's clause is to follow."""
        names = f"{'number, ' if self.numbered else ''}{self.names}, seal"
        places = ", ".join("?" * (len(names.split(", "))))
        return f"INSERT INTO {self.name} ({names}) VALUES ({places})"  # noqa: S608 - our names

    def seal(self, rows: Sequence[Any], *, first: int | None = None) -> list[tuple[object, ...]]:
        """Return the columns and the seal of each of `rows`, in a third of the time of `values` and a trigger.

        first: of a numbered table the number of the first row. Column by column: hundreds of rows stand between a bar
        and its orders, and most of their columns are one and the same value. Raises as `values` does.
        """
        if not rows:  # then there are no columns either
            return []
        numbers = [] if first is None else [range(first, first + len(rows))]
        given = zip(*map(attrgetter(*(column.name for column in self.columns)), rows), strict=True)
        columns = [_SEALED[column.kind](values) for column, values in zip(self.columns, given, strict=True)]
        return seal_rows(self.name, zip(*numbers, *columns, strict=True))

    def read(self, columns: Sequence[Any]) -> Any:
        """Return the row of these columns, in order. Raises ValueError, TypeError, OverflowError for damage."""
        values = {}
        for column, value in zip(self.columns, columns, strict=True):
            nothing = float("nan") if column.name in _NOT_A_NUMBER else None
            values[column.name] = nothing if value is None else _READ[column.kind](value)
        return self.row(**values)


_NOT_A_NUMBER: Final = ("quantity", "reference_price")  # of a refused order, which may have neither

DECISIONS: Final = LedgerTable(
    name="decisions", row=Decision, columns=_build_columns(Decision, ()), key=("book", "ts", "ticker"), rowid=False
)
ORDERS: Final = LedgerTable(
    name="orders",
    row=OrderRecord,
    columns=_build_columns(OrderRecord, _NOT_A_NUMBER),
    key=("client_order_id",),
    checks=("CHECK (state = 'refused' OR (quantity IS NOT NULL AND reference_price IS NOT NULL))",),
    after=(
        "CREATE INDEX orders_by_time ON orders (book, ts)",
        "CREATE INDEX orders_working ON orders (book, ts) WHERE state IN ('intended', 'submitted', 'partially_filled')",
    ),
)
FILLS: Final = LedgerTable(
    name="fills",
    row=FillRecord,
    columns=_build_columns(FillRecord, ()),
    numbered=True,  # in the order in which the ledger learnt of them
    unique="fill_id",
    after=("CREATE INDEX fills_by_time ON fills (book, ts)",),
)
EQUITY: Final = LedgerTable(
    name="equity", row=EquityRow, columns=_build_columns(EquityRow, ()), key=("book", "ts"), rowid=False
)
CLOSES: Final = LedgerTable(
    name="closes", row=CloseRow, columns=_build_columns(CloseRow, ()), key=("session", "ticker"), rowid=False
)
LATCHES: Final = LedgerTable(
    name="latches",
    row=Latch,
    columns=_build_columns(Latch, ()),
    key=("name", "since"),
    after=("CREATE UNIQUE INDEX latched ON latches (name) WHERE cleared_at IS NULL",),
)
EVENTS: Final = LedgerTable(name="events", row=LedgerEvent, columns=_build_columns(LedgerEvent, ()), numbered=True)
ARCHIVES: Final = LedgerTable(name="archives", row=MonthFile, columns=_build_columns(MonthFile, ()), key=("month",))
DECIDED: Final = LedgerTable(
    name="decided",
    row=Decided,
    columns=_build_columns(Decided, ()),
    key=("book", "hour", "model_id", "code"),
    rowid=False,
)
SNAPSHOTS: Final = LedgerTable(
    name="snapshots", row=Snapshot, columns=_build_columns(Snapshot, ()), key=("book", "number"), rowid=False
)

OPENS: Final = LedgerTable(
    name="opens", row=FillOpen, columns=_build_columns(FillOpen, ()), key=("fill_id",), rowid=False
)
CASH: Final = LedgerTable(
    name="cash", row=CashRow, columns=_build_columns(CashRow, ()), key=("activity_id",), rowid=False
)

BLOCKS: Final = LedgerTable(name="blocks", row=FillBlock, columns=_build_columns(FillBlock, ()), key=("book", "number"))

_SINCE_3: Final = (ARCHIVES, DECIDED, SNAPSHOTS, OPENS, CASH)
TABLES: Final = (DECISIONS, ORDERS, FILLS, EQUITY, CLOSES, LATCHES, EVENTS, *_SINCE_3, BLOCKS)

# 2 added the seals; 3 the archive of decisions, the opens of fills, and the cash beside them; 4 the blocks of fills.
# Raise it with any change, with a step that brings older files to it.
SCHEMA_VERSION: Final = 4
SCHEMA: Final = ";\n".join(
    [*(table.create for table in TABLES), "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT"]
)
LEDGER: Final = Database(
    kind="a ledger",
    version=SCHEMA_VERSION,
    schema=SCHEMA,
    journal="WAL",  # a reader never waits for the bot, nor the bot for it
    sync="FULL",  # an order that was sent must be known after a power cut
    upgrades={2: tuple(table.create for table in _SINCE_3), 3: (BLOCKS.create,)},
    sealed={**{table.name: table.key or (table.columns[0].name,) for table in TABLES}, "meta": ("key",)},  # since 2
    comes_sealed={table.name: ("INSERT",) for table in (DECISIONS, ORDERS, FILLS, EQUITY, OPENS)},  # see `seal`
    remedy="Restore it and the folder decisions from one backup; or move both away, and hftcl begins a new one: "
    "positions that the broker still holds then have to be closed there.",
)
