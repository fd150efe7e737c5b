"""What a retrain reports: the exam and its evidence, the edge, or why none was due."""

from dataclasses import replace
from statistics import NormalDist

from hftcl.events import Stopwatch
from hftcl.exam.edge import Edge
from hftcl.exam.evidence import Evidence
from hftcl.exam.metrics import compute_psr, compute_sharpe_interval, compute_sharpe_or_none, noise_deviation
from hftcl.exam.split import ExamSplit
from hftcl.learning.candidate import Candidate
from hftcl.learning.dataset import Dataset
from hftcl.learning.examination import Champion, ExamOutcome
from hftcl.learning.record import Record
from hftcl.learning.reports import CheckReport, EvidenceReport, ExamSpan, FindingReport, RetrainReport
from hftcl.learning.triggers import check_manual
from hftcl.market.sessions import Calendar
from hftcl.settings import Settings


def build_report(
    settings: Settings,
    data: Dataset,
    candidate: Candidate,
    exam: ExamOutcome,
    champion: Champion | None,
    checked: CheckReport | None,
    repaired: tuple[str, ...],
    dry_run: bool,
    watch: Stopwatch,
) -> RetrainReport:
    """Return what a retrain found, before the edge is decided."""
    verdict, division, meta = exam.verdict, exam.split, candidate.model.meta
    return RetrainReport(
        outcome=str(verdict.outcome),
        reason=verdict.reason,
        model_id=None if dry_run else meta.model_id,
        dry_run=dry_run,
        source=data.source,
        synthetic=data.synthetic,
        calendar=meta.calendar,
        extended_hours=meta.extended_hours,
        as_of=data.as_of.at,
        as_of_note=data.as_of.note,
        rows=candidate.rows,
        max_rows=meta.max_rows,
        sessions=candidate.sessions,
        tickers=data.tickers,
        left_out=data.left_out,
        findings=tuple(
            FindingReport(ticker=f.ticker, reason=f.reason, count=f.count, first=f.first, detail=f.detail)
            for f in data.findings
        ),
        coverage=data.coverage,
        engine=candidate.trained.engine,
        threshold=meta.threshold,
        horizon=meta.horizon,
        entry=meta.entry,
        features=meta.feature_names,
        selection=meta.selection,
        challenger=exam.challenger.report,
        champion=exam.champion.report if exam.champion else None,
        baseline=exam.baseline,
        exam=_describe_span(division, candidate, champion, settings),
        evidence=_report_evidence(verdict.evidence),
        p_better=verdict.p_better,
        conceded=verdict.conceded,
        implausible=exam.miracles,
        serves=champion.record.model_id if champion else None,
        waits_beside=champion.record.model_id if champion and verdict.waits else None,
        policy=verdict.policy,
        trials=verdict.trials,
        effective_trials=verdict.effective_trials,
        dsr=verdict.deflated_sharpe,
        deflated_sharpe=verdict.deflated_sharpe,
        repaired=repaired,
        triggers=checked.triggers if checked else (check_manual(asked=True),),
        timings_s=watch.list_timings(),
    )


def _describe_span(
    division: ExamSplit, candidate: Candidate, champion: Champion | None, settings: Settings
) -> ExamSpan:
    a_year = Calendar(settings.market.calendar).sessions_per_year
    noise = noise_deviation(len(division.exam), sessions_per_year=a_year) if division.exam else None
    defender = champion.model if champion else None
    return ExamSpan(
        from_=division.exam_days[0] if division.exam else None,
        to=division.exam_days[-1] if division.exam else None,
        sessions=len(division.exam),
        overlap_challenger=division.count_overlap(candidate.model.meta.label_end),
        overlap_champion=division.count_overlap(defender.meta.label_end) if defender else 0,
        noise_deviation=noise,
        chance_of_noise=NormalDist().cdf(-settings.promote.min_sharpe / noise) if noise else None,
    )


def _report_evidence(evidence: tuple[Evidence, ...]) -> tuple[EvidenceReport, ...]:
    return tuple(
        EvidenceReport(
            name=fact.name,
            value=fact.value,
            threshold=fact.threshold,
            passed=fact.passed,
            decides=fact.decides,
            text=str(fact),
        )
        for fact in evidence
    )


def add_edge(report: RetrainReport, record: Record, edge: Edge, settings: Settings) -> RetrainReport:
    """Return the report with the second decision: whether the policy's record lets the bot trade."""
    days = [session.session for session in record.sessions]
    a_year = Calendar(settings.market.calendar).sessions_per_year
    return replace(
        report,
        edge=str(edge.state),
        edge_reason=edge.reason,
        edge_evidence=_report_evidence(edge.evidence),
        p_edge=edge.p_edge,
        record_sessions=edge.sessions,
        record_from=days[0] if days else None,
        record_to=days[-1] if days else None,
        record_digest=record.digest,
        record_sharpe=compute_sharpe_or_none(record.net, sessions_per_year=a_year),
        record_interval=compute_sharpe_interval(record.net, a_year),
        record_psr=compute_psr(record.net, a_year),
        sessions_missing=edge.sessions_missing,
    )


def report_skipped(
    settings: Settings, checked: CheckReport, repaired: tuple[str, ...], dry_run: bool, watch: Stopwatch
) -> RetrainReport:
    """Return the report of a retrain that was not due."""
    return RetrainReport(
        outcome="skipped",
        reason=checked.reason,
        dry_run=dry_run,
        source=checked.source,
        synthetic=checked.synthetic,
        as_of=checked.as_of,
        as_of_note=checked.as_of_note,
        repaired=repaired,
        triggers=checked.triggers,
        left_out={
            item.ticker: item.left_out
            for item in checked.coverage
            if item.left_out and item.ticker not in settings.market.context
        },
        coverage=checked.coverage,
        timings_s=watch.list_timings(),
    )
