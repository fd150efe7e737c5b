"""What must be so before the bot may trade: a word for real money, one ledger for one account, hours, bars.

Money moves only where three things say so: [trade] live, `--live`, and an edge that is live or overridden; of the edge
the bot takes care, model by model.
"""

from hftcl.errors import ConfigError, UsageError
from hftcl.ledger.writer import Ledger
from hftcl.market.sources import find_source
from hftcl.settings import Settings
from hftcl.trading.brokers import Broker


def require_agreement_on_money(settings: Settings, broker: Broker, *, real_money: bool, synthetic: bool) -> None:
    """Raise UsageError unless configuration, command line and broker agree on whether money moves."""
    if real_money and not broker.live_money:
        raise UsageError(
            f"--live asks for real money, and [trade] broker = {settings.trade.broker!r} moves none here. "
            "Leave --live out, or set a broker, and its address, that trades real money."
        )
    if not broker.live_money:
        return
    if synthetic:
        raise UsageError("[market] source is synthetic: no real money is traded on an invented market.")
    said = {"[trade] live = true in the configuration": settings.trade.live, "--live on the command line": real_money}
    missing = [name for name, given in said.items() if not given]
    if missing:
        raise UsageError(f"The broker {broker.name} would move real money, and that needs {' and '.join(missing)} too.")


def require_same_account(ledger: Ledger, settings: Settings, broker: Broker, account_id: str = "") -> None:
    """Raise ConfigError where the ledger is of another account, or of other capital, than the settings ask for.

    account_id: what the broker calls the account, "" where it has not been asked or has but one. Fills and profits of a
    ledger mean nothing in another account, and every target and limit is a share of its capital.
    """
    meta, path = ledger.open_meta(), ledger.path
    remedy = (
        f"Close what it holds, then move {path} away with its -wal and -shm files and the folder decisions: the next "
        "start begins a new one. `hftcl report` reads the old one where it is moved back."
    )
    before = meta.get("broker"), meta.get("mode")
    now = broker.name, "live" if broker.live_money else "paper"
    if before[0] is not None and before != now:
        raise ConfigError(
            f"The ledger is that of the broker {before[0]} ({before[1]} money), and [trade] broker is now {now[0]} "
            f"({now[1]} money). One ledger holds one account. {remedy}"
        )
    stored_account = meta.get("account_id")
    if stored_account and account_id and stored_account != account_id:
        raise ConfigError(
            f"The ledger is that of the account {stored_account}, and the keys are now those of {account_id}. "
            "One ledger holds "
            f"one account. Set the keys back, or begin again. {remedy}"
        )
    capital, began = settings.trade.capital, meta.number("capital")
    if capital and began is not None and began != capital:
        raise ConfigError(
            f"The ledger began with a capital of {began:,.2f} USD, and [trade] capital is now "
            f"{capital:,.2f}. Targets, limits and profits are shares of it. Set it back, or begin again. {remedy}"
        )


def require_hours(settings: Settings, broker: Broker) -> None:
    """Raise ConfigError where extended hours are asked for and the broker fills nothing in them."""
    if settings.market.extended_hours and not broker.extended_hours:
        raise ConfigError(
            f"[market] extended_hours is true, and the broker {broker.name} fills orders in regular hours only: what "
            "is held at the close could not be closed before the next open. Set it to false, and retrain."
        )


def require_present(settings: Settings) -> None:
    """Raise ConfigError where the bars of [market] source have no present to trade in; a feed brings the minutes.

    The source says so itself, by its attribute `past`: one of a plug-in is asked as ours are.
    """
    if getattr(find_source(settings.market.source), "past", False):
        raise ConfigError(
            f"[market] source = {settings.market.source!r} has no bars of the present, so there is nothing to trade "
            "on. Replay stored bars with `hftcl trade --replay FROM..TO`, or set source to one that a feed goes on "
            'with, such as "polygon" or "alpaca".'
        )
