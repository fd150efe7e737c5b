"""What choosing the entry threshold by net P&L inside the training window is worth on real bars.

Prints what it measured: `pytest -m bench -s tests/benchmarks/test_entry.py`.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from statistics import fmean

import polars as pl
import pytest

from hftcl.archive.artifact import Model
from hftcl.events import ignore
from hftcl.exam.entry import EntryTry
from hftcl.exam.split import list_sessions, split
from hftcl.learning.candidate import merge_params, train_candidate
from hftcl.learning.dataset import Dataset, open_window
from hftcl.learning.score import examine
from hftcl.model.training import TrainingPool
from hftcl.settings import Settings
from tests.shared_data import REAL_BARS, needs_real_bars

WINDOW, EXAM = 42, 20
"""Sessions: of sixty calendar days, and of the default exam; no two exams share one."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One threshold: what it earned on the held-out sessions, and the exam's net Sharpe ratio that nobody had seen."""

    inner: EntryTry
    sharpe: float


@dataclass(frozen=True, slots=True)
class Window:
    """One retrain: the quantile that was chosen, None for none, and all that were tried."""

    end: str
    chosen: float | None
    trials: tuple[Trial, ...]

    def find(self, quantile: float | None) -> float:
        """Return the exam's Sharpe ratio of a quantile; 0 where nothing is traded."""
        return next((trial.sharpe for trial in self.trials if trial.inner.quantile == quantile), 0.0)

    def choose_any_gain(self) -> float | None:
        """Return what would be chosen where every gain counted, however small beside its standard error."""
        best = max(self.trials, key=lambda trial: trial.inner.net).inner
        return best.quantile if best.net > 0 else None


def real_settings(home: Path) -> Settings:
    base = Settings()
    tickers = tuple(sorted(path.stem for path in REAL_BARS.glob("*.parquet")))
    return replace(
        base,
        paths=replace(base.paths, home=str(home)),
        market=replace(base.market, source="files", watchlist=tickers, lookback_days=300),
        files=replace(base.files, folder=str(REAL_BARS)),
        strategy=replace(base.strategy, entry="net"),
    )


def examine_window(settings: Settings, data: Dataset, end: int, pool: TrainingPool) -> Window:
    sessions = list_sessions(data.frame)[max(0, end - WINDOW) : end]
    frame = data.frame.filter(pl.col("session").is_between(sessions[0].day, sessions[-1].day))
    parts = split(sessions, exam_sessions=EXAM, embargo_sessions=1)
    candidate = train_candidate(
        frame,
        parts,
        settings,
        model_id="20250101_000000",
        params=merge_params(settings),
        features=data.features,
        source="files",
        synthetic=False,
        pool=pool,
        on_event=ignore,
    )
    meta = candidate.model.meta
    assert meta.entry is not None

    def score(one: EntryTry) -> Trial:
        model = Model(replace(meta, threshold=one.threshold), candidate.model.sha256, candidate.model._predictor)
        watchlist = settings.market.watchlist
        report = examine(model, frame, parts.exam_days, cost_bps=settings.strategy.cost_bps, watchlist=watchlist).report
        assert report.sharpe is not None
        return Trial(one, report.sharpe)

    return Window(str(sessions[-1].day), meta.entry.quantile, tuple(map(score, meta.entry.tried)))


@pytest.mark.bench
@pytest.mark.slow
@needs_real_bars
def test_on_real_bars_the_threshold_that_pays_is_worth_half_a_sharpe_ratio_more_than_the_quantile(
    tmp_path: Path,
) -> None:
    """Mean net Sharpe ratio of 8 or 9 exams of ten tickers at 1 bp; 0 of one that trades nothing."""
    settings = real_settings(tmp_path)
    data = open_window(
        settings, as_of="2025-06-30", now=datetime(2026, 1, 1, tzinfo=UTC), save=False, on_event=ignore
    ).assemble()
    sessions = len(list_sessions(data.frame))
    ends = [end for end in (sessions - EXAM * step for step in range(sessions // EXAM)) if end >= WINDOW - 1]
    with TrainingPool() as pool:
        windows = [examine_window(settings, data, end, pool) for end in ends]
    by_quantile = fmean(window.find(settings.strategy.entry_quantile) for window in windows)
    by_net = fmean(window.find(window.chosen) for window in windows)
    any_gain = [window.choose_any_gain() for window in windows]
    by_gain = fmean(window.find(quantile) for window, quantile in zip(windows, any_gain, strict=True))
    for number, window in zip(count(1), windows, strict=False):
        print(  # noqa: T201 a benchmark prints its figures
            f"\nexam {number}, to {window.end}: chosen {window.chosen}, Sharpe {window.find(window.chosen):+.2f}; "
            f"quantile 0.9 {window.find(0.9):+.2f}",
            end="",
        )
    none = sum(window.chosen is None for window in windows)
    print(  # noqa: T201
        f"\n{len(windows)} exams, mean net Sharpe: quantile {by_quantile:+.2f}; net above its standard error "
        f"{by_net:+.2f}, none in {none}; any net gain {by_gain:+.2f}, none in {any_gain.count(None)}"
    )
    assert len(windows) >= 8
    assert by_net >= by_quantile + 0.5
