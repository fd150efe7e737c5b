"""What a dataclass of values writes, compares and hashes itself with. Pure: only the standard library is imported."""

from dataclasses import fields
from typing import Any


class Value:
    """The base of the dataclasses that each command loads, made with `repr=False, eq=False`.

    Once, because a dataclass compiles its own for each class: half of what it costs to make one, and
    `hftcl trade --status` makes forty.

    >>> from hftcl.settings import Paths
    >>> Paths(home="here"), Paths(home="here") == Paths(home="here"), Paths(home="here") == Paths(home="there")
    (Paths(home='here', env_file='.env'), True, False)
    """

    __slots__ = ()

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, item.name) for item in fields(self) if item.compare)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        shown = (f"{item.name}={getattr(self, item.name)!r}" for item in fields(self) if item.repr)  # type: ignore[arg-type]
        return f"{type(self).__name__}({', '.join(shown)})"

    def __eq__(self, other: object) -> bool:
        return self._values() == other._values() if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._values())
