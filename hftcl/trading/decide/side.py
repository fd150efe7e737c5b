"""One side of the bot, production or shadow: a desk, the model that it trades for, and what that decides."""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import polars as pl

from hftcl.ledger.rows import Decision
from hftcl.model.features import Feature
from hftcl.strategy.risk import Code
from hftcl.strategy.weights import weigh
from hftcl.trading.decide.codes import SILENT
from hftcl.trading.decide.model_decisions import ModelDecisions
from hftcl.trading.decide.model_in_use import ModelInUse
from hftcl.trading.execute.desk import Desk
from hftcl.trading.execute.minute import REBALANCE, DesiredPosition, MinuteContext


@dataclass(slots=True, kw_only=True)
class Side:
    """A desk and the model that it trades for. targets: of the minute before, by ticker."""

    desk: Desk
    in_use: ModelInUse | None = None
    decisions: ModelDecisions | None = None
    targets: dict[str, float] = field(default_factory=dict)

    @property
    def reads(self) -> tuple[str, ...]:
        """The features that its model reads."""
        return self.in_use.model.meta.feature_names if self.in_use else ()

    def begin(self, seen: pl.DataFrame, watchlist: Sequence[str]) -> None:
        """Take the targets of the model as of now. seen: the session's bars with their features."""
        self.decisions, self.targets = None, {}
        if self.in_use is not None:
            model = self.in_use.model
            weight = weigh(watchlist, model.meta.volatility)
            self.decisions = ModelDecisions(model, weight, seen)
            self.targets = dict(self.decisions.last_targets)
            self.desk.model_id = self.in_use.model_id

    def correct(self, seen: pl.DataFrame, after: datetime | None, watchlist: Sequence[str]) -> None:
        """Take the targets again from the minute behind `after` on, None for the whole session: bars were corrected."""
        if after is None or self.decisions is None:
            self.begin(seen, watchlist)
        else:
            self.decisions.correct(seen, after)
            self.targets = dict(self.decisions.last_targets)

    def find_flat_minutes(self, otherwise: int) -> int:
        """Return how many minutes before the close the model holds nothing; `otherwise` where there is no model."""
        return self.in_use.model.meta.flat_minutes_before_close if self.in_use else otherwise

    def find_closing_minutes(self, otherwise: int) -> int:
        """Return how many minutes before the close everything is closed: earlier where the broker takes its time."""
        return max(self.find_flat_minutes(otherwise), 1) + self.desk.count_minutes_to_flatten()

    def build_flat_positions(self, context: MinuteContext, purpose: str = REBALANCE) -> dict[str, DesiredPosition]:
        """Return the desired positions that close every position, priced at the last good close."""
        return {
            ticker: DesiredPosition(target=0.0, price=context.prices.get(ticker, float("nan")), purpose=purpose)
            for ticker in self.desk.list_touched()
        }

    def decide(
        self,
        seen: pl.DataFrame,
        tickers: Iterable[str],
        codes: Mapping[str, Code],
        hold: Code | None,
        context: MinuteContext,
        features: Sequence[Feature],
    ) -> tuple[list[Decision], dict[str, DesiredPosition]]:
        """Return what the model makes of one minute, and what the positions shall be where data and targets allow any.

        seen: the minute's bars with their features. codes: what each ticker's data allow. hold: why nothing may be
        opened at all.
        """
        rows: dict[str, tuple[float | None, float | None]] = {}
        waiting: frozenset[str] = frozenset()
        if self.decisions is not None:
            waiting = self.decisions.find_waiting(seen, features)
            decided = self.decisions.decide(seen)
            rows = {ticker: (prediction, target) for ticker, _, prediction, target in decided.iter_rows()}
        in_use = self.in_use
        decisions, desired_positions = [], {}
        for ticker in tickers:
            prediction, target = rows.get(ticker, (None, None))
            code = hold or codes[ticker]
            if code is Code.TRADE and prediction is None:
                code = _find_wait(ticker, waiting, self.decisions)
            decisions.append(
                Decision(
                    book=self.desk.book,
                    ts=context.minute,
                    ticker=ticker,
                    model_id=in_use.model_id if in_use else None,
                    features_hash=in_use.model.meta.features_hash if in_use else None,
                    prediction=prediction,
                    target=target,
                    code=code,
                    decided_at=context.now,
                )
            )
            if target is not None and code not in SILENT:
                unchanged = self.targets.get(ticker) == target
                desired_positions[ticker] = DesiredPosition(
                    target=target, price=context.prices[ticker], unchanged=unchanged
                )
        self.targets |= {ticker: target for ticker, (_, target) in rows.items() if target is not None}
        return decisions, desired_positions


def _find_wait(ticker: str, waiting: Container[str], decisions: ModelDecisions | None) -> Code:
    """Return why there is no prediction for a bar that came in time."""
    own = decisions.model.meta.ticker_models if decisions is not None else ()
    if own and ticker not in own:
        return Code.HOLD_NO_MODEL
    if decisions is not None and ticker in decisions.novel:
        return Code.HOLD_NOVEL
    return Code.HOLD_CONTEXT if ticker in waiting else Code.HOLD_WARMUP
