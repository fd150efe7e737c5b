"""Checks of the bot: whether the broker takes its key, and whether a halt waits for a person."""

from collections.abc import Iterator

from hftcl.doctor.row import Context, Row, ok, warning
from hftcl.formats import count
from hftcl.home import Home
from hftcl.ledger.reader import LedgerReader
from hftcl.trading.brokers import find_broker
from hftcl.trading.execute.dispatch import minutes_to_send
from hftcl.trading.run.status import status_at


def check_broker(context: Context) -> Iterator[Row]:
    """Whether the broker answers with this key: one call that orders nothing."""
    name = context.settings.trade.broker
    if name == "paper":
        yield ok("broker", "paper, which needs no key and no money")
        return
    broker = find_broker(name)(context.settings, folder=Home.of(context.settings).root)
    try:
        account = broker.account()
    finally:
        broker.close()
    money = "REAL MONEY" if broker.live_money else "no real money"
    tickers = len(context.settings.market.watchlist)
    closing = f"closing {count(tickers, 'ticker')} takes {max(1, minutes_to_send(tickers, broker))} min"
    said = (*account.flags.blocks, *account.flags.notes)
    if said:
        remedy = "Look at the account in the broker's dashboard."
        yield warning("broker", f"{name} ({money}): {'; '.join(said)}; {closing}", remedy)
        return
    yield ok("broker", f"{name} ({money}) takes the key; equity {account.equity:,.0f} USD; {closing}")


def check_bot(context: Context) -> Iterator[Row]:
    """Whether the bot of this home, where it has ever traded, is halted."""
    report = status_at(Home.of(context.settings))  # not of a replay, which may hide a halt
    if report.mode is None:
        yield ok("bot", "`hftcl trade` has not traded here yet")
        return
    with LedgerReader(Home.of(context.settings).ledger) as ledger:
        ledger.check_structure()
        ledger.check_rows()
    runs = "runs" if report.running else "does not run"
    last = f"; last decision on the bar of {report.last_decision:%Y-%m-%d %H:%M} UTC" if report.last_decision else ""
    detail = f"{report.mode}, {runs}, model {report.model_id or 'none'}{last}"
    if report.halted:
        yield warning("bot", f"halted: {report.halted} ({detail})", "Look why; then `hftcl trade --clear`.")
    else:
        yield ok("bot", detail)
