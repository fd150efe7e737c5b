"""One command for the figures of the hazards: it kills, starves, fuzzes and flips, prints the table, writes the page.

`python -m tests.hazards.figures` takes some forty minutes on two idle cores and writes figures.json here and
docs/hazards.md. All parts of figures.json are of one commit: what was changed since must be committed before, and with
`--keep FILE` a run that was stopped goes on with the parts that FILE holds of this very commit. `--only WORD` measures
the parts whose name begins with it, `--small` a twentieth of each part, to see that it runs: both write nothing.
`--page` only writes the page from the last figures.
"""

import ast
import json
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Final

from hftcl.archive.registry import compute_digest
from hftcl.errors import HftclError
from tests.hazards import disk_faults, fuzz
from tests.hazards.behaviours import BEHAVIOURS
from tests.hazards.test_archive_hazards import (
    COMMANDS,
    DRIVER,
    ERRORS,
    REPOSITORY,
    STEADY,
    assert_whole,
    every_fault,
    live_until_killed,
    prepared,
)
from tests.ledger.test_ledger_damage import ask_ledger, ask_outbox, build_ledger, build_outbox, flip_bytes

STORED: Final = Path(__file__).with_name("figures.json")
PAGE: Final = REPOSITORY / "docs" / "hazards.md"
_GROUPS: Final = {
    "kill -9": "kill -9 before each call that changes something: deploy, rollback, unpin, retrain, schedule, trade",
    "E": "system calls that fail with ENOSPC, EIO, EDQUOT or EINTR",
    "short writes": "writes that are cut short",
    "fuzz": "nonsense as configuration, environment, bars, JSON, model files, arguments",
    "flipped bytes": "a flipped byte in a kept database",
}
_HEAD: Final = """\
# What goes wrong, and what happens then

hftcl runs unattended and handles money. Each line is one thing that goes wrong, what hftcl does then, and the test that
holds it: `pytest -m "hazard"` runs them all, in a small form where the whole takes long.

`python -m tests.hazards.figures` runs the long forms, prints the figures and writes this page. The last ones:
"""
_LIMITS: Final = tuple(range(0, 4096, 256)) + tuple(range(4096, 140_000, 4096))
"""Sizes of files, in bytes, beyond which a write is cut short: each page of the registry, and within a model file."""


_THIN: Final = 20  # of so many cases `--small` takes one: each part still has some, and all of them take minutes
_IN_MAIN_THREAD: Final = frozenset({"fuzz: arguments"})  # its commands hear signals, which no other thread may
_UNKNOWN: Final = "unknown"  # the commit of figures that do not say theirs


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What one part of the command came to. failures: what was not as it must be, a line each. commit: of the code."""

    name: str
    hazards: tuple[int, ...]
    cases: int
    failures: tuple[str, ...]
    commit: str = _UNKNOWN


def count_kill_points(folder: Path, command: str, stride: int = 1) -> Figure:
    """Kill `command` before each of its system calls that change something."""
    return _count(f"kill -9: {command}", (1,), lambda: every_fault(folder, command, ("KILL",), stride))


def count_trade_kills(folder: Path, what: str, stride: int = 1) -> Figure:
    """Kill a bot, or its ledger, before each statement that it runs."""

    def kill() -> int:
        (folder / "bot").mkdir()
        command = [sys.executable, "-m", "tests.trading.crash_driver", str(folder / "bot"), what, str(stride)]
        done = subprocess.run(command, cwd=REPOSITORY, env=STEADY, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-500:]
        return int(done.stdout) // stride

    return _count(f"kill -9: {what}", (1, 50, 52), kill)


def count_random_kills(folder: Path, cases: int = 300) -> Figure:
    """Kill an archive that does everything in turn, at random moments, `cases` times."""

    def kill() -> int:
        for seed in range(10_000, 10_000 + cases):
            live_until_killed(folder / "home", seed)
            assert_whole(folder / "home")
        return cases

    return _count("kill -9: at random moments", (1, 8), kill)


def count_faults(folder: Path, command: str, error: str, stride: int = 1) -> Figure:
    """Let system calls of `command` fail with `error`, one a run."""
    return _count(f"{error}: {command}", (2, 4), lambda: every_fault(folder, command, (error,), stride))


def count_faults_of_installed(folder: Path, command: str, stride: int | None = None) -> Figure:
    """Let system calls of an installed command fail with ENOSPC, EIO, EDQUOT and EINTR in turn, one a run.

    stride: as `disk_faults.fail_each` has it.
    """

    def fail() -> int:
        template = folder / "template"
        template.mkdir()
        disk_faults.train_twice(template)
        return disk_faults.fail_each(folder, template, command, stride=stride)

    return _count(f"E: {command}", (2, 4), fail)


def count_short_writes(folder: Path, command: str, limits: tuple[int, ...] = _LIMITS) -> Figure:
    """Cut each write of `command` short that would make a file longer than a limit, one limit a run."""
    return _count(f"short writes: {command}", (2,), lambda: _write_short(folder, command, limits))


def _write_short(folder: Path, command: str, limits: tuple[int, ...]) -> int:
    home, template = folder / "home", folder / "template"
    words = prepared(home, command)
    shutil.copytree(home, template)
    production = "trained_stock_model.onnx"
    before = compute_digest(home / production)
    subprocess.run([*DRIVER, home, *words], cwd=REPOSITORY, env=STEADY, check=True)
    after = compute_digest(home / production)
    for limit in limits:
        shutil.rmtree(home)
        shutil.copytree(template, home)
        done = subprocess.run(
            [*DRIVER, home, *words],
            cwd=REPOSITORY,
            env=STEADY,
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),  # type: ignore[misc]
        )
        text = f"{command} with files of at most {limit} bytes: {done.returncode} {done.stderr}"
        now = compute_digest(home / production)
        assert now == (after if done.returncode == 0 else before), text
        assert done.returncode == 0 or (done.stderr.startswith("hftcl: ") and done.stderr.count("\n") == 1), text
        try:
            assert_whole(home)
        except (AssertionError, HftclError) as error:
            raise AssertionError(text) from error
    return len(limits)


def count_fuzz(folder: Path, kind: str, cases: int, good: bytes = b"") -> Figure:
    """Hand nonsense of one kind to what reads it."""
    raised = fuzz.fuzz(folder, kind, range(cases), good=good)
    return Figure(name=f"fuzz: {kind}", hazards=(16, 29, 32, 60, 75, 92), cases=cases, failures=tuple(raised))


def count_flips(folder: Path, kind: str, cases: int) -> Figure:
    """Flip one byte of a kept file, a byte a case: an error of ours, or the very same answers."""
    from tests.archive.test_damage import mutate_registry

    def flip() -> int:
        match kind:
            case "registry":
                mutate_registry(folder, range(cases))
            case "ledger":
                flip_bytes(build_ledger(folder), ask_ledger, range(cases))
            case _:
                flip_bytes(build_outbox(folder), ask_outbox, range(cases))
        return cases

    return _count(f"flipped bytes: {kind}", (17, 86), flip)


def _count(name: str, hazards: tuple[int, ...], act: Callable[[], int]) -> Figure:
    try:
        return Figure(name=name, hazards=hazards, cases=act(), failures=())
    except Exception as error:  # noqa: BLE001 - each failure is a line of the table
        return Figure(name=name, hazards=hazards, cases=1, failures=(f"{type(error).__name__}: {error}"[:2000],))


def list_parts(good: Callable[[], bytes], thin: int = 1) -> Iterator[tuple[str, Callable[[Path], Figure]]]:
    """Yield every part of the command by its name, each to be called with an empty folder of its own.

    good: makes a model file. thin: of so many cases one is taken.
    """
    for command in COMMANDS:
        yield f"kill -9: {command}", partial(count_kill_points, command=command, stride=thin)
    for what in ("trade", "ledger"):
        yield f"kill -9: {what}", partial(count_trade_kills, what=what, stride=thin)
    yield "kill -9: at random moments", partial(count_random_kills, cases=300 // thin)
    for command in COMMANDS:
        for error in ERRORS:
            yield f"{error}: {command}", partial(count_faults, command=command, error=error, stride=thin)
        yield f"short writes: {command}", partial(count_short_writes, command=command, limits=_LIMITS[::thin])
    for command, about in disk_faults.COMMANDS.items():
        wide = None if thin == 1 else 2 * thin * about.stride
        yield f"E: {command}", partial(count_faults_of_installed, command=command, stride=wide)
    for kind, (_, cases) in fuzz.KINDS.items():
        yield (
            f"fuzz: {kind}",
            lambda folder, kind=kind, cases=cases // thin: count_fuzz(  # type: ignore[misc]
                folder, kind, cases, good() if kind == "model files" else b""
            ),
        )
    for kind in ("registry", "ledger", "outbox"):
        yield f"flipped bytes: {kind}", partial(count_flips, kind=kind, cases=700 // thin)


def build_model_file() -> bytes:
    """Return a model file of a small forest."""
    from hftcl.archive import artifact
    from tests.archive.test_artifact import META, forest, rows

    return artifact.build(forest(), META, artifact.pick_canary_rows(rows()))


def measure(
    only: str = "", thin: int = 1, *, commit: str = _UNKNOWN, known: Sequence[Figure] = (), keep: Path | None = None
) -> list[Figure]:
    """Run every part whose name begins with `only`, two at a time, and say each as it ends; in the order of the parts.

    known: parts that are not run again. keep: a file to which each other one is added as soon as it is done.
    """
    done = {figure.name: figure for figure in known}
    parts = [part for part in list_parts(build_model_file, thin) if part[0].startswith(only)]
    with tempfile.TemporaryDirectory(prefix="hftcl-hazards-") as base, ThreadPoolExecutor(2) as pool:

        def run(place: int, name: str, part: Callable[[Path], Figure]) -> Figure:
            if name in done:
                return done[name]
            folder = Path(base) / str(place)
            (folder / "home").mkdir(parents=True)
            figure = replace(part(folder), commit=commit)
            text = f"{figure.name:<34}{figure.cases:>7}{len(figure.failures):>5}\n"
            sys.stdout.write(text + "".join(f"    {failure}\n" for failure in figure.failures[:5]))
            sys.stdout.flush()
            if keep is not None:
                with keep.open("a") as file:  # one short line: of two threads each writes a whole one
                    file.write(json.dumps(asdict(figure)) + "\n")
            shutil.rmtree(folder, ignore_errors=True)
            return figure

        submitted = [
            None if name in _IN_MAIN_THREAD else pool.submit(run, place, name, part)
            for place, (name, part) in enumerate(parts)
        ]
        own = {place: run(place, *parts[place]) for place, part in enumerate(submitted) if part is None}
        return [own[place] if part is None else part.result() for place, part in enumerate(submitted)]


@cache  # it parses each file of tests
def list_tests() -> dict[int, list[str]]:
    """Return for each hazard the tests that are marked with it, as "file::name", in the order of the files."""
    tests: dict[int, list[str]] = defaultdict(list)
    for path in sorted((REPOSITORY / "tests").rglob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef):
                for number in re.findall(r"mark\.hazard\((\d+)\)", " ".join(map(ast.unparse, node.decorator_list))):
                    tests[int(number)].append(f"{path.relative_to(REPOSITORY / 'tests')}::{node.name}")
    return dict(tests)


def read_figures(file: Path = STORED) -> list[Figure]:
    """Return the figures of the last run, or those of a file to which a run adds them."""
    text = file.read_text() if file.exists() else ""
    rows = json.loads(text) if text.startswith("[") else map(json.loads, text.splitlines())
    return [
        Figure(
            name=row["name"],
            hazards=tuple(row["hazards"]),
            cases=row["cases"],
            failures=tuple(row["failures"]),
            commit=row.get("commit", _UNKNOWN),
        )
        for row in rows
    ]


def require_one_run(figures: Sequence[Figure]) -> None:
    """Raise ValueError where the figures are of several commits, or not of every part, each once."""
    names = [name for name, _ in list_parts(build_model_file)]
    if [figure.name for figure in figures] != names:
        raise ValueError(f"not one whole run: {sorted({figure.name for figure in figures} ^ set(names))}")
    commits = {figure.commit for figure in figures}
    if len(commits) != 1:
        raise ValueError(f"figures of several commits: {sorted(commits)}")


def read_commit() -> str:
    """Return the commit of the code. Raises ValueError where a known file, but for figures and page, was changed."""
    ask = partial(subprocess.run, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    written = [f":!{path.relative_to(REPOSITORY)}" for path in (STORED, PAGE)]
    changed = ask(["git", "status", "--porcelain", "--untracked-files=no", "--", ".", *written]).stdout.strip()
    if changed:
        raise ValueError(f"figures are of a commit; not committed yet: {changed}")
    return str(ask(["git", "rev-parse", "--short=12", "HEAD"]).stdout.strip())


def build_page(figures: Sequence[Figure]) -> str:
    """Return docs/hazards.md."""
    tests, number = list_tests(), 0
    lines = [_HEAD]
    groups = {name: [figure for figure in figures if figure.name.startswith(name)] for name in _GROUPS}
    lines += [_tell_run(figures), ""]
    lines += ["| figure | cases | not as it must be |", "| --- | --- | --- |"]
    for name, group in groups.items():
        cases, failures = sum(figure.cases for figure in group), sum(len(figure.failures) for figure in group)
        lines.append(f"| {_GROUPS[name]} | {cases:,} | {failures} |")
    for chapter, behaviours in BEHAVIOURS.items():
        lines += [
            "",
            f"## {chapter}",
            "",
            "| number | what happens | test | last figure |",
            "| --- | --- | --- | --- |",
        ]
        for behaviour in behaviours:
            number += 1
            file, _, name = tests[number][0].partition("::")
            more = f" and {len(tests[number]) - 1} more" if len(tests[number]) > 1 else ""
            lines.append(f"| {number} | {behaviour} | `{file}`: {name}{more} | {_tell_figure(number, figures)} |")
    return "\n".join(lines) + "\n"


def _tell_run(figures: Sequence[Figure]) -> str:
    """Say of which code the figures are, and whether they are all of one run."""
    commits, parts = sorted({figure.commit for figure in figures}), sum(1 for _ in list_parts(build_model_file))
    if commits != [_UNKNOWN]:
        return f"All of one run, at commit {', '.join(commits)}."
    return f"Of several runs: {len(figures)} of {parts} parts, by code that they do not name."


def _tell_figure(number: int, figures: Sequence[Figure]) -> str:
    cases = sum(figure.cases for figure in figures if number in figure.hazards)
    failures = sum(len(figure.failures) for figure in figures if number in figure.hazards)
    return f"{cases:,} cases, {failures} failed" if cases else "in the suite"


def main(arguments: list[str]) -> int:
    """Measure, unless only the page is asked for; write figures and page; 1 where something was not as it must be."""
    match arguments:
        case ["--page"]:
            figures = read_figures()
        case [] | ["--keep", _]:
            figures = measure_whole(Path(arguments[1]) if arguments else None)
            STORED.write_text(json.dumps([asdict(figure) for figure in figures], indent=1) + "\n")
        case ["--small"] | ["--small", "--only", _] | ["--only", _]:
            only = arguments[-1] if "--only" in arguments else ""
            found = measure(only, _THIN if "--small" in arguments else 1)
            return 1 if any(figure.failures or not figure.cases for figure in found) else 0
        case _:
            sys.stderr.write(
                "usage: python -m tests.hazards.figures [--page | --keep FILE | --only WORD | --small [--only WORD]]\n"
            )
            return 2
    PAGE.write_text(build_page(figures))
    return 1 if any(figure.failures for figure in figures) else 0


def measure_whole(keep: Path | None) -> list[Figure]:
    """Return the figures of every part, all of the commit that is checked out. Raises ValueError where it moves."""
    commit = read_commit()
    known = [figure for figure in read_figures(keep) if figure.commit == commit] if keep else []
    figures = measure(commit=commit, known=known, keep=keep)
    require_one_run(figures)
    if read_commit() != commit:
        raise ValueError(f"the code was changed while this ran: it began at {commit}")
    return figures


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
