"""Draws what the loop found: triggers, an exam, a proof, the features, a backtest."""

from typing import TYPE_CHECKING, Final

from hftcl.formats import (
    UNDEFINED,
    count,
    describe_bars,
    describe_beyond_zero,
    describe_policy,
    format_basis_points,
    format_information_interval,
    format_interval,
    format_timings,
    list_left_out,
)
from hftcl.views import Styled, describe_source, draw_table, explain_words, number, say
from hftcl.views.scores import SCORE_ROWS, draw_coverage, draw_slices, draw_worth, say_novel
from hftcl.views.search import draw_searched

if TYPE_CHECKING:
    from hftcl.learning.backtest.reports import BacktestReport
    from hftcl.learning.reports import CheckReport, ExamReport, FeaturesReport, ProofReport


def draw_check(report: "CheckReport", verbosity: int = 0) -> None:
    """Draw a CheckReport, its answer first and last; with -v what the bars cover."""
    _say_answer(report)
    rows = [
        (t.name, Styled("due", "bold yellow") if t.fired else "no", number(t.value), number(t.threshold), t.evidence)
        for t in report.triggers
    ]
    draw_table(
        describe_source(report), ("trigger", "fired", "value", "threshold", "evidence"), rows, numbers=frozenset({2, 3})
    )
    for around in (False, True):
        left_out = {i.ticker: i.left_out for i in report.coverage if i.left_out and i.context == around}
        for line in list_left_out(left_out):
            say(f"[market] context, {line}" if around else line, "yellow")
    if verbosity > 0 and report.coverage:
        draw_coverage(report.coverage)
    _say_answer(report)


def _say_answer(report: "CheckReport") -> None:
    say(f"A retrain is {'due' if report.due else 'not due'}: {report.reason}.", "bold")


# What is true of the P&L first, then what it was made of: the order in which a reader asks.


def draw_exam(report: "ExamReport") -> None:
    """Draw an ExamReport."""
    bars = describe_bars(report.source, synthetic=report.synthetic)
    say(
        f"{report.model_id}, trained {report.trained_from} to {report.trained_to}, on {bars} of "
        f"{count(len(report.tickers), 'ticker')}",
        "bold magenta" if report.synthetic else "",
    )
    rows = [(name, form(report)) for name, form in SCORE_ROWS]
    title = f"Exam: {count(report.sessions, 'session')}, {report.from_} to {report.to}, unseen by the model"
    draw_table(title, ("", report.model_id or "model"), rows, numbers=frozenset({1}))
    explain_words("exam")
    say_novel(report)
    draw_worth(report.worth)
    draw_slices(report, "P&L")
    say(f"positions_sha256 {report.positions_sha256}", "dim")


def draw_proof(report: "ProofReport") -> None:
    """Draw a ProofReport, its conclusion first and last."""
    _say_proof(report)
    say(describe_source(report), "bold magenta" if report.synthetic else "")
    decider = f"model {report.model_id}" if report.model_id else "a fixed sum of the features (no model serves)"
    if report.unfit:
        say(f"What is deployed cannot serve this market, and is no part of this: {report.unfit}", "bold yellow")
    rows = [
        (f"values that changed when later bars were {' / '.join(report.replacements)}", str(report.differences)),
        ("  of values compared", f"{report.values_compared:,}"),
        ("features of the rows that train that differ when computed again", str(report.frame_differences)),
        ("their labels that depend on a bar after the one they name as their end", str(report.label_differences)),
        ("a leak planted on purpose was caught at every cut", "yes" if report.planted_leak_caught else "NO"),
        ("training rows whose label reaches into the embargo or the exam", str(report.label_overlap)),
        ("features that differ between one bar at a time and all at once", str(report.streaming_differences)),
        ("  of bars streamed", f"{report.streamed_bars:,}"),
        ("how well a close foretells the next bar (honest: below 0.25)", number(report.closes_foretell)),
        ("how well a return foretells the next one (honest: below 0.20)", number(report.returns_repeat)),
    ]
    if report.gross_sharpe is not None:
        rows.append(("gross Sharpe of the model on unseen sessions", number(report.gross_sharpe)))
        rows.append(("  and with all that it sees a minute late", number(report.gross_sharpe_a_minute_later)))
    title = (
        f"{count(report.cases, 'cut')} in {count(report.sessions, 'session')} of "
        f"{count(len(report.tickers), 'ticker')}; decisions by {decider}"
    )
    draw_table(title, ("", "found"), rows, numbers=frozenset({1}))
    _say_proof(report)


def _say_proof(report: "ProofReport") -> None:
    if report.proved:
        say("PROVED: nothing that was decided depends on a later bar.", "bold green")
    elif report.doubts:
        say(f"NOT PROVED, too good to be true: {'; '.join(report.doubts)}. Do not trade.", "bold red")
    else:
        say(
            "NOT PROVED: something depends on later bars, or the proof missed a planted leak. Do not trade.", "bold red"
        )


def draw_features(report: "FeaturesReport") -> None:
    """Draw a FeaturesReport: a row a feature, and how many of the intervals chance alone would set apart from zero."""
    say(describe_source(report), "bold magenta" if report.synthetic else "")
    horizon = str(report.horizon_minutes)
    rows = []
    none = UNDEFINED if report.model_id else ""  # without a model the whole column has nothing to say
    for feature in report.features:
        median = UNDEFINED if feature.quantiles is None else f"{feature.quantiles[2]:.3g}"
        spread = UNDEFINED if feature.quantiles is None else f"{feature.quantiles[0]:.3g} to {feature.quantiles[4]:.3g}"
        importance = none if feature.importance is None else f"{feature.importance:.1%}"
        name = Styled(feature.name, "bold") if feature.own else feature.name
        rows.append((
            name, feature.group, f"{feature.coverage:.1%}", median, spread,
            format_information_interval(feature.ic[horizon]), importance, f"{feature.cost_us:.2f}",
        ))  # fmt: skip
    columns = ("feature", "group", "coverage", "median", "1 to 99 %", f"IC at {horizon} min [90 %]", "weight", "us/bar")
    title = (
        f"{count(len(report.features), 'feature')} on {report.bars:,} bars of "
        f"{count(report.training_sessions, 'training session')}; the exam's are not looked at"
    )
    draw_table(title, columns, rows, numbers=frozenset({2, 3, 6, 7}), spare=("median", "1 to 99 %", "group", "us/bar"))
    say(describe_beyond_zero(report.beyond_zero, report.intervals, " (all horizons: --html, --json)"))
    if own := [feature.name for feature in report.features if feature.own]:
        say(f"Your own: {', '.join(own)}.")
    if report.left_out:
        say(f"Left out by [features]: {', '.join(report.left_out)}.")
    if report.model_id:
        say(f"weight: in the model that serves, {report.model_id}.")


# Capitals mark what was decided, as in the other commands; "not shown" is no verdict against retraining.
VERDICTS: Final = {"paid": "RETRAINING PAID", "not shown": "NOT SHOWN that retraining paid", "cost": "RETRAINING COST"}
SEARCH_VERDICTS: Final = {
    "paid": "SEARCHING PAID",
    "not shown": "NOT SHOWN that searching paid",
    "cost": "SEARCHING COST",
}


def draw_backtest(report: "BacktestReport") -> None:
    """Draw a BacktestReport; the first and the last line are its conclusion, the last that of its search, if any."""
    _say_conclusion(report)
    say(describe_source(report), "bold magenta" if report.synthetic else "")
    for line in list_left_out(report.left_out):
        say(line, "yellow")
    columns = ("", "Sharpe", "90 %", "net P&L", "turnover", "deployed")  # what fits into 80 columns; --html has more
    rows = [
        (
            name,
            number(policy.sharpe),
            format_interval(policy.interval, ".1f"),
            number(policy.pnl, "+.2%"),
            number(policy.turnover, ".1f"),
            str(policy.deployments),
        )
        for name, policy in report.policies.items()
    ]
    title = (
        f"{count(report.sessions, 'session')}, {report.from_} to {report.to}, {count(len(report.tickers), 'ticker')}, "
        f"{count(report.trainings, 'training')}, policy {describe_policy(report.promote_policy)}, "
        f"{format_basis_points(report.cost_bps)}"
    )
    draw_table(title, columns, rows, numbers=frozenset(range(1, len(columns))))
    against = [
        (
            f"{difference.policy} - {difference.against}",
            number(difference.difference, "+.2f"),
            format_interval(difference.interval),
            number(difference.p_better),
        )
        for difference in report.differences
    ]
    draw_table(
        "Differences of Sharpe ratios on the same sessions",
        ("", "difference", "90 % interval", "P(better)"),
        against,
        numbers=frozenset({1, 2, 3}),
    )
    say(f"{format_timings(report.timings_s)}; {count(report.resumed, 'training')} from an earlier run", "dim")
    if report.search is not None:
        draw_searched(report.search)
    _say_conclusion(report)


def _say_conclusion(report: "BacktestReport") -> None:
    styles = {"paid": "bold green", "cost": "bold red"}
    say(f"{VERDICTS[report.conclusion]}: {report.reason}.", styles.get(report.conclusion, "bold"))
    if report.search is not None:
        verdict = SEARCH_VERDICTS[report.search.conclusion]
        say(f"{verdict}: {report.search.reason}.", styles.get(report.search.conclusion, "bold"))
