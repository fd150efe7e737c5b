"""The user's own features: the Python files of `[features] modules`, read, run and put beside ours.

To run a file is to trust it as much as hftcl.toml, which names it; what another user may write or put in its place is
refused. What is hashed is what is run: the file is read once, and no byte code of it is kept.
"""

import contextlib
import hashlib
import os
import re
import stat
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final

from hftcl import durable
from hftcl.errors import ConfigError, StorageError
from hftcl.interrupts import has_raised, let_out
from hftcl.market.bars import BAR_SCHEMA
from hftcl.model.across import ACROSS
from hftcl.settings import Settings

if TYPE_CHECKING:
    from hftcl.model.feature import Feature
    from hftcl.model.features import FeatureTable

_LARGEST_BYTES: Final = 1 << 20  # a feature has ten lines; a device or an archive in its place must not fill the memory
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
_TAKEN: Final = frozenset(  # columns beside them, and the leak that `prove` plants
    {*BAR_SCHEMA, "seen", "target", "label_end", "prediction", "position", "leak"}
)
_KEPT_FILES: Final = 64  # twice as many as may be named: a file that was changed is another one
_RUNNING: Final = threading.RLock()  # a file's module has a place in sys.modules while it runs, and no two the same


def find_features(settings: Settings) -> "FeatureTable":
    """Return the features that the settings put in force; runs the files that they name, each content once.

    Raises ConfigError for a file that cannot be read, may be written by others, cannot be run or holds no features,
    for a name that is taken, and for a name or group in `use` or `drop` that does not exist; StorageError for a fault
    of the disk that may pass.
    """
    from hftcl.model.feature import list_columns
    from hftcl.model.features import FEATURES, OUR_TABLE, FeatureTable

    chosen, columns = settings.features, settings.market.columns
    _refuse_names(columns)
    if chosen == type(chosen)():
        return OUR_TABLE
    own = tuple(feature for module in chosen.modules for feature in _read_file(Path(module)))
    every = FEATURES + own
    _refuse_twice(every)
    for key, words in (("use", chosen.use), ("drop", chosen.drop)):
        _refuse_unknown(key, words, every)
    kept = tuple(
        feature
        for feature in every
        if (not chosen.use or _is_meant(feature, chosen.use)) and not _is_meant(feature, chosen.drop)
    )
    if not kept:
        raise ConfigError("[features] use and drop leave no feature. Use one at least.")
    _require_columns(kept, columns, settings.market.context)
    dropped = tuple(feature for feature in own if feature not in kept)
    offered = tuple(
        name for name in list_columns(own) if name in columns or name.partition(" ")[0] in settings.market.context
    )
    lame = _list_uncomputable(dropped, offered) if dropped else ()
    return FeatureTable(chosen=kept, known=FEATURES + tuple(feature for feature in own if feature not in lame))


@lru_cache(maxsize=8)
def _list_uncomputable(features: "tuple[Feature, ...]", columns: tuple[str, ...]) -> "tuple[Feature, ...]":
    """Return those that polars cannot compute: no model reads one, and to drop it is to be rid of it."""
    from hftcl.model.feature_check import is_computable

    return tuple(feature for feature in features if not is_computable(feature, columns))


def _refuse_names(columns: Sequence[str]) -> None:
    """Refuse a column by the name of a feature: both stand in one frame."""
    from hftcl.model.features import FEATURE_NAMES
    from hftcl.model.grid import GRID_COLUMNS

    for name in columns:
        if name in FEATURE_NAMES or name in GRID_COLUMNS or name in _TAKEN:
            raise ConfigError(
                f"[market] columns: the name {name} is taken (docs/features.md). Give the column another one; of a "
                "file [files] columns says which it is."
            )


def _require_columns(features: "Sequence[Feature]", columns: Sequence[str], context: Sequence[str]) -> None:
    """Refuse a feature of the user that reads what the bars will not have, or that has a column's name."""
    from hftcl.model.grid import GRID_COLUMNS, TRAINING_COLUMNS

    for feature in features:
        if feature.name in columns:
            raise ConfigError(
                f"[features] modules: the name {feature.name} is one of [market] columns. Give the feature another."
            )
        around = [name.partition(" ")[0] for name in feature.columns if " " in name]
        if unseen := [ticker for ticker in around if ticker not in context]:
            raise ConfigError(
                f"[features] modules: the feature {feature.name} reads {unseen[0]}, which [market] context does not "
                f'name. Set context = ["{unseen[0]}"].'
            )
        lacking = [name for name in feature.columns if name not in columns and " " not in name]
        if lacking:
            close = get_close_matches(lacking[0], sorted({*(GRID_COLUMNS - TRAINING_COLUMNS), *columns}), n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise ConfigError(
                f"[features] modules: the feature {feature.name} reads {', '.join(lacking)}, which is no column of the "
                f"grid (docs/features.md) and not named in [market] columns.{hint}"
            )


def _is_meant(feature: "Feature", words: Sequence[str]) -> bool:
    return feature.name in words or feature.group in words


def _refuse_twice(features: "Sequence[Feature]") -> None:
    twice = [name for name, times in Counter(feature.name for feature in features).items() if times > 1]
    if twice:
        raise ConfigError(f"[features] modules: the name {twice[0]} is taken twice. Give yours a name of its own.")


def _refuse_unknown(key: str, words: Sequence[str], features: "Sequence[Feature]") -> None:
    names = {feature.name for feature in features} | {feature.group for feature in features}
    for word in words:
        if word not in names:
            close = get_close_matches(word, sorted(names), n=1)
            hint = f" Did you mean {close[0]}?" if close else " `hftcl features` lists them."
            raise ConfigError(f"[features] {key}: there is no feature and no group {word!r}.{hint}")


def _read_file(path: Path) -> "tuple[Feature, ...]":
    source = _read_source(path)
    return _run_source(str(path), source)


def _read_source(path: Path) -> bytes:
    """Return the file.

    Raises ConfigError where it is none, or where another user may write it or put another in its place; StorageError
    for a fault of the disk that may pass.
    """
    where = f"[features] modules: {path}"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe in its place must not hang us
        try:
            _require_ours(path, os.fstat(descriptor), where)
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                source = file.read(_LARGEST_BYTES + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        if durable.is_passing(error):
            raise StorageError(durable.describe_storage_fault(f"reading {path}", error)) from error
        remedy = "Correct the path in hftcl.toml, or put the file there for this user to read."
        raise ConfigError(f"{where} cannot be read: {error.strerror or error}. {remedy}") from error
    if len(source) > _LARGEST_BYTES:
        raise ConfigError(f"{where} has more than {_LARGEST_BYTES >> 20} MiB. It is no file of features.")
    return source


def _require_ours(path: Path, about: os.stat_result, where: str) -> None:
    """Refuse a file that another user than root and this one may write, or put another in the place of.

    about: of the open file. Each folder on its way counts, as it is written and as links lead: who may write to one may
    replace what is in it. In a folder like /tmp, whose sticky bit leaves each file to its owner, the owner alone may.
    """
    if not stat.S_ISREG(about.st_mode):
        raise ConfigError(f"{where} is not a file. Name a Python file.")
    if about.st_mode & stat.S_IWOTH:
        raise ConfigError(f"{where} may be written by everybody, and it is run. `chmod o-w {path}`.")
    _refuse_strangers(path, about, where, "")
    written = path.absolute()  # not resolved: a link on the way counts as well as where it leads
    for step in (written, *written.parents):
        _refuse_owner(step, step.lstat().st_uid, where, f"passes {step}, which ")
    for folder in dict.fromkeys((*written.parents, *written.resolve().parents)):
        of_folder = folder.stat()
        if of_folder.st_mode & stat.S_ISVTX:
            _refuse_owner(folder, of_folder.st_uid, where, f"lies below {folder}, which ")
            continue
        if of_folder.st_mode & stat.S_IWOTH:
            raise ConfigError(
                f"{where} lies in a folder that everybody may write to, and it is run. `chmod o-w {folder}`."
            )
        _refuse_strangers(folder, of_folder, where, f"lies below {folder}, which ")


def _refuse_strangers(path: Path, about: os.stat_result, where: str, relation: str) -> None:
    _refuse_owner(path, about.st_uid, where, relation)
    # This user's own group is often this user alone; whether it is not, `hftcl doctor` looks at.
    if about.st_mode & stat.S_IWGRP and about.st_gid not in {0, os.getegid()}:
        raise ConfigError(
            f"{where} {relation}may be written by the group {about.st_gid}, and it is run. `chmod g-w {path}`."
        )


def _refuse_owner(path: Path, uid: int, where: str, relation: str) -> None:
    if uid not in {0, os.geteuid()}:
        raise ConfigError(
            f"{where} {relation}belongs to another user (id {uid}), and it is run. Read it, then `chown -h "
            f"{os.geteuid()} {path}`, or run hftcl as that user."
        )


@lru_cache(maxsize=_KEPT_FILES)
def _run_source(path: str, source: bytes) -> "tuple[Feature, ...]":
    """Run a file and return its FEATURES, each with the file's digest; the same file gives the same features."""
    from hftcl.model.feature import Feature

    where = f"[features] modules: {path}"
    module = ModuleType(f"hftcl_features_{Path(path).stem}")
    module.__file__ = path
    try:
        with _RUNNING, _take_place(module), let_out():
            exec(compile(source, path, "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - the setting's purpose
    except (Exception, SystemExit) as error:
        if has_raised(error):  # a stop came while it ran: not the file has ended
            raise
        if isinstance(error, OSError) and durable.is_passing(error):
            raise StorageError(durable.describe_storage_fault(f"running {path}", error)) from error
        raise ConfigError(f"{where}{_find_line(error, path)} cannot be run: {type(error).__name__}: {error}") from error
    features = getattr(module, "FEATURES", None)
    if not isinstance(features, tuple | list) or not features:
        raise ConfigError(
            f"{where} has no FEATURES, a tuple of hftcl.model.features.Feature. Write FEATURES = (Feature(...),) in "
            "it; docs/plugins.md shows one."
        )
    for feature in features:
        if not isinstance(feature, Feature):
            raise ConfigError(f"{where}: FEATURES holds {feature!r:.80}, which is no hftcl.model.features.Feature.")
        if not isinstance(feature.name, str) or not _NAME.fullmatch(feature.name):
            raise ConfigError(f"{where}: {feature.name!r:.80} is no name of a feature: small letters, digits and _.")
        if feature.name in _TAKEN:
            raise ConfigError(f"{where}: the name {feature.name} is a column of the bars. Choose another one.")
        _require_types(feature, where)
        _require_across(feature, where)
    digest = hashlib.sha256(source).hexdigest()
    return tuple(replace(feature, source=digest) for feature in features)


@contextlib.contextmanager
def _take_place(module: ModuleType) -> Iterator[None]:
    """Let `module` be found in sys.modules, where dataclasses look up the names in an annotation."""
    before = sys.modules.get(module.__name__)
    sys.modules[module.__name__] = module
    try:
        yield
    finally:
        del sys.modules[module.__name__]
        if before is not None:
            sys.modules[module.__name__] = before


def _require_types(feature: "Feature", where: str) -> None:
    import polars as pl

    kinds = {
        "group": str,
        "formula": str,
        "reason": str,
        "across": str,
        "lookback": int,
        "sessions": int,
        "expr": pl.Expr,
    }
    for field, kind in kinds.items():
        value = getattr(feature, field)
        if not isinstance(value, kind) or isinstance(value, bool):
            told = {str: "a text", int: "a whole number (int)"}.get(kind, "an expression of polars (pl.Expr)")
            raise ConfigError(
                f"{where}: {field} of the feature {feature.name} must be {told}, and is {value!r:.80} of the type "
                f"{type(value).__name__}."
            )


def _require_across(feature: "Feature", where: str) -> None:
    if feature.across and feature.across not in ACROSS:
        raise ConfigError(
            f"{where}: across of the feature {feature.name} is {feature.across!r:.80}; it can be "
            f'{" or ".join(repr(word) for word in ACROSS)}, or "" for none.'
        )


def _find_line(error: BaseException, path: str) -> str:
    """Return ", line N" of the file in which the error arose, where it is known."""
    if isinstance(error, SyntaxError) and error.lineno:
        return f", line {error.lineno},"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    return f", line {lines[-1]}," if lines else ""
