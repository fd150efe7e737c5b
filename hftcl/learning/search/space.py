"""What a search may try: one table of settings, each with its values, and what a choice of them makes of the settings.

A setting that is to be searched is one line of `TABLE`. What is not in it is not searched: by a lower cost, another
exam or another rule of promotion every policy would look better.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from itertools import product
from typing import Final

from hftcl.archive.artifact import FeatureSet, list_our_features
from hftcl.config.tree import find_refusals, list_all_leaves
from hftcl.errors import ConfigError, HftclError, TrainingError
from hftcl.model.families import find_family
from hftcl.settings import Settings

FAMILY: Final = "model.family"
LOOKBACK: Final = "market.lookback_days"
_RULE: Final = "strategy.entry"
_DROP: Final = "features.drop"
_LISTS: Final = frozenset({_DROP, "features.use"})  # a value is a list of groups: in hftcl.toml one text, "volume+gap"

Value = str | int | float | bool | tuple[str, ...]
Choice = dict[str, Value]
"""What is chosen, by setting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """A setting with the values that are tried. what: the word of `[search] vary` that it goes by.

    families: those that read it; empty where all do. named: whether it is tried only where `[search]` names it.
    when: another setting and the value of it that alone reads this one; None where it is always read.
    """

    path: str
    what: str
    values: tuple[Value, ...]
    families: tuple[str, ...] = ()
    named: bool = False
    when: tuple[str, Value] | None = None

    @property
    def is_ordered(self) -> bool:
        """Whether the values are numbers, so that what lies near to a good one is worth a try."""
        return all(isinstance(value, int | float) and not isinstance(value, bool) for value in self.values)


# Steps of about a factor of two, where nothing is said: finer ones differ by less than the error of a trial.
TABLE: Final = (
    Dimension(path=FAMILY, what="family", values=("forest", "ridge", "lightgbm", "xgboost")),
    Dimension(path="model.horizon_minutes", what="horizon", values=(5, 10, 15, 30, 60, 120)),
    Dimension(path=_RULE, what="rule", values=("quantile", "net"), named=True),  # before what only one of them reads
    Dimension(
        path="strategy.entry_quantile",
        what="entry",
        values=(0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99),
        when=(_RULE, "quantile"),
    ),
    Dimension(path="strategy.side", what="side", values=("both", "long", "short"), named=True),
    Dimension(path="strategy.weighting", what="weighting", values=("equal", "inverse_volatility"), named=True),
    Dimension(path="model.half_life_days", what="half-life", values=(0.0, 15.0, 30.0, 60.0), named=True),
    Dimension(path=_DROP, what="features", values=()),  # none, or one of the groups in force: see `_list_groups`
    Dimension(path="features.use", what="features", values=(), named=True),
    Dimension(path=LOOKBACK, what="lookback", values=(30, 60, 90), named=True),  # longer ones take more bars
    Dimension(path="model.n_estimators", what="parameters", values=(50, 100, 200, 400), families=("forest", "vote")),
    Dimension(path="model.max_depth", what="parameters", values=(4, 6, 8, 12, 16), families=("forest", "vote")),
    Dimension(
        path="model.min_samples_leaf", what="parameters", values=(20, 50, 100, 200, 500), families=("forest", "vote")
    ),
    # not 1.0: it takes six times as long, and no better forest was seen by it
    Dimension(path="model.max_features", what="parameters", values=("sqrt", "log2", 0.33), families=("forest", "vote")),
    Dimension(path="ridge.alpha", what="parameters", values=(1.0, 10.0, 100.0, 1e3, 1e4, 1e5), families=("ridge",)),
    *(
        Dimension(path=f"{family}.{name}", what="parameters", values=values, families=(family,))
        for family in ("lightgbm", "xgboost")
        for name, values in (
            ("n_estimators", (50, 100, 200, 400)),
            ("learning_rate", (0.01, 0.02, 0.05, 0.1, 0.2)),
            ("max_depth", (3, 4, 5, 7)),
            ("min_samples_leaf", (20, 50, 100, 200, 500)),
        )
    ),
    Dimension(path="vote.fit_weights", what="parameters", values=(False, True), families=("vote",)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """What is tried around `settings`, the family first; the configured value is among the values of each setting.

    notes: what was left out, and why.
    """

    settings: Settings
    dimensions: tuple[Dimension, ...]
    notes: tuple[str, ...] = ()

    def choose(self, pick: Callable[[Dimension], Value]) -> Choice:
        """Return what `pick` chooses of each setting that is read beside what was chosen before it."""
        chosen: Choice = {}
        for dimension in self.dimensions:
            if self._reads(dimension, chosen):
                chosen[dimension.path] = pick(dimension)
        return chosen

    def _reads(self, dimension: Dimension, chosen: Mapping[str, Value]) -> bool:
        """Whether a setting changes anything beside `chosen`, and what is configured of the others."""
        if dimension.families and chosen.get(FAMILY, self.settings.model.family) not in dimension.families:
            return False
        if dimension.when is None:
            return True
        path, value = dimension.when
        return chosen.get(path, read_value(self.settings, path)) == value

    def list_configured(self) -> Choice:
        """Return the choice that the settings are."""
        return self.choose(lambda dimension: read_value(self.settings, dimension.path))

    def find(self, path: str) -> Dimension:
        """Return the dimension of a setting that is tried."""
        return next(dimension for dimension in self.dimensions if dimension.path == path)

    def list_lookbacks(self) -> tuple[int, ...]:
        """Return the calendar days of bars that are tried, the configured ones at least."""
        tried = [dimension.values for dimension in self.dimensions if dimension.path == LOOKBACK]
        return tuple(int(value) for values in tried for value in values) or (self.settings.market.lookback_days,)  # type: ignore[arg-type]

    def count(self) -> float:
        """Return how many different choices there are."""
        paths = {FAMILY, *(dimension.when[0] for dimension in self.dimensions if dimension.when)}
        switches = [dimension for dimension in self.dimensions if dimension.path in paths]
        others = [dimension for dimension in self.dimensions if dimension.path not in paths]
        sizes = [
            math.prod(len(other.values) for other in others if self._reads(other, chosen))
            for values in product(*(switch.values for switch in switches))
            for chosen in [{switch.path: value for switch, value in zip(switches, values, strict=True)}]
        ]
        return float(sum(sizes))


def build_space(settings: Settings, features: FeatureSet) -> Space:
    """Return what `[search]` asks to be tried. features: those in force.

    Raises ConfigError for a word, a setting or a value that does not exist or is not searched, TrainingError for a
    family that is named and not installed.
    """
    search = settings.search
    words = tuple(dict.fromkeys(dimension.what for dimension in TABLE))
    for word in search.vary:
        if word not in words:
            close = _suggest(word, words)
            raise ConfigError(f"[search] vary: there is no {word!r}{close} It knows: {', '.join(words)}.")
    rows = (*TABLE, *_list_strangers(settings))
    for path in search.values:
        if path not in {row.path for row in rows}:
            close = _suggest(path, tuple(row.path for row in rows))
            raise ConfigError(f"[search] values: {path} is not searched{close} docs/search.md lists what is.")
    notes: list[str] = []
    families = _list_families(settings, notes)
    dimensions: list[Dimension] = []
    for row in rows:
        own = search.values.get(row.path)
        wanted = row.what in search.vary if search.vary else not row.named
        if not (wanted or own) or (row.families and not set(row.families) & set(families)):
            continue
        values = families if row.path == FAMILY else _list_values(row, own, settings, features)
        if not _can_be_read(row, settings, dimensions):
            notes.append(f"{row.path} is not tried: {_describe_unread(row, settings)}")
        elif len(values) > 1:
            dimensions.append(replace(row, values=values))
    if not dimensions:
        why = "; ".join(notes) or "each setting has one value"
        raise ConfigError(f"[search] leaves nothing to try: {why}. Give more, or leave vary out.")
    return Space(settings=settings, dimensions=tuple(dimensions), notes=tuple(notes))


def _can_be_read(row: Dimension, settings: Settings, dimensions: Sequence[Dimension]) -> bool:
    """Whether what alone reads a row is configured, or among what is tried."""
    if row.when is None:
        return True
    path, value = row.when
    return read_value(settings, path) == value or path in {dimension.path for dimension in dimensions}


def _describe_unread(row: Dimension, settings: Settings) -> str:
    assert row.when is not None  # noqa: S101 - of a row that nothing reads
    section, _, name = row.when[0].partition(".")
    return f'[{section}] {name} = "{read_value(settings, row.when[0])}" does not read it'


def apply_choice(settings: Settings, chosen: Mapping[str, Value]) -> Settings:
    """Return the settings with what is chosen in their place."""
    changed = settings
    for path, value in chosen.items():
        section, _, name = path.partition(".")
        if section in settings.plugins:
            brought = {**changed.plugins, section: replace(changed.plugins[section], **{name: value})}
            changed = replace(changed, plugins=brought)
        else:
            changed = replace(changed, **{section: replace(getattr(changed, section), **{name: value})})
    return changed


def read_value(settings: Settings, path: str) -> Value:
    """Return the value of a setting."""
    section, _, name = path.partition(".")
    holder = settings.plugins.get(section) or getattr(settings, section)
    value: Value = getattr(holder, name)
    return value


def _suggest(word: str, known: Sequence[str]) -> str:
    close = get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]}?" if close else "."


def _list_strangers(settings: Settings) -> Iterator[Dimension]:
    """Yield a row for each parameter of a stranger's family: without usual values, so `[search] values` names them."""
    kind = getattr(find_family(settings.model.family), "SETTINGS", None)
    for section, holder in settings.plugins.items():
        for item in fields(holder) if kind is not None and isinstance(holder, kind) else ():
            yield Dimension(
                path=f"{section}.{item.name}",
                what="parameters",
                values=(),
                families=(settings.model.family,),
                named=True,
            )


def _list_families(settings: Settings, notes: list[str]) -> tuple[str, ...]:
    """Return the families that are tried, the configured one first; one of the usual ones that is missing is noted."""
    search, own = settings.search, settings.search.values.get(FAMILY)
    if own is None and search.vary and "family" not in search.vary:
        return (settings.model.family,)
    names = [str(name) for name in own or TABLE[0].values]
    found = []
    for name in dict.fromkeys((settings.model.family, *names)):
        missing = _find_missing(name)
        if missing is None:
            found.append(name)
        elif own or name == settings.model.family:
            raise missing
        else:
            notes.append(f"the family {name} is not tried: {missing}")
    return tuple(found)


def _find_missing(name: str) -> HftclError | None:
    """Return why a family cannot be trained, None where it can."""
    require_installed = getattr(find_family(name), "require_installed", None)
    try:
        if require_installed is not None:
            require_installed()
    except TrainingError as missing:
        return missing
    return None


def _list_values(
    row: Dimension, own: Sequence[Value] | None, settings: Settings, features: FeatureSet
) -> tuple[Value, ...]:
    """Return the values of a row: the user's or the usual ones, and the configured one; numbers in their order."""
    configured = read_value(settings, row.path)
    values: Iterable[Value] = own or row.values
    if row.path in _LISTS and own:
        values = [tuple(part for part in str(value).split("+") if part) for value in own]
    elif row.path == _DROP:
        values = _list_groups(settings, features)
    for value in values:
        _require_allowed(row.path, value, settings)
    every = tuple(dict.fromkeys((configured, *values)))
    return tuple(sorted(every)) if replace(row, values=every).is_ordered else every


def _list_groups(settings: Settings, features: FeatureSet) -> list[Value]:
    """Return what `[features] drop` is with one more group in it, for each group of which a feature is in force."""
    names = set(features.names)
    groups = dict.fromkeys(feature.group for feature in features.table if feature.name in names)
    dropped = settings.features.drop
    return [(*dropped, group) for group in groups] if len(groups) > 1 else []


def _require_allowed(path: str, value: Value, settings: Settings) -> None:
    """Raise ConfigError for a value that the setting cannot have."""
    plugins = tuple((section, type(held)) for section, held in settings.plugins.items())
    for refusal in find_refusals(path, list_all_leaves(plugins)[path].annotation, value):
        raise ConfigError(f"[search] values: {refusal}.")
    if path in _LISTS:
        list_our_features(apply_choice(settings, {path: value}))  # a group that does not exist, or that leaves none
