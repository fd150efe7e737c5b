"""The seal of a row, a hash over its columns: to SQLite a flipped bit is another number."""

import hashlib
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

from hftcl.sqlite.database import CALLED, Database, build_damage_error, met

SEAL_BYTES: Final = 8  # one SQLite integer: by chance it fits a damaged row once in 2**64


def compute_seal(*values: object) -> int:
    """Return the seal of a row: of its table's name and its columns, in the order of the table."""
    # Only of texts: to a cache 0.0 and -0.0 are the same, and to a seal they are not.
    return _seal_texts(values) if _CACHED_TYPES.issuperset(map(type, values)) else _seal(values)


_CACHED_TYPES: Final = frozenset({str, type(None)})


def seal_row(table: str, values: Sequence[object]) -> tuple[object, ...]:
    """Return a row, all its columns in the order of the table, with its seal after them, which costs a third of what a
    trigger does.

    values: as SQLite gives them back: for REAL a float as of `as_real`, for NULL None.
    """
    return (*values, _seal((table, *values)))


def seal_rows(table: str, rows: Iterable[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """Return each of `rows` as `seal_row` does: for the hundreds of a minute."""
    return [(*row, _seal((table, *row))) for row in rows]


def as_real(value: float | None) -> float | None:
    """Return a number as SQLite gives it back from a REAL column: NULL for NaN, and no zero below zero.

    >>> as_real(3), as_real(-0.0), as_real(float("nan"))
    (3.0, 0.0, None)
    """
    return None if value is None or value != value else float(value) + 0.0  # NaN alone is not itself


def _seal(values: tuple[object, ...]) -> int:
    digest = hashlib.blake2b(repr(values).encode("utf-8", "surrogatepass"), digest_size=SEAL_BYTES).digest()
    return int.from_bytes(digest, "big", signed=True)


# The scheduler looks at the same rows at each of its rounds: a year of them are some hundreds.
_seal_texts = lru_cache(maxsize=4096)(_seal)


def list_columns(db: sqlite3.Connection, table: str) -> tuple[list[str], bool]:
    """Return the columns of a table but its seal, and whether it has one."""
    names = [str(row[1]) for row in db.execute(f"PRAGMA main.table_info({table})")]
    return [name for name in names if name != "seal"], "seal" in names


def read_tables(db: sqlite3.Connection, place: str = "main") -> dict[str, dict[str, int]]:
    """Return the tables of the file, or with "temp" those of the connection: each column in order, with its number in
    the key, 0 for none.

    By one query, for a file is opened for each look at it, and a pragma for each table took a third of that.
    """
    tables: dict[str, dict[str, int]] = {}
    for table, column, number in db.execute(
        f"SELECT t.name, c.name, c.pk FROM {place}.sqlite_schema t, pragma_table_info(t.name, '{place}') c "  # noqa: S608
        "WHERE t.type = 'table'"
    ):
        tables.setdefault(str(table), {})[str(column)] = int(number)
    return tables


def _seal_expression(table: str, columns: Sequence[str]) -> str:
    return f"hftcl_seal('{table}', {', '.join(columns)})"


def seal_table(db: sqlite3.Connection, table: str) -> None:
    """Seal the rows of a table that has had no seals, or other columns, so far."""
    columns, sealed = list_columns(db, table)
    if not sealed:
        db.execute(f"ALTER TABLE {table} ADD COLUMN seal INTEGER")
    _make_function(db)
    db.execute(f"UPDATE {table} SET seal = {_seal_expression(table, columns)}")  # noqa: S608 - our names


def _make_function(db: sqlite3.Connection) -> None:
    db.create_function("hftcl_seal", -1, compute_seal, deterministic=True)
    CALLED.add(compute_seal.__code__)


def seal_changes(db: sqlite3.Connection, database: Database, tables: Mapping[str, Mapping[str, int]]) -> None:
    """Let this connection seal each row that it writes, unless it comes with its seal, as of `seal_row`.

    tables: of the file, as of `read_tables`. The triggers are the connection's own: the file knows nothing of them.
    Changes of `Database.comes_sealed` have none.
    """
    if not database.sealed:
        return
    _make_function(db)
    db.execute("PRAGMA temp_store = MEMORY")
    for table in database.sealed:
        columns = [name for name in tables[table] if name != "seal"]
        key = [name for name, number in tables[table].items() if number]
        where = " AND ".join(f"{name} = new.{name}" for name in key) or "true"
        seal = f"UPDATE {table} SET seal = {_seal_expression(table, columns)} WHERE {where}"  # noqa: S608 - our names
        for change, of, unsealed in (
            ("INSERT", "", "new.seal IS NULL"),
            ("UPDATE", f" OF {', '.join(columns)}", "new.seal IS old.seal"),
        ):
            if change not in database.comes_sealed.get(table, ()):
                trigger = f"seal_{change.lower()}_{table} AFTER {change}{of} ON main.{table} WHEN {unsealed}"
                db.execute(f"CREATE TEMP TRIGGER {trigger} BEGIN {seal}; END")


def show_whole_rows(db: sqlite3.Connection, database: Database, tables: Mapping[str, Iterable[str]]) -> None:
    """Put a view before each sealed table: a row whose seal does not fit ends the query, and no seal is to be seen.

    tables: of the file, with their columns. A file of before the seals is read as it is.
    """
    places: dict[object, list[int]] = {}

    def require_seal(seal: int | None, *values: object) -> int:
        if seal != compute_seal(*values):
            table, *row = values
            met.row = " ".join([str(table), *("?" if row[at] is None else str(row[at]) for at in places[table])])
            raise ValueError(met.row)
        return 1

    db.create_function("hftcl_whole", -1, require_seal)
    CALLED.add(require_seal.__code__)
    for table, key in database.sealed.items():
        columns = [name for name in tables.get(table, ()) if name != "seal"]
        if "seal" in tables.get(table, ()):
            names = ", ".join(columns)
            # In a SELECT of its own: SQLite writes the constant of `WHERE state = 'open'` into the rest of the WHERE.
            check = f"(SELECT hftcl_whole(seal, '{table}', {names}))"
            places[table] = [columns.index(name) for name in key]
            db.execute(f"CREATE TEMP VIEW {table} AS SELECT {names} FROM main.{table} WHERE {check}")  # noqa: S608


def _name_row(table: str, key: Sequence[str]) -> str:
    """Return the SQL that names a row for a person."""
    parts = " || ' ' || ".join(f"coalesce({name}, '?')" for name in key)
    return f"'{table} ' || {parts}"


def list_damage(db: sqlite3.Connection, database: Database, tables: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return each row of the sealed `tables`, by default of all, whose seal does not fit, as "table key".

    tables: names, each with the condition on the rows that are looked at.
    """
    found: list[str] = []
    for table, where in (dict.fromkeys(database.sealed, "true") if tables is None else tables).items():
        columns, sealed = list_columns(db, table)
        if not sealed:
            continue
        rows = db.execute(
            f"SELECT {_name_row(table, database.sealed[table])}, seal, {', '.join(columns)} "  # noqa: S608
            f"FROM main.{table} WHERE {where}"
        )
        found += [str(name) for name, seal, *values in rows if seal != compute_seal(table, *values)]
    return tuple(found)


def read_rows(
    db: sqlite3.Connection, database: Database, table: str, order: str
) -> tuple[list[sqlite3.Row], list[str]]:
    """Return the whole rows of a table, with their seal, and the names of those that are not what was written."""
    columns, sealed = list_columns(db, table)
    rows = db.execute(f"SELECT * FROM main.{table} ORDER BY {order}").fetchall()  # noqa: S608 - our names
    whole, damage = [], []
    for row in rows:
        if sealed and row["seal"] != compute_seal(table, *(row[name] for name in columns)):
            damage.append(" ".join([table, *(str(row[name]) for name in database.sealed[table])]))
        else:
            whole.append(row)
    return whole, damage


def require_whole(
    db: sqlite3.Connection, path: Path, database: Database, tables: Mapping[str, str] | None = None
) -> None:
    """Raise IntegrityError naming the first row of `tables`, as in `list_damage`, that is not what was written."""
    if damage := list_damage(db, database, tables):
        raise build_damage_error(path, database, f"the row {damage[0]} is not what was written")
