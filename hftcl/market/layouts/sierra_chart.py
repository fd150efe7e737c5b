"""Sierra Chart, exported bars. Date and Time are in the zone of the chart.

https://www.sierrachart.com/index.php?page=doc/IntradayDataFileFormat.html
"""

from typing import Final

from hftcl.market.layouts import Layout

LAYOUT: Final = Layout(
    name="sierra_chart",
    title="Sierra Chart, exported bars",
    page="https://www.sierrachart.com/index.php?page=doc/IntradayDataFileFormat.html",
    checked="the vendor's page",
    marks=frozenset({"date", "time", "open", "high", "low", "last", "volume", "numberoftrades"}),
    columns={"close": ("last",)},
    label="start",
)
