"""Stooq, free historical data. The page names no zone, so it is asked for. Its finest bars are of five minutes.

https://stooq.com/db/h/
"""

from typing import Final

from hftcl.market.layouts import Layout

LAYOUT: Final = Layout(
    name="stooq",
    title="Stooq, free historical data",
    page="https://stooq.com/db/h/",
    checked="files in public code",
    marks=frozenset({"<ticker>", "<per>", "<date>", "<time>", "<open>", "<high>", "<low>", "<close>", "<vol>"}),
    columns={"ticker": ("<ticker>",)},
    suffix=r"\.US$",
)
