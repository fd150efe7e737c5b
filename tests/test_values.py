"""The classes that each command loads behave as the frozen dataclasses that type checkers take them for."""

import pickle
from dataclasses import FrozenInstanceError, asdict, replace

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
