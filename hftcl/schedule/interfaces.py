"""What the scheduler works with: who does a job, takes alerts, watches. Interfaces and what passes over them."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from hftcl.events import Event, OnEvent
from hftcl.schedule.claims import OccurrenceRecord
from hftcl.schedule.rules import Occurrence
from hftcl.values import Value, value_class

if TYPE_CHECKING:  # a preview shows what comes, and sends nothing
    from hftcl.alerts import Alert, SendResult


@value_class(frozen=True, slots=True)
class JobResult(Value):
    """What a job came to, in one line, and the alerts about it."""

    outcome: str
    alerts: tuple["Alert", ...] = ()


JobFunction = Callable[[Occurrence, OnEvent], JobResult]
"""Does one job. Raises HftclError where it cannot; a LockHeldError says that another process is at it."""


class Teller(Protocol):
    """Who takes alerts: `hftcl.alerts.Alerts`. Nothing of it raises."""

    def tell(self, alert: "Alert") -> None: ...
    def deliver(self, now: datetime, timeout_s: float) -> "SendResult": ...
    def send_heartbeat(self, timeout_s: float) -> bool: ...


class Observer:
    """Who watches the scheduler, such as the foot of a terminal. This one does not look."""

    def hear_event(self, event: Event) -> None:
        """Hear what a job reports while it works."""

    def hear_begin(self, occurrence: Occurrence) -> None:
        """Hear that a job begins."""

    def surround(self) -> AbstractContextManager[None]:
        """Return what a job works within; it is left before a word is logged of what became of the job."""
        return nullcontext()

    def hear_end(self, occurred: OccurrenceRecord) -> None:
        """Hear what became of a job, or that it was passed over."""

    def hear_wait(self, upcoming: Occurrence | None, now: datetime) -> None:
        """Hear every few seconds what is waited for; None while the registry cannot be read or written."""

    def hear_stop(self) -> None:
        """Hear that the loop has ended."""
