"""What the archive says about a model, a deployment, an attempt: frozen values, and a model id and its time.

A retrain's report is stored as JSON; `Judgement` is the one place where it is read again.
No file, and no clock but one that is handed in.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from datetime import UTC, date, datetime
from typing import Any, Final, Literal, Self, TypeVar

from hftcl.errors import IntegrityError, UsageError
from hftcl.values import Value, value_class

Outcome = Literal["deployed", "rejected", "inconclusive"]
Kind = Literal["deploy", "rollback", "restore", "hand"]
T = TypeVar("T", str, float, int)
Moment = datetime | Callable[[], datetime]
"""When something happens: a time, or a clock that is to be read under the lock under which it is written."""
_ID: Final = "%Y%m%d_%H%M%S"  # sorted as texts they are in the order of time, and a file may have them in its name
_MODEL_ID = re.compile(r"(?:model_)?([0-9]{8}_[0-9]{6})")  # not \d, which takes Arabic and full-width digits too


def read_moment(moment: Moment) -> datetime:
    """Return a time as it is, or what a clock says now."""
    return moment() if callable(moment) else moment


def parse_model_id(text: str) -> str:
    """Return the id in `text`: YYYYMMDD_HHMMSS, "model_" in front allowed. Raises UsageError for anything else."""
    match = _MODEL_ID.fullmatch(text)
    if match is None:
        shown = ascii(text) if len(text) <= 60 else f"{text[:60]!a}..."
        raise UsageError(
            f"{shown} is not a model id. An id looks like 20260109_020000; `hftcl history` lists those there are."
        )
    return match[1]


def build_model_id(at: datetime) -> str:
    """Return the id of a model trained at that second; at: UTC.

    >>> build_model_id(datetime(2026, 1, 2, 6, 0, 0, tzinfo=UTC))
    '20260102_060000'
    """
    return at.strftime(_ID)


def read_trained_at(model_id: str) -> datetime:
    """Return the second, UTC, that a model id names. Raises ValueError for one that names none.

    >>> str(read_trained_at("20260102_060000"))
    '2026-01-02 06:00:00+00:00'
    """
    return datetime.strptime(model_id, _ID).replace(tzinfo=UTC)


@value_class(frozen=True, slots=True, kw_only=True)
class Judgement(Value):
    """What a stored report says that later decisions stand on; None where a model of an earlier hftcl does not say it.

    edge: "live" or "stand aside", the second decision of that retrain, and why. policy: of [promote]. policy_digest:
    of the whole policy, see `archive.policy`. record_digest: of the sessions up to `record_to` on which the edge was
    judged, see `archive.record`. p_better: P(better than the champion). conceded: whether the champion gave way by the
    tolerance alone. waits_beside: the model that served and could not be scored, where this one waits for a person.
    implausible: whether its figures are nearly always an error in the bars; doubted: whether that was the verdict: no
    person had confirmed the policy. calendar, extended_hours: of the sessions that it was judged on.
    as_of: the end of the bars that were known, UTC. examined_model: the one of which this one is the refit.
    exam_pnl: by ISO date, oldest first, the net P&L (fraction of capital) of each session of the exam, which `sharpe`
    (net, annual) and its 90 % interval are about; a refit's is that of its examined model.
    positions: SHA-256 of what it would have held on them; equal for two candidates that traded alike.
    features: that it reads; dropped: those that left, by what the information coefficient loses without them.
    max_rows: most rows that a fit held where there were more, else 0.
    """

    edge: str | None
    edge_reason: str | None
    policy: str | None
    policy_digest: str | None
    record_digest: str | None
    record_to: date | None
    p_better: float | None
    conceded: bool
    waits_beside: str | None
    implausible: bool
    doubted: bool
    calendar: str | None
    extended_hours: bool | None
    as_of: datetime | None
    examined_model: str | None
    sharpe: float | None
    sharpe_interval: tuple[float, float] | None
    exam_pnl: Mapping[str, float]
    positions: str | None
    features: tuple[str, ...] = ()
    dropped: Mapping[str, float] = field(default_factory=dict)
    max_rows: int = 0

    @property
    def exam_days(self) -> tuple[str, ...]:
        """The sessions of the exam, ISO dates, oldest first."""
        return tuple(self.exam_pnl)

    @property
    def exam_sessions(self) -> int | None:
        """How many sessions `sharpe` is about; None where an earlier hftcl did not say."""
        return len(self.exam_pnl) or None

    @classmethod
    def from_report(cls, report: Mapping[str, Any]) -> Self:
        """Return what `report`, the JSON of a `RetrainReport`, says. Raises IntegrityError where it cannot be one."""
        as_of, record_to = report.get("as_of"), report.get("record_to")
        try:
            score = report.get("challenger") or {}
            interval = score.get("sharpe_interval")
            return cls(
                edge=_take_if_any(str, report.get("edge")),
                edge_reason=_take_if_any(str, report.get("edge_reason")),
                policy=_take_if_any(str, report.get("policy")),
                policy_digest=_take_if_any(str, report.get("policy_digest")),
                record_digest=_take_if_any(str, report.get("record_digest")),
                record_to=date.fromisoformat(record_to) if record_to else None,
                p_better=_take_if_any(float, report.get("p_better")),
                conceded=report.get("conceded") is True,
                implausible=bool(report.get("implausible")),
                doubted=any(fact["name"] == "plausibility" for fact in report.get("evidence") or ()),
                calendar=_take_if_any(str, report.get("calendar")),
                extended_hours=None if report.get("extended_hours") is None else bool(report["extended_hours"]),
                waits_beside=_take_if_any(str, report.get("waits_beside")),
                as_of=datetime.fromisoformat(as_of) if as_of else None,
                examined_model=_take_if_any(str, report.get("twin")),
                sharpe=_take_if_any(float, score.get("sharpe")),
                sharpe_interval=(_require(float, interval[0]), _require(float, interval[1])) if interval else None,
                exam_pnl={day: _require(float, net) for day, net in (score.get("pnl_by_session") or {}).items()},
                positions=_take_if_any(str, score.get("positions_sha256")),
                features=tuple(_require(str, name) for name in report.get("features") or ()),
                dropped={
                    _require(str, worth["name"]): _require(float, worth["importance"])
                    for worth in (report.get("selection") or {}).get("dropped", ())
                },
                max_rows=_take_if_any(int, report.get("max_rows")) or 0,
            )
        except (AttributeError, TypeError, ValueError, OverflowError, IndexError, KeyError) as error:
            raise IntegrityError(
                f"The report that models/registry.sqlite holds of model {report.get('model_id')} cannot be read: "
                f"{error}. Restore the file from a backup."
            ) from error


def _take_if_any(kind: type[T], value: object) -> T | None:
    """Return what `_require` does; None for None."""
    return None if value is None else _require(kind, value)


def _require(kind: type[T], value: object) -> T:
    """Return `value` if it is of `kind`; a whole number is a float too, and true is no number.

    Raises TypeError for anything else, ValueError for a float that is not finite: no report is written with one.
    """
    if kind is float and type(value) is int:
        return kind(value)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value!r} is no number of a report")
    return value


@value_class(frozen=True, slots=True, kw_only=True)
class NewModel(Value):
    """What is known of a model when it enters the archive: how it was trained and what its exam said.

    model_id: UTC second of training, from `ModelArchive.claim_id`. trained_at, label_end: UTC; label_end is the end of
    the last label that it was trained on. trained_from .. exam_to: sessions, both ends included. rows, sessions: of the
    training. val_sharpe: the exam's net annual Sharpe ratio, None where undefined. outcome "deployed" means that it
    passed: it deploys when `ModelArchive.deploy` is called. report: the whole verdict, plain JSON values, no NaN.
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


class LastingNote(str):
    """A line about what stays as it is until a person mends it: each change meets it again, and it is told once."""

    __slots__ = ()


@value_class(frozen=True, slots=True, kw_only=True)
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
    def judgement(self) -> Judgement:
        """What its retrain decided, decoded. Raises IntegrityError for a row that was damaged."""
        return Judgement.from_report(self.report)

    @property
    def examined_model(self) -> str | None:
        """The examined model of which this one is the refit on all sessions; None for one that was examined itself."""
        return self.judgement.examined_model

    @property
    def known_until(self) -> datetime:
        """The end of the bars that were known when it was judged, UTC: from then on it was current."""
        return self.judgement.as_of or self.trained_at


@value_class(frozen=True, slots=True, kw_only=True)
class AdoptedModel(Value):
    """One line of a CSV that another program wrote. Nothing of it was verified by hftcl, and it can serve nowhere here.

    trained_at: UTC, None where the line tells no time. was_deployed: what the line says; it was true of that program.
    """

    name: str
    trained_at: datetime | None
    val_sharpe: float | None
    was_deployed: bool
    rows: int
    family: str
    told: Mapping[str, str]


@value_class(frozen=True, slots=True, kw_only=True)
class Deployment(Value):
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


@value_class(frozen=True, slots=True, kw_only=True)
class Attempt(Value):
    """One run that wanted a new model, whatever became of it: deployed, rejected, inconclusive, skipped, failed."""

    at: datetime
    kind: str
    outcome: str
    reason: str
    model_id: str | None


@value_class(frozen=True, slots=True, kw_only=True)
class Production(Value):
    """What the production file is: "ok" (a registered model), "missing", or "unknown" (anything else)."""

    state: Literal["ok", "missing", "unknown"]
    sha256: str | None
    model_id: str | None


@value_class(frozen=True, slots=True, kw_only=True)
class Pin(Value):
    """A person rolled back: nothing deploys by itself until `hftcl unpin`."""

    model_id: str
    since: datetime
    reason: str


@value_class(frozen=True, slots=True, kw_only=True)
class RollbackPlan(Value):
    """What a rollback would change. `current` is None where nothing serves."""

    current: ModelRecord | None
    target: ModelRecord

    @property
    def needs_reason(self) -> bool:
        """Whether the target never passed an exam and never served, so that a person must say why it should."""
        return not self.target.passed and not self.target.served


@value_class(frozen=True, slots=True, kw_only=True)
class Switched(Value):
    """The model that serves now, the one before, and what recovery mended or could not do on the way."""

    model: ModelRecord
    replaced: str | None
    notes: tuple[str, ...]


def list_ids(models: Iterable[str]) -> str:
    """Return the newest three of `models`, oldest first, as a phrase such as "20260109_020000, 20260102_020000"."""
    return ", ".join(list(models)[-3:][::-1]) or "none yet"
