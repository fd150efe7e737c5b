"""A library that others load with theirs and hardly ever use: it is loaded when something of it is."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from types import ModuleType
from typing import Any

from hftcl.model.families.hidden import find_strangers


@contextmanager
def postpone(name: str) -> Iterator[None]:
    """Let `import NAME` and `from NAME import X` within load nothing; what is got so loads it at its first use.

    name: of a submodule whose parent is a package that loads it on demand. Nothing is postponed where it is loaded
    already, or where a stranger's family is installed, which trains in the same process.
    """
    if name in sys.modules or find_strangers():
        yield
        return
    sys.modules[name] = module = _Postponed(name)
    try:
        yield
    finally:
        _drop(module)


class _Postponed(ModuleType):
    """Stands for the module `__name__` while others are loaded."""

    __path__: list[str] = []  # noqa: RUF012 - a package, whose submodules may be asked for

    def __getattr__(self, name: str) -> Any:
        """Return what stands for the attribute; the import system's own are those of a module."""
        if name.startswith("__"):
            raise AttributeError(name)
        return _Attribute(self, name)


class _Attribute:
    """Stands for an attribute of a module that is not loaded; a call, an attribute, a subclass of it loads it."""

    def __init__(self, module: _Postponed, name: str) -> None:
        self._module, self._name = module, name

    def _load(self) -> Any:
        _drop(self._module)
        return getattr(import_module(self._module.__name__), self._name)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._load()(*arguments, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._load(), name)

    def __instancecheck__(self, one: object) -> bool:
        return isinstance(one, self._load())

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self._load(),)


def _drop(module: _Postponed) -> None:
    """Let the next import of the module find it itself."""
    if sys.modules.get(module.__name__) is module:
        del sys.modules[module.__name__]
    parent, _, last = module.__name__.rpartition(".")
    with suppress(KeyError):  # the import system has written it there, as of every submodule
        if vars(sys.modules[parent]).get(last) is module:
            delattr(sys.modules[parent], last)
