"""How the package is written, held by its own text: reasons beside numbers, verbs for functions, public docstrings."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.package_text import CAPITALS, PACKAGE, Source, list_sources, read_source, spell

# fmt: off
PARTICIPLES = frozenset({
    "arisen", "awoken", "beaten", "befallen", "begun", "bent", "bereft", "beset", "bidden", "bitten", "bled",
    "blown", "born", "borne", "bought", "bound", "bred", "broken", "brought", "built", "burnt", "caught", "chosen",
    "clung", "come", "crept", "dealt", "dived", "done", "drawn", "dreamt", "driven", "drunk", "dug", "dwelt",
    "eaten", "fallen", "fed", "felt", "fled", "flown", "flung", "forbidden", "forborne", "foregone", "foreseen",
    "foretold", "forgiven", "forgotten", "forsaken", "fought", "found", "frozen", "given", "gone", "got", "gotten",
    "grown", "heard", "held", "hewn", "hidden", "hung", "kept", "knelt", "known", "laid", "lain", "leapt",
    "learnt", "led", "left", "lent", "lit", "lost", "made", "meant", "met", "mistaken", "misunderstood", "mown",
    "outdone", "outgrown", "overdone", "overdrawn", "overheard", "overlaid", "overpaid", "overridden", "overseen",
    "overshot", "overslept", "oversold", "overtaken", "overthrown", "paid", "partaken", "pled", "prepaid",
    "proven", "rebuilt", "redone", "remade", "repaid", "reshown", "resold", "retaken", "rethought", "retold",
    "rewound", "rewritten", "ridden", "risen", "rung", "said", "sawn", "seen", "sent", "sewn", "shaken", "shaven",
    "shod", "shorn", "shot", "shown", "shrunk", "slain", "slept", "slid", "slung", "smelt", "sold", "sought",
    "sown", "spelt", "spent", "spilt", "spoilt", "spoken", "sprung", "spun", "stolen", "stood", "strewn",
    "stricken", "striven", "struck", "strung", "stuck", "stung", "sunburnt", "sung", "sunk", "swept", "swollen",
    "sworn", "swum", "swung", "taken", "taught", "thought", "thriven", "thrown", "told", "torn", "trodden",
    "unbroken", "unbuilt", "undergone", "underpaid", "understood", "undertaken", "undone", "undrawn", "unfrozen",
    "unknown", "unmet", "unpaid", "unseen", "unsent", "unsold", "unspent", "untold", "unwound", "unwritten",
    "upheld", "wept", "withdrawn", "withheld", "withstood", "woken", "won", "worn", "woven", "written", "wrung",
})
"""Irregular ones, but for those that are the verb as well: cut, put, read, run, set, split..."""
# fmt: on
VERBS_IN_ED = frozenset(
    {"bleed", "breed", "embed", "exceed", "feed", "need", "proceed", "seed", "shed", "speed", "succeed"}
)

FIXED_NAMES = {
    "hftcl.exam.metrics.deflated_sharpe": "the statistic's own name: Bailey and Lopez de Prado (2014)",
    "hftcl.exam.metrics.expected_maximum": "the statistic's own name, as in the same paper",
}
"""Functions that may be called by a participle, each with its reason."""

FIXED_PROMISES = {
    "known_until": "each source has it, a stranger's too: another name would break what they wrote",
}
"""Methods of a Protocol that may, and those of the classes that keep the promise."""

MOST_LINES = 60  # of a function, its docstring included: about a screen
MOST_FILE_LINES = 450  # of a module: each that had more was about two things when it was divided

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


def list_unexplained_numbers(source: Source) -> Iterator[str]:
    """Yield each constant in capitals with a number in it and no reason: beside it, above it or as a text under it."""
    bodies = [source.tree.body, *(node.body for node in source.nodes if isinstance(node, ast.ClassDef))]
    for body in bodies:
        for statement, following in zip(body, [*body[1:], None], strict=True):
            names = _list_constants(statement)
            if not names or not _holds_number(statement):
                continue
            if not _is_text(following) and not source.has_comment(statement):
                yield f"{source.name}:{statement.lineno} {', '.join(names)}"


def _list_constants(statement: ast.stmt) -> list[str]:
    targets: list[ast.expr] = []
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
        targets = [statement.target]
    names = [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]
    return [name for name in names if CAPITALS.fullmatch(name)]


def _holds_number(statement: ast.stmt) -> bool:
    """Whether there is a number in what is assigned: by itself, in a tuple or dict, or as an argument."""
    assert isinstance(statement, ast.Assign | ast.AnnAssign)
    assert statement.value is not None
    return any(
        isinstance(node, ast.Constant) and type(node.value) in (int, float, complex)
        for node in ast.walk(statement.value)
    )


def _is_text(statement: ast.stmt | None) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def test_each_number_in_capitals_has_its_reason_beside_it() -> None:
    sources = list_sources()
    assert [line for source in sources for line in list_unexplained_numbers(source)] == []


def test_a_number_without_a_reason_is_noticed() -> None:
    text = """
TIMEOUT_S = 3  # a page takes one
# Below the timeout.
POLL_S = 0.1
NAME = "a text"
WAITS = (1.0, 2.0)
WEEK = timedelta(days=7)
RATES = {"a": 1}  # noqa: S105
A, B = 1, 2
BINS: Final = 10
\"\"\"Deciles.\"\"\"
class Shelf:
    ROOM: int = 5
lower = 3
"""
    noticed = [line.partition(" ")[2] for line in list_unexplained_numbers(read_source(text, "house"))]
    assert noticed == ["WAITS", "WEEK", "RATES", "A, B", "ROOM"]


def list_participles(source: Source, promised: frozenset[str]) -> Iterator[str]:
    """Yield the dotted name of each function whose first word is a participle.

    Properties may have such names, and methods that a Protocol promises by them; `promised`: the names of those.
    """
    for path, node, owner in _list_functions(source.tree, source.name):
        first = node.name.lstrip("_").split("_")[0].lower()
        participle = first in PARTICIPLES or _ends_in_ed(first)
        if participle and not _is_property(node) and (owner is None or node.name not in promised):
            yield path


def list_promised(source: Source) -> Iterator[str]:
    """Yield the methods of the Protocols in `source`: a class that keeps the promise cannot choose the name."""
    for _, node, owner in _list_functions(source.tree, source.name):
        if owner is not None and any(ast.unparse(base).startswith("Protocol") for base in owner.bases):
            yield node.name


def _ends_in_ed(word: str) -> bool:
    return word.endswith("ed") and len(word) > len("red") and word not in VERBS_IN_ED


@cache  # of the package, three tests ask for them
def _list_functions(tree: ast.Module, name: str) -> tuple[tuple[str, FunctionNode, ast.ClassDef | None], ...]:
    return tuple(_walk_functions(tree, name, None))


def _walk_functions(
    node: ast.AST, path: str, owner: ast.ClassDef | None
) -> Iterator[tuple[str, FunctionNode, ast.ClassDef | None]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield from _walk_functions(child, f"{path}.{child.name}", child)
        elif isinstance(child, FunctionNode):
            yield f"{path}.{child.name}", child, owner
            yield from _walk_functions(child, f"{path}.{child.name}", None)
        else:
            yield from _walk_functions(child, path, owner)


def _is_property(node: FunctionNode) -> bool:
    return any(ast.unparse(decorator).endswith(("property", ".setter", ".getter")) for decorator in node.decorator_list)


def test_no_function_has_a_participle_for_a_name() -> None:
    sources = list_sources()
    promised = {name for source in sources for name in list_promised(source)}
    participles = {path for source in sources for path in list_participles(source, frozenset(FIXED_PROMISES))}
    assert sorted(participles - FIXED_NAMES.keys()) == []
    assert FIXED_PROMISES.keys() <= promised
    assert sorted(FIXED_NAMES.keys() - participles) == [], "these need no exception any more"


def test_a_participle_is_noticed_wherever_the_function_stands() -> None:
    text = """
def told(): ...
def overdrawn(): ...
def _begun_replay(): ...
def embed(): ...
def read_sent(): ...
class Desk:
    def continued(self):
        def shown(): ...
    @property
    def closed(self): ...
    @cached_property
    def known(self): ...
class Feed(Protocol):
    def delayed(self): ...
class OurFeed:
    def delayed(self): ...
def delayed(): ...
if True:
    async def written(): ...
"""
    source = read_source(text, "house")
    noticed = list(list_participles(source, frozenset(list_promised(source))))
    assert noticed == [
        "house.told",
        "house.overdrawn",
        "house._begun_replay",
        "house.Desk.continued",
        "house.Desk.continued.shown",
        "house.delayed",
        "house.written",
    ]


def list_long(source: Source) -> Iterator[str]:
    """Yield each function of more than MOST_LINES lines, from `def` to its last one, with how many it has."""
    for path, node, _ in _list_functions(source.tree, source.name):
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        if lines > MOST_LINES:
            yield f"{path} has {lines} lines"


def test_no_function_is_longer_than_a_screen() -> None:
    assert [line for source in list_sources() for line in list_long(source)] == []


def list_long_files(package: Path) -> list[str]:
    """Return each module of more than MOST_FILE_LINES lines, with how many it has."""
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in package.rglob("*.py")}
    return [f"{path.name} has {lines} lines" for path, lines in lengths.items() if lines > MOST_FILE_LINES]


def test_no_module_is_about_two_things(tmp_path: Path) -> None:
    (tmp_path / "long.py").write_text("pass\n" * (MOST_FILE_LINES + 1))
    (tmp_path / "short.py").write_text("pass\n" * MOST_FILE_LINES)
    assert list_long_files(tmp_path) == [f"long.py has {MOST_FILE_LINES + 1} lines"]
    assert list_long_files(PACKAGE) == []


def test_a_function_of_a_line_too_many_is_noticed_also_within_a_class() -> None:
    body = "        pass\n" * (MOST_LINES - 1)
    text = f"class Desk:\n    def trade(self):\n{body}    def rest(self):\n{body}        pass\n"
    assert list(list_long(read_source(text, "house"))) == [f"house.Desk.rest has {MOST_LINES + 1} lines"]


def list_public(source: Source) -> Iterator[tuple[str, bool]]:
    """Yield the dotted name of the module, and of each public class, function and method, and whether it says what."""
    yield source.name, ast.get_docstring(source.tree) is not None
    yield from _list_public_in(source.tree, source.name)


def _list_public_in(node: ast.Module | ast.ClassDef, path: str) -> Iterator[tuple[str, bool]]:
    for child in node.body:
        if isinstance(child, FunctionNode | ast.ClassDef) and not child.name.startswith("_"):
            yield f"{path}.{child.name}", ast.get_docstring(child) is not None
            if isinstance(child, ast.ClassDef):
                yield from _list_public_in(child, f"{path}.{child.name}")


def test_at_least_95_of_100_public_names_have_a_docstring() -> None:
    public = [entry for source in list_sources() if source.room != "views" for entry in list_public(source)]
    missing = [name for name, said in public if not said]
    print(*missing, sep="\n")  # noqa: T201 - a failure shows them
    assert len(missing) <= 0.05 * len(public), f"{len(missing)} of {len(public)} public names say nothing"


# Waits that are no wait for another thread, or that the main thread, which alone hears of signals, never comes to.
UNLIMITED = {
    "hftcl.model.training_process": ("self._child.wait()",),  # it has closed its streams: it has ended, or is about to
    "hftcl.alerts.sending": ("child.wait()",),  # it was killed
    "hftcl.compute.on_worker": ("watcher.join()",),  # on a worker of Dask, whose signals are not ours
    "hftcl.dashboard.reader": ("self._first.wait()",),  # of the slow thread
    "hftcl.dashboard.server": ("self.stopping.wait()", "changed.wait()"),  # awaited, with a limit
    "hftcl.market.sources.ahead": ("self._room.acquire()",),  # of the threads that fetch
}
WAITS = {"result", "wait", "join", "acquire"}


def list_unlimited_waits(source: Source) -> list[str]:
    """Return the waits for other threads that have no limit, as they are written."""
    calls = [node for node in source.nodes if isinstance(node, ast.Call)]
    found = []
    for call in calls:
        name = spell(call.func).rpartition(".")[2]
        is_bare = isinstance(call.func, ast.Attribute) and name in WAITS and not (call.args or call.keywords)
        of_threads = name == "as_completed" or spell(call.func).endswith("threads.map")
        if is_bare or of_threads:
            found.append(ast.unparse(call))
    return found


def test_no_wait_for_another_thread_keeps_ctrl_c_from_being_heard() -> None:
    """What it does not see: at the end of `with ThreadPoolExecutor()`, for what has begun and was not cancelled."""
    found = {source.name: tuple(waits) for source in list_sources() if (waits := list_unlimited_waits(source))}
    assert found == UNLIMITED, "hftcl.waiting waits for threads"


def test_a_wait_without_a_limit_is_noticed() -> None:
    text = "a.result()\nlock.acquire()\nas_completed(b)\nfutures.as_completed(c)\nthreads.map(work, d)\n"
    assert len(list_unlimited_waits(read_source(text, "house"))) == 5
    assert (
        list_unlimited_waits(read_source("a.result(0)\n', '.join(b)\nevent.wait(1)\nwait(b, timeout=1)", "house")) == []
    )


def list_named_maps(source: Source) -> list[str]:
    """Return the names that are given to what `map_in_threads` returns."""
    assigned = [node for node in source.nodes if isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr)]
    return [
        ast.unparse(node)
        for node in assigned
        if isinstance(node.value, ast.Call) and spell(node.value.func) == "map_in_threads"
    ]


def test_what_maps_in_threads_ends_with_the_loop_over_it() -> None:
    """A name kept it from ending, and at Ctrl-C the pool waited for all that had not begun."""
    assert len(list_named_maps(read_source("a = map_in_threads(b, c, d)", "house"))) == 1
    assert [named for source in list_sources() for named in list_named_maps(source)] == []


def list_lines_that_end(source: Source) -> list[str]:
    """Return the calls that write a line to stderr, and end the command where that takes no more."""
    calls = [node for node in source.nodes if isinstance(node, ast.Call)]
    return [
        ast.unparse(call)
        for call in calls
        if spell(call.func) == "sys.stderr.write"
        or (spell(call.func) == "typer.echo" and any(keyword.arg == "err" for keyword in call.keywords))
    ]


def test_no_command_ends_because_a_line_for_a_person_cannot_be_written() -> None:
    assert len(list_lines_that_end(read_source("typer.echo(a, err=True)\nsys.stderr.write(b)", "house"))) == 2
    # the run of the command line itself lets go of a stream that takes nothing
    sources = [source for source in list_sources() if source.name != "hftcl.cli.process"]
    found = [(source.name, call) for source in sources for call in list_lines_that_end(source)]
    assert found == [], "hftcl.cli.app.tell, or LastingTerminal"


# Words that a reader whose first language is another one has to look up; a flag such as --begin-anew is a name.
RARE_WORDS = re.compile(
    r"(?<![-\w])(?:nobody|whoever|whomever|wherever|anew|whom|lest|hither|thereof|for good|be its|save that|in vain"
    r"|whatever it may)\b",
    re.IGNORECASE,
)


def list_rare_words(text: str) -> list[str]:
    """Return the rare words of a text, also where a line ends between two of them."""
    return RARE_WORDS.findall(" ".join(text.split()))


def test_messages_and_docstrings_are_in_plain_words() -> None:
    found = [
        f"{source.name}, line {node.lineno}: {', '.join(words)}"
        for source in list_sources()
        for node in source.nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and (words := list_rare_words(node.value))
    ]
    assert found == []


def test_the_documentation_is_in_plain_words() -> None:
    root = PACKAGE.parent
    pages = [root / "README.md", *sorted((root / "docs").glob("*.md"))]
    found = {page.name: words for page in pages if (words := list_rare_words(page.read_text()))}
    assert found == {}


def test_a_rare_word_is_noticed_and_a_name_with_one_is_not() -> None:
    assert list_rare_words("Nobody looked, for\ngood; tell whom.") == ["Nobody", "for good", "whom"]
    assert list_rare_words("`--begin-anew` for goods") == []


SERVICES = ("hftcl.market.sources", "hftcl.trading", "hftcl.alerts")  # rooms that ask what may be silent
READS_FILES = {"hftcl.market.sources.polygon_flat"}  # of this machine, as fast as its disk


def list_lasting_executors(source: Source) -> list[str]:
    """Return the executors that may keep the program from ending: of no `with`, or where services are asked.

    Python waits at its end for each thread of a ThreadPoolExecutor, also for one that asks a service which is silent.
    """
    asks = source.name.startswith(SERVICES) and source.name not in READS_FILES
    opened = {id(item.context_expr) for node in source.nodes if isinstance(node, ast.With) for item in node.items}
    return [
        ast.unparse(call)
        for call in source.nodes
        if isinstance(call, ast.Call)
        and spell(call.func).endswith("ThreadPoolExecutor")
        and (asks or id(call) not in opened)
    ]


def list_lasting_threads(source: Source) -> list[str]:
    """Return the threads that are no daemons, which the end of the program waits for as well."""
    return [
        ast.unparse(call)
        for call in source.nodes
        if isinstance(call, ast.Call)
        and spell(call.func) in {"Thread", "threading.Thread"}
        and not any(keyword.arg == "daemon" and ast.unparse(keyword.value) == "True" for keyword in call.keywords)
    ]


def test_no_thread_keeps_the_program_from_ending() -> None:
    found = [(source.name, *list_lasting_executors(source), *list_lasting_threads(source)) for source in list_sources()]
    assert [entry for entry in found if entry[1:]] == [], "hftcl.waiting.DaemonThreads end with the program"


def test_a_thread_that_would_keep_it_is_noticed() -> None:
    text = (
        "with ThreadPoolExecutor(1) as a:\n    pass\nb = ThreadPoolExecutor(2)\nThread(target=c)\nThread(daemon=True)\n"
    )
    source = read_source(text, "house")
    assert list_lasting_executors(source) == ["ThreadPoolExecutor(2)"]
    assert list_lasting_threads(source) == ["Thread(target=c)"]
