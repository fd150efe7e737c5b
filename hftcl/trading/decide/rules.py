"""How a bot is to trade, and what keeps a model from trading at all. Values only."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from hftcl.model.feature import Feature
from hftcl.model.features import FEATURES
from hftcl.strategy.risk import Code, Limits
from hftcl.trading.decide.model_in_use import ModelInUse


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How the bot is to trade, from the settings and the edge.

    max_model_age_days: None in a replay, where the bars are older than the model. may_trade: whether the model may
    move this broker's money; it may always in a paper account.
    """

    limits: Callable[[int, int], Limits]
    """(tickers, flat_minutes_before_close) -> what no order may lead beyond."""
    watchlist: tuple[str, ...]
    """Each ticker has its part of the capital, whether or not all have bars, as in exam and record."""
    flat_minutes: int
    """Before the close, where there is no model to say."""
    grace: timedelta
    max_model_age_days: float | None
    may_trade: Callable[[ModelInUse], bool]
    features: tuple[Feature, ...] = FEATURES
    """What is computed for each bar."""

    def find_hold(self, in_use: ModelInUse | None, now: datetime) -> Code | None:
        """Return why a model may open nothing at all, whatever the data say; None where it may."""
        if in_use is None:
            return Code.HOLD_NO_MODEL
        if self.max_model_age_days is not None and in_use.compute_age_days(now) > self.max_model_age_days:
            return Code.HOLD_MODEL_OLD
        return None if self.may_trade(in_use) else Code.HOLD_STAND_ASIDE

    def explain_hold(self, in_use: ModelInUse | None, now: datetime) -> str:
        """Say so to a person, "" where nothing keeps it from trading."""
        code = self.find_hold(in_use, now)
        if in_use is None:
            return "There is no model to trade with. `hftcl retrain` trains one."
        if code is Code.HOLD_MODEL_OLD:
            return (
                f"Model {in_use.model_id} was trained {in_use.compute_age_days(now):.0f} days ago, and [trade] "
                f"max_model_age_days is {self.max_model_age_days:g}. `hftcl retrain` trains a newer one."
            )
        if code is Code.HOLD_STAND_ASIDE:
            return f"Model {in_use.model_id} may not trade real money: its record does not let it (`hftcl docs edge`)."
        if in_use.model.meta.idle:
            return f"Model {in_use.model_id} trades nothing: {in_use.model.meta.idle}."
        return ""
