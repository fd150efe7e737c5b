"""The table of the record: each session once, all or none, synthetic and real apart."""

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from hftcl import durable
from hftcl.archive.record import RecordedSession, read_sessions
from hftcl.archive.registry import Registry
from hftcl.errors import HftclError
from tests.archive.sample_models import T0, a_model, added, archive_in, deployed

MONDAY = date(2026, 1, 5)
POLICY = "0123456789abcdef"


def sessions(count: int, *, first: int = 0, net: float = 0.001, synthetic: bool = False) -> list[RecordedSession]:
    return [
        RecordedSession(
            session=MONDAY + timedelta(days=n),
            net=net + n / 1e5,
            gross=net + n / 1e5 + 0.0001,
            turnover=1.0,
            model_id="20260105_020000",
            kind="scored",
            source="synthetic" if synthetic else "files",
            synthetic=synthetic,
            policy=POLICY,
            bars="AMD:0123456789ab",
        )
        for n in range(first, first + count)
    ]


def test_what_was_recorded_is_read_again_oldest_first(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    archive.record_sessions(reversed(sessions(5)), now=T0)
    assert read_sessions(Registry(tmp_path), synthetic=False, policy=POLICY) == tuple(sessions(5))


def test_a_home_without_a_registry_has_no_record_and_gets_no_file(tmp_path: Path) -> None:
    assert read_sessions(Registry(tmp_path), synthetic=False, policy=POLICY) == ()
    assert list(tmp_path.iterdir()) == []


def test_a_session_counts_once_and_the_first_word_stands(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    archive.record_sessions(sessions(3), now=T0)
    archive.record_sessions(sessions(4, first=2, net=9.0), now=T0)
    found = read_sessions(archive, synthetic=False, policy=POLICY)
    assert [each.session for each in found] == [MONDAY + timedelta(days=n) for n in range(6)]
    assert list(found[:3]) == sessions(3)


def test_the_record_of_the_synthetic_market_is_not_that_of_real_bars(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    archive.record_sessions(sessions(3) + sessions(4, synthetic=True), now=T0)
    assert len(read_sessions(archive, synthetic=False, policy=POLICY)) == 3
    assert len(read_sessions(archive, synthetic=True, policy=POLICY)) == 4


def test_one_session_that_cannot_be_written_leaves_none_of_them(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    archive.record_sessions(sessions(2), now=T0)
    faulty = [*sessions(3, first=2), replace(sessions(1, first=5)[0], net=float("nan"))]
    with pytest.raises(HftclError):
        archive.record_sessions(faulty, now=T0)
    assert list(read_sessions(archive, synthetic=False, policy=POLICY)) == sessions(2)


@pytest.mark.parametrize("fault", ["the file", "the joblib file", "a session"])
def test_of_a_model_that_cannot_be_archived_its_record_is_not_there_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    archive, end = archive_in(tmp_path), {"the file": ".onnx", "the joblib file": ".pkl"}.get(fault, "-")
    archive.record_sessions(sessions(2), now=T0)
    write = durable.write_atomically
    monkeypatch.setattr(
        durable, "write_atomically", lambda path, data: write(path, b"x" + data[1:] if path.suffix == end else data)
    )
    rows = [replace(row, net=float("nan") if fault == "a session" else row.net) for row in sessions(2, first=2)]
    with pytest.raises(HftclError, match="NaN|NULL" if fault == "a session" else "not come to hold what was .*dmesg"):
        added(archive, sessions=rows)
    assert archive.list_models() == ()
    assert list(read_sessions(archive, synthetic=False, policy=POLICY)) == sessions(2)
    assert [path.name for path in archive.folder.iterdir() if path.name.startswith((".model", "model_2"))] == []


def test_what_a_verdict_changes_in_the_record_is_written_with_its_model(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    archive.record_sessions(sessions(3), now=T0)
    model_id = archive.claim_id(T0)
    again = replace(sessions(1)[0], net=-0.5, bars="AMD:ba9876543210")
    archive.add(a_model(model_id), b"onnx", b"pkl", now=T0, sessions=[again], dropped=sessions(2))
    assert read_sessions(archive, synthetic=False, policy=POLICY) == (again, *sessions(1, first=2))


def test_the_record_stands_beside_models_and_neither_touches_the_other(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    archive.record_sessions(sessions(2), now=T0)
    ids = deployed(archive, 2)
    archive.record_sessions(sessions(2, first=2), now=T0)
    assert [model.model_id for model in archive.list_models()] == ids[::-1]
    assert len(read_sessions(archive, synthetic=False, policy=POLICY)) == 4


def test_a_session_that_was_scored_again_on_other_bars_replaces_what_it_was(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    archive.record_sessions(sessions(3), now=T0)
    again = replace(sessions(1)[0], net=-0.5, bars="AMD:ba9876543210")
    archive.record_sessions([again], now=T0, dropped=sessions(2))
    assert read_sessions(archive, synthetic=False, policy=POLICY) == (again, *sessions(1, first=2))


def test_two_policies_have_two_records(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    archive.record_sessions([*sessions(3), *(replace(row, policy="other") for row in sessions(2))], now=T0)
    assert len(read_sessions(archive, synthetic=False, policy=POLICY)) == 3
    assert len(read_sessions(archive, synthetic=False, policy="other")) == 2
