"""The report of a retrain, read back from what the archive keeps of a model: the inverse of `document`, for one type.

A model of an earlier hftcl has a report with fewer fields: then nothing is made up, and there is none.
"""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import date, datetime
from functools import cache
from types import UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from hftcl.exam.entry import EntryChoice, HorizonChoice
from hftcl.exam.importance import Selection
from hftcl.exam.worth import Worth
from hftcl.learning.reports import RetrainReport
from hftcl.market.received import TickerCoverage

# What `reports` names for a type checker alone.
_NAMES: Final = {item.__name__: item for item in (EntryChoice, HorizonChoice, Selection, TickerCoverage, Worth)}


class _Unreadable(Exception):  # noqa: N818 - never leaves this module
    """The report lacks what today's has, or holds something else there."""


def read_report(stored: Mapping[str, Any]) -> RetrainReport | None:
    """Return the report that `stored` holds; None for one of an earlier hftcl, or of a model that had no retrain."""
    try:
        report: RetrainReport = _read(RetrainReport, stored)
    except _Unreadable:
        return None
    return report


def _read(kind: Any, value: Any) -> Any:
    """Return `value`, made of what JSON knows, as one of `kind`."""
    if kind is Any or (value is None and kind is type(None)):
        return value
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return None if value is None else _read(next(one for one in inner if one is not type(None)), value)
    if origin is Literal and value in inner:
        return value
    if origin is tuple and isinstance(value, list):
        kinds = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
        if len(kinds) == len(value):
            return tuple(map(_read, kinds, value))
    if origin in (dict, Mapping) and isinstance(value, dict):
        return {_read(inner[0], key): _read(inner[1], item) for key, item in value.items()}
    if is_dataclass(kind) and isinstance(value, dict):
        return _read_dataclass(kind, value)
    if isinstance(kind, type) and origin is None:
        return _read_plain(kind, value)
    raise _Unreadable(f"{value!r} is no {kind}")


def _read_plain(kind: type, value: Any) -> Any:
    if kind in (date, datetime) and isinstance(value, str):
        try:
            return kind.fromisoformat(value)
        except ValueError as error:
            raise _Unreadable(str(error)) from error
    if isinstance(value, kind):
        return value
    if kind is float and type(value) is int:
        return float(value)
    raise _Unreadable(f"{value!r} is no {kind.__name__}")


def _read_dataclass(kind: Any, value: Mapping[str, Any]) -> Any:
    hints, given = _list_types(kind), {}
    for item in fields(kind):
        name = item.name.rstrip("_")  # as `document` writes it
        if name in value:
            given[item.name] = _read(hints[item.name], value[name])
        elif item.default is MISSING and item.default_factory is MISSING:
            raise _Unreadable(f"{name} is missing")
    return kind(**given)


@cache
def _list_types(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, localns=_NAMES)
