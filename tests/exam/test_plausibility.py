"""Figures that real minute bars do not show: told as such, and never promoted without a person."""

import math

import numpy as np
import pytest

from hftcl import settings
from hftcl.exam.plausibility import compute_chance, list_miracles
from hftcl.exam.verdict import Outcome, judge
from tests.exam.universe import scored


def test_a_high_sharpe_ratio_is_doubted_where_chance_does_not_explain_it() -> None:
    """By tables: a t of 4.590 at 19 degrees of freedom comes once in 10,000: over 20 sessions a Sharpe of 16.3."""
    assert compute_chance(4.590 * math.sqrt(252 / 20), 20, 252) == pytest.approx(1e-4, rel=0.01)
    assert list_miracles(sessions=20, sharpe=16.2, limit=8, sessions_per_year=252) == ()
    assert list_miracles(sessions=20, sharpe=16.4, limit=8, sessions_per_year=252)[0].startswith(
        "net Sharpe 16.4 over 20 sessions"
    )
    assert list_miracles(sessions=60, sharpe=7.9, limit=8, sessions_per_year=252) == (), "unlikely, and plausible"
    assert list_miracles(sessions=20, sharpe=-30.0, limit=8, sessions_per_year=252) == (), "costs make such a one"
    assert list_miracles(sessions=20, sharpe=32.0, limit=1000, sessions_per_year=252) == ()


@pytest.mark.parametrize("sessions", [5, 10, 20])
def test_a_worthless_model_is_as_seldom_too_good_as_chance_is_said_to_be(sessions: int) -> None:
    """Looked for at one in a hundred, which a few thousand exams can tell; a normal would find 2 to 4 of them."""
    nets = np.random.default_rng(sessions).normal(size=(20_000, sessions))
    shown = nets.mean(axis=1) / nets.std(axis=1, ddof=1) * math.sqrt(252)
    found = np.mean([compute_chance(one, sessions, 252) < 0.01 for one in shown.tolist()])
    assert found == pytest.approx(0.01, abs=0.003)


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
