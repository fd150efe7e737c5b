"""The check on a home with a model: what the bars say of it, and that nothing changes by asking."""

import shutil
from dataclasses import fields, replace
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hftcl import ContinuousLearning
from hftcl.archive import artifact
from hftcl.archive.deployment import ModelArchive
from hftcl.archive.policy import hash_policy
from hftcl.archive.record import RecordedSession, read_sessions
from hftcl.archive.records import NewModel
from hftcl.archive.registry import Registry
from hftcl.exam.detector import ShiryaevRoberts
from hftcl.exam.metrics import sharpe
from hftcl.learning.reports import CheckReport, build_document
from hftcl.learning.triggers import Trigger
from hftcl.market.sources.synthetic import SyntheticSource
from hftcl.settings import Settings
from tests.ledger.ledger_cases import write_ledger
from tests.loop_cases import NOW, small
from tests.trained import Homes

LATER = NOW + timedelta(days=28)
TICKERS = ("AAPL", "AMD")


def learning(settings: Settings, now: datetime = LATER) -> ContinuousLearning:
    return ContinuousLearning(settings, clock=lambda: now)


def trigger(report: CheckReport, name: str) -> Trigger:
    return next(each for each in report.triggers if each.name == name)


@pytest.fixture(scope="module")
def trained(homes: Homes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("trained") / "home"
    homes.copy(home, train_on_files)
    return home


def train_on_files(home: Path) -> None:
    """Make `home` one whose model was trained on bars from files, so that a test may change what came later."""
    (home / "bars_given").mkdir()
    source = SyntheticSource(small(home))
    for ticker in TICKERS:
        bars = source.minutes(ticker, date(2025, 11, 1), LATER.date())
        bars.write_parquet(home / "bars_given" / f"{ticker}.parquet")
    report = learning(on_files(home), NOW).retrain(force=True, as_of="2026-01-08")
    assert report.outcome == "deployed", report.reason


@pytest.fixture
def home(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "home"))


def on_files(home: Path, **sections: dict[str, object]) -> Settings:
    files: dict[str, object] = {"folder": str(home / "bars_given")}
    wanted: dict[str, dict[str, object]] = {
        "promote": {"min_sharpe": -100},
        "exam": {"plausible_sharpe": 1000},
        **sections,
    }
    settings = small(home, files=files, **wanted)
    return replace(settings, market=replace(settings.market, source="files"))


def test_a_check_of_a_past_day_knows_no_model_and_no_verdict_of_later(trained: Path) -> None:
    """The one model knew the bars up to 2026-01-08: on the 6th there was none, on the 12th it was four days old."""
    before = learning(on_files(trained)).check(as_of="2026-01-06")
    assert before.live is None
    assert trigger(before, "no_model").fired
    assert trigger(before, "age").evidence == "no candidate was ever judged"
    after = learning(on_files(trained)).check(as_of="2026-01-12")
    assert after.live is not None
    assert trigger(after, "age").value == pytest.approx(4.0)


Files = dict[Path, tuple[int, int]]


@pytest.fixture(scope="module")
def checked(trained: Path) -> tuple[CheckReport, Files, Files]:
    """Return a check of that home four weeks later, and its files with time and size before it and after it."""

    def snapshot() -> Files:
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(trained.rglob("*"))}

    before = snapshot()
    report = learning(on_files(trained)).check()
    return report, before, snapshot()


def test_every_trigger_is_shown_whether_it_fired_or_not(checked: tuple[CheckReport, Files, Files]) -> None:
    report = checked[0]
    names = ["no_model", "age", "recent_sharpe", "degraded", "drift", "manual"]
    assert [each.name for each in report.triggers] == names
    assert all(each.evidence for each in report.triggers)
    told = build_document(report)["triggers"]
    assert all(set(each) == {"name", "fired", "value", "threshold", "evidence"} for each in told)


def test_a_check_changes_no_file_of_the_home(checked: tuple[CheckReport, Files, Files]) -> None:
    _, before, after = checked
    assert len(before) > 5
    assert after == before


def test_bars_like_those_of_the_training_have_not_drifted(checked: tuple[CheckReport, Files, Files]) -> None:
    found = trigger(checked[0], "drift")
    assert found.value is not None
    assert not found.fired
    assert 0.05 < found.value < 1.5


def test_a_market_that_moves_three_times_as_much_has_drifted_and_the_volatility_is_named(home: Path) -> None:
    """After the training every log price is three times as far from where it was at the day's first bar."""
    for path in (home / "bars_given").glob("*.parquet"):
        bars = pl.read_parquet(path)
        start = pl.col("open").first().over(pl.col("ts").dt.date())
        wilder = [(start * ((pl.col(name) / start) ** 3)).alias(name) for name in ("open", "high", "low", "close")]
        recent = pl.col("ts").dt.date() > date(2026, 1, 8)
        kept = bars.filter(~recent)
        pl.concat([kept, bars.filter(recent).with_columns(wilder)]).write_parquet(path)
    found = trigger(learning(on_files(home)).check(), "drift")
    assert found.fired
    assert "vol_30" in found.evidence


def test_a_model_file_of_an_earlier_release_leaves_drift_untold(home: Path) -> None:
    """The very model that serves, archived again without the bins, as the release before wrote it."""
    archive, live = ModelArchive(home), Registry(home).list_models()[0]
    file = archive.locate_onnx(live.model_id).read_bytes()
    known = artifact.describe(file)
    model_id = archive.claim_id(NOW + timedelta(minutes=1))
    meta = replace(known, model_id=model_id, feature_bins=None, exam_slices=None)
    older = artifact.build(file, meta, np.asarray(known.canary_rows, dtype=np.float32))
    new = {item.name: getattr(live, item.name) for item in fields(NewModel)}
    pkl = archive.locate_pkl(live.model_id).read_bytes()
    archive.add(NewModel(**{**new, "model_id": model_id}), older, pkl, now=NOW)
    archive.deploy(model_id, now=NOW, reason="as the release before wrote it")
    report = learning(on_files(home)).check()
    assert report.live == model_id
    assert (trigger(report, "drift").fired, trigger(report, "drift").value) == (False, None)
    assert "earlier hftcl" in trigger(report, "drift").evidence
    assert trigger(report, "recent_sharpe").value is not None


def recorded(home: Path, returns: list[float], *, last: date) -> None:
    """Give the policy a record of these returns on consecutive days up to `last`, before what it has."""
    archive, model = ModelArchive(home), Registry(home).list_models()[0]
    archive.record_sessions(
        [
            RecordedSession(
                session=last - timedelta(days=len(returns) - 1 - index),
                net=net,
                gross=net,
                turnover=0.0,
                model_id=model.model_id,
                kind="scored",
                source="files",
                synthetic=False,
                policy=hash_policy(on_files(home)),
            )
            for index, net in enumerate(returns)
        ],
        now=NOW,
    )


def test_the_detector_reads_the_record_and_then_the_sessions_since(home: Path) -> None:
    """A second way: the detector fed by hand with the record, then with what `exam` says of the later sessions."""
    recorded(home, [0.001, -0.002] * 15, last=date(2025, 11, 30))
    found = trigger(learning(on_files(home)).check(), "degraded")
    scored = learning(on_files(home)).exam(Registry(home).list_models()[0].model_id, "2026-01-09", "2026-02-05")
    state, policy = ShiryaevRoberts(sessions_per_year=252), hash_policy(on_files(home))
    known = [each.net for each in read_sessions(Registry(home), synthetic=False, policy=policy)]
    for net in (*known, *scored.pnl_by_session.values()):
        state = state.update(net)
    assert found.value == pytest.approx(state.statistic, rel=1e-9)
    assert f"({len(known)} recorded, {scored.sessions} since)" in found.evidence
    assert len(known) == 30 + Registry(home).list_models()[0].report["exam"]["sessions"]


def test_losses_that_were_already_judged_do_not_fire_and_losses_since_do(home: Path) -> None:
    """The record's losses end before the verdict of 2026-01-08; the bot then loses what the model never earned."""
    rng = np.random.default_rng(3)
    recorded(home, (-0.002 + 0.002 * rng.standard_normal(300)).tolist(), last=date(2025, 11, 30))
    judged = trigger(learning(on_files(home)).check(), "degraded")
    assert not judged.fired, "every alarm lies before the last verdict"
    dear = on_files(home, strategy={"cost_bps": 60.0}, triggers={"alarm_sessions": 8})
    report = learning(dear).check()
    since = trigger(report, "degraded")
    assert since.fired
    assert "after the last verdict" in since.evidence
    assert report.due


def test_a_model_of_other_bars_is_not_measured_on_these(trained: Path) -> None:
    settings = on_files(trained)
    report = learning(replace(settings, market=replace(settings.market, source="synthetic"))).check()
    for name in ("recent_sharpe", "degraded", "drift"):
        found = trigger(report, name)
        assert (found.fired, found.value) == (False, None)
        assert "was trained on real bars, and these are synthetic ones" in found.evidence


DAY_AFTER = (NOW + timedelta(days=1)).isoformat()


def test_a_model_serves_the_market_that_it_was_trained_on(
    trained: Path, checked: tuple[CheckReport, Files, Files]
) -> None:
    settings = on_files(trained)
    assert not trigger(checked[0], "no_model").fired
    then = trigger(learning(settings).check(as_of=DAY_AFTER), "age")
    assert then.evidence.startswith("candidate "), "in the past its verdict counted"
    at_once = trigger(learning(settings, NOW + timedelta(hours=1)).check(), "age")
    assert at_once.evidence.startswith("candidate "), "as it does now"


@pytest.mark.parametrize("market", [{"source": "synthetic"}, {"calendar": "XLON"}, {"extended_hours": True}])
def test_a_model_that_cannot_serve_this_market_is_no_model(trained: Path, market: dict[str, object]) -> None:
    settings = on_files(trained)
    other = replace(settings, market=replace(settings.market, **market))  # type: ignore[arg-type]
    report = learning(other).check()
    found = trigger(report, "no_model")
    assert found.fired
    assert "cannot serve this market: Model" in found.evidence
    at_once = learning(other, NOW + timedelta(hours=1)).check()
    assert at_once.due, "the verdict of an hour ago was about another market: it cools nothing down here"
    assert trigger(at_once, "age").evidence == "no candidate was ever judged"
    then = learning(other).check(as_of=DAY_AFTER)
    assert trigger(then, "age").evidence == "no candidate was ever judged", "nor in the past"


def test_a_damaged_model_is_told_and_the_check_goes_on(home: Path) -> None:
    file = home / "trained_stock_model.onnx"
    file.write_bytes(file.read_bytes()[:-100])
    report = learning(on_files(home)).check()
    assert report.due
    assert trigger(report, "no_model").fired
    assert trigger(report, "drift").value is None


def test_a_forced_retrain_is_recorded_as_asked_for_by_a_person(trained: Path) -> None:
    report = Registry(trained).list_models()[0].report
    assert [(each["name"], each["fired"]) for each in report["triggers"]] == [("manual", True)]


def test_the_model_file_keeps_the_slices_of_its_exam_and_still_predicts_what_was_examined(trained: Path) -> None:
    record = Registry(trained).list_models()[0]
    model = artifact.load(trained / "trained_stock_model.onnx", expected_sha256=record.sha256)
    kept, told = model.meta.exam_slices, record.report["challenger"]["slices"]
    assert kept is not None
    assert list(kept) == list(told) == ["ticker", "hour", "volatility", "side"]
    for by, parts in kept.items():
        assert [(part.name, part.gross, part.trades) for part in parts] == [
            (part["name"], part["gross"], part["trades"]) for part in told[by]
        ]
        net = record.report["challenger"]["pnl"]
        assert sum(part["net"] for part in told[by]) == pytest.approx(net, abs=1e-12)
    exam = record.report["exam"]
    again = learning(on_files(trained)).exam(record.model_id, exam["from"], exam["to"])
    assert again.positions_sha256 == record.report["challenger"]["positions_sha256"]


def test_what_the_bot_has_traded_stands_before_what_the_model_would_have_made(home: Path) -> None:
    """A second way: the Sharpe ratio of the account's own change, session by session."""
    model = Registry(home).list_models()[0].model_id
    first, last = date(2026, 1, 12), date(2026, 2, 13)
    world = write_ledger(home / "ledger.sqlite", first=first, last=last, model=model, swaps={}, drift=-0.0006)
    found = trigger(learning(on_files(home)).check(), "recent_sharpe")
    known = [net for day, net in world.net.items() if day <= date(2026, 2, 5)]
    assert len(known) == 18
    assert found.value == pytest.approx(sharpe(known))
    assert found.fired
    assert "over 18 sessions that it traded, by the paper ledger" in found.evidence


def test_too_short_a_ledger_or_another_model_s_leaves_the_trigger_to_the_bars(home: Path) -> None:
    model = Registry(home).list_models()[0].model_id
    write_ledger(home / "ledger.sqlite", first=date(2026, 1, 12), last=date(2026, 1, 16), model=model, swaps={})
    short = trigger(learning(on_files(home)).check(), "recent_sharpe")
    assert "sessions that the model has not seen" in short.evidence
    (home / "ledger.sqlite").unlink()
    write_ledger(home / "ledger.sqlite", first=date(2026, 1, 12), last=date(2026, 2, 5), swaps={})
    assert trigger(learning(on_files(home)).check(), "recent_sharpe") == short


def test_a_damaged_ledger_is_told_and_the_check_goes_on(home: Path) -> None:
    (home / "ledger.sqlite").write_bytes(b"no ledger")
    report = learning(on_files(home)).check()
    assert "ledger.sqlite" in trigger(report, "recent_sharpe").evidence
    assert not trigger(report, "recent_sharpe").fired
    assert trigger(report, "drift").value is not None


@pytest.mark.hazard(82)
def test_a_miracle_on_real_bars_is_inconclusive_until_a_person_confirms_it_with_a_reason(home: Path) -> None:
    """A planted edge, of a size that no market has: it once was deployed and traded without a word."""
    doubting = on_files(home, exam={"plausible_sharpe": 8.0})
    report = learning(doubting).retrain(force=True)
    assert report.outcome == "inconclusive"
    assert "nearly always an error in the bars: " in report.reason
    assert "gross Sharpe" in report.reason
    for cause in (
        "intervals: all of one minute",
        "correlation",
        "stamps at the minute's end",
        "decided one minute late",
    ):
        assert cause in report.reason
    assert report.edge == "stand aside"
    assert "nearly always an error in the bars" in report.edge_reason
    assert report.model_id is not None
    learner = learning(doubting, LATER + timedelta(hours=1))
    learner.rollback_to_previous_model(report.model_id, reason="the market of a test, whose edge is planted")
    learner.unpin()
    confirmed = learner.retrain(force=True, dry_run=True)
    assert confirmed.implausible or confirmed.exam is None or confirmed.exam.sessions == 0
    assert not [fact for fact in confirmed.evidence if fact.name == "plausibility"]
    assert "error in the bars" not in confirmed.edge_reason
