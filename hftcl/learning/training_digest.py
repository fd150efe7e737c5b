"""What a training depends on beside its rows, as one digest: by it a model that is kept is known again. Pure."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace

from hftcl.archive.artifact import FeatureSet
from hftcl.archive.policy import hash_policy
from hftcl.compute.code_digest import hash_code, hash_family_code, list_versions
from hftcl.settings import Promote, Settings


def hash_training(settings: Settings, params: Mapping[str, object], features: FeatureSet, source: str) -> str:
    """Return a SHA-256 of the settings, parameters, features, source, code and libraries. params: complete.

    Of a plug-in's family its code too: who mends it after a fault seldom gives it another version.
    """
    # what a policy is of changes a training, but for the rule of promotion, which only judges it
    trained = replace(settings, promote=Promote())
    parts = {
        "policy": hash_policy(trained, params, features=features),
        "market": asdict(settings.market),
        "model": {**asdict(settings.model), **params},
        "strategy": asdict(settings.strategy),
        "exam": asdict(settings.exam),
        "features": features.definitions_hash,
        "source": source,
        "code": hash_code(),
        "libraries": list_versions(),
    }
    if theirs := hash_family_code(settings.model.family):
        parts["family"] = theirs
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
