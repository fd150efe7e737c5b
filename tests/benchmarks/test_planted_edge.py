"""How strong the planted edge of the synthetic market is: a model of one 60-day window, frozen, on two fresh years.

`_EDGE` in market/sources/synthetic_market.py was chosen by these figures. Run it with:
pytest -m bench -s tests/benchmarks
"""

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from hftcl.archive.artifact import list_our_features
from hftcl.events import ignore
from hftcl.exam.metrics import sharpe
from hftcl.exam.split import list_sessions, split
from hftcl.learning.candidate import merge_params, train_candidate
from hftcl.learning.dataset import add_features
from hftcl.learning.score import ExamResult, examine
from hftcl.market.bars import clean
from hftcl.market.sessions import Calendar
from hftcl.market.sources.synthetic import SyntheticSource
from hftcl.model.features import WARMUP_SESSIONS
from hftcl.model.training import TrainingPool
from hftcl.settings import Settings, Synthetic

AS_OF, FRESH_FROM, FRESH_DAYS = date(2023, 3, 3), date(2023, 4, 3), 730
CALENDAR = Calendar("XNYS")


@dataclass(frozen=True, slots=True)
class Truth:
    """Annual Sharpe ratios: of the exam as the first retrain would see it, and of the fresh sessions.

    unlucky: share of the runs of 20 fresh sessions that would not have earned a deployment.
    """

    exam: float
    gross: float
    net: float
    unlucky: float
    turnover: float
    sessions: int


def frame(settings: Settings, first: date, last: date) -> pl.DataFrame:
    """Features and targets of the sessions `first` to `last`, as the loop would compute them."""
    warm = CALENDAR.find_previous_session(first, WARMUP_SESSIONS)
    source, sessions = SyntheticSource(settings), CALENDAR.list_sessions(warm, last)
    parts = [clean(source.minutes(t, warm, last), sessions, ticker=t)[0] for t in settings.market.watchlist]
    return add_features(pl.concat(parts), settings.model.target_minutes).filter(pl.col("session") >= first)


def truth(seed: int, edge: float) -> Truth:
    settings = Settings(synthetic=Synthetic(seed=seed, edge=edge))
    window = frame(settings, AS_OF - timedelta(days=settings.market.lookback_days - 1), AS_OF)
    parts = split(list_sessions(window), exam_sessions=20, embargo_sessions=1)
    with TrainingPool() as pool:
        candidate = train_candidate(
            window,
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

    def score(rows: pl.DataFrame, days: list[date]) -> ExamResult:
        return examine(
            candidate.model, rows, days, cost_bps=settings.strategy.cost_bps, watchlist=settings.market.watchlist
        )

    exam = score(window, list(parts.exam_days)).simulation
    fresh = []
    for quarter in range(0, FRESH_DAYS, 90):
        first = FRESH_FROM + timedelta(days=quarter)
        rows = frame(settings, first, first + timedelta(days=89))
        fresh.append(score(rows, sorted(set(rows["session"]))).simulation)

    def joined(name: str) -> npt.NDArray[np.float64]:
        return np.concatenate([getattr(part, name) for part in fresh])

    net = joined("net")
    exams = [sharpe(net[begin : begin + 20]) for begin in range(net.size - 19)]
    return Truth(
        exam=sharpe(exam.net),
        gross=sharpe(joined("gross")),
        net=sharpe(net),
        unlucky=float(np.mean([value <= settings.promote.min_sharpe for value in exams])),
        turnover=float(joined("turnover").mean()),
        sessions=net.size,
    )


def measured(edge: float, seeds: tuple[int, ...]) -> list[Truth]:
    found = []
    for seed in seeds:
        found.append(truth(seed, edge))
        print(f"\nseed {seed} edge {edge:g}: {found[-1]}", end="")  # noqa: T201 a benchmark prints its figures
    return found


@pytest.mark.bench
def test_at_edge_one_a_model_of_sixty_days_has_a_true_net_sharpe_near_ten() -> None:
    found = measured(1.0, (7, 1, 2, 3, 4, 5))
    assert min(truth.sessions for truth in found) >= 500
    assert 8 <= np.mean([truth.net for truth in found]) <= 12
    assert all(6 <= truth.net <= 14 for truth in found)
    default = found[0]
    assert 8 <= default.net <= 12.5
    assert default.exam > 0.5
    # at a true Sharpe of 10 the error of 20 sessions, 3.5, leaves 0.4 % below 0.5
    assert np.mean([truth.unlucky for truth in found]) < 0.03


@pytest.mark.bench
def test_at_edge_nought_there_is_nothing_to_find_and_costs_to_pay() -> None:
    found = measured(0.0, (7, 1, 2))
    assert abs(np.mean([truth.gross for truth in found])) < 1.3  # three standard errors of a Sharpe over 6 years
    assert np.mean([truth.net for truth in found]) < -1
