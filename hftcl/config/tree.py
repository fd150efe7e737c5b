"""The settings tree as a flat list of leaves: what each is called, what it allows, and whether a value is allowed.

Pure.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields
from functools import cache
from inspect import get_annotations
from typing import Annotated, Any, Final, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from hftcl.settings import Settings
from hftcl.values import Value, value_class

Plugins = tuple[tuple[str, type[Any]], ...]
"""Sections that plug-ins bring, each by its name with its dataclass; a tuple: what follows from it is cached."""

PREFIX: Final = "HFTCL_"
"""What the environment variable of a setting begins with."""

# C0, DEL, C1 and lone surrogates: they could move a terminal's cursor, or cannot be written as UTF-8.
_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# Said of every text that _UNPRINTABLE finds something in.
_ONE_LINE: Final = "one line of text, without control characters and undecodable bytes"
_IN_ADDRESS: Final = re.compile(r"(?<=://)[^/?#]*(?=@)|(?<=\?).*", re.DOTALL)  # a password or a key, perhaps
_LONGEST_INTEGER: Final = 64  # bits: msgspec 0.20 ends a longer one that may be a float in a SystemError
_LONGEST_SHOWN: Final = 80  # a terminal's usual width: what is longer is of use to no reader of a message


@value_class(frozen=True, slots=True, kw_only=True)
class Leaf(Value):
    """One setting: its dotted key, the dataclass of its section, and its default."""

    key: str
    kind: type
    default: object

    @property
    def annotation(self) -> Any:
        """Its type with the `Meta` that limits it."""
        return _find_annotation(self.kind, self.name)

    @property
    def section(self) -> str:
        return self.key.partition(".")[0]

    @property
    def name(self) -> str:
        return self.key.partition(".")[2]

    @property
    def variable(self) -> str:
        """The environment variable that overrides this setting: HFTCL_MODEL__N_ESTIMATORS for model.n_estimators."""
        return PREFIX + self.key.replace(".", "__").upper()

    @property
    def description(self) -> str:
        return _split(self.annotation)[1].description or ""

    @property
    def allowed(self) -> str:
        return describe_allowed(self.annotation)

    @property
    def takes_text(self) -> bool:
        """Whether every value is a text, so that an environment variable needs no quotes."""
        core = _split(self.annotation)[0]
        return core is str or get_origin(core) is Literal

    @property
    def bounded(self) -> bool:
        """Whether a number has a least and a greatest value; true of anything else."""
        core, meta = _split(self.annotation)
        if core is not int and core is not float:
            return True
        return (meta.ge, meta.gt) != (None, None) and (meta.le, meta.lt) != (None, None)

    @property
    def takes_list(self) -> bool:
        return get_origin(_split(self.annotation)[0]) is tuple


@value_class(frozen=True, slots=True)
class ValueRefusal(Value):
    """A value that is not allowed at `key`, which may point into a list or a table, and what is allowed there."""

    key: str
    value: object
    allowed: str

    def __str__(self) -> str:
        return f"{self.key} = {format_value(self.value)}, but it must be {self.allowed}"


@cache
def list_sections(plugins: Plugins = ()) -> Mapping[str, type[Any]]:
    """Return the sections of hftcl.toml in order, each with its dataclass; those of plug-ins come last."""
    hints = get_type_hints(Settings)
    del hints["plugins"]
    return {**hints, **dict(plugins)}


@cache
def list_all_leaves(plugins: Plugins = ()) -> Mapping[str, Leaf]:
    """Return every setting by its dotted key, in the order of the tree."""
    return {leaf.key: leaf for section, kind in list_sections(plugins).items() for leaf in list_leaves(section, kind)}


def list_leaves(section: str, kind: type[Any]) -> tuple[Leaf, ...]:
    """Return the settings of one section, in the order of its dataclass."""
    return tuple(Leaf(key=f"{section}.{item.name}", kind=kind, default=_find_default(item)) for item in fields(kind))


@cache
def _find_annotation(kind: type, name: str) -> Any:
    """Return what a field is annotated with; where annotations are put off, this one alone is worked out."""
    owner = next(base for base in kind.__mro__ if name in get_annotations(base))
    alone = type(
        owner.__name__, (), {"__module__": owner.__module__, "__annotations__": {name: get_annotations(owner)[name]}}
    )
    return get_type_hints(alone, include_extras=True)[name]


def find_refusals(key: str, annotation: Any, value: object) -> Iterator[ValueRefusal]:
    """Yield every fault of `value`, one per element of a list or a table. Strict: 7.0, "7" and true are no integers."""
    core, meta = _split(annotation)
    match get_origin(core), value:
        case (kind, list() | tuple()) if kind is tuple:
            if not (meta.min_length or 0) <= len(value) <= (meta.max_length or len(value)):
                yield ValueRefusal(key, value, describe_allowed(annotation))
            for position, element in enumerate(value):
                yield from find_refusals(f"{key}[{position}]", get_args(core)[0], element)
        case (kind, dict()) if kind is dict:
            names, of_value = get_args(core)
            for name, element in value.items():
                if name in get_args(names) or (_split(names)[0] is str and _fits(name, names)):
                    yield from find_refusals(f"{key}.{name}", of_value, element)
                else:
                    yield ValueRefusal(key, {name: element}, describe_allowed(annotation))
        case _:
            if isinstance(value, str) and _UNPRINTABLE.search(value):
                yield ValueRefusal(key, value, _ONE_LINE)
            elif not _fits(value, annotation):
                yield ValueRefusal(key, value, describe_allowed(annotation))


def describe_allowed(annotation: Any) -> str:
    """Return in words what `annotation` allows, as "an integer from 1 to 64": the end of "it must be ...".

    >>> describe_allowed(bool)
    'true or false'
    """
    core, meta = _split(annotation)
    if meta.extra and "allowed" in meta.extra:
        return str(meta.extra["allowed"])
    if core is bool:
        return "true or false"
    if core is int or core is float:
        return ("an integer" if core is int else "a number") + _describe_range(meta)
    if core is str:
        return "a text, not empty" if meta.min_length else "a text"
    if get_origin(core) is Literal:
        return _describe_alternatives(tuple(f'"{choice}"' for choice in get_args(core)))
    if get_origin(core) is tuple:
        return f"a list of {meta.min_length or 0} to {meta.max_length}, each {describe_allowed(get_args(core)[0])}"
    if get_origin(core) is dict:
        names, of_value = get_args(core)
        return f"a table with some of the keys {describe_allowed(names)}, each {describe_allowed(of_value)}"
    return ", or ".join(describe_allowed(choice) for choice in get_args(core))


def format_value(value: object) -> str:
    """Return `value` much as TOML writes it, in one printable line, cut where it is long or deep.

    >>> format_value(["AAPL", True])
    '["AAPL", true]'
    """
    match value:
        case bool():
            text = "true" if value else "false"
        case str():
            value = _IN_ADDRESS.sub("...", value)
            text = f'"{value}"' if value.isprintable() and not {'"', "\\"} & set(value) else repr(value)
        case list() | tuple():
            text = (
                f"[{', '.join(_format_element(element) for element in value[:20])}{', ...' if len(value) > 20 else ''}]"
            )
        case dict():
            pairs = list(value.items())[:20]
            text = f"{{ {', '.join(f'{format_key(name)} = {_format_element(element)}' for name, element in pairs)} }}"
        case int():
            text = str(value) if abs(value) < 10**40 else "an integer of more than 40 digits"
        case _:
            text = str(value) if str(value).isprintable() else repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 4]} ..."


def format_key(key: str) -> str:
    """Return `key` bare where TOML allows that, else quoted, escaped and cut.

    >>> format_key("model.seed")
    'model.seed'
    """
    return key if re.fullmatch(r"[A-Za-z0-9_.-]{1,80}", key) else format_value(key)


def _format_element(value: object) -> str:
    match value:
        case list() | tuple():
            return "[...]"
        case dict():
            return "{ ... }"
        case _:
            return format_value(value)


def _find_default(item: "Field[Any]") -> object:
    return item.default_factory() if item.default_factory is not MISSING else item.default


def _split(annotation: Any) -> tuple[Any, Meta]:
    if get_origin(annotation) is Annotated:
        core, meta = get_args(annotation)
        return core, meta
    return annotation, Meta()


def _fits(value: object, annotation: Any) -> bool:
    if isinstance(value, int) and value.bit_length() > _LONGEST_INTEGER:
        return False
    try:
        msgspec.convert(value, annotation, strict=True)
    except msgspec.ValidationError:
        return False
    return True


def _describe_range(meta: Meta) -> str:
    """Return " from 1 to 64", " above 0, at most 1" and so on. Both ends are set, which also keeps NaN out."""
    low = f" above {meta.gt}" if meta.gt is not None else f" from {meta.ge}"
    if meta.lt is not None:
        return f"{low} to below {meta.lt}"
    return f"{low}{', at most' if meta.gt is not None else ' to'} {meta.le}"


def _describe_alternatives(choices: tuple[str, ...]) -> str:
    return " or ".join((", ".join(choices[:-1]), choices[-1])) if len(choices) > 1 else choices[0]
