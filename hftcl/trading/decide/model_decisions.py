"""What a model makes of a session: predictions of bars, and the positions that follow from them."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from hftcl.archive.artifact import Model
from hftcl.model.context import find_waiting
from hftcl.model.feature import Feature
from hftcl.strategy.positions import PositionBook, Weight
from hftcl.trading.decide.live_features import BAR_KEYS


class ModelDecisions:
    """One model in one session. weight: of the capital, see `strategy.weights`."""

    def __init__(self, model: Model, weight: Weight, seen: pl.DataFrame) -> None:
        """seen: the session's bars so far with their features; see `LiveFeatures.seen`.

        The positions are those that this model would have built up since the open: a bot that was started late, started
        again or given another model holds what one that was there all day would hold.
        """
        self.model = model
        self._weight = weight
        self._book = self._build_book()
        self.last_targets: dict[str, float] = {}
        """The newest target of each ticker."""
        self.novel: frozenset[str] = frozenset()
        """Tickers of the bars that were decided on last, of which one lay too far from the training for a signal."""
        self._predicted: list[pl.DataFrame] = []
        self.decide(seen)

    def _build_book(self) -> PositionBook:
        meta = self.model.meta
        return PositionBook(
            weight=self._weight,
            threshold=meta.threshold,
            horizon_minutes=meta.horizon_minutes,
            flat_minutes_before_close=meta.flat_minutes_before_close,
            side=meta.side,
        )

    def decide(self, seen: pl.DataFrame) -> pl.DataFrame:
        """Return ticker, ts, prediction (null where a feature is not known) and target, row for row with `seen`.

        seen: one minute's bars with their features; or, to catch up, those of several, by ts.
        """
        predicted = seen[list(BAR_KEYS)].hstack([self._predict(seen)])
        self._predicted.append(predicted)
        return self._place(predicted)

    def correct(self, seen: pl.DataFrame, after: datetime) -> None:
        """Decide again on the bars after `after`, which have come late or otherwise; `seen` has all of today.

        Earlier predictions stay; of positions those signals count that lie within the horizon.
        """
        again = seen.filter(pl.col("ts") > after)
        kept = pl.concat(self._predicted).filter(pl.col("ts") <= after)
        self._predicted = [kept, again.select(*BAR_KEYS, self._predict(again))]
        self._book = self._build_book()
        counts = pl.col("ts") > after - timedelta(minutes=self.model.meta.horizon_minutes)
        self._place(pl.concat([kept.filter(counts), self._predicted[1]]))

    def find_waiting(self, seen: pl.DataFrame, table: Sequence[Feature]) -> frozenset[str]:
        """Return the tickers that lack a prediction for what it reads of silent context tickers alone.

        seen: one minute's bars with their features, all of `table`.
        """
        meta = self.model.meta
        reads_context = any(" " in column for column in meta.columns)  # most models read none
        return find_waiting(seen, meta.feature_names, table) if reads_context else frozenset()

    def _place(self, predicted: pl.DataFrame) -> pl.DataFrame:
        positions = self._book.push(predicted)
        targets = positions["position"].alias("target")
        tickers = predicted["ticker"].to_list()
        self.last_targets |= dict(zip(tickers, targets.to_list(), strict=True))  # by ts: the newest stays
        return pl.DataFrame([*(predicted[name] for name in ("ticker", "ts", "prediction")), targets])

    def _predict(self, seen: pl.DataFrame) -> pl.Series:
        X = self.model.meta.inputs.build_matrix(seen)
        is_complete = np.isfinite(X).all(axis=1)  # a feature that is not known is null, which numpy has as NaN
        predictions = np.full(len(X), np.nan, dtype=np.float32)
        novel = np.zeros(len(X), dtype=np.bool_)
        if is_complete.any():
            novel[is_complete] = self.model.find_novel(X[is_complete])
            predictions[is_complete] = self.model.predict(X[is_complete])
            predictions[novel] = np.nan
        self.novel = frozenset(seen["ticker"].filter(pl.Series(novel)))
        return pl.Series("prediction", predictions, nan_to_null=True)
