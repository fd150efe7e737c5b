"""Where each file lies is said once, in `hftcl.home`: no other module joins a name to a folder by hand.

Not seen: a name that comes through a parameter, a field, or a text put together, such as `f"{folder}/name"`.
"""

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

from hftcl import home
from hftcl.home import Home
from tests.package_text import CAPITALS, Source, list_sources, read_source, spell

RENAMES = {"joinpath", "with_name", "with_suffix", "with_stem"}  # methods that give a path with another name
MAKERS = {"Path", "PurePath", "pathlib.Path", "pathlib.PurePath", "os.path.join", "path.join", "join"}
HOME = "hftcl.home"

# Files that are not the home's, or that lie beside any file: as the modules write them, each with its reason.
ELSEWHERE = {
    "hftcl.archive.adoption": {"path.with_suffix('.pkl')"},  # beside a model of the user's own
    # What the kernel tells of this machine.
    "hftcl.compute.cores": {
        "root / 'sys/fs/cgroup'",
        "folder / 'cpu.max'",
        "folder / 'cpu/cpu.cfs_quota_us'",
        "folder / 'cpu/cpu.cfs_period_us'",
    },
    "hftcl.free_memory": {
        "root / 'proc/meminfo'",
        "root / 'proc/self/cgroup'",
        "root / 'sys/fs/cgroup'",
        "root / 'sys/fs/cgroup/unified'",
        "root / 'sys/fs/cgroup/memory'",
        "folder / 'memory.stat'",
    },
    # The user's configuration, which lies in any folder.
    "hftcl.config.documents": {"folder / FILE_NAME"},
    "hftcl.config.loading": {"cwd / FILE_NAME"},
    "hftcl.config.remembered": {"home / FILE_NAME"},
    # systemd's folders.
    "hftcl.config.dotenv": {"Path(folder) / CREDENTIALS_FILE"},
    "hftcl.doctor.outside": {"folder / f'hftcl-{name}.service'"},
    # A folder that is made for one check of a plug-in, and deleted.
    "hftcl.contracts.layout": {
        "Path(folder) / 'others'",
        "Path(folder) / 'others' / 'AAPL.csv'",
        "Path(folder) / 'own'",
        "path.parent / 'home'",
    },
    # Parts of the installed package.
    "hftcl.schedule.new_york": {"Path(__file__).with_name('new_york.json')"},
    "hftcl.dashboard.pages": {
        "_FOLDER / 'static'",
        "_FOLDER / 'templates'",
        "_FOLDER / 'templates' / 'parts'",
        "_FOLDER / 'templates' / 'parts' / f'{part.name}.html'",
    },
    "hftcl.manual.pages": {
        "package / 'docs'",
        "package.parent / 'docs'",
        "folder / 'commands.md'",
        "folder / 'configuration.md'",
        "folder / f'{place.page}.md'",
    },
    "hftcl.pages.chart_data": {"Path(__file__).with_name('charts.js')"},
    # A copy beside any file that would be lost.
    "hftcl.durable": {"path.with_name(f'{path.name}.before')", "path.with_name(f'{path.name}.before.{number}')"},
    # What SQLite writes beside any database.
    "hftcl.sqlite.opening": {
        "path.with_name(path.name + '-wal')",
        "path.with_name(path.name + suffix)",
        "path.with_name(path.name + _JOURNAL)",
    },
    # The folders of the user's own bars.
    "hftcl.market.sources.files": {"Path(top, name)", "self._folder / '_'"},  # "_": the folder's name with its last "/"
    "hftcl.market.sources.polygon_flat": {"self._folder / 'splits.json'"},
}


def list_texts(tree: ast.AST, texts: set[str]) -> set[str]:
    """Return `texts` and the names that stand for a text in `tree`: assigned, or of a loop over texts.

    Names within the functions of a module or class are not among them, for they are the functions' own.
    """
    texts = set(texts)
    for node in walk_scope(tree):
        if isinstance(node, ast.Assign):
            value, targets = node.value, node.targets
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value:
            value, targets = node.value, [node.target]
        elif isinstance(node, ast.For | ast.comprehension):
            value, targets = node.iter, [node.target]
        else:
            continue
        if is_text(value, texts):
            texts |= {target.id for target in targets if isinstance(target, ast.Name)}
    return texts


@cache  # a module is walked for what it says to others and for what it joins
def walk_scope(tree: ast.AST) -> tuple[ast.AST, ...]:
    """Return the nodes of `tree` in the order of the text, a function within it as one."""
    nodes, pending = [], [*ast.iter_child_nodes(tree)][::-1]
    while pending:
        node = pending.pop()
        nodes.append(node)
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            pending += [*ast.iter_child_nodes(node)][::-1]
    return tuple(nodes)


def is_text(node: ast.expr, texts: set[str]) -> bool:
    """Whether `node` is a text with a word of its own in it, or holds such ones. texts: names that stand for one."""
    if isinstance(node, ast.Constant):
        # "/proc" is the operating system's
        return isinstance(node.value, str) and node.value != "" and not node.value.startswith("/")
    if isinstance(node, ast.JoinedStr):
        first = node.values[0]
        return any(isinstance(part, ast.Constant) for part in node.values) and (
            not isinstance(first, ast.Constant) or is_text(first, texts)
        )
    if isinstance(node, ast.Name):
        return node.id in texts
    if isinstance(node, ast.Attribute):
        return node.attr in texts and bool(CAPITALS.fullmatch(node.attr))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return is_text(node.left, texts) or is_text(node.right, texts)
    if isinstance(node, ast.Starred):
        return is_text(node.value, texts)
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return any(is_text(part, texts) for part in node.elts)
    return isinstance(node, ast.IfExp) and (is_text(node.body, texts) or is_text(node.orelse, texts))


def list_joins(source: Source, constants: Mapping[str, set[str]]) -> Iterator[str]:
    """Yield where `source` joins a text to a path, as it is written. constants: the texts of each module."""
    texts = set()
    for node in source.nodes:
        if isinstance(node, ast.ImportFrom):
            known = constants.get(node.module or "", set())
            texts |= {alias.asname or alias.name for alias in node.names if alias.name in known}
            modules = [constants.get(f"{node.module}.{alias.name}", set()) for alias in node.names]
            texts |= {name for module in modules for name in module if CAPITALS.fullmatch(name)}
    yield from _list_joins_in(source.tree, list_texts(source.tree, texts))


def _list_joins_in(tree: ast.AST, texts: set[str]) -> Iterator[str]:
    for node in walk_scope(tree):
        if any(is_text(name, texts) for name in _list_names(node)):
            yield ast.unparse(node)
    for node in walk_scope(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _list_joins_in(node, list_texts(node, texts))


def _list_names(node: ast.AST) -> list[ast.expr]:
    """Return what `node` joins to a path; nothing where it joins nothing."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        return [node.right]
    if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Div):
        return [node.value]
    if not isinstance(node, ast.Call):
        return []
    is_rename = isinstance(node.func, ast.Attribute) and node.func.attr in RENAMES
    return node.args if is_rename or spell(node.func) in MAKERS else []


@cache
def list_constants() -> Mapping[str, set[str]]:
    """Return by module the names that stand for a text in it, also one that it imports and hands on."""
    texts: dict[str, set[str]] = {source.name: list_texts(source.tree, set()) for source in list_sources()}
    for source in list_sources():
        imports = [node for node in source.tree.body if isinstance(node, ast.ImportFrom)]
        for node in imports:
            known = texts.get(node.module or "", set())
            texts[source.name] |= {alias.asname or alias.name for alias in node.names if alias.name in known}
    return texts


def test_no_other_module_joins_a_name_to_a_folder_by_hand() -> None:
    sources = [source for source in list_sources() if source.name != HOME]
    found = {source.name: joins for source in sources if (joins := set(list_joins(source, list_constants())))}
    assert found == ELSEWHERE, "a file of the home has its name in hftcl.home"


@pytest.mark.parametrize(
    "text",
    [
        'folder / "second.sqlite"',
        'FILE = "second.sqlite"\ndef open(folder): return folder / FILE',
        'def open(folder):\n    name = f"{folder.name}.sqlite"\n    return folder / name',
        "from hftcl.trading.brokers.second import FILE as PAPER\nhome.shadow / PAPER",
        "from hftcl.trading.brokers import second\nhome.shadow / second.FILE",
        'path.with_name(path.name + ".second")',
        'home.joinpath("models", model_id)',
        'Path(home, "second.sqlite")',
        'pathlib.Path(home, "second.sqlite")',
        'path /= "second.sqlite"',
        'FILE = "second.sqlite"\ndef open(folder):\n    folder /= FILE\n    return folder',
        'SECOND = "second.sqlite"\nNAMES = ("first.sqlite", SECOND)\n[folder / name for name in NAMES]',
        'class Store:\n    NAME = "second"\n    def open(self): return folder / (self.NAME if self.real else "made")',
    ],
)
def test_a_second_place_for_a_file_is_noticed(text: str) -> None:
    constants = {"hftcl.trading.brokers.second": {"FILE"}}
    assert len(list(list_joins(read_source(text, "house"), constants))) == 1


def test_a_quotient_and_a_name_from_elsewhere_are_none() -> None:
    text = "MINUTE = 60\nspan / MINUTE\nhome / folder_name(ticker)\nPath('/proc/meminfo')\nhome / path.name"
    assert list(list_joins(read_source(text, "house"), {})) == []


def test_the_files_of_an_old_home_are_found_by_their_names() -> None:
    files = Home(Path("home"))
    places = [
        files.reserve,
        files.search_lock,
        files.schedule_lock("retrain"),
        files.session_scores,
        files.polygon_calls,
        files.alpaca_calls,
        files.locate_failure_note("trade"),
        files.backtest_lock,
        files.locate_feed_bars("alpaca"),
        files.registry_rebuilt,
        files.locate_damaged_registry("20260109_020000"),
        home.locate_paper(files.shadow),
        home.locate_paper(files.folder),
        home.locate_strict_paper(Home.replay(Path("home")).folder),
        home.locate_collection_lock(home.locate_synthetic(files.bars)),
        home.locate_month_record(home.locate_month(home.locate_columns(files.bars, "vwap") / "AAPL", "2026-01")),
        home.locate_month(home.locate_decisions(files.ledger), "2026-01"),
    ]
    assert [place.relative_to("home").as_posix() for place in places] == [
        ".reserve",
        ".search.lock",
        "models/.schedule-retrain.lock",
        "models/.session-scores.json",
        "bars/.polygon_calls",
        "bars/.alpaca_calls",
        ".stopped-trade",
        "backtest/.lock",
        "bars/feed-alpaca",
        "models/.registry.rebuilt",
        "models/registry.20260109_020000.damaged",
        "shadow/paper.sqlite",
        "paper.sqlite",
        "replay/strict-paper.jsonl",
        "bars/synthetic/.collect.lock",
        "bars/with/vwap/AAPL/2026-01.json",
        "decisions/2026-01.parquet",
    ]
    assert home.read_claim(files.claim("20260109_020000")) == "20260109_020000"
