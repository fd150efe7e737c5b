"""Which configuration a home was last used with, so that a command run inside it finds the right one.

The documented layout keeps hftcl.toml in /etc and the home in /var/lib: without this, `hftcl check` run in the home
would take the defaults, and speak of another market.
"""

from pathlib import Path
from typing import Final

from hftcl import durable
from hftcl.config.dotenv import build_read_error
from hftcl.home import Home

FILE_NAME: Final = "hftcl.toml"  # the command's own name: a folder may hold the settings of other tools


def find_remembered(folder: Path) -> Path | None:
    """Return the configuration that the home `folder` was last used with; None where it remembers none.

    Raises what `build_read_error` returns where it cannot be read.
    """
    try:
        text = durable.read_file(Home(folder).configuration).decode().strip()
    except (FileNotFoundError, NotADirectoryError):  # no home, or one that was always used with its own
        return None
    except OSError as error:  # it may name another configuration than the defaults
        raise build_read_error(str(Home(folder).configuration), error) from None
    except UnicodeDecodeError:  # damaged: as before there was any
        return None
    return Path(text) if text and Path(text).is_absolute() else None


def remember(home: Path, file: Path | None) -> None:
    """Note that `home` is used with the configuration `file`; nothing where its own hftcl.toml is used, or it is not
    there. Raises StorageError.
    """
    if not home.is_dir():
        return
    with durable.convert_storage_faults("noting the configuration of the home"):
        if file is None or file.resolve() == (home / FILE_NAME).resolve():
            return
        text = f"{file.resolve()}\n"
        path = Home(home).configuration
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            durable.write_atomically(path, text.encode())
