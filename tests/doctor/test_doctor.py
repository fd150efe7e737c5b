"""`hftcl doctor`: what is sound is ok, each thing that is broken on purpose is told by its own row, and repaired."""

import contextlib
import errno
import hashlib
import json
import os
import pwd
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hftcl import durable, pages
from hftcl.alerts import Alert, Alerts, Kind
from hftcl.archive import artifact
from hftcl.archive.deployment import ModelArchive
from hftcl.archive.looks import read_looks
from hftcl.archive.record import RecordedSession
from hftcl.archive.records import NewModel, read_trained_at
from hftcl.archive.registry import Registry, compute_digest
from hftcl.archive.schema import open_to_change
from hftcl.doctor import Row, archive, bot, examine, machine, market, outside, prometheus, repairs, stopped, units
from hftcl.doctor.archive import check_edge
from hftcl.doctor.cluster import check_compute
from hftcl.doctor.examination import CHECKS, NOT_QUIET
from hftcl.doctor.row import Context, CoverageRow
from hftcl.errors import IntegrityError, SourceError, StorageError
from hftcl.exam.slices import Slice
from hftcl.home import Home
from hftcl.learning.record import Record
from hftcl.learning.record_edge import compute_record_luck
from hftcl.ledger.writer import Ledger
from hftcl.market.sessions import Calendar
from hftcl.schedule.claims import Occurrences
from hftcl.trading.run.wiring import hold_lock
from tests.alpaca_data_server import AlpacaDataServer
from tests.archive.test_damage import damage_index
from tests.config.configured import loaded
from tests.in_process import call
from tests.ledger.ledger_cases import write_ledger
from tests.loop_cases import deploy_once
from tests.polygon_server import PolygonServer, says, too_many
from tests.trained import Homes

TOML = """\
[market]
watchlist = ["AAPL", "AMD"]
lookback_days = 46

[model]
n_estimators = 8

[promote]
min_sharpe = -100
"""
NOW = datetime(2025, 12, 16, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def trained(homes: Homes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("trained") / "home"
    homes.copy(home, deploy_once)
    (home / "hftcl.toml").write_text(TOML)
    return home


@pytest.fixture
def home(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "home"))


def patient(folder: Path, text: str | None = None, *, now: datetime = NOW, **environ: str) -> Context:
    return Context(configuration=loaded(folder, text), environ=environ, now=now)


def row(rows: tuple[Row, ...], name: str) -> Row:
    (found,) = (each for each in rows if each.name == name)
    return found


def without_hash(name: str) -> str:
    """Return the name of a channel without the part that tells addresses apart."""
    return re.sub(r"apprise [0-9a-f]{8} ", "apprise ", name)


def statuses(rows: tuple[Row, ...]) -> dict[str, str]:
    return {each.name: each.status for each in rows}


def test_a_sound_installation_is_ok_in_every_row(home: Path) -> None:
    rows = examine(patient(home))
    assert set(statuses(rows).values()) == {"ok"}, rows
    assert set(statuses(rows)) == {name for name, _ in CHECKS} | {"coverage"}
    assert "SYNTHETIC" in row(rows, "bars").detail


def test_no_ok_stands_beside_a_bot_that_may_not_trade_unless_no_real_money_is_set(tmp_path: Path) -> None:
    (shut,) = check_edge(patient(tmp_path))
    assert shut.status == "ok"
    assert shut.detail.startswith("MAY NOT TRADE: no retrain has judged the record")
    assert shut.detail.endswith(". The bot trades with paper money only: [trade] live is not set.")
    (set_to_trade,) = check_edge(patient(tmp_path, "[trade]\nlive = true\n"))
    assert set_to_trade.status == "warning"
    assert "paper money" not in set_to_trade.detail


def test_a_number_of_cores_that_is_none_is_a_fault_of_where_trainings_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "two")
    (found,) = check_compute(patient(tmp_path))
    assert (found.status, found.remedy) == ("fault", "Set it to one, or unset it.")
    assert "LOKY_MAX_CPU_COUNT in the environment is 'two'" in found.detail


def test_models_of_the_users_own_are_named_before_the_first_deployment_takes_their_place(tmp_path: Path) -> None:
    for name in ("trained_stock_model.onnx", "trained_stock_model.pkl"):
        (tmp_path / name).write_bytes(b"mine")
    rows = examine(patient(tmp_path))
    for name, file in (("production", "trained_stock_model.onnx"), ("production pkl", "trained_stock_model.pkl")):
        assert row(rows, name).status == "warning"
        assert f"{file}.before" in row(rows, name).remedy


def test_an_empty_folder_is_no_fault_and_stays_empty(tmp_path: Path) -> None:
    rows = examine(patient(tmp_path))
    assert {name for name, status in statuses(rows).items() if status != "ok"} == {"production"}
    assert "hftcl retrain --force" in row(rows, "production").remedy
    assert list(tmp_path.iterdir()) == []


def test_as_json_it_is_a_list_of_rows_and_a_fault_is_status_one(home: Path) -> None:
    sound = call(home, "doctor", "--json")
    rows = json.loads(sound.stdout)
    extra = {each["name"]: set(each) - {"name", "status", "detail", "remedy"} for each in rows}
    assert {name: fields for name, fields in extra.items() if fields} == {"coverage": {"coverage"}}
    (covered,) = (each for each in rows if each["name"] == "coverage")
    assert {item["ticker"] for item in covered["coverage"]} == {"AAPL", "AMD"}
    assert all(item["received"] + item["missing"] == item["expected"] > 0 for item in covered["coverage"])
    assert (sound.returncode, {each["status"] for each in rows} <= {"ok", "warning"}) == (0, True)
    (home / "trained_stock_model.onnx").unlink()
    broken = call(home, "doctor", "--json")
    assert broken.returncode == 1
    found = [each for each in json.loads(broken.stdout) if each["status"] == "fault"]
    assert [each["name"] for each in found] == ["production"]
    assert "--repair" in found[0]["remedy"]


def test_a_configuration_that_is_invalid_is_told_fault_by_fault(tmp_path: Path) -> None:
    (tmp_path / "hftcl.toml").write_text("[model]\nmax_depth = 7.9\nn_tree = 3\n")
    done = call(tmp_path, "doctor", "--json")
    rows = json.loads(done.stdout)
    assert done.returncode == 1
    assert [(each["name"], each["status"]) for each in rows] == [("configuration", "fault")] * 2


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def test_what_can_be_mended_safely_is_mended_and_everything_is_ok_again(home: Path) -> None:
    bars = sorted((home / "bars").rglob("*.parquet"))
    untouched = bars[1].read_bytes()
    flip(bars[0])
    (home / "trained_stock_model.onnx").write_bytes(b"garbage")
    (home / "models" / "model_metadata.csv").write_text("edited")
    (home / "trained_stock_model.pkl").unlink()
    left = home / "models" / ".model_metadata.csv.x.tmp"
    left.write_text("of a killed process")
    broken = examine(patient(home))
    assert {name: status for name, status in statuses(broken).items() if status != "ok"} == {
        "bars AAPL": "fault",
        "production": "fault",
        "archive csv": "warning",
    }
    done = call(home, "doctor", "--repair", "--json")
    mended = [each for each in json.loads(done.stdout) if each["name"].startswith("repair")]
    assert {each["status"] for each in mended} == {"ok"}
    assert len(mended) == 4, mended
    assert set(statuses(examine(patient(home))).values()) == {"ok"}
    assert bars[1].read_bytes() == untouched
    assert not left.exists()


def test_an_archived_model_that_rotted_is_told_by_its_id(home: Path) -> None:
    (path,) = (home / "models").glob("model_*.onnx")
    flip(path)
    (found,) = (each for each in archive.check_models(patient(home)) if each.status == "fault")
    assert found.name == f"archive {path.stem.removeprefix('model_')}"


def test_a_registry_that_is_no_database_is_a_fault_and_hides_no_other_row(home: Path) -> None:
    (home / "models" / "registry.sqlite").write_bytes(b"x" * 8192)
    rows = examine(patient(home))
    assert statuses(rows)["archive"] == "fault"
    assert {"calendar", "disk", "units"} <= set(statuses(rows))


@pytest.mark.hazard(87)
def test_model_files_whose_registry_was_lost_are_told(home: Path) -> None:
    (home / "models" / "registry.sqlite").write_bytes(b"")
    rows = examine(patient(home))
    found = row(rows, "archive")
    assert (found.status, "lost or emptied" in found.detail) == ("fault", True)
    assert "--repair" in found.detail + found.remedy
    assert "retrain" not in row(rows, "production").remedy, "no fresh home"


def test_folds_that_are_kept_are_counted_and_leftovers_of_them_are_told(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Home(home)
    model = next(place.models.glob("model_*.onnx"))
    place.folds.mkdir()
    shutil.copy(model, place.locate_fold("a" * 64))
    found = row(examine(patient(home)), "archive folds")
    assert found.status == "ok"
    assert found.detail.startswith("1 fold of a first record, ")
    unfinished = durable.write_temporary(place.locate_fold("b" * 64), model.read_bytes()[:-1])
    found = row(examine(patient(home)), "archive folds")
    assert (found.status, found.remedy) == ("warning", "Delete them while no retrain runs.")
    assert found.detail.startswith(f"no retrain goes on from 1 of 2 files in {place.folds} (")
    assert found.detail.endswith(f"such as {unfinished.name}")
    unfinished.unlink()
    monkeypatch.setattr(artifact, "__version__", "99.0")
    found = row(examine(patient(home)), "archive folds")
    assert found.status == "warning"
    assert found.detail.startswith("no retrain goes on from 1 of 1 file in ")


def test_a_model_of_another_program_in_a_fresh_home_is_told_to_be_moved(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "model_mine.onnx").write_bytes(b"mine")
    found = row(tuple(archive.check_models(patient(tmp_path))), "archive files")
    assert (found.status, found.remedy) == ("warning", "Move them away.")


def test_a_home_in_which_only_the_scheduler_has_run_gets_no_warning_of_a_csv(tmp_path: Path) -> None:
    with open_to_change(Home(tmp_path).registry):
        pass
    assert [(each.name, each.status) for each in archive.check_models(patient(tmp_path))] == [("archive", "ok")]


def test_a_list_of_another_program_is_no_warning_whose_remedy_would_not_help(tmp_path: Path) -> None:
    """`doctor --repair` rightly leaves it alone, so it is not to be advised."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "model_metadata.csv").write_text("model_id,trained_date,val_sharpe\nmine,2025-01-01,1.5\n")
    found = row(tuple(archive.check_models(patient(tmp_path))), "archive csv")
    assert (found.status, found.remedy) == ("ok", "")
    assert found.detail == "model_metadata.csv of another program may be taken over: `hftcl init --adopt`"


@pytest.mark.hazard(86)
@pytest.mark.parametrize("loss", ["a byte", "all of it"])
def test_repair_rebuilds_the_registry_from_the_model_files(home: Path, loss: str) -> None:
    registry = Registry(home)
    (before,) = registry.list_models()
    content = registry.database.read_bytes()
    at = content.index(before.sha256.encode())
    registry.database.write_bytes(content[:at] + b"x" + content[at + 1 :] if loss == "a byte" else b"")
    with pytest.raises(IntegrityError, match=r"damaged|lost"):
        ModelArchive(home).recover(NOW)
    assert "fault" not in {each.status for each in repairs.repair(patient(home)) if each.name == "repair archive"}
    (after,) = registry.list_models()
    kept = ("model_id", "sha256", "pkl_sha256", "trained_from", "trained_to", "label_end", "exam_to", "rows", "tickers")
    assert [getattr(after, name) for name in kept] == [getattr(before, name) for name in kept]
    assert (after.is_deployed, after.val_sharpe) == (True, before.val_sharpe)
    assert ModelArchive(home).recover(NOW) == ()
    assert repairs.repair(patient(home)) == ()


@pytest.mark.hazard(86)
@pytest.mark.parametrize("page", [False, True], ids=["key", "page"])
def test_a_damaged_index_of_the_registry_is_a_fault_until_it_is_repaired(home: Path, page: bool) -> None:
    registry = Registry(home)
    before = registry.list_models()
    damage_index(registry.database, page=page)
    with pytest.raises(IntegrityError, match=r"registry\.sqlite is damaged.*doctor --repair"):
        tuple(archive.check_models(patient(home)))
    assert "fault" not in {each.status for each in repairs.repair(patient(home)) if each.name == "repair archive"}
    assert row(tuple(archive.check_models(patient(home))), "archive").status == "ok"
    assert registry.list_models() == before


def _add_again(home: Path, model_id: str) -> str:
    """Archive the model of `home` once more, under another id, as a retrain at another time would."""
    registry = Registry(home)
    (first, *_) = reversed(registry.list_models())
    graph, meta = artifact._open_verified("the model", registry.locate_onnx(first.model_id).read_bytes())
    del graph.metadata_props[:]
    at = read_trained_at(model_id)
    known = {name: getattr(first, name) for name in NewModel.__slots__}
    new = NewModel(**known | {"model_id": model_id, "trained_at": at, "outcome": "rejected"})
    archive = ModelArchive(home)
    assert archive.claim_id(at) == model_id
    archive.add(
        new,
        artifact._serialize(graph.SerializeToString(), replace(meta, model_id=model_id))[0],
        model_id.encode(),
        now=at,
    )
    archive.record_attempt(at, kind="retrain", outcome="rejected", reason="a test", model_id=model_id)
    return model_id


@pytest.mark.hazard(87)
def test_who_deletes_the_registry_does_not_wear_the_judge_down(home: Path) -> None:
    before = read_looks(Registry(home), synthetic=True)
    assert [look.sharpe is not None and len(look.sessions) > 1 and look.policy != "" for look in before] == [True]
    for path in (home / "models" / "registry.sqlite", home / "models" / "model_metadata.csv"):
        path.unlink()
    notes = [each.detail for each in repairs.repair(patient(home)) if each.name == "repair archive"]
    assert read_looks(Registry(home), synthetic=True) == before
    assert [note for note in notes if "dry runs" in note and "more easily" in note], notes


@pytest.mark.hazard(87)
def test_a_rebuilt_model_whose_file_does_not_tell_its_exam_counts_as_a_try_by_the_csv(home: Path) -> None:
    registry = Registry(home)
    (before,) = read_looks(registry, synthetic=True)
    _forget_exam(home)
    (home / "models" / "registry.sqlite").unlink()
    repairs.repair(patient(home))
    (after,) = read_looks(registry, synthetic=True)
    assert after.sharpe == before.sharpe
    assert set(before.sessions) <= set(after.sessions)


@pytest.mark.hazard(87)
def test_a_try_that_the_csv_alone_tells_is_of_a_policy_of_its_own_in_the_luck_of_a_record(home: Path) -> None:
    registry = Registry(home)
    first = registry.list_models()[0].model_id
    pruned = [_add_again(home, f"202601{day}_000000") for day in (20, 21, 22)][:2]
    assert ModelArchive(home).prune(1, now=NOW) == tuple(pruned)
    _forget_exam(home)
    registry.database.unlink()
    repairs.repair(patient(home))
    guessed = [look for look in read_looks(registry, synthetic=True) if look.policy == look.positions]
    assert {look.positions for look in guessed} == {first, *pruned}
    days = guessed[0].sessions
    rows = tuple(
        RecordedSession(
            session=day,
            net=0.001 * number,
            gross=0.001 * number,
            turnover=0.0,
            model_id="unknown",
            kind="walk-forward",
            source="synthetic",
            synthetic=True,
            policy="ours",
        )
        for number, day in enumerate(days)
    )
    record = Record(recorded_sessions=rows, added=(), cost_bps=0.0)
    assert compute_record_luck(record, registry, "ours", synthetic=True, sessions_per_year=252) > 0.0


@pytest.mark.hazard(86)
@pytest.mark.parametrize("csv", ["kept", "lost"])
def test_a_damaged_row_of_a_pruned_model_counts_as_a_try_by_the_csv_or_is_said_to_be_lost(home: Path, csv: str) -> None:
    registry = Registry(home)
    pruned, _ = [_add_again(home, model_id) for model_id in ("20260120_000000", "20260121_000000")]
    assert ModelArchive(home).prune(1, now=NOW) == (pruned,)
    with contextlib.closing(sqlite3.connect(registry.database)) as db, db:
        db.execute("UPDATE models SET rows = rows + 1 WHERE model_id = ?", [pruned])
    if csv == "lost":
        registry.csv.unlink()
    notes = [each.detail for each in repairs.repair(patient(home)) if each.name == "repair archive"]
    assert any("more easily" in note for note in notes) == (csv == "lost"), notes
    assert (pruned in {look.positions for look in read_looks(registry, synthetic=True)}) == (csv == "kept")


@pytest.mark.hazard(87)
def test_a_lost_registry_has_its_models_in_the_order_of_the_csv_though_the_clock_once_ran_ahead(home: Path) -> None:
    for model_id in ("20270101_000000", "20251217_000000", "20251218_000000"):
        _add_again(home, model_id)
    registry = Registry(home)
    before = [model.model_id for model in registry.list_models()]
    registry.database.unlink()
    repairs.repair(patient(home))
    assert [model.model_id for model in registry.list_models()] == before


@pytest.mark.hazard(87)
def test_an_exam_that_gave_no_sharpe_ratio_is_not_said_to_be_lost(home: Path) -> None:
    _forget_exam(home, slices={})
    for path in (home / "models" / "registry.sqlite", home / "models" / "model_metadata.csv"):
        path.unlink()
    notes = [each.detail for each in repairs.repair(patient(home)) if each.name == "repair archive"]
    assert not any("does not count as a try" in note for note in notes), notes


@pytest.mark.hazard(87)
def test_a_try_that_neither_file_nor_csv_tells_is_said_to_be_lost(home: Path) -> None:
    _forget_exam(home)
    for path in (home / "models" / "registry.sqlite", home / "models" / "model_metadata.csv"):
        path.unlink()
    notes = [each.detail for each in repairs.repair(patient(home)) if each.name == "repair archive"]
    (model,) = Registry(home).list_models()
    assert [note for note in notes if model.model_id in note and "does not count as a try" in note], notes
    assert read_looks(Registry(home), synthetic=True) == ()


def _forget_exam(home: Path, slices: dict[str, tuple[Slice, ...]] | None = None) -> None:
    """Make the first model of `home` one of an earlier release, whose file said nothing of its exam but the days."""
    registry = Registry(home)
    model = registry.list_models()[-1]
    path = registry.locate_onnx(model.model_id)
    graph, meta = artifact._open_verified("the model", path.read_bytes())
    del graph.metadata_props[:]
    path.write_bytes(
        artifact._serialize(graph.SerializeToString(), replace(meta, exam_look=None, exam_slices=slices))[0]
    )
    registry.production.write_bytes(path.read_bytes())
    registry.csv.write_text(registry.csv.read_text().replace(model.sha256, compute_digest(path) or ""))


@pytest.mark.hazard(86)
def test_a_model_whose_row_is_rebuilt_stands_where_it_stood_though_the_clock_once_ran_ahead(home: Path) -> None:
    ids = [_add_again(home, model_id) for model_id in ("20270101_000000", "20251217_000000", "20251218_000000")]
    registry = Registry(home)
    before = [model.model_id for model in registry.list_models()]
    assert before[:3] == ids[::-1]
    with contextlib.closing(sqlite3.connect(registry.database)) as db, db:
        db.execute("UPDATE models SET rows = rows + 1 WHERE model_id = '20251217_000000'")
    assert "fault" not in {each.status for each in repairs.repair(patient(home)) if each.name == "repair archive"}
    assert [model.model_id for model in registry.list_models()] == before


@pytest.mark.hazard(86)
def test_a_damaged_row_that_no_model_needs_is_a_fault_too(home: Path) -> None:
    """`check` and `retrain` end at it."""
    _add_again(home, "20251217_000000")
    with contextlib.closing(sqlite3.connect(home / "models" / "registry.sqlite")) as db, db:
        db.execute("UPDATE attempts SET reason = 'a tesu' WHERE reason = 'a test'")
    found = row(examine(patient(home)), "archive")
    assert (found.status, "the row attempts" in found.detail, "--repair" in found.remedy) == ("fault", True, True)


@pytest.mark.hazard(87)
def test_repair_rebuilds_the_archive_from_the_production_file_alone(home: Path) -> None:
    (before,) = Registry(home).list_models()
    serving = (home / "trained_stock_model.onnx").read_bytes()
    shutil.rmtree(home / "models")
    notes = [each.detail for each in repairs.repair(patient(home)) if each.name == "repair archive"]
    assert any("restored from the production file" in note for note in notes), notes
    (after,) = Registry(home).list_models()
    assert (after.model_id, after.sha256, after.is_deployed) == (before.model_id, before.sha256, True)
    assert (home / "trained_stock_model.onnx").read_bytes() == serving
    assert not any("restored" in each.detail for each in repairs.repair(patient(home))), "once is enough"


@pytest.mark.hazard(87)
def test_where_nothing_is_left_to_rebuild_from_the_repair_says_what_a_person_can_do(home: Path) -> None:
    for path in (*(home / "models").glob("[!m]*"), *(home / "models").glob("model_2*"), *home.glob("trained*")):
        path.unlink()
    (found,) = repairs.repair(patient(home))
    assert (found.name, found.status) == ("repair archive", "fault")
    told = f"{found.detail} {found.remedy}"
    assert "nothing can be rebuilt" in told
    assert "--repair" not in told, "that is what was done"
    assert "from a backup" in told
    assert not (home / "models" / "registry.sqlite").exists()
    (home / "models" / "model_metadata.csv").rename(home / "aside.csv")
    assert repairs.repair(patient(home)) == ()
    assert ModelArchive(home).recover(NOW) == (), "and hftcl begins anew"


@pytest.mark.hazard(19)
def test_a_model_that_predicts_otherwise_than_when_it_was_trained_is_a_fault(home: Path) -> None:
    production = home / "trained_stock_model.onnx"
    graph, meta = artifact._open_verified("the model", production.read_bytes())
    del graph.metadata_props[:]
    drifted = tuple(prediction + 1e-3 for prediction in meta.canary_predictions)
    data, _ = artifact._serialize(graph.SerializeToString(), replace(meta, canary_predictions=drifted))
    production.write_bytes(data)
    (home / "models" / f"model_{meta.model_id}.onnx").write_bytes(data)
    with open_to_change(home / "models" / "registry.sqlite") as db:
        db.execute("UPDATE models SET sha256 = ?", (hashlib.sha256(data).hexdigest(),))
    rows = examine(patient(home))
    assert statuses(rows)["production"] == "ok", "it is the registered file"
    assert "predicts otherwise" in row(rows, "model").detail
    assert row(rows, "model").status == "fault"


def test_bars_that_are_behind_and_too_few_are_a_warning_each_by_ticker(home: Path) -> None:
    late = market.check_bars(patient(home, now=NOW + timedelta(days=14)))
    found = {each.name: each for each in late}
    assert {each.status for name, each in found.items() if name not in {"bars", "coverage"}} == {"warning"}
    assert "behind" in found["bars AAPL"].detail
    for path in (home / "bars" / "synthetic" / "AMD").iterdir():
        if "2025-12" not in path.name:
            path.unlink()
    few = {each.name: each for each in market.check_bars(patient(home))}
    assert "of the last" in few["bars AMD"].detail


def test_a_session_that_is_still_to_be_collected_is_no_hole_in_the_coverage(home: Path) -> None:
    def coverage(day: datetime) -> CoverageRow:
        rows = market.check_bars(patient(home, now=day))
        return next(each for each in rows if isinstance(each, CoverageRow))

    today, next_week = coverage(NOW), coverage(NOW + timedelta(days=7))
    assert {item.ticker for item in next_week.coverage} == {"AAPL", "AMD"}
    for each in (today, next_week):
        assert ": 0 of " not in each.detail
        assert all(item.received > 0.95 * item.expected for item in each.coverage)


def test_bars_that_are_stored_and_not_those_of_the_source_are_counted_with_the_reason(home: Path) -> None:
    held = len(list((home / "bars" / "synthetic").rglob("????-??.parquet")))
    asked = patient(home, TOML + "\n[synthetic]\nseed = 4711\n")  # which makes other bars
    found = {each.name: each for each in market.check_bars(asked)}
    assert found["bars"].status == "ok"
    assert found["bars"].detail.startswith(f"{held} months of ")
    assert "came from 'synthetic' as it was before its settings" in found["bars"].detail
    assert found["bars"].detail.endswith("the next retrain collects SYNTHETIC bars in their place")


def test_bars_of_a_context_ticker_are_looked_at_and_mended_as_those_of_the_watchlist(home: Path) -> None:
    asked = patient(home, TOML.replace('["AAPL", "AMD"]', '["AAPL"]\ncontext = ["AMD"]'))
    flip(min((home / "bars" / "synthetic" / "AMD").glob("*.parquet")))
    found = {each.name: each for each in market.check_bars(asked)}
    assert found["bars AMD"].status == "fault"
    assert "1 of 2 tickers whole" in found["bars"].detail
    assert [each.name for each in repairs.repair(asked) if "AMD" in each.detail] == ["repair bars"]
    assert "2 of 2 tickers whole" in {each.name: each for each in market.check_bars(asked)}["bars"].detail


@pytest.mark.parametrize(
    ("day", "status"), [("2026-01-05", "ok"), ("2030-06-01", "fault")], ids=["reaches", "has ended"]
)
def test_the_calendar_s_reach_is_told(tmp_path: Path, day: str, status: str) -> None:
    moment = datetime.fromisoformat(f"{day}T12:00:00+00:00")
    (found,) = market.check_calendar(patient(tmp_path, now=moment))
    assert found.status == status


@pytest.mark.hazard(18)
@pytest.mark.parametrize(
    ("what", "mode", "status"),
    [
        ("models", 0o777, "fault"),
        ("trained_stock_model.onnx", 0o666, "fault"),
        (".", 0o777, "fault"),
        ("hftcl.toml", 0o646, "fault"),
        ("models", 0o755, "ok"),
    ],
)
def test_it_says_so_when_somebody_else_can_write_what_serves(home: Path, what: str, mode: int, status: str) -> None:
    (home / what).chmod(mode)
    rows = tuple(machine.check_permissions(patient(home)))
    assert {each.status for each in rows} == {status}
    if status == "fault":
        assert any("everyone on this machine can write" in each.detail for each in rows)
        assert all(each.remedy.startswith("chmod o-w") for each in rows)


@pytest.mark.hazard(18)
def test_a_file_of_features_that_everybody_can_write_is_a_fault_and_so_is_a_folder_above_it(tmp_path: Path) -> None:
    file = tmp_path / "open" / "inner" / "own.py"
    file.parent.mkdir(parents=True)
    file.write_text("")
    home = tmp_path / "home"
    home.mkdir()
    context = patient(home, f'[features]\nmodules = ["{file}"]\n')
    assert [each.status for each in machine.check_permissions(context)] == ["ok"]
    for path, mode in ((file, 0o644), (file.parent.parent, 0o755)):
        path.chmod(0o777)
        (found,) = machine.check_permissions(context)
        assert (found.status, found.remedy) == ("fault", f"chmod o-w {path}")
        path.chmod(mode)


@pytest.mark.hazard(18)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_model_file_that_belongs_to_somebody_else_is_a_fault(home: Path) -> None:
    (path,) = (home / "models").glob("model_*.onnx")
    os.chown(path, 65534, -1)
    (found,) = machine.check_permissions(patient(home))
    assert (found.status, str(path) in found.detail) == ("fault", True)


def refuse(number: int) -> Callable[..., NoReturn]:
    def fail(**_: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize(
    ("number", "detail", "remedy"),
    [
        (errno.EACCES, f"cannot be written by {pwd.getpwuid(os.geteuid()).pw_name}", "Run as its owner."),
        (errno.EROFS, "cannot be written: Read-only file system", "Mount that file system writable, or"),
        (errno.ENOSPC, "cannot be written: No space left on device", "Free space there"),
    ],
    ids=["permission", "read-only", "full"],
)
def test_why_the_home_cannot_be_written_is_told_as_what_it_is(
    number: int, detail: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse(number))
    (found, *_) = machine.check_permissions(patient(tmp_path))
    assert found.status == "fault"
    assert found.detail.endswith(detail)
    assert found.remedy.startswith(remedy)


def test_who_only_looks_on_is_told_nothing_that_is_true_of_itself_alone(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a service with `ProtectSystem=strict`: it cannot write the home, and its secrets are handed to it."""
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse(errno.EACCES))
    (home / ".env").write_text("no line of a file of secrets\n")
    faulty = {each.name for each in examine(patient(home)) if each.status != "ok"}
    assert faulty >= {"permissions", "secrets"}
    assert "configuration" not in faulty, "it is the file of secrets that is wrong"
    rows = examine(replace(patient(home), quietly=True))
    assert set(statuses(rows).values()) == {"ok"}, rows
    assert not set(statuses(rows)) & NOT_QUIET
    (home / "models").chmod(0o777)
    assert row(examine(replace(patient(home), quietly=True)), "permissions").status == "fault"


def test_a_scheduler_that_has_stopped_or_failed_is_a_warning(tmp_path: Path) -> None:
    (fresh,) = outside.check_schedule(patient(tmp_path))
    assert fresh.status == "ok"
    occurrences = Occurrences(tmp_path)
    for day, state in ((14, "failed"), (15, "done")):
        due = datetime(2025, 12, day, 7, tzinfo=UTC)
        claim = occurrences.claim("check", due.date(), due, by="a test", now=due)
        assert claim is not None
        claim.finish(state, "because", now=due)  # type: ignore[arg-type]
        (found,) = outside.check_schedule(patient(tmp_path, now=due))
        assert (found.status, "because" in found.detail) == ("ok" if state == "done" else "warning", True)
    (idle,) = outside.check_schedule(patient(tmp_path, now=NOW + timedelta(days=3)))
    assert idle.status == "warning"


def test_a_bot_that_is_halted_waits_for_a_person_and_says_why(tmp_path: Path) -> None:
    (fresh,) = bot.check_bot(patient(tmp_path))
    assert (fresh.status, list(tmp_path.iterdir())) == ("ok", [])
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.set_meta(mode="paper", heartbeat=NOW.isoformat())
        assert [each.status for each in bot.check_bot(patient(tmp_path))] == ["ok"]
        ledger.latch("daily_loss", "3.1 % of capital", NOW)
    (halted,) = bot.check_bot(patient(tmp_path))
    assert (halted.status, "3.1 % of capital" in halted.detail) == ("warning", True)
    found = samples(prometheus.render_text(patient(tmp_path).settings, NOW))
    assert found["hftcl_bot_halted"] == 1
    assert found["hftcl_bot_heartbeat_timestamp_seconds"] == NOW.timestamp()


def test_a_lock_that_cannot_be_had_is_one_sentence_with_the_folder(tmp_path: Path) -> None:
    (free,) = bot.check_lock(patient(tmp_path))
    assert (free.status, list(tmp_path.iterdir())) == ("ok", [])
    with hold_lock(Home.live(tmp_path), "bot"):
        (held,) = bot.check_lock(patient(tmp_path))
    assert (held.status, "a bot runs" in held.detail) == ("ok", True)
    (tmp_path / ".trading.lock").unlink()
    (tmp_path / ".trading.lock").mkdir()
    (broken,) = bot.check_lock(patient(tmp_path))
    assert (broken.status, str(tmp_path) in broken.detail, "\n" in broken.detail) == ("fault", True, False)
    assert "flock" in broken.remedy


def test_a_month_of_decisions_that_is_damaged_is_a_fault(tmp_path: Path) -> None:
    write_ledger(tmp_path / "ledger.sqlite", last=date(2025, 6, 3))
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.archive(NOW)
    (fine,) = bot.check_bot(patient(tmp_path))
    assert "1 month of decisions archived" in fine.detail
    (file,) = Home.live(tmp_path).decisions.iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    rows = [row for row in examine(patient(tmp_path)) if row.name == "bot"]
    assert [(row.status, "2025-06.parquet is damaged" in row.detail) for row in rows] == [("fault", True)]


def test_a_rehearsal_hides_no_halt_and_is_no_bot(tmp_path: Path) -> None:
    replay = Home.replay(tmp_path)
    with hold_lock(replay, "replay"), Ledger(replay.ledger) as rehearsed:
        rehearsed.set_meta(mode="replay", heartbeat=NOW.isoformat())
        (nothing,) = bot.check_bot(patient(tmp_path))
        assert (nothing.status, "not traded here" in nothing.detail) == ("ok", True)
        with Ledger(tmp_path / "ledger.sqlite") as ledger:
            ledger.set_meta(mode="paper", heartbeat=NOW.isoformat())
            ledger.latch("daily_loss", "3.1 % of capital", NOW)
        (halted,) = bot.check_bot(patient(tmp_path))
        assert (halted.status, "3.1 % of capital" in halted.detail) == ("warning", True)


def test_a_broker_that_is_not_installed_is_a_fault_and_paper_needs_nothing(tmp_path: Path) -> None:
    assert [each.status for each in bot.check_broker(patient(tmp_path))] == ["ok"]
    rows = examine(patient(tmp_path, "[trade]\nbroker = 'nonsense'\n"))
    assert row(rows, "broker").status == "fault"


def test_the_doctor_says_how_long_closing_the_watchlist_takes_at_the_broker(tmp_path: Path) -> None:
    tickers = json.dumps([f"T{n}" for n in range(450)])
    asked = f"[market]\nwatchlist = {tickers}\n[trade]\nbroker = 'strict-paper'\n"
    (row,) = bot.check_broker(patient(tmp_path, asked))
    assert "closing 450 tickers takes 3 min" in row.detail, "200 calls a minute"


def test_an_outbox_that_is_no_database_is_a_fault_of_the_alerts_alone(tmp_path: Path) -> None:
    (tmp_path / "alerts.sqlite").write_bytes(b"x" * 8192)
    found = statuses(examine(patient(tmp_path)))
    assert (found["alerts"], found["units"]) == ("fault", "ok")


def test_a_ledger_whose_schema_is_rotten_is_a_fault_of_the_bot_alone(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.set_meta(mode="paper")
    path = tmp_path / "ledger.sqlite"
    # no UTF-8 in the schema: SQLite's own message about it cannot be decoded
    path.write_bytes(path.read_bytes().replace(b"CREATE TABLE meta", b"CREATE TA\xff\xfe\xfd meta"))
    found = statuses(examine(patient(tmp_path)))
    assert (found["bot"], found["permissions"], found["units"]) == ("fault", "ok", "ok")


def test_rows_are_told_where_the_state_for_prometheus_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "alerts.sqlite").write_bytes(b"x" * 8192)
    done = call(tmp_path, "doctor", "--json", "--prometheus", str(tmp_path / "state.prom"))
    remedies = {each["name"]: each["remedy"] for each in json.loads(done.stdout) if each["status"] == "fault"}
    assert "Move it away" in remedies["alerts"]
    assert (done.returncode, "unexpected" in done.stderr, "alerts.sqlite" in done.stderr) == (1, False, True)


def test_an_address_of_apprise_is_judged_without_a_message_being_sent(tmp_path: Path) -> None:
    urls = "json://127.0.0.1:9/x nonsense://x"  # nobody listens there
    found = statuses(tuple(outside.check_alerts(patient(tmp_path, ALERT_URLS=urls))))
    assert {without_hash(name): status for name, status in found.items()} == {
        "alerts apprise (json)": "ok",
        "alerts apprise (nonsense)": "fault",
    }


def test_secrets_that_everyone_can_read_are_a_warning(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SMTP_HOST=x\n")
    (tmp_path / ".env").chmod(0o644)
    rows = tuple(machine.check_configuration(patient(tmp_path)))
    assert row(rows, "secrets").remedy.startswith("chmod 600")


@given(
    tickers=st.integers(1, 1000),
    bars=st.integers(0, 10**12),
    months=st.integers(0, 10_000),
    model=st.integers(0, 10**9),
)
def test_more_tickers_need_more_room(tickers: int, bars: int, months: int, model: int) -> None:
    needed = machine.compute_needed_bytes(tickers=tickers, bars=bars, ticker_months=months, model=model)
    assert 0 < needed < machine.compute_needed_bytes(tickers=tickers + 1, bars=bars, ticker_months=months, model=model)


def test_room_for_ninety_days_is_three_months_of_the_stored_bars_thirty_models_and_a_ledger() -> None:
    # By hand: 10 tickers x 3 months x 1 MB + 30 x 4 MB + 10 x 20 B x 390 x 90.
    assert machine.compute_needed_bytes(tickers=10, bars=20_000_000, ticker_months=20, model=4_000_000) == (
        30_000_000 + 120_000_000 + 7_020_000
    )


POLYGON = '[market]\nsource = "polygon"\nwatchlist = ["AAPL"]\n[polygon]\nbase_url = "{url}"\ncalls_per_minute = 50\n'


def test_a_key_is_tried_with_one_call_and_a_refused_or_missing_one_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PolygonServer({"AAPL": []}, key="canary-good-key") as server:
        monkeypatch.setenv("POLYGON_API_KEY", "canary-good-key")
        (good,) = market.check_source(patient(tmp_path, POLYGON.format(url=server.url)))
        assert (good.status, len(server.hits)) == ("ok", 1)
        monkeypatch.setenv("POLYGON_API_KEY", "canary-bad-key")
        rows = examine(patient(tmp_path))
        assert row(rows, "source").status == "fault"
        monkeypatch.delenv("POLYGON_API_KEY")
        rows = examine(patient(tmp_path))
        assert "POLYGON_API_KEY" in row(rows, "source").detail
    assert "canary" not in str(rows)


def test_a_source_that_cannot_be_reached_or_fails_is_an_error_after_one_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLYGON_API_KEY", "k")
    with PolygonServer({"AAPL": []}) as server:
        text = POLYGON.format(url=server.url)
        server.always = says(503, b"busy")
        with pytest.raises(SourceError, match=r"503 .*\. Try again later"):
            list(market.check_source(patient(tmp_path, text)))
        assert len(server.hits) == 1
    with pytest.raises(SourceError, match=r"Connection refused\. Check the network"):
        list(market.check_source(patient(tmp_path, text)))


ALPACA = '[market]\nsource = "alpaca"\nwatchlist = ["AAPL"]\n[alpaca]\ndata_url = "{url}"\n'


def test_the_keys_and_the_clock_of_alpaca_are_tried_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APCA_API_KEY_ID", "canary-ident")
    with AlpacaDataServer({"AAPL": []}, ident="canary-ident", secret="canary-secret") as server:  # noqa: S106
        monkeypatch.setenv("APCA_API_SECRET_KEY", "canary-secret")
        (good,) = market.check_source(patient(tmp_path, ALPACA.format(url=server.url)))
        assert (good.status, len(server.hits), server.url in good.detail) == ("ok", 1, True)
        with saying_it_is(3600) as clock_url:
            (clock,) = market.check_clock(patient(tmp_path, ALPACA.format(url=clock_url)))
        assert (clock.status, clock_url in clock.detail) == ("fault", True)
        patient(tmp_path, ALPACA.format(url=server.url))
        monkeypatch.setenv("APCA_API_SECRET_KEY", "canary-wrong")
        rows = examine(patient(tmp_path))
        assert row(rows, "source").status == "fault"
        monkeypatch.delenv("APCA_API_SECRET_KEY")
        assert "APCA_API_SECRET_KEY" in row(examine(patient(tmp_path)), "source").detail
    assert "canary" not in str(rows)


def test_what_alpaca_refuses_names_the_settings_of_its_data_not_those_of_its_orders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("APCA_API_KEY_ID", "APCA_API_SECRET_KEY"):
        monkeypatch.setenv(variable, "canary-value")
    with AlpacaDataServer({"AAPL": []}, ident="canary-value", secret="other") as server:  # noqa: S106
        with pytest.raises(SourceError, match=r"Check APCA_API_KEY_ID and APCA_API_SECRET_KEY\.$"):
            list(market.check_source(patient(tmp_path, ALPACA.format(url=server.url))))
        server.always = too_many()
        with pytest.raises(SourceError, match=r"Lower \[alpaca\] data_calls_per_minute"):
            list(market.check_source(patient(tmp_path)))
    with pytest.raises(SourceError, match=r"Check the network and \[alpaca\] data_url"):
        list(market.check_source(patient(tmp_path)))


def test_sessions_of_the_window_without_a_flat_file_are_told(tmp_path: Path) -> None:
    market_section = '[market]\nsource = "polygon-flat"\nwatchlist = ["AAPL"]\nlookback_days = 5\n'
    text = market_section + '[polygon]\nflat_files = "flat"\n'
    days = [str(day) for day in Calendar("XNYS").list_sessions(date(2025, 12, 8), date(2025, 12, 15))["session"]]
    (tmp_path / "flat").mkdir()
    for day in days:
        (tmp_path / "flat" / f"{day}.csv").write_text("")  # the doctor opens none of them
    (whole,) = market.check_source(patient(tmp_path, text))
    assert (whole.status, whole.detail) == (
        "ok", "polygon-flat, which needs no key: 6 files, 2025-12-08 to 2025-12-15"
    )  # fmt: skip
    (tmp_path / "flat" / "2025-12-12.csv").unlink()
    (lacking,) = market.check_source(patient(tmp_path, text))
    assert lacking.status == "warning"
    assert lacking.detail.endswith(
        "5 files, 2025-12-08 to 2025-12-15; none of 1 session of the window and since: 2025-12-12"
    )
    assert lacking.remedy.startswith("Download them into ")
    later = datetime(2025, 12, 17, 17, tzinfo=UTC)  # noon in New York: the file of the 16th is there
    (late,) = market.check_source(patient(tmp_path, now=later))
    assert late.detail.endswith("none of 2 sessions of the window and since: 2025-12-12, 2025-12-16")


def test_a_full_minute_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYGON_API_KEY", "k")
    with PolygonServer({"AAPL": []}) as server:
        text = POLYGON.format(url=server.url).replace("= 50", "= 1")
        assert [each.status for each in market.check_source(patient(tmp_path, text))] == ["ok"]
        assert [each.status for each in market.check_source(patient(tmp_path))] == ["warning"]


@contextlib.contextmanager
def saying_it_is(shift_s: float | None) -> Iterator[str]:
    """Run a server whose Date is `shift_s` seconds ahead of this machine's clock; None: it sends none."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            date = format_datetime(datetime.now(UTC) + timedelta(seconds=shift_s or 0), usegmt=True)  # noqa: TID251
            head = f"HTTP/1.1 404 answer\r\nContent-Length: 0\r\n{f'Date: {date}' if shift_s is not None else 'X: y'}"
            self.wfile.write(f"{head}\r\n\r\n".encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("shift_s", "status", "told"),
    [(0, "ok", "within"), (-30, "warning", "ahead"), (3600, "fault", "behind"), (None, "warning", "did not say")],
)
def test_the_clock_is_compared_with_the_source_s(tmp_path: Path, shift_s: float | None, status: str, told: str) -> None:
    with saying_it_is(shift_s) as url:
        (found,) = market.check_clock(patient(tmp_path, POLYGON.format(url=url)))
    assert (found.status, told in found.detail) == (status, True)


def test_mail_that_is_asked_for_and_cannot_go_out_is_a_fault_and_mail_that_is_not_is_none(tmp_path: Path) -> None:
    half = {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": "9", "ALERT_EMAIL_TO": "a@example.org"}
    assert [each.status for each in outside.check_alerts(patient(tmp_path, None, now=NOW, **half))] == ["ok"]
    (found,) = outside.check_alerts(patient(tmp_path, None, now=NOW, **half, ALERT_EMAIL_ENABLED="true"))
    assert (found.name, found.status) == ("alerts mail", "fault")
    (found,) = outside.check_alerts(patient(tmp_path, ALERT_EMAIL_ENABLED="true"))
    assert "SMTP_HOST is not set" in found.detail


def test_alerts_that_have_waited_long_are_a_warning(tmp_path: Path) -> None:
    asked = patient(tmp_path, "[alerts]\ncommand = ['/bin/false']\n")
    alerts = Alerts.from_settings(asked.settings, {})
    alerts.tell(Alert(Kind.TEST, "x", "y", NOW - timedelta(hours=8)))
    alerts.deliver(NOW)
    assert statuses(tuple(outside.check_alerts(asked))) == {"alerts command": "ok", "alerts outbox": "warning"}


def test_a_test_alert_goes_out_on_every_way_and_says_which_one_failed(tmp_path: Path) -> None:
    (tmp_path / "hftcl.toml").write_text(f"[alerts]\ncommand = ['/bin/sh', '-c', 'cat > {tmp_path}/heard']\n")
    done = call(tmp_path, "doctor", "--send-test-alert", "--json", ALERT_URLS="nonsense://x")
    assert done.returncode == 1
    found = {each["name"]: each["status"] for each in json.loads(done.stdout)}
    assert {without_hash(name): status for name, status in found.items()} == {
        "test alert apprise (nonsense)": "fault",
        "test alert command": "ok",
    }
    assert json.loads((tmp_path / "heard").read_text())["kind"] == "test"


@pytest.mark.parametrize("trouble", ["a damaged outbox", "no outbox", "another process sends"])
def test_a_test_alert_is_called_sent_only_where_it_was(tmp_path: Path, trouble: str) -> None:
    asked = patient(tmp_path, "[alerts]\ncommand = ['/bin/true']\n")
    with contextlib.ExitStack() as stack:
        if trouble == "a damaged outbox":
            (tmp_path / "alerts.sqlite").write_bytes(b"x" * 8192)
        elif trouble == "no outbox":
            (tmp_path / "alerts.sqlite").symlink_to(tmp_path / "gone" / "alerts.sqlite")
        else:
            stack.enter_context(durable.lock(Home(tmp_path).alerts_lock, "delivery of alerts"))
        (found,) = outside.send_test_alert(asked)
    assert found.status == "fault"
    assert found.remedy


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("[Unit]\nDescription=of a release before there were versions\n", "warning"),
        (f"[Unit]\nX-Hftcl-Unit={units.VERSION - 1}\n", "warning"),
        (f"[Unit]\nX-Hftcl-Unit={units.VERSION + 1}\n", "warning"),
        (f"[Unit]\nX-Hftcl-Unit={units.VERSION}\n[Service]\nExecStart=/gone/python -m hftcl schedule\n", "fault"),
        (f"[Unit]\nX-Hftcl-Unit={units.VERSION}\n[Service]\nExecStart={sys.executable} -m hftcl schedule\n", "ok"),
    ],
)
def test_an_installed_unit_of_another_version_or_installation_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, status: str
) -> None:
    monkeypatch.setattr(units, "FOLDERS", (tmp_path,))
    (tmp_path / "hftcl-schedule.service").write_text(text)
    (found,) = outside.check_units(patient(tmp_path))
    assert (found.name, found.status) == ("unit schedule", status)
    if status != "ok" and "newer" not in found.detail:
        assert "hftcl doctor --unit schedule" in found.remedy


@pytest.mark.parametrize("inside", [False, True], ids=["by hand", "in the unit"])
def test_by_hand_the_doctor_says_which_of_its_rows_do_not_speak_of_the_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: bool
) -> None:
    monkeypatch.setattr(units, "FOLDERS", (tmp_path,))
    text = f"[Unit]\nX-Hftcl-Unit={units.VERSION}\n[Service]\nUser=trader\nLoadCredential=env:/etc/hftcl/env\n"
    (tmp_path / "hftcl-schedule.service").write_text(f"{text}ExecStart={sys.executable} -m hftcl schedule\n")
    if inside:
        monkeypatch.setenv("INVOCATION_ID", "0" * 32)
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (row,) = outside.check_units(patient(tmp_path))
    assert row.status == "ok"
    for told in (
        "takes its secrets from /etc/hftcl/env: the rows about keys and alerts speak of this shell",
        f"runs as trader: the row about permissions speaks of {units.find_user()}",
    ):
        assert (told in row.detail) is not inside


def test_by_hand_the_doctor_says_that_a_unit_serves_another_home_or_has_other_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "FOLDERS", (tmp_path,))
    ours, other = tmp_path / "ours", tmp_path / "50 %"
    ours.mkdir()
    place = units.Installation.find(loaded(ours, '[market]\nwatchlist = ["AAPL"]\n'))
    unit = tmp_path / "hftcl-schedule.service"
    unit.write_text(units.build_unit("schedule", replace(place, user=units.find_user())))
    (row,) = outside.check_units(patient(ours))
    assert (row.status, "; it" in row.detail) == ("ok", False), row.detail
    elsewhere = replace(place, user=units.find_user(), home=other, variables={"HFTCL_MARKET__SOURCE": "polygon"})
    unit.write_text(units.build_unit("schedule", elsewhere))
    (row,) = outside.check_units(patient(ours))
    assert row.status == "warning"
    assert f"works in {other}: the other rows speak of {ours}" in row.detail
    assert "has another HFTCL_MARKET__SOURCE than this shell" in row.detail


@pytest.mark.hazard(48)
def test_a_service_that_failed_is_told_even_where_the_configuration_is_why(tmp_path: Path) -> None:
    (tmp_path / "hftcl.toml").write_text("[nonsense]\n")
    failed = {"SERVICE_RESULT": "exit-code", "EXIT_CODE": "exited", "EXIT_STATUS": "78"}
    done = call(tmp_path, "doctor", "--stopped", "schedule", ALERT_URLS="nonsense://x", **failed)
    assert done.returncode == 0
    with contextlib.closing(sqlite3.connect(tmp_path / "alerts.sqlite")) as db:
        ((subject, text),) = db.execute("SELECT subject, text FROM messages").fetchall()
    assert subject == "The service hftcl-schedule has ended, and is not started again"
    assert "configuration is invalid" in text
    assert stopped.read_failure({"SERVICE_RESULT": "success"}) is None


@pytest.mark.hazard(90)
def test_the_end_of_a_service_that_knows_no_receiver_is_told_by_the_next_start(tmp_path: Path) -> None:
    """ExecStopPost= has lost the credentials of its unit: five kills send nothing by themselves."""
    killed = {"SERVICE_RESULT": "signal", "EXIT_CODE": "killed", "EXIT_STATUS": "KILL"}
    for _ in range(5):
        assert call(tmp_path, "doctor", "--stopped", "trade", "--later", **killed).returncode == 0
    assert not (tmp_path / "alerts.sqlite").exists()
    assert call(tmp_path, "schedule", "--once").returncode == 0, "no receiver: the note stays"
    told = tmp_path / "told"
    program = f"import sys; open({str(told)!r}, 'a').write(sys.stdin.read())"
    (tmp_path / "hftcl.toml").write_text(f"[alerts]\ncommand = {json.dumps([sys.executable, '-c', program])}\n")
    assert call(tmp_path, "schedule", "--once").returncode == 0
    alert = json.loads(told.read_text())
    assert alert["subject"] == "The service hftcl-trade ended by a failure"
    assert "'signal': killed KILL. It did so 5 times." in alert["text"]
    assert call(tmp_path, "schedule", "--once").returncode == 0
    assert json.loads(told.read_text()) == alert, "told once"


@pytest.mark.hazard(90)
def test_a_service_that_systemd_gives_up_is_told_each_time_although_its_earlier_ends_were_told_today(
    tmp_path: Path,
) -> None:
    told = tmp_path / "told"
    program = f"import sys; open({str(told)!r}, 'a').write(sys.stdin.read().replace(chr(10), '') + chr(10))"
    (tmp_path / "hftcl.toml").write_text(f"[alerts]\ncommand = {json.dumps([sys.executable, '-c', program])}\n")
    killed = {"SERVICE_RESULT": "signal", "EXIT_CODE": "killed", "EXIT_STATUS": "KILL"}
    monitored = {f"MONITOR_{name}": value for name, value in killed.items()}
    for later in ([], ["given up"], ["given up"]):
        call(tmp_path, "doctor", "--stopped", "trade", "--later", **killed)
        done = (
            call(tmp_path, "doctor", "--stopped", "trade", **monitored)
            if later
            else call(tmp_path, "schedule", "--once")
        )
        assert done.returncode == 0, done.stderr
    alerts = [json.loads(line) for line in told.read_text().splitlines()]
    services = [alert for alert in alerts if alert["kind"] in {"error", "stopped"}]
    assert [alert["subject"].removeprefix("The service hftcl-trade ") for alert in services] == [
        "ended by a failure", "has ended, and is not started again", "has ended, and is not started again",
    ]  # fmt: skip
    assert "systemctl reset-failed hftcl-trade" in services[-1]["text"]


@pytest.mark.hazard(90)
def test_the_unit_of_failures_tells_the_note_or_what_systemd_hands_it(tmp_path: Path) -> None:
    monitored = {"MONITOR_SERVICE_RESULT": "exit-code", "MONITOR_EXIT_CODE": "exited", "MONITOR_EXIT_STATUS": "78"}
    failure = stopped.read_failure(monitored)
    assert failure is not None
    assert (failure.result, failure.status) == ("exit-code", "78")
    (tmp_path / ".stopped-schedule").write_text("\x00 no JSON")
    assert [found.result for _, found in stopped.take_failures(tmp_path)] == ["unknown"]
    stopped.keep_failure(tmp_path, "schedule", failure)
    assert list(stopped.take_failures(tmp_path)) == [("schedule", failure)]
    assert list(stopped.take_failures(tmp_path)) == []
    assert call(tmp_path, "doctor", "--stopped", "../x").returncode == 2


def samples(text: str) -> dict[str, float]:
    """Return metric with labels -> value, by the grammar of the exposition format."""
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            found[name] = float(value)
    return found


def test_the_state_for_prometheus_is_written_whole_and_says_what_serves(home: Path, tmp_path: Path) -> None:
    done = call(home, "doctor", "--prometheus", str(tmp_path / "hftcl.prom"))
    assert done.returncode == 0, done.stdout
    found = samples((tmp_path / "hftcl.prom").read_text())
    assert found["hftcl_model_serves"] == 1
    assert found['hftcl_doctor_status{name="archive"}'] == 0
    assert found['hftcl_retrains_total{outcome="deployed"}'] == 1
    assert any(name.startswith("hftcl_model_info{model_id=") and 'synthetic="true"' in name for name in found)
    assert [path.name for path in tmp_path.glob("*.prom*")] == ["hftcl.prom"]


def test_the_scheduler_s_refresh_writes_where_it_is_set_and_nowhere_else(tmp_path: Path) -> None:
    prometheus.refresh(loaded(tmp_path).settings, NOW)
    assert list(tmp_path.iterdir()) == []
    prometheus.refresh(loaded(tmp_path, "[log]\nprometheus = 'hftcl.prom'\n").settings, NOW)
    found = samples((tmp_path / "hftcl.prom").read_text())
    assert (found["hftcl_model_serves"], found["hftcl_written_timestamp_seconds"]) == (0, NOW.timestamp())


def test_a_repair_that_cannot_be_done_is_a_fault_of_its_own(home: Path) -> None:
    text = (home / "hftcl.toml").read_text()
    (home / "hftcl.toml").write_text(text.replace("[market]", '[market]\nsource = "nonsense"'))
    assert statuses(repairs.repair(patient(home))) == {"repair bars": "fault"}


@pytest.mark.hazard(88)
def test_what_a_person_names_to_be_written_replaces_no_pipe_or_device(tmp_path: Path) -> None:
    """`hftcl report --html /dev/full`, run as root, put a page in the place of the device of the whole machine."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    before = pipe.lstat()
    with pytest.raises(StorageError, match="is a pipe, and hftcl keeps a file there"):
        pages.require_place(pipe)
    with pytest.raises(StorageError, match="is a pipe, and hftcl keeps a file there"):
        prometheus.write(pipe, patient(tmp_path).settings, NOW)
    assert pipe.lstat() == before


def test_a_unit_is_printed_alone(home: Path) -> None:
    argv = [sys.executable, "-m", "hftcl", "doctor", "--unit", "schedule"]
    done = subprocess.run(argv, cwd=home, capture_output=True, text=True, check=False)
    assert done.stdout == units.build_unit("schedule", units.Installation.find(loaded(home)))
    unknown = call(home, "doctor", "--unit", "scheduler")
    assert unknown.returncode == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user that has no name")
def test_a_unit_is_printed_for_a_user_without_a_name() -> None:
    environ = {name: value for name, value in os.environ.items() if name not in {"LOGNAME", "USER", "USERNAME"}}
    become = "import os; from hftcl.doctor import units; os.setuid(54321); print(units.find_user())"
    done = subprocess.run([sys.executable, "-c", become], env=environ, capture_output=True, text=True, check=False)
    assert done.stdout == "54321\n", done.stderr


def test_a_unit_for_a_home_that_its_service_would_not_find_is_printed_with_a_warning(home: Path) -> None:
    for place, setting in (("/tmp", "PrivateTmp="), ("/var/tmp", "PrivateTmp="), ("/dev/shm", "TemporaryFileSystem=")):  # noqa: S108
        done = call(home, "doctor", "--unit", "schedule", HFTCL_PATHS__HOME=f"{place}/hftcl-is-not-here")
        assert done.returncode == 0
        assert f"WorkingDirectory={place}/hftcl-is-not-here" in done.stdout, "as before, and nothing else"
        told = [line for line in done.stderr.splitlines() if line.startswith(f"warning: {place}/hftcl-is-not-here ")]
        assert [setting in line for line in told] == [True], done.stderr
        assert "it does not start" in told[0]
    sound = call(home, "doctor", "--unit", "schedule", HFTCL_PATHS__HOME="/srv/hftcl-is-not-here")
    assert "/srv/" not in sound.stderr
    of_bars = call(home, "doctor", "--unit", "schedule", HFTCL_FILES__FOLDER="/var/tmp/bars-are-not-here")  # noqa: S108
    (warning,) = [
        line for line in of_bars.stderr.splitlines() if line.startswith("warning: /var/tmp/bars-are-not-here ")
    ]
    assert "it starts" in warning, "a service without its bars fails at each retrain, and not at its start"
