"""What lets the bot trade at this moment: the newest verdict on such bars, as long as what it stood on is as it was."""

import math
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from hftcl.archive.deployment import ModelArchive
from hftcl.archive.fitness import MarketKind, describe_untrained, is_about, require_same_kind
from hftcl.archive.looks import Look, read_looks
from hftcl.archive.record import (
    RecordedSession,
    find_edge_in_force,
    hash_record,
    read_all,
    read_beginning,
    read_sessions,
)
from hftcl.archive.records import Judgement, ModelRecord, list_ids
from hftcl.archive.registry import Registry
from hftcl.errors import IntegrityError, UnfitModelError, UsageError
from tests.archive.sample_models import T0, a_model, archive_in, onnx_bytes
from tests.archive.test_record import POLICY, sessions

DAY = timedelta(days=1)
OURS: dict[str, Any] = {"edge": "live", "edge_reason": "the record holds", "policy_digest": POLICY}
EXAM = {"sharpe": 1.5, "pnl_by_session": {"2026-01-05": 0.1, "2026-01-06": 0.2}, "positions_sha256": "aa"}


def judged(archive: ModelArchive, days: int = 0, *, synthetic: bool = False, **report: Any) -> ModelRecord:
    """Add a model of `days` after T0 whose retrain reported this."""
    now = T0 + days * DAY
    model_id = archive.claim_id(now)
    model = replace(a_model(model_id), synthetic=synthetic, report={"model_id": model_id, **report})
    return archive.add(model, onnx_bytes(model_id), b"pkl" + model_id.encode(), now=now)


def in_force(home: Path, *, synthetic: bool = False, policy: str = POLICY, **how: Any) -> tuple[str | None, str]:
    found = find_edge_in_force(Registry(home), synthetic=synthetic, policy=policy, **how)
    return found.edge, found.reason


def stood_on(record: list[RecordedSession]) -> dict[str, Any]:
    return {"record_digest": hash_record(record), "record_to": record[-1].session.isoformat()}


def test_before_any_verdict_on_bars_of_its_kind_the_bot_stands_aside(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    assert in_force(tmp_path) == ("stand aside", "no retrain has judged the record on real bars yet")
    judged(archive, synthetic=True, **OURS)
    assert in_force(tmp_path) == ("stand aside", "no retrain has judged the record on real bars yet")
    assert in_force(tmp_path, synthetic=True) == ("live", "the record holds")
    assert in_force(archive_in(tmp_path / "b").home, synthetic=True)[1].endswith("on synthetic bars yet")


def test_the_verdict_that_fell_last_decides_although_an_earlier_one_was_better(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    judged(archive, **OURS)
    worse = judged(archive, 1, **(OURS | {"edge": "stand aside", "edge_reason": "P(edge) 0.31, needs 0.80"}))
    assert in_force(tmp_path) == ("stand aside", "P(edge) 0.31, needs 0.80")
    assert in_force(tmp_path, known_until=worse.trained_at - DAY) == ("live", "the record holds")
    assert in_force(tmp_path, known_until=worse.trained_at)[0] == "stand aside"
    silent = judged(archive, 2)
    assert in_force(tmp_path) == (
        "stand aside",
        f"the newest verdict, of model {silent.model_id}, says nothing of the record",
    )


def test_a_verdict_counts_from_the_moment_up_to_which_bars_were_known_and_not_from_its_training(tmp_path: Path) -> None:
    record = judged(archive_in(tmp_path), 3, as_of=(T0 - DAY).isoformat(), **OURS)
    assert record.known_until == T0 - DAY
    assert in_force(tmp_path, known_until=T0)[0] == "live"
    assert in_force(tmp_path, known_until=T0 - 2 * DAY)[1].startswith("no retrain has judged")


def test_a_verdict_about_another_policy_lets_nothing_trade(tmp_path: Path) -> None:
    record = judged(archive_in(tmp_path), **OURS)
    edge, why = in_force(tmp_path, policy="another")
    assert edge == "stand aside"
    assert why.startswith(
        f"the newest verdict, of model {record.model_id}, was about another policy than the one that "
    )


def test_bars_that_were_corrected_since_the_verdict_take_its_ground_away_and_new_sessions_do_not(
    tmp_path: Path,
) -> None:
    archive, record = archive_in(tmp_path), sessions(3)
    archive.record_sessions(record, now=T0)
    model = judged(archive, **OURS, **stood_on(record))
    assert in_force(tmp_path)[0] == "live"
    archive.record_sessions(sessions(1, first=3), now=T0)
    assert in_force(tmp_path)[0] == "live", "a session after the verdict"
    corrected = [*record[:2], replace(record[2], bars="AMD:ffffffffffff")]
    why = f"bars of recorded sessions were corrected since the verdict of model {model.model_id}"
    assert in_force(tmp_path, sessions=corrected) == ("stand aside", why), "asked before it is written"
    assert in_force(tmp_path, sessions=record[:2])[0] == "stand aside", "one is gone"
    archive.record_sessions(corrected[2:], now=T0)
    assert in_force(tmp_path) == ("stand aside", why)


def test_a_record_that_began_over_needs_a_verdict_of_its_own(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    judged(archive, **OURS)
    archive.begin_record_over(synthetic=False, reason="a new broker", now=T0 + DAY)
    assert in_force(tmp_path) == ("stand aside", "the record began over at 2026-01-06 02:00 UTC: a new broker")
    judged(archive, 2, synthetic=True, **OURS)
    assert in_force(tmp_path, synthetic=True)[0] == "live", "that of the other kind of bars goes on"
    assert in_force(tmp_path)[0] == "stand aside", "a model of synthetic bars is no verdict on real ones"
    judged(archive, 3, **OURS)
    assert in_force(tmp_path) == ("live", "the record holds")


def test_to_begin_the_record_over_asks_for_a_reason_and_keeps_what_was_earned_to_be_read(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    archive.record_sessions(sessions(2) + sessions(2, synthetic=True), now=T0)
    with pytest.raises(UsageError, match="--reason TEXT"):
        archive.begin_record_over(synthetic=False, reason=" \n", now=T0)
    assert read_beginning(archive, synthetic=False) is None
    archive.begin_record_over(synthetic=False, reason="a new broker", now=T0)
    archive.record_sessions(sessions(1, first=5), now=T0)
    assert read_sessions(archive, synthetic=False, policy=POLICY) == tuple(sessions(1, first=5))
    assert [current for _, current in read_all(archive, synthetic=False)] == [False, False, True]
    assert len(read_sessions(archive, synthetic=True, policy=POLICY)) == 2
    beginning = read_beginning(archive, synthetic=False)
    assert beginning is not None
    assert (beginning.reason, beginning.after_model, beginning.at) == ("a new broker", 0, T0)
    assert read_beginning(archive, synthetic=True) is None


def test_the_digest_of_a_record_is_of_its_sessions_and_their_bars_in_any_order() -> None:
    record = sessions(3)
    assert hash_record(record) == hash_record(record[::-1])
    assert hash_record(record) == hash_record([replace(each, net=9.0) for each in record]), (
        "the same bars, scored again"
    )
    others = {
        hash_record(changed)
        for changed in (
            record[:2],
            [*record[:2], replace(record[2], bars="x")],
            [],
            [replace(record[0], session=date(2027, 1, 1)), *record[1:]],
        )
    }
    assert len(others | {hash_record(record)}) == 5


def look(positions: str, *days: int, sharpe: float = 0.5) -> Look:
    return Look(policy="p", positions=positions, sharpe=sharpe, sessions=tuple(date(2026, 1, day) for day in days))


def test_each_candidate_is_one_trial_with_every_session_that_it_was_examined_on(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    judged(archive, challenger=EXAM, policy_digest="q")
    judged(archive, 1, challenger=EXAM | {"positions_sha256": None})
    judged(archive, 2, challenger={"sharpe": None, "pnl_by_session": {"2026-01-05": 0.0}})
    judged(archive, 3, challenger={"sharpe": 1.0, "pnl_by_session": {}})
    judged(archive, 4, synthetic=True, challenger=EXAM)
    archive.record_looks([look("aa", 7, 6, sharpe=0.9), look("cc", 9)], synthetic=False, now=T0 + 9 * DAY)
    looks = {one.positions: one for one in read_looks(archive, synthetic=False)}
    assert set(looks) == {"aa", "20260106_020000", "cc"}, "without a figure, or without sessions, there was no exam"
    assert looks["aa"] == look("aa", 5, 6, 7, sharpe=0.9), "of one candidate the newest figure"
    assert (looks["20260106_020000"].sharpe, looks["20260106_020000"].policy) == (1.5, "")
    early = {one.positions: one for one in read_looks(archive, synthetic=False, until=T0)}
    assert set(early) == {"aa"}
    assert early["aa"] == replace(look("aa", 5, 6, sharpe=1.5), policy="q")
    assert [one.positions for one in read_looks(archive, synthetic=True)] == ["aa"]


def test_the_same_candidate_on_the_same_sessions_is_noted_once(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    for _ in range(2):
        archive.record_look(look("aa", 5), synthetic=False, now=T0)
    archive.record_look(look("aa", 6), synthetic=False, now=T0)
    archive.record_look(look("aa", 5), synthetic=True, now=T0)
    with closing(sqlite3.connect(Registry(tmp_path).database)) as database:
        assert database.execute("SELECT count(*) FROM looks").fetchone() == (3,), "reading would merge what is equal"
    assert read_looks(archive, synthetic=False) == (look("aa", 5, 6),)
    assert read_looks(archive, synthetic=True) == (look("aa", 5),)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (MarketKind(calendar="XNYS", synthetic=False, extended_hours=False), True),
        (MarketKind(calendar="XNYS", synthetic=False), True),
        (MarketKind(calendar="XNYS", synthetic=True, extended_hours=False), False),
        (MarketKind(calendar="24/7", synthetic=False, extended_hours=False), False),
        (MarketKind(calendar="XNYS", synthetic=False, extended_hours=True), False),
    ],
)
def test_what_was_judged_of_a_model_was_judged_of_its_own_market(tmp_path: Path, asked: MarketKind, told: bool) -> None:
    archive = archive_in(tmp_path)
    record = judged(archive, calendar="XNYS", extended_hours=False)
    assert is_about(archive, record, asked) is told
    unknown = judged(archive, 1)
    assert is_about(archive, unknown, asked) is not asked.synthetic, "of a file that cannot be read the kind is known"


def test_tickers_without_a_training_are_named_with_what_to_do_the_first_ten_of_many() -> None:
    assert describe_untrained("m", ["AAPL", "V"], ["V"]) is None
    assert describe_untrained("m", ["AAPL"], ["V", "AAPL", "AMD"]) == (
        "Model m was trained without AMD, V: what it says of them is untried. `hftcl retrain --force` trains on them."
    )
    one = describe_untrained("m", ["AAPL"], ["V"], per_ticker=True)
    assert one == (
        "Model m holds no model of V: nothing is opened in it. `hftcl retrain --force` trains on it, where there are "
        "bars enough."
    )
    many = [f"T{n:02}" for n in range(12)]
    assert "without T00, T01, T02, T03, T04, T05, T06, T07, T08, T09 and 2 more:" in (
        describe_untrained("m", [], many) or ""
    )
    assert "T09:" in (describe_untrained("m", [], many[:10]) or "")


@pytest.mark.parametrize("synthetic", [True, False])
def test_a_model_of_the_other_kind_of_bars_is_refused_with_the_way_out_of_each(synthetic: bool) -> None:
    require_same_kind("m", trained_synthetic=synthetic, synthetic=synthetic)
    way = "give these a [paths] home of their own" if synthetic else "`hftcl retrain` on these"
    with pytest.raises(UnfitModelError) as caught:
        require_same_kind("m", trained_synthetic=not synthetic, synthetic=synthetic)
    trained, here = ("real", "synthetic") if synthetic else ("synthetic", "real")
    text = str(caught.value)
    assert text.startswith(f"Model m was trained on {trained} bars, and these are {here} ones")
    assert text.endswith(f"Set [market] source to one of {trained} bars, or {way}.")


@pytest.mark.parametrize(
    "report",
    [
        {"edge": 3},
        {"p_better": "0.5"},
        {"as_of": "yesterday"},
        {"challenger": {"sharpe_interval": [1.0]}},
        {"challenger": {"sharpe": True}},
        {"challenger": {"sharpe": math.nan}},
        {"challenger": {"sharpe": 10**400}},
        {"challenger": {"sharpe_interval": ["0.5", 1.0]}},
        {"challenger": {"pnl_by_session": {"2026-01-05": "0.004"}}},
        {"challenger": {"pnl_by_session": {"2026-01-05": True}}},
        {"challenger": {"pnl_by_session": {"2026-01-05": math.nan}}},
        {"challenger": {"pnl_by_session": {"2026-01-05": None}}},
        {"challenger": {"pnl_by_session": {"2026-01-05": []}}},
        {"challenger": {"pnl_by_session": [0.1]}},
        {"features": [3]},
        {"max_rows": "100"},
        {"max_rows": True},
        {"selection": {"dropped": [{"name": "x", "importance": "0.1"}]}},
        {"evidence": [{}]},
        {"selection": {"dropped": [{"name": "x"}]}},
        {"challenger": "x"},
    ],
)
def test_a_stored_report_that_cannot_be_one_is_named_and_not_guessed_at(report: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError, match=r"holds of model 20260105_020000 cannot be read: .*from a backup"):
        Judgement.from_report({"model_id": "20260105_020000", **report})


@pytest.mark.parametrize("report", [[], "x", None])
def test_a_model_whose_stored_report_is_no_table_is_damage_that_names_it(tmp_path: Path, report: Any) -> None:
    archive = archive_in(tmp_path)
    model_id = archive.claim_id(T0)
    with pytest.raises(IntegrityError, match=rf"the report in the row models {model_id} is no table.*backup"):
        archive.add(replace(a_model(model_id), report=report), onnx_bytes(model_id), b"pkl", now=T0)
    with pytest.raises(IntegrityError, match=f"models {model_id} is no table"):
        archive.list_models()


def test_a_report_of_an_earlier_hftcl_says_nothing_of_what_it_did_not_know() -> None:
    bare = Judgement.from_report({})
    assert (bare.edge, bare.calendar, bare.extended_hours, bare.exam_sessions, bare.conceded) == (
        None,
        None,
        None,
        None,
        False,
    )
    told = Judgement.from_report(
        {
            "extended_hours": 0,
            "p_better": 1,
            "challenger": EXAM | {"sharpe_interval": [-1, 2]},
            "evidence": [{"name": "plausibility"}],
            "selection": {"dropped": [{"name": "vol_30", "importance": 1}]},
        }
    )
    assert (told.extended_hours, told.p_better, told.exam_sessions, told.sharpe_interval) == (
        False,
        1.0,
        2,
        (-1.0, 2.0),
    )
    assert (told.doubted, bare.doubted, told.dropped) == (True, False, {"vol_30": 1.0})


def test_of_many_models_the_newest_three_are_listed_newest_first() -> None:
    assert list_ids(["a", "b", "c", "d"]) == "d, c, b"
    assert list_ids([]) == "none yet"
