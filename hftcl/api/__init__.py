"""The two classes of the Python API, and the settings with which both begin where none are given."""

from collections.abc import Mapping

from hftcl.settings import Settings


def load_settings(overrides: Mapping[str, object] | None = None) -> Settings:
    """Return the settings that a command in the current folder would use. overrides: as of `hftcl.config.load`."""
    import os
    from pathlib import Path

    from hftcl import config

    return config.load(None, environ=os.environ, cwd=Path.cwd(), overrides=overrides or {}).settings
