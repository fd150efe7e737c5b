"""Python's garbage collector, which may stop a process for a tenth of a second: after a minute's orders, not before.

It touches the collector of the whole process, and leaves it as it was.
"""

import contextlib
import gc
from collections.abc import Iterator
from typing import Final

_YOUNG: Final = 1  # the generations of what was made lately: a millisecond or two for a minute of 500 tickers


@contextlib.contextmanager
def hold_back_collector() -> Iterator[None]:
    """Nothing is collected within it; what has come together in it is, at its end."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
            gc.collect(_YOUNG)


@contextlib.contextmanager
def set_apart_what_stays() -> Iterator[None]:
    """Within it the collector looks only at what has been made within it: libraries and models are 200,000 objects."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
