"""To look at sessions is to try: how tries are kept, counted by the sessions in common, and told as luck."""

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from hftcl.archive.looks import Look, read_looks
from hftcl.exam.metrics import compute_best_luck, sharpe
from hftcl.learning.trials import compute_luck
from tests.archive.sample_models import T0, archive_in

DAYS = tuple(date(2026, 1, 5) + timedelta(days=n) for n in range(20))
NET = np.random.default_rng(3).normal(0.001, 0.01, len(DAYS))


def look(policy: str, positions: str, sharpe_ratio: float, days: tuple[date, ...] = DAYS) -> Look:
    return Look(policy=policy, positions=positions, sharpe=sharpe_ratio, sessions=days)


def test_the_same_positions_are_one_look_and_each_kind_of_bars_has_its_own(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    for _ in range(2):
        archive.record_look(look("ours", "a", 1.0), synthetic=True, now=T0)
    archive.record_look(look("ours", "a", 1.0), synthetic=False, now=T0)
    archive.record_look(look("ours", "b", 2.0, DAYS[:5]), synthetic=True, now=T0)
    archive.record_look(look("ours", "b", 3.0, DAYS[4:9]), synthetic=True, now=T0)
    assert read_looks(archive, synthetic=True) == (look("ours", "a", 1.0), look("ours", "b", 3.0, DAYS[:9]))
    assert read_looks(archive, synthetic=False) == (look("ours", "a", 1.0),)


def test_each_other_policy_on_these_sessions_is_one_try_however_often_it_looked(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    assert compute_luck(archive, NET, DAYS, policy="ours", synthetic=True, sessions_per_year=252) == 0.0
    tries = [
        look("ours", "a", 9.0),  # our own
        look("", "b", 9.0),  # of an earlier hftcl, which did not say
        look("other", "c", -2.0, DAYS[:10]),
        look("other", "d", 1.0),  # shares more than its first one
        look("third", "e", 4.0, DAYS[5:]),
        look("elsewhere", "f", 9.0, (date(2025, 1, 2),)),
    ]
    for one in tries:
        archive.record_look(one, synthetic=True, now=T0)
    expected = compute_best_luck([sharpe(NET), 1.0, 4.0], [1.0, 1.0, 0.75])
    assert expected > 0
    assert compute_luck(archive, NET, DAYS, policy="ours", synthetic=True, sessions_per_year=252) == pytest.approx(
        expected
    )
