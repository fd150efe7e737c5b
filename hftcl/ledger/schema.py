"""The file `ledger.sqlite`: its tables and version, and its unit of time.

Times are INTEGER microseconds since 1970 UTC, sessions ISO dates, money REAL in USD and rounded nowhere.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

SCHEMA_VERSION: Final = 1  # the first: raise it with any change to SCHEMA, with a step that brings older files to it
# The keys make writing the same minute twice harmless, as after a crash; times are microseconds since 1970.
SCHEMA: Final = """
CREATE TABLE decisions (
    book TEXT NOT NULL, ts INTEGER NOT NULL, ticker TEXT NOT NULL, model_id TEXT, features_hash TEXT, prediction REAL,
    target REAL, code TEXT NOT NULL, decided_at INTEGER NOT NULL, PRIMARY KEY (book, ts, ticker)) STRICT, WITHOUT ROWID;
CREATE TABLE orders (
    client_order_id TEXT PRIMARY KEY, book TEXT NOT NULL, ts INTEGER NOT NULL, session TEXT NOT NULL,
    ticker TEXT NOT NULL, model_id TEXT, quantity REAL, reference_price REAL, state TEXT NOT NULL, code TEXT NOT NULL,
    reason TEXT NOT NULL, broker_order_id TEXT, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL,
    CHECK (state = 'refused' OR (quantity IS NOT NULL AND reference_price IS NOT NULL))) STRICT;
CREATE INDEX orders_by_time ON orders (book, ts);
CREATE INDEX orders_working ON orders (book, ts) WHERE state IN ('intended', 'submitted', 'partially_filled');
CREATE TABLE fills (
    number INTEGER PRIMARY KEY, fill_id TEXT NOT NULL UNIQUE, client_order_id TEXT NOT NULL, book TEXT NOT NULL,
    ts INTEGER NOT NULL, ticker TEXT NOT NULL, model_id TEXT, quantity REAL NOT NULL, price REAL NOT NULL,
    commission REAL NOT NULL, reference_price REAL NOT NULL, filled_at INTEGER NOT NULL) STRICT;
CREATE INDEX fills_by_time ON fills (book, ts);
CREATE TABLE equity (
    book TEXT NOT NULL, ts INTEGER NOT NULL, session TEXT NOT NULL, equity REAL NOT NULL, cash REAL NOT NULL,
    gross REAL NOT NULL, net REAL NOT NULL, realised REAL NOT NULL, PRIMARY KEY (book, ts)) STRICT, WITHOUT ROWID;
CREATE TABLE closes (
    session TEXT NOT NULL, ticker TEXT NOT NULL, ts INTEGER NOT NULL, open REAL NOT NULL, close REAL NOT NULL,
    PRIMARY KEY (session, ticker)) STRICT, WITHOUT ROWID;
CREATE TABLE latches (
    name TEXT NOT NULL, since INTEGER NOT NULL, reason TEXT NOT NULL, cleared_at INTEGER, cleared_by TEXT,
    PRIMARY KEY (name, since)) STRICT;
CREATE UNIQUE INDEX latched ON latches (name) WHERE cleared_at IS NULL;
CREATE TABLE events (
    number INTEGER PRIMARY KEY, at INTEGER NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL, model_id TEXT) STRICT;
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)  # of Unix, as polars and the vendors count
_MICROSECOND: Final = timedelta(microseconds=1)  # the finest that a datetime has: what is written comes back equal


def microseconds(at: datetime) -> int:
    """Return `at`, which carries a time zone, as the ledger keeps it."""
    return (at - _EPOCH) // _MICROSECOND


def moment(value: int) -> datetime:
    """Return what `microseconds` kept, in UTC."""
    return _EPOCH + value * _MICROSECOND
