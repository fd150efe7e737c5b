"""What the serving model has made of late, by the ledger of the bot that trades."""

from dataclasses import dataclass
from datetime import date

import polars as pl

from hftcl.home import Home
from hftcl.ledger.reader import LedgerReader
from hftcl.performance import figures as work
from hftcl.performance.book import find_served, list_sessions, read_book
from hftcl.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Recent:
    """Net P&L of a model, a fraction of capital a session, oldest first. ledger: "live" or "paper"."""

    net: work.FloatArray
    ledger: str


def read_recent(settings: Settings, model_id: str, *, until: date, most: int, of_synthetic: bool) -> Recent | None:
    """Return the newest sessions up to `until`, at most `most`, that `model_id` alone decided and in which it traded.

    A session of a swap tells of two models, and one without a fill of a bot that stood aside as much as of a model that
    saw nothing: neither counts. Never a replay's. None where the ledger is of other bars (synthetic or real), or has no
    such session. Raises as `LedgerReader` does.
    """
    with LedgerReader(Home.of(settings).ledger) as reader, reader.snapshot():
        ledger = reader.open_meta().get("mode", "unknown")
        # a replay's ledger may lie here as a copy that a person made: a rehearsal is no trading
        if bool(reader.open_meta().synthetic) != of_synthetic or ledger == "replay":
            return None
        sessions = [day for day in list_sessions(reader, settings, "production") if day <= until]
        # from where on it takes to find so many is not known: twice as many back, and again
        count, closes = 2 * most, reader.read_closes()
        while True:
            since = sessions[-count] if count < len(sessions) else None
            book = read_book(reader, settings, "production", closes, since=since)
            models = find_served(reader, book, [day for day in book.sessions if since is None or day >= since])[1]
            filled = set(book.attribution.booked.filter(pl.col("fills") > 0)["session"])
            others = {day for model, served in models.items() if model != model_id for day in served}
            own = models.get(model_id, set()) & filled - others
            days = [day for day in sorted(own) if day <= until and (since is None or day >= since)][-most:]
            if len(days) >= most or since is None:
                break
            count *= 2
    if not days:
        return None
    alone = book.attribution.booked.filter(pl.col("session").is_in(days))
    return Recent(net=work.sum_by_session(alone, days, book.capital), ledger=ledger)
