"""Why a broker does not carry an order out: one table, of this order, of the account, or of the moment. Pure.

An answer is found by its HTTP status, its code and its text, as Alpaca gives them; the ledger keeps the row's `code`.
"""

import re
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["order", "account", "moment"]
"""order: this one alone. account: nothing may be opened until a person has looked. moment: later it may pass."""

_ORDERS: Final = "https://docs.alpaca.markets/docs/orders-at-alpaca"
_FRACTIONAL: Final = "https://docs.alpaca.markets/docs/fractional-trading"
_MARGIN: Final = "https://docs.alpaca.markets/docs/margin-and-short-selling"
_PROTECTION: Final = "https://docs.alpaca.markets/docs/user-protection"
_ACCOUNT: Final = "https://docs.alpaca.markets/docs/account-plans"
_ERRORS: Final = "https://alpaca.markets/learn/how-to-fix-common-trading-api-errors-at-alpaca"
_LIMIT: Final = "https://alpaca.markets/support/usage-limit-api-calls"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One reason. status, number: of the answer; text: what is looked for in it, case ignored. source: its page.

    says: how the simulated broker words it, as Alpaca does. remedy: what a person may do about it.
    """

    code: str
    kind: Kind
    status: int
    number: int
    text: str
    says: str
    meaning: str
    remedy: str
    source: str


# Each row names the status and the page that it comes from.
REFUSALS: Final = (
    Refusal(
        code="rate_limited",
        kind="moment",
        status=429,
        number=42910000,
        text="too many requests|rate limit",
        says="too many requests.",
        meaning="more calls in a minute than the plan allows",
        remedy="The bot waits for the moment that X-RateLimit-Reset names, and goes on.",
        source=_LIMIT,
    ),
    Refusal(
        code="no_answer",
        kind="moment",
        status=504,
        number=0,
        text="^no answer",
        says="no answer",
        meaning="another order of the minute got no answer",
        remedy="The next minute makes up for it.",
        source=_ORDERS,
    ),
    Refusal(
        code="pattern_day_trading",
        kind="account",
        status=403,
        number=40310100,
        text="pattern day trad",
        says="trade denied due to pattern day trading protection",
        meaning="a fourth day trade in five sessions with less than 25,000 USD of equity, where that is still counted",
        remedy="Bring the account above 25,000 USD, or ask the broker: FINRA ended the rule in June 2026.",
        source=_PROTECTION,
    ),
    Refusal(
        code="day_trade_margin",
        kind="account",
        status=403,
        number=40310000,
        text="insufficient day ?trading buying power",
        says="insufficient day trading buying power",
        meaning="more bought and sold in a day than the account may",
        remedy="Lower [trade] capital or [risk] max_gross.",
        source=_PROTECTION,
    ),
    Refusal(
        code="no_buying_power",
        kind="account",
        status=403,
        number=40310000,
        text="insufficient buying power|insufficient balance",
        says="insufficient buying power",
        meaning="the account cannot pay for it",
        remedy="Lower [trade] capital or [risk] max_gross, or bring money.",
        source=_ORDERS,
    ),
    Refusal(
        code="shorting_disabled",
        kind="account",
        status=403,
        number=40310000,
        text="account is not allowed to short|account not eligible to short|shorting is (disabled|not allowed)",
        says="account is not allowed to short",
        meaning="the account may not sell short: it takes 2,000 USD of equity, and no_shorting off",
        remedy="Set [alpaca] shorting = false, or allow it in the account.",
        source=_MARGIN,
    ),
    Refusal(
        code="account_blocked",
        kind="account",
        status=403,
        number=40310000,
        text="new orders are rejected by user request|trading (is )?(blocked|suspended)|"
        "account (is )?(blocked|suspended|restricted|not authorized|not active)|not authorized to trade",
        says="new orders are rejected by user request",
        meaning="the account may not trade: suspended by its owner, or blocked by Alpaca",
        remedy="Look at the account in Alpaca's dashboard.",
        source=_ACCOUNT,
    ),
    Refusal(
        code="fractional_short",
        kind="order",
        status=422,
        number=42210000,
        text="fractional orders cannot be sold short",
        says="fractional orders cannot be sold short",
        meaning="parts of a share are not sold short",
        remedy="The bot trades whole shares on the short side.",
        source=_FRACTIONAL,
    ),
    Refusal(
        code="not_fractionable",
        kind="order",
        status=403,
        number=40310000,
        text="is not fractionable",
        says="asset {symbol} is not fractionable",
        meaning="this share is not traded in parts",
        remedy="Set [trade] fractional = false, or leave the ticker out.",
        source=_FRACTIONAL,
    ),
    Refusal(
        code="too_small",
        kind="order",
        status=403,
        number=40310000,
        text="cost basis must be|notional .*minim",
        says="cost basis must be >= minimal amount of order 1",
        meaning="worth less than 1 USD",
        remedy="Nothing: a position so small opens with a later minute.",
        source=_FRACTIONAL,
    ),
    Refusal(
        code="not_shortable",
        kind="order",
        status=422,
        number=42210000,
        text="cannot be sold short|not shortable|hard.to.borrow",
        says='asset "{symbol}" cannot be sold short',
        meaning="the share is not on the list of those that are easy to borrow",
        remedy="The bot sells this ticker short no more in this session.",
        source=_MARGIN,
    ),
    Refusal(
        code="wash_trade",
        kind="order",
        status=403,
        number=40310000,
        text="wash trade|opposite side",
        says="potential wash trade detected. use complex orders",
        meaning="an order of the other side is open in this ticker",
        remedy="The bot cancels what is open first; what others left open is for a person to cancel.",
        source=_PROTECTION,
    ),
    Refusal(
        code="no_turn",
        kind="order",
        status=403,
        number=40310000,
        text="insufficient qty|cannot open a (long buy|short sell)",
        says="insufficient qty available for order (requested: {requested}, available: {available})",
        meaning="more than is held: no order leads from long to short or back",
        remedy="The bot closes a position first.",
        source="https://github.com/alpacahq/Alpaca-API/issues/90",
    ),
    Refusal(
        code="not_tradable",
        kind="order",
        status=422,
        number=42210000,
        text="asset .*not (found|active|tradable|tradeable)|not a valid symbol",
        says="asset {symbol} is not tradable",
        meaning="the share is halted, delisted or unknown there",
        remedy="Look at the ticker, and leave it out of [market] watchlist where it is gone.",
        source=_ERRORS,
    ),
)

# What the table does not know is of the order, so that the rest goes on.
OTHER: Final = Refusal(
    code="broker",
    kind="order",
    status=0,
    number=0,
    text="",
    says="",
    meaning="the broker refused it for a reason of its own, which stands beside the code",
    remedy="Read the reason.",
    source=_ERRORS,
)
BY_CODE: Final = {refusal.code: refusal for refusal in (*REFUSALS, OTHER)}


def classify(status: int, text: str) -> Refusal:
    """Return what an answer of the broker means; `OTHER` where no row fits."""
    for refusal in REFUSALS:
        if status == 429 or re.search(refusal.text, text, re.IGNORECASE):
            return refusal  # the first row is that of 429
    return OTHER


def classify_code(code: str) -> Kind:
    """Return the class of a code of the ledger."""
    return BY_CODE.get(code, OTHER).kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """What the broker says of an account that keeps it from trading. Empty tuples where nothing does."""

    blocks: tuple[str, ...] = ()
    """Nothing may be opened; sentences."""
    notes: tuple[str, ...] = ()
    """What a person should know, and that stops nothing."""
    shorting: bool = True
