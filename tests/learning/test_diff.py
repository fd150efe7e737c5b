"""Two models side by side: the exam on the sessions of both, and each thing in which they differ."""

import json
from dataclasses import fields
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from hftcl.archive.artifact import ModelMeta
from hftcl.archive.registry import Registry
from hftcl.archive.schema import open_to_change
from hftcl.errors import IntegrityError, UsageError
from hftcl.exam.metrics import sharpe, sharpe_difference
from hftcl.learning.stories.diff import _CHOSEN, _LEFT_OUT, _SETTINGS, diff
from hftcl.model.features import FEATURE_NAMES
from hftcl.model.novelty import Novelty
from tests.trading.bot_stand import TRAINED, archived

NETS = [0.004, -0.002, 0.003, 0.001, -0.001, 0.002, 0.0005, -0.003]


def score(begin: int, shift: float) -> dict[str, object]:
    days = {f"2026-01-{begin + n:02}": net + shift * (-1) ** n for n, net in enumerate(NETS)}
    return {"edge": "live", "policy_digest": "p", "challenger": {"pnl_by_session": days}}


def test_two_models_are_compared_on_the_sessions_of_both_exams_and_by_what_they_are(tmp_path: Path) -> None:
    one = archived(tmp_path, report=score(5, 0.0), params={"alpha": 3.0}, horizon_minutes=30)
    other = archived(
        tmp_path, TRAINED + timedelta(hours=1), report=score(7, 0.001), params={"alpha": 9.0}, horizon_minutes=60
    )
    report = diff(tmp_path, one, other)
    x, y = np.array(NETS[2:]), np.array(NETS[:-2]) + 0.001 * (-1.0) ** np.arange(6)
    shared = report.shared
    assert shared is not None
    assert (shared.sessions, shared.from_, shared.to) == (6, "2026-01-07", "2026-01-12")
    assert shared.sharpe_a == pytest.approx(sharpe(x, sessions_per_year=252))
    assert shared.sharpe_b == pytest.approx(sharpe(y, sessions_per_year=252))
    expected = sharpe_difference(x, y, sessions_per_year=252)
    assert (shared.difference, shared.p_better) == pytest.approx((expected.difference, expected.p_better))
    told = {(item.kind, item.what): (item.a, item.b) for item in report.differences}
    assert told["parameter", "alpha"] == (3.0, 9.0)
    assert told["setting", "horizon_minutes"] == (30, 60)
    assert ("setting", "family") not in told


def test_exams_without_a_session_in_common_are_not_compared(tmp_path: Path) -> None:
    one = archived(tmp_path, report=score(5, 0.0))
    other = archived(tmp_path, TRAINED + timedelta(hours=1), report=score(15, 0.0))
    assert diff(tmp_path, one, other).shared is None
    with pytest.raises(UsageError, match="Both are the model"):
        diff(tmp_path, one, one)


@pytest.mark.parametrize("net", ["0.004", True, None, [0.004]])
def test_a_damaged_report_is_told_as_one_that_cannot_be_read_and_not_compared(tmp_path: Path, net: object) -> None:
    one = archived(tmp_path, report=score(5, 0.0))
    other = archived(tmp_path, TRAINED + timedelta(hours=1), report=score(5, 0.0))
    damaged = score(5, 0.0) | {"model_id": other, "challenger": {"pnl_by_session": {"2026-01-07": net}}}
    with open_to_change(Registry(tmp_path).database) as db:
        db.execute("UPDATE models SET report = ? WHERE model_id = ?", (json.dumps(damaged), other))
    for a, b in ((one, other), (other, one)):
        with pytest.raises(IntegrityError, match=r"holds of model 2.* cannot be read: .*from a backup"):
            diff(tmp_path, a, b)


def test_models_that_differ_in_what_was_chosen_inside_the_training_are_not_told_as_equal(tmp_path: Path) -> None:
    width = len(FEATURE_NAMES)
    far = Novelty(quantile=0.99, limit=9.0, mean=(0.0,) * width, deviation=(1.0,) * width)
    one, other = archived(tmp_path), archived(tmp_path, TRAINED + timedelta(hours=1), novelty=far)
    told = {(item.kind, item.what): (item.a, item.b) for item in diff(tmp_path, one, other).differences}
    assert told["setting", "novelty"] == (0.0, 0.99)


def test_every_field_of_a_model_file_is_compared_or_named_as_left_out() -> None:
    named = [*_SETTINGS, *_CHOSEN, *_LEFT_OUT]
    named.remove("weighting")  # which a file tells by whether it has a volatility
    assert sorted(named) == sorted(field.name for field in fields(ModelMeta))
