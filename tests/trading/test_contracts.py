"""Every plug-in that is installed keeps its promises, and the checks notice one that does not."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pytest

from hftcl.contracts import check_broker, check_family, check_feed, check_source
from hftcl.errors import BrokerError, OrderRefusedError
from hftcl.market.bars import BAR_SCHEMA
from hftcl.market.hours import find_hours
from hftcl.market.sessions import Calendar
from hftcl.market.sources import BarSource, Question, Split, find_source
from hftcl.market.sources.polygon import PolygonSource
from hftcl.market.sources.synthetic import SyntheticSource
from hftcl.model.families import Family, Fitted, find_family
from hftcl.model.families.forest import Forest
from hftcl.settings import Settings
from hftcl.trading.brokers import Broker, CashMove, Fill, Order, OrderState, Traits, find_broker
from hftcl.trading.brokers.paper import PaperBroker
from hftcl.trading.brokers.strict import StrictPaper
from hftcl.trading.feeds import Delivery, Feed
from hftcl.trading.feeds.replay import StoredFeed
from tests.polygon_server import PolygonServer, synthetic_bars
from tests.trading.alpaca_server import AlpacaServer
from tests.trading.trading_cases import NOW, an_order, at, bars

FIRST, LAST, LATER = date(2025, 6, 2), date(2025, 6, 4), datetime(2025, 6, 10, tzinfo=UTC)
FEW_TREES = 24  # three of the steps in which a forest says how far it is
Prepared = tuple[Broker, Callable[[], None]]


def with_bars(broker: PaperBroker) -> Callable[[], None]:
    minute = iter(range(1, 100))
    return lambda: broker.on_bars(bars((next(minute), "AAPL", 100.0)), NOW)


@contextmanager
def paper(folder: Path) -> Iterator[Prepared]:
    broker = PaperBroker(Settings(), folder=folder, durable=False)
    yield broker, with_bars(broker)
    broker.close()


@contextmanager
def alpaca(folder: Path) -> Iterator[Prepared]:
    pytest.importorskip("alpaca", reason="alpaca-py is not installed (pip install 'hftcl[alpaca]')")
    with AlpacaServer() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("APCA_API_KEY_ID", server.keys[0])
        patch.setenv("APCA_API_SECRET_KEY", server.keys[1])
        settings = Settings()
        settings = replace(settings, alpaca=replace(settings.alpaca, base_url=server.url))
        broker = find_broker("alpaca")(settings, folder=folder)
        broker._clock = lambda: 1748880000.0  # type: ignore[attr-defined]  # the day of the stand-in's fills

        def trade() -> None:
            for name, order in server.orders.items():
                if order["status"] == "new":
                    server.fill(name, float(order["qty"]), 100.0)
            held = sum(float(row["qty"]) * (1 if row["side"] == "buy" else -1) for row in server.activities)
            server.positions = [{"symbol": "AAPL", "qty": str(held), "current_price": "100"}] if held else []

        yield broker, trade
        broker.close()


@contextmanager
def strict(folder: Path) -> Iterator[tuple[Broker, Callable[[], None]]]:
    settings = Settings()
    fair = replace(settings, strict_paper=replace(settings.strict_paper, weather="fair"))
    broker = StrictPaper(fair, folder=folder, durable=False)
    minutes = iter(range(1, 100))

    def trade() -> None:  # its time goes on with the bars
        minute = next(minutes)
        broker.on_bars(bars((minute, "AAPL", 100.0)), at(minute + 1))

    yield broker, trade
    broker.close()


BROKERS: dict[str, Any] = {"paper": paper, "strict-paper": strict, "alpaca": alpaca}


@pytest.mark.parametrize("name", sorted(point.name for point in entry_points(group="hftcl.brokers")))
def test_every_broker_keeps_its_promises(tmp_path: Path, name: str) -> None:
    if name not in BROKERS:
        pytest.skip(f"{name} is somebody else's: its own tests call check_broker")
    with BROKERS[name](tmp_path) as (broker, trade):
        assert check_broker(broker, an_order(0), trade) == ()


class Forgetful(PaperBroker):
    """Takes an order again although it knows the id, and has no sense of what a number is."""

    def submit(self, order: Order) -> OrderState:
        again = self.find(order.client_order_id) is not None
        new = replace(order, client_order_id=f"{order.client_order_id}-again") if again else order
        state = super().submit(replace(new, quantity=1.0) if not abs(order.quantity) > 0 else new)
        return replace(state, client_order_id=order.client_order_id)


class Lossy(PaperBroker):
    """Tells of half of each fill."""

    def fills(self, since: str | None) -> tuple[tuple[Fill, ...], str]:
        found, cursor = super().fills(since)
        return tuple(replace(fill, quantity=fill.quantity / 2) for fill in found), cursor


class Deaf(PaperBroker):
    """Cancels nothing."""

    def cancel(self, client_order_id: str) -> None:
        self.heard = client_order_id

    def on_bars(self, bars: pl.DataFrame, now: datetime) -> None:
        if not getattr(self, "heard", "").endswith("sent"):
            super().on_bars(bars, now)


class OneByOne(PaperBroker):
    """Takes no orders together, though it says that it does."""

    @contextmanager
    def together(self) -> Iterator[None]:
        yield

    def _take(self, order: Order) -> None:
        with super().together():
            super()._take(order)

    def cancel(self, client_order_id: str) -> None:
        with super().together():
            super().cancel(client_order_id)


class DropsCancellations(PaperBroker):
    """Cancels nothing within a block, and keeps what goes wrong in one to itself."""

    within = False

    @contextmanager
    def together(self) -> Iterator[None]:
        outermost, self.within = not self.within, True
        try:
            with super().together():
                yield
        except Exception:
            if not outermost:
                raise
        finally:
            self.within = not outermost

    def cancel(self, client_order_id: str) -> None:
        if not self.within:
            super().cancel(client_order_id)


class KeepsOrders(PaperBroker):
    """Takes each order of a block at once, and forgets what is canceled in one that fails."""

    _later: list[str] | None = None

    @contextmanager
    def together(self) -> Iterator[None]:
        self._later = []
        try:
            yield
            canceled, self._later = self._later, None
            for name in canceled:
                self.cancel(name)
        finally:
            self._later = None

    def _take(self, order: Order) -> None:
        with super().together():
            super()._take(order)

    def cancel(self, client_order_id: str) -> None:
        if self._later is None:
            with super().together():
                super().cancel(client_order_id)
        else:
            self._later.append(client_order_id)


class TurnsExceptions(PaperBroker):
    """Undoes a block that fails, and raises an error of its own."""

    @contextmanager
    def together(self) -> Iterator[None]:
        try:
            with super().together():
                yield
        except Exception as error:
            raise BrokerError("the block failed") from error


class DropsOrders(PaperBroker):
    """Says of each order of a block that it is open, and never takes it."""

    _within = False

    @contextmanager
    def together(self) -> Iterator[None]:
        self._within = True
        with super().together():
            yield
            self._within = False

    def submit(self, order: Order) -> OrderState:
        if self._within:
            return OrderState(client_order_id=order.client_order_id, status="open")
        return super().submit(order)


class FillsAtOnce(OneByOne):
    """Fills each order as it takes it, and undoes nothing of a block that fails."""

    def _take(self, order: Order) -> None:
        super()._take(order)
        self.on_bars(bars((next(self._minutes), "AAPL", 100.0)), NOW)

    @cached_property
    def _minutes(self) -> Iterator[int]:
        return iter(range(1, 100))


class ForgetsOrders(FillsAtOnce):
    """Knows no order of a block that fails any more, and has its shares."""

    _failed = False

    @contextmanager
    def together(self) -> Iterator[None]:
        try:
            yield
        except Exception:
            self._failed = True
            raise

    def find(self, client_order_id: str) -> OrderState | None:
        return None if self._failed and client_order_id.endswith("-u") else super().find(client_order_id)


class SellsNothingShort(PaperBroker):
    """Says that it sells short, as every paper account does."""

    def submit(self, order: Order) -> OrderState:
        if order.quantity < -self.account().positions.get(order.ticker, 0.0):
            raise OrderRefusedError(order.client_order_id, "a cash account")
        return super().submit(order)


class TurnsNothing(PaperBroker):
    """Takes no more than closes a position, and says that an order may turn it."""

    def submit(self, order: Order) -> OrderState:
        held = self.account().positions.get(order.ticker, 0.0)
        if order.quantity * held < 0 and abs(order.quantity) > abs(held):
            return super().submit(replace(order, quantity=-held))
        return super().submit(order)


class TurnsHalf(PaperBroker):
    """Takes half of what turns a position."""

    def submit(self, order: Order) -> OrderState:
        half = order.quantity * (0.75 if order.client_order_id.endswith("-w") else 1.0)
        return super().submit(replace(order, quantity=half))


class ClosesNothing(PaperBroker):
    """Refuses to close what was turned."""

    def submit(self, order: Order) -> OrderState:
        if order.client_order_id.endswith("-l"):
            raise OrderRefusedError(order.client_order_id, "no")
        return super().submit(order)


class KnowsOthers(PaperBroker):
    """Has a `learn` that asks for something else."""

    def learn(self, ids: Mapping[str, str], session: date) -> None:
        """Know which orders these were."""


class ForgetsNames(PaperBroker):
    def learn(self, ids: Mapping[str, str]) -> None:
        raise KeyError(*ids)


class SaysOtherThings(PaperBroker):
    traits = {"remote": True}  # noqa: RUF012

    def room(self) -> float:
        return float("inf")

    def cash_moves(self, since: date) -> list[CashMove]:
        return []


class TakesNoCall(PaperBroker):
    traits = Traits(replays=True, calls_per_minute=0)
    live_money = True


UNDONE = "together() keeps nothing of what is %s in a block that an exception leaves"
SUBMITTED = "find() and submit() know within together() what was submitted in it"
CANCELED = "find() knows within together() what was canceled in it"
DONE = "an order that was canceled in together() is done at its end"
SHORT = "with shorting, what is not held may be sold"
TURNED = "with turns, one order leads from short to long"
CLOSED = "a position that was sold short or turned can be closed"
THROUGH = "together() lets an exception through, as it is"


@pytest.mark.parametrize(
    ("kind", "broken"),
    [
        (OneByOne, (UNDONE % "submitted", UNDONE % "canceled")),
        (KeepsOrders, (UNDONE % "submitted", CANCELED)),
        (FillsAtOnce, (UNDONE % "submitted",)),
        (ForgetsOrders, (UNDONE % "submitted",)),
        (TurnsExceptions, (THROUGH,)),
        (DropsOrders, (SUBMITTED, "together() takes what is submitted within it")),
        (DropsCancellations, (THROUGH, CANCELED, DONE)),
        (
            Forgetful,
            (
                "submit() of an id that is known answers with the known order",
                "account() holds what filled",
                SUBMITTED,
                "submit() refuses nan shares with OrderRefusedError",
                "submit() refuses 0.0 shares with OrderRefusedError",
                "selling what was bought leaves the position as it was",
            ),
        ),
        (
            Lossy,
            (
                "the fills of an order add up to its quantity",
                "the fills of an order add up to what find() tells",
            ),
        ),
        (Deaf, ("an order that was canceled is done", CANCELED, DONE)),
        (SellsNothingShort, (SHORT,)),
        (TurnsNothing, (TURNED,)),
        (ClosesNothing, (CLOSED,)),
        (
            SaysOtherThings,
            (
                "traits, where it has any, are hftcl.trading.brokers.Traits",
                "room() is a number of calls",
                "cash_moves() is a tuple of CashMove, or None",
            ),
        ),
        (
            TakesNoCall,
            (
                "traits allow at least one call, from at least one thread",
                "traits let no replay trade with real money",
            ),
        ),
    ],
)
def test_a_broker_that_breaks_promises_is_told_which_and_no_other(
    tmp_path: Path, kind: type[PaperBroker], broken: tuple[str, ...]
) -> None:
    broker = kind(Settings(), folder=tmp_path, durable=False)
    found = check_broker(broker, an_order(0), with_bars(broker))
    assert tuple(line.partition(": ")[0] for line in found) == broken, found  # after it: what was raised
    broker.close()


def test_a_broker_whose_methods_ask_for_something_else_is_told_which(tmp_path: Path) -> None:
    broker = KnowsOthers(Settings(), folder=tmp_path, durable=False)
    told = "learn(ids) cannot be called so: missing a required argument: 'session'"
    assert check_broker(broker, an_order(0), with_bars(broker)) == (told,)
    broker.close()


def test_a_broker_is_told_the_ids_of_another_day_as_a_bot_does_and_told_by_the_method_that_fails(
    tmp_path: Path,
) -> None:
    broker = ForgetsNames(Settings(), folder=tmp_path, durable=False)
    told = "learn() answers: it raised KeyError: 'no such order'"
    assert check_broker(broker, an_order(0), with_bars(broker)) == (told,)
    broker.close()


def test_a_broker_whose_turn_or_close_fails_is_left_without_shares_as_far_as_it_lets(tmp_path: Path) -> None:
    broker = TurnsHalf(Settings(), folder=tmp_path, durable=False)
    assert check_broker(broker, an_order(0), with_bars(broker)) == (TURNED,)
    assert broker.account().positions == {}
    broker.close()


def test_what_a_broker_keeps_of_a_block_that_failed_takes_no_money_from_the_next_one(tmp_path: Path) -> None:
    settings = Settings()
    with_little = replace(settings, paper=replace(settings.paper, cash=1250.0, leverage=2.0))  # two orders and a half
    broker = KeepsOrders(with_little, folder=tmp_path, durable=False)
    assert check_broker(broker, an_order(0), with_bars(broker)) == (UNDONE % "submitted", CANCELED)
    broker.close()


@contextmanager
def a_source(name: str, folder: Path) -> Iterator[BarSource]:
    settings = Settings()
    if name == "files":
        settings = replace(settings, files=replace(settings.files, folder=str(folder)))
        SyntheticSource(settings).minutes("AAPL", FIRST, LAST).write_parquet(folder / "AAPL.parquet")
    if name == "polygon":
        days = [date(2025, 6, day) for day in (2, 3, 4)]
        with PolygonServer({"AAPL": synthetic_bars("AAPL", days)}) as server:
            settings = replace(settings, polygon=replace(settings.polygon, base_url=server.url, calls_per_minute=1000))
            settings = replace(settings, paths=replace(settings.paths, home=str(folder)))
            yield PolygonSource(settings, key="k")
        return
    yield find_source(name)(settings)


@pytest.mark.parametrize("name", ["files", "polygon", "synthetic"])
def test_every_source_keeps_its_promises(tmp_path: Path, name: str) -> None:
    with a_source(name, tmp_path) as source:
        assert check_source(source, "AAPL", FIRST, LAST, LATER) == ()


class Careless(SyntheticSource):
    """Gives other bars each time, of another ticker, and splits in no order; says that it is local, and is not."""

    def minutes(self, ticker: str, first: date, last: date) -> pl.DataFrame:
        self.times = getattr(self, "times", 0) + 1
        return super().minutes("AMD", first, last).with_columns(pl.col("close") + self.times)

    unchanging: Any = "yes"
    local = True

    def splits(self, ticker: str) -> tuple[Split, ...]:
        return (Split(ticker, date(2025, 1, 2), 1, 2), Split(ticker, date(2024, 1, 2), 1, 2))

    def known_until(self, tickers: tuple[str, ...], now: datetime) -> datetime | None:
        return now.replace(tzinfo=None)


def test_a_source_that_breaks_its_promises_is_told_which() -> None:
    assert check_source(Careless(Settings()), "AAPL", FIRST, LAST, LATER) == (
        "unchanging, past, label_known and local are true or false",
        "with local it has remember(), and explain_absence() which is a text",
        "minutes() names the ticker that was asked for",
        "minutes() asked twice gives the same bars",
        "splits() is sorted, oldest first",
        "known_until() is a time in UTC that is not after now",
    )


class Expectant(SyntheticSource):
    """Gives other bars once it has heard what comes."""

    heard = False

    def expect(self, tickers: tuple[str, ...], first: date, questions: tuple[Question, ...], *, kept: bool) -> None:
        self.heard = (tickers, questions, kept) == (("AAPL",), (Question("AAPL", FIRST, LAST),), True)

    def minutes(self, ticker: str, first: date, last: date) -> pl.DataFrame:
        return super().minutes(ticker, first, last).with_columns(pl.col("close") + self.heard)


class Mute(SyntheticSource):
    """Has a `report_steps` that cannot be ended."""

    def report_steps(self, on_step: Callable[[str], None]) -> None:
        on_step("a page")


def test_a_source_is_asked_with_what_it_hears_beforehand_and_while_it_says_its_steps() -> None:
    expectant = check_source(Expectant(Settings()), "AAPL", FIRST, LAST, LATER)
    assert expectant == ("minutes() asked twice gives the same bars",)
    told = "report_steps() answers: it raised TypeError: 'NoneType' object is not callable"
    assert check_source(Mute(Settings()), "AAPL", FIRST, LAST, LATER) == (told,)


class Deafer(SyntheticSource):
    def report_steps(self) -> None:
        """Ask for no listener."""

    def expect(self, tickers: tuple[str, ...]) -> None:
        """Ask for tickers alone."""


class Wordless(SyntheticSource):
    def fingerprint(self, ticker: str) -> str:
        raise RuntimeError("no words")


class Stockless(SyntheticSource):
    def splits(self, ticker: str) -> tuple[Split, ...]:
        return None  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("kind", "broken"),
    [
        (
            Deafer,
            (
                "expect(tickers, first, questions, *, kept) cannot be called so: too many positional arguments",
                "report_steps(on_step) cannot be called so: too many positional arguments",
            ),
        ),
        (Wordless, ("fingerprint() answers: it raised RuntimeError: no words",)),
        (
            Stockless,
            (
                "splits() is a tuple",
                "its answers are of the types that it promises: it raised TypeError: 'NoneType' object is not iterable",
            ),
        ),
    ],
)
def test_a_source_that_cannot_be_called_as_promised_or_does_not_answer_is_told_so(
    kind: type[SyntheticSource], broken: tuple[str, ...]
) -> None:
    assert check_source(kind(Settings()), "AAPL", FIRST, LAST, LATER) == broken


class TimelessFeed(StoredFeed):
    def minute(self, minute: datetime) -> Delivery:  # type: ignore[override]
        return super().minute(minute, minute)


def test_a_feed_that_cannot_be_called_as_promised_is_told_so() -> None:
    feed = cast("Feed", TimelessFeed(pl.DataFrame(schema=BAR_SCHEMA), ("AAPL",)))
    hours = find_hours(Calendar("XNYS"), LAST, extended_hours=False)
    told = "minute(minute, now) cannot be called so: too many positional arguments"
    assert check_feed(feed, hours, hours.list_minutes(hours.opens)[:3], lambda minute: minute) == (told,)


def take_few_trees(family: Family) -> Family:
    """Return the family with a default of few trees, where it grows any: no promise is about their number."""
    kind = type(family)
    few = {name: FEW_TREES for name in kind.parameters(family) if name == "n_estimators"}
    grows_few = type(kind.__name__, (kind,), {"parameters": lambda self: {**kind.parameters(self), **few}})
    return cast("Family", grows_few())


def test_every_family_keeps_its_promises() -> None:
    for point in entry_points(group="hftcl.families"):
        assert check_family(take_few_trees(find_family(point.name))) == ()


class Moody(Forest):
    """Fits otherwise with two cores, and tells nobody how far it is."""

    def fit(self, X: Any, y: Any, params: Any, *, seed: int, jobs: int, on_step: Any, **others: Any) -> Fitted:
        return super().fit(X, np.roll(y, jobs - 1), params, seed=seed, jobs=1, on_step=lambda done, total: None)


def test_a_family_that_breaks_its_promises_is_told_which() -> None:
    assert check_family(Moody()) == (
        "on_step() is told the end",
        "the same rows and seed give the same model, whatever the cores",
    )


class WithForeignOperator(Forest):
    """Ends its graph in an operator that no model file may hold."""

    def fit(self, X: Any, y: Any, params: Any, *, seed: int, jobs: int, on_step: Any, **others: Any) -> Fitted:
        import onnx

        fitted = super().fit(X, y, params, seed=seed, jobs=jobs, on_step=on_step)
        model = onnx.ModelProto.FromString(fitted.onnx)
        last = model.graph.output[0].name
        for node in model.graph.node:
            node.output[:] = ["before" if name == last else name for name in node.output]
        model.graph.node.append(onnx.helper.make_node("Tanh", ["before"], [last]))
        return replace(fitted, onnx=model.SerializeToString())


class WithOtherPredictions(Forest):
    """Hands over the graph of another training than its estimator's."""

    def fit(self, X: Any, y: Any, params: Any, *, seed: int, jobs: int, on_step: Any, **others: Any) -> Fitted:
        fitted = super().fit(X, y, params, seed=seed, jobs=jobs, on_step=on_step)
        other = super().fit(X, y, params, seed=seed ^ 1, jobs=jobs, on_step=lambda done, total: None)
        return replace(fitted, estimator=other.estimator)


def test_a_family_whose_graph_no_model_file_may_hold_is_told_so_before_any_retrain() -> None:
    (broken,) = check_family(WithForeignOperator())
    assert broken == ("the graph may go into a model file: The graph holds operators that no model of hftcl has: Tanh.")


def test_a_family_whose_graph_predicts_otherwise_than_its_library_is_told_so() -> None:
    assert check_family(WithOtherPredictions()) == ("the graph predicts what the estimator does",)
