"""What a search may try: the table, its page, and what a choice makes of the settings."""

import math
import re
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated

import pytest

from hftcl.archive.artifact import list_our_features
from hftcl.config.tree import find_refusals, list_all_leaves
from hftcl.errors import ConfigError
from hftcl.exam.metrics import compute_best_luck, deflated_sharpe
from hftcl.exam.trials import Trial
from hftcl.home import Home
from hftcl.learning.search.board import Board, Limit
from hftcl.learning.search.report import (
    compute_luck,
    describe_difference,
    find_changes,
    find_winner,
    list_distinct,
    report_winner,
    weigh_trials,
)
from hftcl.learning.search.sampler import TrialSampler, name_choice
from hftcl.learning.search.space import TABLE, Choice, Space, apply_choice, build_space, read_value
from hftcl.learning.search.trials import FinishedTrial, Study, TrialStore
from hftcl.settings import Features, Search, Settings, setting

PAGE = Path(__file__).resolve().parents[2] / "docs" / "search.md"


def space_of(settings: Settings) -> Space:
    return build_space(settings, list_our_features(settings))


def values_of(settings: Settings) -> dict[str, tuple[object, ...]]:
    return {dimension.path: dimension.values for dimension in space_of(settings).dimensions}


def test_every_setting_of_the_table_exists_can_have_its_values_and_stands_on_the_page() -> None:
    page = PAGE.read_text()
    for row in TABLE:
        leaf = list_all_leaves()[row.path]
        assert [str(one) for value in row.values for one in find_refusals(row.path, leaf.annotation, value)] == []
        assert re.search(rf"^\| {row.what} \|.*`{re.escape(row.path)}`", page, flags=re.MULTILINE), row.path


def test_what_makes_every_policy_look_better_is_in_no_row() -> None:
    sections = {row.path.partition(".")[0] for row in TABLE}
    assert sections.isdisjoint({"exam", "promote", "edge", "search"})
    assert "strategy.cost_bps" not in {row.path for row in TABLE}


def test_the_configured_value_is_among_those_tried_in_its_place() -> None:
    settings = Settings()
    settings = replace(settings, model=replace(settings.model, horizon_minutes=45))
    assert values_of(settings)["model.horizon_minutes"] == (5, 10, 15, 30, 45, 60, 120)
    assert "market.lookback_days" not in values_of(settings), "only where it is named: it takes longer bars"
    named = replace(settings, search=Search(vary=("lookback",)))
    assert values_of(named) == {"market.lookback_days": (30, 60, 90)}


def test_one_more_group_is_left_out_at_a_time_and_what_is_left_out_stays_so() -> None:
    settings = replace(Settings(), features=Features(drop=("volume", "ret_1")))
    tried = values_of(settings)["features.drop"]
    assert tried[0] == ("volume", "ret_1")
    assert ("volume", "ret_1", "momentum") in tried
    assert all("volume" not in value[2:] for value in tried), "it is out already"  # type: ignore[index]


def test_parameters_belong_to_the_family_that_is_chosen() -> None:
    space = space_of(Settings())
    ridge = space.choose(lambda dimension: "ridge" if dimension.path == "model.family" else dimension.values[0])
    assert "ridge.alpha" in ridge
    assert not [path for path in ridge if path.startswith(("lightgbm.", "xgboost.", "model.n_", "model.max_depth"))]


def test_the_quantile_is_tried_only_beside_the_rule_that_reads_it() -> None:
    usual = Settings()
    by_net = replace(usual, strategy=replace(usual.strategy, entry="net"))
    space = space_of(by_net)
    assert "strategy.entry_quantile" not in space.list_configured()
    assert 'strategy.entry_quantile is not tried: [strategy] entry = "net" does not read it' in space.notes
    with pytest.raises(
        ConfigError, match=r'nothing to try: strategy.entry_quantile is not tried: .*"net" does not read'
    ):
        space_of(replace(by_net, search=Search(vary=("entry",))))
    both = space_of(replace(by_net, search=Search(vary=("rule", "entry", "family"))))

    def choose(rule: str) -> Choice:
        return both.choose(lambda dimension: rule if dimension.path == "strategy.entry" else dimension.values[0])

    assert "strategy.entry_quantile" in choose("quantile")
    assert "strategy.entry_quantile" not in choose("net")
    families = len(both.find("model.family").values)
    assert both.count() == families * (7 + 1), "seven quantiles, and the rule that reads none"


def test_a_family_that_is_named_and_not_there_is_refused_and_a_usual_one_is_noted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from hftcl.learning.search import space as module

    missing = ConfigError("not here")
    monkeypatch.setattr(module, "_find_missing", lambda name: missing if name == "xgboost" else None)
    assert space_of(Settings()).notes == ("the family xgboost is not tried: not here",)
    with pytest.raises(ConfigError, match="not here"):
        space_of(replace(Settings(), search=Search(values={"model.family": ("xgboost",)})))


@dataclass(frozen=True)
class Acme:
    """The section of a family of a stranger."""

    depth: Annotated[int, setting("Levels.", ge=1, le=9)] = 3


@dataclass(frozen=True)
class Other:
    """The section of a source of a stranger."""

    depth: Annotated[int, setting("Levels.", ge=1, le=9)] = 3


def test_a_parameter_of_a_strangers_family_is_tried_where_values_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from hftcl.learning.search import space as module

    monkeypatch.setattr(module, "find_family", lambda name: SimpleNamespace(SETTINGS=Acme))
    settings = replace(Settings(), plugins={"acme": Acme(), "other": Other()})
    search = Search(vary=("parameters",), values={"acme.depth": (2, 5)})
    space = space_of(replace(settings, search=search))
    assert space.find("acme.depth").values == (2, 3, 5)
    changed = apply_choice(settings, {"acme.depth": 5, "model.horizon_minutes": 10})
    assert (changed.plugins["acme"], changed.model.horizon_minutes) == (Acme(depth=5), 10)
    assert settings.plugins["acme"] == Acme()
    with pytest.raises(ConfigError, match=r"acme.depth = 12, but it must be an integer from 1 to 9"):
        space_of(replace(settings, search=Search(values={"acme.depth": (12,)})))
    with pytest.raises(ConfigError, match=r"other.depth is not searched"):
        space_of(replace(settings, search=Search(values={"other.depth": (2,)})))


def test_every_choice_that_a_space_makes_is_settings_that_the_file_could_have() -> None:
    settings = Settings()
    space = space_of(settings)
    sampler, tried = TrialSampler(space, seed=3), set[str]()
    for number in range(40):
        chosen = sampler.ask(number, tried)
        assert chosen is not None
        tried.add(name_choice(chosen))
        changed = apply_choice(settings, chosen)
        for path, value in chosen.items():
            assert read_value(changed, path) == value
            assert not list(find_refusals(path, list_all_leaves()[path].annotation, value))
        assert list_our_features(changed).names
        sampler.tell(number, float(number % 7))
    assert len(tried) == 40


def test_the_same_seed_tries_the_same_also_when_it_goes_on_later() -> None:
    space = space_of(Settings())

    def run(seed: int, restart_at: int) -> list[str]:
        tried: list[str] = []
        sampler = TrialSampler(space, seed)
        known: list[tuple[Choice, float | None]] = []
        for number in range(25):
            if number == restart_at:
                sampler = TrialSampler(space, seed)
                for choice, worth in known:
                    sampler.learn(choice, worth)
            chosen = sampler.ask(number, set(tried))
            assert chosen is not None
            worth = None if number == 4 else float(len(name_choice(chosen)) % 7)
            sampler.tell(number, worth)
            known.append((chosen, worth))
            tried.append(name_choice(chosen))
        return tried

    whole = run(1, restart_at=-1)
    assert run(1, restart_at=17) == whole
    assert run(2, restart_at=-1) != whole


def test_twenty_trials_have_importances_without_a_warning_for_each_setting_and_fewer_have_none() -> None:
    sampler = TrialSampler(space_of(Settings()), seed=3)
    for number in range(20):
        assert sampler.compute_importances() == {}, "a tenth of so few is a single trial"
        sampler.ask(number, set())
        sampler.tell(number, float(number))
    assert sum(sampler.compute_importances().values()) == pytest.approx(1)


def test_where_all_trials_came_to_the_same_no_setting_made_a_difference() -> None:
    sampler = TrialSampler(space_of(Settings()), seed=3)
    for number in range(20):
        sampler.ask(number, set())
        sampler.tell(number, 1.0)
    assert sampler.compute_importances() == {}
    assert sampler.explain_no_importances() == "no setting made a difference: all trials came to the same"


def test_two_trials_that_know_the_same_try_different_things() -> None:
    space = space_of(Settings())
    assert len({name_choice(TrialSampler(space, 1).ask(number, set()) or {}) for number in range(1, 6)}) == 5


def trial(number: int, sharpe: float | None, positions: str = "") -> FinishedTrial:
    return FinishedTrial(
        number=number, choice={}, sharpe=sharpe, net={date(2025, 1, 2): 0.0}, positions=positions or f"p{number}"
    )


def test_trials_that_held_the_same_positions_are_one() -> None:
    assert list_distinct([trial(0, 1.0, "a"), trial(1, 1.0, "a"), trial(2, None), trial(3, -2.0)]) == [1.0, -2.0]


def test_trials_of_other_searches_count_by_the_sessions_in_common_and_each_that_differs_once() -> None:
    days = [date(2025, 1, day) for day in (2, 3, 6, 7)]
    net = dict.fromkeys(days, 0.0)
    own = (replace(trial(0, 1.0, "a"), net=net), replace(trial(1, 3.0, "b"), net=net))
    others = (
        replace(trial(0, 1.0, "a"), net=net),  # the same as ours
        replace(trial(1, 4.0, "c"), net=net),
        replace(trial(2, 4.0, "c"), net=net),
        replace(trial(3, -2.0, "d"), net=dict.fromkeys([*days[1:], *(date(2025, 2, day) for day in range(3, 8))], 0.0)),
        replace(trial(4, 9.0, "e"), net={date(2024, 1, 2): 0.0}),
        replace(trial(5, None, "f"), net=net),
    )
    assert weigh_trials(own, others, days) == (
        Trial(sharpe=1.0),
        Trial(sharpe=3.0),
        Trial(sharpe=4.0),
        Trial(sharpe=-2.0 * math.sqrt(8 / 4), weight=0.75),
    )


def test_luck_and_deflated_sharpe_ratio_are_those_of_the_weighted_trials() -> None:
    counted = (Trial(sharpe=1.0), Trial(sharpe=2.0), Trial(sharpe=-5.0, weight=0.3))
    sharpes, weights = [1.0, 2.0, -5.0], [1.0, 1.0, 0.3]
    assert compute_best_luck(sharpes, weights) != pytest.approx(compute_best_luck(sharpes))
    assert compute_luck(counted, 2) == compute_best_luck(sharpes, weights)
    net = [0.01, -0.004, 0.007, 0.002, -0.001]
    best = replace(trial(1, 2.0), net={date(2025, 1, day): value for day, value in enumerate(net, 2)})
    assert report_winner(best, 2.0, counted, 252).dsr == deflated_sharpe(net, sharpes, weights)
    assert compute_luck((Trial(sharpe=1.0), Trial(sharpe=2.0, weight=0.9)), 1) is None, "no best of several"
    assert compute_luck((Trial(sharpe=1.0), Trial(sharpe=2.0)), 0) is None, "none of them is of this search"


def test_what_the_sampler_learns_of_a_trial_without_a_trade_is_that_it_earned_nothing() -> None:
    assert (trial(0, None).worth, trial(0, -2.0).worth) == (0.0, -2.0)
    assert FinishedTrial(number=0, choice={}, fault="no rows").worth is None


def test_what_runs_is_not_tried_by_another_worker_too_and_a_stopped_board_gives_nothing(tmp_path: Path) -> None:
    values: dict[str, tuple[str | int | float | bool, ...]] = {"model.horizon_minutes": (10, 20, 30)}
    settings = replace(Settings(), search=Search(vary=("horizon",), values=values))
    now = datetime(2026, 1, 5, tzinfo=UTC)
    store = TrialStore(Home(tmp_path).searches, Study(parts={}, as_of=now, synthetic=True))
    board = Board.begin(space_of(settings), store, store.begin(now), Limit(trials=50, seconds=None))
    taken = [board.take() for _ in range(4)]
    assert [each and each[0] for each in taken] == [0, 1, 2, None], "three choices there are"
    assert sorted(each[1]["model.horizon_minutes"] for each in taken if each) == [10, 20, 30]
    board.put(trial(1, 2.0))
    assert (sorted(board.running), [each.number for each in board.list_finished()]) == ([0, 2], [1])
    board.stop()
    assert board.take() is None


def test_a_limit_counts_trials_of_earlier_runs_and_minutes_of_this_one() -> None:
    by_number, by_time = Limit.begin(Settings(), 5, None), Limit.begin(Settings(), None, 2.0)
    assert [by_number.allows(number) for number in (4, 5)] == [True, False]
    assert (by_time.trials, by_time.seconds) == (None, 120.0)
    assert replace(by_time, began=by_time.began - 119).allows(10_000)
    assert not replace(by_time, began=by_time.began - 121).allows(0)
    assert Limit.begin(Settings(), None, None).trials == Settings().search.trials


def test_searches_of_made_up_bars_are_no_others_of_real_ones(tmp_path: Path) -> None:
    now = datetime(2026, 1, 5, tzinfo=UTC)

    def store(seed: str, *, synthetic: bool) -> TrialStore:
        made = TrialStore(Home(tmp_path).searches, Study(parts={"seed": seed}, as_of=now, synthetic=synthetic))
        made.begin(now)
        return made

    for number, made in enumerate(
        (store("1", synthetic=True), store("2", synthetic=False), store("3", synthetic=True))
    ):
        made.add(trial(number, float(number)))
        made.add(trial(9, None))
    assert [each.sharpe for each in store("3", synthetic=True).read_others()] == [0.0]
    assert [each.sharpe for each in store("4", synthetic=False).read_others()] == [1.0]
    newest = store("4", synthetic=False).find_newest_other()
    assert newest is not None
    assert newest.differs == ("seed",)


def test_the_best_is_the_earliest_of_equals_and_nothing_that_lost() -> None:
    best = find_winner([trial(0, 1.0), trial(1, 2.0), trial(2, 2.0), trial(3, None)])
    assert best is not None
    assert best.number == 1
    assert find_winner([trial(0, -1.0), trial(1, 0.0), trial(2, None)]) is None
    assert find_winner([]) is None


def test_the_difference_is_what_a_person_would_edit() -> None:
    settings = Settings()
    changes = find_changes(settings, {"model.horizon_minutes": 60, "model.family": "forest", "features.drop": ("gap",)})
    assert changes == {"model.horizon_minutes": 60, "features.drop": ("gap",)}
    assert describe_difference(settings, changes) == (
        ' [features]\n-drop = []\n+drop = ["gap"]\n [model]\n-horizon_minutes = 30\n+horizon_minutes = 60'
    )
    assert describe_difference(settings, {}) == ""
