"""Draws what the loop found: triggers, a retrain, an exam, a proof, a backtest."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from hftcl.formats import (
    bars_of,
    basis_points,
    count,
    describe_policy,
    interval,
    list_left_out,
    moment,
    sharpe_ratio,
    timings,
)
from hftcl.views import Cell, Styled, describe_source, draw_table, number, say

if TYPE_CHECKING:
    from hftcl.learning.reports import (
        BacktestReport,
        CheckReport,
        EvidenceReport,
        ExamReport,
        ExamSpan,
        FeaturesReport,
        FindingReport,
        ProofReport,
        RetrainReport,
        ScoreReport,
    )
    from hftcl.market.received import SessionCoverage, TickerCoverage


def draw_check(report: "CheckReport", verbosity: int = 0) -> None:
    """Draw a CheckReport; with -v what the bars cover."""
    rows = [
        (t.name, Styled("due", "bold yellow") if t.fired else "no", number(t.value), number(t.threshold), t.evidence)
        for t in report.triggers
    ]
    draw_table(
        describe_source(report), ("trigger", "fired", "value", "threshold", "evidence"), rows, numbers=frozenset({2, 3})
    )
    for line in list_left_out({item.ticker: item.left_out for item in report.coverage if item.left_out}):
        say(line, "yellow")
    if verbosity > 0 and report.coverage:
        _draw_coverage(report.coverage)
    say(f"A retrain is {'due' if report.due else 'not due'}: {report.reason}.", "bold")


_SHOWN_DAYS: Final = 5  # the newest sessions of a ticker that are not whole; --json has all of them


def _draw_coverage(tickers: "Sequence[TickerCoverage]") -> None:
    """Draw what came of what was to be expected, a row a ticker, and its sessions that are not whole."""
    columns = ("bars of", "sessions", "expected", "received", "missing", "quarantined", "revised")
    rows: list[tuple[str, ...]] = []
    for item in tickers:
        rows.append((item.ticker, str(item.sessions), *_list_counts(item, item.missing)))
        rows += [
            ("", str(day.session), *_list_counts(day, day.expected - day.received))
            for day in item.incomplete[-_SHOWN_DAYS:]
        ]
    draw_table("Coverage, regular minutes", columns, rows, numbers=frozenset(range(2, 7)))


def _list_counts(item: "TickerCoverage | SessionCoverage", missing: int) -> tuple[str, ...]:
    return tuple(f"{n:,}" for n in (item.expected, item.received, missing, item.quarantined, item.revised))


# What is true of the P&L first, then what it was made of: the order in which a reader asks.
_SCORE_ROWS: "Final[tuple[tuple[str, Callable[[ScoreReport], str]], ...]]" = (
    ("Sharpe, net", lambda s: sharpe_ratio(s.sharpe, len(s.pnl_by_session))),
    ("  90 % interval", lambda s: interval(s.sharpe_interval, ".1f")),
    ("Sharpe, gross", lambda s: sharpe_ratio(s.gross_sharpe, len(s.pnl_by_session))),
    ("P(true Sharpe > 0)", lambda s: number(s.psr)),
    ("P&L, net", lambda s: number(s.pnl, "+.3%")),
    ("P&L, gross", lambda s: number(s.gross_pnl, "+.3%")),
    ("cost", lambda s: number(s.cost, ".3%")),
    ("turnover, x capital", lambda s: number(s.turnover, ".1f")),
    ("trades", lambda s: f"{s.trades:,}"),
    ("hit rate", lambda s: number(s.hit_rate, ".1%")),
    ("max drawdown", lambda s: number(s.max_drawdown, ".3%")),
    ("exposure", lambda s: number(s.exposure, ".1%")),
    ("information coefficient", lambda s: number(s.information_coefficient, "+.4f")),
)


def draw_retrain(report: "RetrainReport", verbosity: int = 0) -> None:
    """Draw a RetrainReport."""
    say(describe_source(report), "bold magenta" if report.synthetic else "")
    for note in report.repaired:
        say(f"repaired: {note}", "yellow")
    for line in list_left_out(report.left_out):
        say(line, "yellow")
    if report.outcome == "skipped":
        say(f"SKIPPED: {report.reason}. `hftcl retrain --force` skips the check, never the exam.", "bold")
        return
    _draw_findings(report.findings, everything=verbosity > 0)
    if verbosity > 0 and report.coverage:
        _draw_coverage(report.coverage)
    say(
        f"{count(report.rows, 'training row')}, {count(report.sessions, 'session')}, "
        f"{count(len(report.tickers), 'ticker')}; {report.engine}"
    )
    if report.challenger is not None and report.exam is not None:
        _draw_scores(report, report.challenger, report.exam)
        if verbosity > 0:
            _draw_slices(report.challenger, "Challenger")
    style = "bold green" if report.outcome == "deployed" else "bold red"
    dry = " (dry run: nothing was archived or deployed)" if report.dry_run else ""
    say(f"{report.outcome.upper()} {report.model_id or ''}: {report.reason}{dry}".replace(" :", ":"), style)
    say(f"EDGE {report.edge.upper()}: {report.edge_reason}", "bold green" if report.edge == "live" else "bold yellow")
    say(timings(report.timings_s), "dim")


def _draw_scores(report: "RetrainReport", challenger: "ScoreReport", exam: "ExamSpan") -> None:
    champion = report.champion
    models = "both" if champion else "the challenger"
    title = f"Exam: {count(exam.sessions, 'session')}, {exam.from_} to {exam.to}, unseen by {models}"
    columns = ["", "challenger", *(["champion " + (champion.model_id or "")] if champion else [])]
    rows = [[name, form(challenger), *([form(champion)] if champion else [])] for name, form in _SCORE_ROWS]
    draw_table(title, columns, rows, numbers=frozenset(range(1, len(columns))))
    if exam.chance_of_noise is not None and exam.noise_deviation is not None:
        say(
            f"A coin flip shows a Sharpe ratio of 0 +- {exam.noise_deviation:.1f} (one standard deviation) over "
            f"{count(exam.sessions, 'session')} and passes the threshold in {exam.chance_of_noise:.0%} of such exams."
        )
    _draw_facts("Promote: is it the best model there is?", report.evidence)
    _draw_facts(_build_edge_title(report), report.edge_evidence)


def _build_edge_title(report: "RetrainReport") -> str:
    title = "Edge: does the record of this policy let the bot trade?"
    if not report.record_sessions:
        return title
    return (
        f"{title} {count(report.record_sessions, 'session')}, {report.record_from} to {report.record_to}, unseen by "
        f"the model of their day: net Sharpe {number(report.record_sharpe)} "
        f"(90 %: {interval(report.record_interval, '.1f')})"
    )


def _draw_facts(title: str, evidence: "Sequence[EvidenceReport]") -> None:
    rows: list[list[Cell]] = [
        [fact.text, Styled("ok", "green") if fact.passed else Styled("missed", "red") if fact.decides else ""]
        for fact in evidence
    ]
    draw_table(title, ("condition", "result"), rows)


def _draw_slices(report: "ScoreReport", whose: str) -> None:
    for by, parts in report.slices.items():
        detailed = any(part.detail for part in parts)
        rows = [
            (
                part.name,
                number(part.net, "+.3%"),
                number(part.gross, "+.3%"),
                number(part.turnover, ".1f"),
                f"{part.trades:,}",
                number(part.held_share, ".1%"),
                *([part.detail] if detailed else []),
            )
            for part in parts
        ]
        columns = (by, "net P&L", "gross P&L", "turnover", "trades", "held", *(["which"] if detailed else []))
        draw_table(f"{whose} by {by}", columns, rows, numbers=frozenset(range(1, 6)))
    days = [(day, number(net, "+.3%")) for day, net in report.pnl_by_session.items()]
    draw_table(f"{whose} by session", ("session", "net P&L"), days, numbers=frozenset({1}))


def draw_exam(report: "ExamReport") -> None:
    """Draw an ExamReport."""
    bars = bars_of(report.source, synthetic=report.synthetic)
    say(
        f"{report.model_id}, trained {report.trained_from} to {report.trained_to}, on {bars} of "
        f"{count(len(report.tickers), 'ticker')}",
        "bold magenta" if report.synthetic else "",
    )
    rows = [(name, form(report)) for name, form in _SCORE_ROWS]
    title = f"Exam: {count(report.sessions, 'session')}, {report.from_} to {report.to}, unseen by the model"
    draw_table(title, ("", report.model_id or "model"), rows, numbers=frozenset({1}))
    _draw_slices(report, "P&L")
    say(f"positions_sha256 {report.positions_sha256}", "dim")


def _draw_findings(findings: "Sequence[FindingReport]", *, everything: bool) -> None:
    if not findings:
        return
    if not everything:
        counts: dict[str, int] = {}
        for item in findings:
            counts[item.reason] = counts.get(item.reason, 0) + item.count
        text = ", ".join(f"{reason} {bars:,}" for reason, bars in sorted(counts.items()))
        say(f"findings in the bars: {text} (-v lists them)", "yellow")
        return
    rows = [(item.ticker, item.reason, f"{item.count:,}", moment(item.first), item.detail) for item in findings]
    draw_table(
        "Findings in the bars", ("ticker", "reason", "count", "first, UTC", "detail"), rows, numbers=frozenset({2})
    )


def draw_proof(report: "ProofReport") -> None:
    """Draw a ProofReport."""
    say(describe_source(report), "bold magenta" if report.synthetic else "")
    decider = f"model {report.model_id}" if report.model_id else "a fixed sum of the features (no model serves)"
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
    for feature in report.features:
        ic = feature.ic[horizon]
        interval_cell = "" if ic is None else f"{ic[1]:+.4f} [{ic[0]:+.4f}, {ic[2]:+.4f}]"
        median = "" if feature.quantiles is None else f"{feature.quantiles[2]:.3g}"
        spread = "" if feature.quantiles is None else f"{feature.quantiles[0]:.3g} to {feature.quantiles[4]:.3g}"
        importance = "" if feature.importance is None else f"{feature.importance:.1%}"
        name = Styled(feature.name, "bold") if feature.own else feature.name
        rows.append((
            name, feature.group, f"{feature.coverage:.1%}", median, spread, interval_cell, importance,
            f"{feature.cost_us:.2f}",
        ))  # fmt: skip
    columns = ("feature", "group", "coverage", "median", "1 to 99 %", f"IC at {horizon} min [90 %]", "weight", "us/bar")
    title = (
        f"{count(len(report.features), 'feature')} on {report.bars:,} bars of "
        f"{count(report.training_sessions, 'training session')}; the exam's are not looked at"
    )
    draw_table(title, columns, rows, numbers=frozenset({2, 3, 6, 7}), spare=("median", "1 to 99 %"))
    say(
        f"{report.beyond_zero} of {report.intervals} intervals (all horizons: --json) leave out zero; of features that "
        f"are worth nothing about {report.intervals / 10:.0f} would."
    )
    if report.left_out:
        say(f"Left out by [features]: {', '.join(report.left_out)}.")
    if report.model_id:
        say(f"weight: in the model that serves, {report.model_id}.")


# Capitals mark what was decided, as in the other commands; "not shown" is no verdict against retraining.
VERDICTS: Final = {"paid": "RETRAINING PAID", "not shown": "NOT SHOWN that retraining paid", "cost": "RETRAINING COST"}


def draw_backtest(report: "BacktestReport") -> None:
    """Draw a BacktestReport; the last line is its conclusion."""
    say(describe_source(report), "bold magenta" if report.synthetic else "")
    for line in list_left_out(report.left_out):
        say(line, "yellow")
    columns = ("", "Sharpe", "90 %", "net P&L", "turnover", "deployed")  # what fits into 80 columns; --html has more
    rows = [
        (
            name,
            number(policy.sharpe),
            interval(policy.interval, ".1f"),
            number(policy.pnl, "+.2%"),
            number(policy.turnover, ".1f"),
            str(policy.deployments),
        )
        for name, policy in report.policies.items()
    ]
    title = (
        f"{count(report.sessions, 'session')}, {report.from_} to {report.to}, {count(len(report.tickers), 'ticker')}, "
        f"{count(report.trainings, 'training')}, policy {describe_policy(report.promote_policy)}, "
        f"{basis_points(report.cost_bps)}"
    )
    draw_table(title, columns, rows, numbers=frozenset(range(1, len(columns))))
    against = [
        (
            f"{difference.policy} - {difference.against}",
            number(difference.difference, "+.2f"),
            interval(difference.interval),
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
    say(f"{timings(report.timings_s)}; {count(report.resumed, 'training')} from an earlier run", "dim")
    styles = {"paid": "bold green", "cost": "bold red"}
    say(f"{VERDICTS[report.conclusion]}: {report.reason}.", styles.get(report.conclusion, "bold"))
