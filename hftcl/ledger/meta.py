"""The facts that the bot keeps beside the ledger's tables, read as what they are."""

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from hftcl import sqlite
from hftcl.ledger.schema import LEDGER


class Fact(StrEnum):
    """The name of each fact; a ledger holds no other. Texts; times are ISO 8601 with their zone, numbers in full."""

    MODE = "mode"
    BROKER = "broker"
    SOURCE = "source"
    SYNTHETIC = "synthetic"  # "1" or "0"
    CAPITAL = "capital"  # USD that targets are fractions of
    COST_BPS = "cost_bps"
    STARTED_AT = "started_at"
    RELOADS = "reloads"
    MODEL_ID = "model_id"
    MODEL_SINCE = "model_since"
    SHADOW_MODEL_ID = "shadow_model_id"
    SHADOW_MODEL_SINCE = "shadow_model_since"
    SESSION_OPENED = "session_opened"
    HEARTBEAT = "heartbeat"  # when the bot last came round
    MINUTE = "minute"
    LAST_BAR = "last_bar"
    LIMIT_GROSS = "limit_gross"  # USD, as the other limits
    LIMIT_NET = "limit_net"
    LIMIT_DAILY_LOSS = "limit_daily_loss"
    EQUITY_AT_OPEN_PRODUCTION = "equity_at_open_production"  # session and USD, a space between
    EQUITY_AT_OPEN_SHADOW = "equity_at_open_shadow"
    FILLS_CURSOR_PRODUCTION = "fills_cursor_production"  # up to where the broker's fills were taken over
    FILLS_CURSOR_SHADOW = "fills_cursor_shadow"
    ACCOUNT_ID = "account_id"  # the broker's number of the account whose ledger this is
    CASH_FROM = "cash_from"  # the day from which on the broker's cash is followed
    CASH_UNTIL = "cash_until"  # the day on which the broker has told of it last
    CASH_GAP = "cash_gap"  # USD that the broker's cash is above the ledger's: what is not the bot's capital
    BARRED = "barred"  # the session, and why nothing is opened in it because the broker refuses the account
    DISPUTED = "disputed"  # JSON: shares by ticker that broker and ledger differ by
    AWAITED_SPLITS = "awaited_splits"  # JSON: new shares for an old one by ticker, that the broker has still to make
    DRAWDOWN_FROM = "drawdown_from"  # the session in which a person cleared a drawdown
    FLATTEN_MINUTES = "flatten_minutes"  # how long closing the whole book takes
    HANDED_OVER = "handed_over"  # when a person gave the bot what others had traded
    REFUSED_FILLS = "refused_fills"  # JSON: ids of fills that are not booked, and of which a person was told
    SPLITS_PRODUCTION = "splits_production"  # older ledgers: the session whose splits were booked last
    SPLITS_SHADOW = "splits_shadow"
    SPLITS_LOOKED_UP = "splits_looked_up"  # the session up to which splits were looked up, and booked
    CORPORATE_ACTIONS = "corporate_actions"  # JSON: ids of the broker's activities whose shares are booked
    UNTOLD_ACTIONS = "untold_actions"  # JSON: corporate actions that are booked and still to be told to a person
    EXCHANGED_CLOSES = "exchanged_closes"  # JSON: USD by ticker, of shares that came for others: their last close
    UNEXPLAINED_SHARES = "unexplained_shares"  # JSON: what a person is asked to look at


_NAMES: Final = frozenset(fact.value for fact in Fact)


def require_known(names: Iterable[str]) -> None:
    """Raise ValueError for a name that is no `Fact`: it would be written and never read."""
    if unknown := [name for name in names if name not in _NAMES]:
        raise ValueError(f"{unknown[0]!r} is no fact of a ledger; see ledger.meta.Fact.")


class LedgerMeta(dict[str, str]):
    """Texts by name. What is missing or empty is None; what cannot be what was written raises IntegrityError."""

    def __init__(self, path: Path, rows: list[tuple[str, str]]) -> None:
        """Take the rows of the ledger at `path`."""
        super().__init__(rows)
        self._path = path

    @property
    def synthetic(self) -> bool | None:
        """Whether the ledger was traded on synthetic bars; None where it does not say."""
        said = self.get(Fact.SYNTHETIC)
        return None if said is None else said not in {"0", "false", "False"}  # the words: of ledgers written by hand

    def number(self, name: str) -> float | None:
        """Return a number."""
        return self._parse_number(self.get(name, ""))

    def count(self, name: str) -> int:
        """Return how often something happened, 0 where it was never noted."""
        with sqlite.guard_rows(self._path, LEDGER):
            return int(self.get(name) or "0")

    def read_moment(self, name: str) -> datetime | None:
        """Return a time, which carries its zone."""
        text = self.get(name)
        with sqlite.guard_rows(self._path, LEDGER):
            stamp = datetime.fromisoformat(text) if text else None
            if stamp is not None and stamp.tzinfo is None:
                raise ValueError(f"{name} {text!r} has no time zone")
        return stamp

    def read_open(self, book: str) -> tuple[str, float | None]:
        """Return the session that a book took up last, as ISO date, and its equity then, USD; "" before the first."""
        session, _, equity = self.get(f"equity_at_open_{book}", "").partition(" ")
        return session, self._parse_number(equity)

    def _parse_number(self, text: str) -> float | None:
        with sqlite.guard_rows(self._path, LEDGER):
            return float(text) if text else None
