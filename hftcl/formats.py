"""How a figure, a bound, a sum of money, a count, an hour and a time are written: in tables, pages and messages alike.

Pure; values in, texts out.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, time, timedelta
from typing import Final

UNDEFINED: Final = "-"  # one sign for what has no value, in tables and pages: an empty cell looks like a fault
SYNTHETIC: Final = "SYNTHETIC bars"  # in capitals: figures of invented prices must not be taken for real ones
READS_UNKNOWN: Final = "what reads it is not known"  # of a context ticker without bars: in a log and in an alert
HOUR_MINUTES: Final = 60  # the parts of a session by which exam and tracker sum up
_NAMED: Final = 5  # tickers of a reason: a watchlist may have thousands
_REASONS: Final = 10  # why tickers are left out, in an alert or a report: of most failures there is one
_FEW_SESSIONS: Final = 5  # below which a Sharpe ratio has no spread worth the name: the standard error is 7 and more
_DAY_MINUTES: Final = 24 * 60  # minutes of a clock's day: a session of a 24-hour market ends where it begins


def number(value: float | None, form: str = ".2f") -> str:
    """Format a figure by a format of Python's; None is a dash, and what rounds to zero has no minus.

    >>> number(1.234)
    '1.23'
    """
    if value is None:
        return UNDEFINED
    sign, rest = (form[0], form[1:]) if form[:1] in {"+", "-", " "} else ("", form)
    return format(float(value), f"{sign}z{rest}")


def format_sharpe(value: float | None, sessions: int | None, form: str = ".2f") -> str:
    """Format a Sharpe ratio over so many sessions (None: not known); of fewer than five it never stands alone.

    >>> format_sharpe(9.874, 4), format_sharpe(1.234, 20), format_sharpe(None, 1)
    ('9.87 (4 sessions)', '1.23', '-')
    """
    if value is None or sessions is None or not is_of_few_sessions(sessions):
        return number(value, form)
    return f"{number(value, form)} ({count(sessions, 'session')})"


def format_annual(value: float | None, sessions: int, form: str) -> str:
    """Format another figure of a year, as `format_sharpe` does: of fewer than five sessions it never stands alone.

    >>> format_annual(11.274, 1, "+.2%"), format_annual(0.15, 250, "+.2%"), format_annual(None, 1, ".2f")
    ('+1127.40% (1 session)', '+15.00%', '-')
    """
    return format_sharpe(value, sessions, form)


def is_of_few_sessions(sessions: int) -> bool:
    """Whether a Sharpe ratio over so many sessions never stands without their number."""
    return sessions < _FEW_SESSIONS


def format_interval(bounds: Sequence[float] | None, form: str = "+.2f") -> str:
    """Format two bounds, "-0.10 to +0.25"; None is a dash.

    >>> format_interval((0.5, 1.5))
    '+0.50 to +1.50'
    """
    return UNDEFINED if bounds is None else f"{number(bounds[0], form)} to {number(bounds[1], form)}"


def format_information_interval(ic: Sequence[float] | None) -> str:
    """Format an information coefficient (low, middle, high), "+0.0100 [-0.0200, +0.0400]"; None is UNDEFINED.

    >>> format_information_interval((-0.02, 0.01, 0.04))
    '+0.0100 [-0.0200, +0.0400]'
    """
    if ic is None:
        return UNDEFINED
    low, middle, high = (number(value, "+.4f") for value in ic)
    return f"{middle} [{low}, {high}]"


def describe_beyond_zero(beyond: int, intervals: int, which: str = "") -> str:
    """Say how many of the 90 % intervals leave out zero, and how many would by chance; which: which they are.

    >>> describe_beyond_zero(1, 20)
    '1 of 20 intervals leaves out zero; of features that are worth nothing about 2 would.'
    """
    said = f"{beyond} of {count(intervals, 'interval')}{which} {'leaves' if beyond == 1 else 'leave'} out zero"
    return f"{said}; of features that are worth nothing about {intervals / 10:.0f} would."


def format_money(value: float | None, *, signed: bool = False) -> str:
    """Format US dollars to the cent, "1,234.50"; `signed` puts a plus before what is above zero.

    >>> format_money(1234.5)
    '1,234.50'
    """
    return number(value, "+,.2f" if signed else ",.2f")


def format_basis_points(value: float | None) -> str:
    """Format a rate, "1.25 bp": as many digits as it has, two at most.

    >>> format_basis_points(1.5)
    '1.5 bp'
    """
    return UNDEFINED if value is None else f"{number(round(value, 2), 'g')} bp"


def format_quantity(shares: float) -> str:
    """Format shares: whole ones without a point, and no more digits than a broker keeps.

    >>> format_quantity(3.0)
    '3'
    """
    return number(round(shares, 6), ",.10g")


def count(n: int, one: str, many: str = "") -> str:
    """Return "1 session", "2 sessions": a number with its noun; many: where an s does not make the plural.

    >>> count(2, "bar")
    '2 bars'
    """
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def name_some(names: Sequence[str], most: int) -> str:
    """Return the first `most` names with commas, and how many more there are.

    >>> name_some(["AAPL", "AMD", "SPY"], 2), name_some(["AAPL", "AMD"], 2)
    ('AAPL, AMD and 1 more', 'AAPL, AMD')
    """
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def group_by_reason(reasons: Mapping[str, str], most: int = _REASONS) -> list[tuple[str, int, str]]:
    """Return the names that a reason holds for, how many they are, and the reason; the commonest first.

    The first few names of each. Where there are more than `most` reasons, the last one stands for all others.

    >>> group_by_reason({"AAPL": "no bars", "AMD": "halted", "SPY": "no bars"})
    [('AAPL, SPY', 2, 'no bars'), ('AMD', 1, 'halted')]
    >>> group_by_reason({"AAPL": "no bars", "AMD": "halted", "SPY": "no bars", "IBM": "delisted"}, 1)
    [('AAPL, SPY', 2, 'no bars'), ('2 others', 2, 'for 2 other reasons')]
    """
    groups: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        groups.setdefault(reason, []).append(name)
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))  # stable: the first comes first
    others = ordered[most:] if len(ordered) > most + 1 else []  # a single one takes no more room than to say so
    lines = [(name_some(names, _NAMED), len(names), reason) for reason, names in ordered[: len(ordered) - len(others)]]
    if others:
        n = sum(len(names) for _, names in others)
        lines.append((f"{n} others", n, f"for {len(others)} other reasons"))
    return lines


def format_size(n_bytes: float) -> str:
    """Return an amount of memory.

    >>> format_size(1_440_000_000), format_size(37_500_000)
    ('1.4 GB', '38 MB')
    """
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"


def describe_policy(name: str) -> str:
    """Return the name of a policy of promotion; "seed" with what it is, as it is no seed of random numbers.

    >>> describe_policy("seed"), describe_policy("guarded")
    ('seed (the plain rule)', 'guarded')
    """
    return f"{name} (the plain rule)" if name == "seed" else name


def format_moment(at: datetime | None) -> str:
    """Format a time to the minute, "2026-01-07 02:00"; None is a dash. Its zone is for the text around it to say.

    >>> format_moment(datetime(2026, 1, 7, 2, 0, 59))
    '2026-01-07 02:00'
    """
    return UNDEFINED if at is None else f"{at:%Y-%m-%d %H:%M}"


def format_moment_to_second(at: datetime) -> str:
    """Format a time to the second.

    >>> format_moment_to_second(datetime(2026, 1, 7, 2, 0, 59))
    '2026-01-07 02:00:59'
    """
    return f"{at:%Y-%m-%d %H:%M:%S}"


def format_clock(at: datetime | time) -> str:
    """Format what a clock shows, to the minute.

    >>> format_clock(time(9, 30))
    '09:30'
    """
    return f"{at:%H:%M}"


def format_clock_to_second(at: datetime | time) -> str:
    """Format what a clock shows, to the second.

    >>> format_clock_to_second(time(9, 30, 5))
    '09:30:05'
    """
    return f"{at:%H:%M:%S}"


def name_kind(*, synthetic: bool) -> str:
    """Return what kind of bars a model was trained on: "synthetic" or "real"."""
    return "synthetic" if synthetic else "real"


def describe_bars(source: str | None, *, synthetic: bool | None) -> str:
    """Say what bars these are: "SYNTHETIC bars", "bars from polygon"."""
    return SYNTHETIC if synthetic else f"bars from {source or UNDEFINED}"


def describe_choice(settings: Mapping[str, object]) -> str:
    """Return settings by the last part of their names, "horizon_minutes 30, drop volume+gap".

    >>> describe_choice({"model.horizon_minutes": 30, "features.drop": ("volume", "gap"), "ridge.alpha": 100.0})
    'horizon_minutes 30, drop volume+gap, alpha 100'
    """
    return ", ".join(f"{path.rpartition('.')[2]} {_format_plainly(value)}" for path, value in settings.items())


def describe_found(changes: Mapping[str, object], *, candidate: bool, reason: str) -> str:
    """Return what a week's search found, or why it has no candidate.

    >>> describe_found({"ridge.alpha": 10.0}, candidate=True, reason="cleared every bar")
    'alpha 10'
    >>> describe_found({}, candidate=True, reason="cleared every bar")
    'as in hftcl.toml'
    >>> describe_found({}, candidate=False, reason="nothing earned its cost")
    'no candidate: nothing earned its cost'
    """
    if not candidate:
        return f"no candidate: {reason}"
    return describe_choice(changes) if changes else "as in hftcl.toml"


def _format_plainly(value: object) -> str:
    if isinstance(value, tuple | list):
        return "+".join(map(str, value)) or "nothing"
    return f"{value:g}" if isinstance(value, float) else str(value)


def describe_edge(edge: str | None) -> str:
    """Return an edge of the reports in words; None is a dash.

    >>> describe_edge("live"), describe_edge("stand aside")
    ('MAY TRADE', 'MAY NOT TRADE')
    """
    return UNDEFINED if edge is None else "MAY TRADE" if edge == "live" else "MAY NOT TRADE"


def list_left_out(tickers: Mapping[str, str]) -> tuple[str, ...]:
    """Return a line for each reason for which tickers are left out."""
    return tuple(f"left out: {names}: {why}" for names, _, why in group_by_reason(tickers))


def describe_left_out(
    tickers: Mapping[str, str], context: Mapping[str, str], *, trades: bool = False
) -> tuple[str, ...]:
    """Return a sentence for each reason for which tickers are left out, then for each context ticker that is.

    trades: whether a model trades on these bars, or they are rows to learn from.

    >>> describe_left_out({"AMD": "no bars", "IBM": "no bars"}, {"SPY": "no bars"})
    ('AMD, IBM are left out: no bars', 'the context ticker SPY is left out: no bars; what reads it is not known')
    """
    told = [f"{names} {'is' if n == 1 else 'are'} left out: {why}" for names, n, why in group_by_reason(tickers)]
    follows = "what reads it opens nothing" if trades else READS_UNKNOWN
    told += [f"the context ticker {ticker} is left out: {why}; {follows}" for ticker, why in context.items()]
    return tuple(told)


def name_hour(hour: int, opens: time, minutes: int) -> str:
    """Return hour `hour` (from 0) of a session by the clock of its exchange, "15:30-16:00".

    opens: when a regular session begins there; minutes: how long it is, so that its last part is not named too long.
    """
    begin = opens.hour * HOUR_MINUTES + opens.minute + HOUR_MINUTES * hour
    end = min(begin + HOUR_MINUTES, max(begin + 1, opens.hour * HOUR_MINUTES + opens.minute + minutes))
    return f"{_format_clock(begin)}-{_format_clock(end)}"


def span(left: timedelta) -> str:
    """Return how long that is, to the minute and rounded up: "3 d 4 h", "2 h 5 min", "7 min"."""
    minutes = max(0, -(-int(left.total_seconds()) // 60))
    days, hours = divmod(minutes // HOUR_MINUTES, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes % HOUR_MINUTES} min" if hours else f"{minutes} min"


def format_timings(seconds: Mapping[str, float]) -> str:
    """Return "12.3 s: collect 1.0, fit 11.3"; without a total the parts alone."""
    parts = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items() if name != "total")
    return f"{seconds['total']:.1f} s: {parts}" if "total" in seconds else parts


def _format_clock(minutes: int) -> str:
    return f"{minutes % _DAY_MINUTES // HOUR_MINUTES:02}:{minutes % HOUR_MINUTES:02}"
