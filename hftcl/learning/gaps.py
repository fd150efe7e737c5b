"""The stretches of sessions that a policy's record lacks, found and told. Touches nothing."""

from collections.abc import Sequence
from datetime import date
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from hftcl.formats import count

if TYPE_CHECKING:
    from hftcl.market.sessions import Calendar

CAUSES: Final = (
    "nothing was collected or retrained for longer than [market] lookback_days, there were no bars, or they were "
    "corrected later and no model that had not seen them could be scored on them again"
)
"""Why a record can lack a stretch, for a sentence."""
_LONGEST_REST_DAYS: Final = 4
"""Calendar days from a session to the next over a weekend with a holiday: only a longer one needs the calendar."""


def find_holes(
    days: Sequence[date], calendar: "Calendar", window_begin: date | None = None
) -> tuple[tuple[date, date, int], ...]:
    """Return the first and the last session, and the number, of each stretch that a record lacks, oldest first.

    days: its sessions, oldest first. window_begin: the first session whose bars are collected now: what lies between
    the record's end and it is scored by no later retrain either.
    """
    holes = []
    for earlier, later in pairwise((*days, *([window_begin] if days and window_begin else []))):
        if later > earlier:
            between = calendar.list_sessions(earlier, later)["session"].to_list()[1:]
            lacking = [day for day in between if day < later]
            if lacking:
                holes.append((lacking[0], lacking[-1], len(lacking)))
    return tuple(holes)


def describe_holes(holes: Sequence[tuple[date, date, int]]) -> str | None:
    """Return what to tell of the stretches that a record lacks; None without one."""
    if not holes:
        return None
    where = "; ".join(f"{first} to {last} ({count(n, 'session')})" for first, last, n in holes)
    return (
        f"the record of this policy lacks {where}: {CAUSES}. What the policy made then is not known, and is not "
        "scored later"
    )


def may_have_holes(days: Sequence[date]) -> bool:
    """Return whether `days`, oldest first, are so far apart somewhere that it is worth to ask a calendar."""
    return any((later - earlier).days > _LONGEST_REST_DAYS for earlier, later in pairwise(days))
