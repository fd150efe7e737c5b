"""Checks of the bot: whether the broker takes its key, and whether a halt waits for a person."""

import fcntl
import os
from collections.abc import Iterator

from hftcl.doctor.row import Context, Row, fault, report_ok, report_warning
from hftcl.durable import require_regular
from hftcl.errors import StorageError
from hftcl.formats import count, format_moment
from hftcl.home import Home
from hftcl.ledger.reader import LedgerReader
from hftcl.plug_ins import close_after
from hftcl.trading.brokers import open_broker
from hftcl.trading.execute.dispatch import count_minutes_to_send
from hftcl.trading.run.status import read_status_at


def check_broker(context: Context) -> Iterator[Row]:
    """Whether the broker answers with this key: one call that orders nothing."""
    name = context.settings.trade.broker
    if name == "paper":
        yield report_ok("broker", "paper, which needs no key and no money")
        return
    with close_after(open_broker(name, context.settings, folder=Home.of(context.settings).root)) as broker:
        account = broker.account()
    money = "REAL MONEY" if broker.live_money else "no real money"
    tickers = len(context.settings.market.watchlist)
    closing = f"closing {count(tickers, 'ticker')} takes {max(1, count_minutes_to_send(tickers, broker))} min"
    said = (*account.flags.blocks, *account.flags.notes)
    if said:
        remedy = "Look at the account in the broker's dashboard."
        yield report_warning("broker", f"{name} ({money}): {'; '.join(said)}; {closing}", remedy)
        return
    yield report_ok("broker", f"{name} ({money}) takes the key; equity {account.equity:,.0f} USD; {closing}")


def check_lock(context: Context) -> Iterator[Row]:
    """Whether the lock that keeps a second bot away can be had: takes it for the blink of an eye, leaves nothing."""
    home = Home.of(context.settings)
    if not home.folder.is_dir():
        yield report_ok("lock", f"{home.folder} does not exist yet")
        return
    place = home.lock if home.lock.exists() else home.folder
    try:
        require_regular(home.lock)
        fd = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        finally:
            os.close(fd)
    except BlockingIOError:
        yield report_ok("lock", f"{home.lock} is held: a bot runs")
        return
    except (OSError, StorageError) as error:
        why = getattr(error, "strerror", None) or error
        remedy = "Set [paths] home to a folder on a local disk that may be written and that knows file locks (flock)."
        yield fault("lock", f"the lock {home.lock} cannot be had: {why}", remedy)
        return
    yield report_ok("lock", f"{home.folder} knows file locks")


def check_bot(context: Context) -> Iterator[Row]:
    """Whether the bot of this home, where it has ever traded, is halted."""
    report = read_status_at(Home.of(context.settings))  # not of a replay, which may hide a halt
    if report.mode is None:
        yield report_ok("bot", "`hftcl trade` has not traded here yet")
        return
    with LedgerReader(Home.of(context.settings).ledger) as ledger:
        ledger.check_structure()
        ledger.check_rows()
        months = ledger.check_archive()
    runs = "runs" if report.running else "does not run"
    last = f"; last decision on the bar of {format_moment(report.last_decision)} UTC" if report.last_decision else ""
    archived = f"; {count(months, 'month')} of decisions archived" if months else ""
    detail = f"{report.mode}, {runs}, model {report.model_id or 'none'}{last}{archived}"
    if report.halted:
        yield report_warning("bot", f"halted: {report.halted} ({detail})", "Look why; then `hftcl trade --clear`.")
    else:
        yield report_ok("bot", detail)
