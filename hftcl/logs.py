"""How log lines look and where they go: stderr, one line each, secrets masked.

Rooms use the standard `logging`, and so do the libraries; the one handler, at the root, serves them all.
"""

import contextlib
import json
import logging
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Final, TextIO
from urllib.parse import quote, quote_plus

from hftcl.settings import Log

_SHORTEST: Final = 4  # characters; to mask a secret of three would garble every line and hide nothing
# What the environment variables of secrets have in their names, as those of `SECRETS`.
_CONFIDENTIAL: Final = re.compile("KEY|PASSWORD|SECRET|TOKEN|URLS")
# Of the journal, man sd-daemon; 5, notice, is for levels between.
_PRIORITY: Final = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
# What each record has anyway; what is left was given by the caller and is shown.
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_PLAIN: Final = re.compile(r"[^\s\"=]+")  # what a logfmt reader takes as one value without quotes

_bound: ContextVar[Mapping[str, object]] = ContextVar("bound", default=MappingProxyType({}))
_hidden: dict[str, str] = {}


def configure(
    settings: Log,
    verbosity: int = 0,
    *,
    service: bool = False,
    stream: TextIO | None = None,
    journal: bool | None = None,
) -> None:
    """Send every log line of this process to `stream`, in the form and from the level that `settings` say.

    stream: stderr where it is left out, as it is at each line: while bars are drawn there, lines go above them.

    verbosity: -1 warnings at most, 1 and more also "info". service: one that runs for months, where lines of level
    "info" are the only sign of life; any other command shows warnings. journal: whether systemd's journal reads along,
    so that lines carry its priority and no time; found out where it is left out.
    """
    out = sys.stderr if stream is None else stream
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    if verbosity > 0:
        level = min(level, logging.INFO)
    elif verbosity < 0 or not service:
        level = max(level, logging.WARNING)
    to_journal = _is_journal(out) if journal is None else journal
    handler = _Stderr() if stream is None else logging.StreamHandler(stream)
    handler.setFormatter(_Json(to_journal) if settings.format == "json" else _Text(to_journal))
    # Libraries say a lot at "info"; it is wanted where everything is.
    logging.basicConfig(handlers=[handler], level=level if level < logging.INFO else logging.WARNING, force=True)
    logging.getLogger("hftcl").setLevel(level)
    logging.captureWarnings(True)


@contextlib.contextmanager
def bind_fields(**fields: object) -> Iterator[None]:
    """Put `fields`, such as job="check", on every line that is logged within; those that are None are left out."""
    token = _bound.set({**_bound.get(), **{name: value for name, value in fields.items() if value is not None}})
    try:
        yield
    finally:
        _bound.reset(token)


def hide(name: str, value: str) -> None:
    """Let `mask` replace the secret `value` by `name` from now on; a setting that is no secret is left readable."""
    if not _CONFIDENTIAL.search(name):
        return
    for part in {value, *(value.split() if "URLS" in name else ())}:
        if len(part) >= _SHORTEST:
            quoted = (quote(part), quote(part, safe=""), quote_plus(part))
            written = (json.dumps(part), json.dumps(part, ensure_ascii=False), repr(part))
            for form in (part, *quoted, *(text[1:-1] for text in written)):
                _hidden[form] = name


def mask(text: str) -> str:
    """Return `text` with every secret that was read replaced by its name, such as [SMTP_PASSWORD]."""
    for value in sorted(_hidden, key=len, reverse=True):  # a long one first: another may be a part of it
        text = text.replace(value, f"[{_hidden[value]}]")
    return text


def to_one_line(text: str) -> str:
    r"""Return `text` masked, with line ends and control characters written out (\n, \x1b): none forges a line."""
    kept = mask(text)  # before what is written out garbles a secret, and after: two pieces may have become one
    return mask("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in kept))


def _is_journal(stream: TextIO) -> bool:
    """Whether `stream` is the one that systemd connected to its journal: then JOURNAL_STREAM holds its numbers."""
    named = os.environ.get("JOURNAL_STREAM", "")
    if not named:
        return False
    try:
        about = os.fstat(stream.fileno())
    except (OSError, ValueError):  # no file behind it
        return False
    return named == f"{about.st_dev}:{about.st_ino}"


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to `sys.stderr` as it is then: what draws progress there puts itself in its place while it does."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        self.stream = sys.stderr
        super().emit(record)


class _Formatter(logging.Formatter):
    """What both forms share: the time, the priority for the journal, and the fields beside the message."""

    converter = staticmethod(time.gmtime)
    default_msec_format = "%s.%03dZ"
    default_time_format = "%Y-%m-%dT%H:%M:%S"

    def __init__(self, journal: bool) -> None:
        super().__init__()
        self._journal = journal

    def find_priority(self, record: logging.LogRecord) -> str:
        return f"<{_PRIORITY.get(record.levelno, 5)}>" if self._journal else ""

    def list_fields(self, record: logging.LogRecord) -> dict[str, object]:
        given = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        return {**_bound.get(), **given}

    def fault(self, record: logging.LogRecord) -> str:
        return self.formatException(record.exc_info) if record.exc_info else record.exc_text or ""


class _Text(_Formatter):
    """`2026-01-05T07:00:01.123Z WARNING hftcl.market.store bars quarantined ticker=AAPL job=check`."""

    def format(self, record: logging.LogRecord) -> str:
        head = [] if self._journal else [self.formatTime(record)]
        fields = self.list_fields(record) | ({"exception": fault} if (fault := self.fault(record)) else {})
        extras = (f"{name}={_format_value(value)}" for name, value in fields.items())
        parts = [*head, record.levelname, record.name, to_one_line(record.getMessage()), *extras]
        return self.find_priority(record) + mask(" ".join(parts))


class _Json(_Formatter):
    """One object a line: time (UTC), level, logger, event, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": mask(record.getMessage()),
            **{name: _to_plain(value) for name, value in self.list_fields(record).items()},
        }
        if fault := self.fault(record):
            line["exception"] = mask(fault)
        return self.find_priority(record) + mask(json.dumps(line, ensure_ascii=True, allow_nan=False))


def _to_plain(value: object) -> object:
    return value if value is None or isinstance(value, (bool, int)) else mask(str(value))


def _format_value(value: object) -> str:
    text = mask(str(value))
    return text if _PLAIN.fullmatch(text) and text.isprintable() else to_one_line(json.dumps(text, ensure_ascii=False))
