"""What the other tickers of the watchlist did in the same minute. Pure.

The sums are of whole numbers, so that neither the order of the tickers nor how many are added at a time changes a bit.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

IntArray = npt.NDArray[np.int64]
LOG_UNIT: Final = 1e-9
"""Log returns are counted in billionths: a cent on 200 USD is 50,000 of them."""
PEER_HORIZONS: Final = (5, 15, 30)
"""Minutes over which a ticker is compared with the rest of the watchlist."""
OWN: Final = tuple(f"own_{minutes}" for minutes in PEER_HORIZONS)
PEERS: Final = tuple(f"peers_{minutes}" for minutes in PEER_HORIZONS)


def add_peers(frame: pl.DataFrame, *minute: str) -> pl.DataFrame:
    """Turn own_5, own_15, own_30 into units of volatility, and add the mean of the other tickers' at that minute.

    frame: all tickers, those columns in whole LOG_UNITs. minute: the columns that tell minutes apart.
    """
    sums = {name: (pl.col(name).count().over(minute), pl.col(name).sum().over(minute)) for name in OWN}
    return _divide(frame, sums)


def _divide(frame: pl.DataFrame, sums: dict[str, tuple[pl.Expr, pl.Expr]]) -> pl.DataFrame:
    def average_peers(name: str) -> pl.Expr:
        z, (count, total) = pl.col(name), sums[name]
        others = count.cast(pl.Int64) - z.is_not_null().cast(pl.Int64)
        return pl.when(others > 0).then((total - z.fill_null(0)) / others * LOG_UNIT)

    return frame.with_columns(
        average_peers(own).alias(name) for own, name in zip(OWN, PEERS, strict=True)
    ).with_columns(pl.col(name) * LOG_UNIT for name in OWN)


class PeerSums:
    """The same for tickers that come one after the other: first all are added, then each gets its peers.

    sessions: as `grid.find_sessions` gives them: session_no, oldest, session_minutes.
    """

    def __init__(self, sessions: pl.DataFrame) -> None:
        """Begin without a ticker."""
        number, oldest, minutes = (
            sessions[name].to_numpy().astype(np.int64) for name in ("session_no", "oldest", "session_minutes")
        )
        # the place of a session's minute 0 in one long row of all minutes
        self._begins = np.zeros(int(number.max(initial=-1)) + 1, dtype=np.int64)
        self._begins[number] = np.cumsum(minutes) - minutes - oldest
        self._counts, self._totals = ({name: np.zeros(int(minutes.sum()), np.int64) for name in OWN} for _ in range(2))

    def add(self, frame: pl.DataFrame) -> None:
        """Count a ticker. frame: session_no, minute, and own_5, own_15, own_30 in whole LOG_UNITs."""
        place = self._find_place(frame)
        for name in OWN:
            known = frame[name].is_not_null().to_numpy()
            np.add.at(self._counts[name], place[known], 1)
            np.add.at(self._totals[name], place[known], frame[name].drop_nulls().to_numpy())

    def add_peers(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Do for a ticker that was added what `add_peers` does for all at once."""
        place = self._find_place(frame)
        further = {f"_{kind} {name}": sums[name][place] for kind, sums in self._name_sums() for name in OWN}
        sums = {name: (pl.col(f"_count {name}"), pl.col(f"_total {name}")) for name in OWN}
        return _divide(frame.with_columns(**{name: pl.Series(values) for name, values in further.items()}), sums).drop(
            *further
        )

    def _name_sums(self) -> tuple[tuple[str, dict[str, IntArray]], ...]:
        return (("count", self._counts), ("total", self._totals))

    def _find_place(self, frame: pl.DataFrame) -> IntArray:
        number, minute = (frame[name].to_numpy().astype(np.int64) for name in ("session_no", "minute"))
        place: IntArray = self._begins[number] + minute
        return place
