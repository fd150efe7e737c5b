"""FirstRate Data. Stamps are US Eastern time and the start of the minute; the name tells adjusted from UNADJUSTED.

https://firstratedata.com/about/FAQ
"""

from typing import Final

from hftcl.market.layouts import Layout

LAYOUT: Final = Layout(
    name="firstrate",
    title="FirstRate Data",
    page="https://firstratedata.com/about/FAQ",
    order=("ts", "open", "high", "low", "close", "volume"),
    shape=r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\|",
    files=r"^(?P<ticker>[A-Za-z0-9.\-]+)_(?:full|(?:first|last)\w*|\d+\w*)_\d+(?:min|hour|day)",
    needs_name=True,
    zone="America/New_York",
    label="start",
)
