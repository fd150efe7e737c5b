"""The bot computes what its models read, and no more; what they decide is the same to the bit."""

from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from hftcl.archive import artifact
from hftcl.model.features import FEATURES, Feature
from hftcl.trading.decide.live_features import LiveFeatures
from hftcl.trading.decide.model_decisions import ModelDecisions
from tests.trading.bot_stand import (
    DAY,
    TICKERS,
    TRAINED,
    archived,
    bars_of,
    session_minutes,
    some_minutes,
    stand,
)

FIRST = ("ret_5", "vol_30", "range_position", "watchlist_ret_15")
OTHERS = ("vol_30", "garman_klass_20", "atr_14", "gap_overnight", "ret_30_vs_watchlist", "money_flow_20")


def decided_by_all_features(home: Path, model_id: str, until: int) -> pl.DataFrame:
    """Return ticker, ts, prediction and target of a model that is given every feature, up to a minute of the day."""
    bars, end = bars_of(DAY), session_minutes()[until]
    today = bars.filter((pl.col("session") == DAY) & (pl.col("ts") < end))
    live = LiveFeatures(DAY, bars.filter(pl.col("session") < DAY), today)
    model = artifact.load(home / "models" / f"model_{model_id}.onnx")
    weight = 1.0 / len(TICKERS)
    return ModelDecisions(model, weight, live.seen.clear()).decide(live.seen)


def test_a_bot_computes_what_its_model_reads_and_more_when_one_comes_that_reads_more(tmp_path: Path) -> None:
    old = archived(tmp_path, names=FIRST)
    bot = stand(tmp_path, first=40)
    bot.run(DAY, some_minutes(40, 5))
    features = bot.loop.bot._features
    assert features.seen.columns[5:] == [*FIRST]
    new = archived(tmp_path, TRAINED + timedelta(hours=1), names=OTHERS)
    bot.controls.look = True
    bot.run(DAY, some_minutes(45, 5))
    assert set(features.seen.columns[5:]) == {*FIRST, *OTHERS}
    rows = bot.ledger.read_decisions().filter(pl.col("prediction").is_not_null())
    assert rows["model_id"].unique(maintain_order=True).to_list() == [old, new]
    for model_id in (old, new):
        mine = rows.filter(pl.col("model_id") == model_id).select("ticker", "ts", "prediction", "target")
        expected = decided_by_all_features(tmp_path, model_id, 50).join(mine, on=["ticker", "ts"], how="semi")
        assert mine.height == expected.height > 0
        both = mine.join(expected, on=["ticker", "ts"], suffix="_all")
        assert both["prediction"].cast(pl.Float32).equals(both["prediction_all"].rename("prediction"))
        assert both["target"].equals(both["target_all"].rename("target"))


def test_what_comes_late_after_features_were_added_gives_to_the_bit_what_all_bars_give() -> None:
    bars, minutes = bars_of(DAY), session_minutes()
    earlier, today = bars.filter(pl.col("session") < DAY), bars.filter(pl.col("session") == DAY)
    live = LiveFeatures(DAY, earlier, today.filter(pl.col("ts") < minutes[60]), reads=FIRST)
    held_back = today.filter((pl.col("ts") == minutes[62]) & (pl.col("ticker") == "AMD"))
    for minute in minutes[60:70]:
        live.push(today.filter(pl.col("ts") == minute).join(held_back, on=["ticker", "ts"], how="anti"))
    live.widen(OTHERS)
    live.correct(held_back)
    whole = LiveFeatures(DAY, earlier, today.filter(pl.col("ts") < minutes[70])).seen.sort("ts", "ticker")
    assert live.seen.sort("ts", "ticker").equals(whole.select(live.seen.columns))
    assert set(live.seen.columns[5:]) == {*FIRST, *OTHERS}


def make_own(expr: pl.Expr) -> Feature:
    return Feature(name="mine", group="own", expr=expr, lookback=0, formula="mine", reason="r", source="0" * 64)


def test_at_the_beginning_of_a_session_only_own_features_are_computed_of_the_sessions_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bars, table = bars_of(DAY), (*FEATURES, make_own(pl.col("close") / pl.col("open")))
    earlier, today = bars.filter(pl.col("session") < DAY), bars.filter(pl.col("session") == DAY)
    named: set[str] = set()
    alias = pl.Expr.alias

    def note(expr: pl.Expr, name: str) -> pl.Expr:
        named.add(name)
        return alias(expr, name)

    monkeypatch.setattr(pl.Expr, "alias", note)
    names = {feature.name for feature in table}
    live = LiveFeatures(DAY, earlier, today.clear(), table=table)
    assert named & names == {"mine"}
    begun = LiveFeatures(DAY, earlier, today.filter(pl.col("ts") < session_minutes()[1]), table=table)
    assert named & names == names
    assert live.seen.schema == begun.seen.schema
    assert live.seen.is_empty()


def test_an_own_feature_that_cannot_be_computed_is_told_at_the_beginning_of_the_session() -> None:
    def fail(closes: pl.Series) -> pl.Series:
        raise ValueError(f"{len(closes)} closes are too many")

    own = make_own(pl.col("close").map_batches(fail, return_dtype=pl.Float64))
    bars = bars_of(DAY)
    earlier = bars.filter(pl.col("session") < DAY)
    with pytest.raises(ValueError, match="closes are too many"):
        LiveFeatures(DAY, earlier, bars.clear(), table=(*FEATURES, own))
