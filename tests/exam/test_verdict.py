"""Who is promoted, who is not, and what is said about it."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import date, timedelta
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from hftcl import settings
from hftcl.errors import UndefinedStatisticError
from hftcl.exam.metrics import psr, sharpe
from hftcl.exam.trials import Trial
from hftcl.exam.verdict import Outcome, Scored, Verdict, find_prediction_fault, judge
from tests.exam.generator import pair

SEED = settings.Promote(policy="seed")
GUARDED = settings.Promote(policy="guarded")
EXAM = settings.Exam()
NAN = float("nan")


def scored(net: Sequence[float], name: str = "challenger", *, trades: int = 50, synthetic: bool = False) -> Scored:
    days = tuple(date(2026, 1, 5) + timedelta(days=n) for n in range(len(net)))
    values = np.array(net, dtype=np.float64)
    return Scored(model_id=name, sessions=days, net=values, trades=trades, synthetic=synthetic, sessions_per_year=252)


def with_sharpe(annual: float, n: int = 20, seed: int = 0) -> list[float]:
    """Return a P&L of `n` sessions whose annual Sharpe ratio is exactly `annual`, up to rounding."""
    noise = np.random.default_rng(seed).normal(size=n)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    found: list[float] = ((noise + annual / math.sqrt(252)) * 0.004).tolist()
    return found


def verdict(
    challenger: Sequence[float],
    champion: Sequence[float] | None = None,
    promote: settings.Promote = SEED,
    earlier: Sequence[float] = (),
    tried: Sequence[float] = (),
) -> Verdict:
    defends = None if champion is None else scored(champion, "champion")
    return judge(
        scored(challenger),
        defends,
        promote=promote,
        exam=EXAM,
        earlier_sharpes=earlier,
        tried=[Trial(sharpe=one) for one in tried],
    )


def test_the_first_model_needs_a_sharpe_ratio_above_the_threshold_and_no_more() -> None:
    good, bad = verdict(with_sharpe(0.51)), verdict(with_sharpe(0.31))
    assert (good.outcome, good.reason) == (Outcome.DEPLOYED, "met every condition")
    assert (bad.outcome, bad.reason) == (Outcome.REJECTED, "Sharpe 0.31, needs more than 0.50")
    assert verdict(with_sharpe(0.51), promote=GUARDED).outcome is Outcome.DEPLOYED
    assert good.champion_sharpe is good.p_better is None


def test_a_sharpe_ratio_of_four_sessions_is_told_with_their_number() -> None:
    short = judge(scored(with_sharpe(-9.0, n=4)), None, promote=SEED, exam=settings.Exam(min_sessions=2))
    assert short.reason == "Sharpe -9.00, needs more than 0.50 (4 sessions)"


def test_a_sharpe_ratio_equal_to_the_threshold_is_not_above_it() -> None:
    net = with_sharpe(3.0)
    exactly = replace(SEED, min_sharpe=sharpe(net))
    assert verdict(net, promote=exactly).outcome is Outcome.REJECTED
    just_below = replace(SEED, min_sharpe=math.nextafter(sharpe(net), 0))
    assert verdict(net, promote=just_below).outcome is Outcome.DEPLOYED


@pytest.mark.parametrize(
    ("challenger", "champion", "outcome"),
    [
        (2.01, 2.0, Outcome.DEPLOYED),
        (1.81, 2.0, Outcome.DEPLOYED),
        (1.79, 2.0, Outcome.REJECTED),
        (0.51, -3.0, Outcome.DEPLOYED),
        (0.49, -3.0, Outcome.REJECTED),
    ],
)
def test_the_seed_rule_allows_ten_per_cent_below_the_champion(
    challenger: float, champion: float, outcome: Outcome
) -> None:
    assert verdict(with_sharpe(challenger), with_sharpe(champion, seed=1)).outcome is outcome


@pytest.mark.parametrize(("challenger", "outcome"), [(-2.1, Outcome.DEPLOYED), (-2.3, Outcome.REJECTED)])
def test_the_tolerance_of_a_losing_champion_goes_downwards(challenger: float, outcome: Outcome) -> None:
    anything = replace(SEED, min_sharpe=-100)
    found = verdict(with_sharpe(challenger), with_sharpe(-2.0, seed=1), anything)
    assert found.outcome is outcome
    if outcome is Outcome.REJECTED:
        assert found.reason == "Sharpe against the champion -2.30, needs -2.20"


def test_seven_concessions_in_a_row_do_not_add_up() -> None:
    champions = [3.0]
    for n in range(7):
        offered = champions[-1] * 0.95
        found = verdict(with_sharpe(offered, seed=n), with_sharpe(champions[-1], seed=n + 1), earlier=champions[:-1])
        if found.outcome is Outcome.DEPLOYED:
            assert found.conceded
            champions.append(offered)
    assert min(champions) >= 0.9 * 3.0
    assert len(champions) == 3  # 3.00, 2.85, 2.71: the next would be below 2.70


def test_a_better_challenger_is_promoted_however_good_an_earlier_champion_was() -> None:
    found = verdict(with_sharpe(1.1), with_sharpe(1.0, seed=1), earlier=[5.0])
    assert (found.outcome, found.conceded) == (Outcome.DEPLOYED, False)
    worse = verdict(with_sharpe(0.95), with_sharpe(1.0, seed=1), earlier=[5.0])
    assert worse.reason == "Sharpe against the champion 0.95, needs more than 1.00"


def test_a_challenger_that_is_no_better_leaves_the_champion_in_place_when_guarded() -> None:
    net = with_sharpe(2.0)
    found = verdict(net, net, GUARDED)
    assert (found.outcome, found.reason) == (Outcome.REJECTED, "P(better) 0.50, needs 0.60")
    assert verdict(net, net, replace(GUARDED, min_p_better=0.0)).outcome is Outcome.DEPLOYED


def test_under_the_plain_rule_a_model_that_makes_the_very_trades_of_the_champion_is_not_deployed() -> None:
    net = with_sharpe(2.0)
    found = verdict(net, net, SEED)
    assert (found.outcome, "the very trades of the champion" in found.reason) == (Outcome.REJECTED, True)
    assert verdict([*net[:-1], net[-1] * (1 + 1e-9)], net, SEED).outcome is Outcome.DEPLOYED


def test_the_best_of_many_candidates_is_told_to_be_luck() -> None:
    """0.64 by hand: five trials of -4, -2, 0, 2, 6 deviate by 3.847 a year, the best of 5 worthless ones lies 1.193
    deviations up (Bailey and Lopez de Prado 2014), and PSR of 6 against 4.59 over 20 sessions is what is left.
    """
    net = with_sharpe(6.0)
    alone, best_of_five = verdict(net), verdict(net, tried=(-4.0, -2.0, 0.0, 2.0))
    assert alone.outcome is best_of_five.outcome is Outcome.DEPLOYED
    assert (alone.trials, best_of_five.trials) == (1, 5)
    luck = statistics.stdev([-4.0, -2.0, 0.0, 2.0, 6.0]) * 1.1929
    assert best_of_five.deflated_sharpe == pytest.approx(psr(np.array(net), benchmark=luck), abs=1e-3)
    assert alone.deflated_sharpe == pytest.approx(psr(np.array(net)))
    assert "one of 5 candidates that were tried on these sessions" in str(best_of_five.evidence[-1])
    assert [fact.name for fact in alone.evidence].count("trials") == 0, "nobody tried anything"


@pytest.mark.hazard(83)
def test_from_two_trials_on_the_deflated_sharpe_ratio_decides_unless_under_seed() -> None:
    """Four seeds on one day reached a Sharpe ratio of 6 with a deflated one of 0.5, and were deployed."""
    net, tried = with_sharpe(6.0), (-12.0, -6.0, 0.0, 5.0)
    lucky = verdict(net, promote=GUARDED, tried=tried)
    assert lucky.deflated_sharpe is not None
    assert lucky.deflated_sharpe < GUARDED.min_p_better
    assert lucky.outcome is Outcome.REJECTED
    assert "one of 5 candidates that were tried on these sessions" in lucky.reason
    assert verdict(net, promote=SEED, tried=tried).outcome is Outcome.DEPLOYED


def test_trials_count_by_the_sessions_in_common() -> None:
    """By hand: one that shares 19 of 20 sessions is 0.95 of a trial, and less than two decide nothing."""
    challenger = scored(with_sharpe(6.0))
    one = judge(challenger, None, promote=GUARDED, exam=EXAM, tried=(Trial(sharpe=-30.0, weight=0.95),))
    assert (one.trials, one.effective_trials) == (2, 1.95)
    assert one.outcome is Outcome.DEPLOYED
    two = judge(challenger, None, promote=GUARDED, exam=EXAM, tried=(Trial(sharpe=-30.0, weight=0.95),) * 2)
    assert two.effective_trials == pytest.approx(2.9)
    assert two.outcome is Outcome.REJECTED


def test_all_that_failed_is_told() -> None:
    found = verdict(with_sharpe(-1.0), with_sharpe(4.0, seed=1), GUARDED)
    assert found.reason.startswith("Sharpe -1.00, needs more than 0.50; Sharpe against the champion -1.00, needs 3.60;")
    assert "P(better) 0." in found.reason


def test_a_threshold_missed_by_a_hair_does_not_read_as_if_it_were_met() -> None:
    assert verdict(with_sharpe(0.4999)).reason == "Sharpe 0.4999, needs more than 0.5000"


def test_p_better_is_told_under_seed_but_does_not_decide() -> None:
    found = verdict(with_sharpe(1.95), with_sharpe(2.0, seed=1), SEED)
    assert found.outcome is Outcome.DEPLOYED
    assert found.p_better is not None
    assert found.p_better < 0.5
    assert [fact.decides for fact in found.evidence if fact.name == "P(better)"] == [False]


def test_an_exam_that_is_too_short_tells_nothing() -> None:
    found = verdict(with_sharpe(5.0, n=9))
    assert found.outcome is Outcome.INCONCLUSIVE
    assert found.reason == "9 exam sessions that no compared model has seen, needs 10"
    losing = verdict(with_sharpe(-5.0, n=9), with_sharpe(5.0, n=9, seed=1), GUARDED)
    assert (losing.outcome, losing.reason) == (Outcome.INCONCLUSIVE, found.reason)  # nothing else can be said of it
    assert verdict(with_sharpe(5.0, n=10)).outcome is Outcome.DEPLOYED
    empty = replace(scored([], trades=0), fault=find_prediction_fault([]))
    nothing = judge(empty, replace(empty, model_id="champion"), promote=GUARDED, exam=EXAM)
    assert nothing.outcome is Outcome.INCONCLUSIVE
    assert nothing.reason.startswith("0 exam sessions that no compared model has seen, needs 10")
    assert judge(scored([0.1]), None, promote=GUARDED, exam=EXAM).outcome is Outcome.INCONCLUSIVE


def test_no_trade_is_nothing_to_examine() -> None:
    found = judge(scored([0.0] * 20, trades=0), scored(with_sharpe(1.0), "c"), promote=SEED, exam=EXAM)
    assert (found.outcome, found.reason) == (
        Outcome.INCONCLUSIVE,
        "nothing to examine: the challenger made no trade",
    )
    anything = settings.Promote(policy="seed", min_sharpe=-100, tolerance=0.99, min_p_better=0)
    assert judge(scored([0.0] * 20, trades=0), None, promote=anything, exam=EXAM).outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("champion", [None, scored(with_sharpe(1.0), "c")], ids=["first", "champion"])
def test_a_model_that_would_trade_nothing_is_judged(champion: Scored | None) -> None:
    """Inconclusive is no verdict, and another one would be trained every night."""
    idle = replace(scored([0.0] * 20, trades=0), idle="no threshold paid")
    found = judge(idle, champion, promote=GUARDED, exam=EXAM)
    assert (found.outcome, found.reason) == (
        Outcome.REJECTED,
        "the challenger would trade nothing: no threshold paid",
    )


@pytest.mark.parametrize("net", [[NAN, *with_sharpe(5, 19)], [math.inf, *with_sharpe(5, 19)], [0.1] * 20])
@pytest.mark.parametrize("promote", [SEED, GUARDED], ids=["seed", "guarded"])
def test_a_pnl_without_a_sharpe_ratio_promotes_nobody(net: list[float], promote: settings.Promote) -> None:
    as_challenger = verdict(net, with_sharpe(-3.0), promote)
    as_first, as_champion = verdict(net, None, promote), verdict(with_sharpe(9.0), net, promote)
    for found, who in ((as_challenger, "challenger"), (as_first, "challenger"), (as_champion, "champion")):
        assert found.outcome is Outcome.INCONCLUSIVE
        assert f"the P&L of {who} has no Sharpe ratio: " in found.reason


@pytest.mark.hazard(22)
@pytest.mark.parametrize(
    ("predictions", "told"),
    [
        ([0.25, 0.25, 0.25], "all of its 3 predictions are 0.25"),
        ([0.25, NAN, math.inf], "2 of 3 predictions are NaN or infinite"),
        ([], "it predicted nothing"),
    ],
)
def test_faulty_predictions_fail_the_exam_whatever_they_earned(predictions: list[float], told: str) -> None:
    faulty = replace(scored(with_sharpe(9.0)), fault=find_prediction_fault(np.array(predictions, dtype=np.float32)))
    found = judge(faulty, None, promote=SEED, exam=EXAM)
    assert (found.outcome, found.reason) == (Outcome.REJECTED, f"the challenger cannot be examined: {told}")
    against = judge(scored(with_sharpe(9.0)), replace(faulty, model_id="champion"), promote=SEED, exam=EXAM)
    assert against.outcome is Outcome.INCONCLUSIVE
    assert against.reason.startswith(f"the champion cannot be compared: {told}")


def test_sound_predictions_have_no_fault() -> None:
    assert find_prediction_fault(np.array([0.1, -0.2], dtype=np.float32)) is None
    assert find_prediction_fault(np.array([0.1], dtype=np.float32)) is None


FLAT = scored([0.0] * 20, "champion", trades=0)


def test_a_champion_that_cannot_be_scored_stays_until_a_person_or_a_setting_lets_the_candidate_serve() -> None:
    problem = "its feature rsi_14 does not exist."
    found = judge(scored(with_sharpe(9.0)), None, promote=GUARDED, exam=EXAM, champion_problem=problem)
    assert (found.outcome, found.waits) == (Outcome.INCONCLUSIVE, True)
    assert found.reason.startswith("the champion cannot be compared: its feature rsi_14 does not exist. The candidate")
    assert "`hftcl rollback MODEL_ID --reason TEXT`" in found.reason
    deploying = replace(GUARDED, when_champion_cannot_be_scored="deploy")
    allowed = judge(scored(with_sharpe(9.0)), None, promote=deploying, exam=EXAM, champion_problem=problem)
    assert (allowed.outcome, allowed.waits) == (Outcome.DEPLOYED, False)
    assert allowed.p_better == pytest.approx(judge(scored(with_sharpe(9.0)), FLAT, promote=GUARDED, exam=EXAM).p_better)


@pytest.mark.parametrize("when", ["wait", "deploy"])
def test_beside_a_champion_that_cannot_be_scored_a_candidate_that_fails_alone_is_rejected(
    when: Literal["wait", "deploy"],
) -> None:
    promote = replace(GUARDED, when_champion_cannot_be_scored=when)
    weak = judge(scored(with_sharpe(0.6)), None, promote=promote, exam=EXAM, champion_problem="it is damaged")
    assert (weak.outcome, weak.waits) == (Outcome.REJECTED, False)
    assert "P(better)" in weak.reason


@pytest.mark.parametrize(("promote", "outcome"), [(GUARDED, Outcome.INCONCLUSIVE), (SEED, Outcome.DEPLOYED)])
def test_four_sessions_have_no_p_better_and_only_guarded_asks_for_it(
    promote: settings.Promote, outcome: Outcome
) -> None:
    shortest = settings.Exam(min_sessions=2)
    champions = scored(with_sharpe(1.0, n=4, seed=1), "champion"), scored([0.0] * 4, "champion", trades=0)
    for champion in champions:
        found = judge(scored(with_sharpe(9.0, n=4)), champion, promote=promote, exam=shortest)
        assert (found.outcome, found.p_better) == (outcome, None)
        assert ("P(better) is not defined: " in found.reason) == (promote is GUARDED)


def test_an_earlier_champion_without_a_score_is_not_passed_over() -> None:
    found = verdict(with_sharpe(9.0), with_sharpe(1.0, seed=1), SEED, [2.0, NAN])
    assert (found.outcome, found.reason) == (
        Outcome.INCONCLUSIVE,
        "an earlier champion that gave way has no Sharpe ratio on these sessions",
    )


def test_a_champion_scored_on_other_sessions_stays() -> None:
    champion = scored(with_sharpe(0.0), "champion")
    moved = replace(champion, sessions=tuple(day + timedelta(days=1) for day in champion.sessions))
    found = judge(scored(with_sharpe(9.0)), moved, promote=SEED, exam=EXAM)
    assert found.outcome is Outcome.INCONCLUSIVE
    assert "not scored on the same sessions" in found.reason


@pytest.mark.parametrize("promote", [SEED, GUARDED], ids=["seed", "guarded"])
def test_a_champion_that_never_traded_scores_zero_and_does_not_block_for_ever(promote: settings.Promote) -> None:
    idle = scored([0.0] * 20, "champion", trades=0)
    found = judge(scored(with_sharpe(6.0)), idle, promote=promote, exam=EXAM)
    assert (found.outcome, found.champion_sharpe) == (Outcome.DEPLOYED, 0.0)
    assert found.p_better is not None
    assert 0.8 < found.p_better < 1.0
    assert any("made no trade: it scores 0" in str(fact) for fact in found.evidence)
    assert judge(scored(with_sharpe(0.4)), idle, promote=promote, exam=EXAM).outcome is Outcome.REJECTED


@pytest.mark.parametrize("synthetic", [True, False])
def test_a_champion_from_the_synthetic_market_does_not_defend_against_a_real_one_nor_the_reverse(
    synthetic: bool,
) -> None:
    champion = scored(with_sharpe(9.0, seed=1), "champion", synthetic=not synthetic)
    found = judge(scored(with_sharpe(1.0), synthetic=synthetic), champion, promote=GUARDED, exam=EXAM)
    assert (found.outcome, found.champion_sharpe, found.p_better) == (Outcome.DEPLOYED, None, None)
    assert any("champion champion does not defend: it was trained on" in fact.detail for fact in found.evidence)


def test_a_champion_may_be_excused_without_a_score() -> None:
    found = judge(scored(with_sharpe(1.0)), None, promote=GUARDED, exam=EXAM, champion_excused="it is synthetic")
    assert found.outcome is Outcome.DEPLOYED
    assert any(fact.detail == "it is synthetic" for fact in found.evidence)


@pytest.mark.parametrize("annual", [9.0, 0.1])
def test_while_a_person_pins_a_model_nothing_replaces_it(annual: float) -> None:
    found = judge(scored(with_sharpe(annual)), None, promote=SEED, exam=EXAM, pinned=True)
    assert (found.outcome, found.reason) == (Outcome.REJECTED, "pinned")
    assert found.challenger_sharpe == pytest.approx(annual)


def test_a_pnl_that_does_not_belong_to_its_sessions_is_refused() -> None:
    with pytest.raises(UndefinedStatisticError, match=r"shape \(19,\) for 20 sessions"):
        replace(scored(with_sharpe(1.0)), net=np.zeros(19))


def test_evidence_holds_nothing_that_json_does_not() -> None:
    for found in (verdict([NAN] * 20, [NAN] * 20, GUARDED), verdict(with_sharpe(2.0), with_sharpe(1.0, seed=3))):
        for fact in found.evidence:
            values = [value for value in asdict(fact).values() if isinstance(value, float)]
            assert np.isfinite(values).all()


numbers = st.one_of(st.floats(-0.05, 0.05), st.sampled_from([0.0, NAN, math.inf, -math.inf, 1e300]))
policies = st.sampled_from([SEED, GUARDED, settings.Promote(policy="guarded", min_sharpe=-100, min_p_better=0)])


@limits(max_examples=100)
@given(
    challenger=st.lists(numbers, min_size=10, max_size=14),
    champion=st.lists(numbers, min_size=10, max_size=14),
    earlier=st.lists(st.sampled_from([1.0, NAN, -2.0]), max_size=2),
    promote=policies,
)
def test_nothing_is_promoted_on_a_figure_that_is_not_finite(
    challenger: list[float], champion: list[float], earlier: list[float], promote: settings.Promote
) -> None:
    n = min(len(challenger), len(champion))
    found = verdict(challenger[:n], champion[:n], promote, earlier)
    if not np.isfinite([*challenger[:n], *champion[:n], *earlier]).all():
        assert found.outcome is not Outcome.DEPLOYED
    assert (found.outcome is Outcome.DEPLOYED) == (found.reason == "met every condition")


@limits(max_examples=60)
@given(
    own=st.floats(-6, 6),
    against=st.floats(-6, 6),
    more=st.floats(0.01, 3),
    seed=st.integers(0, 20),
    earlier=st.lists(st.floats(-6, 6), max_size=2),
)
def test_earning_more_never_loses_a_promotion(
    own: float, against: float, more: float, seed: int, earlier: list[float]
) -> None:
    champion = with_sharpe(against, seed=seed + 1)
    if verdict(with_sharpe(own, seed=seed), champion, SEED, earlier).outcome is Outcome.DEPLOYED:
        assert verdict(with_sharpe(own + more, seed=seed), champion, SEED, earlier).outcome is Outcome.DEPLOYED


@limits(max_examples=60)
@given(own=st.floats(-6, 6), against=st.floats(-6, 6), tolerance=st.floats(0, 0.99), least=st.floats(-6, 6))
def test_the_seed_rule_is_the_one_of_the_guide(own: float, against: float, tolerance: float, least: float) -> None:
    rule = settings.Promote(policy="seed", tolerance=tolerance, min_sharpe=least)
    challenger, champion = with_sharpe(own), with_sharpe(against, seed=1)
    c, p = sharpe(challenger), sharpe(champion)
    expected = c > least and (c > p or c >= p - tolerance * abs(p))
    assert (verdict(challenger, champion, rule).outcome is Outcome.DEPLOYED) == expected


def test_row_f3_guarded_promotes_nothing_that_the_seed_rule_refuses() -> None:
    rng = np.random.default_rng(31)
    promoted = refused_by_seed = conceded = 0
    for _ in range(1000):
        truths = (float(rng.normal(1, 3)), float(rng.normal(1, 3)))
        one, two = pair(rng, 1, int(rng.integers(10, 41)), sharpes=truths, rho=float(rng.uniform(0, 0.99)))
        guarded, seed = (verdict(one[0].tolist(), two[0].tolist(), promote) for promote in (GUARDED, SEED))
        if guarded.outcome is Outcome.DEPLOYED:
            promoted += 1
            conceded += guarded.conceded
            refused_by_seed += seed.outcome is not Outcome.DEPLOYED
    assert (refused_by_seed, conceded) == (0, 0)
    assert promoted > 100


@pytest.mark.parametrize(
    ("sharpes", "least", "most"), [((0.0, 3.0), 0.0, 0.04), ((3.0, 0.0), 0.66, 1.0), ((2.0, 2.0), 0.0, 0.37)]
)
def test_row_f1_the_better_of_two_models_is_chosen(sharpes: tuple[float, float], least: float, most: float) -> None:
    one, two = pair(np.random.default_rng(32), 1500, 20, sharpes=sharpes, rho=0.9)
    promoted = [
        verdict(a, b, GUARDED).outcome is Outcome.DEPLOYED for a, b in zip(one.tolist(), two.tolist(), strict=True)
    ]
    assert least <= np.mean(promoted) <= most
