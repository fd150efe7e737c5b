"""The story of `exam`: one archived model on other bars, by the very code of a retrain's exam.

Bars that the cache lacks are fetched and not kept, and the policy's record stays as it is. What is written down is that
these sessions were looked at: a later candidate is then the best of more tries.
"""

from collections.abc import Callable
from dataclasses import fields, replace
from datetime import date, datetime

from hftcl.archive.artifact import Model, list_our_features
from hftcl.archive.deployment import ModelArchive
from hftcl.archive.fitness import describe_untrained_of, find_first_unseen, find_market_kind, load_archived
from hftcl.compute.crew import count_cores
from hftcl.errors import NoDataError, UsageError
from hftcl.events import Event, Level, OnEvent
from hftcl.exam.split import list_sessions
from hftcl.exam.trials import compute_deflated, count_effective
from hftcl.formats import format_moment
from hftcl.home import Home
from hftcl.learning.dataset import Dataset, Window
from hftcl.learning.reports import ExamReport, ScoreReport
from hftcl.learning.score import examine
from hftcl.learning.trials import find_trials, record_look
from hftcl.market.sessions import Calendar
from hftcl.market.window import AsOf, find_known_end, open_market, parse_day
from hftcl.settings import Settings


def score(
    settings: Settings,
    model_id: str,
    first: date | str,
    last: date | str,
    *,
    clock: Callable[[], datetime],
    on_event: OnEvent,
) -> ExamReport:
    """Return what an archived model would have earned from session `first` to `last`, both included.

    Costs, watchlist and embargo are those of `settings`; features, threshold, horizon and the hours of the session
    those of the model. Where the bars end before `last`, so does the exam, with a warning.
    Raises UsageError for a malformed id or date, ModelNotFoundError for an unknown id, IntegrityError for a file that
    is damaged or was pruned, and NoDataError for sessions that the model has seen, or that it cannot be scored on:
    without bars, of another calendar, or synthetic ones for a model of real bars and the reverse.
    """
    archive = ModelArchive(Home.of(settings).root)
    record = archive.find(model_id)
    begin, end = parse_day("--from", first), parse_day("--to", last)
    if begin > end:
        raise UsageError(f"--from {begin} is after --to {end}. Exchange them.")
    source, calendar = open_market(settings)
    market = replace(find_market_kind(settings), extended_hours=None)  # the hours are those of the model
    features = list_our_features(settings)
    model = load_archived(archive, record, market, features)
    _require_unseen(model, begin, calendar, settings.exam.embargo_sessions)
    untrained = describe_untrained_of(model.meta, settings.market.watchlist)
    if untrained:
        on_event(Event("exam", text=untrained, level=Level.WARNING))
    known_end = find_known_end(source, calendar, settings, begin, end, clock())
    if not known_end.explicit:
        on_event(Event("exam", text=f"{known_end.note}, before {end}; so does the exam", level=Level.WARNING))
    window = Window(
        settings=_adopt_model_settings(settings, model, begin, known_end, calendar),
        source=source,
        calendar=calendar,
        known_end=known_end,
        save=False,
        on_event=on_event,
        features=features,
    )
    data = window.assemble()
    return _examine(model, data, settings, archive, clock, on_event)


def _require_unseen(model: Model, begin: date, calendar: Calendar, embargo_sessions: int) -> None:
    """Refuse sessions up to the last label of the training, and the embargo after them: see `find_first_unseen`."""
    seen = model.meta.label_end
    allowed = find_first_unseen(calendar, seen, embargo_sessions=embargo_sessions)
    if begin < allowed:
        raise NoDataError(
            f"Model {model.meta.model_id} was trained on bars up to {format_moment(seen)} UTC, and the embargo is "
            f"{embargo_sessions} session{'s' if embargo_sessions > 1 else ''}: it may be examined from {allowed} on, "
            f"not from {begin}. Use --from {allowed}."
        )


def _adopt_model_settings(
    settings: Settings, model: Model, begin: date, known_end: AsOf, calendar: Calendar
) -> Settings:
    """Return the settings whose window begins at `begin`, with the model's own hours and horizon."""
    meta, days = model.meta, (calendar.find_last_complete(known_end.at) - begin).days + 1
    return replace(
        settings,
        market=replace(settings.market, lookback_days=days, extended_hours=meta.extended_hours),
        model=replace(settings.model, horizon_minutes=meta.horizon_minutes),
    )


def _examine(
    model: Model,
    data: Dataset,
    settings: Settings,
    archive: ModelArchive,
    clock: Callable[[], datetime],
    on_event: OnEvent,
) -> ExamReport:
    days = tuple(session.day for session in list_sessions(data.frame))
    on_event(Event("exam", 0, 1))
    examined = examine(
        model,
        data.frame,
        days,
        cost_bps=settings.strategy.cost_bps,
        watchlist=settings.market.watchlist,
        jobs=count_cores(settings),
    )
    score_report = examined.report
    on_event(Event("exam", 1, 1))
    judgement, synthetic = archive.find(model.meta.model_id).judgement, data.synthetic
    tried = find_trials(archive, score_report, synthetic=synthetic, positions=judgement.positions)
    record_look(
        archive,
        score_report,
        policy=judgement.policy_digest or "",
        synthetic=synthetic,
        now=clock,
        on_event=on_event,
        positions=judgement.positions,
    )
    return ExamReport(
        trials=1 + len(tried),
        effective_trials=count_effective(tried),
        dsr=compute_deflated(
            examined.simulation.net,
            None if score_report.psr is None else score_report.sharpe,  # too few sessions for either
            tried,
            sessions_per_year=Calendar(model.meta.calendar).sessions_per_year,
        ),
        **{item.name: getattr(score_report, item.name) for item in fields(ScoreReport)},
        from_=days[0],
        to=days[-1],
        sessions=len(days),
        tickers=data.tickers,
        left_out=data.left_out,
        trained_from=model.meta.trained_from,
        trained_to=model.meta.trained_to,
        source=data.source,
        synthetic=data.synthetic,
    )
