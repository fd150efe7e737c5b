"""Whether the stamps of a file are at the hour that they say, and the question where they name no zone. Pure."""

from pathlib import Path
from typing import Final

import polars as pl

from hftcl.formats import count, format_moment
from hftcl.market.sessions import Calendar
from hftcl.market.sources.files_facts import Facts
from hftcl.market.zone import OFFSETS, StampClock, Stretch, find_clock, find_stretch, fits

_TALL: Final = 20_000  # rows of a ticker that suffice to find the clock, the newest
_HALF: Final = 0.5  # score of a clock: a wrong one has no more
_WEEK: Final = 5  # sessions in which the same wrong minute is no accident


def judge_hours(
    path: Path, facts: Facts, rows: pl.DataFrame, ticker: str, *, asked: bool, calendar: Calendar, label: str
) -> tuple[str, str]:
    """Return what is wrong with the hour of the stamps, and the clock that was found; "" for nothing.

    rows: of `ticker`, columns ts and volume. asked: whether the zone of naive stamps is not known, so that the answer
    is a question with what the bars say. label: as `[files] label` says.
    """
    rows = rows.tail(_TALL) if rows["ts"].is_sorted() else rows.sort("ts", nulls_last=False).tail(_TALL)
    stamps, volume = rows["ts"], rows["volume"]
    if asked:  # the digits were read as if UTC, and moved to the start if the label is the end
        stamps = stamps.dt.offset_by("1m") if facts.label == "end" else stamps
        clock = find_clock(stamps, volume, calendar)
        return _ask_for_zone(path, clock, stamps, label), clock.zone or ""
    if fits(stamps, volume, calendar):
        return _describe_stretch(path, facts, ticker, find_stretch(stamps, volume, calendar), calendar.name), "fits"
    clock = find_clock(stamps, volume, calendar)
    if clock.zone is not None and ("UTC" in (clock.zone, *clock.same) and clock.label == "start"):
        return "", "fits"
    if clock.zone is not None:
        return _describe_wrong_hour(path, facts, clock, ticker, calendar.name), clock.zone
    if clock.offset_minutes is not None and abs(clock.offset_minutes) in OFFSETS and clock.sessions >= _WEEK:
        return (
            f"{path}: the busiest minute of {ticker} stands {clock.offset_minutes} minutes after the open of "
            f"{calendar.name} in most sessions. Set [files] timezone and label to what the stamps are in, or "
            "[market] calendar to the exchange.",
            "",
        )
    return _describe_stretch(path, facts, ticker, find_stretch(stamps, volume, calendar), calendar.name), ""


def _describe_stretch(path: Path, facts: Facts, ticker: str, stretch: Stretch | None, exchange: str) -> str:
    """Return what is wrong with the hour of some sessions' stamps; "" for nothing."""
    if stretch is None:
        return ""
    return (
        f"{path}: from {stretch.first} to {stretch.last} the busiest minute of {ticker} stands "
        f"{abs(stretch.offset_minutes)} minutes {'after' if stretch.offset_minutes > 0 else 'before'} the open of "
        f"{exchange}, and in the other sessions at it: stamps at the wrong hour, read as {facts.zone}. "
        "Two exports were put together, or a zone was taken that knows no summer time. Export it again, or set "
        "[files] timezone to the zone of all stamps."
    )


def _describe_wrong_hour(path: Path, facts: Facts, clock: StampClock, ticker: str, exchange: str) -> str:
    offset = f" ({clock.offset_minutes} minutes after the open)" if clock.offset_minutes else ""
    if facts.kind == "naive":
        label = _turn_label(facts.label, clock.label)
        same_zone = "UTC" in (clock.zone, *clock.same)
        remedy = (
            f'Set [files] label = "{label}"'
            if same_zone
            else "Set [files] timezone to what the stamps are in; without it `hftcl inspect` names it"
        )
        return (
            f"{path}: read as {facts.zone}, {facts.label} of the minute, the busiest minute of {ticker} is not the "
            f"open of {exchange}{offset}: the stamps are at the wrong hour. {remedy}."
        )
    if "UTC" in (clock.zone, *clock.same):
        return (
            f"{path}: the stamps of {ticker} look like the {clock.label} of the minute{offset}. "
            f'Set [files] label = "{_turn_label(facts.label, clock.label)}".'
        )
    return (
        f"{path}: the stamps of {ticker} say UTC or an offset, and the bars say {clock.zone}, {clock.label} of the "
        f"minute{offset}: a clock was taken for UTC. For numbers on a broker's clock set [files] layout = "
        f'"metatrader5_api" and timezone = "{clock.zone}"; else export the file again.'
    )


def _ask_for_zone(path: Path, clock: StampClock, stamps: pl.Series, label: str) -> str:
    """Return the question for the zone of naive stamps, with what the bars say."""
    shown = stamps.drop_nulls()
    example = f" such as {format_moment(shown[0])}" if shown.len() else ""
    head = f"{path}: its time stamps{example} name no time zone, and [files] timezone is not set."
    if clock.zone is None:
        likely = (
            f"; {clock.best[0]}, {clock.best[1]} of the minute, is likeliest"
            if clock.best and clock.score > _HALF
            else ""
        )
        return (
            f"{head} The bars do not say for sure ({clock.why}{likely}). Set [files] timezone to the zone they are in."
        )
    same = f" (or {', '.join(clock.same[:3])}, which is the same here)" if clock.same else ""
    wrong = f' and label = "{clock.label}"' if label != clock.label else ""
    return (
        f"{head} The volumes of {count(clock.sessions, 'session')} say {clock.zone}{same}, {clock.label} "
        f"of the minute. "
        f'If that is so, set [files] timezone = "{clock.zone}"{wrong}.'
    )


def _turn_label(label: str, seen: str | None) -> str:
    """Return the label to set: stamps read as `label` look like `seen` of the minute."""
    return "end" if seen == "end" and label == "start" else "start"
