"""Bars that come late or otherwise: what is computed again from their minute on is, to the bit, what all bars give."""

import random
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hftcl.archive.artifact import Model
from hftcl.trading.decide.live_features import BAR_KEYS, LiveFeatures
from hftcl.trading.decide.model_decisions import ModelDecisions
from tests.trading.bot_stand import DAY, TICKERS, archived, bars_of, session_minutes, stand
from tests.trading.trading_cases import MINUTE

KEYS = ["ts", "ticker"]


@pytest.fixture
def model(tmp_path: Path) -> Model:
    archived(tmp_path)
    bot = stand(tmp_path)
    bot.loop.look_if_due()
    assert bot.loop.serving.in_use is not None
    bot.close()
    return bot.loop.serving.in_use.model


def corrected(known: pl.DataFrame, late: pl.DataFrame, minute: datetime, chance: random.Random) -> pl.DataFrame:
    """Return some bars of the last quarter of an hour: of those that were held back, and others with other numbers."""
    recent = known.filter(pl.col("ts") >= minute - 15 * MINUTE)
    again = recent[sorted(chance.sample(range(recent.height), 3))].with_columns(
        volume=pl.col("volume") + 7.0, close=pl.col("close") * (1.0 + 1e-4 * chance.random())
    )
    again = again.with_columns(high=pl.max_horizontal("high", "close"), low=pl.min_horizontal("low", "close"))
    return pl.concat([late, again]).unique(KEYS, keep="first", maintain_order=True)


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))])
def test_a_correction_gives_to_the_bit_what_all_bars_give(model: Model, seed: int) -> None:
    chance, weight = random.Random(seed), 1.0 / len(TICKERS)  # noqa: S311
    bars, minutes = bars_of(DAY), session_minutes()
    earlier, today = bars.filter(pl.col("session") < DAY), bars.filter(pl.col("session") == DAY)
    first = 40
    known = today.filter(pl.col("ts") < minutes[first])
    live = LiveFeatures(DAY, earlier, known)
    decisions = ModelDecisions(model, weight, live.seen)
    late, partial = known.clear(), 0
    for place in range(first, first + 24):
        now = today.filter(pl.col("ts") == minutes[place])
        kept = now.filter(pl.Series([chance.random() > 0.2 for _ in range(now.height)], dtype=pl.Boolean))
        late = pl.concat([late, now.join(kept, on=KEYS, how="anti")])
        decisions.decide(live.push(kept))
        if place % 2:  # a caller that does not is as well off: the next minute does
            live.mark()
        known = pl.concat([known, kept])
        if place % 3 or not kept.height:
            continue
        new = corrected(known, late, minutes[place], chance)
        late = late.clear()
        known = pl.concat([known.join(new, on=KEYS, how="anti"), new])
        after = live.correct(new)
        if after is None:
            decisions = ModelDecisions(model, weight, live.seen)
        else:
            partial += 1
            decisions.correct(live.seen, after)
        whole = LiveFeatures(DAY, earlier, known)
        assert_frame_equal(live.seen.sort(KEYS), whole.seen.sort(KEYS), check_exact=True)
        assert_frame_equal(live.bars.sort(KEYS), whole.bars.sort(KEYS), check_exact=True)
        fresh = ModelDecisions(model, weight, whole.seen)
        assert decisions.last_targets == fresh.last_targets
        following = today.filter(pl.col("ts") == minutes[place + 1])
        ahead, expected = LiveFeatures(DAY, earlier, known), fresh.decide(whole.push(following))
        assert ahead.push(following).height == following.height
        mine = _look_ahead(live, decisions, following)
        assert_frame_equal(mine.sort("ticker"), expected.sort("ticker"), check_exact=True)
    assert partial >= 4, "most corrections begin at a state that was kept"


def _look_ahead(live: LiveFeatures, decisions: ModelDecisions, bars: pl.DataFrame) -> pl.DataFrame:
    """Return what would be decided on the next minute, without taking it."""
    rows = live._stream.copy().push(bars)
    book = decisions._build_book()
    predicted = pl.concat([*decisions._predicted, rows.select(*BAR_KEYS, decisions._predict(rows))])
    positions = book.push(predicted)
    placed = predicted.select("ticker", "ts", "prediction").with_columns(positions["position"].alias("target"))
    return placed.tail(bars.height)
