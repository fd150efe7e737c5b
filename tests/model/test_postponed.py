"""What a library is got from is loaded when something of it is used, and not when others load theirs."""

import subprocess
import sys
from pathlib import Path

import pytest

FILES = {
    "shop/__init__.py": (
        "import importlib\n"
        "def __getattr__(name):\n"
        "    if name == 'slow': return importlib.import_module('shop.slow')\n"
        "    raise AttributeError(name)\n"
    ),
    "shop/slow.py": (
        "print('loaded')\n"
        "class Kind: pass\n"
        "class Box:\n    size = 3\n    def __call__(self, more=0): return 3 + more\n"
        "box = Box()\n"
        "def answer(*words, **named): return words, named\n"
    ),
    "user.py": (
        "import shop.slow\nfrom shop import slow\nfrom shop.slow import Kind, answer, box\n"
        "def whole(): return shop.slow.answer(1)\n"
    ),
}
USES = {
    "answer(1, two=2)": "((1,), {'two': 2})",
    "box.size": "3",
    "box(more=4)": "7",
    "isinstance(3, Kind)": "False",
    "slow.answer()": "((), {})",
    "user.whole()": "((1,), {})",
    "type('Mine', (), {}).__mro__[-1].__name__": "object",
    "types.new_class('Mine', (Kind,)).__mro__[1].__name__": "Kind",
}


def run(folder: Path, code: str) -> list[str]:
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize(("use", "value"), USES.items(), ids=range(len(USES)))
def test_it_is_loaded_by_the_first_use_and_is_then_what_it_is(tmp_path: Path, use: str, value: str) -> None:
    loads = [] if use.startswith("type(") else ["loaded"]
    code = (
        "import sys, types\nfrom hftcl.model.families.postponed import postpone\n"
        "with postpone('shop.slow'):\n    import user\n    from user import Kind, answer, box, slow\n"
        f"print('shop.slow' in sys.modules)\nprint({use})\nprint({use})"
    )
    assert run(tmp_path, code) == ["False", *loads, value, value]


def test_a_library_that_uses_it_while_it_loads_gets_it(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom hftcl.model.families.postponed import postpone\n"
        "with postpone('shop.slow'):\n    import user\n    print(user.box.size)\n"
        "    from shop.slow import Kind\n    print(Kind)\n"
        "import shop.slow\nprint(shop.slow.Kind is Kind, shop.slow is sys.modules['shop.slow'])"
    )
    assert run(tmp_path, code) == ["loaded", "3", "<class 'shop.slow.Kind'>", "True True"]


def test_what_is_loaded_already_stays(tmp_path: Path) -> None:
    code = (
        "import shop.slow\nfrom hftcl.model.families.postponed import postpone\n"
        "with postpone('shop.slow'):\n    import user\nprint(user.Kind is shop.slow.Kind)"
    )
    assert run(tmp_path, code) == ["loaded", "True"]


def test_an_error_while_others_load_leaves_nothing_that_stands_for_it(tmp_path: Path) -> None:
    code = (
        "import contextlib\nfrom hftcl.model.families.postponed import postpone\n"
        "with contextlib.suppress(ZeroDivisionError), postpone('shop.slow'):\n    import user\n    1 / 0\n"
        "import shop.slow\nprint(shop.slow.Kind)"
    )
    assert run(tmp_path, code) == ["loaded", "<class 'shop.slow.Kind'>"]
