"""What a person is told of the time that is left."""

import contextlib
import errno
import io
import json
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator
from typing import Any, TextIO

import pytest
from rich.progress import TaskID

from hftcl import logs
from hftcl.events import Event, Level
from hftcl.settings import Log
from hftcl.views.progress import _Live, _Notebook, _Plain, cut_short, end_display_after, end_displays
from hftcl.views.terminal import LastingTerminal, unwritten


def test_the_time_left_counts_only_what_this_run_did() -> None:
    now, stream = 0.0, io.StringIO()
    listen = _Plain(stream, progress=True, notes=False, clock=lambda: now)
    for done in (2, 3, 4):  # two were done before: a backtest that goes on where it was killed
        now = 65.0 * (done - 2)
        listen(Event("train", done, 7))
    assert stream.getvalue().splitlines() == [
        "train: 2 of 7",
        "train: 3 of 7, about 0:04:20 left",  # 65 s after its beginning, four of 65 s are left
        "train: 4 of 7, about 0:03:15 left",
    ]


def test_a_stage_that_comes_again_is_told_again() -> None:
    """A first retrain scores for the record in no time, and then walks forward for a minute or an hour."""
    now, stream = 0.0, io.StringIO()
    listen = _Plain(stream, progress=True, notes=False, clock=lambda: now)
    for at, done, total in ((0, 0, 1), (0, 1, 1), (0, 1, 1), (10, 0, 4), (80, 2, 4), (150, 4, 4)):
        now = float(at)
        listen(Event("record", done, total))
    assert stream.getvalue().splitlines() == [
        "record: 0 of 1",
        "record: 1 of 1, 0.0 s",
        "record: 0 of 4",
        "record: 2 of 4, about 0:01:10 left",
        "record: 4 of 4, 140.0 s",
    ]


class Terminal(io.StringIO):
    """A terminal, as far as a program can ask."""

    def isatty(self) -> bool:
        return True


def test_what_is_logged_while_a_bar_is_drawn_stands_on_its_own_line(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    listen = _Live(notes=False)
    try:
        logs.configure(Log())
        listen(Event("train", 1, 7))
        logging.getLogger("hftcl.market").warning("bars quarantined ticker=AAPL")
    finally:
        listen.end()
        logging.captureWarnings(False)
    shown = re.split(r"\r?\n|\x1b\[2K", terminal.getvalue())
    (line,) = [text for text in shown if "bars quarantined" in text]
    assert re.fullmatch(r"\S+Z WARNING hftcl\.market bars quarantined ticker=AAPL", line)


@contextlib.contextmanager
def on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """Yield a terminal of 80 columns that is stderr, to which JSON is logged."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    logs.configure(Log(format="json"))
    try:
        yield terminal
    finally:
        logging.captureWarnings(False)


def read_lines_of_log(terminal: Terminal) -> list[dict[str, object]]:
    """Return what was logged, each line an object."""
    shown = re.split(r"\r?\n|\x1b\[2K", terminal.getvalue())
    return [json.loads(text) for text in shown if text.startswith("{")]


def test_a_long_line_of_the_log_stays_one_above_a_bar_of_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    listen, words = _Live(notes=False), "bars quarantined " * 20
    with on_a_narrow_terminal(monkeypatch) as narrow:
        try:
            listen(Event("train", 1, 7))
            logging.getLogger("hftcl.market").warning(words)
            sys.stderr.write("begun, ")
            sys.stderr.write("and ended\nand begun")
            sys.stderr.flush()
        finally:
            listen.end()
        assert sys.stderr is narrow
    assert [line["event"] for line in read_lines_of_log(narrow)] == [words]
    assert {"begun, and ended", "and begun"} <= set(re.split(r"\r?\n|\x1b\[2K", narrow.getvalue()))


def test_what_other_threads_log_while_a_bar_runs_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    listen = _Live(notes=False)

    def work(thread: int) -> None:
        for number in range(20):
            logging.getLogger("hftcl.market").warning("%d %d %s", thread, number, "x" * 100)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    with on_a_narrow_terminal(monkeypatch) as narrow:
        try:
            listen(Event("train", 0, 200))
            for thread in threads:
                thread.start()
            for done in range(100):
                listen(Event("train", done, 200))
            for thread in threads:
                thread.join()
        finally:
            listen.end()
    told = {str(line["event"]).rpartition(" ")[0] for line in read_lines_of_log(narrow)}
    assert told == {f"{thread} {number}" for thread in range(3) for number in range(20)}


@pytest.fixture(params=["a pipe whose reader has left", "a full disk"])
def dead(request: pytest.FixtureRequest) -> Iterator[TextIO]:
    """Return a stream that takes nothing."""
    if request.param == "a full disk":
        descriptor = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, descriptor = os.pipe()
        os.close(reader)
    stream = os.fdopen(descriptor, "w")
    yield stream
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)  # what it still holds back must go somewhere
    stream.close()
    unwritten.clear()


def test_work_goes_on_where_its_lines_can_be_written_no_more(dead: TextIO) -> None:
    listen = _Plain(dead, progress=True, notes=True)
    for level in Level:
        listen(Event("train", 1, 7, "odd", level))
    assert [error.errno for error in unwritten] in ([], [errno.ENOSPC]), "a reader that left wants to know nothing"


class Exhausted(io.StringIO):
    """A file beyond the quota of its user."""

    def write(self, text: str) -> int:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))


def test_a_quota_that_is_used_up_is_a_full_disk() -> None:
    LastingTerminal(Exhausted()).put("a line")
    lost = [error.errno for error in unwritten]
    unwritten.clear()
    assert lost == [errno.EDQUOT]


def test_a_bar_begins_with_what_was_done_before() -> None:
    listen = _Live(notes=False)
    listen(Event("train", 2, 7))
    assert listen.display is not None
    (task,) = listen.display.tasks
    assert (task.completed, task.speed, task.time_remaining) == (2, None, None), "a step of this run sets the pace"
    listen(Event("train", 3, 7))
    listen(Event("train", 4, 7))
    assert task.speed is not None
    listen(Event("train", 7, 7))
    assert listen.display is None


def test_a_piece_of_work_ends_its_own_bars_and_not_those_of_another() -> None:
    mine, other = _Live(notes=False), _Live(notes=False)
    other(Event("train", 1, 7))
    with end_display_after(mine):
        mine(Event("train", 1, 7))
    assert mine.display is None
    assert cut_short == [mine]
    assert other.display is not None
    with end_display_after(mine):
        mine(Event("train", 7, 7))
    assert cut_short == [], "what was cut short before says nothing of the line that is shown now"
    end_displays()
    assert other.display is None
    assert cut_short == [other]


def test_bars_that_are_ended_while_an_event_is_shown_let_the_work_go_on() -> None:
    listen = _Live(notes=False)
    listen(Event("train", 1, 7))
    assert listen.display is not None
    add_task, enders = listen.display.add_task, [threading.Thread(target=listen.end)]

    def add(*words: Any, **options: Any) -> TaskID:
        added = add_task(*words, **options)
        enders[0].start()
        enders[0].join(0.1)  # it waits until the event was shown; where it did not, it would have ended
        return added

    listen.display.add_task = add  # type: ignore[method-assign]
    listen(Event("exam", 1, 7))
    enders[0].join()
    assert listen.display is None
    listen(Event("exam", 2, 7))
    assert listen.end()


class Cell:
    """A notebook's output: what was shown, each with its last form."""

    def __init__(self) -> None:
        self.shown: list[dict[str, str]] = []

    def __call__(self, data: dict[str, str]) -> "Place":
        self.shown.append(data)
        return Place(self, len(self.shown) - 1)


class Place:
    def __init__(self, cell: Cell, at: int) -> None:
        self.cell, self.at = cell, at

    def update(self, data: dict[str, str], *, raw: bool) -> None:
        assert raw
        self.cell.shown[self.at] = data


def test_a_notebook_has_one_place_for_the_bars_of_a_call_and_a_line_for_each_warning() -> None:
    now, cell = 0.0, Cell()
    listen = _Notebook(cell, notes=False, clock=lambda: now)
    for done in range(401):
        listen(Event("fit", done, 400, "<trees>"))
        if done == 200:
            assert cell.shown[0]["text/plain"] == "fit: 0 of 400 <trees>", "drawn five times a second at most"
            now = 1.0
    listen(Event("fit", text="two bars were left out", level=Level.WARNING))
    listen(Event("exam", 1, 1))
    assert [one["text/plain"] for one in cell.shown] == [
        "fit: 400 of 400 <trees>",
        "warning: two bars were left out",
        "exam: 1 of 1",
    ]
    assert '<progress max="400" value="400"></progress> fit: 400 of 400 &lt;trees&gt;' in cell.shown[0]["text/html"]


def test_what_a_file_says_moves_no_cursor_in_a_warning() -> None:
    stream = io.StringIO()
    _Plain(stream, progress=True, notes=True)(Event("collect", text="column \x1b[2Jclose", level=Level.WARNING))
    assert stream.getvalue() == "warning: column \\x1b[2Jclose\n"
