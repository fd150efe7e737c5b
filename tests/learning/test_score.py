"""One model on the bars of an exam: what a decision one bar late earns, by a second way to compute it."""

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hftcl.archive.artifact import list_our_features
from hftcl.archive.fitness import load_fit
from hftcl.archive.registry import Registry
from hftcl.events import ignore
from hftcl.exam.simulation import simulate
from hftcl.learning.dataset import open_window
from hftcl.learning.score import compute_information_coefficient, examine, run_late, run_model
from hftcl.strategy.positions import compute_target_positions
from hftcl.strategy.weights import weigh
from tests.loop_cases import NOW, first_retrain, small
from tests.trained import Homes


@pytest.fixture(scope="module")
def home(homes: Homes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("scored") / "home"
    homes.copy(home, first_retrain, outcome="rejected", promote={"min_sharpe": 100})
    return home


@pytest.mark.parametrize("jobs", [1, 2, 7])
def test_a_decision_one_bar_late_is_what_the_bar_before_foretold(home: Path, jobs: int) -> None:
    settings = small(home)
    window = open_window(settings, as_of=None, now=NOW, save=False, on_event=ignore)
    frame, record = window.assemble().frame, Registry(home).list_models()[0]
    model = load_fit(
        Registry(home).locate_onnx(record.model_id), sha256=None, market=None, features=list_our_features(settings)
    )
    days = frame["session"].unique().sort().to_list()[-4:]
    watchlist = settings.market.watchlist
    run = run_model(model, frame, days, cost_bps=1.0, watchlist=watchlist, jobs=jobs)
    exam = examine(model, frame, days, cost_bps=1.0, watchlist=watchlist)
    assert run.simulation.net.tolist() == exam.simulation.net.tolist()
    assert run.predicted.equals(exam.predicted)
    assert run.predicted.n_chunks() == 1, "where its pieces end must change nothing"

    rows = frame.filter(pl.col("session").is_in(days))
    late: list[float | None] = []
    before: tuple[object, object, float | None] = (None, None, None)
    for ticker, session, value in zip(rows["ticker"], rows["session"], run.predicted, strict=True):
        late.append(before[2] if before[:2] == (ticker, session) else None)
        before = ticker, session, value
    positions = compute_target_positions(
        rows.with_columns(pl.Series("prediction", late, dtype=pl.Float32)),
        threshold=model.meta.threshold,
        horizon_minutes=model.meta.horizon_minutes,
        weight=weigh(watchlist, model.meta.volatility),
        flat_minutes_before_close=model.meta.flat_minutes_before_close,
    )
    expected = simulate(rows, positions, cost_bps=1.0, sessions=days)
    delayed = run_late(model, run.predicted, frame, days, cost_bps=1.0, watchlist=watchlist)
    assert replace(delayed, gross=expected.gross, turnover=expected.turnover) == expected
    assert delayed.gross.tolist() == expected.gross.tolist() != run.simulation.gross.tolist()
    assert delayed.turnover.tolist() == expected.turnover.tolist()


@pytest.mark.parametrize("rows", [3, 1_000, 300_001])
def test_the_information_coefficient_is_numpys_to_the_bit_and_holds_its_numbers_once(rows: int) -> None:
    random = np.random.default_rng(rows)
    both = random.random((2, rows), dtype=np.float32)
    both[1] += both[0] / 8
    parts = [part.T.copy().T for part in np.array_split(both, 7, axis=1)]  # as they come: a row of both after the other
    expected = float(np.asarray(np.corrcoef(both.astype(np.float64)))[0, 1])
    tracemalloc.start()
    try:
        found = compute_information_coefficient(parts)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == expected
    assert most < 1.1 * 2 * 8 * rows + 20_000, "float64, once, and what Python itself takes"
