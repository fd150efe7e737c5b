"""A model a ticker in the whole loop: told, in one file, and the same in exam and bot to the bit."""

import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hftcl.archive import artifact
from hftcl.archive.fitness import describe_untrained_of, load_archived
from hftcl.archive.policy import is_made_by
from hftcl.archive.registry import Registry
from hftcl.errors import NoDataError
from hftcl.events import Event, Level, ignore
from hftcl.exam.split import list_sessions, split
from hftcl.home import Home
from hftcl.learning.candidate import merge_params
from hftcl.learning.dataset import open_window
from hftcl.learning.inside import Training, choose
from hftcl.learning.reports import RetrainReport
from hftcl.learning.score import predict_bars
from hftcl.learning.stories.check import check
from hftcl.learning.stories.exam import score
from hftcl.learning.stories.explain import explain
from hftcl.learning.stories.reproduce import reproduce
from hftcl.ledger.reader import LedgerReader
from hftcl.model import file_size
from hftcl.model.serving import Predictor
from hftcl.model.training import TrainingPool
from hftcl.settings import Settings
from hftcl.trading.run.controls import Controls
from hftcl.trading.run.replay import replay
from tests.loop_cases import BEFORE_SHORT_DAY, NOW, SHORT_DAY, first_retrain, small
from tests.trained import Homes

LATER = datetime(2026, 1, 12, 12, tzinfo=UTC)
THREE: dict[str, object] = {"watchlist": ("AAPL", "AMD", "TSLA")}
ALL: dict[str, dict[str, object]] = {
    "market": THREE,
    "promote": {"min_sharpe": -100},
    "model": {"per": "ticker", "horizon_minutes": "auto", "horizons": (5, 20), "novelty": 0.95},
    "features": {"drop_below": 0.001},
    "strategy": {"entry": "net", "weighting": "inverse_volatility"},
}


@pytest.fixture(scope="module")
def trained(homes: Homes, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RetrainReport]:
    """Return a home whose model holds one a ticker, with all that is chosen inside, and the report."""
    home = tmp_path_factory.mktemp("per_ticker") / "home"
    return home, homes.copy(home, first_retrain, as_of=BEFORE_SHORT_DAY, **ALL)


def replayed(settings: Settings, on_event: object = ignore) -> str | None:
    return replay(
        settings,
        f"{SHORT_DAY}..{SHORT_DAY}",
        now=LATER,
        stopwatch=time.perf_counter,
        controls=Controls(),
        on_event=on_event,  # type: ignore[arg-type]
        on_alert=lambda _: None,
    ).positions_sha256


def test_one_file_holds_them_with_all_that_was_chosen_inside(trained: tuple[Path, RetrainReport]) -> None:
    home, report = trained
    meta = artifact.describe(home / "trained_stock_model.onnx")
    assert (meta.per, meta.ticker_models) == ("ticker", ("AAPL", "AMD", "TSLA"))
    assert meta.format == artifact.FORMAT_PER_TICKER, "an older hftcl would read another number of columns"
    assert None not in (meta.entry, meta.horizon, meta.selection, meta.novelty, meta.volatility)
    assert len(meta.feature_names) < 31
    assert meta.selection == report.selection
    settings = small(home, **ALL)
    features = artifact.list_our_features(settings).narrow(meta.feature_names)
    assert is_made_by(meta, settings, merge_params(settings), features=features)
    one_for_all = replace(settings, model=replace(settings.model, per="watchlist"))
    assert not is_made_by(meta, one_for_all, merge_params(settings), features=features)


def test_exam_and_bot_agree_on_every_position(trained: tuple[Path, RetrainReport]) -> None:
    home, report = trained
    settings = small(home, **ALL)
    exam = score(settings, str(report.model_id), SHORT_DAY, SHORT_DAY, clock=lambda: LATER, on_event=ignore)
    assert exam.trades > 0
    assert replayed(settings) == exam.positions_sha256 is not None


def test_a_ticker_without_a_model_is_held_and_named_by_whatever_uses_it(
    trained: tuple[Path, RetrainReport], tmp_path: Path, homes: Homes
) -> None:
    _, report = trained
    home = tmp_path / "home"
    homes.copy(home, first_retrain, as_of=BEFORE_SHORT_DAY, **ALL)
    settings = small(home, **ALL)
    settings = replace(settings, market=replace(settings.market, watchlist=("AAPL", "AMD", "TSLA", "JNJ")))
    told: list[str] = []

    def hear(event: Event) -> None:
        told.append(event.text)

    expected = f"Model {report.model_id} holds no model of JNJ: nothing is opened in it."
    exam = score(settings, str(report.model_id), SHORT_DAY, SHORT_DAY, clock=lambda: LATER, on_event=hear)
    assert sum(expected in text for text in told) == 1
    bot = replayed(settings, hear)
    assert sum(expected in text for text in told) == 2
    check(settings, as_of=None, now=NOW, on_event=hear)
    assert sum(expected in text for text in told) == 3
    assert bot == exam.positions_sha256
    assert exam.pnl_by_ticker["JNJ"] == 0
    with LedgerReader(Home.of(settings).ledger.parent / "replay" / "ledger.sqlite") as ledger:
        rows = ledger.read_decisions("production").filter(pl.col("ticker") == "JNJ")
    assert set(rows["code"]) == {"hold_no_model"}
    assert rows["prediction"].null_count() == rows.height


def test_a_ticker_that_was_trained_on_and_has_no_model_is_named(trained: tuple[Path, RetrainReport]) -> None:
    """One with too few rows: it is of the model's tickers, and the model says nothing of it."""
    home, _ = trained
    meta = artifact.describe(home / "trained_stock_model.onnx")
    thin = replace(meta, ticker_models=("AAPL", "AMD"))
    assert describe_untrained_of(meta, ("AAPL", "TSLA")) is None
    told = describe_untrained_of(thin, ("AAPL", "TSLA"))
    assert told is not None
    assert "holds no model of TSLA: nothing is opened in it" in told


def test_each_bar_is_explained_by_the_model_of_its_ticker(trained: tuple[Path, RetrainReport]) -> None:
    home, report = trained
    settings = small(home, **ALL)
    explained = explain(settings, str(report.model_id), now=NOW, on_event=ignore)
    assert {row.ticker for row in explained.rows} == {"AAPL", "AMD", "TSLA"}
    for row in explained.rows:
        assert row.contributions is not None
        assert row.base is not None
        assert row.base + sum(row.contributions.values()) == pytest.approx(row.prediction, abs=1e-5)
    assert len({row.base for row in explained.rows}) == 3


def test_a_file_with_a_model_a_ticker_comes_out_again_to_the_bit(trained: tuple[Path, RetrainReport]) -> None:
    home, report = trained
    again = reproduce(small(home, market=THREE), str(report.model_id), now=NOW, on_event=ignore)
    assert again.equal, again.differences  # by what its file says: the settings say one model for all


def test_each_row_is_predicted_by_a_training_on_its_ticker_alone(tmp_path: Path) -> None:
    """A second way to the file's predictions: each ticker's rows trained by a pool of their own."""
    settings = small(tmp_path, market=THREE, model={"per": "ticker"})
    frame = open_window(settings, as_of=None, now=NOW, save=False, on_event=ignore).assemble().frame
    division = split(list_sessions(frame), exam_sessions=10, embargo_sessions=1)
    with TrainingPool() as pool:
        training = Training(settings=settings, params=merge_params(settings), pool=pool, on_event=ignore)
        joined = choose(frame, division, artifact.list_our_features(), training).learn()
        own = frame.filter(pl.col("ticker") == "AMD")
        alone = choose(own, division, artifact.list_our_features(), training).learn()
    assert joined.rows.inputs.tickers == ("AAPL", "AMD", "TSLA")
    amd = joined.rows.X[:, -1] == 1
    np.testing.assert_array_equal(joined.rows.X[amd, :-1], alone.rows.X[:, :-1])
    both = [Predictor(one.begun.onnx, 32).predict(X) for one, X in ((joined, joined.rows.X), (alone, alone.rows.X))]
    np.testing.assert_array_equal(both[0][amd], both[1])


def test_a_ticker_with_too_few_rows_gets_no_model_and_is_named_and_without_any_there_is_no_training(
    tmp_path: Path,
) -> None:
    settings = small(tmp_path, market=THREE, model={"per": "ticker"})
    frame = open_window(settings, as_of=None, now=NOW, save=False, on_event=ignore).assemble().frame
    division = split(list_sessions(frame), exam_sessions=10, embargo_sessions=1)
    newest = division.train_days[-4:]
    few = frame.filter((pl.col("ticker") != "AMD") | pl.col("session").is_in([*newest, *division.exam_days]))
    told: list[str] = []
    with TrainingPool() as pool:
        training = Training(
            settings=settings,
            params=merge_params(settings),
            pool=pool,
            on_event=lambda event: told.append(event.text),
        )
        learnt = choose(few, division, artifact.list_our_features(), training).learn()
        assert learnt.rows.inputs.tickers == ("AAPL", "TSLA")
        assert "AMD" not in set(learnt.rows.frame["ticker"])
        assert "too few rows for a model of its own, so no position is opened in it: AMD (0 rows)" in told
        gone = frame.filter((pl.col("ticker") != "AMD") | ~pl.col("session").is_in(division.train_days[-8:]))
        rows = choose(gone, division, artifact.list_our_features(), training).learn().rows
        assert rows.inputs.tickers == ("AAPL", "TSLA")
        assert rows.thin["AMD"] >= 1_000, "rows enough, and none held out that could set a threshold"
        with pytest.raises(NoDataError, match=r'per = "ticker": none of 1 ticker has 1,000 rows .* AMD has \d+\.'):
            choose(few.filter(pl.col("ticker") == "AMD"), division, artifact.list_our_features(), training).learn()


def test_before_a_training_it_is_told_that_the_file_may_be_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_size, "MAX_BYTES", 1000)  # of this process alone: the one that trains has the real one
    settings = small(tmp_path, market=THREE, model={"per": "ticker", "n_estimators": 2, "max_depth": 3})
    frame = open_window(settings, as_of=None, now=NOW, save=False, on_event=ignore).assemble().frame
    division = split(list_sessions(frame), exam_sessions=10, embargo_sessions=1)
    told: list[Event] = []
    with TrainingPool() as pool:
        training = Training(settings=settings, params=merge_params(settings), pool=pool, on_event=told.append)
        choose(frame, division, artifact.list_our_features(), training).learn()
    texts = [event.text for event in told if event.level is Level.WARNING]
    assert ["the model may take up to" in text and "[model] per" in text for text in texts] == [True]
    assert told.index(next(event for event in told if event.text in texts)) == 0, "before any tree"


def test_a_prediction_is_missing_for_a_ticker_without_a_model_alone(trained: tuple[Path, RetrainReport]) -> None:
    home, _ = trained
    (record,) = Registry(home).list_models()
    settings = small(home, **ALL)
    model = load_archived(Registry(home), record, None, artifact.list_our_features())
    frame = open_window(settings, as_of=None, now=NOW, save=False, on_event=ignore).assemble().frame.tail(3000)
    renamed = frame.with_columns(pl.when(pl.col("minute") > 200).then(pl.lit("X")).otherwise("ticker").alias("ticker"))
    before, after = predict_bars(model, frame)[0], predict_bars(model, renamed)[0]
    kept = (renamed["ticker"] != "X").to_numpy()
    assert after.filter(pl.Series(~kept)).null_count() == (~kept).sum() > 0
    assert after.filter(pl.Series(kept)).equals(before.filter(pl.Series(kept)))
