"""Draws why a model decided as it did, and whether it comes out again."""

from datetime import datetime
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from hftcl.formats import count, describe_bars, format_clock, format_clock_to_second, format_moment, format_quantity
from hftcl.views import draw_table, number, say

if TYPE_CHECKING:
    from hftcl.learning.why_reports import ExplainReport, ExplainRow, ReproduceReport

_SHOWN: Final = 2  # contributions of a row, a line each: ten tickers fit on a screen
_SIGNALS: Final = {-1: "short", 0: "none", 1: "long"}  # the signs by which they are counted


def draw_explanation(report: "ExplainReport") -> None:
    """Draw an ExplainReport: all of one bar, or a line for each of several."""
    say(
        f"{report.model_id}, {report.family}, trained {report.trained_from} to {report.trained_to}, on "
        f"{describe_bars(report.source, synthetic=report.synthetic)}",
        "bold magenta" if report.synthetic else "",
    )
    if len(report.rows) == 1:
        _draw_bar(report, report.rows[0])
    else:
        _draw_bars(report)
    if report.lacking:
        say(f"no bar in this session: {', '.join(report.lacking)}", "yellow")
    if report.unexplained:
        say(f"Without contributions: {report.unexplained}.", "yellow")


def _draw_bars(report: "ExplainReport") -> None:
    rows = [
        (
            row.ticker,
            format_clock(row.ts),
            number(row.prediction, "+.3f"),
            _SIGNALS[row.signal],
            number(row.target, "+.2%"),
            row.code or "",
            "\n".join(f"{name} {value:+.3f}" for name, value in _list_greatest(row)[:_SHOWN]),
        )
        for row in report.rows
    ]
    columns = ("ticker", "UTC", "predicts", "signal", "target", "code", "adds the most")
    days = ", ".join(sorted({str(row.session) for row in report.rows}))
    need = "the model trades nothing" if report.idle else f"a signal needs more than {report.threshold:.3f}"
    title = f"The newest bar of each ticker, {days}; {need}"
    draw_table(title, columns, rows, numbers=frozenset({2, 4}), spare=("code",))
    novel = [row.ticker for row in report.rows if row.novel]
    if novel:
        say(f"Farther from the training than novelty allows, and so without a signal: {', '.join(novel)}.", "yellow")
    if report.idle:
        say(f"The model trades nothing: {report.idle}.", "yellow")


def _list_greatest(row: "ExplainRow") -> list[tuple[str, float]]:
    return sorted((row.contributions or {}).items(), key=lambda item: -abs(item[1]))


def _draw_bar(report: "ExplainReport", row: "ExplainRow") -> None:
    prices = ", ".join(f"{name} {value:,.10g}" for name, value in row.bar.items())
    say(f"{row.ticker}, the minute from {format_moment(row.ts)} UTC ({_show_local(row.ts, report.zone)}): {prices}")
    adds = row.contributions or {}
    names = [name for name, _ in _list_greatest(row)] or list(row.features)
    rows = [
        (
            name,
            number(row.features[name], ".4g"),
            _show_place(row.quantiles[name]),
            number(adds.get(name), "+.5f"),
        )
        for name in names
    ]
    if row.base is not None:
        rows.append(("base: training's mean", "", "", number(row.base, "+.5f")))
    rows.append(("prediction", "", "", number(row.prediction, "+.5f")))
    columns = ("feature", "value", "in training", "adds")
    draw_table(
        "What each feature adds, in trailing volatilities; in training: which part of its rows",
        columns,
        rows,
        numbers=frozenset({1, 2, 3}),
    )
    for line in _list_steps(report, row):
        say(line)


def _show_local(ts: datetime, zone: str) -> str:
    return f"{format_clock(ts.astimezone(ZoneInfo(zone)))} {zone}"


def _show_place(place: tuple[float, float] | None) -> str:
    return "-" if place is None else f"{100 * place[0]:.0f}-{place[1]:.0%}"


def _list_steps(report: "ExplainReport", row: "ExplainRow") -> list[str]:
    """Return the way from prediction to order, a line a step."""
    lines = [_explain_signal(report, row)]
    lines.append(
        f"Target: {row.target:+.3%} of capital, from the signals of the last {count(report.horizon_minutes, 'minute')}."
    )
    if row.decided is None:
        return [*lines, "The bot decided nothing on this bar: its ledger has no such decision."]
    decided = row.decided
    other = "" if decided.model_id == report.model_id else f" with another model, {decided.model_id}"
    lines.append(
        f"The bot{other}: {decided.code}, prediction {number(decided.prediction, '+.5f')}, target "
        f"{number(decided.target, '+.3%')}, decided {format_clock_to_second(decided.decided_at)} UTC."
    )
    order = row.order
    if order is None:
        return [*lines, "It ordered nothing: the position was as it should be, or what kept it from it is the code."]
    shares = "no" if order.quantity is None else format_quantity(order.quantity)
    why = f" ({order.code}{': ' + order.reason if order.reason else ''})" if order.code else ""
    return [*lines, f"Order: {shares} shares at {number(order.reference_price)} USD, {order.state}{why}."]


def _explain_signal(report: "ExplainReport", row: "ExplainRow") -> str:
    """Return the signal with its reason: the first that holds of those that keep a prediction from being one."""
    if row.prediction is None:
        unknown = [name for name, value in row.features.items() if value is None]
        if not unknown:  # of a file with a model a ticker
            return f"Prediction: none, because the model holds none of {row.ticker}."
        return f"Prediction: none, because {', '.join(unknown[:_SHOWN])} {_are(len(unknown))} not known yet."
    if report.idle:
        return f"Signal: none, for the model trades nothing: {report.idle}."
    if row.novel:
        return "Signal: none, for the bar lies farther from the training than novelty allows."
    above = abs(row.prediction) > report.threshold
    sign, other = (
        ("above", "" if row.signal else ", but to the side that is not traded") if above else ("not above", "")
    )
    signal, threshold = _SIGNALS[row.signal], f"the threshold {report.threshold:.5f}"
    return f"Signal: {signal}, for |{row.prediction:+.5f}| is {sign} {threshold}{other}."


def _are(n: int) -> str:
    return "is" if n == 1 else f"and {n - _SHOWN} more are" if n > _SHOWN else "are"


def draw_reproduction(report: "ReproduceReport") -> None:
    """Draw a ReproduceReport; the first and the last line are its conclusion."""
    _say_conclusion(report)
    say(
        f"{report.model_id}, {describe_bars(report.source, synthetic=report.synthetic)}: "
        f"{count(report.rows, 'training row')}"
        f" ({report.was_rows:,} then), {report.seconds:.1f} s",
        "bold magenta" if report.synthetic else "",
    )
    if report.differences:
        rows = [(item.what, item.was, item.is_) for item in report.differences]
        draw_table("", ("what", "was", "is"), rows)
    _say_conclusion(report)


def _say_conclusion(report: "ReproduceReport") -> None:
    if report.equal:
        say("EQUAL: the same trees and the same threshold, to the bit.", "bold green")
    else:
        say("DIFFERENT: what may be why stands in the table.", "bold red")
