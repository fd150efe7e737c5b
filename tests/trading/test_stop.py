"""A stop and the kill switch are heard by a real process whatever it waits for: bars, its broker, the morning."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hftcl.home import Home
from hftcl.ledger.reader import LedgerReader

REPOSITORY = Path(__file__).parents[2]
HANGS_S = 120  # of a test that has failed: nothing here waits as long


@contextmanager
def silent_source(*, hangs_up: bool = False) -> Iterator[tuple[str, threading.Event]]:
    """Yield the address of a service that takes each call and never answers, and an event: it was called.

    hangs_up: it ends each connection at once instead, as one that is down.
    """
    called, ended = threading.Event(), threading.Event()
    kept: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)

        def serve() -> None:
            while not ended.is_set():
                try:
                    connection = server.accept()[0]
                except TimeoutError:
                    continue
                if hangs_up:
                    connection.close()
                else:
                    kept.append(connection)
                called.set()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", called
        ended.set()
        thread.join()
    for connection in kept:
        connection.close()


@pytest.mark.hazard(71)
@pytest.mark.parametrize(
    ("state", "pressed"),
    [
        pytest.param("bars", False, marks=pytest.mark.slow),
        ("bars", True),
        ("broker", False),
        ("broker", True),
        pytest.param("down", False, marks=pytest.mark.slow),
        ("down", True),
        ("night", False),
        ("night", True),
    ],
)
def test_a_signal_is_heard_while_bars_are_collected_while_the_broker_hangs_or_is_down_and_at_night(
    tmp_path: Path, state: str, pressed: bool
) -> None:
    is_broker = state in {"broker", "down"}
    if is_broker:
        pytest.importorskip("alpaca", reason="alpaca-py is not installed (pip install 'hftcl[alpaca]')")
    with silent_source(hangs_up=state == "down") as (url, called):
        keys = {"POLYGON_API_KEY": "k", "APCA_API_KEY_ID": "k", "APCA_API_SECRET_KEY": "s"}
        with subprocess.Popen(
            [sys.executable, "-m", "tests.trading.stop_driver", str(tmp_path), url, state],
            cwd=REPOSITORY,
            env={**os.environ, **keys},
            stdout=subprocess.PIPE,
            text=True,
        ) as bot:
            if state == "night":
                wait_for(lambda: "started" in list_events(tmp_path), "The bot has not started.")
            else:
                assert called.wait(HANGS_S), "the bot asks for bars, or for its account"
            if pressed:
                bot.send_signal(signal.SIGUSR1)
                wait_for(lambda: is_latched(tmp_path), "The kill switch is not on disk.")  # while it is still waited
            bot.send_signal(signal.SIGTERM)
            said, _ = bot.communicate(timeout=HANGS_S)  # there is no answer yet
    before = ", before the broker alpaca answered" if is_broker else ""
    assert (bot.returncode, said) == (0, f"Stopped as asked{before}.\n")
    assert is_latched(tmp_path) is pressed
    assert is_broker or list_events(tmp_path)[-1] == "stopped", "one that never had its account never began"


def is_latched(home: Path) -> bool:
    with LedgerReader(Home.live(home).ledger) as ledger:
        return ledger.is_latched("kill_switch")


def list_events(home: Path) -> list[str]:
    with LedgerReader(Home.live(home).ledger) as ledger:
        return [event.kind for event in ledger.read_events()]


def wait_for(happens: Callable[[], bool], fault: str) -> None:
    """Return once something is so that another process brings about."""
    pause = threading.Event()
    for _ in range(10 * HANGS_S):
        if happens():
            return
        pause.wait(0.1)
    raise AssertionError(fault)
