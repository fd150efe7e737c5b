"""Which model serves: deploying, rolling back, pinning, pruning, and what recovery makes of damage."""

import os
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from hftcl import durable
from hftcl.archive.deployment import ModelArchive
from hftcl.archive.schema import open_to_change
from hftcl.errors import (
    IntegrityError,
    LockHeldError,
    ModelNotFoundError,
    NotPromotedError,
    PinnedError,
    RollbackError,
    StorageError,
    SupersededError,
    UsageError,
)
from tests.archive.sample_models import T0, a_model, added, archive_in, deployed, onnx_bytes

LATER = T0 + timedelta(weeks=10)


Change = Callable[[ModelArchive, str, Callable[[], datetime]], object]


@pytest.mark.parametrize(
    "change",
    [
        lambda archive, model, clock: archive.record_attempt(clock, kind="retrain", outcome="failed", reason="x"),
        lambda archive, model, clock: archive.deploy(model, now=clock, reason="better"),
        lambda archive, model, clock: archive.rollback(model, now=clock, reason="better"),
        lambda archive, model, clock: archive.claim_id(T0, now=clock),  # and records what a hand has put in place
    ],
    ids=["attempt", "deploy", "rollback", "recovery"],
)
def test_a_change_that_waits_for_another_one_is_dated_by_when_it_was_its_turn(
    change: Change, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    archive = archive_in(tmp_path)
    deployed(archive, 1)
    second = added(archive, LATER).model_id
    times = [LATER]
    waits = threading.Thread(target=change, args=(archive_in(tmp_path), second, lambda: times[-1]))
    with archive.hold_registry(LATER, "a test"):
        waits.start()
        time.sleep(0.1)  # it stands at the lock by now; where the machine is too slow for that, this shows less
        times.append(LATER + timedelta(minutes=1))
        if "recovery" in request.node.callspec.id:
            archive.production.write_bytes(onnx_bytes(second))
    waits.join()
    at = [attempt.at for attempt in archive.list_attempts()] or [archive.list_deployments()[-1].at]
    assert at == times[-1:]


def live_id(archive: ModelArchive) -> str | None:
    record = archive.find_live()
    return record.model_id if record else None


def test_a_deployed_model_is_the_production_file_and_its_estimator_lies_beside_it(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    first, second = deployed(archive, 2)
    assert archive.production.read_bytes() == onnx_bytes(second)
    assert archive.production_pkl.read_bytes() == b"pkl" + second.encode()
    assert archive.read_production().model_id == second
    assert [each.is_deployed for each in archive.list_models()] == [True, False]
    assert archive.find(second).parent == first
    assert archive.production.stat().st_mode & 0o777 == 0o644


def test_deploying_tells_what_was_replaced_and_that_nothing_needed_mending(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    (first,) = deployed(archive, 1)
    second = added(archive, LATER).model_id
    switched = archive.deploy(second, now=LATER, reason="better", champion=first)
    assert (switched.model.model_id, switched.replaced, switched.notes) == (second, first, ())


@pytest.mark.hazard(84)
def test_a_first_deployment_keeps_the_users_own_models_and_history_and_says_where(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    archive.folder.mkdir()
    for path in (archive.production, archive.production_pkl):
        path.write_bytes(b"mine " + path.name.encode())
    archive.csv.write_text("model_id,val_sharpe\nmine,1.5\n")
    (archive.folder / "model_v1.pkl").write_bytes(b"mine")
    first = added(archive).model_id
    assert (tmp_path / "models/model_metadata.csv.before").read_text() == "model_id,val_sharpe\nmine,1.5\n"
    notes = archive.deploy(first, now=LATER, reason="better", champion=None).notes
    for name in ("trained_stock_model.onnx", "trained_stock_model.pkl"):
        assert (tmp_path / f"{name}.before").read_bytes() == b"mine " + name.encode()
        assert f"{tmp_path / name} was not written by hftcl; what it held is kept as {name}.before." in notes
    assert archive.production.read_bytes() == onnx_bytes(first)
    assert (archive.folder / "model_v1.pkl").read_bytes() == b"mine"
    archive.production_pkl.write_bytes(b"mine again")
    later = LATER + timedelta(days=1)
    archive.deploy(added(archive, later).model_id, now=later, reason="better", champion=first)
    assert (tmp_path / "trained_stock_model.pkl.before.2").read_bytes() == b"mine again"


def test_a_first_deployment_that_fails_leaves_the_users_own_model_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = archive_in(tmp_path)
    archive.production.write_bytes(b"mine")
    first = added(archive).model_id
    sync = durable.sync_folder

    def fail_at_home(folder: Path) -> None:
        if folder == tmp_path and archive.production.read_bytes() != b"mine":
            raise OSError(5, "Input/output error")
        sync(folder)

    monkeypatch.setattr(durable, "sync_folder", fail_at_home)
    with pytest.raises(StorageError):
        archive.deploy(first, now=LATER, reason="better", champion=None)
    assert archive.production.read_bytes() == b"mine"


def test_only_hidden_files_remain_beside_what_the_layout_names(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    one = deployed(archive, 1)[0]
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert names == {
        "models", "models/.lock", "models/registry.sqlite", "models/model_metadata.csv", f"models/model_{one}.onnx",
        f"models/model_{one}.pkl", "trained_stock_model.onnx", "trained_stock_model.pkl",
    }  # fmt: skip


@pytest.mark.hazard(8)
def test_rolling_back_goes_to_b_then_to_a_and_then_refuses(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    a, b, c = deployed(archive, 3)
    assert archive.rollback(now=LATER).replaced == c
    assert live_id(archive) == b
    archive.rollback(now=LATER)
    assert live_id(archive) == a
    with pytest.raises(RollbackError, match="was the first"):
        archive.rollback(now=LATER)
    assert live_id(archive) == a


def test_a_rollback_can_be_undone_by_naming_the_newer_model(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    a, b, c = deployed(archive, 3)
    archive.rollback(a, now=LATER)
    archive.rollback(c, now=LATER)
    archive.rollback(now=LATER)
    assert live_id(archive) == b


def test_what_is_deployed_after_a_rollback_stands_on_the_model_that_served(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    a, b = deployed(archive, 2)
    archive.rollback(now=LATER)
    archive.unpin(now=LATER)
    c = added(archive, LATER).model_id
    archive.deploy(c, now=LATER, reason="better")
    assert [each.model_id for each in archive.trace_lineage()] == [c, a]
    assert [each.model_id for each in archive.trace_lineage(b)] == [b, a]


@pytest.mark.hazard(9)
def test_a_model_that_was_rolled_back_does_not_return_until_unpinned(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    a, _ = deployed(archive, 2)
    archive.rollback(now=LATER, reason="it lost money")
    c = added(archive, LATER).model_id
    with pytest.raises(PinnedError, match=f"pinned model {a}.*unpin"):
        archive.deploy(c, now=LATER, reason="better")
    assert live_id(archive) == a
    pin = archive.find_pin()
    assert pin is not None
    assert (pin.model_id, pin.since, pin.reason) == (a, LATER, "it lost money")
    assert archive.unpin(now=LATER) == pin
    assert archive.unpin(now=LATER) is archive.find_pin() is None
    archive.deploy(c, now=LATER, reason="better")
    assert live_id(archive) == c


@pytest.mark.hazard(8)
def test_two_people_who_roll_back_at_once_go_back_one_step_and_not_two(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    a, b, c = deployed(archive, 3)
    mine, theirs = archive.plan_rollback(), archive_in(tmp_path).plan_rollback()
    archive.rollback(now=LATER, plan=theirs)
    with pytest.raises(SupersededError, match="nothing was done") as caught:
        archive.rollback(now=LATER, plan=mine)
    assert caught.value.exit_code == 75
    assert live_id(archive) == b
    assert a < b < c


def test_a_model_compared_with_one_that_no_longer_serves_is_not_deployed(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    a, b = deployed(archive, 2)
    c = added(archive, LATER).model_id
    for champion in (a, None):
        with pytest.raises(SupersededError, match=f"meanwhile {b} serves"):
            archive.deploy(c, now=LATER, reason="better", champion=champion)
    assert live_id(archive) == b


@pytest.mark.hazard(15)
def test_a_rejected_model_serves_only_by_name_and_with_a_reason_that_is_recorded(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    (a,) = deployed(archive, 1)
    bad = added(archive, LATER, "rejected", "Sharpe -1.25, needs 0.50").model_id
    with pytest.raises(NotPromotedError, match=r"Sharpe -1\.25"):
        archive.deploy(bad, now=LATER, reason="I like it")
    with pytest.raises(UsageError, match="--reason"):
        archive.rollback(bad, now=LATER, reason="  ")
    assert live_id(archive) == a
    archive.rollback(bad, now=LATER, reason="the exam had a hole", by="ann")
    assert live_id(archive) == bad
    last = archive.list_deployments()[-1]
    assert (last.kind, last.reason, last.by, last.replaced) == ("rollback", "the exam had a hole", "ann", a)
    assert archive.find(bad).outcome == "rejected"
    archive.rollback(now=LATER)
    assert live_id(archive) == a


def test_the_model_that_serves_and_an_unknown_one_are_not_deployed(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    (a,) = deployed(archive, 1)
    with pytest.raises(UsageError, match="serves already"):
        archive.deploy(a, now=LATER, reason="again")
    with pytest.raises(ModelNotFoundError):
        archive.deploy("20990101_000000", now=LATER, reason="?")


@pytest.mark.hazard(15)
def test_a_model_that_its_verifier_refuses_is_not_deployed(tmp_path: Path) -> None:
    def refuse(path: Path, sha256: str) -> None:
        raise IntegrityError(f"{path}: the canary predictions differ")

    model = added(archive_in(tmp_path)).model_id
    archive = ModelArchive(tmp_path, verify=refuse)
    with pytest.raises(IntegrityError, match="canary"):
        archive.deploy(model, now=T0, reason="better")
    assert not archive.production.exists()
    assert archive.list_deployments() == ()
    files = sorted(archive.folder.iterdir())
    with pytest.raises(IntegrityError, match="canary"):
        added(archive, LATER)
    assert [record.model_id for record in archive.list_models()] == [model], "nor archived"
    assert sorted(archive.folder.iterdir()) == files


@pytest.mark.hazard(10)
def test_a_rollback_to_a_missing_file_is_refused_and_another_model_is_named(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    a, b, c = deployed(archive, 3)
    archive.locate_onnx(b).unlink()
    for action in (archive.plan_rollback, lambda: archive.rollback(now=LATER)):
        with pytest.raises(IntegrityError, match=f"{b}.*is missing.*`hftcl rollback {a}`"):
            action()
    assert live_id(archive) == c
    archive.locate_onnx(a).unlink()
    with pytest.raises(IntegrityError, match="Restore it from a backup"):
        archive.rollback(now=LATER)


def test_a_damaged_or_missing_model_is_never_named_as_the_other_one_to_roll_back_to(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    (a,) = deployed(archive, 1)
    whole, damaged = (added(archive, T0 + timedelta(days=day)).model_id for day in (1, 2))
    flipped = bytearray(archive.locate_onnx(damaged).read_bytes())
    flipped[-1] ^= 1
    archive.locate_onnx(damaged).write_bytes(flipped)
    for model_id in (None, a):
        with pytest.raises(RollbackError, match=rf"Name another: {whole}\.$"):
            archive.plan_rollback(model_id)
    archive.locate_onnx(whole).unlink()
    with pytest.raises(RollbackError, match=r"No other one has a whole file\.$"):
        archive.plan_rollback(a)


def test_recovery_names_each_thing_that_it_mended_and_the_second_finds_nothing(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    _, b = deployed(archive, 2)
    heard: list[str] = []
    listening = ModelArchive(tmp_path, verify=lambda path, sha256: None, on_note=heard.append)
    archive.production.write_bytes(b"garbage")
    archive.csv.unlink()
    archive.production_pkl.write_bytes(b"garbage")
    (tmp_path / ".trained_stock_model.onnx.abc.tmp").touch()
    (archive.folder / f".model_{b}.pkl.abc.tmp").touch()
    notes = listening.recover(LATER)
    assert [note.split(" was ")[0].rsplit("/")[-1] for note in notes] == [
        "trained_stock_model.onnx", "model_metadata.csv", "trained_stock_model.pkl",
    ]  # fmt: skip
    assert heard == list(notes)
    assert list(tmp_path.rglob(".*.tmp")) == []
    assert listening.recover(LATER) == ()
    assert live_id(archive) == b


@pytest.mark.hazard(11)
@pytest.mark.parametrize("damage", ["garbage", "deleted", "empty", "link", "pipe"])
def test_a_production_file_that_is_no_model_is_restored_before_the_next_change(tmp_path: Path, damage: str) -> None:
    archive = archive_in(tmp_path)
    a, b = deployed(archive, 2)
    archive.production.unlink()
    if damage in {"garbage", "empty"}:
        archive.production.write_bytes(b"x" * 100 if damage == "garbage" else b"")
    elif damage == "link":
        archive.production.symlink_to(tmp_path / "nowhere")
    elif damage == "pipe":
        os.mkfifo(archive.production)
    assert archive.find_live() is None
    assert [each.is_deployed for each in archive.list_models()] == [False, False]
    switched = archive.rollback(now=LATER)
    assert (switched.model.model_id, switched.replaced) == (a, b)
    assert f"model {b} was restored from the archive" in switched.notes[0]
    assert archive.production.read_bytes() == onnx_bytes(a)


@pytest.mark.hazard(11)
def test_a_registered_model_copied_over_production_serves_and_is_recorded(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    a, b, c = deployed(archive, 3)
    archive.production.write_bytes(onnx_bytes(a))
    assert live_id(archive) == a
    (by_hand, exported, pickled) = archive.recover(LATER)
    assert f"replaced by hand with model {a}" in by_hand
    assert "model_metadata.csv" in exported
    assert "trained_stock_model.pkl" in pickled
    assert (archive.list_deployments()[-1].kind, archive.list_deployments()[-1].replaced) == ("hand", c)
    assert archive.recover(LATER) == ()
    assert archive.find_pin() is None
    assert b == archive.rollback(b, now=LATER).model.model_id


def begun(archive: ModelArchive, model_id: str, replaced: str) -> None:
    """Leave the registry as a deployment leaves it that is killed between its intent and its end."""
    with open_to_change(archive.database) as db:
        db.execute(
            "INSERT INTO deployments (model_id, replaced, at, kind, reason, by, pending) VALUES (?, ?, ?, ?, ?, ?, 1)",
            (model_id, replaced, LATER.isoformat(), "deploy", "better", "retrain"),
        )


@pytest.mark.hazard(1)
def test_a_deployment_cut_off_after_its_rename_counts_at_once_and_is_finished_by_the_next_change(
    tmp_path: Path,
) -> None:
    archive = archive_in(tmp_path)
    (a,) = deployed(archive, 1)
    b, c = (added(archive, LATER).model_id for _ in range(2))
    begun(archive, b, a)
    archive.production.write_bytes(onnx_bytes(b))
    assert [each.model_id for each in archive.trace_lineage()] == [b, a]
    after = LATER + timedelta(days=1)
    notes = archive.deploy(c, now=after, reason="better", champion=b).notes
    assert (archive.find(b).served, archive.find(c).served) == (((LATER, after),), ((after, None),)), "as journalled"
    assert f"Model {b} was deployed, but the process ended before it was recorded" in notes[0]
    assert [each.model_id for each in archive.trace_lineage()] == [c, b, a]


@pytest.mark.hazard(1)
def test_a_deployment_cut_off_before_its_rename_never_counts_and_is_dropped(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    (a,) = deployed(archive, 1)
    b = added(archive, LATER).model_id
    begun(archive, b, a)
    assert [each.model_id for each in archive.trace_lineage()] == [a]
    assert archive.recover(LATER) == (
        f"The deployment of model {b} was cut off before it took effect; it was dropped.",
    )
    assert [each.model_id for each in archive.list_deployments()] == [a]
    assert archive.recover(LATER) == ()


@pytest.mark.hazard(11)
def test_a_pruned_model_that_a_person_put_back_is_archived_again(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    a, b = deployed(archive, 2)
    archive.rollback(now=LATER)
    archive.prune(0, now=LATER)
    assert not archive.find(b).kept
    archive.production.write_bytes(onnx_bytes(b))
    for _ in range(2):
        archive.recover(LATER)
        assert archive.find(b).kept
        assert archive.locate_onnx(b).read_bytes() == onnx_bytes(b)
    assert archive.rollback(a, now=LATER).replaced == b


@pytest.mark.hazard(10)
def test_a_rotted_archive_file_of_the_serving_model_is_restored_from_production(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    (a,) = deployed(archive, 1)
    archive.locate_onnx(a).write_bytes(b"rot")
    assert archive.verify_all()[0][0] == a
    assert "restored from the production file" in archive.recover(LATER)[0]
    assert archive.locate_onnx(a).read_bytes() == onnx_bytes(a)
    assert archive.verify_all() == ()


@pytest.mark.hazard(2)
def test_an_archived_file_of_the_serving_model_that_cannot_be_read_is_replaced(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    (a,) = deployed(archive, 1)
    path = archive.locate_onnx(a)
    path.unlink()
    path.symlink_to(path.name)  # ELOOP: a fault of the disk's that root meets too
    (note,) = archive.recover(LATER)
    assert note.startswith(f"{path} could not be read (")
    assert not path.is_symlink()
    assert path.read_bytes() == archive.production.read_bytes() == onnx_bytes(a)
    assert archive.verify_all() == ()


@pytest.mark.hazard(11)
def test_when_production_and_its_archive_are_both_lost_the_model_before_serves(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    a, b = deployed(archive, 2)
    archive.production.unlink()
    archive.locate_onnx(b).write_bytes(b"rot")
    (note, *_) = archive.recover(LATER)
    assert f"model {a}, an older one, serves now" in note
    assert live_id(archive) == a
    assert (archive.list_deployments()[-1].kind, archive.list_deployments()[-1].replaced) == ("restore", b)


@pytest.mark.hazard(11)
def test_when_every_copy_is_lost_recovery_says_that_nothing_serves(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    (a,) = deployed(archive, 1)
    archive.production.write_bytes(b"garbage")
    archive.locate_onnx(a).unlink()
    assert "nothing serves" in archive.recover(LATER)[0]
    assert archive.find_live() is None
    b = added(archive, LATER).model_id
    archive.deploy(b, now=LATER, reason="first again", champion=None)
    assert live_id(archive) == b


def test_a_production_file_of_unknown_origin_without_any_history_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "trained_stock_model.onnx").write_bytes(b"mine")
    archive = archive_in(tmp_path)
    assert "left alone" in archive.recover(T0)[0]
    assert archive.production.read_bytes() == b"mine"


@pytest.mark.hazard(12)
@pytest.mark.parametrize("change", ["deleted", "edited"])
def test_the_csv_is_rebuilt_as_it_was_and_that_is_told(tmp_path: Path, change: str) -> None:
    archive = archive_in(tmp_path)
    deployed(archive, 2)
    before = archive.csv.read_bytes()
    if change == "edited":
        archive.csv.write_bytes(before.replace(b"-1.25", b"9.99"))
    else:
        archive.csv.unlink()
    assert archive.recover(LATER) == (f"{archive.csv} was not what the registry says; it has been written again.",)
    assert archive.csv.read_bytes() == before


def test_a_claim_of_a_process_that_lives_is_left_and_one_of_a_dead_process_is_swept(tmp_path: Path) -> None:
    alive, other = archive_in(tmp_path), archive_in(tmp_path)
    claimed = alive.claim_id(T0)
    assert other.recover(T0) == ()
    assert (other.folder / f".model_{claimed}.claim").exists()
    dead = "20260105_030000"
    (other.folder / f".model_{dead}.claim").touch()
    other.locate_onnx(dead).write_bytes(b"half")
    assert other.recover(T0) == (
        f"Model {dead} had been archived by half when its process ended; its files were deleted.",
    )
    assert not other.locate_onnx(dead).exists()
    assert not (other.folder / f".model_{dead}.claim").exists()
    assert alive.add(a_model(claimed), b"onnx", b"pkl", now=T0).model_id == claimed


@pytest.mark.hazard(14)
def test_pruning_keeps_the_newest_the_serving_one_and_all_that_it_stands_on(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    a, b, c = deployed(archive, 3)
    archive.rollback(now=LATER)
    d, e = (added(archive, LATER + timedelta(days=n), "rejected").model_id for n in range(2))
    assert archive.prune(1, now=LATER) == (c, d)
    assert sorted(path.name for path in archive.folder.glob("*.onnx")) == [f"model_{each}.onnx" for each in (a, b, e)]
    assert [each.kept for each in archive.list_models()] == [True, False, False, True, True]
    assert archive.prune(1, now=LATER) == ()
    assert archive.verify_all() == ()
    with pytest.raises(IntegrityError, match=rf"{c}.*was pruned.*`hftcl rollback {a}`"):
        archive.rollback(c, now=LATER)
    archive.rollback(now=LATER)
    assert live_id(archive) == a


def test_pruning_that_was_cut_off_is_finished_by_recovery(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    deployed(archive, 2)
    c = added(archive, LATER, "rejected").model_id
    data = archive.locate_onnx(c).read_bytes()
    archive.prune(0, now=LATER)
    archive.locate_onnx(c).write_bytes(data)
    assert archive.recover(LATER) == ()
    assert not archive.locate_onnx(c).exists()


@pytest.mark.hazard(6)
def test_a_change_is_refused_while_another_one_is_under_way_and_reading_is_not(tmp_path: Path) -> None:
    archive = archive_in(tmp_path, wait_s=0)
    (a,) = deployed(archive, 1)
    with durable.lock(archive.folder / ".lock", "change of the archive"):
        with pytest.raises(LockHeldError, match=f"process {os.getpid()}"):
            archive.unpin(now=LATER)
        assert live_id(archive) == a
        assert len(archive.list_models()) == 1


@pytest.mark.hazard(2)
def test_a_folder_in_the_place_of_production_is_one_clear_error(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    deployed(archive, 1)
    archive.production.unlink()
    archive.production.mkdir()
    with pytest.raises(StorageError, match=r"trained_stock_model\.onnx") as caught:
        archive.recover(LATER)
    assert "\n" not in str(caught.value)
    archive.production.rmdir()
    assert len(archive.recover(LATER)) == 1


def test_each_mending_is_told_and_once_what_lasts(tmp_path: Path) -> None:
    archive, heard = archive_in(tmp_path), list[str]()
    deployed(archive, 2)
    archive.hear_notes(heard.append)
    for _ in range(2):
        archive.csv.unlink()
        (mended,) = archive.recover(LATER)
        assert mended.endswith("was not what the registry says; it has been written again.")
    archive.csv.unlink()
    archive.csv.mkdir()
    (archive.csv / "of a person").touch()
    assert len(archive.recover(LATER)) == 1
    assert archive.recover(LATER) == ()
    assert len(heard) == 3
