"""The latency of a session's minutes, bar known to order sent: `python -m tests.benchmarks.minute TICKERS`.

At full load: each prediction is a signal, and shares are cheap enough that every change of a target trades. Prints the
milliseconds by the clock of each minute as JSON. All minutes are replayed without a pause.
"""

import json
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.test_trading import run_day


def main(tickers: int) -> None:
    with tempfile.TemporaryDirectory(prefix="hftcl-benchmark-minute-") as home:
        bot, _ = run_day(Path(home), tickers)
        sys.stdout.write(f"{json.dumps([1000 * float(done.latency_s) for done in bot.minutes])}\n")
        bot.close()


if __name__ == "__main__":
    main(int(sys.argv[1]))
