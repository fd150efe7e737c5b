"""The page of `hftcl backtest`: did retraining pay? Whole without its script."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from html import escape
from typing import TYPE_CHECKING, Final

from hftcl.formats import (
    count,
    describe_edge,
    describe_found,
    describe_policy,
    format_basis_points,
    format_interval,
    format_moment,
    format_sharpe,
    number,
)
from hftcl.pages.chart_data import enliven, read_script
from hftcl.pages.drawing import (
    BOTTOM,
    CHART_STYLE,
    HEIGHT,
    WIDTH,
    choose_ticks,
    draw_both,
    draw_page,
    draw_svg,
    draw_table,
    draw_uprights,
    name_bars,
)
from hftcl.pages.performance_charts import build_session_chart, draw_monthly, measure_falls
from hftcl.pages.plot import Plot
from hftcl.pages.risk import draw_policies_risk
from hftcl.performance.figures import sum_by_month

if TYPE_CHECKING:
    from hftcl.learning.backtest.reports import (
        AttemptReport,
        BacktestReport,
        DifferenceReport,
        PolicyReport,
        SearchedReport,
    )

SCALED_TO: Final = 0.10  # annual volatility of the second chart: near that of a share index, so that slopes look usual
_MONTHS_OPEN: Final = 2  # the configured policy's, and the next to compare it with
_DASHES: Final = (
    "",
    "6 3",
    "",
    "",
    "2 3",
    "1 4",
    "9 4",
    "",
    "6 3",
)  # a second mark beside the colour, for paper and colour-blind
# Whole words for a page that is read without the documentation.
_VERDICTS: Final = {
    "paid": "Retraining paid",
    "not shown": "Not shown that retraining paid",
    "cost": "Retraining cost",
}
_KINDS: Final = {"deployed": "good", "rejected": "bad"}
_SEARCH_VERDICTS: Final = {
    "paid": "Searching paid",
    "not shown": "Not shown that searching paid",
    "cost": "Searching cost",
}


def draw_backtest(report: "BacktestReport") -> str:
    """Return the page of a BacktestReport."""
    return draw_page("hftcl backtest", _backtest_body(report), style=CHART_STYLE, script=read_script())


def _backtest_body(report: "BacktestReport") -> list[str]:
    curves = _build_curves(report.policies)
    kind = name_bars(report.source, synthetic=report.synthetic)
    return [
        "<header>",
        "<h1>Did retraining pay?</h1>",
        f'<p class="soft">{kind}; {count(report.sessions, "session")}, {report.from_} to {report.to}; '
        f"{escape(', '.join(report.tickers))}; {count(report.trainings, 'training')}; "
        f"policy {escape(describe_policy(report.promote_policy))}; "
        f"{format_basis_points(report.cost_bps)} per unit of turnover.</p>",
        *(f'<p class="soft">Note: {escape(note)}.</p>' for note in report.notes),
        "</header>",
        f'<section class="verdict {report.conclusion.replace(" ", "-")}"><b>{_VERDICTS[report.conclusion]}.</b>',
        f"<p>{escape(report.reason)}.</p></section>",
        *_build_search_verdict(report.search),
        "<h2>Cumulative net P&amp;L, % of capital</h2>",
        _draw_key(curves),
        _draw_chart("wealth", curves, report.attempts, "Cumulative net P&L of each policy, in percent of capital"),
        '<p class="soft">Dots: a model was deployed. Strip below: green where the configured policy was let trade by '
        "its record, grey where it stood aside. Profits are not reinvested.</p>",
        f"<h2>The same at equal risk: each scaled to {100 * SCALED_TO:.0f} % volatility a year</h2>",
        _draw_chart(
            "equal-risk",
            [curve.scale(report.sessions_per_year) for curve in curves],
            report.attempts,
            f"Cumulative net P&L of each policy, scaled to {100 * SCALED_TO:.0f} % annual volatility",
        ),
        '<p class="soft">The slope is the Sharpe ratio. The scale is the whole span\'s, known only afterwards.</p>',
        "<h2>Drawdown, % of capital</h2>",
        _draw_falls(curves),
        '<p class="soft">Area: the configured policy, from one session\'s end to the next.</p>',
        "<h2>Months, net P&amp;L in % of capital</h2>",
        *_draw_months(curves),
        "<h2>Policies</h2>",
        _draw_policies(report.policies),
        "<h2>Risk beside return</h2>",
        *draw_policies_risk(report.policies),
        "<h2>Differences of Sharpe ratios, with 90 % intervals</h2>",
        _draw_all_intervals(report.differences),
        '<p class="soft">Paired on the same sessions (Ledoit and Wolf 2008). An interval that includes 0 shows '
        "nothing. Rule of the conclusion: the interval of the ungated policy less never retrain, which has no gate "
        "either, lies above 0 (paid), includes 0 (not shown) or lies below 0 (cost). A policy that traded in fewer "
        "than 20 sessions shows nothing.</p>",
        "<h2>Week by week</h2>",
        _draw_weeks(report.attempts),
        *_build_search_weeks(report.search),
    ]


def _build_search_verdict(report: "SearchedReport | None") -> list[str]:
    if report is None:
        return []
    return [
        f'<section class="verdict {report.conclusion.replace(" ", "-")}">'
        f"<b>{_SEARCH_VERDICTS[report.conclusion]}.</b><p>{escape(report.reason)}.</p></section>"
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
        return f"var(--c{self.place % len(_DASHES)})"

    @property
    def style(self) -> str:
        dash = _DASHES[self.place % len(_DASHES)]
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


def _build_curves(policies: "Mapping[str, PolicyReport]") -> list[_Curve]:
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


def _draw_key(curves: Sequence[_Curve]) -> str:
    items = []
    for curve in curves:
        width = "main" if curve.place == 0 else ""
        items.append(
            f'<li><svg viewBox="0 0 34 12" aria-hidden="true"><path class="curve {width}" {curve.style} '
            f'd="M1 6H33"/></svg>{escape(curve.name)} <span class="soft">'
            f"{number(curve.wealth[-1], '+.2f')} %</span></li>"
        )
    return f'<ul class="key">{"".join(items)}</ul>'


def _draw_chart(name: str, curves: Sequence[_Curve], attempts: "Sequence[AttemptReport]", title: str) -> str:
    days = curves[0].days
    values = [value for curve in curves for value in curve.wealth]
    plot = Plot.fit_around(days, values, height=HEIGHT, below=BOTTOM)
    shapes = _strip(plot, attempts)
    for curve in sorted(curves, key=lambda item: -item.place):  # the configured policy is drawn last, on top
        main = " main" if curve.place == 0 else ""
        points = list(enumerate(curve.wealth))
        shapes.append(plot.draw_line(points, curve.place, f'class="curve{main}" {curve.style}', name=curve.name))
        shapes += [
            plot.draw_mark(
                points[place], f'fill="{curve.colour}"', f"{curve.name}: {text}", r=4 if curve.place == 0 else 3
            )
            for place, text in curve.deployed
        ]
    lines = [(curve.name, list(enumerate(curve.wealth))) for curve in curves]
    return enliven(plot.draw(title, shapes), build_session_chart(name, days, lines, scale="percent"))


def _draw_falls(curves: Sequence[_Curve]) -> str:
    """Return how far each policy lies below its highest point; the configured one as an area."""
    lines = [(curve.name, measure_falls(curve.net)) for curve in curves]
    days = curves[0].days
    plot = Plot.fit_around(days, [value for _, points in lines for _, value in points], height=190.0)
    shapes = [plot.draw_area(lines[0][1], 0, 'class="under"')]
    shapes += [
        plot.draw_line(lines[curve.place][1], curve.place, f'class="curve" {curve.style}', name=curve.name)
        for curve in curves[1:]
    ]
    drawing = plot.draw("Drawdown of each policy in percent of capital", shapes)
    return enliven(drawing, build_session_chart("drawdown", days, lines, digits=3, scale="percent"))


def _draw_months(curves: Sequence[_Curve]) -> list[str]:
    """Return a heat map for each policy that traded; those after the first two lie folded."""
    maps = []
    for curve in curves:
        if not any(curve.net):
            continue
        pnl = {day.isoformat(): net for day, net in zip(curve.days, curve.net, strict=True)}
        drawn = draw_monthly(sum_by_month(pnl), f"Net P&L of {curve.name} by month in percent of capital")
        maps.append(f"<h3>{escape(curve.name)}</h3>{drawn}")
    if not maps:
        return ['<p class="soft">No policy traded.</p>']
    rest = maps[_MONTHS_OPEN:]
    folded = (
        f"<details><summary>{count(len(rest), 'other policy', 'other policies')}</summary>{''.join(rest)}</details>"
    )
    return [*maps[:_MONTHS_OPEN], *([folded] if rest else [])]


def _strip(plot: Plot, attempts: "Sequence[AttemptReport]") -> list[str]:
    """Return a bar under the chart: where the configured policy was let trade by its record, and where it was not."""
    parts, state, days = [], "stand aside", plot.sessions
    decided = {attempt.at.date(): attempt for attempt in attempts}
    pending = sorted(decided)
    begin, explanation = 0, ""
    for place, day in enumerate([*days, date.max]):
        new, why = state, explanation
        while pending and pending[0] < day:
            attempt = decided[pending.pop(0)]
            new, why = attempt.edge or state, f"{describe_edge(attempt.edge)}: {attempt.edge_reason}"
        if place and (new != state or day == date.max):
            told = f"{days[begin]} to {days[place - 1]}: {explanation}"
            parts.append(_draw_bar(plot, begin, place, state, told))
            begin = place
        state, explanation = new, why
    return parts


def _draw_bar(plot: Plot, begin: int, end: int, state: str, explanation: str) -> str:
    kind = "live" if state == "live" else "aside"
    left = plot.to_x(begin)
    return (
        f'<rect class="{kind}" x="{left:.1f}" y="{plot.bottom + 10:.0f}" width="{plot.to_x(end) - left:.1f}" '
        'height="8" '
        f'data-x="{begin}" data-x2="{end}"><title>{escape(explanation)}</title></rect>'
    )


# --- tables -----------------------------------------------------------------------------------------------------------


def _draw_policies(policies: "Mapping[str, PolicyReport]") -> str:
    columns = ("policy", "Sharpe", "90 % interval", "net P&L", "gross", "turnover", "drawdown", "traded", "deployed")
    rows = [
        (
            f'<span>{escape(name)}<br><span class="soft">{escape(policy.rule)}</span></span>',
            number(policy.sharpe),
            format_interval(policy.interval),
            number(policy.pnl, "+.2%"),
            number(policy.gross_pnl, "+.2%"),
            number(policy.turnover, ".1f"),
            number(policy.max_drawdown, ".2%"),
            str(policy.traded_sessions),
            str(policy.deployments),
        )
        for name, policy in policies.items()
    ]
    return draw_table(columns, rows)


def _draw_all_intervals(differences: "Sequence[DifferenceReport]") -> str:
    """Return a dot with its interval for each difference, on one axis."""
    with_interval = [difference.interval for difference in differences if difference.interval is not None]
    if not with_interval:
        return '<p class="soft">Not defined on these sessions.</p>'
    low = float(min(0.0, *(lowest for lowest, _ in with_interval)))
    high = float(max(0.0, *(highest for _, highest in with_interval)))
    return draw_both(lambda width: _draw_intervals(differences, (low, high), width))


def _draw_intervals(differences: "Sequence[DifferenceReport]", span: tuple[float, float], width: float) -> str:
    (low, high), beside = span, width >= WIDTH  # a phone has room for the texts above a line, not beside it
    left, right, row_high = (300.0, 150.0, 28.0) if beside else (10.0, 10.0, 46.0)
    height, text_down = row_high * len(differences) + 34.0, 4.0 if beside else -12.0

    def to_x(value: float) -> float:
        return left + (width - left - right) * (value - low) / ((high - low) or 1.0)

    parts = draw_uprights(choose_ticks(low, high), to_x, height)
    for row, difference in enumerate(differences):
        at = (20.0 if beside else 34.0) + row_high * row
        name = escape(f"{difference.policy} - {difference.against}")
        parts.append(f'<text x="0" y="{at + text_down:.0f}">{name}</text>')
        if difference.interval is None or difference.difference is None:
            continue
        parts.append(
            f'<path class="curve main" stroke="var(--c0)" d="M{to_x(difference.interval[0]):.1f} {at:.0f}'
            f'H{to_x(difference.interval[1]):.1f}"/><circle fill="var(--c0)" r="5" '
            f'cx="{to_x(difference.difference):.1f}" cy="{at:.0f}"/>'
            f'<text x="{width:.0f}" y="{at + text_down:.0f}" text-anchor="end">'
            f"{number(difference.difference, '+.2f')} ({format_interval(difference.interval, '+.1f')})</text>"
        )
    return draw_svg(height, "Differences of Sharpe ratios with their 90 % intervals", parts, width)


def _draw_weeks(attempts: "Sequence[AttemptReport]") -> str:
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
    rows = [
        (
            format_moment(attempt.at),
            escape(attempt.model_id),
            format_sharpe(attempt.sharpe, attempt.exam_sessions),
            format_sharpe(attempt.champion_sharpe, attempt.exam_sessions),
            number(attempt.p_better),
            f'<span class="{_KINDS.get(attempt.outcome, "")}">{escape(attempt.outcome)}</span>',
            escape(attempt.reason),
            describe_edge(attempt.edge),
            number(attempt.p_edge),
            escape(attempt.edge_reason),
        )
        for attempt in attempts
    ]
    return draw_table(columns, rows, text=frozenset({1, 5, 6, 7, 9}))


def _build_search_weeks(report: "SearchedReport | None") -> list[str]:
    """Return the searches week by week: what a winner showed where it was chosen, beside luck and its exam."""
    if report is None:
        return []
    columns = ("searched, UTC", "trials", "inside", "of luck", "deflated", "exam", "verdict", "found", "why")
    rows = [
        (
            format_moment(week.at),
            str(week.trials),
            number(week.inner_sharpe),
            number(week.best_of_worthless),
            number(week.dsr),
            format_sharpe(week.exam_sharpe, week.exam_sessions),
            f'<span class="{_KINDS.get(week.outcome, "")}">{escape(week.outcome or "-")}</span>',
            escape(describe_found(week.changes, candidate=week.candidate, reason=week.reason)),
            escape(week.reason if week.candidate else ""),
        )
        for week in report.weeks
    ]
    return [
        "<h2>The searches, week by week</h2>",
        draw_table(columns, rows, text=frozenset({6, 7, 8})),
        f'<p class="soft">{count(report.trials, "trial")}, each week of {report.space:,.0f} choices. Inside: net '
        "Sharpe ratio of the winner where it was chosen. Of luck: what the best of so many worthless trials would "
        "show there, those of earlier weeks on the same sessions counted. Deflated: how sure it is that the winner is "
        "better than that. The exam was seen by no trial. A week in which nothing earned its cost inside has no "
        "candidate.</p>",
    ]
