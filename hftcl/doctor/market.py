"""Checks of the world: the source and its key, the clock against it, the calendar's reach, the bars that are stored."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final, Never

from hftcl.config.plugins import is_ours
from hftcl.doctor.row import Context, CoverageRow, Row, build_fault, fault, report_ok, report_warning
from hftcl.errors import HftclError, RefusedBarsError
from hftcl.formats import count, format_moment_to_second, group_by_reason
from hftcl.home import Home
from hftcl.market.bars import Finding
from hftcl.market.covered import read_covered
from hftcl.market.month_files import find_unused_month, format_month
from hftcl.market.received import TickerCoverage, describe_holes
from hftcl.market.sessions import Calendar, HorizonError
from hftcl.market.sources import BarSource, as_local, open_source
from hftcl.market.store import BarStore
from hftcl.market.window import find_as_of, list_window, open_market
from hftcl.settings import Settings

_PATIENCE_S: Final = 10.0  # a person waits for the doctor; [polygon] timeout_s is for downloads, which have longer
_CLOCK_WARNING_S, _CLOCK_FAULT_S = 5, 60  # a Date has whole seconds; a minute off, bars are the wrong minute's
# A week is too late to upgrade in peace; six weeks before, the next maintenance is soon enough.
_HORIZON_FAULT, _HORIZON_WARNING = timedelta(days=7), timedelta(days=45)
_COUNTS: Final = ("expected", "received", "missing", "quarantined", "revised")
_SHOWN: Final = 3  # sessions in a line of text; --json has all of them
_REMEDY: Final = "Correct its bars, or take it from [market] watchlist; `hftcl inspect` shows a folder of files."
_HOLE_REMEDY: Final = "Ask the vendor for those bars; `hftcl doctor --json` has each session."
_PUBLISHED: Final = timedelta(hours=20)
"""After the close: a flat file is there by about 11:00 New York of the next day, an hour of grace included."""
_OLD: Final = timedelta(days=7)  # longer than any closure of an exchange over holidays
_DAYS_TOLD: Final = 60  # two months: above that, days are no longer counted in the head
_STALE_SESSIONS: Final = 1  # between a close and the collection after it, one session behind is as it should be


class _BusyError(HftclError):
    """The source would have to be waited for, which a check does not."""


def check_source(context: Context) -> Iterator[Row]:
    """Whether the source is there and, where it needs a key, takes it: one cheap call."""
    name, settings = context.settings.market.source, context.settings
    open_quickly = {"polygon": _open_polygon, "alpaca": _open_alpaca}.get(name)
    if open_quickly is None:
        source = open_source(settings)
        if not is_ours(name):  # of a plug-in we do not know whether it has a key
            source.splits(settings.market.watchlist[0])
            yield report_ok("source", f"{name} answers")
            return
        yield (
            _describe_flat_files(context)
            if name == "polygon-flat"
            else report_ok("source", f"{name}, which needs no key")
        )
        return
    address = _find_address(settings)
    try:
        open_quickly(settings).splits(settings.market.watchlist[0])
    except _BusyError:
        yield report_warning(
            "source", f"{name}: the calls of this minute are used up, so the key was not tried", "Try again."
        )
    else:
        yield report_ok("source", f"{name}: {address} takes the key{'s' if name == 'alpaca' else ''}")


def _describe_flat_files(context: Context) -> Row:
    """Return which days the downloaded flat files are of, and which sessions of the window have none."""
    import polars as pl

    from hftcl.market.sources.polygon_flat import FlatFilesSource

    settings = context.settings
    source, sessions = FlatFilesSource(settings), Calendar(settings.market.calendar)
    days = sorted(source.days)
    detail = f"polygon-flat, which needs no key: {count(len(days), 'file')}, {days[0]} to {days[-1]}"
    end = find_as_of(source, sessions, settings, None, context.now)
    lacking = [day for day in list_window(sessions, settings, end) if day not in source.days]
    known = sessions.list_sessions(days[-1], max(days[-1], min(context.now.date(), sessions.reach[1])))
    later = known.filter(pl.col("session") > days[-1], pl.col("close") + _PUBLISHED <= context.now)
    lacking += later["session"].to_list()
    if not lacking:
        return report_ok("source", detail)
    shown = ", ".join(map(str, lacking[-_SHOWN:])) + (" and others" if len(lacking) > _SHOWN else "")
    return report_warning(
        "source",
        f"{detail}; none of {count(len(lacking), 'session')} of the window and since: {shown}",
        f"Download them into {settings.polygon.flat_files}, or lower [market] lookback_days.",
    )


def _find_address(settings: Settings) -> str | None:
    """Return the address of the service that the source asks; None for one that asks none."""
    return {"polygon": settings.polygon.base_url, "alpaca": settings.alpaca.data_url}.get(settings.market.source)


def _refuse_waiting(seconds: float) -> Never:
    raise _BusyError


def _open_polygon(settings: Settings) -> BarSource:
    from hftcl.market.sources.polygon import PolygonSource

    quick = replace(settings, polygon=replace(settings.polygon, timeout_s=min(settings.polygon.timeout_s, _PATIENCE_S)))
    return PolygonSource(quick, sleep=_refuse_waiting, tries=1)  # so that only the rate limit waits


def _open_alpaca(settings: Settings) -> BarSource:
    from hftcl.market.sources.alpaca import AlpacaSource

    quick = replace(settings, alpaca=replace(settings.alpaca, timeout_s=min(settings.alpaca.timeout_s, _PATIENCE_S)))
    return AlpacaSource(quick, sleep=_refuse_waiting, tries=1)


def check_clock(context: Context) -> Iterator[Row]:
    """Whether this machine's clock is that of the source, by the Date that its server sends."""
    address = _find_address(context.settings)
    if address is None:
        name = context.settings.market.source
        yield report_ok("clock", f"{format_moment_to_second(context.now)} UTC; the source {name} has none to compare")
        return
    server_time = _fetch_date(address)
    if server_time is None:
        yield report_warning("clock", f"{address} did not say what time it is", "Try again later.")
        return
    apart = (_utc_now() - server_time).total_seconds()
    detail = f"{abs(apart):.0f} s {'ahead of' if apart > 0 else 'behind'} {address}"
    remedy = "Set the clock: systemctl enable --now systemd-timesyncd (or chrony)."
    if abs(apart) >= _CLOCK_FAULT_S:
        yield fault("clock", detail, remedy)
    elif abs(apart) >= _CLOCK_WARNING_S:
        yield report_warning("clock", detail, remedy)
    else:
        yield report_ok("clock", f"within {_CLOCK_WARNING_S} s of {address}")


def _fetch_date(url: str) -> datetime | None:
    """Return the time in an answer's Date header, UTC; None where nothing in time says it. No key is sent."""
    import urllib3

    from hftcl.market.sources.deadline import BoundedPool, BoundedSecurePool

    parts = urllib3.util.parse_url(url)
    kind = BoundedSecurePool if parts.scheme == "https" else BoundedPool
    pool = kind(parts.host or "", parts.port)
    try:
        answer = pool.request("GET", "/", timeout=urllib3.Timeout(total=_PATIENCE_S), retries=False, redirect=False)
        said = answer.headers.get("Date", "")
        return parsedate_to_datetime(said).astimezone(UTC) if said else None
    except (urllib3.exceptions.HTTPError, ValueError):
        return None
    finally:
        pool.close()


def _utc_now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - the clock itself is what is examined, at the moment of the answer


def check_calendar(context: Context) -> Iterator[Row]:
    """Whether the calendar reaches far enough ahead: a day that it does not know is not traded."""
    name = context.settings.market.calendar
    today, calendar = context.now.date(), Calendar(name)
    remedy = "Upgrade the package exchange_calendars."
    for reach, row in ((_HORIZON_FAULT, fault), (_HORIZON_WARNING, report_warning)):
        try:
            calendar.list_sessions(today, today + reach)
        except HorizonError:
            yield row("calendar", f"{name} does not reach {today + reach}, {reach.days} days from now", remedy)
            return
    yield report_ok("calendar", f"{name} reaches beyond {today + _HORIZON_WARNING}")


def check_bars(context: Context) -> Iterator[Row]:
    """Whether the stored bars are whole, of each ticker of the watchlist and context, fresh, and cover the window."""
    settings = context.settings
    source, sessions = open_market(settings)
    store = BarStore(Home.of(settings).bars, source, sessions)
    try:
        known_end = find_as_of(source, sessions, settings, None, context.now)
        days = list_window(sessions, settings, known_end)
    except HftclError as error:
        yield build_fault("bars", error)
        return
    try:
        covered = read_covered(settings, source, store, days, known_end.at)
    except HftclError as error:
        yield build_fault("bars", error)
        return
    refused = {item.ticker: item.left_out for item in covered if item.refused}
    for ticker, why in refused.items():
        yield build_fault(f"bars {ticker}", RefusedBarsError(f"{why.rstrip('.')}. {_REMEDY}"))
    whole, size, stored, unused = 0, 0, set[date](), list[Finding]()
    tickers = (*settings.market.watchlist, *settings.market.context)
    holes = _find_window_holes(covered, settings.market.min_coverage)
    for ticker in tickers:
        if ticker in refused:
            continue
        held, findings, ticker_size = store.read_held(ticker)
        damaged = [finding.detail for finding in findings if finding.reason == "damaged_file"]
        size, stored = size + ticker_size, stored | held
        unused += [finding for finding in findings if finding.reason == "other_source"]
        if damaged:
            yield fault(f"bars {ticker}", "; ".join(damaged), "`hftcl doctor --repair` fetches them again.")
        elif held and (row := _find_lacking(ticker, held, days, settings)):
            yield row
        else:
            whole += bool(held) and ticker not in holes
    if holes:
        told = "; ".join(f"{names}: {why}" for names, _, why in group_by_reason(holes))
        yield report_warning("bars", f"of the window's {count(len(days), 'session')}, {told}", _HOLE_REMEDY)
    label = "SYNTHETIC bars" if source.synthetic else f"bars from {source.name}"
    yield from _describe_bars(
        label, f"{whole} of {count(len(tickers), 'ticker')}", len(stored), size, known_end.at, context.now, unused,
        format_month(days[0]) if days else "",
    )  # fmt: skip
    if covered and (stored or as_local(source)):
        yield CoverageRow(name="coverage", status="ok", detail=_describe_coverage(covered), coverage=covered)


def _find_window_holes(covered: Sequence[TickerCoverage], least: float) -> dict[str, str]:
    """Return which sessions lack bars of each ticker that has some, and lacks them in others."""
    found = {item.ticker: item.list_holes(least) for item in covered if item.received}
    return {ticker: describe_holes(holes) for ticker, holes in found.items() if holes}


def _describe_bars(
    label: str,
    whole: str,
    stored: int,
    size: int,
    end: datetime,
    now: datetime,
    unused: Sequence[Finding] = (),
    first_month: str = "",
) -> Iterator[Row]:
    """Yield what is stored, and whether its end is old.

    whole: "3 of 4 tickers"; stored: sessions; size: bytes. unused: a finding each month that is stored of other bars.
    first_month: the first one, such as "2026-01", that a retrain collects.
    """
    age = now - end
    old = [finding for finding in unused if find_unused_month(finding) < first_month]
    due = [finding for finding in unused if find_unused_month(finding) >= first_month]
    for findings, then in (
        (due, f"the next retrain collects {label} in their place"),
        (old, "they are older than what a retrain collects, and may be deleted"),
    ):
        if findings:
            tickers = count(len({finding.ticker for finding in findings}), "ticker")
            months = f"{count(len(findings), 'month')} of {tickers} {'is' if len(findings) == 1 else 'are'} stored"
            yield report_ok("bars", f"{months} and not used: {findings[0].detail}; {then}")
    if not due and not stored:
        yield report_ok("bars", f"none are stored yet; the next retrain collects {label}")
    if stored:
        fresh = " and fresh" if age <= _OLD else ""
        kept = f"{count(stored, 'session')}, {size / 1e6:.1f} MB"
        yield report_ok("bars", f"{label}: {whole} whole{fresh}, {kept}")
    if age > _OLD:
        yield report_warning(
            "bars",
            f"{label} end {end:%Y-%m-%d}, {_describe_age(age)} ago: nothing newer is trained on, judged or traded",
            "Let newer bars come: `hftcl inspect` shows a folder of files.",
        )


def _describe_age(age: timedelta) -> str:
    """Return how long that is, in days up to two months and in months from there on."""
    months = round(age / timedelta(days=365.25 / 12))
    return count(age.days, "day") if age.days <= _DAYS_TOLD else count(months, "month")


def _describe_coverage(covered: Sequence[TickerCoverage]) -> str:
    """Return the sums over all tickers, and the sessions that lack most."""
    sums = {name: sum(getattr(item, name) for item in covered) for name in _COUNTS}
    share = f" ({sums['received'] / sums['expected']:.1%})" if sums["expected"] else ""
    days = sorted(((day.missing, item.ticker, day) for item in covered for day in item.incomplete), reverse=True,
                  key=lambda entry: entry[0])  # fmt: skip
    least = "; ".join(f"{ticker} {day.session}: {day.received} of {day.expected}" for _, ticker, day in days[:_SHOWN])
    return (
        f"received {sums['received']:,} of {sums['expected']:,} regular minutes{share}, {sums['missing']:,} missing, "
        f"{sums['quarantined']:,} quarantined, {sums['revised']:,} revised" + (f"; least in {least}" if least else "")
    )


def _find_lacking(ticker: str, held: frozenset[date], days: tuple[date, ...], settings: Settings) -> Row | None:
    """Return what is wrong with the sessions that are held, of those that the next retrain wants."""
    covered = [day for day in days if day in held]
    behind = len([day for day in days if day > max(held)])
    remedy = "`hftcl retrain` or the scheduler collects them; is the scheduler running?"
    if behind > _STALE_SESSIONS:
        return report_warning(f"bars {ticker}", f"the newest session is {max(held)}, {behind} behind", remedy)
    share = len(covered) / len(days) if days else 1.0
    if share < settings.market.min_coverage:
        return report_warning(
            f"bars {ticker}", f"{len(covered)} of the last {count(len(days), 'session')} stored", remedy
        )
    return None
