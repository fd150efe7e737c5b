"""What a plug-in promises, as functions that find out: `check_source`, `check_feed`, `check_broker`, `check_family`,
`check_feature`.

For the tests of all that are written, ours among them: each returns the promises that are broken, a line each, and
nothing is well where the tuple is not empty. What they do is in the Protocols of the three rooms.
"""

import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl
from polars.testing import assert_frame_equal

from hftcl.archive.artifact import check_graph
from hftcl.errors import IntegrityError, OrderRefusedError, UsageError
from hftcl.market.bars import BAR_SCHEMA, MINUTE, RAW_SCHEMA, label
from hftcl.market.hours import Hours
from hftcl.market.sessions import Calendar
from hftcl.market.sources import BarSource
from hftcl.market.sources.synthetic import SyntheticSource
from hftcl.model.families import Family, Fitted, complete
from hftcl.model.features import FEATURE_NAMES, WARMUP_SESSIONS, Feature, evaluate
from hftcl.model.grid import build_grid
from hftcl.model.serving import Predictor
from hftcl.model.streaming import StreamingFeatures
from hftcl.settings import Settings
from hftcl.strategy.risk import Code
from hftcl.trading.brokers import Broker, Fill, Order, OrderState
from hftcl.trading.feeds import Delivery, Feed, Morning, VendorClock

_SHARES: float = 1e-6  # brokers count in multiples of 1e-9 shares; a thousand of them is rounding, and buys nothing
# Rows: several leaves of the 50 rows that our forest asks for, else it could not split, nor learn the first feature.
# Features: more than two, so that the one that tells something has others to be mistaken for.
_ROWS, _FEATURES = 400, 5
_SAME = 1e-4  # float32 against a library's float64 is 1e-6 apart on targets near 1; another model is 1e-2 or more

# A session of the synthetic market, after the earlier ones that features read; any other would do.
_FEATURE_DAY = date(2025, 6, 10)
# Two, so that what one ticker tells of the other is seen; the first minutes of a session, past every look-back of 30.
_TICKERS, _MINUTES = ("AAPL", "AMD"), 90


@dataclass(slots=True)
class _Findings:
    broken: list[str] = field(default_factory=list)

    def check(self, kept: bool, promise: str) -> bool:
        """Note `promise` as broken unless it was kept, and say which."""
        if not kept:
            self.broken.append(promise)
        return kept

    def check_refusal(self, act: Callable[[], object], error: type[Exception], promise: str) -> None:
        try:
            act()
        except error:
            return
        except Exception as other:  # noqa: BLE001  whatever a stranger's code raises instead is the finding
            self.broken.append(f"{promise}: it raised {type(other).__name__} instead")
        else:
            self.broken.append(promise)


def check_source(source: BarSource, ticker: str, first: date, last: date, now: datetime) -> tuple[str, ...]:
    """Return the promises that `source` breaks for `ticker`, which should have bars in sessions `first` to `last`.

    now: UTC, later than `last`.

    >>> from datetime import UTC
    >>> first, last, now = date(2025, 6, 2), date(2025, 6, 4), datetime(2025, 6, 10, tzinfo=UTC)
    >>> check_source(SyntheticSource(Settings()), 'AAPL', first, last, now)
    ()
    """
    promises = _Findings()
    promises.check(
        bool(source.name) and isinstance(source.synthetic, bool), "it has a name, and says if it is synthetic"
    )
    mark = source.fingerprint(ticker)
    bars = source.minutes(ticker, first, last)
    if promises.check(
        bars.schema == RAW_SCHEMA, "minutes() has the columns and types of RAW_SCHEMA"
    ) and promises.check(bars.height > 0, f"minutes() has bars of {ticker} from {first} to {last}"):
        _check_bars(promises, bars, ticker, first, last)
        promises.check(
            _is_equal(bars, source.minutes(ticker, first, last)), "minutes() asked twice gives the same bars"
        )
    promises.check(bool(mark) and mark == source.fingerprint(ticker), "fingerprint() is a text that stays the same")
    long_ago = date(1995, 1, 1)  # a Sunday, and a holiday
    none = source.minutes(ticker, long_ago, long_ago)
    promises.check(
        none.schema == RAW_SCHEMA and none.is_empty(), "minutes() of a time without bars is empty, not wrong"
    )
    splits = source.splits(ticker)
    promises.check(isinstance(splits, tuple), "splits() is a tuple")
    promises.check(
        list(splits) == sorted(splits, key=lambda split: split.execution_date), "splits() is sorted, oldest first"
    )
    promises.check(
        all(split.ticker == ticker and split.split_from > 0 and split.split_to > 0 for split in splits),
        "splits() are of the ticker that was asked for, with positive shares",
    )
    known_until = source.known_until((ticker,), now)
    promises.check(
        known_until is not None and known_until.utcoffset() == timedelta(0) and known_until <= now,
        "known_until() is a time in UTC that is not after now",
    )
    return tuple(promises.broken)


def _check_bars(promises: _Findings, bars: pl.DataFrame, ticker: str, first: date, last: date) -> None:
    promises.check(set(bars["ticker"]) == {ticker}, "minutes() names the ticker that was asked for")
    stamps = bars["ts"].drop_nulls().dt.date()
    day = timedelta(days=1)  # a session may begin or end on another day of UTC
    promises.check(
        bool(((stamps >= first - day) & (stamps <= last + day)).all()), "minutes() tells only of what was asked for"
    )


def check_feed(
    feed: Feed, hours: Hours, minutes: Sequence[datetime], at: Callable[[datetime], datetime]
) -> tuple[str, ...]:
    """Return the promises that `feed` breaks in the session `hours`, which it should have bars of.

    minutes: some that follow each other in regular hours, each with bars of at least one ticker. at: lets time pass
    until the bars of a minute have been sent, and returns the time that it is then, UTC.
    """
    promises = _Findings()
    promises.check(bool(feed.name), "it has a name")
    began = minutes[0]
    morning = feed.begin(hours, began)
    _knows_the_morning(promises, morning, hours, began)
    seen: set[tuple[str, datetime]] = set()
    for minute in minutes:
        now = at(minute)
        for again in (False, True):
            delivery = feed.minute(minute, now)
            _delivers(promises, delivery, morning, hours, now)
            promises.check(delivery.minute == minute, "minute() tells of the minute that it was asked for")
            found = set(delivery.bars.select("ticker", "ts").iter_rows())
            promises.check(not (found & seen), "minute() hands a bar of its minute over once")
            promises.check(again or bool(found), "minute() has bars once they were sent")
            seen |= found
    problem = feed.problem()
    promises.check(isinstance(problem, str) and "\n" not in problem, "problem() is one line, empty where all is well")
    if isinstance(feed, VendorClock):
        ahead_s = feed.clock_ahead_s()
        promises.check(ahead_s is None or math.isfinite(ahead_s), "clock_ahead_s() is a number of seconds, or None")
    feed.close()
    feed.close()  # a bot that ends in the middle of its end
    return tuple(promises.broken)


def _knows_the_morning(promises: _Findings, morning: Morning, hours: Hours, now: datetime) -> None:
    for name, bars in (("earlier", morning.earlier), ("so_far", morning.so_far)):
        promises.check(bars.schema == BAR_SCHEMA, f"begin() gives {name} as BAR_SCHEMA")
    promises.check(
        bool((morning.earlier["session"] < hours.session).all()), "begin() gives earlier sessions as earlier"
    )
    promises.check(
        bool(((morning.so_far["session"] == hours.session) & (morning.so_far["ts"] + MINUTE <= now)).all()),
        "begin() gives of the session what has ended, and nothing that is to come",
    )
    tickers = morning.tickers
    promises.check(
        bool(tickers) and len(set(tickers)) == len(tickers) and not set(tickers) & set(morning.left_out),
        "begin() names tickers, each once, and none that is left out",
    )


def _delivers(promises: _Findings, delivery: Delivery, morning: Morning, hours: Hours, now: datetime) -> None:
    bars, corrected = delivery.bars, delivery.corrected
    promises.check(bars.schema == BAR_SCHEMA, "minute() gives bars as BAR_SCHEMA")
    promises.check(
        bool((bars["ts"] == delivery.minute).all()) and not bars["ticker"].is_duplicated().any(),
        "minute() gives bars of that minute, of each ticker at most one",
    )
    told = pl.concat([bars, corrected]) if corrected is not None else bars
    promises.check(set(told["ticker"]) <= set(morning.tickers), "minute() gives only tickers that begin() named")
    promises.check(
        bool(((told["ts"] + MINUTE <= now) & (told["ts"] >= hours.begins)).all()),
        "minute() gives no minute that has not ended, and none before the session",
    )
    promises.check(
        corrected is None or bool((corrected["ts"] < delivery.minute).all()), "minute() corrects earlier minutes only"
    )
    promises.check(
        all(isinstance(code, Code) for code in delivery.codes.values()), "minute() gives codes of hftcl.strategy.risk"
    )


def check_broker(broker: Broker, order: Order, trade: Callable[[], None]) -> tuple[str, ...]:
    """Return the promises that `broker` breaks; it trades, so let it be a simulated account.

    order: one to buy, that the account can pay for, in a ticker without a position or open order; its id and ids that
        begin with it must be new. trade: lets time pass until whatever is open has filled.
    """
    promises = _Findings()
    promises.check(
        bool(broker.name) and isinstance(broker.live_money, bool), "it has a name, and says if it is for real"
    )
    promises.check(
        all(isinstance(said, bool) for said in (broker.shorting, broker.turns, broker.extended_hours)),
        "it says whether what is not held may be sold, an order may turn a position, and extended hours are filled",
    )
    before = broker.account()
    promises.check(
        all(math.isfinite(value) for value in (before.cash, before.equity, before.buying_power)),
        "account() is in finite numbers",
    )
    _, cursor = broker.fills(None)
    promises.check(broker.find(order.client_order_id) is None, "find() of an id that was never sent is None")
    _check_submit(promises, broker, order)
    trade()
    _check_fills(promises, broker, order, cursor)
    after = broker.account().positions.get(order.ticker, 0.0) - before.positions.get(order.ticker, 0.0)
    promises.check(abs(after - order.quantity) <= _SHARES, "account() holds what filled")
    _check_cancel(promises, broker, replace(order, client_order_id=f"{order.client_order_id}-c"), trade)
    for n, quantity in enumerate((math.nan, math.inf, 0.0)):
        nonsense = replace(order, client_order_id=f"{order.client_order_id}-n{n}", quantity=quantity)
        promises.check_refusal(
            lambda nonsense=nonsense: broker.submit(nonsense),  # type: ignore[misc]
            OrderRefusedError,
            f"submit() refuses {quantity} shares with OrderRefusedError",
        )
    broker.submit(replace(order, client_order_id=f"{order.client_order_id}-s", quantity=-order.quantity))
    trade()
    promises.check(
        abs(broker.account().positions.get(order.ticker, 0.0) - before.positions.get(order.ticker, 0.0)) <= _SHARES,
        "selling what was bought leaves the position as it was",
    )
    broker.end_of_session(order.session)
    return tuple(promises.broken)


def _check_submit(promises: _Findings, broker: Broker, order: Order) -> None:
    name = order.client_order_id
    state = broker.submit(order)
    promises.check(state.client_order_id == name, "submit() answers with the id of the order")
    promises.check(_is_same(broker.find(name), state), "find() tells of the order that was submitted")
    promises.check(
        _is_same(broker.submit(order), state), "submit() of an id that is known answers with the known order"
    )
    ids = [other.client_order_id for other in broker.open_orders()]
    promises.check(not state.working or ids.count(name) == 1, "open_orders() has an order that may still fill, once")


def _check_fills(promises: _Findings, broker: Broker, order: Order, cursor: str) -> None:
    name = order.client_order_id
    state = broker.find(name)
    promises.check(state is not None and state.status == "filled", "an order that traded is filled")
    news, newer = broker.fills(cursor)
    fills = {fill.fill_id: fill for fill in news if fill.client_order_id == name}
    promises.check(all(_is_sound(fill, order) for fill in fills.values()), "fills() have the order's ticker and side")
    filled = math.fsum(fill.quantity for fill in fills.values())
    promises.check(abs(filled - order.quantity) <= _SHARES, "the fills of an order add up to its quantity")
    promises.check(
        state is not None and abs(state.filled - filled) <= _SHARES, "the fills of an order add up to what find() tells"
    )
    again, _ = broker.fills(newer)
    promises.check(
        {fill.fill_id for fill in again} <= {fill.fill_id for fill in news}, "no fill comes again by another id"
    )
    promises.check(
        broker.submit(order).status == "filled" and len(broker.fills(cursor)[0]) == len(news),
        "submit() of an order that has filled does not trade again",
    )


def _is_sound(fill: Fill, order: Order) -> bool:
    return (
        fill.ticker == order.ticker
        and fill.quantity * order.quantity > 0
        and math.isfinite(fill.price)
        and fill.price > 0
        and fill.commission >= 0
        and fill.ts.utcoffset() == fill.at.utcoffset() == timedelta(0)
    )


def _check_cancel(promises: _Findings, broker: Broker, order: Order, trade: Callable[[], None]) -> None:
    broker.submit(order)
    broker.cancel(order.client_order_id)
    broker.cancel(order.client_order_id)
    broker.cancel(f"{order.client_order_id}-never-sent")
    trade()
    state = broker.find(order.client_order_id)
    promises.check(state is not None and not state.working, "an order that was canceled is done")
    if state is not None and state.filled:  # it may fill before the broker hears of the cancellation
        broker.submit(replace(order, client_order_id=f"{order.client_order_id}-b", quantity=-state.filled))
        trade()


def _is_same(one: OrderState | None, other: OrderState) -> bool:
    """Whether two states are of one order at the broker; it may have filled in between."""
    return one is not None and (one.client_order_id, one.broker_order_id) == (
        other.client_order_id,
        other.broker_order_id,
    )


def check_family(family: Family) -> tuple[str, ...]:
    """Return the promises that `family` breaks on a small problem that holds something to learn.

    The graph is held to what a model file may hold, so a family that passes here is not refused after a training.

    >>> from hftcl.model.families import find_family
    >>> check_family(find_family('forest'))
    ()
    """
    promises = _Findings()
    promises.check(bool(family.name), "it has a name")
    params = complete(family, {})
    promises.check(set(params) == set(family.parameters()), "check() keeps the parameters that it is given")
    promises.check_refusal(
        lambda: complete(family, {"no such parameter": 1}), UsageError, "a parameter that it does not know is refused"
    )
    promises.check(_is_json(params), "its parameters are texts and numbers that JSON holds as they are")
    chance = np.random.default_rng(5)
    X = chance.normal(size=(_ROWS, _FEATURES)).astype(np.float32)
    y = (X[:, 0] + 0.1 * chance.normal(size=_ROWS)).astype(np.float32)
    steps: list[tuple[int, int]] = []

    def fit(jobs: int) -> Predictor:
        steps.clear()
        fitted = family.fit(X, y, params, seed=3, jobs=jobs, on_step=lambda done, total: steps.append((done, total)))
        if jobs == 1:
            _check_handed_over(promises, fitted)
        check_graph(fitted.onnx, _FEATURES)  # first: onnxruntime meets only what a model file may hold
        predictor = Predictor(fitted.onnx, _FEATURES)
        if jobs == 1 and hasattr(fitted.estimator, "predict"):
            told = np.asarray(fitted.estimator.predict(X)).reshape(-1)
            promises.check(
                told.shape == (_ROWS,) and bool(np.allclose(predictor.predict(X), told, rtol=0, atol=_SAME)),
                "the graph predicts what the estimator does",
            )
        return predictor

    try:
        one, two = fit(1), fit(2)
    except IntegrityError as error:
        promises.check(False, f"the graph may go into a model file: {error}")
        return tuple(promises.broken)
    promises.check(bool(steps) and steps[-1][0] == steps[-1][1], "on_step() is told the end")
    predictions = one.predict(X)
    promises.check(
        predictions.dtype == np.float32 and predictions.shape == (_ROWS,), "the graph gives one float32 for each row"
    )
    promises.check(bool(np.isfinite(predictions).all()), "the graph gives finite numbers")
    promises.check(
        np.array_equal(predictions, two.predict(X)), "the same rows and seed give the same model, whatever the cores"
    )
    alone = np.concatenate([one.predict(X[n : n + 1]) for n in range(20)])
    promises.check(
        np.array_equal(alone, predictions[:20]), "a row alone is predicted as it is among others, to the bit"
    )
    promises.check(float(np.corrcoef(predictions, y)[0, 1]) > 0.5, "what the first feature tells is learnt")
    _check_flat_target(promises, family, X, params)
    return tuple(promises.broken)


def _is_json(value: object) -> bool:
    """Whether `value` comes back from JSON as it was: so it goes to the training process and into a model file."""
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (TypeError, ValueError):
        return False


def _check_handed_over(promises: _Findings, fitted: Fitted) -> None:
    """Check what a training hands over beside the graph: its facts as JSON, its estimator as a file of joblib."""
    import joblib

    shares = fitted.importances
    promises.check(
        shares is None or (len(shares) == _FEATURES and all(map(math.isfinite, shares)) and _is_json(list(shares))),
        "importances are one plain finite number for each feature, or None",
    )
    promises.check(isinstance(fitted.engine, str) and bool(fitted.engine), "engine is a text that names what fitted")
    try:
        joblib.dump(fitted.estimator, io.BytesIO())
    except Exception as error:  # noqa: BLE001  pickling a stranger's object may raise anything
        promises.check(False, f"joblib can store the estimator: {type(error).__name__}: {error}")


def _check_flat_target(
    promises: _Findings, family: Family, X: npt.NDArray[np.float32], params: Mapping[str, object]
) -> None:
    """Check a target that never moves, as that of a ticker whose trading was halted."""
    y = np.zeros(_ROWS, dtype=np.float32)
    try:
        fitted = family.fit(X, y, params, seed=3, jobs=1, on_step=lambda done, total: None)
        check_graph(fitted.onnx, _FEATURES)
        kept = bool(np.isfinite(Predictor(fitted.onnx, _FEATURES).predict(X)).all())
    except Exception as error:  # noqa: BLE001  whatever a stranger's code raises is the finding
        promises.check(False, f"a target that never moves is fitted: {type(error).__name__}: {error}")
    else:
        promises.check(kept, "a target that never moves gives finite predictions")


def check_feature(feature: Feature) -> tuple[str, ...]:
    """Return the promises that `feature` breaks on bars of the synthetic market: no look-ahead, one value everywhere.

    A feature that passes may be added to the table of `hftcl.model.features`, at its end.

    >>> from dataclasses import replace
    >>> from hftcl.model.features import FEATURES
    >>> check_feature(replace(FEATURES[0], name='another_name'))
    ()
    """
    promises = _Findings()
    promises.check(bool(feature.name) and feature.name not in FEATURE_NAMES, "it has a name that no feature has yet")
    promises.check(bool(feature.group and feature.formula and feature.reason), "it has a group, a formula, a reason")
    promises.check(
        feature.lookback >= 0 and 0 <= feature.sessions <= WARMUP_SESSIONS,
        f"lookback is not negative, and it reads at most {WARMUP_SESSIONS} earlier sessions",
    )
    bars = _make_feature_bars()
    try:
        values = evaluate(build_grid(bars), (feature,))[feature.name]
        _check_values(promises, feature, bars, values)
    except Exception as error:  # noqa: BLE001  whatever a stranger's expression raises is the finding
        promises.check(False, f"it can be computed: {type(error).__name__}: {error}")
    return tuple(promises.broken)


def _make_feature_bars() -> pl.DataFrame:
    """Return BAR_SCHEMA bars of the earlier sessions and of the first minutes of the day, sorted by time."""
    calendar, source = Calendar("XNYS"), SyntheticSource(Settings())
    first = calendar.find_previous_session(_FEATURE_DAY, WARMUP_SESSIONS)
    sessions = calendar.sessions(first, _FEATURE_DAY)
    parts = [label(source.minutes(ticker, first, _FEATURE_DAY), sessions) for ticker in _TICKERS]
    bars = pl.concat(parts).filter("regular")
    return bars.filter((pl.col("session") < _FEATURE_DAY) | (pl.col("minute") < _MINUTES)).sort("ts", "ticker")


def _check_values(promises: _Findings, feature: Feature, bars: pl.DataFrame, values: pl.Series) -> None:
    promises.check(bool(values.drop_nulls().is_finite().all()), "its values are finite, or null where it has none")
    today = bars.select((pl.col("session") == _FEATURE_DAY).alias("today"))["today"]
    promises.check(values.filter(today).null_count() < today.sum(), "it has values within a session")
    stamps = bars.filter(today)["ts"].unique().sort()
    cuts = [stamps[n] for n in range(0, len(stamps), 10)]
    promises.check(
        all(
            evaluate(build_grid(known), (feature,))[feature.name].equals(values.head(known.height), null_equal=True)
            for known in (bars.filter(pl.col("ts") <= cut) for cut in cuts)
        ),
        "later bars never change it, to the bit",
    )
    streaming = StreamingFeatures(bars.filter(~today), table=(feature,))
    streaming.start(_FEATURE_DAY)
    live = [
        streaming.push(minute)[feature.name] for minute in bars.filter(today).partition_by("ts", maintain_order=True)
    ]
    promises.check(
        pl.concat(live).equals(values.filter(today), null_equal=True),
        "the bot, which keeps `lookback` minutes or 30, finds the values of training, to the bit",
    )


def _is_equal(one: pl.DataFrame, other: pl.DataFrame) -> bool:
    try:
        assert_frame_equal(one, other)
    except AssertionError:
        return False
    return True
