"""Mends what can be mended without a decision: whatever has a whole copy in the archive or at the source."""

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

from hftcl.archive.deployment import ModelArchive
from hftcl.archive.rebuild import rebuild
from hftcl.doctor.row import Context, Row, build_fault, report_ok
from hftcl.errors import HftclError, NoDataError
from hftcl.home import Home
from hftcl.market.store import BarStore
from hftcl.market.window import find_as_of, open_market


def repair(context: Context) -> tuple[Row, ...]:
    """Mend archive, production, CSV and damaged bars; a row for each thing mended, and a fault for what would not be.

    No model is chosen, no permission changed, no bar invented: that is left to a person.
    """
    rows: list[Row] = []
    for name, mend in (("repair archive", _repair_archive), ("repair bars", _repair_bars)):
        try:
            rows.extend(report_ok(name, note) for note in mend(context))  # what was mended before a fault is told too
        except HftclError as error:
            rows.append(build_fault(name, error))
    return tuple(rows)


def _repair_archive(context: Context) -> Iterator[str]:
    archive = ModelArchive(Home.of(context.settings).root)
    now = context.clock or context.now
    yield from rebuild(archive, now)
    yield from archive.recover(now)


def _repair_bars(context: Context) -> Iterator[str]:
    """Fetch the months again whose file is not what was recorded; the store replaces them, the rest stays."""
    settings = context.settings
    source, calendar = open_market(settings)
    store = BarStore(Home.of(settings).bars, source, calendar)
    for ticker in (*settings.market.watchlist, *settings.market.context):
        _, findings, _ = store.read_held(ticker)
        damaged = [finding.detail.partition(":")[0] for finding in findings if finding.reason == "damaged_file"]
        for file in damaged:
            first = date.fromisoformat(f"{Path(file).stem}-01")
            known_end = find_as_of(source, calendar, settings, None, context.now)
            last = min(
                (first + timedelta(days=31)).replace(day=1) - timedelta(days=1),
                calendar.find_last_complete(known_end.at),
            )
            try:
                store.collect(
                    (ticker,),
                    first,
                    last,
                    as_of=known_end.at,
                    extended_hours=settings.market.extended_hours,
                    min_coverage=0,
                )
            except NoDataError:
                yield f"{file}: the source has no bars of that month any more; nothing is stored for it"
            else:
                yield f"{file} was fetched again from {source.name}"
