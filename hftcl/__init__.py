"""hftcl keeps a minute-bar trading model fresh: the names a notebook or a script uses.

Importing this package is cheap: a name loads its room on first use.
"""

from importlib import import_module

# Not of `typing`: its import takes longer than all else that comes before the command line hears a Ctrl-C.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from hftcl.api.continuous_learning import ContinuousLearning as ContinuousLearning
    from hftcl.api.performance_tracker import PerformanceTracker as PerformanceTracker

__version__ = "0.1.0"

_HOMES: "Final" = {  # imported when first asked for: `import hftcl` stays light
    "ContinuousLearning": "hftcl.api.continuous_learning",
    "PerformanceTracker": "hftcl.api.performance_tracker",
}

__all__ = ["ContinuousLearning", "PerformanceTracker", "__version__"]


def __getattr__(name: str) -> "Any":
    if name not in _HOMES:
        raise AttributeError(f"module 'hftcl' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
