"""One command for the speed of hftcl beside what people would use instead: it measures in turns and writes the page.

`python -m tests.benchmarks.page` writes figures.json here and docs/benchmarks.md; half an hour on two idle cores.
`--short` measures each once, prints the ratios beside the recorded ones and writes nothing; `--page` writes the page
from the last figures. Where other programs are busy it measures for `--short` alone, unless `--loaded` is given: then
the page says so.
"""

import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, date, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import numpy as np

from hftcl.events import ignore
from hftcl.exam.split import list_sessions, split
from hftcl.learning.dataset import open_window
from hftcl.learning.training_rows import TrainingRows
from hftcl.market.sources.synthetic import SyntheticSource
from hftcl.settings import Market, Paths, Settings
from tests.benchmarks.figures import Figures, Measured, build_page, compare
from tests.benchmarks.test_retrain_cost import AS_OF, HERE, prepare, run_process

STORED: Final = Path(__file__).with_name("figures.json")
NOW: Final = datetime(2026, 2, 1, tzinfo=UTC)
"""A moment after AS_OF."""
PAGE: Final = HERE / "docs" / "benchmarks.md"
TURNS: Final = 5
TICKERS: Final = tuple(f"T{number:03}" for number in range(10))
LIBRARIES: Final = ("numpy", "polars", "pandas", "scikit-learn", "scikit-learn-intelex", "lightgbm", "onnxruntime")
LOAD: Final = 0.3
"""Programs that want a core, of each core: above it the machine is not idle."""
COPIED_BYTES: Final = 256 << 20
"""Far more than any cache holds, so that its copy measures the memory."""
GROWTH: Final[Mapping[str, Mapping[int, tuple[str, str]]]] = {
    "tickers": {n: (f"watchlist = {json.dumps([f'T{k:03}' for k in range(n)])}", "") for n in (25, 50, 100, 200)},
    "days": {n: (f"watchlist = {json.dumps(TICKERS)}\nlookback_days = {n}", "") for n in (60, 120, 240)},
    "trees": {n: (f"watchlist = {json.dumps(TICKERS)}", f"n_estimators = {n}") for n in (100, 200, 400)},
}
"""Lines of [market] and of [model] by size; a family lightgbm grows tickers and days, a forest trees."""
STARTUP: Final = {
    "hftcl --help": ("--help",),
    "hftcl history": ("history",),
    "hftcl trade --status": ("trade", "--status"),
    "hftcl schedule --preview 3": ("schedule", "--preview", "3"),
}

Work = Callable[[], Measured]


def main(arguments: list[str]) -> None:
    """Measure, and print or write what `arguments` ask for."""
    recorded = Figures.from_json(json.loads(STORED.read_text()))
    if "--page" in arguments:
        PAGE.write_text(build_page(recorded))
        return
    short = "--short" in arguments
    if not is_idle() and not short and "--loaded" not in arguments:
        sys.exit("Other programs are busy: figures of now would not be those of an idle machine. --loaded measures.")
    folder = Path(tempfile.mkdtemp(prefix="hftcl-benchmark-"))
    try:
        figures = measure_all(folder, turns=1 if short else TURNS, grow=not short)
    finally:
        shutil.rmtree(folder)
    sys.stdout.write("\n".join([*compare(figures, recorded), ""]))
    if not short:
        STORED.write_text(json.dumps(asdict(figures), indent=1) + "\n")
        PAGE.write_text(build_page(figures))


def is_idle() -> bool:
    return os.getloadavg()[0] < LOAD * (os.cpu_count() or 1)


def measure_all(folder: Path, *, turns: int, grow: bool) -> Figures:
    """Measure everything in `folder`, `turns` times each, in turns."""
    idle, bars = is_idle(), write_bars(folder / "bars")
    market, files = f'source = "files"\nwatchlist = {json.dumps(TICKERS)}', f'[files]\nfolder = "{bars}"'
    homes = {family: prepare(folder / family, family, market, files) for family in ("forest", "lightgbm")}
    firsts = {f"first retrain, {family}": renew(home, retrain(home)) for family, home in homes.items()}
    first = take_turns(firsts, turns)  # before those whose homes have a model already
    again = {f"hftcl retrain, {family}": retrain(home) for family, home in homes.items()}
    peers: dict[str, Work] = {
        "the guide's stack": call("-m", "tests.benchmarks.peers", "guide", str(bars)),
        "scikit-learn-intelex": call("-m", "tests.benchmarks.peers", "intelex", str(bars)),
        "LightGBM": call("-m", "tests.benchmarks.peers", "lightgbm", str(bars)),
    }
    hftcl = {name: call("-m", "hftcl", *words, cwd=homes["forest"]) for name, words in STARTUP.items()}
    return Figures(
        cases={**first, **take_turns({**again, **peers}, turns)},
        growth={what: measure_growth(folder, what) for what in GROWTH} if grow else {},
        startup=take_turns({"python -c pass": call("-c", "pass"), **hftcl}, 3 * turns),
        machine=describe_machine(),
        versions={name: found for name in LIBRARIES if (found := find_version(name))},
        idle=idle,
    )


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
    rows = TrainingRows.gather(frame, division, settings, window.read_features().names)
    np.save(folder / "rows" / "X.npy", rows.X)
    np.save(folder / "rows" / "y.npy", rows.y)
    return folder


def retrain(home: Path) -> Work:
    return call("-m", "hftcl", "retrain", "--force", "--as-of", AS_OF, "--json", cwd=home)


def renew(home: Path, work: Work) -> Work:
    """Return `work` in a home that holds nothing but its settings."""

    def begin_anew() -> Measured:
        for path in home.iterdir():
            if path.name != "hftcl.toml":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return work()

    return begin_anew


def call(*words: str, cwd: Path = HERE) -> Work:
    """Return what runs Python with these words in `cwd`."""

    def work() -> Measured:
        began = time.monotonic()
        cost = run_process([sys.executable, *words], cwd, HERE)
        return Measured(cpu_s=(cost.cpu_s,), wall_s=(time.monotonic() - began,), memory=(cost.anonymous,))

    return work


def take_turns(works: Mapping[str, Work], turns: int) -> dict[str, Measured]:
    """Run each once, which is not counted, then each `turns` times in turn."""
    taken = {name: Measured() for name in works}
    for turn in range(turns + 1):
        for name, work in works.items():
            one = work()
            sys.stderr.write(f"{name}: {one.cpu_s[0]:.2f} s of CPU, {one.memory[0] / 2**20:.0f} MiB\n")
            if turn:
                all_before = taken[name]
                taken[name] = Measured(
                    cpu_s=all_before.cpu_s + one.cpu_s,
                    wall_s=all_before.wall_s + one.wall_s,
                    memory=all_before.memory + one.memory,
                )
    return taken


def measure_growth(folder: Path, what: str) -> dict[int, Measured]:
    """Return what a retrain that archives nothing costs by the size of one thing."""
    found = {}
    for size, (market, model) in GROWTH[what].items():
        family = "forest" if what == "trees" else "lightgbm"
        home = prepare(folder / f"{what} {size}", family, f'source = "synthetic"\n{market}')
        with (home / "hftcl.toml").open("a") as settings:
            settings.write(f"{model}\n")
        work = call("-m", "hftcl", "retrain", "--force", "--dry-run", "--as-of", AS_OF, "--json", cwd=home)
        found[size] = take_turns({f"{size} {what}": work}, 1)[f"{size} {what}"]
    return found


def describe_machine() -> dict[str, str]:
    """Return what the figures depend on: cores, processor, memory, and how fast that is."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": str(len(os.sched_getaffinity(0))),
        "processor": names[0] if names else platform.machine(),
        "memory": f"{memory / 2**30:.0f} GiB, copied at {measure_bandwidth():.1f} GB/s",
        "Python": platform.python_version(),
        "Linux": platform.release(),
    }


def measure_bandwidth() -> float:
    """Return how fast one core copies memory, GB/s read and written, best of five."""
    source = np.ones(COPIED_BYTES, dtype=np.uint8)
    target, best = np.empty_like(source), 0.0
    for _ in range(5):
        began = time.perf_counter()
        np.copyto(target, source)
        best = max(best, 2 * COPIED_BYTES / (time.perf_counter() - began) / 1e9)
    return best


def find_version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    main(sys.argv[1:])
