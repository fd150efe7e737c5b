"""The JSON of any report. Apart, so that a light command does not wait for the rooms that make the others."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from pathlib import PurePath
from typing import Any


def document(report: Any) -> Any:
    """Return a frozen dataclass, or a sequence of them, as the document of `--json`.

    Dates are ISO 8601 texts; a field whose name Python reserves, such as `from_`, loses its underscore.

    >>> from datetime import UTC, date, datetime
    >>> document({date(2026, 1, 5): 0.25, "at": datetime(2026, 1, 5, 2, 0, tzinfo=UTC), "tickers": ("AAPL", "V")})
    {'2026-01-05': 0.25, 'at': '2026-01-05T02:00:00+00:00', 'tickers': ['AAPL', 'V']}
    """
    if is_dataclass(report) and not isinstance(report, type):
        return {item.name.rstrip("_"): document(getattr(report, item.name)) for item in fields(report)}
    if isinstance(report, Mapping):
        return {str(name): document(item) for name, item in report.items()}
    if isinstance(report, (list, tuple)):
        return [document(item) for item in report]
    if isinstance(report, (date, datetime)):
        return report.isoformat()
    if isinstance(report, PurePath):
        return str(report)
    return report
