"""Draws what a search found: the best trials, what mattered, the winner's exam, the lines of hftcl.toml."""

from typing import TYPE_CHECKING, Final

from hftcl.formats import (
    count,
    describe_choice,
    describe_found,
    format_basis_points,
    format_interval,
    format_sharpe,
    format_timings,
    list_left_out,
)
from hftcl.views import describe_source, draw_table, number, say

if TYPE_CHECKING:
    from hftcl.learning.backtest.reports import SearchedReport
    from hftcl.learning.search.reports import SearchReport

_SHOWN: Final = 10  # the best trials, and the settings that matter most: a screen; --json and --html have all


def draw_search(report: "SearchReport") -> None:
    """Draw a SearchReport: what was found first and last, and what would change."""
    _say_found(report)
    say(describe_source(report), "bold magenta" if report.synthetic else "")
    for line in list_left_out(report.left_out):
        say(line, "yellow")
    _draw_trials(report)
    if report.importances:
        rows = [(path, f"{share:.0%}") for path, share in list(report.importances.items())[:_SHOWN]]
        draw_table("What made a trial one of the best", ("setting", "share"), rows, numbers=frozenset({1}))
    _draw_exam(report)
    say(f"{format_timings(report.timings_s)}; {count(report.resumed, 'trial')} from an earlier run", "dim")
    for line in report.difference.splitlines():
        say(line, {"-": "red", "+": "green"}.get(line[0], ""))
    _say_found(report)
    if report.changes:
        say("Nothing was changed. With these lines in hftcl.toml, `hftcl retrain --force` trains the winner.")
    elif report.winner is not None:
        say("The configuration as it is was the best of them.")


def _say_found(report: "SearchReport") -> None:
    say(f"{report.reason[:1].upper()}{report.reason[1:]}.", "bold")


def draw_searched(report: "SearchedReport") -> None:
    """Draw the searches of a backtest, a row a week."""
    title = (
        f"{count(report.trials, 'trial')} in {count(len(report.weeks), 'week')}, each of {report.space:,.0f} choices; "
        f"{count(report.resumed, 'trial')} from an earlier run"
    )
    rows = [
        (
            f"{week.at:%Y-%m-%d}",
            number(week.inner_sharpe),
            number(week.best_of_worthless),
            format_sharpe(week.exam_sharpe, week.exam_sessions),
            week.outcome or "-",
            describe_found(week.changes, candidate=week.candidate, reason=week.reason),
        )
        for week in report.weeks
    ]
    columns = ("week", "inside", "of luck", "exam", "verdict", "found")
    draw_table(title, columns, rows, numbers=frozenset({1, 2, 3}), spare=("of luck", "verdict"))


def _draw_trials(report: "SearchReport") -> None:
    inner = report.inner
    title = (
        f"{count(len(report.trials), 'trial')} of {report.space:,.0f}, the best first: "
        f"{count(inner.sessions, 'session')} inside the training window, {inner.from_} to {inner.to}, "
        f"{count(inner.folds, 'part')}, "
        f"{format_basis_points(report.cost_bps)}"
    )
    best = sorted(report.trials, key=lambda trial: (-_rank(trial.inner_sharpe), trial.number))
    rows = [
        (
            str(trial.number),
            format_sharpe(trial.inner_sharpe, inner.sessions),
            number(trial.pnl, "+.2%"),
            number(trial.turnover, ".1f"),
            trial.fault or describe_choice(trial.settings),
        )
        for trial in best[:_SHOWN]
    ]
    columns = ("trial", "Sharpe", "net P&L", "turnover", "settings")
    draw_table(title, columns, rows, numbers=frozenset({0, 1, 2, 3}), spare=("turnover", "net P&L"))


def _rank(sharpe: float | None) -> float:
    return float("-inf") if sharpe is None else sharpe


def _draw_exam(report: "SearchReport") -> None:
    exam, winner = report.exam, report.winner
    if exam is None or winner is None:
        return
    rows = [
        ("Sharpe, net", number(winner.inner_sharpe), format_sharpe(exam.sharpe, exam.sessions)),
        (
            "  90 % interval",
            format_interval(winner.inner_interval, ".1f"),
            format_interval(exam.sharpe_interval, ".1f"),
        ),
        ("the best of as many worthless ones", number(report.best_of_worthless), ""),
        ("deflated Sharpe ratio", number(winner.dsr), number(exam.dsr)),
        ("candidates that were tried there", str(report.distinct + report.others), str(exam.trials)),
        ("the model that serves", "", number(exam.champion_sharpe)),
    ]
    title = f"Trial {winner.number}: inside, where it was chosen, and in the exam, {exam.from_} to {exam.to}"
    draw_table(title, ("", "inside", "exam"), rows, numbers=frozenset({1, 2}))
