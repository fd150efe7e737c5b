"""A context ticker that lacks bars is left out of those windows of a backtest in which a retrain would leave it out."""

from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from hftcl import ContinuousLearning
from hftcl.archive import artifact
from hftcl.archive.registry import Registry
from hftcl.errors import FeatureError
from hftcl.events import ignore
from hftcl.learning.backtest.reports import BacktestReport
from hftcl.market.sources.synthetic import SyntheticSource
from hftcl.settings import Settings
from tests.loop_cases import small

NOW = datetime(2026, 1, 9, 7, 0, tzinfo=UTC)
FROM, TO = "2025-08-18", "2025-08-28"  # a Monday and a Thursday: weeks end on 08-15 and 08-22
# Of the 38 sessions that a retrain of 08-15 collects SPY lacks 10, of the 39 of 08-22 it lacks 6; 80 % are asked for.
BEGINS = date(2025, 7, 9)
OWN = """\
from hftcl.model.features import Feature, ctx
FEATURES = (
    Feature(name="led", group="mine", expr=ctx("SPY", "ret_5"), lookback=0, formula="ret_5 of SPY", reason="r"),
)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return files of two traded tickers, and of a context ticker that begins later; beside them a file of features."""
    folder = tmp_path_factory.mktemp("context")
    source = SyntheticSource(small(folder))
    for ticker in ("AAPL", "AMD", "SPY"):
        bars = source.minutes(ticker, BEGINS if ticker == "SPY" else date(2025, 5, 5), date(2025, 8, 28))
        bars.with_columns(ticker=pl.lit(ticker)).write_parquet(folder / f"{ticker}.parquet")
    (folder / "my_features.py").write_text(OWN)
    return folder


def settings_of(home: Path, folder: Path) -> Settings:
    return small(
        home,
        market={"watchlist": ("AAPL", "AMD"), "context": ("SPY",), "source": "files", "min_coverage": 0.8},
        files={"folder": str(folder)},
        features={"modules": (str(folder / "my_features.py"),)},
        exam={"sessions": 10, "min_sessions": 5},
    )


@pytest.fixture(scope="module")
def done(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BacktestReport]:
    home = tmp_path_factory.mktemp("home")
    loop = ContinuousLearning(settings_of(home, folder), clock=lambda: NOW, on_event=ignore)
    return home, loop.backtest(FROM, TO)


def test_each_week_leaves_out_the_context_ticker_that_its_retrain_would_leave_out(
    done: tuple[Path, BacktestReport], folder: Path, tmp_path: Path
) -> None:
    home, report = done
    loop = ContinuousLearning(settings_of(tmp_path, folder), clock=lambda: NOW, on_event=ignore)
    with pytest.raises(FeatureError, match="The feature led is null"):
        loop.retrain(force=True, as_of="2025-08-15")
    retrained = loop.retrain(force=True, as_of="2025-08-22")
    (attempt,) = report.attempts
    assert f"{attempt.at:%Y-%m-%d}" == "2025-08-22"
    assert retrained.challenger is not None
    assert attempt.sharpe == retrained.challenger.sharpe
    (kept,) = [path for path in (home / "backtest").glob("*/20250822_*-*.onnx") if "fold" not in path.name]
    theirs = artifact.load(Registry(tmp_path).locate_onnx(str(retrained.model_id))).meta
    assert artifact.load(kept).meta.data_digest == theirs.data_digest


def test_the_report_tells_from_how_many_windows_it_is_left_out(done: tuple[Path, BacktestReport]) -> None:
    _, report = done
    told = [note for note in report.notes if "context ticker SPY" in note]
    assert len(told) == 1
    assert "is left out of 1 of 2 weekly windows" in told[0]
