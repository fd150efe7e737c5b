"""One line of the doctor's. Pure. Made by every check."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from hftcl.config import Configuration
from hftcl.errors import HftclError, fold_line, split_remedy
from hftcl.market.received import TickerCoverage
from hftcl.plug_ins import find_plug_in_fault
from hftcl.settings import Settings

Status = Literal["ok", "warning", "fault"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What was looked at, how it is, and what to do; `remedy` is empty where there is nothing to do."""

    name: str
    status: Status
    detail: str
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverageRow(Row):
    """The row `coverage`: what came of the bars that were to be expected, per ticker."""

    coverage: tuple[TickerCoverage, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What is examined: the configuration in force, the environment it is read from, and the time, UTC.

    clock: dates what is mended, under the lock that it is mended under; None: `now` does.

    quietly: for who looks on, again and again, perhaps in a sandbox: without what asks another machine, holds a lock
    for a moment, or is true only of who asks.
    """

    configuration: Configuration
    environ: Mapping[str, str]
    now: datetime
    quietly: bool = False
    clock: Callable[[], datetime] | None = None

    @property
    def settings(self) -> Settings:
        return self.configuration.settings


def report_ok(name: str, detail: str) -> Row:
    return Row(name=name, status="ok", detail=detail)


def report_warning(name: str, detail: str, remedy: str) -> Row:
    return Row(name=name, status="warning", detail=detail, remedy=remedy)


def fault(name: str, detail: str, remedy: str) -> Row:
    return Row(name=name, status="fault", detail=detail, remedy=remedy)


def is_stop(error: BaseException) -> bool:
    """Return whether `error` stops the program, such as Ctrl-C: what a library in Rust panics with does not."""
    return not isinstance(error, Exception) and type(error).__module__ != "pyo3_runtime"


def build_fault(name: str, error: BaseException) -> Row:
    """Return an error as a fault: the last sentence of one of ours is what to do."""
    error = find_plug_in_fault(error) or error
    text = fold_line(str(error))
    detail, remedy = split_remedy(text)
    if isinstance(error, HftclError) and remedy:
        return fault(name, detail, remedy)
    kind = "" if isinstance(error, (HftclError, OSError)) else f"unexpected {type(error).__name__}: "
    return fault(name, f"{kind}{text}", "Mend what it names, then run this again.")
