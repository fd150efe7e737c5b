"""What the ledger holds, row by row. Pure: values only."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Final, Literal, get_args

from hftcl.values import Value, value_class

BookName = Literal["production", "shadow", "foreign"]
"""Whose trades: of the model that serves, of a candidate that trades virtually beside it, or of somebody else in the
account: `foreign` has fills only, and never counts in positions, risk or profit."""
BOOKS: Final[tuple[BookName, ...]] = get_args(BookName)

State = Literal["intended", "submitted", "partially_filled", "filled", "canceled", "rejected", "refused"]
"""An order's way: intended (decided, perhaps sent), submitted (the broker has it), then what became of it there.
`refused` is by our own risk: it never reached the broker."""

RANKS: Final[dict[str, int]] = {
    "intended": 0,
    "submitted": 1,
    "partially_filled": 2,
    "canceled": 3,
    "rejected": 3,
    "refused": 3,
    "filled": 4,
}
"""A state only gives way to one of a higher rank, so that news may come twice or late. Filled is the highest: an order
that was canceled as its last share traded is filled."""

STATED: Final = "stated-"
"""How the id of a fill begins that the broker never told, booked by what it said of the order; then the order's id."""

ADOPTED: Final = "adopted"
SPLIT: Final = "split"
ACTION: Final = "corporate"
KEPT: Final = "kept"
UNORDERED: Final = (ADOPTED, SPLIT, ACTION, KEPT)
"""Orders of no order, with which the ids of their fills begin too: shares that a person let the bot take over, those
that a split made of others, those that another corporate action made or took away, and those that the bot held as a
person took their ticker out of its hands. None of them was traded: they are neither turnover nor a fill to be counted.
"""

BARRED: Final = "barred"
"""In the meta: the session, and why nothing is opened in it because the broker refuses the account."""

TRANSFERS: Final = ("ACATC", "ACATS", "CSD", "CSW", "JNL", "JNLC", "JNLS", "TRANS")
"""Kinds of cash that a person brings or takes: no profit and no cost.
https://docs.alpaca.markets/docs/account-activities ."""

WORKING: Final = ("intended", "submitted", "partially_filled")
"""States in which an order may still fill."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class Decision(Value):
    """What was decided on one bar. Times are UTC; `ts` is the start of the bar."""

    book: BookName
    ts: datetime
    ticker: str
    model_id: str | None
    features_hash: str | None
    prediction: float | None
    target: float | None
    """Signed fraction of capital; None where nothing was decided."""
    code: str
    decided_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class OrderRecord(Value):
    """An order as it was decided. `quantity` in shares, + to buy; NaN, like the price, only where it was refused."""

    client_order_id: str
    book: BookName
    ts: datetime
    session: date
    ticker: str
    model_id: str | None
    quantity: float
    reference_price: float
    state: State
    code: str = ""
    """Why it was refused or rejected; "" otherwise."""
    reason: str = ""
    broker_order_id: str | None = None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class OrderUpdate(Value):
    """News about an order; what is empty leaves the ledger as it is."""

    client_order_id: str
    state: State
    at: datetime
    code: str = ""
    reason: str = ""
    broker_order_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class FillRecord(Value):
    """A fill with what is known about its order. `ts`: start of the bar in which it filled; USD a share."""

    fill_id: str
    client_order_id: str
    book: BookName
    ts: datetime
    ticker: str
    model_id: str | None
    quantity: float
    price: float
    commission: float
    reference_price: float
    filled_at: datetime


@value_class(frozen=True, slots=True, kw_only=True)
class MonthFile(Value):
    """What is to be found in a month's file of archived decisions. month: YYYY-MM."""

    month: str
    digest: str
    """Of the file; "" where there is none yet."""
    pending: str = ""
    """Of the file that is about to take its place, whose decisions are in the ledger too; "" where none is."""


@value_class(frozen=True, slots=True, kw_only=True)
class Decided(Value):
    """How many archived decisions of one hour, model and code there are, on bars from `first` to `last`."""

    book: BookName
    hour: datetime
    model_id: str
    """"" where no model decided."""
    code: str
    first: datetime
    last: datetime
    decisions: int


@value_class(frozen=True, slots=True, kw_only=True)
class Snapshot(Value):
    """What a book's fills up to `number` add up to: all of those in bars up to `at`, and no other."""

    book: BookName
    number: int
    at: datetime
    paid: float
    realised: float
    holdings: str
    """JSON: ticker to [shares, average price], sorted."""


@value_class(frozen=True, slots=True, kw_only=True)
class FillBlock(Value):
    """What a report reads of a book's fills with numbers above `after` and up to `number`, all of them, in one piece.

    first, last: the oldest and the newest of their bars. content: Parquet, with their opens; see `ledger.blocks`.
    """

    book: BookName
    number: int
    after: int
    first: datetime
    last: datetime
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class FillOpen(Value):
    """The open of the bar in which a fill was, USD: what divides its slippage into timing and cost."""

    fill_id: str
    open: float


@value_class(frozen=True, slots=True, kw_only=True)
class CashRow(Value):
    """What moved the account's cash beside fills: a fee, a dividend, interest, a transfer. Production's.

    session: the day that the broker says. amount: USD, + into the account. ticker: "" where it has none.
    """

    activity_id: str
    session: date
    kind: str
    ticker: str
    amount: float
    booked_at: datetime


@value_class(frozen=True, slots=True, kw_only=True)
class EquityRow(Value):
    """A book's account after the fills of the minute that starts at `ts`, in USD. `net` is long less short."""

    book: BookName
    ts: datetime
    session: date
    equity: float
    cash: float
    gross: float
    net: float
    realised: float


@value_class(frozen=True, slots=True, kw_only=True)
class CloseRow(Value):
    """A ticker's first open and last close of a session, and the start of the bar of that close."""

    session: date
    ticker: str
    ts: datetime
    open: float
    close: float


@value_class(frozen=True, slots=True, kw_only=True)
class Latch(Value):
    """What keeps the bot from opening positions until a person clears it."""

    name: str
    since: datetime
    reason: str
    cleared_at: datetime | None = None
    cleared_by: str | None = None


@value_class(frozen=True, slots=True, kw_only=True)
class LedgerEvent(Value):
    """What happened to the bot: started, stopped, reloaded, reload_refused, halted, cleared, error, reconciled, ..."""

    at: datetime
    kind: str
    text: str
    model_id: str | None = None
