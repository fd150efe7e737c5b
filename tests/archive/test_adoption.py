"""What an older script has left under the home: its list of models becomes history, model files of hftcl archive."""

import csv
import errno
import os
import pickle
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hftcl import ContinuousLearning, durable
from hftcl.archive import registry
from hftcl.archive.adoption import adopt
from hftcl.archive.deployment import ModelArchive
from hftcl.archive.registry import Registry, compute_digest
from hftcl.errors import HftclError
from hftcl.home import CLAIMS
from hftcl.settings import Settings
from tests.hazards.loop_processes import contents
from tests.in_process import answer_here, call
from tests.installed import one_line, run
from tests.loop_cases import NOW, RETRAIN, deploy_once
from tests.trained import Homes

SCRIPT = """\
model_id,trained_date,val_sharpe,is_deployed,n_samples,model_type
model_20250105_020000,2025-01-05T02:00:00.123456,0.81,False,120000,RandomForest
model_20250112_020000,2025-01-12 02:00:00,1.25,True,121000,RandomForest
"""
"""As `pandas.DataFrame.to_csv` of a script writes it."""


def script_home(home: Path, text: str = SCRIPT) -> Path:
    """Make `home` the folder of a script that kept pickles and a list."""
    (home / "models").mkdir(parents=True)
    (home / "models" / "model_metadata.csv").write_text(text)
    for name in ("models/model_20250105_020000.pkl", "models/model_20250112_020000.pkl", "trained_stock_model.pkl"):
        (home / name).write_bytes(pickle.dumps({"trees": name}))
    return home


def test_the_list_of_an_older_script_is_in_the_history_and_no_file_of_it_changes(tmp_path: Path) -> None:
    home = script_home(tmp_path / "home")
    before = contents(home)
    report = answer_here(home, "init", "--adopt")
    assert (report["lines"], report["models"]) == (2, [])
    assert report["file"] == str(home / "models" / "model_metadata.csv")
    assert sum("opens no pickle" in text for text in report["left"]) == 2
    rows = answer_here(home, "history")
    assert [(row["model_id"], row["val_sharpe"], row["outcome"], row["is_deployed"], row["rows"]) for row in rows] == [
        ("model_20250112_020000", 1.25, "adopted", False, 121000),
        ("model_20250105_020000", 0.81, "adopted", False, 120000),
    ]
    assert rows[0]["trained_date"] == "2025-01-12T02:00:00+00:00"
    assert "says that it was deployed" in rows[0]["reason"]
    assert "adopted" in call(home, "history").stdout
    after = contents(home)
    assert {name: after[name] for name in before} == before
    again = answer_here(home, "init", "--adopt")
    assert (again["lines"], len(answer_here(home, "history"))) == (0, 2), "once is enough"


def test_a_retrain_after_it_keeps_history_pickles_and_list(tmp_path: Path, homes: Homes) -> None:
    home = tmp_path / "home"
    homes.copy(home, deploy_once)
    shutil.rmtree(home / "models")
    (home / "trained_stock_model.onnx").unlink()
    (home / "trained_stock_model.pkl").unlink()
    script_home(tmp_path / "script")
    shutil.copytree(tmp_path / "script", home, dirs_exist_ok=True)
    before = contents(home)
    answer_here(home, "init", "--adopt")
    assert answer_here(home, *RETRAIN)["outcome"] == "deployed"
    rows = answer_here(home, "history")
    assert [row["outcome"] for row in rows] == ["deployed", "adopted", "adopted"]
    assert len(answer_here(home, "history", "--limit", "2")) == 2
    after = contents(home)
    for name in ("models/model_20250105_020000.pkl", "models/model_20250112_020000.pkl"):
        assert after[name] == before[name]
    for name in ("models/model_metadata.csv", "trained_stock_model.pkl"):
        assert after[f"{name}.before"] == before[name]
    assert answer_here(home, "check", "--as-of", "2025-12-15")["live"] == rows[0]["model_id"]
    assert answer_here(home, "init", "--adopt")["lines"] == 0, "the list that was kept aside is known"


def test_a_model_file_of_hftcl_from_elsewhere_is_archived_and_serves_by_a_persons_word_only(
    tmp_path: Path, homes: Homes
) -> None:
    home, other = tmp_path / "home", tmp_path / "other"
    homes.copy(home, deploy_once)
    homes.copy(other, deploy_once)
    report = answer_here(other, *RETRAIN)
    name = f"model_{report['model_id']}"
    for suffix in (".onnx", ".pkl"):
        shutil.copy(other / "models" / f"{name}{suffix}", home / f"old_{name}{suffix}")
    live = Registry(home).find_live()
    adoption = answer_here(home, "init", "--adopt")
    assert adoption["models"] == [report["model_id"]]
    assert Registry(home).find_live() == live, "it does not serve by that"
    row = next(row for row in answer_here(home, "history") if row["model_id"] == report["model_id"])
    assert (row["outcome"], row["sha256"]) == ("inconclusive", Registry(other).find(report["model_id"]).sha256)
    refused = call(home, "rollback", report["model_id"], "--yes")
    assert (refused.returncode, "--reason" in one_line(refused)) == (2, True)
    answer_here(home, "rollback", report["model_id"], "--yes", "--reason", "as before the move")
    assert [row["is_deployed"] for row in answer_here(home, "history")].count(True) == 1
    assert (home / f"old_{name}.onnx").exists()


@pytest.mark.parametrize("kind", ["onnx", "pkl"])
def test_a_model_file_that_comes_out_wrong_in_the_archive_leaves_nothing_there_and_is_adopted_the_next_time(
    kind: str, tmp_path: Path, homes: Homes, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, model_id = tmp_path / "home", leave_a_model(tmp_path, homes)
    write = durable.write_atomically

    def damage(path: Path, data: bytes) -> None:
        write(path, data[:-1] + b"x" if path.match(f"models/model_*.{kind}") else data)

    monkeypatch.setattr(durable, "write_atomically", damage)
    report = adopt(ModelArchive(home), NOW)
    assert (report.models, sum("did not come to hold" in text for text in report.left)) == ((), 1)
    assert list((home / "models").glob("model_*")) == []
    monkeypatch.undo()
    assert adopt(ModelArchive(home), NOW).models == (model_id,)


def leave_a_model(tmp_path: Path, homes: Homes) -> str:
    """Leave the files of a model as old.onnx and old.pkl in a folder "home"; return its id."""
    home, other = tmp_path / "home", tmp_path / "other"
    homes.copy(other, deploy_once)
    live = Registry(other).find_live()
    assert live is not None
    home.mkdir()
    for suffix in (".onnx", ".pkl"):
        shutil.copy(other / "models" / f"model_{live.model_id}{suffix}", home / f"old{suffix}")
    return live.model_id


def require_adopted_whole(home: Path, model_id: str) -> None:
    """Adopt, and hold that nothing was rebuilt for it and that both files are archived."""
    report = adopt(ModelArchive(home), NOW)
    assert (report.models, report.notes) == ((model_id,), ())
    (model,) = Registry(home).list_models()
    for suffix, sha256 in ((".onnx", model.sha256), (".pkl", model.pkl_sha256)):
        assert compute_digest(home / f"old{suffix}") == sha256
        assert compute_digest(home / "models" / f"model_{model_id}{suffix}") == sha256
    assert list((home / "models").glob(CLAIMS)) == []


@pytest.mark.parametrize("kind", ["onnx", "pkl"])
def test_an_adoption_that_finds_the_disk_full_leaves_nothing_and_is_whole_the_next_time(
    kind: str, tmp_path: Path, homes: Homes, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, model_id = tmp_path / "home", leave_a_model(tmp_path, homes)
    write = durable.write_atomically

    def fill(path: Path, data: bytes) -> None:
        if path.match(f"models/model_*.{kind}"):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, data)

    monkeypatch.setattr(durable, "write_atomically", fill)
    with pytest.raises(HftclError, match="No space left"):
        adopt(ModelArchive(home), NOW)
    assert [path.name for path in (home / "models").iterdir() if "model_" in path.name] == []
    monkeypatch.undo()
    require_adopted_whole(home, model_id)


_KILLED = """
import os, signal, sys
from pathlib import Path
from hftcl import durable
from hftcl.archive import registry
from hftcl.archive.adoption import adopt
from hftcl.archive.deployment import ModelArchive
from tests.loop_cases import NOW

write = durable.write_atomically

def kill(path, data):
    if path.match("models/model_*.pkl"):
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, data)

durable.write_atomically = kill
adopt(ModelArchive(Path(sys.argv[1])), NOW)
"""


def test_an_adoption_that_is_killed_between_the_two_files_is_whole_the_next_time(tmp_path: Path, homes: Homes) -> None:
    home, model_id = tmp_path / "home", leave_a_model(tmp_path, homes)
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(home)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (home / "models" / f"model_{model_id}.onnx").exists()
    require_adopted_whole(home, model_id)


def test_an_adoption_writes_over_no_pickle_of_that_name(tmp_path: Path, homes: Homes) -> None:
    home, model_id = tmp_path / "home", leave_a_model(tmp_path, homes)
    other = home / "models" / f"model_{model_id}.pkl"
    other.parent.mkdir()
    other.write_bytes(b"of somebody")
    report = adopt(ModelArchive(home), NOW)
    assert (report.models, sum("is there already. Move it" in text for text in report.left)) == ((), 1)
    assert other.read_bytes() == b"of somebody"
    other.unlink()
    require_adopted_whole(home, model_id)


def test_a_model_whose_pickle_is_too_large_for_the_archive_stays_outside_and_is_told_so(
    tmp_path: Path, homes: Homes, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    leave_a_model(tmp_path, homes)
    length = (home / "old.onnx").stat().st_size
    (home / "old.pkl").write_bytes(b"x" * (length + 2))
    monkeypatch.setattr(registry, "_LARGEST", length + 1)
    report = adopt(ModelArchive(home), NOW)
    told = f"would have {length + 2:,} bytes, and no file of the archive may have more"
    assert (report.models, sum(told in text for text in report.left)) == ((), 1)
    assert list((home / "models").glob("model_*")) == []


def test_models_whose_registry_is_lost_are_rebuilt_by_it(tmp_path: Path, homes: Homes) -> None:
    home = tmp_path / "home"
    homes.copy(home, deploy_once)
    (live,) = answer_here(home, "history")
    (home / "models" / "registry.sqlite").unlink()
    notes = " ".join(answer_here(home, "init", "--adopt")["notes"])
    assert f"The row of model {live['model_id']} was rebuilt" in notes
    assert [row["is_deployed"] for row in answer_here(home, "history")] == [True]


def test_a_model_of_another_program_is_no_sign_of_a_lost_registry(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "model_20250105_020000.onnx").write_bytes(b"another program's graph")
    report = answer_here(tmp_path, "init", "--adopt")
    assert (report["models"], report["file"]) == ([], None)
    assert "was not written by hftcl" in report["left"][0]
    assert answer_here(tmp_path, "unpin") == {"unpinned": None, "repaired": []}


@pytest.mark.parametrize(
    ("text", "names", "left"),
    [
        ("﻿Model ID;Training Date;Sharpe\nalpha;2025-01-05;0,5\n", ["alpha"], 0),
        ("version\ttrained at\n3\t05.01.2025\n\t\n", ["3"], 0),
        ("trained_date,val_sharpe\n2025-01-05,nan\n,1.0\n", ["2025-01-05"], 1),
        ("model_id,val_sharpe\n" + "x" * 5000 + ",1e400\n", ["x" * 200 + "..."], 0),
        ('model_id,reason\n"a\nb",=cmd\n\x1b[2Jevil,\x00\n', ["a b", "[2Jevil"], 0),
        ("model_id\nsame\nsame\n", ["same"], 0),
    ],
    ids=["semicolons", "tabs", "dates only", "long", "hostile", "twice"],
)
def test_lists_of_many_hands_are_read_for_what_they_say(tmp_path: Path, text: str, names: list[str], left: int) -> None:
    home = script_home(tmp_path / "home", text)
    report = answer_here(home, "init", "--adopt")
    shown = [row["model_id"] for row in answer_here(home, "history")]
    assert sorted(shown) == sorted(names)
    assert all(name.isprintable() for name in shown)
    assert sum("names no model" in line for line in report["left"]) == left


def test_latin_letters_in_a_list_are_kept_readable(tmp_path: Path) -> None:
    home = script_home(tmp_path / "home")
    (home / "models" / "model_metadata.csv").write_bytes(b"model_id,note\nm\xfcnchen,\xff\xfe\n")
    answer_here(home, "init", "--adopt")
    assert [row["model_id"] for row in answer_here(home, "history")] == ["m\\xfcnchen"]


@pytest.mark.parametrize("text", ["", "a,b,c\n1,2,3\n", "\x00\x01\x02", '"' * 200_001])
def test_a_list_that_names_no_model_is_one_plain_line_and_changes_nothing(tmp_path: Path, text: str) -> None:
    home = script_home(tmp_path / "home", text)
    before = contents(home)
    done = call(home, "init", "--adopt")
    assert (done.returncode, done.stdout) == (1, "")
    assert "model_metadata.csv" in one_line(done)
    after = contents(home)
    assert {name: after[name] for name in before} == before


@pytest.mark.hazard(88)
def test_a_pipe_in_place_of_the_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    os.mkfifo(tmp_path / "models" / "model_metadata.csv")
    assert "is a pipe" in one_line(run(tmp_path, "init", "--adopt"))


def test_where_nothing_was_there_before_it_says_so(tmp_path: Path) -> None:
    done = call(tmp_path, "init", "--adopt")
    assert done.returncode == 1
    assert "no model_metadata.csv of another program" in one_line(done)


def test_the_own_list_of_hftcl_is_no_history_of_another_program(tmp_path: Path, homes: Homes) -> None:
    home = tmp_path / "home"
    homes.copy(home, deploy_once)
    with (home / "models" / "model_metadata.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 1
    assert call(home, "init", "--adopt").returncode == 1
    assert len(answer_here(home, "history")) == 1


def test_the_python_history_has_the_adopted_lines_too(tmp_path: Path) -> None:
    home = script_home(tmp_path / "home")
    answer_here(home, "init", "--adopt")
    settings = Settings()
    learning = ContinuousLearning(replace(settings, paths=replace(settings.paths, home=str(home))))
    frame = learning.get_model_history(all=True)
    assert list(frame["outcome"]) == ["adopted", "adopted"]
    assert frame["trained_date"].dt.year.to_list() == [2025, 2025]
