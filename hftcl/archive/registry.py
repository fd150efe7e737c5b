"""The registry of models, read: where files lie, which model serves, which stood before it, what a rollback would do.

Reading takes no lock of ours, creates nothing and works on a read-only home. `archive.deployment` is what changes it.
Only the standard library is imported, so that `hftcl history` is instant.
"""

import contextlib
import hashlib
import json
import os
import sqlite3
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from io import BufferedReader
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

from hftcl import durable, sqlite
from hftcl.archive.records import (
    AdoptedModel,
    Attempt,
    Deployment,
    Judgement,
    ModelRecord,
    Pin,
    Production,
    RollbackPlan,
    list_ids,
    parse_model_id,
)
from hftcl.archive.schema import REGISTRY, build_damage_error, faults, open_to_read
from hftcl.errors import (
    IntegrityError,
    ModelNotFoundError,
    RollbackError,
)
from hftcl.home import Home
from hftcl.sqlite import snapshot

JUDGED: Final = ("deployed", "rejected")  # outcomes of an exam that could tell; what is inconclusive has not judged
_LARGEST = 2**31  # a protobuf, and so an ONNX file, cannot be longer; whatever is longer is not hashed to find out
# A look that a switch fell into is thrown away. It hashes a whole model file, and a program that switches without end
# can fall into each; in use switches are minutes apart, and a second look holds. After ten, the last one counts.
_LOOKS = 10


@dataclass(frozen=True)
class RegistryState:
    """The registry at one moment, with the hash that the production file had just before."""

    production_there: bool
    production_sha256: str | None
    rows: dict[str, sqlite3.Row]
    """By model id, in the order of archiving, oldest first: an id follows a clock, which may once have run ahead."""
    recorded: tuple[Deployment, ...]
    damage: tuple[str, ...] = ()
    """The rows that are not what was written, such as "models 20260109_020000"; they are in neither of the others."""

    @cached_property
    def production(self) -> Production:
        if not self.production_there:
            return Production(state="missing", sha256=None, model_id=None)
        ids_by_hash = {row["sha256"]: model_id for model_id, row in self.rows.items()}
        model_id = ids_by_hash.get(self.production_sha256)
        state: Any = "ok" if model_id else "unknown"
        return Production(state=state, sha256=self.production_sha256, model_id=model_id)

    @property
    def live_id(self) -> str | None:
        """The registered model whose hash production has."""
        return self.production.model_id

    @property
    def pending(self) -> Deployment | None:
        """A deployment that was begun and not finished; it counts once production has its hash."""
        return next((deployment for deployment in self.recorded if deployment.pending), None)

    @cached_property
    def deployments(self) -> tuple[Deployment, ...]:
        """Every deployment that reached production, oldest first."""
        return tuple(
            deployment for deployment in self.recorded if not deployment.pending or deployment.model_id == self.live_id
        )

    @property
    def intended_id(self) -> str | None:
        """The model that was last deployed: what production should be."""
        return self.deployments[-1].model_id if self.deployments else None

    @cached_property
    def parents(self) -> dict[str, str | None]:
        """For each model that ever served, the one that it replaced the first time; so there can be no circle."""
        parents: dict[str, str | None] = {}
        for deployment in self.deployments:
            parents.setdefault(deployment.model_id, deployment.replaced)
        return parents

    @cached_property
    def refits(self) -> dict[str, str]:
        """For each examined model that was refitted and deployed as such, the refit."""
        reports = {model_id: _decode_report(self.rows[model_id]) for model_id in self.parents}
        examined = {model_id: Judgement.from_report(report).examined_model for model_id, report in reports.items()}
        return {model: refit for refit, model in examined.items() if model}

    def list_ancestors(self, model_id: str | None) -> tuple[str, ...]:
        """Return the models that `model_id` stands on, nearest first."""
        line: list[str] = []
        parent = self.parents.get(model_id or "")
        while parent is not None:
            line.append(parent)
            parent = self.parents.get(parent)
        return tuple(line)

    @property
    def pin(self) -> Pin | None:
        pins = [
            deployment
            for deployment in self.deployments
            if deployment.kind == "rollback" and deployment.unpinned_at is None
        ]
        return Pin(model_id=pins[-1].model_id, since=pins[-1].at, reason=pins[-1].reason) if pins else None

    def list_serving_spans(self, model_id: str) -> tuple[tuple[datetime, datetime | None], ...]:
        """Return from when to when (UTC) a model served, oldest first; None: it still does.

        In the order in which they were made, which the dates of an earlier hftcl may contradict, and a clock that was
        put back: no span begins before the one before it has ended.
        """
        begins = list(accumulate((deployment.at for deployment in self.deployments), max))
        return tuple(
            (begin, end)
            for deployment, begin, end in zip(self.deployments, begins, [*begins[1:], None], strict=False)
            if deployment.model_id == model_id
        )

    def find_record(self, model_id: str) -> ModelRecord:
        row = self.rows[model_id]
        passed = row["outcome"] == "deployed"
        outcome, reason = row["outcome"], row["reason"]
        refit = self.refits.get(model_id)
        if refit is not None:
            reason = f"{reason}; it stands for its refit {refit} in later exams"
        elif passed and model_id not in self.parents:
            outcome = "inconclusive"
            reason = f"passed its exam ({reason}) but was never deployed; `hftcl rollback {model_id}` does that"
        return ModelRecord(
            **{name: row[name] for name in ("model_id", "source", "family", "rows", "sessions", "val_sharpe")},
            outcome=outcome,
            reason=reason,
            trained_at=datetime.fromisoformat(row["trained_at"]),
            synthetic=bool(row["synthetic"]),
            tickers=tuple(json.loads(row["tickers"])),
            trained_from=date.fromisoformat(row["trained_from"]),
            trained_to=date.fromisoformat(row["trained_to"]),
            label_end=datetime.fromisoformat(row["label_end"]),
            exam_from=_parse_date(row["exam_from"]),
            exam_to=_parse_date(row["exam_to"]),
            report=_decode_report(row),
            sha256=row["sha256"],
            pkl_sha256=row["pkl_sha256"],
            parent=self.parents.get(model_id),
            passed=passed,
            is_deployed=model_id == self.live_id,
            served=self.list_serving_spans(model_id),
            kept=bool(row["kept"]),
        )

    def require_whole(self) -> None:
        """Raise IntegrityError where a row is not what was written."""
        if self.damage:
            raise build_damage_error(f"the row {self.damage[0]} is not what was written")

    def require(self, text: str) -> str:
        """Return the id in `text` if such a model is archived. Raises UsageError or ModelNotFoundError."""
        model_id = parse_model_id(text)
        if model_id not in self.rows:
            if f"models {model_id}" in self.damage:
                raise build_damage_error(f"the row models {model_id} is not what was written")
            raise ModelNotFoundError(
                f"No model {model_id} is in the archive. The newest there: {list_ids(self.rows)}; see `hftcl history`."
            )
        return model_id


class Registry:
    """The models under `home`, read. Every method reads afresh: another process may change them at any time."""

    def __init__(self, home: Path) -> None:
        self.home = Path(home)
        self.files = Home(self.home)
        self.folder = self.files.models
        self.database = self.files.registry
        self.csv = self.files.csv
        self.production = self.files.production
        self.production_pkl = self.files.production_pkl

    def locate_onnx(self, model_id: str) -> Path:
        """Return where the archived model file lies."""
        return self.files.locate_onnx(model_id)

    def locate_pkl(self, model_id: str) -> Path:
        """Return where the archived scikit-learn estimator lies."""
        return self.files.locate_pkl(model_id)

    def list_models(self, limit: int | None = None) -> tuple[ModelRecord, ...]:
        """Return the archived models, newest first; at most `limit`. Empty where there is no archive yet."""
        state = self.read_state()
        return tuple(state.find_record(model_id) for model_id in list(reversed(state.rows))[:limit])

    def find(self, text: str) -> ModelRecord:
        """Return the model named by a user. Raises UsageError (malformed) or ModelNotFoundError (unknown)."""
        state = self.read_state()
        return state.find_record(state.require(text))

    def find_live(self) -> ModelRecord | None:
        """Return the registered model whose SHA-256 the production file has; None where there is none."""
        state = self.read_state()
        return state.find_record(state.live_id) if state.live_id else None

    def find_examined(self, model: ModelRecord) -> ModelRecord:
        """Return the model that stands for `model` in an exam: the examined one where it is a refit, else itself.

        Raises ModelNotFoundError where the registry has lost the examined one.
        """
        return self.find(model.examined_model) if model.examined_model else model

    def trace_lineage(self, text: str | None = None) -> tuple[ModelRecord, ...]:
        """Return a model, by default the one that serves, then its parent, and so on to the first."""
        state = self.read_state()
        first = state.require(text) if text is not None else state.live_id or state.intended_id
        return tuple(
            state.find_record(model_id) for model_id in (first, *state.list_ancestors(first)) if model_id is not None
        )

    def read_production(self) -> Production:
        """Return what the production file is at this moment."""
        return self.read_state().production

    def find_pin(self) -> Pin | None:
        """Return the rollback that keeps automatic deployment waiting, if there is one."""
        return self.read_state().pin

    def list_deployments(self) -> tuple[Deployment, ...]:
        """Return every change of the serving model, oldest first."""
        return self.read_state().deployments

    def list_attempts(self, limit: int | None = None) -> tuple[Attempt, ...]:
        """Return the runs that wanted a new model, newest first; at most `limit`."""
        with faults("reading the model registry"), open_to_read(self.database) as db:
            rows = db.execute(
                "SELECT at, kind, outcome, reason, model_id FROM attempts ORDER BY number DESC LIMIT ?",
                (-1 if limit is None else limit,),
            ).fetchall()
        return tuple(Attempt(**{**dict(row), "at": datetime.fromisoformat(row["at"])}) for row in rows)

    def list_adopted(self) -> tuple[AdoptedModel, ...]:
        """Return what `hftcl init --adopt` took over from another program's list, newest first."""
        with faults("reading the adopted history"), open_to_read(self.database) as db:
            rows = db.execute("SELECT * FROM adopted ORDER BY coalesce(trained_at, '') DESC, number DESC").fetchall()
        return tuple(
            AdoptedModel(
                **{name: row[name] for name in ("name", "val_sharpe", "rows", "family")},
                trained_at=datetime.fromisoformat(row["trained_at"]) if row["trained_at"] else None,
                was_deployed=bool(row["was_deployed"]),
                told=json.loads(row["told"]),
            )
            for row in rows
        )

    def plan_rollback(self, text: str | None = None) -> RollbackPlan:
        """Return what `rollback` would do, and change nothing.

        Without `text`: from the serving model to its parent. With it: to that model, whatever it is. Raises
        RollbackError where there is nowhere to go, IntegrityError where the target's file is not what was archived.
        """
        with faults("reading the model registry"), open_to_read(self.database) as db:
            state = self.read_state_in(db)  # another row's damage does not keep a person from a whole model
        if text is None:
            state.require_whole()
        current = state.live_id or state.intended_id
        if text is not None:
            target: str | None = state.require(text)
            if target == state.live_id:
                raise RollbackError(f"Model {target} is the one that serves. {self._name_others(state)}")
        elif current is None:
            raise RollbackError("No model has ever been deployed, so there is nothing to roll back.")
        else:
            target = state.parents.get(current)
        if target is None:
            raise RollbackError(
                f"Model {current} was the first to be deployed: there is none before it. {self._name_others(state)}"
            )
        self.read_intact(state, target)
        return RollbackPlan(current=state.find_record(current) if current else None, target=state.find_record(target))

    def _name_others(self, state: RegistryState) -> str:
        others = [model_id for model_id in reversed(state.rows) if model_id != state.live_id]
        whole = [model_id for model_id in others if self._is_whole(state, model_id)]
        if not others:
            return "There is only this one."
        return f"Name another: {list_ids(whole[::-1])}." if whole else "No other one has a whole file."

    def _is_whole(self, state: RegistryState, model_id: str) -> bool:
        """Whether the archived file is there, can be read, and is what was archived."""
        row = state.rows[model_id]
        try:
            return bool(row["kept"]) and compute_digest(self.locate_onnx(model_id)) == row["sha256"]
        except OSError:  # what cannot be read is not to be offered; the fault of the model asked for is being told
            return False

    @faults("reading the archived model")
    def read_intact(self, state: RegistryState, model_id: str) -> bytes:
        """Return the bytes of an archived model file. Raises IntegrityError, naming an alternative, if not whole."""
        row = state.rows[model_id]
        if not row["kept"]:
            fault = "was pruned ([archive] keep)"
        else:
            data = read_verified(self.locate_onnx(model_id), row["sha256"])
            if data is not None:
                return data
            fault = (
                "is missing"
                if not self.locate_onnx(model_id).exists()
                else "is not what was archived (SHA-256 differs)"
            )
        other = self.find_alternative(state, model_id)
        remedy = f"`hftcl rollback {other}` has a whole file." if other else "Restore it from a backup."
        raise IntegrityError(f"The file of model {model_id}, {self.locate_onnx(model_id)}, {fault}. {remedy}")

    def find_alternative(self, state: RegistryState, instead_of: str) -> str | None:
        """Return a model with a whole file, not the serving one: an ancestor, else the newest that passed."""
        passed = (model_id for model_id, row in reversed(state.rows.items()) if row["outcome"] == "deployed")
        for model_id in (*state.list_ancestors(instead_of), *state.list_ancestors(state.live_id), *passed):
            if model_id not in {instead_of, state.live_id} and self._is_whole(state, model_id):
                return model_id
        return None

    def read_state(self) -> RegistryState:
        """Return registry and production as they are now; no file of either is created or changed."""
        with faults("reading the model registry"), open_to_read(self.database) as db:
            state = self.read_state_in(db)
            state.require_whole()
            return state

    def read_state_in(self, db: sqlite3.Connection) -> RegistryState:
        """Return the same through a connection that is open; rows that are damaged are named in it."""
        for _ in range(_LOOKS):
            before = durable.read_stamp(self.production)
            # The hash comes before the rows: a model is registered before it is deployed, so it is among later rows.
            exists, sha256 = _look(self.production)
            with snapshot(db):
                models, damage = sqlite.read_rows(db, REGISTRY, "models", "rowid")
                deployed, more = sqlite.read_rows(db, REGISTRY, "deployments", "number")
            if durable.read_stamp(self.production) == before:  # else it was replaced meanwhile: look again
                break
        rows = {row["model_id"]: row for row in models}
        recorded = tuple(_read_deployment(row) for row in deployed if row["model_id"] in rows)
        return RegistryState(exists, sha256, rows, recorded, (*damage, *more))


def compute_digest(path: Path) -> str | None:
    """Return the SHA-256 of a file; None where it is missing, no regular file, or too long to be a model."""
    return _look(path)[1]


def _look(path: Path) -> tuple[bool, str | None]:
    """Whether there is a file, and its digest, of one and the same file even while it is replaced."""
    try:
        with _open_regular(path) as file:
            return True, hashlib.file_digest(file, "sha256").hexdigest() if file else None
    except FileNotFoundError:
        return False, None


@contextlib.contextmanager
def _open_regular(path: Path) -> Iterator[BufferedReader | None]:
    """Open a file; None for what is no regular file, or too long to be a model. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe put there by hand must not hang us
    try:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode) or about.st_size > _LARGEST:
            yield None
            return
        with os.fdopen(fd, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(fd)


def require_length(path: Path, length: int) -> None:
    """Raise IntegrityError for more bytes than a file of the archive may have: no later look would take its digest."""
    if length > _LARGEST:
        raise IntegrityError(
            f"{path} would have {length:,} bytes, and no file of the archive may have more than {_LARGEST:,}. "
            "Make the model smaller, and run it again."
        )


def write_verified(path: Path, data: bytes) -> None:
    """Replace `path` and read it again. Raises IntegrityError where it does not hold `data` now: it is deleted then.

    And for more than a file of the archive may have.
    """
    require_length(path, len(data))
    durable.write_atomically(path, data)
    if compute_digest(path) != hashlib.sha256(data).hexdigest():
        path.unlink(missing_ok=True)
        raise IntegrityError(
            f"{path} did not come to hold what was written to it, and is not archived: the disk or the memory of this "
            "machine fails. Look for it in `dmesg` and test both, then run it again."
        )


def read_verified(path: Path, sha256: str) -> bytes | None:
    """Return the bytes of `path` if they have this SHA-256, else None."""
    try:
        with _open_regular(path) as file:
            data = file.read() if file else None
    except FileNotFoundError:
        return None
    return data if data is not None and hashlib.sha256(data).hexdigest() == sha256 else None


def _read_deployment(row: sqlite3.Row) -> Deployment:
    unpinned = row["unpinned_at"]
    return Deployment(
        **{name: row[name] for name in ("number", "model_id", "replaced", "kind", "reason", "by")},
        at=datetime.fromisoformat(row["at"]),
        pending=bool(row["pending"]),
        unpinned_at=datetime.fromisoformat(unpinned) if unpinned else None,
    )


def _decode_report(row: sqlite3.Row) -> dict[str, Any]:
    """Return the report of a model's row. Raises IntegrityError for JSON that is no table: a seal knows no types."""
    report = json.loads(row["report"])
    if not isinstance(report, dict):
        raise build_damage_error(f"the report in the row models {row['model_id']} is no table")
    return report


def _parse_date(text: str | None) -> date | None:
    return date.fromisoformat(text) if text else None
