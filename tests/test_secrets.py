"""Where keys and passwords come from, what a `.env` file means, and that no message shows one."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftcl import config
from hftcl.config import dotenv
from hftcl.errors import ConfigError
from hftcl.settings import Settings
from tests.config.configured import loaded


def secret_from(folder: Path, text: str, name: str = "POLYGON_API_KEY", **environ: str) -> str | None:
    (folder / ".env").write_text(text)
    return config.read_secret(name, loaded(folder).settings, environ)


def test_the_environment_goes_before_the_env_file(tmp_path: Path) -> None:
    assert secret_from(tmp_path, "POLYGON_API_KEY=file", POLYGON_API_KEY="environment") == "environment"
    assert secret_from(tmp_path, "POLYGON_API_KEY=file", POLYGON_API_KEY=" ") == "file"
    assert secret_from(tmp_path, "POLYGON_API_KEY=file", "SMTP_PASSWORD") is None
    assert secret_from(tmp_path, "POLYGON_API_KEY=") is None
    (tmp_path / ".env").unlink()
    assert config.read_secret("POLYGON_API_KEY", loaded(tmp_path).settings, {}) is None


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("K=abc", "abc"),
        ("export K=abc", "abc"),
        ("  K = abc  ", "abc"),
        ("K=abc # a comment", "abc"),
        ("K=abc#def", "abc#def"),
        ("K=# nothing", None),
        ("K='a # $b \"c\\n'", 'a # $b "c\\n'),
        (r'K="a \" # \\ b"  # a comment', r'a " # \ b'),
        ("K=a=b==", "a=b=="),
        ("K=two words", "two words"),
        ("K=it's", "it's"),
        ("K=abc\r", "abc"),
        ("# K=abc", None),
        ("K=1\nK=2", "2"),
        ("", None),
    ],
)
def test_a_line_of_the_env_file_means(line: str, value: str | None, tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(line.encode())
    assert config.read_secret("K", loaded(tmp_path).settings, {}) == value


@pytest.mark.parametrize("line", ["POLYGON_API_KEY", "K='open", 'K="open\\"', "2K=x", "K='a'b", "K: CANARY"])
def test_a_line_that_cannot_be_understood_is_told_by_number_where_it_may_be_the_one(line: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.env: line 2 is not KEY=value") as caught:
        secret_from(tmp_path, f"OTHER=x\n{line}\n")
    assert "CANARY" not in str(caught.value)
    assert secret_from(tmp_path, f"OTHER=x\n{line}\n", "OTHER") == "x"


@settings(max_examples=100)
@given(value=st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=30))
def test_a_quoted_secret_is_read_as_it_was_written(value: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("quoted", numbered=True)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    (folder / ".env").write_text(f'K="{escaped}"\n', encoding="utf-8")
    assert config.read_secret("K", loaded(folder).settings, {}) == value


def test_a_secret_with_a_line_end_inside_is_refused_without_being_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="POLYGON_API_KEY holds characters") as caught:
        secret_from(tmp_path, 'POLYGON_API_KEY="CANARY\\nX-Header: 1"')
    assert "CANARY" not in str(caught.value)


def test_an_env_file_that_others_can_read_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("K=v\n")
    for mode, count in ((0o600, 0), (0o640, 0), (0o644, 1)):
        (tmp_path / ".env").chmod(mode)
        assert len(config.list_findings(loaded(tmp_path).settings)) == count
    (tmp_path / ".env").unlink()
    assert config.list_findings(loaded(tmp_path).settings) == ()


def test_a_name_that_is_nearly_a_secret_s_is_told_and_a_stranger_s_is_not(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("POLYGON_APIKEY=abc123\nSMTP_HOST=mail.example\nDATABASE_URL=x\n")
    path.chmod(0o600)
    defaults = Settings()
    told = dotenv.list_findings(replace(defaults, paths=replace(defaults.paths, env_file=str(path))))
    assert told == (f"{path}: POLYGON_APIKEY is not read; did you mean POLYGON_API_KEY?",)
