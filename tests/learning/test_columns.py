"""A column of the user's and a ticker that is not traded, through the loop: collected, trained on, examined, traded."""

import time
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from hftcl import ContinuousLearning
from hftcl.archive import artifact
from hftcl.archive.artifact import list_our_features
from hftcl.archive.registry import Registry
from hftcl.errors import FeatureError, IntegrityError, UsageError
from hftcl.events import ignore
from hftcl.learning.bars_digest import compute_bars_digests, sum_up_digests
from hftcl.learning.dataset import Window, open_window
from hftcl.learning.reports import RetrainReport
from hftcl.learning.search.space import build_space
from hftcl.learning.search.story import name_study
from hftcl.learning.stories.collect import collect
from hftcl.market.sessions import Calendar
from hftcl.market.sources.synthetic import SyntheticSource
from hftcl.market.window import AsOf
from hftcl.model.features import FEATURE_NAMES
from hftcl.schedule.jobs import _find_holes
from hftcl.settings import Settings
from hftcl.trading.run.controls import Controls
from hftcl.trading.run.replay import replay
from hftcl.views.loop import draw_check
from tests.loop_cases import BEFORE_SHORT_DAY, NOW, SHORT_DAY, small
from tests.market.exchange import Exchange, quiet_bars

AS_OF, AFTER = BEFORE_SHORT_DAY, SHORT_DAY.isoformat()
OWN = """\
import polars as pl
from hftcl.model.features import Feature, ctx
FEATURES = (
    Feature(name="lean", group="mine", expr=pl.col("imbalance"), lookback=0, formula="imbalance[t]", reason="r"),
    Feature(name="led", group="mine", expr=ctx("SPY", "ret_5"), lookback=0, formula="ret_5 of SPY", reason="r"),
)
"""


@dataclass(frozen=True)
class Wide:
    """A home whose model reads a column and a context ticker."""

    settings: Settings
    report: RetrainReport
    file: Path

    @property
    def data(self) -> bytes:
        return Registry(self.file.parent).locate_onnx(str(self.report.model_id)).read_bytes()


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Wide:
    home = tmp_path_factory.mktemp("wide")
    file = home / "my_features.py"
    file.write_text(OWN)
    settings = small(
        home,
        market={"watchlist": ("AAPL", "AMD"), "columns": ("imbalance", "trades"), "context": ("SPY",)},
        synthetic={"edge": 0.0, "column_edge": 2.0},
        features={"modules": (str(file),)},
    )
    report = ContinuousLearning(settings, clock=lambda: NOW).retrain(force=True, as_of=AS_OF)
    return Wide(settings, report, file)


def other(settings: Settings, **market: Any) -> Settings:
    return replace(settings, market=replace(settings.market, **market))


def test_the_model_file_names_the_columns_that_it_needs_and_only_traded_tickers(wide: Wide) -> None:
    meta = artifact.describe(wide.data)
    assert (wide.report.outcome, wide.report.tickers) == ("deployed", ("AAPL", "AMD"))
    assert meta.columns == ("SPY ret_5", "imbalance")
    assert (meta.tickers, meta.feature_names) == (("AAPL", "AMD"), (*FEATURE_NAMES, "lean", "led"))


@pytest.mark.parametrize(
    ("market", "said"),
    [
        ({"columns": ("trades",)}, r"reads imbalance of each bar, which \[market\] columns does not name"),
        ({"context": ()}, r"reads SPY ret_5 of each bar, which \[market\] context does not name"),
    ],
)
def test_a_bot_without_them_refuses_the_model(wide: Wide, market: dict[str, Any], said: str) -> None:
    wide_set = list_our_features(wide.settings)
    assert artifact.load(wide.data, expected_features=wide_set).meta.columns == wide_set.columns
    lacking = other(replace(wide.settings, features=Settings().features), **market)
    with pytest.raises(IntegrityError, match=said):
        artifact.load(wide.data, expected_features=list_our_features(lacking))


def test_the_replay_holds_the_positions_of_the_exam_and_says_where_the_context_is_silent(wide: Wide) -> None:
    learning = ContinuousLearning(wide.settings, clock=lambda: NOW)
    examined = learning.exam(str(wide.report.model_id), AFTER, AFTER)
    played = replay(
        wide.settings,
        AFTER,
        now=NOW,
        stopwatch=time.perf_counter,
        controls=Controls(),
        on_event=ignore,
        on_alert=lambda _: None,
    )
    assert played.positions_sha256 == examined.positions_sha256
    assert played.decisions == 2 * 210
    assert played.fills > 0
    frame = open_window(wide.settings, as_of=AFTER, now=NOW, save=False, on_event=ignore).assemble().frame
    known = pl.all_horizontal(pl.col(*FEATURE_NAMES, "lean").is_not_null())
    silent = frame.filter((pl.col("session").cast(pl.String) == AFTER) & known & pl.col("led").is_null())
    assert played.codes["hold_context"] == silent.height > 5


def test_a_bar_is_explained_with_what_its_model_read_of_the_context(wide: Wide) -> None:
    learning = ContinuousLearning(wide.settings, clock=lambda: NOW)
    model = str(wide.report.model_id)
    frame = open_window(wide.settings, as_of=AFTER, now=NOW, save=False, on_event=ignore).assemble().frame
    bar = frame.filter((pl.col("ticker") == "AMD") & pl.col("led").is_not_null()).row(-1, named=True)
    (row,) = learning.explain(model, ("AMD", bar["ts"].isoformat())).rows
    assert row.features["led"] == bar["led"]
    assert row.prediction is not None
    with pytest.raises(UsageError, match=r"SPY is a context ticker, .* Ask about one of .* watchlist: AAPL, AMD\."):
        learning.explain(model, ("SPY", bar["ts"].isoformat()))


def test_a_context_ticker_without_bars_is_told_apart_from_the_watchlist(tmp_path: Path) -> None:
    days = Calendar("XNYS").list_sessions(date(2026, 1, 26), date(2026, 1, 30))
    exchange = Exchange(quiet_bars("AAA", first=days["session"][0], last=days["session"][-1], step=30))
    told: list[str] = []
    window = Window(
        settings=small(tmp_path, market={"watchlist": ("AAA",), "context": ("BBB",), "lookback_days": 4}),
        source=exchange,
        calendar=Calendar("XNYS"),
        known_end=AsOf(at=days["close"][-1], note="a test", explicit=True),
        save=False,
        on_event=lambda event: told.append(event.text),
    )
    data = window.assemble()
    assert (data.tickers, data.left_out, data.context_left_out) == (("AAA",), {}, {"BBB": "no bars"})
    assert "the context ticker BBB is left out: no bars; what reads it is not known" in told


@pytest.fixture
def given(tmp_path: Path) -> Settings:
    """Return settings of two traded tickers, and of two context tickers: one silent on the last session, one gone."""
    folder, last = tmp_path / "given", date(2026, 1, 8)
    folder.mkdir()
    source = SyntheticSource(small(tmp_path))
    for ticker in ("AAPL", "AMD", "SPY", "QQQ"):
        bars = source.minutes(ticker, date(2025, 12, 22), last)
        if ticker == "QQQ":
            bars = bars.head(400)
        if ticker == "SPY":
            bars = bars.filter(pl.col("ts").dt.date() < last)
        bars.write_parquet(folder / f"{ticker}.parquet")
    market = {"watchlist": ("AAPL", "AMD"), "context": ("SPY", "QQQ"), "source": "files", "lookback_days": 10}
    return small(tmp_path, files={"folder": str(folder)}, market=market)


def test_a_context_ticker_that_is_silent_on_the_newest_session_alone_is_in_the_daily_alert(given: Settings) -> None:
    collection = collect(given, now=NOW, on_event=ignore)
    assert (collection.silent, collection.left_out) == ((), {})
    assert collection.context_silent == ("SPY",)
    assert list(collection.context_left_out) == ["QQQ"]
    (alert,) = _find_holes(collection, NOW)
    assert alert.subject == "Data hole: SPY, QQQ"
    assert alert.text.splitlines()[0] == "SPY, a context ticker: no bar on 2026-01-08; what reads it is not known"


def test_a_check_says_context_tickers_apart_from_those_that_are_traded(
    given: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    report = ContinuousLearning(given, clock=lambda: NOW).check()
    assert {item.ticker: item.context for item in report.coverage} == {
        "AAPL": False,
        "AMD": False,
        "SPY": True,
        "QQQ": True,
    }
    draw_check(report, 1)
    shown = capsys.readouterr().out
    assert "[market] context, left out: QQQ: " in shown
    assert "SPY (context)" in shown
    assert "AMD (context)" not in shown


def test_a_model_that_traded_what_is_a_context_ticker_now_comes_out_again_to_the_bit(wide: Wide) -> None:
    market = replace(wide.settings.market, watchlist=("TSLA",), context=("AMD", "SPY"))
    settings = replace(wide.settings, market=market)
    again = ContinuousLearning(settings, clock=lambda: NOW).reproduce(str(wide.report.model_id))
    assert again.equal, again.differences


def test_the_proof_looks_at_features_that_read_them(wide: Wide) -> None:
    settings = other(wide.settings, lookback_days=10)
    proof = ContinuousLearning(settings, clock=lambda: NOW).prove(cases=1, seed=3, as_of=AFTER)
    assert (proof.differences, proof.streaming_differences, proof.planted_leak_caught) == (0, 0, True)
    assert 400 < proof.streamed_bars <= 2 * 210, "by this seed the short session is compared"


def test_a_leak_of_a_column_ends_the_training_and_names_the_feature(wide: Wide, tmp_path: Path) -> None:
    leak = tmp_path / "leak.py"
    leak.write_text(OWN.replace('pl.col("imbalance")', 'pl.col("imbalance").shift(-1)'))
    leaky = replace(wide.settings, features=replace(wide.settings.features, modules=(str(leak),)))
    with pytest.raises(FeatureError, match=r"lean breaks a promise: a value never changes .* It reads a later bar"):
        ContinuousLearning(leaky, clock=lambda: NOW).retrain(force=True, as_of=AS_OF)


def test_a_corrected_column_makes_other_bars_of_the_session_where_a_feature_reads_it(wide: Wide) -> None:
    data = open_window(wide.settings, as_of=AS_OF, now=NOW, save=False, on_event=ignore).assemble()
    assert data.features.columns == ("SPY ret_5", "imbalance")
    before = compute_bars_digests(data.frame, data.features.columns)
    last = pl.col("session") == data.sessions[-1]
    news = data.frame.with_columns(pl.when(last).then(0.5).otherwise("imbalance").alias("imbalance"))
    after = compute_bars_digests(news, data.features.columns)
    assert [day for day in before if before[day] != after[day]] == [data.sessions[-1]]
    assert compute_bars_digests(news) == compute_bars_digests(data.frame)


def test_the_model_file_and_a_search_name_such_bars_by_them_too(wide: Wide) -> None:
    data = open_window(wide.settings, as_of=AS_OF, now=NOW, save=False, on_event=ignore).assemble()
    meta = artifact.describe(wide.data)
    learnt = data.frame.filter(pl.col("session").is_between(meta.trained_from, meta.trained_to))
    assert meta.bars_by_session == sum_up_digests(compute_bars_digests(learnt, meta.columns))[0]
    news = replace(data, frame=data.frame.with_columns(imbalance=pl.lit(0.5)))
    space = build_space(wide.settings, data.features)
    before, after = (name_study(wide.settings, space, each) for each in (data, news))
    assert before.parts["bars"] != after.parts["bars"]
