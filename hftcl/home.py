"""Where a bot's files lie under the home."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

# One for each home: two bots there would send the same orders; a replay has a home of its own.
LOCK: Final = ".trading.lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """The files of a live bot, paper included, or of a replay, which never touches those of the other."""

    folder: Path
    """Of the broker's own files."""
    ledger: Path
    lock: Path
    halt_file: Path

    @classmethod
    def live(cls, home: Path) -> Self:
        """Return where the bot that trades keeps its files."""
        return cls(folder=home, ledger=ledger_path(home), lock=home / LOCK, halt_file=home / "trade.halt")

    @classmethod
    def replay(cls, home: Path) -> Self:
        """Return where a replay keeps its files."""
        folder = home / "replay"
        return cls(
            folder=folder, ledger=ledger_path(home, replay=True), lock=folder / ".lock", halt_file=folder / "trade.halt"
        )


def ledger_path(home: Path, *, replay: bool = False) -> Path:
    """Return where the live ledger, or that of the last replay, lies under `home`."""
    return home / "replay" / "ledger.sqlite" if replay else home / "ledger.sqlite"
