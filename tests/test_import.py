"""`import hftcl` is cheap, and the structure that the map draws is the structure of the code."""

import subprocess
import sys

import pytest

HEAVY = ("sklearn", "pandas", "polars", "scipy", "onnxruntime", "onnx", "exchange_calendars", "numpy")


def loaded_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import hftcl",
        "import hftcl.cli",
        "from hftcl.learning.stories.history import history",
        "from hftcl import ContinuousLearning",
        "from hftcl import views",
    ],
)
def test_nothing_heavy_is_loaded_by(statement: str) -> None:
    assert loaded_after(statement).isdisjoint(HEAVY)


def test_an_unknown_name_is_an_attribute_error() -> None:
    import hftcl

    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = hftcl.Nonsense
