"""What a single setting cannot show: names that must exist or be distinct, and settings that must agree."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from hftcl.config import suggest
from hftcl.config.tree import format_value
from hftcl.settings import Settings

# The standard error of Ledoit and Wolf (2008) divides by n - 4: see `exam.metrics.sharpe_difference`.
_FEWEST_PAIRED: Final = 5
Check = Callable[[Settings], str | None]
"""Returns what is wrong, as the end of a line; None where all is well."""


def _check_exam_length(settings: Settings) -> str | None:
    if settings.exam.min_sessions > settings.exam.sessions:
        return "an exam cannot need more sessions than it holds."
    return None


def _check_paired_exam(settings: Settings) -> str | None:
    if settings.exam.sessions < _FEWEST_PAIRED and settings.promote.policy != "seed":
        return (
            f"P(better) is not defined over fewer than {_FEWEST_PAIRED} sessions, so no candidate could ever replace "
            "the model that serves."
        )
    return None


def _check_stand_down(settings: Settings) -> str | None:
    if settings.edge.stand_down_below > settings.edge.min_p_edge:
        return "a bot that stands aside below a higher value than it goes live at would never stay live."
    return None


def _check_repeats(names: Iterable[str]) -> str | None:
    twice = [format_value(name) for name, count in Counter(names).items() if count > 1]
    return f"named more than once: {', '.join(twice[:10])}." if twice else None


def _check_zone(name: str) -> str | None:
    if name in {"", "UTC", "America/New_York"}:
        return None  # none, and the defaults, without a look at the disk
    from zoneinfo import ZoneInfo  # 6 ms, which every command would pay

    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # OSError: "America" is a folder
        close = suggest.find_closest_zone(name)
        return f"there is no such time zone; did you mean {close}?" if close else "there is no such time zone."
    return None


def _check_times(text: str) -> str | None:
    if text == "02:00" or (text.startswith("Sun 0") and text.endswith(":00")):
        return None  # the defaults, without the 5 ms that cronsim takes to load
    from hftcl.config import times

    try:
        times.parse(text)
    except ValueError as fault:
        return str(fault)
    return None


CHECKS: Final[tuple[tuple[tuple[str, ...], Check], ...]] = (
    (("exam.min_sessions", "exam.sessions"), _check_exam_length),
    (("exam.sessions", "promote.policy"), _check_paired_exam),
    (("edge.stand_down_below", "edge.min_p_edge"), _check_stand_down),
    (("market.watchlist",), lambda settings: _check_repeats(settings.market.watchlist)),
    (("files.columns",), lambda settings: _check_repeats(settings.files.columns.values())),
    (("files.timezone",), lambda settings: _check_zone(settings.files.timezone)),
    (("schedule.timezone",), lambda settings: _check_zone(settings.schedule.timezone or "(none)")),
    (("schedule.check",), lambda settings: _check_times(settings.schedule.check)),
    (("schedule.retrain",), lambda settings: _check_times(settings.schedule.retrain)),
    (("schedule.digest",), lambda settings: _check_times(settings.schedule.digest)),
)
"""Each check with the settings that it reads; it waits until they are in order one by one."""
