"""The latency of a session's minutes, bar known to order sent: `python -m tests.benchmarks.minute TICKERS`.

At full load: each prediction is a signal, and shares are cheap enough that every change of a target trades. Prints the
milliseconds by the clock of each minute as JSON; with `--processor` pairs, the milliseconds of processor time and the
orders of each minute. All minutes are replayed without a pause.
"""

import json
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.test_trading import run_day


def main(tickers: int, *, is_processor: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="hftcl-benchmark-minute-") as home:
        bot, _ = run_day(Path(home), tickers)
        found: list[object] = [1000 * float(done.latency_s) for done in bot.minutes]
        if is_processor:
            found = [(1000 * getattr(done.latency_s, "cpu", 0.0), done.ordered) for done in bot.minutes]
        sys.stdout.write(f"{json.dumps(found)}\n")
        bot.close()


if __name__ == "__main__":
    main(int(sys.argv[1]), is_processor="--processor" in sys.argv[2:])
