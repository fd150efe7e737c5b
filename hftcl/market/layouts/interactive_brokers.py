"""Interactive Brokers through ib_async or ib_insync.

`util.df(bars)`; the stamps carry an offset or are in the zone that TWS was logged in with.
https://ib-api-reloaded.github.io/ib_async/api.html
"""

from typing import Final

from hftcl.market.layouts import Layout

LAYOUT: Final = Layout(
    name="interactive_brokers",
    title="Interactive Brokers through ib_async or ib_insync",
    page="https://ib-api-reloaded.github.io/ib_async/api.html",
    checked="the vendor's page, files in public code",
    marks=frozenset({"date", "open", "high", "low", "close", "volume", "average", "barcount"}),
    columns={"ts": ("date",)},
    label="start",
)
