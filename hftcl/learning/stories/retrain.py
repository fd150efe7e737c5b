"""The story of `retrain`: check, collect, train, examine, judge, archive, deploy.

One retrain at a time (a lock); whatever stops it, the model that served before still serves, whole.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

from hftcl import durable
from hftcl.archive.deployment import ModelArchive
from hftcl.archive.fitness import find_market_kind, find_untrained
from hftcl.archive.policy import hash_policy
from hftcl.archive.records import Moment, build_model_id
from hftcl.compute import Engine
from hftcl.errors import ConfigError
from hftcl.events import Event, Level, OnEvent, Stopwatch
from hftcl.home import Home
from hftcl.learning.candidate import Parameters, merge_params, require_unchanged
from hftcl.learning.dataset import Window, open_window
from hftcl.learning.examination import explain_idle, find_champion, train_and_examine
from hftcl.learning.feature_tasks import spreads_features
from hftcl.learning.folds import EngineOnDemand
from hftcl.learning.promote import Promotion
from hftcl.learning.record import extend_record, has_rows
from hftcl.learning.record_edge import decide_edge
from hftcl.learning.record_scoring import FOLD_SESSIONS
from hftcl.learning.reports import RetrainReport, ScoreReport
from hftcl.learning.retrain_report import add_edge, build_report, report_skipped
from hftcl.learning.stories.check import check_window
from hftcl.learning.tree_blocks import choose_trainer, grows_on_cluster
from hftcl.learning.trials import record_look
from hftcl.model.training import TrainingPool
from hftcl.settings import Settings

_ROOM_BYTES: Final = 20 << 20  # 200 trees by default: 5 MB of ONNX, 4 MB of joblib, each twice for a moment


def retrain(
    settings: Settings,
    *,
    force: bool = False,
    dry_run: bool = False,
    params: Parameters = None,
    as_of: str | None = None,
    clock: Callable[[], datetime],
    on_event: OnEvent,
    pool: TrainingPool | None = None,
) -> RetrainReport:
    """Run the loop once and return what happened. Raises HftclError where it could not be run.

    force: skip the check, never the exam. dry_run: archive and deploy nothing. params: of the family, checked before
    bars are collected. as_of: see `market.window.find_as_of`. clock: returns the time, UTC; id and bars are of the
    begin, what is done is dated by when it is done. pool: None for one of its own.
    """
    chosen, now, watch = merge_params(settings, params), clock(), Stopwatch()
    archive = ModelArchive(home := Home.of(settings).root)
    with _hold_retrain_lock(home, dry_run=dry_run):
        repaired = () if dry_run else archive.recover(clock)
        archive.hear_notes(lambda note: on_event(Event("deploy", text=note, level=Level.WARNING)))
        require_no_real_model_replaced(archive, settings)
        _tell_untrained(archive, settings, on_event)
        window = open_window(settings, as_of=as_of, now=now, save=not dry_run, on_event=on_event, watch=watch)
        checked = None if force else check_window(window, now)
        if checked is not None and not checked.due:
            return report_skipped(settings, checked, repaired, dry_run, watch)
        if not dry_run:
            durable.require_space(Home(home).models, _ROOM_BYTES, "archiving a model")
        policy = hash_policy(settings, chosen, features=window.read_features())
        with (
            _hold_pool(pool, settings.model.family) as pool,
            _hold_engine(archive, window, policy, pool, on_event) as engine,
            _claim_model_id(archive, now, clock, dry_run=dry_run) as model_id,
        ):
            trainer = choose_trainer(settings, pool, engine)
            data = window.assemble(engine)
            champion = find_champion(archive, data, settings)
            candidate, exam = train_and_examine(
                settings, data, champion, archive, model_id, chosen, trainer, on_event, watch
            )
            with watch("record"):
                record = extend_record(
                    archive, data, exam.split, candidate, settings, chosen, engine, on_event, may_keep=not dry_run
                )
            edge = decide_edge(record, archive, data, settings, params=chosen, obstacle=explain_idle(exam, champion))
            report = build_report(settings, data, candidate, exam, champion, checked, repaired, dry_run, watch)
            report = replace(add_edge(report, record, edge, settings), policy_digest=policy)
            if dry_run:
                _record_dry_look(archive, exam.challenger.report, report, clock, on_event)
                return report
            with watch("deploy"):
                on_event(Event("deploy", 0, 1))
                require_unchanged(settings, data.features)
                promotion = Promotion(archive, settings, data, chosen, now, clock, trainer, on_event)
                served = champion.record.model_id if champion else None
                report = promotion.archive_and_deploy(candidate, report, champion=served, record=record)
                on_event(Event("deploy", 1, 1))
            return replace(report, timings_s=watch.list_timings())


@contextlib.contextmanager
def _hold_pool(pool: TrainingPool | None, family: str) -> Iterator[TrainingPool]:
    """Give the caller's pool, which stays, or one that ends with the context; it loads what the family needs."""
    with TrainingPool() if pool is None else contextlib.nullcontext(pool) as held:
        held.prepare(family)  # takes seconds, beside collecting bars
        yield held


@contextlib.contextmanager
def _hold_engine(
    archive: ModelArchive, window: Window, policy: str, pool: TrainingPool, on_event: OnEvent
) -> Iterator[Engine]:
    """Give where features are computed, a record's folds train, and trees grow.

    A cluster that may be needed is asked before anything is done: for the features of a window that may have so many
    bars, for the folds of a first record, where a short exam has that of the candidate alone, and for the trees of a
    window that may have more rows than `[model] max_rows`.
    """
    settings = window.settings
    with EngineOnDemand(settings, on_event, pool) as engine:
        begins = settings.exam.sessions > FOLD_SESSIONS and not has_rows(
            archive, policy, synthetic=find_market_kind(settings).synthetic
        )
        if begins or (settings.compute.names_cluster and _may_need_cluster(window)):
            engine.open()
        yield engine


def _may_need_cluster(window: Window) -> bool:
    """Whether features or trees are the cluster's, if each ticker has a bar in each minute of the window."""
    settings, minutes = window.settings, window.count_minutes()
    grows = grows_on_cluster(settings) and minutes > settings.model.max_rows
    return grows or spreads_features(settings, window.read_features().table, minutes)


def _record_dry_look(
    archive: ModelArchive, score: ScoreReport, report: RetrainReport, now: Moment, on_event: OnEvent
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
def _claim_model_id(archive: ModelArchive, began: datetime, now: Moment, *, dry_run: bool) -> Iterator[str]:
    """Hold a model id; a candidate that never reaches the archive gives it back."""
    if dry_run:
        yield build_model_id(began)
        return
    model_id = archive.claim_id(began, now=now)
    try:
        yield model_id
    finally:
        archive.discard(model_id)


def require_no_real_model_replaced(archive: ModelArchive, settings: Settings) -> None:
    """Raise ConfigError where a model of the synthetic market would take the place of one that serves a real one."""
    live = archive.find_live()
    if live is not None and not live.synthetic and find_market_kind(settings).synthetic:
        raise ConfigError(
            f"Model {live.model_id} serves in {archive.home}, trained on real bars ({live.source}), and [market] "
            f"source is {settings.market.source!r}: synthetic bars never replace real ones. Name the configuration "
            "that belongs to this home (--config PATH or $HFTCL_CONFIG), or give the synthetic market a [paths] home "
            "of its own."
        )


def _tell_untrained(archive: ModelArchive, settings: Settings, on_event: OnEvent) -> None:
    live = archive.find_live()
    untrained = live and find_untrained(archive, live, settings.market.watchlist)
    if untrained:
        on_event(Event("exam", text=untrained, level=Level.WARNING))
