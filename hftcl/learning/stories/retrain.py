"""The story of `retrain`: check, collect, train, examine, judge, archive, deploy.

One retrain at a time (a lock); whatever stops it, the model that served before still serves, whole.
"""

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from statistics import NormalDist
from typing import Final

from hftcl import durable
from hftcl.archive import artifact
from hftcl.archive.deployment import Archive
from hftcl.archive.fitness import describe_untrained, find_market_kind, load_archived, load_fit
from hftcl.archive.policy import hash_policy
from hftcl.archive.records import ModelRecord
from hftcl.errors import ConfigError, HftclError
from hftcl.events import Event, Level, OnEvent, Stopwatch
from hftcl.exam.edge import Edge
from hftcl.exam.evidence import Evidence
from hftcl.exam.metrics import noise_deviation, sharpe
from hftcl.exam.split import ExamSplit, list_sessions, split
from hftcl.exam.verdict import Outcome, Verdict, judge
from hftcl.home import Home
from hftcl.learning.candidate import Candidate, Parameters, merge_params, require_unchanged, train_candidate
from hftcl.learning.dataset import Dataset, open_window
from hftcl.learning.miracle import REMEDY, examine_causes, find_miracles, is_confirmed
from hftcl.learning.promote import Promotion
from hftcl.learning.record import Record, decide_edge, extend_record
from hftcl.learning.reports import CheckReport, EvidenceReport, ExamSpan, FindingReport, RetrainReport, ScoreReport
from hftcl.learning.score import ExamResult, compute_or_none, compute_sharpe_interval, examine
from hftcl.learning.stories.check import check_window
from hftcl.learning.trials import find_trials, record_look
from hftcl.learning.triggers import check_manual
from hftcl.market.sessions import Calendar
from hftcl.model.training import TrainingPool
from hftcl.settings import Settings

_ROOM_BYTES: Final = 20 << 20  # 200 trees by default: 5 MB of ONNX, 4 MB of joblib, each twice for a moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Champion:
    """The model that serves, as far as the exam is concerned: scored, excused with a reason, or with a problem."""

    record: ModelRecord
    model: artifact.Model | None = None
    problem: str | None = None
    excused: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExamOutcome:
    """What the exam found and what was decided."""

    split: ExamSplit
    challenger: ExamResult
    champion: ExamResult | None
    verdict: Verdict
    miracles: tuple[str, ...] = ()


def retrain(
    settings: Settings,
    *,
    force: bool = False,
    dry_run: bool = False,
    params: Parameters = None,
    as_of: str | None = None,
    now: datetime,
    on_event: OnEvent,
) -> RetrainReport:
    """Run the loop once and return what happened. Raises HftclError where it could not be run.

    force: skip the check, never the exam. dry_run: archive and deploy nothing. params: of the model family, checked
    before anything is collected. as_of: see `market.window.find_as_of`. now: UTC.
    """
    chosen = merge_params(settings, params)
    home = Home.of(settings).root
    watch = Stopwatch()
    archive = Archive(home)
    with _hold_retrain_lock(home, dry_run=dry_run):
        repaired = () if dry_run else archive.recover(now)
        _require_no_real_model_replaced(archive, settings)
        _tell_untrained(archive, settings, on_event)
        window = open_window(settings, as_of=as_of, now=now, save=not dry_run, on_event=on_event, watch=watch)
        checked = None if force else check_window(window, now)
        if checked is not None and not checked.due:
            return _report_skipped(checked, repaired, dry_run, watch)
        if not dry_run:
            durable.require_space(Home(home).models, _ROOM_BYTES, "archiving a model")
        with TrainingPool() as pool, _claim_model_id(archive, now, dry_run=dry_run) as model_id:
            pool.prepare(settings.model.family)  # loads its libraries while bars are collected
            data = window.assemble()
            champion = _find_champion(archive, data, settings)
            candidate, exam = _train_and_examine(
                settings, data, champion, archive, model_id, chosen, pool, on_event, watch
            )
            with watch("record"):
                record = extend_record(
                    archive, data, exam.split, candidate, settings, params=chosen, pool=pool, on_event=on_event
                )
            edge = decide_edge(record, archive, data, settings, params=chosen, obstacle=_explain_idle(exam, champion))
            report = _build_report(settings, data, candidate, exam, champion, checked, repaired, dry_run, watch)
            policy = hash_policy(settings, chosen, features=data.features)
            report = replace(_add_edge(report, record, edge, settings), policy_digest=policy)
            if dry_run:
                _record_dry_look(archive, exam.challenger.report, report, now, on_event)
                return report
            with watch("deploy"):
                on_event(Event("deploy", 0, 1))
                require_unchanged(settings, data.features)
                promotion = Promotion(archive, settings, data, chosen, now, pool, on_event)
                report = promotion.archive_and_deploy(
                    candidate,
                    report,
                    champion=champion.record.model_id if champion else None,
                    record=record,
                )
                on_event(Event("deploy", 1, 1))
            return replace(report, timings_s=watch.timings())


def _record_dry_look(
    archive: Archive, score: ScoreReport, report: RetrainReport, now: datetime, on_event: OnEvent
) -> None:
    policy = report.policy_digest or ""
    record_look(archive, score, policy=policy, synthetic=report.synthetic, now=now, on_event=on_event)


@contextlib.contextmanager
def _hold_retrain_lock(home: Path, *, dry_run: bool) -> Iterator[None]:
    if dry_run:
        yield
        return
    with contextlib.ExitStack() as stack:
        with durable.convert_storage_faults("locking the training"):
            durable.make_folder(Home(home).models)
            stack.enter_context(durable.lock(Home(home).training_lock, "retrain"))
        yield


@contextlib.contextmanager
def _claim_model_id(archive: Archive, now: datetime, *, dry_run: bool) -> Iterator[str]:
    """Hold a model id; a candidate that never reaches the archive gives it back."""
    if dry_run:
        yield f"{now:%Y%m%d_%H%M%S}"
        return
    model_id = archive.claim_id(now)
    try:
        yield model_id
    finally:
        archive.discard(model_id)


def _require_no_real_model_replaced(archive: Archive, settings: Settings) -> None:
    """Raise ConfigError where a model of the synthetic market would take the place of one that serves a real one."""
    live = archive.find_live()
    if live is not None and not live.synthetic and find_market_kind(settings).synthetic:
        raise ConfigError(
            f"Model {live.model_id} serves in {archive.home}, trained on real bars ({live.source}), and [market] "
            f"source is {settings.market.source!r}: synthetic bars never replace real ones. Name the configuration "
            "that belongs to this home (--config PATH or $HFTCL_CONFIG), or give the synthetic market a [paths] home "
            "of its own."
        )


def _tell_untrained(archive: Archive, settings: Settings, on_event: OnEvent) -> None:
    live = archive.find_live()
    untrained = live and describe_untrained(live.model_id, live.tickers, settings.market.watchlist)
    if untrained:
        on_event(Event("exam", text=untrained, level=Level.WARNING))


def _find_champion(archive: Archive, data: Dataset, settings: Settings) -> Champion | None:
    live = archive.find_live()
    if live is None:
        return None
    if live.synthetic != data.synthetic:
        model_kind, bars_kind = ("synthetic", "real") if live.synthetic else ("real", "synthetic")
        excused = (
            f"champion {live.model_id} does not defend: it was trained on {model_kind} bars, the "
            f"challenger on {bars_kind} ones"
        )
        return Champion(record=live, excused=excused)
    try:
        examined = archive.find_examined(live)  # a refit has seen the exam; its twin has not
        path = archive.production if examined is live else archive.onnx_path(examined.model_id)
        market = find_market_kind(settings)
        model = load_fit(path, sha256=examined.sha256, market=market, features=data.features)
    except HftclError as fault:
        return Champion(record=live, problem=str(fault))
    return Champion(record=live, model=model)


def _train_and_examine(
    settings: Settings,
    data: Dataset,
    champion: Champion | None,
    archive: Archive,
    model_id: str,
    params: Mapping[str, object],
    pool: TrainingPool,
    on_event: OnEvent,
    watch: Stopwatch,
) -> tuple[Candidate, ExamOutcome]:
    defender = champion.model if champion else None
    division = split(
        list_sessions(data.frame),
        exam_sessions=settings.exam.sessions,
        embargo_sessions=settings.exam.embargo_sessions,
        champion_last_label=defender.meta.label_end if defender else None,
    )
    with watch("fit"):
        candidate = train_candidate(
            data.frame,
            division,
            settings,
            model_id=model_id,
            params=params,
            features=data.features,
            source=data.source,
            synthetic=data.synthetic,
            pool=pool,
            coverage=data.coverage,
            on_event=on_event,
        )
    with watch("exam"):
        policy = hash_policy(settings, params, features=data.features)
        exam = _examine_candidate(settings, data, division, champion, candidate, archive, policy, on_event)
        return candidate.with_slices(exam.challenger.slices), exam


def _examine_candidate(
    settings: Settings,
    data: Dataset,
    division: ExamSplit,
    champion: Champion | None,
    candidate: Candidate,
    archive: Archive,
    policy: str,
    on_event: OnEvent,
) -> ExamOutcome:
    models = [candidate.model, *([champion.model] if champion and champion.model else [])]
    scores = []
    for done, model in enumerate(models):
        on_event(Event("exam", done, len(models)))
        scores.append(_examine(model, data, division, settings))
    challenger, defender = scores[0], scores[1] if len(scores) > 1 else None
    tried = find_trials(archive, challenger.report, synthetic=data.synthetic)
    miracles = find_miracles(
        challenger.report,
        synthetic=data.synthetic,
        limit=settings.exam.plausible_sharpe,
        sessions_per_year=Calendar(settings.market.calendar).sessions_per_year,
    )
    verdict = judge(
        challenger.build_scored(),
        defender.build_scored() if defender else None,
        promote=settings.promote,
        exam=settings.exam,
        pinned=archive.find_pin() is not None,
        champion_problem=champion.problem if champion else None,
        champion_excused=champion.excused if champion else None,
        earlier_sharpes=_list_conceding_sharpes(archive, champion, data, division, settings),
        tried=tried,
        implausible=_explain_doubt(miracles, challenger, data, division, settings)
        if miracles and not is_confirmed(archive, policy)
        else None,
    )
    on_event(Event("exam", len(models), len(models)))
    return ExamOutcome(split=division, challenger=challenger, champion=defender, verdict=verdict, miracles=miracles)


def _explain_doubt(
    miracles: tuple[str, ...], challenger: ExamResult, data: Dataset, division: ExamSplit, settings: Settings
) -> str:
    causes = examine_causes(challenger, data, division.exam_days, settings)
    return f"nearly always an error in the bars: {'; '.join(miracles)}. Looked at: {'; '.join(causes)}. {REMEDY}"


def _examine(model: artifact.Model, data: Dataset, division: ExamSplit, settings: Settings) -> ExamResult:
    cost_bps, watchlist = settings.strategy.cost_bps, settings.market.watchlist
    return examine(model, data.frame, division.exam_days, cost_bps=cost_bps, watchlist=watchlist)


def _list_conceding_sharpes(
    archive: Archive, champion: Champion | None, data: Dataset, division: ExamSplit, settings: Settings
) -> tuple[float, ...]:
    """Return the Sharpe ratios, on these sessions, of the champions that gave way by the tolerance alone.

    So concessions do not add up. One that cannot be scored any more is NaN, which makes the verdict inconclusive.
    """
    sharpes: list[float] = []
    record = champion.record if champion and champion.model else None
    while record is not None and record.judgement.conceded and record.parent:
        record = archive.find(record.parent)
        try:
            examined = archive.find_examined(record)
            model = load_archived(archive, examined, None, data.features)
            net = _examine(model, data, division, settings).simulation.net
            sharpes.append(sharpe(net, sessions_per_year=Calendar(model.meta.calendar).sessions_per_year))
        except HftclError:
            sharpes.append(math.nan)
    return tuple(sharpes)


def _explain_idle(exam: ExamOutcome, champion: Champion | None) -> str | None:
    """Return why no model of ours can trade after this retrain; None where one can."""
    if exam.verdict.outcome is Outcome.DEPLOYED:
        return None
    if any(fact.name == "plausibility" for fact in exam.verdict.evidence):
        return "what this exam shows is nearly always an error in the bars"
    if champion is None or champion.excused is not None:
        return "no model serves"
    return champion.problem and f"the model that serves cannot be scored: {champion.problem}"


def _build_report(
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
    verdict, division, meta = exam.verdict, exam.split, candidate.model.meta
    return RetrainReport(
        outcome=str(verdict.outcome),
        reason=verdict.reason,
        model_id=None if dry_run else meta.model_id,
        dry_run=dry_run,
        source=data.source,
        synthetic=data.synthetic,
        as_of=data.as_of.at,
        as_of_note=data.as_of.note,
        rows=candidate.rows,
        sessions=candidate.sessions,
        tickers=data.tickers,
        left_out=data.left_out,
        findings=tuple(
            FindingReport(ticker=f.ticker, reason=f.reason, count=f.count, first=f.first, detail=f.detail)
            for f in data.findings
        ),
        coverage=data.coverage,
        engine=candidate.trained.engine,
        threshold=candidate.trained.threshold,
        challenger=exam.challenger.report,
        champion=exam.champion.report if exam.champion else None,
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
        timings_s=watch.timings(),
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


def _add_edge(report: RetrainReport, record: Record, edge: Edge, settings: Settings) -> RetrainReport:
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
        record_sharpe=compute_or_none(lambda: sharpe(record.net, sessions_per_year=a_year)),
        record_interval=compute_sharpe_interval(record.net, a_year),
        record_psr=edge.psr,
        sessions_missing=edge.sessions_missing,
    )


def _report_skipped(checked: CheckReport, repaired: tuple[str, ...], dry_run: bool, watch: Stopwatch) -> RetrainReport:
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
        left_out={item.ticker: item.left_out for item in checked.coverage if item.left_out},
        coverage=checked.coverage,
        timings_s=watch.timings(),
    )
