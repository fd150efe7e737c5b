"""Which bars were these: a short digest of each ticker's session, so that a record can tell when they were corrected.

Pure.
"""

import hashlib
from collections.abc import Mapping
from datetime import date
from typing import Final

import polars as pl

_PRICES: Final = ("open", "high", "low", "close")
_DIGITS: Final = 6  # a ten-thousandth of a basis point: below any tick, above the rounding of a division by a split
_HEX: Final = 12  # 48 bits a ticker and session: a change that stays unseen by chance is one in 10^14


def compute_bars_digests(frame: pl.DataFrame) -> dict[date, dict[str, str]]:
    """Return, by session and ticker, 12 hexadecimal digits of its bars.

    frame: ticker, ts, session, open, high, low, close, volume; sorted by ticker and ts. Prices count as multiples of
    the session's first open and volume as a share of the session's, so that a later split changes nothing.
    """
    found: dict[date, dict[str, str]] = {}
    for (day, ticker), rows in frame.partition_by("session", "ticker", as_dict=True, maintain_order=True).items():
        first, total = rows["open"][0], rows["volume"].sum()
        digest = hashlib.sha256(rows["ts"].to_physical().to_numpy().tobytes())
        for name in _PRICES:
            digest.update((rows[name].cast(pl.Float64) / first).round(_DIGITS).to_numpy().tobytes())
        digest.update((rows["volume"].cast(pl.Float64) / (total or 1.0)).round(_DIGITS).to_numpy().tobytes())
        found.setdefault(day, {})[ticker] = digest.hexdigest()[:_HEX]
    return found


def format_bars(digests: Mapping[str, str]) -> str:
    """Return the digests of one session as a record row keeps them: "AAPL:0123456789ab AMD:...", sorted."""
    return " ".join(f"{ticker}:{digest}" for ticker, digest in sorted(digests.items()))


def holds(kept: str, present: Mapping[str, str]) -> bool:
    """Whether a row that was scored on `kept` still stands, as far as the bars of `present` can tell.

    Not where a ticker's bars are others now, and not where a ticker has bars that it had none of. One that is not there
    any more, such as one that was left out for its coverage, tells nothing.
    """
    before = dict(part.split(":", 1) for part in kept.split())
    return all(before.get(ticker) == digest for ticker, digest in present.items())
