"""The stories about archived models: history, rollback, unpin, notes. Light: no room of the market loads."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Final

from hftcl.archive.note_rows import Remarks, read_remarks
from hftcl.archive.record import read_all
from hftcl.archive.records import AdoptedModel, ModelRecord, Moment, RollbackPlan
from hftcl.archive.registry import Registry
from hftcl.errors import ConfigError, HftclError, StorageError
from hftcl.home import Home
from hftcl.learning.archive_reports import Gap, HistoryRow, NoteReport, RollbackReport, UnpinReport
from hftcl.learning.gaps import find_holes, may_have_holes
from hftcl.settings import Settings

# From the dataclass: an empty history has the same columns as a full one.
HISTORY_COLUMNS: Final = tuple(item.name for item in fields(HistoryRow))


def history(home: Path, *, calendar: str, limit: int | None = None, lineage: bool = False) -> tuple[HistoryRow, ...]:
    """Return the archived models, newest first, then the lines that were adopted; writes nothing.

    lineage: only the live one and those it replaced. calendar: such as "XNYS"; by it a gap in the record is found.
    """
    registry = Registry(home)
    records = registry.trace_lineage()[:limit] if lineage else registry.list_models(limit)
    pin, gaps, remarks = registry.find_pin(), _find_gaps(registry, records, calendar), read_remarks(registry)
    rows = [
        _build_row(
            record,
            gaps[record.model_id],
            remarks.get(record.model_id, Remarks()),
            pinned=pin is not None and pin.model_id == record.model_id,
        )
        for record in records
    ]
    adopted = () if lineage else registry.list_adopted()
    return tuple([*rows, *map(_build_adopted_row, adopted)][:limit])


def _find_gaps(registry: Registry, records: Sequence[ModelRecord], calendar: str) -> dict[str, tuple[Gap, ...]]:
    """Return the stretches that the record lacks, each at the first of `records` of its policy that came after it."""
    gaps: dict[str, tuple[Gap, ...]] = defaultdict(tuple)
    for synthetic in {record.synthetic for record in records}:
        sessions = [row for row, current in read_all(registry, synthetic=synthetic) if current]
        for policy in {row.policy for row in sessions}:
            days = [row.session for row in sessions if row.policy == policy]
            after = [
                record
                for record in reversed(records)
                if record.synthetic == synthetic and record.judgement.policy_digest == policy
            ]
            if not after or not may_have_holes(days):
                continue
            from hftcl.market.sessions import Calendar  # here: a history without a gap need not wait for it

            for first, last, lacking in find_holes(days, Calendar(calendar)):
                owner = next((record for record in after if record.trained_at.date() > last), after[-1])
                gaps[owner.model_id] += (Gap(first=first, last=last, sessions=lacking),)
    return gaps


def _build_adopted_row(model: AdoptedModel) -> HistoryRow:
    deployed = ", and says that it was deployed" if model.was_deployed else ""
    return HistoryRow(
        model_id=model.name,
        trained_date=model.trained_at,
        val_sharpe=model.val_sharpe,
        sharpe_interval=None,
        is_deployed=False,
        pinned=False,
        outcome="adopted",
        reason=f"a list of before hftcl names it{deployed}; hftcl verified nothing of it",
        served=(),
        parent=None,
        source="unknown",
        synthetic=False,
        family=model.family,
        trained_from=None,
        trained_to=None,
        exam_from=None,
        exam_to=None,
        exam_sessions=None,
        rows=model.rows,
        sessions=0,
        tickers=(),
        sha256=None,
        kept=False,
        edge=None,
        twin=None,
    )


def _build_row(record: ModelRecord, gaps: tuple[Gap, ...], remarks: "Remarks", *, pinned: bool) -> HistoryRow:
    judgement = record.judgement
    return HistoryRow(
        model_id=record.model_id,
        trained_date=record.trained_at,
        val_sharpe=record.val_sharpe,
        sharpe_interval=judgement.sharpe_interval,
        is_deployed=record.is_deployed,
        pinned=pinned,
        outcome=record.outcome,
        reason=record.reason,
        served=record.served,
        parent=record.parent,
        source=record.source,
        synthetic=record.synthetic,
        family=record.family,
        trained_from=record.trained_from,
        trained_to=record.trained_to,
        exam_from=record.exam_from,
        exam_to=record.exam_to,
        exam_sessions=judgement.exam_sessions,
        rows=record.rows,
        sessions=record.sessions,
        tickers=record.tickers,
        sha256=record.sha256,
        kept=record.kept,
        edge=judgement.edge,
        twin=judgement.examined_model,
        max_rows=judgement.max_rows,
        features=judgement.features,
        dropped=dict(judgement.dropped),
        gaps=gaps,
        notes=remarks.notes,
        tags=remarks.tags,
    )


def plan_rollback(settings: Settings, model_id: str | None = None) -> RollbackPlan:
    """Return what a rollback would change. Raises RollbackError where there is nothing to go back to.

    UnfitModelError where the target may not serve the market of `settings`: the bot would refuse it.
    """
    from hftcl.archive.artifact import list_our_features
    from hftcl.archive.fitness import find_market_kind, require_rollback_target  # here: they load onnxruntime

    registry = Registry(Home.of(settings).root)
    plan = registry.plan_rollback(model_id)
    try:
        features, unread = list_our_features(settings), None
    except (ConfigError, StorageError) as fault:  # in an emergency: a model of ours alone needs no file of the user's
        features, unread = list_our_features(), fault
    try:
        require_rollback_target(registry, plan.target, find_market_kind(settings), features)
    except HftclError as refused:
        if unread is not None:
            refused.add_note(str(unread))
        raise
    return plan


def rollback(
    home: Path, model_id: str | None, plan: RollbackPlan, *, reason: str | None, now: Moment
) -> RollbackReport:
    """Carry out `plan`, as it was shown; the model is pinned. Raises SupersededError where it no longer holds."""
    from hftcl.archive.deployment import ModelArchive  # here, so that `history` does not wait for it

    mended: list[str] = []
    try:
        switched = ModelArchive(home, on_note=mended.append).rollback(model_id, now=now, reason=reason or "", plan=plan)
    except HftclError as refused:
        for note in mended:  # done all the same, and not to be lost with the refusal
            refused.add_note(f"repaired: {note}")
        raise
    return RollbackReport(
        rolled_back=True,
        from_model=switched.replaced,
        to_model=switched.model.model_id,
        pinned=True,
        reason=reason or "",
        repaired=switched.notes,
    )


def unpin(home: Path, *, now: Moment) -> UnpinReport:
    """Let automatic deployment run again."""
    from hftcl.archive.deployment import ModelArchive

    archive = ModelArchive(home)
    repaired = archive.recover(now)
    pin = archive.unpin(now=now)
    return UnpinReport(unpinned=pin.model_id if pin else None, repaired=repaired)


def note(
    home: Path, model_id: str, text: str | None, tags: Sequence[str], untags: Sequence[str], *, now: Moment
) -> NoteReport:
    """Write `text`, `tags` and `untags` on a model, where there are any; return all that is written on it.

    Raises ModelNotFoundError; UsageError for a note or a tag that cannot be kept.
    """
    registry, mended = Registry(home), list[str]()
    if text is not None or tags or untags:
        from hftcl.archive.deployment import ModelArchive
        from hftcl.archive.notes import write_remarks

        archive = ModelArchive(home, on_note=mended.append)
        try:
            model_id = write_remarks(archive, model_id, note=text, tags=tags, untags=untags, now=now)
        except HftclError as refused:
            for line in mended:  # done all the same, and not to be lost with the refusal
                refused.add_note(f"repaired: {line}")
            raise
    else:
        model_id = registry.find(model_id).model_id
    remarks = read_remarks(registry).get(model_id, Remarks())
    return NoteReport(model_id=model_id, notes=remarks.notes, tags=remarks.tags, repaired=tuple(mended))
