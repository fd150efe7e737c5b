"""The threads that a piece of work begins: how many cores it takes."""

import threading

import pytest


def note_threads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which the name of each thread is added that begins from here on."""
    begun: list[str] = []
    start = threading.Thread.start

    def note_and_start(thread: threading.Thread) -> None:
        begun.append(thread.name)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", note_and_start)
    return begun
