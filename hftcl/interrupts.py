"""When a signal handler may raise, and what it raised, kept for the code that it is lost in; a child's end.

A handler raises between any two steps of Python, also between the one that begins a transaction and the first of the
block that would end it. And SQLite puts an error of its own in the place of any exception that leaves a Python function
which it called, such as the check of a seal: https://www.sqlite.org/c3ref/create_function.html. A stop would then be
told as a damaged file. And Python itself drops what is raised in a finalizer, such as that of a task of Dask's.

A child that was told of its parent, `die_with`, is killed by the kernel when that one ends.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Container
from dataclasses import dataclass
from types import CodeType, FrameType, TracebackType
from typing import Final

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


@dataclass(frozen=True, slots=True)
class _Raised:
    """What a signal handler has raised. handler: the handler's code. on_lost: see `raise_from_handler`."""

    error: BaseException
    handler: CodeType
    signum: int
    on_lost: Callable[[], None] | None


_raised: _Raised | None = None  # of the process, as signals are
_held = 0  # of the main thread, where signal handlers run: how many `hold_back` it is within
_waiting: _Raised | None = None


class _Hold:
    """See `hold_back`.

    A class: Python looks for signals where a function begins, so that it is entered whole or not at all. A generator
    would be entered in two steps.
    """

    def __enter__(self) -> None:
        global _held
        if threading.current_thread() is threading.main_thread():
            _held += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        global _held, _waiting, _raised
        if threading.current_thread() is not threading.main_thread():
            return
        _held -= 1
        if not _held and (waiting := _waiting):
            _waiting, _raised = None, waiting
            raise waiting.error


_HOLD: Final = _Hold()  # it keeps nothing, so one serves all


def hold_back() -> _Hold:
    """Let no signal handler raise within; what one raised meanwhile is raised at the end of the outermost.

    For what takes milliseconds. In another thread than the main one it does nothing: none is interrupted there.
    """
    return _HOLD


def raise_from_handler(
    error: BaseException, signum: int, interrupted: FrameType | None, on_lost: Callable[[], None] | None = None
) -> None:
    """Raise `error` out of a signal handler, which was given `signum` and `interrupted`; if lost, see `raise_lost`.

    Returns only within `hold_back`. on_lost: is called before the signal is sent again because a finalizer has lost
    the error, see `repeat_what_finalizers_lose`: a handler that raises once may do so once more.
    """
    global _raised, _waiting
    handler = sys._getframe(1)
    while handler.f_back is not None and handler.f_back is not interrupted:
        handler = handler.f_back
    raised = _Raised(error, handler.f_code, signum, on_lost)
    if _held:
        _waiting = _waiting or raised
        return
    _raised = raised
    raise error


def has_raised(error: BaseException) -> bool:
    """Return whether a signal handler has raised `error`: then no code that it came out of means it by a SystemExit."""
    return _raised is not None and _raised.error is error


def find_replaced_stop(error: BaseException, *, by_others: bool = False) -> BaseException | None:
    """Return what a signal handler has raised where a library made `error` of it; None where `error` is its own.

    by_others: whether it came out of code that may make anything of what it catches, such as a plug-in's.

    Code in Rust that calls Python, such as polars where it first loads NumPy, makes a panic of whatever is raised
    there, https://docs.rs/pyo3/latest/pyo3/panic/struct.PanicException.html; code in C that loads a module an
    ImportError or a SystemError because of it.
    """
    if _raised is None:
        return None
    if not isinstance(error, Exception | KeyboardInterrupt | SystemExit):
        return _raised.error
    if not (by_others or isinstance(error, ImportError | SystemError)):
        return None
    reason: BaseException | None = error
    while reason is not None and reason is not _raised.error:
        reason = reason.__cause__ or reason.__context__
    return reason


class _LetOut:
    """See `let_out`."""

    def __enter__(self) -> None:
        self._before = _raised

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if _raised is None or _raised is self._before or threading.current_thread() is not threading.main_thread():
            return
        if error is not _raised.error:
            raise _raised.error


def let_out() -> _LetOut:
    """Raise at the end of the block what a signal handler has raised within it, also where the code there kept it to
    itself or raised something else in its place: for code of others, which may catch whatever comes.
    """
    return _LetOut()


def raise_lost(functions: Container[CodeType]) -> None:
    """Raise what a signal handler has raised last, where it got no further than one of `functions`; once."""
    global _raised
    if _raised is None:
        return
    lost, handler = _raised.error, _raised.handler
    # Python names no frame that had only begun: then the handler's is the outermost.
    furthest = lost.__traceback__.tb_frame.f_code if lost.__traceback__ else handler
    if furthest is handler or furthest in functions:
        _raised = None
        raise lost


_AGAIN_S: Final = 0.05  # after the finalizer has ended, and before a person presses Ctrl-C again
_tell_unraisable: "Callable[[sys.UnraisableHookArgs], object] | None" = None  # what heard of it before


def repeat_what_finalizers_lose() -> None:
    """From now on, send a signal again whose handler has raised where Python drops it: in a finalizer, or the like."""
    global _tell_unraisable
    if sys.unraisablehook is not _repeat_lost:
        _tell_unraisable, sys.unraisablehook = sys.unraisablehook, _repeat_lost


def _repeat_lost(unraisable: "sys.UnraisableHookArgs") -> None:
    if _raised is None or unraisable.exc_value is not _raised.error:
        if _tell_unraisable is not None:
            _tell_unraisable(unraisable)
        return
    if _raised.on_lost is not None:
        _raised.on_lost()
    again = threading.Timer(_AGAIN_S, signal.pthread_kill, (threading.main_thread().ident, _raised.signum))
    again.daemon = True
    again.start()


def die_with(parent: int) -> None:
    """Have the kernel kill this process when the parent ends, however it ends.

    A thread that waits for the end of stdin would not do: a fit holds the GIL to its end [20 s measured].
    """
    import ctypes  # only a child that ends with its parent needs it

    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was gone before the kernel knew
        sys.exit(1)
