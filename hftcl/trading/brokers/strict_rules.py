"""The figures of a broker's real rules, as Alpaca documents them, and what an account under them is. Pure.

Each names the page that it comes from. The refusals are those of `refusals`; `strict_judge` judges an order by them.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from hftcl.trading.brokers.refusals import Refusal

MINUTE: Final = timedelta(minutes=1)  # a bar, and the span in which calls are counted
CALLS_PER_MINUTE: Final = 200
"""A minute and account. https://alpaca.markets/support/usage-limit-api-calls"""
SHORT_MARKUP: Final = 1.03
"""A short sale takes buying power for 3 % above the price. https://docs.alpaca.markets/docs/orders-at-alpaca"""
PDT_EQUITY: Final = 25_000.0
"""USD, FINRA rule 4210(f)(8)(B) as it was. It ended on 2026-06-04, brokers may keep it until 2027-10-20:
https://www.finra.org/rules-guidance/notices/26-10 ; at Alpaca it is gone,
https://docs.alpaca.markets/us/changelog/2026-06-03-pdt-f3c04da"""
PDT_TRADES: Final = 3
"""Day trades in five sessions that an account below PDT_EQUITY may have made; the next one would mark it.
https://docs.alpaca.markets/docs/user-protection"""
PDT_SESSIONS: Final = 5  # sessions in which day trades are counted, the same rule
MARGIN_EQUITY: Final = 2_000.0
"""Below it no margin and no short sale. https://docs.alpaca.markets/docs/account-plans"""
LEAST_NOTIONAL: Final = 1.0
"""USD. https://docs.alpaca.markets/docs/fractional-trading"""


class RefusedError(Exception):
    """An order, or a call, that the broker does not take. `text` is how it words it."""

    def __init__(self, refusal: Refusal, **facts: object) -> None:
        self.refusal = refusal
        self.text = refusal.says.format(**facts) if facts else refusal.says
        super().__init__(self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRules:
    """What an account is, and what its days are like. seed: of all that is drawn.

    late: share of fills that are told one to four minutes late. partial: share of orders that fill in two halves at
    the same trade time. hard_to_borrow: tickers that are not sold short. cash_in_lieu: a split leaves whole shares and
    pays for the rest, as Alpaca did until 2021, and does where a share is not traded in parts; else the parts stay,
    https://alpaca.markets/blog/updated-terms-for-payments-in-fractional-shares/ .
    """

    cash: float = 100_000.0
    half_spread_bps: float = 0.5
    slippage_bps: float = 0.5
    max_volume_share: float = 0.1
    hard_to_borrow: frozenset[str] = frozenset()
    not_fractionable: frozenset[str] = frozenset()
    shorting: bool = True
    pdt_check: bool = False
    cash_in_lieu: bool = False
    late: float = 0.0
    partial: float = 0.0
    seed: int = 0
    calls_per_minute: int = CALLS_PER_MINUTE
