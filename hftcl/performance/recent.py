"""What the serving model has made of late, by the ledger of the bot that trades."""

from dataclasses import dataclass
from datetime import date

from hftcl.home import Home
from hftcl.ledger.reader import LedgerReader
from hftcl.performance import figures as work
from hftcl.performance.book import find_served, read_book
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
        ledger = reader.meta().get("mode", "unknown")
        # a replay's ledger may lie here as a copy that a person made: a rehearsal is no trading
        if bool(reader.meta().synthetic) != of_synthetic or ledger == "replay":
            return None
        book = read_book(reader, settings, "production")
        models = find_served(reader, book, book.sessions)[1]
    filled = {key.session for key, amounts in book.attribution.booked.items() if amounts.fills}
    others = {day for model, days in models.items() if model != model_id for day in days}
    days = [day for day in sorted(models.get(model_id, set()) & filled - others) if day <= until][-most:]
    if not days:
        return None
    alone = {key: amounts for key, amounts in book.attribution.booked.items() if key.session in set(days)}
    return Recent(net=work.net_by_session(alone, days, book.capital), ledger=ledger)
