"""AlgoSeek, minute bars of trades. US Eastern time; TimeBarStart is the start of the minute.

https://www.algoseek.com/ml4t-book-data.html
"""

from typing import Final

from hftcl.market.layouts import Layout

LAYOUT: Final = Layout(
    name="algoseek",
    title="AlgoSeek, minute bars of trades",
    page="https://www.algoseek.com/ml4t-book-data.html",
    checked="the vendor's page",
    marks=frozenset({"timebarstart", "firsttradeprice", "hightradeprice", "lowtradeprice", "lasttradeprice"}),
    columns={"date": ("date",), "time": ("timebarstart",)},
    zone="America/New_York",
    label="start",
    adjusted=False,
)
