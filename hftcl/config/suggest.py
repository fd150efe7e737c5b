"""What was meant by a name that does not exist. Pure."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from hftcl.config.dotenv import SECRETS
from hftcl.config.tree import PREFIX, Plugins, format_key, list_all_leaves, list_sections

GUIDE_NAMES: Final[Mapping[str, str]] = {
    "retrain_frequency_days": "triggers.max_age_days",
    "validation_threshold_sharpe": "promote.min_sharpe",
    "MODEL_RELOAD_INTERVAL_HOURS": "trade.reload_interval_hours",
}
"""What the guide that hftcl comes from calls a setting, and its name here."""

# Words in the names of keys and passwords: who misplaces one is told about .env, without its value.
_SECRET: Final = re.compile(r"api_?key|secret|passw|token", re.IGNORECASE)


def describe_section_fault(name: str, plugins: Plugins = ()) -> str:
    """Say that hftcl.toml has no section `name`, and which one was meant.

    >>> describe_section_fault("modle")
    'there is no section [modle]; did you mean [model]?'
    """
    if close := _find_closest(name, list_sections(plugins)):
        return f"there is no section [{format_key(name)}]; did you mean [{close}]?"
    return f"there is no section [{format_key(name)}]; the sections are {', '.join(list_sections(plugins))}."


def describe_key_fault(section: str, name: str, plugins: Plugins = ()) -> str:
    """Say that `section` ("" for the top of the file) has no setting `name`, and which one was meant.

    >>> describe_key_fault("model", "max_dept")
    'there is no setting model.max_dept; did you mean model.max_depth?'
    """
    said = f"there is no setting {format_key(f'{section}.{name}' if section else name)}"
    here = {leaf.name: leaf.key for leaf in list_all_leaves(plugins).values() if leaf.section == section}
    # Of one name in several sections the first: the forest's before those of the other families.
    anywhere = {leaf.name: leaf.key for leaf in reversed(list(list_all_leaves(plugins).values()))}
    guide = {old.lower(): new for old, new in GUIDE_NAMES.items()}
    for names in (guide, here, anywhere):
        exact = name.lower() if name.lower() in names else None
        if close := exact or (None if names is guide else _find_closest(name, names)):
            return f"{said}; did you mean {names[close]}?"
    if _SECRET.search(name):
        return f"{said}; keys and passwords belong in the environment or in .env, such as {next(iter(SECRETS))}."
    return f"{said}; " + (f"[{section}] has {', '.join(here)}." if here else "a setting stands below its [section].")


def describe_variable_fault(name: str, plugins: Plugins = ()) -> str:
    """Say that no setting has the environment variable `name`, and which one was meant."""
    variables = {leaf.variable.removeprefix(PREFIX): leaf.variable for leaf in list_all_leaves(plugins).values()}
    variables |= {other: other for other in SECRETS}
    if close := _find_closest(name.removeprefix(PREFIX), variables):
        return f"there is no such setting; did you mean {variables[close]}?"
    return f"there is no such setting; a setting's variable looks like {next(iter(variables.values()))}."


def find_closest_zone(name: str) -> str | None:
    """Return the time zone that was meant by `name`; None where nothing is near."""
    from zoneinfo import available_timezones

    return _find_closest(name, sorted(available_timezones()))


def _find_closest(name: str, names: Iterable[str]) -> str | None:
    """Return the nearest of `names`, whatever the case of `name`; long names are cut, difflib being quadratic."""
    from difflib import get_close_matches

    folded = {candidate.lower(): candidate for candidate in names}
    matches = get_close_matches(name[:80].lower(), folded, n=1)
    return folded[matches[0]] if matches else None
