"""The features that a model reads and this program computes, and what to say where they are not the same."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from hftcl.errors import IntegrityError
from hftcl.settings import Settings

if TYPE_CHECKING:
    import polars as pl

    from hftcl.model.feature import Feature


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSet:
    """The features of a model or of this program: names in order, SHA-256 of what they mean, and their formulae.

    sources: SHA-256 of the user's file that each stands in, "" for ours; empty where none is the user's. columns: what
    they read of a bar beside prices and volume. table: all that this program computes, of which a model may read some;
    empty for a model's. available: the columns and context tickers that its bars come with.
    """

    names: tuple[str, ...]
    definitions_hash: str
    formulae: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    table: "tuple[Feature, ...]" = field(default=(), repr=False, compare=False)
    available: tuple[str, ...] = field(default=(), repr=False, compare=False)

    @property
    def chosen(self) -> "tuple[Feature, ...]":
        """The features that `names` names; none where there is no table."""
        known = {feature.name: feature for feature in self.table}
        return tuple(known[name] for name in self.names if name in known)

    @property
    def own(self) -> "tuple[Feature, ...]":
        """Those of the user's files among `names`; none where there is no table."""
        return tuple(feature for feature in self.chosen if feature.source)

    def narrow(self, names: Sequence[str]) -> "FeatureSet":
        """Return those of the table that are among `names`, in that order; itself where it has no table."""
        if not self.table:
            return self
        known = {feature.name: feature for feature in self.table}
        return _describe_features(tuple(known[name] for name in names if name in known), self.table, self.available)

    def describe(self) -> "FeatureSet":
        """Return it with a table that says the same of each feature and computes none: no code of a user's file."""
        return replace(self, table=tuple(replace(feature, expr=_name_columns(feature)) for feature in self.table))


def _name_columns(feature: "Feature") -> "pl.Expr":
    """Return an expression that reads what the feature's does."""
    import polars as pl

    return pl.concat_list(pl.lit(None), *(pl.col(name) for name in sorted(set(feature.expr.meta.root_names()))))


def list_our_features(settings: Settings | None = None) -> FeatureSet:
    """Return the features that a model is trained on, and, in its table, all that this program computes.

    settings: None for ours alone. Raises ConfigError as `own_features.find_features` does.
    """
    from hftcl.model.features import OUR_TABLE
    from hftcl.model.own_features import find_features

    table = OUR_TABLE if settings is None else find_features(settings)
    market = None if settings is None else settings.market
    return _describe_features(table.chosen, table.known, (*market.columns, *market.context) if market else ())


def _describe_features(
    features: "tuple[Feature, ...]", table: "tuple[Feature, ...]", available: tuple[str, ...]
) -> FeatureSet:
    from hftcl.model.feature import list_columns
    from hftcl.model.features import hash_definitions

    sources = tuple(feature.source for feature in features)
    return FeatureSet(
        names=tuple(feature.name for feature in features),
        definitions_hash=hash_definitions(features),
        formulae=tuple(feature.formula for feature in features),
        sources=sources if any(sources) else (),
        columns=list_columns(features),
        table=table,
        available=available,
    )


def require_columns(trained_set: FeatureSet, current_set: FeatureSet, name: str) -> None:
    """Raise IntegrityError where the bars lack what the features of the model `name` read of them."""
    needed = {each.partition(" ")[0]: each for each in trained_set.columns}  # "SPY ret_5" is one of SPY
    lacking = [column for key, column in needed.items() if current_set.table and key not in current_set.available]
    if lacking:
        setting = "context" if " " in lacking[0] else "columns"
        raise IntegrityError(
            f"{name} reads {', '.join(lacking)} of each bar, which [market] {setting} does not name, so that the bars "
            "do not have it. Name it there, retrain without the features that read it, or `hftcl rollback MODEL_ID`."
        )


def require_features(trained_set: FeatureSet, current_set: FeatureSet, name: str) -> None:
    if trained_set.names == current_set.names and trained_set.definitions_hash == current_set.definitions_hash:
        return
    raise IntegrityError(
        f"{name} was trained on other features than this hftcl computes: "
        f"{_describe_difference(trained_set, current_set)}. "
        f"{_advise(trained_set)}"
    )


def _advise(trained_set: FeatureSet) -> str:
    if any(trained_set.sources):
        return "Retrain, or put [features] and the files that it names back as they were; a bot that runs starts again."
    return "Retrain, or go back to the hftcl that trained it."


def _describe_difference(trained_set: FeatureSet, current_set: FeatureSet) -> str:
    said = [f"{name} is gone" for name in trained_set.names if name not in current_set.names]
    said += [f"{name} is new" for name in current_set.names if name not in trained_set.names]
    if not said and trained_set.names != current_set.names:
        return "their order changed"
    then, now = (dict(zip(part.names, part.formulae, strict=False)) for part in (trained_set, current_set))
    said += [f"{name} is defined otherwise" for name in then if name in now and then[name] != now[name]]
    then, now = (dict(zip(part.names, part.sources, strict=False)) for part in (trained_set, current_set))
    shared = [name for name in trained_set.names if name in current_set.names]
    changed = [name for name in shared if then.get(name, "") != now.get(name, "")]
    said += [f"the file of {', '.join(changed)} was changed since"] if changed else []
    return "; ".join(said) or "what they share changed (their version, units, look-backs)"
