"""Candidate and champion before the same exam: who is examined, on which sessions, and what is decided."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hftcl.archive import artifact
from hftcl.archive.deployment import ModelArchive
from hftcl.archive.fitness import find_market_kind, load_archived, load_fit
from hftcl.archive.policy import hash_policy
from hftcl.archive.records import ModelRecord
from hftcl.compute.crew import count_cores
from hftcl.errors import HftclError
from hftcl.events import Event, OnEvent, Stopwatch
from hftcl.exam.metrics import sharpe
from hftcl.exam.split import ExamSplit, list_sessions, split_for_exam
from hftcl.exam.verdict import Outcome, Verdict, find_excuse, judge, list_conceding_sharpes
from hftcl.learning.baseline import score_baseline
from hftcl.learning.candidate import Candidate, train_candidate
from hftcl.learning.dataset import Dataset
from hftcl.learning.miracle import REMEDY, examine_causes, find_miracles, is_confirmed
from hftcl.learning.reports import ScoreReport
from hftcl.learning.score import ExamResult, examine
from hftcl.learning.trials import build_look, find_trials
from hftcl.market.sessions import Calendar
from hftcl.model.training import Trainer
from hftcl.settings import Settings


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
    baseline: ScoreReport | None = None


def find_champion(archive: ModelArchive, data: Dataset, settings: Settings) -> Champion | None:
    """Return the model that serves, None where none does; the examined model stands for a refit."""
    live = archive.find_live()
    if live is None:
        return None
    excused = find_excuse(live.model_id, trained_synthetic=live.synthetic, synthetic=data.synthetic)
    if excused is not None:
        return Champion(record=live, excused=excused)
    try:
        examined = archive.find_examined(live)  # a refit has seen the exam; the examined model has not
        path = archive.production if examined is live else archive.locate_onnx(examined.model_id)
        market = find_market_kind(settings)
        model = load_fit(path, sha256=examined.sha256, market=market, features=data.features)
    except HftclError as fault:
        return Champion(record=live, problem=str(fault))
    return Champion(record=live, model=model)


def train_and_examine(
    settings: Settings,
    data: Dataset,
    champion: Champion | None,
    archive: ModelArchive,
    model_id: str,
    params: Mapping[str, object],
    pool: Trainer,
    on_event: OnEvent,
    watch: Stopwatch,
) -> tuple[Candidate, ExamOutcome]:
    """Train a candidate, and put it, the model that serves and a baseline before the same exam."""
    defender = champion.model if champion else None
    division = split_for_exam(
        list_sessions(data.frame),
        settings.exam,
        champion_last_label=defender.meta.label_end if defender else None,
    )
    examined: list[ExamResult] = []

    def examine_early(model: artifact.Model) -> None:
        models = [model, *([defender] if defender else [])]
        with watch("exam"):
            for done, one in enumerate(models):
                on_event(Event("exam", done, len(models)))
                examined.append(_examine(one, data, division, settings))
            on_event(Event("exam", len(models), len(models)))

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
            on_model=examine_early,
        )
    with watch("exam"):
        policy = hash_policy(settings, params, features=data.features)
        # that its graph predicts what was fitted is known only now: nothing is judged by what does not
        exam = _judge_candidate(settings, data, division, champion, examined, archive, policy)
    with watch("baseline"):
        baseline = score_baseline(data, division, settings, pool=pool, on_event=on_event)
        look = build_look(exam.challenger.report, policy=policy)
        return candidate.with_exam(exam.challenger.slices, look), replace(exam, baseline=baseline)


def _judge_candidate(
    settings: Settings,
    data: Dataset,
    division: ExamSplit,
    champion: Champion | None,
    examined: Sequence[ExamResult],
    archive: ModelArchive,
    policy: str,
) -> ExamOutcome:
    """Judge by the exams of the candidate and, where there is one, of the model that defends."""
    challenger, defender = examined[0], examined[1] if len(examined) > 1 else None
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
    return ExamOutcome(split=division, challenger=challenger, champion=defender, verdict=verdict, miracles=miracles)


def _explain_doubt(
    miracles: tuple[str, ...], challenger: ExamResult, data: Dataset, division: ExamSplit, settings: Settings
) -> str:
    causes = examine_causes(challenger, data, division.exam_days, settings)
    return f"nearly always an error in the bars: {'; '.join(miracles)}. Looked at: {'; '.join(causes)}. {REMEDY}"


def _examine(model: artifact.Model, data: Dataset, division: ExamSplit, settings: Settings) -> ExamResult:
    cost_bps, watchlist = settings.strategy.cost_bps, settings.market.watchlist
    jobs = count_cores(settings)
    return examine(model, data.frame, division.exam_days, cost_bps=cost_bps, watchlist=watchlist, jobs=jobs)


def _list_conceding_sharpes(
    archive: ModelArchive, champion: Champion | None, data: Dataset, division: ExamSplit, settings: Settings
) -> tuple[float, ...]:
    """Return those of `exam.verdict.list_conceding_sharpes`; one that cannot be scored any more has no figure."""

    def find_conceding(record: ModelRecord) -> ModelRecord | None:
        return archive.find(record.parent) if record.judgement.conceded and record.parent else None

    def compute_sharpe(record: ModelRecord) -> float | None:
        try:
            model = load_archived(archive, archive.find_examined(record), None, data.features)
            net = _examine(model, data, division, settings).simulation.net
            return sharpe(net, sessions_per_year=Calendar(model.meta.calendar).sessions_per_year)
        except HftclError:
            return None

    newest = champion.record if champion and champion.model else None
    return list_conceding_sharpes(newest, find_conceding, compute_sharpe)


def explain_idle(exam: ExamOutcome, champion: Champion | None) -> str | None:
    """Return why no model of ours can trade after this retrain; None where one can."""
    if exam.verdict.outcome is Outcome.DEPLOYED:
        return None
    if any(fact.name == "plausibility" for fact in exam.verdict.evidence):
        return "what this exam shows is nearly always an error in the bars"
    if champion is None or champion.excused is not None:
        return "no model serves"
    return champion.problem and f"the model that serves cannot be scored: {champion.problem}"
