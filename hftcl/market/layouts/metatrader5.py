"""MetaTrader 5, exported bars. Stamps are in the broker's time, often that of Athens, and the start of the minute.

Apart by tabs. "Period start time", by https://docs.mql4.com/constants/structures/mqlrates.

https://www.metatrader5.com/en/terminal/help/trading_advanced/history
"""

from typing import Final

from hftcl.market.layouts import Layout

LAYOUT: Final = Layout(
    name="metatrader5",
    title="MetaTrader 5, exported bars",
    page="https://www.metatrader5.com/en/terminal/help/trading_advanced/history",
    checked="files in public code",
    marks=frozenset({"<date>", "<time>", "<open>", "<high>", "<low>", "<close>", "<tickvol>"}),
    files=r"^(?P<ticker>[A-Za-z0-9.#\-]+?)_M1_\d{8,12}_\d{8,12}",
    columns={"volume": ("<vol>",)},
    label="start",
    advice='<VOL> is 0 with brokers of CFDs: set [files] columns = { volume = "<TICKVOL>" } to use the ticks.',
)
