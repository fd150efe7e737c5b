"""What the dataclasses that each command loads are made with. Pure: only the standard library is imported."""

from dataclasses import MISSING, FrozenInstanceError, dataclass, fields
from typing import TYPE_CHECKING, Any

__all__ = ["Value", "value_class"]

if TYPE_CHECKING:
    from dataclasses import dataclass as value_class  # to a type checker it is one, with all that it knows of those
else:

    def value_class(**options: bool) -> Any:
        """Make a frozen dataclass of a class below `Value`, whose methods it takes, in a sixth of the time.

        A dataclass compiles each of its methods for each class, and `hftcl trade --status` makes fifty classes before
        it can say a word. options: as of `dataclasses.dataclass`.
        """
        return dataclass(**{**options, "frozen": False, "init": False, "repr": False, "eq": False})


class Value:
    """What a dataclass made with `value_class` writes, compares and hashes itself with; its fields are set once.

    >>> from hftcl.settings import Paths
    >>> Paths(home="here"), Paths(home="here") == Paths(home="here"), Paths(home="here") == Paths(home="there")
    (Paths(home='here', env_file='.env'), True, False)
    """

    __slots__ = ()

    if not TYPE_CHECKING:  # which knows that the fields of a frozen dataclass are not assigned to, unless it sees this

        def __init__(self, *values, **named):
            given = _name_values(type(self), values, named)
            for item in fields(self):
                if item.name in given:
                    value = given.pop(item.name)
                elif item.default is not MISSING:
                    value = item.default
                elif item.default_factory is not MISSING:
                    value = item.default_factory()
                else:
                    raise TypeError(f"{type(self).__name__}() needs a value of {item.name!r}")
                object.__setattr__(self, item.name, value)
            if given:
                raise TypeError(f"{type(self).__name__}() has no field {min(given)!r}")
            if hasattr(self, "__post_init__"):
                self.__post_init__()

        def __setattr__(self, name, given):
            if hasattr(self, name):
                raise FrozenInstanceError(f"cannot assign to field {name!r}")
            object.__setattr__(self, name, given)

        def __delattr__(self, name):
            raise FrozenInstanceError(f"cannot delete field {name!r}")

    def _list_values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, item.name) for item in fields(self) if item.compare)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        shown = (f"{item.name}={getattr(self, item.name)!r}" for item in fields(self) if item.repr)  # type: ignore[arg-type]
        return f"{type(self).__name__}({', '.join(shown)})"

    def __eq__(self, other: object) -> bool:
        return self._list_values() == other._list_values() if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._list_values())


def _name_values(kind: Any, values: tuple[object, ...], named: dict[str, object]) -> dict[str, object]:
    """Return what a class is made from by the names of its fields; those that are no keywords have their order."""
    if not values:
        return named
    places = [item.name for item in fields(kind) if not item.kw_only]
    if len(values) > len(places):
        raise TypeError(f"{kind.__name__}() takes {len(places)} values without a name, and was given {len(values)}")
    first = dict(zip(places, values, strict=False))
    if twice := first.keys() & named.keys():
        raise TypeError(f"{kind.__name__}() was given {min(twice)!r} twice")
    return first | named
