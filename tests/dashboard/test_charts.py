"""The charts of the dashboard: what is read out from one is what each of its drawings shows."""

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from hftcl.dashboard.charts import HALF, WIDE, build_day_chart, build_record_chart, draw_day, draw_record
from hftcl.dashboard.contents import TickerSession
from hftcl.learning.stories.record import RecordRow
from hftcl.pages.drawing import NARROW


def record_of(sessions: int) -> list[RecordRow]:
    return [
        RecordRow(
            session=date(2025, 1, 1) + timedelta(days=nth),
            net=0.001 * (nth % 7 - 3),
            model_id="m",
            kind="scored",
            policy="p",
            bars="",
            source="files",
            synthetic=False,
            counts=True,
            why="",
        )
        for nth in range(sessions)
    ]


@pytest.mark.parametrize("sessions", [1, 60, 80, 250])
def test_the_record_is_drawn_for_a_phone_with_the_sessions_that_its_keys_read(sessions: int) -> None:
    """Else the first key reads a session that is not drawn, and a part of the span may lie outside the drawing."""
    rows = record_of(sessions)
    chart = build_record_chart(rows)
    (line,) = chart.lines
    for width in (NARROW, HALF):
        drawing = draw_record(rows, width)
        bars = [(float(x), float(end)) for x, end in re.findall(r'data-x="([\d.]+)" data-x2="([\d.]+)"', drawing)]
        assert [round((x + end) / 2, 1) for x, end in bars] == line.x
        assert [label[:10] for label in chart.labels] == re.findall(r"<title>(\d{4}-\d\d-\d\d)", drawing)


def test_a_gain_a_loss_and_a_session_that_does_not_count_are_told_apart() -> None:
    gain, loss, pale = record_of(7)[6], record_of(1)[0], replace(record_of(7)[5], counts=False, why="corrected")
    drawing = draw_record([gain, loss, pale], WIDE)
    bars = re.findall(
        r'<rect class="([a-z ]+)"[^>]* y="([\d.]+)"[^>]* height="([\d.]+)"[^>]*>\s*<title>(.*?)<', drawing
    )
    assert [kind for kind, *_ in bars] == ["gain", "loss", "gain pale"]
    (_, top, high, _), (_, begin, _, _), (*_, told) = bars
    assert float(begin) == pytest.approx(float(top) + float(high), abs=0.11), "losses hang from the line of zero"
    assert told == "2025-01-06: +0.200%, corrected"


OPENS = datetime(2025, 6, 2, 13, 30, tzinfo=UTC)


def at(minute: int) -> datetime:
    return OPENS + timedelta(minutes=minute)


def a_day(**changes: object) -> TickerSession:
    """Return a session of three bars, with a fill before the open and one after, and decisions of some minutes."""
    targets = [(0, 0.2), (1, 0.1), (3, 0.1), (4, -0.1), (5, 0.0), (6, None)]
    given: dict[str, object] = {
        "ticker": "AMD",
        "session": OPENS.date(),
        "opens": OPENS,
        "closes": at(390),
        "zone": "America/New_York",
        "bars": pl.DataFrame(
            {
                "ts": [at(0), at(1), at(2)],
                "low": [99.0, 98.0, 97.0],
                "high": [101.0, 102.0, 103.0],
                "close": [100.0, 100.5, 101.5],
            }
        ),
        "decisions": pl.DataFrame({"ts": [at(n) for n, _ in targets], "target": [target for _, target in targets]}),
        "fills": pl.DataFrame({"ts": [at(-60), at(2)], "price": [100.0, 101.0], "quantity": [5.0, -5.0]}),
        **changes,
    }
    return TickerSession(**given)  # type: ignore[arg-type]


def test_fills_point_the_way_that_was_traded_and_stand_where_the_course_is_read_out() -> None:
    drawing, chart = draw_day(a_day(), WIDE), build_day_chart(a_day())
    marks = re.findall(
        r'<path class="(bought|sold)" d="M[\d. ]+l-4.5 (-?[\d.]+)h9z" data-x="([\d.]+)" data-y="([\d.]+)"', drawing
    )
    assert marks == [("bought", "8.0", "0", "100"), ("sold", "-8.0", "62", "101")], "minutes since what is drawn begins"
    assert chart is not None
    close, high, low = chart.lines
    assert close.x == [60.0, 61.0, 62.0], "as the fills: from an hour before the open"
    assert (close.y, high.y, low.y) == ([100.0, 100.5, 101.5], [101.0, 102.0, 103.0], [99.0, 98.0, 97.0])
    assert chart.labels[0] == "2025-06-02 09:30"


def test_the_strip_tells_runs_of_what_was_wanted_and_leaves_out_minutes_in_which_nothing_was_decided() -> None:
    runs = re.findall(r'<rect class="(\w+)"[^>]* data-x="(\d+)" data-x2="(\d+)"', draw_day(a_day(), NARROW))
    assert runs == [
        ("long", "60", "62"),
        ("long", "63", "64"),
        ("short", "64", "65"),
        ("flat", "65", "66"),
        ("held", "66", "67"),
    ]


def test_a_day_without_a_bar_shows_the_fills_and_one_without_anything_is_not_drawn() -> None:
    bare = a_day(bars=pl.DataFrame())
    assert 'class="sold"' in draw_day(bare, WIDE)
    assert build_day_chart(bare) is None
    empty = a_day().decisions.clear()
    assert draw_day(a_day(bars=pl.DataFrame(), decisions=empty, fills=a_day().fills.clear()), WIDE) == ""
