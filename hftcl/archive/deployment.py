"""The archive of models, changed: ids, adding, deploying, rolling back, pruning.

Every change holds the lock of the registry and begins with recovery, so that nothing builds on what a crash left.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hftcl import durable, sqlite
from hftcl.archive import export, looks, production, record
from hftcl.archive.looks import Look
from hftcl.archive.production import format_utc
from hftcl.archive.record import RecordedSession
from hftcl.archive.records import (
    Kind,
    LastingNote,
    ModelRecord,
    Moment,
    NewModel,
    Outcome,
    Pin,
    RollbackPlan,
    Switched,
    build_model_id,
    parse_model_id,
    read_moment,
)
from hftcl.archive.registry import Registry, RegistryState, write_verified
from hftcl.archive.schema import REGISTRY, build_damage_error, faults, open_to_change, open_to_read
from hftcl.errors import (
    HftclError,
    IntegrityError,
    NotPromotedError,
    PinnedError,
    SupersededError,
    UsageError,
)
from hftcl.formats import format_moment
from hftcl.sqlite import transaction

Verify = Callable[[Path, str], None]
"""Called with an archived model file and its SHA-256; raises HftclError if that may not serve."""
_ANY = "any"  # no model_id looks like it ("20260102_060000"), and None already means that no model serves
_SPARE_BYTES = 1 << 20  # for the registry, its journal and the CSV


def verify_artifact(path: Path, sha256: str) -> None:
    """Check hash, schema and canary predictions of a model file, as the bot would. Raises IntegrityError."""
    from hftcl.archive import artifact  # loads onnxruntime, which `history` must not pay for

    artifact.load(path, expected_sha256=sha256)


class ModelArchive(Registry):
    """The models under `home`, changed and read.

    A change waits at most `wait_s` for another one to end, then raises LockHeldError. Everything raises StorageError
    where the disk is full, forbidden or failing; then what was live still is. `on_note` hears of each thing that
    recovery mended, also when the change itself is refused, and of each copy of what is committed that could not be
    written; of the same once. `now` of a change is the time, UTC, or a clock that is read once the lock is held: a
    change that waited for it is not dated before one that came first.
    """

    def __init__(
        self,
        home: Path,
        *,
        verify: Verify = verify_artifact,
        wait_s: float = 10.0,
        on_note: Callable[[str], None] = lambda note: None,
    ) -> None:
        super().__init__(home)
        self._verify = verify
        self._wait_s = wait_s
        self._on_note = on_note
        self._told: set[str] = set()
        self._claims: dict[str, contextlib.ExitStack] = {}

    def hear_notes(self, on_note: Callable[[str], None]) -> None:
        """From now on, tell `on_note` what there is to tell."""
        self._on_note = on_note

    def claim_id(self, trained_at: datetime, *, now: Moment | None = None) -> str:
        """Reserve and return the id of a model trained at `trained_at`, or the next second that is free.

        now: None where that is the time. The claim lasts until `add` or `discard`, or until this process ends: then
        recovery frees it.
        """
        with self.hold_registry(now or trained_at, "reserving a model id") as (db, _):
            second = trained_at.astimezone(UTC)
            while not self._claim(db, build_model_id(second)):
                second += timedelta(seconds=1)
            return build_model_id(second)

    def _claim(self, db: sqlite3.Connection, model_id: str) -> bool:
        if (
            model_id in self.read_state_in(db).rows
            or self.locate_onnx(model_id).exists()
            or self.locate_pkl(model_id).exists()
        ):
            return False
        claim = production.claim_path(self, model_id)
        try:
            os.close(os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        except FileExistsError:
            return False
        self._claims[model_id] = contextlib.ExitStack()
        self._claims[model_id].enter_context(durable.lock(claim, "training"))
        return True

    def discard(self, model_id: str) -> None:
        """Free the id of a model that will not be added. Nothing happens for an id that is not claimed here."""
        claim = self._claims.pop(model_id, None)
        if claim is not None:
            with contextlib.suppress(OSError):  # what stays is swept by recovery
                production.claim_path(self, model_id).unlink()
            claim.close()

    def add(
        self,
        model: NewModel,
        onnx: bytes,
        pkl: bytes,
        *,
        now: Moment,
        sessions: Iterable[RecordedSession] = (),
        dropped: Iterable[RecordedSession] = (),
    ) -> ModelRecord:
        """Archive a model under its claimed id: both files first, then its row. It does not serve by that.

        sessions, dropped: what the verdict on it changes in the policy's record, as `record_sessions` takes it. Row and
        record are written in one transaction: neither is ever there without the other.
        The file is verified from the disk, as one that is to serve: the model that was examined was never read from it.
        Raises IntegrityError where it may not serve, and if that id, or this very file, is archived already; then
        nothing of it is left. The claim has ended, also by an error.
        """
        try:
            return self._add(model, onnx, pkl, now, sessions, dropped)
        finally:
            self.discard(model.model_id)

    def _add(
        self,
        model: NewModel,
        onnx: bytes,
        pkl: bytes,
        now: Moment,
        sessions: Iterable[RecordedSession],
        dropped: Iterable[RecordedSession],
    ) -> ModelRecord:
        row = _build_row(model, onnx, pkl)
        with self.hold_registry(now, "archiving the model") as (db, _):
            durable.require_space(self.folder, 2 * (len(onnx) + len(pkl)) + _SPARE_BYTES, "archiving the model")
            state = self.read_state_in(db)
            equal = [model_id for model_id, old in state.rows.items() if old["sha256"] == row["sha256"]]
            if equal:
                raise IntegrityError(
                    f"Model {model.model_id} cannot be archived: its file is that of model {equal[0]}. Train it again."
                )
            with self.hold_id(db, model.model_id):
                write_verified(self.locate_onnx(model.model_id), onnx)
                write_verified(self.locate_pkl(model.model_id), pkl)
                self._verify(self.locate_onnx(model.model_id), str(row["sha256"]))
                with transaction(db):
                    placeholders = ", ".join(f":{name}" for name in row)
                    db.execute(f"INSERT INTO models ({', '.join(row)}) VALUES ({placeholders})", row)  # noqa: S608 - our names
                    record.insert_sessions(db, sessions)
                    record.delete_sessions(db, dropped)
            self._refresh_copies(db)
            return self.read_state_in(db).find_record(model.model_id)

    def _refresh_copies(self, db: sqlite3.Connection) -> None:
        """Write the copies of what is committed; what keeps them from it is told, and undoes nothing."""
        self._tell(export.refresh(self, self.read_state_in(db), mending=False))

    def _tell(self, notes: Iterable[str]) -> tuple[str, ...]:
        """Let `on_note` hear what has happened, and of what lasts what it has not heard yet; return that."""
        news = tuple(note for note in dict.fromkeys(notes) if note not in self._told)
        self._told.update(note for note in news if isinstance(note, LastingNote))
        for note in news:
            self._on_note(note)
        return news

    @contextlib.contextmanager
    def hold_id(self, db: sqlite3.Connection, model_id: str) -> Iterator[None]:
        """Keep an id while the files of a new model are written under it, and then its row; claim it where it is free.

        What raises within leaves neither file, and recovery deletes what a process has left that was killed within.
        The claim ends with it. Raises IntegrityError where the id is taken, by files that no row knows too.
        """
        if model_id not in self._claims and not self._claim(db, model_id):
            raise IntegrityError(f"Model {model_id} cannot be archived: its id is taken. Train it again.")
        try:
            yield
        except BaseException:
            self._remove_files(db, model_id)
            raise
        finally:
            self.discard(model_id)

    def _remove_files(self, db: sqlite3.Connection, model_id: str) -> None:
        with contextlib.suppress(OSError, sqlite3.Error):
            if model_id not in self.read_state_in(db).rows:  # a commit may have reached the disk although it raised
                self.locate_onnx(model_id).unlink(missing_ok=True)
                self.locate_pkl(model_id).unlink(missing_ok=True)

    def set_outcome(self, text: str, outcome: Outcome, reason: str, *, now: Moment) -> None:
        """Change what the exam's outcome is recorded as, such as to "rejected", "pinned". Only before it serves."""
        with self.hold_registry(now, "recording the outcome") as (db, _):
            state = self.read_state_in(db)
            model_id = state.require(text)
            if model_id in state.parents:
                raise UsageError(f"Model {model_id} has served; its outcome stays {state.rows[model_id]['outcome']!r}.")
            with transaction(db):
                db.execute("UPDATE models SET outcome = ?, reason = ? WHERE model_id = ?", (outcome, reason, model_id))
            self._refresh_copies(db)

    def record_attempt(self, now: Moment, *, kind: str, outcome: str, reason: str, model_id: str | None = None) -> None:
        """Record one run that wanted a new model, whatever became of it; see `attempts`."""
        with self.hold_registry(now, "recording the attempt") as (db, _), transaction(db):
            db.execute(
                "INSERT INTO attempts (at, kind, outcome, reason, model_id) VALUES (?, ?, ?, ?, ?)",
                (format_utc(read_moment(now)), kind, outcome, reason, model_id),
            )

    def record_sessions(
        self, sessions: Iterable[RecordedSession], *, now: Moment, dropped: Iterable[RecordedSession] = ()
    ) -> None:
        """Add sessions to the policy's record, all of them or none; one that is there on the same bars stays as it is.

        dropped: rows that hold no more; one of them that `sessions` scores again is replaced.
        """
        with self.hold_registry(now, "writing the record") as (db, _), transaction(db):
            record.insert_sessions(db, sessions)
            record.delete_sessions(db, dropped)

    def record_look(self, look: Look, *, synthetic: bool, now: Moment) -> None:
        """Write down that a candidate that is not archived, or on other sessions, was examined; see `archive.looks`."""
        self.record_looks((look,), synthetic=synthetic, now=now)

    def record_looks(self, several: Sequence[Look], *, synthetic: bool, now: Moment) -> None:
        """Write down several looks, all of them or none."""
        if not several:
            return
        with self.hold_registry(now, "writing down an exam") as (db, _), transaction(db):
            for look in several:
                looks.insert_look(db, look, synthetic=synthetic, at=format_utc(read_moment(now)))

    def begin_record_over(self, *, synthetic: bool, reason: str, now: Moment) -> None:
        """Let nothing that was earned so far on bars of this kind count any more. Raises UsageError without a reason.

        The bot stands aside until the record that begins now lets it trade. The rows stay, and are shown.
        """
        with self.hold_registry(now, "beginning the record over") as (db, _), transaction(db):
            record.insert_beginning(db, synthetic=synthetic, at=format_utc(read_moment(now)), reason=reason)

    def deploy(
        self, text: str, *, now: Moment, reason: str, by: str = "retrain", champion: str | None = _ANY
    ) -> Switched:
        """Make an archived model that passed its exam the one that serves.

        champion: the id of the model that it was compared with, None for none; if another one serves by now, the
        comparison is void and SupersededError is raised. Left out, that is not asked. Raises PinnedError after a
        rollback, NotPromotedError for a model that did not pass, IntegrityError for a file that is not whole.
        """
        with self.hold_registry(now, "deploying the model") as (db, notes):
            state = self.read_state_in(db)
            model_id = state.require(text)
            pin = state.pin
            if pin is not None:
                raise PinnedError(
                    f"Model {model_id} was not deployed: a rollback pinned model {pin.model_id} on "
                    f"{format_moment(pin.since)} UTC. `hftcl unpin` lets models deploy again."
                )
            if champion not in (_ANY, state.live_id):
                raise SupersededError(
                    f"Model {model_id} was not deployed: it was compared with {champion or 'no model'}, and meanwhile "
                    f"{state.live_id or 'none'} serves. Run it again."
                )
            if state.rows[model_id]["outcome"] != "deployed":
                raise NotPromotedError(
                    f"Model {model_id} did not pass its exam ({state.rows[model_id]['outcome']}: "
                    f"{state.rows[model_id]['reason']}). A person may still choose it: "
                    f"`hftcl rollback {model_id} --reason ...`."
                )
            return self._switch(db, state, model_id, kind="deploy", reason=reason, by=by, now=now, notes=notes)

    def rollback(
        self,
        text: str | None = None,
        *,
        now: Moment,
        reason: str = "",
        by: str = "user",
        plan: RollbackPlan | None = None,
    ) -> Switched:
        """Go back to the parent of the serving model, or to the model in `text`, and pin it.

        plan: what the person was shown; if it no longer holds, SupersededError is raised. Raises RollbackError where
        there is nowhere to go, UsageError for a model that never passed when no reason is given, IntegrityError for a
        file that is not whole.
        """
        with self.hold_registry(now, "rolling back", damaged=True) as (db, notes):
            actual = self.plan_rollback(text)
            if plan is not None and _list_plan_ids(plan) != _list_plan_ids(actual):
                raise SupersededError(
                    "The serving model has changed since the rollback was planned: nothing was done. Run it again."
                )
            target = actual.target.model_id
            if actual.needs_reason and not reason.strip():
                raise UsageError(
                    f"Model {target} never passed an exam ({actual.target.outcome}: {actual.target.reason}). "
                    "To let it serve all the same, say why: --reason TEXT."
                )
            state = self.read_state_in(db)
            return self._switch(db, state, target, kind="rollback", reason=reason, by=by, now=now, notes=notes)

    def _switch(
        self,
        db: sqlite3.Connection,
        state: RegistryState,
        model_id: str,
        *,
        kind: Kind,
        reason: str,
        by: str,
        now: Moment,
        notes: tuple[str, ...],
    ) -> Switched:
        if model_id == state.live_id:
            raise UsageError(f"Model {model_id} is the one that serves already.")
        data = self.read_intact(state, model_id)
        self._verify(self.locate_onnx(model_id), state.rows[model_id]["sha256"])
        done = production.switch(self, db, model_id, data, kind=kind, reason=reason, by=by, at=read_moment(now))
        return dataclasses.replace(done, notes=(*notes, *self._tell(done.notes)))

    def unpin(self, *, now: Moment) -> Pin | None:
        """Let models deploy by themselves again; return the pin that was there, None if there was none."""
        with self.hold_registry(now, "unpinning") as (db, _):
            pin = self.read_state_in(db).pin
            with transaction(db):
                db.execute(
                    "UPDATE deployments SET unpinned_at = ? WHERE kind = 'rollback' AND unpinned_at IS NULL",
                    (format_utc(read_moment(now)),),
                )
            return pin

    def recover(self, now: Moment) -> tuple[str, ...]:
        """Mend what a crash or a hand has left; return a line about each thing mended. Where no archive is, nothing."""
        if not self.database.exists() and not self.production.exists():
            return ()
        with self.hold_registry(now, "recovering the archive") as (_, notes):
            return notes

    def await_change(self) -> None:
        """Return once no change is under way: all that was dated before this call is then to be read, or never will."""
        with faults("waiting for a change of the archive"):
            durable.make_folder(self.folder)
            with durable.lock(self.files.registry_lock, "change of the archive", wait_s=self._wait_s):
                return

    def prune(self, keep: int, *, now: Moment) -> tuple[str, ...]:
        """Delete the files of all but the `keep` newest models; return their ids. Their rows stay in the history.

        Never deleted: the serving model, those it stands on, and the one that should serve.
        """
        with self.hold_registry(now, "pruning the archive") as (db, _):
            state = self.read_state_in(db)
            needed = {*list(reversed(state.rows))[:keep], state.live_id, state.intended_id}
            needed |= {*state.list_ancestors(state.live_id), *state.list_ancestors(state.intended_id)}
            needed |= {examined for examined, refit in state.refits.items() if refit in needed}
            gone = tuple(model_id for model_id in state.rows if state.rows[model_id]["kept"] and model_id not in needed)
            with transaction(db):  # before the files go: what is cut off here, recovery's sweep completes
                db.executemany("UPDATE models SET kept = 0 WHERE model_id = ?", [(model_id,) for model_id in gone])
            for model_id in gone:
                self.locate_onnx(model_id).unlink(missing_ok=True)
                self.locate_pkl(model_id).unlink(missing_ok=True)
            self._refresh_copies(db)
            return gone

    def verify_all(self) -> tuple[tuple[str, str], ...]:
        """Return (model id, fault) for each kept model whose file may not serve, newest first. Changes nothing.

        Raises IntegrityError where a row of the registry, whatever it tells of, is not what was written.
        """
        state = self.read_state()
        with faults("checking the model registry"), open_to_read(self.database) as db:
            sqlite.require_whole(db, self.database, REGISTRY)
        faulty_models = []
        for model_id in (kept_id for kept_id in reversed(state.rows) if state.rows[kept_id]["kept"]):
            try:
                self.read_intact(state, model_id)
                self._verify(self.locate_onnx(model_id), state.rows[model_id]["sha256"])
            except HftclError as fault:
                faulty_models.append((model_id, str(fault)))
        return tuple(faulty_models)

    @contextlib.contextmanager
    def hold_registry(
        self, now: Moment, doing: str, *, damaged: bool = False
    ) -> Iterator[tuple[sqlite3.Connection, tuple[str, ...]]]:
        """Hold the registry's lock, with everything recovered; yields the connection and what was mended.

        damaged: go on although a row is not what was written; then nothing is recovered but by `doctor --repair`.
        What the disk and SQLite raise while it is held becomes an error that says what was being done.
        """
        with contextlib.ExitStack() as stack, faults(doing):
            durable.make_folder(self.folder)
            stack.enter_context(durable.lock(self.files.registry_lock, "change of the archive", wait_s=self._wait_s))
            db = stack.enter_context(open_to_change(self.database))
            damage = sqlite.list_damage(db, REGISTRY)
            if damage and not damaged:
                raise build_damage_error(f"the row {damage[0]} is not what was written")
            lasting = tuple(LastingNote(build_damage_error(f"the row {row}")) for row in damage[:1])
            yield db, self._tell(lasting or production.recover(self, db, read_moment(now)))


def _list_plan_ids(plan: RollbackPlan) -> tuple[str | None, str]:
    return plan.current.model_id if plan.current else None, plan.target.model_id


def _build_row(model: NewModel, onnx: bytes, pkl: bytes) -> dict[str, object]:
    """Return the model's row. Raises UsageError for a malformed id, ValueError for a value that JSON or UTC lack."""
    if parse_model_id(model.model_id) != model.model_id:
        raise UsageError(f"{model.model_id!r} is not an id from ModelArchive.claim_id.")
    if model.val_sharpe is not None and not math.isfinite(model.val_sharpe):
        raise ValueError(f"val_sharpe is {model.val_sharpe}; what is undefined is None.")
    row: dict[str, object] = dict(dataclasses.asdict(model))
    for name in ("trained_from", "trained_to", "exam_from", "exam_to"):
        value = getattr(model, name)
        row[name] = None if value is None else value.isoformat()
    return row | {
        "trained_at": format_utc(model.trained_at),
        "label_end": format_utc(model.label_end),
        "synthetic": int(model.synthetic),
        "tickers": json.dumps(model.tickers),
        "report": json.dumps(model.report, allow_nan=False),
        "sha256": hashlib.sha256(onnx).hexdigest(),
        "pkl_sha256": hashlib.sha256(pkl).hexdigest(),
    }
