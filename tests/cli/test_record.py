"""The command `record`: whose sessions they are, whether they count, and how to begin again."""

import json
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

from hftcl.archive.policy import hash_policy
from hftcl.archive.record import RecordedSession
from hftcl.settings import Settings
from tests.archive.sample_models import T0, a_model, archive_in, onnx_bytes
from tests.in_process import call

MONDAY = date(2026, 1, 5)
KEYS = {
    "session",
    "net",
    "model_id",
    "kind",
    "policy",
    "bars",
    "source",
    "synthetic",
    "counts",
    "why",
    "lacking_before",
}


def recorded(home: Path, later_days: int = 1) -> None:
    """Give a home two sessions of the default policy and one of another."""
    row = RecordedSession(
        session=MONDAY,
        net=0.00125,
        gross=0.002,
        turnover=7.5,
        model_id="20260105_020000",
        kind="scored",
        source="synthetic",
        synthetic=True,
        policy=hash_policy(Settings()),
        bars="AAPL:0123456789ab AMD:0123456789ab",
    )
    later = replace(row, session=MONDAY + timedelta(days=later_days), net=-0.0005)
    other = replace(row, session=MONDAY + timedelta(days=2), policy="0" * 16)
    archive_in(home).record_sessions([row, later, other], now=T0)


def test_each_session_is_a_row_that_says_whose_it_is_and_whether_it_counts(tmp_path: Path) -> None:
    recorded(tmp_path)
    shown = call(tmp_path, "record").stdout.splitlines()
    assert len(shown) == 7  # the last two say what a record and a policy are
    assert all(
        word in shown[1] for word in ("2026-01-05", "+0.125%", "20260105_020000", "SYNTHETIC", "2 tickers", "yes")
    )
    assert shown[3].endswith("no: of another policy than the one that is configured")
    assert shown[4] == "2 of 3 sessions count for the policy that is configured."
    rows = json.loads(call(tmp_path, "record", "--json").stdout)
    assert {frozenset(row) for row in rows} == {frozenset(KEYS)}
    assert [row["counts"] for row in rows] == [True, True, False]
    assert [row["lacking_before"] for row in rows] == [0, 0, 0]


def test_what_the_record_lacks_between_two_sessions_is_told(tmp_path: Path) -> None:
    recorded(tmp_path, later_days=15)
    done = call(tmp_path, "record")
    assert "The record lacks 9 sessions before 2026-01-20" in " ".join(done.stdout.split())
    rows = json.loads(call(tmp_path, "record", "--json").stdout)
    assert [row["lacking_before"] for row in rows if row["counts"]] == [0, 9]


def test_a_gap_in_the_record_is_told_by_the_history_at_the_model_that_came_after_it(tmp_path: Path) -> None:
    recorded(tmp_path, later_days=15)
    archive, models = archive_in(tmp_path), []
    for now in (T0, T0 + timedelta(days=16), T0 + timedelta(days=23)):
        model_id = archive.claim_id(now)
        model = a_model(model_id)
        model = replace(model, report={**model.report, "policy_digest": hash_policy(Settings())})
        models.append(archive.add(model, onnx_bytes(model_id), b"pkl" + model_id.encode(), now=now).model_id)
        archive.deploy(model_id, now=now, reason="better")
    for words in (("history",), ("history", "--lineage")):
        told = f"Before {models[1]} the record lacks 2026-01-06 to 2026-01-16 (9 sessions)"
        assert " ".join(call(tmp_path, *words).stdout.split()).count(told) == 1
        rows = json.loads(call(tmp_path, *words, "--json").stdout)
        gap = {"first": "2026-01-06", "last": "2026-01-16", "sessions": 9}
        assert [row["gaps"] for row in rows] == [[], [gap], []]


def test_to_begin_again_asks_for_a_reason_keeps_it_and_counts_nothing_of_before(tmp_path: Path) -> None:
    recorded(tmp_path)
    assert call(tmp_path, "record", "--begin-anew").returncode == 2
    assert call(tmp_path, "record", "--reason", "x").returncode == 2
    rows = json.loads(call(tmp_path, "record", "--begin-anew", "--reason", "stale opens", "--json").stdout)
    assert [row["counts"] for row in rows] == [False] * 3
    assert {row["why"] for row in rows} == {"before the record began over (stale opens)"}


def test_an_empty_home_has_no_record_and_gets_no_file(tmp_path: Path) -> None:
    assert call(tmp_path, "record").stdout == "No session is recorded yet. The first retrain begins the record.\n"
    assert list(tmp_path.iterdir()) == []
