"""Does an exam show more than a model earns? Many exams of one market, each beside an older model on the same sessions.

Run it with: pytest -m bench -s tests/benchmarks/test_exam_luck.py. The markets are those of test_search.py.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from hftcl.archive.artifact import Model, list_our_features
from hftcl.events import ignore
from hftcl.exam.metrics import compute_or_none, sharpe
from hftcl.exam.split import list_sessions, split
from hftcl.learning.candidate import merge_params, train_candidate
from hftcl.learning.dataset import add_features
from hftcl.learning.score import examine
from hftcl.market.bars import clean
from hftcl.market.sessions import Calendar
from hftcl.market.sources.synthetic import SyntheticSource
from hftcl.model.features import WARMUP_SESSIONS
from hftcl.model.training import TrainingPool
from hftcl.settings import Settings, Synthetic

SEEDS = tuple(range(4000, 4028))
FIRST, LAST = date(2022, 5, 2), date(2026, 6, 26)
EXAM = 20  # sessions; a window trains on 20, leaves one out, and is examined on 20
CALENDAR = Calendar("XNYS")
TICKERS = ("AAPL", "AMD")
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Market:
    """Annual net Sharpe ratios of one market: exams, the older model on the same sessions, the first model for years.

    Rows of `exams` and `older` are the windows but the first one, NaN where nothing was traded.
    """

    exams: FloatArray
    older: FloatArray
    true: float
    blocks: float


def build_rows(settings: Settings) -> dict[date, pl.DataFrame]:
    """Return the rows of each session from FIRST to LAST, half a year computed at a time."""
    source, parts, begin = SyntheticSource(settings), [], FIRST
    while begin <= LAST:
        end = min(begin + timedelta(days=179), LAST)
        warm = CALENDAR.find_previous_session(begin, WARMUP_SESSIONS)
        sessions = CALENDAR.list_sessions(warm, end)
        bars = pl.concat([clean(source.minutes(t, warm, end), sessions, ticker=t)[0] for t in TICKERS])
        parts.append(add_features(bars, settings.model.target_minutes).filter(pl.col("session") >= begin))
        begin = end + timedelta(days=1)
    return {day: rows for (day,), rows in pl.concat(parts).partition_by("session", as_dict=True).items()}


def measure_market(seed: int, windows: int | None = None) -> Market:
    usual = Settings(synthetic=Synthetic(seed=seed, edge=1.0))
    settings = replace(
        usual, market=replace(usual.market, watchlist=TICKERS), model=replace(usual.model, family="ridge")
    )
    by_day = build_rows(settings)
    sessions = list_sessions(pl.concat(by_day.values()))

    def cut(days: Sequence[date]) -> pl.DataFrame:
        return pl.concat([by_day[day] for day in days]).sort("ticker", "ts")

    def score(model: Model, days: Sequence[date]) -> FloatArray:
        return examine(model, cut(days), days, cost_bps=1.0, watchlist=TICKERS).simulation.net

    starts = range(0, len(sessions) - 2 * EXAM, EXAM)[:windows]
    models: list[Model] = []
    exams: list[FloatArray] = []
    older: list[FloatArray] = []
    with TrainingPool() as pool:
        for start in starts:
            window = sessions[start : start + 2 * EXAM + 1]
            parts = split(window, exam_sessions=EXAM, embargo_sessions=1)
            candidate = train_candidate(
                cut([session.day for session in window]),
                parts,
                settings,
                model_id="20230303_220000",
                params=merge_params(settings),
                features=list_our_features(settings),
                source="synthetic",
                synthetic=True,
                pool=pool,
                on_event=ignore,
            )
            if models:
                exams.append(score(candidate.model, parts.exam_days))
                older.append(score(models[-1], parts.exam_days))
            models.append(candidate.model)
    later = [session.day for session in sessions[2 * EXAM + 1 :]]
    net = np.concatenate([score(models[0], later[at : at + 5 * EXAM]) for at in range(0, len(later), 5 * EXAM)])
    blocks = [net[at : at + EXAM] for at in range(0, net.size - EXAM + 1, EXAM)]
    return Market(measure(exams), measure(older), sharpe(net), float(np.nanmean(measure(blocks))))


def measure(parts: Sequence[FloatArray]) -> FloatArray:
    return np.array([np.nan if (value := compute_or_none(partial(sharpe, part))) is None else value for part in parts])


def describe(what: str, values: Sequence[float]) -> str:
    return f"{what} {np.mean(values):+.2f} +- {np.std(values, ddof=1) / np.sqrt(len(values)):.2f}"


@pytest.mark.bench
def test_an_exam_shows_no_more_than_an_older_model_earns_on_the_same_sessions(
    capsys: pytest.CaptureFixture[str],
) -> None:
    markets = [measure_market(seed) for seed in SEEDS]
    ahead = [float(np.nanmean(market.exams - market.older)) for market in markets]
    few = [market.blocks - market.true for market in markets]
    with capsys.disabled():
        lines = (
            describe("\nexam less the older model on the same sessions", ahead),
            describe("of one frozen model, 20 sessions less 1,000", few),
        )
        sys.stdout.write("\n".join(lines) + "\n")
    assert np.mean(ahead) < 0.5  # an exam that looked ahead by a minute would show tens
