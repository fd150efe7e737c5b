"""Qlib on the bars of the benchmark, run by the Python of an environment of its own: `with_qlib.py FOLDER [WORD]`.

FOLDER holds a Parquet file of minute bars a ticker. With `--bars` they are written in Qlib's own form, which is not
measured; without a word one training is: Qlib's handler computes columns by its expressions, its dataset hands them to
its model of LightGBM, and its recorder keeps what that says. `--start` ends when its classes are imported.
"""

import os
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import qlib
from qlib.contrib.model.gbdt import LGBModel
from qlib.data.dataset import DatasetH
from qlib.data.dataset.handler import DataHandlerLP
from qlib.workflow import R

HORIZON: Final = 30
"""Minutes, as hftcl's default."""
DAYS: Final = 60
"""Of training, as hftcl's default."""
RETURNS: Final = (1, 2, 3, 5, 10, 15, 20, 30)
WINDOWS: Final = (5, 10, 15, 20, 30)
"""Minutes; the 31 columns of `peers.add_columns`, which roll over the night here."""
PARAMETERS: Final = {
    "learning_rate": 0.05, "max_depth": 5, "num_leaves": 32, "min_data_in_leaf": 100, "num_boost_round": 100,
    "feature_fraction_bynode": 5 / 31, "seed": 1,
}  # fmt: skip
"""Those of hftcl's family lightgbm."""
TINY: Final = 1e-12
"""Where a spread is divided by: its expressions have no NaN."""


def build_fields() -> tuple[list[str], list[str]]:
    """Return the expressions of the columns, and of the target."""
    move = "Log($close/Ref($close,1))"
    fields = [f"Log($close/Ref($close,{n}))" for n in RETURNS]
    for n in WINDOWS:
        fields += [
            f"Std({move},{n})",
            f"($close-Mean($close,{n}))/(Std($close,{n})+{TINY})",
            f"$volume/Mean($volume,{n})",
            f"(Max($high,{n})-Min($low,{n}))/$close",
        ]
    fields += [
        "(EMA($close,12)-EMA($close,26))/$close",
        f"Mean(Greater({move},0),14)/(Mean(Abs({move}),14)+{TINY})",
        "$minute",
    ]
    ahead = f"Ref($open,-{1 + HORIZON})/Ref($open,-1)-1"
    return fields, [f"({ahead})/(Std({move},{HORIZON})+{TINY})*$inside"]


def write_bars(folder: Path) -> None:
    """Write the bars of `folder` in the form of Qlib's provider, under `qlib` in it.

    Two fields come with the five of a bar: the minute of the day, and `inside`, 1 where the target's last bar lies in
    the same session and NaN where not, for an expression knows no sessions.
    """
    home = folder / "qlib"
    bars = {path.stem: pd.read_parquet(path) for path in sorted(folder.glob("*.parquet"))}
    moments = sorted({moment for one in bars.values() for moment in one["ts"]})
    place = {moment: number for number, moment in enumerate(moments)}
    texts = [moment.strftime("%Y-%m-%d %H:%M:%S") for moment in moments]
    (home / "calendars").mkdir(parents=True, exist_ok=True)
    (home / "calendars" / "1min.txt").write_text("\n".join(texts) + "\n")
    (home / "instruments").mkdir(exist_ok=True)
    (home / "instruments" / "all.txt").write_text("".join(f"{name}\t{texts[0]}\t{texts[-1]}\n" for name in bars))
    for name, one in bars.items():
        left = one.groupby(one["ts"].dt.date).cumcount(ascending=False)
        fields = {field: one[field] for field in ("open", "high", "low", "close", "volume")}
        fields["minute"] = one["ts"].dt.hour * 60 + one["ts"].dt.minute
        fields["inside"] = (left > HORIZON).map({True: 1.0, False: np.nan})
        target = home / "features" / name.lower()
        target.mkdir(parents=True, exist_ok=True)
        places = one["ts"].map(place).to_numpy()
        for field, values in fields.items():
            row = np.full(len(moments), np.nan, dtype="<f4")
            row[places] = values.to_numpy(dtype=float)
            np.concatenate([np.zeros(1, "<f4"), row]).tofile(target / f"{field}.1min.bin")  # first: where it begins


def train(folder: Path) -> int:
    """Compute, fit and record; return the rows that were learned from."""
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"  # Qlib's own default, which new versions of mlflow have to be told
    home = folder / "qlib"
    qlib.init(
        provider_uri={"1min": str(home)},
        region="us",
        kernels=os.cpu_count(),  # its default leaves two cores alone
        exp_manager={
            "class": "MLflowExpManager",
            "module_path": "qlib.workflow.expm",
            "kwargs": {"uri": f"file:{home}/runs", "default_exp_name": "benchmark"},
        },
    )
    last = pd.Timestamp((home / "calendars" / "1min.txt").read_text().split("\n")[-2])
    first = last.normalize() - pd.Timedelta(days=DAYS - 1)
    fields, target = build_fields()
    names = [f"column_{number}" for number in range(len(fields))]
    loader: dict[str, Any] = {
        "class": "QlibDataLoader",
        "kwargs": {"config": {"feature": (fields, names), "label": (target, ["target"])}, "freq": "1min"},
    }
    handler = DataHandlerLP("all", first, last, data_loader=loader, learn_processors=[{"class": "DropnaLabel"}])
    dataset = DatasetH(handler, segments={"train": (first, last)})
    with R.start(experiment_name="benchmark"):
        model = LGBModel(**PARAMETERS)
        model.fit(dataset, early_stopping_rounds=PARAMETERS["num_boost_round"], verbose_eval=0)
        R.save_objects(model=model)
    return len(dataset.prepare("train", col_set="label", data_key=DataHandlerLP.DK_L))


if __name__ == "__main__":
    if "--bars" in sys.argv:
        write_bars(Path(sys.argv[1]))
    elif "--start" not in sys.argv:
        sys.stdout.write(f"{train(Path(sys.argv[1]))}\n")
