"""What a model makes of a session: predictions of bars, and the positions that follow from them."""

import numpy as np
import numpy.typing as npt
import polars as pl

from hftcl.archive.artifact import Model
from hftcl.model.features import FEATURE_NAMES
from hftcl.strategy.positions import PositionBook
from hftcl.trading.decide.live_features import BAR_KEYS


class ModelDecisions:
    """One model in one session. Each ticker weighs `weight` of the capital."""

    def __init__(self, model: Model, weight: float, seen: pl.DataFrame) -> None:
        """seen: the session's bars so far with their features; see `LiveFeatures.seen`.

        The positions are those that this model would have built up since the open: a bot that was started late, started
        again or given another model holds what one that was there all day would hold.
        """
        self.model = model
        meta = model.meta
        self._book = PositionBook(
            weight=weight,
            threshold=meta.threshold,
            horizon_minutes=meta.horizon_minutes,
            flat_minutes_before_close=meta.flat_minutes_before_close,
        )
        so_far = self.decide(seen).group_by("ticker", maintain_order=True).last()
        self.last_targets: dict[str, float] = dict(so_far.select("ticker", "target").iter_rows())

    def decide(self, seen: pl.DataFrame) -> pl.DataFrame:
        """Return ticker, ts, prediction (null where a feature is not known) and target, row for row with `seen`.

        seen: one minute's bars with their features; or, to catch up, those of several, by ts.
        """
        predicted = seen.select(*BAR_KEYS, self._predict(seen))
        positions = self._book.push(predicted)
        return predicted.select("ticker", "ts", "prediction").with_columns(positions["position"].alias("target"))

    def _predict(self, seen: pl.DataFrame) -> pl.Series:
        X: npt.NDArray[np.float32] = np.ascontiguousarray(seen.select(FEATURE_NAMES).to_numpy(), dtype=np.float32)
        is_complete = np.isfinite(X).all(axis=1)  # a feature that is not known is null, which numpy has as NaN
        predictions = np.full(len(X), np.nan, dtype=np.float32)
        if is_complete.any():
            predictions[is_complete] = self.model.predict(X[is_complete])
        return pl.Series("prediction", predictions, nan_to_null=True)
