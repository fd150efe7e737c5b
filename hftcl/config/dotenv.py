"""Secrets: from the environment, systemd credentials or the `.env` file, never hftcl.toml. No message shows a value."""

import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from hftcl.config.tree import PREFIX, format_key
from hftcl.durable import is_passing
from hftcl.errors import ConfigError, StorageError
from hftcl.settings import Settings
from hftcl.values import Value, value_class

SECRETS: Final[Mapping[str, str]] = {
    "POLYGON_API_KEY": 'Key of Polygon, for the source "polygon".',
    "MASSIVE_API_KEY": "The same key under Polygon's new name; POLYGON_API_KEY goes first.",
    "APCA_API_KEY_ID": 'Key of Alpaca, for broker, source and feed "alpaca"; its paper service has keys of its own.',
    "APCA_API_SECRET_KEY": "Secret of that key.",
    "ALERT_EMAIL_ENABLED": "Whether alerts go out by mail: true or false. Goes before [alerts] email.",
    "ALERT_EMAIL_TO": "Who gets the alerts: mail addresses, apart by commas.",
    "SMTP_HOST": "Mail server.",
    "SMTP_PORT": "Port of the mail server: 587 unless given; 465 begins with TLS.",
    "SMTP_USER": "Account at the mail server; none is asked for without it.",
    "SMTP_PASSWORD": "Password of that account.",
    "ALERT_URLS": "Addresses of Apprise, apart by blanks: Slack, Telegram and a hundred others.",
    "DASHBOARD_TOKEN": "What lets a browser see `hftcl dashboard`; 16 characters or more. A run makes its own without.",
}
"""The names that hftcl knows, each with its meaning."""

SIGNING_KEY: Final = "HFTCL_SIGNING_KEY"
"""Signs model files. No entry of `SECRETS`: the `.env` file lies beside the models, open to all who can write there."""

# Set by systemd for LoadCredential=, https://systemd.io/CREDENTIALS/
CREDENTIALS_VARIABLE: Final = "CREDENTIALS_DIRECTORY"
CREDENTIALS_FILE: Final = "env"  # the name in LoadCredential=env: of the unit that `hftcl doctor --unit` prints

_NEARLY: Final = 0.9  # of difflib's 0 to 1: a letter or two of a name differ
LARGEST_FILE: Final = 1 << 20  # bytes; a larger one is not a configuration, and reading it would cost memory

# What people write into a .env file: KEY=value, quoted or not, a comment behind it, `export` before it, as a shell
# takes them. systemd's EnvironmentFile= knows neither of the two, so hftcl reads it itself.
_LINE: Final = re.compile(
    r"""\s* (?:export\s+)? (?P<name>[A-Za-z_][A-Za-z0-9_]*) \s*=\s*
        (?: '(?P<single>[^']*)' | "(?P<double>(?:[^"\\]|\\.)*)" | (?P<bare>[^'"\s\#][^\s]*(?:[ \t]+[^\s\#][^\s]*)*)? )
        \s* (?:(?<=\s)\#.*|(?<==)\#.*)? """,
    re.VERBOSE,
)


@value_class(frozen=True, slots=True)
class EnvFile(Value):
    """What a `.env` file holds, and what is wrong with it, a line each."""

    values: Mapping[str, str]
    faults: tuple[str, ...] = ()

    @property
    def settings(self) -> tuple[str, ...]:
        """The names in it that are settings, which belong elsewhere."""
        return tuple(name for name in self.values if name.startswith(PREFIX))


def read_secret(name: str, settings: Settings, environ: Mapping[str, str]) -> str | None:
    """Return the secret `name` from where `locate` finds it; None where it is nowhere, or empty. Logs never show it.

    Raises ConfigError where a file has a line that cannot be understood and may be the one, or may not be read, and
    StorageError where the disk fails.
    """
    value, _ = locate(name, settings, environ)
    if value is None:
        return None
    if not value.isprintable():
        raise ConfigError(f"{name} holds characters that no key or password has, such as a line end. Set it again.")
    from hftcl import logs  # logging, which `history` need not wait for

    logs.hide(name, value)
    return value


def locate(name: str, settings: Settings, environ: Mapping[str, str]) -> tuple[str | None, str]:
    """Return the secret `name` and where it was found: "environment", a file's path, or "" for nowhere.

    After what is `given` comes the `.env` file, unless the credentials hold a file `env`, which stands in for it.
    """
    value, origin = find_given(name, environ)
    if value is not None or _find_bundle(environ) is not None:
        return value, origin
    return _find_in_file(name, Path(settings.paths.env_file))


def find_given(name: str, environ: Mapping[str, str]) -> tuple[str | None, str]:
    """Return the secret `name` from the environment or the credentials of a systemd unit, and where it was found.

    The credentials are in $CREDENTIALS_DIRECTORY: a file of that name, or a line of the file `env` there.
    """
    if value := environ.get(name, "").strip():
        return value, "environment"
    if folder := environ.get(CREDENTIALS_VARIABLE, ""):
        single = Path(folder) / name
        if value := _read_whole_file(single):
            return value, str(single)
    bundle = _find_bundle(environ)
    return _find_in_file(name, bundle) if bundle is not None else (None, "")


def _find_bundle(environ: Mapping[str, str]) -> Path | None:
    folder = environ.get(CREDENTIALS_VARIABLE, "")
    path = Path(folder) / CREDENTIALS_FILE
    return path if folder and path.exists() else None


def _find_in_file(name: str, path: Path) -> tuple[str | None, str]:
    env_file = read_env_file(path)
    if value := env_file.values.get(name, "").strip():
        return value, str(path)
    if env_file.faults:
        raise ConfigError(*env_file.faults)
    return None, ""


def _read_whole_file(path: Path) -> str:
    """Return the text of a credential without the blanks around it; "" where there is none."""
    try:
        return read_text(path, str(path)).strip()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise build_read_error(str(path), error) from None


def list_findings(settings: Settings) -> tuple[str, ...]:
    """Return what a person should know about the `.env` file, a line each; a missing one is in order."""
    path = Path(settings.paths.env_file)
    try:
        found = read_env_file(path)
        faults = found.faults + tuple(f"{path}: {hint}" for hint in _list_misspelt(found.values))
        everyone = path.stat().st_mode & stat.S_IROTH
    except FileNotFoundError:
        return ()
    except (ConfigError, StorageError) as error:
        return tuple(str(error).splitlines())
    return faults + ((f"{path}: everyone on this machine can read it. Run: chmod 600 {path}",) if everyone else ())


def _list_misspelt(names: Iterable[str]) -> list[str]:
    """Return a hint for each name that is nearly one of `SECRETS`; others may be of another program."""
    from difflib import get_close_matches

    unknown = (name for name in names if name not in SECRETS and not name.startswith(PREFIX))
    near = ((name, get_close_matches(name.upper()[:80], SECRETS, n=1, cutoff=_NEARLY)) for name in unknown)
    return [f"{name} is not read; did you mean {close[0]}?" for name, close in near if close]


def read_env_file(path: Path) -> EnvFile:
    r"""Read `path`: KEY=value a line, `export ` before and `# comment` after allowed; later lines win.

    'Single quotes' keep everything; "double quotes" know \", \\ and \n; bare values end at a blank and #.
    Nothing is interpolated. A missing file is empty. Raises what `build_read_error` returns where it cannot be read.
    """
    try:
        text = read_text(path, str(path))
    except FileNotFoundError:
        return EnvFile({})
    except OSError as error:
        raise build_read_error(str(path), error) from None
    values: dict[str, str] = {}
    faults: list[str] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if match := _LINE.fullmatch(line):
            values[match["name"]] = _read_value(match)
        else:
            faults.append(f"{path}: line {number} is not KEY=value")
    return EnvFile(values, tuple(faults))


def find_settings_in(path: Path) -> tuple[str, ...]:
    """Return a fault for each setting in the `.env` file at `path`. An unreadable one is a fault for `secret` only."""
    try:
        names = read_env_file(path).settings
    except (ConfigError, StorageError):
        return ()
    beside = "lies beside the models here. Set it in the environment or as a credential of the systemd unit."
    return tuple(
        f"{path}: {SIGNING_KEY} {beside}"
        if name == SIGNING_KEY
        else f"{path}: {format_key(name)} is a setting, but .env is for secrets only. Move it to hftcl.toml."
        for name in names
    )


def read_text(path: Path, where: str) -> str:
    """Return the text of a file that messages call `where`. Raises OSError, or ConfigError for what is no text."""
    status = path.stat()  # before opening: a FIFO would wait for a writer
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{where}: is not a regular file.")
    with path.open("rb") as file:
        data = file.read(LARGEST_FILE + 1)
    if len(data) > LARGEST_FILE:
        raise ConfigError(f"{where}: is larger than 1 MiB, so it is not a configuration.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{where}: is not UTF-8 text: line {data[: error.start].count(10) + 1} has another encoding."
        ) from None


def build_read_error(where: str, error: OSError) -> ConfigError | StorageError:
    """Return what it means that a file of the configuration, which messages call `where`, cannot be read.

    ConfigError, which systemd does not start again, only where a name or a permission is wrong: a disk that fails, or
    too many open files, may be over with the next start.
    """
    reason = error.strerror or str(error)
    if is_passing(error):
        return StorageError(f"{where}: cannot be read: {reason}. Check the health of the disk, and run it again.")
    return ConfigError(f"{where}: cannot be read: {reason}.")


def _read_value(match: re.Match[str]) -> str:
    if match["double"] is not None:
        return re.sub(r"\\(.)", lambda escape: "\n" if escape[1] == "n" else escape[1], match["double"])
    return match["single"] or match["bare"] or ""
