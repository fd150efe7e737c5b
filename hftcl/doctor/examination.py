"""Runs every check, each by itself: what one of them cannot do is its own fault and hides nothing of the others."""

from collections.abc import Callable, Iterable
from typing import Final

from hftcl.doctor import archive, bot, machine, market, outside
from hftcl.doctor.row import Patient, Row, told
from hftcl.events import Event, OnEvent, ignore

Check = Callable[[Patient], Iterable[Row]]

CHECKS: Final[tuple[tuple[str, Check], ...]] = (
    ("configuration", machine.configuration),
    ("source", market.source),
    ("clock", market.clock),
    ("calendar", market.calendar),
    ("bars", market.bars),
    ("archive", archive.models),
    ("production", archive.production),
    ("model", archive.live_model),
    ("broker", bot.broker),
    ("bot", bot.bot),
    ("permissions", machine.permissions),
    ("disk", machine.disk),
    ("schedule", outside.schedule),
    ("alerts", outside.alerts),
    ("units", outside.units),
)
"""Every check with the name of its row, or of its rows' first word."""


def examine(patient: Patient, on_event: OnEvent = ignore) -> tuple[Row, ...]:
    """Return the rows of every check. Changes nothing; asks the source, the mail server and no one else."""
    rows: list[Row] = []
    for done, (name, check) in enumerate(CHECKS):
        on_event(Event("doctor", done, len(CHECKS), name))
        try:
            rows += check(patient)
        except Exception as error:  # noqa: BLE001 - what is damaged can make a library raise anything
            rows.append(told(name, error))
    on_event(Event("doctor", len(CHECKS), len(CHECKS)))
    return tuple(rows)
