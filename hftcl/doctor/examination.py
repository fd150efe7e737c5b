"""Runs every check, each by itself: what one of them cannot do is its own fault and hides nothing of the others."""

from collections.abc import Callable, Iterable
from typing import Final

from hftcl.doctor import archive, bot, cluster, machine, market, outside
from hftcl.doctor.row import Context, Row, build_fault, is_stop
from hftcl.events import Event, OnEvent, ignore
from hftcl.plug_ins import find_plug_in_fault

Check = Callable[[Context], Iterable[Row]]

CHECKS: Final[tuple[tuple[str, Check], ...]] = (
    ("configuration", machine.check_configuration),
    ("family", machine.check_family),
    ("compute", cluster.check_compute),
    ("source", market.check_source),
    ("clock", market.check_clock),
    ("calendar", market.check_calendar),
    ("bars", market.check_bars),
    ("archive", archive.check_models),
    ("production", archive.check_production),
    ("model", archive.check_live_model),
    ("edge", archive.check_edge),
    ("broker", bot.check_broker),
    ("lock", bot.check_lock),
    ("bot", bot.check_bot),
    ("permissions", machine.check_permissions),
    ("disk", machine.check_disk),
    ("schedule", outside.check_schedule),
    ("alerts", outside.check_alerts),
    ("units", outside.check_units),
)
"""Every check with the name of its row, or of its rows' first word."""


NOT_QUIET: Final = frozenset({"compute", "source", "clock", "broker", "lock", "alerts", "units"})
"""Checks that ask another machine, hold a lock for a moment, or compare with the shell that asks."""


def examine(context: Context, on_event: OnEvent = ignore) -> tuple[Row, ...]:
    """Return the rows of every check; quietly, of those that are not `NOT_QUIET`.

    Changes nothing; asks the source, the cluster, the mail server and no one else.
    """
    rows: list[Row] = []
    checks = [(name, check) for name, check in CHECKS if not (context.quietly and name in NOT_QUIET)]
    for done, (name, check) in enumerate(checks):
        on_event(Event("doctor", done, len(checks), name))
        try:
            rows += check(context)
        except BaseException as error:  # what is damaged can make a library raise anything: a panic of polars
            if is_stop(error) and find_plug_in_fault(error) is None:
                raise
            rows.append(build_fault(name, error))
    on_event(Event("doctor", len(checks), len(checks)))
    return tuple(rows)
