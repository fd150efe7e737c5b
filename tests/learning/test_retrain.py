"""The loop from bars to the model that serves, in this process, on the small synthetic market."""

import contextlib
import errno
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hftcl import ContinuousLearning, durable
from hftcl.archive import artifact
from hftcl.archive.deployment import ModelArchive
from hftcl.archive.looks import read_looks
from hftcl.archive.policy import hash_policy
from hftcl.archive.record import RecordedSession, read_all, read_sessions
from hftcl.archive.registry import Registry
from hftcl.errors import IntegrityError, NoDataError, StorageError, TrainingError, UsageError
from hftcl.events import Event, hold_signals_by, ignore
from hftcl.learning.alert_texts import build_retrain_alerts
from hftcl.learning.candidate import Candidate
from hftcl.learning.promote import Promotion
from hftcl.learning.record import Record
from hftcl.learning.reports import RetrainReport, build_document
from hftcl.learning.stories.collect import collect
from hftcl.settings import Settings
from tests.loop_cases import NOW, first_retrain, small
from tests.trained import Homes

WRONG = """
from hftcl.errors import TrainingError
from hftcl.model.families.ridge import Ridge
class Wrong(Ridge):
    name = "wrong"
    def finish_brief(self, fitted, X, *, jobs):
        raise TrainingError("The exported model predicts otherwise")
"""


def learning(settings: Settings, now: datetime = NOW, **options: object) -> ContinuousLearning:
    return ContinuousLearning(settings, clock=lambda: now, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def trained(homes: Homes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home with one deployed model."""
    home = tmp_path_factory.mktemp("trained") / "home"
    homes.copy(home, first_retrain, promote={"min_sharpe": -100})
    return home


@pytest.fixture
def home(trained: Path, tmp_path: Path) -> Path:
    """Return a copy of it, for one test to change."""
    return Path(shutil.copytree(trained, tmp_path / "home"))


def test_a_first_retrain_deploys_one_model_that_serves_and_is_archived(trained: Path) -> None:
    records = Registry(trained).list_models()
    assert [record.is_deployed for record in records] == [True]
    live = records[0]
    production = artifact.load(trained / "trained_stock_model.onnx", expected_sha256=live.sha256)
    assert production.meta.model_id == live.model_id == "20260109_070000"
    assert (trained / "models" / f"model_{live.model_id}.pkl").read_bytes() == (
        trained / "trained_stock_model.pkl"
    ).read_bytes()
    assert live.synthetic
    assert live.source == "synthetic"


def test_nothing_is_told_or_kept_of_an_exam_whose_graph_does_not_predict_what_was_fitted(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The graph is examined while it is compared."""
    folder = tmp_path / "plug-in"
    info = folder / "wrong-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "wrong.py").write_text(WRONG)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: wrong\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[hftcl.families]\nwrong = wrong:Wrong\n")
    monkeypatch.syspath_prepend(folder)
    before, looks, told = Registry(home).list_models(), read_looks(Registry(home), synthetic=True), list[Event]()
    settings = small(home, model={"family": "wrong"})
    with pytest.raises(TrainingError, match="predicts otherwise"):
        learning(settings, NOW + timedelta(days=1), on_event=told.append).retrain(force=True)
    assert [event.done for event in told if event.stage == "exam"][-1:] == [2], "it was examined, and the champion"
    assert [event.done for event in told if event.stage == "finish"] == [0], "and the training did not come to its end"
    assert Registry(home).list_models() == before
    assert read_looks(Registry(home), synthetic=True) == looks


def test_what_a_training_does_after_the_exam_is_told_under_its_own_name(home: Path) -> None:
    told: list[Event] = []
    learning(small(home), NOW + timedelta(days=1), on_event=told.append).retrain(force=True, dry_run=True)
    order = [(event.stage, event.done, event.total) for event in told if event.stage in {"exam", "finish"}]
    assert order == [("exam", 0, 2), ("exam", 1, 2), ("exam", 2, 2), ("finish", 0, 1), ("finish", 1, 1)]


def test_a_deployment_is_dated_by_when_it_was_made_and_a_model_by_when_its_training_began(tmp_path: Path) -> None:
    begun, done = NOW + timedelta(days=1), NOW + timedelta(days=1, hours=2)
    moment = [begun]

    def hear(event: Event) -> None:
        if event.stage == "exam":
            moment[0] = done

    settings = small(tmp_path, promote={"min_sharpe": -100})
    report = ContinuousLearning(settings, clock=lambda: moment[0], on_event=hear).retrain(force=True)
    registry = Registry(tmp_path)
    live, attempt = registry.find_live(), registry.list_attempts()[0]
    assert live is not None
    assert (report.outcome, live.model_id, live.trained_at) == ("deployed", "20260110_070000", begun)
    assert live.served == ((done, None),)
    assert (attempt.model_id, attempt.at) == (live.model_id, done)
    moment[0] = begun + timedelta(days=7)  # the daily check a week later: the model is a week old, not two hours less
    ages = [
        rule for rule in ContinuousLearning(settings, clock=lambda: moment[0]).check().triggers if rule.name == "age"
    ]
    assert [(rule.value, rule.fired) for rule in ages] == [(7.0, True)]
    moment[0] = begun
    other = replace(settings, exam=replace(settings.exam, sessions=settings.exam.sessions - 1))
    ContinuousLearning(other, clock=lambda: moment[0], on_event=hear).retrain(force=True, dry_run=True)
    assert read_looks(registry, synthetic=True, until=done) != read_looks(
        registry, synthetic=True, until=done - timedelta(seconds=1)
    ), "a look is dated by its exam"


def test_no_exam_session_was_seen_in_training(trained: Path) -> None:
    report = Registry(trained).list_models()[0].report
    meta = artifact.describe(trained / "trained_stock_model.onnx")
    assert report["exam"]["overlap_challenger"] == 0
    assert report["exam"]["overlap_champion"] == 0
    assert meta.exam_from is not None
    assert meta.label_end.date() <= meta.trained_to
    embargoed = (meta.exam_from - meta.trained_to).days
    assert embargoed >= 2, "one whole session lies between training and exam"


def test_the_pnl_of_the_exam_adds_up_session_by_session_and_ticker_by_ticker(trained: Path) -> None:
    score = Registry(trained).list_models()[0].report["challenger"]
    assert sum(score["pnl_by_session"].values()) == pytest.approx(score["pnl"], abs=1e-12)
    assert sum(score["pnl_by_ticker"].values()) == pytest.approx(score["pnl"], abs=1e-12)
    assert score["gross_pnl"] - score["cost"] == pytest.approx(score["pnl"], abs=1e-12)


def test_the_same_seed_and_bars_give_the_same_positions_to_the_bit(trained: Path, tmp_path: Path) -> None:
    again = learning(small(tmp_path, promote={"min_sharpe": -100})).retrain(force=True)
    before = Registry(trained).list_models()[0].report["challenger"]
    assert again.challenger is not None
    assert again.challenger.positions_sha256 == before["positions_sha256"]
    assert again.challenger.pnl_by_session == before["pnl_by_session"]


def test_a_retrain_that_checks_first_collects_once_and_computes_features_once(home: Path) -> None:
    events: list[Event] = []
    later = NOW + timedelta(days=8)  # the model is old, so that the check asks for a retrain
    report = learning(small(home), later, on_event=events.append).retrain()
    assert report.outcome != "skipped"
    collected = [event for event in events if event.stage == "collect" and event.done == event.total > 0]
    computed = [event for event in events if event.stage == "features" and event.done == event.total]
    assert (len(collected), len(computed)) == (1, 1), events


def test_another_seed_gives_other_positions(tmp_path: Path) -> None:
    positions = set()
    for seed in (1, 2, 1):
        settings = small(tmp_path, model={"seed": seed, "n_estimators": 3})  # a ridge draws nothing
        report = learning(settings).retrain(force=True, dry_run=True)
        assert report.challenger is not None
        positions.add(report.challenger.positions_sha256)
    assert len(positions) == 2


def test_a_second_retrain_on_the_same_bars_equals_its_champion_on_sessions_that_neither_has_seen(home: Path) -> None:
    """The champion's training ends before the same exam; a rule that lets equals pass promotes the second."""
    rule: dict[str, object] = {"min_sharpe": -100, "tolerance": 0.99, "min_p_better": 0}
    report = learning(small(home, promote=rule), NOW + timedelta(hours=1)).retrain(force=True)
    assert report.exam is not None
    assert (report.exam.overlap_challenger, report.exam.overlap_champion) == (0, 0)
    assert report.challenger is not None
    assert report.champion is not None
    assert report.champion.positions_sha256 == report.challenger.positions_sha256, "same bars, seed and settings"
    assert (report.outcome, report.p_better) == ("deployed", 0.5)
    live = Registry(home).find_live()
    assert live is not None
    assert live.model_id == report.model_id


def test_configurations_tried_on_the_same_exam_are_counted_and_a_repetition_is_not_one_more(home: Path) -> None:
    rule: dict[str, object] = {"min_sharpe": 100}
    trials = []
    for hour, alpha in enumerate((10.0, 12.0, 10.0), 1):
        loop = learning(small(home, promote=rule), NOW + timedelta(hours=hour))
        report = loop.retrain(force=True, params={"alpha": alpha})
        trials.append(report.trials)
    assert trials == [2, 3, 3], "the first home's ridge of alpha 100, then 10, 12, and 10 again"
    assert report.deflated_sharpe is not None
    assert any("one of 3 candidates" in fact.text for fact in report.evidence)


def refits(home: Path) -> Settings:
    """Return the settings of `refitting`."""
    rule: dict[str, object] = {"min_sharpe": -100, "refit_on_promote": True}
    return small(home, promote=rule)


@pytest.fixture(scope="module")
def refitting(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[str, bool]]]:
    """Return a home whose deployment was refitted, as of 2025-12-18, and what happened, with: does a model serve.

    What happened: each stage told, and each beginning and end of a section that no signal may cut.
    """
    home = tmp_path_factory.mktemp("refitted")
    settings = refits(home)
    reached: list[tuple[str, bool]] = []

    def note(what: str) -> None:
        reached.append((what, Registry(home).find_live() is not None))

    @contextlib.contextmanager
    def hold(last: bool) -> Iterator[None]:
        note("last section" if last else "section")
        yield
        note("end")

    with hold_signals_by(hold):
        report = learning(settings, on_event=lambda event: note(event.stage)).retrain(force=True, as_of="2025-12-18")
    assert report.outcome == "deployed", report.reason
    return home, reached


@pytest.fixture(scope="module")
def refitted(refitting: tuple[Path, list[tuple[str, bool]]]) -> Path:
    """Return the home of `refitting`."""
    return refitting[0]


def test_a_signal_may_cut_the_refit_but_neither_the_archiving_before_it_nor_the_deployment_after_it(
    refitting: tuple[Path, list[tuple[str, bool]]],
) -> None:
    reached = [item for item in refitting[1] if item[0] in {"fit", "section", "last section", "end"}]
    kinds = [kind for kind, _ in itertools.groupby(reached)]
    begin = len(kinds) - 1 - kinds[::-1].index(("last section", False))
    assert kinds[begin:] == [("last section", False), ("end", True)], "the model serves at its end, not before"
    refit = kinds.index(("section", False))
    assert kinds[refit:begin] == [
        ("section", False),
        ("end", False),
        ("fit", False),
        ("section", False),
        ("end", False),
    ]


@dataclass(frozen=True, slots=True)
class OnceMore:
    """What a first retrain has made, to be archived once more in an empty home: nothing is trained here."""

    home: Path
    report: RetrainReport
    rows: tuple[RecordedSession, ...]
    promotion: Promotion
    candidate: Candidate

    def archive_and_deploy(self) -> RetrainReport:
        record = Record(recorded_sessions=(), added=self.rows, cost_bps=1.0)
        return self.promotion.archive_and_deploy(self.candidate, self.report, champion=None, record=record)


@pytest.fixture
def once_more(homes: Homes, tmp_path: Path) -> OnceMore:
    report = homes.copy(tmp_path / "done", first_retrain, promote={"min_sharpe": -100})
    done, home = Registry(tmp_path / "done"), tmp_path / "home"
    rows = tuple(row for row, _ in read_all(done, synthetic=True))
    assert rows
    path = done.locate_onnx(report.model_id)
    candidate = Candidate(
        model=artifact.load(path),
        onnx=path.read_bytes(),
        pkl=done.locate_pkl(report.model_id).read_bytes(),
        trained=None,  # type: ignore[arg-type]
        rows=report.rows,
        sessions=1,
    )
    promotion = Promotion(ModelArchive(home), small(home), None, {}, NOW, lambda: NOW, None, ignore)  # type: ignore[arg-type]
    return OnceMore(home, report, rows, promotion, candidate)


@pytest.mark.parametrize("kind", ["onnx", "pkl"])
def test_a_candidate_whose_file_came_out_wrong_leaves_no_record_and_an_attempt_that_failed(
    once_more: OnceMore, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = durable.write_atomically

    def damage(path: Path, data: bytes) -> None:
        write(path, data[:-1] + b"x" if path.match(f"models/model_*.{kind}") else data)

    monkeypatch.setattr(durable, "write_atomically", damage)
    with pytest.raises(IntegrityError, match="did not come to hold what was written"):
        once_more.archive_and_deploy()
    monkeypatch.undo()
    registry = Registry(once_more.home)
    assert list(registry.folder.glob("model_*")) == []
    assert (registry.list_models(), read_all(registry, synthetic=True)) == ((), ())
    (attempt,) = registry.list_attempts()
    assert (attempt.outcome, attempt.model_id) == ("failed", None)
    assert "did not come to hold" in attempt.reason
    assert once_more.archive_and_deploy().serves == once_more.report.model_id
    assert tuple(row for row, _ in read_all(registry, synthetic=True)) == once_more.rows


@pytest.mark.parametrize("lasts", [False, True])
def test_a_candidate_whose_copies_cannot_be_written_is_archived_and_serves_and_that_is_told_once(
    once_more: OnceMore, lasts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, model_id = list[str](), once_more.report.model_id
    fill_disk_of_csv(monkeypatch, str(model_id), lasts=lasts)
    registry = Registry(once_more.home)
    once_more.promotion.archive.hear_notes(told.append)
    assert once_more.archive_and_deploy().serves == model_id
    assert [model.model_id for model in registry.list_models()] == [model_id]
    assert tuple(row for row, _ in read_all(registry, synthetic=True)) == once_more.rows
    (attempt,) = registry.list_attempts()
    assert (attempt.outcome, attempt.model_id) == ("deployed", model_id)
    failed = [
        line for line in told if line.startswith(f"{registry.csv} could not be written (No space left on device)")
    ]
    assert len(failed) == 1
    monkeypatch.undo()
    ModelArchive(once_more.home).recover(NOW)
    assert str(model_id) in registry.csv.read_text()


def fill_disk_of_csv(patch: pytest.MonkeyPatch, of_model: str, *, lasts: bool) -> None:
    """Let the disk have no room for a CSV that tells of a model: the first time, or each time."""
    write, full = durable.write_atomically, [True]

    def fill(path: Path, data: bytes) -> None:
        if full and path.suffix == ".csv" and of_model.encode() in data:
            if not lasts:
                full.clear()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write(path, data)

    patch.setattr(durable, "write_atomically", fill)


def test_a_model_that_is_archived_though_that_raised_goes_on_as_one(
    once_more: OnceMore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_disk_of_csv(monkeypatch, str(once_more.report.model_id), lasts=True)

    def fail(note: str) -> None:
        if "could not be written" in note:
            raise StorageError("nothing takes a note")

    told = list[Event]()
    once_more.promotion.archive.hear_notes(fail)
    promotion = replace(once_more.promotion, on_event=told.append)
    assert replace(once_more, promotion=promotion).archive_and_deploy().serves == once_more.report.model_id
    assert [event.text.partition("failed: ")[2] for event in told] == ["nothing takes a note"]


def test_an_attempt_that_failed_names_no_other_model_that_has_the_id(once_more: OnceMore) -> None:
    model_id = once_more.archive_and_deploy().model_id
    other = replace(once_more, candidate=replace(once_more.candidate, onnx=once_more.candidate.onnx + b"x"))
    with pytest.raises(IntegrityError, match="its id is taken"):
        other.archive_and_deploy()
    attempt, *_ = Registry(once_more.home).list_attempts()  # newest first
    assert (attempt.outcome, attempt.model_id) == ("failed", None)
    assert Registry(once_more.home).find(str(model_id)).sha256 != hashlib.sha256(other.candidate.onnx).hexdigest()


def test_a_refit_whose_file_came_out_wrong_is_not_archived_and_the_examined_model_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = durable.write_atomically

    def damage_second(path: Path, data: bytes) -> None:
        is_second = path.match("models/model_*.onnx") and any(path.parent.glob("model_*.onnx"))
        write(path, data[:-1] + b"x" if is_second else data)

    monkeypatch.setattr(durable, "write_atomically", damage_second)
    home, told = tmp_path / "home", list[Event]()
    rule: dict[str, object] = {"min_sharpe": -100, "refit_on_promote": True}
    report = learning(small(home, promote=rule), on_event=told.append).retrain(force=True)
    assert (report.outcome, report.serves) == ("deployed", report.model_id)
    assert [record.model_id for record in Registry(home).list_models()] == [report.model_id]
    assert any("so the examined model" in event.text for event in told)


def test_what_is_promoted_is_refitted_on_all_sessions_and_the_examined_model_is_kept(refitted: Path) -> None:
    refit, examined = Registry(refitted).list_models()
    assert (refit.examined_model, examined.examined_model) == (examined.model_id, None)
    assert (refit.is_deployed, examined.is_deployed) == (True, False)
    assert (refit.outcome, examined.outcome) == ("deployed", "deployed")
    assert refit.model_id in examined.reason, "who reads the history learns what became of it"
    assert refit.val_sharpe == examined.val_sharpe, "the exam is that of the examined one"
    assert refit.label_end > examined.label_end
    assert refit.rows > examined.rows
    serving = artifact.describe(refitted / "trained_stock_model.onnx")
    assert (serving.model_id, serving.exam_from) == (refit.model_id, None)
    assert str(serving.trained_to) == "2025-12-18"


def test_the_examined_model_of_a_refit_stands_for_it_in_the_next_exam_and_in_the_record(refitted: Path) -> None:
    refit, examined = Registry(refitted).list_models()[-2:]
    settings = small(refitted, promote={"min_sharpe": 100}, archive={"keep": 2})
    for hour in (1, 2):
        loop = learning(settings, NOW + timedelta(hours=hour))
        report = loop.retrain(force=True, as_of="2026-01-02", params={"alpha": 10.0})
    assert report.champion is not None
    assert report.champion.model_id == examined.model_id
    assert report.serves == refit.model_id, "the other one was examined in its place"
    (alert,) = build_retrain_alerts(report, NOW)
    assert f"Model {refit.model_id} serves on." in alert.text
    assert report.exam is not None
    assert (report.exam.sessions, report.exam.overlap_champion) == (10, 0), "the refit has seen half of these"
    collect(refits(refitted), now=NOW, on_event=ignore)
    record = read_sessions(Registry(refitted), synthetic=True, policy=hash_policy(refits(refitted)))
    later = [each for each in record if str(each.session) > "2025-12-18"]
    assert {each.model_id for each in later} == {examined.model_id}
    assert str(later[0].session) == "2025-12-19", "no session of the record is lost to an embargo"
    kept = {record.model_id for record in Registry(refitted).list_models() if record.kept}
    assert {refit.model_id, examined.model_id} <= kept, "two newer models alone would fill [archive] keep"


def test_a_candidate_that_is_too_weak_is_rejected_archived_and_does_not_serve(home: Path) -> None:
    before = Registry(home).find_live()
    report = learning(small(home, promote={"min_sharpe": 100}), NOW + timedelta(days=1)).retrain(force=True)
    assert report.outcome == "rejected"
    assert "Sharpe" in report.reason
    assert Registry(home).find_live() == before
    assert [record.outcome for record in Registry(home).list_models()] == ["rejected", "deployed"]


def test_a_champion_that_was_trained_beyond_the_exam_leaves_it_inconclusive(home: Path) -> None:
    """The champion saw bars up to 2025-12; a candidate as of two months earlier has no session unseen by both."""
    report = learning(small(home), NOW + timedelta(hours=1)).retrain(force=True, as_of="2025-11-14")
    assert report.outcome == "inconclusive"
    assert report.exam is not None
    assert report.exam.sessions == 0
    assert report.exam.overlap_champion == 0


@pytest.mark.parametrize(
    ("market", "told"),
    [
        ({"calendar": "24/7", "lookback_days": 10}, "trained on sessions of XNYS"),
        ({"extended_hours": True}, "trained without extended hours"),
    ],
)
def test_a_champion_of_another_calendar_or_of_other_hours_is_not_compared_and_stays(
    home: Path, market: dict[str, object], told: str
) -> None:
    before = Registry(home).find_live()
    fewer = {"lookback_days": 18, **market}  # sessions of 24 hours are four times as long
    settings = small(home, market=fewer, promote={"min_sharpe": -100, "policy": "seed"})
    report = learning(settings, NOW + timedelta(hours=1)).retrain(force=True)
    assert report.outcome == "inconclusive"
    assert "the champion cannot be compared" in report.reason
    assert told in report.reason
    assert Registry(home).find_live() == before
    due = {trigger.name: trigger for trigger in learning(settings).check().triggers}
    assert told in due["recent_sharpe"].evidence


def test_a_retrain_that_is_not_due_is_skipped_and_changes_nothing(home: Path) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in (home / "models").glob("*.onnx"))
    report = learning(small(home), NOW + timedelta(days=1)).retrain()
    assert report.outcome == "skipped"
    assert report.model_id is None
    assert sorted((path, path.stat().st_mtime_ns) for path in (home / "models").glob("*.onnx")) == before


def test_a_week_after_the_last_verdict_a_retrain_is_due_and_runs_without_force(home: Path) -> None:
    report = learning(small(home), NOW + timedelta(days=7)).retrain()
    assert report.outcome != "skipped"
    assert [trigger.name for trigger in report.triggers if trigger.fired] == ["age"]


def test_a_check_changes_not_one_file(home: Path) -> None:
    def snapshot() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in sorted(home.rglob("*"))}

    before = snapshot()
    report = learning(small(home), NOW + timedelta(days=30)).check()
    assert report.due
    assert snapshot() == before


def test_a_check_scores_the_serving_model_on_sessions_that_it_has_not_seen(home: Path) -> None:
    report = learning(small(home), NOW).check()
    recent = next(trigger for trigger in report.triggers if trigger.name == "recent_sharpe")
    exam = Registry(home).list_models()[0].report
    assert recent.value == pytest.approx(exam["challenger"]["sharpe"]), "the exam's sessions are all it has not seen"


def test_a_dry_run_and_the_exam_of_another_day_are_trials_too(home: Path) -> None:
    """A person who tries on a dry run, or tries again tomorrow, has tried."""
    other = {"alpha": 10.0}
    dry = learning(small(home), NOW + timedelta(hours=1)).retrain(force=True, dry_run=True, params=other)
    tomorrow = learning(small(home), NOW + timedelta(days=1)).retrain(force=True, dry_run=True, params=other)
    assert (dry.trials, tomorrow.trials) == (2, 3)
    assert tomorrow.exam is not None
    shared = (tomorrow.exam.sessions - 1) / tomorrow.exam.sessions
    assert tomorrow.effective_trials == pytest.approx(1 + 2 * shared)
    assert (tomorrow.dsr is None) == (tomorrow.challenger is None or tomorrow.challenger.sharpe is None)


def test_a_dry_run_archives_nothing_and_leaves_only_that_it_looked(tmp_path: Path) -> None:
    report = learning(small(tmp_path)).retrain(force=True, dry_run=True)
    assert report.challenger is not None
    assert report.model_id is None
    assert [path.name for path in tmp_path.iterdir()] == ["models"]
    assert Registry(tmp_path).list_models() == ()
    assert Registry(tmp_path).list_attempts() == ()
    (look,) = read_looks(Registry(tmp_path), synthetic=True)
    assert [day.isoformat() for day in look.sessions] == list(report.challenger.pnl_by_session)


def test_a_retrain_after_a_rollback_ends_rejected_and_pinned(home: Path) -> None:
    settings = small(home, promote={"policy": "seed", "min_sharpe": -100, "tolerance": 0.99}, model={"seed": 3})
    first = Registry(home).find_live()
    assert first is not None
    later = NOW + timedelta(days=20)
    second = learning(settings, later).retrain(force=True)
    if second.outcome != "deployed":
        pytest.fail(f"the set-up needs a second deployment: {second.reason}")
    back = learning(settings, later + timedelta(hours=1)).rollback_to_previous_model()
    assert (back.to_model, back.pinned) == (first.model_id, True)
    third = learning(settings, later + timedelta(hours=2)).retrain(force=True)
    assert (third.outcome, third.reason) == ("rejected", "pinned")
    live = Registry(home).find_live()
    assert live is not None
    assert live.model_id == first.model_id
    assert learning(settings, later + timedelta(hours=3)).unpin().unpinned == first.model_id


def test_an_unknown_parameter_is_refused_before_anything_is_collected(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'alpa'.*Did you mean alpha"):
        learning(small(tmp_path)).retrain(force=True, params={"alpa": 3})
    assert list(tmp_path.iterdir()) == []


def test_one_session_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(NoDataError, match="1 session"):
        learning(small(tmp_path, market={"lookback_days": 1})).retrain(force=True)


def test_a_synthetic_champion_does_not_defend_against_a_candidate_from_real_bars(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bars"
    folder.mkdir()
    from hftcl.market.sources.synthetic import SyntheticSource

    synthetic = SyntheticSource(small(home))
    first = (NOW - timedelta(days=70)).date()
    for ticker in ("AAPL", "AMD", "TSLA"):
        synthetic.minutes(ticker, first, NOW.date()).write_parquet(folder / f"{ticker}.parquet")
    settings = small(
        home,
        files={"folder": str(folder)},
        market={"source": "files"},
        promote={"min_sharpe": -100},
        exam={"plausible_sharpe": 1000},
    )
    report = learning(settings, NOW + timedelta(hours=1)).retrain(force=True)
    assert report.champion is None
    assert any("does not defend" in fact.text for fact in report.evidence)
    assert not report.synthetic
    assert report.outcome == "deployed"


def test_a_damaged_champion_is_restored_before_the_exam(home: Path) -> None:
    (home / "trained_stock_model.onnx").write_bytes(b"not a model")
    report = learning(small(home), NOW + timedelta(hours=1)).retrain(force=True)
    (note,) = report.repaired
    assert "trained_stock_model.onnx" in note
    assert report.champion is not None
    assert artifact.load(home / "trained_stock_model.onnx").meta.model_id == report.champion.model_id


def test_progress_counts_every_stage_to_its_end(home: Path) -> None:
    seen: list[Event] = []
    learning(small(home), NOW + timedelta(hours=2), on_event=seen.append).retrain(force=True)
    ends = {event.stage: (event.done, event.total) for event in seen if event.total}
    assert set(ends) == {"collect", "features", "fit", "exam", "finish", "record", "deploy"}
    assert all(done == total for done, total in ends.values())


def test_the_report_is_plain_json_without_nan(trained: Path) -> None:
    report = Registry(trained).list_models()[0].report
    assert json.loads(json.dumps(report, allow_nan=False)) == report


@pytest.mark.parametrize(
    "stage", [*(pytest.param(name, marks=pytest.mark.slow) for name in ("collect", "exam")), "fit"]
)
def test_what_a_listener_raises_stops_the_retrain_and_frees_everything(home: Path, stage: str) -> None:
    class StopError(Exception):
        pass

    def stop(event: Event) -> None:
        if event.stage == stage and event.done:
            raise StopError

    before = Registry(home).list_models()
    with pytest.raises(StopError):
        learning(small(home), NOW + timedelta(hours=1), on_event=stop).retrain(force=True)
    assert Registry(home).list_models() == before
    assert list((home / "models").glob("*claim*")) == []
    assert learning(small(home), NOW + timedelta(hours=1)).retrain(force=True).model_id is not None


def test_no_bar_after_as_of_is_known(tmp_path: Path) -> None:
    report = learning(small(tmp_path)).retrain(force=True, dry_run=True, as_of="2025-06-30")
    assert report.exam is not None
    assert report.as_of == datetime(2025, 6, 30, 20, 0, tzinfo=UTC)
    assert report.challenger is not None
    assert max(report.challenger.pnl_by_session) == "2025-06-30"


def test_the_settings_are_documented_values_in_the_json(trained: Path) -> None:
    report = build_document(learning(replace(small(trained)), NOW + timedelta(days=1)).check())
    assert set(report) >= {"due", "reason", "triggers"}
    assert set(report["triggers"][0]) == {"name", "fired", "value", "threshold", "evidence"}


def test_a_refit_whose_copies_cannot_be_written_serves_all_the_same_and_that_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, told = tmp_path / "home", list[Event]()
    rule: dict[str, object] = {"min_sharpe": -100, "refit_on_promote": True}
    fill_disk_of_csv(monkeypatch, "model_id,", lasts=True)
    report = learning(small(home, promote=rule), on_event=told.append).retrain(force=True)
    assert (report.outcome, report.serves) == ("deployed", report.model_id)
    assert report.twin is not None
    assert [record.model_id for record in Registry(home).list_models()] == [report.model_id, report.twin]
    assert sum("could not be written" in event.text for event in told) == 1
    assert not any("refit on all sessions failed" in event.text for event in told)
