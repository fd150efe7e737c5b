"""What a vote is worth beside its members, where it is known what is true.

Prints what it measured: `pytest -m "bench and slow" tests/benchmarks/test_families.py`.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean, stdev
from typing import Final

import pytest

from hftcl.events import ignore
from hftcl.exam.split import list_sessions, split
from hftcl.learning.candidate import merge_params, train_candidate
from hftcl.learning.dataset import open_window
from hftcl.learning.score import examine
from hftcl.model.training import TrainingPool
from hftcl.settings import Market, Model, Paths, Settings, Synthetic

SEEDS: Final = 20
FAMILIES: Final = ("forest", "lightgbm", "xgboost", "vote")
EXAM: Final = 40
"""Sessions, twice those of a default exam: what is asked is who is better, and not whether one session was lucky."""


Tell = Callable[[str], None]


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Iterator[Tell]:
    """Return what prints a line although pytest captures."""

    def say(line: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{line}")

    yield say
    say("")


def _round(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: round(figure, 2) for name, figure in figures.items()}


def examine_seed(home: Path, seed: int, pool: TrainingPool) -> dict[str, float]:
    """Return the net Sharpe ratio of each family on sessions of one market that none has seen."""
    settings = Settings(
        paths=Paths(home=str(home)),
        market=Market(watchlist=("AAPL", "AMD", "TSLA"), lookback_days=118),
        synthetic=Synthetic(seed=seed, edge=1.0),
    )
    data = open_window(
        settings, as_of="2025-12-15", now=datetime(2026, 1, 1, tzinfo=UTC), save=False, on_event=ignore
    ).assemble()
    division = split(list_sessions(data.frame), exam_sessions=EXAM, embargo_sessions=1)
    found = {}
    for family in FAMILIES:
        of_family = replace(settings, model=Model(family=family))
        model = train_candidate(
            data.frame,
            division,
            of_family,
            model_id=family,
            params=merge_params(of_family),
            features=data.features,
            source=data.source,
            synthetic=True,
            pool=pool,
            on_event=ignore,
        ).model
        report = examine(
            model, data.frame, division.exam_days, cost_bps=1.0, watchlist=settings.market.watchlist
        ).report
        assert report.sharpe is not None
        found[family] = report.sharpe
    return found


@pytest.mark.bench
@pytest.mark.slow
def test_a_vote_is_about_as_good_as_the_best_of_its_members(tmp_path: Path, tell: Tell) -> None:
    """Over 20 markets with an edge, its mean net Sharpe ratio is at least the best member's mean less 0.2."""
    seeds = []
    with TrainingPool() as pool:
        for seed in range(SEEDS):
            seeds.append(examine_seed(tmp_path / str(seed), seed, pool))
            tell(f"seed {seed}: {_round(seeds[-1])}")
    means = {name: fmean(found[name] for found in seeds) for name in FAMILIES}
    best = max((name for name in FAMILIES if name != "vote"), key=lambda name: means[name])
    apart = [found["vote"] - found[best] for found in seeds]
    error = stdev(apart) / len(apart) ** 0.5
    tell(f"means {_round(means)}; vote - {best}: {fmean(apart):+.2f}, standard error {error:.2f}")
    assert means["vote"] >= means[best] - 0.2
