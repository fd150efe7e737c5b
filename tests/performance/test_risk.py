"""Risk beside return, against empyrical's answers for the same sessions."""

from datetime import date, timedelta

import numpy as np
import pytest

from hftcl.exam.metrics import max_drawdown
from hftcl.performance.risk import compute_risk, list_drawdowns

# fmt: off
NET = np.array([
    0.004, -0.002, 0.003, 0.001, -0.0035, 0.002, 0.0005, -0.003, -0.001, 0.006, 0.0, 0.0025, -0.0045, 0.001, 0.0015,
    -0.0005, 0.003, -0.002, 0.0007, 0.0042, -0.0011, 0.0008,
])
# fmt: on
DAYS = [date(2026, 1, 5) + timedelta(days=n) for n in range(NET.size)]
# Of empyrical-reloaded 0.7.1, https://github.com/stefan-jansen/empyrical-reloaded: cagr, annual_volatility,
# sortino_ratio, value_at_risk and conditional_value_at_risk of NET, with their defaults (252 days, 5 %).
EMPYRICAL = {
    "cagr": 0.15423498733404895,
    "volatility": 0.042180133195186056,
    "sortino": 5.915955572688343,
    "var": -0.0034750000000000002,
    "cvar": -0.004,
}


def test_the_figures_are_those_of_empyrical() -> None:
    found = compute_risk(NET, DAYS, np.array([10.0, -4.0, 20.0, 0.0]), sessions_per_year=252)
    for name, value in EMPYRICAL.items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-9), name
    assert found.calmar == pytest.approx(EMPYRICAL["cagr"] / max_drawdown(NET)), "by the drawdown that is told"
    assert (found.best, found.best_session) == (0.006, DAYS[9])
    assert (found.worst, found.worst_session) == (-0.0045, DAYS[12])
    assert (found.average_win_usd, found.average_loss_usd) == (15.0, -4.0)
    assert found.drawdowns[0].depth == pytest.approx(max_drawdown(NET))


def test_falls_are_told_from_their_first_session_to_the_one_that_reaches_the_top_again() -> None:
    falls = list_drawdowns(np.array([-1.0, 1.0, 2.0, -0.5, -1.0, 0.5, 1.5, -1.0]), DAYS[:8])
    told = [(fall.from_, fall.lowest, fall.to, fall.sessions, fall.depth) for fall in falls]
    assert told == [
        (DAYS[0], DAYS[0], DAYS[1], 1, 1.0),
        (DAYS[3], DAYS[4], DAYS[6], 3, 1.5),
        (DAYS[7], DAYS[7], None, 1, 1.0),
    ]


def test_the_five_deepest_are_listed() -> None:
    net = np.array([value for depth in range(1, 8) for value in (-float(depth), float(depth))])
    found = compute_risk(net / 100, DAYS[:14], np.array([]), sessions_per_year=252)
    assert [round(100 * fall.depth) for fall in found.drawdowns] == [7, 6, 5, 4, 3]


def test_what_is_not_defined_is_none() -> None:
    empty = compute_risk(np.zeros(1), DAYS[:1], np.array([]), sessions_per_year=252)
    assert (empty.volatility, empty.sortino, empty.calmar, empty.var, empty.average_win_usd) == (None,) * 5
    assert empty.drawdowns == ()
    rising = compute_risk(np.array([0.01, 0.02]), DAYS[:2], np.array([1.0]), sessions_per_year=252)
    assert (rising.sortino, rising.calmar, rising.average_loss_usd) == (None, None, None)


@pytest.mark.parametrize(
    "net",
    [[-1.0, 0.02, 0.01], [-1.5, -1.5, 0.01], [7.1]],
    ids=["all_lost", "two_losses_of_more_than_all", "beyond_every_float"],
)
def test_no_growth_of_a_year_is_told_of_what_has_none(net: list[float]) -> None:
    found = compute_risk(np.array(net), DAYS[: len(net)], np.array([]), sessions_per_year=365)
    assert (found.cagr, found.calmar) == (None, None)


def test_a_calmar_ratio_beyond_every_float_is_none_as_json_has_no_infinity() -> None:
    found = compute_risk(np.array([47.0, -1e-9]), DAYS[:2], np.array([]), sessions_per_year=365)
    assert found.cagr is not None
    assert found.calmar is None


def test_a_session_without_a_trade_is_in_no_bar_of_gains_or_losses() -> None:
    found = compute_risk(np.array([0.01, 0.0, -0.01, 0.0]), DAYS[:4], np.array([]), sessions_per_year=252)
    assert sum(each.sessions for each in found.session_bins) == 2
    assert [each.sessions for each in found.session_bins if each.low == 0 or each.high == 0] == [0, 0]
    assert compute_risk(np.zeros(3), DAYS[:3], np.array([]), sessions_per_year=252).session_bins == ()


def test_the_worst_twentieth_is_told_from_twenty_sessions_on() -> None:
    few = compute_risk(NET[:19], DAYS[:19], np.array([]), sessions_per_year=252)
    assert (few.var, few.cvar) == (None, None)
    enough = compute_risk(NET[:20], DAYS[:20], np.array([]), sessions_per_year=252)
    assert enough.var is not None
    assert enough.cvar == NET.min()
