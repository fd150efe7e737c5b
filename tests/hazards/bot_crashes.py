"""A bot that dies at any call to its ledger or broker and is started again within the minute; run by the hazards.

As a program (`python -m tests.hazards.bot_crashes HOME FIRST LAST`) it is a bot over stored bars for a test to kill.
"""

import contextlib
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from hftcl.errors import BrokerError
from hftcl.home import Home
from hftcl.ledger.reader import LedgerReader
from hftcl.ledger.writer import Ledger
from hftcl.market.bars import MINUTE
from hftcl.trading.brokers import Broker
from hftcl.trading.brokers.paper import PaperBroker
from hftcl.trading.brokers.strict import StrictPaper
from hftcl.trading.execute.reconciliation import reconcile
from tests.trading.bot_stand import DAY, Stand, session_minutes, settings_of, some_minutes, stand

LEDGER_CALLS = ("write_decisions", "write_outcomes", "set_meta", "note_closes", "write_event")
BROKER_CALLS = ("submit", "on_bars", "fills", "find", "cancel", "account", "open_orders")
BLOCKS = ("together",)


class Killed(BaseException):
    """The process ends here. Not an Exception: nothing may catch it."""


@dataclass
class Deathbed:
    """Counts calls, and dies before or after the one that was drawn."""

    random: random.Random
    mean_calls: int
    left: int = 0
    calls: Counter[str] = field(default_factory=Counter)

    def draw(self) -> None:
        self.left = self.random.randint(1, 2 * self.mean_calls)

    def around(self, owner: Any, names: tuple[str, ...]) -> None:
        """Let each of these methods of `owner` be the last one."""
        for name in names:
            setattr(owner, name, self._mortal(name, getattr(owner, name)))

    def _mortal(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @contextlib.contextmanager
        def last_around(block: AbstractContextManager[Any]) -> Iterator[Any]:
            with block as entered:
                yield entered
            self.calls[f"after the block of {name}"] += 1
            raise Killed

        def call(*args: Any, **options: Any) -> Any:
            self.left -= 1
            last, before = self.left == 0, self.random.random() < 0.5
            if last and before:
                self.calls[f"before {name}"] += 1
                raise Killed
            found = method(*args, **options)
            if last and isinstance(found, AbstractContextManager):
                return last_around(found)
            if last:  # not `left == 0`: the method may have called another of them
                self.calls[f"after {name}"] += 1
                raise Killed
            return found

        return call


@dataclass
class Lives:
    """What a run of many deaths came to."""

    deaths: int
    calls: Counter[str]
    most_orders_of_a_minute: int
    unlike: list[str]
    beyond: list[str]
    codes: dict[str, int]


def strict(home: Path, seed: int) -> StrictPaper:
    """Return the strict account of `home`, in a storm."""
    settings = settings_of(home, strict_paper={"weather": "storm", "seed": seed})
    return StrictPaper(settings, folder=home, durable=False)


def agree(ledger: Ledger, broker: Any, now: datetime) -> None:
    """Reconcile, as often as it takes until the broker answers."""
    for _ in range(100):
        try:
            reconcile(ledger, broker, now)
        except BrokerError:
            continue
        return


def lives(
    home: Path,
    *,
    seed: int,
    first: int,
    last: int,
    mean_calls: int,
    sections: Any = None,
    broker_of: Callable[[Path, int], Any] | None = None,
) -> Lives:
    """Trade the minutes `first` to `last` of a session, dying and rising; then look for what must not be."""
    deathbed = Deathbed(random.Random(seed), mean_calls)  # noqa: S311 - reproducible, not secret
    minutes, place, deaths = session_minutes(), first, 0
    while place <= last:
        options = {"broker": broker_of(home, seed + deaths)} if broker_of else {}
        bot = stand(home, first=place, sections=sections or {}, **options)
        deathbed.left = 0
        agree(bot.ledger, bot.broker, minutes[place] + MINUTE)
        deathbed.draw()
        deathbed.around(bot.ledger, LEDGER_CALLS)
        deathbed.around(bot.broker, BROKER_CALLS)
        deathbed.around(bot.broker, tuple(name for name in BLOCKS if hasattr(bot.broker, name)))
        try:
            bot.run(DAY, minutes[place : last + 1])
            place = last + 1
        except Killed:
            deaths += 1
            place = max(place, session_minutes().index(newest(bot.clock.now())))
        finally:
            bot.close()
    return _judged(home, deaths, deathbed.calls, broker_of(home, seed) if broker_of else None)


def newest(now: datetime) -> datetime:
    """Return the minute that had just ended: the one that a bot started again decides on first."""
    return now.replace(second=0, microsecond=0) - MINUTE


def _judged(home: Path, deaths: int, calls: Counter[str], strict_account: StrictPaper | None) -> Lives:
    if strict_account is not None:
        return _judged_strictly(home, deaths, calls, strict_account)
    with LedgerReader(Home.live(home).ledger) as ledger:
        orders, fills, codes = ledger.read_orders(), ledger.read_fills(), ledger.read_decisions()["code"].value_counts()
        ours, paper = ledger.read_positions(), PaperBroker(settings_of(home), folder=home, durable=False)
        limits = {name: float(ledger.open_meta()[name]) for name in ("limit_gross", "limit_net")}
        rows = ledger.read_equity()
    try:
        theirs, made = paper.account().positions, paper.fills(None)[0]
        unlike = [] if ours == theirs else [f"{ours} in the ledger, {theirs} at the broker"]
        mine = set(fills["fill_id"])
        unlike += [f"fill {fill.fill_id} is not in the ledger" for fill in made if fill.fill_id not in mine]
        sent = orders.filter(pl.col("state") != "refused")
        for order in sent.iter_rows(named=True):
            filled = sum(fill.quantity for fill in made if fill.client_order_id == order["client_order_id"])
            if abs(filled) > abs(order["quantity"]) + 1e-6:
                unlike.append(f"{order['client_order_id']} filled {filled} of {order['quantity']}")
    finally:
        paper.close()
    beyond = [f"gross {row}" for row in rows["gross"] if row > limits["limit_gross"]]
    beyond += [f"net {row}" for row in rows["net"] if abs(row) > limits["limit_net"]]
    per_minute = sent.group_by("ts", "ticker").len()["len"].to_list()
    return Lives(
        deaths=deaths,
        calls=calls,
        most_orders_of_a_minute=max(per_minute, default=0),
        unlike=unlike,
        beyond=beyond,
        codes=dict(codes.iter_rows()),
    )


def _judged_strictly(home: Path, deaths: int, calls: Counter[str], broker: StrictPaper) -> Lives:
    account = broker.account_now
    with Ledger(Home.live(home).ledger, durable=False) as late:  # fills are told up to four minutes late
        broker.now += 5 * MINUTE
        agree(late, broker, broker.now)
    broker.close()
    with LedgerReader(Home.live(home).ledger) as ledger:
        fills, codes, ours = (
            ledger.read_fills(),
            ledger.read_decisions()["code"].value_counts(),
            ledger.read_positions(),
        )
        foreign, rows = ledger.read_positions("foreign"), ledger.read_equity()
        limits = {name: float(ledger.open_meta()[name]) for name in ("limit_gross", "limit_net")}
    unlike = [] if ours == dict(sorted(account.positions.items())) else [f"{ours} unlike {account.positions}"]
    unlike += [f"foreign {foreign}"] if foreign else []
    booked = dict(fills.group_by("client_order_id").agg(pl.col("quantity").sum()).iter_rows())
    for name, order in account.orders.items():
        if abs(booked.get(name, 0.0) - order.filled) > 1e-6:
            unlike.append(f"{name}: {order.filled} filled, {booked.get(name)} booked")
    beyond = [f"gross {row}" for row in rows["gross"] if row > limits["limit_gross"]]
    return Lives(
        deaths=deaths,
        calls=calls,
        most_orders_of_a_minute=max(
            Counter((name[:24], order.symbol) for name, order in account.orders.items()).values()
        ),
        unlike=unlike,
        beyond=beyond,
        codes=dict(codes.iter_rows()),
    )


def uninterrupted(home: Path, first: int, last: int) -> dict[str, float]:
    """Return the positions after the same minutes of a bot that lives through them."""
    bot = stand(home, first=first)
    bot.run(DAY, some_minutes(first, last + 1 - first))
    bot.close()
    with LedgerReader(Home.live(home).ledger) as ledger:
        return ledger.read_positions()


def main(home: Path, first: int, last: int) -> None:
    """Trade the minutes from where a killed bot left off; say each one, so that a test knows when to kill."""
    with LedgerReader(Home.live(home).ledger) as ledger:
        decided = ledger.find_last_decided()
    minutes = session_minutes()
    place = first if decided is None else minutes.index(decided)
    bot: Stand = stand(home, first=place)
    broker: Broker = bot.broker  # type: ignore[assignment]
    sys.stdout.write(f"{reconcile(bot.ledger, broker, minutes[place] + MINUTE).text}\n")

    def said(done: Any) -> None:
        sys.stdout.write(f"{done.minute.isoformat()}\n")
        sys.stdout.flush()

    bot.loop.on_minute = said
    bot.run(DAY, minutes[place : last + 1])
    bot.close()
    sys.stdout.write("done\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
