"""What both reports say of risk beside return: figures of a year, the deepest falls, how the sessions were spread."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from hftcl.formats import count, format_annual, number
from hftcl.pages.drawing import draw_table
from hftcl.pages.performance_charts import draw_session_bins

if TYPE_CHECKING:
    from hftcl.learning.backtest.reports import PolicyReport
    from hftcl.performance.reports import Drawdown, RiskFigures


def draw_drawdowns(falls: "Sequence[Drawdown]") -> str:
    """Return the deepest falls with their dates."""
    columns = ("from", "lowest", "back at the top", "sessions", "depth")
    rows = [
        (str(fall.from_), str(fall.lowest), str(fall.to or "not yet"), str(fall.sessions), number(fall.depth, ".2%"))
        for fall in falls
    ]
    return (
        draw_table(columns, rows) if rows else '<p class="soft">The equity never fell from one session to the next.</p>'
    )


def draw_sessions(risk: "RiskFigures", sessions: int) -> list[str]:
    """Return how many of so many sessions made how much."""
    nothing = sessions - sum(part.sessions for part in risk.session_bins)
    rest = f" {count(nothing, 'session')} made nothing, without a bar." if nothing else ""
    if not risk.session_bins:
        return ['<p class="soft">No session made or lost anything.</p>']
    return [
        draw_session_bins(risk.session_bins),
        '<p class="soft">How many sessions made how much, in % of capital; the outer bars hold all beyond them.'
        f"{rest}</p>",
    ]


def draw_policies_risk(policies: "Mapping[str, PolicyReport]") -> list[str]:
    """Return the figures of each policy that traded, and of the first its falls and sessions."""
    columns = ("policy", "CAGR", "volatility", "Sortino", "Calmar", "VaR, 95 %", "CVaR, 95 %", "best", "worst")
    traded = {name: policy for name, policy in policies.items() if any(policy.pnl_by_session.values())}
    if not traded:
        return ['<p class="soft">No policy traded.</p>']
    rows = [(escape(name), *_list_figures(policy.risk, len(policy.pnl_by_session))) for name, policy in traded.items()]
    first, shown = next(iter(traded.items()))
    return [
        draw_table(columns, rows),
        '<p class="soft">CAGR: a year\'s growth, were profits reinvested. Sortino: by falls alone. Calmar: CAGR / '
        "deepest drawdown. VaR: one session in 20 is worse; CVaR: the mean of those. Best and worst: of a session.</p>",
        f"<h3>The deepest drawdowns of {escape(first)}</h3>",
        draw_drawdowns(shown.risk.drawdowns),
        f"<h3>The sessions of {escape(first)}</h3>",
        *draw_sessions(shown.risk, len(shown.pnl_by_session)),
    ]


def _list_figures(risk: "RiskFigures", sessions: int) -> list[str]:
    return [
        format_annual(risk.cagr, sessions, "+.2%"),
        format_annual(risk.volatility, sessions, ".2%"),
        format_annual(risk.sortino, sessions, ".2f"),
        format_annual(risk.calmar, sessions, ".2f"),
        number(risk.var, "+.2%"),
        number(risk.cvar, "+.2%"),
        number(risk.best, "+.2%"),
        number(risk.worst, "+.2%"),
    ]
