"""The judge: is the challenger promoted? Pure; two scores and the settings in, a verdict with its evidence out.

Whatever is not shown is not promoted: a missing, faulty or short score ends "rejected" or "inconclusive" with its
reason, never in an exception.

Every challenger: at least `exam.min_sessions` sessions, trades, sound predictions, Sharpe > `promote.min_sharpe`.
Against a champion, policy "seed": a Sharpe ratio above the champion's, or at least best - tolerance * |best|, where the
best is that of the champion and of earlier ones that gave way although they were not worse; never one that makes the
same trades. Policy "guarded": that, and P(better) >= `promote.min_p_better`. A challenger that is worse on the same
sessions has P(better) < 0.5, so under "guarded" with 0.5 or more the tolerance decides nothing.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from typing import Self, TypeVar

import numpy as np
import numpy.typing as npt

from hftcl import settings
from hftcl.errors import UndefinedStatisticError
from hftcl.exam.evidence import Evidence, build_evidence
from hftcl.exam.metrics import SharpeDifference, sharpe, sharpe_against_flat, sharpe_difference
from hftcl.exam.simulation import Simulation
from hftcl.exam.trials import Trial, compute_deflated, count_effective, judge_trials
from hftcl.formats import count, is_of_few_sessions, name_kind

FloatArray = npt.NDArray[np.float64]
_Model = TypeVar("_Model")


class Outcome(StrEnum):
    """What becomes of the challenger."""

    # Stored in the registry: a new spelling would orphan old rows.
    DEPLOYED = "deployed"
    REJECTED = "rejected"
    """It was examined and did not earn its place."""
    INCONCLUSIVE = "inconclusive"
    """The exam could not tell; the champion stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One model's result on the sessions of an exam.

    net: float64, one value a session, oldest first, in the order of `sessions`; a fraction of capital, after cost.
    """

    model_id: str
    sessions: tuple[date, ...]
    net: FloatArray
    trades: int
    synthetic: bool
    """Whether the model was trained on bars of the synthetic market."""
    sessions_per_year: int
    fault: str | None = None
    """What is wrong with its predictions; see `find_prediction_fault`."""
    idle: str = ""
    """Why it trades nothing whatever it predicts, "" where it would trade."""

    def __post_init__(self) -> None:
        """Refuse a P&L that does not belong to these sessions."""
        if self.net.shape != (len(self.sessions),):
            raise UndefinedStatisticError(
                f"The P&L of {self.model_id} has the shape {self.net.shape} for {count(len(self.sessions), 'session')}."
            )

    @classmethod
    def from_simulation(
        cls,
        simulation: Simulation,
        predictions: npt.ArrayLike,
        *,
        model_id: str,
        synthetic: bool,
        sessions_per_year: int,
        idle: str = "",
    ) -> Self:
        """Return the score of a simulation; `predictions` are those of the exam's bars with complete features."""
        return cls(
            model_id=model_id,
            sessions=simulation.sessions,
            net=simulation.net,
            trades=simulation.trades,
            synthetic=synthetic,
            fault=find_prediction_fault(predictions),
            idle=idle,
            sessions_per_year=sessions_per_year,
        )

    @property
    def flat(self) -> bool:
        """Whether it never traded, and so earned exactly 0 in every session."""
        return self.trades == 0 and not np.any(self.net)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the exam decided about one challenger, with the facts that decided it."""

    outcome: Outcome
    evidence: tuple[Evidence, ...]
    policy: str
    pinned: bool = False
    challenger_sharpe: float | None = None
    champion_sharpe: float | None = None
    """On the same sessions; None without a champion that defends."""
    difference: SharpeDifference | None = None
    trials: int = 1
    """Candidates that were examined on these sessions, or on some of them, this one included."""
    effective_trials: float = 1.0
    """The same, each weighted by the share of these sessions that it was examined on."""
    deflated_sharpe: float | None = None
    """Confidence that the best of them is better than luck; None where undefined."""
    waits: bool = False
    """Whether it passed all but a champion that cannot be scored, and so waits for a person."""

    @property
    def reason(self) -> str:
        """The condition that failed, or all of them; "pinned" where a person holds the champion in place."""
        if self.pinned:
            return "pinned"
        return (
            "; ".join(str(fact) for fact in self.evidence if fact.decides and not fact.passed) or "met every condition"
        )

    @property
    def p_better(self) -> float | None:
        """P(challenger's true Sharpe ratio > champion's); None without a comparison."""
        return self.difference.p_better if self.difference else None

    @property
    def conceded(self) -> bool:
        """Whether it was promoted although its Sharpe ratio is not above the champion's: by the tolerance."""
        return (
            self.outcome is Outcome.DEPLOYED
            and self.challenger_sharpe is not None
            and self.champion_sharpe is not None
            and self.challenger_sharpe <= self.champion_sharpe
        )


def find_prediction_fault(predictions: npt.ArrayLike) -> str | None:
    """Return what makes predictions unfit for an exam, or None: none at all, not finite, or all the same.

    predictions: float, any shape; those of the bars whose features were complete.
    """
    values = np.asarray(predictions, dtype=np.float64).ravel()
    if values.size == 0:
        return "it predicted nothing"
    faulty = int(values.size - np.isfinite(values).sum())
    if faulty:
        return f"{faulty} of {values.size} predictions are NaN or infinite"
    if values.size > 1 and values.min() == values.max():
        return f"all of its {values.size} predictions are {values[0]:.6g}"
    return None


def judge(
    challenger: Scored,
    champion: Scored | None,
    *,
    promote: settings.Promote,
    exam: settings.Exam,
    pinned: bool = False,
    champion_problem: str | None = None,
    champion_excused: str | None = None,
    earlier_sharpes: Sequence[float] = (),
    tried: Sequence[Trial] = (),
    implausible: str | None = None,
) -> Verdict:
    """Return the verdict about `challenger`, by the rules above.

    champion: scored on the same sessions with the same costs; None where no model serves. One that never traded has a
        Sharpe ratio of 0. One of another kind of bars does not defend; then the rule of the first model holds.
    champion_problem: why the model that serves could not be scored. A challenger that passes against
        `promote.min_sharpe` and, unless under "seed", against no position waits for a person, "inconclusive", unless
        promote.when_champion_cannot_be_scored is "deploy".
    champion_excused: why the model that serves does not defend although it was not scored, such as bars of another
        kind; `champion` and `champion_problem` are then left aside.
    earlier_sharpes: annual Sharpe ratios, on the same sessions, of earlier champions that gave way although they were
        not worse (`Verdict.conceded`), back to the last that was beaten, so that concessions do not add up.
    tried: other candidates that were examined on these sessions, or on some of them, before: see `exam.trials`.
    implausible: why the challenger's figures are nearly always an error in the bars. Then nothing is promoted.
    pinned: a person rolled back; the exam is told, and the challenger rejected.
    """
    facts = _check_examinable(challenger, exam)
    notes, defender, problem = _find_defender(challenger, champion, champion_problem, champion_excused)
    facts += notes
    figures = _compute_figures(challenger, defender, earlier_sharpes, facts, problem=problem, promote=promote)
    could_tell = all(fact.passed for fact in facts if fact.decides)
    facts += _compare_figures(figures, promote, earlier_sharpes, sessions=len(challenger.sessions), decides=could_tell)
    facts += _find_same_trades(challenger, defender, promote)
    a_year = challenger.sessions_per_year
    deflated = compute_deflated(challenger.net, figures.own, tried, sessions_per_year=a_year)
    facts += [judge_trials(tried, deflated, promote, decides=could_tell)] if tried else []
    facts += [build_evidence("plausibility", implausible)] if implausible is not None else []
    passed = all(fact.passed for fact in facts if fact.decides)
    waits = problem is not None and passed and promote.when_champion_cannot_be_scored == "wait"
    if problem is not None:
        facts.insert(1, _describe_unscored(problem, waits=waits, promote=promote))
    # without bars nothing can be predicted; one that trades nothing whatever it predicts needs no trade to be judged
    unfit = (challenger.fault is not None or bool(challenger.idle)) and len(challenger.sessions) > 0
    told = could_tell and not passed and implausible is None
    outcome = _find_outcome(rejected=unfit or pinned or told, promoted=passed and not waits)
    return Verdict(
        outcome=outcome,
        evidence=tuple(facts),
        policy=promote.policy,
        pinned=pinned,
        challenger_sharpe=figures.own,
        champion_sharpe=figures.against,
        difference=figures.difference,
        trials=1 + len(tried),
        effective_trials=count_effective(tried),
        deflated_sharpe=deflated,
        waits=waits and outcome is Outcome.INCONCLUSIVE,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Figures:
    """The annual Sharpe ratios of both and their difference; None where it is undefined or has no champion."""

    own: float | None
    against: float | None
    difference: SharpeDifference | None


def _compute_figures(
    challenger: Scored,
    defender: Scored | None,
    earlier_sharpes: Sequence[float],
    facts: list[Evidence],
    *,
    problem: str | None,
    promote: settings.Promote,
) -> _Figures:
    """Return the figures; what keeps one from being defined is added to `facts`."""
    own = None if challenger.trades == 0 else _compute_sharpe(challenger, facts)
    against = None if defender is None else _compute_sharpe(defender, facts)
    difference = None
    if own is not None and (against is not None or problem is not None):
        facts += _find_faulty_peers(earlier_sharpes) if defender is not None else []
        difference = _compute_difference(challenger, defender, facts, guarded=promote.policy != "seed")
    return _Figures(own=own, against=against, difference=difference)


def _find_same_trades(challenger: Scored, defender: Scored | None, promote: settings.Promote) -> list[Evidence]:
    """Return what keeps "seed", which asks for no difference, from a model that makes the trades of the champion."""
    if promote.policy != "seed" or defender is None or not np.array_equal(challenger.net, defender.net):
        return []
    return [build_evidence("change", f"it makes the very trades of the champion, {defender.model_id}")]


def _find_outcome(*, rejected: bool, promoted: bool) -> Outcome:
    if rejected:
        return Outcome.REJECTED
    return Outcome.DEPLOYED if promoted else Outcome.INCONCLUSIVE


def _describe_unscored(problem: str, *, waits: bool, promote: settings.Promote) -> Evidence:
    """Return that the champion could not be scored, and what a person can do where the candidate waits for one."""
    detail = f"the champion cannot be compared: {problem}"
    if waits:
        against = "" if promote.policy == "seed" else " and is better than no position"
        detail = (
            f"{detail.rstrip('.')}. The candidate clears the threshold{against}: `hftcl rollback MODEL_ID --reason "
            'TEXT` lets it serve, and [promote] when_champion_cannot_be_scored = "deploy" does so without a person'
        )
    return build_evidence("champion", detail, decides=waits or promote.when_champion_cannot_be_scored == "wait")


def _check_examinable(challenger: Scored, exam: settings.Exam) -> list[Evidence]:
    """Return what must hold before figures mean anything: enough sessions, sound predictions, trades."""
    n, needed = len(challenger.sessions), exam.min_sessions
    detail = f"{n} exam sessions that no compared model has seen, needs {needed}"
    facts = [
        Evidence(name="exam sessions", value=float(n), threshold=float(needed), passed=n >= needed, detail=detail),
    ]
    if n == 0:
        return facts
    if challenger.fault is not None:
        facts.append(build_evidence("predictions", f"the challenger cannot be examined: {challenger.fault}"))
    elif challenger.idle:
        facts.append(build_evidence("trades", f"the challenger would trade nothing: {challenger.idle}"))
    elif challenger.trades == 0:
        facts.append(build_evidence("trades", "nothing to examine: the challenger made no trade"))
    return facts


def find_excuse(champion_id: str, *, trained_synthetic: bool, synthetic: bool) -> str | None:
    """Return why the model that serves does not defend: it was trained on another kind of bars. None where it does.

    Asked before a champion is scored, too: on these bars it may not serve, see `archive.fitness`.
    """
    if trained_synthetic == synthetic:
        return None
    return (
        f"champion {champion_id} does not defend: it was trained on {name_kind(synthetic=trained_synthetic)} bars, "
        f"the challenger on {name_kind(synthetic=synthetic)} ones"
    )


def _find_defender(
    challenger: Scored, champion: Scored | None, problem: str | None, excused: str | None
) -> tuple[list[Evidence], Scored | None, str | None]:
    """Return what there is to say about the defence, who defends, and why the one that serves cannot."""
    if excused is None and champion is not None:
        excused = find_excuse(champion.model_id, trained_synthetic=champion.synthetic, synthetic=challenger.synthetic)
    if excused is not None:
        return [build_evidence("champion", excused, passed=True, decides=False)], None, None
    if problem is None and champion is not None:
        problem = champion.fault
        if problem is None and champion.sessions != challenger.sessions:
            problem = "it was not scored on the same sessions"
    if problem is not None:
        return [], None, problem
    if champion is None:
        return [build_evidence("champion", "there is no model to beat", passed=True, decides=False)], None, None
    if champion.flat:
        return (
            [build_evidence("champion", "the champion made no trade: it scores 0", passed=True, decides=False)],
            champion,
            None,
        )
    return [], champion, None


def _compute_sharpe(scored: Scored, facts: list[Evidence]) -> float | None:
    """Return the annual Sharpe ratio, 0 for a flat book; where it is undefined, None, with a fact that says so."""
    try:
        return 0.0 if scored.flat else sharpe(scored.net, sessions_per_year=scored.sessions_per_year)
    except UndefinedStatisticError as error:
        facts.append(build_evidence("P&L", f"the P&L of {scored.model_id} has no Sharpe ratio: {error}"))
        return None


def list_conceding_sharpes(
    champion: _Model | None,
    find_conceding: Callable[[_Model], _Model | None],
    compute_sharpe: Callable[[_Model], float | None],
) -> tuple[float, ...]:
    """Return the annual Sharpe ratios of the champions that gave way by the tolerance alone, newest first.

    So concessions do not add up: see `judge`. find_conceding: the one that gave way so to a model; None where none did.
    compute_sharpe: on the sessions of the exam; None, where it is undefined, becomes NaN, by which the verdict is
    inconclusive. It is asked of no champion further back than the last that was beaten.

    >>> list_conceding_sharpes(3, {3: 2, 2: 1}.get, {1: 0.4, 2: 0.5}.get)
    (0.5, 0.4)
    >>> list_conceding_sharpes(3, {3: 2, 2: 1}.get, {2: 0.5}.get)
    (0.5, nan)
    """
    sharpes: list[float] = []
    while champion is not None and (champion := find_conceding(champion)) is not None:
        own = compute_sharpe(champion)
        sharpes.append(math.nan if own is None else own)
    return tuple(sharpes)


def _find_faulty_peers(earlier_sharpes: Sequence[float]) -> list[Evidence]:
    if all(math.isfinite(one) for one in earlier_sharpes):
        return []
    return [
        build_evidence("earlier champions", "an earlier champion that gave way has no Sharpe ratio on these sessions")
    ]


def _compute_difference(
    challenger: Scored, champion: Scored | None, facts: list[Evidence], *, guarded: bool
) -> SharpeDifference | None:
    """Return the paired difference; where it is undefined, None, with a fact that decides only if `guarded`."""
    try:
        if champion is None or champion.flat:
            return sharpe_against_flat(challenger.net, sessions_per_year=challenger.sessions_per_year)
        return sharpe_difference(challenger.net, champion.net, sessions_per_year=challenger.sessions_per_year)
    except UndefinedStatisticError as error:
        facts.append(build_evidence("P(better)", f"P(better) is not defined: {error}", decides=guarded))
        return None


def _compare_figures(
    figures: _Figures,
    promote: settings.Promote,
    earlier_sharpes: Sequence[float],
    *,
    sessions: int,
    decides: bool,
) -> list[Evidence]:
    """Return the figures against their thresholds; they decide only where the exam could tell."""
    facts = []
    own, against = figures.own, figures.against
    if own is not None:
        least = promote.min_sharpe
        fact = Evidence(name="Sharpe", value=own, threshold=least, passed=own > least, above=True, decides=decides)
        few = is_of_few_sessions(sessions)  # such a figure never stands alone
        facts.append(replace(fact, detail=f"{fact} ({count(sessions, 'session')})") if few else fact)
    if own is not None and against is not None:
        facts.append(_compare_with_champion(own, against, promote.tolerance, earlier_sharpes, decides=decides))
    if figures.difference is not None:
        p, needed = figures.difference.p_better, promote.min_p_better
        decisive = decides and promote.policy != "seed"
        facts.append(
            Evidence(name="P(better)", value=p, threshold=needed, passed=p >= needed, decides=decisive),
        )
    return facts


def _compare_with_champion(
    own: float, against: float, tolerance: float, earlier_sharpes: Sequence[float], *, decides: bool
) -> Evidence:
    """Return whether `own` is above the champion's Sharpe ratio, or within the tolerance of the best champion's."""
    best = max([against, *filter(math.isfinite, earlier_sharpes)])  # one that is not finite has its own evidence
    floor = best - tolerance * abs(best)
    name = "Sharpe against the champion"
    if floor <= against:
        return Evidence(name=name, value=own, threshold=floor, passed=own >= floor, decides=decides)
    # the tolerance is used up by earlier concessions: what is left is to be better than the champion
    return Evidence(name=name, value=own, threshold=against, passed=own > against, above=True, decides=decides)
