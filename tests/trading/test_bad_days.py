"""Whole sessions with a broker that loses answers, tells fills late and in parts, and refuses; drawn from a seed."""

import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hftcl.errors import BrokerError
from hftcl.trading.execute.reconciliation import reconcile
from tests.trading.strict_stand import Bench, bench
from tests.trading.trading_cases import MINUTE, at

TICKERS = 20
CLOSES_AT = 5  # minutes before the bell, since an outage may take one or two


@dataclass
class Day:
    """What a session came to."""

    at_the_bell: dict[str, float]
    apart: dict[str, tuple[float, float]]
    beyond: list[str] = field(default_factory=list)
    told: Counter[str] = field(default_factory=Counter)
    orders: int = 0
    late: int = 0


def live_through(folder: Path, seed: int, minutes: int) -> Day:
    """Trade a session towards targets that are drawn, and die and start again twice in it."""
    draw = random.Random(seed)  # noqa: S311 - reproducible, not secret
    borrowed = tuple(f"T{n:03d}" for n in draw.sample(range(TICKERS), 2))
    with bench(folder, tickers=TICKERS, weather="storm", seed=seed, hard_to_borrow=borrowed) as first:
        made = first
        wanted: dict[str, float] = {}
        most: dict[str, float] = {}
        beyond: list[str] = []
        deaths = set(draw.sample(range(5, minutes - 20), 2))
        for minute in range(minutes - CLOSES_AT):
            if minute in deaths:
                made = risen(made, minute)
            for name in draw.sample(made.tickers, 4):
                wanted[name] = float(draw.randint(-30, 30))
                most[name] = max(most.get(name, 0.0), abs(wanted[name]))
            made.minute(minute, wanted)
            held = made.account.positions
            beyond += [f"{minute} {name} {shares}" for name, shares in held.items() if abs(shares) > most[name]]
        for minute in range(minutes - CLOSES_AT, minutes):
            made.close_all(minute)
        at_the_bell = dict(made.account.positions)
        for n in range(6):  # the evening, until the broker has answered
            made.broker.now = at(minutes + n)  # type: ignore[attr-defined]
            made.desk.close_session(made.context(minutes + n))
        late = sum(row.told_at > row.at + 2 * MINUTE for row in made.account.activities)
        return Day(at_the_bell, made.apart, beyond, Counter(made.subjects), len(made.account.orders), late)


def risen(made: Bench, minute: int) -> Bench:
    """Return the desk of a bot that was killed and has started again; it asks until the broker answers."""
    for _ in range(20):
        try:
            reconcile(made.ledger, made.broker, at(minute))
            break
        except BrokerError:
            continue
    return Bench(made.ledger, made.broker, tickers=made.tickers, told=made.told)


def judge(day: Day) -> None:
    assert day.at_the_bell == {}, "flat before the bell"
    assert day.apart == {}, "ledger and broker hold the same to the share"
    assert day.beyond == [], "no order was doubled"
    assert day.orders > 100
    assert day.late > 10
    assert day.told["ledger and broker do not agree"] == 0, "what comes late is no difference"
    assert day.told["somebody else traded in the account"] == 0
    assert day.told["fault"] <= 6, "an outage that comes and goes is told once, and is over after ten calm minutes"


@pytest.mark.hazard(50)
@pytest.mark.hazard(52)
@pytest.mark.parametrize("seed", range(4))
def test_a_bad_day_ends_flat_with_every_fill_booked_and_no_order_doubled(tmp_path: Path, seed: int) -> None:
    judge(live_through(tmp_path, seed, 90))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 200))
def test_a_hundred_bad_days_of_390_minutes(tmp_path: Path, seed: int) -> None:
    judge(live_through(tmp_path, seed, 390))
