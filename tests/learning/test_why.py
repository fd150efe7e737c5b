"""Why a model predicted and traded as it did, and whether it comes out again from the bars that it names."""

import shutil
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hftcl import ContinuousLearning
from hftcl.archive import artifact
from hftcl.archive.deployment import ModelArchive
from hftcl.errors import ModelNotFoundError, NoDataError, UsageError
from hftcl.exam.entry import EntryChoice
from hftcl.home import Home
from hftcl.learning.stories.reproduce import adopt_settings, list_causes
from hftcl.learning.why_reports import ExplainRow, ReproduceReport
from hftcl.ledger.rows import Decision, OrderRecord
from hftcl.ledger.writer import Ledger
from hftcl.market.sources.synthetic import SyntheticSource
from hftcl.model.novelty import measure_novelty
from hftcl.settings import Settings
from tests.loop_cases import NOW, small
from tests.trained import Homes

TICKERS = ("AAPL", "AMD", "TSLA")
MODEL = "20260109_070000"
BAR = datetime(2026, 1, 7, 15, 30, tzinfo=UTC)
LATER = NOW + timedelta(days=1)


def on_files(home: Path, **sections: dict[str, object]) -> Settings:
    wanted: dict[str, dict[str, object]] = {
        "promote": {"min_sharpe": -100},
        "exam": {"plausible_sharpe": 1000, "sessions": 10},
        "model": {"n_estimators": 8},
        "market": {"watchlist": TICKERS},
        **sections,
    }
    settings = small(home, files={"folder": str(home / "bars_given")}, **wanted)
    return replace(settings, market=replace(settings.market, source="files"))


def learning(settings: Settings) -> ContinuousLearning:
    return ContinuousLearning(settings, clock=lambda: LATER)


def train(home: Path) -> None:
    """Make `home` one with a forest of eight trees, trained on bars from files, so that a test may revise them."""
    (home / "bars_given").mkdir()
    source = SyntheticSource(small(home))
    for ticker in TICKERS:
        bars = source.minutes(ticker, date(2025, 11, 1), NOW.date())
        bars.write_parquet(home / "bars_given" / f"{ticker}.parquet")
    report = ContinuousLearning(on_files(home), clock=lambda: NOW).retrain(force=True, as_of="2026-01-08")
    assert report.model_id == MODEL


@pytest.fixture(scope="module")
def trained(homes: Homes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("why") / "home"
    homes.copy(home, train)
    return home


@pytest.fixture
def home(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "home"))


def explain_bar(home: Path, ticker: str = "AMD", time: str = "2026-01-07T10:30") -> ExplainRow:
    (row,) = learning(on_files(home)).explain(MODEL, (ticker, time)).rows
    return row


def test_base_and_contributions_are_the_prediction_that_exam_and_bot_make(trained: Path) -> None:
    row = explain_bar(trained)
    model = artifact.load(ModelArchive(trained).locate_onnx(MODEL))
    frame = learning(on_files(trained)).collect_training_data()
    bar = frame[(frame["ticker"] == "AMD") & (frame["ts"] == BAR)]
    names = list(model.meta.feature_names)
    (prediction,) = model.predict(bar[names].to_numpy(dtype="float32"))
    assert row.prediction == prediction
    assert row.contributions is not None
    assert row.base is not None
    assert set(row.contributions) == set(names)
    assert row.base + sum(row.contributions.values()) == pytest.approx(prediction, abs=1e-6)
    assert [row.features[name] for name in names] == bar[names].to_numpy()[0].tolist()
    assert row.bar["close"] == bar["close"].item()


def test_signal_and_target_are_those_of_the_exam(trained: Path) -> None:
    """By hand: the signals of half an hour, times a third of the capital for each of three tickers."""
    model = artifact.load(ModelArchive(trained).locate_onnx(MODEL))
    frame = learning(on_files(trained)).collect_training_data()
    of_day = frame[(frame["ticker"] == "TSLA") & (frame["session"] == BAR.date()) & (frame["minute"] >= 31)]
    predicted = model.predict(of_day[list(model.meta.feature_names)].to_numpy(dtype="float32"))
    signals = (predicted > model.meta.threshold).astype(int) - (predicted < -model.meta.threshold).astype(int)
    minutes = of_day["minute"].to_numpy()
    bar = int(abs(signals).nonzero()[0][-1])  # the day's last signal, after which nothing is known
    last_half_hour = (minutes <= minutes[bar]) & (minutes > minutes[bar] - 30)
    row = explain_bar(trained, "TSLA", of_day["ts"].iloc[bar].isoformat())
    assert row.signal == signals[bar] != 0
    assert row.target == pytest.approx(signals[last_half_hour].sum() / 30 / 3)


def test_a_value_lies_in_training_where_its_rank_says(trained: Path) -> None:
    row = explain_bar(trained)
    meta = artifact.describe(ModelArchive(trained).locate_onnx(MODEL))
    frame = learning(on_files(trained)).collect_training_data(as_of="2026-01-08")
    trained_on = (frame["session"] >= meta.trained_from) & (frame["session"] <= meta.trained_to)
    rows = frame[trained_on].dropna(subset=[*meta.feature_names, "target"])
    assert len(rows) == meta.rows
    for name, place in row.quantiles.items():
        value = row.features[name]
        assert place is not None
        below, up_to = (rows[name] < value).mean(), (rows[name] <= value).mean()
        assert place[0] - 1e-6 <= up_to, name
        assert below <= place[1] + 1e-6, name
        assert place[1] - place[0] < 0.5, name


def test_a_time_is_by_the_exchange_s_clock_unless_it_names_an_offset(trained: Path) -> None:
    rows = [
        explain_bar(trained, "AMD", time)
        for time in ("2026-01-07 10:30:45", "2026-01-07T15:30Z", "2026-01-07T16:30+01:00")
    ]
    assert {row.ts for row in rows} == {BAR}
    assert rows[0] == rows[1] == rows[2]


def test_without_a_time_the_newest_bar_of_each_ticker_is_explained(trained: Path) -> None:
    report = learning(on_files(trained)).explain(MODEL)
    assert [(row.ticker, row.ts) for row in report.rows] == [
        (ticker, datetime(2026, 1, 9, 20, 59, tzinfo=UTC)) for ticker in TICKERS
    ]
    assert all(row.contributions is not None for row in report.rows)
    assert [row.code for row in report.rows] == [None] * 3, "no bot decided here"


def test_a_bar_before_the_features_are_known_has_no_prediction_and_no_contributions(trained: Path) -> None:
    row = explain_bar(trained, time="2026-01-07T09:40")
    assert (row.prediction, row.contributions, row.base, row.signal, row.target) == (None, None, None, 0, 0.0)
    assert None in row.features.values()


@pytest.mark.parametrize(
    ("time", "told"),
    [
        ("2026-01-07T16:00", "lies in no session of XNYS.*09:30 to 16:00"),
        ("2026-01-04T11:00", "lies in no session"),
        ("half past ten", "is no time"),
        ("2026-01-12T10:30", "is not over"),
        ("2026-01-10T02:00", "is not over"),
    ],
)
def test_a_time_without_a_bar_to_be_is_wrong_usage(trained: Path, time: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        explain_bar(trained, time=time)


def test_the_first_minute_of_a_session_is_one_of_it(trained: Path) -> None:
    assert explain_bar(trained, time="2026-01-07T09:30").ts == datetime(2026, 1, 7, 14, 30, tzinfo=UTC)


def test_a_ticker_without_that_bar_and_a_model_that_is_not_there_are_named(home: Path) -> None:
    path = home / "bars_given" / "AMD.parquet"
    pl.read_parquet(path).filter(pl.col("ts") != BAR).write_parquet(path)
    with pytest.raises(NoDataError, match=r"AMD has no bar at 2026-01-07 15:30.*began at 15:29"):
        explain_bar(home)
    told = r"^MSFT has no bar in the session of 2026-01-07, .*not in \[market\] watchlist\. Ask .*: AAPL, AMD, TSLA\.$"
    with pytest.raises(NoDataError, match=told):
        explain_bar(home, "MSFT")
    with pytest.raises(ModelNotFoundError):
        learning(on_files(home)).explain("20200101_000000")


def test_after_the_end_of_a_ticker_s_bars_it_is_told_where_they_end(home: Path) -> None:
    path = home / "bars_given" / "AMD.parquet"
    pl.read_parquet(path).filter(pl.col("ts") < datetime(2026, 1, 9, tzinfo=UTC)).write_parquet(path)
    told = r"The bars of AMD in the source 'files' end at 2026-01-08 21:00 UTC, before 2026-01-09 15:30 UTC\."
    with pytest.raises(NoDataError, match=told):
        explain_bar(home, time="2026-01-09T10:30")
    settings = on_files(home, market={"watchlist": ("AAPL", "AMD", "TSLA", "V1", "V2", "V3")})
    with pytest.raises(NoDataError, match=r"Ask about one of .*: AAPL, AMD, TSLA, V1, V2 and 1 more\.$"):
        learning(settings).explain(MODEL, ("MSFT", "2026-01-07T10:30"))


def test_what_the_bot_decided_and_ordered_is_told_from_its_ledger(home: Path) -> None:
    decided_at = BAR + timedelta(seconds=61)
    decision = Decision(
        book="production", ts=BAR, ticker="AMD", model_id="20260101_000000", features_hash=None, prediction=0.25,
        target=0.1, code="trade", decided_at=decided_at,
    )  # fmt: skip
    order = OrderRecord(
        client_order_id="1", book="production", ts=BAR, session=BAR.date(), ticker="AMD", model_id="20260101_000000",
        quantity=12.0, reference_price=101.5, state="refused", code="max_gross", reason="too much",
        created_at=decided_at, updated_at=decided_at,
    )  # fmt: skip
    with Ledger(Home(home).ledger) as ledger:
        ledger.write_decisions([decision], [order])
    row = explain_bar(home)
    assert row.code == "trade"
    assert row.decided is not None
    assert (row.decided.model_id, row.decided.prediction, row.decided.target) == ("20260101_000000", 0.25, 0.1)
    assert row.order is not None
    assert (row.order.quantity, row.order.state, row.order.code) == (12.0, "refused", "max_gross")
    assert explain_bar(home, "AAPL").code is None


def reproduce(home: Path, **sections: dict[str, object]) -> ReproduceReport:
    return learning(on_files(home, **sections)).reproduce(MODEL)


def test_a_model_comes_out_again_to_the_bit_and_nothing_is_changed(home: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*") if path.is_file()}
    later = {"lookback_days": 90, "watchlist": ("AAPL", "AMD", "TSLA", "V")}  # what the file tells goes before these
    report = reproduce(home, market=later, model={"n_estimators": 30, "horizon_minutes": 15})
    assert (report.equal, report.differences) == (True, ())
    assert report.rows == report.was_rows > 1000
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*") if path.is_file()} == before


def test_a_threshold_that_the_best_of_several_horizons_had_to_earn_comes_out_again(tmp_path: Path) -> None:
    """Of one horizon it would have been enough: what was tried before is of the model's making too."""
    settings = small(
        tmp_path,
        market={"watchlist": ("AAPL", "AMD")},
        synthetic={"edge": 1.0},
        model={"horizon_minutes": "auto", "horizons": (10, 20, 30, 60)},
        strategy={"entry": "net", "cost_bps": 0.5},
        promote={"min_sharpe": -100},
    )
    loop = ContinuousLearning(settings, clock=lambda: NOW)
    report = loop.retrain(force=True)
    assert report.entry is not None
    assert report.entry.quantile is None
    assert any(one.pays() for one in report.entry.tried)
    assert loop.reproduce(str(report.model_id)).differences == ()


def test_what_a_file_tells_of_its_making_goes_before_every_setting(trained: Path) -> None:
    """Each value is neither the default nor what the settings say now, once the one way and once the other."""
    plain = artifact.describe(ModelArchive(trained).locate_onnx(MODEL))
    entry = EntryChoice(quantile=0.7, threshold=0.1, sessions=5, errors=1.0, trials=9, tried=(), reason="")
    odd = replace(
        plain, tickers=("AMD", "V"), calendar="XLON", extended_hours=True, family="ridge", seed=7, horizon_minutes=12,
        half_life_days=15.0, max_rows=9_000, novelty=measure_novelty(np.eye(3, dtype=np.float32), 0.5),
        ticker_models=("AMD",), entry=entry, side="short", volatility={"AMD": 0.01}, entry_quantile=0.7, cost_bps=3.0,
        flat_minutes_before_close=9,
    )  # fmt: skip
    sections = ("market", "model", "strategy", "features")
    of_odd, of_plain = (
        {name: getattr(adopt_settings(small(trained, **given), meta), name) for name in sections}
        for given, meta in (({}, odd), (_ODD, plain))
    )
    told = {"family": plain.family, "max_rows": 0}
    for name, values in _ODD.items():
        usual = getattr(small(trained, market={"watchlist": TICKERS}), name)
        for setting, value in values.items():
            assert getattr(of_odd[name], setting) == ("off" if setting == "drop_below" else value), setting
            assert getattr(of_plain[name], setting) == told.get(setting, getattr(usual, setting)), setting


_ODD: dict[str, dict[str, object]] = {
    "market": {"watchlist": ("AMD", "V"), "calendar": "XLON", "extended_hours": True},
    "model": {
        "family": "ridge",
        "seed": 7,
        "horizon_minutes": 12,
        "half_life_days": 15.0,
        "max_rows": 9_000,
        "novelty": 0.5,
        "per": "ticker",
    },
    "features": {"drop_below": 0.01},
    "strategy": {
        "entry": "net",
        "side": "short",
        "weighting": "inverse_volatility",
        "entry_quantile": 0.7,
        "cost_bps": 3.0,
        "flat_minutes_before_close": 9,
    },
}


def test_a_revised_bar_is_named_by_its_ticker_and_session(home: Path) -> None:
    path = home / "bars_given" / "AMD.parquet"
    meta = artifact.describe(ModelArchive(home).locate_onnx(MODEL))
    at = datetime.combine(meta.trained_to, BAR.timetz())
    raised = pl.when(pl.col("ts") == at).then(pl.col("close") * 1.0004).otherwise("close")
    pl.read_parquet(path).with_columns(close=pl.min_horizontal(raised, "high")).write_parquet(path)
    report = reproduce(home)
    assert not report.equal
    said = {item.what: (item.was, item.is_) for item in report.differences}
    assert said["the bars of AMD"] == (f"those of {meta.trained_to}", "revised, lost or new")
    assert "the trees, or weights" in said
    assert "the training rows" in said


def test_an_embargo_that_the_file_does_not_tell_is_named_where_the_threshold_alone_differs(home: Path) -> None:
    report = reproduce(home, exam={"embargo_sessions": 2, "sessions": 10, "plausible_sharpe": 1000})
    assert [item.what for item in report.differences] == ["the entry threshold", "[exam] embargo_sessions"]


def test_a_ticker_that_is_gone_is_named(home: Path) -> None:
    (home / "bars_given" / "TSLA.parquet").unlink()
    said = {item.what: item.is_ for item in reproduce(home).differences}
    assert said["the bars of TSLA"].startswith("left out: no bars")


def test_another_library_and_another_parameter_are_named(trained: Path) -> None:
    now = artifact.describe(ModelArchive(trained).locate_onnx(MODEL))
    was = replace(now, versions={**now.versions, "numpy": "1.0"}, params={**now.params, "max_depth": 3})
    said = [(item.what, item.was, item.is_) for item in list_causes(was, now, {})]
    assert said == [
        ("the parameter max_depth", "3", str(now.params["max_depth"])),
        ("the version of numpy", "1.0", now.versions["numpy"]),
    ]


def test_a_file_that_does_not_name_its_bars_says_so(trained: Path) -> None:
    now = artifact.describe(ModelArchive(trained).locate_onnx(MODEL))
    earlier = replace(now, data_digest="0" * 64, bars_by_session=None, bars_by_ticker=None)
    assert [item.what for item in list_causes(earlier, now, {})] == ["the training rows", "which bars"]
