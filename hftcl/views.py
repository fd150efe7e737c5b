"""What a person sees: Rich tables and progress on a terminal, one plain line a row in a pipe, JSON where asked.

Called by `cli` with a report and the view that draws it. Draws what the stories found; finds nothing itself.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from rich.console import Console

SPARKS = "▁▂▃▄▅▆▇█"
_TERMINAL_BY_REQUEST = {"FORCE_COLOR", "TTY_COMPATIBLE"}  # with these Rich may take a pipe for a terminal


class Styled(NamedTuple):
    """A cell with a style of Rich. Not Rich's own text: Rich loads on a terminal only, a pipe need not wait for it."""

    text: str
    style: str = ""


Cell = str | Styled


def show(report: Any, view: Callable[..., None], as_json: bool, **options: Any) -> None:
    """Print `report` as one JSON document, or draw it with `view`."""
    if as_json:
        from hftcl.learning.archive_reports import document

        sys.stdout.write(json.dumps(document(report), allow_nan=False, ensure_ascii=False, indent=2) + "\n")
    else:
        view(report, **options)


def table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]], *, numbers: frozenset[int] = frozenset()
) -> None:
    """Draw rows: a table on a terminal; in a pipe one uncut line a row, columns apart by two spaces or more."""
    body = [[cell if isinstance(cell, Styled) else Styled(cell) for cell in row] for row in rows]
    console = _terminal()
    if console is not None:
        from rich.table import Table
        from rich.text import Text

        drawn = Table(title=title or None, title_justify="left", title_style="bold")
        for index, name in enumerate(columns):
            side: Literal["left", "right"] = "right" if index in numbers else "left"
            drawn.add_column(name, justify=side, overflow="fold", no_wrap=name == "model")
        for row in body:
            drawn.add_row(*(Text(cell.text, cell.style) for cell in row))
        console.print(drawn)
        return
    cells = [list(columns), *([cell.text.replace("\n", " ") for cell in row] for row in body)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
    if title:
        sys.stdout.write(f"# {title}\n")
    for line in cells:
        padded = (
            cell.rjust(width) if index in numbers else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        sys.stdout.write("  ".join(padded).rstrip() + "\n")


def say(text: str, style: str = "") -> None:
    """Print one line to stdout, uncut and unwrapped in a pipe; `text` is never markup."""
    console = _terminal()
    if console is None:
        sys.stdout.write(text + "\n")
    else:
        from rich.text import Text

        console.print(Text(text, style=style))


def _terminal() -> "Console | None":
    """Return the terminal that stdout is, None for a pipe or a file."""
    if not sys.stdout.isatty() and _TERMINAL_BY_REQUEST.isdisjoint(os.environ):
        return None
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else None


def number(value: float | None, form: str = ".2f") -> str:
    """Format a figure; an undefined one is a dash."""
    return "-" if value is None else format(value, form)


def sparkline(values: Sequence[float | None]) -> str:
    """Draw one block a value between the least and the greatest; an undefined one is a dot."""
    known = [value for value in values if value is not None]
    if not known:
        return "·" * len(values)
    low, span = min(known), (max(known) - min(known)) or 1.0
    top = len(SPARKS) - 1
    return "".join("·" if value is None else SPARKS[round((value - low) / span * top)] for value in values)


def _source(report: Any) -> str:
    label = "SYNTHETIC bars" if report.synthetic else f"bars from {report.source}"
    known = f", known until {report.as_of:%Y-%m-%d %H:%M} UTC" if report.as_of else ""
    return f"{label}{known}{f' ({report.as_of_note})' if report.as_of_note else ''}"


def triggers(report: Any) -> None:
    """Draw a CheckReport."""
    rows = [
        (t.name, Styled("due", "bold yellow") if t.fired else "no", number(t.value), number(t.threshold), t.evidence)
        for t in report.triggers
    ]
    table(_source(report), ("trigger", "fired", "value", "threshold", "evidence"), rows, numbers=frozenset({2, 3}))
    say(f"A retrain is {'due' if report.due else 'not due'}: {report.reason}.", "bold")


_SCORE_ROWS: tuple[tuple[str, Callable[[Any], str]], ...] = (
    ("Sharpe, net", lambda s: number(s.sharpe)),
    (
        "  90 % interval",
        lambda s: "-" if not s.sharpe_interval else f"{s.sharpe_interval[0]:.1f} .. {s.sharpe_interval[1]:.1f}",
    ),
    ("Sharpe, gross", lambda s: number(s.gross_sharpe)),
    ("P(true Sharpe > 0)", lambda s: number(s.psr)),
    ("P&L, net", lambda s: number(s.pnl, "+.3%")),
    ("P&L, gross", lambda s: number(s.gross_pnl, "+.3%")),
    ("cost", lambda s: number(s.cost, ".3%")),
    ("turnover, x capital", lambda s: number(s.turnover, ".1f")),
    ("trades", lambda s: str(s.trades)),
    ("hit rate", lambda s: number(s.hit_rate, ".1%")),
    ("max drawdown", lambda s: number(s.max_drawdown, ".3%")),
    ("exposure", lambda s: number(s.exposure, ".1%")),
    ("information coefficient", lambda s: number(s.information_coefficient, "+.4f")),
)


def retrain(report: Any, verbosity: int = 0) -> None:
    """Draw a RetrainReport."""
    say(_source(report), "bold magenta" if report.synthetic else "")
    for note in report.repaired:
        say(f"repaired: {note}", "yellow")
    if report.outcome == "skipped":
        say(f"SKIPPED: {report.reason}. `hftcl retrain --force` skips the check, never the exam.", "bold")
        return
    for ticker, why in report.left_out.items():
        say(f"left out: {ticker}: {why}", "yellow")
    _findings(report.findings, everything=verbosity > 0)
    say(f"{report.rows} training rows, {report.sessions} sessions, {len(report.tickers)} tickers; {report.engine}")
    if report.challenger is not None:
        _scores(report)
    if verbosity > 0 and report.challenger is not None:
        _slices(report.challenger, "Challenger")
    style = "bold green" if report.outcome == "deployed" else "bold red"
    dry = " (dry run: nothing was archived or deployed)" if report.dry_run else ""
    say(f"{report.outcome.upper()} {report.model_id or ''}: {report.reason}{dry}".replace(" :", ":"), style)
    say(f"EDGE {report.edge.upper()}: {report.edge_reason}", "bold green" if report.edge == "live" else "bold yellow")
    total = report.timings_s.get("total")
    parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in report.timings_s.items() if name != "total")
    say(f"{total:.1f} s: {parts}" if total is not None else parts, "dim")


def _scores(report: Any) -> None:
    exam, champion = report.exam, report.champion
    whom = "both" if champion else "the challenger"
    title = f"Exam: {exam.sessions} sessions, {exam.from_} to {exam.to}, unseen by {whom}"
    columns = ["", "challenger", *(["champion " + (champion.model_id or "")] if champion else [])]
    rows = [[name, form(report.challenger), *([form(champion)] if champion else [])] for name, form in _SCORE_ROWS]
    table(title, columns, rows, numbers=frozenset(range(1, len(columns))))
    if exam.chance_of_noise is not None:
        say(
            f"A coin flip shows a Sharpe ratio of 0 +- {exam.noise_deviation:.1f} (one standard deviation) over "
            f"{exam.sessions} sessions and passes the threshold in {exam.chance_of_noise:.0%} of such exams."
        )
    _facts("Promote: is it the best model there is?", report.evidence)
    _facts(_edge_title(report), report.edge_evidence)


def _edge_title(report: Any) -> str:
    title = "Edge: does the record of this policy let the bot trade?"
    if not report.record_sessions:
        return title
    low, high = report.record_interval or (None, None)
    return (
        f"{title} {report.record_sessions} sessions, {report.record_from} to {report.record_to}, unseen by "
        f"the model of their day: net Sharpe {number(report.record_sharpe)} "
        f"(90 %: {number(low, '.1f')} to {number(high, '.1f')})"
    )


def _facts(title: str, evidence: Sequence[Any]) -> None:
    rows: list[list[Cell]] = [
        [fact.text, Styled("ok", "green") if fact.passed else Styled("missed", "red") if fact.decides else ""]
        for fact in evidence
    ]
    table(title, ("condition", ""), rows)


def _slices(report: Any, whose: str) -> None:
    for by, parts in report.slices.items():
        rows = [
            (
                part.name,
                number(part.net, "+.3%"),
                number(part.gross, "+.3%"),
                number(part.turnover, ".1f"),
                str(part.trades),
                number(part.held_share, ".1%"),
                part.detail,
            )
            for part in parts
        ]
        columns = (by, "net P&L", "gross P&L", "turnover", "trades", "held", "")
        table(f"{whose} by {by}", columns, rows, numbers=frozenset(range(1, 6)))
    days = [(day, number(net, "+.3%")) for day, net in report.pnl_by_session.items()]
    table(f"{whose} by session", ("session", "net P&L"), days, numbers=frozenset({1}))


def exam(report: Any) -> None:
    """Draw an ExamReport."""
    bars = "SYNTHETIC bars" if report.synthetic else f"bars from {report.source}"
    say(
        f"{report.model_id}, trained {report.trained_from} to {report.trained_to}, on {bars} of {len(report.tickers)} "
        f"tickers",
        "bold magenta" if report.synthetic else "",
    )
    rows = [(name, form(report)) for name, form in _SCORE_ROWS]
    title = f"Exam: {report.sessions} sessions, {report.from_} to {report.to}, unseen by the model"
    table(title, ("", report.model_id), rows, numbers=frozenset({1}))
    _slices(report, "P&L")


def _findings(findings: Sequence[Any], *, everything: bool) -> None:
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
    table("Findings in the bars", ("ticker", "reason", "count", "first, UTC", "detail"), rows, numbers=frozenset({2}))


def history(rows: Sequence[Any]) -> None:
    """Draw the archive, newest first: a row a model, then a line with the course of the exams' Sharpe ratios."""
    if not rows:
        say("No model yet. `hftcl retrain --force` trains the first.")
        return
    marks = {"deployed": "green", "rejected": "red", "inconclusive": "yellow"}
    columns = (
        "model",
        "trained, UTC",
        "on sessions",
        "rows",
        "Sharpe (90 %)",
        "verdict",
        "edge",
        "serves",
        "bars",
        "why",
    )
    drawn = [
        (
            Styled(row.model_id, "bold green" if row.is_deployed else ""),
            f"{row.trained_date:%Y-%m-%d %H:%M}",
            f"{row.trained_from} to {row.trained_to}",
            str(row.rows),
            number(row.val_sharpe)
            + (f" ({row.sharpe_interval[0]:.1f} to {row.sharpe_interval[1]:.1f})" if row.sharpe_interval else ""),
            Styled(row.outcome, marks.get(row.outcome, "")),
            Styled(row.edge or "-", "green" if row.edge == "live" else ""),
            _serving(row),
            Styled("SYNTHETIC", "magenta") if row.synthetic else row.source,
            row.reason,
        )
        for row in rows
    ]
    table("", columns, drawn, numbers=frozenset({3, 4}))
    if len(rows) > 1:
        course = [row.val_sharpe for row in reversed(rows)]
        say(f"Sharpe of the exams, oldest to newest: {sparkline(course)}")


def _serving(row: Any) -> str:
    if row.is_deployed:
        since = row.served[-1][0] if row.served else None
        return f"now{', since ' + format(since, '%Y-%m-%d') if since else ''}{', PINNED' if row.pinned else ''}"
    spans = [f"{a:%Y-%m-%d} to {b:%Y-%m-%d}" for a, b in row.served if b]
    return ", ".join(spans) or "never"


def rollback_plan(plan: Any) -> None:
    """Draw what a rollback would change, on stderr, before it asks."""
    current = _one_model(plan.current) if plan.current else "no model"
    for line in (
        f"serves now: {current}",
        f"will serve: {_one_model(plan.target)}",
        "It will be pinned: no retrain replaces it until `hftcl unpin`.",
    ):
        sys.stderr.write(line + "\n")


def _one_model(record: Any) -> str:
    return (
        f"{record.model_id}, trained {record.trained_from} to {record.trained_to} on "
        f"{'SYNTHETIC' if record.synthetic else record.source} bars, exam Sharpe {number(record.val_sharpe)}"
    )


def rollback(report: Any) -> None:
    """Draw a RollbackReport."""
    for note in report.repaired:
        say(f"repaired: {note}", "yellow")
    before = f", in place of {report.from_model}" if report.from_model else ""
    say(f"{report.to_model} serves now{before}. It is pinned until `hftcl unpin`.", "bold green")


def unpinned(report: Any) -> None:
    """Draw an UnpinReport."""
    for note in report.repaired:
        say(f"repaired: {note}", "yellow")
    if report.unpinned is None:
        say("Nothing was pinned.")
    else:
        say(f"{report.unpinned} is no longer pinned: the next retrain may replace it.")


def proof(report: Any) -> None:
    """Draw a ProofReport."""
    say(_source(report), "bold magenta" if report.synthetic else "")
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
    table(title, ("", "found"), rows, numbers=frozenset({1}))
    if report.proved:
        say("PROVED: nothing that was decided depends on a later bar.", "bold green")
    else:
        say(
            "NOT PROVED: something depends on later bars, or the proof missed a planted leak. Do not trade.", "bold red"
        )


VERDICTS = {"paid": "RETRAINING PAID", "not shown": "NOT SHOWN that retraining paid", "cost": "RETRAINING COST"}


def backtest(report: Any) -> None:
    """Draw a BacktestReport; the last line is its conclusion."""
    say(_source(report), "bold magenta" if report.synthetic else "")
    for ticker, why in report.left_out.items():
        say(f"left out: {ticker}: {why}", "yellow")
    columns = ("", "Sharpe", "90 %", "net P&L", "turnover", "deployed")  # what fits into 80 columns; --html has more
    rows = [
        (
            name,
            number(each.sharpe),
            "-" if each.interval is None else f"{each.interval[0]:.1f} to {each.interval[1]:.1f}",
            number(each.pnl, "+.2%"),
            number(each.turnover, ".1f"),
            str(each.deployments),
        )
        for name, each in report.policies.items()
    ]
    title = (
        f"{report.sessions} sessions, {report.from_} to {report.to}, {len(report.tickers)} tickers, "
        f"{report.trainings} trainings, policy {report.promote_policy}, {report.cost_bps:g} bp"
    )
    table(title, columns, rows, numbers=frozenset(range(1, len(columns))))
    against = [
        (
            f"{each.policy} - {each.against}",
            number(each.difference, "+.2f"),
            interval(each.interval),
            number(each.p_better),
        )
        for each in report.differences
    ]
    table(
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


def interval(bounds: Sequence[float] | None) -> str:
    """Format two bounds; an undefined interval is a dash."""
    return "-" if bounds is None else f"{bounds[0]:+.2f} to {bounds[1]:+.2f}"


def settings(rows: Sequence[Any]) -> None:
    """Draw the effective settings, and where each came from."""
    drawn = [(row.key, row.text, row.origin) for row in rows]
    table("", ("setting", "value", "from"), drawn)


def written(paths: Sequence[Any]) -> None:
    """Draw what `init` wrote."""
    for path in paths:
        say(f"wrote {path}")
