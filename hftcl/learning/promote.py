"""What becomes of a candidate that was judged: archived whatever the verdict, refitted where that is wanted, deployed
where it passed.
"""

import contextlib
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from hftcl.archive.artifact import ModelMeta
from hftcl.archive.deployment import ModelArchive
from hftcl.archive.records import NewModel
from hftcl.errors import HftclError, PinnedError, StorageError, SupersededError
from hftcl.events import Event, Level, OnEvent, critical
from hftcl.exam.split import list_sessions, split_for_refit
from hftcl.exam.verdict import Outcome
from hftcl.learning.candidate import Candidate, train_candidate
from hftcl.learning.dataset import Dataset
from hftcl.learning.inside import fix_horizon, set_target
from hftcl.learning.record import Record
from hftcl.learning.reports import RetrainReport, build_document
from hftcl.model.training import Trainer
from hftcl.settings import Settings


@dataclass(frozen=True, slots=True)
class Promotion:
    """The end of one retrain. params: complete, of the model family; began: when the retrain did, UTC, the second of
    which is the model's id; clock: returns the time, UTC, by which what is done here is dated.
    """

    archive: ModelArchive
    settings: Settings
    data: Dataset
    params: Mapping[str, object]
    began: datetime
    clock: Callable[[], datetime]
    pool: Trainer
    on_event: OnEvent

    def archive_and_deploy(
        self,
        candidate: Candidate,
        report: RetrainReport,
        *,
        champion: str | None,
        record: Record,
    ) -> RetrainReport:
        """Archive the candidate, deploy it or its refit where it passed, and delete what `[archive] keep` lets go.

        champion: id of the model that serves. record: the policy's, with what this retrain changes in it. Returns the
        report of what really became of it. From here on a signal cuts only through the refit.
        """
        deploys = report.outcome == Outcome.DEPLOYED
        if deploys and self.settings.promote.refit_on_promote:
            with critical():
                self._archive_with_record(candidate, report, record)
            report = self._refit(candidate, report)  # takes as long as a training: a stop may cut it
            with critical(last=True):
                return self._finish(self._deploy(report, champion))
        with critical(last=True):
            self._archive_with_record(candidate, report, record)
            return self._finish(self._deploy(report, champion) if deploys else report)

    def _archive_with_record(self, candidate: Candidate, report: RetrainReport, record: Record) -> None:
        try:
            self._archive(candidate, report, record)
        except HftclError as fault:
            with contextlib.suppress(HftclError):  # a disk that takes no model may take no row: `fault` is told
                self._record_attempt("failed", str(fault), None)
            raise

    def _is_archived(self, candidate: Candidate) -> bool:
        """Whether a model is archived though that raised: a commit may have reached the disk, or what came after it
        failed.
        """
        own = candidate.model.meta.model_id, hashlib.sha256(candidate.onnx).hexdigest()  # its id may be another's
        with contextlib.suppress(HftclError):
            return own in {(model.model_id, model.sha256) for model in self.archive.list_models()}
        return False

    def _record_attempt(self, outcome: str, reason: str, model_id: str | None) -> None:
        """model_id: None where there is no such model."""
        self.archive.record_attempt(self.clock, kind="retrain", outcome=outcome, reason=reason, model_id=model_id)

    def _finish(self, report: RetrainReport) -> RetrainReport:
        try:
            self._record_attempt(report.outcome, report.reason, report.model_id)
            self.archive.prune(self.settings.archive.keep, now=self.clock)
        except StorageError as fault:  # the verdict stands, and perhaps a new model serves: told, but no failure now
            self._warn(str(fault))
        return report

    def _archive(self, candidate: Candidate, report: RetrainReport, record: Record | None) -> None:
        """Add the model with its verdict and what that changes in the record; a refit with the verdict of the model
        that was examined, whose exam it is, and whose record: None.
        """
        try:
            self.archive.add(
                self._describe(candidate, report),
                candidate.onnx,
                candidate.pkl,
                now=self.clock,
                sessions=record.added if record else (),
                dropped=record.dropped if record else (),
            )
        except HftclError as fault:
            if not self._is_archived(candidate):
                raise
            self._warn(f"model {candidate.model.meta.model_id} is archived; what came after that failed: {fault}")

    def _describe(self, candidate: Candidate, report: RetrainReport) -> NewModel:
        meta, exam = candidate.model.meta, report.exam
        return NewModel(
            model_id=meta.model_id,
            trained_at=self.began,
            outcome=report.outcome,  # type: ignore[arg-type]
            reason=report.reason,
            source=meta.source,
            synthetic=meta.synthetic,
            family=meta.family,
            rows=meta.rows,
            sessions=candidate.sessions,
            tickers=meta.tickers,
            trained_from=meta.trained_from,
            trained_to=meta.trained_to,
            label_end=meta.label_end,
            exam_from=exam.from_ if exam else None,
            exam_to=exam.to if exam else None,
            val_sharpe=report.challenger.sharpe if report.challenger else None,
            report=build_document(report),
        )

    def _refit(self, candidate: Candidate, report: RetrainReport) -> RetrainReport:
        """Train the same again on every session of the window; where that fails, the examined model itself serves.

        What the examined model chose stands: to choose again would be to choose by the sessions of the exam.
        """
        meta = candidate.model.meta
        examined, model_id, settings = meta.model_id, None, adopt_choices(self.settings, meta)
        try:
            model_id = self.archive.claim_id(self.began, now=self.clock)
            refit = train_candidate(
                set_target(self.data.frame, settings.model.target_minutes),
                split_for_refit(list_sessions(self.data.frame)),
                settings,
                model_id=model_id,
                params=self.params,
                features=self.data.features.narrow(meta.feature_names),
                source=self.data.source,
                synthetic=self.data.synthetic,
                pool=self.pool,
                coverage=self.data.coverage,
                on_event=self.on_event,
            )
            refit_report = _describe_refit(report, refit, examined)
            with critical():
                self._archive(refit, refit_report, None)
        except HftclError as fault:
            self._warn(f"the refit on all sessions failed, so the examined model {examined} itself serves: {fault}")
            return report
        else:
            return refit_report
        finally:
            if model_id is not None:
                self.archive.discard(model_id)

    def _deploy(self, report: RetrainReport, champion: str | None) -> RetrainReport:
        assert report.model_id is not None  # noqa: S101 - only a dry run has none, and it never comes here
        try:
            self.archive.deploy(report.model_id, now=self.clock, reason=report.reason, champion=champion)
        except PinnedError:  # rolled back while this trained
            for model_id in filter(None, (report.model_id, report.twin)):
                self.archive.set_outcome(model_id, "rejected", "pinned", now=self.clock)
            return replace(report, outcome="rejected", reason="pinned")
        except SupersededError as void:
            self._record_attempt("failed", str(void), report.model_id)
            raise
        return replace(report, serves=report.model_id)

    def _warn(self, text: str) -> None:
        self.on_event(Event("deploy", text=text, level=Level.WARNING))


def adopt_choices(settings: Settings, meta: ModelMeta) -> Settings:
    """Return the settings with what a model chose inside its training window in the place of what chose it.

    Its horizon, and the quantile of |prediction| that its entry threshold is; it names the features that stayed.
    """
    settings = fix_horizon(settings, meta.horizon_minutes)
    settings = replace(settings, features=replace(settings.features, drop_below="off"))
    if meta.entry is None or meta.entry.quantile is None:
        return settings
    strategy = replace(settings.strategy, entry="quantile", entry_quantile=meta.entry.quantile)
    return replace(settings, strategy=strategy)


def _describe_refit(report: RetrainReport, refit: Candidate, examined: str) -> RetrainReport:
    """Return the report of the examined model's exam with what is true of its refit alone."""
    meta = refit.model.meta
    return replace(
        report,
        model_id=meta.model_id,
        twin=examined,
        rows=refit.rows,
        sessions=refit.sessions,
        threshold=meta.threshold,
        horizon=meta.horizon,
        entry=meta.entry,
        features=meta.feature_names,
        selection=meta.selection,
    )
