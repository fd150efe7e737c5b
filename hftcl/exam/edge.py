"""The judge: does the best model there is deserve real money? Pure; a record and the settings in, live or not out.

`exam.verdict` says which model is the best; that is another question, and one that beats its champion may still be
worth nothing. What is not shown stands aside.
"""

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from statistics import NormalDist
from typing import Final, Literal, Self

import numpy as np
import numpy.typing as npt

from hftcl import settings
from hftcl.errors import UndefinedStatisticError
from hftcl.exam.evidence import Evidence, build_evidence
from hftcl.exam.metrics import SESSIONS_PER_YEAR, compute_or_none, min_track_record_length, psr, psr_from_moments
from hftcl.exam.moments import compute_moments
from hftcl.exam.posterior import HALF_LIFE_SESSIONS, EdgePosterior, compute_edge_posterior
from hftcl.formats import count

Policy = Literal["seed", "guarded", "balanced", "strict"]
STRICT_P_EDGE: Final = 0.95  # the usual 5 % of a one-sided test; "strict" keeps it where [edge] min_p_edge is lower
# Some five years, of any calendar: what takes longer at the present rate is not foretold.
FORESEEN_SESSIONS: Final = 5 * SESSIONS_PER_YEAR
_LIKELY: Final = 0.7  # P(edge): below it the present rate is more noise than rate, and foretells nothing
_NORMAL: Final = NormalDist()  # standard: mean 0, deviation 1


class EdgeState(StrEnum):
    """What the bot may do with the model that serves."""

    # As stored in reports and as a person reads it, hence the blank.
    LIVE = "live"
    STAND_ASIDE = "stand aside"


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """Whether the policy's record lets the bot trade, with the facts that decided it."""

    state: EdgeState
    previous: EdgeState
    evidence: tuple[Evidence, ...]
    sessions: int
    p_edge: float | None = None
    """P(true net Sharpe > 0); None where the record does not define it."""
    psr: float | None = None
    min_track_record: float | None = None
    """Sessions like these that show a Sharpe ratio above 0 with 95 % confidence; None where no length does."""
    sessions_missing: int | None = None
    """Sessions until it may go live, if they are like those so far; 0 if it may; None where that never comes."""
    policy: Policy = "guarded"

    @property
    def reason(self) -> str:
        """The condition that failed, or all of them."""
        missed = "; ".join(str(fact) for fact in self.evidence if fact.decides and not fact.passed)
        if self.policy == "seed":
            return missed or 'under policy "seed" what is promoted trades, and the record decides nothing'
        return missed or "the record holds"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bar:
    """What a record must show to go live; a `psr` of None is not asked for."""

    sessions: int
    p_edge: float
    psr: float | None

    @classmethod
    def from_rule(cls, rule: settings.Edge, policy: Policy) -> Self:
        return cls(
            sessions=rule.min_sessions,
            p_edge=max(rule.min_p_edge, STRICT_P_EDGE) if policy == "strict" else rule.min_p_edge,
            psr=rule.min_psr if policy == "guarded" else None,
        )


def judge_edge(
    record: npt.ArrayLike,
    previous: EdgeState,
    *,
    rule: settings.Edge,
    policy: Policy,
    obstacles: Sequence[str] = (),
    luck: float = 0.0,
    sessions_per_year: int,
) -> Edge:
    """Return whether a policy with this record may trade.

    record: float64, shape (n_sessions,), net P&L of the policy's own out-of-sample sessions, oldest first, each
        calendar day once; a fraction of capital, after cost. previous: what was decided the last time.
    From "stand aside" to "live": at least rule.min_sessions sessions, P(edge) >= rule.min_p_edge and, under "guarded",
    PSR >= rule.min_psr. From "live" to "stand aside": P(edge) < rule.stand_down_below; in between it stays, so that it
    does not flicker. "balanced" asks for no PSR; "strict" for P(edge) >= 0.95 and no PSR. Under "seed" the record is
    told and decides nothing: what the user's rule promoted trades.
    luck: annual Sharpe ratio that the best of the policies that were tried on these sessions would show if all were
        worthless; P(edge) takes the record's Sharpe ratio for that much lower.
    obstacles: what keeps the bot aside whatever the record says, such as that no model serves.
    A record that has no P(edge) (fewer than 2 sessions, none that differ, one that is not finite) stands aside.
    Source of the thresholds: a simulation of 52 weekly retrains; see docs/judging.md for what they cost and save.

    >>> how = {"rule": settings.Edge(), "policy": "guarded", "sessions_per_year": 252}
    >>> good = judge_edge([0.004, -0.002, 0.003] * 20, EdgeState.STAND_ASIDE, **how)
    >>> str(good.state), round(good.p_edge, 2), good.sessions
    ('live', 1.0, 60)
    >>> short = judge_edge([0.004, -0.002, 0.003], EdgeState.STAND_ASIDE, **how)
    >>> str(short.state)
    'stand aside'
    """
    x = np.asarray(record, dtype=np.float64)
    bar = _Bar.from_rule(rule, policy)
    facts = [build_evidence("obstacle", why) for why in obstacles]
    posterior = _compute_posterior(x, facts, luck, sessions_per_year, decides=policy != "seed")
    confidence = compute_or_none(lambda: psr(x))
    if posterior is not None:
        staying = previous is EdgeState.LIVE
        facts += _compare_figures(x.size, posterior.p_edge, confidence, bar, rule, policy=policy, staying=staying)
    passed = all(fact.passed for fact in facts if fact.decides)
    track = compute_or_none(lambda: min_track_record_length(x))
    missing = None if posterior is None else _count_missing(x, posterior, bar, sessions_per_year)
    missing = 0 if passed else missing
    facts += _describe_outlook(x.size, track, missing, None if posterior is None else posterior.p_edge)
    facts += _describe_luck(luck)
    return Edge(
        state=EdgeState.LIVE if passed else EdgeState.STAND_ASIDE,
        previous=previous,
        evidence=tuple(facts),
        sessions=x.size,
        p_edge=posterior.p_edge if posterior is not None else None,
        psr=confidence,
        min_track_record=track,
        sessions_missing=missing,
        policy=policy,
    )


def _compute_posterior(
    record: npt.NDArray[np.float64], facts: list[Evidence], luck: float, sessions_per_year: int, *, decides: bool
) -> EdgePosterior | None:
    """Return what the record tells; where it tells nothing, None, with a fact that says why."""
    try:
        return compute_edge_posterior(record, luck=luck, sessions_per_year=sessions_per_year)
    except UndefinedStatisticError as error:
        facts.append(build_evidence("record", f"the record has no P(edge): {error}", decides=decides))
        return None


def _compare_figures(
    n: int, p_edge: float, confidence: float | None, bar: _Bar, rule: settings.Edge, *, policy: Policy, staying: bool
) -> list[Evidence]:
    """Return the record's figures against what is asked of them; a policy that is live is asked for P(edge) alone."""
    needed = rule.stand_down_below if staying else bar.p_edge
    entering = policy != "seed" and not staying
    facts = [
        Evidence(
            name="record sessions",
            value=float(n),
            threshold=float(bar.sessions),
            passed=n >= bar.sessions,
            detail=f"a record of {count(n, 'session')}, needs {bar.sessions}",
            decides=entering,
        ),
        Evidence(name="P(edge)", value=p_edge, threshold=needed, passed=p_edge >= needed, decides=policy != "seed"),
    ]
    if bar.psr is not None:
        shown = confidence is not None and confidence >= bar.psr
        why = "" if confidence is not None else "the record has no PSR: its sessions take two values only"
        facts.append(
            Evidence(
                name="PSR of the record",
                value=confidence,
                threshold=bar.psr,
                passed=shown,
                detail=why,
                decides=entering,
            )
        )
    return facts


def _count_missing(
    record: npt.NDArray[np.float64], posterior: EdgePosterior, bar: _Bar, sessions_per_year: int
) -> int | None:
    """Return how many sessions like those so far are missing to go live, by the formulae of P(edge) and PSR.

    Mean, deviation, skewness and kurtosis stay as they are; the sessions and their weights grow.
    """
    n, m = record.size, compute_moments(record)
    held = posterior.effective_sessions / sessions_per_year
    prior = posterior.deviation**-2 - held
    seen = posterior.mean * posterior.deviation**-2 / held  # less the luck; the prior's mean is 0

    def is_enough(size: int) -> bool:
        information = held * _compute_weight(size) / _compute_weight(n)
        p_edge = _NORMAL.cdf(seen * information / (information + prior) ** 0.5)
        if size < bar.sessions or p_edge < bar.p_edge:
            return False
        return bar.psr is None or (compute_or_none(lambda: psr_from_moments(replace(m, n=size))) or 0.0) >= bar.psr

    ahead = bisect.bisect_left(range(n, n + FORESEEN_SESSIONS), True, key=is_enough)
    return ahead if ahead < FORESEEN_SESSIONS else None


def _describe_luck(luck: float) -> list[Evidence]:
    """Return, to be read, how much lower P(edge) begins because others were tried."""
    if not luck > 0:
        return []
    text = (
        "other policies were tried on sessions of this record: the best of so many worthless ones shows "
        f"{luck:.2f} by luck, and P(edge) takes the record for that much worse"
    )
    return [build_evidence("policies tried", text, decides=False)]


def _compute_weight(n: int) -> float:
    """Return (sum w)^2 / sum w^2 of the weights 2^(-age / half-life): how many sessions `n` of them count for."""
    decay: float = 2.0 ** (-1.0 / HALF_LIFE_SESSIONS)
    return (1.0 - decay**n) * (1.0 + decay) / ((1.0 - decay) * (1.0 + decay**n))


def _describe_outlook(n: int, track: float | None, missing: int | None, p_edge: float | None) -> list[Evidence]:
    """Return, to be read, how long a record like this one of `n` sessions must be.

    That so many more would do is told of a record that is likely good: of another it would be read as a promise.
    """
    if track is None:
        shown = "no length of such a record shows a Sharpe ratio above 0"
    else:
        needed = count(math.ceil(track), "session")
        shown = f"to show a Sharpe ratio above 0 with 95 % confidence: {needed} needed, {n} there"
    facts = [build_evidence("minimum track record", shown, passed=track is not None and n >= track, decides=False)]
    if missing is None:
        never = "at the present rate the record never lets the bot trade"
        return [*facts, build_evidence("sessions missing", never, decides=False)]
    if missing and p_edge is not None and p_edge >= _LIKELY:
        more = f"{count(missing, 'more session')} at the present rate {'let' if missing > 1 else 'lets'} the bot trade"
        return [*facts, build_evidence("sessions missing", more, decides=False)]
    return facts
