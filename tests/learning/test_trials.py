"""To look at sessions is to try: how tries are kept, counted by the sessions in common, and told as luck."""

import math
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from hftcl.archive.looks import Look, read_looks
from hftcl.archive.record import Kind, RecordedSession
from hftcl.exam.metrics import compute_best_luck, sharpe
from hftcl.learning.record import Record
from hftcl.learning.record_edge import compute_record_luck
from hftcl.learning.trials import compute_luck
from tests.archive.sample_models import T0, added, archive_in

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
    expected = compute_best_luck([sharpe(NET), 1.0, 4.0 * math.sqrt(15 / 20)], [1.0, 1.0, 0.75])
    assert expected > 0
    assert compute_luck(archive, NET, DAYS, policy="ours", synthetic=True, sessions_per_year=252) == pytest.approx(
        expected
    )


def test_a_look_at_a_few_sessions_of_a_try_leaves_the_figure_of_its_exam(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    archive.record_look(look("other", "a", 1.99), synthetic=True, now=T0)
    before = compute_luck(archive, NET, DAYS, policy="ours", synthetic=True, sessions_per_year=252)
    archive.record_look(look("other", "a", -72.89, DAYS[-2:]), synthetic=True, now=T0 + timedelta(hours=1))
    assert read_looks(archive, synthetic=True) == (look("other", "a", 1.99),)
    assert compute_luck(archive, NET, DAYS, policy="ours", synthetic=True, sessions_per_year=252) == before


def test_a_look_at_more_sessions_than_a_model_s_own_exam_had_is_its_figure(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    added(archive, T0)
    (own,) = read_looks(archive, synthetic=True)
    longer = (*own.sessions, date(2026, 2, 2), date(2026, 2, 3))
    for days, ratio in ((longer, 0.5), (longer[1:], -72.89)):
        one = look(own.policy, own.positions, ratio, days)
        archive.record_look(one, synthetic=True, now=T0 + timedelta(hours=1))
    assert read_looks(archive, synthetic=True) == (look(own.policy, own.positions, 0.5, longer),)


def test_a_look_after_the_record_had_begun_cannot_have_chosen_the_policy(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    begun = T0 + timedelta(days=1)
    archive.record_look(look("other", "a", 3.0), synthetic=True, now=T0)
    archive.record_look(look("other", "a", 5.0, (date(2026, 2, 2),)), synthetic=True, now=begun + timedelta(hours=1))
    archive.record_look(look("at once", "b", -3.0), synthetic=True, now=begun)
    for number in range(60):
        one = look(f"trial {number}", f"t{number}", number / 10)
        archive.record_look(one, synthetic=True, now=begun + timedelta(seconds=1))

    def luck(until: datetime | None) -> float:
        return compute_luck(
            archive, NET, DAYS, policy="ours", synthetic=True, sessions_per_year=252, until=until
        )  # 5.0 of the first was shown on another day

    assert luck(begun) == pytest.approx(compute_best_luck([sharpe(NET), 3.0, -3.0]))
    assert luck(None) != pytest.approx(luck(begun))


def recorded(model_id: str, kind: Kind) -> tuple[RecordedSession, ...]:
    return tuple(
        RecordedSession(
            session=day,
            net=float(net),
            gross=float(net),
            turnover=0.0,
            model_id=model_id,
            kind=kind,
            source="synthetic",
            synthetic=True,
            policy="ours",
        )
        for day, net in zip(DAYS, NET, strict=True)
    )


def test_the_luck_of_a_record_is_that_of_the_looks_before_its_walk_forward_was_written(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    archive.record_look(look("early", "a", 3.0), synthetic=True, now=T0)
    begun = added(archive, T0 + timedelta(days=1))
    archive.record_look(look("late", "b", -3.0), synthetic=True, now=T0 + timedelta(days=2))

    def luck(record: Record) -> float:
        return compute_record_luck(record, archive, "ours", synthetic=True, sessions_per_year=252)

    rows = recorded(begun.model_id, "walk-forward")
    of_both, of_early = compute_best_luck([sharpe(NET), 3.0, -3.0]), compute_best_luck([sharpe(NET), 3.0])
    own = Record(recorded_sessions=rows, added=(), cost_bps=0.0)
    assert luck(own) == pytest.approx(of_early)
    beginning = Record(recorded_sessions=(), added=rows, cost_bps=0.0)
    assert luck(beginning) == pytest.approx(of_both), "it begins now: each of them could have chosen it"
    unknown = Record(recorded_sessions=recorded("20200101_000000", "walk-forward"), added=(), cost_bps=0.0)
    assert luck(unknown) == pytest.approx(of_both), "nothing says when it began"
    assert luck(Record(recorded_sessions=recorded(begun.model_id, "scored"), added=(), cost_bps=0.0)) == 0.0
