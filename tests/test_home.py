"""Where each file lies is said once, in `hftcl.home`."""

import ast
from pathlib import Path

import hftcl

PACKAGE = Path(hftcl.__file__).parent
NAMES = {
    "models",
    "registry.sqlite",
    "ledger.sqlite",
    "alerts.sqlite",
    "model_metadata.csv",
    "trained_stock_model.onnx",
    "trained_stock_model.pkl",
    ".training.lock",
    ".trading.lock",
    ".alerts.lock",
    ".polygon_calls",
    "trade.halt",
    "backtest",
    "search.sqlite",
    ".search.lock",
    "bars",
    "replay",
}


def list_joined_names(path: Path) -> set[str]:
    """Return those of NAMES that `path` joins to a folder with `/`."""
    text = path.read_text()
    if not any(f'"{name}"' in text for name in NAMES):  # most modules: to read a tree takes a hundred times as long
        return set()
    tree = ast.parse(text)
    joins = (node for node in ast.walk(tree) if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div))
    return {str(join.right.value) for join in joins if isinstance(join.right, ast.Constant)} & NAMES


def test_no_other_module_joins_a_file_of_the_home_by_hand() -> None:
    modules = [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "home.py"]
    found = {str(path.relative_to(PACKAGE)): list_joined_names(path) for path in modules}
    assert {path: names for path, names in found.items() if names} == {}
