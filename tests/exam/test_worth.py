"""What an exam lacked: the figures by a second way, and a conclusion that is right where the cause is known."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from hftcl.exam.simulation import simulate
from hftcl.exam.worth import MINUTES, Worth, measure_worth
from hftcl.model.features import features
from hftcl.model.target import compute_targets
from hftcl.strategy.positions import compute_signals, compute_target_positions
from tests.model.feature_cases import market

Signals = npt.NDArray[np.int64]
OPEN = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
SESSION_MINUTES = 200
BP = 1e-4


def walk(random: np.random.Generator, sessions: int, drift: npt.NDArray[np.float64] | None = None) -> pl.DataFrame:
    """Return one ticker's sessions whose opens move by 3 bp a minute and, from minute to minute, by `drift`."""
    moves = random.normal(0, 3 * BP, (sessions, SESSION_MINUTES))
    moves += 0 if drift is None else drift
    opens = 100 * np.exp(np.cumsum(moves, axis=1))
    days = np.repeat(np.arange(sessions), SESSION_MINUTES)
    minute = np.tile(np.arange(SESSION_MINUTES), sessions)
    return pl.DataFrame(
        {
            "ticker": ["A"] * len(days),
            "ts": [OPEN + timedelta(days=int(day), minutes=int(n)) for day, n in zip(days, minute, strict=True)],
            "session": [date(2026, 1, 5) + timedelta(days=int(day)) for day in days],
            "minute": minute.astype(np.int32),
            "session_minutes": np.full(len(days), SESSION_MINUTES, dtype=np.int32),
            "open": opens.ravel(),
            "close": np.column_stack([opens[:, 1:], opens[:, -1:]]).ravel(),
        }
    ).with_columns(pl.col("ts").dt.cast_time_unit("us"))


def examine(bars: pl.DataFrame, signals: Signals, *, cost_bps: float, horizon_minutes: int = 30) -> Worth:
    positions = compute_target_positions(
        bars.with_columns(prediction=pl.Series(signals, dtype=pl.Float64)),
        threshold=0.5,
        horizon_minutes=horizon_minutes,
        weight=1.0,
        flat_minutes_before_close=2,
    )
    result = simulate(bars, positions, cost_bps=cost_bps)
    return measure_worth(
        bars,
        signals,
        gross=float(result.gross.sum()),
        turnover=float(result.turnover.sum()),
        cost_bps=cost_bps,
        horizon_minutes=horizon_minutes,
    )


def draw_signals(random: np.random.Generator, sessions: int, share: float = 0.1) -> Signals:
    drawn = random.uniform(size=sessions * SESSION_MINUTES)
    return (np.where(drawn < share / 2, -1, 0) + np.where(drawn > 1 - share / 2, 1, 0)).astype(np.int64)


def drift_after(signals: Signals, minutes: int, bps: float) -> npt.NDArray[np.float64]:
    """Return moves that let each signal earn `bps`, spread over so many minutes from its fill on."""
    by_session = signals.reshape(-1, SESSION_MINUTES)
    drift = np.zeros(by_session.shape)
    for later in range(2, 2 + minutes):  # the open of the next minute is where it fills
        drift[:, later:] += by_session[:, :-later] * bps * BP / minutes
    return drift


def test_a_signal_earns_what_the_target_of_its_bar_says_in_other_units() -> None:
    bars = market(2, tickers=("AAA", "BBB"), sessions=3, minutes=170)
    vol = features(bars)["vol_30"].cast(pl.Float64)
    chosen = np.arange(bars.height) % 3 - 1
    signals = np.where(vol.is_not_null().to_numpy() & (vol > 0).fill_null(value=False).to_numpy(), chosen, 0)
    worth = measure_worth(bars, signals, gross=0.0, turnover=1.0, cost_bps=1.0, horizon_minutes=30)
    assert [held.minutes for held in worth.fades] == list(MINUTES)
    for held in worth.fades:
        moved = compute_targets(bars, held.minutes)["target"].cast(pl.Float64) * vol * held.minutes**0.5 / BP
        earned = (moved * signals).filter(pl.Series(signals != 0)).drop_nulls()
        assert held.signals == earned.len() > 40
        assert held.earned_bps == pytest.approx(earned.mean(), rel=1e-4, abs=1e-3)


def test_a_cost_of_the_break_even_leaves_nothing() -> None:
    random = np.random.default_rng(1)
    signals = draw_signals(random, 10)
    bars = walk(random, 10, drift_after(signals, 30, 8.0))
    worth = examine(bars, signals, cost_bps=1.0)
    assert worth.break_even_bps is not None
    assert worth.break_even_bps > 1
    positions = compute_target_positions(
        bars.with_columns(prediction=pl.Series(signals, dtype=pl.Float64)),
        threshold=0.5, horizon_minutes=30, weight=1.0, flat_minutes_before_close=2,
    )  # fmt: skip
    assert simulate(bars, positions, cost_bps=worth.break_even_bps).net.sum() == pytest.approx(0, abs=1e-12)


def test_the_mean_and_its_error_are_those_of_a_hand_calculation() -> None:
    bars = walk(np.random.default_rng(0), 2)
    opens = np.array([100.0] * SESSION_MINUTES + [50.0] * SESSION_MINUTES)
    opens[12] = 101.0  # session 1: filled at minute 11 at 100, left at minute 12 at 101, +100 bp
    opens[SESSION_MINUTES + 6] = 50.1  # session 2: a short, filled at minute 5 at 50, left at 6 at 50.1, -20 bp
    signals = np.zeros(len(opens), dtype=np.int64)
    signals[10], signals[SESSION_MINUTES + 4] = 1, -1
    worth = measure_worth(
        bars.with_columns(open=pl.Series(opens)), signals, gross=0.0, turnover=1.0, cost_bps=1.0, horizon_minutes=1
    )
    (one,) = (held for held in worth.fades if held.minutes == 1)
    assert (one.signals, one.sessions) == (2, 2)
    assert one.earned_bps == pytest.approx(40.0)
    assert one.error_bps == pytest.approx(60.0)  # half the distance of two values, as of any mean of two
    assert one.break_even_bps == pytest.approx(20.0)


def test_a_minute_without_a_bar_is_filled_at_the_next_one_as_a_target_is() -> None:
    bars = walk(np.random.default_rng(2), 1)
    signals = np.zeros(bars.height, dtype=np.int64)
    signals[10] = 1
    whole = measure_worth(bars, signals, gross=0.0, turnover=1.0, cost_bps=1.0, horizon_minutes=5)
    holes = pl.Series(np.isin(np.arange(bars.height), (11, 16)))
    fewer = measure_worth(
        bars.filter(~holes), signals[~holes.to_numpy()], gross=0.0, turnover=1.0, cost_bps=1.0, horizon_minutes=5
    )
    opens = bars["open"]
    five = {held.minutes: held.earned_bps for held in fewer.fades}[5]
    assert five == pytest.approx((opens[17] / opens[12] - 1) / BP)
    assert five != pytest.approx({held.minutes: held.earned_bps for held in whole.fades}[5])


def test_a_signal_whose_session_ends_before_it_is_given_up_counts_nowhere() -> None:
    bars = walk(np.random.default_rng(3), 3)
    signals = np.zeros(bars.height, dtype=np.int64)
    signals[SESSION_MINUTES - 10] = 1  # 5 minutes fit, 15 would end in the next session
    worth = measure_worth(bars, signals, gross=0.0, turnover=1.0, cost_bps=1.0, horizon_minutes=30)
    assert [held.minutes for held in worth.fades] == [1, 5]


@pytest.mark.parametrize(
    ("earned_bps", "within", "cost_bps", "fault"),
    [(8.0, 30, 1.0, "none"), (8.0, 30, 9.0, "cost"), (20.0, 110, 4.0, "horizon"), (0.0, 30, 1.0, "model")],
)
def test_what_is_at_fault_is_named_where_it_is_known(
    earned_bps: float, within: int, cost_bps: float, fault: str
) -> None:
    random = np.random.default_rng(4)
    signals = draw_signals(random, 60, share=0.01)
    bars = walk(random, 60, drift_after(signals, within, earned_bps))
    worth = examine(bars, signals, cost_bps=cost_bps)
    assert worth.fault == fault, worth.conclusion
    assert worth.conclusion.startswith({"none": "It earns", "model": "The model"}.get(fault, f"The {fault}"))


@pytest.mark.parametrize("models", [100, pytest.param(300, marks=pytest.mark.slow)])
def test_a_worthless_model_seldom_seems_to_hold_something(models: int) -> None:
    """The bound lets one in twenty pass; three standard errors of a count more."""
    random, others = np.random.default_rng(6), 0
    for _ in range(models):
        signals = draw_signals(random, 10, share=0.05)
        others += examine(walk(random, 10), signals, cost_bps=1.0).fault != "model"
    assert others <= models * 0.05 + 3 * (models * 0.05 * 0.95) ** 0.5


def test_a_model_that_trades_nothing_is_told_to_do_so() -> None:
    bars = walk(np.random.default_rng(5), 3)
    worth = examine(bars, np.zeros(bars.height, dtype=np.int64), cost_bps=1.0)
    assert (worth.fault, worth.break_even_bps, worth.fades) == ("no signal", None, ())
    assert "threshold" in worth.conclusion


@pytest.mark.parametrize(
    ("above", "near", "told"),
    [
        (0, 0, "No prediction was above the entry threshold: the model trades nothing."),
        (7, 0, "of 7 predictions above the entry threshold, 7 lie too far from the training ([model] novelty)."),
        (7, 7, "of 7 predictions above the entry threshold, 7 are to the side that is not traded ([strategy] side)."),
        (7, 3, "7 predictions above the entry threshold, 4 lie too far from the training ([model] novelty), 3 are to "),
    ],
)
def test_what_kept_predictions_from_being_signals_is_said(above: int, near: int, told: str) -> None:
    bars = walk(np.random.default_rng(5), 1)
    worth = measure_worth(
        bars,
        np.zeros(bars.height, dtype=np.int64),
        gross=0.0,
        turnover=0.0,
        cost_bps=1.0,
        horizon_minutes=30,
        above=above,
        near=near,
    )
    assert told in worth.conclusion


def test_signals_too_late_to_be_held_are_no_lack_of_predictions() -> None:
    bars = walk(np.random.default_rng(5), 1)
    signals = np.zeros(bars.height, dtype=np.int64)
    signals[-2:] = 1
    worth = examine(bars, signals, cost_bps=1.0)
    assert worth.conclusion == (
        "The model trades nothing: of 2 predictions above the entry threshold, 2 came too late in their session."
    )


def test_signals_are_what_the_positions_count() -> None:
    predictions = pl.Series([0.9, -0.1, -0.8, None, float("nan"), 0.5])
    assert compute_signals(predictions, threshold=0.5).to_list() == [1, 0, -1, 0, 0, 0]
