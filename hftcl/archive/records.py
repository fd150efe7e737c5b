"""What the archive says about a model, a deployment, an attempt: frozen values, and the one reading of a model id.

No file, no clock. Made by `archive.registry` and `archive.deployment`; shown by the command line.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal

from hftcl.errors import UsageError

Outcome = Literal["deployed", "rejected", "inconclusive"]
Kind = Literal["deploy", "rollback", "restore", "hand"]
_MODEL_ID = re.compile(r"(?:model_)?([0-9]{8}_[0-9]{6})")  # not \d, which takes Arabic and full-width digits too


def parse_model_id(text: str) -> str:
    """Return the id in `text`: YYYYMMDD_HHMMSS, "model_" in front allowed. Raises UsageError for anything else."""
    match = _MODEL_ID.fullmatch(text)
    if match is None:
        shown = ascii(text) if len(text) <= 60 else f"{text[:60]!a}..."
        raise UsageError(
            f"{shown} is not a model id. An id looks like 20260109_020000; `hftcl history` lists those there are."
        )
    return match[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewModel:
    """What is known of a model when it enters the archive: how it was trained and what its exam said.

    model_id: UTC second of training, from `Archive.claim_id`. trained_at, label_end: UTC; label_end is the end of the
    last label that it was trained on. trained_from .. exam_to: sessions, both ends included. rows, sessions: of the
    training. val_sharpe: the exam's net annual Sharpe ratio, None where undefined. outcome "deployed" means that it
    passed: it deploys when `Archive.deploy` is called. report: the whole verdict, plain JSON values, no NaN.
    """

    model_id: str
    trained_at: datetime
    outcome: Outcome
    reason: str
    source: str
    synthetic: bool
    family: str
    rows: int
    sessions: int
    tickers: tuple[str, ...]
    trained_from: date
    trained_to: date
    label_end: datetime
    exam_from: date | None
    exam_to: date | None
    val_sharpe: float | None
    report: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecord(NewModel):
    """One archived model. What follows is derived: from its files, from the deployments, from the production file.

    parent: the model that it replaced when it was first deployed; a rollback goes there. passed: its exam let it
    deploy. served: spans (from, to) in UTC, oldest first; `to` is None while it serves. kept: files not pruned.
    """

    sha256: str
    pkl_sha256: str
    parent: str | None
    passed: bool
    is_deployed: bool
    served: tuple[tuple[datetime, datetime | None], ...]
    kept: bool

    @property
    def twin(self) -> str | None:
        """The examined model of which this one is the refit on all sessions; None for one that was examined itself."""
        return self.report.get("twin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One change of the model that serves: an automatic deploy, a rollback, a restore, or a file put there by hand."""

    number: int
    model_id: str
    replaced: str | None
    at: datetime
    kind: Kind
    reason: str
    by: str
    pending: bool
    unpinned_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One run that wanted a new model, whatever became of it: deployed, rejected, inconclusive, skipped, failed."""

    at: datetime
    kind: str
    outcome: str
    reason: str
    model_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Production:
    """What the production file is: "ok" (a registered model), "missing", or "unknown" (anything else)."""

    state: Literal["ok", "missing", "unknown"]
    sha256: str | None
    model_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """A person rolled back: nothing deploys by itself until `hftcl unpin`."""

    model_id: str
    since: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackPlan:
    """What a rollback would change. `current` is None where nothing serves."""

    current: ModelRecord | None
    target: ModelRecord

    @property
    def needs_reason(self) -> bool:
        """Whether the target never passed an exam and never served, so that a person must say why it should."""
        return not self.target.passed and not self.target.served


@dataclass(frozen=True, slots=True, kw_only=True)
class Switched:
    """The model that serves now, the one before, and what recovery mended or could not do on the way."""

    model: ModelRecord
    replaced: str | None
    notes: tuple[str, ...]


def list_ids(models: Iterable[str]) -> str:
    """Return the newest three of `models` as a phrase for an error, such as "20260109_020000, 20260102_020000"."""
    return ", ".join(sorted(models, reverse=True)[:3]) or "none yet"
