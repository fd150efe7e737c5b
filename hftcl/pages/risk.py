"""What both reports say of risk beside return: figures of a year, the deepest falls, how the sessions were spread."""

from collections.abc import Mapping, Sequence
from datetime import date
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from hftcl.formats import number
from hftcl.pages.drawing import table
from hftcl.pages.performance_charts import session_bins
from hftcl.performance.risk import compute_risk

if TYPE_CHECKING:
    from hftcl.performance.reports import Drawdown


def draw_drawdowns(falls: "Sequence[Drawdown]") -> str:
    """Return the deepest falls with their dates."""
    columns = ("from", "lowest", "back at the top", "sessions", "depth")
    rows = [
        (str(fall.from_), str(fall.lowest), str(fall.to or "not yet"), str(fall.sessions), number(fall.depth, ".2%"))
        for fall in falls
    ]
    return table(columns, rows) if rows else '<p class="soft">The equity never fell from one session to the next.</p>'


def draw_sessions(net: Sequence[float]) -> list[str]:
    """Return how many sessions made how much. net: P&L of each, a fraction of capital."""
    return [
        session_bins(net),
        '<p class="soft">How many sessions made how much, in % of capital; the outer bars hold all beyond them.</p>',
    ]


def draw_policies_risk(policies: Mapping[str, Mapping[str, float]], sessions_per_year: int) -> list[str]:
    """Return the figures of each policy that traded, and of the first its falls and sessions.

    policies: by name the net P&L by ISO date, fractions of capital.
    """
    columns = ("policy", "CAGR", "volatility", "Sortino", "Calmar", "VaR, 95 %", "CVaR, 95 %", "best", "worst")
    figures = {
        name: compute_risk(
            np.array(list(net.values()), dtype=np.float64),
            [date.fromisoformat(day) for day in net],
            np.empty(0),  # the trades of a policy are not told apart
            sessions_per_year=sessions_per_year,
        )
        for name, net in policies.items()
        if any(net.values())
    }
    if not figures:
        return ['<p class="soft">No policy traded.</p>']
    rows = [
        (
            escape(name),
            number(risk.cagr, "+.2%"),
            number(risk.volatility, ".2%"),
            number(risk.sortino),
            number(risk.calmar),
            number(risk.var, "+.2%"),
            number(risk.cvar, "+.2%"),
            number(risk.best, "+.2%"),
            number(risk.worst, "+.2%"),
        )
        for name, risk in figures.items()
    ]
    first = next(iter(figures))
    return [
        table(columns, rows),
        '<p class="soft">CAGR: a year\'s growth, were profits reinvested. Sortino: by falls alone. Calmar: CAGR / '
        "deepest drawdown. VaR: one session in 20 is worse; CVaR: the mean of those. Best and worst: of a session.</p>",
        f"<h3>The deepest drawdowns of {escape(first)}</h3>",
        draw_drawdowns(figures[first].drawdowns),
        f"<h3>The sessions of {escape(first)}</h3>",
        *draw_sessions(list(policies[first].values())),
    ]
