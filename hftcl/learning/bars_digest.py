"""Which bars were these: a short digest of each ticker's session, so that a record can tell when they were corrected.

Pure.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from hftcl.market.columns import Nature, find_nature
from hftcl.market.ticker_blocks import cut_by_ticker

_PRICES: Final = ("open", "high", "low", "close")
_DIGITS: Final = 6  # a ten-thousandth of a basis point: below any tick, above the rounding of a division by a split
_BLOCK_BARS: Final = 65_536  # 3 MB of each column of float64 and what comes of it
_HEX: Final = 12  # 48 bits a ticker and session: a change that stays unseen by chance is one in 10^14


def compute_bars_digests(
    frame: pl.DataFrame, further: Sequence[str] = (), *, days: Collection[date] | None = None
) -> dict[date, dict[str, str]]:
    """Return, by session and ticker, 12 hexadecimal digits of its bars.

    frame: ticker, ts, session, open, high, low, close, volume; sorted by ticker and ts. Prices count as multiples of
    the session's first open and volume as a share of the session's, so that a later split changes nothing. further:
    numbers of the bars that features read, which count too. days: the sessions that are wanted; None: all.
    """
    found: dict[date, dict[str, str]] = {}
    bars = frame.select("ticker", "ts", "session", *_PRICES, "volume", *further)
    for cut in cut_by_ticker(bars, _BLOCK_BARS):
        block = bars[cut] if days is None else bars[cut].filter(pl.col("session").is_in(list(days)))
        for session, ticker, digest in _digest_block(block, further):
            found.setdefault(session, {})[ticker] = digest
    return found


def _find_begins(rows: pl.DataFrame) -> list[int]:
    """Return the rows where another ticker or session begins; the first is one."""
    other = pl.any_horizontal(pl.col("ticker", "session").ne_missing(pl.col("ticker", "session").shift()))
    return rows.select(other.arg_true()).to_series().to_list()


def _digest_block(block: pl.DataFrame, further: Sequence[str]) -> Iterator[tuple[date, str, str]]:
    """Yield session, ticker and digest of each session of a ticker, whose bars are all in `block`."""
    begins = _find_begins(block)
    cuts = list(pairwise([*begins, block.height]))
    firsts = block["open"].cast(pl.Float64).gather(begins).to_numpy()
    totals = np.array([float(block["volume"].slice(begin, end - begin).sum()) or 1.0 for begin, end in cuts])
    sizes = np.diff([*begins, block.height])
    columns = [
        block["ts"].to_physical().to_numpy(),
        *(_divide(block[name], firsts, sizes) for name in _PRICES),
        _divide(block["volume"], totals, sizes),
        *(_divide(block[name], _find_unit(name, firsts, totals), sizes) for name in further),
    ]
    keys = block.select("session", "ticker").select(pl.all().gather(begins))
    for (session, ticker), (begin, end) in zip(keys.iter_rows(), cuts, strict=True):
        digest = hashlib.sha256(b"".join(values[begin:end].tobytes() for values in columns))
        yield session, ticker, digest.hexdigest()[:_HEX]


def sum_up_digests(digests: Mapping[date, Mapping[str, str]]) -> tuple[dict[str, str], dict[str, str]]:
    """Return 12 hexadecimal digits of each session, by ISO date, and of each ticker, by name, over all its bars.

    Where bars of one session and ticker are others later, so are those two, and the model file keeps a few KB.
    """
    by_session = {day.isoformat(): format_bars(tickers) for day, tickers in sorted(digests.items())}
    by_ticker: dict[str, str] = {}
    for day, tickers in sorted(digests.items()):
        for ticker, digest in tickers.items():
            by_ticker[ticker] = f"{by_ticker.get(ticker, '')} {day}:{digest}"
    return _hash_each(by_session), _hash_each(dict(sorted(by_ticker.items())))


def _hash_each(texts: Mapping[str, str]) -> dict[str, str]:
    return {name: hashlib.sha256(text.encode()).hexdigest()[:_HEX] for name, text in texts.items()}


def _find_unit(name: str, firsts: npt.NDArray[np.float64], totals: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return what a further column counts in, for each part: what a split changes is a share, all else is itself."""
    return {Nature.PRICE: firsts, Nature.VOLUME: totals}.get(find_nature(name), np.ones_like(firsts))


def _divide(values: pl.Series, by: npt.NDArray[np.float64], sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the values of each part as rounded multiples of that part's number."""
    # Times the reciprocal, as polars divides a column by one number: records keep digests that were made that way.
    shares = values.cast(pl.Float64) * pl.Series(np.repeat(1.0 / by, sizes))
    return shares.round(_DIGITS).to_numpy()


def hash_bars(bars: pl.DataFrame) -> str:
    """Return a SHA-256 that differs where any column of any bar does, in any bit, or the order of the bars."""
    digest = hashlib.sha256()
    for values in bars.iter_columns():
        digest.update(f"{values.name} {values.dtype} {values.len()} ".encode())
        if values.dtype == pl.String:  # tickers, each many times in a row
            runs = values.rle().struct
            digest.update("\n".join(map(str, runs.field("value"))).encode() + runs.field("len").to_numpy().tobytes())
            continue
        if values.null_count():
            digest.update(values.is_null().to_numpy().tobytes())
        physical = values.to_physical()
        digest.update(physical.fill_null(physical.dtype.is_numeric() and 0).to_numpy().tobytes())
    return digest.hexdigest()


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
