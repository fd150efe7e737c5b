"""What the dataclasses that each command loads are made with. Pure: only the standard library is imported."""

from dataclasses import FrozenInstanceError, dataclass, fields
from typing import TYPE_CHECKING, Any

__all__ = ["Value", "value_class"]

if TYPE_CHECKING:
    from dataclasses import dataclass as value_class  # to a type checker it is one, with all that it knows of those
else:

    def value_class(**options: bool) -> Any:
        """Make a frozen dataclass of a class below `Value`, whose methods it takes, in half the time.

        A dataclass compiles each of its methods for each class, and `hftcl trade --status` makes fifty classes before
        it can say a word. options: as of `dataclasses.dataclass`.
        """
        return dataclass(**{**options, "frozen": False, "repr": False, "eq": False})


class Value:
    """What a dataclass made with `value_class` writes, compares and hashes itself with; its fields are set once.

    >>> from hftcl.settings import Paths
    >>> Paths(home="here"), Paths(home="here") == Paths(home="here"), Paths(home="here") == Paths(home="there")
    (Paths(home='here', env_file='.env'), True, False)
    """

    __slots__ = ()

    if not TYPE_CHECKING:  # which knows that the fields of a frozen dataclass are not assigned to, unless it sees this

        def __setattr__(self, name, given):
            if hasattr(self, name):
                raise FrozenInstanceError(f"cannot assign to field {name!r}")
            object.__setattr__(self, name, given)

        def __delattr__(self, name):
            raise FrozenInstanceError(f"cannot delete field {name!r}")

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, item.name) for item in fields(self) if item.compare)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        shown = (f"{item.name}={getattr(self, item.name)!r}" for item in fields(self) if item.repr)  # type: ignore[arg-type]
        return f"{type(self).__name__}({', '.join(shown)})"

    def __eq__(self, other: object) -> bool:
        return self._values() == other._values() if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._values())
