"""[features]: files of the user's own are found, run, hashed; what cannot be trusted or understood is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hftcl.archive.artifact import our_features
from hftcl.errors import ConfigError
from hftcl.model.features import FEATURE_NAMES, OUR_TABLE, definitions_hash
from hftcl.model.own_features import find_features
from hftcl.settings import Settings
from tests.config.configured import faults, loaded

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
    assert our_features(Settings()).definitions_hash == our_features().definitions_hash == definitions_hash()


def test_own_features_stand_after_ours_and_bear_the_hash_of_their_file(file: Path) -> None:
    table = find_features(settings(file))
    assert table.names == (*FEATURE_NAMES, "hour", "half")
    assert [len(feature.source) for feature in table.own] == [64, 64]
    assert find_features(settings(file)).own[0] is table.own[0], "the same content is not run twice"
    before = our_features(settings(file))
    file.write_text(OWN.replace("// 60, look", "// 61, look"))
    after = our_features(settings(file))
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
    assert [feature.name for feature in table.known] == list(FEATURE_NAMES), (
        "ours stay known, dropped ones of yours not"
    )


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
        (OWN.replace('"hour"', '"ret_5"'), "the name ret_5 is taken twice"),
        (OWN + "#" * (1 << 20), "has more than 1 MiB"),
    ],
    ids=["syntax", "error", "import", "no table", "no feature", "name", "column", "taken", "large"],
)
def test_a_file_that_holds_no_features_is_refused_with_the_reason(text: str, told: str, file: Path) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError, match=told):
        find_features(settings(file))


def test_a_file_that_others_may_write_is_not_run(file: Path) -> None:
    file.chmod(0o666)
    with pytest.raises(ConfigError, match="may be written by everybody, and it is run"):
        find_features(settings(file))
    file.chmod(0o644)
    file.parent.chmod(0o777)
    with pytest.raises(ConfigError, match="lies in a folder that everybody may write to"):
        find_features(settings(file))
    file.parent.chmod(0o1777)  # like /tmp: others may put files there, and not take this one away
    assert find_features(settings(file)).own
    with pytest.raises(ConfigError, match="is not a file"):
        find_features(settings(file.parent))
    with pytest.raises(ConfigError, match=r"no_such\.py cannot be read: No such file"):
        find_features(settings(file.parent / "no_such.py"))


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
