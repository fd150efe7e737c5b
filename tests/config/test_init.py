"""What `hftcl init` writes and `hftcl init --show` shows."""

import stat
import tomllib
from pathlib import Path

import pytest

from hftcl import config
from hftcl.config.tree import list_all_leaves
from hftcl.errors import StorageError, UsageError
from tests.config.configured import loaded


def test_init_writes_an_example_that_changes_nothing_and_an_env_file_for_the_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    assert config.write_example(folder) == (folder / "hftcl.toml", folder / ".env")
    assert config.load(None, environ={}, cwd=folder).settings == loaded(tmp_path / "new").settings
    assert stat.S_IMODE((folder / ".env").stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "hftcl.toml").stat().st_mode) == 0o644
    assert config.read_secret("POLYGON_API_KEY", config.load(None, environ={}, cwd=folder).settings, {}) is None
    assert sorted(path.name for path in folder.iterdir()) == [".env", "hftcl.toml"]


def test_init_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "hftcl.toml").write_text("# mine\n")
    assert config.write_example(tmp_path) == (tmp_path / ".env",)
    (tmp_path / ".env").write_text("K=mine\n")
    with pytest.raises(UsageError, match=r"hftcl\.toml and .*\.env exist"):
        config.write_example(tmp_path)
    assert (tmp_path / "hftcl.toml").read_text() == "# mine\n"
    assert (tmp_path / ".env").read_text() == "K=mine\n"
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "hftcl.toml").symlink_to(tmp_path / "elsewhere")
    assert config.write_example(tmp_path / "linked") == (tmp_path / "linked" / ".env",)
    assert not (tmp_path / "elsewhere").exists()


def test_init_in_a_folder_that_cannot_be_written_is_one_plain_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", Path("/proc/hftcl")):
        with pytest.raises(StorageError, match=f"Cannot write into {folder}: ") as caught:
            config.write_example(folder)
        assert len(str(caught.value).splitlines()) == 1


def test_every_setting_in_force_is_shown_with_its_origin_and_no_secret(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SMTP_PASSWORD=CANARY\n")
    (tmp_path / "hftcl.toml").write_text("[market]\nwatchlist = ['V']\n")
    environ = {"POLYGON_API_KEY": "CANARY", "HFTCL_MODEL__SEED": "9"}
    found = config.load(None, environ=environ, cwd=tmp_path)
    shown = {row.key: row for row in config.list_effective(found, environ)}
    assert [key for key in shown if key in list_all_leaves()] == list(list_all_leaves())
    assert (shown["market.watchlist"].text, shown["market.watchlist"].value) == ('["V"]', ("V",))
    assert shown["model.seed"].origin == "HFTCL_MODEL__SEED"
    assert shown["market.watchlist"].origin == str(tmp_path / "hftcl.toml")
    assert (shown["POLYGON_API_KEY"].text, shown["POLYGON_API_KEY"].origin) == ("set", "environment")
    assert (shown["SMTP_PASSWORD"].text, shown["SMTP_PASSWORD"].origin) == ("set", str(tmp_path / ".env"))
    assert (shown["MASSIVE_API_KEY"].text, shown["MASSIVE_API_KEY"].origin) == ("not set", "")
    assert "CANARY" not in repr(shown)
    assert all(tomllib.loads(f"x = {row.text}") for row in shown.values() if row.key in list_all_leaves())
