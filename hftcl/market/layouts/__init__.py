"""What a vendor's file of minute bars looks like, as data: one `Layout` a vendor, found by entry point and by columns.

A stranger adds one by an entry point of the group `hftcl.layouts` whose object is a `Layout`. Pure but for the look-up.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, Literal

from hftcl.entry_points import list_entry_points
from hftcl.errors import ConfigError
from hftcl.market.layouts.sheet import Sheet
from hftcl.plug_ins import build_not_installed, load_plug_in

ROLES: Final = ("ticker", "ts", "date", "time", "open", "high", "low", "close", "volume")
"""What a column may mean: `ts` is date and time in one, `date` and `time` are in two."""

ALSO_CALLED: Final[Mapping[str, tuple[str, ...]]] = {
    "ticker": ("ticker", "symbol", "sym", "#ric", "ric", "<ticker>", "instrument_symbol"),
    "ts": ("ts", "timestamp", "datetime", "date/time", "date time", "date_time", "date-time", "time_utc", "open_time",
           "open time", "window_start", "ts_event", "gmt time", "local time", "utc time"),
    "date": ("date", "<date>", "<dtyyyymmdd>", "day", "trade_date"),
    "time": ("time", "<time>", "t"),
    "open": ("open", "<open>", "o", "first", "open_price", "firsttradeprice"),
    "high": ("high", "<high>", "h", "high_price", "hightradeprice"),
    "low": ("low", "<low>", "l", "low_price", "lowtradeprice"),
    "close": ("close", "<close>", "c", "last", "close_price", "lasttradeprice"),
    "volume": ("volume", "<vol>", "vol", "v", "<volume>", "tradevolume", "total volume"),
}  # fmt: skip
"""Names that mean the same with every vendor; in lower case, the likelier first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How one vendor writes minute bars.

    marks: cells of the header, in lower case, that only this vendor has together. order: what the columns of a file
    without a header mean; "" is a column of no use. shape: what its first cells look like, joined by "|". files:
    pattern of the file's name, `ticker` in it the ticker. columns: what to call by another name than ALSO_CALLED.
    zone: of stamps that name none, only where the vendor says it of every file. label: which end of its minute a
    stamp is. date_order: of day and month. price_divisor: what a price is divided by (a product with 1e-9 would
    differ in the last bit). suffix: pattern of what follows a ticker, cut off. epoch_is_local: numbers count in the
    zone of the file, not in UTC. reshape: turns another form of table into rows of bars. advice: what to do where a
    column lacks. checked: what the row was compared with: the vendor's page, or files of his in public code.
    """

    name: str
    title: str
    page: str
    checked: str = "not verified"
    marks: frozenset[str] = frozenset()
    order: tuple[str, ...] = ()
    shape: str = ""
    files: str = ""
    needs_name: bool = False
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    zone: str = ""
    label: Literal["", "start", "end"] = ""
    date_order: Literal["", "dmy", "mdy"] = ""
    price_divisor: float = 1.0
    suffix: str = ""
    adjusted: bool | None = None
    epoch_is_local: bool = False
    reshape: Callable[[Sheet], Sheet] | None = None
    applies: Callable[[Sheet], bool] | None = None
    advice: str = ""

    def match(self, sheet: Sheet) -> int:
        """Return how well `sheet` is of this vendor: 0 for not at all."""
        named = bool(self.files) and re.search(self.files, sheet.inner or sheet.path.name, re.IGNORECASE) is not None
        if self.needs_name and not named:
            return 0
        if self.applies is not None:
            return 100 if self.applies(sheet) else 0
        if sheet.header and self.marks:
            cells = {cell.strip().lower() for cell in sheet.header[0]}
            return 10 * len(self.marks) + named if self.marks <= cells else 0
        if not sheet.header and self.order:
            first = "|".join(sheet.sample[0]) if sheet.sample else ""
            fits = len(self.order) == len(sheet.columns) and re.search(self.shape, first) is not None
            return 5 + 10 * named if fits else 0
        return 0


GENERIC: Final = Layout(
    name="generic",
    title="columns by their usual names",
    page="https://en.wikipedia.org/wiki/Comma-separated_values",
    checked="-",
)


@cache
def find_layouts() -> Mapping[str, Layout]:
    """Return every layout that is installed, by name. Raises ConfigError for an entry point that is no Layout."""
    layouts = {GENERIC.name: GENERIC}
    for _, point in sorted(list_entry_points("hftcl.layouts").items()):
        layout = load_plug_in(point)
        if not isinstance(layout, Layout):
            raise ConfigError(
                f"The layout {point.name!r} ({point.value}) is no hftcl.market.layouts.Layout. "
                "Repair or remove the package."
            )
        layouts[point.name] = layout
    return layouts


def find_layout(name: str) -> Layout:
    """Return the layout of that name. Raises ConfigError naming those that are installed."""
    layouts = find_layouts()
    if name not in layouts:
        raise build_not_installed("hftcl.layouts", name, ["auto", *sorted(layouts)])
    return layouts[name]


def recognise(sheet: Sheet) -> Layout:
    """Return the layout that fits best; the generic one where none does, or where two do as well as each other."""
    scores = sorted(((layout.match(sheet), name) for name, layout in find_layouts().items()), reverse=True)
    best = [name for score, name in scores if score and score == scores[0][0]]
    return find_layouts()[best[0]] if len(best) == 1 else GENERIC


def map_columns(
    sheet: Sheet, layout: Layout, choices: Mapping[Any, str], further: Sequence[str] = ()
) -> dict[str, str]:
    """Return what the columns mean: role -> name of the column. `choices`, the user's own, goes before everything.

    further: numbers beside ours, each in the column of its own name where no choice says otherwise.
    """
    if not sheet.header:
        return {**_list_of_order(sheet, layout), **_list_of_places(sheet, choices)}
    plain: dict[str, str] = {}
    for name in sheet.columns:
        plain.setdefault(name.strip().lower(), name)
    roles: dict[str, str] = {}
    for role in ROLES:
        exact = choices.get(role)
        if exact is not None:
            column = exact if exact in sheet.columns else plain.get(exact.strip().lower())
            if column is not None:
                roles[role] = column
            if column is not None or layout.reshape is None:
                continue
        names = (*layout.columns.get(role, ()), *ALSO_CALLED[role])
        free = [
            plain[name] for name in names if name in plain and (name == role or plain[name] not in choices.values())
        ]
        if free:
            roles[role] = free[0]
    named = {name: choices.get(name, name).strip().lower() for name in further}
    return _settle_time(roles, choices, sheet) | {name: plain[text] for name, text in named.items() if text in plain}


def _settle_time(roles: dict[str, str], choices: Mapping[Any, str], sheet: Sheet) -> dict[str, str]:
    """Let one column of moments go before two of date and time; a lone date or time is the moment itself."""
    if "T" in sheet.columns and "t" in sheet.columns and "ticker" not in roles:
        roles |= {"ticker": "T", "time": "t"}
    if "ts" in roles and not {"date", "time"} & choices.keys():
        roles.pop("date", None)
        roles.pop("time", None)
    elif "date" in roles and "time" in roles:
        roles.pop("ts", None)
    elif "date" in roles or "time" in roles:
        roles["ts"] = roles.pop("date") if "date" in roles else roles.pop("time")
    return roles


def _list_of_order(sheet: Sheet, layout: Layout) -> dict[str, str]:
    order = layout.order or _guess_order(sheet.sample[0] if sheet.sample else ())
    return {role: name for role, name in zip(order, sheet.columns, strict=False) if role}


def _list_of_places(sheet: Sheet, choices: Mapping[Any, str]) -> dict[str, str]:
    return {role: place for role, place in choices.items() if place in sheet.columns}


def _guess_order(cells: Sequence[str]) -> tuple[str, ...]:
    """Return what the columns of a file without a header are, in the order that nearly all vendors keep."""
    if len(cells) > 2 and re.fullmatch(r"\d{1,2}:\d{2}(:\d{2})?", cells[1]):
        return ("date", "time", "open", "high", "low", "close", "volume")
    if len(cells) > 2 and re.fullmatch(r"[A-Za-z.\-]{1,8}", cells[0]):
        return ("ticker", "ts", "open", "high", "low", "close", "volume")
    return ("ts", "open", "high", "low", "close", "volume")
