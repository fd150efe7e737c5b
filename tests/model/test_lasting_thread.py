"""The thread that starts children keeps none of them."""

import weakref
from threading import Event

from hftcl.model.lasting_thread import run_in_lasting_thread
from tests.processes import wait_until


class Child:
    """What ends where nothing holds it."""


def test_what_was_started_is_held_by_the_caller_alone() -> None:
    """A Ctrl-C while a child starts leaves no caller that would end it."""
    begun: list[weakref.ref[Child]] = []
    ended = Event()

    def start() -> Child:
        child = Child()
        begun.append(weakref.ref(child))
        weakref.finalize(child, ended.set)
        return child

    run_in_lasting_thread(start)
    wait_until(ended.is_set, "the end of what nothing holds", limit_s=30)
    assert begun[0]() is None
