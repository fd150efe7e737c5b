"""What a check keeps of each session that the serving model has not seen: it saves work and never changes an answer."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hftcl import ContinuousLearning
from hftcl.events import Event, ignore
from hftcl.home import Home
from hftcl.learning.dataset import Window, open_window
from hftcl.learning.reports import build_document
from hftcl.settings import Settings
from tests.learning.test_check import LATER, on_files, train_on_files
from tests.learning.test_own_features import OWN
from tests.loop_cases import NOW
from tests.trained import Homes

CALM: dict[str, dict[str, object]] = {"triggers": {"max_age_days": 1000.0, "max_psi": 1000.0}}
"""Under these no trigger fires, so that a retrain without force ends with its check."""


@dataclass
class Asked:
    """A check and how it went: its JSON, and whether features were computed; `notes` is what it told."""

    told: dict[str, Any]
    features: bool
    notes: list[str] = field(default_factory=list)


def ask(settings: Settings, *, keep: bool = False) -> Asked:
    """Check, or where `keep` let the nightly job check, which ends there."""
    events: list[Event] = []
    learner = ContinuousLearning(settings, clock=lambda: LATER, on_event=events.append)
    if keep:
        report = learner.retrain(force=False)
        assert report.outcome == "skipped", report.reason
        told: dict[str, Any] = {"triggers": build_document(report.triggers)}
    else:
        told = build_document(learner.check())
    notes = [event.text for event in events if event.stage == "check"]
    return Asked(told, any(event.stage == "features" for event in events), notes)


@pytest.fixture(scope="module")
def original(homes: Homes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a home whose model knows bars up to 2026-01-08, and whose nightly job has checked it at LATER."""
    home = tmp_path_factory.mktemp("scored") / "home"
    homes.copy(home, train_on_files)
    assert ask(on_files(home, **CALM), keep=True).features
    return home


@pytest.fixture(scope="module")
def fresh(original: Path) -> Asked:
    """Return a check of that home as it says where nothing is kept."""
    return ask_afresh(on_files(original))


@pytest.fixture
def home(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "home"))


def kept(home: Path) -> Path:
    return Home(home).session_scores


def ask_afresh(settings: Settings) -> Asked:
    """Check as a home does that keeps nothing, and leave what was kept as it was."""
    path = kept(Path(settings.paths.home))
    aside = path.rename(path.with_name("aside"))
    asked = ask(settings)
    aside.rename(path)
    assert asked.features
    return asked


def test_a_check_on_the_same_bars_computes_no_feature_and_says_the_same(original: Path, fresh: Asked) -> None:
    again = ask(on_files(original))
    assert not again.features
    assert again.told == fresh.told
    assert {each["name"]: each["value"] is None for each in again.told["triggers"]}["drift"] is False


def test_the_nightly_job_computes_no_feature_either_where_no_session_is_new(home: Path) -> None:
    assert not ask(on_files(home, **CALM), keep=True).features


def test_a_new_session_is_scored_and_those_before_it_are_not_again(home: Path, fresh: Asked) -> None:
    """What is kept of an earlier session is planted, whole and sealed: it comes back, and a new one beside it."""
    path, whole = kept(home), on_files(home)
    every = json.loads(path.read_bytes())["sessions"]
    *before, newest = sorted(every)
    plant(home, lambda sessions: sessions.pop(newest))
    told = ask(whole)
    assert told.features
    assert told.told == fresh.told
    assert newest not in json.loads(path.read_bytes())["sessions"], "a check changes no file"
    assert ask(on_files(home, **CALM), keep=True).features
    assert json.loads(path.read_bytes())["sessions"] == every
    plant(home, lambda sessions: (sessions.pop(newest), sessions[before[-1]].update(net=0.5)))
    planted = ask(whole)
    assert planted.features
    assert planted.told != fresh.told


def plant(home: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change what is kept of the sessions, and seal it as hftcl does."""
    path = kept(home)
    held = json.loads(path.read_bytes())
    change(held["sessions"])
    plain = msgspec.json.encode({**held, "seal": ""})
    path.write_bytes(msgspec.json.encode({**held, "seal": hashlib.sha256(plain).hexdigest()}))


@pytest.mark.parametrize("column", [pytest.param("close", marks=pytest.mark.slow), "volume"])
def test_a_corrected_bar_is_seen_also_one_before_the_first_session_that_is_scored(home: Path, column: str) -> None:
    settings, before = on_files(home), json.loads(kept(home).read_bytes())["sessions"]
    first = min(before)
    earlier = date.fromisoformat(first) - timedelta(days=1)
    while earlier.weekday() > 4:
        earlier -= timedelta(days=1)
    path = home / "bars_given" / "AMD.parquet"
    bars = pl.read_parquet(path)
    hit = (pl.col("ts").dt.date() == earlier) & (pl.col("high") > pl.col("close"))
    factor = 3.0 if column == "volume" else pl.col("high") / pl.col("close")
    bars.with_columns(pl.when(hit).then(pl.col(column) * factor).otherwise(pl.col(column))).write_parquet(path)
    after = ask(settings)
    assert after.features
    assert after.told == ask_afresh(settings).told
    assert ask(on_files(home, **CALM), keep=True).features
    found = json.loads(kept(home).read_bytes())["sessions"]
    assert found[first]["counts"] != before[first]["counts"]
    assert found[max(before)] == before[max(before)], "which reads no bar of that day"


def test_other_costs_are_another_answer(home: Path) -> None:
    dear = on_files(home, strategy={"cost_bps": 3.0})
    asked = ask(dear)
    assert asked.features
    assert asked.told == ask_afresh(dear).told


def test_another_model_has_none_of_what_was_kept_of_the_one_before(home: Path) -> None:
    learner = ContinuousLearning(on_files(home), clock=lambda: NOW + timedelta(hours=1), on_event=ignore)
    report = learner.retrain(force=True, as_of="2026-01-12", params={"alpha": 50.0})
    learner.rollback_to_previous_model(report.model_id, reason="a test of another model")
    asked = ask(on_files(home))
    assert asked.told["live"] == report.model_id
    assert asked.features
    assert asked.told == ask_afresh(on_files(home)).told


@pytest.mark.parametrize("damage", ["cut", "flipped", "another format", "a folder"])
def test_a_damaged_file_is_told_and_everything_is_scored_again(home: Path, fresh: Asked, damage: str) -> None:
    path = kept(home)
    data = path.read_bytes()
    if damage == "a folder":
        path.unlink()
        path.mkdir()
    elif damage == "another format":
        plain = data.replace(b'"format":1', b'"format":999')
        assert plain != data
        path.write_bytes(plain)
    else:
        at = data.index(b'"net":') + 8
        path.write_bytes(data[:-40] if damage == "cut" else data[:at] + b"7" + data[at + 1 :])
    asked = ask(on_files(home))
    assert asked.features
    assert asked.told == fresh.told
    assert any("damaged or of another hftcl" in note for note in asked.notes)


def test_a_disk_that_takes_nothing_is_told_and_the_check_answers(home: Path) -> None:
    kept(home).unlink()
    kept(home).mkdir()
    (kept(home) / "in the way").touch()
    asked = ask(on_files(home, **CALM), keep=True)
    assert any("Keeping the scores of sessions" in note for note in asked.notes), asked.notes
    assert asked.told["triggers"][2]["value"] is not None


def open_at(settings: Settings) -> Window:
    return open_window(settings, as_of=None, now=LATER, save=False, on_event=ignore)


def test_rows_of_a_part_of_the_window_are_to_the_bit_those_of_the_whole(original: Path) -> None:
    window = open_at(on_files(original))
    whole = open_at(on_files(original)).assemble().frame
    days = window.list_days()
    for day in (days[0], days[3], days[7], days[-1]):
        expected = whole.filter(pl.col("session") >= day)
        found = window.compute_rows(day)
        assert_frame_equal(found, expected, check_exact=True)
        for name in found.columns:
            assert found[name].to_physical().hash().to_list() == expected[name].to_physical().hash().to_list(), name


def test_with_a_feature_of_the_users_all_or_nothing_is_computed(home: Path) -> None:
    """Its values are judged together, so that one session by itself could not be."""
    (home / "mine.py").write_text(OWN)
    settings = on_files(home, features={"modules": (str(home / "mine.py"),)}, **CALM)
    assert not open_at(settings).divisible
    expected = ask(settings)
    assert expected.features
    assert ask(settings, keep=True).features
    again = ask(settings)
    assert not again.features
    assert again.told == expected.told
    newest = max(json.loads(kept(home).read_bytes())["sessions"])
    plant(home, lambda sessions: sessions.pop(newest))
    assert ask(settings).told == expected.told
    path = home / "bars_given" / "AMD.parquet"
    bars = pl.read_parquet(path)
    early = bars["ts"].dt.date() == open_at(settings).list_days()[1]
    bars.with_columns(pl.when(early).then(pl.col("volume") * 3).otherwise(pl.col("volume"))).write_parquet(path)
    assert ask(settings).features, "a bar of long ago counts too"
    bars.write_parquet(path)
    (home / "mine.py").write_text(OWN.replace("= 60\n", "= 59\n"))
    assert ask(settings).features


def test_a_line_more_in_the_code_scores_each_session_again(home: Path, change_code: Callable[[], None]) -> None:
    change_code()
    assert ask(on_files(home)).features
