"""Figures that real minute bars do not show: told as such, and never promoted without a person."""

import numpy as np
import pytest

from hftcl import settings
from hftcl.exam.plausibility import compute_chance, list_miracles
from hftcl.exam.verdict import Outcome, judge
from tests.exam.universe import scored


def test_a_high_sharpe_ratio_is_doubted_where_chance_does_not_explain_it() -> None:
    """By hand: over 20 sessions a Sharpe ratio of 13.2 is 3.72 standard errors of 3.55, once in ten thousand."""
    assert compute_chance(13.2, 20, 252) == pytest.approx(1e-4, rel=0.03)
    assert list_miracles(sessions=20, sharpe=12.0, limit=8, sessions_per_year=252) == ()
    assert list_miracles(sessions=20, sharpe=14.0, limit=8, sessions_per_year=252)[0].startswith(
        "net Sharpe 14.0 over 20 sessions"
    )
    assert list_miracles(sessions=60, sharpe=7.9, limit=8, sessions_per_year=252) == (), "unlikely, and plausible"
    assert list_miracles(sessions=20, sharpe=-30.0, limit=8, sessions_per_year=252) == (), "costs make such a one"
    assert list_miracles(sessions=20, sharpe=32.0, limit=1000, sessions_per_year=252) == ()


@pytest.mark.parametrize(
    ("figures", "told"),
    [
        ({"gross_sharpe": 12.5}, "gross Sharpe 12.5"),
        ({"information_coefficient": 0.16}, "information coefficient 0.16"),
        ({"hit_rate": 0.61, "trades": 1000}, "61% of 1,000 trades earn"),
        ({"hit_rate": 0.61, "trades": 999}, None),
        ({"gross_sharpe": 11.0, "information_coefficient": 0.14, "hit_rate": 0.59, "trades": 5000}, None),
    ],
)
def test_each_other_figure_has_its_own_limit(figures: dict[str, float], told: str | None) -> None:
    found = list_miracles(sessions=20, sharpe=1.0, limit=8, sessions_per_year=252, **figures)  # type: ignore[arg-type]
    assert found == (() if told is None else (told,))


def test_what_is_implausible_is_inconclusive_whatever_the_rule() -> None:
    net = np.random.default_rng(1).normal(0.01, 0.001, 20)
    for policy in ("seed", "guarded"):
        promote = settings.Promote(policy=policy)
        plain = judge(scored(net, "c"), None, promote=promote, exam=settings.Exam())
        doubted = judge(scored(net, "c"), None, promote=promote, exam=settings.Exam(), implausible="look at the bars")
        assert plain.outcome is Outcome.DEPLOYED
        assert (doubted.outcome, doubted.reason) == (Outcome.INCONCLUSIVE, "look at the bars")
