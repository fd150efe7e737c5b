"""Checks of this machine: the configuration and where it comes from, who can write what serves, room on the disk."""

import errno
import grp
import os
import pwd
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from hftcl import __version__, config, durable
from hftcl.archive.registry import Registry
from hftcl.config.documents import list_settings
from hftcl.doctor.row import Context, Row, fault, report_ok, report_warning
from hftcl.errors import HftclError, split_remedy
from hftcl.formats import count
from hftcl.home import MODELS, Home

DAYS: Final = 90  # a quarter: long enough to add a disk in, short enough that today's rates still hold
_MODELS: Final = 30  # a retrain every third day, which is what the cooldown allows
_TICKER_MONTH_BYTES: Final = 500_000  # a US share with its extended hours, before there are files to look at
_LEDGER_BYTES: Final = 20  # a ticker and minute: 4 of its decision, 11 of eight orders a ticker and session, and room
_MINUTES: Final = 390  # of a regular session; an estimate, so half days and extended hours are left out


def check_configuration(context: Context) -> Iterator[Row]:
    """Which configuration is in force, and whether the file of secrets is in order."""
    configuration = context.configuration
    changed = sum(not setting.is_default for setting in list_settings(configuration))
    where = f"{configuration.file}" if configuration.file else "no file, the defaults"
    python = ".".join(map(str, sys.version_info[:3]))
    yield report_ok("configuration", f"{where}; {_count_changed(changed)}; hftcl {__version__}, Python {python}")
    # to a service its file of secrets is handed on by systemd: it cannot read it, and need not
    for finding in () if context.quietly else config.list_findings(configuration.settings):
        detail, _, remedy = finding.partition(". Run: ")
        detail = detail if detail.endswith("?") else f"{detail}."
        yield report_warning("secrets", detail, remedy if remedy else "Correct that line.")


def _count_changed(changed: int) -> str:
    return f"{count(changed, 'setting')} {'differs' if changed == 1 else 'differ'} from the defaults"


def check_family(context: Context) -> Iterator[Row]:
    """Whether the model family that is configured is installed, with its library and parameters that it takes."""
    from hftcl.learning.candidate import merge_params

    try:
        merge_params(context.settings)
    except HftclError as error:
        happened, remedy = split_remedy(str(error))
        yield fault("family", happened, remedy)
    else:
        yield report_ok("family", f"{context.settings.model.family} is installed")


def check_permissions(context: Context) -> Iterator[Row]:
    """Whether this user can write the home, and no other user what serves: a model file decides over money."""
    home = Home.of(context.settings).root
    if not home.is_dir():
        yield report_warning(
            "permissions", f"{home} does not exist yet", "The first retrain makes it; run it as this user."
        )
        return
    owner = home.stat().st_uid
    if not context.quietly:
        yield from _judge_this_user(home, owner)
    trusted = {0, os.geteuid(), owner}
    modules = [Path(module) for module in context.settings.features.modules]
    judged = [_judge_path(path, trusted) for path in _list_guarded(home, context.configuration.file, modules)]
    above = (*home.resolve().parents, *(folder for module in modules for folder in module.resolve().parents))
    judged += [_judge_parent(path) for path in dict.fromkeys(above) if path.exists()]
    faulty_rows = [row for row in judged if row is not None]
    yield from faulty_rows
    if not faulty_rows:
        who = f"{_find_user(owner)} and root" if owner else "root"
        yield report_ok("permissions", f"only {who} can change what serves")


def _judge_this_user(home: Path, owner: int) -> Iterator[Row]:
    """Yield why this user cannot work in the home, or should not."""
    try:
        with tempfile.TemporaryFile(dir=home) as file:  # which has no name, so that nothing is left
            file.write(b"?")
    except OSError as error:
        denied = error.errno in {errno.EACCES, errno.EPERM}
        remedy = "Run as its owner" if denied else durable.find_remedy(error)
        why = f" by {_find_user(os.geteuid())}" if denied else f": {error.strerror}"
        yield fault("permissions", f"{home} cannot be written{why}", f"{remedy}.")
    if os.geteuid() not in {0, owner}:
        yield report_warning(
            "permissions", f"{home} belongs to {_find_user(owner)}", f"Run hftcl as {_find_user(owner)}."
        )


def _list_guarded(home: Path, file: Path | None, modules: Iterable[Path]) -> Iterator[Path]:
    """Yield what decides which model serves: its folders and files, the configuration, and what features it runs."""
    registry = Registry(home)
    yield home
    for path in (registry.production, registry.production_pkl, *([file] if file else []), *modules):
        if path.exists():
            yield path
    if registry.folder.is_dir():
        yield registry.folder
        yield from sorted(path for path in registry.folder.iterdir() if path.suffix in {".onnx", ".pkl", ".sqlite"})


def _judge_path(path: Path, trusted: Iterable[int]) -> Row | None:
    about = path.stat()
    kind = "-R " if path.is_dir() else ""
    if about.st_uid not in trusted:
        remedy = f"chown {kind}{_find_user(path.parent.stat().st_uid)} {path}"
        return fault("permissions", f"{path} belongs to {_find_user(about.st_uid)}, who can change it", remedy)
    if about.st_mode & stat.S_IWOTH:
        return fault("permissions", f"everyone on this machine can write {path}", f"chmod o-w {path}")
    if about.st_mode & stat.S_IWGRP and (others := _list_others(about.st_gid, trusted)):
        members = ", ".join(others[:5])
        return report_warning("permissions", f"{members} can write {path} as members of its group", f"chmod g-w {path}")
    return None


def _judge_parent(path: Path) -> Row | None:
    """Return the fault of a folder above the home in which anybody could put another one in its place."""
    mode = path.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        return fault("permissions", f"everyone on this machine can replace what is in {path}", f"chmod o-w {path}")
    return None


def _list_others(gid: int, trusted: Iterable[int]) -> list[str]:
    """Return the members of a group who are not trusted anyway."""
    try:
        members = {pwd.getpwnam(name).pw_uid for name in grp.getgrgid(gid).gr_mem}
    except KeyError:
        return [f"group {gid}"]
    members |= {entry.pw_uid for entry in pwd.getpwall() if entry.pw_gid == gid}
    return sorted(_find_user(uid) for uid in members - set(trusted))


def _find_user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def check_disk(context: Context) -> Iterator[Row]:
    """Whether there is room for 90 days of bars, models and ledger."""
    settings = context.settings
    home = Home.of(settings).root
    folder = next(path for path in (home, *home.parents) if path.is_dir())
    free = shutil.disk_usage(folder).free
    stored = [path for path in Home(home).bars.rglob("*.parquet") if path.is_file()]
    newest = max(Home(home).models.glob(MODELS), key=lambda path: path.name, default=None)
    needed = compute_needed_bytes(
        tickers=len(settings.market.watchlist),
        bars=sum(path.stat().st_size for path in stored),
        ticker_months=len(stored),
        model=sum(path.stat().st_size for path in newest.parent.glob(f"{newest.stem}.*")) if newest else 0,
    )
    detail = f"{free / 1e6:,.0f} MB free in {folder}; {DAYS} days need about {needed / 1e6:,.0f} MB"
    remedy = "Free space there, or set [archive] keep lower."
    if free < needed:
        yield fault("disk", detail, remedy)
    elif free < 2 * needed:
        yield report_warning("disk", detail, remedy)
    else:
        yield report_ok("disk", detail)


def compute_needed_bytes(*, tickers: int, bars: int, ticker_months: int, model: int) -> int:
    """Return the bytes that 90 days may add: bars as large as the stored ones, models, and a ledger of every minute.

    bars: bytes stored, of `ticker_months` files; model: bytes of the newest model's files, 0 where there is none.
    """
    month = bars / ticker_months if ticker_months else _TICKER_MONTH_BYTES
    ledger = tickers * _LEDGER_BYTES * _MINUTES * DAYS
    return round(tickers * month * DAYS / 30) + _MODELS * (model or 5_000_000) + ledger
