"""What the benchmark runs, in parts that can be measured one by one: each is processes of their own, taken in turns."""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np

from hftcl.events import go_on, ignore
from hftcl.exam.split import list_sessions, split
from hftcl.learning.dataset import open_window
from hftcl.learning.training_rows import TrainingRows
from hftcl.market.sources.synthetic import SyntheticSource
from hftcl.settings import Market, Paths, Settings
from tests.archive.sample_models import archive_in, deployed
from tests.benchmarks.environments import list_versions
from tests.benchmarks.figures import Figures, Measured
from tests.benchmarks.machine import Watch, describe_machine, find_origin, list_libraries
from tests.benchmarks.sleeping import measure_sleepers
from tests.benchmarks.test_retrain_cost import AS_OF, HERE, prepare, run_process
from tests.ledger.ledger_cases import write_ledger

NOW: Final = datetime(2026, 2, 1, tzinfo=UTC)
"""A moment after AS_OF."""
TICKERS: Final = tuple(f"T{number:03}" for number in range(10))
SCRIPTS: Final = {"FreqAI": "with_freqai.py", "Qlib": "with_qlib.py"}
SIZES: Final[Mapping[str, Sequence[int]]] = {
    "tickers": (50, 150, 500),
    "days": (60, 120, 240),
    "trees": (100, 200, 400),
}
"""What grows by itself: of 60 days, of ten tickers, and with 200 trees where these do not grow."""
WIDE: Final = 500
"""Tickers, from which on a size takes a quarter of an hour by itself."""
UNIVERSE: Final = 2000
"""Tickers whose rows are far more than [model] max_rows."""
FEW_TREES: Final = 20
"""Of a universe's forest: each tree has its own sample, so that memory is that of 200, and time a tenth."""
STARTUP: Final = {
    "hftcl --help": ("--help",),
    "hftcl history": ("history",),
    "hftcl trade --status": ("trade", "--status"),
    "hftcl schedule --preview 3": ("schedule", "--preview", "3"),
}
WATCHED: Final = (20, 100, 500)
"""Tickers of a bot's minute."""
WATCHED_WIDE: Final = (5000,)
"""The same of a watchlist that takes minutes of a whole core and 6 GB."""
MINUTES_WIDE: Final = "minutes, wide"
MONTHS: Final = ("--from", "2025-03-03", "--to", "2025-12-31")
QUARTER: Final = ("--from", "2025-06-02", "--to", "2025-08-28")
ALL_FEATURES: Final = "max_features = 1.0\n"
DASK: Final = '[compute]\nbackend = "dask"\njobs = 4\n'
WARM: Final = 3
"""Turns of start-up for one of the others: it is short, and differs more."""

Work = Callable[[], Measured]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A folder to work in, the Python of each peer, why others have none, and how many turns each case takes."""

    folder: Path
    pythons: Mapping[str, Path]
    missing: Mapping[str, str]
    turns: int

    @cached_property
    def bars(self) -> Path:
        """Parquet files of ten tickers, which are written once, in the own form of each peer too."""
        bars = write_bars(self.folder / "bars")
        for name, python in self.pythons.items():
            run_process([*start_peer(name, python), str(bars), "--bars"], bars, HERE)
        return bars

    def open_home(self, name: str, family: str, further: str = "") -> Path:
        """Return a home that learns from the ten tickers' files; `further` follows the line of [model] family."""
        market, files = f'source = "files"\nwatchlist = {json.dumps(TICKERS)}', f'[files]\nfolder = "{self.bars}"'
        home = prepare(self.folder / name, family, market, files)
        with (home / "hftcl.toml").open("a") as settings:
            settings.write(further)
        return home


def measure_peers(bench: Bench) -> Figures:
    """Return what retrains take, first and second, beside the others, on the same bars."""
    works: dict[str, Work] = {}
    for family in ("forest", "lightgbm"):
        home = bench.open_home(family, family)
        works[f"first retrain, {family}"] = renew(home, retrain(home))
        works[f"hftcl retrain, {family}"] = retrain(home)
    for name, word in (("the guide's stack", "guide"), ("scikit-learn-intelex", "intelex"), ("LightGBM", "lightgbm")):
        works[name] = call_library(bench, word)
    for name, python in bench.pythons.items():
        command = [*start_peer(name, python), str(bench.bars)]
        works[name] = run(command, bench.bars)
        works[f"{name}, start alone"] = run([*command, "--start"], bench.bars)
    works["hftcl retrain, forest"]()  # not counted: it fills the caches of bytecode, as writing bars did for peers
    versions = {name: list_versions(python) for name, python in bench.pythons.items()}
    return Figures(cases=take_turns(works, bench.turns), missing=bench.missing, versions=versions)


def measure_startup(bench: Bench) -> Figures:
    """In a home that was used: in an empty folder a preview asks the calendar's library each time."""
    home = bench.open_home("start-up", "forest")
    deployed(archive_in(home), 30)
    write_ledger(home / "ledger.sqlite", last=date(2025, 6, 4))
    works = {name: call("-m", "hftcl", *words, cwd=home) for name, words in STARTUP.items()}
    works = {"python -c pass": call("-c", "pass"), **works}
    take_turns(works, 1)  # not counted: the caches of bytecode
    return Figures(startup=take_turns(works, WARM * bench.turns))


def measure_size(what: str, size: int, family: str = "forest", *, trees: int = 0) -> Callable[[Bench], Figures]:
    """Return the part that tells what retrains cost where one thing has that size: the first, and then the second.

    Its bars are stored before, without being counted. trees: of a fit; 0: those of the settings.
    """

    def measure(bench: Bench) -> Figures:
        grown = f"{what}, {family}{f' of {trees} trees' if trees else ''}"
        tickers = [f"T{number:03}" for number in range(size)] if what == "tickers" else list(TICKERS)
        days = size if what == "days" else Market().lookback_days
        market = f'source = "synthetic"\nwatchlist = {json.dumps(tickers)}\nlookback_days = {days}'
        home = prepare(bench.folder / f"{size} {grown}", family, market)
        fitted = size if what == "trees" else trees
        with (home / "hftcl.toml").open("a") as settings:
            settings.write(f"n_estimators = {fitted}\n" if fitted else "")
        store_bars(home, Market(watchlist=tuple(tickers), lookback_days=days))
        found = {}
        for turn in ("first", "second"):
            name = f"{grown}: {turn} retrain"
            found[name] = {size: take_turns({f"{name}, {size}": retrain(home)}, 1)[f"{name}, {size}"]}
        shutil.rmtree(home)
        return Figures(growth=found)

    return measure


def store_bars(home: Path, market: Market) -> None:
    """Store the bars of the built-in market that a retrain in `home` reads."""
    settings = Settings(paths=Paths(home=str(home)), market=market)
    open_window(settings, as_of=AS_OF, now=NOW, save=True, on_event=ignore).read_bars()


def measure_all_features(bench: Bench) -> Figures:
    """Return what a forest takes that tries all features at each split, as scikit-learn's does by itself."""
    home = bench.open_home("all features", "forest", ALL_FEATURES)
    works = {
        "hftcl retrain, all features": retrain(home),
        "scikit-learn-intelex, all features": call_library(bench, "intelex", "1.0"),
    }
    works["hftcl retrain, all features"]()  # not counted: the first has a record to make
    return Figures(cases=take_turns(works, min(bench.turns, 2)))


def measure_guide_all_features(bench: Bench) -> Figures:
    """Return the same of the guide's stack, once: it takes minutes."""
    return Figures(cases=take_turns({"the guide's stack, all features": call_library(bench, "guide", "1.0")}, 1))


def measure_minutes(watched: Sequence[int]) -> Callable[[Bench], Figures]:
    """Return the part that tells what each minute of a session takes from the bar to the order, ms, by the tickers."""

    def measure(_: Bench) -> Figures:
        minutes = {}
        for tickers in watched:
            command = [sys.executable, "-m", "tests.benchmarks.minute", str(tickers)]
            done = subprocess.run(command, cwd=HERE, stdout=subprocess.PIPE, text=True, check=True)
            minutes[tickers] = tuple(json.loads(done.stdout.splitlines()[-1]))
            sys.stderr.write(f"minutes of {tickers} tickers: median {np.median(minutes[tickers]):.1f} ms\n")
        return Figures(minutes=minutes)

    return measure


def measure_backtest(bench: Bench) -> Figures:
    home = prepare(bench.folder / "backtest", "forest", f'source = "synthetic"\nwatchlist = {json.dumps(TICKERS)}')
    return Figures(cases=take_turns({"backtest, ten months": backtest(home, *MONTHS)}, 1))


def measure_dask(bench: Bench) -> Figures:
    """Return what a backtest takes here, and by four workers of a cluster on this machine."""
    market = f'source = "synthetic"\nwatchlist = {json.dumps(TICKERS[:3])}'
    works = {}
    for name, further in (("backtest, three months", ""), ("backtest, four Dask workers", DASK)):
        works[name] = backtest(prepare(bench.folder / name, "forest", market, further), *QUARTER)
    return Figures(cases=take_turns(works, 1))


def measure_cluster_sleepers(bench: Bench) -> Figures:
    """Return what tasks that sleep take on one thread of a named cluster, and many more of them on sixteen."""
    cases: dict[str, Measured] = {}
    for _ in range(bench.turns):
        for name, threads in (("sleepers, one thread", 1), ("sleepers, sixteen threads", 16)):
            wall_s = measure_sleepers(threads)
            sys.stderr.write(f"{name}: {wall_s:.2f} s by the clock\n")
            cases[name] = cases.get(name, Measured()).add(Measured(wall_s=(wall_s,)))
    return Figures(cases=cases)


def measure_machine(_: Bench) -> Figures:
    return Figures(machine=describe_machine(), versions=list_libraries())


def list_sizes() -> Iterator[tuple[str, int]]:
    """Yield what grows with each of its sizes."""
    yield from ((what, size) for what, sizes in SIZES.items() for size in sizes)


PARTS: Final[Mapping[str, Callable[[Bench], Figures]]] = {
    "machine": measure_machine,
    "start-up": measure_startup,
    "peers": measure_peers,
    "minutes": measure_minutes(WATCHED),
    "all features": measure_all_features,
    **{f"{size} {what}": measure_size(what, size) for what, size in list_sizes() if size < WIDE},
    "Dask": measure_dask,
    "sleepers": measure_cluster_sleepers,
    "backtest": measure_backtest,
}
"""What a whole run measures, what matters most first."""
SHORT: Final = ("machine", "start-up", "peers")
WIDE_PARTS: Final[Mapping[str, Callable[[Bench], Figures]]] = {
    f"{WIDE} tickers": measure_size("tickers", WIDE),
    **{f"{size} tickers, lightgbm": measure_size("tickers", size, "lightgbm") for size in SIZES["tickers"]},
    f"{UNIVERSE} tickers, few trees": measure_size("tickers", UNIVERSE, trees=FEW_TREES),
    MINUTES_WIDE: measure_minutes(WATCHED_WIDE),
    "guide, all features": measure_guide_all_features,
}
"""What takes a quarter of an hour by itself."""


ALL_PARTS: Final = {**PARTS, **WIDE_PARTS}


def choose_parts(asked: Sequence[str]) -> list[str]:
    """Return the parts of these names; "tickers" stands for "50 tickers" and each other size.

    Raises ValueError for a name that stands for none.
    """
    chosen: list[str] = []
    for name in asked:
        found = [part for part in ALL_PARTS if part == name or re.sub(r"^\d+ ", "", part) == name]
        if not found:
            raise ValueError(f"{name!r} is no part. Parts are: {', '.join(ALL_PARTS)}.")
        chosen += found
    return list(dict.fromkeys(chosen))


def measure_part(name: str, bench: Bench, parts: Mapping[str, Callable[[Bench], Figures]] = ALL_PARTS) -> Figures:
    """Return what one part found of which hftcl, and how many cores other programs kept busy meanwhile."""
    watch = Watch()
    found = parts[name](bench).sign(find_origin())
    return found.add(Figures(others={name: watch.count_others()}))


def write_bars(folder: Path) -> Path:
    """Write a Parquet file a ticker, and the matrix of the rows that train, which a library by itself is given."""
    (folder / "rows").mkdir(parents=True)
    settings = Settings(paths=Paths(home=str(folder / "home")), market=Market(watchlist=TICKERS))
    source = SyntheticSource(settings)
    for ticker in TICKERS:
        source.minutes(ticker, date(2025, 11, 1), date.fromisoformat(AS_OF)).write_parquet(folder / f"{ticker}.parquet")
    window = open_window(settings, as_of=AS_OF, now=NOW, save=False, on_event=ignore)
    frame = window.assemble().frame
    division = split(list_sessions(frame), exam_sessions=20, embargo_sessions=1)
    rows = TrainingRows.gather(frame, division, settings, window.read_features().names, go_on)
    np.save(folder / "rows" / "X.npy", rows.X)
    np.save(folder / "rows" / "y.npy", rows.y)
    return folder


def start_peer(name: str, python: Path) -> list[str]:
    """Return the words that run a peer's script. -P: the modules beside it are not those of its libraries."""
    return [str(python), "-P", str(Path(__file__).with_name(SCRIPTS[name]))]


def retrain(home: Path) -> Work:
    return call("-m", "hftcl", "retrain", "--force", "--as-of", AS_OF, "--json", cwd=home)


def backtest(home: Path, *span: str) -> Work:
    return call("-m", "hftcl", "-q", "backtest", *span, "--json", cwd=home)


def call_library(bench: Bench, word: str, *further: str) -> Work:
    return call("-m", "tests.benchmarks.peers", word, str(bench.bars), *further)


def renew(home: Path, work: Work) -> Work:
    """Return `work` in a home that holds nothing but its settings."""

    def begin_new() -> Measured:
        for path in home.iterdir():
            if path.name != "hftcl.toml":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return work()

    return begin_new


def call(*words: str, cwd: Path = HERE) -> Work:
    """Return what runs Python with these words in `cwd`."""
    return run([sys.executable, *words], cwd)


def run(command: list[str], cwd: Path) -> Work:
    """Return what runs `command` in `cwd` to its end."""

    def work() -> Measured:
        began = time.monotonic()
        cost = run_process(command, cwd, HERE)
        return Measured(cpu_s=(cost.cpu_s,), wall_s=(time.monotonic() - began,), memory=(cost.anonymous,))

    return work


def take_turns(works: Mapping[str, Work], turns: int) -> dict[str, Measured]:
    """Run each `turns` times, in turn."""
    taken = {name: Measured() for name in works}
    for _ in range(turns):
        for name, work in works.items():
            one = work()
            sys.stderr.write(
                f"{name}: {one.cpu_s[0]:.2f} s of CPU, {one.wall_s[0]:.2f} s by the clock, "
                f"{one.memory[0] / 2**20:.0f} MiB\n"
            )
            taken[name] = taken[name].add(one)
    return taken
