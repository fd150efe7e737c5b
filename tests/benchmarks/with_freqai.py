"""FreqAI on the bars of the benchmark, run by the Python of an environment of its own: `with_freqai.py FOLDER [WORD]`.

FOLDER holds a Parquet file of minute bars a ticker. With `--bars` they are written in freqtrade's own form, which is
not measured; without a word one retrain is: freqtrade's classes load the history of ten pairs, compute columns by a
strategy, and fit and save one LightGBM model a pair, as its bot does when models are due. No exchange is asked.
`--start` ends when its classes are imported: a bot that runs for days has done that.
"""

import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from freqtrade.configuration import TimeRange
from freqtrade.data.dataprovider import DataProvider
from freqtrade.data.history import load_pair_history
from freqtrade.data.history.datahandlers import get_datahandler
from freqtrade.enums import CandleType, RunMode
from freqtrade.freqai.data_kitchen import FreqaiDataKitchen
from freqtrade.freqai.prediction_models.LightGBMRegressor import LightGBMRegressor
from freqtrade.strategy import IStrategy

HORIZON: Final = 30
"""Minutes, as hftcl's default."""
DAYS: Final = 60
"""Of training, as hftcl's default."""
WARMUP_DAYS: Final = 7
"""Of bars before them, so that no column of the first day is unknown."""
PERIODS: Final = (5, 10, 15, 20, 30)
SHORT_RETURNS: Final = (1, 2, 3)
"""Minutes; with PERIODS these make the 31 columns of `peers.add_columns`, which roll over the night here."""
LIGHTGBM: Final = {
    "learning_rate": 0.05, "max_depth": 5, "num_leaves": 32, "min_child_samples": 100, "n_estimators": 100,
    "colsample_bynode": 5 / 31, "random_state": 1, "verbosity": -1,
}  # fmt: skip
"""The parameters of hftcl's family lightgbm, by scikit-learn's names."""


class Columns(IStrategy):  # type: ignore[misc]  # its types are in an environment of its own
    """31 columns and hftcl's target; nothing is traded."""

    timeframe = "1m"
    stoploss = -1.0
    minimal_roi = {"0": 100.0}  # noqa: RUF012 - as a strategy of freqtrade has it

    def populate_indicators(self, dataframe: pd.DataFrame, metadata: dict[str, Any]) -> pd.DataFrame:
        return dataframe

    def feature_engineering_expand_all(
        self, dataframe: pd.DataFrame, period: int, metadata: dict[str, Any], **_: object
    ) -> pd.DataFrame:
        close, logs = dataframe["close"], np.log(dataframe["close"])
        mean, spread = close.rolling(period).mean(), close.rolling(period).std()
        dataframe["%-return-period"] = logs.diff(period)
        dataframe["%-volatility-period"] = logs.diff().rolling(period).std()
        dataframe["%-distance-period"] = (close - mean) / spread.replace(0, np.nan)
        dataframe["%-volume-period"] = dataframe["volume"] / dataframe["volume"].rolling(period).mean()
        reach = dataframe["high"].rolling(period).max() - dataframe["low"].rolling(period).min()
        dataframe["%-range-period"] = reach / close
        return dataframe

    def feature_engineering_expand_basic(
        self, dataframe: pd.DataFrame, metadata: dict[str, Any], **_: object
    ) -> pd.DataFrame:
        close, moves = dataframe["close"], np.log(dataframe["close"]).diff()
        for minutes in SHORT_RETURNS:
            dataframe[f"%-return-{minutes}"] = np.log(close).diff(minutes)
        dataframe["%-macd"] = (close.ewm(span=12).mean() - close.ewm(span=26).mean()) / close
        rise, fall = moves.clip(lower=0).rolling(14).mean(), -moves.clip(upper=0).rolling(14).mean()
        dataframe["%-rsi"] = rise / (rise + fall).replace(0, np.nan)
        return dataframe

    def feature_engineering_standard(
        self, dataframe: pd.DataFrame, metadata: dict[str, Any], **_: object
    ) -> pd.DataFrame:
        dataframe["%-minute"] = dataframe["date"].dt.hour * 60 + dataframe["date"].dt.minute
        return dataframe

    def set_freqai_targets(self, dataframe: pd.DataFrame, metadata: dict[str, Any], **_: object) -> pd.DataFrame:
        opens = dataframe["open"].groupby(dataframe["date"].dt.date)
        ahead = opens.shift(-1 - HORIZON) / opens.shift(-1) - 1
        dataframe["&-target"] = ahead / np.log(dataframe["close"]).diff().rolling(HORIZON).std()
        return dataframe


def write_bars(folder: Path) -> None:
    """Write the bars of `folder` as freqtrade stores candles, under `freqai` in it."""
    data = folder / "freqai" / "data"
    data.mkdir(parents=True, exist_ok=True)
    handler = get_datahandler(data, "feather")
    for path in sorted(folder.glob("*.parquet")):
        bars = pd.read_parquet(path, columns=["ts", "open", "high", "low", "close", "volume"])
        bars["ts"] = bars["ts"].dt.as_unit("ms")  # as it writes them itself
        handler.ohlcv_store(name_pair(path), "1m", bars.rename(columns={"ts": "date"}), CandleType.SPOT)


def name_pair(path: Path) -> str:
    return f"{path.stem}/USD"


def build_config(folder: Path) -> dict[str, Any]:
    """Return the settings of a bot whose models are due for the pairs of `folder`."""
    return {
        "user_data_dir": folder / "freqai",
        "datadir": folder / "freqai" / "data",
        "timeframe": "1m",
        "stake_currency": "USD",
        "runmode": RunMode.DRY_RUN,
        "candle_type_def": CandleType.SPOT,
        "dataformat_ohlcv": "feather",
        "exchange": {"pair_whitelist": [name_pair(path) for path in sorted(folder.glob("*.parquet"))]},
        "freqai": {
            "identifier": "benchmark",
            "train_period_days": DAYS,
            "purge_old_models": 2,
            "feature_parameters": {
                "include_timeframes": ["1m"],
                "include_corr_pairlist": [],
                "include_shifted_candles": 0,
                "indicator_periods_candles": list(PERIODS),
                "label_period_candles": HORIZON,
                "buffer_train_data_candles": 0,
                "shuffle_after_split": False,
                "weight_factor": 0,
            },
            "data_split_parameters": {"test_size": 0},
            "model_training_parameters": LIGHTGBM,
        },
    }


def retrain(folder: Path) -> int:
    """Load, compute, fit and save a model of each pair; return the rows that all of them learned from."""
    config, rows = build_config(folder), 0
    strategy = Columns(config)
    strategy.dp = DataProvider(config, None)
    model = LightGBMRegressor(config)
    model.live = True
    for pair in config["exchange"]["pair_whitelist"]:
        # without the candles of no trade that freqtrade puts into each night: they would be three of four
        history = load_pair_history(
            pair, "1m", config["datadir"], fill_up_missing=False, data_format="feather", candle_type=CandleType.SPOT
        )
        model.dd.historic_data[pair] = {"1m": history}
        end = int(history["date"].iloc[-1].timestamp()) + 60
        learned = TimeRange("date", "date", end - DAYS * 86_400, end)
        loaded = TimeRange("date", "date", end - (DAYS + WARMUP_DAYS) * 86_400, end)
        kitchen = FreqaiDataKitchen(config, True, pair)
        kitchen.set_paths(pair, learned.stopts)
        model.dd.set_pair_dict_info({"pair": pair})
        model.extract_data_and_train_model(learned, pair, strategy, kitchen, loaded)
        rows += len(kitchen.data_dictionary["train_features"])
    return rows


if __name__ == "__main__":
    if "--bars" in sys.argv:
        write_bars(Path(sys.argv[1]))
    elif "--start" not in sys.argv:
        sys.stdout.write(f"{retrain(Path(sys.argv[1]))}\n")
