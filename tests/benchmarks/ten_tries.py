"""Ten forced retrains of one day on markets without edge and without cost.

`python -m tests.benchmarks.ten_tries KIND FILE A B` runs the markets A to B - 1 of a kind that are not in FILE yet,
adds a line of JSON a market, and tells what all lines of FILE come to; so a long run may be made in parts, and goes on
after it was stopped. A line of another commit is refused: one figure is of one code.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import pytest

from hftcl import ContinuousLearning
from hftcl.learning.stories import retrain as story
from hftcl.model.training import TrainingPool
from hftcl.settings import Settings

MARKETS: Final = 50
DAY, NOW = "2025-12-30", datetime(2026, 1, 9, 7, 0, tzinfo=UTC)
_LIVE_LIMIT: Final = 0.10  # of the markets, after ten tries: what the gate of the edge is built for
# Depth and least rows of a leaf. Eight trees each: the size of a forest does not change how often a worthless one
# looks good.
_FORESTS: Final = ((8, 50), (6, 50), (10, 50), (8, 100), (5, 30), (12, 50), (7, 70), (8, 30), (4, 50), (9, 80))
FORESTS: Final[tuple[Mapping[str, Any], ...]] = tuple(
    {"n_estimators": 8, "max_depth": depth, "min_samples_leaf": leaf, "seed": number}
    for number, (depth, leaf) in enumerate(_FORESTS)
)
"""One policy, asked again with other parameters."""
FAMILIES: Final[tuple[Mapping[str, Any], ...]] = (
    {"family": "ridge"},
    {"family": "lightgbm", "n_estimators": 60, "seed": 1},
    {"family": "forest", "n_estimators": 30, "seed": 2, "max_depth": 6},
    {"family": "lightgbm", "n_estimators": 30, "seed": 3, "max_depth": 4},
    {"family": "forest", "n_estimators": 30, "seed": 4, "max_depth": 12},
    {"family": "ridge", "horizon_minutes": 20},
    {"family": "lightgbm", "n_estimators": 100, "seed": 5, "horizon_minutes": 20},
    {"family": "forest", "n_estimators": 30, "seed": 6, "horizon_minutes": 60},
    {"family": "lightgbm", "n_estimators": 60, "seed": 7, "max_depth": 8},
    {"family": "forest", "n_estimators": 60, "seed": 8},
)
"""What a person tries on one day who wants a model: other families, seeds, depths and horizons."""
KINDS: Final = MappingProxyType({"forests": FORESTS, "families": FAMILIES})


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """What ten retrains did in one market. commit: of the code; deployed, live: after each; pnl: a row an exam."""

    kind: str
    number: int
    commit: str
    deployed: tuple[bool, ...]
    live: tuple[bool, ...]
    pnl: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Shares:
    """Of how many markets what is true, as parts of one."""

    markets: int
    first: float
    ever: float
    live: float
    alike: float

    @property
    def is_as_asked(self) -> bool:
        """Whether ten tries deploy no more than one does, within its binomial margin, and hardly any may trade."""
        margin = 2 * (self.first * (1 - self.first) / self.markets) ** 0.5
        return self.ever <= self.first + margin and self.live <= _LIVE_LIMIT

    def __str__(self) -> str:
        return (
            f"{self.markets} markets without edge, ten forced retrains of one day each: deployed at the first try "
            f"{self.first:.2f}, at some try {self.ever:.2f}; may trade at the end {self.live:.2f}; P&L of two tries "
            f"correlates by {self.alike:.2f}"
        )


def build_settings(home: Path, number: int, tried: Mapping[str, Any]) -> Settings:
    """Return two tickers without edge and without cost, so that half of all worthless candidates look good."""
    settings = Settings()
    return replace(
        settings,
        paths=replace(settings.paths, home=str(home)),
        market=replace(settings.market, watchlist=settings.market.watchlist[:2]),
        synthetic=replace(settings.synthetic, edge=0.0, seed=2000 + number),
        strategy=replace(settings.strategy, cost_bps=0.0),
        model=replace(settings.model, **tried),
    )


@contextmanager
def keep_processes() -> Iterator[None]:
    """Let the retrains in this context share their training processes, whose start is half of the work."""
    with pytest.MonkeyPatch.context() as patch, TrainingPool() as pool:
        patch.setattr(story, "TrainingPool", lambda: nullcontext(pool))
        yield


def retrain_ten_times(home: Path, kind: str, number: int, commit: str) -> Market:
    """Return what ten forced retrains of one day did in the market `number`, each a minute after the one before."""
    reports = []
    for place, tried in enumerate(KINDS[kind]):
        at = (NOW + timedelta(minutes=place)).timestamp()
        clock = partial(datetime.fromtimestamp, at, UTC)
        loop = ContinuousLearning(build_settings(home, number, tried), clock=clock, on_event=lambda _: None)
        reports.append(loop.retrain(force=True, as_of=DAY))
    return Market(
        kind=kind,
        number=number,
        commit=commit,
        deployed=tuple(report.outcome == "deployed" for report in reports),
        live=tuple(report.edge == "live" for report in reports),
        pnl=tuple(tuple(report.challenger.pnl_by_session.values()) for report in reports if report.challenger),
    )


def correlate_pairs(pnl: Sequence[Sequence[float]]) -> list[float]:
    """Return how the P&L of each two tries correlates; a try that traded nothing correlates with none."""
    traded = [earned for earned in pnl if np.ptp(earned) > 0]
    if len(traded) < 2:
        return []
    of_pairs: list[float] = np.asarray(np.corrcoef(traded))[np.triu_indices(len(traded), 1)].tolist()
    return of_pairs


def count(markets: Sequence[Market]) -> Shares:
    """Return in which share of the markets a model deployed at once, ever, and might trade at the end."""
    alike = [correlation for market in markets for correlation in correlate_pairs(market.pnl)]
    return Shares(
        markets=len(markets),
        first=float(np.mean([market.deployed[0] for market in markets])),
        ever=float(np.mean([any(market.deployed) for market in markets])),
        live=float(np.mean([market.live[-1] for market in markets])),
        alike=float(np.mean(alike)) if alike else float("nan"),
    )


def read_markets(file: Path) -> list[Market]:
    """Return the markets of `file`, none where it is not there yet."""
    lines = file.read_text().splitlines() if file.exists() else []
    rows = [json.loads(line) for line in lines]
    return [
        Market(
            kind=row["kind"],
            number=row["number"],
            commit=row["commit"],
            deployed=tuple(row["deployed"]),
            live=tuple(row["live"]),
            pnl=tuple(map(tuple, row["pnl"])),
        )
        for row in rows
    ]


def run(kind: str, file: Path, numbers: Sequence[int], commit: str) -> list[Market]:
    """Run the markets of `numbers` that `file` does not hold yet, add each to it, and return all that it holds.

    Raises ValueError where it holds those of another kind or commit.
    """
    markets = read_markets(file)
    strangers = {(market.kind, market.commit) for market in markets} - {(kind, commit)}
    if strangers:
        raise ValueError(f"{file} holds {sorted(strangers)}, not ({kind}, {commit}): begin another file.")
    known = {market.number for market in markets}
    with keep_processes():
        for number in (number for number in numbers if number not in known):
            with tempfile.TemporaryDirectory(prefix="hftcl-tries-") as home:
                market = retrain_ten_times(Path(home), kind, number, commit)
            markets.append(market)
            with file.open("a") as out:
                out.write(json.dumps(asdict(market)) + "\n")
            sys.stdout.write(f"market {number}: {count(markets)}\n")
            sys.stdout.flush()
    return markets


def read_commit() -> str:
    """Return the commit of the code, with "+" where it was changed since."""
    place = Path(__file__).parent
    ask = partial(subprocess.run, cwd=place, capture_output=True, text=True, check=True)
    head = ask(["git", "rev-parse", "--short=12", "HEAD"]).stdout.strip()
    changed = ask(["git", "status", "--porcelain", "-uno"]).stdout.strip()
    return f"{head}+" if changed else head


def main(arguments: Sequence[str]) -> int:
    """Run the markets that were asked for; 1 where all that the file then holds are not as they must be."""
    match arguments:
        case [kind, file, first, last] if kind in KINDS:
            markets = run(kind, Path(file), range(int(first), int(last)), read_commit())
        case _:
            sys.stderr.write(f"usage: python -m tests.benchmarks.ten_tries {'|'.join(KINDS)} FILE FIRST LAST+1\n")
            return 2
    shares = count(markets)
    sys.stdout.write(f"{shares}\n")
    return 0 if shares.is_as_asked else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
