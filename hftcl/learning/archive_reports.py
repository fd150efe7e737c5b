"""What the stories about models that are there already return, and the JSON of every report.

Apart from `reports`, so that `history` does not wait for those: to make a dataclass takes half a millisecond.
"""

from dataclasses import field
from datetime import date, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hftcl.archive.note_rows import Note

from hftcl.values import Value, value_class


@value_class(frozen=True, slots=True, kw_only=True)
class RollbackReport(Value):
    """Which model serves after a rollback, and that it is pinned."""

    rolled_back: bool
    from_model: str | None
    to_model: str
    pinned: bool
    reason: str
    repaired: tuple[str, ...] = ()


@value_class(frozen=True, slots=True, kw_only=True)
class UnpinReport(Value):
    """The model that was pinned; None where none was."""

    unpinned: str | None
    repaired: tuple[str, ...] = ()


@value_class(frozen=True, slots=True, kw_only=True)
class NoteReport(Value):
    """What is written about a model: notes with their times, UTC, oldest first, and tags."""

    model_id: str
    notes: "tuple[Note, ...]"
    tags: tuple[str, ...]
    repaired: tuple[str, ...] = ()


@value_class(frozen=True, slots=True, kw_only=True)
class Gap(Value):
    """A stretch of sessions that a policy's record lacks: nothing was collected or retrained then."""

    first: date
    last: date
    sessions: int


@value_class(frozen=True, slots=True, kw_only=True)
class HistoryRow(Value):
    """One archived model, as `history` shows it; times UTC. twin: the examined model of which this is the refit.

    max_rows: most rows that a fit held where there were more, else 0.
    features: that it reads; empty where an earlier hftcl did not say. dropped: those that left, with their importance.
    gaps: stretches that the record of its policy lacks, before this model and after the one before it. notes, tags:
    what a person wrote about it.

    A line of another program's list has the outcome "adopted", no file, and None where it told nothing.
    """

    model_id: str
    trained_date: datetime | None
    val_sharpe: float | None
    sharpe_interval: tuple[float, float] | None
    is_deployed: bool
    pinned: bool
    outcome: str
    reason: str
    served: tuple[tuple[datetime, datetime | None], ...]
    parent: str | None
    source: str
    synthetic: bool
    family: str
    trained_from: date | None
    trained_to: date | None
    exam_from: date | None
    exam_to: date | None
    exam_sessions: int | None
    rows: int
    sessions: int
    tickers: tuple[str, ...]
    sha256: str | None
    kept: bool
    edge: str | None
    twin: str | None
    max_rows: int = 0
    features: tuple[str, ...] = ()
    dropped: dict[str, float] = field(default_factory=dict)
    gaps: tuple[Gap, ...] = ()
    notes: "tuple[Note, ...]" = ()
    tags: tuple[str, ...] = ()
