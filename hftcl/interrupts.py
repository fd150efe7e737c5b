"""What a signal handler raises, kept for the code that it is lost in.

SQLite puts an error of its own in the place of any exception that leaves a Python function which it called, such as the
check of a seal: https://www.sqlite.org/c3ref/create_function.html. A stop would then be told as a damaged file.
"""

import sys
from collections.abc import Container
from types import CodeType, FrameType
from typing import Never

_raised: tuple[BaseException, CodeType] | None = None  # of the process, as signals are; with the handler's code


def raise_from_handler(error: BaseException, interrupted: FrameType | None) -> Never:
    """Raise `error` out of a signal handler, which was given `interrupted`; if it is lost, see `raise_lost`."""
    global _raised
    handler = sys._getframe(1)
    while handler.f_back is not None and handler.f_back is not interrupted:
        handler = handler.f_back
    _raised = error, handler.f_code
    raise error


def raise_lost(functions: Container[CodeType]) -> None:
    """Raise what a signal handler has raised last, where it got no further than one of `functions`; once."""
    global _raised
    if _raised is None:
        return
    lost, handler = _raised
    # Python names no frame that had only begun: then the handler's is the outermost.
    furthest = lost.__traceback__.tb_frame.f_code if lost.__traceback__ else handler
    if furthest is handler or furthest in functions:
        _raised = None
        raise lost
