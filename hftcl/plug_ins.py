"""The door to the code of others: a plug-in's import, its making, and what is told where its code raises something.

Runs what the entry point names. What a plug-in raises by our own classes is its message to the user and goes through.
"""

import inspect
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import dropwhile
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from hftcl.durable import is_passing
from hftcl.entry_points import list_entry_points
from hftcl.errors import ConfigError, HftclError, PlugInError, StorageError, fold_line
from hftcl.interrupts import find_replaced_stop, has_raised, let_out

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

_Made = TypeVar("_Made")

SETTINGS: Final[Mapping[str, str]] = {
    "hftcl.sources": "[market] source",
    "hftcl.feeds": "[trade] feed",
    "hftcl.brokers": "[trade] broker",
    "hftcl.families": "[model] family",
    "hftcl.layouts": "[files] layout",
}
"""The setting that names a plug-in of each entry-point group."""

_KINDS: Final[Mapping[str, str]] = {
    "hftcl.sources": "bar source",
    "hftcl.feeds": "feed",
    "hftcl.brokers": "broker",
    "hftcl.families": "model family",
    "hftcl.layouts": "layout",
}  # what a plug-in of each group is called

_REMEDY: Final = "Mend it, ask its author, or name another; -vv shows the traceback."
_LONGEST: Final = 300  # characters of what a library says of itself: three lines of a terminal
_OURS: Final = "hftcl"  # our package


def is_strange(point: "EntryPoint") -> bool:
    """Whether an entry point is of another package than this one."""
    return not point.value.startswith(f"{_OURS}.")


def find_point(group: str, name: str) -> "EntryPoint":
    """Return the entry point of that name; nothing is imported. Raises ConfigError, see `build_not_installed`.

    >>> find_point("hftcl.brokers", "paper").name
    'paper'
    """
    points = list_entry_points(group)
    if name not in points:
        raise build_not_installed(group, name, sorted(points))
    return points[name]


def build_not_installed(group: str, name: str, installed: Sequence[str]) -> ConfigError:
    """Return the error that no plug-in `name` is there, with what the setting that names one may be."""
    choices = ", ".join(installed) or "none"
    return ConfigError(f"No {_KINDS[group]} {name!r} is installed. Set {SETTINGS[group]} to one of: {choices}.")


def load_plug_in(point: "EntryPoint") -> Any:
    """Return what an entry point names. Its import runs code of others; a stop that comes meanwhile is raised whatever
    the code makes of it, see `let_out`.

    Raises ConfigError where it cannot be imported; StorageError where that may pass, as a disk that fails.
    """
    try:
        with let_out():
            return point.load()
    except (Exception, SystemExit) as error:
        if has_raised(error) or isinstance(error, HftclError) or not is_strange(point):
            raise
        if isinstance(error, OSError) and is_passing(error):
            raise StorageError(
                f"{name_plug_in(point)} cannot be imported ({error.strerror or error}). Check the health of the disk, "
                "and run it again."
            ) from error
        # of layouts every one is loaded, whichever is named
        remedy = "remove its package" if point.group == "hftcl.layouts" else "name another"
        raise ConfigError(
            f"{name_plug_in(point)} cannot be imported ({_describe(error)}). Install what it needs, or {remedy}."
        ) from error


def make_plug_in(
    point: "EntryPoint", promised: type, offered: Sequence[type], *arguments: object, **options: object
) -> Any:
    """Return what the factory that an entry point names makes of the arguments; see `list_broken_calls` of the others.

    Raises as `make_unjudged`, and PlugInError where what it makes cannot be called as promised.
    """
    made = make_unjudged(point, *arguments, **options)
    with close_refused(made):
        if is_strange(point) and (faults := list_broken_calls(made, promised, offered)):
            raise PlugInError(f"{name_plug_in(point)} does not keep its promises: {'; '.join(faults)}. {_REMEDY}")
    return made


def make_unjudged(point: "EntryPoint", *arguments: object, **options: object) -> Any:
    """Return what the factory that an entry point names makes of the arguments, whatever can be asked of it.

    Raises as `load_plug_in`, what the factory raises by a class of ours, and PlugInError where it raises anything else.
    """
    factory = load_plug_in(point)
    if not is_strange(point):
        return factory(*arguments, **options)
    try:
        with let_out():
            return factory(*arguments, **options)
    except (Exception, SystemExit) as error:
        if has_raised(error) or isinstance(error, HftclError) or _find_culprit(_list_called(error)[1:]) == _OURS:
            raise
        raise PlugInError(f"{name_plug_in(point)} could not be made: {_describe(error)}. {_REMEDY}") from error


def name_plug_in(point: "EntryPoint") -> str:
    """Return how a plug-in is called in an error, as the setting that names it.

    >>> name_plug_in(list_entry_points("hftcl.brokers")["paper"])
    "The plug-in 'paper' of [trade] broker"
    """
    return f"The plug-in {point.name!r} of {SETTINGS[point.group]}"


@contextmanager
def close_after(made: _Made) -> Iterator[_Made]:
    """Yield a plug-in, and close it at the end of the block; where the block raises something, as `close_refused`."""
    with close_refused(made):
        yield made
    _close(made)


@contextmanager
def close_refused(made: object) -> Iterator[None]:
    """Close a plug-in where the block raises something: a note of that tells what its `close` raised."""
    try:
        yield
    except BaseException as refusal:
        try:
            _close(made)
        except (Exception, SystemExit) as fault:
            if has_raised(fault):
                raise
            refusal.add_note(f"And it could not be closed: {_describe(fault)}")
        raise


def _close(made: Any) -> None:
    """Close what can be closed: a source and a family need not, and what is refused may lack it."""
    if hasattr(made, "close"):
        with let_out():
            made.close()


# ---- what a plug-in can be asked -------------------------------------------------------------------------------------


def list_broken_calls(plugin: object, promised: type, offered: Sequence[type] = ()) -> tuple[str, ...]:
    """Return what of the Protocol `promised` a plug-in lacks, and which methods cannot be called as we call them.

    offered: Protocols of which it may have any method or none. No method is called.

    >>> from typing import Protocol
    >>> class Wanted(Protocol):
    ...     def minute(self, minute, now): ...
    ...     def close(self): ...
    >>> class Feed:
    ...     def minute(self, minute): ...
    >>> list_broken_calls(Feed(), Wanted)
    ('minute(minute, now) cannot be called so: too many positional arguments', 'there is no close()')
    """
    fields, methods = _list_members(promised)
    broken = [f"there is no {name}" for name in fields if not _has(plugin, name)]
    for name, method in methods.items():
        broken += _judge_call(plugin, name, method) if _has(plugin, name) else [f"there is no {name}()"]
    for name, method in _list_offers(plugin, offered):
        broken += _judge_call(plugin, name, method)
    return tuple(broken)


def leave_out_broken_offers(plugin: object, offered: Sequence[type]) -> Any:
    """Return the plug-in as it is, but for the methods of `offered` that cannot be called as we call them."""
    present = _list_offers(plugin, offered)
    broken = {name for name, method in present if any(_judge_call(plugin, name, method))}
    if not broken:
        return plugin

    def build_way(name: str) -> property:
        return property(lambda _: getattr(plugin, name))

    # where `isinstance` with a Protocol looks for them
    whole = {name: build_way(name) for name, _ in present if name not in broken}

    def ask(_: object, name: str) -> Any:
        if name in broken:
            raise AttributeError(name)
        return getattr(plugin, name)

    return type(type(plugin).__name__, (), {"__getattr__": ask, **whole})()


def _list_offers(plugin: object, offered: Sequence[type]) -> list[tuple[str, Any]]:
    """Return the methods of `offered` that a plug-in has, by name, as the Protocols write them."""
    methods = [item for protocol in offered for item in _list_members(protocol)[1].items()]
    return [(name, method) for name, method in methods if _has(plugin, name)]


def _list_members(protocol: type) -> tuple[list[str], dict[str, Any]]:
    """Return the names of the attributes, and the methods by name, that a Protocol and those that it extends have."""
    kinds = [kind for kind in reversed(protocol.__mro__) if getattr(kind, "_is_protocol", False)]
    fields = [name for kind in kinds for name in inspect.get_annotations(kind)]
    methods = {name: value for kind in kinds for name, value in vars(kind).items() if inspect.isfunction(value)}
    return fields, {name: method for name, method in methods.items() if not name.startswith("_")}


def _has(plugin: object, name: str) -> bool:
    """Whether it is there: also a property that raises something, such as that a vendor does not answer now."""
    try:
        getattr(plugin, name)
    except AttributeError:
        return False
    except Exception:  # noqa: BLE001 - of a stranger's, told where it is asked for
        return True
    return True


def _judge_call(plugin: object, name: str, promised: Any) -> Iterator[str]:
    """Yield why `name` cannot be called by place and by keyword as `promised` is written."""
    try:
        method = getattr(plugin, name)
    except Exception:  # noqa: BLE001 - see `_has`
        return
    if not callable(method):
        yield f"{name} is no method"
        return
    _, *parameters = inspect.signature(promised).parameters.values()  # without `self`
    by_name = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    by_place = [parameter.name for parameter in parameters if parameter.name not in by_name]
    try:
        # that of the wrapper: one that hands over more than it was given, such as a connection, hides another behind it
        signature = inspect.signature(method, follow_wrapped=False)
    except (TypeError, ValueError):  # of code in C, which tells none
        return
    try:
        signature.bind(*by_place, **dict.fromkeys(by_name))
    except TypeError as error:
        told = ", ".join([*by_place, *(["*", *by_name] if by_name else [])])
        yield f"{name}({told}) cannot be called so: {error}"


# ---- what a plug-in raised ------------------------------------------------------------------------------------------


@contextmanager
def name_plug_ins() -> Iterator[None]:
    """Raise PlugInError, which names the plug-in, for what the code of one has raised within by a class not ours; the
    stop of which it has made that, where it came from one.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        fault = find_plug_in_fault(error)
        if fault is None:
            raise
        if stop := find_replaced_stop(error, by_others=True):
            raise stop from None
        raise fault from error


def find_plug_in_fault(error: BaseException) -> PlugInError | None:
    """Return what to tell where `error` came out of a plug-in's code that we called; None where it did not.

    None also for what went wrong in our code that a plug-in called, such as a callback; for an error of ours, which has
    told it; and for a stop, which may come while a plug-in is at work.
    """
    if not isinstance(error, Exception | SystemExit) or isinstance(error, HftclError) or has_raised(error):
        return None
    called = _list_called(error)
    package = _find_culprit(called)
    if package in ("", _OURS) or _passes_callers(called, package):
        return None
    of_package = [step for step in called if _find_package(_find_module(step[0])) == package]
    points, (frame, line) = _find_points(of_package[0][0]), of_package[-1]
    names = " or ".join(dict.fromkeys(map(name_plug_in, points)))
    where = f"{frame.f_code.co_qualname} ({Path(frame.f_code.co_filename).name}, line {line})"
    fault = PlugInError(f"{names} failed in {where}: {_describe(error)}. {_REMEDY}")
    fault.__cause__ = error  # for a traceback
    for note in getattr(error, "__notes__", ()):
        fault.add_note(note)
    return fault


class CallersOwn:
    """A function of the program that called us, such as its listener: what it raises is no plug-in's, though one's code
    lies between, or its package is the same.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *given: object, **options: object) -> Any:
        """Return what the function returns."""
        return self._function(*given, **options)


def _passes_callers(called: Sequence[tuple[FrameType, int]], package: str) -> bool:
    """Whether one of the frames is of a `CallersOwn`, or a handler of signals that the plug-in's package has not."""
    handlers = [getattr(signal.getsignal(number), "__code__", None) for number in signal.valid_signals()]
    return any(
        frame.f_code is CallersOwn.__call__.__code__
        or (frame.f_code in handlers and _find_package(_find_module(frame)) != package)
        for frame, _ in called
    )


def _list_called(error: BaseException) -> list[tuple[FrameType, int]]:
    """Return the frames that an error came through, with their lines, from the first of ours inwards: what called us
    may be of the same package as a plug-in.
    """
    from traceback import walk_tb  # a look, such as `history`, does without

    frames = list(walk_tb(error.__traceback__))
    return list(dropwhile(lambda step: _find_package(_find_module(step[0])) != _OURS, frames))


def _find_culprit(called: Sequence[tuple[FrameType, int]]) -> str:
    """Return the package of the innermost frame that is ours or a plug-in's, "" where none is: what a library raised is
    of who called it.
    """
    ours_and_strange = {_OURS, *(_find_package(point.module) for point in _list_strangers())}
    packages = [_find_package(_find_module(frame)) for frame, _ in called]
    return next((package for package in reversed(packages) if package in ours_and_strange), "")


def _find_points(frame: FrameType) -> list["EntryPoint"]:
    """Return the plug-ins in whose package a frame is: the one whose code it is, or all that may be meant."""
    package, code = _find_package(_find_module(frame)), frame.f_code
    owner = type(frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None).__qualname__
    of_package = [point for point in _list_strangers() if _find_package(point.module) == package]
    named = [point for point in of_package if point.attr in (owner, code.co_qualname.partition(".")[0])]
    return named or of_package


def _list_strangers() -> list["EntryPoint"]:
    return [point for group in SETTINGS for point in list_entry_points(group).values() if is_strange(point)]


def _find_module(frame: FrameType) -> str:
    """Return the name of the module of a frame; of one that was run as a program the name that it has otherwise."""
    name, spec = str(frame.f_globals.get("__name__", "")), frame.f_globals.get("__spec__")
    return spec.name if name == "__main__" and spec is not None else name


def _find_package(module: str) -> str:
    return module.partition(".")[0]


def _describe(error: BaseException) -> str:
    """Return the class and the text of an error, in one line without an end."""
    text = fold_line(str(error))[:_LONGEST].rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
