"""The whole loop's figures: time and memory on real bars, what it finds where nothing is, and what where something is.

Each prints what it measured: `pytest -m "slow or bench" tests/benchmarks/test_loop_figures.py`.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hftcl import ContinuousLearning
from hftcl.settings import Settings
from tests.hazards.loop_processes import Case
from tests.shared_data import REAL_BARS, needs_real_bars

AS_OF = "2026-01-30"
Tell = Callable[[str], None]


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Iterator[Tell]:
    """Return what prints a line although pytest captures."""

    def say(line: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{line}")

    yield say
    say("")


# --- real bars --------------------------------------------------------------------------------------------------------


@contextmanager
def measured(home: Path, *arguments: str) -> Iterator[dict[str, Any]]:
    """Run a command that must work, and yield its document, its wall time and the peak memory of all its processes."""
    case, peaks = Case(), dict[int, int]()
    began = time.monotonic()
    with (home / "out").open("wb") as out, (home / "err").open("wb") as err:
        process = case.start(home, *arguments, output=(out, err))
        while process.poll() is None:
            for pid in case.alive():
                peaks[pid] = max(peaks.get(pid, 0), _resident_peak(pid))
            time.sleep(0.1)
    took = time.monotonic() - began
    assert process.returncode == 0, (home / "err").read_text()
    child = max((peak for pid, peak in peaks.items() if pid != process.pid), default=0)
    yield {"report": json.loads((home / "out").read_bytes()), "s": took, "parent": peaks[process.pid], "child": child}


def _resident_peak(pid: int) -> int:
    """Return the most memory that a process has had at once, bytes; 0 for one that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


@pytest.mark.bench
@pytest.mark.slow
@needs_real_bars
def test_a_retrain_on_ten_real_tickers_is_quick_small_and_finds_no_miracle(tmp_path: Path, tell: Tell) -> None:
    tickers = sorted(path.stem for path in REAL_BARS.glob("*.parquet"))
    (tmp_path / "hftcl.toml").write_text(
        f'[market]\nsource = "files"\nwatchlist = {json.dumps(tickers)}\n[files]\nfolder = "{REAL_BARS}"\n'
    )
    for turn in ("first", "cached"):
        with measured(tmp_path, "retrain", "--force", "--json") as run:
            report = run["report"]
        score = report["challenger"]
        tell(
            f"{turn} retrain, {len(tickers)} tickers, {report['rows']} training rows: {run['s']:.1f} s, at most "
            f"{run['parent'] / 1e6:.0f} MB and {run['child'] / 1e6:.0f} MB in the training process; s: "
            f"{report['timings_s']}"
        )
        tell(
            f"  exam of {report['exam']['sessions']} sessions: gross Sharpe {score['gross_sharpe']:.2f}, net "
            f"{score['sharpe']:.2f}, information coefficient {score['information_coefficient']:+.4f}, "
            f"{report['outcome']}: {report['reason']}"
        )
        assert report["tickers"] == tickers
        assert run["s"] <= 90
        assert run["parent"] + run["child"] <= 2e9
        assert score["gross_sharpe"] < 8, "a leak until proven otherwise"
    assert report["timings_s"]["collect"] < 1


# --- the synthetic market ---------------------------------------------------------------------------------------------


def market(home: Path, settings: Settings, *, seed: int, edge: float) -> Settings:
    """Return `settings` for the market of `seed`, in an empty home."""
    return replace(
        settings,
        paths=replace(settings.paths, home=str(home / f"seed {seed}")),
        synthetic=replace(settings.synthetic, seed=seed, edge=edge),
    )


@pytest.mark.bench
@pytest.mark.slow
def test_where_there_is_nothing_to_learn_fifty_exams_find_nothing_on_average(tmp_path: Path, tell: Tell) -> None:
    """Four tickers and 60 trees, for time: fifty default retrains take half an hour.

    The Sharpe ratio of 20 sessions scatters by 4, the mean of fifty by 0.5.
    """
    default = Settings()
    small = replace(
        default,
        market=replace(default.market, watchlist=default.market.watchlist[:4]),
        model=replace(default.model, n_estimators=60),
    )
    scores = []
    for seed in range(50):
        loop = ContinuousLearning(market(tmp_path, small, seed=seed, edge=0.0))
        scores.append(loop.train_new_model(loop.collect_training_data(as_of=AS_OF))[1])
    net = [score["sharpe"] for score in scores if score["sharpe"] is not None]
    gross = [score["gross_sharpe"] for score in scores if score["gross_sharpe"] is not None]
    for name, found in (("net", net), ("gross", gross)):
        tell(
            f"edge 0, {len(found)} exams: {name} Sharpe {statistics.mean(found):+.2f} on average, standard error "
            f"{statistics.stdev(found) / len(found) ** 0.5:.2f}, from {min(found):.1f} to {max(found):.1f}"
        )
    assert len(net) >= 45
    assert statistics.mean(net) < 0.3
    assert abs(statistics.mean(gross)) < 4 * statistics.stdev(gross) / len(gross) ** 0.5, "nothing, before costs too"


@pytest.mark.bench
@pytest.mark.slow
def test_on_the_default_synthetic_market_the_first_retrain_deploys(tmp_path: Path, tell: Tell) -> None:
    default = Settings()
    seeds = (default.synthetic.seed, 1, 2, 3, 4, 5)
    outcomes = {}
    for seed in seeds:
        loop = ContinuousLearning(market(tmp_path, default, seed=seed, edge=default.synthetic.edge))
        report = loop.retrain(force=True, as_of=AS_OF)
        outcomes[seed], score = report.outcome, report.challenger
        assert score is not None
        tell(
            f"edge {default.synthetic.edge:g}, seed {seed}: net Sharpe {score.sharpe}, gross {score.gross_sharpe}, "
            f"{report.outcome}: {report.reason}; {report.timings_s['total']:.0f} s"
        )
    assert outcomes == dict.fromkeys(seeds, "deployed")
