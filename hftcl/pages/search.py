"""The page of `hftcl search`: what was tried, what mattered, what the best of it is worth. Whole without its script."""

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Final

from hftcl.formats import (
    count,
    describe_choice,
    describe_edge,
    format_basis_points,
    format_interval,
    format_sharpe,
    number,
)
from hftcl.pages.chart_data import ChartData, ChartLine, enliven, read_script
from hftcl.pages.drawing import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    choose_ticks,
    draw_both,
    draw_grid,
    draw_page,
    draw_svg,
    draw_table,
    group,
    name_bars,
)

if TYPE_CHECKING:
    from hftcl.learning.search.reports import SearchReport, TrialReport

_ROW: Final = 26.0  # units of a bar with its label, which has 12
_BARS_FROM: Final = 230.0  # room for the longest name of a setting


def draw_search(report: "SearchReport") -> str:
    """Return the page of a SearchReport."""
    return draw_page("hftcl search", _build_body(report), script=read_script())


def _build_body(report: "SearchReport") -> list[str]:
    kind = name_bars(report.source, synthetic=report.synthetic)
    inner = report.inner
    return [
        "<header>",
        "<h1>Is there a better policy?</h1>",
        f'<p class="soft">{kind}; {escape(", ".join(report.tickers))}; '
        f"{format_basis_points(report.cost_bps)} per unit of "
        f"turnover. Each trial is trained and scored inside the training window: {count(inner.sessions, 'session')}, "
        f"{inner.from_} to {inner.to}, in {count(inner.folds, 'part')}, purged and embargoed.</p>",
        *(f'<p class="soft">Note: {escape(note)}.</p>' for note in report.notes),
        "</header>",
        f'<section class="verdict"><b>{count(len(report.trials), "trial")}, {report.distinct} that differ</b>',
        f"<p>{escape(report.reason[:1].upper() + report.reason[1:])}.</p></section>",
        "<h2>Net Sharpe ratio inside, trial by trial</h2>",
        _draw_trials(report),
        '<p class="soft">The line: what the best of so many worthless trials, spread as these are, would show. Inside, '
        "a search that found nothing looks like one that found something; the exam tells them apart.</p>",
        *_build_exam(report),
        *_build_difference(report),
        *_build_importances(report),
        "<h2>All trials, the best first</h2>",
        _build_table(report),
    ]


def _draw_trials(report: "SearchReport") -> str:
    scored = [(trial, trial.inner_sharpe) for trial in report.trials if trial.inner_sharpe is not None]
    luck = report.best_of_worthless
    values = [0.0, *(value for _, value in scored), *([luck] if luck is not None else [])]
    pad = 0.05 * (max(values) - min(values)) or 0.5
    low, high = min(values) - pad, max(values) + pad
    last = max((trial.number for trial, _ in scored), default=0)

    def to_x(place: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (place + 0.5) / (last + 1)

    def to_y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    axes = [
        *draw_grid(choose_ticks(low, high), to_y),
        *(
            f'<text class="soft" x="{to_x(place):.1f}" y="{HEIGHT - 24:.0f}" text-anchor="middle">{place:.0f}</text>'
            for place in choose_ticks(0.0, float(last), 10)
            if place == int(place)
        ),
    ]
    parts = []
    if luck is not None:
        parts.append(
            f'<polyline class="curve" stroke="var(--c2)" stroke-dasharray="6 3" data-series="1" '
            f'points="{LEFT:.0f},{to_y(luck):.1f} {WIDTH - RIGHT:.0f},{to_y(luck):.1f}"><title>the best of '
            f"{report.distinct + report.others} worthless ones: {number(luck)}</title></polyline>"
        )
    winner = report.winner.number if report.winner else -1
    parts += [
        f'<circle class="mark" fill="var(--{"good" if trial.number == winner else "c0"})" '
        f'r="{6 if trial.number == winner else 4}" cx="{to_x(trial.number):.1f}" cy="{to_y(value):.1f}" '
        f'data-x="{trial.number}" data-y="{value:.6g}">'
        f"<title>{escape(f'{trial.number}: {number(value)}, {describe_choice(trial.settings)}')}</title></circle>"
        for trial, value in scored
    ]
    drawing = draw_svg(
        HEIGHT,
        "Net Sharpe ratio of each trial inside the training window",
        [group("axes", axes), group("plot", parts)],
        frame=(LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM, -0.5, last + 0.5, low, high),
    )
    lines = [ChartLine(name="", x=[trial.number for trial, _ in scored], y=[value for _, value in scored])]
    if luck is not None:
        lines.append(ChartLine(name="of luck", x=[-0.5, last + 0.5], y=[luck, luck]))
    labels = [f"trial {trial.number}" for trial, _ in scored]
    data = ChartData(name="trials", labels=labels, lines=lines, scale="symmetric")
    return enliven(drawing, data) if scored else drawing


def _build_exam(report: "SearchReport") -> list[str]:
    exam, winner = report.exam, report.winner
    if exam is None or winner is None:
        return []
    rows = [
        ("net Sharpe ratio", number(winner.inner_sharpe), format_sharpe(exam.sharpe, exam.sessions)),
        ("90 % interval", format_interval(winner.inner_interval), format_interval(exam.sharpe_interval)),
        ("the best of as many worthless ones", number(report.best_of_worthless), ""),
        ("deflated Sharpe ratio", number(winner.dsr), number(exam.dsr)),
        ("candidates that were tried there", str(report.distinct + report.others), str(exam.trials)),
        ("the model that serves", "", number(exam.champion_sharpe)),
        ("verdict of a retrain", "", escape(f"{exam.outcome}: {exam.reason}")),
        ("edge", "", escape(f"{describe_edge(exam.edge)}: {exam.edge_reason}")),
    ]
    return [
        f"<h2>Trial {winner.number}, inside and in the exam</h2>",
        draw_table(("", "inside", f"exam, {exam.from_} to {exam.to}"), rows, text=frozenset({2})),
    ]


def _build_difference(report: "SearchReport") -> list[str]:
    if not report.difference:
        return []
    return [
        "<h2>The difference to hftcl.toml</h2>",
        f"<pre>{escape(report.difference)}</pre>",
        '<p class="soft">Nothing was changed.</p>',
    ]


def _build_importances(report: "SearchReport") -> list[str]:
    if not report.importances:
        return []
    return [
        "<h2>What mattered</h2>",
        draw_both(lambda width: _draw_importances(report.importances, width)),
        '<p class="soft">Share of each setting in what made a trial one of the best tenth, inside (PED-ANOVA, Watanabe '
        "and others 2023). Of a setting that few trials had, as those of one family in a short search, it tells "
        "little; where no trial is worth anything, this is noise as well.</p>",
    ]


def _draw_importances(shares: Mapping[str, float], width: float) -> str:
    """Return a bar a setting, beside its name, or on a phone below it."""
    beside = width >= WIDTH
    left, down, row_high = (_BARS_FROM, 0.0, _ROW) if beside else (0.0, _ROW - 6.0, 2 * _ROW - 4.0)
    room, most = width - left - 60.0, max(shares.values()) or 1.0
    parts = []
    for row, (path, share) in enumerate(shares.items()):
        at = 4.0 + row_high * row
        parts.append(
            f'<text x="0" y="{at + 16:.0f}">{escape(path)}</text><rect fill="var(--c0)" x="{left:.0f}" '
            f'y="{at + down + 4:.0f}" width="{room * share / most:.1f}" height="16"/>'
            f'<text x="{left + room * share / most + 6:.1f}" y="{at + down + 16:.0f}">{share:.0%}</text>'
        )
    title = "Share of each setting in what made a trial one of the best tenth"
    return draw_svg(row_high * len(shares) + 8.0, title, parts, width)


def _build_table(report: "SearchReport") -> str:
    def rank(trial: "TrialReport") -> tuple[float, int]:
        return (float("inf") if trial.inner_sharpe is None else -trial.inner_sharpe, trial.number)

    rows = [
        (
            str(trial.number),
            format_sharpe(trial.inner_sharpe, report.inner.sessions),
            number(trial.pnl, "+.2%"),
            number(trial.turnover, ".1f"),
            str(trial.trades),
            escape(trial.fault or describe_choice(trial.settings)),
        )
        for trial in sorted(report.trials, key=rank)
    ]
    columns = ("trial", "Sharpe", "net P&L", "turnover", "trades", "settings")
    return draw_table(columns, rows, text=frozenset({5}))
