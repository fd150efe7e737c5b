"""The command line: parse, call one story, show. No decision about the market, no arithmetic, no file of ours.

The edge of the program: here the clock, the environment and the signals are read, and errors become exit statuses.
"""

import gc
import signal

# Objects, not Python's 700: what a start makes are modules and classes, which stay, and to look through them again and
# again is a tenth of what `trade --status` costs. More than a start makes, and some MB: a day's cycles are collected.
_COLLECT_AFTER = 50_000


def main() -> None:
    """Run the command line; the exit status is the contract of docs/commands.md."""
    gc.set_threshold(_COLLECT_AFTER)
    early: list[int] | None = None
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # `nohup` and the like leave it ignored
        early = []
        # until `run` hears them: what a Ctrl-C raises within an import has no words but a traceback
        signal.signal(signal.SIGINT, lambda number, _: early.append(number))
    from hftcl.cli.process import run  # here, so that what is above holds for what it imports too

    try:
        run(early)
    finally:
        gc.freeze()  # the process ends: what is left goes with it, and need not be looked through three times more


__all__ = ["main"]
