"""What a broker is, and how one is found by name."""

from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol, cast, runtime_checkable

from hftcl.errors import ConfigError
from hftcl.plug_ins import find_point, is_strange, leave_out_broken_offers, load_plug_in, make_plug_in, make_unjudged
from hftcl.settings import Settings
from hftcl.strategy.risk import Order
from hftcl.trading.brokers.refusals import Flags

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    import polars as pl

__all__ = [
    "LARGEST_AMOUNT",
    "Account",
    "Broker",
    "BrokerFactory",
    "CashMove",
    "Fill",
    "Flags",
    "KnowsIds",
    "Order",
    "OrderState",
    "Paced",
    "SplitsShares",
    "Status",
    "TellsCash",
    "Traits",
    "describe_contradiction",
    "describe_implausible",
    "find_broker",
    "is_plausible",
    "open_broker",
    "open_broker_to_close",
    "read_traits",
]

LARGEST_AMOUNT: Final = 1e12
"""USD or shares: beyond it a float64 begins to lose the cent, and no account or share is worth as much."""

_ROUNDING: Final = 1e-6  # shares: brokers count in multiples of 1e-9

Status = Literal["open", "partially_filled", "filled", "canceled", "rejected"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """`quantity` shares of an order, + bought and - sold, that traded at `price` USD a share."""

    fill_id: str
    client_order_id: str
    ticker: str
    quantity: float
    price: float
    commission: float
    """USD, >= 0; what else the trade cost is in the price."""
    ts: datetime
    """Start of the minute in which it filled, UTC."""
    at: datetime
    kind: str = ""
    """What the broker calls it where it is no trade, but takes one back or corrects it."""


def is_plausible(fill: Fill) -> bool:
    """Whether a fill can be true: a trade of some shares, with a price and amounts that there are on earth."""
    amounts = fill.quantity, fill.price, fill.commission
    is_on_earth = all(abs(amount) <= LARGEST_AMOUNT for amount in amounts)
    return is_on_earth and bool(fill.quantity) and fill.price > 0 and not fill.kind


def describe_implausible(fill: Fill) -> str:
    """Return what the broker tells of a fill that cannot be booked, in a few words."""
    told = f"{fill.quantity:g} shares of {fill.ticker} at {fill.price:g} USD, commission {fill.commission:g}"
    if fill.kind:
        return f"a trade that is taken back or corrected ({fill.kind}), which a person has to book: {told}"
    return f"a fill that cannot be true and is not booked: {told}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderState:
    """What the broker knows about an order. `filled` is signed as the order's quantity is."""

    client_order_id: str
    status: Status
    filled: float = 0.0
    broker_order_id: str | None = None
    reason: str = ""
    average_price: float | None = None
    """USD a share of what filled, where the broker says so."""
    ticker: str = ""
    """Of which ticker it is; "" where the broker does not say, and then another's order is never canceled."""

    @property
    def working(self) -> bool:
        """Whether it may still fill."""
        return self.status in ("open", "partially_filled")


def describe_contradiction(state: OrderState, quantity: float) -> str:
    """Return why what a broker says of an order of `quantity` shares cannot be true, "" where it can."""
    filled, price = state.filled, state.average_price
    side = 1.0 if quantity > 0 else -1.0
    if not -_ROUNDING <= filled * side <= abs(quantity) + _ROUNDING:  # nor is NaN
        return f"Of the order {state.client_order_id} of {quantity:g} shares {filled:g} are said to have filled."
    if price is not None and not 0 < price <= LARGEST_AMOUNT:
        return f"The order {state.client_order_id} is said to have filled at {price:g} USD."
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The account in USD; `positions` in shares by ticker, - for short, without those of zero.

    `buying_power` is by how much the gross exposure may still grow, open orders deducted. `marks`: what a share of each
    position is worth, where the broker says so.
    """

    cash: float
    equity: float
    buying_power: float
    positions: dict[str, float]
    marks: dict[str, float] = field(default_factory=dict)
    account_id: str = ""
    """Which account it is, "" where the broker has but one."""
    flags: Flags = field(default_factory=Flags)


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What a broker is like beyond the Protocol; one that says nothing has these.

    remote: whether its calls travel, so that they may hang, and may be made side by side from several threads.
    calls_per_minute: None for any number. fractional_shorts: whether parts of a share may be sold short. replays:
    whether a replay may trade with it, instead of with `paper`: it moves no money, and fills from the bars that it is
    handed, at their time. A broker that has it is a class, or a factory, with `traits` as an attribute of its own.
    """

    remote: bool = False
    calls_per_minute: int | None = None
    parallel: int = 1
    fractional_shorts: bool = True
    replays: bool = False


def read_traits(broker: object) -> Traits:
    """Return what a broker, or its factory, says of itself in its attribute `traits`, which it may leave out."""
    traits = getattr(broker, "traits", None)
    return traits if isinstance(traits, Traits) else Traits()


@runtime_checkable
class KnowsIds(Protocol):
    """A broker whose fills name orders by ids of its own, which it need not ask for where the ledger has them."""

    def learn(self, ids: "Mapping[str, str]") -> None:
        """Take broker's order ids and the client order ids that belong to them."""
        ...


@runtime_checkable
class Paced(Protocol):
    """A broker that takes so many calls in a minute."""

    def room(self) -> int:
        """Return how many calls may be made now."""
        ...


@runtime_checkable
class TakesTogether(Protocol):
    """A broker at hand, which takes quicker together what a minute submits, and what it cancels.

    The bot submits or cancels within one block; what was submitted in it need not be cancelable before its end.
    """

    def together(self) -> "AbstractContextManager[None]":
        """Keep what is submitted or canceled within it all together or not at all, at its end.

        Within it every answer is as if each call had been carried out at once. Where an exception leaves it nothing
        of it has been, and the exception goes on. May raise BrokerError at its begin, when nothing is submitted or
        canceled, and at its end: then the bot asks for each order by its id.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CashMove:
    """What moved the account's cash, or its shares, beside fills. kind: FEE, DIV, INT, CSD, SPLIT, ... as Alpaca calls
    it; amount: USD, + into the account; ticker: "" where it has none.
    """

    activity_id: str
    kind: str
    day: date
    ticker: str
    amount: float
    shares: float = 0.0
    """Shares of `ticker` that came (+) or went (-) with it, as by a split; 0.0 where it moved none, or does not say."""
    subtype: str = ""
    """What kind of its kind, as CMA (a merger for cash alone), "" where it does not say."""
    group: str = ""
    """The same in rows of one and the same event, "" where it does not say."""


@runtime_checkable
class TellsCash(Protocol):
    """A broker that tells what moved the account's cash, or its shares, beside fills."""

    def cash_moves(self, since: date) -> "tuple[CashMove, ...] | None":
        """Return what is told of `since` and the days after it, also twice; None where it tells nothing of this."""
        ...


@runtime_checkable
class SplitsShares(Protocol):
    """A simulated broker, which hears of splits from the bot; a real one knows of them before."""

    def split(self, ticker: str, ratio: float, at: datetime) -> None:
        """Make each share of `ticker` `ratio` shares, at a price that many times lower. Once for each `at`."""
        ...


class Broker(Protocol):
    """Who carries orders out. Every method may raise BrokerError where the broker does not answer as it should."""

    name: str
    live_money: bool
    """Whether real money moves."""
    shorting: bool
    """Whether what is not held may be sold."""
    turns: bool
    """Whether one order may lead from long to short or back; else the position is closed first."""
    extended_hours: bool
    """Whether orders fill before the regular open and after the regular close."""

    def submit(self, order: Order) -> OrderState:
        """Hand `order` over, once: an id that the broker knows already is answered with that order's state.

        Raises OrderRefusedError where it is refused, BrokerBusyError where it was not taken because there were
        too many calls, and BrokerTimeoutError where it is not known whether it
        arrived: ask with `find`, or submit the very same order again, never one with a new id.
        """
        ...

    def find(self, client_order_id: str) -> OrderState | None:
        """Return what became of an order, None where the broker has never seen it."""
        ...

    def open_orders(self) -> tuple[OrderState, ...]:
        """Return every order of the account that may still fill, also those of others."""
        ...

    def cancel(self, client_order_id: str) -> None:
        """Ask that the rest of an order be canceled. Nothing happens where it is done or unknown; it may still fill."""
        ...

    def fills(self, since: str | None) -> tuple[tuple[Fill, ...], str]:
        """Return the fills after the cursor `since`, oldest first, and the next cursor.

        None begins with the oldest that the broker still tells. A fill may come twice, by the same id; none is missed.
        """
        ...

    def account(self) -> Account: ...

    def on_bars(self, bars: "pl.DataFrame", now: datetime) -> None:
        """Take bars (`market.bars.BAR_SCHEMA`) that have just ended; only a simulated broker has use for them."""
        ...

    def end_of_session(self, session: date) -> None:
        """Cancel what is still open of `session`: every order is for the day."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...


class BrokerFactory(Protocol):
    """How a broker is made. `folder`: for files of its own. `durable`: whether those must survive a power cut."""

    def __call__(self, settings: Settings, *, folder: Path, durable: bool = True) -> Broker: ...


OFFERED: Final = (KnowsIds, Paced, TakesTogether, TellsCash, SplitsShares)
"""What a broker may offer beside `Broker`."""


def find_broker(name: str) -> BrokerFactory:
    """Return the factory registered as `name` in the entry-point group `hftcl.brokers`; no other one is imported.

    >>> find_broker('paper').name
    'paper'
    """
    point = find_point("hftcl.brokers", name)
    try:
        return cast("BrokerFactory", load_plug_in(point))
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "hftcl":
            raise
        raise ConfigError(
            f"The broker {name!r} needs a package that is not installed ({error.name}). "
            f"Run: pip install 'hftcl[{name}]'"
        ) from error


def open_broker(name: str, settings: Settings, *, folder: Path, durable: bool = True) -> Broker:
    """Return the broker of that name, see `BrokerFactory`. Raises ConfigError; PlugInError of a stranger's."""
    point = find_point("hftcl.brokers", name)
    if not is_strange(point):
        return find_broker(name)(settings, folder=folder, durable=durable)
    return cast("Broker", make_plug_in(point, Broker, OFFERED, settings, folder=folder, durable=durable))


def open_broker_to_close(name: str, settings: Settings, *, folder: Path) -> Broker:
    """Return the broker of that name for the kill switch, which closes what is held with whatever it can do.

    Nothing that it lacks refuses it, and what it offers beside `Broker` and cannot be called is left out. Raises as
    `open_broker` does where none can be had.
    """
    point = find_point("hftcl.brokers", name)
    if not is_strange(point):
        return find_broker(name)(settings, folder=folder)
    return cast("Broker", leave_out_broken_offers(make_unjudged(point, settings, folder=folder), OFFERED))
