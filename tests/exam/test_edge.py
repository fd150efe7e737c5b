"""When the bot may trade: by the record of its policy, and not by one lucky exam."""

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from hftcl import settings
from hftcl.exam.edge import Edge, EdgeState, Policy, judge_edge
from hftcl.exam.metrics import psr
from hftcl.exam.posterior import compute_edge_posterior
from tests.exam.generator import stream
from tests.exam.universe import Models, World, a_year, a_year_by_stored_scores, one_retrain, years

FloatArray = npt.NDArray[np.float64]
RULE = settings.Edge()
LIVE, ASIDE = EdgeState.LIVE, EdgeState.STAND_ASIDE


def with_sharpe(annual: float, n: int) -> FloatArray:
    """Return sessions of +-1 % in turn with just this annual Sharpe ratio."""
    turns = np.where(np.arange(n) % 2, 1.0, -1.0)
    turns -= turns.mean()
    return np.asarray(0.01 * (turns / turns.std(ddof=1) + annual / np.sqrt(252)))


def decided(
    record: Sequence[float] | FloatArray,
    previous: EdgeState = ASIDE,
    policy: Policy = "guarded",
    rule: settings.Edge = RULE,
    obstacles: Sequence[str] = (),
) -> Edge:
    net = np.asarray(record, dtype=np.float64)
    return judge_edge(net, previous, rule=rule, policy=policy, obstacles=obstacles, sessions_per_year=252)


def test_a_long_good_record_goes_live_and_a_poor_one_stands_aside() -> None:
    good, poor = decided(with_sharpe(4.0, 100)), decided(with_sharpe(-1.0, 100))
    assert (good.state, good.reason) == (LIVE, "the record holds")
    assert poor.state is ASIDE
    assert poor.reason.startswith("P(edge) ")


def test_nineteen_sessions_are_too_few_however_good() -> None:
    short = decided(with_sharpe(20.0, 19))
    assert (short.state, short.reason) == (ASIDE, "a record of 19 sessions, needs 20")
    assert short.sessions_missing == 1
    assert decided(with_sharpe(20.0, 20)).state is LIVE


@pytest.mark.parametrize(("n", "z"), [(20, 1.72), (40, 1.35), (60, 1.21)])
def test_what_twenty_forty_and_sixty_sessions_must_show(n: int, z: float) -> None:
    """Expected: solved by hand from P(edge) = Phi(mean * sqrt(precision)) = 0.80; "balanced" asks for that alone."""
    below, above = (decided(with_sharpe((z + d) * np.sqrt(252 / n), n), policy="balanced") for d in (-0.05, 0.05))
    assert (below.state, above.state) == (ASIDE, LIVE)


def test_it_stays_live_until_p_edge_is_below_a_half() -> None:
    weak, lost = with_sharpe(0.4, 60), with_sharpe(-0.4, 60)
    assert decided(weak, ASIDE).state is ASIDE
    kept = decided(weak, LIVE)
    assert (kept.state, kept.reason, kept.sessions_missing) == (LIVE, "the record holds", 0)
    assert decided(lost, LIVE).state is ASIDE
    assert decided(lost, LIVE).reason.startswith("P(edge) 0.4")


def test_the_policies_ask_for_less_and_for_more() -> None:
    record = with_sharpe(1.25 * np.sqrt(252 / 120), 120)  # P(edge) 0.85, PSR 0.89
    assert compute_edge_posterior(record, sessions_per_year=252).p_edge == pytest.approx(0.85, abs=0.02)
    assert psr(record) == pytest.approx(0.89, abs=0.01)
    policies: tuple[Policy, ...] = ("seed", "balanced", "guarded", "strict")
    assert [decided(record, policy=policy).state for policy in policies] == [LIVE, LIVE, ASIDE, ASIDE]
    assert decided(with_sharpe(5.0, 120), policy="strict").state is LIVE


def test_under_seed_the_record_is_told_and_decides_nothing() -> None:
    poor = decided(with_sharpe(-3.0, 60), policy="seed")
    assert (poor.state, poor.sessions_missing) == (LIVE, 0)
    assert poor.reason == 'under policy "seed" what is promoted trades, and the record decides nothing'
    assert not any("let the bot trade" in str(fact) or "lets the bot trade" in str(fact) for fact in poor.evidence)
    assert any(fact.name == "P(edge)" and not fact.passed for fact in poor.evidence)
    assert decided([], policy="seed").state is LIVE


@pytest.mark.parametrize("policy", ["seed", "guarded", "balanced", "strict"])
@pytest.mark.parametrize("previous", list(EdgeState))
def test_an_obstacle_keeps_the_bot_aside_whatever_the_record_says(policy: Policy, previous: EdgeState) -> None:
    found = decided(with_sharpe(9.0, 100), previous, policy, obstacles=["no model serves"])
    assert (found.state, found.reason) == (ASIDE, "no model serves")


@pytest.mark.parametrize(
    "record",
    [[], [0.01], [0.0] * 40, [0.01] * 40, [0.01, float("nan")] * 20, [0.01, float("inf")] * 20],
    ids=["empty", "one session", "nothing", "constant", "NaN", "infinite"],
)
@pytest.mark.parametrize("previous", list(EdgeState))
def test_a_record_that_tells_nothing_stands_aside(record: list[float], previous: EdgeState) -> None:
    found = decided(record, previous)
    assert (found.state, found.p_edge, found.sessions_missing) == (ASIDE, None, None)
    assert found.reason.startswith("the record has no P(edge): ")


def test_the_sessions_missing_are_those_after_which_it_goes_live() -> None:
    record = with_sharpe(2.5, 24)
    found = decided(record)
    assert found.state is ASIDE
    assert found.sessions_missing is not None
    needed = record.size + found.sessions_missing
    assert decided(with_sharpe(2.5, needed + 3)).state is LIVE
    assert decided(with_sharpe(2.5, needed - 3)).state is ASIDE


def test_a_losing_record_is_missing_more_than_any_number_of_sessions() -> None:
    assert decided(with_sharpe(-1.0, 60)).sessions_missing is None
    assert decided(with_sharpe(0.01, 60)).sessions_missing is None, "more than five years are not foretold"


def test_the_thresholds_are_the_user_s() -> None:
    record = with_sharpe(2.0, 60)
    assert decided(record).state is ASIDE
    lenient = replace(RULE, min_p_edge=0.7, min_psr=0.8, min_sessions=60)
    assert decided(record, rule=lenient).state is LIVE
    assert decided(record[1:], rule=lenient).state is ASIDE


@limits(max_examples=80)
@given(seed=st.integers(0, 10_000), n=st.integers(20, 90), more=st.floats(0.0, 0.5), live=st.booleans())
def test_a_policy_that_earns_more_in_every_session_never_loses_its_edge(
    seed: int, n: int, more: float, live: bool
) -> None:
    record = stream(np.random.default_rng(seed), 1, n, sharpe=3.0)[0]
    previous = LIVE if live else ASIDE
    balanced = [decided(each, previous, "balanced").state for each in (record, record + more)]
    assert balanced != [LIVE, ASIDE]


@limits(max_examples=80)
@given(seed=st.integers(0, 10_000), n=st.integers(5, 90), true=st.floats(-4, 8), live=st.booleans())
def test_what_is_not_live_under_balanced_is_not_live_under_guarded_or_strict(
    seed: int, n: int, true: float, live: bool
) -> None:
    record = stream(np.random.default_rng(seed), 1, n, sharpe=true)[0]
    previous = LIVE if live else ASIDE
    if decided(record, previous, "balanced").state is ASIDE:
        assert decided(record, previous, "guarded").state is ASIDE
        assert decided(record, previous, "strict").state is ASIDE


# Small forms of the acceptance rows; tests/benchmarks/test_statistics.py measures each of them on many more universes.


@pytest.mark.parametrize(("true", "most"), [(0.0, 0.09), (-1.5, 0.03)])
def test_rows_c1_and_c2_noise_seldom_has_an_edge_where_the_plain_rule_is_a_coin(true: float, most: float) -> None:
    found = one_retrain(np.random.default_rng(51), true=true, universes=300)
    assert found["edge"] <= most
    if true == 0:
        assert 0.38 <= found["seed"] <= 0.52


@pytest.mark.parametrize(("true", "record", "least"), [(3.0, 20, 0.20), (10.0, 20, 0.79), (5.0, 60, 0.82)])
def test_rows_e1_and_e2_an_edge_that_is_there_is_found(true: float, record: int, least: float) -> None:
    assert one_retrain(np.random.default_rng(52), true=true, record=record, universes=300)["edge"] >= least


def test_row_d2_a_year_of_noise_under_costs_loses_next_to_nothing() -> None:
    found = years(World(mean=-1.5, drag=1.5), "guarded", universes=25, seed=53)
    assert np.mean([any(year.live) for year in found]) <= 0.16
    assert np.mean([year.traded for year in found]) >= -0.10


def test_row_f2_scoring_the_champion_again_beats_its_stored_score() -> None:
    drawn = [Models.of(World(mean=3, deviation=1), np.random.default_rng([54, each])) for each in range(20)]
    again = np.mean([a_year(models, "seed").traded for models in drawn])
    stored = np.mean([a_year_by_stored_scores(models).traded for models in drawn])
    assert again / stored >= 1.15


def test_the_luck_of_the_best_of_several_policies_is_taken_off_what_the_record_shows() -> None:
    """By hand: 1.5 less of the record and a prior N(0, 2^2), by the conjugate formula of `compute_edge_posterior`."""
    record = np.random.default_rng(5).normal(0.0006, 0.004, 60)
    whole = compute_edge_posterior(record, sessions_per_year=252)
    information = whole.deviation**-2 - 0.25
    alone, chosen = (
        judge_edge(
            record, EdgeState.STAND_ASIDE, rule=settings.Edge(), policy="guarded", luck=luck, sessions_per_year=252
        )
        for luck in (0.0, 1.5)
    )
    lowered = (whole.mean * whole.deviation**-2 - 1.5 * information) * whole.deviation
    assert chosen.p_edge == pytest.approx(NormalDist().cdf(lowered))
    assert alone.p_edge is not None
    assert chosen.p_edge is not None
    assert chosen.p_edge < alone.p_edge
    assert "shows 1.50 by luck" in next(fact.detail for fact in chosen.evidence if fact.name == "policies tried")
    assert not [fact for fact in alone.evidence if fact.name == "policies tried"]
    if alone.sessions_missing is not None and chosen.sessions_missing is not None:
        assert chosen.sessions_missing >= alone.sessions_missing


def test_how_many_sessions_are_missing_is_told_of_a_record_that_is_likely_good_alone() -> None:
    for annual, likely in ((4.5, True), (2.0, False)):
        edge = decided(with_sharpe(annual, 20))
        assert edge.p_edge is not None
        assert (0.7 <= edge.p_edge < 0.8) == likely, edge.p_edge
        told = [fact.detail for fact in edge.evidence if fact.name == "sessions missing"]
        assert bool(edge.sessions_missing)
        assert ([f"{edge.sessions_missing} more sessions at the present rate let the bot trade"] == told) == likely
        (track,) = (fact for fact in edge.evidence if fact.name == "minimum track record")
        assert edge.min_track_record is not None
        assert track.detail.endswith(f": {math.ceil(edge.min_track_record)} sessions needed, 20 there")
        assert not track.passed


def test_how_many_sessions_are_missing_counts_the_luck_of_other_policies_too() -> None:
    def lucky(n: int) -> Edge:
        return judge_edge(with_sharpe(4.0, n), ASIDE, rule=RULE, policy="guarded", luck=1.5, sessions_per_year=252)

    found = lucky(24)
    assert found.sessions_missing is not None
    assert found.sessions_missing > 5
    needed = 24 + found.sessions_missing
    assert lucky(needed + 3).state is LIVE
    assert lucky(needed - 3).state is ASIDE


def test_that_others_were_tried_is_told_and_keeps_no_good_record_aside() -> None:
    good = judge_edge(with_sharpe(6.0, 120), ASIDE, rule=RULE, policy="guarded", luck=0.5, sessions_per_year=252)
    assert (good.state, good.reason) == (LIVE, "the record holds")
    (fact,) = (fact for fact in good.evidence if fact.name == "policies tried")
    assert not fact.decides


def test_a_record_without_a_psr_stands_aside_and_says_why_where_one_is_asked_for() -> None:
    """Two values whose skewness times Sharpe ratio is 2: by hand, its standard error is then 0."""
    skewness = 0.8 / 0.3  # of one success in ten
    deviation = 0.3 * math.sqrt(20 / 19)
    low = 2 / skewness * deviation - 0.1
    record = [low + 1.0 if n % 10 == 5 else low for n in range(20)]
    guarded, balanced = decided(record), decided(record, policy="balanced")
    assert (guarded.state, guarded.psr, balanced.state) == (ASIDE, None, LIVE)
    assert guarded.reason == "the record has no PSR: its sessions take two values only"


def test_a_psr_and_a_p_edge_that_equal_what_is_asked_for_are_enough() -> None:
    record = with_sharpe(3.0, 60)
    found = decided(record)
    assert found.psr is not None
    assert found.p_edge is not None
    exact = replace(RULE, min_psr=found.psr, min_p_edge=found.p_edge)
    assert decided(record, rule=exact).state is LIVE
    for above in (
        replace(exact, min_psr=math.nextafter(found.psr, 1)),
        replace(exact, min_p_edge=math.nextafter(found.p_edge, 1)),
    ):
        assert decided(record, rule=above).state is ASIDE
