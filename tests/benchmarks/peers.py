"""What people would use instead, each as a process of its own: `python -m tests.benchmarks.peers NAME FOLDER`.

FOLDER holds a Parquet file of minute bars a ticker, and in `rows` the matrix that hftcl learns from: X.npy, y.npy.
`guide` does what a guide on the subject shows: pandas, loops over windows, scikit-learn's forest. `intelex` and
`lightgbm` are one fit of that library by itself. None of them examines, deploys or keeps anything. A third word is the
share of the features that a forest tries at a split, "sqrt" where it is left out.
"""

import sys
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

TREES: Final = 200
DEPTH: Final = 12
LEAF: Final = 50
HORIZON: Final = 30
"""Minutes; as hftcl's defaults, whose forest these four numbers describe."""
DAYS: Final = 60
"""Of training, as hftcl's default; bars of days before them are not learned from."""
RETURNS: Final = (1, 2, 3, 5, 10, 15, 20, 30)
WINDOWS: Final = (5, 10, 15, 20, 30)
"""Minutes, chosen so that there are 31 columns, as many as hftcl has."""

Share = float | Literal["sqrt"]


def add_columns(bars: Any) -> Any:
    """Return 31 columns and the target of one ticker's bars, in the way of pandas; NaN where one is not known."""
    import pandas as pd

    close, volume = bars["close"], bars["volume"]
    moves = np.log(close).diff()
    columns: dict[str, Any] = {f"return_{n}": np.log(close).diff(n) for n in RETURNS}
    for n in WINDOWS:
        mean, spread = close.rolling(n).mean(), close.rolling(n).std()
        columns[f"volatility_{n}"] = moves.rolling(n).std()
        columns[f"distance_{n}"] = (close - mean) / spread.replace(0, np.nan)
        columns[f"volume_{n}"] = volume / volume.rolling(n).mean()
        columns[f"range_{n}"] = (bars["high"].rolling(n).max() - bars["low"].rolling(n).min()) / close
    fast, slow = close.ewm(span=12).mean(), close.ewm(span=26).mean()
    rise, fall = moves.clip(lower=0).rolling(14).mean(), -moves.clip(upper=0).rolling(14).mean()
    columns |= {
        "macd": (fast - slow) / close,
        "rsi": rise / (rise + fall).replace(0, np.nan),
        "minute": bars["ts"].dt.hour * 60 + bars["ts"].dt.minute,
    }
    ahead = bars["open"].shift(-1 - HORIZON) / bars["open"].shift(-1) - 1
    return pd.DataFrame({**columns, "target": ahead / columns["volatility_30"]})


def fit_guide(folder: Path, share: Share) -> int:
    """Read bars, compute columns, fit scikit-learn's forest on the rows of DAYS; return how many."""
    import pandas as pd
    import polars as pl
    from sklearn.ensemble import RandomForestRegressor

    parts = []
    for path in sorted(folder.glob("*.parquet")):
        read = pl.read_parquet(path)
        bars = pd.DataFrame({name: read[name].to_numpy() for name in ("open", "high", "low", "close", "volume")})
        bars["ts"] = read["ts"].dt.replace_time_zone(None).to_numpy()
        bars = bars[bars["ts"] >= bars["ts"].max().normalize() - pd.Timedelta(days=DAYS - 1)]
        parts.append(pd.concat([add_columns(day) for _, day in bars.groupby(bars["ts"].dt.date)]))
    rows = pd.concat(parts).replace([np.inf, -np.inf], np.nan).dropna()
    forest = RandomForestRegressor(
        TREES, max_depth=DEPTH, min_samples_leaf=LEAF, max_features=share, n_jobs=-1, random_state=1
    )
    forest.fit(rows.drop(columns="target").to_numpy(np.float32), rows["target"].to_numpy(np.float32))
    return len(rows)


def fit_intelex(folder: Path, share: Share) -> int:
    """Fit the forest of scikit-learn-intelex on the matrix; return its rows."""
    from sklearnex.ensemble import RandomForestRegressor

    X, y = read_rows(folder)
    RandomForestRegressor(
        TREES, max_depth=DEPTH, min_samples_leaf=LEAF, max_features=share, n_jobs=-1, random_state=1
    ).fit(X, y)
    return len(y)


def fit_lightgbm(folder: Path, share: Share) -> int:
    """Fit LightGBM on the matrix with the parameters of hftcl's family; return its rows."""
    from lightgbm import Dataset, train

    X, y = read_rows(folder)
    params = {
        "objective": "regression", "learning_rate": 0.05, "max_depth": 5, "num_leaves": 32, "min_data_in_leaf": 100,
        "feature_fraction_bynode": 5 / 31, "verbose": -1, "seed": 1,
    }  # fmt: skip
    train(params, Dataset(X, y), num_boost_round=100)
    return len(y)


def read_rows(folder: Path) -> tuple[Any, Any]:
    return np.load(folder / "rows" / "X.npy"), np.load(folder / "rows" / "y.npy")


PEERS: Final = {"guide": fit_guide, "intelex": fit_intelex, "lightgbm": fit_lightgbm}

if __name__ == "__main__":
    name, folder, *share = sys.argv[1:]
    sys.stdout.write(f"{PEERS[name](Path(folder), float(share[0]) if share else 'sqrt')}\n")
