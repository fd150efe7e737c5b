"""What a figure came from is the code that its process has loaded."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import hftcl

_PROGRAM = """
import sys
from pathlib import Path
import hftcl
from hftcl.compute.code_digest import hash_code
package = Path(hftcl.__file__).parent
assert package == Path(sys.argv[1]), package
print(hash_code())
(package / "doctor" / "new.py").write_text("installed later")
print(hash_code())
"""


_LOOKS = """
import sys
from pathlib import Path
import hftcl
from hftcl.compute.code_digest import hash_code, is_code_replaced
package = Path(hftcl.__file__).parent
assert package == Path(sys.argv[1]), package
hash_code()
(package / "events.py").touch()
print(is_code_replaced())
(package / "formats.py").write_text("# another version")
print(is_code_replaced())
"""


def test_a_process_notices_that_its_package_was_replaced_and_not_that_it_was_touched(tmp_path: Path) -> None:
    package = shutil.copytree(
        Path(hftcl.__file__).parent, tmp_path / "hftcl", ignore=shutil.ignore_patterns("__pycache__")
    )
    command = [sys.executable, "-c", _LOOKS, str(package)]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_a_process_keeps_the_hash_of_the_code_that_it_has_loaded_and_the_next_one_has_another(tmp_path: Path) -> None:
    package = shutil.copytree(
        Path(hftcl.__file__).parent, tmp_path / "hftcl", ignore=shutil.ignore_patterns("__pycache__")
    )

    def ask() -> list[str]:
        command = [sys.executable, "-c", _PROGRAM, str(package)]
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.split()

    first, second = ask(), ask()
    assert first[0] == first[1]
    assert second[0] == second[1] != first[0]
