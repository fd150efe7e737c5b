"""Writes what the library shap says of a small forest to shap_answers.json: python -m tests.model.record_shap DATE.

shap is no dependency of the tests, because it brings 200 MB of a compiler; each run compares with what it answered
once. It is asked through its own reading of the estimator, and the trees are kept beside the answers, so that
another version of scikit-learn changes nothing.
"""

import importlib
import importlib.metadata
import json
import sys
from pathlib import Path

import numpy as np
from sklearn.ensemble import RandomForestRegressor

from hftcl.model.families.forest import list_trees
from tests.model.test_contributions import make_rows

ANSWERS = Path(__file__).with_name("shap_answers.json")
_ROWS = 12


def record(on: str) -> None:
    """Fit, ask, write. on: the date, ISO 8601."""
    shap = importlib.import_module("shap")
    X, y = make_rows()
    forest = RandomForestRegressor(n_estimators=4, max_depth=4, min_samples_leaf=8, random_state=3).fit(X, y)
    explainer = shap.TreeExplainer(forest, feature_perturbation="tree_path_dependent")
    names = ("left", "right", "feature", "threshold", "value", "cover")
    answers = {
        "recorded": on,
        "versions": {name: importlib.metadata.version(name) for name in ("shap", "scikit-learn", "numpy")},
        "trees": [{name: getattr(tree, name).tolist() for name in names} for tree in list_trees(forest)],
        "rows": X[:_ROWS].astype(float).tolist(),
        "base": float(np.ravel(explainer.expected_value)[0]),
        "values": explainer.shap_values(X[:_ROWS]).tolist(),
    }
    ANSWERS.write_text(json.dumps(answers, indent=None, separators=(",", ":")).replace(',"', ',\n"') + "\n")


if __name__ == "__main__":
    record(sys.argv[1])
