"""How every SQLite file of hftcl is described, opened, changed, sealed, and what its faults are called.

A row of a sealed table carries a hash over its other columns. SQLite has no checksums: a flipped bit in a page is
another number to it, and its own integrity check says "ok". Only the standard library is imported.
"""

from hftcl.sqlite.database import Change, Database, Journal, Sync, build_damage_error, faults, guard_rows
from hftcl.sqlite.opening import (
    ask_version,
    find_page_fault,
    locate_log,
    open_to_read,
    open_to_salvage,
    open_to_write,
    remove,
    remove_journal,
    set_sync,
)
from hftcl.sqlite.seals import (
    SEAL_BYTES,
    as_real,
    compute_seal,
    list_columns,
    list_damage,
    read_rows,
    require_whole,
    seal_row,
    seal_rows,
)
from hftcl.sqlite.transactions import snapshot, transaction

__all__ = [
    "SEAL_BYTES",
    "Change",
    "Database",
    "Journal",
    "Sync",
    "as_real",
    "ask_version",
    "build_damage_error",
    "compute_seal",
    "faults",
    "find_page_fault",
    "guard_rows",
    "list_columns",
    "list_damage",
    "locate_log",
    "open_to_read",
    "open_to_salvage",
    "open_to_write",
    "read_rows",
    "remove",
    "remove_journal",
    "require_whole",
    "seal_row",
    "seal_rows",
    "set_sync",
    "snapshot",
    "transaction",
]
