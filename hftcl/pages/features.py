"""The page of `hftcl features`: what each is worth at each horizon, how it is spread, what it costs. No script."""

from html import escape
from typing import TYPE_CHECKING, Final

from hftcl.formats import UNDEFINED, count, describe_beyond_zero, format_information_interval, format_moment
from hftcl.pages.drawing import (
    RIGHT,
    WIDTH,
    choose_ticks,
    draw_both,
    draw_page,
    draw_svg,
    draw_table,
    draw_uprights,
    name_bars,
)

if TYPE_CHECKING:
    from hftcl.learning.reports import FeatureReport, FeaturesReport

_ROW: Final = 20.0  # units of a feature with its label beside it, which has 12
_HIGH_ROW: Final = 38.0  # and with its label above it, as on a phone
_FROM: Final = 230.0  # room for the longest name of ours, with a little for a longer one of the user's
_LETTER: Final = 8.0  # units of a letter of a label, rather too many: fonts differ
_END: Final = 4.0  # half the height of the bar at an interval's end, in units
_AXIS: Final = 32.0  # units below the rows: what `uprights` takes for its figures
_QUANTILES: Final = ("1 %", "25 %", "median", "75 %", "99 %")  # of FeatureReport.quantiles


def draw_features(report: "FeaturesReport") -> str:
    """Return the page of a FeaturesReport."""
    return draw_page("hftcl features", _build_body(report))


def _build_body(report: "FeaturesReport") -> list[str]:
    kind = name_bars(report.source, synthetic=report.synthetic)
    sessions = count(report.training_sessions, "training session")
    note = f" ({escape(report.as_of_note)})" if report.as_of_note else ""
    known = f"known until {format_moment(report.as_of)} UTC{note}"
    serving = f" Weight: in the model that serves, {escape(report.model_id)}." if report.model_id else ""
    left_out = (
        [f'<p class="soft">Left out by [features]: {escape(", ".join(report.left_out))}.</p>']
        if report.left_out
        else []
    )
    names = ", ".join(feature.name for feature in report.features if feature.own)
    own = [f'<p class="soft">Your own, in bold: {escape(names)}.</p>'] if names else []
    return [
        "<header>",
        "<h1>What does each feature tell?</h1>",
        f'<p class="soft">{kind}, {known}; {report.bars:,} bars of {sessions}; '
        f"the exam's are not looked at.{serving}</p>",
        "</header>",
        f'<section class="verdict"><b>{count(len(report.features), "feature")}</b>',
        f"<p>{describe_beyond_zero(report.beyond_zero, report.intervals)}</p></section>",
        f"<h2>Information coefficient at {report.horizon_minutes} minutes, with its 90 % interval</h2>",
        draw_both(lambda width: _draw_worth(report, width)),
        '<p class="soft">The rank correlation of feature and target over all bars; the interval is by how sessions '
        "differ. Orange: an interval without zero. One interval in ten leaves out zero by chance: this is no list to "
        "pick from.</p>",
        "<h2>By horizon</h2>",
        _build_horizons(report),
        "<h2>Spread, weight and cost</h2>",
        _build_spread(report),
        *own,
        *left_out,
        "<h2>Formulae</h2>",
        draw_table(
            ("feature", "formula"),
            ((_name(feature), escape(feature.formula)) for feature in report.features),
            text=frozenset({1}),
        ),
    ]


def _name(feature: "FeatureReport") -> str:
    name = escape(feature.name)
    return f"<b>{name}</b>" if feature.own else name


def _draw_worth(report: "FeaturesReport", width: float) -> str:
    """Return a line a feature; its name beside it, or above it where that leaves too little room."""
    horizon = str(report.horizon_minutes)
    known = [ic for feature in report.features if (ic := feature.ic[horizon]) is not None]
    low, high = min((ic[0] for ic in known), default=0.0), max((ic[2] for ic in known), default=0.0)
    low, high = min(low, 0.0), max(high, 0.0)
    pad = 0.05 * (high - low) or 0.01
    low, high = low - pad, high + pad

    longest = max((len(feature.name) for feature in report.features), default=0)
    beside = width >= WIDTH and longest * _LETTER < _FROM
    left, row_high = (_FROM, _ROW) if beside else (RIGHT, _HIGH_ROW)

    def to_x(value: float) -> float:
        return left + (width - left - RIGHT) * (value - low) / (high - low)

    height = row_high * len(report.features) + _AXIS
    parts = draw_uprights(choose_ticks(low, high, 8 if width >= WIDTH else 4), to_x, height)
    for row, feature in enumerate(report.features):
        at = row_high * (row + (0.5 if beside else 0.75)) + (4.0 if beside else 0.0)
        name = _shorten(feature.name, int(width / _LETTER))
        parts.append(f'<text x="0" y="{at + 4 if beside else at - 13:.0f}">{escape(name)}</text>')
        ic = feature.ic[horizon]
        if ic is None:
            continue
        begin, middle, end = (to_x(value) for value in ic)
        color = "c0" if ic[0] <= 0 <= ic[2] else "c2"
        parts.append(
            f'<path class="curve" stroke="var(--{color})" d="M{begin:.1f} {at:.1f}H{end:.1f}'
            f'M{begin:.1f} {at - _END:.1f}v{2 * _END:.0f}M{end:.1f} {at - _END:.1f}v{2 * _END:.0f}"/>'
            f'<circle class="mark" fill="var(--{color})" r="4" cx="{middle:.1f}" cy="{at:.1f}">'
            f"<title>{escape(f'{feature.name}: {format_information_interval(ic)}')}</title></circle>"
        )
    return draw_svg(height, f"Information coefficient of each feature at {horizon} minutes", parts, width)


def _shorten(name: str, most: int) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"  # the tables have all of it


def _build_horizons(report: "FeaturesReport") -> str:
    horizons = sorted({horizon for feature in report.features for horizon in feature.ic}, key=int)
    rows = (
        (_name(feature), *(format_information_interval(feature.ic.get(horizon)) for horizon in horizons))
        for feature in report.features
    )
    return draw_table(("feature", *(f"{horizon} min" for horizon in horizons)), rows)


def _build_spread(report: "FeaturesReport") -> str:
    rows = (
        (
            _name(feature),
            escape(feature.group),
            f"{feature.coverage:.1%}",
            *(
                (UNDEFINED,) * len(_QUANTILES)
                if feature.quantiles is None
                else (f"{value:.3g}" for value in feature.quantiles)
            ),
            UNDEFINED if feature.importance is None else f"{feature.importance:.1%}",
            f"{feature.cost_us:.2f}",
        )
        for feature in report.features
    )
    columns = ("feature", "group", "coverage", *_QUANTILES, "weight", "us/bar")
    return draw_table(columns, rows, text=frozenset({1}))
