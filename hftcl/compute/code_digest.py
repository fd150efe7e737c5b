"""Which code and libraries a figure came from: what was kept by other ones is computed again."""

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import hftcl
from hftcl.entry_points import list_entry_points
from hftcl.plug_ins import is_strange

# What a prediction may depend on; xgboost-cpu is the same library under another name.
_LIBRARIES: Final = (
    "numpy",
    "polars",
    "scipy",
    "scikit-learn",
    "scikit-learn-intelex",
    "onnx",
    "onnxruntime",
    "lightgbm",
    "xgboost",
    "xgboost-cpu",
)


@cache  # one answer a process, whatever is installed under it later: what it has loaded by then may be older or newer
def hash_code() -> str:
    """Return a hash of the whole package, as it lies on the disk when this process first asks.

    Not of some files: a list of those that matter is wrong one day, and an old model lives.
    """
    return _hash_files(Path(hftcl.__file__).parent)


def is_code_replaced() -> bool:
    """Return whether the package is another one on the disk than when `hash_code` was first asked, as by an upgrade.

    What is imported from then on does not fit what this process has loaded.
    """
    known = hash_code()
    try:
        return _hash_files(Path(hftcl.__file__).parent) != known
    except FileNotFoundError:  # it is being replaced at this moment
        return True


def _hash_files(package: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        digest.update(f"{file.relative_to(package)}\n".encode() + file.read_bytes())
    return digest.hexdigest()


@cache  # see `hash_code`
def hash_family_code(name: str) -> str:
    """Return a hash of the package, or the one module, that brings a model family; "" for ours, and for one not found.

    Not of what that imports from elsewhere.
    """
    point = list_entry_points("hftcl.families").get(name)
    if point is None or not is_strange(point):
        return ""
    spec = find_spec(point.module.partition(".")[0])
    if spec is None:
        return ""
    if folders := spec.submodule_search_locations:
        return " ".join(_hash_files(Path(folder)) for folder in folders)
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest() if spec.has_location and spec.origin else ""


def list_versions() -> dict[str, str]:
    """Return the version of each library that a prediction may depend on; "absent" for one that is not installed.

    And of each package that brings a model family of its own, by the family's name.
    """
    return {name: _find_version(name) for name in _LIBRARIES} | _list_families()


def _list_families() -> dict[str, str]:
    """Return by "the family NAME" which package brings it, and its version; ours are of the hashed code."""
    families = sorted(list_entry_points("hftcl.families").items())
    return {
        f"the family {name}": f"{point.dist.name} {point.dist.version}"
        for name, point in families
        if point.dist is not None and point.dist.name != "hftcl"
    }


def _find_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # an extra
        return "absent"
