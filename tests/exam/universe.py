"""A year of weekly retrains over models whose true Sharpe ratio is known, judged by the product's own functions."""

from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Literal

import numpy as np
import numpy.typing as npt

from hftcl import settings
from hftcl.exam.edge import EdgeState, judge_edge
from hftcl.exam.metrics import sharpe
from hftcl.exam.trials import Trial
from hftcl.exam.verdict import Outcome, Scored, judge
from tests.exam.generator import pair, scales

FloatArray = npt.NDArray[np.float64]
Policy = Literal["seed", "guarded", "balanced", "strict"]
EXAM, WEEK, WEEKS = 20, 5, 52
DAYS = tuple(date(2026, 1, 5) + timedelta(days=n) for n in range(EXAM + WEEK * WEEKS))
YEAR = np.sqrt(252)


@dataclass(frozen=True, kw_only=True)
class World:
    """Fresh models have a true annual net Sharpe ratio of N(mean, deviation).

    It decays towards -drag by 10 to 20 % a month from the end of training; P&L of two models correlates by rho.
    """

    mean: float
    deviation: float = 0.0
    drag: float = 0.0
    rho: float = 0.7


@dataclass
class Year:
    """What a policy did in 52 weeks: whether it was live, and the true Sharpe ratio of the model that served."""

    live: list[bool] = field(default_factory=list)
    true: list[float] = field(default_factory=list)

    @property
    def traded(self) -> float:
        """Mean true Sharpe ratio over all weeks, 0 in those where it stood aside."""
        return float(np.mean(np.where(self.live, self.true, 0.0)))


@dataclass(frozen=True)
class Models:
    """One model a week: P&L, shape (weeks, sessions), what each is truly worth then; and the walk-forward's P&L."""

    pnl: FloatArray
    true: FloatArray
    walk_forward: FloatArray

    @classmethod
    def of(cls, world: World, rng: np.random.Generator) -> "Models":
        """Draw one year of `world`."""
        n = len(DAYS)
        ends = np.array([week * WEEK for week in range(WEEKS)])  # of training; the exam's 20 sessions follow
        fresh = rng.normal(world.mean, world.deviation, WEEKS) if world.deviation else np.full(WEEKS, world.mean)
        decay = -np.log(1 - rng.uniform(0.10, 0.20)) / 21
        age = np.maximum(np.arange(n)[None, :] - ends[:, None], 0)
        true = (fresh[:, None] + world.drag) * np.exp(-decay * age) - world.drag
        scale, common = scales(rng, 1, n), rng.normal(size=(1, n))
        noise = np.sqrt(world.rho) * common + np.sqrt(1 - world.rho) * rng.normal(size=(WEEKS + 1, n))
        first = rng.normal(world.mean, world.deviation, EXAM // WEEK).repeat(WEEK)  # the folds train anew each week
        return cls(
            pnl=true / YEAR + scale * noise[:-1],
            true=true,
            walk_forward=first / YEAR + (scale * noise[-1:])[0, :EXAM],
        )


def scored(net: FloatArray, name: str) -> Scored:
    """Return an exam's result of 20 or more sessions."""
    return Scored(model_id=name, sessions=DAYS[: net.size], net=net, trades=100, synthetic=False, sessions_per_year=252)


def promotes(
    challenger: FloatArray, champion: FloatArray | None, policy: Policy, tried: dict[int, float] | None = None
) -> bool:
    """Return whether the product's verdict is to deploy. tried: by weeks ago, Sharpe ratios of earlier candidates."""
    tried = tried or {}
    verdict = judge(
        scored(challenger, "challenger"),
        None if champion is None else scored(champion, "champion"),
        promote=settings.Promote(policy=policy),
        exam=settings.Exam(),
        tried=tuple(Trial(sharpe=figure, weight=1 - weeks * WEEK / EXAM) for weeks, figure in tried.items()),
    )
    return verdict.outcome is Outcome.DEPLOYED


def lives(record: FloatArray, policy: Policy = "guarded", previous: EdgeState = EdgeState.STAND_ASIDE) -> bool:
    """Return whether the product's edge is live."""
    return (
        judge_edge(record, previous, rule=settings.Edge(), policy=policy, sessions_per_year=252).state is EdgeState.LIVE
    )


def a_year(models: Models, policy: Policy) -> Year:
    """Retrain 52 times: judge the week's candidate against the champion, continue the record, decide on the edge."""
    year, champion, state = Year(), None, EdgeState.STAND_ASIDE
    current, record, sharpes = 0, models.walk_forward, list[float]()
    for week in range(WEEKS):
        now = EXAM + week * WEEK
        if week:  # the sessions since, with the model that was current
            record = np.concatenate([record, models.pnl[current, now - WEEK : now]])
        exam = slice(now - EXAM, now)
        best = None if champion is None else models.pnl[champion, exam]
        tried = {ago: sharpes[week - ago] for ago in range(1, min(week, EXAM // WEEK - 1) + 1)}  # a shared session
        sharpes.append(sharpe(models.pnl[week, exam]))
        if promotes(models.pnl[week, exam], best, policy, tried):
            champion = week
        current = week if champion is None else champion  # before any served, the last candidate
        if champion is None:
            state = EdgeState.STAND_ASIDE
        else:
            state = judge_edge(record, state, rule=settings.Edge(), policy=policy, sessions_per_year=252).state
        year.live.append(state is EdgeState.LIVE)
        year.true.append(float(models.true[current, now : now + WEEK].mean()))
    return year


def a_year_by_stored_scores(models: Models) -> Year:
    """Retrain 52 times by the plain rule as it is often written: against the champion's score of its own exam."""
    year, champion, stored = Year(), None, 0.0
    for week in range(WEEKS):
        now = EXAM + week * WEEK
        own = sharpe(models.pnl[week, now - EXAM : now])
        if own > 0.5 and (champion is None or own >= 0.9 * stored):
            champion, stored = week, own
        year.live.append(champion is not None)
        year.true.append(float(models.true[champion, now : now + WEEK].mean()) if champion is not None else 0.0)
    return year


def years(world: World, policy: Policy, *, universes: int, seed: int) -> list[Year]:
    """Return that many years of a policy; the same seed gives the same models to every policy."""
    return [a_year(Models.of(world, np.random.default_rng([seed, each])), policy) for each in range(universes)]


def one_retrain(
    rng: np.random.Generator, *, true: float, record: int = EXAM, universes: int, rho: float = 0.9
) -> dict[str, float]:
    """Return how often a first retrain promotes by the plain rule, has an edge by its record, and trades (both).

    The record ends with the sessions of the exam, where the walk-forward's P&L correlates with the candidate's.
    """
    candidates, records = pair(rng, universes, record, sharpes=(true, true), rho=rho)
    seed = [promotes(one[-EXAM:], None, "seed") for one in candidates]
    edges = [lives(one) for one in records]
    return {
        "seed": float(np.mean(seed)),
        "edge": float(np.mean(edges)),
        "live": float(np.mean([a and b for a, b in zip(seed, edges, strict=True)])),
    }
