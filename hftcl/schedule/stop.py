"""Ends a loop soon after SIGTERM or Ctrl-C, without cutting through what must be whole. Made by the command line.

A signal handler may raise at any line. Here it does so only where the loop has said that it may be interrupted.
"""

import contextlib
from collections.abc import Iterator
from types import FrameType

from hftcl.interrupts import raise_from_handler


class StopRequest(BaseException):
    """Someone asked the loop to end. No `except Exception` on the way keeps it."""


class Stop:
    """What a signal handler tells a loop. `asked`: the number of the signal, None until there is one."""

    def __init__(self) -> None:
        self.asked: int | None = None
        self._may_interrupt = False

    def ask(self, signum: int, frame: FrameType | None = None) -> None:
        """Ask the loop to end, at once where it may be interrupted, else as soon as it may. A signal handler."""
        self.asked = signum
        try:
            self._raise_if_asked()
        except StopRequest as request:
            raise_from_handler(request, signum, frame, on_lost=self._permit_again)

    @contextlib.contextmanager
    def permit_interrupts(self) -> Iterator[None]:
        """Let a signal interrupt what is done within; one that came before does so at once."""
        try:
            self._may_interrupt = True
            self._raise_if_asked()
            yield
        finally:
            self._may_interrupt = False

    @contextlib.contextmanager
    def hold(self, last: bool) -> Iterator[None]:
        """Let no signal interrupt what is done within; one that came meanwhile does so at its end, unless last.

        last: the work is as good as done, so that nothing interrupts it any more.
        """
        before, self._may_interrupt = self._may_interrupt, False
        yield
        if not last:
            self._may_interrupt = before
            self._raise_if_asked()

    def _permit_again(self) -> None:
        """Take back what `_raise_if_asked` has set: nothing has heard of the request."""
        self._may_interrupt = True

    def _raise_if_asked(self) -> None:
        if self.asked is not None and self._may_interrupt:
            self._may_interrupt = False  # once: what cleans up on the way is left in peace
            raise StopRequest
