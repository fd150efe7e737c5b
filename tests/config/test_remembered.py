"""A home remembers the configuration that it was last used with."""

import json
from pathlib import Path

import pytest

from hftcl import config
from hftcl.config.remembered import find_remembered, remember
from hftcl.errors import ConfigError
from tests.in_process import call
from tests.loop_cases import QUICK_TOML


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """Return a configuration in a folder of its own, which names a home beside that."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "home").mkdir()
    file = tmp_path / "etc" / "live.toml"
    file.write_text(QUICK_TOML + '\n[paths]\nhome = "../home"\n')
    return file


def test_inside_a_home_the_configuration_is_the_one_it_was_used_with(elsewhere: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert find_remembered(home) is None
    remember(home, elsewhere)
    found = config.load(None, environ={}, cwd=home)
    assert (found.file, found.remembered) == (elsewhere, True)
    assert found.settings.market.watchlist == ("AAPL", "AMD")
    assert Path(found.settings.paths.home).resolve() == home


def test_a_file_that_is_named_or_lies_in_the_home_goes_before(elsewhere: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    remember(home, elsewhere)
    other = tmp_path / "other.toml"
    other.write_text("")
    assert not config.load(other, environ={}, cwd=home).remembered
    assert not config.load(None, environ={"HFTCL_CONFIG": str(other)}, cwd=home).remembered
    (home / "hftcl.toml").write_text("")
    assert config.load(None, environ={}, cwd=home).file == home / "hftcl.toml"


def test_the_homes_own_file_no_file_and_no_home_are_not_remembered(elsewhere: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    for folder, file in ((home, home / "hftcl.toml"), (home, None), (tmp_path / "none", elsewhere)):
        remember(folder, file)
        assert find_remembered(folder) is None
    assert list(home.iterdir()) == []


def test_a_remembered_file_that_is_gone_is_a_fault_and_not_the_defaults(elsewhere: Path, tmp_path: Path) -> None:
    remember(tmp_path / "home", elsewhere)
    elsewhere.unlink()
    with pytest.raises(ConfigError, match=r"live\.toml: there is no such file"):
        config.load(None, environ={}, cwd=tmp_path / "home")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"relative.toml\n"], ids=["empty", "not text", "relative"])
def test_a_damaged_memory_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".configuration").write_bytes(content)
    assert find_remembered(tmp_path) is None


def test_a_retrain_is_remembered_and_a_command_inside_the_home_says_whose_settings_it_takes(
    elsewhere: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    assert call(tmp_path, "--config", str(elsewhere), "retrain", "--force", "--dry-run").returncode == 0
    assert find_remembered(home) is None, "a dry run leaves the home as it was"
    assert call(tmp_path, "--config", str(elsewhere), "retrain", "--force").returncode == 0
    inside = call(home, "init", "--show", "--json")
    assert f"hftcl: settings of {elsewhere}" in inside.stderr
    assert json.loads(inside.stdout)
    assert call(home, "-q", "history").stderr == ""
