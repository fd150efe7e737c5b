"""Whose bars are these? The ticker in the name of a file or in a cell. Pure.

The rule, which docs/files.md tells too: the layout's own pattern; else a part `ticker=AAPL` of the path; else the name
up to the first "_", blank or comma, in capitals but for BACpK and the like, and a single letter after that is the class
of a share: BRK_B is BRK.B. A name that is a date or a number has the ticker of its folder.
"""

import re
from collections.abc import Iterable
from pathlib import PurePath
from typing import Final

from hftcl.market.layouts import Layout

_ENDINGS: Final = re.compile(r"(\.(csv|txt|tsv|parquet|pq|gz|bz2|zst|zip))+$", re.IGNORECASE)
_HIVE: Final = re.compile(r"^(?:ticker|symbol|sym)=(.+)$", re.IGNORECASE)
_NO_TICKER: Final = re.compile(
    r"^(\d[\d.\-:T]*|part.*|data|bars|chunk.*|file.*|minute.*|[0-9a-f]{16,})$", re.IGNORECASE
)
_INTERVAL: Final = re.compile(r"-(1m|1min|m1|minute|1minute)([-.].*)?$", re.IGNORECASE)
_CLASS: Final = re.compile(r"^([A-Z]{1,5})[-/_ .]([A-Z])$")
_BLOOMBERG: Final = re.compile(r" [A-Z]{2} Equity$", re.IGNORECASE)
# Preferred, when-issued and rights, as Polygon writes them: BACpK, TpC, XYZw.
_KIND: Final = re.compile(r"^[A-Z]{1,5}(p[A-Z]?|w|r)$")
_WORDS: Final = re.compile(
    r"^(1?min(ute)?s?|1m|m1|\d+|full|adj\w*|unadj\w*|bars?|data|dirty|clean|\d{4}.*|[a-z]|ohlcv.*|intraday|us)$",
    re.IGNORECASE,
)


def read_ticker_in_cell(text: str, layout: Layout) -> str:
    """Return the ticker that a cell means: stripped, what the vendor adds cut off, "aapl" in capitals, TpC as it is."""
    ticker = _BLOOMBERG.sub("", text.strip())
    if layout.suffix:
        ticker = re.sub(layout.suffix, "", ticker, flags=re.IGNORECASE)
    return ticker.upper() if ticker == ticker.lower() else ticker


def read_ticker_of_path(path: PurePath, folder: PurePath, layout: Layout, inner: str = "") -> str:
    """Return the ticker whose bars a file without a ticker column holds."""
    name = PurePath(inner).name or path.name
    if layout.files and (match := re.search(layout.files, name, re.IGNORECASE)) and "ticker" in match.groupdict():
        return match["ticker"].upper()
    parents = _list_parents(path, folder)
    for part in (*parents, _ENDINGS.sub("", path.name)):
        if hive := _HIVE.match(part):
            return read_ticker_in_cell(hive[1], layout)
    stem = _INTERVAL.sub("", _ENDINGS.sub("", name))
    words = [word for word in re.split(r"[_ ,()]+", stem) if word]
    if not words or _NO_TICKER.match(words[0]):
        outer = next((part for part in reversed(parents) if not _NO_TICKER.match(part) and "=" not in part), "")
        return _ENDINGS.sub("", outer).upper() if outer else stem.upper()
    if len(words) > 1 and re.fullmatch(r"[A-Z]", words[1]) and words[0].isalpha():
        return f"{words[0].upper()}.{words[1]}"
    return _to_capitals(words[0])


def is_named_after(path: PurePath, ticker: str) -> bool:
    """Whether the name of a file is that ticker and words about the bars, and no other ticker's."""
    words = [word for word in re.split(r"[_ ,()]+", _ENDINGS.sub("", path.name)) if word]
    if not words or _NO_TICKER.match(words[0]):
        return False
    return _to_capitals(words[0]) == ticker and all(_WORDS.match(word) for word in words[1:])


def _to_capitals(word: str) -> str:
    return word if _KIND.match(word) else word.upper()


def is_copy(path: PurePath) -> PurePath | None:
    """Return the name without " (1)", which a browser adds to a file that is there already; None for other names."""
    match = re.search(r" ?\(\d+\)(?=\.)", path.name)
    return path.with_name(path.name.replace(match[0], "", 1)) if match else None


def find_ticker(ticker: str, candidates: Iterable[str]) -> str | None:
    """Return the name under which `candidates` has `ticker`: itself, else what writes its class of shares otherwise."""
    names = set(candidates)
    if ticker in names:
        return ticker
    alike = [name for name in names if to_plain_name(name) == to_plain_name(ticker)]
    return alike[0] if len(alike) == 1 else None


def to_plain_name(ticker: str) -> str:
    """Return `ticker` with the class of a share after a point: what BRK-B, BRK_B and BRK/B have in common."""
    return _CLASS.sub(r"\1.\2", ticker)


def _list_parents(path: PurePath, folder: PurePath) -> tuple[str, ...]:
    try:
        return path.relative_to(folder).parts[:-1]
    except ValueError:
        return ()
