"""HistData.com, generic ASCII. Stamps are Eastern Standard Time the whole year, without a summer time.

Prices are bids, and the volume is 0 in each row: such bars are dropped, with that reason.

https://www.histdata.com/f-a-q/data-files-detailed-specification/
"""

from typing import Final

from hftcl.market.layouts import Layout

LAYOUT: Final = Layout(
    name="histdata",
    title="HistData.com, generic ASCII",
    page="https://www.histdata.com/f-a-q/data-files-detailed-specification/",
    checked="the vendor's page",
    order=("ts", "open", "high", "low", "close", "volume"),
    shape=r"^\d{8} \d{6}\|",
    files=r"^DAT_ASCII_(?P<ticker>[A-Z0-9]+)_M1_",
    needs_name=True,
    zone="Etc/GMT+5",
    label="start",
)
