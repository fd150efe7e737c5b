"""What a training elsewhere is told: the rest stays on this machine, with its paths, addresses and accounts."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from hftcl.archive.artifact import FeatureSet
from hftcl.model.families import find_family
from hftcl.settings import Compute, Settings

# A section that is not named travels with its defaults, which is the safe side: a new one may hold an address.
_OF_A_TRAINING: Final = ("market", "model", "ridge", "lightgbm", "xgboost", "vote", "strategy", "exam")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOrder:
    """What each such training is told, beside its rows. settings: see `select_settings`. params: complete."""

    model_id: str
    settings: Settings
    params: Mapping[str, object]
    features: FeatureSet
    source: str
    synthetic: bool


def select_settings(settings: Settings) -> Settings:
    """Return the settings with which a training comes to the same, and every other one at its default.

    Of `[features]` no file: the features' values are in the rows. Of the plug-ins the section of the family alone.
    """
    kept: dict[str, Any] = {name: getattr(settings, name) for name in _OF_A_TRAINING}
    kind = getattr(find_family(settings.model.family), "SETTINGS", None)
    section = {name: held for name, held in settings.plugins.items() if type(held) is kind}
    return Settings(
        **kept,
        features=replace(settings.features, modules=()),
        compute=Compute(jobs=settings.compute.jobs, max_training_hours=settings.compute.max_training_hours),
        plugins=section,
    )
