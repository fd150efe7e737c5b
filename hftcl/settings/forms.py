"""How a field of the settings is described and limited, and the forms that several of them share."""

from typing import Any

from msgspec import Meta

# 16 characters: the longest of Polygon's, "X:" and a pair of coins, fit with room.
TICKER = 'a ticker such as "AAPL", "BRK.B", "BACpK" or "X:BTCUSD", in capitals, at most 16 characters'
# With lower case only preferred shares (p), when-issued ones (w) and rights (r), as Polygon writes them; so a slip such
# as "Aapl" is told at once. https://massive.com/docs/rest/stocks/aggregates/custom-bars: tickers are case-sensitive
TICKER_FORM = r"^([A-Z0-9][A-Z0-9.:\-]{0,15}|[A-Z]{1,6}(p[A-Z]?|w|r)(\.[A-Z0-9]{1,3})?)$"
# Options by the names of the OCC are 21 characters, https://docs.alpaca.markets/docs/options-trading , and pairs of
# coins have a slash in orders, https://docs.alpaca.markets/docs/crypto-trading : a person's account may hold either.
ASSET = 'a ticker, an option ("AAPL240119C00100000") or a pair ("BTC/USD"), in capitals, at most 21 characters'
ASSET_FORM = TICKER_FORM.replace(r"[A-Z0-9.:\-]{0,15}", r"[A-Z0-9.:/\-]{0,20}")
ZONE = 'a time zone such as "America/New_York" or "UTC"'  # names of the IANA database: "EST" would ignore summer time
NAME_FORM = r"^[a-z][a-z0-9_]*$"  # names of columns, of JSON and of TOML keys alike


def setting(
    description: str,
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    pattern: str | None = None,
    allowed: str | None = None,
) -> Meta:
    """Return what describes and limits one field of a plug-in's settings.

    As in `depth: Annotated[int, setting("Levels.", ge=1, le=9)] = 3`.

    A number needs a least value (ge, gt) and a greatest (le, lt), which also keeps NaN out; a text may have a pattern,
    and `allowed` says in words what it demands.
    """
    extra = {"allowed": allowed} if allowed else None
    limits: dict[str, Any] = {"ge": ge, "gt": gt, "le": le, "lt": lt, "pattern": pattern}
    return Meta(description=description, extra=extra, **limits)


def text(description: str, *, allowed: str | None = None, pattern: str | None = None, least: int | None = None) -> Meta:
    """Describe a text; `allowed` says in words what `pattern` (or the room that reads it) demands."""
    return Meta(
        description=description, pattern=pattern, min_length=least, extra={"allowed": allowed} if allowed else None
    )
