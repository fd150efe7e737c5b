"""LSEG (Refinitiv) Tick History, intraday summaries.

Date-Time is UTC and ends in Z, as in https://github.com/LSEG-API-Samples; which end of the interval it is was chosen in
the request. "GMT Offset" is another column, not needed.
https://developers.lseg.com/en/api-catalog/refinitiv-tick-history/refinitiv-tick-history-rth-rest-api
"""

from typing import Final

from hftcl.market.layouts import Layout

LAYOUT: Final = Layout(
    name="lseg",
    title="LSEG (Refinitiv) Tick History, intraday summaries",
    page="https://developers.lseg.com/en/api-catalog/refinitiv-tick-history/refinitiv-tick-history-rth-rest-api",
    checked="the vendor's samples, files in public code",
    marks=frozenset({"#ric", "date-time", "open", "high", "low", "last"}),
    columns={"ticker": ("#ric",), "ts": ("date-time",), "close": ("last",)},
    suffix=r"\.(?:O|OQ|N|NB|K|P|A)$",
)
