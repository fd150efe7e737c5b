"""A function's first word is a verb, which says whether it computes, writes, fetches or sends."""

import ast
from collections.abc import Iterator
from functools import cache

from tests.package_text import Source, list_sources, read_source

# fmt: off
VERBS = frozenset({
    "acquire", "act", "add", "adjust", "admit", "adopt", "advance", "advise", "agree", "allow", "announce",
    "answer", "append", "apply", "archive", "arrange", "ask", "assemble", "attach", "attribute", "average",
    "await", "backfill", "backtest", "bar", "batch", "begin", "belong", "bind", "book", "boost", "break", "bring",
    "build", "buy", "call", "cancel", "capture", "catch", "change", "check", "choose", "claim", "classify",
    "clean", "clear", "close", "collect", "commit", "compare", "complete", "compute", "conclude", "configure",
    "confirm", "connect", "converse", "convert", "copy", "correct", "correlate", "count", "create",
    "cut", "decide", "decode", "defuse", "delete", "deliver", "deploy", "derive", "describe", "die", "diff",
    "digest", "discard", "disconnect", "distribute", "divide", "do", "draw", "drop", "emit", "empty", "encode",
    "end", "enliven", "enrol", "equip", "erase", "escape", "evaluate", "examine", "exchange", "expect", "explain",
    "extend", "fail", "fault", "fetch", "fill", "filter", "find", "fingerprint", "finish", "fit", "fix", "flag",
    "flatten", "flush", "fold", "follow", "forget", "format", "free", "gather", "get", "give", "glance", "go",
    "group", "grow", "guard", "guess", "halt", "hand", "hash", "hear", "hide", "hold", "identify", "ignore",
    "init", "insert", "inspect", "iterate", "join", "judge", "keep", "kill", "label", "latch", "lay", "learn",
    "leave", "lend", "let", "list", "listen", "load", "localise", "locate", "lock", "log", "look", "lower",
    "make", "map", "mark", "mask", "match", "measure", "mend", "merge", "move", "name", "narrow", "normalise",
    "note", "notice", "notify", "number", "open", "order", "pack", "pad", "parse", "pass", "pause", "pay",
    "perform", "permit", "pick", "place", "plan", "play", "predict", "prepare", "press", "preview", "price",
    "print", "process", "propose", "prove", "prune", "publish", "push", "put", "quote", "raise", "rank", "react",
    "read", "readdress", "rebuild", "receive", "recognise", "reconcile", "record", "recover", "redact", "refit",
    "refresh", "refuse", "remember", "remove", "rename", "render", "repair", "repeat", "replace", "replay",
    "report", "reproduce", "require", "reserve", "reset", "reshape", "resolve", "rest", "restate", "restore",
    "resume", "retrain", "retry", "review", "rollback", "round", "route", "run", "salvage", "sample", "save",
    "say", "scale", "scatter", "schedule", "score", "seal", "search", "select", "sell", "send", "serialize",
    "serve", "set", "settle", "share", "shorten", "show", "shrink", "shuffle", "sift", "sign", "silence",
    "simulate", "skip", "sleep", "smooth", "solve", "sort", "span", "spare", "spell", "split", "spread", "stamp",
    "stand", "start", "stop", "stream", "strip", "submit", "suggest", "sum", "summarize", "surround", "survey",
    "sweep", "switch", "sync", "take", "tell", "tend", "trace", "trade", "train", "try", "turn", "unpack",
    "unpin", "unwind", "update", "use", "value", "verify", "wait", "wake", "walk", "warn", "watch", "weigh",
    "widen", "work", "wrap", "write", "yield",
})
# fmt: on
"""What functions begin with. A new verb is added here once no verb of these says the same."""

# fmt: off
QUESTIONS = frozenset({
    "adds", "allows", "are", "breaks", "can", "compiles", "delivers", "falls", "fits", "grows", "has", "holds",
    "is", "keeps", "knows", "lingers", "lists", "looks", "matches", "may", "needs", "passes", "pays", "reads",
    "should", "spans", "spreads", "stands", "wants", "was", "went", "writes",
})
# fmt: on
"""What begins a function whose answer is yes or no."""

CONVERSIONS = frozenset({"as", "from", "of", "to", "with"})
"""Another form of the same: `from_frame`, `to_pandas`, `with_exam`, as pandas and pathlib name theirs."""

QUANTITIES = frozenset({"hftcl.exam.metrics", "hftcl.model.definitions", "hftcl.model.newest"})
"""Modules whose functions are called what they compute, as papers and NumPy do: `sharpe`, `psr`, `rsi`."""

# fmt: off
PROMISES = frozenset({
    "account", "cash_moves", "clock_ahead_s", "fills", "known_until", "minute", "minutes", "now", "on_bars",
    "parameters", "problem", "room", "splits", "time", "together",
})
# fmt: on
"""Methods that a stranger's plug-in has too: another name would break what they wrote."""

# fmt: off
OF_LIBRARIES = frozenset({
    "_new_conn", "after_iteration", "getresponse", "hexdigest", "process_value", "readable", "readinto",
    "shutdown",
})
# fmt: on
"""Methods that replace, or stand in for, those of a library by the same name."""

FIXED = {
    "hftcl.api.continuous_learning.ContinuousLearning.exam": "the command of this name",
    "hftcl.api.continuous_learning.ContinuousLearning.features": "the command of this name",
    "hftcl.api.performance_tracker.PerformanceTracker.html": "published in an earlier release",
    "hftcl.api.continuous_learning.utc_now": "as `datetime.now`",
    "hftcl.doctor.market._utc_now": "as `datetime.now`",
    "hftcl.exam.policies.always_newest": "the name of a policy of the backtest",
    "hftcl.exam.policies.never_retrain": "the name of a policy of the backtest",
    "hftcl.home.Home.live": "a constructor that strangers' plug-ins may call, beside `Home.of`",
    "hftcl.learning.stories.history.history": "the command of this name",
    "hftcl.model.features.ctx": "a word in which features are written",
    "hftcl.model.features.features": "fixed by the design: tests from outside call it",
    "hftcl.settings.forms.setting": "a word in which settings are written",
    "hftcl.settings.forms.text": "a word in which settings are written",
    "hftcl.sqlite.transactions.snapshot": "a context, named after what holds within, as `with transaction(db)`",
}
"""Functions that may be called otherwise, each with its reason."""

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


def list_without_verb(source: Source) -> Iterator[str]:
    """Yield the dotted name of each function that does not begin with a verb, a question or a conversion.

    Properties are named after what they hold, contexts after what holds within, commands as the user types them.
    """
    for path, node in _list_functions(source.tree, source.name):
        first = node.name.lstrip("_").split("_")[0]
        if first in VERBS | QUESTIONS | CONVERSIONS or node.name in PROMISES | OF_LIBRARIES | {"main"}:
            continue
        decorators = " ".join(ast.unparse(decorator) for decorator in node.decorator_list)
        if any(word in decorators for word in ("property", "contextmanager", "app.command", "app.callback")):
            continue
        if not node.name.startswith("__") and not node.name.startswith("_repr_") and source.name not in QUANTITIES:
            yield path


@cache  # of the package, two tests ask for them
def _list_functions(tree: ast.Module, name: str) -> tuple[tuple[str, FunctionNode], ...]:
    return tuple(_walk(tree, name))


def _walk(node: ast.AST, path: str) -> Iterator[tuple[str, FunctionNode]]:
    for child in ast.iter_child_nodes(node):
        inner = f"{path}.{child.name}" if isinstance(child, ast.ClassDef | FunctionNode) else path
        if isinstance(child, FunctionNode):
            yield inner, child
        yield from _walk(child, inner)


def test_each_function_begins_with_a_verb() -> None:
    found = {path for source in list_sources() for path in list_without_verb(source)}
    assert sorted(found - FIXED.keys()) == []
    assert sorted(FIXED.keys() - found) == [], "these need no exception any more"


def test_no_verb_is_listed_that_no_function_has() -> None:
    nodes = [node for source in list_sources() for _, node in _list_functions(source.tree, source.name)]
    firsts = {node.name.lstrip("_").split("_")[0] for node in nodes}
    assert sorted((VERBS | QUESTIONS | CONVERSIONS) - firsts) == []
    assert sorted((PROMISES | OF_LIBRARIES) - {node.name for node in nodes}) == []


def test_a_function_that_is_called_by_a_noun_is_noticed_wherever_it_stands() -> None:
    text = """
def lineage(): ...
def find_lineage(): ...
def is_pinned(): ...
def from_frame(): ...
class Desk:
    def positions(self):
        def amount(): ...
    @property
    def equity(self): ...
    @contextmanager
    def silence(self): ...
    def fills(self): ...
if True:
    async def _news(): ...
"""
    noticed = list(list_without_verb(read_source(text, "house")))
    assert noticed == ["house.lineage", "house.Desk.positions", "house.Desk.positions.amount", "house._news"]
