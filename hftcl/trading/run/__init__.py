"""The running process: live, replay, status, stop."""

from typing import Final

STAGE: Final = "trade"  # the name by which a view shows progress
