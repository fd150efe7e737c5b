"""The classes that each command loads behave as the frozen dataclasses that type checkers take them for."""

import pickle
from dataclasses import FrozenInstanceError, asdict, field, replace

import pytest

from hftcl.settings import Market, Paths
from hftcl.values import Value, value_class


@value_class(frozen=True, slots=True, kw_only=True)
class Pair(Value):
    left: int
    right: int = 2


def test_a_field_is_set_once_and_never_deleted() -> None:
    pair = Pair(left=1)
    with pytest.raises(FrozenInstanceError, match="left"):
        pair.left = 3  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError, match="right"):
        del pair.right
    with pytest.raises(AttributeError):
        pair.middle = 3  # type: ignore[attr-defined]
    assert asdict(pair) == {"left": 1, "right": 2}


def test_it_is_its_values() -> None:
    assert Pair(left=1) == Pair(left=1, right=2) == replace(Pair(left=9), left=1)
    assert Pair(left=1) != Pair(left=2)
    assert Pair(left=1) != (1, 2)
    assert len({Pair(left=1), Pair(left=1), Pair(left=2)}) == 2
    assert repr(Pair(left=1)) == "Pair(left=1, right=2)"
    with pytest.raises(TypeError, match="left"):
        Pair()  # type: ignore[call-arg]


def test_it_goes_to_another_process_and_comes_back() -> None:
    market = Market(watchlist=("AAPL",))
    assert pickle.loads(pickle.dumps((market, Paths()))) == (market, Paths())  # noqa: S301 - our own


@value_class(frozen=True, slots=True)
class Place(Value):
    row: int
    column: int = 0
    notes: list[str] = field(default_factory=list, compare=False)


def test_it_is_made_as_a_dataclass_is() -> None:
    assert Place(1, 2) == Place(1, column=2) == Place(row=1, column=2)
    first, second = Place(1), Place(1)
    first.notes.append("mine")
    assert second.notes == []


def test_values_that_no_dataclass_takes_are_refused() -> None:
    with pytest.raises(TypeError, match="has no field 'middle'"):
        Pair(left=1, middle=2)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="takes 0 values without a name"):
        Pair(1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="'row' twice"):
        Place(1, row=2)  # type: ignore[misc]
    with pytest.raises(TypeError, match="needs a value of 'row'"):
        Place(column=2)  # type: ignore[call-arg]
