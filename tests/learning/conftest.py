"""The tests of this room train in processes that are ready: see `warm_trainers`."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import hftcl
from hftcl.compute.code_digest import hash_code


@pytest.fixture(autouse=True, scope="module")
def _use_warm_trainers(warm_trainers: None) -> None:
    pass


@pytest.fixture
def change_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Hold the test over a copy of the package, in which what it is given adds a line to `build_matrix`."""
    package = tmp_path / "code" / "hftcl"
    shutil.copytree(Path(hftcl.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(hftcl, "__file__", str(package / "__init__.py"))

    def change() -> None:
        file = package / "model" / "features.py"
        signature = (
            "def build_matrix(rows: pl.DataFrame, names: Sequence[str] = FEATURE_NAMES) -> npt.NDArray[np.float32]:"
        )
        assert signature in file.read_text()
        file.write_text(file.read_text().replace(signature, f"{signature}\n    names = tuple(names)"))
        hash_code.cache_clear()  # as a process has it that begins now

    hash_code.cache_clear()
    yield change
    hash_code.cache_clear()
