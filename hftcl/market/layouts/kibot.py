"""Kibot.

Date and time in two columns without a header, mm/dd/yyyy, the start of the minute. The form alone does not prove the
vendor, so the zone is asked for.
https://www.kibot.com/Data_Format.aspx
"""

from typing import Final

from hftcl.market.layouts import Layout

LAYOUT: Final = Layout(
    name="kibot",
    title="Kibot",
    page="https://www.kibot.com/Data_Format.aspx",
    checked="the vendor's page",
    order=("date", "time", "open", "high", "low", "close", "volume"),
    shape=r"^\d\d/\d\d/\d{4}\|\d\d:\d\d\|",
    label="start",
)
