"""From the trials of a search to its report: the best of them, and how good the best of so many is by luck."""

import math
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Final

import numpy as np

from hftcl.exam.metrics import compute_best_luck, compute_or_none, compute_sharpe_interval, deflated_sharpe
from hftcl.exam.trials import Trial, build_trial
from hftcl.formats import count, number
from hftcl.learning.dataset import Dataset
from hftcl.learning.reports import RetrainReport
from hftcl.learning.search.reports import InnerReport, SearchExamReport, SearchReport, TrialReport, WinnerReport
from hftcl.learning.search.space import Choice, Space, Value, read_value
from hftcl.learning.search.trials import FinishedTrial
from hftcl.market.sessions import Calendar
from hftcl.settings import Settings

_TRIALS_WITH_LUCK: Final = 2.0  # below two there is no best of several


def find_winner(finished: Sequence[FinishedTrial]) -> FinishedTrial | None:
    """Return the trial with the best Sharpe ratio inside, the earliest of equals; None where none earned its cost."""
    earning = [(trial.sharpe, -trial.number, trial) for trial in finished if trial.sharpe is not None]
    best = max(earning, default=None)
    return best[2] if best and best[0] > 0 else None


def list_distinct(finished: Sequence[FinishedTrial]) -> list[float]:
    """Return the Sharpe ratios of the trials that have one, each of those that held the same positions once."""
    by_positions = {trial.positions: trial.sharpe for trial in finished if trial.sharpe is not None}
    return list(by_positions.values())


def weigh_trials(
    finished: Sequence[FinishedTrial], others: Sequence[FinishedTrial], days: Sequence[date]
) -> tuple[Trial, ...]:
    """Return every trial of which the best on `days` is chosen: those of this search, then those of `others`.

    Each that held other positions is one, one of another search by the share of `days` on which it was scored.
    """
    own = {trial.positions for trial in finished}
    built = [
        (trial.positions, build_trial(trial.sharpe, trial.net.keys(), days))
        for trial in others
        if trial.sharpe is not None and trial.positions not in own
    ]
    shared = {positions: trial for positions, trial in built if trial is not None}
    return (*(Trial(sharpe=sharpe) for sharpe in list_distinct(finished)), *shared.values())


def build_report(
    settings: Settings,
    space: Space,
    inner: InnerReport,
    data: Dataset,
    finished: Sequence[FinishedTrial],
    *,
    tried: Sequence[Trial],
    importances: Mapping[str, float],
    exam: RetrainReport | None,
    resumed: int,
    notes: tuple[str, ...],
    timings: dict[str, float],
) -> SearchReport:
    """Return the report of these trials; data: its rows are not read. tried: see `weigh_trials`. exam: the winner's."""
    a_year = Calendar(settings.market.calendar).sessions_per_year
    distinct, best = len(list_distinct(finished)), find_winner(finished)
    effective = math.fsum(trial.weight for trial in tried)
    luck = compute_luck(tried, distinct)
    winner = None if best is None or best.sharpe is None else report_winner(best, best.sharpe, tried, a_year)
    changes = {} if best is None else find_changes(settings, best.choice)
    examined = None if exam is None else _report_exam(exam)
    return SearchReport(
        trials=tuple(_report_trial(trial) for trial in finished),
        distinct=distinct,
        others=len(tried) - distinct,
        effective_trials=effective,
        winner=winner,
        changes=dict(changes),
        difference=describe_difference(settings, changes),
        best_of_worthless=luck,
        exam=examined,
        reason=_explain(winner, luck, _count_tried(distinct, tried), examined, finished),
        importances=dict(importances),
        inner=inner,
        resumed=resumed,
        space=space.count(),
        notes=notes,
        cost_bps=settings.strategy.cost_bps,
        tickers=data.tickers,
        left_out=data.left_out,
        source=data.source,
        synthetic=data.synthetic,
        as_of=data.as_of.at,
        as_of_note=data.as_of.note,
        sessions_per_year=a_year,
        timings_s=timings,
    )


def find_changes(settings: Settings, choice: Choice) -> dict[str, Value]:
    """Return what of a choice is not as the settings have it."""
    return {path: value for path, value in choice.items() if value != read_value(settings, path)}


def describe_difference(settings: Settings, changes: Mapping[str, Value]) -> str:
    """Return the lines of hftcl.toml that would change: "-" as they are, "+" as they would be; "" for none."""
    from hftcl.config.documents import format_toml

    lines: list[str] = []
    for path, value in sorted(changes.items()):
        section, _, name = path.partition(".")
        if f" [{section}]" not in lines:
            lines.append(f" [{section}]")
        lines.append(f"-{name} = {format_toml(read_value(settings, path))}")
        lines.append(f"+{name} = {format_toml(value)}")
    return "\n".join(lines)


def _report_trial(trial: FinishedTrial) -> TrialReport:
    return TrialReport(
        number=trial.number,
        settings=dict(trial.choice),
        inner_sharpe=trial.sharpe,
        pnl=float(sum(trial.net.values())),
        turnover=trial.turnover,
        trades=trial.trades,
        fault=trial.fault,
        seconds=round(trial.seconds, 3),
    )


def compute_luck(tried: Sequence[Trial], distinct: int) -> float | None:
    """Return the annual Sharpe ratio that the best of `tried` would show if none were worth anything.

    tried: see `weigh_trials`; distinct: how many of them are of this search. None where there is no best of several.
    """
    effective = math.fsum(trial.weight for trial in tried)
    return compute_best_luck(*_split_trials(tried)) if distinct and effective >= _TRIALS_WITH_LUCK else None


def report_winner(best: FinishedTrial, sharpe: float, tried: Sequence[Trial], sessions_per_year: int) -> WinnerReport:
    """Return the best trial with its figures; sharpe: its own. tried: see `weigh_trials`."""
    net = np.array(list(best.net.values()))
    return WinnerReport(
        number=best.number,
        settings=dict(best.choice),
        inner_sharpe=sharpe,
        inner_interval=compute_sharpe_interval(net, sessions_per_year),
        dsr=compute_or_none(lambda: deflated_sharpe(net, *_split_trials(tried), sessions_per_year=sessions_per_year)),
    )


def _split_trials(tried: Sequence[Trial]) -> tuple[list[float], list[float]]:
    """Return the Sharpe ratios and the weights."""
    return [trial.sharpe for trial in tried], [trial.weight for trial in tried]


def _count_tried(distinct: int, tried: Sequence[Trial]) -> str:
    """Return how many worthless ones the winner is compared with, "12 worthless ones"."""
    others = len(tried) - distinct
    told = f"{len(tried)} worthless ones"
    if others:
        effective = math.fsum(trial.weight for trial in tried)
        told += f" ({others} of other searches of these sessions; {number(effective)} by the sessions in common)"
    return told


def _report_exam(report: RetrainReport) -> SearchExamReport:
    score, span = report.challenger, report.exam
    assert score is not None  # noqa: S101 - a forced retrain always examines
    assert span is not None  # noqa: S101
    return SearchExamReport(
        from_=span.from_,
        to=span.to,
        sessions=span.sessions,
        outcome=report.outcome,
        reason=report.reason,
        sharpe=score.sharpe,
        sharpe_interval=score.sharpe_interval,
        gross_sharpe=score.gross_sharpe,
        psr=score.psr,
        pnl=score.pnl,
        turnover=score.turnover,
        pnl_by_session=score.pnl_by_session,
        positions_sha256=score.positions_sha256,
        trials=report.trials,
        effective_trials=report.effective_trials,
        dsr=report.dsr,
        champion_sharpe=report.champion.sharpe if report.champion else None,
        p_better=report.p_better,
        edge=report.edge,
        edge_reason=report.edge_reason,
        p_edge=report.p_edge,
    )


def _explain(
    winner: WinnerReport | None,
    luck: float | None,
    worthless: str,
    exam: SearchExamReport | None,
    finished: Sequence[FinishedTrial],
) -> str:
    """Say what was found inside, beside what luck would show, and what of it the exam shows."""
    if not finished:
        return "nothing was tried: the time was over before the first trial began"
    if winner is None or exam is None:
        faults = [trial.fault for trial in finished if trial.fault]
        why = f" ({faults[0]})" if faults and len(faults) == len(finished) else ""
        return f"nothing earned its cost inside the training window{why}, so nothing was examined"
    told = f"trial {winner.number} is the best inside, with a net Sharpe ratio of {number(winner.inner_sharpe)}"
    if luck is not None:
        told += f"; the best of {worthless} would show {number(luck)} (deflated Sharpe ratio {number(winner.dsr)})"
    return (
        f"{told}. The exam, which no trial saw, shows {number(exam.sharpe)} over {count(exam.sessions, 'session')}: "
        f"a retrain would be {exam.outcome}: {exam.reason}"
    )
