"""Room on the disk for the last things that a bot must write: a file that is given up when the disk is full."""

import contextlib
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hftcl import durable
from hftcl.errors import StorageError
from hftcl.home import Home

log = logging.getLogger(__name__)

_BYTES: Final = 8 * 1024 * 1024
"""A latch, a minute's closing orders of 500 tickers, their fills and an alert take less than 2 MB in ledger, log of the
ledger and outbox together."""
LEAST_FREE: Final = 500 * 1024 * 1024
"""A year of a 20-ticker ledger; below it a person is told before a session."""


@dataclass(frozen=True, slots=True)
class Reserve:
    """The file in `home`."""

    home: Path

    @property
    def path(self) -> Path:
        """Where it is."""
        return Home(self.home).reserve

    def keep(self) -> bool:
        """Have the room set aside; False where the disk has none."""
        try:
            if self.path.exists() and self.path.stat().st_size == _BYTES:
                return True
            durable.require_regular(self.path)
            with self.path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, _BYTES)  # blocks, not a hole
        except (OSError, StorageError) as error:
            log.warning("no reserve on the disk path=%s why=%s", self.path, error)
            self.give_up()
            return False
        return True

    def give_up(self) -> bool:
        """Free the room; return whether there was any."""
        there = self.path.exists()
        with contextlib.suppress(OSError):  # what cannot be given up is no reserve
            self.path.unlink(missing_ok=True)
        return there

    def free(self) -> int:
        """Return the bytes that are free beside it."""
        return shutil.disk_usage(self.home).free
