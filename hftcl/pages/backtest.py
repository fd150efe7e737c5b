"""The page of `hftcl backtest`: did retraining pay? Without script."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from html import escape
from typing import TYPE_CHECKING, Final

from hftcl.formats import basis_points, count, describe_policy, interval, moment, number, sharpe_ratio
from hftcl.pages.drawing import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    grid,
    months,
    page,
    svg,
    table,
    ticks,
    uprights,
)

if TYPE_CHECKING:
    from hftcl.learning.reports import AttemptReport, BacktestReport, DifferenceReport, PolicyReport

SCALED_TO: Final = 0.10  # annual volatility of the second chart: near that of a share index, so that slopes look usual
_DASHES: Final = ("", "6 3", "", "", "2 3", "1 4", "9 4")  # a second mark beside the colour, for paper and colour-blind
# Whole words for a page that is read without the documentation.
_VERDICTS: Final = {
    "paid": "Retraining paid",
    "not shown": "Not shown that retraining paid",
    "cost": "Retraining cost",
}


def backtest(report: "BacktestReport") -> str:
    """Return the page of a BacktestReport."""
    return page("hftcl backtest", _backtest_body(report))


def _backtest_body(report: "BacktestReport") -> list[str]:
    curves = _curves(report.policies)
    kind = '<span class="synthetic">SYNTHETIC bars</span>' if report.synthetic else f"Bars from {escape(report.source)}"
    return [
        "<header>",
        "<h1>Did retraining pay?</h1>",
        f'<p class="soft">{kind}; {count(report.sessions, "session")}, {report.from_} to {report.to}; '
        f"{escape(', '.join(report.tickers))}; {count(report.trainings, 'training')}; "
        f"policy {escape(describe_policy(report.promote_policy))}; "
        f"{basis_points(report.cost_bps)} per unit of turnover.</p>",
        *(f'<p class="soft">Note: {escape(note)}.</p>' for note in report.notes),
        "</header>",
        f'<section class="verdict {report.conclusion.replace(" ", "-")}"><b>{_VERDICTS[report.conclusion]}.</b>',
        f"<p>{escape(report.reason)}.</p></section>",
        "<h2>Cumulative net P&amp;L, % of capital</h2>",
        _key(curves),
        _chart(curves, report.attempts, "Cumulative net P&L of each policy, in percent of capital"),
        '<p class="soft">Dots: a model was deployed. Strip below: green where the configured policy was let trade by '
        "its record, grey where it stood aside. Profits are not reinvested.</p>",
        f"<h2>The same at equal risk: each scaled to {100 * SCALED_TO:.0f} % volatility a year</h2>",
        _chart(
            [curve.scale(report.sessions_per_year) for curve in curves],
            report.attempts,
            f"Cumulative net P&L of each policy, scaled to {100 * SCALED_TO:.0f} % annual volatility",
        ),
        '<p class="soft">The slope is the Sharpe ratio. The scale is the whole span\'s, known only afterwards.</p>',
        "<h2>Policies</h2>",
        _policies(report.policies),
        "<h2>Differences of Sharpe ratios, with 90 % intervals</h2>",
        _intervals(report.differences),
        '<p class="soft">Paired on the same sessions (Ledoit and Wolf 2008). An interval that includes 0 shows '
        "nothing. Rule of the conclusion: the interval of the ungated policy less never retrain, which has no gate "
        "either, lies above 0 (paid), includes 0 (not shown) or lies below 0 (cost). A policy that traded in fewer "
        "than 20 sessions shows nothing.</p>",
        "<h2>Week by week</h2>",
        _weeks(report.attempts),
    ]


# --- curves -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Curve:
    """One policy: net P&L per session, where it deployed (place of the session, what), and how it is drawn."""

    name: str
    place: int
    days: tuple[date, ...]
    net: tuple[float, ...]
    deployed: tuple[tuple[int, str], ...]

    @property
    def colour(self) -> str:
        return f"var(--c{self.place % 7})"

    @property
    def style(self) -> str:
        dash = _DASHES[self.place % 7]
        return f'stroke="{self.colour}"' + (f' stroke-dasharray="{dash}"' if dash else "")

    @property
    def wealth(self) -> tuple[float, ...]:
        """Cumulative P&L in percent: 0 before the first session."""
        total, points = 0.0, [0.0]
        for day_pnl in self.net:
            total += day_pnl
            points.append(100.0 * total)
        return tuple(points)

    def scale(self, sessions_per_year: int) -> "_Curve":
        n = len(self.net)
        mean = sum(self.net) / n
        deviation = math.sqrt(sum((day_pnl - mean) ** 2 for day_pnl in self.net) / (n - 1)) if n > 1 else 0.0
        factor = SCALED_TO / math.sqrt(sessions_per_year) / deviation if deviation > 0 else 0.0
        return _Curve(
            name=self.name,
            place=self.place,
            days=self.days,
            net=tuple(factor * day_pnl for day_pnl in self.net),
            deployed=self.deployed,
        )


def _curves(policies: "Mapping[str, PolicyReport]") -> list[_Curve]:
    curves = []
    for place, (name, policy) in enumerate(policies.items()):
        days = tuple(date.fromisoformat(day) for day in policy.pnl_by_session)
        where = {day: index for index, day in enumerate(days)}
        deployed: dict[int, str] = {}
        for span in policy.served:
            if span.from_ is not None:
                deployed[where[span.from_]] = f"{span.model_id} from {span.from_}: {span.reason}"
        curves.append(
            _Curve(
                name=name,
                place=place,
                days=days,
                net=tuple(policy.pnl_by_session.values()),
                deployed=tuple(deployed.items()),
            )
        )
    return curves


def _key(curves: Sequence[_Curve]) -> str:
    items = []
    for curve in curves:
        width = "main" if curve.place == 0 else ""
        items.append(
            f'<li><svg viewBox="0 0 34 12" aria-hidden="true"><path class="curve {width}" {curve.style} '
            f'd="M1 6H33"/></svg>{escape(curve.name)} <span class="soft">'
            f"{number(curve.wealth[-1], '+.2f')} %</span></li>"
        )
    return f'<ul class="key">{"".join(items)}</ul>'


def _chart(curves: Sequence[_Curve], attempts: "Sequence[AttemptReport]", title: str) -> str:
    days = curves[0].days
    values = [value for curve in curves for value in curve.wealth]
    low, high = min(values), max(values)
    pad = 0.05 * (high - low) or 0.5
    low, high = low - pad, high + pad

    def x(place: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * place / len(days)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    parts = [*grid(ticks(low, high), y), *months(days, x), *_strip(days, attempts, x)]
    for curve in sorted(curves, key=lambda item: -item.place):  # the configured policy is drawn last, on top
        points = " ".join(f"{x(place):.1f},{y(value):.1f}" for place, value in enumerate(curve.wealth))
        width = " main" if curve.place == 0 else ""
        parts.append(
            f'<polyline class="curve{width}" {curve.style} points="{points}">'
            f"<title>{escape(curve.name)}</title></polyline>"
        )
        parts += [
            f'<circle class="mark" fill="{curve.colour}" r="{4 if curve.place == 0 else 3}" cx="{x(place):.1f}" '
            f'cy="{y(curve.wealth[place]):.1f}"><title>{escape(f"{curve.name}: {text}")}</title></circle>'
            for place, text in curve.deployed
        ]
    return svg(HEIGHT, title, parts)


def _strip(days: Sequence[date], attempts: "Sequence[AttemptReport]", x: Callable[[float], float]) -> list[str]:
    """Return a bar under the chart: where the configured policy was let trade by its record, and where it was not."""
    parts, state = [], "stand aside"
    decided = {attempt.at.date(): attempt for attempt in attempts}
    pending = sorted(decided)
    begin, explanation = 0, ""
    for place, day in enumerate([*days, date.max]):
        new, why = state, explanation
        while pending and pending[0] < day:
            attempt = decided[pending.pop(0)]
            new, why = attempt.edge or state, f"{attempt.edge}: {attempt.edge_reason}"
        if place and (new != state or day == date.max):
            parts.append(_bar(x(begin), x(place), state, f"{days[begin]} to {days[place - 1]}: {explanation}"))
            begin = place
        state, explanation = new, why
    return parts


def _bar(left: float, right: float, state: str, explanation: str) -> str:
    kind = "live" if state == "live" else "aside"
    return (
        f'<rect class="{kind}" x="{left:.1f}" y="{HEIGHT - BOTTOM + 10:.0f}" width="{right - left:.1f}" height="8">'
        f"<title>{escape(explanation)}</title></rect>"
    )


# --- tables -----------------------------------------------------------------------------------------------------------


def _policies(policies: "Mapping[str, PolicyReport]") -> str:
    columns = ("policy", "Sharpe", "90 % interval", "net P&L", "gross", "turnover", "drawdown", "traded", "deployed")
    rows = [
        (
            f'{escape(name)}<br><span class="soft">{escape(policy.rule)}</span>',
            number(policy.sharpe),
            interval(policy.interval),
            number(policy.pnl, "+.2%"),
            number(policy.gross_pnl, "+.2%"),
            number(policy.turnover, ".1f"),
            number(policy.max_drawdown, ".2%"),
            str(policy.traded_sessions),
            str(policy.deployments),
        )
        for name, policy in policies.items()
    ]
    return table(columns, rows)


def _intervals(differences: "Sequence[DifferenceReport]") -> str:
    """Return a dot with its interval for each difference, on one axis."""
    with_interval = [difference.interval for difference in differences if difference.interval is not None]
    if not with_interval:
        return '<p class="soft">Not defined on these sessions.</p>'
    low = float(min(0.0, *(lowest for lowest, _ in with_interval)))
    high = float(max(0.0, *(highest for _, highest in with_interval)))
    left, height = 300.0, 28.0 * len(differences) + 34.0

    def x(value: float) -> float:
        return left + (WIDTH - left - 150.0) * (value - low) / ((high - low) or 1.0)

    parts = uprights(ticks(low, high), x, height)
    for row, difference in enumerate(differences):
        at = 20.0 + 28.0 * row
        parts.append(f'<text x="0" y="{at + 4:.0f}">{escape(f"{difference.policy} - {difference.against}")}</text>')
        if difference.interval is None or difference.difference is None:
            continue
        parts.append(
            f'<path class="curve main" stroke="var(--c0)" d="M{x(difference.interval[0]):.1f} {at:.0f}'
            f'H{x(difference.interval[1]):.1f}"/><circle fill="var(--c0)" r="5" '
            f'cx="{x(difference.difference):.1f}" cy="{at:.0f}"/>'
            f'<text x="{WIDTH:.0f}" y="{at + 4:.0f}" text-anchor="end">'
            f"{number(difference.difference, '+.2f')} ({interval(difference.interval, '+.1f')})</text>"
        )
    return svg(height, "Differences of Sharpe ratios with their 90 % intervals", parts)


def _weeks(attempts: "Sequence[AttemptReport]") -> str:
    columns = (
        "judged, UTC",
        "candidate",
        "Sharpe",
        "champion's",
        "P(better)",
        "verdict",
        "why",
        "edge",
        "P(edge)",
        "why",
    )
    kinds = {"deployed": "good", "rejected": "bad"}
    rows = [
        (
            moment(attempt.at),
            escape(attempt.model_id),
            sharpe_ratio(attempt.sharpe, attempt.exam_sessions),
            sharpe_ratio(attempt.champion_sharpe, attempt.exam_sessions),
            number(attempt.p_better),
            f'<span class="{kinds.get(attempt.outcome, "")}">{escape(attempt.outcome)}</span>',
            escape(attempt.reason),
            escape(attempt.edge or "-"),
            number(attempt.p_edge),
            escape(attempt.edge_reason),
        )
        for attempt in attempts
    ]
    return table(columns, rows, text=frozenset({1, 5, 6, 7, 9}))
