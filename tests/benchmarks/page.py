"""One command for the speed of hftcl beside what people would use instead: it measures in turns and writes the page.

`python -m tests.benchmarks.page --peers FOLDER` writes figures.json here and docs/benchmarks.md; half an hour or so on
two idle cores. With `--keep FILE` a run that was stopped goes on, and `--page --keep FILE` writes what there is.
Where other programs are busy it measures for `--short` alone, unless `--loaded` is given: then the page says so, and
`--aside` leaves the page as it is.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Final

from tests.benchmarks.environments import make_environments
from tests.benchmarks.figures import IDLE, Figures, compare
from tests.benchmarks.machine import Watch
from tests.benchmarks.page_text import build_page
from tests.benchmarks.parts import PARTS, SHORT, WIDE_PARTS, Bench, choose_parts, measure_part
from tests.benchmarks.test_retrain_cost import HERE

STORED: Final = Path(__file__).with_name("figures.json")
PAGE: Final = HERE / "docs" / "benchmarks.md"
TURNS: Final = 3
"""So that the whole takes half an hour: the peers alone take two minutes a turn."""
LOOK_S: Final = 3.0
"""How long it is looked whether other programs are busy."""


def main(arguments: list[str]) -> None:
    """Measure, and print or write what `arguments` ask for."""
    asked = read_arguments(arguments)
    recorded = Figures.from_json(json.loads(STORED.read_text()))
    if asked.page:
        write(load(asked.keep) if asked.keep else recorded)
        return
    if not asked.short and not asked.loaded and not is_idle():
        sys.exit("Other programs are busy: figures of now would not be those of an idle machine. --loaded measures.")
    whole = [*(SHORT if asked.short else PARTS), *(WIDE_PARTS if asked.wide else ())]
    parts = asked.only or whole
    figures = measure(asked, parts)
    sys.stdout.write("\n".join([*compare(figures, recorded), ""]))
    if not (asked.short or asked.aside):
        write(recorded.add(figures) if asked.only else figures)


def read_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.page", description=__doc__)
    parser.add_argument(
        "--peers", type=Path, metavar="FOLDER", help="where the environments of FreqAI and Qlib are made"
    )
    parser.add_argument(
        "--keep", type=Path, metavar="FILE", help="store each part there; what it holds is not measured"
    )
    parser.add_argument(
        "--short", action="store_true", help="one turn, printed beside the recorded ratios, not written"
    )
    parser.add_argument(
        "--wide",
        action="store_true",
        help="500 and 2,000 tickers, a minute of 5,000, and the guide's stack with all features, too",
    )
    parser.add_argument("--loaded", action="store_true", help="measure though other programs are busy")
    parser.add_argument(
        "--aside", action="store_true", help="write neither the page nor figures.json: FILE of --keep has what is found"
    )
    parser.add_argument("--page", action="store_true", help="measure nothing: write the page, from FILE where --keep")
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--only", nargs="+", metavar="PART", help=f"of {', '.join(PARTS)}")
    asked = parser.parse_args(arguments)
    try:
        asked.only = choose_parts(asked.only or ())
    except ValueError as error:
        parser.error(str(error))
    return asked


def measure(asked: argparse.Namespace, parts: list[str]) -> Figures:
    """Measure those of `parts` that were not before, and store each where it is asked to."""
    pythons, missing = make_environments(asked.peers)
    figures = load(asked.keep)
    folder = Path(tempfile.mkdtemp(prefix="hftcl-benchmark-"))
    bench = Bench(folder=folder, pythons=pythons, missing=missing, turns=1 if asked.short else asked.turns)
    try:
        for part in parts:
            if part in figures.others:
                continue
            began = time.monotonic()
            figures = figures.add(measure_part(part, bench))
            sys.stderr.write(f"-- {part}: {time.monotonic() - began:.0f} s\n")
            if asked.keep:
                asked.keep.write_text(store(figures))
    finally:
        shutil.rmtree(folder)
    return figures


def is_idle() -> bool:
    watch = Watch()
    time.sleep(LOOK_S)
    return watch.count_others() < IDLE


def load(file: Path | None) -> Figures:
    return Figures.from_json(json.loads(file.read_text())) if file and file.exists() else Figures()


def store(figures: Figures) -> str:
    return json.dumps(asdict(figures), indent=1) + "\n"


def write(figures: Figures) -> None:
    STORED.write_text(store(figures))
    PAGE.write_text(build_page(figures))


if __name__ == "__main__":
    main(sys.argv[1:])
