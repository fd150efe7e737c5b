"""What the earlier sessions of a ticker hand on to the next one: each is summed up whole first. Pure."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from hftcl.model.peers import LOG_UNIT
from hftcl.model.since_open import IntArray

EARLIER_SESSIONS: Final = 5
"""Earlier sessions that make up the usual volume of a minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedOn:
    """What the 5 earlier sessions of the same ticker hand on to each part.

    per_part: previous_close, previous_vol, usual_minute_volume Float64, a row a part; null where the ticker had no bar
        in those sessions.
    """

    per_part: pl.DataFrame
    _before: tuple[IntArray, ...]  # for each session back, the part of the same ticker, for each part; -1 for none
    _extent: tuple[IntArray, IntArray, IntArray]  # of each part: start (row of its first minute), first minute, size
    _volume_5: IntArray  # of each row

    @classmethod
    def from_frame(cls, frame: pl.DataFrame, parts: pl.DataFrame) -> "HandedOn":
        square = pl.col("r").pow(2).drop_nulls().cast(pl.Float64)  # cum_sum adds in the order of time, sum need not
        facts = frame.group_by("part", maintain_order=True).agg(
            close=pl.col("close").last(),
            vol=(square.cum_sum().last() / pl.col("r").count()).sqrt() * LOG_UNIT,
            volume=pl.col("v").sum(),
        )
        parts = parts.with_columns(facts.select("close", "vol", "volume")).with_columns(
            vol=pl.when(pl.col("vol") > 0).then("vol")  # a previous session without a move, or of one bar, is no scale
        )
        earlier = [_find_part_before(parts, back) for back in range(1, EARLIER_SESSIONS + 1)]
        minutes = sum(parts["session_minutes"].gather(before).fill_null(0) for before in earlier)
        volume = sum(parts["volume"].gather(before).fill_null(0) for before in earlier)
        per_part = pl.DataFrame(
            {
                "previous_close": parts["close"].gather(earlier[0]),
                "previous_vol": parts["vol"].gather(earlier[0]),
                "usual_minute_volume": pl.select(pl.when(minutes > 0).then(volume / minutes)).to_series(),
            }
        )
        start, first, size = (parts[name].to_numpy().astype(np.int64) for name in ("start", "first", "size"))
        return cls(
            per_part=per_part,
            _before=tuple(before.cast(pl.Int64).fill_null(-1).to_numpy() for before in earlier),
            _extent=(start, first, size),
            _volume_5=frame["volume_5"].to_numpy(),
        )

    def build_columns(self, part: npt.NDArray[np.integer], minute: npt.NDArray[np.integer]) -> pl.DataFrame:
        """Return previous_close, previous_vol, usual_minute_volume and usual_volume_5 of those minutes of those parts.

        Null where `compute_usual_volume` says so, or where the ticker had no bar in those sessions.
        """
        usual = pl.Series(self.compute_usual_volume(part, minute)).fill_nan(None)
        return self.per_part.select(pl.all().gather(pl.Series(part.astype(np.int64)))).with_columns(
            usual_volume_5=usual
        )

    def compute_usual_volume(
        self, part: npt.NDArray[np.integer], minute: npt.NDArray[np.integer]
    ) -> npt.NDArray[np.float64]:
        """Return usual_volume_5 of those minutes of those parts, NaN where no earlier session had them.

        It is the mean volume of the same five minutes over those earlier sessions that had them. A session had a minute
        if any ticker traded in it or later: after a half day's close there is nothing to compare. A minute before the
        ticker's first bar of an earlier session had volume 0.
        """
        at, now = part.astype(np.int64), minute.astype(np.int64)
        start, first, size = self._extent
        total: IntArray = np.zeros(at.size, dtype=np.int64)
        count: IntArray = np.zeros(at.size, dtype=np.int64)
        for before in self._before:
            part_before = before[at]
            offset = now - first[part_before]
            had = (part_before >= 0) & (offset < size[part_before])
            count += had
            traded = had & (offset >= 0)
            total[traded] += self._volume_5[(start[part_before] + offset)[traded]]
        mean: npt.NDArray[np.float64] = np.full(at.size, np.nan)
        return np.divide(total, count, out=mean, where=count > 0)


def _find_part_before(parts: pl.DataFrame, back: int) -> pl.Series:
    """Return the part of the same ticker `back` sessions earlier, for each part; null where there is none."""
    earlier = parts.select("ticker", pl.col("session_no") + back, before="part")
    return parts.join(earlier, on=["ticker", "session_no"], how="left", maintain_order="left")["before"]
