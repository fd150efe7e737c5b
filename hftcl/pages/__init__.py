"""The self-contained HTML pages: one file without network, whole in any browser without scripts, light, dark, on paper.

Draws it; finds nothing itself. The same report gives the same bytes: no clock, no timing and no random name is in it.
What the pages share is in `drawing`.
"""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from hftcl import durable
from hftcl.document import build_document
from hftcl.errors import UsageError
from hftcl.formats import count
from hftcl.pages.backtest import draw_backtest
from hftcl.pages.drawing import choose_ticks
from hftcl.pages.features import draw_features
from hftcl.pages.performance import draw_performance
from hftcl.pages.search import draw_search
from hftcl.performance.reports import TradeRow

__all__ = [
    "choose_ticks",
    "draw_backtest",
    "draw_features",
    "draw_performance",
    "draw_search",
    "require_place",
    "require_trades_file",
    "write",
    "write_trades",
]


def require_place(path: Path, option: str = "--html", name: str = "report.html") -> None:
    """Raise UsageError unless a file can be written at `path`, before the work of minutes begins."""
    if path.is_dir():
        raise UsageError(f"{option} {path} is a folder. Name a file in it, such as {path / name}.")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"{option} {path}: the folder {path.absolute().parent} does not exist. Create it first.")
    with durable.convert_storage_faults(f"writing {path}"):
        durable.require_regular(path)  # to put a page in the place of /dev/full, as root may, would break the machine


def write(path: Path, page: str) -> str:
    """Write `page` to `path`, whole or not at all, and return the line that says so. Raises StorageError."""
    content = page.encode()
    with durable.convert_storage_faults(f"writing {path}"):
        durable.write_atomically(path.absolute(), content)
    return f"hftcl: wrote {path.absolute()}, {len(content) / 1e3:,.0f} kB. Open it in a browser."


def require_trades_file(path: Path) -> None:
    """Raise UsageError unless trades can be written at `path`, whose ending says how."""
    if path.suffix.lower() not in {".csv", ".json"}:
        raise UsageError(f"--trades {path}: name a file that ends with .csv or .json.")
    require_place(path, "--trades", "trades.csv")


def write_trades(path: Path, trades: Sequence[TradeRow]) -> str:
    """Write all of `trades` as CSV or JSON, newest first, times UTC in ISO 8601; return the line that says so."""
    rows: list[dict[str, object]] = build_document(trades)
    if path.suffix.lower() == ".json":
        text = json.dumps(rows, ensure_ascii=False, indent=1) + "\n"
    else:
        told = io.StringIO()
        writer = csv.DictWriter(told, [item.name for item in fields(TradeRow)], lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _defuse(value) for name, value in row.items()} for row in rows)
        text = told.getvalue()
    with durable.convert_storage_faults(f"writing {path}"):
        durable.write_atomically(path.absolute(), text.encode())
    return f"hftcl: wrote {path.absolute()}, {count(len(rows), 'trade')}."


def _defuse(value: object) -> object:
    """Return a text that no spreadsheet takes for a formula: https://owasp.org/www-community/attacks/CSV_Injection."""
    return f"'{value}" if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"} else value
