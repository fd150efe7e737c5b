"""The JSON of any report. Apart, so that a light command does not wait for the rooms that make the others."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from pathlib import PurePath
from typing import Any


def document(report: Any) -> Any:
    """Return a frozen dataclass, or a sequence of them, as the document of `--json`.

    Dates are ISO 8601 texts; a field whose name Python reserves, such as `from_`, loses its underscore.
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
