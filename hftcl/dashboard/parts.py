"""The parts of the page: what each reads, by the stories of the commands, and what it is drawn from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from hftcl.alerts.outbox import Outbox
from hftcl.archive.fitness import find_unfit_here
from hftcl.archive.permission import find_permission
from hftcl.archive.registry import Registry
from hftcl.config import Configuration
from hftcl.dashboard.contents import (
    AlertsContent,
    BotContent,
    Content,
    ModelsContent,
    OrdersContent,
    PerformanceContent,
    RecordContent,
    ScheduleContent,
)
from hftcl.doctor import examine
from hftcl.doctor.row import Context
from hftcl.home import Home
from hftcl.learning.stored_report import read_report
from hftcl.learning.stories.history import history
from hftcl.learning.stories.record import list_record
from hftcl.ledger.reader import LedgerReader
from hftcl.performance.story import measure_performance
from hftcl.schedule import plan, reports
from hftcl.schedule.claims import Occurrences
from hftcl.settings import Settings
from hftcl.trading.run.status import choose_home, read_status
from hftcl.views import alerts, archive, schedule, trading
from hftcl.views import doctor as doctor_view
from hftcl.views.blocks import collect_blocks

MODELS_SHOWN: Final = 8  # the newest: two months of weekly verdicts; the page of the models has all
_JOBS_SHOWN: Final = 8  # two days of each job
_ALERTS_SHOWN: Final = 12  # a page is no mail box
ORDERS_SHOWN: Final = 40  # the newest of the session: one minute of a large watchlist


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardInputs:
    """What is looked at, and when: the configuration, the environment that it was read from, the time, UTC."""

    configuration: Configuration
    environ: Mapping[str, str]
    now: datetime

    @property
    def settings(self) -> Settings:
        return self.configuration.settings

    @property
    def home(self) -> Home:
        return Home.of(self.configuration.settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of the page. watches: the groups of `changes` that tell that it may show something else.

    at_least_s: a part that shows times is read again after so long, whatever changed. slow: not waited for.
    """

    name: str
    title: str
    command: str
    read: Callable[[DashboardInputs], Content]
    watches: tuple[str, ...]
    at_least_s: float | None = None
    slow: bool = False


def _read_bot(inputs: DashboardInputs) -> Content:
    report = read_status(inputs.settings)
    return BotContent(blocks=collect_blocks(trading.draw_status, report), status=report)


def _read_orders(inputs: DashboardInputs) -> Content:
    """Return the newest orders of the session, of the bot that `trade --status` tells of."""
    path = choose_home(inputs.home.root).ledger
    with LedgerReader(path) as ledger, ledger.snapshot():
        opened = ledger.open_meta().read_moment("session_opened")
        frame = ledger.read_orders("production", opened) if opened else None
    rows = [] if frame is None else trading.list_lines(trading.OrderLine, frame.tail(ORDERS_SHOWN).reverse())
    return OrdersContent(blocks=collect_blocks(trading.draw_orders, rows), count=0 if frame is None else frame.height)


def _read_models(inputs: DashboardInputs) -> Content:
    """Return the newest verdicts, whether the bot may trade at this moment, and which model serves, and why.

    After a rollback another model serves than the one that was judged last: then its own retrain's edge is told too.
    """
    root = inputs.home.root
    rows = history(root, calendar=inputs.settings.market.calendar, limit=MODELS_SHOWN)
    registry = Registry(root)
    live, judged = registry.find_live(), registry.list_models(1)
    edge = collect_blocks(archive.draw_permission, find_permission(inputs.settings))
    if live is not None:
        put_there = next((one for one in reversed(registry.list_deployments()) if one.model_id == live.model_id), None)
        went_back = put_there is not None and put_there.kind == "rollback"
        own = read_report(live.report) if went_back and live.model_id != judged[0].model_id else None
        edge += collect_blocks(archive.draw_serving, live.model_id, put_there, own, find_unfit_here(inputs.settings))
    serves = next((row for row in rows if live is not None and row.model_id == live.model_id), None)
    if serves is None and live is not None:  # it is older than those that are shown
        serves = history(root, calendar=inputs.settings.market.calendar, lineage=True, limit=1)[0]
    return ModelsContent(blocks=collect_blocks(archive.draw_history, rows), rows=rows, edge=edge, serves=serves)


def _read_record(inputs: DashboardInputs) -> Content:
    rows = list_record(inputs.settings)
    return RecordContent(blocks=collect_blocks(archive.draw_record, rows), rows=rows)


def _read_schedule(inputs: DashboardInputs) -> Content:
    zone = ZoneInfo(inputs.settings.schedule.timezone)
    known = Occurrences(inputs.home.root).list_known()
    coming = reports.preview(plan.build_rules(inputs.settings, writes=False), zone, inputs.now, known, _JOBS_SHOWN)
    ran = reports.report_ran([record for record in known if record.due_at <= inputs.now][-_JOBS_SHOWN:][::-1], zone)
    return ScheduleContent(
        blocks=(
            *collect_blocks(schedule.draw_coming, coming),
            *(collect_blocks(schedule.draw_ran, ran) if ran else ()),
        ),
        coming=coming,
        ran=ran,
    )


def _read_alerts(inputs: DashboardInputs) -> Content:
    kept = Outbox(inputs.home.root).list_newest(_ALERTS_SHOWN)
    return AlertsContent(blocks=collect_blocks(alerts.draw_alerts, kept), alerts=kept)


def _read_performance(inputs: DashboardInputs) -> Content:
    home = choose_home(inputs.home.root)
    return PerformanceContent(blocks=(), report=measure_performance(inputs.settings, replay=home.is_replay))


def _read_doctor(inputs: DashboardInputs) -> Content:
    context = Context(configuration=inputs.configuration, environ=inputs.environ, now=inputs.now, quietly=True)
    rows = examine(context)
    return Content(blocks=collect_blocks(doctor_view.draw_rows, rows))


PARTS: Final[tuple[Part, ...]] = (
    Part(name="bot", title="The bot", command="hftcl trade --status", read=_read_bot, watches=("ledger", "registry")),
    Part(name="models", title="Verdicts", command="hftcl history", read=_read_models, watches=("registry",)),
    Part(name="record", title="The record", command="hftcl record", read=_read_record, watches=("registry",)),
    Part(name="orders", title="Orders of the session", command="hftcl trade --status", read=_read_orders,
         watches=("ledger",)),
    Part(name="schedule", title="The schedule", command="hftcl schedule --preview 8", read=_read_schedule,
         watches=("registry",), at_least_s=60.0),
    Part(name="alerts", title="Alerts", command="hftcl schedule", read=_read_alerts, watches=("alerts",)),
    Part(name="performance", title="Equity", command="hftcl report", read=_read_performance,
         watches=("ledger", "registry"), slow=True),
    Part(name="doctor", title="Is it sound?", command="hftcl doctor", read=_read_doctor,
         watches=("registry",), at_least_s=600.0, slow=True),
)  # fmt: skip
"""Every part, the quick ones first."""
