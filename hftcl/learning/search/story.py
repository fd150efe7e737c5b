"""The story of `search`: many settings tried inside the training window, the best of them examined once.

No trial sees the exam. Changes no setting and nothing that serves; the trials are kept under the home, and each is
written down as a look at the sessions inside.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime
from typing import Final

from hftcl import durable
from hftcl.archive.artifact import list_our_features
from hftcl.archive.deployment import ModelArchive
from hftcl.archive.looks import Look
from hftcl.compute import Team, Wanted, open_engine
from hftcl.compute.code_digest import hash_code, list_versions
from hftcl.errors import LockHeldError, StorageError, UsageError
from hftcl.events import Event, Level, OnEvent, Stopwatch
from hftcl.formats import count, number
from hftcl.home import Home
from hftcl.learning.bars_digest import compute_bars_digests
from hftcl.learning.dataset import Dataset, open_window
from hftcl.learning.reports import RetrainReport
from hftcl.learning.search import sampler
from hftcl.learning.search.board import Board, Limit, StoppedError
from hftcl.learning.search.inner import InnerExam
from hftcl.learning.search.report import build_report, find_winner, weigh_trials
from hftcl.learning.search.reports import InnerReport, SearchReport
from hftcl.learning.search.space import Space, apply_choice, build_space
from hftcl.learning.search.trials import FinishedTrial, Study, TrialStore
from hftcl.learning.stories.retrain import require_no_real_model_replaced, retrain
from hftcl.settings import Settings
from hftcl.waiting import yield_done

STAGE: Final = "search"  # the name by which a view shows progress


def search(
    settings: Settings,
    *,
    trials: int | None = None,
    minutes: float | None = None,
    as_of: str | None = None,
    clock: Callable[[], datetime],
    on_event: OnEvent,
) -> SearchReport:
    """Try settings until there are `trials` of them, those of an earlier run counted, or `minutes` are over.

    trials: `[search] trials` where neither is given. A search of the same bars, settings and space goes on where it
    was; another one begins over, and that is told. Raises UsageError where that leaves nothing to try, TrainingError
    where Optuna is not installed, ConfigError for a space that does not exist, or where a model of real bars serves and
    these are synthetic, IntegrityError for a damaged registry, NoDataError for too few sessions.
    """
    _require_something_to_do(trials, minutes)
    sampler.require_installed()
    space, home, watch = build_space(settings, list_our_features(settings)), Home.of(settings), Stopwatch()
    for note in space.notes:
        on_event(Event(STAGE, text=note, level=Level.WARNING))
    require_no_real_model_replaced(ModelArchive(home.root), settings)  # the exam of the winner would end with it
    with _hold_lock(home):
        done = _try_all(
            settings, space, home, trials, minutes, as_of=as_of, clock=clock, on_event=on_event, watch=watch
        )
        finished = done.board.list_finished()
        with watch("exam"):
            exam = _examine(settings, find_winner(finished), done.data, clock, on_event)
        with watch("importances"):
            importances, unweighed = _weigh_settings(done.board, on_event)
        return build_report(
            settings,
            space,
            done.inner,
            done.data,
            finished,
            tried=weigh_trials(finished, done.board.store.read_others(), done.days),
            importances=importances,
            exam=exam,
            resumed=done.resumed,
            notes=(*space.notes, *done.notes, *unweighed),
            timings=watch.list_timings(),
        )


def _weigh_settings(board: Board, on_event: OnEvent) -> tuple[dict[str, float], tuple[str, ...]]:
    """Return the share of each setting in what made a trial good; where none can be told, a note that says why."""
    why = board.sampler.explain_no_importances()
    if why:
        on_event(Event(STAGE, text=why, level=Level.NOTE))
    return board.sampler.compute_importances(), (why,) if why else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Done:
    """What is kept of the trials for the report. data: without its rows, so that the exam has room for its own."""

    board: Board
    data: Dataset
    days: tuple[date, ...]
    inner: InnerReport
    resumed: int
    notes: tuple[str, ...]


def _try_all(
    settings: Settings,
    space: Space,
    home: Home,
    trials: int | None,
    minutes: float | None,
    *,
    as_of: str | None,
    clock: Callable[[], datetime],
    on_event: OnEvent,
    watch: Stopwatch,
) -> _Done:
    """Try until the limit; the window, and what runs the trials, end with it."""
    now = clock()
    wide = replace(settings, market=replace(settings.market, lookback_days=max(space.list_lookbacks())))
    with open_engine(settings, on_event) as engine:
        window = open_window(wide, as_of=as_of, now=now, save=True, on_event=on_event, watch=watch)
        data = window.assemble(engine)
        inner = InnerExam(settings, data)
        store = TrialStore(home.searches, name_study(settings, space, data))
        known = store.begin(now)
        notes = _tell_others(store, known, on_event)
        board = Board.begin(space, store, known, Limit.begin(settings, trials, minutes))
        looks = _Looks(home, inner.days, data.synthetic, clock, on_event)
        with watch("search"):
            wanted = Wanted(workers=settings.search.workers, rows_bytes=inner.rows_bytes, stage=STAGE)
            _run_workers(board, inner, looks, engine.gather(wanted), on_event)
        looks.record(board.list_finished())  # those too that a run that was killed, or another change, left out
        return _Done(
            board=board,
            data=replace(data, frame=data.frame.clear()),
            days=inner.days,
            inner=inner.report(),
            resumed=len(known),
            notes=notes,
        )


def _require_something_to_do(trials: int | None, minutes: float | None) -> None:
    """Raise UsageError where no trial could begin."""
    if trials is not None and trials < 1:
        raise UsageError(f"--trials {trials} leaves nothing to try. Give 1 or more.")
    if minutes is not None and not minutes > 0:
        raise UsageError(f"--minutes {minutes:g} leaves no time to try anything. Give more than 0.")


@contextlib.contextmanager
def _hold_lock(home: Home) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        with durable.convert_storage_faults("preparing the search"):
            durable.make_folder(home.root)
            stack.enter_context(durable.lock(home.search_lock, "search"))
        yield


# --- which search it is -----------------------------------------------------------------------------------------------


def name_study(settings: Settings, space: Space, data: Dataset) -> Study:
    """Return the study that trials of this search belong to: whatever a trial's figures may depend on is a part."""
    market, of_search = settings.market, settings.search
    others = {**asdict(settings), "plugins": {name: asdict(held) for name, held in settings.plugins.items()}}
    for section in ("paths", "market", "search", *_OF_NO_TRIAL):
        del others[section]
    parts: dict[str, object] = {
        "bars": {
            day.isoformat(): digests for day, digests in compute_bars_digests(data.frame, data.features.columns).items()
        },
        "settings": [sorted(market.watchlist), market.calendar, market.extended_hours, data.source, others],
        "window": market.lookback_days,
        "features": data.features.definitions_hash,
        "space": [(row.path, row.values, row.families) for row in space.dimensions],
        "folds": of_search.folds,
        "seed": of_search.seed,
        "version of hftcl": [hash_code(), list_versions()],
    }
    digests = {name: _hash(part) for name, part in parts.items()}
    return Study(parts=digests, as_of=data.as_of.at, synthetic=data.synthetic)


# Sections that change no figure of a trial; a new one changes the study until it is named here, which is the safe side.
_OF_NO_TRIAL: Final = (
    *("polygon", "files", "promote", "edge", "triggers", "schedule", "trade", "risk", "paper", "strict_paper"),
    *("alpaca", "alerts", "log", "archive", "compute"),
)


def _hash(part: object) -> str:
    return hashlib.sha256(json.dumps(part, sort_keys=True, default=str).encode()).hexdigest()


def _tell_others(store: TrialStore, known: Sequence[FinishedTrial], on_event: OnEvent) -> tuple[str, ...]:
    """Say that a search goes on, or that it begins although there are trials: which of them, and what is different."""
    if known:
        on_event(Event(STAGE, text=f"goes on after {count(len(known), 'trial')}", level=Level.NOTE))
        return ()
    other = store.find_newest_other()
    if other is None:
        return ()
    text = (
        f"a new search begins: the {count(other.trials, 'trial')} that are there, on bars until "
        f"{other.as_of:%Y-%m-%d}, are of other {' and '.join(other.differs)}"
    )
    if other.differs == ("bars",):
        text += f"; `--as-of {other.as_of:%Y-%m-%dT%H:%M}Z` goes on with them"
    on_event(Event(STAGE, text=text, level=Level.WARNING))
    return (text,)


# --- the trials -------------------------------------------------------------------------------------------------------


def _run_workers(board: Board, inner: InnerExam, looks: "_Looks", team: Team, on_event: OnEvent) -> None:
    """Let threads try what the board gives them, as many as keep the team busy.

    Whatever ends one of them, or this, ends all.
    """

    def require_going() -> None:
        if board.stopped:
            raise StoppedError

    def work() -> None:
        while (task := board.take()) is not None:
            trial = inner.try_choice(*task, team, require_going)
            looks.record((trial,))  # first: a search that is killed, and never goes on, has looked as well
            board.put(trial)
            if trial.fault:
                text = f"trial {trial.number} could not be tried: {trial.fault}"
                on_event(Event(STAGE, text=text, level=Level.WARNING))
            _tell_progress(board, on_event)

    if board.limit.allows(len(board.finished)):
        _tell_progress(board, on_event)
    with ThreadPoolExecutor(team.at_once, thread_name_prefix="trial") as threads:
        running = [threads.submit(work) for _ in range(team.at_once)]
        try:
            for worker in yield_done(running):
                worker.result(0)
        except BaseException:
            board.stop()
            raise
    _, whole = board.limit.measure(0)
    on_event(Event(STAGE, whole, whole, _describe_best(board)))


def _tell_progress(board: Board, on_event: OnEvent) -> None:
    on_event(Event(STAGE, *board.limit.measure(len(board.finished)), _describe_best(board)))


def _describe_best(board: Board) -> str:
    finished = board.list_finished()
    best = find_winner(finished)
    told = count(len(finished), "trial")
    return told if best is None else f"{told}, best inside {number(best.sharpe)}"


# --- afterwards -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Looks:
    """Writes down that candidates were looked at on the sessions inside; where that cannot be, it is told."""

    home: Home
    days: tuple[date, ...]
    synthetic: bool
    clock: Callable[[], datetime]
    on_event: OnEvent

    def record(self, finished: Sequence[FinishedTrial]) -> None:
        """Write down these trials; one that is there stays as it is."""
        looks = [
            Look(policy=trial.policy, positions=trial.positions, sharpe=trial.sharpe, sessions=self.days)
            for trial in finished
            if trial.sharpe is not None
        ]
        try:
            ModelArchive(self.home.root).record_looks(looks, synthetic=self.synthetic, now=self.clock)
        except (StorageError, LockHeldError) as fault:
            text = f"{count(len(looks), 'trial')} could not be counted as looks: {fault}"
            self.on_event(Event(STAGE, text=text, level=Level.WARNING))


def _examine(
    settings: Settings, winner: FinishedTrial | None, data: Dataset, clock: Callable[[], datetime], on_event: OnEvent
) -> RetrainReport | None:
    """Examine the winner once, as a retrain with its settings would, by the same bars; None without a winner."""
    if winner is None:
        return None
    chosen = apply_choice(settings, winner.choice)
    known_until = data.as_of.at.isoformat()
    return retrain(chosen, force=True, dry_run=True, as_of=known_until, clock=clock, on_event=on_event)
