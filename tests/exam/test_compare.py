"""Two policy runs on the same sessions, facts as a person reads them, and the luck of several candidates: by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hftcl import settings
from hftcl.errors import NoDataError, UndefinedStatisticError
from hftcl.exam.compare import Difference, compare, compute_worth_of_holding
from hftcl.exam.drift import FeatureBins, compute_stability, count_in_bins, locate
from hftcl.exam.evidence import Evidence, build_evidence
from hftcl.exam.metrics import sharpe, sharpe_against_flat, sharpe_difference, sharpe_standard_error
from hftcl.exam.split import split_inner, split_walk_forward
from hftcl.exam.trials import Trial, compute_deflated, judge_trials
from tests.exam.test_split import window

EARNS = np.array([2.0, -1.0, 1.5, 0.2, 0.4] * 8)
FLAT = np.zeros(40)
NAN = float("nan")
GUARDED = settings.Promote(policy="guarded")


def interval(low: float, high: float) -> Difference:
    return Difference(difference=0.0, standard_error=1.0, p_better=0.5, interval=(low, high))


def test_equal_amounts_held_are_worth_the_mean_of_what_each_ticker_made() -> None:
    worth = compute_worth_of_holding([[100.0, 10.0], [110.0, 10.0], [100.0, 5.0]])
    assert worth is not None
    assert worth.tolist() == pytest.approx([1.0, 1.05, 0.75])


def test_a_ticker_without_a_price_keeps_its_last_one_and_one_without_a_first_is_not_held() -> None:
    worth = compute_worth_of_holding([[100.0, NAN, 50.0], [NAN, 7.0, 100.0], [NAN, 9.0, 100.0], [200.0, 1.0, NAN]])
    assert worth is not None
    assert worth.tolist() == pytest.approx([1.0, 1.5, 1.5, 2.0])
    assert compute_worth_of_holding([[NAN, math.inf], [1.0, 2.0]]) is None


def test_a_difference_has_paid_only_where_its_whole_interval_lies_above_zero() -> None:
    bounds = [(0.1, 2.0), (-2.0, -0.1), (-1.0, 1.0), (0.0, 2.0), (-2.0, 0.0)]
    assert [interval(*pair).conclusion for pair in bounds] == ["paid", "cost", "not shown", "not shown", "not shown"]
    undefined = Difference(difference=None, standard_error=None, p_better=None, interval=None)
    assert undefined.conclusion == "not shown"


def test_the_interval_of_a_difference_leaves_five_per_cent_on_each_side() -> None:
    paired = compare(EARNS, EARNS[::-1] * 0.5 + 0.01, sessions_per_year=252)
    whole = sharpe_difference(EARNS, EARNS[::-1] * 0.5 + 0.01, sessions_per_year=252)
    assert (paired.difference, paired.standard_error, paired.p_better) == (
        whole.difference,
        whole.standard_error,
        whole.p_better,
    )
    assert paired.interval is not None
    low, high = paired.interval
    assert (high - whole.difference) / whole.standard_error == pytest.approx(1.6448536, abs=1e-6)
    assert low + high == pytest.approx(2 * whole.difference)


def test_against_a_run_that_never_traded_a_run_has_its_own_sharpe_ratio_and_error() -> None:
    paired = compare(EARNS, FLAT, sessions_per_year=252)
    assert paired.difference == pytest.approx(sharpe(EARNS, sessions_per_year=252))
    assert paired.standard_error == pytest.approx(
        sharpe_standard_error(EARNS, sessions_per_year=252) * math.sqrt(40 / 36)
    )
    reverse = compare(FLAT, EARNS, sessions_per_year=252)
    assert reverse.difference == -sharpe(EARNS, sessions_per_year=252)
    assert (reverse.p_better or 0.0) + (paired.p_better or 0.0) == pytest.approx(1.0)
    assert (paired.conclusion, reverse.conclusion) == ("paid", "cost")
    assert compare(FLAT, FLAT, sessions_per_year=252) == Difference(
        difference=0.0, standard_error=0.0, p_better=0.5, interval=(0.0, 0.0)
    )


def test_runs_of_too_few_sessions_differ_by_nothing_that_is_defined() -> None:
    for pair in ((EARNS[:4], FLAT[:4]), (EARNS[:4], EARNS[1:5]), (EARNS, EARNS[:20])):
        assert compare(*pair, sessions_per_year=252).difference is None
    with pytest.raises(UndefinedStatisticError, match="5 or more sessions, got 4"):
        sharpe_against_flat(EARNS[:4], sessions_per_year=252)


@pytest.mark.parametrize(
    ("value", "threshold", "above", "told"),
    [
        (0.31, 0.5, True, "Sharpe 0.31, needs more than 0.50"),
        (0.31, 0.5, False, "Sharpe 0.31, needs 0.50"),
        (0.4999, 0.5, False, "Sharpe 0.4999, needs 0.5000"),
        (0.499999, 0.5, False, "Sharpe 0.499999, needs 0.500000"),
        (0.5, 0.5, True, "Sharpe 0.50, needs more than 0.50"),
        (None, 0.5, False, "Sharpe"),
        (0.5, None, False, "Sharpe"),
    ],
)
def test_a_figure_is_told_with_as_many_digits_as_tell_it_from_its_threshold(
    value: float | None, threshold: float | None, above: bool, told: str
) -> None:
    fact = Evidence(name="Sharpe", value=value, threshold=threshold, passed=False, above=above)
    assert str(fact) == told


def test_a_fact_with_words_of_its_own_is_told_by_them_alone() -> None:
    assert str(Evidence(name="trials", value=0.4, threshold=0.6, passed=False, detail="one of 3")) == "one of 3"
    fact = build_evidence("obstacle", "no model serves")
    assert (str(fact), fact.value, fact.threshold, fact.passed, fact.decides) == (
        "no model serves",
        None,
        None,
        False,
        True,
    )


def test_of_one_candidate_nothing_is_luck_and_of_two_the_confidence_that_was_asked_for_decides() -> None:
    alone = judge_trials([], 0.1, GUARDED, decides=True)
    assert (alone.decides, alone.passed, alone.threshold) == (False, True, None)
    second = judge_trials([Trial(sharpe=1.0)], 0.59, GUARDED, decides=True)
    assert (second.decides, second.passed, second.threshold) == (True, False, GUARDED.min_p_better)
    assert str(second).startswith(
        "one of 2 candidates that were tried on these sessions (2.00 by the sessions in common)"
    )
    assert str(second).endswith("deflated Sharpe ratio 0.59, needs 0.60")
    assert judge_trials([Trial(sharpe=1.0)], 0.60, GUARDED, decides=True).passed
    nearly = judge_trials([Trial(sharpe=1.0, weight=0.99)], 0.1, GUARDED, decides=True)
    assert (nearly.decides, nearly.passed) == (False, True), "two that share fewer than all sessions are less than two"


def test_several_candidates_are_told_of_and_decide_nothing_where_they_may_not() -> None:
    tried = [Trial(sharpe=1.0)] * 4
    for fact in (
        judge_trials(tried, 0.1, GUARDED, decides=False),
        judge_trials(tried, 0.1, settings.Promote(policy="seed"), decides=True),
    ):
        assert (fact.decides, fact.passed, fact.threshold) == (False, True, None)
        assert "one of 5 candidates" in str(fact)
        assert "needs" not in str(fact)
    undefined = judge_trials(tried, None, GUARDED, decides=True)
    assert (undefined.decides, undefined.passed) == (True, False)
    assert "deflated Sharpe ratio not defined" in str(undefined)


def test_a_deflated_ratio_counts_the_candidate_itself_and_is_none_where_it_is_not_defined() -> None:
    own = sharpe(EARNS, sessions_per_year=252)
    assert compute_deflated(EARNS, None, [], sessions_per_year=252) is None
    assert compute_deflated(EARNS, own, [Trial(sharpe=NAN)], sessions_per_year=252) is None
    assert compute_deflated(EARNS[:1], own, [], sessions_per_year=252) is None
    one, two = (
        compute_deflated(EARNS, own, [Trial(sharpe=-own, weight=weight)] * 3, sessions_per_year=252)
        for weight in (0.1, 1.0)
    )
    assert one is not None
    assert two is not None
    assert two < one < 1.0


@pytest.mark.parametrize("longest", [None, 6, 100])
def test_a_walk_forward_holds_each_session_of_the_newer_half_out_once_and_fits_on_what_lies_before(
    longest: int | None,
) -> None:
    days = window(23)
    parts = split_walk_forward(days, folds=4, embargo_sessions=2, longest=longest)
    assert [session for part in parts for session in part.exam] == list(days[13:])
    assert [len(part.exam) for part in parts] == [3, 3, 3, 1]
    for part in parts:
        start = days.index(part.exam[0])
        assert part.embargoed == tuple(days[start - 2 : start])
        before = days[: start - 2]
        assert part.train == tuple(before if longest is None else before[-longest:])
        assert part.withheld == ()


@pytest.mark.parametrize(
    ("embargo", "needed"),
    # the first part has (needed - embargo + 1) / 2 sessions; of 4 one is held out, of 5 one, of 8 two, of 80 twenty
    [(1, 8), (2, 9), (3, 12), (5, 20), (59, 59 + 2 * 80 - 1)],
)
def test_a_walk_forward_says_how_many_sessions_let_each_of_its_parts_train(embargo: int, needed: int) -> None:
    for sessions in (needed - 1, 0):
        with pytest.raises(NoDataError, match=rf"needs {needed} or more training sessions, got {sessions}\."):
            split_walk_forward(window(sessions), folds=3, embargo_sessions=embargo)
    for part in split_walk_forward(window(needed), folds=3, embargo_sessions=embargo):
        assert split_inner(part.train, embargo_sessions=embargo).train


BINS = FeatureBins(edges=(1.0, 2.0), shares=(0.5, 0.3, 0.2))


def test_a_value_lies_between_the_shares_of_the_training_that_its_bin_ends_at() -> None:
    located = [locate(BINS, value) for value in (-9.0, 0.99, 1.0, 2.0, 9.0)]
    assert located == [(0.0, 0.5), (0.0, 0.5), (0.5, 0.8), (0.8, 1.0), (0.8, 1.0)]


def test_counts_of_parts_add_up_to_the_same_index_as_all_rows_at_once() -> None:
    rows = np.array([[0.0], [1.0], [1.5], [3.0], [3.0]], dtype=np.float32)
    (whole,) = count_in_bins((BINS,), rows)
    (first,), (second,) = count_in_bins((BINS,), rows[:2]), count_in_bins((BINS,), rows[2:])
    assert list(whole) == [1, 2, 2]
    assert [a + b for a, b in zip(first, second, strict=True)] == list(whole)
    smoothed = [(share * 5 + 0.5) / (5 + 1.5) for share in (0.5, 0.3, 0.2)]
    seen = [(n + 0.5) / 6.5 for n in (1, 2, 2)]
    expected = sum((b - a) * math.log(b / a) for a, b in zip(smoothed, seen, strict=True))
    assert compute_stability((BINS,), (whole,), observations=5).tolist() == pytest.approx([expected])


@given(values=st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=30))
def test_each_row_falls_into_the_bin_that_its_value_is_located_in(values: list[float]) -> None:
    ends = [0.5, 0.8, 1.0]
    (counts,) = count_in_bins((BINS,), np.array(values, dtype=np.float32).reshape(-1, 1))
    places = [ends.index(locate(BINS, value)[1]) for value in values]
    assert list(counts) == [places.count(place) for place in range(3)]
