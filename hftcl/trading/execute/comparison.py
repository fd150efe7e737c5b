"""Broker and ledger, position by position: what they differ by, and what others traded. Values only."""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field

from hftcl.ledger.account import DECIMALS, SAME


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonFinding:
    """What a comparison brought that is new. gone: tickers that agree again. text: what to tell, "" for nothing."""

    gone: tuple[str, ...]
    text: str


@dataclass(slots=True)
class Comparison:
    """disputed: shares by ticker that the broker holds more than the ledger. minutes: for how many there were any.

    Alpaca's positions may be some seconds behind its orders and fills, so that what was held when they were compared
    last is no difference yet: https://github.com/alpacahq/Alpaca-API/issues/276
    """

    disputed: dict[str, float] = field(default_factory=dict)
    minutes: int = 0
    _held_before: Mapping[str, float] | None = None
    _compared: bool = False

    def begin_session(self) -> None:
        """Forget the differences of the session before; the first ones of a session are of reconciliation to tell."""
        self.disputed, self._compared, self._held_before = {}, False, None

    def compare(
        self,
        at_broker: Mapping[str, float],
        foreign: Mapping[str, float],
        held: Mapping[str, float],
        untold: Mapping[str, float],
        open_quantities: Mapping[str, tuple[float, float]],
        hands_off: Container[str],
    ) -> ComparisonFinding:
        """Find what the broker holds otherwise than the ledger, and than orders under way may explain.

        foreign: shares that others traded in the account. held: by the fills that are booked. untold: with those of
            which only the orders say that they have filled.
        """
        before = held if self._held_before is None else self._held_before
        low, high = dict(untold), dict(untold)
        for ticker, (bought, sold) in open_quantities.items():
            low[ticker], high[ticker] = untold.get(ticker, 0.0) + sold, untold.get(ticker, 0.0) + bought
        differences = {}
        for ticker in at_broker.keys() | low.keys() | held.keys() | foreign.keys():
            ours = at_broker.get(ticker, 0.0) - foreign.get(ticker, 0.0)
            bounds = (held.get(ticker, 0.0), low.get(ticker, 0.0), high.get(ticker, 0.0), before.get(ticker, 0.0))
            if ticker in hands_off or min(bounds) - SAME <= ours <= max(bounds) + SAME:
                continue
            differences[ticker] = round(ours - untold.get(ticker, 0.0), DECIMALS)
        news = sorted(ticker for ticker, shares in differences.items() if self.disputed.get(ticker) != shares)
        gone = tuple(sorted(self.disputed.keys() - differences.keys()))
        self.disputed, self._held_before = differences, dict(held)
        self.minutes = self.minutes + 1 if differences else 0
        parts = [
            f"{ticker}: {at_broker.get(ticker, 0.0):g} shares at the broker, {untold.get(ticker, 0.0):g} in the ledger"
            for ticker in news
        ]
        text = (
            f"{'; '.join(parts)}. Nothing is opened, and these tickers are left alone, while that is so. Look at "
            "the account and its trades. What is not explained within five minutes halts the bot until a "
            "person clears it."
        )
        told, self._compared = bool(news) and self._compared, True
        return ComparisonFinding(gone=gone, text=text if told else "")
