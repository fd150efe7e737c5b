"""The JSON of any report, and how one looks in a notebook.

Apart, so that a light command does not wait for the rooms that make the others.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from pathlib import PurePath
from typing import Any, Final

_SHOWN: Final = 6  # fields of a repr: a line of a notebook


class ShortForm:
    """Gives a report, a dataclass with `repr=False`, a repr of one line and an HTML form for a notebook.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True, repr=False)
    ... class Report(ShortForm):
    ...     outcome: str
    ...     sharpe: float | None
    ...     pnl_by_session: dict[str, float]
    >>> report = Report("rejected", -2.34567, {"2026-01-05": 0.25})
    >>> repr(report).split(", ")[:2]
    ["Report(outcome='rejected'", 'sharpe=-2.346']
    >>> report._repr_html_()
    '<b>Report</b><table><tr><td>outcome<td>rejected<tr><td>sharpe<td>-2.346<tr><td>pnl_by_session<td>1 entry</table>'
    """

    __slots__ = ()

    def __repr__(self) -> str:
        """Return the first figures and texts; what is a table, a list or undefined is left out."""
        named = ((item.name.rstrip("_"), getattr(self, item.name)) for item in fields(self))  # type: ignore[arg-type]
        simple = [f"{name}={_shorten(value)!r}" for name, value in named if isinstance(value, _SIMPLE)]
        return f"{type(self).__name__}({', '.join([*simple[:_SHOWN], '...'])})"

    def _repr_html_(self) -> str:
        from html import escape

        rows = []
        for item in fields(self):  # type: ignore[arg-type]
            value = getattr(self, item.name)
            if isinstance(value, (Mapping, list, tuple)):
                text = f"{len(value)} {'entry' if len(value) == 1 else 'entries'}"
            else:
                text = "-" if value is None else str(_shorten(value))
            rows.append(f"<tr><td>{item.name.rstrip('_')}<td>{escape(text)}")
        return f"<b>{type(self).__name__}</b><table>{''.join(rows)}</table>"


_SIMPLE: Final = (str, bool, int, float, date)


def _shorten(value: Any) -> Any:
    """Return a figure with four digits and a day as its text; anything else as it is."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    return value.isoformat() if isinstance(value, date) else value


def build_document(report: Any) -> Any:
    """Return a frozen dataclass, or a sequence of them, as the document of `--json`.

    Dates are ISO 8601 texts; a field whose name Python reserves, such as `from_`, loses its underscore.

    >>> from datetime import UTC, date, datetime
    >>> build_document({date(2026, 1, 5): 0.25, "at": datetime(2026, 1, 5, 2, 0, tzinfo=UTC), "tickers": ("AAPL", "V")})
    {'2026-01-05': 0.25, 'at': '2026-01-05T02:00:00+00:00', 'tickers': ['AAPL', 'V']}
    """
    if is_dataclass(report) and not isinstance(report, type):
        return {item.name.rstrip("_"): build_document(getattr(report, item.name)) for item in fields(report)}
    if isinstance(report, Mapping):
        return {str(name): build_document(item) for name, item in report.items()}
    if isinstance(report, (list, tuple)):
        return [build_document(item) for item in report]
    if isinstance(report, (date, datetime)):
        return report.isoformat()
    if isinstance(report, PurePath):
        return str(report)
    return report
