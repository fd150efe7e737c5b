"""P&L is attributed to the cent: by hand, against exact sums over random fills, and to the bit as fill by fill."""

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftcl.performance.attribution import AMOUNTS, FILLS, OVERNIGHT, Amounts, Attribution, BookingKey, attribute
from hftcl.performance.figures import sum_amounts
from tests.performance import fill_by_fill
from tests.performance.fill_by_fill import Execution

MONDAY, TUESDAY = date(2026, 1, 5), date(2026, 1, 6)
CENT = 0.01


def fill(
    quantity: float,
    price: float,
    *,
    model: str = "A",
    minute: int = 0,
    session: date = MONDAY,
    ticker: str = "AAPL",
    commission: float = 0.0,
    reference: float | None = None,
    ordered: bool = True,
) -> Execution:
    ts = datetime(session.year, session.month, session.day, 14, 30, tzinfo=UTC) + timedelta(minutes=minute)
    known = price if reference is None else reference
    return Execution(session, minute // 60, ts, ticker, model, quantity, price, commission, known, None, ordered)


def book(fills: Sequence[Execution], closes: Mapping[tuple[date, str], float], sessions: Sequence[date]) -> Attribution:
    frame = pl.DataFrame(fills, schema=FILLS, orient="row")
    rows = [(*key, close) for key, close in closes.items()]
    prices = pl.DataFrame(rows, schema={"session": pl.Date, "ticker": pl.String, "close": pl.Float64}, orient="row")
    return attribute(frame, prices, sessions)


def list_booked(found: Attribution) -> dict[BookingKey, Amounts]:
    return {
        BookingKey(**{name: row[name] for name in BookingKey._fields}): Amounts(**{name: row[name] for name in AMOUNTS})
        for row in found.booked.iter_rows(named=True)
    }


def by_model(found: Attribution) -> dict[str, float]:
    sums: dict[str, float] = defaultdict(float)
    for key, amounts in list_booked(found).items():
        sums[key.model_id] += amounts.net
    return dict(sums)


def test_what_a_model_opened_is_its_own_though_its_successor_closes_it() -> None:
    """By hand: A buys 10 at 100; B sells 4 at 101, buys 2 at 103 and sells all 8 at 102. First in, first out."""
    fills = [
        fill(10, 100, commission=1.0),
        fill(-4, 101, model="B", minute=70),
        fill(2, 103, model="B", minute=80),
        fill(-8, 102, model="B", minute=90, commission=0.5),
    ]
    found = book(fills, {}, [MONDAY])
    assert by_model(found) == {"A": 4 * 1 + 6 * 2 - 1.0, "B": 2 * -1 - 0.5}
    assert {key.hour: amounts.moved for key, amounts in list_booked(found).items() if key.model_id == "A"} == {0: 16.0}
    (trade,) = found.trades.to_dicts()
    assert [trade[name] for name in ("model_id", "quantity", "fills", "net")] == ["A", 10, 4, 12.5]
    assert trade["entry"] == pytest.approx((10 * 100 + 2 * 103) / 12)
    assert trade["exit"] == pytest.approx((4 * 101 + 8 * 102) / 12)


def split(held: float, ratio: float, price: float, session: date = TUESDAY) -> list[Execution]:
    """Return a split of what is held, as the ledger keeps it: old shares out, new ones in, for the same money."""
    sides = ((-held, price), (held * ratio, price / ratio))
    return [fill(shares, usd, model="no model", session=session, ordered=False) for shares, usd in sides]


@pytest.mark.parametrize("side", [1, -1])
def test_a_split_is_no_trade_and_no_turnover_and_leaves_what_is_held_with_its_model(side: int) -> None:
    """By hand: A holds 100 of cost 200, closed at 220; 4:1, of which 300 go at 60 and 100 at 50; B decided the last."""
    fills = [
        fill(100 * side, 200, commission=1.0),
        *split(100 * side, 4.0, 200.0),
        fill(-300 * side, 60, session=TUESDAY, minute=1),
        fill(-100 * side, 50, model="B", session=TUESDAY, minute=2),
    ]
    found = book(fills, {(MONDAY, "AAPL"): 220.0}, [MONDAY, TUESDAY])
    assert by_model(found) == {"A": side * (2_000 + 300 * 5 - 100 * 5) - 1.0, "B": 0.0}
    total = sum_amounts(found.booked)
    assert (total.traded, total.fills) == (20_000 + 18_000 + 5_000, 3)
    (trade,) = found.trades.iter_rows(named=True)
    assert (trade["model_id"], trade["quantity"], trade["entry"], trade["exit"]) == ("A", 400 * side, 50.0, 57.5)
    assert trade["net"] == side * 3_000 - 1.0


def test_shares_that_a_person_hands_over_are_no_turnover_and_what_they_make_counts() -> None:
    fills = [
        fill(10, 100, model="no model", ordered=False),
        fill(-10, 103, model="A", minute=5),
    ]
    found = book(fills, {}, [MONDAY])
    total = sum_amounts(found.booked)
    assert (total.net, total.traded, total.fills) == (30.0, 1_030.0, 1)
    assert found.trades["fills"].to_list() == [1], "the one that an order traded"


def test_a_turn_ends_one_trade_and_begins_another_and_splits_its_commission() -> None:
    fills = [fill(5, 10), fill(-15, 12, model="B", commission=3.0, minute=1), fill(10, 11, model="C", minute=2)]
    found = book(fills, {}, [MONDAY])
    assert found.trades.select("quantity", "net", "model_id").rows() == [(5, 9.0, "A"), (-10, 8.0, "B")]
    assert by_model(found) == {"A": 10.0, "B": 10.0 - 3.0, "C": 0.0}


def test_what_is_held_over_night_is_settled_at_the_close_and_told_apart() -> None:
    fills = [fill(10, 100), fill(-10, 105, model="B", session=TUESDAY)]
    found = book(fills, {(MONDAY, "AAPL"): 102.0, (TUESDAY, "AAPL"): 90.0}, [MONDAY, TUESDAY])
    held = {(key.session, key.hour): amounts.net for key, amounts in list_booked(found).items() if key.model_id == "A"}
    assert held == {(MONDAY, 0): 20.0, (TUESDAY, OVERNIGHT): 30.0}
    assert found.held == {}
    assert found.trades["net"].to_list() == [50.0]


def test_fractions_that_leave_a_crumb_of_rounding_leave_nothing_to_the_days_after() -> None:
    """0.1 + 0.2 - 0.3 shares are 5.6e-17, of a model that has long been replaced."""
    fills = [fill(0.1, 100), fill(0.2, 100, minute=1), fill(-0.3, 100, model="B", minute=2)]
    fills += [fill(0.7, 50, model="B", session=TUESDAY), fill(-0.7, 51, model="B", session=TUESDAY, minute=90)]
    closes = {(MONDAY, "AAPL"): 102.0, (TUESDAY, "AAPL"): 51.0}
    found = book(fills, closes, [MONDAY, TUESDAY])
    assert {(key.session, key.model_id) for key in list_booked(found)} == {(MONDAY, "A"), (MONDAY, "B"), (TUESDAY, "B")}
    assert OVERNIGHT not in {key.hour for key in list_booked(found)}
    assert found.held == {}
    assert found.trades["net"].to_list() == [0.0, 0.7], "what comes out even is neither won nor lost"


@pytest.mark.parametrize("rest", [5e-10, -5e-10])
def test_a_fill_that_misses_flat_by_less_than_a_broker_counts_is_flat(rest: float) -> None:
    fills = [fill(1.0, 100), fill(-1.0 + rest, 101, minute=1), fill(2.0, 100, minute=2), fill(-2.0, 99, minute=3)]
    found = book(fills, {(MONDAY, "AAPL"): 500.0}, [MONDAY, TUESDAY])
    assert found.trades.select("quantity", pl.col("net").round(4)).rows() == [(1.0, 1.0), (2.0, -2.0)]
    assert sum(amounts.net for amounts in list_booked(found).values()) == pytest.approx(-1.0, abs=1e-6)


def test_slippage_is_what_was_paid_above_the_reference_price_on_either_side() -> None:
    found = book([fill(10, 100.1, reference=100), fill(-10, 99.9, reference=100, minute=1)], {}, [MONDAY])
    (amounts,) = list_booked(found).values()
    assert amounts.slippage == pytest.approx(2.0)
    assert amounts.traded == pytest.approx(2000.0)
    assert amounts.gross == pytest.approx(0.0)


QUANTITIES = st.one_of(st.integers(-50, 50).map(float), st.floats(-50, 50, allow_nan=False)).filter(
    lambda q: abs(q) > 1e-6
)
DRAWN = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.integers(0, 380),
        st.sampled_from(["AAPL", "AMD", "X:BTCUSD"]),
        st.sampled_from(["20260101_000000", "20260102_000000", "20260103_000000"]),
        QUANTITIES,
        st.floats(0.01, 5000, allow_nan=False),
        st.floats(0, 3, allow_nan=False),
    ),
    max_size=60,
)


@given(drawn=DRAWN, last=st.floats(0.01, 5000), flatten=st.booleans())
@settings(max_examples=80)
def test_every_way_to_cut_the_pnl_adds_up_to_the_cent(
    drawn: list[tuple[int, int, str, str, float, float, float]], last: float, flatten: bool
) -> None:
    """The total by a second way: exact fractions of the cash that moved, and of what is held at the last closes."""
    sessions = [MONDAY + timedelta(days=day) for day in range(5)]
    fills = [
        fill(q, price, model=model, minute=minute, session=sessions[day], ticker=ticker, commission=commission)
        for day, minute, ticker, model, q, price, commission in sorted(drawn, key=lambda each: each[:2])
    ]
    held: dict[str, Fraction] = defaultdict(Fraction)
    for each in fills:
        held[each.ticker] += Fraction(each.quantity)
    if flatten:
        ends = [
            fill(-float(q), 77.0, model="end", minute=385, session=sessions[-2], ticker=t) for t, q in held.items() if q
        ]
        fills += ends
    closes = {(session, ticker): last + place for place, session in enumerate(sessions) for ticker in held}
    found = book(fills, closes, sessions)
    exact = -sum((Fraction(f.quantity) * Fraction(f.price) + Fraction(f.commission) for f in fills), Fraction())
    for ticker in held:
        position = sum((Fraction(f.quantity) for f in fills if f.ticker == ticker), Fraction())
        exact += position * Fraction(closes[sessions[-1], ticker])
    for cut in ("session", "model_id", "ticker", "hour"):
        sums: dict[object, float] = defaultdict(float)
        for key, amounts in list_booked(found).items():
            sums[getattr(key, cut)] += amounts.net
        assert sum(sums.values()) == pytest.approx(float(exact), abs=CENT / 10)
    if flatten:
        assert found.held == {}
        assert sessions[-1] not in {key.session for key in list_booked(found)}, "flat is flat"
        assert sum(found.trades["net"]) == pytest.approx(float(exact), abs=CENT / 10)


@given(drawn=DRAWN)
@settings(max_examples=50)
def test_a_session_is_settled_alike_whatever_comes_later(
    drawn: list[tuple[int, int, str, str, float, float, float]],
) -> None:
    """What a restart, or a report in the middle of a week, has said of a day stays said."""
    sessions = [MONDAY + timedelta(days=day) for day in range(4)]
    fills = [
        fill(q, price, model=model, minute=minute, session=sessions[day], ticker=ticker, commission=commission)
        for day, minute, ticker, model, q, price, commission in sorted(drawn, key=lambda each: each[:2])
    ]
    closes = {(session, ticker): 50.0 for session in sessions for ticker in ("AAPL", "AMD", "X:BTCUSD")}
    whole = book(fills, closes, sessions)
    early = [each for each in fills if each.session <= TUESDAY]
    part = book(early, closes, sessions[:2])
    assert list_booked(part) == {key: value for key, value in list_booked(whole).items() if key.session <= TUESDAY}
    assert part.trades.equals(whole.trades.filter(pl.col("session") <= TUESDAY))


def add_splits(fills: Sequence[Execution], ratios: Mapping[date, float]) -> list[Execution]:
    """Let what is held of AAPL be split before the first fill of each of these sessions."""
    whole, held, met = list[Execution](), 0.0, set[date]()
    for each in fills:
        if each.session in ratios.keys() - met:
            met.add(each.session)
            if abs(held) > 1e-9:
                whole += split(held, ratios[each.session], 50.0, each.session)
                held = whole[-1].quantity
        whole.append(each)
        held = held + each.quantity if each.ticker == "AAPL" else held
        held = 0.0 if abs(held) <= 1e-9 else held
    return whole


@given(
    drawn=DRAWN,
    opens=st.lists(st.none() | st.floats(0.01, 5000), min_size=60, max_size=60),
    priced=st.sets(st.tuples(st.integers(0, 4), st.sampled_from(["AAPL", "AMD", "X:BTCUSD"]))),
    whole=st.booleans(),
    ratios=st.dictionaries(st.integers(1, 4), st.sampled_from([4.0, 0.1, 1.5])),
)
@settings(max_examples=40)
def test_columns_and_fill_by_fill_are_the_same_to_the_bit(
    drawn: list[tuple[int, int, str, str, float, float, float]],
    opens: list[float | None],
    priced: set[tuple[int, str]],
    whole: bool,
    ratios: dict[int, float],
) -> None:
    sessions = [MONDAY + timedelta(days=day) for day in range(5)]
    fills = [
        fill(
            round(q) or 1.0 if whole else q, price, model=model, minute=minute, session=sessions[day], ticker=ticker,
            commission=commission, reference=price + commission,
        )._replace(open=at_open)
        for (day, minute, ticker, model, q, price, commission), at_open in zip(
            sorted(drawn, key=lambda each: each[:2]), opens, strict=False
        )
    ]  # fmt: skip
    fills = add_splits(fills, {sessions[day]: ratio for day, ratio in ratios.items()})
    closes = {(sessions[day], ticker): 50.0 + 0.1 * day for day, ticker in sorted(priced)}
    for known in (sessions, sessions[:2]):
        found, expected = book(fills, closes, known), fill_by_fill.attribute(fills, closes, known)
        assert [(tuple(key), [float(getattr(amounts, name)) for name in AMOUNTS]) for key, amounts in
                expected.booked.items()] == [
            (tuple(key), [getattr(amounts, name) for name in AMOUNTS]) for key, amounts in list_booked(found).items()
        ]  # fmt: skip
        names = [each.name for each in dataclasses.fields(fill_by_fill.Trade)]
        assert found.trades.select(names).rows() == [
            tuple(getattr(trade, name) for name in names) for trade in expected.trades
        ]
        assert found.held == expected.held
        total = fill_by_fill.Amounts()
        for amounts in expected.booked.values():
            total.add(amounts)
        assert dataclasses.asdict(sum_amounts(found.booked)) == dataclasses.asdict(total)
