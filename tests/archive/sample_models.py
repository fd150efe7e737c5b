"""Small models for tests of the archive: bytes in place of an ONNX file, verified by their hash alone."""

import hashlib
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path

from hftcl.archive.deployment import ModelArchive
from hftcl.archive.record import RecordedSession
from hftcl.archive.records import ModelRecord, NewModel, Outcome
from hftcl.errors import IntegrityError

T0 = datetime(2026, 1, 5, 2, 0, tzinfo=UTC)


def hash_only(path: Path, sha256: str) -> None:
    """Verify a file by its hash, where the product would open it and ask it for its canary predictions too."""
    if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise IntegrityError(f"{path} is not what was archived.")


def archive_in(home: Path, *, wait_s: float = 10.0) -> ModelArchive:
    """Return the archive under `home`."""
    return ModelArchive(home, verify=hash_only, wait_s=wait_s)


def a_model(model_id: str, outcome: Outcome = "deployed", reason: str = "cleared every bar") -> NewModel:
    """Return what is known of a model when it enters the archive."""
    return NewModel(
        model_id=model_id,
        trained_at=datetime.strptime(model_id, "%Y%m%d_%H%M%S").replace(tzinfo=UTC),
        outcome=outcome,
        reason=reason,
        source="synthetic",
        synthetic=True,
        family="forest",
        rows=149_000,
        sessions=40,
        tickers=("AAPL", "NVDA"),
        trained_from=date(2025, 11, 3),
        trained_to=date(2025, 12, 5),
        label_end=datetime(2025, 12, 5, 20, 58, tzinfo=UTC),
        exam_from=date(2025, 12, 8),
        exam_to=date(2026, 1, 2),
        val_sharpe=-1.25,
        report={"challenger": {"sharpe": -1.25, "pnl_by_session": {"2026-01-02": -0.001}}, "champion": None},
    )


def onnx_bytes(model_id: str, size: int = 5_000) -> bytes:
    """Return the file of a model, different for each id."""
    return hashlib.shake_256(model_id.encode()).digest(size)


def added(
    archive: ModelArchive,
    now: datetime = T0,
    outcome: Outcome = "deployed",
    reason: str = "cleared every bar",
    sessions: Iterable[RecordedSession] = (),
) -> ModelRecord:
    """Add a model claimed at `now`, and with it `sessions` of the record, as of that model."""
    model_id = archive.claim_id(now)
    rows = [replace(session, model_id=model_id) for session in sessions]
    model, onnx, pkl = a_model(model_id, outcome, reason), onnx_bytes(model_id), b"pkl" + model_id.encode()
    return archive.add(model, onnx, pkl, now=now, sessions=rows)


def deployed(archive: ModelArchive, count: int) -> list[str]:
    """Add and deploy `count` models, a week apart; return their ids, oldest first."""
    if archive.database.exists():
        return _deploy(archive, count)
    ids, files = _files_of_deployed(count)
    for name, content in files.items():
        (archive.home / name).parent.mkdir(parents=True, exist_ok=True)
        (archive.home / name).write_bytes(content)
    return [*ids]


@cache
def _files_of_deployed(count: int) -> tuple[list[str], dict[str, bytes]]:
    """Return the ids in an archive of `count` models, and all its files: a hundred tests begin with one."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        ids = _deploy(archive_in(home), count)
        files = {str(file.relative_to(home)): file.read_bytes() for file in home.rglob("*") if file.is_file()}
    return ids, files


def _deploy(archive: ModelArchive, count: int) -> list[str]:
    ids = []
    for week in range(count):
        now = T0 + timedelta(weeks=week)
        ids.append(added(archive, now).model_id)
        archive.deploy(ids[-1], now=now, reason="better")
    return ids
