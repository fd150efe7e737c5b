"""Python's collector stops the process for as long as it takes: never between a minute's bars and its orders."""

import gc
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import pytest

from tests.trading.bot_stand import HALF_DAY, archived, some_minutes, stand

MINUTES = 6  # of a session


@pytest.fixture
def eager_collector() -> Iterator[None]:
    """Let Python collect after each few hundred objects, as it does now and then in a large process."""
    before = gc.get_threshold()
    gc.set_threshold(200, 5, 1000)
    yield
    gc.set_threshold(*before)


@pytest.mark.usefixtures("eager_collector")
def test_nothing_is_collected_between_the_bars_of_a_minute_and_its_orders(tmp_path: Path) -> None:
    archived(tmp_path)
    bot = stand(tmp_path, day=HALF_DAY)
    glances: list[float] = []
    in_time, after = [0], [0]

    def look_at_watch() -> float:  # as a minute begins, and when its last order is with the broker
        glances.append(perf_counter())
        return glances[-1]

    def note(phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            (in_time if len(glances) % 2 else after)[0] += 1

    bot.loop.bot.production.desk.stopwatch = look_at_watch
    gc.callbacks.append(note)
    try:
        bot.run(HALF_DAY, some_minutes(0, MINUTES, HALF_DAY))
    finally:
        gc.callbacks.remove(note)
    assert len(glances) == 2 * MINUTES
    assert in_time == [0]
    assert after[0] >= MINUTES, "what has come together is collected after the orders"
    assert (gc.isenabled(), gc.get_freeze_count()) == (True, 0), "left as it was"
    bot.close()
