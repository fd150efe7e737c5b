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
    """Return the texts that `path` joins to a folder with `/`."""
    tree = ast.parse(path.read_text())
    joins = (node for node in ast.walk(tree) if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div))
    return {str(join.right.value) for join in joins if isinstance(join.right, ast.Constant)}


def test_no_other_module_joins_a_file_of_the_home_by_hand() -> None:
    modules = [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "home.py"]
    found = {str(path.relative_to(PACKAGE)): list_joined_names(path) & NAMES for path in modules}
    assert {path: names for path, names in found.items() if names} == {}
