"""The user's own features: the Python files of `[features] modules`, read, run and put beside ours.

To run a file is to trust it as much as hftcl.toml, which names it; what others may write is refused. What is hashed is
what is run: the file is read once, and no byte code of it is kept.
"""

import hashlib
import os
import re
import stat
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final

from hftcl.errors import ConfigError
from hftcl.market.bars import BAR_SCHEMA
from hftcl.settings import Settings

if TYPE_CHECKING:
    from hftcl.model.features import Feature, FeatureTable

_LARGEST_BYTES: Final = 1 << 20  # a feature has ten lines; a device or an archive in its place must not fill the memory
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
_TAKEN: Final = frozenset({*BAR_SCHEMA, "seen", "target", "label_end", "prediction", "position"})  # columns beside them
_KEPT_FILES: Final = 64  # twice as many as may be named: a file that was changed is another one


def find_features(settings: Settings) -> "FeatureTable":
    """Return the features that the settings put in force; runs the files that they name, each content once.

    Raises ConfigError for a file that cannot be read, may be written by others, cannot be run or holds no features,
    for a name that is taken, and for a name or group in `use` or `drop` that does not exist.
    """
    from hftcl.model.features import FEATURES, OUR_TABLE, FeatureTable

    chosen = settings.features
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
    return FeatureTable(chosen=kept, known=FEATURES + tuple(feature for feature in own if feature in kept))


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
    """Return the file. Raises ConfigError where it is none, or where others than its owner's group may write it."""
    where = f"[features] modules: {path}"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe in its place must not hang us
        try:
            _require_ours(path, os.fstat(descriptor).st_mode, where)
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                source = file.read(_LARGEST_BYTES + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ConfigError(f"{where} cannot be read: {error.strerror or error}.") from error
    if len(source) > _LARGEST_BYTES:
        raise ConfigError(f"{where} has more than {_LARGEST_BYTES >> 20} MiB. It is no file of features.")
    return source


def _require_ours(path: Path, mode: int, where: str) -> None:
    if not stat.S_ISREG(mode):
        raise ConfigError(f"{where} is not a file.")
    if mode & stat.S_IWOTH:
        raise ConfigError(f"{where} may be written by everybody, and it is run. `chmod o-w {path}`.")
    folder = path.resolve().parent
    of_folder = folder.stat().st_mode
    if of_folder & stat.S_IWOTH and not of_folder & stat.S_ISVTX:  # who may write there may put another in its place
        raise ConfigError(f"{where} lies in a folder that everybody may write to, and it is run. `chmod o-w {folder}`.")


@lru_cache(maxsize=_KEPT_FILES)
def _run_source(path: str, source: bytes) -> "tuple[Feature, ...]":
    """Run a file and return its FEATURES, each with the file's digest; the same file gives the same features."""
    from hftcl.model.features import Feature

    where = f"[features] modules: {path}"
    module = ModuleType(f"hftcl_features_{Path(path).stem}")
    module.__file__ = path
    try:
        exec(compile(source, path, "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - what the setting is for
    except Exception as error:
        raise ConfigError(f"{where}{_find_line(error, path)} cannot be run: {type(error).__name__}: {error}") from error
    features = getattr(module, "FEATURES", None)
    if not isinstance(features, tuple | list) or not features:
        raise ConfigError(f"{where} has no FEATURES, a tuple of hftcl.model.features.Feature.")
    for feature in features:
        if not isinstance(feature, Feature):
            raise ConfigError(f"{where}: FEATURES holds {feature!r:.80}, which is no hftcl.model.features.Feature.")
        if not isinstance(feature.name, str) or not _NAME.fullmatch(feature.name):
            raise ConfigError(f"{where}: {feature.name!r:.80} is no name of a feature: small letters, digits and _.")
        if feature.name in _TAKEN:
            raise ConfigError(f"{where}: the name {feature.name} is a column of the bars. Choose another one.")
    digest = hashlib.sha256(source).hexdigest()
    return tuple(replace(feature, source=digest) for feature in features)


def _find_line(error: Exception, path: str) -> str:
    """Return ", line N" of the file in which the error arose, where it is known."""
    if isinstance(error, SyntaxError) and error.lineno:
        return f", line {error.lineno},"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    return f", line {lines[-1]}," if lines else ""
