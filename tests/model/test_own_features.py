"""[features]: files of the user's own are found, run, hashed; what cannot be trusted or understood is refused."""

import os
import resource
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hftcl.archive.artifact import list_our_features
from hftcl.archive.policy import hash_policy
from hftcl.cli.process import _unwind
from hftcl.errors import ConfigError, StorageError
from hftcl.home import Home
from hftcl.model.features import FEATURE_NAMES, OUR_TABLE, hash_definitions
from hftcl.model.own_features import find_features
from hftcl.settings import Settings
from hftcl.trading.decide.shadow import Shadow
from tests.config.configured import faults, loaded
from tests.installed import run

OWN = """\
import polars as pl
from hftcl.model.features import Feature
FEATURES = (
    Feature(name="hour", group="mine", expr=pl.col("minute") // 60, lookback=0, formula="minute // 60", reason="r"),
    Feature(name="half", group="mine", expr=pl.col("minute") // 30, lookback=0, formula="minute // 30", reason="r"),
)
"""


def settings(*modules: Path, **features: Any) -> Settings:
    base = Settings()
    return replace(base, features=replace(base.features, modules=tuple(map(str, modules)), **features))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my_features.py"
    path.write_text(OWN)
    return path


def test_without_a_setting_ours_are_in_force() -> None:
    assert find_features(Settings()) is OUR_TABLE
    assert list_our_features(Settings()).definitions_hash == list_our_features().definitions_hash == hash_definitions()


def test_own_features_stand_after_ours_and_bear_the_hash_of_their_file(file: Path) -> None:
    table = find_features(settings(file))
    assert table.names == (*FEATURE_NAMES, "hour", "half")
    assert [len(feature.source) for feature in list_our_features(settings(file)).own] == [64, 64]
    assert list_our_features(settings(file)).own[0] is table.known[31], "the same content is not run twice"
    before = list_our_features(settings(file))
    file.write_text(OWN.replace("// 60, look", "// 61, look"))
    after = list_our_features(settings(file))
    assert before.names == after.names
    assert before.formulae == after.formulae, "the text that says what it means was left as it was"
    assert before.definitions_hash != after.definitions_hash
    assert [before.sources[31] == after.sources[31], before.sources[0]] == [False, ""]


def test_features_are_chosen_by_name_and_by_group(file: Path) -> None:
    assert find_features(settings(file, use=("mine", "ret_5"))).names == ("ret_5", "hour", "half")
    assert find_features(settings(file, use=("momentum", "mine"), drop=("half", "ret_1"))).names == (
        "ret_5",
        "ret_15",
        "ret_30",
        "ret_since_open",
        "hour",
    )
    table = find_features(settings(file, drop=("mine", "oscillator")))
    assert "rsi_14" not in table.names
    assert list_our_features(settings(file, drop=("mine", "oscillator"))).own == ()
    assert [feature.name for feature in table.known] == [*FEATURE_NAMES, "hour", "half"], (
        "what is dropped stays known, so that a model that reads it serves on"
    )
    file.write_text(OWN.replace('pl.col("minute") // 60', 'pl.col("no_such")'))
    table = find_features(settings(file, drop=("hour",)))
    assert [feature.name for feature in table.known] == [*FEATURE_NAMES, "half"], "what never could be computed is gone"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("FEATURES = 1 +", r", line 1, cannot be run: SyntaxError"),
        ("x = 1\n1 / 0\n", r", line 2, cannot be run: ZeroDivisionError"),
        ("import no_such_library\n", "cannot be run: ModuleNotFoundError: No module named 'no_such_library'"),
        ("x = 1\n", "has no FEATURES, a tuple of"),
        ("FEATURES = (3,)\n", "FEATURES holds 3, which is no"),
        (OWN.replace('"hour"', '"Hour 1"'), "'Hour 1' is no name of a feature"),
        (OWN.replace('"hour"', '"close"'), "the name close is a column of the bars"),
        (OWN.replace('"hour"', '"leak"'), "the name leak is a column"),
        (OWN.replace('"hour"', '"ret_5"'), "the name ret_5 is taken twice"),
        (OWN.replace("60, lookback=0", '60, lookback="30"'), "lookback of the feature hour must be a whole number"),
        (OWN.replace("60, lookback=0", "60, lookback=30.5"), "lookback of .* is 30.5 of the type float"),
        (OWN.replace("60, lookback=0", "60, lookback=True"), "lookback of .* is True of the type bool"),
        (OWN.replace('"hour", group="mine"', '"hour", group=None'), "group of .* must be a text, and is None"),
        (OWN.replace('expr=pl.col("minute") // 60', "expr=60"), "expr of .* must be an expression of polars"),
        ("import sys\nsys.exit(0)\n", r", line 2, cannot be run: SystemExit: 0"),
        (OWN + "#" * (1 << 20), "has more than 1 MiB"),
    ],
    ids=[
        "syntax",
        "error",
        "import",
        "no table",
        "no feature",
        "name",
        "column",
        "planted",
        "taken",
        "text",
        "fraction",
        "truth",
        "no group",
        "no expression",
        "exit",
        "large",
    ],
)
def test_a_file_that_holds_no_features_is_refused_with_the_reason(text: str, told: str, file: Path) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError, match=told):
        find_features(settings(file))


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_command_that_is_stopped_while_a_file_runs_ends_as_one_that_is_stopped(
    stop: signal.Signals, file: Path, tmp_path: Path
) -> None:
    file.write_text(f"import os\nos.kill(os.getpid(), {int(stop)})\n{OWN}")
    (tmp_path / "hftcl.toml").write_text(f'[features]\nmodules = ["{file.name}"]\n')
    done = run(tmp_path, "features")
    assert (done.returncode, done.stdout, "cannot be run" in done.stderr) == (128 + stop, "", False)


@pytest.fixture
def hear() -> Iterator[None]:
    """Let SIGTERM raise, as in a command."""
    before = signal.signal(signal.SIGTERM, _unwind)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("hear")
@pytest.mark.parametrize(
    "ending",
    [
        "except BaseException as error:\n    raise ImportError('cannot load') from error",
        "except BaseException:\n    pass\nraise ImportError('cannot load')",
        "except BaseException:\n    pass",
        "finally:\n    open('/no/such/folder')",
    ],
    ids=["turns it", "keeps it and fails", "keeps it", "fails on its way out"],
)
def test_a_file_that_makes_something_else_of_a_stop_is_stopped_all_the_same(ending: str, file: Path) -> None:
    file.write_text(f"import os\ntry:\n    os.kill(os.getpid(), {int(signal.SIGTERM)})\n{ending}\n{OWN}")
    with pytest.raises(SystemExit) as stopped:
        find_features(settings(file))
    assert stopped.value.code == 128 + signal.SIGTERM
    file.write_text(f"raise ImportError('cannot load')\n{OWN}")
    with pytest.raises(ConfigError, match="cannot be run: ImportError: cannot load"):
        find_features(settings(file))  # what was raised before is no stop of this file


def test_a_file_that_others_may_write_is_not_run(file: Path) -> None:
    file.chmod(0o666)
    with pytest.raises(ConfigError, match="may be written by everybody, and it is run"):
        find_features(settings(file))
    file.chmod(0o644)
    file.parent.chmod(0o777)
    with pytest.raises(ConfigError, match="lies in a folder that everybody may write to"):
        find_features(settings(file))
    file.parent.chmod(0o1777)  # like /tmp: others may put files there, and not take this one away
    assert list_our_features(settings(file)).own
    with pytest.raises(ConfigError, match="is not a file"):
        find_features(settings(file.parent))
    with pytest.raises(ConfigError, match=r"no_such\.py cannot be read: No such file or directory\. Correct the path"):
        find_features(settings(file.parent / "no_such.py"))


def test_a_folder_on_the_way_that_everybody_may_write_to_is_refused(file: Path, tmp_path: Path) -> None:
    inner = tmp_path / "open" / "inner"
    inner.mkdir(parents=True)
    (inner / "own.py").write_text(OWN)
    inner.parent.chmod(0o777)  # who may write there puts another `inner` in its place
    with pytest.raises(ConfigError, match=f"everybody may write to, and it is run. `chmod o-w {inner.parent}`"):
        find_features(settings(inner / "own.py"))
    link = inner.parent / "link.py"
    link.symlink_to(file)
    with pytest.raises(ConfigError, match=f"chmod o-w {inner.parent}`"):
        find_features(settings(link))
    inner.parent.chmod(0o755)
    assert list_our_features(settings(link)).own


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_a_link_and_a_folder_of_another_user_are_refused(file: Path, tmp_path: Path) -> None:
    other = 54321
    link, folder = tmp_path / "link.py", tmp_path / "folder"
    link.symlink_to(file)
    folder.mkdir()
    (folder / "own.py").write_text(OWN)
    for given, path in ((file, file), (link, link), (folder, folder / "own.py")):
        os.chown(given, other, -1, follow_symlinks=False)
        with pytest.raises(ConfigError, match=r"belongs to another user \(id 54321\), and it is run"):
            find_features(settings(path))
        os.chown(given, os.geteuid(), -1, follow_symlinks=False)
        assert list_our_features(settings(path)).own
    os.chown(file, -1, other)
    file.chmod(0o664)
    with pytest.raises(ConfigError, match=r"may be written by the group 54321, and it is run. `chmod g-w"):
        find_features(settings(file))
    os.chown(file, -1, os.getegid())
    assert list_our_features(settings(file)).own


def test_a_fault_of_the_disk_that_may_pass_is_no_fault_of_the_configuration(file: Path) -> None:
    few, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    find_features(settings(file))  # what is imported on the way is open no more
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, most))
    try:
        with pytest.raises(StorageError, match="Too many open files"):
            find_features(settings(file))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (few, most))
    file.write_text('raise OSError(5, "Input/output error")\n')
    with pytest.raises(StorageError, match=r"my_features\.py failed: Input/output error"):
        find_features(settings(file))


def test_a_file_may_define_a_dataclass_whose_annotations_are_texts(file: Path) -> None:
    head = "from __future__ import annotations\nfrom dataclasses import dataclass\n"
    file.write_text(f"{head}{OWN}@dataclass\nclass Span:\n    minutes: int = 3\n")
    before = set(sys.modules)
    assert list_our_features(settings(file)).own
    assert "hftcl_features_my_features" not in set(sys.modules) - before


def test_a_word_in_use_or_drop_that_means_nothing_is_told_with_what_was_meant(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[features\] drop: .* 'oscilator'. Did you mean oscillator"):
        find_features(settings(file, drop=("oscilator",)))
    with pytest.raises(ConfigError, match="leave no feature"):
        find_features(settings(file, use=("mine",), drop=("hour", "half")))


def test_a_path_is_below_the_folder_of_the_file_or_written_whole(tmp_path: Path) -> None:
    found = loaded(tmp_path, '[features]\nmodules = ["own/a.py", "/elsewhere/b.py"]\n').settings.features.modules
    assert found == (str(tmp_path / "own" / "a.py"), "/elsewhere/b.py")
    (told,) = faults(tmp_path, '[features]\nmodules = ["../a.py"]\n')
    assert f"'../a.py' leads out of {tmp_path}, and the file is run; write the whole path." in told
    (told,) = faults(tmp_path, '[features]\nmodules = ["a.txt"]\n')
    assert 'it must be a Python file such as "my_features.py"' in told


def test_who_has_read_the_file_need_not_read_it_again(file: Path) -> None:
    """The bot reads it once at its start: what it computes, its policy and its shadow's features are of one content."""
    read = list_our_features(settings(file))
    policy = hash_policy(settings(file))
    file.unlink()
    assert hash_policy(settings(file), features=read) == policy
    shadow = Shadow.from_settings(settings(file), Home(file.parent), durable=False, features=read)
    assert shadow.features is read
    shadow.broker.close()
