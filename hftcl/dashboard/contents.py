"""What each part and each page shows: the words and tables of a command, and the report that they were drawn from."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING

from hftcl.alerts.outbox import KeptAlert
from hftcl.doctor.row import Status
from hftcl.learning.archive_reports import HistoryRow
from hftcl.learning.stories.record import RecordRow
from hftcl.performance.reports import PerformanceReport
from hftcl.performance.story import Importances
from hftcl.schedule.reports import ComingReport, RanReport
from hftcl.trading.run.status import StatusReport
from hftcl.views.blocks import Block

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a part shows, as blocks."""

    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskContent(Content):
    """Whether there is room on the disk."""

    status: Status


@dataclass(frozen=True, slots=True, kw_only=True)
class BotContent(Content):
    """What the bot does."""

    status: StatusReport


@dataclass(frozen=True, slots=True, kw_only=True)
class OrdersContent(Content):
    """The newest orders of the session; count: of all of them."""

    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsContent(Content):
    """The newest verdicts, the newest first. serves: the model that does; edge: what lets the bot trade, and why that
    model serves.
    """

    rows: Sequence[HistoryRow]
    edge: tuple[Block, ...]
    serves: HistoryRow | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordContent(Content):
    """The record, oldest first."""

    rows: Sequence[RecordRow]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleContent(Content):
    """What is due next, and what became of what was due last, the newest first."""

    coming: Sequence[ComingReport]
    ran: Sequence[RanReport]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertsContent(Content):
    """The newest alerts."""

    alerts: Sequence[KeptAlert]


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformanceContent(Content):
    """What was earned."""

    report: PerformanceReport


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelContent(Content):
    """One model: its exam as blocks, what it is, and on which models it stands."""

    verdict: tuple[Block, ...]
    lineage: tuple[Block, ...]
    importances: Importances


@dataclass(frozen=True, slots=True, kw_only=True)
class TickerSession:
    """A ticker's session. bars, decisions, fills: frames as store and ledger have them; opens, closes: UTC."""

    ticker: str
    session: date
    opens: datetime
    closes: datetime
    zone: str
    bars: "pl.DataFrame"
    decisions: "pl.DataFrame"
    fills: "pl.DataFrame"


@dataclass(frozen=True, slots=True, kw_only=True)
class TickerContent(Content):
    """One ticker in a session; day: None where the bot has not traded it. before, after: the sessions beside it."""

    day: TickerSession | None = None
    orders: tuple[Block, ...] = field(default=())
    fills: tuple[Block, ...] = field(default=())
    before: date | None = None
    after: date | None = None
