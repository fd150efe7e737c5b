"""What a story tells, and that nothing of it depends on who hears it."""

import errno
import logging
import os
import time

import pytest

from hftcl.events import Event, Stopwatch, keep_from_ending

CLOSED = ValueError("I/O operation on closed file.")  # as Python says it


@pytest.mark.parametrize("last", [OSError(errno.EPIPE, os.strerror(errno.EPIPE)), CLOSED], ids=str)
def test_orders_go_on_whatever_a_listener_raises_and_it_is_asked_no_more_once_its_stream_is_gone(
    last: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    faults = {"two": KeyError("no such colour"), "three": ValueError("no number"), "five": last}
    asked = list[str]()

    def listen(event: Event) -> None:
        asked.append(event.text)
        if event.text in faults:
            raise faults[event.text]

    tell = keep_from_ending(listen)
    with caplog.at_level(logging.WARNING, "hftcl.events"):
        for text in ("one", "two", "three", "four", "five", "six"):
            tell(Event("close", text=text))
    assert asked == ["one", "two", "three", "four", "five"]
    assert [record.getMessage().split(" error=")[0] for record in caplog.records] == [
        "could not be shown stage=close text=two",
        "could not be shown stage=close text=three",
        "what happens is shown no more",
    ]


def test_a_stage_within_another_counts_for_itself_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    watch = Stopwatch(began=now[0])
    with watch("fit"):
        now[0] += 5
        with watch("exam"):
            now[0] += 2
        now[0] += 1
    with watch("exam"):
        now[0] += 0.5
    assert watch.list_timings() == {"exam": 2.5, "fit": 6.0, "total": 8.5}
