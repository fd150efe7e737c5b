"""The judge: a gate replayed over the results of many trainings, and what each way to run the loop earned.

Pure where the marks of an attempt are: a backtest scores some only when they are asked for.
A gate sees what was known at the close on which it decides; what is earned comes after.
"""

import bisect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from hftcl import settings
from hftcl.exam import metrics
from hftcl.exam.compare import Conclusion, compare, compute_worth_of_holding
from hftcl.exam.edge import Edge, EdgeState, judge_edge
from hftcl.exam.split import ExamSplit, Session, split_for_exam
from hftcl.exam.trials import Trial, build_trial
from hftcl.exam.verdict import Scored, Verdict, judge, list_conceding_sharpes

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPnl:
    """What a model earned in one session it has not seen: fractions of capital, turnover in capitals."""

    gross: float
    net: float
    turnover: float


_FEWEST_TRADED: Final = 20  # sessions: a month, below which a Sharpe ratio says nothing
# 0.0, not a gap: a session in which a policy does not trade counts among its sessions.
NOTHING: Final = SessionPnl(gross=0.0, net=0.0, turnover=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyAttempt:
    """One training, and its marks on its own exam and on every later session of the history.

    at: close (UTC) of the newest session that was known, when its verdict falls. window: the sessions it was trained
    and examined on, oldest first. label_end: end (UTC) of its last label. fault: see `verdict.find_prediction_fault`.
    marks: what each says is fixed, but to ask for one may score it then, read a file for that, and raise as that does.
    """

    model_id: str
    at: datetime
    label_end: datetime
    window: tuple[Session, ...]
    marks: Mapping[date, SessionPnl]
    synthetic: bool
    sessions_per_year: int
    fault: str | None = None

    def read_net(self, days: Sequence[date]) -> FloatArray:
        """Return the net P&L of `days`, float64. Raises KeyError for a session that this model may not be scored on."""
        return np.array([self.marks[day].net for day in days], dtype=np.float64)

    def build_scored(self, days: Sequence[date]) -> Scored:
        """Return what the verdict needs; it asks of `trades` only whether there is any, and turnover tells."""
        return Scored(
            model_id=self.model_id,
            sessions=tuple(days),
            net=self.read_net(days),
            trades=sum(self.marks[day].turnover > 0 for day in days),
            synthetic=self.synthetic,
            fault=self.fault,
            sessions_per_year=self.sessions_per_year,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GateDecision:
    """Whether a gate deploys an attempt, and why; with the verdict and the exam's sessions, where there was one."""

    deploys: bool
    reason: str
    verdict: Verdict | None = None
    exam: tuple[date, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One attempt, and what became of it."""

    attempt: PolicyAttempt
    decision: GateDecision
    edge: Edge | None = None
    """Whether the model that then serves may trade; None where this was not asked."""


Gate = Callable[[PolicyAttempt, Sequence[Step]], GateDecision]
"""Takes the challenger and the steps before it, oldest first; the last of them that deployed is the champion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRun:
    """What one way to run the loop earned. Arrays are float64, one value a session, in the order of `days`."""

    days: tuple[date, ...]
    gross: FloatArray
    net: FloatArray
    turnover: FloatArray
    steps: tuple[Step, ...] = ()

    @property
    def deployments(self) -> tuple[Step, ...]:
        """The steps that deployed, oldest first."""
        return tuple(step for step in self.steps if step.decision.deploys)

    @property
    def days_traded(self) -> int:
        """How many sessions had a trade."""
        return int((self.turnover > 0).sum())

    def cut_since(self, first: date) -> "PolicyRun":
        """Return the run from the session `first` on, with all steps."""
        start = bisect.bisect_left(self.days, first)
        return replace(
            self,
            days=self.days[start:],
            gross=self.gross[start:],
            net=self.net[start:],
            turnover=self.turnover[start:],
        )


def conclude(gated: PolicyRun, free: PolicyRun, never: PolicyRun, *, sessions_per_year: int) -> Conclusion:
    """Return whether retraining paid: what it earned without the edge gate against never retraining, which has none.

    Like with like: a gate that stands aside beats a model that loses, and that is not the work of retraining. Nothing
    is shown where the gate let the policy trade in fewer than 20 sessions, or no model of it ever traded.

    >>> from datetime import UTC, date, datetime
    >>> days = [Session(datetime(2026, 1, n, tzinfo=UTC), date(2026, 1, n)) for n in range(1, 31)]
    >>> won = build_run([SessionPnl(gross=0.01 + n % 3, net=0.01 + n % 3, turnover=1.0) for n in range(30)], days)
    >>> lost = build_run([SessionPnl(gross=-1.0 - n % 2, net=-1.0 - n % 2, turnover=1.0) for n in range(30)], days)
    >>> aside = build_run([NOTHING] * 30, days)
    >>> [conclude(*runs, sessions_per_year=252) for runs in ((won, won, lost), (lost, lost, won), (aside, won, lost))]
    ['paid', 'cost', 'not shown']
    """
    if gated.days_traded < _FEWEST_TRADED or free.days_traded == 0:
        return "not shown"
    return compare(free.net, never.net, sessions_per_year=sessions_per_year).conclusion


def run_policy(attempts: Sequence[PolicyAttempt], gate: Gate, sessions: Sequence[Session]) -> PolicyRun:
    """Return what `sessions` earned with the models that `gate` let serve.

    attempts: oldest first. A model serves the sessions that start after the close at which it was deployed, until the
    next one does; 0 before the first. Changing the model costs nothing extra: no position is held over a night.
    """
    steps: list[Step] = []
    for attempt in attempts:
        steps.append(Step(attempt=attempt, decision=gate(attempt, tuple(steps))))
    return build_run(
        [_compute_session_pnl(find_serving(steps, session), session) for session in sessions], sessions, steps
    )


def apply_edge(
    free: PolicyRun,
    sessions: Sequence[Session],
    *,
    begun: Sequence[float],
    rule: settings.Edge,
    policy: Literal["seed", "guarded", "balanced", "strict"],
) -> PolicyRun:
    """Return the run `free` as a bot trades it that stands aside until the policy's own record lets it.

    free, sessions: of `replay`. begun: net P&L of the walk-forward that begins the record, at the first attempt. At
    each attempt the record is that, and every session between the first attempt and it with the model that was then
    current: the one that served or, before any did, the last candidate. So the record grows while the bot stands aside.
    """
    steps: list[Step] = []
    state = EdgeState.STAND_ASIDE
    for done, step in enumerate(free.steps, start=1):
        began = free.steps[0].attempt.at
        earlier = [session for session in sessions if began < session.start < step.attempt.at]
        record = [
            *begun,
            *(_compute_session_pnl(_find_current(free.steps, session), session).net for session in earlier),
        ]
        obstacles = (
            () if any(earlier_step.decision.deploys for earlier_step in free.steps[:done]) else ("no model serves",)
        )
        edge = judge_edge(
            np.array(record, dtype=np.float64),
            state,
            rule=rule,
            policy=policy,
            obstacles=obstacles,
            sessions_per_year=step.attempt.sessions_per_year,
        )
        state = edge.state
        steps.append(replace(step, edge=edge))
    return build_run(
        [
            _compute_session_pnl(find_serving(steps, session) if _is_live(steps, session) else None, session)
            for session in sessions
        ],
        sessions,
        steps,
    )


def _is_live(steps: Sequence[Step], session: Session) -> bool:
    before = [step.edge for step in steps if step.attempt.at < session.start]
    return bool(before) and before[-1] is not None and before[-1].state is EdgeState.LIVE


def _find_current(steps: Sequence[Step], session: Session) -> PolicyAttempt | None:
    tried = [step.attempt for step in steps if step.attempt.at < session.start]
    return find_serving(steps, session) or (tried[-1] if tried else None)


def _compute_session_pnl(model: PolicyAttempt | None, session: Session) -> SessionPnl:
    return NOTHING if model is None else model.marks[session.day]


def build_run(marks: Sequence[SessionPnl], sessions: Sequence[Session], steps: Sequence[Step] = ()) -> PolicyRun:
    """Return `marks`, one a session, as a run."""
    columns = np.array([(mark.gross, mark.net, mark.turnover) for mark in marks], dtype=np.float64).reshape(-1, 3)
    gross, net, turnover = columns.T
    return PolicyRun(
        days=tuple(session.day for session in sessions), gross=gross, net=net, turnover=turnover, steps=tuple(steps)
    )


def find_serving(steps: Sequence[Step], session: Session) -> PolicyAttempt | None:
    """Return the model that served when `session` began; None before the first."""
    before = [step.attempt for step in steps if step.decision.deploys and step.attempt.at < session.start]
    return before[-1] if before else None


# --- gates ------------------------------------------------------------------------------------------------------------


def never_retrain(challenger: PolicyAttempt, steps: Sequence[Step]) -> GateDecision:
    """Deploy the first model, whatever its exam says, and no other."""
    served = _list_served(steps)
    return GateDecision(deploys=not served, reason="a model serves" if served else "the first model")


def always_newest(challenger: PolicyAttempt, steps: Sequence[Step]) -> GateDecision:
    """Deploy each model, whatever its exam says."""
    return GateDecision(deploys=True, reason="the newest model")


def build_stored_scores_gate(promote: settings.Promote, exam: settings.Exam) -> Gate:
    """Return the rule as most people write it: each model's Sharpe ratio on its own exam, champion's as it was stored.

    Deployed if above `min_sharpe`, and above the champion's or no more than the tolerance below it.
    """

    def decide(challenger: PolicyAttempt, steps: Sequence[Step]) -> GateDecision:
        served = _list_served(steps)
        own = _find_stored_score(challenger, exam)
        if own is None:
            return GateDecision(deploys=False, reason="its exam has no Sharpe ratio")
        if not own > promote.min_sharpe:
            return GateDecision(deploys=False, reason=f"Sharpe {own:.2f}, needs more than {promote.min_sharpe:.2f}")
        stored_score = _find_stored_score(served[-1].attempt, exam) if served else None
        floor = -math.inf if stored_score is None else stored_score - promote.tolerance * abs(stored_score)
        comparison = "there is no model to beat" if stored_score is None else f"the champion stored {stored_score:.2f}"
        return GateDecision(deploys=own >= floor, reason=f"Sharpe {own:.2f}, {comparison}")

    return decide


def _find_stored_score(attempt: PolicyAttempt, exam: settings.Exam) -> float | None:
    return _compute_sharpe(attempt, _divide(attempt, exam, None).exam_days)


def _divide(attempt: PolicyAttempt, exam: settings.Exam, champion: PolicyAttempt | None) -> ExamSplit:
    return split_for_exam(attempt.window, exam, champion_last_label=champion.label_end if champion else None)


def build_verdict_gate(promote: settings.Promote, exam: settings.Exam) -> Gate:
    """Return the gate of `retrain`: challenger and champion on the same unseen sessions, `verdict.judge` decides."""

    def decide(challenger: PolicyAttempt, steps: Sequence[Step]) -> GateDecision:
        served = _list_served(steps)
        champion = served[-1].attempt if served else None
        days = _divide(challenger, exam, champion).exam_days
        tried = _list_tried(steps, days)
        verdict = judge(
            challenger.build_scored(days),
            champion.build_scored(days) if champion else None,
            promote=promote,
            exam=exam,
            earlier_sharpes=_list_conceding_sharpes(served, days),
            tried=tried,
        )
        return GateDecision(deploys=verdict.outcome == "deployed", reason=verdict.reason, verdict=verdict, exam=days)

    return decide


def _list_served(steps: Sequence[Step]) -> list[Step]:
    return [step for step in steps if step.decision.deploys]


def _list_tried(steps: Sequence[Step], days: Sequence[date]) -> list[Trial]:
    """Return each earlier candidate, with the share of `days` that it was examined on."""
    tried = []
    for step in steps:
        own = step.decision.verdict.challenger_sharpe if step.decision.verdict else None
        trial = None if own is None else build_trial(own, step.decision.exam, days)
        if trial is not None:
            tried.append(trial)
    return tried


def _list_conceding_sharpes(served: Sequence[Step], days: Sequence[date]) -> tuple[float, ...]:
    def find_conceding(place: int) -> int | None:
        verdict = served[place].decision.verdict
        return place - 1 if place and verdict is not None and verdict.conceded else None

    newest = len(served) - 1 if served else None
    return list_conceding_sharpes(newest, find_conceding, lambda place: _compute_sharpe(served[place].attempt, days))


def _compute_sharpe(attempt: PolicyAttempt, days: Sequence[date]) -> float | None:
    return metrics.compute_sharpe_or_none(attempt.read_net(days), sessions_per_year=attempt.sessions_per_year)


# --- what to compare with, and the conclusion -------------------------------------------------------------------------


def buy_and_hold(closes: npt.ArrayLike, *, cost_bps: float) -> list[SessionPnl]:
    """Return the marks of equal amounts of each ticker, bought at the first close and held to the last.

    closes: float64, shape (1 + n_sessions, n_tickers), oldest first, adjusted for splits; NaN where a ticker has none.
        The first row is the purchase, whose cost the first session bears. A ticker without a close in a session is
        worth its last one, as it is on an account; one without any in the first row is not bought. Dividends are not
        in the bars, so not here.
    A session's gross P&L is the return of the whole holding, as for every other run a fraction of a constant
    capital. No ticker at all: zeros.

    >>> [round(mark.net, 6) for mark in buy_and_hold([[100.0], [101.0], [99.0]], cost_bps=1.0)]
    [0.0099, -0.019802]
    """
    worth = compute_worth_of_holding(closes)
    if worth is None:
        return [NOTHING] * (np.shape(closes)[0] - 1)
    returns = worth[1:] / worth[:-1] - 1.0
    paid = cost_bps / 1e4
    return [
        SessionPnl(gross=float(gross), net=float(gross) - (0.0 if place else paid), turnover=0.0 if place else 1.0)
        for place, gross in enumerate(returns)
    ]
