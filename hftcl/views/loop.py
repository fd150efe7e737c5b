"""Draws what the loop found: triggers, a retrain, an exam, a proof, a backtest."""

from collections.abc import Callable, Sequence
from typing import Any

from hftcl.views import Cell, Styled, describe_source, draw_table, format_interval, format_number, say


def draw_check(report: Any) -> None:
    """Draw a CheckReport."""
    rows = [
        (
            t.name,
            Styled("due", "bold yellow") if t.fired else "no",
            format_number(t.value),
            format_number(t.threshold),
            t.evidence,
        )
        for t in report.triggers
    ]
    draw_table(
        describe_source(report), ("trigger", "fired", "value", "threshold", "evidence"), rows, numbers=frozenset({2, 3})
    )
    say(f"A retrain is {'due' if report.due else 'not due'}: {report.reason}.", "bold")


_SCORE_ROWS: tuple[tuple[str, Callable[[Any], str]], ...] = (
    ("Sharpe, net", lambda s: format_number(s.sharpe)),
    (
        "  90 % interval",
        lambda s: "-" if not s.sharpe_interval else f"{s.sharpe_interval[0]:.1f} .. {s.sharpe_interval[1]:.1f}",
    ),
    ("Sharpe, gross", lambda s: format_number(s.gross_sharpe)),
    ("P(true Sharpe > 0)", lambda s: format_number(s.psr)),
    ("P&L, net", lambda s: format_number(s.pnl, "+.3%")),
    ("P&L, gross", lambda s: format_number(s.gross_pnl, "+.3%")),
    ("cost", lambda s: format_number(s.cost, ".3%")),
    ("turnover, x capital", lambda s: format_number(s.turnover, ".1f")),
    ("trades", lambda s: str(s.trades)),
    ("hit rate", lambda s: format_number(s.hit_rate, ".1%")),
    ("max drawdown", lambda s: format_number(s.max_drawdown, ".3%")),
    ("exposure", lambda s: format_number(s.exposure, ".1%")),
    ("information coefficient", lambda s: format_number(s.information_coefficient, "+.4f")),
)


def draw_retrain(report: Any, verbosity: int = 0) -> None:
    """Draw a RetrainReport."""
    say(describe_source(report), "bold magenta" if report.synthetic else "")
    for note in report.repaired:
        say(f"repaired: {note}", "yellow")
    if report.outcome == "skipped":
        say(f"SKIPPED: {report.reason}. `hftcl retrain --force` skips the check, never the exam.", "bold")
        return
    for ticker, why in report.left_out.items():
        say(f"left out: {ticker}: {why}", "yellow")
    _draw_findings(report.findings, everything=verbosity > 0)
    say(f"{report.rows} training rows, {report.sessions} sessions, {len(report.tickers)} tickers; {report.engine}")
    if report.challenger is not None:
        _draw_scores(report)
    if verbosity > 0 and report.challenger is not None:
        _draw_slices(report.challenger, "Challenger")
    style = "bold green" if report.outcome == "deployed" else "bold red"
    dry = " (dry run: nothing was archived or deployed)" if report.dry_run else ""
    say(f"{report.outcome.upper()} {report.model_id or ''}: {report.reason}{dry}".replace(" :", ":"), style)
    say(f"EDGE {report.edge.upper()}: {report.edge_reason}", "bold green" if report.edge == "live" else "bold yellow")
    total = report.timings_s.get("total")
    parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in report.timings_s.items() if name != "total")
    say(f"{total:.1f} s: {parts}" if total is not None else parts, "dim")


def _draw_scores(report: Any) -> None:
    exam, champion = report.exam, report.champion
    whom = "both" if champion else "the challenger"
    title = f"Exam: {exam.sessions} sessions, {exam.from_} to {exam.to}, unseen by {whom}"
    columns = ["", "challenger", *(["champion " + (champion.model_id or "")] if champion else [])]
    rows = [[name, form(report.challenger), *([form(champion)] if champion else [])] for name, form in _SCORE_ROWS]
    draw_table(title, columns, rows, numbers=frozenset(range(1, len(columns))))
    if exam.chance_of_noise is not None:
        say(
            f"A coin flip shows a Sharpe ratio of 0 +- {exam.noise_deviation:.1f} (one standard deviation) over "
            f"{exam.sessions} sessions and passes the threshold in {exam.chance_of_noise:.0%} of such exams."
        )
    _draw_facts("Promote: is it the best model there is?", report.evidence)
    _draw_facts(_build_edge_title(report), report.edge_evidence)


def _build_edge_title(report: Any) -> str:
    title = "Edge: does the record of this policy let the bot trade?"
    if not report.record_sessions:
        return title
    low, high = report.record_interval or (None, None)
    return (
        f"{title} {report.record_sessions} sessions, {report.record_from} to {report.record_to}, unseen by "
        f"the model of their day: net Sharpe {format_number(report.record_sharpe)} "
        f"(90 %: {format_number(low, '.1f')} to {format_number(high, '.1f')})"
    )


def _draw_facts(title: str, evidence: Sequence[Any]) -> None:
    rows: list[list[Cell]] = [
        [fact.text, Styled("ok", "green") if fact.passed else Styled("missed", "red") if fact.decides else ""]
        for fact in evidence
    ]
    draw_table(title, ("condition", ""), rows)


def _draw_slices(report: Any, whose: str) -> None:
    for by, parts in report.slices.items():
        rows = [
            (
                part.name,
                format_number(part.net, "+.3%"),
                format_number(part.gross, "+.3%"),
                format_number(part.turnover, ".1f"),
                str(part.trades),
                format_number(part.held_share, ".1%"),
                part.detail,
            )
            for part in parts
        ]
        columns = (by, "net P&L", "gross P&L", "turnover", "trades", "held", "")
        draw_table(f"{whose} by {by}", columns, rows, numbers=frozenset(range(1, 6)))
    days = [(day, format_number(net, "+.3%")) for day, net in report.pnl_by_session.items()]
    draw_table(f"{whose} by session", ("session", "net P&L"), days, numbers=frozenset({1}))


def draw_exam(report: Any) -> None:
    """Draw an ExamReport."""
    bars = "SYNTHETIC bars" if report.synthetic else f"bars from {report.source}"
    say(
        f"{report.model_id}, trained {report.trained_from} to {report.trained_to}, on {bars} of {len(report.tickers)} "
        f"tickers",
        "bold magenta" if report.synthetic else "",
    )
    rows = [(name, form(report)) for name, form in _SCORE_ROWS]
    title = f"Exam: {report.sessions} sessions, {report.from_} to {report.to}, unseen by the model"
    draw_table(title, ("", report.model_id), rows, numbers=frozenset({1}))
    _draw_slices(report, "P&L")
    say(f"positions_sha256 {report.positions_sha256}", "dim")


def _draw_findings(findings: Sequence[Any], *, everything: bool) -> None:
    if not findings:
        return
    if not everything:
        counts: dict[str, int] = {}
        for item in findings:
            counts[item.reason] = counts.get(item.reason, 0) + item.count
        told = ", ".join(f"{reason} {count}" for reason, count in sorted(counts.items()))
        say(f"findings in the bars: {told} (-v lists them)", "yellow")
        return
    rows = [
        (item.ticker, item.reason, str(item.count), f"{item.first:%Y-%m-%d %H:%M}" if item.first else "-", item.detail)
        for item in findings
    ]
    draw_table(
        "Findings in the bars", ("ticker", "reason", "count", "first, UTC", "detail"), rows, numbers=frozenset({2})
    )


def draw_proof(report: Any) -> None:
    """Draw a ProofReport."""
    say(describe_source(report), "bold magenta" if report.synthetic else "")
    decider = f"model {report.model_id}" if report.model_id else "a fixed sum of the features (no model serves)"
    rows = [
        (f"values that changed when later bars were {' / '.join(report.replacements)}", str(report.differences)),
        ("  of values compared", f"{report.values_compared:,}"),
        ("a leak planted on purpose was caught at every cut", "yes" if report.planted_leak_caught else "NO"),
        ("training rows whose label reaches into the embargo or the exam", str(report.label_overlap)),
        ("features that differ between one bar at a time and all at once", str(report.streaming_differences)),
        ("  of bars streamed", f"{report.streamed_bars:,}"),
    ]
    title = (
        f"{report.cases} cuts in {report.sessions} sessions of {len(report.tickers)} tickers; decisions by {decider}"
    )
    draw_table(title, ("", "found"), rows, numbers=frozenset({1}))
    if report.proved:
        say("PROVED: nothing that was decided depends on a later bar.", "bold green")
    else:
        say(
            "NOT PROVED: something depends on later bars, or the proof missed a planted leak. Do not trade.", "bold red"
        )


VERDICTS = {"paid": "RETRAINING PAID", "not shown": "NOT SHOWN that retraining paid", "cost": "RETRAINING COST"}


def draw_backtest(report: Any) -> None:
    """Draw a BacktestReport; the last line is its conclusion."""
    say(describe_source(report), "bold magenta" if report.synthetic else "")
    for ticker, why in report.left_out.items():
        say(f"left out: {ticker}: {why}", "yellow")
    columns = ("", "Sharpe", "90 %", "net P&L", "turnover", "deployed")  # what fits into 80 columns; --html has more
    rows = [
        (
            name,
            format_number(each.sharpe),
            "-" if each.interval is None else f"{each.interval[0]:.1f} to {each.interval[1]:.1f}",
            format_number(each.pnl, "+.2%"),
            format_number(each.turnover, ".1f"),
            str(each.deployments),
        )
        for name, each in report.policies.items()
    ]
    title = (
        f"{report.sessions} sessions, {report.from_} to {report.to}, {len(report.tickers)} tickers, "
        f"{report.trainings} trainings, policy {report.promote_policy}, {report.cost_bps:g} bp"
    )
    draw_table(title, columns, rows, numbers=frozenset(range(1, len(columns))))
    against = [
        (
            f"{each.policy} - {each.against}",
            format_number(each.difference, "+.2f"),
            format_interval(each.interval),
            format_number(each.p_better),
        )
        for each in report.differences
    ]
    draw_table(
        "Differences of Sharpe ratios on the same sessions",
        ("", "difference", "90 % interval", "P(better)"),
        against,
        numbers=frozenset({1, 2, 3}),
    )
    taken = {name: seconds for name, seconds in report.timings_s.items() if name != "total"}
    parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in taken.items())
    say(f"{report.timings_s['total']:.1f} s: {parts}; {report.resumed} trainings were there already", "dim")
    styles = {"paid": "bold green", "cost": "bold red"}
    say(f"{VERDICTS[report.conclusion]}: {report.reason}.", styles.get(report.conclusion, "bold"))
