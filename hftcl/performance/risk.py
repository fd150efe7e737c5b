"""Risk beside return: what the days and the falls were like. Pure; P&L of sessions in, frozen figures out.

Net P&L per session is a fraction of a constant capital, 0.0 for a session without a trade. Definitions are those of
empyrical (https://github.com/stefan-jansen/empyrical-reloaded), with which the tests compare.
"""

import math
import sys
from collections.abc import Sequence
from datetime import date
from typing import Final

import numpy as np
import numpy.typing as npt

from hftcl.performance.figures import count_in_bins
from hftcl.performance.reports import Drawdown, RiskFigures, SessionBin

FloatArray = npt.NDArray[np.float64]
_TAIL: Final = 0.05  # the worst twentieth, as VaR is usually told
_FEW: Final = 2  # sessions without which there is no spread
_TAIL_SESSIONS: Final = 20  # 1 / _TAIL: of fewer not one is the worst twentieth, and its bound would be made up
_LONGEST_LOG: Final = math.log(sys.float_info.max)  # of growth: what the exponential of a float can hold
_WORST: Final = 5  # drawdowns: as many as a tear sheet lists


def compute_risk(
    net: FloatArray, sessions: Sequence[date], trades: FloatArray, *, sessions_per_year: int
) -> RiskFigures:
    """Return the figures of `net`, float64, shape (n_sessions,), oldest first; trades: net P&L of each trade, USD.

    None is what is not defined: cagr and calmar also where a session lost all that there was or the figure of a year is
    beyond every float; var and cvar of fewer than 20 sessions.
    """
    year, n = sessions_per_year, net.size
    volatility = float(net.std(ddof=1)) * math.sqrt(year) if n >= _FEW else None
    downside = math.sqrt(float(np.mean(np.minimum(net, 0.0) ** 2))) if n else 0.0
    cagr = _compute_cagr(net, year)
    falls = list_drawdowns(net, sessions)
    deepest = max((fall.depth for fall in falls), default=0.0)
    calmar = cagr / deepest if cagr is not None and deepest > 0 else None
    wins, losses = trades[trades > 0], trades[trades < 0]
    best, worst = (int(np.argmax(net)), int(np.argmin(net))) if n else (0, 0)
    return RiskFigures(
        cagr=cagr,
        volatility=volatility,
        sortino=float(net.mean()) * math.sqrt(year) / downside if downside > 0 else None,
        calmar=calmar if calmar is not None and math.isfinite(calmar) else None,
        var=float(np.quantile(net, _TAIL)) if n >= _TAIL_SESSIONS else None,
        cvar=float(np.sort(net)[: int((n - 1) * _TAIL) + 1].mean()) if n >= _TAIL_SESSIONS else None,
        best=float(net[best]) if n else None,
        best_session=sessions[best] if n else None,
        worst=float(net[worst]) if n else None,
        worst_session=sessions[worst] if n else None,
        average_win_usd=float(wins.mean()) if wins.size else None,
        average_loss_usd=float(losses.mean()) if losses.size else None,
        drawdowns=tuple(sorted(falls, key=lambda fall: -fall.depth)[:_WORST]),
        session_bins=tuple(SessionBin(low=low, high=high, sessions=many) for low, high, many in count_in_bins(net)),
    )


def _compute_cagr(net: FloatArray, year: int) -> float | None:
    """Return the growth of a year; None without a session, after one that lost everything, and beyond every float."""
    if not net.size or bool((net <= -1.0).any()):  # two of them would multiply to a gain
        return None
    grown = float(np.log1p(net).sum()) * year / net.size
    return math.expm1(grown) if grown < _LONGEST_LOG else None


def list_drawdowns(net: FloatArray, sessions: Sequence[date]) -> list[Drawdown]:
    """Return each fall of the cumulative P&L below its highest point so far (0 before the first session), in order."""
    falls: list[Drawdown] = []
    total = top = depth = 0.0
    began = lowest = 0
    for place, pnl in enumerate(net.tolist()):
        before, total = total, total + pnl
        if total >= top:
            if depth:
                falls.append(_build_fall(sessions, began, lowest, place, depth))
            top, depth = total, 0.0
            continue
        if not depth and before >= top:
            began = place
        if top - total > depth:
            depth, lowest = top - total, place
    return [*falls, _build_fall(sessions, began, lowest, None, depth)] if depth else falls


def _build_fall(sessions: Sequence[date], began: int, lowest: int, ended: int | None, depth: float) -> Drawdown:
    return Drawdown(
        depth=depth,
        from_=sessions[began],
        lowest=sessions[lowest],
        to=None if ended is None else sessions[ended],
        sessions=(len(sessions) if ended is None else ended) - began,
    )
