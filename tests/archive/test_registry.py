"""What the registry says, what it takes in and what it refuses."""

import contextlib
import csv
import dataclasses
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hftcl import durable
from hftcl.archive import registry
from hftcl.archive.records import parse_model_id
from hftcl.archive.registry import Registry, write_verified
from hftcl.errors import (
    IntegrityError,
    ModelNotFoundError,
    NewerVersionError,
    RollbackError,
    UsageError,
)
from tests.archive.sample_models import T0, a_model, added, archive_in, deployed, onnx_bytes


def everything_in(folder: Path) -> dict[str, tuple[int, int]]:
    """Return every path under `folder` with size and time of modification."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(folder.rglob("*"))}


def registry_of(home: Path) -> sqlite3.Connection:
    return sqlite3.connect(home / "models" / "registry.sqlite", isolation_level=None)


def count_read_bytes() -> int:
    """Return how many bytes this process has read from files so far: rchar of proc(5)."""
    return int(Path("/proc/self/io").read_text().split()[1])


def test_what_is_archived_is_read_once_to_compare_it_and_the_model_once_more_to_verify_it(tmp_path: Path) -> None:
    archive, size = archive_in(tmp_path), 8_000_000
    model_id = archive.claim_id(T0)
    onnx, pkl = onnx_bytes(model_id, size), onnx_bytes(f"{model_id} pkl", size)
    before = count_read_bytes()
    archive.add(a_model(model_id), onnx, pkl, now=T0)
    assert count_read_bytes() - before < 3.5 * size


def test_an_empty_home_has_an_empty_history_and_stays_empty(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "nowhere")
    for many in (registry.list_models, registry.list_attempts, registry.trace_lineage, registry.list_deployments):
        assert many() == ()
    for one in (registry.find_live, registry.find_pin):
        assert one() is None
    assert registry.read_production().state == "missing"
    assert list(tmp_path.iterdir()) == []


def test_recovering_an_empty_home_leaves_it_empty(tmp_path: Path) -> None:
    assert archive_in(tmp_path / "nowhere").recover(T0) == ()
    assert list(tmp_path.iterdir()) == []


def test_reading_changes_no_file(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    first, _, _ = deployed(archive, 3)
    before = everything_in(tmp_path)
    registry = Registry(tmp_path)
    for read in (
        registry.list_models,
        registry.find_live,
        registry.trace_lineage,
        registry.find_pin,
        registry.list_attempts,
    ):
        read()
    registry.find(first)
    registry.plan_rollback()
    registry.plan_rollback(first)
    archive.verify_all()
    assert everything_in(tmp_path) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become the user who may not write")
def test_one_who_may_only_read_sees_the_history_and_is_refused_a_change(tmp_path: Path) -> None:
    home = Path("/tmp") / f"hftcl-read-only-{os.getpid()}"  # noqa: S108 - tmp_path is closed to other users
    ids = deployed(archive_in(home), 2)
    home.chmod(0o755)
    code = f"""
import os
from datetime import UTC, datetime
from pathlib import Path
from hftcl.archive.deployment import ModelArchive
from hftcl.errors import StorageError
os.setgid(65534); os.setuid(65534)
archive = ModelArchive(Path({str(home)!r}))
print(*[each.model_id for each in archive.list_models()], archive.find_live().model_id)
try:
    archive.unpin(now=datetime(2026, 1, 5, tzinfo=UTC))
except StorageError as error:
    print(error)
"""
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    finally:
        shutil.rmtree(home)
    listed, refused = done.stdout.splitlines()
    assert listed.split() == [ids[1], ids[0], ids[1]]
    assert "Permission denied" in refused
    assert "[paths] home" in refused


def test_reading_the_history_loads_nothing_heavy(tmp_path: Path) -> None:
    deployed(archive_in(tmp_path), 1)
    code = (
        "import sys; from pathlib import Path; from hftcl.archive.registry import Registry\n"
        f"assert len(Registry(Path({str(tmp_path)!r})).list_models()) == 1\n"
        "print(sorted({'numpy', 'polars', 'pandas', 'sklearn', 'onnxruntime', 'onnx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_model_comes_back_as_it_was_added(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    model_id = archive.claim_id(T0)
    archive.add(a_model(model_id, "rejected", "Sharpe -1.25, needs 0.50"), b"onnx", b"pkl", now=T0)
    record = Registry(tmp_path).find(model_id)
    wanted = a_model(model_id, "rejected", "Sharpe -1.25, needs 0.50")
    for name in type(wanted).__dataclass_fields__:
        assert getattr(record, name) == getattr(wanted, name), name
    assert (record.parent, record.passed, record.is_deployed, record.served, record.kept) == (
        None,
        False,
        False,
        (),
        True,
    )
    assert archive.locate_onnx(model_id).read_bytes() == b"onnx"
    assert archive.locate_pkl(model_id).read_bytes() == b"pkl"
    assert record.trained_at == T0
    assert record.exam_from == date(2025, 12, 8)


def test_a_model_whose_sharpe_and_exam_are_undefined_comes_back_with_none(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    model = a_model(archive.claim_id(T0), "inconclusive")
    archive.add(dataclasses.replace(model, val_sharpe=None, exam_from=None, exam_to=None), b"onnx", b"pkl", now=T0)
    record = archive.list_models()[0]
    assert (record.val_sharpe, record.exam_from, record.exam_to) == (None, None, None)


@pytest.mark.parametrize(
    "change",
    [{"val_sharpe": float("nan")}, {"report": {"x": float("inf")}}, {"label_end": T0.replace(tzinfo=None)}],
)
def test_nan_and_times_without_a_zone_never_enter_the_registry(tmp_path: Path, change: dict[str, Any]) -> None:
    archive = archive_in(tmp_path)
    model = dataclasses.replace(a_model(archive.claim_id(T0)), **change)
    with pytest.raises(ValueError, match=r"nan|JSON|time zone"):
        archive.add(model, b"onnx", b"pkl", now=T0)
    assert archive.list_models() == ()
    assert not archive.locate_onnx(model.model_id).exists()


def test_history_is_newest_first_and_limited(tmp_path: Path) -> None:
    ids = deployed(archive_in(tmp_path), 4)
    assert [each.model_id for each in Registry(tmp_path).list_models(limit=2)] == [ids[3], ids[2]]


def test_spans_of_service_follow_one_another(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    first, second = deployed(archive, 2)
    later = T0 + timedelta(days=10)
    archive.rollback(now=later, reason="it lost money")
    assert archive.find(first).served == ((T0, T0 + timedelta(weeks=1)), (later, None))
    assert archive.find(second).served == ((T0 + timedelta(weeks=1), later),)
    assert [(each.kind, each.model_id, each.replaced) for each in archive.list_deployments()] == [
        ("deploy", first, None),
        ("deploy", second, first),
        ("rollback", first, second),
    ]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(minutes=st.lists(st.integers(0, 60), min_size=1, max_size=5))
def test_spans_of_service_never_overlap_or_run_backwards_whatever_the_dates_of_the_deployments(
    minutes: list[int], tmp_path: Path
) -> None:
    archive = archive_in(Path(tempfile.mkdtemp(dir=tmp_path)))
    order = list(deployed(archive, 2))  # which serve from T0, and from a week later
    for count, minute in enumerate(minutes):  # earlier than what served then, as by a clock that was put back
        order.append(order[count])
        archive.rollback(order[count], now=T0 + timedelta(weeks=1, minutes=minute - 30), reason="again")
    spans = sorted(
        (begin, end or datetime.max.replace(tzinfo=UTC))
        for model in archive.list_models()
        for begin, end in model.served
    )
    assert len(spans) == len(order)
    assert all(begin <= end for begin, end in spans)
    assert all(end == begin for (_, end), (begin, _) in pairwise(spans))


def test_a_model_that_passed_but_was_never_deployed_is_not_called_deployed(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    record = added(archive)
    assert record.outcome == "inconclusive"
    assert "never deployed" in record.reason
    archive.deploy(record.model_id, now=T0, reason="better")
    assert (archive.find(record.model_id).outcome, archive.find(record.model_id).reason) == (
        "deployed",
        "cleared every bar",
    )


def test_the_outcome_can_be_changed_until_the_model_serves(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    one, two = added(archive, T0).model_id, added(archive, T0).model_id
    archive.set_outcome(one, "rejected", "pinned", now=T0)
    assert (archive.find(one).outcome, archive.find(one).reason) == ("rejected", "pinned")
    archive.deploy(two, now=T0, reason="better")
    with pytest.raises(UsageError, match="has served"):
        archive.set_outcome(two, "rejected", "pinned", now=T0)


def test_two_models_trained_in_one_second_get_two_ids(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    assert [archive.claim_id(T0) for _ in range(3)] == ["20260105_020000", "20260105_020001", "20260105_020002"]
    assert archive_in(tmp_path).claim_id(T0) == "20260105_020003"


def test_an_id_is_the_utc_second_wherever_the_clock_stands(tmp_path: Path) -> None:
    assert archive_in(tmp_path).claim_id(T0.astimezone(ZoneInfo("Asia/Tokyo"))) == "20260105_020000"


def test_a_discarded_id_is_free_again(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    model_id = archive.claim_id(T0)
    archive.discard(model_id)
    archive.discard("20990101_000000")
    assert archive.claim_id(T0) == model_id


def test_an_id_or_a_file_that_is_archived_is_refused(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    model_id = added(archive).model_id
    with pytest.raises(IntegrityError, match="its id is taken"):
        archive.add(a_model(model_id), b"other", b"pkl", now=T0)
    with pytest.raises(IntegrityError, match=f"its file is that of model {model_id}"):
        archive.add(a_model(archive.claim_id(T0)), onnx_bytes(model_id), b"pkl", now=T0)
    assert archive.verify_all() == ()
    assert len(archive.list_models()) == 1


@pytest.mark.parametrize("text", ["20260109_020000", "model_20260109_020000"])
def test_an_id_is_read_with_and_without_its_prefix(text: str) -> None:
    assert parse_model_id(text) == "20260109_020000"


def test_an_unknown_id_is_answered_with_the_newest_that_are_known(tmp_path: Path) -> None:
    ids = deployed(archive_in(tmp_path), 4)
    with pytest.raises(ModelNotFoundError, match=f"{ids[3]}, {ids[2]}, {ids[1]};") as caught:
        Registry(tmp_path).find("20990101_000000")
    assert caught.value.exit_code == 1
    with pytest.raises(ModelNotFoundError, match="none yet"):
        Registry(tmp_path / "empty").find("20990101_000000")


def test_attempts_are_told_newest_first(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    for day, outcome in enumerate(["deployed", "rejected", "inconclusive", "skipped", "failed"]):
        archive.record_attempt(T0 + timedelta(days=day), kind="forced", outcome=outcome, reason="r", model_id=None)
    assert [each.outcome for each in archive.list_attempts(limit=2)] == ["failed", "skipped"]


def test_what_is_committed_survives_a_power_cut(tmp_path: Path) -> None:
    deployed(archive_in(tmp_path), 1)
    with contextlib.closing(registry_of(tmp_path)) as db:
        assert db.execute("PRAGMA journal_mode").fetchone()[0] == "delete"
        assert db.execute("PRAGMA user_version").fetchone()[0] == 6
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


@pytest.mark.hazard(13)
def test_a_registry_of_a_newer_version_is_left_alone_and_both_versions_are_named(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    deployed(archive, 1)
    with contextlib.closing(registry_of(tmp_path)) as db:
        db.execute("PRAGMA user_version = 7")
    before = everything_in(tmp_path)
    actions: tuple[Callable[[], object], ...] = (
        archive.list_models,
        lambda: archive.unpin(now=T0),
        lambda: archive.recover(T0),
    )
    for action in actions:
        with pytest.raises(NewerVersionError, match=r"version 7.*up to version 6") as caught:
            action()
        assert caught.value.exit_code == 78
    before.pop(str(tmp_path / "models" / ".lock"))
    after = everything_in(tmp_path)
    after.pop(str(tmp_path / "models" / ".lock"))
    assert after == before


def _text(path: Path) -> None:
    path.write_text("these are my notes\n" * 100)


def _torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:6_000])


def _overwritten(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:8192] = b"x" * 4096
    path.write_bytes(data)


def _of_another_program(path: Path) -> None:
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE notes (text TEXT)")


@pytest.mark.parametrize("damage", [_text, _torn, _overwritten, _of_another_program])
def test_a_damaged_registry_is_one_clear_error_and_the_production_file_stays(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    archive = archive_in(tmp_path)
    deployed(archive, 2)
    serving = archive.production.read_bytes()
    damage(archive.database)
    damaged = archive.database.read_bytes()
    with pytest.raises(
        IntegrityError, match=r"registry\.sqlite is damaged or not a registry.*repair.*backup"
    ) as caught:
        archive.recover(T0)
    assert "\n" not in str(caught.value)
    assert archive.production.read_bytes() == serving
    assert archive.database.read_bytes() == damaged


def test_a_registry_cut_off_at_its_creation_reads_as_empty_and_can_be_used(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    archive.folder.mkdir()
    archive.database.touch()
    assert archive.list_models() == ()
    assert len(deployed(archive, 1)) == len(archive.list_models()) == 1


def test_a_reader_undoes_a_transaction_that_a_killed_writer_left(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    ids = deployed(archive, 2)
    code = """
import os, signal, sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA cache_size = 1")
db.execute("BEGIN IMMEDIATE")
db.execute("UPDATE models SET outcome = 'rejected', report = hex(zeroblob(200000))")
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code, archive.database], check=False)
    journal = archive.database.with_name("registry.sqlite-journal")
    assert journal.stat().st_size > 0
    assert [each.outcome for each in Registry(tmp_path).list_models()] == ["deployed", "deployed"]
    assert Registry(tmp_path).trace_lineage()[0].model_id == ids[1]


def test_a_plan_names_both_models_and_changes_nothing(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    first, second = deployed(archive, 2)
    plan = archive.plan_rollback()
    assert plan.current is not None
    assert (plan.current.model_id, plan.target.model_id, plan.needs_reason) == (second, first, False)
    assert archive.find_live() == plan.current


def test_there_is_no_plan_without_a_model_before(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    with pytest.raises(RollbackError, match="No model has ever been deployed"):
        archive.plan_rollback()
    first, *_ = deployed(archive, 1)
    with pytest.raises(RollbackError, match=r"there is none before it\. There is only this one\.$"):
        archive.plan_rollback()
    other = added(archive, T0 + timedelta(days=1), "rejected").model_id
    with pytest.raises(RollbackError, match=f"{first} was the first.*Name another: {other}") as caught:
        archive.plan_rollback()
    assert caught.value.exit_code == 1
    with pytest.raises(RollbackError, match="is the one that serves"):
        archive.plan_rollback(first)


def test_the_csv_is_the_history_in_a_readable_form(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    first, second = deployed(archive, 2)
    with archive.csv.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["model_id"] for row in rows] == [second, first]
    assert (rows[0]["is_deployed"], rows[1]["is_deployed"]) == ("True", "False")
    assert (rows[0]["val_sharpe"], rows[0]["parent"], rows[0]["outcome"]) == ("-1.25", first, "deployed")
    assert (rows[0]["trained_date"], rows[0]["source"]) == ("2026-01-12T02:00:00+00:00", "synthetic")
    assert rows[0]["sha256"] == archive.find(second).sha256
    assert json.loads(rows[0]["served"]) == [["2026-01-12T02:00:00+00:00", None]]


def test_what_did_not_come_to_hold_what_was_written_is_deleted_and_what_is_too_long_is_never_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, write = tmp_path / "model", durable.write_atomically
    monkeypatch.setattr(registry, "_LARGEST", 4)
    monkeypatch.setattr(durable, "write_atomically", lambda path, data: write(path, data[:-1] + b"x"))
    with pytest.raises(IntegrityError, match="did not come to hold"):
        write_verified(path, b"1234")
    assert not path.exists()
    with pytest.raises(IntegrityError, match=r"would have 5 bytes, and no file of the archive may have more than 4\."):
        write_verified(path, b"12345")
    monkeypatch.undo()
    write_verified(path, b"1234")
    assert path.read_bytes() == b"1234"
