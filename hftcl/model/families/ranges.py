"""Whether a parameter of a family of ours lies in the range that the settings give it."""

from functools import cache
from typing import Any, get_type_hints

import msgspec
import numpy as np

from hftcl.config.tree import list_all_leaves
from hftcl.errors import UsageError


def require_in_range(kind: type, section: str, name: str, value: object) -> object:
    """Return `value` as int, float or str, as the field `name` of the settings class `kind` has it.

    section: where that class stands in hftcl.toml. Raises UsageError for a value outside the range.
    """
    plain = value.item() if isinstance(value, np.generic) else value
    try:
        return msgspec.convert(plain, _list_types(kind)[name])
    except msgspec.ValidationError as error:
        allowed = list_all_leaves()[f"{section}.{name}"].allowed
        raise UsageError(f"--param {name}: the parameter {name} cannot be {plain!r}; it must be {allowed}.") from error


@cache
def _list_types(kind: type) -> dict[str, Any]:
    """Return the type of each field with its range; to read a class takes half a millisecond."""
    return get_type_hints(kind, include_extras=True)
