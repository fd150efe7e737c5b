"""hftcl.toml, environment and arguments into one `Settings`, or every fault in them at once.

The file is read here; environment and working folder come from the caller.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import msgspec

from hftcl.config import suggest
from hftcl.config.checks import CHECKS
from hftcl.config.dotenv import SIGNING_KEY, build_read_error, find_settings_in, read_text
from hftcl.config.lines import find_line
from hftcl.config.plugins import GROUPS, Found, find_plugins
from hftcl.config.remembered import FILE_NAME, find_remembered
from hftcl.config.tree import (
    PREFIX,
    Leaf,
    Plugins,
    find_refusals,
    format_key,
    format_value,
    list_all_leaves,
    list_sections,
)
from hftcl.errors import ConfigError, UsageError
from hftcl.settings import Settings
from hftcl.values import Value, value_class

# Begins like the variables of settings; NOT_SETTINGS keeps it from being taken for one.
FILE_VARIABLE: Final = "HFTCL_CONFIG"
NOT_SETTINGS: Final = (FILE_VARIABLE, SIGNING_KEY, "HFTCL_TEST_DATA")
"""Environment variables of ours that are no settings."""

PATHS: Final = (
    *("paths.home", "paths.env_file", "files.folder", "polygon.flat_files", "log.prometheus"),
    *("compute.scheduler_file", "compute.storage", "compute.tls_ca_file", "compute.tls_cert", "compute.tls_key"),
)
"""Settings that are made absolute: relative to the configuration file, or to the working folder without one."""

MODULES: Final = "features.modules"
"""The files of the user's features, made absolute likewise."""

DEFAULT: Final = "default"  # an origin as `settings` shows it: where a value comes from when nothing sets it
# An origin as `settings` shows it; no file or variable has this name, so messages can tell them apart.
FLAG: Final = "flag"

# A key as tomllib writes it into its errors: ('paper',) for [paper], https://github.com/python/cpython Lib/tomllib.
_KEY: Final = re.compile(r"""\((?:(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")(?:, |,(?=\))|(?=\))))+\)""")
ARGUMENTS: Final = {
    "market.lookback_days": "--lookback-days",
    "triggers.max_age_days": "retrain_frequency_days",
    "promote.min_sharpe": "validation_threshold_sharpe",
}
"""What a person has written where a setting comes from an argument: a flag, or a name of the guide."""

_NO_OVERRIDES: Final[Mapping[str, object]] = MappingProxyType({})  # frozen: a default argument is shared by all calls
_NOT_TOML: Final = object()  # a value of its own: None, False and "" may all be meant


@value_class(frozen=True, slots=True, kw_only=True)
class Configuration(Value):
    """The settings in force. `origins`: per dotted key "default", the file's path, HFTCL_..., or "flag".

    plugins: the sections that the plug-ins in use bring. remembered: whether no file was named, and the home that
    is the working folder did: see `config.remembered`.
    """

    settings: Settings
    file: Path | None
    origins: Mapping[str, str]
    plugins: Plugins = ()
    remembered: bool = False


@value_class(frozen=True, slots=True)
class _Place(Value):
    """The file that a fault lies in, and its text, to name the line."""

    file: str
    text: str

    def name(self, section: str, name: str = "") -> str:
        """Return "hftcl.toml, line 3", for [section] or a setting of it; the file alone where no line is found."""
        line = find_line(self.text, section, name)
        return self.file if line is None else f"{self.file}, line {line}"


@dataclass(slots=True)
class _Gathering:
    """What has been read so far; a later value replaces an earlier one, a fault stays a fault."""

    found: Found = field(default_factory=Found)
    values: dict[str, object] = field(init=False)
    origins: dict[str, str] = field(init=False)
    faults: list[str] = field(default_factory=list)
    faulty: set[str] = field(default_factory=set)
    only_flags: bool = True

    def __post_init__(self) -> None:
        self.values = {key: leaf.default for key, leaf in self.leaves.items()}
        self.origins = dict.fromkeys(self.leaves, DEFAULT)

    @property
    def plugins(self) -> Plugins:
        return self.found.sections

    @property
    def leaves(self) -> Mapping[str, Leaf]:
        return list_all_leaves(self.plugins)

    def is_unjudged(self, section: str) -> bool:
        """Whether `section` is one of a plug-in that was not imported."""
        return self.found.unjudged is None or section in self.found.unjudged

    def add_fault(self, text: str, origin: str) -> None:
        self.faults.append(text)
        self.only_flags &= origin == FLAG

    def take(self, leaf: Leaf, value: object, where: str, origin: str) -> None:
        """Check `value` and keep it; `where` is what a fault begins with."""
        self.origins[leaf.key] = origin
        refused = [str(refusal) for refusal in find_refusals(leaf.key, leaf.annotation, value)]
        for text in refused:
            self.add_fault(f"{where}: {text}.", origin)
        if refused:
            self.faulty.add(leaf.key)
        else:
            self.values[leaf.key] = msgspec.convert(value, leaf.annotation, strict=True)

    def describe(self, key: str) -> str:
        return f"{key} = {format_value(self.values[key])} ({self.origins[key]})"

    def build_settings(self) -> Settings:
        """Return the tree; a setting without a value that is allowed has its default, or an earlier value."""
        of_section: dict[str, dict[str, object]] = {section: {} for section in list_sections(self.plugins)}
        for key, leaf in self.leaves.items():
            of_section[leaf.section][leaf.name] = self.values[key]
        built = {section: kind(**of_section[section]) for section, kind in list_sections(self.plugins).items()}
        brought = {section: built.pop(section) for section, _ in self.plugins}
        tree = Settings(**built, plugins=brought)
        if self.origins["exam.min_sessions"] == DEFAULT and tree.exam.min_sessions > tree.exam.sessions:
            # Nobody asked for more sessions than the exam holds; as it stands every exam would be inconclusive.
            tree = replace(tree, exam=replace(tree.exam, min_sessions=tree.exam.sessions))
        return tree


def load(
    path: Path | None,
    *,
    environ: Mapping[str, str],
    cwd: Path,
    overrides: Mapping[str, object] = _NO_OVERRIDES,
    plugins: bool = True,
) -> Configuration:
    """Return the configuration: an argument goes before the environment, the file, the default.

    path: the file named by `--config`; without one $HFTCL_CONFIG, else `cwd`/hftcl.toml where it exists, else the one
        that `cwd` was last used with as a home, else none.
    overrides: dotted keys of arguments, such as {"market.lookback_days": 90}; None means not given.
    plugins: False imports no plug-in: its settings are left out, and not judged.
    Raises ConfigError with a line for each fault; UsageError where the faults are in the arguments only; StorageError
    where the disk cannot read the file at the moment.

    >>> found = load(None, environ={"HFTCL_MODEL__N_ESTIMATORS": "300"}, cwd=Path("/nowhere"))
    >>> found.settings.model.n_estimators, found.origins["model.n_estimators"], found.origins["model.max_depth"]
    (300, 'HFTCL_MODEL__N_ESTIMATORS', 'default')
    """
    file = _find(path, environ, cwd)
    remembered = file is None and (file := find_remembered(cwd)) is not None
    where = "" if file is None else str(file.relative_to(cwd) if file.is_relative_to(cwd) else file)
    document: dict[str, Any] = {}
    written, unread = "", tuple[str, ...]()
    try:
        written, document = ("", {}) if file is None else _parse(file, where)
    except ConfigError as error:
        unread = error.faults
    gathered = _Gathering(_find_plugins(document, environ, overrides, load=plugins))
    for told in unread:
        gathered.add_fault(told, str(file))
    _take_file(gathered, document, _Place(where, written), str(file))
    _take_environment(gathered, environ)
    _take_arguments(gathered, overrides)
    _make_absolute(gathered, cwd if file is None else file.parent, environ.get("HOME", ""))
    settings = gathered.build_settings()
    _check_across(gathered, settings)
    for told in find_settings_in(Path(settings.paths.env_file)):
        gathered.add_fault(told, settings.paths.env_file)
    if gathered.faults:
        raise UsageError("\n".join(gathered.faults)) if gathered.only_flags else ConfigError(*gathered.faults)
    return Configuration(
        settings=settings,
        file=file,
        origins=MappingProxyType(gathered.origins),
        plugins=gathered.plugins,
        remembered=remembered,
    )


def from_text(key: str, text: str, plugins: Plugins = ()) -> object:
    """Return the value that `text`, from a variable or a flag, means for the setting `key`; it is not checked here.

    As TOML writes it; a setting that takes text needs no quotes, one that takes a list may have commas.
    Raises UsageError for a key that does not exist.

    >>> from_text("market.watchlist", "AAPL,V")
    ['AAPL', 'V']
    """
    if (leaf := list_all_leaves(plugins).get(key)) is None:
        raise UsageError(f"argument: {_describe_unknown(key, plugins)}")
    value = _parse_toml_value(text)
    if leaf.takes_text:
        return value if isinstance(value, str) else text
    if leaf.takes_list and not isinstance(value, list):
        return [part.strip() for part in text.split(",")]
    return text if value is _NOT_TOML else value


def _find_plugins(
    document: Mapping[str, Any], environ: Mapping[str, str], overrides: Mapping[str, object], *, load: bool
) -> Found:
    """Look for the plug-ins that are named, before anything is judged: what they bring decides what is a fault."""
    chosen: dict[str, object] = {}
    for key in GROUPS:
        leaf = list_all_leaves()[key]
        section = document.get(leaf.section)
        in_file = section.get(leaf.name) if isinstance(section, dict) else None
        in_environment = from_text(key, environ[leaf.variable]) if leaf.variable in environ else None
        named = [value for value in (overrides.get(key), in_environment, in_file) if value is not None]
        chosen[key] = named[0] if named else leaf.default
    return find_plugins(chosen, frozenset(set(document) - set(list_sections())), load=load)


def _find(path: Path | None, environ: Mapping[str, str], cwd: Path) -> Path | None:
    if named := path or environ.get(FILE_VARIABLE):
        return cwd / named
    implied = cwd / FILE_NAME
    try:
        implied.lstat()
    except FileNotFoundError:
        return None
    except OSError:
        pass  # it may be there: reading it says what is wrong
    return implied


def _parse(file: Path, where: str) -> tuple[str, dict[str, Any]]:
    """Return the text of `file`, and what it says."""
    import tomllib  # here: a home without a file need not wait for it

    text = ""
    try:
        text = read_text(file, where)
        return text, tomllib.loads(text)
    except FileNotFoundError:
        raise ConfigError(f"{where}: there is no such file. Name one that exists; `hftcl init` writes one.") from None
    except OSError as error:
        raise build_read_error(where, error) from None
    except tomllib.TOMLDecodeError as error:
        from ast import literal_eval  # here: only a faulty file needs it

        reason = _KEY.sub(lambda key: format_key(".".join(literal_eval(key[0]))), str(error)).replace(
            "at end of document", f"at line {len(text.splitlines())}, the last"
        )
        raise ConfigError(f"{where}: is not valid TOML: {reason}.") from None
    except (ValueError, RecursionError) as error:  # an integer of 5,000 digits, brackets 1,000 deep
        raise ConfigError(f"{where}: cannot be read as TOML: {error}.") from None


def _take_file(gathered: _Gathering, document: Mapping[str, Any], place: _Place, origin: str) -> None:
    for section, content in document.items():
        if section not in list_sections(gathered.plugins):
            if isinstance(content, dict) and gathered.is_unjudged(section):
                continue
            text = (
                suggest.describe_section_fault(section, gathered.plugins)
                if isinstance(content, dict)
                else suggest.describe_key_fault("", section, gathered.plugins)
            )
            where = place.name(*((section,) if isinstance(content, dict) else ("", section)))
            gathered.add_fault(f"{where}: {text}", origin)
        elif not isinstance(content, dict):
            told = f"{section} = {format_value(content)}, but it must be a section, [{section}]."
            gathered.add_fault(f"{place.name('', section)}: {told}", origin)
        else:
            for name, value in content.items():
                where = place.name(section, name)
                if leaf := gathered.leaves.get(f"{section}.{name}"):
                    gathered.take(leaf, value, where, origin)
                else:
                    gathered.add_fault(
                        f"{where}: {suggest.describe_key_fault(section, name, gathered.plugins)}", origin
                    )


def _take_environment(gathered: _Gathering, environ: Mapping[str, str]) -> None:
    by_variable = {leaf.variable: leaf for leaf in gathered.leaves.values()}
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or variable in NOT_SETTINGS:
            continue
        if leaf := by_variable.get(variable):
            gathered.take(leaf, from_text(leaf.key, environ[variable], gathered.plugins), variable, variable)
        elif not gathered.is_unjudged(variable.removeprefix(PREFIX).partition("__")[0].lower()):
            text = suggest.describe_variable_fault(variable, gathered.plugins)
            gathered.add_fault(f"{format_key(variable)}: {text}", variable)


def _take_arguments(gathered: _Gathering, overrides: Mapping[str, object]) -> None:
    for key, value in overrides.items():
        if value is None:
            continue
        if leaf := gathered.leaves.get(key):
            where = ARGUMENTS.get(key, "argument")
            gathered.take(leaf, str(value) if isinstance(value, Path) else value, where, FLAG)
        else:
            gathered.add_fault(f"argument: {_describe_unknown(key, gathered.plugins)}", FLAG)


def _describe_unknown(key: str, plugins: Plugins) -> str:
    section, _, name = key.partition(".")
    if not name:
        return suggest.describe_key_fault("", section, plugins)
    if section in list_sections(plugins):
        return suggest.describe_key_fault(section, name, plugins)
    return suggest.describe_section_fault(section, plugins)


def _parse_toml_value(text: str) -> object:
    import tomllib

    try:
        document = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return _NOT_TOML
    return document["value"] if set(document) == {"value"} else _NOT_TOML  # "1\nother = 2" is no value


def _check_across(gathered: _Gathering, settings: Settings) -> None:
    for keys, check in CHECKS:
        if gathered.faulty.isdisjoint(keys) and (complaint := check(settings)):
            by_flag = FLAG in {gathered.origins[key] for key in keys}
            gathered.add_fault(f"{' and '.join(map(gathered.describe, keys))}: {complaint}", FLAG if by_flag else "")


def _make_absolute(gathered: _Gathering, folder: Path, home: str) -> None:
    for key in PATHS:
        text = str(gathered.values[key])
        if not text:
            continue  # no file is wanted
        if not text.isprintable():  # it would forge a line of each message that names it
            told = f"{gathered.describe(key)}: {text!a} holds characters that do not print; rename it."
            gathered.add_fault(told, gathered.origins[key])
        if text == "~" or text.startswith("~/"):
            if not home.startswith("/"):  # else a folder that is called ~ would be a second home
                origin = gathered.origins[key]
                told = f"{gathered.describe(key)}: {text!r} cannot be found without $HOME; write the whole path."
                gathered.add_fault(told, origin)
            text = home + text[1:]
        gathered.values[key] = str(folder / text)
    gathered.values[MODULES] = tuple(_place_module(gathered, folder, home, text) for text in _list_modules(gathered))


def _list_modules(gathered: _Gathering) -> tuple[str, ...]:
    modules = gathered.values[MODULES]
    return modules if isinstance(modules, tuple) else ()


def _place_module(gathered: _Gathering, folder: Path, home: str, text: str) -> str:
    """Return the whole path of a file that is run: one outside of `folder` only where the whole path is written."""
    if text.startswith("~/") and home.startswith("/"):
        text = home + text[1:]
    path = Path(text)
    if not path.is_absolute() and ".." in path.parts:
        told = (
            f"{gathered.describe(MODULES)}: {text!r} leads out of {folder}, and the file is run; write the whole path."
        )
        gathered.add_fault(told, gathered.origins[MODULES])
    return str(folder / path)
