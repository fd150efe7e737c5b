"""The reader behind the pages: it outlives what a reading does, and says of when its figures are."""

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hftcl.dashboard.contents import Content
from hftcl.dashboard.parts import PARTS, Sight
from hftcl.dashboard.reader import Fault, Reader, read_safely
from hftcl.views.blocks import Line
from tests.config.configured import loaded
from tests.installed import PATIENCE_S
from tests.processes import wait_until

BEGIN = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)


class Panic(BaseException):
    """As `PanicException` of polars, which is no Exception."""


def panic(_: Sight) -> Content:
    raise Panic("a panic of a library")


def end() -> Content:
    raise SystemExit


def hold(reader: Reader, until: threading.Event) -> "Future[Content | Fault]":
    """Ask what takes until `until`; return once it is being read."""
    entered = threading.Event()

    def read(_: Sight) -> Content:
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
    sight = Sight(configuration=loaded(tmp_path), environ={}, now=BEGIN)
    made = Reader(sight, lambda: BEGIN + timedelta(seconds=next(seconds)), lambda: None)
    made.start()
    assert made.wait_first(PATIENCE_S)
    yield made
    made.stop()


def test_what_a_library_raises_is_shown_and_the_next_question_is_answered(reader: Reader) -> None:
    told = reader.ask("panic", panic).result(PATIENCE_S)
    assert isinstance(told, Fault)
    assert "unexpected Panic: a panic of a library" in told.lines[0]
    with pytest.raises(SystemExit):
        read_safely(end)
    assert reader.ask("next", lambda _: Content(blocks=(Line("7"),))).result(PATIENCE_S) == Content(blocks=(Line("7"),))


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
