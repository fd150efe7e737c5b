"""What a single setting cannot show: names that must exist or be distinct, and settings that must agree."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from hftcl.config import suggest
from hftcl.config.tree import format_key, format_value
from hftcl.settings import Settings

# The standard error of Ledoit and Wolf (2008) divides by n - 4: see `exam.metrics.sharpe_difference`.
_FEWEST_PAIRED: Final = 5
# What hftcl reads of a file of bars, by its own names: `market.layouts.ROLES`.
_OF_A_FILE: Final = ("ticker", "ts", "date", "time", "open", "high", "low", "close", "volume")
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
        return "a bot that stands aside below a higher value than it begins to trade at would never go on trading."
    return None


def _check_repeats(names: Iterable[str]) -> str | None:
    twice = [format_value(name) for name, count in Counter(names).items() if count > 1]
    return f"named more than once: {', '.join(twice[:10])}." if twice else None


def _check_file_columns(settings: Settings) -> str | None:
    known = (*_OF_A_FILE, *settings.market.columns)
    unknown = [format_key(name) for name in settings.files.columns if name not in known]
    if unknown:
        return (
            f"a table with some of the keys {', '.join(known)} is known, and {', '.join(unknown)} is none of them; "
            "further numbers of a bar are named in [market] columns."
        )
    return _check_repeats(settings.files.columns.values())


def _check_context(settings: Settings) -> str | None:
    traded = [format_value(ticker) for ticker in settings.market.context if ticker in settings.market.watchlist]
    if traded:
        return f"{', '.join(traded)} is in [market] watchlist, and a context ticker is not traded; take it out of one."
    return _check_repeats(settings.market.context)


def _check_scheduler(settings: Settings) -> str | None:
    if settings.compute.scheduler and settings.compute.scheduler_file:
        return "both say where the scheduler is; leave one of them empty."
    return None


def _check_encryption(settings: Settings) -> str | None:
    if settings.compute.tls_cert and settings.compute.scheduler.startswith("tcp://"):
        return "a certificate is only of use where the scheduler's address begins with tls://."
    return None


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
    (("market.columns",), lambda settings: _check_repeats(settings.market.columns)),
    (("market.context", "market.watchlist"), _check_context),
    (("files.columns", "market.columns"), _check_file_columns),
    (("files.timezone",), lambda settings: _check_zone(settings.files.timezone)),
    (("schedule.timezone",), lambda settings: _check_zone(settings.schedule.timezone or "(none)")),
    (("compute.scheduler", "compute.scheduler_file"), _check_scheduler),
    (("compute.tls_cert", "compute.scheduler"), _check_encryption),
    (("schedule.check",), lambda settings: _check_times(settings.schedule.check)),
    (("schedule.retrain",), lambda settings: _check_times(settings.schedule.retrain)),
    (("schedule.digest",), lambda settings: _check_times(settings.schedule.digest)),
)
"""Each check with the settings that it reads; it waits until they are in order one by one."""
