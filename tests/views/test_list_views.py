"""What a person is told in lists: the schedule, the alerts, the doctor's rows, the files of a folder."""

from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from hftcl.alerts import Alert, Kind
from hftcl.alerts.alert import Message
from hftcl.alerts.outbox import KeptAlert
from hftcl.doctor.row import fault, report_ok, report_warning
from hftcl.market.inspect import FileReport
from hftcl.schedule.reports import ComingReport, RanReport
from hftcl.views import alerts, doctor, inspect, schedule
from hftcl.views.blocks import Line, collect_blocks
from hftcl.views.watch import open_screen
from tests.views.drawn import find_style, list_grids, list_lines, read_columns

AT = datetime(2026, 11, 1, 6, 30, tzinfo=UTC)  # the second half past one of the night in which the clock is put back
LOCAL = AT.astimezone(ZoneInfo("America/New_York"))

# --- schedule ---------------------------------------------------------------------------------------------------------

COMING = ComingReport(job="check", local=LOCAL, utc=AT, note="the hour comes twice")
RAN = RanReport(job="retrain", local=LOCAL, utc=AT, state="done", outcome="rejected")


def test_what_comes_is_told_by_the_clock_of_the_schedule_with_its_zone_and_by_utc() -> None:
    (grid,) = list_grids(collect_blocks(schedule.draw_coming, [COMING]))
    assert read_columns(grid) == [
        {"job": "check", "local": "Sun 2026-11-01 01:30 EST", "UTC": "2026-11-01 06:30", "note": "the hour comes twice"}
    ]


def test_what_ran_is_told_in_red_only_where_a_person_is_to_look() -> None:
    rows = [replace(RAN, state=state) for state in ("done", "failed", "missed", "skipped", "running")]
    (grid,) = list_grids(collect_blocks(schedule.draw_ran, rows))
    assert [row[2].style for row in grid.rows] == ["green", "red", "yellow", "yellow", ""]
    assert read_columns(grid)[0] == {
        "job": "retrain",
        "was due": "Sun 2026-11-01 01:30 EST",
        "state": "done",
        "outcome": "rejected",
    }
    assert list_lines(collect_blocks(schedule.draw_ran, []))[0].startswith("Nothing was due.")


def test_what_comes_stands_above_what_ran_in_one_table_and_none_is_drawn_for_nothing() -> None:
    (grid,) = list_grids(collect_blocks(schedule.draw_both, [COMING], [replace(RAN, state="failed")]))
    assert [(row["state"], row["outcome"]) for row in read_columns(grid)] == [
        ("next", "the hour comes twice"),
        ("failed", "rejected"),
    ]
    assert grid.rows[1][2].style == "red"
    assert collect_blocks(schedule.draw_both, [], []) == ()


# --- alerts -----------------------------------------------------------------------------------------------------------


def test_an_alert_is_told_with_what_became_of_it_on_its_ways() -> None:
    alert = Alert(kind=Kind.HALTED, subject="halted", text="x", at=AT)
    message = Message(number=1, alert=alert, count=1, last_at=AT, again=False)
    rows = [
        KeptAlert(message=message, waits=0, fault=""),
        KeptAlert(message=replace(message, count=3), waits=2, fault=""),
        KeptAlert(message=message, waits=1, fault="mail: refused"),
        KeptAlert(message=message, waits=0, fault="mail: refused"),
    ]
    (grid,) = list_grids(collect_blocks(alerts.draw_alerts, rows))
    assert [row["alert"] for row in read_columns(grid)] == ["halted", "halted (3 times)", "halted", "halted"]
    assert [tuple(row[3]) for row in grid.rows] == [
        ("sent", "green"),
        ("waits", "yellow"),
        ("waits: mail: refused", "yellow"),
        ("given up: mail: refused", "red"),
    ]
    assert read_columns(grid)[0]["kind"] == "halted"
    assert list_lines(collect_blocks(alerts.draw_alerts, []))[0].startswith("No alert in the last 14 days.")


# --- doctor -----------------------------------------------------------------------------------------------------------


def test_the_doctor_s_sum_has_the_colour_of_its_worst_row() -> None:
    rows = [
        report_ok("a", "fine"),
        report_ok("b", "fine"),
        report_warning("c", "old", "Renew it."),
        fault("d", "gone", "Restore it."),
    ]
    for shown, told in (
        (rows, "2 ok, 1 warning, 1 fault."),
        (rows[:3], "2 ok, 1 warning, 0 faults."),
        (rows[:2], "2 ok, 0 warnings, 0 faults."),
    ):
        blocks = collect_blocks(doctor.draw_rows, shown)
        (grid,) = list_grids(blocks)
        assert list_lines(blocks) == [told]
        assert find_style(blocks, "2 ok") == grid.rows[-1][1].style
    assert (
        len({find_style(collect_blocks(doctor.draw_rows, shown), "2 ok") for shown in (rows, rows[:3], rows[:2])}) == 3
    )
    assert list_lines(collect_blocks(doctor.draw_row, rows[2])) == ["c: old. Renew it."]
    assert list_lines(collect_blocks(doctor.draw_row, rows[0])) == ["a: fine"]
    assert find_style(collect_blocks(doctor.draw_row, rows[0]), "a: fine") == "", "what is well does not shout"


def test_what_keeps_several_checks_of_the_doctor_from_working_is_told_once_with_what_to_do() -> None:
    rows = [
        report_warning("secrets", ".env: line 3 is not KEY=value.", "Correct that line."),
        fault("source", ".env: line 3 is not KEY=value", "Mend what it names."),
        *(report_ok(name, "fine") for name in ("a", "b")),
        fault("alerts", ".env: line 4 is not KEY=value", "Set it."),
        fault("ledger", ".env: line 3 is not KEY=value", "Correct that line."),
    ]
    (grid,) = list_grids(collect_blocks(doctor.draw_rows, rows))
    assert [(row["result"], row["found"], row["what to do"]) for row in read_columns(grid)] == [
        ("warning", ".env: line 3 is not KEY=value.", "Correct that line."),
        ("fault", "the same as secrets", "Mend what it names."),
        ("ok", "fine", ""),
        ("ok", "fine", ""),
        ("fault", ".env: line 4 is not KEY=value", "Set it."),
        ("fault", "the same as secrets", ""),
    ]


# --- files ------------------------------------------------------------------------------------------------------------

FILE = FileReport(
    file="a.csv",
    layout="kibot",
    tickers=("A", "B", "C", "D", "E"),
    columns={"open": "Open", "ts": "Date"},
    stamps="12/31/2025",
    interval_s=60,
    zone="America/New_York",
    label="start",
    price_unit=0.01,
    adjusted=False,
    rows=12_345,
    first=AT,
    last=AT,
    coverage=0.987,
    sure=True,
    guesses=("the zone",),
    evidence=("volume peaks at the open",),
    day=((), (1.0, 4.0), ()),
)


def test_a_file_is_told_in_a_row_and_what_is_not_known_of_it_is_asked() -> None:
    guessed = replace(FILE, file="b.csv", zone=None, label=None, sure=False, coverage=None, interval_s=None, day=())
    refused = replace(FILE, file="c.csv", refused="no time in it", tickers=("A",), rows=0, first=None, day=())
    ignored = FileReport(file="d.txt", ignored="no table")
    blocks = collect_blocks(inspect.draw_files, [FILE, guessed, refused, ignored])
    (grid,) = list_grids(blocks)
    whole, unsure, broken, _ = read_columns(grid)
    assert (whole["tickers"], whole["rows"], whole["interval"], whole["coverage"]) == (
        "A, B, C +2",
        "12,345",
        "60 s",
        "99%",
    )
    assert [unsure[name] for name in ("zone", "label", "interval", "coverage")] == ["?", "?", "", ""]
    assert (broken["tickers"], broken["rows"], broken["from"]) == ("A", "", "")
    assert [tuple(row[-1]) for row in grid.rows] == [
        ("read", "green"),
        ("read", "yellow"),
        ("refused", "bold red"),
        ("ignored", "dim"),
    ]
    assert list_lines(blocks)[-2:] == ["refused: no time in it", "ignored: d.txt: no table"]


@pytest.mark.parametrize(
    ("unit", "adjusted", "told"),
    [
        (0.01, False, "in units of 0.01, not adjusted for splits"),
        (1.0, True, "as they are, adjusted for splits"),
        (None, None, "as they are, adjusted for splits or not, not said"),
    ],
)
def test_of_a_file_s_prices_it_is_told_what_one_means_and_whether_splits_are_in_them(
    unit: float | None, adjusted: bool | None, told: str
) -> None:
    lines = list_lines(collect_blocks(inspect.draw_files, [replace(FILE, price_unit=unit, adjusted=adjusted)]))
    assert lines[1] == "a.csv: volume by 1 minute a cell, against the exchange's hours [ ]"
    assert lines[3:] == [
        "  columns: open = 'Open', ts = 'Date'",
        f"  stamps: 12/31/2025; prices: {told}",
        "  volume peaks at the open",
        "  guess: the zone",
    ]


# --- a view that is drawn again and again -----------------------------------------------------------------------------


def test_a_log_gets_what_is_new_under_its_time_and_nothing_where_nothing_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    with open_screen() as screen:
        assert screen.in_lines
        screen.draw([Line("one"), Line("two  words")], AT)
        screen.draw([Line("two words"), Line("one")], AT)
        screen.draw([Line("one"), Line("three")], AT)
        screen.draw([Line("two words")], AT)
    stamp = "# 2026-11-01 06:30:00 UTC"
    assert capsys.readouterr().out.splitlines() == [stamp, "one", "two  words", stamp, "three", stamp, "two words"]
