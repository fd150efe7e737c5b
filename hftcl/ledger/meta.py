"""The facts that the bot keeps beside the ledger's tables, read as what they are."""

from datetime import datetime
from pathlib import Path

from hftcl import sqlite


class LedgerMeta(dict[str, str]):
    """Texts by name. What is missing or empty is None; what cannot be what was written raises IntegrityError."""

    def __init__(self, path: Path, rows: list[tuple[str, str]]) -> None:
        """Take the rows of the ledger at `path`."""
        super().__init__(rows)
        self._path = path

    def number(self, name: str) -> float | None:
        """Return a number."""
        return self._parse_number(self.get(name, ""))

    def count(self, name: str) -> int:
        """Return how often something happened, 0 where nobody noted it."""
        with sqlite.guard_rows(self._path):
            return int(self.get(name) or "0")

    def moment(self, name: str) -> datetime | None:
        """Return a time, which carries its zone."""
        text = self.get(name)
        with sqlite.guard_rows(self._path):
            found = datetime.fromisoformat(text) if text else None
            if found is not None and found.tzinfo is None:
                raise ValueError(f"{name} {text!r} has no time zone")
        return found

    def read_open(self, book: str) -> tuple[str, float | None]:
        """Return the session that a book took up last, as ISO date, and its equity then, USD; "" before the first."""
        session, _, equity = self.get(f"equity_at_open_{book}", "").partition(" ")
        return session, self._parse_number(equity)

    def _parse_number(self, text: str) -> float | None:
        with sqlite.guard_rows(self._path):
            return float(text) if text else None
