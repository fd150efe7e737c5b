"""The systemd units of the services, fitted to an installation. Pure but for `Installation.find`.

docs/systemd/ holds those of the installation that docs/systemd/README.md describes.
"""

import getpass
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import hftcl
from hftcl.config import Configuration
from hftcl.config.loading import MODULES, PATHS
from hftcl.errors import UsageError
from hftcl.settings import Settings

VERSION: Final = 4
"""Counted up when what a unit must say changes; the doctor tells a unit of an older one."""

FAILED: Final = "failed"
"""The unit that tells what a service died of: a template, `hftcl-failed@.service`."""

WRITING: Final = ("schedule", "trade")
"""The services that keep something in the home."""
NAMES: Final = (*WRITING, "dashboard")  # commands that run without end; all others end by themselves
# In systemd's own order: the first wins, man systemd.unit, "System Unit Search Path".
FOLDERS: Final = (Path("/etc/systemd/system"), Path("/usr/local/lib/systemd/system"), Path("/usr/lib/systemd/system"))

_TITLES: Final = {  # what `systemctl status` and the journal show first
    "schedule": "hftcl scheduler: collects bars, checks, retrains, deploys what earned it",
    "trade": "hftcl bot: one decision a minute",
    "dashboard": "hftcl dashboard: one local page, which reads and never writes",
}
# Many times what a turn takes: 15 s of the scheduler, 1 s of the bot, which may start with a long download, 5 s of the
# dashboard.
_WATCHDOG: Final = {"schedule": "10min", "trade": "5min", "dashboard": "2min"}
_HIDDEN: Final = ("/home", "/root", "/run/user")  # what ProtectHome= takes away
_HOMES: Final = ("/home", "/run/user")  # folders of which each is a person's


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """Where hftcl is and as which user it runs.

    code: folders that it must read. env_file: secrets, None where there is none.

    writable: folders beside the home that it writes. readable: what the configuration makes it read. variables: the
    settings that are in force from the environment. state: the home as `StateDirectory=`, "" where it lies elsewhere.
    """

    python: Path
    code: tuple[Path, ...]
    config: Path | None
    home: Path
    env_file: Path | None
    user: str
    writable: tuple[Path, ...] = ()
    readable: tuple[Path, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def find(cls, configuration: Configuration) -> Self:
        """Return this installation; run by root, it is fitted to a user `hftcl`."""
        settings = configuration.settings
        env_file, prometheus = _normalise(settings.paths.env_file), settings.log.prometheus
        code = {_normalise(sys.prefix), _normalise(sys.base_prefix), Path(hftcl.__file__).resolve().parents[1]}
        return cls(
            python=Path(sys.executable),
            code=tuple(sorted(code)),
            config=_normalise(configuration.file) if configuration.file else None,
            home=_normalise(settings.paths.home),
            env_file=env_file if env_file.is_file() else None,
            user="hftcl" if os.geteuid() == 0 else find_user(),
            writable=(_normalise(prometheus).parent,) if prometheus else (),
            readable=tuple(_list_read(settings)),
            variables=_list_variables(configuration),
        )

    @property
    def state(self) -> str:
        name = str(self.home.relative_to("/var/lib")) if self.home.is_relative_to("/var/lib/") else ""
        return "" if ":" in name or name == "." else name  # StateDirectory= takes what follows a colon for a link


def _normalise(path: str | Path) -> Path:
    """Return an absolute path without `..`, which systemd refuses; links stay, a person set them on purpose."""
    return Path(os.path.normpath(Path(path).absolute()))


def _list_read(settings: Settings) -> Iterator[Path]:
    """Yield the folders that the settings make a service read: of bars, splits, features, and the command of alerts."""
    for folder in (settings.files.folder, settings.polygon.flat_files):
        if folder:
            yield _normalise(folder)
    if settings.files.splits:
        yield from _list_places_of(Path(settings.files.folder, settings.files.splits))
    for module in settings.features.modules:
        yield from _list_places_of(module)
    command = list(settings.alerts.command)
    for word in [shutil.which(command[0]) or command[0], *command[1:]] if command else []:
        if word.startswith("/") and Path(word).exists():
            yield from [_normalise(word)] if Path(word).is_dir() else _list_places_of(word)


def _list_places_of(file: str | Path) -> Iterator[Path]:
    """Yield the folder to show for a file, and that of what it is a link to.

    A file that is bound by itself stays the old one when another takes its name, and a link would lead nowhere. But no
    service is shown all that a person has: a file that lies directly in a home, or in /home, is bound by itself.
    """
    for each in dict.fromkeys((_normalise(file), Path(file).resolve())):
        folder = each.parent
        yield each if str(folder) in _HIDDEN or str(folder.parent) in _HOMES else folder


def _list_variables(configuration: Configuration) -> dict[str, str]:
    """Return the variables HFTCL_... that are in force; a path is told as what it came to."""
    variables = {}
    for key, name in sorted(configuration.origins.items()):
        if name.startswith("HFTCL_") and name in os.environ:
            section, _, leaf = key.partition(".")
            value = getattr(getattr(configuration.settings, section, None), leaf, None)
            if key in PATHS and isinstance(value, str):
                variables[name] = str(_normalise(value))
            elif key == MODULES:
                modules = map(str, map(_normalise, configuration.settings.features.modules))
                variables[name] = json.dumps(list(modules), ensure_ascii=False)  # a list of strings is the same in TOML
            else:
                variables[name] = os.environ[name]
    return variables


def build_unit(name: str, place: Installation) -> str:
    """Return the unit of one of `NAMES`, or, as "failed", the one that tells what those died of.

    Raises UsageError for another name, and for a path with a line end.
    """
    if name not in (*NAMES, FAILED):
        raise UsageError(f"There is no unit {name!r}. Print one of: {', '.join((*NAMES, FAILED))}.")
    for path in (place.python, place.config, place.home, place.env_file, *place.writable, *place.readable):
        if path is not None and not str(path).isprintable():
            raise UsageError(f"No unit can name {str(path)!a}: it holds characters that do not print. Rename it.")
    argv = [str(place.python), "-m", "hftcl", *(["--config", str(place.config)] if place.config else [])]
    if name == FAILED:
        return _build_failed_unit(argv, place)
    command, stopped = ([*argv, name], [*argv, "doctor", "--stopped", name, "--later"])
    lines = [
        f"# Written by `hftcl doctor --unit {name}`; docs/systemd/README.md says what each part is for.",
        "[Unit]",
        f"Description={_TITLES[name]}",
        "After=network-online.target time-sync.target",
        "Wants=network-online.target",
        f"X-Hftcl-Unit={VERSION}",
        f"OnFailure=hftcl-{FAILED}@{name}.service",
        "# Five ends within half an hour are no accident: systemd gives up, and `systemctl status` says so.",
        "StartLimitIntervalSec=30min",
        "StartLimitBurst=5",
        "",
        "[Service]",
        "Type=notify",
        "NotifyAccess=main",
        f"ExecStart={' '.join(map(_quote_word, command))}",
        *(_NOTES_FAILURE if name in WRITING else _CHANGES_NOTHING),
        *([f"ExecStopPost={' '.join(map(_quote_word, stopped))}"] if name in WRITING else []),
        f"User={place.user}",
        *_list_places(place, writes=name in WRITING),
        "",
        "# It pings only when work gets on; a loop that is stuck is ended and started again.",
        f"WatchdogSec={_WATCHDOG[name]}",
        "Restart=always",
        "RestartSec=30s",
        "# 78: the configuration is invalid. To start it again would change nothing.",
        "RestartPreventExitStatus=78",
        "# 143: stopped before it had set up to end by itself, in the first seconds; that is no failure.",
        "SuccessExitStatus=143",
        "# SIGTERM goes to hftcl alone, which ends its training and leaves nothing half done within 15 s.",
        "KillMode=mixed",
        "TimeoutStopSec=60s",
        "TimeoutStartSec=5min",
        "",
        *_SANDBOX,
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return "\n".join(lines) + "\n"


_NOTES_FAILURE: Final = (
    "# It has no credentials any more: it notes the failure, and the next start, or OnFailure=, tells it.",
)
_CHANGES_NOTHING: Final = ("# The home is not writable for it: ProtectSystem=strict, and no StateDirectory=.",)


def _build_failed_unit(argv: Sequence[str], place: Installation) -> str:
    """Return the template `hftcl-failed@`: its instance is the service that systemd has given up."""
    command = " ".join([*map(_quote_word, [*argv, "doctor", "--stopped"]), "%i"])
    lines = [
        f"# Written by `hftcl doctor --unit {FAILED}`, for hftcl-{FAILED}@.service; docs/systemd/README.md says why.",
        "[Unit]",
        "Description=hftcl: tells that the service %i has failed",
        "After=network-online.target",
        f"X-Hftcl-Unit={VERSION}",
        "",
        "[Service]",
        "Type=oneshot",
        f"ExecStart={command}",
        f"User={place.user}",
        *_list_places(place),
        "TimeoutStartSec=5min",
        "",
        *_SANDBOX,
    ]
    return "\n".join(lines) + "\n"


def _list_places(place: Installation, *, writes: bool = True) -> list[str]:
    """Return what it may see and write, and how it gets its secrets; writes: else it sees the home, no more."""
    lines = [f"WorkingDirectory={_format_line(place.home)}"]
    variables = dict(place.variables)
    if place.config is None:
        variables.setdefault("HFTCL_PATHS__HOME", str(place.home))
    lines += [f"Environment={_quote_text(f'{name}={value}')}" for name, value in variables.items()]
    if place.state and writes:
        lines += [f"StateDirectory={_quote_text(place.state)}", "StateDirectoryMode=0750"]
    writable = [*([] if place.state else [place.home]), *place.writable] if writes else []
    seen = [*place.code, *([place.config.parent] if place.config else []), *place.readable]
    seen += [] if writes else [place.home]
    hidden = [path for path in seen if _is_hidden(path) and not any(map(path.is_relative_to, writable))]
    hidden = [path for path in hidden if not any(path != other and path.is_relative_to(other) for other in hidden)]
    lines += [f"ReadWritePaths={_quote_text(path)}" for path in writable if not _is_hidden(path)]
    lines += ["ProtectHome=tmpfs" if hidden or any(map(_is_hidden, writable)) else "ProtectHome=yes"]
    # "-": what is not there keeps no service from its start, and hftcl says what it lacks.
    lines += [f"BindReadOnlyPaths={_quote_text(f'-{path}')}" for path in dict.fromkeys(hidden)]
    lines += [f"BindPaths={_quote_text(path)}" for path in dict.fromkeys(writable) if _is_hidden(path)]
    if place.env_file is not None:
        lines += [
            "# systemd reads the file as root and shows it to this service only; hftcl takes its secrets from there.",
            f"LoadCredential=env:{_format_line(place.env_file)}",
        ]
    return lines


def find_user() -> str:
    """Return the name of the user who runs this, or the number where it has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name; systemd takes the number
        return str(os.geteuid())


def _is_hidden(path: Path) -> bool:
    return any(path.is_relative_to(folder) for folder in _HIDDEN)


def _quote_word(text: str) -> str:
    """Return `text` as one word of a command line in a unit, to be taken as it is."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return escaped if re.fullmatch(r"[A-Za-z0-9_@%:,./=+\\$-]+", escaped) else f'"{escaped}"'


def _quote_text(value: object) -> str:
    """Return a path or a variable as a setting of a unit takes it: quoted where needed, and no specifier."""
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("\n", "\\n")
    # A colon needs quotes: in BindPaths= it would end the source.
    return escaped if re.fullmatch(r"[A-Za-z0-9_@%,./=+-]+", escaped) else f'"{escaped}"'


def _format_line(path: Path) -> str:
    """Return a path as a setting takes it that knows no quotes and reads to the end of the line."""
    return str(path).replace("%", "%%")


def read_version(text: str) -> int | None:
    """Return the version of a unit that hftcl wrote; None where it names none."""
    match = re.search(r"^X-Hftcl-Unit=(\d{1,9})\s*$", text, re.MULTILINE)
    return int(match[1]) if match else None


def read_home(text: str) -> Path | None:
    """Return the folder in which a unit works; None where it names none."""
    match = re.search(r"^WorkingDirectory=(.+)$", text, re.MULTILINE)
    return Path(match[1].replace("%%", "%")) if match else None


def read_variables(text: str) -> dict[str, str]:
    """Return the settings HFTCL_... that a unit has of its own, as `build_unit` writes them."""
    lines = re.findall(r'^Environment=(?:"((?:[^"\\]|\\.)*)"|(\S+))$', text, re.MULTILINE)
    given = [re.sub(r"\\(.)", r"\1", quoted or plain).replace("%%", "%").partition("=") for quoted, plain in lines]
    return {name: value for name, _, value in given if name.startswith("HFTCL_")}


def read_secrets(text: str) -> str | None:
    """Return the file from which a unit takes its secrets; None where it names none."""
    match = re.search(r"^LoadCredential=env:(.+)$", text, re.MULTILINE)
    return match[1].replace("%%", "%") if match else None


def read_user(text: str) -> str | None:
    """Return the user as which a unit runs."""
    match = re.search(r"^User=(\S+)$", text, re.MULTILINE)
    return match[1] if match else None


def read_program(text: str) -> str | None:
    """Return the program that a unit starts."""
    match = re.search(r'^ExecStart=(?:"((?:[^"\\]|\\.)*)"|(\S+))', text, re.MULTILINE)
    if match is None:
        return None
    return re.sub(r"\\(.)", r"\1", match[1] or match[2]).replace("%%", "%").replace("$$", "$")


_SANDBOX: Final = (  # man systemd.exec; `systemd-analyze security` says what each one is worth
    "# What a service that reads bars, trains and sends orders does not need.",
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "AmbientCapabilities=",
    "ProtectSystem=strict",
    "PrivateTmp=yes",
    "PrivateMounts=yes",
    "PrivateIPC=yes",
    # The host's is writable by all, and PrivateIPC= leaves it as it is: "no effect on POSIX shared memory".
    "TemporaryFileSystem=/dev/shm:mode=1777,nosuid,nodev",
    "PrivateDevices=yes",
    "PrivateUsers=yes",
    "DevicePolicy=closed",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectProc=invisible",
    "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "LockPersonality=yes",
    "RemoveIPC=yes",
    "KeyringMode=private",
    "UMask=0077",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged",
    "SystemCallErrorNumber=EPERM",
)
