"""What a person is told of the archive: its history, the record, a comparison, a rollback, notes."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from hftcl.archive.note_rows import Note
from hftcl.archive.record import EdgeInForce
from hftcl.archive.records import Deployment, RollbackPlan
from hftcl.learning.archive_reports import Gap, HistoryRow, NoteReport, RollbackReport, UnpinReport
from hftcl.learning.stories.diff import DiffReport, FieldDifference, SharedExam
from hftcl.learning.stories.record import RecordRow
from hftcl.views import archive
from hftcl.views.blocks import collect_blocks
from tests.archive.sample_models import T0, added, archive_in
from tests.views.drawn import find_style, list_grids, list_lines, read_columns

AT = datetime(2026, 1, 9, 2, 5, tzinfo=UTC)
ROW = HistoryRow(
    model_id="20260109_020500",
    trained_date=AT,
    val_sharpe=1.234,
    sharpe_interval=(-0.5, 3.0),
    is_deployed=True,
    pinned=False,
    outcome="deployed",
    reason="met every condition",
    served=((AT, None),),
    parent=None,
    source="polygon",
    synthetic=False,
    family="forest",
    trained_from=date(2025, 11, 3),
    trained_to=date(2025, 12, 5),
    exam_from=date(2025, 12, 8),
    exam_to=date(2026, 1, 8),
    exam_sessions=20,
    rows=149_000,
    sessions=40,
    tickers=("AAPL",),
    sha256="0" * 64,
    kept=True,
    edge="live",
    twin=None,
)
OLDER = replace(
    ROW,
    model_id="20260102_020000",
    val_sharpe=-0.5,
    is_deployed=False,
    served=((AT - timedelta(days=7), AT),),
    edge="stand aside",
)


def draw_row(**changes: object) -> dict[str, str]:
    (grid,) = list_grids(collect_blocks(archive.draw_history, [replace(ROW, **changes)]))  # type: ignore[arg-type]
    return read_columns(grid)[0]


# --- history ----------------------------------------------------------------------------------------------------------


def test_a_row_of_the_history_tells_training_exam_permission_and_service() -> None:
    assert draw_row(max_rows=50_000) == {
        "model": "20260109_020500",
        "trained, UTC": "2026-01-09 02:05",
        "on sessions": "2025-11-03 to 2025-12-05",
        "rows": "149000, at most 50000 a fit",
        "Sharpe (90 %)": "1.23 (-0.5 to 3.0)",
        "verdict": "deployed",
        "may trade": "yes",
        "serves": "now, since 2026-01-09",
        "bars": "polygon",
        "why": "met every condition",
    }


def test_a_history_says_of_each_model_when_it_served_and_that_one_is_pinned() -> None:
    spans = ((AT, AT + timedelta(days=2)), (AT + timedelta(days=4), AT + timedelta(days=5)))
    assert draw_row(pinned=True)["serves"] == "now, since 2026-01-09, PINNED"
    assert draw_row(exam_sessions=4)["Sharpe (90 %)"] == "1.23 (4 sessions) (-0.5 to 3.0)"
    assert draw_row(served=())["serves"] == "now", "put there by hand, so that no time is known"
    assert draw_row(is_deployed=False, served=())["serves"] == "never"
    served = draw_row(is_deployed=False, served=spans)["serves"]
    assert served == "2026-01-09 to 2026-01-11, 2026-01-13 to 2026-01-14"


def test_what_an_adopted_model_never_told_is_a_dash_and_not_a_claim() -> None:
    row = draw_row(
        outcome="adopted", trained_date=None, trained_from=None, rows=0, sharpe_interval=None, edge=None, served=()
    )
    assert [row[name] for name in ("trained, UTC", "on sessions", "rows", "may trade", "serves")] == ["-"] * 5
    assert row["Sharpe (90 %)"] == "1.23"


def test_invented_bars_are_named_so_in_the_history_and_their_column_is_never_left_out() -> None:
    invented, real = replace(ROW, synthetic=True), OLDER
    (grid,) = list_grids(collect_blocks(archive.draw_history, [invented, real]))
    assert [row["bars"] for row in read_columns(grid)] == ["SYNTHETIC", "polygon"]
    assert "bars" not in grid.spare
    (grid,) = list_grids(collect_blocks(archive.draw_history, [real]))
    assert "bars" in grid.spare


def test_a_history_tells_gaps_notes_and_tags_and_the_course_of_the_exams_oldest_first() -> None:
    gap = Gap(first=date(2025, 12, 1), last=date(2025, 12, 3), sessions=3)
    rows = [
        replace(ROW, gaps=(gap,), notes=(Note(at=AT, text="after the outage"),), tags=("keep", "x")),
        OLDER,
        replace(OLDER, outcome="adopted", val_sharpe=99.0),
    ]
    lines = list_lines(collect_blocks(archive.draw_history, rows))
    assert lines[0].startswith("Before 20260109_020500 the record lacks 2025-12-01 to 2025-12-03 (3 sessions): nothing")
    assert lines[1:3] == [
        "20260109_020500 is tagged keep, x",
        "20260109_020500, noted 2026-01-09 02:05 UTC: after the outage",
    ]
    assert lines[3] == "Sharpe of the exams, oldest to newest: ▁█", "without that of another program"
    alone = list_lines(collect_blocks(archive.draw_history, [ROW]))
    assert not [line for line in alone if line.startswith("Sharpe of the exams")], "one point is no line"


def test_a_model_that_serves_stands_out_and_each_verdict_has_its_colour() -> None:
    rows = [ROW, *(replace(OLDER, outcome=outcome) for outcome in ("rejected", "inconclusive", "adopted"))]
    (grid,) = list_grids(collect_blocks(archive.draw_history, rows))
    assert [row[0].style for row in grid.rows] == ["bold green", "", "", ""]
    assert [row["may trade"] for row in read_columns(grid)] == ["yes", "no", "no", "no"]
    assert [row[5].style for row in grid.rows] == ["green", "red", "yellow", ""]
    (short,) = list_grids(collect_blocks(archive.draw_verdicts, [replace(ROW, synthetic=True), OLDER]))
    assert [row["why"] for row in read_columns(short)] == ["SYNTHETIC bars, met every condition", "met every condition"]
    assert collect_blocks(archive.draw_verdicts, []) == ()


def test_a_lineage_tells_which_features_came_and_which_went_from_model_to_model() -> None:
    first = replace(OLDER, features=("a", "b"))
    second = replace(ROW, features=("b", "c"), dropped={"d": -0.00012})
    silent = replace(OLDER, model_id="20251226_020000")
    lines = list_lines(collect_blocks(archive.draw_lineage, [second, first, silent]))
    assert lines[-2:] == [
        "20260109_020500 reads 2 features; d (-0.00012) left out; against 20260102_020000: +c -a",
        "20260102_020000 reads 2 features",
    ]
    same = list_lines(collect_blocks(archive.draw_lineage, [replace(second, features=("a", "b")), first]))
    assert same[-2].endswith("against 20260102_020000: the same")


# --- which one serves -------------------------------------------------------------------------------------------------


def test_it_is_told_since_when_a_model_serves_whether_it_is_pinned_and_what_speaks_against_it() -> None:
    put = Deployment(
        number=1,
        model_id="m",
        replaced=None,
        at=AT,
        kind="rollback",
        reason="",
        by="a",
        pending=False,
        unpinned_at=None,
    )
    blocks = collect_blocks(archive.draw_serving, "m", put, None, "it was trained on other bars")
    assert list_lines(blocks) == [
        "m serves since 2026-01-09 02:05 UTC, by rollback, pinned",
        "It cannot serve this market: it was trained on other bars",
    ]
    for changed in (replace(put, unpinned_at=AT, reason="better"), replace(put, kind="deploy", reason="better")):
        (line,) = list_lines(collect_blocks(archive.draw_serving, "m", changed, None))
        assert line == f"m serves since 2026-01-09 02:05 UTC, by {changed.kind}: better"


@pytest.mark.parametrize(
    ("edge", "style"), [("live", "bold green"), ("stand aside", "bold yellow"), (None, "bold yellow")]
)
def test_only_a_permission_to_trade_is_green(edge: str | None, style: str) -> None:
    blocks = collect_blocks(archive.draw_permission, EdgeInForce(edge=edge, reason="P(edge) 0.31"))
    assert find_style(blocks, "") == style


# --- a change by hand -------------------------------------------------------------------------------------------------


def test_a_rollback_says_on_stderr_what_serves_what_will_and_that_it_will_be_pinned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = archive_in(tmp_path)
    target, current = added(models), replace(added(models, T0 + timedelta(days=7)), source="polygon", synthetic=False)
    archive.draw_rollback_plan(RollbackPlan(current=current, target=target))
    out, err = capsys.readouterr()
    assert out == "", "stdout is for the report"
    now, then, pin = err.splitlines()
    assert now.startswith(f"serves now: {current.model_id}, trained 2025-11-03 to 2025-12-05 on polygon bars, exam")
    assert then.startswith(f"will serve: {target.model_id}, trained 2025-11-03 to 2025-12-05 on SYNTHETIC bars, exam")
    assert then.endswith("exam Sharpe -1.25 (1 session)")
    assert "pinned" in pin
    archive.draw_rollback_plan(RollbackPlan(current=None, target=target))
    assert capsys.readouterr().err.startswith("serves now: no model\n")


def test_after_a_rollback_and_an_unpin_it_is_told_what_changed_and_what_was_mended() -> None:
    report = RollbackReport(
        rolled_back=True, from_model="b", to_model="a", pinned=True, reason="r", repaired=("a file was restored",)
    )
    assert list_lines(collect_blocks(archive.draw_rollback, report)) == [
        "repaired: a file was restored",
        "a serves now, in place of b. It is pinned until `hftcl unpin`.",
    ]
    alone = list_lines(collect_blocks(archive.draw_rollback, replace(report, from_model=None, repaired=())))
    assert alone == ["a serves now. It is pinned until `hftcl unpin`."]
    assert list_lines(collect_blocks(archive.draw_unpin, UnpinReport(unpinned=None))) == ["Nothing was pinned."]
    unpinned = UnpinReport(unpinned="a", repaired=("the registry",))
    assert list_lines(collect_blocks(archive.draw_unpin, unpinned)) == [
        "repaired: the registry",
        "a is no longer pinned: the next retrain may replace it.",
    ]


def test_of_a_model_without_a_note_and_a_tag_that_is_said_and_with_one_of_them_it_is_not() -> None:
    bare = NoteReport(model_id="m", notes=(), tags=())
    assert list_lines(collect_blocks(archive.draw_note, bare)) == ["Nothing is noted of m, and it has no tag."]
    assert list_lines(collect_blocks(archive.draw_note, replace(bare, tags=("keep",)))) == ["m is tagged keep"]
    noted = replace(bare, notes=(Note(at=AT, text="why"),), repaired=("mended",))
    assert list_lines(collect_blocks(archive.draw_note, noted)) == [
        "repaired: mended",
        "m, noted 2026-01-09 02:05 UTC: why",
    ]


# --- a comparison -----------------------------------------------------------------------------------------------------


def test_two_models_are_compared_on_the_sessions_of_both_exams_and_few_sessions_are_said() -> None:
    shared = SharedExam(
        sessions=4,
        from_="2026-01-05",
        to="2026-01-08",
        sharpe_a=1.5,
        sharpe_b=None,
        pnl_a=0.01,
        pnl_b=-0.002,
        difference=-0.25,
        standard_error=None,
        p_better=0.625,
    )
    blocks = collect_blocks(archive.draw_diff, DiffReport(a="one", b="two", shared=shared, differences=()))
    exam, rest = list_grids(blocks)
    assert exam.title == "On the 4 sessions of both exams, 2026-01-05 to 2026-01-08"
    assert exam.columns == ("", "one", "two")
    assert [tuple(cell.text for cell in row) for row in exam.rows] == [
        ("Sharpe, net", "1.50 (4 sessions)", "-"),
        ("P&L, net", "+1.000%", "-0.200%"),
    ]
    (line,) = list_lines(blocks)
    assert line == "Sharpe of the first less the second's: -0.25 +- - (one standard error); P(better) 0.62"
    assert rest.rows == ()
    none = collect_blocks(archive.draw_diff, DiffReport(a="one", b="two", shared=None, differences=()))
    assert list_lines(none) == ["No session was in both exams: their Sharpe ratios are not to be compared."]
    assert len(list_grids(none)) == 1


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        ([], "-"),
        (("a", 1), "a, 1"),
        ({"depth": 3, "leaf": 0.5}, "depth 3, leaf 0.5"),
        (0.123456, "0.1235"),
        (1_000_000, "1000000"),
        (False, "False"),
        ("x" * 60, "x" * 60),
        ("x" * 61, "x" * 60 + "..."),
    ],
)
def test_a_value_that_differs_is_shown_as_a_person_reads_it(value: object, shown: str) -> None:
    differences = (FieldDifference(kind="setting", what="w", a=value, b=None),)
    (grid,) = list_grids(
        collect_blocks(archive.draw_diff, DiffReport(a="A", b="B", shared=None, differences=differences))
    )
    assert read_columns(grid) == [{"of": "setting", "what": "w", "A": shown, "B": "-"}]


# --- the record -------------------------------------------------------------------------------------------------------

SESSION = RecordRow(
    session=date(2026, 1, 5),
    net=0.0012,
    model_id="m",
    kind="scored",
    policy="abc",
    bars="AAPL:1 AMD:2",
    source="polygon",
    synthetic=False,
    counts=True,
    why="",
)


def test_the_record_tells_of_each_session_whether_it_counts_and_why_it_does_not() -> None:
    rows = [
        SESSION,
        replace(SESSION, session=date(2026, 1, 6), counts=False, why="of another policy", policy=None, bars=""),
        replace(SESSION, session=date(2026, 1, 9), bars="AAPL:1", lacking_before=2, net=-0.0012),
    ]
    blocks = collect_blocks(archive.draw_record, rows)
    (grid,) = list_grids(blocks)
    first, second, third = read_columns(grid)
    assert (first["net"], first["bars"], first["counts"]) == ("+0.120%", "2 tickers", "yes")
    assert (second["policy"], second["bars"], second["counts"]) == ("unknown", "unknown", "no: of another policy")
    assert (third["net"], third["bars"]) == ("-0.120%", "1 ticker")
    lines = list_lines(blocks)
    assert lines[0].startswith("The record lacks 2 sessions before 2026-01-09: nothing was collected")
    assert lines[1] == "2 of 3 sessions count for the policy that is configured."


def test_a_record_of_invented_bars_says_so_on_a_narrow_terminal_too() -> None:
    (grid,) = list_grids(collect_blocks(archive.draw_record, [replace(SESSION, synthetic=True)]))
    assert read_columns(grid)[0]["source"] == "SYNTHETIC"
    assert "source" not in grid.spare
    (real,) = list_grids(collect_blocks(archive.draw_record, [SESSION]))
    assert "source" in real.spare
    (line,) = list_lines(collect_blocks(archive.draw_record, []))
    assert line == "No session is recorded yet. The first retrain begins the record."
