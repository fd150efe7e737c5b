"""What each worker of xdist would do again at its start, done once for all: rewritten asserts, ids, constants.

Touches the folder of the session, which the workers share, the compiled files beside the tests, and what Hypothesis
keeps of our modules.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest
from _pytest.assertion import rewrite
from hypothesis.internal import constants_ast

TESTS: Final = Path(__file__).resolve().parent
_REWRITING: Final = ("PYC_TAIL", "assertstate_key", "get_cache_dir", "try_makedirs", "_read_pyc", "_rewrite_test",
                     "_write_pyc")  # fmt: skip
"""What pytest's own loader of a test file calls; no promise of pytest's."""
IDS: Final = pytest.StashKey[list[str]]()
"""The ids that this process collected, those too that no run of today asks for."""
_MARK: Final = "hash "


def rewrite_share(config: pytest.Config, folder: Path, number: int, workers: int) -> list[Path]:
    """Rewrite the asserts of each `workers`-th file of tests under `folder`, from the `number`-th on, and keep them.

    Return the files that were rewritten. In a fresh clone all workers come to each file at the same time, and each
    would do all of them. Nothing where Python is told to keep nothing, pytest is told to leave asserts as they are, or
    has other names for it.
    """
    if sys.dont_write_bytecode or not all(hasattr(rewrite, name) for name in _REWRITING):
        return []
    state = config.stash.get(rewrite.assertstate_key, None)
    if state is None:
        return []
    written = []
    for file in sorted(folder.rglob("test_*.py"))[number::workers]:
        beside = rewrite.get_cache_dir(file)
        kept = beside / f"{file.stem}{rewrite.PYC_TAIL}"
        if rewrite.try_makedirs(beside) and rewrite._read_pyc(file, kept) is None:
            try:
                source, code = rewrite._rewrite_test(file, config)
            except SyntaxError:  # pytest says it of that file when it collects it; here it would end every worker
                continue
            rewrite._write_pyc(state, code, source, kept)
            written.append(file)
    return written


def keep_constants_of_share(folders: Sequence[Path], number: int, workers: int) -> list[Path]:
    """Have Hypothesis find the constants of each `workers`-th module under `folders`, from the `number`-th on.

    Return those modules. It draws of them in each property, reads all of our modules for them, and keeps what it found
    in a folder of its own: in a fresh clone each worker would read all, for two seconds. Nothing where Hypothesis has
    another name for it, which is no promise of its.
    """
    find = getattr(constants_ast, "constants_from_module", None)
    if find is None:
        return []
    files = sorted(file for folder in folders for file in folder.rglob("*.py"))[number::workers]
    for file in files:
        module = ModuleType(file.stem)
        module.__file__ = str(file)
        find(module)
    return files


def tell_ids(config: pytest.Config, ids: Sequence[str], session_home: Path) -> None:
    """Keep the ids that this process collected, and let the other workers know them."""
    config.stash[IDS] = [*ids]
    worker = getattr(config, "workerinput", {}).get("workerid")
    if worker:
        folder = session_home / "collected"
        folder.mkdir(exist_ok=True)
        (folder / worker).write_text("\n".join([_name_hashes(), *ids]))


def _name_hashes() -> str:
    """Return a text that differs between processes whose sets of texts have another order."""
    return f"{_MARK}{hash(_MARK)}"


def read_ids_of_another(session_home: Path) -> list[str] | None:
    """Return what a worker with other hashes of texts has collected; None where there is no such worker."""
    for file in sorted(session_home.glob("collected/*")):
        hashes, *ids = file.read_text().split("\n")
        if hashes != _name_hashes():
            return ids
    return None
