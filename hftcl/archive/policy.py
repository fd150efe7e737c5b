"""What a record is of: a policy, the whole procedure that chooses a model and trades it, as one digest. Pure."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from hftcl.archive.artifact import FeatureSet, ModelMeta, list_our_features
from hftcl.model.families import complete, find_family
from hftcl.settings import Settings

_INTERVAL_S: Final = 60  # minute bars: another interval would be another policy
_HEX: Final = 16  # 64 bits: two policies of one home never share them by chance, and a person can compare them


def complete_params(settings: Settings, chosen: Mapping[str, object] | None = None) -> dict[str, object]:
    """Return the parameters of the configured family: `chosen` before the settings before the family's defaults.

    Raises UsageError for a name that the family does not know, or a value out of its range.
    """
    family = find_family(settings.model.family)
    kind = getattr(family, "SETTINGS", None)  # a plug-in's own section goes before [model]
    holders = [settings.model] if kind is None else [settings.of_plugin(kind), settings.model]
    configured_params = {
        name: next(getattr(holder, name) for holder in holders if hasattr(holder, name))
        for name in family.parameters()
        if any(hasattr(holder, name) for holder in holders)
    }
    return complete(family, {**configured_params, **(chosen or {})})


def hash_policy(
    settings: Settings, params: Mapping[str, object] | None = None, *, features: FeatureSet | None = None
) -> str:
    """Return 16 hexadecimal digits that differ where two policies do.

    Watchlist, coverage, calendar, hours, window, source, interval, horizon, features with their definitions, family and
    parameters, strategy, costs, exam, rule of promotion. Not paths, schedule, alerts, what a record must show ([edge]),
    nor the seed: to draw again is the same procedure, and may not begin its record again.
    params: complete, of the model family; those of the settings where left out. features: those in force, of who has
    read them; where left out, the files are read. Raises ConfigError and StorageError as `find_features` does.
    """
    market, strategy, promote = settings.market, settings.strategy, settings.promote
    # Named one by one: a setting that a later hftcl adds must not end every record.
    parts: dict[str, object] = {
        "market": [sorted(market.watchlist), market.calendar, market.lookback_days, market.extended_hours],
        "bars": [market.source, _INTERVAL_S],
        "features": (features or list_our_features(settings)).definitions_hash,
        "model": [settings.model.family, settings.model.horizon_minutes],
        "params": complete_params(settings) if params is None else dict(params),
        "strategy": [strategy.entry_quantile, strategy.flat_minutes_before_close, strategy.cost_bps],
        "exam": [settings.exam.sessions, settings.exam.embargo_sessions],
        "promote": [
            promote.policy,
            promote.min_sharpe,
            promote.tolerance,
            promote.min_p_better,
            promote.refit_on_promote,
        ],
    }
    later = _list_later(settings)
    if later:  # at their defaults a policy is what it was before there were such settings
        parts["later"] = later
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:_HEX]


# Settings that were not in the first records' digests and change what is traded.
_LATER: Final = {
    "market": ("min_coverage",),
    "features": ("drop_below",),
    "model": ("half_life_days", "max_rows", "novelty", "per"),
    "strategy": ("entry", "side", "weighting"),
    "exam": ("min_sessions", "plausible_sharpe"),
    "promote": ("when_champion_cannot_be_scored",),
}


def _list_later(settings: Settings) -> dict[str, object]:
    """Return those of `_LATER` that are not at their defaults, by name."""
    default = Settings()
    # lowered with the sessions by `config`, which is no choice of its own
    lowest = min(default.exam.min_sessions, settings.exam.sessions)
    default = replace(default, exam=replace(default.exam, min_sessions=lowest))
    tried = {"model.horizons": settings.model.horizons} if settings.model.horizon_minutes == "auto" else {}
    return tried | {
        f"{section}.{name}": getattr(getattr(settings, section), name)
        for section, names in _LATER.items()
        for name in names
        if getattr(getattr(settings, section), name) != getattr(getattr(default, section), name)
    }


def is_made_by(meta: ModelMeta, settings: Settings, params: Mapping[str, object], *, features: FeatureSet) -> bool:
    """Whether a model, by what its file says, was made as these settings make one: for a model without a digest."""
    model, market, strategy = settings.model, settings.market, settings.strategy
    horizon = "auto" if meta.horizon else meta.horizon_minutes
    theirs = (meta.family, dict(meta.params), horizon, meta.entry_quantile, meta.calendar, meta.source)
    ours = (
        model.family,
        dict(params),
        model.horizon_minutes,
        strategy.entry_quantile,
        market.calendar,
        market.source,
    )
    return (
        theirs == ours
        and meta.extended_hours == market.extended_hours
        and meta.flat_minutes_before_close == strategy.flat_minutes_before_close
        and meta.cost_bps == strategy.cost_bps
        and (meta.side, meta.weighting) == (strategy.side, strategy.weighting)
        and (meta.entry is not None) == (strategy.entry == "net")
        and (meta.half_life_days, meta.per) == (model.half_life_days, model.per)
        and meta.max_rows in (0, model.max_rows)
        and (meta.novelty.quantile if meta.novelty else 0.0) == model.novelty
        and (meta.selection is not None) == (settings.features.drop_below != "off")
        and meta.features_hash == features.definitions_hash
        and set(meta.tickers) <= set(market.watchlist)
    )
