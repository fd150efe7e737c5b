"""MetaTrader 5 through its Python package. `time` counts seconds since 1970 on the broker's clock, which is not UTC.

https://www.mql5.com/en/docs/python_metatrader5/mt5copyratesfrom_py
"""

from typing import Final

from hftcl.market.layouts import Layout

LAYOUT: Final = Layout(
    name="metatrader5_api",
    title="MetaTrader 5 through its Python package",
    page="https://www.mql5.com/en/docs/python_metatrader5/mt5copyratesfrom_py",
    checked="the vendor's page",
    marks=frozenset({"time", "open", "high", "low", "close", "tick_volume", "spread", "real_volume"}),
    columns={"ts": ("time",), "volume": ("real_volume",)},
    label="start",
    epoch_is_local=True,
)
