"""The frame of a chart over sessions: where a value stands, the axes, and what a script can draw again when zoomed."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from html import escape
from typing import Final

from hftcl.pages.drawing import LEFT, MINOR, RIGHT, TOP, WIDTH, choose_ticks, draw_grid, draw_svg, group

Point = tuple[float, float]
BELOW: Final = 36.0  # units of the drawing: a line of labels under a chart, which on a phone are twice as large
_LABEL_PX: Final = 58.0  # a date of seven characters, and air
_DAY_LABELS_UP_TO: Final = 45  # sessions; beyond it the months are named


@dataclass(frozen=True, slots=True)
class Plot:
    """A chart over `sessions`: place k is the end of session k, 0 the start of the first; `low` to `high` upwards."""

    sessions: tuple[date, ...]
    low: float
    high: float
    height: float
    width: float = WIDTH
    below: float = BELOW

    @classmethod
    def fit_around(
        cls,
        sessions: Sequence[date],
        values: Sequence[float],
        *,
        height: float,
        width: float = WIDTH,
        below: float = BELOW,
    ) -> "Plot":
        """Return the plot that holds `values` with a little air. below: units under it, for labels and more."""
        low, high = min(values, default=0.0), max(values, default=0.0)
        pad = 0.06 * (high - low) or 0.5 if low <= 0 <= high else 0.06 * (high - low) or 0.001 * abs(high)
        return cls(tuple(sessions), low - (pad if low else 0.0), high + (pad if high else 0.0), height, width, below)

    def to_x(self, place: float) -> float:
        return LEFT + (self.width - LEFT - RIGHT) * place / max(len(self.sessions), 1)

    def to_y(self, value: float) -> float:
        return TOP + (self.bottom - TOP) * (self.high - value) / ((self.high - self.low) or 1.0)

    @property
    def bottom(self) -> float:
        """Where the plot ends and the dates begin."""
        return self.height - self.below

    def draw(self, title: str, shapes: Iterable[str]) -> str:
        """Return the whole drawing: both axes, and `shapes` in the plot."""
        axes = [
            *draw_grid(choose_ticks(self.low, self.high, max(3, int(self.height / 45))), self.to_y, self.width),
            *self._draw_dates(),
        ]
        sides = (LEFT, TOP, self.width - RIGHT, self.bottom, 0.0, max(len(self.sessions), 1), self.low, self.high)
        return draw_svg(self.height, title, [group("axes", axes), group("plot", shapes)], self.width, frame=sides)

    def draw_path(self, points: Sequence[Point]) -> str:
        return " ".join(f"{self.to_x(place):.1f},{self.to_y(value):.1f}" for place, value in points)

    def draw_line(self, points: Sequence[Point], line: int, style: str, *, begins: int = 0, name: str = "") -> str:
        """Return a line. line: its number in the chart's `ChartData`, begins: the place of its first point there.

        style: class and stroke.
        """
        title = f"<title>{escape(name)}</title>" if name else ""
        run = f"{begins} {begins + len(points) - 1}"
        return (
            f'<polyline {style} points="{self.draw_path(points)}" data-series="{line}" '
            f'data-run="{run}">{title}</polyline>'
        )

    def draw_area(self, points: Sequence[Point], line: int, style: str) -> str:
        """Return what lies between a line and 0."""
        closed = [(points[0][0], 0.0), *points, (points[-1][0], 0.0)]
        return f'<polygon {style} points="{self.draw_path(closed)}" data-series="{line}" data-base="0"/>'

    def draw_mark(self, at: Point, style: str, title: str, *, r: float = 4.5) -> str:
        """Return a dot with its title."""
        place, value = at
        return (
            f'<circle class="mark" {style} r="{r:g}" cx="{self.to_x(place):.1f}" cy="{self.to_y(value):.1f}" '
            f'data-x="{place:.6g}" data-y="{value:.8g}"><title>{escape(title)}</title></circle>'
        )

    def _draw_dates(self) -> list[str]:
        by_day = len(self.sessions) <= _DAY_LABELS_UP_TO
        labels: list[str] = []
        last = -math.inf
        for place, day in enumerate(self.sessions):
            at = self.to_x(place + 0.5) if by_day else self.to_x(place)
            begins = by_day or place == 0 or day.month != self.sessions[place - 1].month
            if not begins or at - last < _LABEL_PX or at > self.width - RIGHT - 18:
                continue
            anchor = "middle" if by_day or place else "start"
            last = at if anchor == "middle" else at + _LABEL_PX / 2
            text = f"{day:%m-%d}" if by_day else f"{day:%Y-%m}"
            labels.append(
                f'<path class="tick" d="M{at:.1f} {TOP:.0f}V{self.bottom:.0f}"/>'
                f'<text class="soft{MINOR[len(labels) % 2]}" x="{at:.1f}" y="{self.height - 7:.0f}" '
                f'text-anchor="{anchor}">{text}</text>'
            )
        return labels
