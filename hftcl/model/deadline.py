"""When a training has to be done. Reads the clock of this machine, no more."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from hftcl.errors import TrainingError


class Deadline:
    """By the clock on the wall, `timeout_s` from the constructor on; never where that is None.

    One for all parts of a training, so that each of them tells the limit that was set, and not what the others left.
    """

    def __init__(self, timeout_s: float | None) -> None:
        """Begin."""
        self._timeout_s, self._began = timeout_s, time.monotonic()

    def measure_left_s(self) -> float | None:
        """Return the seconds that are left, None for no limit. Raises TrainingError where none are."""
        if self._timeout_s is None:
            return None
        left = self._began + self._timeout_s - time.monotonic()
        if left <= 0:
            raise TrainingError(
                f"The training did not end within {self._timeout_s:g} s and was stopped. "
                "The serving model is untouched."
            )
        return left

    def require_left(self) -> None:
        """Raise TrainingError where no time is left."""
        self.measure_left_s()

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Give the training the time back that its caller takes within."""
        began = time.monotonic()
        yield
        self._began += time.monotonic() - began
