"""A stop and the kill switch are heard by a real process while its source keeps it waiting for bars."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hftcl.home import Home
from hftcl.ledger.reader import LedgerReader

REPOSITORY = Path(__file__).parents[2]
HANGS_S = 120  # of a test that has failed: nothing here waits as long


@contextmanager
def silent_source() -> Iterator[tuple[str, threading.Event]]:
    """Yield the address of a source that takes each call and never answers, and an event: it was called."""
    called, ended = threading.Event(), threading.Event()
    kept: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)

        def serve() -> None:
            while not ended.is_set():
                try:
                    kept.append(server.accept()[0])
                except TimeoutError:
                    continue
                called.set()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", called
        ended.set()
        thread.join()
    for connection in kept:
        connection.close()


@pytest.mark.parametrize("pressed", [False, True], ids=["stop", "kill switch"])
@pytest.mark.hazard(71)
def test_a_signal_is_heard_while_bars_are_collected_from_a_source_that_never_answers(
    tmp_path: Path, pressed: bool
) -> None:
    with silent_source() as (url, called):
        environment = {**os.environ, "POLYGON_API_KEY": "k"}
        with subprocess.Popen(
            [sys.executable, "-m", "tests.trading.stop_driver", str(tmp_path), url],
            cwd=REPOSITORY,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        ) as bot:
            assert called.wait(HANGS_S), "the bot asks for bars"
            if pressed:
                bot.send_signal(signal.SIGUSR1)
                wait_for_latch(tmp_path)
            bot.send_signal(signal.SIGTERM)
            said, _ = bot.communicate(timeout=HANGS_S)  # the source still says nothing
    assert (bot.returncode, said) == (0, "Stopped as asked.\n")
    with LedgerReader(Home.live(tmp_path).ledger) as ledger:
        assert ledger.is_latched("kill_switch") is pressed
        assert [event.kind for event in ledger.events()][-1] == "stopped"


def wait_for_latch(home: Path) -> None:
    """Return once the kill switch is on disk, while the source still hangs."""
    told = threading.Event()
    for _ in range(10 * HANGS_S):
        with LedgerReader(Home.live(home).ledger) as ledger:
            if ledger.is_latched("kill_switch"):
                return
        told.wait(0.1)
    raise AssertionError("The kill switch is not on disk.")
