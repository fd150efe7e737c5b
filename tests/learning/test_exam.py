"""One archived model on other bars: by the code of the exam, and never on what it has seen."""

import json
import shutil
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from hftcl import ContinuousLearning
from hftcl.archive.looks import read_looks
from hftcl.archive.registry import Registry
from hftcl.errors import IntegrityError, ModelNotFoundError, NoDataError, UnfitModelError, UsageError
from hftcl.events import Event, Level
from hftcl.learning.reports import build_document
from hftcl.settings import Settings
from tests.archive.sample_models import added, archive_in
from tests.in_process import call
from tests.loop_cases import NOW, SMALL_TOML, first_retrain, small
from tests.trained import Homes

LATER = NOW + timedelta(days=60)


def learning(settings: Settings, **options: object) -> ContinuousLearning:
    return ContinuousLearning(settings, clock=lambda: LATER, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def trained(homes: Homes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home with one archived model that was rejected."""
    home = tmp_path_factory.mktemp("trained") / "home"
    homes.copy(home, first_retrain, outcome="rejected", promote={"min_sharpe": 100})
    (home / "hftcl.toml").write_text(SMALL_TOML)
    return home


def archived(home: Path) -> str:
    return Registry(home).list_models()[0].model_id


def first_allowed(home: Path) -> date:
    """Return the first session of its exam: the second after the training, one being embargoed."""
    found = Registry(home).list_models()[0].exam_from
    assert found is not None
    return found


def test_the_sessions_of_its_exam_give_the_very_figures_of_its_exam(trained: Path) -> None:
    record = Registry(trained).list_models()[0]
    exam = record.report["exam"]
    found = build_document(learning(small(trained)).exam(record.model_id, exam["from"], exam["to"]))
    challenger = record.report["challenger"]
    assert {name: found[name] for name in challenger} == challenger
    assert (found["from"], found["to"], found["sessions"]) == (exam["from"], exam["to"], exam["sessions"])


def test_later_bars_are_scored_and_what_is_written_is_that_they_were_looked_at(trained: Path) -> None:
    def snapshot() -> dict[Path, int]:
        kept = {path: path.stat().st_mtime_ns for path in sorted(trained.rglob("*"))}
        return {
            path: changed for path, changed in kept.items() if path.name not in {"registry.sqlite", "models", ".lock"}
        }

    before, models = snapshot(), Registry(trained).list_models()
    found = learning(small(trained)).exam(archived(trained), date(2026, 1, 12), date(2026, 2, 6))
    assert found.sessions == 19  # without Martin Luther King Day
    assert (found.from_, found.to) == (date(2026, 1, 12), date(2026, 2, 6))
    assert len(found.pnl_by_session) == 19
    assert found.trades > 0
    assert snapshot() == before
    assert Registry(trained).list_models() == models
    again = learning(small(trained)).exam(archived(trained), date(2026, 1, 12), date(2026, 2, 6))
    part = learning(small(trained)).exam(archived(trained), date(2026, 1, 12), date(2026, 1, 23))
    assert (found.trials, again.trials, part.trials) == (1, 1, 1), "one candidate is one try"
    (look,) = read_looks(Registry(trained), synthetic=True)
    assert {*map(date.fromisoformat, found.pnl_by_session)} < {*look.sessions}, "and those of its own exam"


def test_a_part_of_the_days_is_that_part_of_the_whole(trained: Path) -> None:
    whole = learning(small(trained)).exam(archived(trained), "2026-01-12", "2026-02-06").pnl_by_session
    part = learning(small(trained)).exam(archived(trained), "2026-01-20", "2026-01-23").pnl_by_session
    assert part == {day: net for day, net in whole.items() if "2026-01-20" <= day <= "2026-01-23"}
    assert len(part) == 4


def test_two_sessions_have_no_interval_and_so_no_probability(trained: Path) -> None:
    report = learning(small(trained)).exam(archived(trained), "2026-01-20", "2026-01-21")
    assert report.sessions == 2
    assert (report.sharpe_interval, report.psr, report.dsr) == (None, None, None)


@pytest.mark.parametrize("days_before", [1, 3, 30])
def test_bars_that_it_has_seen_are_refused_and_the_first_session_allowed_is_named(
    trained: Path, days_before: int
) -> None:
    allowed = first_allowed(trained)
    start = allowed - timedelta(days=days_before)
    with pytest.raises(NoDataError, match=f"from {allowed} on, not from {start}. Use --from {allowed}"):
        learning(small(trained)).exam(archived(trained), start, "2026-01-30")
    assert learning(small(trained)).exam(archived(trained), allowed, allowed).sessions == 1


def test_a_longer_embargo_moves_the_first_session_allowed(trained: Path) -> None:
    settings = small(trained, exam={"embargo_sessions": 5})
    with pytest.raises(NoDataError, match="the embargo is 5 sessions"):
        learning(settings).exam(archived(trained), first_allowed(trained), "2026-01-30")


def test_a_dearer_broker_leaves_less_of_the_same_trades(trained: Path) -> None:
    cheap = learning(small(trained, strategy={"cost_bps": 0.0})).exam(archived(trained), "2026-01-12", "2026-01-23")
    dear = learning(small(trained, strategy={"cost_bps": 5.0})).exam(archived(trained), "2026-01-12", "2026-01-23")
    assert cheap.positions_sha256 == dear.positions_sha256
    assert cheap.pnl - dear.pnl == pytest.approx(5e-4 * dear.turnover, abs=1e-12)


def test_the_horizon_is_the_model_s_whatever_the_configuration_says_now(trained: Path) -> None:
    ours = learning(small(trained)).exam(archived(trained), "2026-01-12", "2026-01-16")
    other = learning(small(trained, model={"horizon_minutes": 7})).exam(archived(trained), "2026-01-12", "2026-01-16")
    assert other == ours


def test_a_model_is_not_scored_on_bars_of_another_kind_or_calendar(trained: Path, tmp_path: Path) -> None:
    settings = small(trained, files={"folder": str(tmp_path)})
    files = replace(settings, market=replace(settings.market, source="files"))
    with pytest.raises(UnfitModelError, match="trained on synthetic bars, and these are real"):
        learning(files).exam(archived(trained), "2026-01-12", "2026-01-16")
    london = replace(settings, market=replace(settings.market, calendar="XLON"))
    with pytest.raises(UnfitModelError, match=r"sessions of XNYS, and .* is XLON"):
        learning(london).exam(archived(trained), "2026-01-12", "2026-01-16")


def test_where_the_bars_end_so_does_the_exam_and_it_says_so(trained: Path) -> None:
    seen: list[Event] = []
    report = learning(small(trained), on_event=seen.append).exam(archived(trained), "2026-03-02", "2026-04-30")
    assert report.to == date(2026, 3, 9)
    warnings = [event.text for event in seen if event.level is Level.WARNING]
    assert warnings == ["the bars end on 2026-03-09, before 2026-04-30; so does the exam"]
    with pytest.raises(NoDataError, match="No session from 2026-04-01 to 2026-04-30"):
        learning(small(trained)).exam(archived(trained), "2026-04-01", "2026-04-30")


def test_days_without_a_session_are_no_exam(trained: Path) -> None:
    told = "There is no session from 2026-01-17 to 2026-01-19 in the calendar XNYS"  # a weekend and a holiday
    with pytest.raises(NoDataError, match=told):
        learning(small(trained)).exam(archived(trained), "2026-01-17", "2026-01-19")


@pytest.mark.parametrize(
    ("model_id", "start", "end", "error", "match"),
    [
        ("20200101_000000", "2026-01-12", "2026-01-16", ModelNotFoundError, "No model 20200101_000000"),
        ("../../x", "2026-01-12", "2026-01-16", UsageError, "is not a model id"),
        (None, "yesterday", "2026-01-16", UsageError, "--from 'yesterday' is no date"),
        (None, "2026-01-12", "2026-02-30", UsageError, "--to '2026-02-30' is no date"),
        (None, "2026-01-16", "2026-01-12", UsageError, "--from 2026-01-16 is after --to 2026-01-12"),
    ],
)
def test_what_does_not_exist_is_refused(
    trained: Path, model_id: str | None, start: str, end: str, error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        learning(small(trained)).exam(model_id or archived(trained), start, end)


def test_a_damaged_or_deleted_file_is_refused(trained: Path, tmp_path: Path) -> None:
    home = Path(shutil.copytree(trained, tmp_path / "home"))
    file = Registry(home).locate_onnx(archived(home))
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(IntegrityError, match="not the one that was registered"):
        learning(small(home)).exam(archived(home), "2026-01-12", "2026-01-16")
    file.unlink()
    with pytest.raises(IntegrityError, match="is missing"):
        learning(small(home)).exam(archived(home), "2026-01-12", "2026-01-16")


def test_a_model_whose_file_was_pruned_is_told_apart_from_a_damaged_one(trained: Path, tmp_path: Path) -> None:
    home = Path(shutil.copytree(trained, tmp_path / "home"))
    oldest = archived(home)
    for day in (1, 2):
        added(archive_in(home), NOW + timedelta(days=day), outcome="rejected")
    archive_in(home).prune(2, now=LATER)
    with pytest.raises(IntegrityError, match=r"deleted by \[archive\] keep"):
        learning(small(home)).exam(oldest, "2026-01-12", "2026-01-16")


def test_the_command_prints_one_document_or_tables_of_all_slices(trained: Path) -> None:
    span = ("--from", "2026-01-12", "--to", "2026-01-16")
    done = call(trained, "-q", "exam", archived(trained), *span, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert report["model_id"] == archived(trained)
    assert (report["from"], report["to"], report["sessions"]) == ("2026-01-12", "2026-01-16", 5)
    drawn = call(trained, "-q", "exam", archived(trained), *span).stdout
    for title in ("by ticker", "by hour", "by volatility", "by side", "by session"):
        assert f"# P&L {title}" in drawn


@pytest.mark.parametrize(
    ("model_id", "start", "status"),
    [("20200101_000000", "2026-01-12", 1), ("nonsense", "2026-01-12", 2), (None, "2025-11-03", 1), (None, "soon", 2)],
)
def test_a_script_learns_from_the_status_what_was_wrong(
    trained: Path, model_id: str | None, start: str, status: int
) -> None:
    done = call(trained, "-q", "exam", model_id or archived(trained), "--from", start, "--to", "2026-01-16")
    assert (done.returncode, done.stdout) == (status, "")
    assert len(done.stderr.splitlines()) == 1
