"""The Python API as the guide uses it: in a script, on stdin, in a running event loop, from pandas to pandas."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hftcl import ContinuousLearning, PerformanceTracker
from hftcl.archive.looks import read_looks
from hftcl.archive.registry import Registry
from hftcl.errors import UsageError
from hftcl.events import ignore
from hftcl.model.features import FEATURES
from tests.loop_cases import NOW, first_retrain, small
from tests.processes import find_trainers
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
    (look,) = read_looks(Registry(tmp_path), synthetic=True)
    assert (look.positions, look.sharpe) == (metrics["positions_sha256"], metrics["sharpe"]), "a try at these sessions"


@pytest.mark.usefixtures("no_warm_trainers")
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
    assert list(empty.columns) == ["model_id", "trained_date", "val_sharpe", "is_deployed"]
    homes.copy(tmp_path / "home", first_retrain, promote={"min_sharpe": -100})
    frame = learning(tmp_path / "home").get_model_history()
    assert frame["is_deployed"].tolist() == [True]
    assert frame["trained_date"].iloc[0] == NOW
    assert list(frame.columns) == list(empty.columns)
    told = str(frame)
    assert all(name in told for name in frame.columns), "print() shows what the guide shows, and cuts no column"
    every = learning(tmp_path / "home").get_model_history(all=True)
    assert list(every.columns)[:3] == ["model_id", "trained_date", "val_sharpe"]
    assert {"outcome", "reason", "served", "synthetic"} <= set(every.columns)


def test_a_note_is_written_and_read(homes: Homes, tmp_path: Path) -> None:
    homes.copy(tmp_path / "home", first_retrain)
    learner = learning(tmp_path / "home")
    model = str(learner.get_model_history()["model_id"][0])
    written = learner.note(model, "after the new fee table", tags=["fees"])
    assert ([note.text for note in written.notes], written.tags) == (["after the new fee table"], ("fees",))
    assert learner.note(model, untags=["fees"]).tags == ()
    assert learner.note(model).notes == written.notes
    with pytest.raises(UsageError, match="as a list"):
        learner.note(model, tags="fees")
    assert learner.note(model).tags == ()


def test_a_report_is_a_line_in_a_notebook_s_repr_and_a_table_in_its_html(homes: Homes, tmp_path: Path) -> None:
    report = homes.copy(tmp_path / "home", first_retrain, promote={"min_sharpe": -100})
    assert repr(report).startswith("RetrainReport(outcome='deployed', reason='met every condition', model_id=")
    assert len(repr(report)) < 300
    assert "<td>outcome<td>deployed" in report._repr_html_()
    assert repr(report.challenger).startswith("ScoreReport(")
    assert len(repr(report.challenger)) < 300


def test_a_call_shows_its_progress_unless_it_is_told_not_to(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    learning(tmp_path).collect_training_data(lookback_days=10)
    assert "collect: " in capfd.readouterr().err
    ContinuousLearning(small(tmp_path), clock=lambda: NOW, on_event=ignore).collect_training_data(lookback_days=10)
    assert capfd.readouterr().err == ""


def test_a_report_before_any_trade_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    PerformanceTracker(small(tmp_path)).print_report(start_date="2026-01-07")
    told = capsys.readouterr().out
    assert told.startswith("Nothing has been traded yet")
    assert told.count("\n") == 1


def test_it_works_in_a_running_event_loop_as_a_notebook_has_one(tmp_path: Path) -> None:
    async def cell() -> str:
        return learning(tmp_path).retrain(force=True, dry_run=True).outcome

    assert asyncio.run(cell()) == "deployed"


def test_a_forced_retrain_starts_its_training_process_before_it_loads_its_own_libraries(tmp_path: Path) -> None:
    script = f"""
import os, sys
from pathlib import Path
from hftcl import ContinuousLearning
from hftcl.errors import UsageError
from tests.loop_cases import small
from tests.processes import find_trainers
class Look:
    def find_spec(self, name, path, target=None):
        if name == "hftcl.learning.stories.retrain":
            print(len(find_trainers(os.getpid())))
sys.meta_path.insert(0, Look())
try:
    ContinuousLearning(small(Path({str(tmp_path)!r}))).retrain(force=True, params=["unknown=1"])
except UsageError:
    print(len(find_trainers(os.getpid())))
"""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "0"], "the number of its training processes then, and once it has failed"


def test_it_works_on_stdin(tmp_path: Path) -> None:
    script = (
        "import json\n"
        "from hftcl import ContinuousLearning\n"
        "report = ContinuousLearning().retrain(force=True, dry_run=True)\n"
        "print(json.dumps({'rows': report.rows}))\n"
    )
    (tmp_path / "hftcl.toml").write_text(
        '[market]\nwatchlist = ["AAPL", "AMD"]\nlookback_days = 20\n[model]\nfamily = "ridge"\n'
        "[exam]\nsessions = 5\nmin_sessions = 5\n"
    )
    done = subprocess.run(
        [sys.executable, "-"], input=script, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"] > 1000
