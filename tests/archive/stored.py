"""What the registry holds as text, read past the product: for tests of what a retrain writes down."""

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any


def stored_report(home: Path, model_id: str | None = None) -> dict[str, Any]:
    """Return the report of a model, by default of the newest, as it lies in the registry."""
    with contextlib.closing(sqlite3.connect(home / "models" / "registry.sqlite")) as db:
        rows = dict(db.execute("SELECT model_id, report FROM models ORDER BY rowid").fetchall())
    report: dict[str, Any] = json.loads(rows[model_id or list(rows)[-1]])
    return report
