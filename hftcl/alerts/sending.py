"""Hands one order to a process of its own and waits for it, never longer than it was told to.

The process gets neither arguments nor variables that hold a secret, and whatever it started is killed with it.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import hftcl
from hftcl.config import SECRETS
from hftcl.config.dotenv import SIGNING_KEY

_TAIL_BYTES: Final = 300  # enough for the last line of an error, which is all that is shown of it
# A delivery takes a tenth of a second at least, so this adds little; 50 looks a second cost nothing.
_POLL_S: Final = 0.02
# Killed, a process ends within milliseconds. What takes longer waits for a disk that does not answer, or for a first
# process of a container that collects no ended ones: neither may keep the next message.
_END_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class SendOutcome:
    """What became of an order: `fault` says why nothing was sent, `note` what a person may want to know besides."""

    fault: str = ""
    note: str = ""


def send(order: Mapping[str, Any], timeout_s: float) -> SendOutcome:
    """Carry out an order from `channels` in at most `timeout_s` seconds."""
    if order["way"] == "command":
        return _run_command(order["command"], json.dumps(order["document"]).encode() + b"\n", timeout_s)
    job = json.dumps({**order, "timeout_s": timeout_s}).encode()
    code, out, tail = _run_bounded(_build_sender_command(), job, timeout_s)
    if code is None:
        return SendOutcome(fault=f"not done within {timeout_s:.0f} s")
    try:
        answer = json.loads(out)
    except ValueError:
        return SendOutcome(fault=f"the sending process failed with status {code}: {tail}")
    return SendOutcome(fault=answer["fault"], note=answer["note"])


def _build_sender_command() -> list[str]:
    # -P: an apprise.py in the current folder is not Apprise. -W: warnings of libraries are not the user's to see.
    # The path is for a hftcl that is not installed; at the end, where it hides no module of the standard library.
    start = "import sys; sys.path.append(sys.argv[1]); from hftcl.alerts.sender import main; main()"
    return [sys.executable, "-P", "-W", "ignore", "-c", start, str(Path(hftcl.__file__).resolve().parents[1])]


def fetch(url: str, timeout_s: float) -> str:
    """Fetch `url` in at most `timeout_s` seconds; return what went wrong, "" where a 2xx came back."""
    return send({"way": "heartbeat", "url": url}, timeout_s).fault


def _run_command(command: Sequence[str], document: bytes, timeout_s: float) -> SendOutcome:
    """Run the user's program with the event on its stdin; it must end with status 0."""
    code, _, tail = _run_bounded(command, document, timeout_s)
    if code is None:
        return SendOutcome(fault=f"{command[0]} did not end within {timeout_s:.0f} s")
    return SendOutcome(fault=f"{command[0]} failed with status {code}: {tail}".rstrip(": ") if code else "")


def _run_bounded(command: Sequence[str], given: bytes, timeout_s: float) -> tuple[int | None, bytes, str]:
    """Return exit status (None: killed because its time was up), stdout, and the end of stderr on one line.

    Files in memory, not pipes: whatever inherits a pipe and outlives the child would keep us waiting.
    """
    with _open_in_memory(given) as stdin, _open_in_memory() as stdout, _open_in_memory() as stderr:
        try:
            child = subprocess.Popen(  # noqa: S603 - our own module, or what the user configured
                command, stdin=stdin, stdout=stdout, stderr=stderr, env=open_environment(), start_new_session=True
            )
        except (OSError, ValueError) as error:
            return 127, b"", str(error)
        code = _wait(child, timeout_s)
        out, err = _read(stdout), _read(stderr)
    lines = err[-_TAIL_BYTES:].decode("utf-8", "replace").strip().splitlines()
    return code, out, lines[-1] if lines else ""


def _wait(child: "subprocess.Popen[bytes]", timeout_s: float) -> int | None:
    ends = time.monotonic() + timeout_s
    try:
        while (code := child.poll()) is None and time.monotonic() < ends:
            time.sleep(_POLL_S)
        return code
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)  # with whatever it has started
            child.wait()
            _wait_for_group(child.pid, _END_S)


def _wait_for_group(number: int, limit_s: float) -> None:
    """Return once no process of the group `number` is left, at the latest after `limit_s` seconds."""
    ends = time.monotonic() + limit_s
    while time.monotonic() < ends:
        try:
            os.killpg(number, 0)
        except ProcessLookupError:
            return
        time.sleep(_POLL_S)


def _open_in_memory(content: bytes = b"") -> BinaryIO:
    file = open(os.memfd_create("hftcl"), "w+b")  # noqa: SIM115, PTH123 - the caller closes it; it has no path
    file.write(content)
    file.seek(0)
    return file


def _read(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read(1 << 20)


def open_environment() -> dict[str, str]:
    """Return the variables of this process that are no secrets."""
    return {name: value for name, value in os.environ.items() if name not in {*SECRETS, SIGNING_KEY}}


def find_host_name() -> str:
    """Return the name of this machine, fit for the right side of a mail address."""
    name = "".join(c for c in socket.gethostname() if c.isascii() and (c.isalnum() or c in ".-"))
    return name or "localhost"
