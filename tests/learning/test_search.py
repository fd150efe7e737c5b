"""The search inside the training window: no trial sees the exam, none counts twice, the best is judged as one of N."""

import contextlib
import gc
import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hftcl import ContinuousLearning
from hftcl.archive.artifact import list_our_features
from hftcl.archive.looks import read_looks
from hftcl.archive.registry import Registry
from hftcl.compute import Team, Wanted, open_engine
from hftcl.errors import ConfigError, FeatureError, IntegrityError, TrainingError, UsageError
from hftcl.events import Event, Level, OnEvent, ignore
from hftcl.exam.metrics import compute_best_luck, deflated_sharpe, sharpe
from hftcl.exam.split import list_sessions, split
from hftcl.exam.trials import build_trial
from hftcl.home import Home
from hftcl.learning.candidate import merge_params, train_candidate
from hftcl.learning.dataset import Dataset, open_window
from hftcl.learning.reports import build_document
from hftcl.learning.score import examine
from hftcl.learning.search import sampler
from hftcl.learning.search.inner import InnerExam, add_target
from hftcl.learning.search.reports import SearchReport
from hftcl.learning.search.space import Choice, apply_choice, build_space
from hftcl.learning.search.story import name_study
from hftcl.model.families.ridge import Ridge
from hftcl.model.training import TrainingPool
from hftcl.settings import Settings
from tests.in_process import call
from tests.installed import HFTCL, PATIENCE_S, give_calendar, one_line
from tests.loop_cases import NOW, small

AS_OF = "2025-12-15"
VALUES: dict[str, tuple[str | int | float | bool, ...]] = {
    "model.family": ("ridge",),
    "model.horizon_minutes": (10, 30, 60),
    "strategy.entry_quantile": (0.7, 0.9),
    "ridge.alpha": (10.0, 1000.0),
}
TRIALS = 6
TOML = """\
[market]
watchlist = ["AAPL", "AMD"]
lookback_days = 46

[synthetic]
edge = 1.0

[exam]
sessions = 10

[model]
family = "ridge"

[search]
trials = 6
workers = 1
folds = 2

[search.values]
"model.family" = ["ridge"]
"model.horizon_minutes" = [10, 30, 60]
"strategy.entry_quantile" = [0.7, 0.9]
"ridge.alpha" = [10.0, 1000.0]
"""

FEATURE = """\
import polars as pl
from hftcl.model.features import Feature
FEATURES = (
    Feature(
        name="ret_8",
        group="mine",
        expr=(pl.col("close") / pl.col("close").shift(8)).log(),
        lookback=8,
        formula="ln(c[t] / c[t-8])",
        reason="Momentum.",
    ),
)
"""


def settings_of(home: Path, **sections: dict[str, object]) -> Settings:
    usual: dict[str, dict[str, object]] = {
        "market": {"watchlist": ("AAPL", "AMD")},
        "synthetic": {"edge": 1.0},
        "search": {"values": VALUES, "workers": 1, "trials": TRIALS, "folds": 2},
    }
    return small(home, **{name: {**usual.get(name, {}), **sections.get(name, {})} for name in (*usual, *sections)})


def search(settings: Settings, *, on_event: OnEvent = ignore, minutes: float | None = None) -> SearchReport:
    loop = ContinuousLearning(settings, clock=lambda: NOW, on_event=on_event)
    return loop.search(as_of=AS_OF, minutes=minutes)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("search")


@pytest.fixture(scope="module")
def report(home: Path) -> SearchReport:
    return search(settings_of(home))


def figures(report: SearchReport) -> list[tuple[object, ...]]:
    return [(trial.number, trial.settings, trial.inner_sharpe, trial.pnl) for trial in report.trials]


# --- what is found ----------------------------------------------------------------------------------------------------


def test_the_best_of_many_is_told_with_what_the_best_of_as_many_worthless_ones_would_show(report: SearchReport) -> None:
    told = build_document(report)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert [trial.number for trial in report.trials] == list(range(TRIALS))
    sharpes = [trial.inner_sharpe for trial in report.trials if trial.inner_sharpe is not None]
    assert len(sharpes) == report.distinct == TRIALS
    assert report.best_of_worthless == pytest.approx(compute_best_luck(sharpes))
    assert report.winner is not None
    assert report.winner.inner_sharpe == max(sharpes)
    assert f"the best of {TRIALS} worthless ones would show {report.best_of_worthless:.2f}" in report.reason
    assert report.importances == {}
    assert any(
        note.startswith(f"which setting made a trial good is told of 20 trials or more, not of {TRIALS}")
        for note in report.notes
    )


def test_trial_0_is_the_configuration_and_no_two_trials_are_the_same(report: SearchReport) -> None:
    assert report.trials[0].settings["model.horizon_minutes"] == 30
    assert report.trials[0].settings["ridge.alpha"] == 100.0, "among the values, though the search names others"
    assert len({repr(trial.settings) for trial in report.trials}) == TRIALS


def test_the_winner_is_examined_as_a_retrain_with_its_settings_would_be(report: SearchReport, tmp_path: Path) -> None:
    assert report.winner is not None
    assert report.exam is not None
    chosen = apply_choice(settings_of(tmp_path), report.winner.settings)
    done = ContinuousLearning(chosen, clock=lambda: NOW).retrain(force=True, as_of=AS_OF)
    assert done.challenger is not None
    assert report.exam.pnl_by_session == done.challenger.pnl_by_session
    assert report.exam.positions_sha256 == done.challenger.positions_sha256
    assert (report.exam.outcome, report.exam.reason, report.exam.p_edge) == (done.outcome, done.reason, done.p_edge)


def test_the_difference_is_told_as_the_lines_of_the_file_and_nothing_is_changed(
    report: SearchReport, home: Path
) -> None:
    assert report.winner is not None
    configured = {"model.horizon_minutes": 30, "strategy.entry_quantile": 0.9, "ridge.alpha": 100.0}
    differs = {path: value for path, value in report.winner.settings.items() if configured.get(path, ()) != value}
    assert report.changes == differs
    for path, value in differs.items():
        section, _, name = path.partition(".")
        assert f" [{section}]" in report.difference.splitlines()
        if path in configured:
            assert f"-{name} = {configured[path]}\n+{name} = {value}" in report.difference
    assert Registry(home).list_models() == ()
    assert not Home(home).production.exists()


# --- nothing of the exam ----------------------------------------------------------------------------------------------


def open_inner(settings: Settings) -> InnerExam:
    return InnerExam(settings, open_window(settings, as_of=AS_OF, now=NOW, save=False, on_event=ignore).assemble())


@pytest.fixture(scope="module")
def inner(home: Path) -> InnerExam:
    """Return what the trials of that search are scored in; nothing changes it."""
    return open_inner(settings_of(home))


@contextlib.contextmanager
def gather_team(settings: Settings) -> Iterator[Team]:
    with open_engine(settings, ignore) as engine:
        yield engine.gather(Wanted(rows_bytes=0, stage="search"))


def test_no_part_of_a_trial_reaches_into_the_embargo_or_the_exam(report: SearchReport, inner: InnerExam) -> None:
    division = split(list_sessions(inner.data.frame), exam_sessions=10, embargo_sessions=1)
    assert report.exam is not None
    assert (report.exam.from_, report.exam.to) == (division.exam_days[0], division.exam_days[-1])
    assert inner.training == division.train
    parts = inner.split_folds(46)
    assert tuple(day for part in parts for day in part.exam_days) == division.train_days[-len(inner.days) :]
    assert report.inner.to == division.train_days[-1] < division.embargoed[0].day
    for part in parts:
        assert part.train_days[-1] < part.embargoed[0].day < part.exam_days[0]
        rows = add_target(inner.table.read(), 60)
        trained = rows.filter(part.mask_training(rows))
        last = trained["label_end"].max()
        assert last is not None
        assert last < part.embargoed[0].start  # type: ignore[operator]


def test_bars_of_the_exam_that_become_nonsense_change_no_trial(home: Path, inner: InnerExam) -> None:
    settings = settings_of(home)
    with gather_team(settings) as team:
        choice: Choice = {"model.horizon_minutes": 10, "strategy.entry_quantile": 0.7}
        before = inner.try_choice(1, choice, team)
        floats = [name for name, kind in inner.data.frame.schema.items() if kind in (pl.Float32, pl.Float64)]
        late = pl.col("session") > inner.training[-1].day
        noise = inner.data.frame.with_columns(
            pl.when(late).then(pl.col(name) * 7 + 3).otherwise(name) for name in floats
        )
        again = InnerExam(settings, replace(inner.data, frame=noise))
        after = again.try_choice(1, choice, team)
    assert replace(after, seconds=0.0) == replace(before, seconds=0.0)
    assert before.trades > 0


def test_what_a_trial_earned_and_held_is_what_archived_models_of_its_parts_do_in_their_exams(
    home: Path, inner: InnerExam
) -> None:
    """A second way to it, by the code of a retrain: each part trained to a whole model's file, and examined."""
    settings = settings_of(home)
    choice: Choice = {"model.horizon_minutes": 10, "strategy.entry_quantile": 0.7}
    chosen = apply_choice(settings, choice)
    with gather_team(settings) as team:
        found = inner.try_choice(1, choice, team)
    rows = add_target(inner.table.read(), 10)
    held, turnover, trades = hashlib.sha256(), 0.0, 0
    net: dict[date, float] = {}
    with TrainingPool() as pool:
        for part in inner.split_folds(46):
            model = train_candidate(
                rows,
                part,
                chosen,
                model_id="by_hand",
                params=merge_params(chosen),
                features=inner.data.features,
                source="synthetic",
                synthetic=True,
                pool=pool,
                on_event=ignore,
            ).model
            watchlist = chosen.market.watchlist
            scored = examine(model, rows, part.exam_days, cost_bps=chosen.strategy.cost_bps, watchlist=watchlist)
            held.update(str(scored.report.positions_sha256).encode())
            net |= dict(zip(scored.simulation.sessions, scored.simulation.net.tolist(), strict=True))
            turnover += scored.report.turnover
            trades += scored.report.trades
    assert len(inner.split_folds(46)) == 2
    assert (found.net, found.positions) == (net, held.hexdigest()), "to the bit"
    assert found.turnover == pytest.approx(turnover)
    assert found.trades == trades


def test_another_horizon_gives_the_rows_that_a_retrain_with_it_would_have(home: Path, inner: InnerExam) -> None:
    settings = settings_of(home)
    other = replace(settings, model=replace(settings.model, horizon_minutes=60))
    theirs = open_window(other, as_of=AS_OF, now=NOW, save=False, on_event=ignore).assemble().frame
    ours = add_target(inner.table.read(), 60)
    assert_frame_equal(ours, theirs.filter(pl.col("session") <= inner.training[-1].day).select(ours.columns))


def test_a_shorter_window_trains_on_fewer_sessions_and_is_scored_on_the_same_ones(inner: InnerExam) -> None:
    short, whole = inner.split_folds(24), inner.split_folds(46)
    assert [part.exam for part in short] == [part.exam for part in whole]
    days = [session.day for session in list_sessions(inner.data.frame)]
    window = [day for day in days if day > days[-1] - timedelta(days=24)]
    assert {len(part.train) for part in short} == {(len(window) - 1) // 2}, "as its own exam would leave it"
    assert len(whole[-1].train) > len(short[-1].train)


# --- each trial once --------------------------------------------------------------------------------------------------


def test_a_search_that_was_stopped_goes_on_as_one_that_was_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "_FIRST", 1)  # so that what is tried depends on what came of the trials before
    few: dict[str, object] = {"trials": 4}
    whole = search(settings_of(tmp_path / "whole", search=few))

    class StopError(Exception):
        pass

    def stop(event: Event) -> None:
        if event.stage == "search" and event.done == 2:
            raise StopError

    with pytest.raises(StopError):
        search(settings_of(tmp_path, search=few), on_event=stop)
    assert len(read_looks(Registry(tmp_path), synthetic=True)) >= 2, "each as it ended, whether or not it goes on"
    ended = search(settings_of(tmp_path, search=few))
    assert 2 <= ended.resumed < 4
    assert figures(ended) == figures(whole)
    assert (ended.winner, ended.best_of_worthless) == (whole.winner, whole.best_of_worthless)


def test_several_workers_try_each_number_once(tmp_path: Path) -> None:
    stages: list[str] = []
    held: list[int] = []

    def look_for_rows(event: Event) -> None:
        if event.stage == "collect" and "search" in stages and not held:  # to look through all objects takes long
            mine = [each for each in gc.get_objects() if isinstance(each, InnerExam)]
            held.append(sum(each.settings.paths.home == str(tmp_path) for each in mine))  # other tests leave theirs
        stages.append(event.stage)

    several = search(settings_of(tmp_path, search={"workers": 3}), on_event=look_for_rows)
    assert held == [0], "the exam collects its own window when that of the trials is gone"
    assert [trial.number for trial in several.trials] == list(range(TRIALS))
    assert len({repr(trial.settings) for trial in several.trials}) == TRIALS
    assert several.exam is not None


def kill_after(home: Path, trials: int) -> None:
    """Start the command, and kill it when so many trials are on the disk."""
    give_calendar(home)
    process = subprocess.Popen(
        [HFTCL, "search", "--as-of", AS_OF, "-q"],
        cwd=home,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    _wait_for_trials(home, trials, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_ctrl_c_is_heard_while_a_search_tries(tmp_path: Path) -> None:
    """A library lets the system begin again what the signal cuts short: a wait for all trials ended with the last."""
    values = [float(alpha) for alpha in range(1, 61)]
    many = TOML.replace("trials = 6", "trials = 360").replace("[10.0, 1000.0]", str(values))
    (tmp_path / "hftcl.toml").write_text(many)
    give_calendar(tmp_path)
    command = [HFTCL, "search", "--as-of", AS_OF, "-q"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE) as process:
        try:
            _wait_for_trials(tmp_path, 1, process)
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    assert process.returncode == 130
    assert told.strip().startswith(b"hftcl: interrupted.")
    with contextlib.closing(sqlite3.connect(Home(tmp_path).searches)) as db:
        assert db.execute("SELECT count(*) FROM trials").fetchone()[0] < 360


@pytest.mark.slow
@pytest.mark.parametrize("moments", [(2,), (0, 1, 2, 3, 4, 5, 6)], ids=["once", "often"])
def test_a_search_that_is_killed_loses_no_finished_trial_and_counts_none_twice(
    report: SearchReport, tmp_path: Path, moments: tuple[int, ...]
) -> None:
    (tmp_path / "hftcl.toml").write_text(TOML)
    for trials in moments:
        kill_after(tmp_path, trials)
    ended = search(settings_of(tmp_path))
    assert ended.resumed >= max(moments)
    assert len(ended.notes) == 1, "of its few trials: the command and the notebook have one study"
    assert figures(ended) == figures(report), "as one that was never killed"
    assert (ended.winner, ended.exam) == (report.winner, report.exam)


def _wait_for_trials(folder: Path, count: int, process: "subprocess.Popen[bytes]") -> None:
    """Wait until so many trials are on the disk."""
    until = time.monotonic() + PATIENCE_S
    while process.poll() is None and time.monotonic() < until:
        try:
            with contextlib.closing(sqlite3.connect(f"file:{Home(folder).searches}?mode=ro", uri=True)) as db:
                if db.execute("SELECT count(*) FROM trials").fetchone()[0] >= count:
                    return
        except sqlite3.OperationalError:  # not there yet, or being written
            pass
        time.sleep(0.02)


def test_another_space_or_other_bars_begin_a_new_search_and_say_so(home: Path, report: SearchReport) -> None:
    told: list[Event] = []
    other = search(settings_of(home, search={"seed": 7, "trials": 1}), on_event=told.append)
    (warning,) = [event.text for event in told if event.level is Level.WARNING and event.stage == "search"]
    assert f"the {TRIALS} trials that are there, on bars until 2025-12-15, are of other seed" in warning
    assert other.notes[0] == warning
    assert "told of 20 trials or more, not of 1" in other.notes[1]
    assert other.resumed == 0
    sharpes = [trial.inner_sharpe for trial in report.trials if trial.inner_sharpe is not None]
    assert (other.distinct, other.others) == (1, TRIALS - 1), "the configuration as it is was tried already"
    assert other.effective_trials == TRIALS
    assert other.best_of_worthless == pytest.approx(compute_best_luck(sharpes)), "another seed is no fresh start"
    told.clear()
    loop = ContinuousLearning(settings_of(home), clock=lambda: NOW, on_event=told.append)
    later = loop.search(as_of="2025-12-16", trials=1)
    (warning,) = [event.text for event in told if event.level is Level.WARNING and event.stage == "search"]
    assert "are of other bars" in warning
    assert later.resumed == 0
    again = search(settings_of(home))
    assert (again.resumed, len(again.notes)) == (TRIALS, 1), "which says that so few are not weighed"
    assert figures(again) == figures(report)


def test_a_search_is_of_whatever_a_figure_of_a_trial_may_depend_on_and_of_nothing_else(
    home: Path, inner: InnerExam, change_code: Callable[[], None]
) -> None:
    settings, data = settings_of(home), inner.data

    def find_changed(given: Dataset = data, **sections: dict[str, object]) -> list[str]:
        changed = settings
        for name, values in sections.items():
            changed = replace(changed, **{name: replace(getattr(changed, name), **values)})
        ours, theirs = (
            name_study(one, build_space(one, list_our_features(one)), of).parts
            for one, of in ((settings, data), (changed, given))
        )
        return [name for name, digest in ours.items() if theirs[name] != digest]

    assert find_changed() == []
    assert find_changed(risk={"max_daily_loss": 0.01}, promote={"min_sharpe": 3.0}, search={"trials": 9}) == []
    assert find_changed(market={"watchlist": ("AMD", "AAPL")}) == []
    assert find_changed(search={"seed": 7}) == ["seed"]
    assert find_changed(search={"folds": 3}) == ["folds"]
    assert find_changed(strategy={"cost_bps": 2.0}) == ["settings"]
    assert find_changed(exam={"embargo_sessions": 2}) == ["settings"]
    assert find_changed(model={"seed": 7}) == ["settings"]
    assert find_changed(market={"watchlist": ("AAPL",)}) == ["settings"], "what a ticker weighs"
    assert find_changed(market={"lookback_days": 40}) == ["window"]
    assert find_changed(search={"vary": ("horizon",)}) == ["space"]
    assert find_changed(replace(data, frame=data.frame.head(-1))) == ["bars"]
    assert find_changed(replace(data, features=list_our_features().narrow(["ret_5"]))) == ["features"]
    before = name_study(settings, build_space(settings, list_our_features(settings)), data).parts
    change_code()
    after = name_study(settings, build_space(settings, list_our_features(settings)), data).parts
    assert [name for name, digest in before.items() if after[name] != digest] == ["version of hftcl"]


def test_a_space_that_is_tried_out_ends_the_search(tmp_path: Path) -> None:
    values = {"model.horizon_minutes": (10, 30)}
    done = search(settings_of(tmp_path, search={"vary": ("horizon",), "values": values, "trials": 50}))
    assert sorted(trial.settings["model.horizon_minutes"] for trial in done.trials) == [10, 30]
    assert done.space == 2


def test_no_trial_begins_after_the_minutes_are_over(tmp_path: Path) -> None:
    done = search(settings_of(tmp_path), minutes=1e-9)
    assert done.trials == ()
    assert (done.winner, done.exam, done.best_of_worthless) == (None, None, None)
    assert done.reason == "nothing was tried: the time was over before the first trial began"


@pytest.mark.parametrize(("option", "amount"), [("--minutes", "0"), ("--minutes", "nan"), ("--minutes", "-1")])
def test_no_time_at_all_is_refused_before_anything_is_collected(tmp_path: Path, option: str, amount: str) -> None:
    with pytest.raises(UsageError, match=rf"{option} {float(amount):g} leaves no time .* more than 0"):
        search(settings_of(tmp_path), minutes=float(amount))
    assert list(tmp_path.iterdir()) == []


# --- what is counted --------------------------------------------------------------------------------------------------


def test_each_trial_is_a_look_inside_and_the_winner_one_more_in_the_exam(report: SearchReport, home: Path) -> None:
    looks = read_looks(Registry(home), synthetic=True)
    inside = [look for look in looks if look.sessions[-1] == report.inner.to]
    assert {look.sharpe for look in inside} >= {trial.inner_sharpe for trial in report.trials}
    assert report.exam is not None
    of_exam = [look for look in looks if report.exam.to in look.sessions]
    assert any(look.sharpe == report.exam.sharpe for look in of_exam)
    assert all(set(look.sessions).isdisjoint({report.exam.from_}) for look in inside)


def test_where_nothing_earns_its_cost_nobody_looks_at_the_exam(tmp_path: Path) -> None:
    dear = search(settings_of(tmp_path, strategy={"cost_bps": 500.0}, search={"trials": 2}))
    assert (dear.winner, dear.exam) == (None, None)
    assert dear.changes == {}
    assert "nothing was examined" in dear.reason
    assert all(look.sessions[-1] <= dear.inner.to for look in read_looks(Registry(tmp_path), synthetic=True))


def test_the_deflated_sharpe_ratio_of_the_winner_is_that_of_the_best_of_all_trials(
    home: Path, inner: InnerExam
) -> None:
    settings = settings_of(home)
    again = search(settings)
    assert again.winner is not None
    with gather_team(settings) as team:
        trial = inner.try_choice(9, again.winner.settings, team)
    net = list(trial.net.values())
    assert sharpe(net) == pytest.approx(again.winner.inner_sharpe)
    sharpes = [each.inner_sharpe for each in again.trials if each.inner_sharpe is not None]
    looks = [look for look in read_looks(Registry(home), synthetic=True) if look.sharpe not in sharpes]
    built = {look.sharpe: build_trial(look.sharpe, look.sessions, list(trial.net)) for look in looks}
    others = {one.sharpe: one.weight for one in built.values() if one is not None}
    assert len(others) == again.others
    weights = [1.0] * len(sharpes) + list(others.values())
    assert again.winner.dsr == pytest.approx(deflated_sharpe(net, [*sharpes, *others], weights))


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_damaged_file_of_trials_is_told_with_the_remedy(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, search={"trials": 1})
    search(settings)
    with contextlib.closing(sqlite3.connect(Home(tmp_path).searches)) as db, db:
        db.execute("UPDATE trials SET sharpe = 99.0")
    with pytest.raises(IntegrityError, match="searches then begin over"):
        search(settings)


def test_without_optuna_one_sentence_names_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(TrainingError, match=r'not installed. It is an extra: pip install "hftcl\[search\]"'):
        search(settings_of(tmp_path))
    assert list(tmp_path.iterdir()) == [], "before anything is collected"


def test_a_trial_that_cannot_be_trained_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    told: list[Event] = []
    values = {"model.horizon_minutes": (30, 240), "strategy.entry_quantile": (0.9,)}
    settings = settings_of(tmp_path, search={"vary": ("horizon",), "values": values})
    settings = replace(settings, compute=replace(settings.compute, max_training_hours=1e-9))
    done = search(settings, on_event=told.append)
    assert all("did not end within" in trial.fault for trial in done.trials)
    assert len([event for event in told if "could not be tried" in event.text]) == len(done.trials)
    assert done.winner is None


def test_a_choice_that_is_no_configuration_is_its_own_fault_and_a_file_that_was_changed_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(FEATURE)
    settings = settings_of(tmp_path, features={"modules": (str(file),)})
    impossible: Choice = {"features.use": ("volume",), "features.drop": ("volume",)}
    inner = open_inner(settings)
    with gather_team(settings) as team:
        tried = inner.try_choice(1, impossible, team)
        assert "leave no feature" in tried.fault
        assert (tried.worth, tried.sharpe, tried.positions) == (None, None, "")
        monkeypatch.setattr(Ridge, "takes_weights", False)
        assert "takes no weights" in inner.try_choice(1, {"model.half_life_days": 15.0}, team).fault
        file.write_text(FEATURE.replace("8", "9"))
        with pytest.raises(FeatureError, match="a file was changed while this ran"):
            inner.try_choice(2, {}, team)
        file.unlink()
        with pytest.raises(ConfigError, match="mine"):
            inner.try_choice(3, impossible, team)


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({"vary": ("horizn",)}, r"vary: there is no 'horizn'; did you mean horizon\?"),
        ({"values": {"strategy.cost_bps": (0.0,)}}, "values: strategy.cost_bps is not searched"),
        (
            {"values": {"model.horizon_minutes": (0,)}},
            'model.horizon_minutes = 0, but it must be "auto", or an integer from 1 to 240',
        ),
        ({"values": {"features.drop": ("volume+nothing",)}}, "no feature and no group 'nothing'"),
        ({"vary": ("horizon",), "values": {"model.horizon_minutes": (30,)}}, "leaves nothing to try"),
    ],
    ids=["word", "cost", "value", "group", "nothing"],
)
def test_a_space_that_does_not_exist_is_one_sentence(tmp_path: Path, sections: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        search(settings_of(tmp_path, search=sections))
    assert "\n" not in str(caught.value)
    assert not Home(tmp_path).bars.exists()


def test_the_command_tells_the_difference_and_writes_the_page(tmp_path: Path) -> None:
    (tmp_path / "hftcl.toml").write_text(TOML)
    done = call(tmp_path, "search", "--as-of", AS_OF, "--trials", "2", "--html", "search.html")
    assert done.returncode == 0, done.stderr
    assert "# 2 trials of" in done.stdout
    assert "search: 2 of 2" in done.stderr
    page = (tmp_path / "search.html").read_text()
    assert "Is there a better policy?" in page
    assert "src=" not in page
    assert (tmp_path / "hftcl.toml").read_text() == TOML
    refused = call(tmp_path, "search", "--html", str(tmp_path))
    assert (refused.returncode, "is a folder" in one_line(refused)) == (2, True)
