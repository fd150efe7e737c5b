"""What an exam on real minute bars does not show unless something is wrong with them. Pure.

Honest exams of liquid shares over 20 sessions scatter within 13 Sharpe ratios of 0. A model cannot be that good; bars
can be that bad.
"""

import math
from typing import Final

from hftcl.exam.student import compute_t_tail
from hftcl.formats import count

_CHANCE: Final = 1e-4  # one exam in ten thousand of a worthless model: a nightly one for 40 years
_USUAL: Final = 8.0  # net Sharpe ratio to which the other limits belong; they move with it
_GROSS: Final = 12.0  # gross Sharpe ratio: what costs take from a real edge stands between
_INFORMATION: Final = 0.15  # correlation of prediction and outcome; of real minute bars it is below 0.05
_HITS: Final = 0.10  # share of trades that earn, above a half
_TRADES: Final = 1000  # from which on that share cannot be luck: its standard error is 0.016


def list_miracles(
    *,
    sessions: int,
    sharpe: float | None,
    gross_sharpe: float | None = None,
    information_coefficient: float | None = None,
    hit_rate: float | None = None,
    trades: int = 0,
    limit: float,
    sessions_per_year: int,
) -> tuple[str, ...]:
    """Return, as phrases, the figures that are too good; empty where each may be true.

    sharpe, gross_sharpe: annual. limit: the net Sharpe ratio above which one is doubted, if chance does not explain it;
    the other limits move with it.
    A very low Sharpe ratio is no miracle: costs make it, and nothing deploys by it.
    """
    miracles, scale = [], limit / _USUAL
    if sharpe is not None and sharpe > limit:
        chance = compute_chance(sharpe, sessions, sessions_per_year)
        if chance < _CHANCE:
            miracles.append(
                f"net Sharpe {sharpe:.1f} over {count(sessions, 'session')}, by chance once in {1 / chance:,.0f}"
            )
    if gross_sharpe is not None and gross_sharpe > _GROSS * scale:
        miracles.append(f"gross Sharpe {gross_sharpe:.1f}")
    if information_coefficient is not None and information_coefficient > _INFORMATION * scale:
        miracles.append(f"information coefficient {information_coefficient:.2f}")
    if hit_rate is not None and hit_rate > 0.5 + _HITS * scale and trades >= _TRADES:
        miracles.append(f"{hit_rate:.0%} of {trades:,} trades earn")
    return tuple(miracles)


def compute_chance(sharpe: float, sessions: int, sessions_per_year: int) -> float:
    """Return P(a worthless model shows this annual Sharpe ratio or more over so many sessions), at least 1e-12.

    sessions: two or more. By Student's t: the deviation is that of the same few sessions, and a normal would make ten
    of them too good once in 10,000 where they are so once in 400.
    """
    return max(compute_t_tail(sessions - 1, sharpe * math.sqrt(sessions / sessions_per_year)), 1e-12)
