"""The reader behind the pages: it outlives what a reading does, reads no more than it must, and says of when it is."""

import contextlib
import itertools
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from polars.exceptions import PanicException

from hftcl.alerts import Alert, Kind
from hftcl.alerts.outbox import KEPT, Outbox
from hftcl.dashboard import reader as reading
from hftcl.dashboard.contents import AlertsContent, Content
from hftcl.dashboard.parts import PARTS, DashboardInputs
from hftcl.dashboard.reader import PartFault, Reader, read_safely
from hftcl.errors import HftclError, NoDataError
from hftcl.home import Home
from hftcl.schedule.stop import StopRequest
from hftcl.views.blocks import Line
from tests.config.configured import loaded
from tests.installed import PATIENCE_S
from tests.processes import wait_until

BEGIN = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)


def panic(_: DashboardInputs) -> Content:
    raise PanicException("a panic of a library")  # of polars, and no Exception


def hold(reader: Reader, until: threading.Event) -> "Future[Content | PartFault]":
    """Ask what takes until `until`; return once it is being read."""
    entered = threading.Event()

    def read(_: DashboardInputs) -> Content:
        entered.set()
        until.wait(PATIENCE_S)
        return Content(blocks=())

    answer = reader.ask("slow", read)
    assert entered.wait(PATIENCE_S)
    return answer


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """Return a reader that has begun, of an empty home; its clock goes on by a second at each look."""
    seconds = itertools.count()
    inputs = DashboardInputs(configuration=loaded(tmp_path), environ={}, now=BEGIN)
    made = Reader(inputs, lambda: BEGIN + timedelta(seconds=next(seconds)), lambda: None)
    made.start()
    assert made.wait_first(PATIENCE_S)
    yield made
    made.stop()


def test_what_a_library_raises_is_shown_and_the_next_question_is_answered(reader: Reader) -> None:
    told = reader.ask("panic", panic).result(PATIENCE_S)
    assert isinstance(told, PartFault)
    assert "unexpected PanicException: a panic of a library" in told.lines[0]
    assert reader.ask("next", lambda _: Content(blocks=(Line("7"),))).result(PATIENCE_S) == Content(blocks=(Line("7"),))


@pytest.mark.parametrize("stop", [StopRequest, KeyboardInterrupt, SystemExit])
def test_a_reading_keeps_nothing_that_stops_the_program(stop: type[BaseException]) -> None:
    def read() -> Content:
        raise stop

    with pytest.raises(stop):
        read_safely(read)


def test_a_question_whose_page_was_left_does_not_end_the_reader(reader: Reader) -> None:
    held = threading.Event()
    first = hold(reader, held)
    left = reader.ask("left", lambda _: Content(blocks=()))
    left.cancel()
    held.set()
    assert first.result(PATIENCE_S) == reader.ask("next", lambda _: Content(blocks=())).result(PATIENCE_S)


def test_the_time_that_is_told_is_of_the_bot_s_figures_and_not_of_what_is_read_beside_them(reader: Reader) -> None:
    held = threading.Event()
    asked = hold(reader, held)
    before = reader.looked_at
    slow = [part.name for part in PARTS if part.slow]
    wait_until(lambda: all(reader.list_readings()[name].content is not None for name in slow))
    assert reader.looked_at == before
    held.set()
    asked.result(PATIENCE_S)


# --- what is read, and when -------------------------------------------------------------------------------------------


@dataclass
class Watched:
    """A reader that looks at its files again and again, and the times at which it asked for the time."""

    home: Path
    asked: list[datetime] = field(default_factory=list)
    reader: Reader = field(init=False)

    def __post_init__(self) -> None:
        inputs = DashboardInputs(configuration=loaded(self.home), environ={}, now=BEGIN)
        self.reader = Reader(inputs, self.tell_time, lambda: None)

    def tell_time(self) -> datetime:
        self.asked.append(BEGIN + timedelta(seconds=len(self.asked)))
        return self.asked[-1]

    def count_alerts(self) -> int:
        content = self.reader.list_readings()["alerts"].content
        return len(content.alerts) if isinstance(content, AlertsContent) else 0

    def put_alert(self, subject: str = "x") -> None:
        Outbox(self.home).put(Alert(kind=Kind.HALTED, subject=subject, text="x", at=BEGIN), ["mail"], repeat=KEPT)

    def wait_rounds(self) -> None:
        """Wait until it went round a few times more: each time it asks what time it is."""
        before = len(self.asked)
        wait_until(lambda: len(self.asked) > before + 5, "a few rounds")

    def settle(self) -> int:
        """Wait for a few rounds in which nothing was read, and return how many readings there were.

        An alert is shown once its own part was read: others that watch its file may be read after it.
        """

        def is_quiet() -> bool:
            before = self.reader.reads
            self.wait_rounds()
            return self.reader.reads == before

        wait_until(is_quiet, "rounds in which nothing is read")
        return self.reader.reads


@contextlib.contextmanager
def watching(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    """Give a reader of the quick parts alone, that has read them once and looks a hundred times a second."""
    monkeypatch.setattr(reading, "_LOOK_S", 0.01)
    monkeypatch.setattr(reading, "_SHARE", 0)
    monkeypatch.setattr(reading, "PARTS", tuple(part for part in PARTS if not part.slow))
    watched = Watched(home)
    watched.reader.start()
    try:
        assert watched.reader.wait_first(PATIENCE_S)
        yield watched
    finally:
        watched.reader.stop()


def test_a_part_whose_file_changed_is_read_again_and_only_other_content_is_another_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with watching(tmp_path, monkeypatch) as watched:
        watched.put_alert()
        wait_until(lambda: watched.count_alerts() == 1, "the alert")
        reads, before = watched.settle(), watched.reader.list_readings()["alerts"].version
        os.utime(Home(tmp_path).alerts, ns=(1, 1))
        wait_until(lambda: watched.reader.reads > reads, "a reading")
        assert watched.reader.list_readings()["alerts"].version == before
        watched.put_alert("another")
        wait_until(lambda: watched.reader.list_readings()["alerts"].version > before, "another version")


def test_a_part_that_took_long_is_not_read_again_before_many_times_as_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with watching(tmp_path, monkeypatch) as watched:
        monkeypatch.setattr(reading, "_SHARE", 1e12)
        watched.put_alert()
        watched.wait_rounds()
        assert watched.count_alerts() == 0
        monkeypatch.setattr(reading, "_SHARE", 0)
        wait_until(lambda: watched.count_alerts() == 1, "the alert")


def test_while_no_page_is_open_nothing_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with watching(tmp_path, monkeypatch) as watched:
        monkeypatch.setattr(reading, "_WATCHED_S", -1.0)
        watched.wait_rounds()
        looked_at = watched.reader.looked_at
        watched.put_alert()
        watched.wait_rounds()
        assert (watched.count_alerts(), watched.reader.looked_at) == (0, looked_at), "what is told is of then"
        monkeypatch.setattr(reading, "_WATCHED_S", 90.0)
        wait_until(lambda: watched.count_alerts() == 1, "the alert")
        assert watched.reader.looked_at > looked_at


def test_a_part_that_shows_times_is_read_again_though_nothing_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    often = tuple(replace(part, at_least_s=0.0) if part.name == "schedule" else part for part in PARTS)
    with watching(tmp_path, monkeypatch) as watched:
        before = watched.reader.list_readings()
        monkeypatch.setattr(reading, "PARTS", often)
        another = Watched(tmp_path)
        another.reader.start()
        assert another.reader.wait_first(PATIENCE_S)
        first = another.reader.list_readings()
        wait_until(lambda: another.reader.list_readings()["schedule"].at != first["schedule"].at, "another reading")
        assert another.reader.list_readings()["record"].at == first["record"].at
        another.reader.stop()
        assert watched.reader.list_readings()["schedule"].at == before["schedule"].at, "a minute is not over"


def test_a_question_is_answered_from_memory_until_a_file_changes_and_few_answers_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    with watching(tmp_path, monkeypatch) as watched:

        def ask(number: int) -> None:
            def look(_: DashboardInputs) -> Content:
                read.append(number)
                return Content(blocks=())

            watched.reader.ask(number, look).result(PATIENCE_S)

        ask(0)
        ask(0)
        assert read == [0]
        watched.put_alert()
        ask(0)
        assert read == [0, 0]
        for number in range(1, 33):
            ask(number)
        ask(32)
        ask(1)
        assert read == [0, *range(33)]
        ask(0)
        assert read[-1] == 0, "the oldest of 33 answers was not kept"


def test_a_reader_that_does_not_come_round_is_told_apart(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    held = threading.Event()
    asked = hold(reader, held)
    assert reader.is_alive
    monkeypatch.setattr(reading, "_STUCK_S", 0.0)
    assert not reader.is_alive
    held.set()
    asked.result(PATIENCE_S)


def test_nothing_yet_is_no_fault_and_a_fault_is_told_in_its_words() -> None:
    def fail(error: Exception) -> Content:
        raise error

    nothing, broken, disk = (
        read_safely(lambda error=error: fail(error))  # type: ignore[misc]
        for error in (NoDataError("Nothing\nyet."), HftclError("It broke."), OSError(5, "Input/output error"))
    )
    assert nothing == PartFault(lines=("Nothing", "yet."), quiet=True)
    assert broken == PartFault(lines=("It broke.",))
    assert isinstance(disk, PartFault)
    assert not disk.quiet
