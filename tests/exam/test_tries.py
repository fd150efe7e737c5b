"""Who tries again and again on one exam of a market without edge does not wear the judge down."""

import numpy as np

from hftcl import settings
from hftcl.exam.metrics import sharpe
from hftcl.exam.verdict import Outcome, judge
from tests.exam.universe import EXAM, scored

TRIES, MARKETS, MARGIN = 10, 150, 0.14  # the margin of a share of 0.43 in 50 markets, two standard errors


def deploy_at_least_once(rng: np.random.Generator, *, count_tries: bool) -> list[bool]:
    """Return, try by try, whether one has deployed so far: models of one exam, alike to 0.9, none worth anything."""
    common, sharpes, so_far = rng.normal(size=EXAM), list[float](), [False]
    for _ in range(TRIES):
        net = 0.01 * (np.sqrt(0.9) * common + np.sqrt(0.1) * rng.normal(size=EXAM))
        tried = tuple(sharpes) if count_tries else ()
        verdict = judge(
            scored(net, "candidate"), None, promote=settings.Promote(), exam=settings.Exam(), tried_sharpes=tried
        )
        so_far.append(so_far[-1] or verdict.outcome is Outcome.DEPLOYED)
        sharpes.append(sharpe(net))
    return so_far[1:]


def test_ten_tries_on_one_exam_deploy_hardly_more_noise_than_one() -> None:
    counted, free = (
        np.mean(
            [
                deploy_at_least_once(np.random.default_rng([77, each]), count_tries=count_tries)
                for each in range(MARKETS)
            ],
            axis=0,
        )
        for count_tries in (True, False)
    )
    assert counted[-1] <= counted[0] + MARGIN
    assert free[-1] > free[0] + MARGIN, "as it was while tries decided nothing"
