"""A terminal that is closed, as by a dropped ssh connection, ends no work that goes on without it."""

import os
import pty
import sys
import termios
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TextIO, cast

import pytest

from hftcl.events import BANNER, Event, Level
from hftcl.schedule.rules import Job, Occurrence
from hftcl.systemd import Notifier
from hftcl.views.blocks import Line
from hftcl.views.bot_events import Listening, Logging, StatusLine
from hftcl.views.progress import _Live
from hftcl.views.schedule import LivePage
from hftcl.views.terminal import LastingTerminal, measure

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


class Told(Notifier):
    """A supervisor, and what it heard."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def tell_alive(self) -> None:
        self.heard.append("alive")

    def tell_status(self, text: str) -> None:
        self.heard.append(text)

    def tell_stopping(self) -> None:
        self.heard.append("stopping")


@pytest.fixture
def hung_up() -> Iterator[TextIO]:
    """Return a terminal whose other end is closed: writing to it is EIO."""
    ours, theirs = pty.openpty()
    terminal = os.fdopen(theirs, "w")
    os.close(ours)
    with pytest.raises(OSError, match="Input/output"):
        os.write(theirs, b"anybody?")
    yield terminal
    os.dup2(os.open(os.devnull, os.O_WRONLY), theirs)  # what it still holds back must go somewhere
    terminal.close()


def test_the_bot_trades_on_and_its_supervisor_hears_of_it(hung_up: TextIO) -> None:
    service = Told()
    line = StatusLine(hung_up, service, lambda: NOW)
    line.tell_alive()
    line.tell_status("trading")
    line.write("a line of the log\n")
    Logging(as_text=True, stream=cast("TextIO", line))(Event(BANNER, text="=== a model ===", level=Level.NOTE))
    line.tell_stopping()
    assert service.heard == ["alive", "trading", "stopping"]
    Listening(lambda _: None, hung_up)(Event(BANNER, text="=== a model ===", level=Level.NOTE))


def test_a_stream_that_is_closed_is_let_go_too() -> None:
    service = Told()
    with Path(os.devnull).open("w", encoding="utf-8") as stream:
        line = StatusLine(stream, service, lambda: NOW)
    line.tell_stopping()
    assert service.heard == ["stopping"]


def test_the_schedule_goes_on(hung_up: TextIO) -> None:
    line = LivePage(hung_up, UTC, lambda: (Line("no model serves"),))
    occurrence = Occurrence(Job.RETRAIN, date(2026, 1, 10), NOW)
    line.hear_wait(occurrence, NOW)
    line.hear_begin(occurrence)
    line.hear_event(Event("train", 1, 7))
    line.write("a line of the log\n")
    line.hear_stop()
    assert line._line.startswith("retrain of 2026-01-10: train 1 of 7")


def test_a_size_is_that_of_the_terminal_that_is_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where stdout is a pipe, or another terminal."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (30, 47))
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.delenv("COLUMNS", raising=False)
        monkeypatch.delenv("LINES", raising=False)
        assert LastingTerminal(terminal).size == (47, 30)
        monkeypatch.setenv("COLUMNS", "60")
        assert measure(terminal) == (60, 30)
        monkeypatch.setenv("COLUMNS", "wide")
        assert measure(terminal) == (47, 30)
    os.close(ours)
    assert measure(terminal) == (80, 24), "it is closed"


def test_a_long_command_works_on_and_gets_its_streams_back(hung_up: TextIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", hung_up)
    listen = _Live(notes=True)
    listen(Event("train", 1, 7))
    listen(Event("train", 7, 7))
    listen(Event("train", text="odd", level=Level.WARNING))
    assert sys.stderr is hung_up, "a display that is left open keeps stderr for itself"
