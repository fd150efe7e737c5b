"""The production file, `trained_stock_model.onnx`: the one place that writes it, and the recovery of all around it.

The rename over it is the only commit point.
"""

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from hftcl import durable
from hftcl.archive import export
from hftcl.archive.records import Deployment, Kind, LastingNote, Switched
from hftcl.archive.registry import Registry, RegistryState, compute_digest, read_verified
from hftcl.archive.schema import faults
from hftcl.errors import HftclError, LockHeldError, StorageError
from hftcl.home import CLAIMS, MODELS, PICKLES, Home, read_claim
from hftcl.sqlite import transaction


def switch(
    registry: Registry,
    db: sqlite3.Connection,
    model_id: str,
    data: bytes,
    *,
    kind: Kind,
    reason: str,
    by: str,
    at: datetime,
) -> Switched:
    """Make `data`, the verified file of `model_id`, the one that serves.

    Killed before the rename, the old model serves and recovery drops the intent; killed after it, the new one does and
    recovery finishes the rest. An error before or at the rename is raised (OSError, sqlite3.Error), and the old model
    serves; one after it becomes a note, because the work is done: the next command that changes something mends it.
    """
    state = registry.read_state_in(db)
    begun = _write_deployment(db, model_id, state, kind, reason, by, at, pending=True)
    previous = registry.production.read_bytes() if registry.production.is_file() else None
    kept = []
    try:
        if state.production.state == "unknown" and previous is not None:  # the user's own, or put there by hand
            kept.append(export.describe_kept(registry.production, durable.keep_copy(registry.production)))
        durable.write_atomically(registry.production, data)
    except OSError as error:
        _take_back(registry, db, data, previous)
        if compute_digest(registry.production) == state.rows[model_id]["sha256"]:
            raise StorageError(
                f"{durable.describe_storage_fault('the deployment', error)} Model {model_id} serves now all the same, "
                "because the disk did not let the one before be put back: mend it, and do not repeat the command; "
                "`hftcl history` tells what serves."
            ) from error
        raise
    # From memory, not read again: nothing may fail any more now that the model serves.
    after = RegistryState(True, state.rows[model_id]["sha256"], state.rows, (*state.deployments, begun))
    try:
        with faults("finishing the deployment"):
            finish_deployment(db)
            notes = (*kept, *export.refresh(registry, registry.read_state_in(db), mending=False))
    except HftclError as fault:
        notes = (
            *kept,
            f"The model serves, but not all is written down: {fault} The next change of the archive mends it.",
        )
    return Switched(model=after.find_record(model_id), replaced=begun.replaced, notes=notes)


def _write_deployment(
    db: sqlite3.Connection,
    model_id: str,
    state: RegistryState,
    kind: Kind,
    reason: str,
    by: str,
    at: datetime,
    *,
    pending: bool = False,
) -> Deployment:
    """Write one deployment down, in the place of one that was begun and dropped."""
    replaced = state.intended_id if kind == "hand" else state.live_id or state.intended_id
    with transaction(db):
        db.execute("DELETE FROM deployments WHERE pending")
        number = db.execute(
            "INSERT INTO deployments (model_id, replaced, at, kind, reason, by, pending) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (model_id, replaced, format_utc(at), kind, reason, by, int(pending)),
        ).lastrowid
    return Deployment(
        number=number or 0,
        model_id=model_id,
        replaced=replaced,
        at=at.astimezone(UTC),
        kind=kind,
        reason=reason,
        by=by,
        pending=pending,
        unpinned_at=None,
    )


def _take_back(registry: Registry, db: sqlite3.Connection, data: bytes, previous: bytes | None) -> None:
    """Undo what failed, also a rename whose folder could not be synced: what ends with an error has not deployed."""
    with contextlib.suppress(
        OSError, sqlite3.Error
    ):  # what cannot be undone now, recovery settles by production's hash
        if compute_digest(registry.production) == hashlib.sha256(data).hexdigest():
            if previous is None:
                registry.production.unlink()
            else:
                durable.write_temporary(registry.production, previous).replace(registry.production)
        with transaction(db):
            db.execute("DELETE FROM deployments WHERE pending")


def finish_deployment(db: sqlite3.Connection) -> None:
    """Mark the deployment under way as done."""
    with transaction(db):
        db.execute("UPDATE deployments SET pending = 0 WHERE pending")


def recover(registry: Registry, db: sqlite3.Connection, at: datetime) -> tuple[str, ...]:
    """Mend what a crash, a full disk or a hand has left; return a line for a person about each thing that was mended.

    Raises IntegrityError for a damaged registry, StorageError where the disk does not let it mend.
    """
    with faults("recovering the archive"):
        notes = [*_sweep(registry, db), *_settle_intent(registry, db), *_mend_production(registry, db, at)]
        notes += _mend_archive(registry, db)
        fresh = not registry.read_state_in(db).rows  # then a CSV is of another program: it is not ours to write over
        return (*notes, *(() if fresh else export.refresh(registry, registry.read_state_in(db), mending=True)))


def _sweep(registry: Registry, db: sqlite3.Connection) -> Iterator[str]:
    """Delete temporary files, the files of pruned models, and what a killed `add` left under the id it had claimed."""
    durable.sweep_temporary(registry.home, [registry.production.name, registry.production_pkl.name])
    scores = Home(registry.home).session_scores.name
    durable.sweep_temporary(registry.folder, [registry.csv.name, scores, MODELS, PICKLES])
    rows = {row["model_id"]: row["kept"] for row in db.execute("SELECT model_id, kept FROM models")}
    for model_id in (row_id for row_id, kept in rows.items() if not kept):
        _delete(registry, model_id)
    for claim in sorted(registry.folder.glob(CLAIMS)):
        model_id = read_claim(claim)
        with contextlib.suppress(LockHeldError), durable.lock(claim, "training"):  # held: somebody trains it now
            if model_id not in rows and _delete(registry, model_id):
                yield f"Model {model_id} had been archived by half when its process ended; its files were deleted."
            claim.unlink(missing_ok=True)


def _delete(registry: Registry, model_id: str) -> bool:
    files = [path for path in (registry.locate_onnx(model_id), registry.locate_pkl(model_id)) if path.exists()]
    for path in files:
        path.unlink()
    return bool(files)


def _settle_intent(registry: Registry, db: sqlite3.Connection) -> Iterator[str]:
    state = registry.read_state_in(db)
    if state.pending is None:
        return
    if state.pending.model_id == state.live_id:
        durable.sync_folder(registry.home)  # the rename may not be on disk yet
        finish_deployment(db)
        yield f"Model {state.pending.model_id} was deployed, but the process ended before it was recorded; now it is."
    else:
        with transaction(db):
            db.execute("DELETE FROM deployments WHERE pending")
        yield f"The deployment of model {state.pending.model_id} was cut off before it took effect; it was dropped."


def _mend_production(registry: Registry, db: sqlite3.Connection, at: datetime) -> Iterator[str]:
    state = registry.read_state_in(db)
    name = registry.production
    if state.live_id == state.intended_id:
        if state.production.state == "unknown":
            yield LastingNote(
                f"{name} is not a model of this archive. It was left alone; the next deployment keeps a copy of it."
            )
    elif state.live_id is not None:
        _write_deployment(db, state.live_id, state, "hand", "the production file was replaced by hand", "recovery", at)
        yield f"{name} was replaced by hand with model {state.live_id}, which serves now; that is recorded."
    else:
        yield _restore(registry, db, state, at)


def _restore(registry: Registry, db: sqlite3.Connection, state: RegistryState, at: datetime) -> str:
    fault = "was missing" if state.production.state == "missing" else "was not a model of this archive"
    for model_id in (state.intended_id, *state.list_ancestors(state.intended_id)):
        assert model_id is not None  # noqa: S101 - the caller found that there is an intended model
        row = state.rows[model_id]
        data = read_verified(registry.locate_onnx(model_id), row["sha256"]) if row["kept"] else None
        if data is None:
            continue
        if model_id == state.intended_id:
            durable.write_atomically(registry.production, data)
            return f"{registry.production} {fault}; model {model_id} was restored from the archive."
        reason = f"production {fault} and the archive has no whole file of model {state.intended_id}"
        switch(registry, db, model_id, data, kind="restore", reason=reason, by="recovery", at=at)
        return (
            f"{registry.production} {fault}, and so was its archived file; model {model_id}, an older one, serves now."
        )
    return (
        f"{registry.production} {fault}, and the archive has no whole file of model {state.intended_id} or of one "
        "before it: nothing serves. Name another with `hftcl rollback MODEL_ID`, or run `hftcl retrain --force`."
    )


def _mend_archive(registry: Registry, db: sqlite3.Connection) -> Iterator[str]:
    """Restore the serving model's archived file from production, which is the same model."""
    state = registry.read_state_in(db)
    if state.live_id is None:
        return
    path, sha256 = registry.locate_onnx(state.live_id), state.rows[state.live_id]["sha256"]
    fault = _find_fault(path, sha256)
    data = read_verified(registry.production, sha256) if fault else None
    if data is not None:
        durable.write_atomically(path, data)
        with transaction(db):  # a pruned model that a person put back must not be swept again
            db.execute("UPDATE models SET kept = 1 WHERE model_id = ?", (state.live_id,))
        yield f"{path} {fault}; it was restored from the production file."


def _find_fault(path: Path, sha256: str) -> str | None:
    """Return what keeps a file from being used as the model with this SHA-256, as a verb; None where it is that.

    A file that cannot be read ends nothing here: another one may take its place, for which the folder alone counts.
    """
    try:
        return None if compute_digest(path) == sha256 else "was missing or altered"
    except OSError as error:
        return f"could not be read ({error.strerror or error})"


def format_utc(moment: datetime) -> str:
    """Return `moment` as the registry stores it. Raises ValueError for one without a time zone."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone.")
    return moment.astimezone(UTC).isoformat()


def claim_path(registry: Registry, model_id: str) -> Path:
    """Return the file that reserves `model_id` while its model is being trained."""
    return registry.files.claim(model_id)
