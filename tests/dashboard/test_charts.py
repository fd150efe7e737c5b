"""The charts of the dashboard: what is read out from one is what each of its drawings shows."""

import re
from datetime import date, timedelta

import pytest

from hftcl.dashboard.charts import HALF, NARROW, build_record_course, draw_record
from hftcl.learning.stories.record import RecordRow


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
    course = build_record_course(rows)
    (line,) = course.lines
    for width in (NARROW, HALF):
        drawing = draw_record(rows, width)
        bars = [(float(x), float(end)) for x, end in re.findall(r'data-x="([\d.]+)" data-x2="([\d.]+)"', drawing)]
        assert [round((x + end) / 2, 1) for x, end in bars] == line.x
        assert [label[:10] for label in course.labels] == re.findall(r"<title>(\d{4}-\d\d-\d\d)", drawing)
