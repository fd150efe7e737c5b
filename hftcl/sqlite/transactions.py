"""What is changed, or read, as one."""

import contextlib
import sqlite3
from collections.abc import Iterator
from types import TracebackType

from hftcl.interrupts import hold_back


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing; begins with the write lock, so that no read inside it can grow old.

    A stop waits for its end: between BEGIN and the first line of the block it would leave the transaction open.
    """
    with hold_back():
        db.execute("BEGIN IMMEDIATE")
        try:
            yield
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:  # a full disk makes SQLite roll back by itself
                db.execute("ROLLBACK")
            raise


def snapshot(db: sqlite3.Connection) -> contextlib.AbstractContextManager[None]:
    """Every SELECT sees the same moment; nested in a transaction it changes nothing.

    A stop is not held back within it, for what is read may take seconds.
    """
    return _Snapshot(db)


class _Snapshot:
    """See `snapshot`. A class: a generator is entered in several steps, between which a stop leaves it begun."""

    __slots__ = ("_db", "_is_outermost")

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db, self._is_outermost = db, not db.in_transaction

    def __enter__(self) -> None:
        try:
            if self._is_outermost:
                self._db.execute("BEGIN")
        except BaseException:  # a stop, as BEGIN was done
            self._end()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._end()

    def _end(self) -> None:
        if self._is_outermost and self._db.in_transaction:
            self._db.execute("ROLLBACK")
