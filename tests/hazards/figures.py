"""One command for the figures of the hazards: it kills, starves, fuzzes and flips, prints the table, writes the page.

`python -m tests.hazards.figures` takes some forty minutes on two idle cores and writes figures.json here and
docs/hazards.md. `--only WORD` measures the parts whose name begins with it and keeps the other figures; `--page` only
writes the page from the last figures.
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
from dataclasses import asdict, dataclass
from functools import partial
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
_STRIDES: Final = {
    "hftcl rollback": 1, "hftcl unpin": 1, "hftcl record --begin-anew": 1, "hftcl init --adopt": 1,
    "hftcl schedule --once": 2, "hftcl doctor --repair": 4, "hftcl trade --replay": 10, "hftcl retrain": 25,
}  # fmt: skip
"""Each call of a command under its home, or each so many-th: a retrain takes ten seconds under strace."""
_LIMITS: Final = tuple(range(0, 4096, 256)) + tuple(range(4096, 140_000, 4096))
"""Sizes of files, in bytes, beyond which a write is cut short: each page of the registry, and within a model file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What one part of the command came to. failures: what was not as it must be, a line each."""

    name: str
    hazards: tuple[int, ...]
    cases: int
    failures: tuple[str, ...]


def count_kill_points(folder: Path, command: str, stride: int = 1) -> Figure:
    """Kill `command` before each of its system calls that change something."""
    return _count(f"kill -9: {command}", (1,), lambda: every_fault(folder, command, ("KILL",), stride))


def count_trade_kills(folder: Path, what: str, step: int = 1) -> Figure:
    """Kill a bot, or its ledger, before each statement that it runs."""

    def kill() -> int:
        (folder / "bot").mkdir()
        command = [sys.executable, "-m", "tests.trading.crash_driver", str(folder / "bot"), what, str(step)]
        done = subprocess.run(command, cwd=REPOSITORY, env=STEADY, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-500:]
        return int(done.stdout) // step

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


def count_faults_of_installed(folder: Path, command: str, stride: int) -> Figure:
    """Let system calls of an installed command fail with ENOSPC, EIO, EDQUOT and EINTR in turn, one a run."""

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


def list_parts(good: Callable[[], bytes]) -> Iterator[tuple[str, Callable[[Path], Figure]]]:
    """Yield every part of the command by its name, each to be called with an empty folder of its own.

    good: makes a model file.
    """
    for command in COMMANDS:
        yield f"kill -9: {command}", partial(count_kill_points, command=command)
    for what in ("trade", "ledger"):
        yield f"kill -9: {what}", partial(count_trade_kills, what=what)
    yield "kill -9: at random moments", count_random_kills
    for command in COMMANDS:
        for error in ERRORS:
            yield f"{error}: {command}", partial(count_faults, command=command, error=error)
        yield f"short writes: {command}", partial(count_short_writes, command=command)
    for command, stride in _STRIDES.items():
        yield f"E: {command}", partial(count_faults_of_installed, command=command, stride=stride)
    for kind, (_, cases) in fuzz.KINDS.items():
        yield (
            f"fuzz: {kind}",
            lambda folder, kind=kind, cases=cases: count_fuzz(  # type: ignore[misc]
                folder, kind, cases, good() if kind == "model files" else b""
            ),
        )
    for kind in ("registry", "ledger", "outbox"):
        yield f"flipped bytes: {kind}", partial(count_flips, kind=kind, cases=700)


def build_model_file() -> bytes:
    """Return a model file of a small forest."""
    from hftcl.archive import artifact
    from tests.archive.test_artifact import META, forest, rows

    return artifact.build(forest(), META, artifact.pick_canary_rows(rows()))


def measure(only: str = "") -> list[Figure]:
    """Run every part whose name begins with `only`, two at a time, and say each as it ends."""
    parts = [part for name, part in list_parts(build_model_file) if name.startswith(only)]
    with tempfile.TemporaryDirectory(prefix="hftcl-hazards-") as base, ThreadPoolExecutor(2) as pool:

        def run(place: int, part: Callable[[Path], Figure]) -> Figure:
            folder = Path(base) / str(place)
            (folder / "home").mkdir(parents=True)
            figure = part(folder)
            sys.stdout.write(f"{figure.name:<34}{figure.cases:>7}{len(figure.failures):>5}\n")
            sys.stdout.write("".join(f"    {failure}\n" for failure in figure.failures[:5]))
            sys.stdout.flush()
            shutil.rmtree(folder, ignore_errors=True)
            return figure

        return list(pool.map(run, range(len(parts)), parts))


def list_tests() -> dict[int, list[str]]:
    """Return for each hazard the tests that are marked with it, as "file::name", in the order of the files."""
    tests: dict[int, list[str]] = defaultdict(list)
    for path in sorted((REPOSITORY / "tests").rglob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef):
                for number in re.findall(r"mark\.hazard\((\d+)\)", " ".join(map(ast.unparse, node.decorator_list))):
                    tests[int(number)].append(f"{path.relative_to(REPOSITORY / 'tests')}::{node.name}")
    return tests


def read_figures() -> list[Figure]:
    """Return the figures of the last run."""
    stored = json.loads(STORED.read_text())
    return [
        Figure(
            name=row["name"],
            hazards=tuple(row["hazards"]),
            cases=row["cases"],
            failures=tuple(row["failures"]),
        )
        for row in stored
    ]


def build_page(figures: Sequence[Figure]) -> str:
    """Return docs/hazards.md."""
    tests, number = list_tests(), 0
    lines = [_HEAD]
    groups = {name: [figure for figure in figures if figure.name.startswith(name)] for name in _GROUPS}
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


def _tell_figure(number: int, figures: Sequence[Figure]) -> str:
    cases = sum(figure.cases for figure in figures if number in figure.hazards)
    failures = sum(len(figure.failures) for figure in figures if number in figure.hazards)
    return f"{cases:,} cases, {failures} failed" if cases else "in the suite"


def main(arguments: list[str]) -> int:
    """Measure, unless only the page is asked for; write figures and page; 1 where something was not as it must be."""
    match arguments:
        case ["--page"]:
            figures = read_figures()
        case [] | ["--only", _]:
            measured = {figure.name: figure for figure in measure(*arguments[1:])}
            known = {figure.name: figure for figure in read_figures()}
            names = [name for name, _ in list_parts(build_model_file)]
            figures = [(known | measured)[name] for name in names if name in known | measured]
            STORED.write_text(json.dumps([asdict(figure) for figure in figures], indent=1) + "\n")
        case _:
            sys.stderr.write("usage: python -m tests.hazards.figures [--page | --only WORD]\n")
            return 2
    PAGE.write_text(build_page(figures))
    return 1 if any(figure.failures for figure in figures) else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
