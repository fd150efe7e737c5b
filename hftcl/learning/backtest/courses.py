"""What the trainings of a backtest would have earned, by each way to run the loop: replays gates over scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from hftcl.events import Event, OnEvent
from hftcl.exam import policies
from hftcl.exam.policies import Gate, GateDecision, PolicyAttempt, PolicyRun, Step
from hftcl.exam.split import Session
from hftcl.learning.backtest.plan import History
from hftcl.learning.backtest.report import FREE, NEVER, POLICY, SEARCHED, SEARCHED_FREE
from hftcl.learning.backtest.scores import Score
from hftcl.learning.backtest.trainings import Unit
from hftcl.market.sessions import Calendar
from hftcl.settings import Settings

_GATES: Final = 4  # that decide over the attempts by hftcl.toml: its own, and the three that it is compared with


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptSeries:
    """The attempts of one way to train, oldest first, and the net P&L with which its record begins."""

    attempts: tuple[PolicyAttempt, ...]
    begun: tuple[float, ...]


def build_attempt(unit: Unit, score: Score, calendar: Calendar) -> PolicyAttempt:
    """Return what a training is worth, for the gates."""
    return PolicyAttempt(
        model_id=unit.model_id,
        at=calendar.find_close(unit.window[-1].day),
        label_end=score.meta.label_end,
        window=unit.window,
        marks=score.marks,
        synthetic=score.meta.synthetic,
        fault=score.fault,
        sessions_per_year=calendar.sessions_per_year,
    )


def compute_first_record(
    first: Unit, folds: Sequence[Unit], scores: Mapping[str, Score], folded: Mapping[str, Score]
) -> tuple[float, ...]:
    """Return the net P&L of the walk-forward over the first exam: of each fold by its own model, oldest first."""
    by_day = {day: scores[first.model_id].marks[day].net for day in first.split.exam_days}
    for unit in folds:
        if unit.model_id in folded:
            by_day |= {day: folded[unit.model_id].marks[day].net for day in unit.split.exam_days}
    return tuple(by_day[day] for day in sorted(by_day))


def run_policies(
    settings: Settings, history: History, plain: AttemptSeries, searched: AttemptSeries | None, on_event: OnEvent
) -> dict[str, PolicyRun]:
    """Return what each way to run the loop earned on the sessions that are compared, by its name.

    searched: trained by what a search each week chose; None where there was none. Marks that are scored when they are
    asked for are so here, which takes a while: reports each decision of a gate.
    """
    attempts, sessions = plain.attempts, history.sessions
    steps = _Steps(on_event, _GATES * len(attempts) + (len(searched.attempts) if searched else 0))
    gated, free = _run_gated(settings, plain, sessions, steps)
    stored = policies.build_stored_scores_gate(settings.promote, settings.exam)
    runs = {
        POLICY: gated,
        FREE: free,
        NEVER: policies.run_policy(attempts, steps.tell(policies.never_retrain), sessions),
        "always newest": policies.run_policy(attempts, steps.tell(policies.always_newest), sessions),
        "seed, stored scores": policies.run_policy(attempts, steps.tell(stored), sessions),
        "stand aside": policies.build_run([policies.NOTHING] * len(sessions), sessions),
    }
    counted = history.counted
    held = policies.buy_and_hold(_collect_closes(history.data.frame, counted), cost_bps=settings.strategy.cost_bps)
    first = counted[0].day
    cut = {name: run.cut_since(first) for name, run in runs.items()}
    cut["buy and hold"] = policies.build_run(held, counted)
    if searched is not None:
        gated, free = _run_gated(settings, searched, sessions, steps)
        cut |= {SEARCHED: gated.cut_since(first), SEARCHED_FREE: free.cut_since(first)}
    return cut


class _Steps:
    """Reports how many of `total` decisions the gates have made."""

    def __init__(self, on_event: OnEvent, total: int) -> None:
        self._on_event, self._total, self._done = on_event, total, 0
        on_event(Event("replay", 0, total))

    def tell(self, gate: Gate) -> Gate:
        """Return the gate; each of its decisions is reported."""

        def decide_and_tell(challenger: PolicyAttempt, steps: Sequence[Step]) -> GateDecision:
            decision = gate(challenger, steps)
            self._done += 1
            self._on_event(Event("replay", self._done, self._total, challenger.model_id))
            return decision

        return decide_and_tell


def _run_gated(
    settings: Settings, series: AttemptSeries, sessions: Sequence[Session], steps: _Steps
) -> tuple[PolicyRun, PolicyRun]:
    """Return what the configured gates let a loop earn, and what it earns without the gate of [edge]."""
    promote = settings.promote
    gate = steps.tell(policies.build_verdict_gate(promote, settings.exam))
    free = policies.run_policy(series.attempts, gate, sessions)
    gated = policies.apply_edge(free, sessions, begun=series.begun, rule=settings.edge, policy=promote.policy)
    return gated, free


def _collect_closes(frame: pl.DataFrame, counted: Sequence[Session]) -> npt.NDArray[np.float64]:
    """Return the closes of the regular session: a row for the session before the first, then one for each of `counted`.

    NaN where a ticker has no bar; columns by ticker.
    """
    last = (
        frame.filter(pl.col("regular"))
        .sort("ts")
        .group_by("session", "ticker")
        .agg(pl.col("close").last())
        .pivot("ticker", index="session", values="close", sort_columns=True)  # a sum depends on their order
        .sort("session")
    )
    before = last.filter(pl.col("session") < counted[0].day).tail(1)
    days = pl.DataFrame({"session": [session.day for session in counted]})
    rows = pl.concat([before, days.join(last, on="session", how="left")])
    return np.asarray(rows.drop("session").cast(pl.Float64).fill_null(float("nan")).to_numpy(), dtype=np.float64)
