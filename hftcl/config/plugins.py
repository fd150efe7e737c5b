"""Which installed plug-ins the settings name, and the sections that they bring.

Imports the plug-ins in use, no other one, and only those that are not part of hftcl.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, Final

from hftcl.config.tree import Plugins, find_refusals, list_leaves, list_sections
from hftcl.entry_points import list_entry_points
from hftcl.errors import ConfigError
from hftcl.plug_ins import is_strange, load_plug_in, name_plug_in
from hftcl.values import Value, value_class

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUPS: Final[Mapping[str, str]] = {
    "market.source": "hftcl.sources",
    "trade.feed": "hftcl.feeds",
    "trade.broker": "hftcl.brokers",
    "model.family": "hftcl.families",
}
"""The settings that name a plug-in, each with the entry-point group where it is looked up."""

# Ours, whose sections are in `Settings`: a command with nothing else in use does not read what is installed, which
# costs 20 ms and more. A name that is missing here is looked up, and costs that time.
_OURS: Final = frozenset(
    {
        *("synthetic", "files", "polygon", "polygon-flat", "alpaca"),
        *("polygon-websocket", "polygon-rest"),
        *("paper", "strict-paper"),
        *("forest", "ridge", "lightgbm", "xgboost", "vote"),
    }
)


@value_class(frozen=True, slots=True)
class Found(Value):
    """What the plug-ins in use bring. `unjudged`: sections that are left as they are; None: any that is not ours."""

    sections: Plugins = ()
    unjudged: frozenset[str] | None = frozenset()


def is_ours(name: str) -> bool:
    """Return whether the source, feed, broker or family `name` is a part of hftcl, without a look at what is installed.

    >>> is_ours("paper"), is_ours("acme")
    (True, False)
    """
    return name in _OURS


def find_plugins(chosen: Mapping[str, object], written: frozenset[str], *, load: bool) -> Found:
    """Return the sections of the plug-ins that `chosen` names, by setting, such as {"market.source": "acme"}.

    written: sections of the file that are none of ours. load: False imports nothing, and leaves such sections unjudged.
    Raises ConfigError for a plug-in that cannot be imported or whose section is no section.
    """
    strangers = {key: name for key, name in chosen.items() if isinstance(name, str) and name not in _OURS}
    if not strangers and not written:
        return Found()
    installed = {key: list_entry_points(group) for key, group in GROUPS.items()}
    points = {
        key: installed[key][name]
        for key, name in strangers.items()
        if name in installed[key] and is_strange(installed[key][name])
    }
    if points and not load:
        return Found(unjudged=None)
    kinds: dict[str, type[Any]] = {}
    for point in points.values():
        _add_section(kinds, point)
    # Of a plug-in that waits for its day, or is not installed, which is told where it is looked for.
    names = {name for found in installed.values() for name in found} | set(strangers.values())
    return Found(tuple(kinds.items()), frozenset(names - set(kinds)))


def _add_section(kinds: dict[str, type[Any]], point: "EntryPoint") -> None:
    plugin, brought = name_plug_in(point), load_plug_in(point)
    kind = getattr(brought, "SETTINGS", None)
    if kind is None:
        return
    own = getattr(brought, "SETTINGS_SECTION", point.name)
    if own in list_sections() or kinds.get(own, kind) is not kind:
        raise ConfigError(f"{plugin} brings a section [{own}], and there is another one of that name. Ask its author.")
    if faults := list_section_faults(own, kind):
        raise ConfigError(*(f"{plugin} brings a section that is no section: {fault}." for fault in faults))
    kinds[own] = kind


def list_section_faults(section: str, kind: Any) -> tuple[str, ...]:
    """Return what keeps `kind` from being a section: one line each, none for a frozen dataclass of described fields."""
    if not (isinstance(kind, type) and is_dataclass(kind) and _is_frozen(kind)):
        return ("SETTINGS must be a frozen dataclass",)
    faults = []
    for leaf in list_leaves(section, kind):
        field = next(item for item in fields(kind) if item.name == leaf.name)
        if field.default is field.default_factory:  # both are MISSING
            faults.append(f"{leaf.key} has no default")
        elif not leaf.description:
            faults.append(f"{leaf.key} has no description: annotate it with setting(...)")
        elif not leaf.bounded:
            faults.append(f"{leaf.key} is a number without a least and a greatest value")
        else:
            faults += [f"its default {refusal}" for refusal in find_refusals(leaf.key, leaf.annotation, leaf.default)]
    return tuple(faults)


def _is_frozen(kind: type[Any]) -> bool:
    return issubclass(kind, Value) or kind.__dataclass_params__.frozen
