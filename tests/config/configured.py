"""A configuration from the text of a hftcl.toml and an environment, or the faults in them."""

from pathlib import Path

import pytest

from hftcl import config
from hftcl.errors import ConfigError


def loaded(folder: Path, text: str | None = None, /, **environ: str) -> config.Configuration:
    if text is not None:
        (folder / "hftcl.toml").write_text(text)
    return config.load(None, environ=environ, cwd=folder)


def faults(folder: Path, text: str | None, /, **environ: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, text, **environ)
    assert caught.value.exit_code == 78
    return caught.value.faults
