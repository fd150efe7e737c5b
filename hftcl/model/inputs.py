"""What a model is given of a row: its features, and, where it holds a model a ticker, which of them is asked. Pure."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """The columns of a model's input.

    names: the features, in order. tickers: those that have a model of their own, in the order of their numbers, which
    are the last column; empty where one model is for all, and then there is no such column.

    >>> Inputs(names=("ret_1", "ret_5")).width, Inputs(names=("ret_1", "ret_5"), tickers=("AAPL", "AMD")).width
    (2, 3)
    """

    names: tuple[str, ...]
    tickers: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """How many columns there are."""
        return len(self.names) + bool(self.tickers)

    def is_known(self) -> "pl.Expr":
        """Whether all of it is known of a row: only there a model is trained or decides."""
        import polars as pl

        from hftcl.model.features import is_known

        known = is_known(self.names)
        return known & pl.col("ticker").is_in(list(self.tickers)) if self.tickers else known

    def build_matrix(self, rows: "pl.DataFrame") -> npt.NDArray[np.float32]:
        """Return the input for `rows`, float32 (n, width), C-ordered; NaN where a value or the ticker is not known."""
        from hftcl.model.features import build_matrix

        X = build_matrix(rows, self.names)
        if not self.tickers:
            return X
        numbers = dict(zip(self.tickers, range(len(self.tickers)), strict=True))
        names, row = np.unique(rows["ticker"].to_numpy(), return_inverse=True)
        of_name = np.array([numbers.get(name, np.nan) for name in names.tolist()], dtype=np.float32)
        return np.column_stack([X, of_name[row]])
