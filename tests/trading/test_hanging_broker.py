"""A real broker client against a service that hangs, breaks off, is down, or takes no more calls."""

import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from hftcl.alerts import Kind
from hftcl.errors import BrokerError, ConfigError, WaitEndedError
from hftcl.home import Home
from hftcl.ledger.writer import Ledger
from hftcl.settings import Settings
from hftcl.strategy.risk import Order
from hftcl.trading.brokers import Broker, find_broker
from hftcl.trading.execute.dispatch import send
from hftcl.trading.execute.patience import PatientBroker
from hftcl.trading.execute.reconciliation import reconcile
from tests.installed import PATIENCE_S
from tests.processes import wait_until
from tests.trading.alpaca_server import reset, says, slow
from tests.trading.bot_stand import DAY, archived, bars_of, session_minutes
from tests.trading.strict_server import StrictServer
from tests.trading.test_live import World, press
from tests.trading.trading_cases import a_record, an_order, at, sent

pytest.importorskip("alpaca", reason="alpaca-py is not installed (pip install 'hftcl[alpaca]')")

SUBMIT, ACCOUNT = "POST /v2/orders", "GET /v2/account"
FOR_EVER = 3600.0
TICKERS = ("AAPL", "AMD", "TSLA", "V", "GS")


class Wall:
    """A clock that a test sets."""

    now = at(1)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def server(wall: Wall, monkeypatch: pytest.MonkeyPatch) -> Iterator[StrictServer]:
    with StrictServer(clock=wall) as started:
        monkeypatch.setenv("APCA_API_KEY_ID", started.keys[0])
        monkeypatch.setenv("APCA_API_SECRET_KEY", started.keys[1])
        yield started


@pytest.fixture
def broker(server: StrictServer, wall: Wall, tmp_path: Path) -> Iterator[Broker]:
    settings = Settings()
    settings = replace(
        settings,
        alpaca=replace(settings.alpaca, base_url=server.url, timeout_s=600.0),
        paths=replace(settings.paths, env_file=str(tmp_path / ".env")),
    )
    made = find_broker("alpaca")(settings, folder=tmp_path)
    made._pace._clock = made._clock = lambda: wall.now.timestamp()  # type: ignore[attr-defined]
    with closing(made):
        yield made


def patient(broker: Broker, *, submit_s: float = PATIENCE_S) -> PatientBroker:
    return PatientBroker(broker, lambda: False, ask_s=PATIENCE_S, submit_s=submit_s)


def orders(*quantities: float, minute: int = 0) -> list[Order]:
    return [an_order(minute, ticker, quantity) for ticker, quantity in zip(TICKERS, quantities, strict=False)]


@pytest.mark.hazard(68)
def test_a_broker_that_never_answers_is_not_waited_for_when_a_person_wants_something_else(
    server: StrictServer, broker: Broker
) -> None:
    server.faults[ACCOUNT] = [slow(delay_s=FOR_EVER)]
    looks: list[int] = []

    def look() -> bool:
        looks.append(1)
        return len(looks) > 2

    with pytest.raises(WaitEndedError):
        PatientBroker(broker, look, ask_s=FOR_EVER).account()
    assert len(looks) == 3


def test_a_question_without_an_answer_is_the_last_of_its_minute(server: StrictServer, broker: Broker) -> None:
    made = patient(broker)
    made.ask_s = 0.4
    server.faults[ACCOUNT] = [slow(delay_s=FOR_EVER)]
    with pytest.raises(BrokerError, match="did not answer within"):
        made.account()
    wait_until(lambda: ACCOUNT in server.hits, "The arrival of the question")
    asked = len(server.hits)
    with pytest.raises(BrokerError, match="earlier in this minute"):
        made.fills(None)
    assert len(server.hits) == asked
    made.ask_s = PATIENCE_S
    made.begin_minute()
    assert made.account().cash == 100_000.0


@pytest.mark.hazard(51)
def test_after_the_first_order_without_an_answer_nothing_is_opened_and_closing_ones_go_side_by_side(
    server: StrictServer, broker: Broker
) -> None:
    for ticker in TICKERS[:3]:
        server.account.trade_by_hand(ticker, 10.0, 100.0, at(0))
    server.faults[SUBMIT] = [slow(delay_s=FOR_EVER)] * 20
    closing_ones, opening = orders(-10.0, -10.0, -10.0), orders(0, 0, 0, 5.0, 5.0)[3:]
    done = send(
        patient(broker, submit_s=0.4), [*opening, *closing_ones], {order.client_order_id for order in closing_ones}
    )
    assert {one.order.ticker for one in done if one.unsent} == {"V", "GS"}
    assert all(one.fault is not None and not one.unsent for one in done if one.order.ticker in TICKERS[:3])
    wait_until(lambda: server.most_at_once >= 3, "The arrival of three orders at once")
    names = {order.client_order_id for order in server.account.orders.values()}
    assert {order.client_order_id for order in closing_ones} <= names, "they arrived, and each once"
    assert len(server.account.orders) == 6


@pytest.mark.hazard(51)
def test_an_order_whose_connection_was_reset_is_there_once(server: StrictServer, broker: Broker) -> None:
    server.faults[SUBMIT] = [reset]
    (one,) = send(patient(broker), orders(5.0), frozenset(["hftcl-20250602T1330-AAPL-r"]))
    assert one.state is not None
    assert one.state.working
    assert len(server.account.orders) == 1


def test_no_more_than_two_hundred_calls_go_out_in_a_minute_and_the_next_goes_on(
    server: StrictServer, broker: Broker, wall: Wall
) -> None:
    many = [an_order(0, f"T{n:03d}", 1.0) for n in range(300)]
    made = patient(broker)
    first = send(made, many, frozenset())
    unsent = [one.order for one in first if one.unsent]
    assert server.most_calls <= 200
    assert 100 < len(unsent) < 150
    wall.now += timedelta(minutes=1)
    second = send(made, unsent, frozenset())
    assert not [one for one in second if one.unsent]
    assert len(server.account.orders) == 300
    assert server.most_calls <= 200


@pytest.mark.hazard(65)
def test_where_no_call_is_left_nothing_goes_out_until_the_moment_that_the_header_names(
    server: StrictServer, broker: Broker, wall: Wall
) -> None:
    server.limited = False
    reset_at = wall.now + timedelta(seconds=40)  # not a whole minute: only the header knows it
    server.headers = {
        "X-RateLimit-Limit": "200",
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": str(int(reset_at.timestamp())),
    }
    made = patient(broker)
    broker.account()
    asked = len(server.hits)
    for wait_s in (0, 20, 39):
        wall.now = reset_at - timedelta(seconds=40 - wait_s)
        outcomes = send(made, orders(1.0, 2.0), frozenset())
        assert [(one.unsent, one.code) for one in outcomes] == [(True, "rate_limited")] * 2
    assert len(server.hits) == asked, "nothing was asked meanwhile"
    server.headers = {}
    wall.now = reset_at
    assert [one.unsent for one in send(made, orders(1.0, 2.0), frozenset())] == [False, False]
    assert server.hits.count(SUBMIT) == 2


def test_a_start_with_ninety_positions_asks_in_lists_not_once_for_each(
    server: StrictServer, broker: Broker, wall: Wall, tmp_path: Path
) -> None:
    records = [a_record(0, f"T{n:03d}", 1.0) for n in range(90)]
    with Ledger(tmp_path / "ledger.sqlite", durable=False) as ledger:
        ledger.set_meta(fills_cursor_production=at(0).isoformat())
        ledger.write_decisions([], records)
        server.limited = False
        for record in records:
            broker.submit(sent(record))
        server.account.on_bars([(at(1), record.ticker, 100.0, 100.0, 1e9) for record in records], at(2))
        wall.now = at(2)
        server.limited = True
        broker._ids.clear()  # type: ignore[attr-defined]  # a new process
        ledger.write_outcomes(updates=())
        before = len(server.hits)
        assert reconcile(ledger, broker, at(3)).agrees
        asked = server.hits[before:]
        assert len(ledger.read_positions()) == 90
        assert not [hit for hit in asked if hit.startswith("GET /v2/orders/")]
        wall.now = at(4)
        before = len(server.hits)
        assert reconcile(ledger, broker, at(4)).agrees
        assert len(server.hits) - before < 8, "the ledger knows whose they are"


# ---- the bot ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Path:
    archived(tmp_path, report={"edge": "stand aside"})
    return tmp_path


def world_of(server: StrictServer, home: Path, start: datetime) -> World:
    rules: dict[str, dict[str, object]] = {
        "market": {"source": "files", "watchlist": ("AAPL", "AMD", "TSLA")},
        "trade": {"broker": "alpaca", "live": True},
        "alpaca": {"base_url": server.url},
    }
    world = World(home, start, bars_of(DAY), rules)
    server.clock = world.clock.now
    return world


def test_a_broker_that_is_down_at_the_start_is_waited_for_and_told_once(server: StrictServer, home: Path) -> None:
    minutes = session_minutes()
    world = world_of(server, home, minutes[100])
    server.faults[ACCOUNT] = [says(503, {"message": "down"})] * 4
    world.script = {minutes[104]: world.stop}
    world.run(real_money=True)
    assert [alert.subject for alert in world.alerts if "start" in alert.subject] == [
        "the broker alpaca does not answer at the start"
    ]
    with world.ledger() as ledger:
        assert ledger.find_last_decided() in (minutes[103], minutes[104])


@pytest.mark.parametrize("tickers", [TICKERS[:1], TICKERS], ids=["one", "five"])
def test_positions_are_compared_once_a_minute_by_one_call_however_many_tickers(
    server: StrictServer, home: Path, tickers: tuple[str, ...]
) -> None:
    minutes = session_minutes()
    world = world_of(server, home, minutes[100])
    world.sections["trade"]["hands_off"] = tickers  # held at the broker, each of them a line of the one answer
    for ticker in tickers:
        server.account.trade_by_hand(ticker, 10.0, 100.0, minutes[90])
    asked: list[int] = []

    def count() -> None:
        asked.append(sum(hit.startswith("GET /v2/positions") for hit in server.hits))

    world.script = dict.fromkeys(minutes[102:107], count) | {minutes[107]: world.stop}
    world.run(real_money=True)
    assert [later - before for before, later in pairwise(asked)] == [1, 1, 1, 1]


@pytest.mark.hazard(68)
@pytest.mark.parametrize("state", ["reconciling", "in the session"])
def test_the_kill_switch_is_on_disk_while_the_broker_hangs(server: StrictServer, home: Path, state: str) -> None:
    minutes = session_minutes()
    world = world_of(server, home, minutes[100])
    world.sections["alpaca"]["timeout_s"] = 600.0
    latched: list[bool] = []
    looks: list[int] = []
    hangs: list[int] = []
    asked = "GET /v2/positions" if state == "in the session" else "GET /v2/orders"

    def hang() -> None:
        server.faults[asked] = [slow(delay_s=FOR_EVER)]
        hangs.append(len(server.hits))

    def alive() -> None:
        if not hangs or asked not in server.hits[hangs[0] :]:
            return
        looks.append(1)
        if len(looks) == 2:
            press(world)
        if len(looks) == 4:
            with world.ledger() as ledger:
                latched.append(ledger.is_latched("kill_switch"))
            world.stop()

    world.service.tell_alive = alive  # type: ignore[method-assign]
    if state == "in the session":
        world.script = {minutes[102]: hang}
    else:
        hang()
    world.run(real_money=True)
    assert latched == [True], "heard at the next look around, with the answer still to come"


def test_what_is_wrong_with_the_account_is_told_at_the_start_and_another_account_is_refused(
    server: StrictServer, home: Path
) -> None:
    minutes = session_minutes()
    world = world_of(server, home, minutes[100])
    server.account.flag(suspended=True, shorting=False)
    world.script = {minutes[102]: world.stop}
    world.run(real_money=True)
    (told,) = [alert for alert in world.alerts if alert.subject == "the account at alpaca is restricted"]
    assert "trade_suspended_by_user" in told.text
    assert "short" in told.text
    halted = [alert.subject for alert in world.alerts if alert.kind is Kind.HALTED]
    assert "the broker refuses the account: nothing is opened" in halted
    with Ledger(Home.live(home).ledger) as ledger:
        assert ledger.open_meta()["account_id"] == "PA0000001"
        ledger.set_meta(account_id="PA9999999")
    with pytest.raises(ConfigError, match="that of the account PA9999999, and the keys are now those of PA0000001"):
        world_of(server, home, minutes[110]).run(real_money=True)


def test_a_stop_is_heard_while_the_bars_of_the_morning_are_collected(home: Path) -> None:
    minutes = session_minutes()
    world = World(home, minutes[100], bars_of(DAY))
    release = threading.Event()

    def begin() -> None:
        world.stop()
        release.wait(FOR_EVER)

    world.script = {minutes[0] - (minutes[1] - minutes[0]): begin}
    report = world.run()
    release.set()
    assert report.note == "Stopped as asked."
    assert report.decisions == 0


def held_up(release: threading.Event) -> None:
    release.wait(FOR_EVER)


def test_the_kill_switch_closes_everything_while_the_bars_of_the_morning_are_collected(home: Path) -> None:
    minutes = session_minutes()
    before = World(home, minutes[110], bars_of(DAY))
    before.script = {minutes[114]: before.stop}
    held = before.run().positions
    assert held
    world = World(home, minutes[120], bars_of(DAY))
    release = threading.Event()
    looks: list[int] = []

    def alive() -> None:
        looks.append(1)
        if len(looks) == 3:
            press(world)
        if len(looks) > 3:
            with world.ledger() as ledger:
                done = ledger.read_orders(first=minutes[119]).height >= len(held)
            if done:
                release.set()
                world.stop()

    world.service.tell_alive = alive  # type: ignore[method-assign]
    world.script = {minutes[0] - (minutes[1] - minutes[0]): lambda: held_up(release)}
    world.run()
    with world.ledger() as ledger:
        assert ledger.is_latched("kill_switch")
        closing_ones = ledger.read_orders(first=minutes[119])
        assert dict(closing_ones.select("ticker", "quantity").iter_rows()) == {name: -n for name, n in held.items()}


def test_a_broker_that_was_silent_is_asked_the_time_all_the_same(broker: Broker) -> None:
    """At night no minute begins that would let it be asked again."""
    asked = patient(broker)
    asked.silent = True
    assert asked.time() is not None
