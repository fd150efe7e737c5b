"""Which code and libraries a figure came from: what was kept by other ones is computed again."""

import hashlib
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

import hftcl
from hftcl.entry_points import list_entry_points
from hftcl.plug_ins import is_strange

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

_MODULES: Final = (*SOURCE_SUFFIXES, *EXTENSION_SUFFIXES)  # how files of modules end; what is cached of them is theirs
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
    """Return a hash of the code that brings a model family; "" for ours, and for one that is not found.

    Of every module, compiled ones too, that lies in the folder of the entry point's top package, or that the installed
    distribution lists as its own, beside that package or elsewhere. Not seen: other distributions that it imports,
    shared libraries that its modules load, data files, and of an editable install modules outside the top package.
    """
    point = list_entry_points("hftcl.families").get(name)
    if point is None or not is_strange(point):
        return ""
    digest = hashlib.sha256()
    for told, path in sorted(_list_modules(point).items()):
        digest.update(f"{told}\n{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _list_modules(point: "EntryPoint") -> dict[str, Path]:
    """Return the files of modules, by a name that is the same in each place of installation."""
    top = point.module.partition(".")[0]
    spec = find_spec(top)
    files = dict[str, Path]()
    if spec and spec.submodule_search_locations:
        for folder in map(Path, spec.submodule_search_locations):
            files |= {str(path.relative_to(folder.parent)): path for path in folder.rglob("*")}
    elif spec and spec.has_location and spec.origin:
        files[Path(spec.origin).name] = Path(spec.origin)
    listed = (point.dist.files if point.dist else None) or ()
    files |= {str(path): Path(str(path.locate())) for path in listed}
    return {told: path for told, path in files.items() if path.name.endswith(_MODULES) and path.is_file()}


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
