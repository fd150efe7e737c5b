"""The broker `strict-paper`: an account without money that refuses, delays and falls silent as a real one does.

Its rules are `strict_judge`; its state is what happened, a line each, in its file. With `[strict_paper] weather` calls
hang, are refused for the moment, or get no answer, drawn from a seed, so that a rehearsal may be repeated.
"""

import json
import math
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hftcl.durable import convert_storage_faults
from hftcl.errors import BrokerBusyError, BrokerError, BrokerTimeoutError, IntegrityError, OrderRefusedError
from hftcl.home import locate_strict_paper
from hftcl.settings import Settings
from hftcl.trading.brokers import Account, CashMove, Fill, Flags, Order, OrderState, Status, Traits
from hftcl.trading.brokers.refusals import BY_CODE
from hftcl.trading.brokers.strict_account import StrictAccount
from hftcl.trading.brokers.strict_rules import MINUTE, AccountRules, RefusedError
from hftcl.trading.brokers.strict_state import Happening, StrictOrder

if TYPE_CHECKING:
    import polars as pl

_OVERLAP: Final = timedelta(minutes=10)  # as the broker `alpaca` looks back
_START: Final = datetime(1970, 1, 1, tzinfo=UTC)  # before any fill: all of them are asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """How often a call goes wrong, shares of calls: no answer although it was done, none and not done, 429."""

    unheard: float = 0.0
    lost: float = 0.0
    busy: float = 0.0


# Shares of calls and minutes that go wrong; chosen to be worse than a bad day of a real broker.
WEATHER: Final = {
    "fair": Weather(),
    "rain": Weather(unheard=0.01, lost=0.01, busy=0.01),
    "storm": Weather(unheard=0.05, lost=0.05, busy=0.05),
}
FILLS: Final = {"fair": (0.0, 0.0), "rain": (0.2, 0.3), "storm": (0.5, 0.6)}
"""Shares of fills that are told late, and of orders that fill in parts of one trade time."""


def build_rules(settings: Settings) -> AccountRules:
    """Return the rules that the settings ask for."""
    options = settings.strict_paper
    late, partial = FILLS[options.weather]
    return AccountRules(
        cash=options.cash,
        half_spread_bps=settings.paper.half_spread_bps,
        slippage_bps=settings.paper.slippage_bps,
        max_volume_share=settings.paper.max_volume_share,
        hard_to_borrow=frozenset(options.hard_to_borrow),
        pdt_check=options.pdt_check,
        late=late,
        partial=partial,
        seed=options.seed,
        calls_per_minute=options.calls_per_minute,
    )


class StrictPaper:
    """The account in `folder`. Time is that of the newest bars and orders: it reads no clock."""

    name = "strict-paper"
    live_money = False
    shorting = True
    turns = False
    extended_hours = False

    def __init__(self, settings: Settings, *, folder: Path, durable: bool = True) -> None:
        """Open the account, or begin one. durable: what happened survives a power cut, not only a kill.

        Raises IntegrityError for a file that is none of ours, StorageError.
        """
        self._path, self._durable = locate_strict_paper(folder), durable
        self._weather = WEATHER[settings.strict_paper.weather]
        self._random = random.Random(f"{settings.strict_paper.seed}-weather")  # noqa: S311 - reproducible, not secret
        rules = build_rules(settings)
        self.traits = Traits(calls_per_minute=rules.calls_per_minute, fractional_shorts=False)
        with convert_storage_faults("opening the strict paper account"):
            folder.mkdir(parents=True, exist_ok=True)
            self.account_now = StrictAccount(rules, self._read())
            self._file = self._path.open("ab")
        self.now = max((order.at for order in self.account_now.orders.values()), default=_START)
        self._left = rules.calls_per_minute

    def _read(self) -> Iterator[Happening]:
        if not self._path.exists():
            return
        whole, _, torn = self._path.read_bytes().rpartition(b"\n")
        if torn:  # what was being written when the process died never happened
            os.truncate(self._path, len(whole) + 1 if whole else 0)
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                one = json.loads(line)
            except ValueError:
                one = None
            if not isinstance(one, dict) or "what" not in one:
                raise IntegrityError(
                    f"{self._path}, line {number}, is not what was written. Move the file away to begin again."
                )
            yield one

    def _keep(self) -> None:
        happened, self.account_now.happened = self.account_now.happened, []
        if not happened:
            return
        with convert_storage_faults("writing the strict paper account"):
            self._file.write(b"".join(json.dumps(one).encode() + b"\n" for one in happened))
            self._file.flush()
            if self._durable:
                os.fsync(self._file.fileno())

    @contextmanager
    def _count_call(self, what: str, *, submits: str = "") -> Iterator[None]:
        """Count a call, and let the weather have its part of it."""
        try:
            self._left, until = self.account_now.call(self.now)
        except RefusedError as error:
            self._left = 0
            until = (int(self.now.timestamp()) // 60 + 1) * 60
            raise BrokerBusyError(f"429 {error.text}", datetime.fromtimestamp(until, UTC)) from error
        drawn = self._random.random() if self.now > _START else 1.0  # fair until the market is there
        weather = self._weather
        if drawn < weather.busy:
            raise BrokerBusyError("429 too many requests.", datetime.fromtimestamp(until, UTC))
        if drawn < weather.busy + weather.lost:
            raise _silence(what, submits)
        yield
        self._keep()
        if drawn < weather.busy + weather.lost + weather.unheard:
            raise _silence(what, submits)

    def room(self) -> int:
        """Return how many calls may be made in this minute."""
        return self._left

    def submit(self, order: Order) -> OrderState:
        """Take `order`, or refuse it as Alpaca would; see `Broker.submit`."""
        name = order.client_order_id
        if not (math.isfinite(order.quantity) and order.quantity):
            raise OrderRefusedError(name, f"{order.quantity} shares are no order")
        self.now = max(self.now, order.ts + MINUTE)
        with self._count_call(f"whether it took the order {name}", submits=name):
            strict_order = self.account_now.orders.get(name)
            if strict_order is None:
                try:
                    strict_order = self.account_now.submit(
                        name, order.ticker, order.quantity, order.reference_price, self.now
                    )
                except RefusedError as error:
                    refusal = error.refusal
                    raise OrderRefusedError(name, f"{refusal.status} {error.text}", refusal.code) from error
        return _build_state(strict_order)

    def find(self, client_order_id: str) -> OrderState | None:
        """Return what became of an order."""
        with self._count_call(f"the order {client_order_id}"):
            strict_order = self.account_now.orders.get(client_order_id)
        return None if strict_order is None else _build_state(strict_order)

    def open_orders(self) -> tuple[OrderState, ...]:
        """Return the orders that may still fill, oldest first."""
        with self._count_call("the open orders"):
            return tuple(_build_state(order) for order in self.account_now.open_orders())

    def cancel(self, client_order_id: str) -> None:
        """Cancel the rest of an order."""
        with self._count_call("a cancellation"):
            self.account_now.cancel(client_order_id)

    def fills(self, since: str | None) -> tuple[tuple[Fill, ...], str]:
        """Return the fills since the cursor, which is a time, and those of ten minutes before it again."""
        after = _START if since is None else datetime.fromisoformat(since)
        newest = after
        fills: list[Fill] = []
        with self._count_call("the fills"):
            for row in self.account_now.list_activities(self.now):
                if row.kind != "FILL" or (since is not None and row.at <= after - _OVERLAP):
                    continue
                newest = max(newest, row.at)
                fills.append(
                    Fill(
                        fill_id=row.activity_id,
                        client_order_id=self.account_now.by_id[row.order_id].client_order_id,
                        ticker=row.symbol,
                        quantity=row.quantity,
                        price=row.price,
                        commission=0.0,
                        ts=row.at.replace(second=0, microsecond=0),
                        at=row.at,
                    )
                )
        return tuple(fills), newest.isoformat()

    def cash_moves(self, since: date) -> tuple[CashMove, ...]:
        """Return what moved the cash beside fills on `since` and after it."""
        with self._count_call("the activities"):
            return tuple(
                CashMove(
                    activity_id=row.activity_id,
                    kind=row.kind,
                    day=row.at.date(),
                    ticker=row.symbol,
                    amount=row.cash,
                    shares=row.quantity,
                    subtype=row.subtype,
                )
                for row in self.account_now.list_activities(self.now)
                if row.kind != "FILL" and row.at.date() >= since
            )

    def account(self) -> Account:
        """Return the account, its shares valued at the last close of each ticker."""
        with self._count_call("the account"):
            now = self.account_now
            return Account(
                cash=now.cash,
                equity=now.equity,
                buying_power=now.buying_power,
                positions=dict(sorted(now.positions.items())),
                marks={symbol: now.mark(symbol) for symbol in sorted(now.positions)},
                flags=build_flags(suspended=now.suspended, blocked=now.blocked, shorting=now.shorting),
            )

    def on_bars(self, bars: "pl.DataFrame", now: datetime) -> None:
        """Let the bars trade."""
        self.now = max(self.now, now)
        rows = bars.select("ts", "ticker", "open", "close", "volume").rows()
        self.account_now.on_bars(rows, self.now)
        self._keep()

    def split(self, ticker: str, ratio: float, at: datetime) -> None:
        """Make each share of `ticker` `ratio` shares."""
        self.account_now.split(ticker, ratio, at)
        self._keep()

    def end_of_session(self, session: date) -> None:
        """Let what is still open expire."""
        self.account_now.end_session(session, self.now + MINUTE)
        self._keep()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def build_flags(*, suspended: bool, blocked: bool, shorting: bool) -> Flags:
    """Return what keeps an account from trading, in sentences."""
    blocks = [text for said, text in ((suspended, "trading is suspended by the user"), (blocked, "blocked")) if said]
    notes = [] if shorting else [BY_CODE["shorting_disabled"].meaning]
    return Flags(blocks=tuple(blocks), notes=tuple(notes), shorting=shorting)


def _silence(what: str, submits: str) -> BrokerError:
    text = f"strict-paper did not answer {what}: it rehearses an outage."
    return BrokerTimeoutError(text) if submits else BrokerError(text)


def _build_state(order: StrictOrder) -> OrderState:
    status: Status = "canceled"
    if order.working:
        status = "partially_filled" if order.filled else "open"
    elif order.status == "filled":
        status = "filled"
    return OrderState(
        client_order_id=order.client_order_id,
        status=status,
        filled=order.filled,
        broker_order_id=order.order_id,
        reason="" if status in ("open", "partially_filled", "filled") else order.status,
        average_price=order.paid / order.filled if order.filled else None,
        ticker=order.symbol,
    )
