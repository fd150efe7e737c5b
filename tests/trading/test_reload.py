"""A new model is taken up between two minutes, or refused with the reason; no minute is lost to it."""

import json
import re
import signal
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from hftcl.alerts import Kind
from hftcl.archive.deployment import ModelArchive
from hftcl.archive.fitness import MarketKind
from hftcl.archive.policy import hash_policy
from hftcl.archive.registry import Registry
from hftcl.events import BANNER, Level
from hftcl.trading.decide.bot import Minute
from hftcl.trading.decide.model_in_use import ProductionWatch
from tests.installed import HFTCL, PATIENCE_S, give_calendar
from tests.trading.bot_stand import DAY, HALF_DAY, TRAINED, archived, model_file, settings_of, some_minutes, stand

HERE = MarketKind(calendar="XNYS", synthetic=True)
NOW = datetime(2025, 6, 2, 14, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def serving(home: Path, market: MarketKind = HERE, interval_s: float = 3600.0) -> ProductionWatch:
    return ProductionWatch(home, market, policy=hash_policy(settings_of(home)), interval_s=interval_s)


def test_the_first_look_takes_up_what_serves_and_the_next_finds_it_the_same(tmp_path: Path) -> None:
    model_id = archived(tmp_path)
    ours = serving(tmp_path)
    first = ours.look(NOW)
    assert (first.outcome, first.before, first.after) == ("reloaded", None, model_id)
    assert ours.in_use is not None
    assert (ours.in_use.model_id, ours.in_use.since, ours.edge) == (model_id, NOW, "live")
    assert ours.look(NOW + HOUR).outcome == "same"


@pytest.mark.parametrize("content", [None, b"mine"])
def test_before_any_model_was_deployed_the_remedy_is_a_retrain(tmp_path: Path, content: bytes | None) -> None:
    archived(tmp_path, deploy=False, outcome="rejected")
    if content is not None:
        (tmp_path / "trained_stock_model.onnx").write_bytes(content)
    found = serving(tmp_path).look(NOW)
    assert found.outcome == "refused"
    assert found.reason.endswith("no model was deployed yet: `hftcl retrain --force` trains and examines one.")


def test_a_deployment_is_found_and_told_with_the_banner_of_the_guide(tmp_path: Path) -> None:
    old = archived(tmp_path)
    ours = serving(tmp_path)
    ours.look(NOW)
    new = archived(tmp_path, TRAINED + HOUR, seed=2)
    found = ours.look(NOW + HOUR)
    assert (found.outcome, found.before, found.after) == ("reloaded", old, new)
    assert found.banner == (
        "=" * 60,
        "NEW MODEL DETECTED - RELOADING",
        "=" * 60,
        f"Model reloaded at 2025-06-02 15:00:00 UTC: {old} -> {new}",
        "=" * 60,
    )


def test_a_look_is_due_after_the_interval_and_when_the_clock_was_set_back(tmp_path: Path) -> None:
    archived(tmp_path)
    ours = serving(tmp_path)
    assert ours.is_due(NOW)
    ours.look(NOW)
    assert [ours.is_due(NOW + HOUR * share) for share in (0, 0.99, 1, 5, -1)] == [False, False, True, True, True]


@pytest.mark.hazard(5)
@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"\x80\x04pickle", "unregistered", "missing", "folder", "altered"]
)
def test_a_file_that_is_not_registered_changes_nothing_and_is_told_once(tmp_path: Path, content: bytes | str) -> None:
    model_id = archived(tmp_path)
    ours = serving(tmp_path)
    ours.look(NOW)
    path = Registry(tmp_path).production
    whole = path.read_bytes()
    path.unlink()
    if content == "unregistered":
        path.write_bytes(model_file("20250601_000000", seed=2))
    elif content == "altered":
        path.write_bytes(whole[:-5000] + b"0" * 5000)
    elif content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    found = ours.look(NOW + HOUR)
    assert (found.outcome, found.before, found.after) == ("refused", model_id, model_id)
    assert str(path) in found.reason
    assert ours.in_use is not None
    assert ours.in_use.model_id == model_id
    assert ours.look(NOW + 2 * HOUR).outcome == "same", "told once"
    (path.rmdir if path.is_dir() else lambda: path.unlink(missing_ok=True))()
    path.write_bytes(whole)
    assert ours.look(NOW + 3 * HOUR).outcome == "same"
    assert ours.refused == ""


@pytest.mark.parametrize(
    ("change", "market", "match"),
    [
        ({"synthetic": False, "source": "files"}, HERE, "trained on real bars, and these are synthetic ones"),
        ({}, MarketKind(calendar="XNYS", synthetic=False), "trained on synthetic bars, and these are real ones"),
        ({"calendar": "XLON"}, HERE, "sessions of XLON, and .* is XNYS"),
        ({"features_hash": "0" * 64}, HERE, "trained on other features"),
        (
            {"extended_hours": True},
            MarketKind(calendar="XNYS", synthetic=True, extended_hours=False),
            "with extended hours, and these sessions are without them",
        ),
    ],
)
def test_a_model_of_another_market_is_refused(
    tmp_path: Path, change: dict[str, object], market: MarketKind, match: str
) -> None:
    archived(tmp_path, **change)  # type: ignore[arg-type]
    ours = serving(tmp_path, market)
    found = ours.look(NOW)
    assert found.outcome == "refused"
    assert re.search(match, found.reason), found.reason
    assert ours.in_use is None


def test_a_refused_model_leaves_the_old_one_trading_and_alerts(tmp_path: Path) -> None:
    old = archived(tmp_path)
    bot = stand(tmp_path, first=40)
    bot.run(DAY, some_minutes(40, 2))
    Registry(tmp_path).production.write_bytes(b"garbage")
    bot.controls.look = True
    bot.run(DAY, some_minutes(42, 3))
    refused = [alert for alert in bot.alerts if alert.kind is Kind.RELOAD_REFUSED]
    assert len(refused) == 1
    assert f"Model {old} stays." in refused[0].text
    later = bot.ledger.read_decisions(first=some_minutes(43, 1)[0])
    assert set(later["model_id"]) == {old}
    assert "reload_refused" in [event.kind for event in bot.ledger.read_events()]


def test_a_registry_that_cannot_be_read_leaves_the_bot_trading_and_is_told_once(tmp_path: Path) -> None:
    old = archived(tmp_path)
    bot = stand(tmp_path, first=40)
    bot.run(DAY, some_minutes(40, 2))
    registry = tmp_path / "models" / "registry.sqlite"
    whole = registry.read_bytes()
    registry.write_bytes(b"no database" * 1000)
    for minute in some_minutes(42, 2):
        bot.controls.look = True
        bot.run(DAY, [minute])
    assert [alert.kind for alert in bot.alerts] == [Kind.RELOAD_REFUSED]
    registry.write_bytes(whole)
    new = archived(tmp_path, TRAINED + HOUR, seed=2)
    bot.controls.look = True
    bot.run(DAY, some_minutes(44, 2))
    assert bot.ledger.read_decisions()["model_id"].unique(maintain_order=True).to_list() == [old, new]


def swapping(home: Path, swaps: int, first: int = 40) -> tuple[list[str], pl.DataFrame, int]:
    """Trade `swaps` minutes; after each, the other of two models is put into production. Return what was decided."""
    ids = [archived(home), archived(home, TRAINED + HOUR, seed=2)]
    archive, minutes = Registry(home), some_minutes(first, swaps)
    files = [archive.locate_onnx(model_id).read_bytes() for model_id in ids]
    bot = stand(home, first=first)

    def swap(done: Minute) -> None:
        bot.minutes.append(done)
        aside = archive.production.with_suffix(".new")
        aside.write_bytes(files[(len(bot.minutes) + 1) % 2])
        aside.replace(archive.production)
        bot.controls.look = True

    bot.loop.on_minute = swap
    bot.run(DAY, minutes)
    return ids, bot.ledger.read_decisions(), bot.loop.reloads


def test_no_minute_is_lost_while_models_are_swapped_and_each_decision_names_its_model(tmp_path: Path) -> None:
    ids, rows, reloads = swapping(tmp_path, 20)
    assert reloads == 20
    assert rows["ts"].n_unique() == 20
    by_minute = rows.group_by("ts", maintain_order=True).agg(pl.col("model_id").unique())["model_id"].to_list()
    assert by_minute == [[ids[(1 + place) % 2]] for place in range(20)]
    assert rows.filter(pl.col("code").is_in(["hold_no_model", "hold_model_old"])).is_empty()


@pytest.mark.slow
def test_a_thousand_swaps_lose_no_decision(tmp_path: Path) -> None:
    decided = 0
    for part in range(4):
        home = tmp_path / str(part)
        home.mkdir()
        _, rows, reloads = swapping(home, 250, first=60)
        assert reloads == 250
        decided += rows["ts"].n_unique()
    assert decided == 1000


def test_a_model_that_comes_within_a_session_holds_what_it_would_have_built_up(tmp_path: Path) -> None:
    """The positions after a swap are the new model's own, so that what they earn is its own."""
    minutes = some_minutes(40, 20)
    for name in ("swapped", "alone"):
        (tmp_path / name).mkdir()
    archived(tmp_path / "swapped")
    swapped = stand(tmp_path / "swapped", first=40)
    swapped.run(DAY, minutes[:10])
    new = archived(tmp_path / "swapped", TRAINED + HOUR, seed=2)
    swapped.controls.look = True
    swapped.loop.look_if_due()
    swapped.run(DAY, minutes[10:])
    archived(tmp_path / "alone", TRAINED + HOUR, seed=2)
    alone = stand(tmp_path / "alone", first=50)
    alone.run(DAY, minutes[10:])
    columns = ("ts", "ticker", "prediction", "target", "model_id")
    after = swapped.ledger.read_decisions(first=minutes[10]).select(columns)
    assert after.equals(alone.ledger.read_decisions().select(columns))
    assert set(after["model_id"]) == {new}


def test_the_banner_goes_to_whoever_listens_as_lines_of_their_own(tmp_path: Path) -> None:
    archived(tmp_path)
    bot = stand(tmp_path, first=40)
    bot.run(DAY, some_minutes(40, 1))
    assert [event for event in bot.events if event.stage == BANNER] == [], "not for the first model of a run"
    archived(tmp_path, TRAINED + HOUR, seed=2)
    bot.controls.look = True
    bot.loop.look_if_due()
    lines = [event.text for event in bot.events if event.stage == BANNER]
    assert lines[:3] == ["=" * 60, "NEW MODEL DETECTED - RELOADING", "=" * 60]
    assert all(event.level is Level.NOTE for event in bot.events)
    meta = bot.ledger.open_meta()
    assert (meta["reloads"], meta["model_id"]) == ("1", lines[3].split()[-1])


def test_a_model_that_is_too_old_holds_is_told_and_its_positions_are_closed(tmp_path: Path) -> None:
    archived(tmp_path)
    bot = stand(tmp_path, first=60, sections={"trade": {"max_model_age_days": 10}})
    bot.run(DAY, some_minutes(60, 6))
    assert bot.ledger.read_positions() != {}
    bot.close()
    later = stand(tmp_path, first=66, sections={"trade": {"max_model_age_days": 2}})
    later.run(DAY, some_minutes(66, 3))
    assert set(later.ledger.read_decisions(first=some_minutes(66, 1)[0])["code"]) == {"hold_model_old"}
    assert later.ledger.read_positions() == {}
    assert [alert.kind for alert in later.alerts] == [Kind.HALTED]
    assert "trained 2 days ago" in later.alerts[0].text
    assert "max_model_age_days is 2" in later.alerts[0].text


def test_a_model_that_becomes_too_old_while_it_serves_is_told_in_that_minute(tmp_path: Path) -> None:
    archived(tmp_path)
    minutes = some_minutes(60, 6)
    days = (minutes[3] - TRAINED) / timedelta(days=1)
    bot = stand(tmp_path, first=60, sections={"trade": {"max_model_age_days": days}})
    bot.run(DAY, minutes)
    held = bot.ledger.read_decisions().filter(pl.col("code") == "hold_model_old")
    assert held["ts"].min() == minutes[2]
    assert [alert.at for alert in bot.alerts if alert.kind is Kind.HALTED] == [minutes[3] + timedelta(seconds=3)]


def test_a_rollback_reaches_the_bot_like_any_other_deployment(tmp_path: Path) -> None:
    first, second = archived(tmp_path), archived(tmp_path, TRAINED + HOUR, seed=2)
    ours = serving(tmp_path)
    assert ours.look(NOW).after == second
    archive = ModelArchive(tmp_path)
    archive.rollback(now=NOW, reason="worse")
    assert ours.look(NOW + HOUR).after == first


def test_a_replay_that_gets_a_hangup_signal_reloads_and_prints_the_banner(tmp_path: Path) -> None:
    archived(tmp_path)
    (tmp_path / "hftcl.toml").write_text('[market]\nwatchlist = ["AAPL"]\n[synthetic]\nedge = 4.0\n')
    give_calendar(tmp_path)
    bot = subprocess.Popen(
        [HFTCL, "trade", "--replay", f"{HALF_DAY}..{HALF_DAY}", "--json"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert bot.stderr is not None
        while not (line := bot.stderr.readline()).startswith("trade: 0 of"):
            assert line
        bot.send_signal(signal.SIGSTOP)  # so that it is at work however long the archiving takes
        archived(tmp_path, TRAINED + HOUR, seed=2)
        bot.send_signal(signal.SIGHUP)
        bot.send_signal(signal.SIGCONT)
        told = [bot.stderr.readline().rstrip("\n") for _ in range(5)]
        assert told[:3] == ["=" * 60, "NEW MODEL DETECTED - RELOADING", "=" * 60]
        out, _ = bot.communicate(timeout=PATIENCE_S)
        assert json.loads(out)["reloads"] == 1
        assert json.loads(out)["decisions"] == 210
    finally:
        bot.kill()
        bot.communicate(timeout=PATIENCE_S)
