"""What a person is told of the time that is left."""

import io

from hftcl.events import Event
from hftcl.views.progress import _Live, _Plain


def test_the_time_left_counts_only_what_this_run_did() -> None:
    now, stream = 0.0, io.StringIO()
    listen = _Plain(stream, progress=True, notes=False, clock=lambda: now)
    for done in (2, 3, 4):  # two were done before: a backtest that goes on where it was killed
        now = 65.0 * (done - 2)
        listen(Event("train", done, 7))
    assert stream.getvalue().splitlines() == [
        "train: 2 of 7",
        "train: 3 of 7, about 4 min left",  # 65 s after its beginning, four of 65 s are left
        "train: 4 of 7, about 3 min left",
    ]


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
