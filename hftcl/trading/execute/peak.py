"""The best close of a book's newest sessions, from which a drawdown is measured. Reads the ledger that it is given."""

import math
from datetime import date
from typing import Final

from hftcl.ledger.meta import Fact
from hftcl.ledger.rows import BookName
from hftcl.ledger.writer import Ledger

_SESSIONS: Final = 20  # a month of trading: what [risk] max_drawdown says


def find_peak(ledger: Ledger, book: BookName, session: date, equity_at_open: float) -> float:
    """Return the best close of the newest sessions before `session`, of those since a person cleared a drawdown; USD.

    equity_at_open: of `session`, which counts as a close. -inf where there is none.
    """
    cleared = ledger.open_meta().get(Fact.DRAWDOWN_FROM, "")
    closes = [
        equity
        for day, equity in ledger.read_last_equities(book, _SESSIONS + 1)
        if day < session and day.isoformat() >= cleared
    ]
    # cleared within this session: the loss up to then is what the person has accepted
    began = [] if cleared == session.isoformat() else [equity_at_open]
    return max([*closes[:_SESSIONS], *began], default=-math.inf)
