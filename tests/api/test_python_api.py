"""The Python API as the guide uses it: in a script, on stdin, in a running event loop, from pandas to pandas."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hftcl import ContinuousLearning
from hftcl.errors import UsageError
from hftcl.model.features import FEATURES
from tests.installed import find_trainers
from tests.loop_cases import NOW, first_retrain, small
from tests.trained import Homes

NAMES = [feature.name for feature in FEATURES]


def learning(home: Path) -> ContinuousLearning:
    return ContinuousLearning(small(home), clock=lambda: NOW)


def test_the_guide_s_names_become_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cl = ContinuousLearning(retrain_frequency_days=3, validation_threshold_sharpe=0.8)
    assert (cl.settings.triggers.max_age_days, cl.settings.promote.min_sharpe) == (3, 0.8)
    with pytest.raises(UsageError, match="not both"):
        ContinuousLearning(small(tmp_path), retrain_frequency_days=3)


def test_training_data_is_one_row_a_bar_with_31_features_and_a_target(tmp_path: Path) -> None:
    df = learning(tmp_path).collect_training_data(lookback_days=20)
    assert list(df.columns[:3]) == ["ticker", "ts", "session"]
    assert set(NAMES) <= set(df.columns)
    assert len(NAMES) == 31
    assert str(df["ts"].dtype) == "datetime64[us, UTC]"
    assert df["ts"].max() <= NOW
    assert (df[NAMES].dtypes == np.float32).all()
    assert df.attrs["synthetic"] is True
    complete = df[NAMES].notna().all(axis=1)
    assert complete.mean() > 0.6


def test_a_frame_trains_a_model_and_tells_its_exam_without_touching_the_archive(tmp_path: Path) -> None:
    cl = learning(tmp_path)
    df = cl.collect_training_data()
    model, metrics, samples = cl.train_new_model(df, model_params={"alpha": 50.0})
    assert samples > 5000
    assert metrics["trades"] > 0
    assert len(metrics["pnl_by_session"]) >= 10
    rows = df[NAMES].dropna().to_numpy(dtype=np.float32)[:5]
    assert model.predict(rows).shape == (5,)
    assert len(cl.get_model_history()) == 0
    assert not (tmp_path / "trained_stock_model.onnx").exists()


def test_a_frame_trains_the_very_model_that_retrain_trains(tmp_path: Path) -> None:
    cl = learning(tmp_path)
    _, metrics, samples = cl.train_new_model(cl.collect_training_data())
    report = cl.retrain(force=True, dry_run=True)
    assert find_trainers(os.getpid()) == [], "the training process ends with the retrain"
    assert report.challenger is not None
    assert (samples, metrics["positions_sha256"]) == (report.rows, report.challenger.positions_sha256)


def test_a_frame_that_lacks_a_feature_is_refused_by_name(tmp_path: Path) -> None:
    cl = learning(tmp_path)
    df = cl.collect_training_data(lookback_days=10)
    with pytest.raises(UsageError, match=NAMES[0]):
        cl.train_new_model(df.drop(columns=[NAMES[0]]))


def test_history_is_a_frame_newest_first(homes: Homes, tmp_path: Path) -> None:
    empty = learning(tmp_path).get_model_history()
    assert list(empty.columns)[:3] == ["model_id", "trained_date", "val_sharpe"]
    homes.copy(tmp_path / "home", first_retrain, promote={"min_sharpe": -100})
    frame = learning(tmp_path / "home").get_model_history()
    assert frame["is_deployed"].tolist() == [True]
    assert frame["trained_date"].iloc[0] == NOW


def test_it_works_in_a_running_event_loop_as_a_notebook_has_one(tmp_path: Path) -> None:
    async def cell() -> str:
        return learning(tmp_path).retrain(force=True, dry_run=True).outcome

    assert asyncio.run(cell()) == "deployed"


def test_it_works_on_stdin(tmp_path: Path) -> None:
    script = (
        "import json\n"
        "from hftcl import ContinuousLearning\n"
        "report = ContinuousLearning().retrain(force=True, dry_run=True)\n"
        "print(json.dumps({'rows': report.rows}))\n"
    )
    (tmp_path / "hftcl.toml").write_text(
        '[market]\nwatchlist = ["AAPL", "AMD"]\nlookback_days = 40\n[model]\nn_estimators = 8\n'
    )
    done = subprocess.run(
        [sys.executable, "-"], input=script, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"] > 1000
