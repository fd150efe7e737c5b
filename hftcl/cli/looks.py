"""The commands that only look, and the words by which they are asked most: those are read here.

To load the library of options takes five times as long as to start Python, and who looks asks again and again. Whatever
is not exactly one of these forms is left to that library, and so is each word on what is wrong with it.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from hftcl.cli.invocation import Invocation, now
from hftcl.values import Value, value_class

Given = Mapping[str, int]
"""The options that were given, each with its number; of a flag it is 1."""


def show_history(
    invocation: Invocation, *, limit: int | None = None, lineage: bool = False, as_json: bool = False
) -> None:
    """Show every model with its exam and verdict; limit: the newest so many."""
    from hftcl.home import Home
    from hftcl.learning.stories.history import history
    from hftcl.views import archive, show

    settings = invocation.read_configuration_without_plugins().settings
    rows = history(Home.of(settings).root, calendar=settings.market.calendar, limit=limit, lineage=lineage)
    show(rows, archive.draw_lineage if lineage else archive.draw_history, as_json)


def show_status(invocation: Invocation, *, as_json: bool = False) -> None:
    """Show what the bot is doing."""
    from hftcl.trading.run.status import read_status
    from hftcl.views import show, trading

    show(read_status(invocation.read_configuration_without_plugins().settings), trading.draw_status, as_json)


def show_preview(invocation: Invocation, *, preview: int, as_json: bool = False) -> None:
    """Show the next `preview` jobs of the schedule."""
    from zoneinfo import ZoneInfo

    from hftcl.home import Home
    from hftcl.schedule import plan, reports
    from hftcl.schedule.claims import Occurrences
    from hftcl.views import schedule, show

    settings = invocation.read_configuration_without_plugins().settings
    accounted = Occurrences(Home.of(settings).root).list_known()
    zone = ZoneInfo(settings.schedule.timezone)
    show(reports.preview(plan.build_rules(settings), zone, now(), accounted, preview), schedule.draw_coming, as_json)


@value_class(frozen=True, slots=True, kw_only=True)
class _Look(Value):
    """A command as far as it looks. number: the option with a whole number; needed: the one that makes it a look."""

    show: Callable[[Given], None]
    flags: tuple[str, ...] = ("--json",)
    number: str = ""
    needed: str = ""


_LOOKS: Final = {
    "history": _Look(
        show=lambda given: show_history(
            Invocation(), limit=given.get("--limit"), lineage="--lineage" in given, as_json="--json" in given
        ),
        flags=("--json", "--lineage"),
        number="--limit",
    ),
    "trade": _Look(
        show=lambda given: show_status(Invocation(), as_json="--json" in given),
        flags=("--json", "--status"),
        needed="--status",
    ),
    "schedule": _Look(
        show=lambda given: show_preview(Invocation(), preview=given["--preview"], as_json="--json" in given),
        number="--preview",
        needed="--preview",
    ),
}
_DIGITS: Final = 4  # of a number: below each largest one that the commands take


def find_look(arguments: Sequence[str]) -> Callable[[], None] | None:
    """Return what shows the look that `arguments` ask for; None where they are anything else.

    >>> find_look(["history", "--limit", "3"]) is None, find_look(["history", "--limit", "three"]) is None
    (False, True)
    """
    look = _LOOKS.get(arguments[0]) if arguments else None
    if look is None:
        return None
    given: dict[str, int] = {}
    words = iter(arguments[1:])
    for word in words:
        number = next(words, "") if word == look.number else "1"
        known = word in look.flags or word == look.number
        if not known or word in given or not _is_count(number):
            return None
        given[word] = int(number)
    return partial(look.show, given) if not look.needed or look.needed in given else None


def _is_count(text: str) -> bool:
    return text.isdecimal() and len(text) <= _DIGITS and int(text) > 0
