"""`hftcl dashboard` as a user starts it: the installed command on a free port, and a browser's requests to it."""

import contextlib
import http.client
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.installed import HFTCL, PATIENCE_S


@dataclass
class Served:
    """A page that runs: its address with the token, its process, and the cookie of who was let in."""

    url: str
    port: int
    process: "subprocess.Popen[str]"
    cookie: str = field(default="")

    def ask(self, path: str, *, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
        """Return status, headers by small letters, and text of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            connection.request(method, path, headers={"Cookie": self.cookie, **headers})
            answer = connection.getresponse()
            told = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, told, answer.read().decode()

    def get(self, path: str = "/") -> str:
        """Return a page that must be there."""
        status, _, text = self.ask(path)
        assert status == 200, (status, text)
        return text

    def wait_for(self, path: str, holds: Callable[[str], bool]) -> str:
        """Return the page once it holds."""
        deadline = time.monotonic() + PATIENCE_S
        while not holds(text := self.get(path)):
            assert time.monotonic() < deadline, text
            time.sleep(0.2)
        return text

    @contextlib.contextmanager
    def listen(self) -> "Iterator[Callable[[], dict[str, str]]]":
        """Open a connection of events; give what reads the next one."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            connection.request("GET", "/events", headers={"Cookie": self.cookie})
            answer = connection.getresponse()
            assert answer.status == 200

            def read_next() -> dict[str, str]:
                while not (line := answer.readline()).startswith(b"data: "):
                    assert line, "it has ended"
                event: dict[str, str] = json.loads(line.removeprefix(b"data: "))
                return event

            with answer:
                yield read_next


@contextlib.contextmanager
def serving(home: Path, *arguments: str, port: int = 0, token: str = "") -> Iterator[Served]:
    """Run the dashboard of `home`; it has ended afterwards. token: DASHBOARD_TOKEN."""
    process = subprocess.Popen(
        [HFTCL, "dashboard", "--port", str(port), "--json", *arguments],
        cwd=home,
        env=os.environ | ({"DASHBOARD_TOKEN": token} if token else {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        lines: list[str] = []
        while not lines or lines[-1] != "}\n":
            lines.append(process.stdout.readline())
            assert lines[-1], process.communicate()[1]
        said: dict[str, Any] = json.loads("".join(lines))
        served = Served(url=said["url"], port=said["port"], process=process)
        status, headers, _ = served.ask(f"/?token={token}" if token else "/?" + served.url.partition("?")[2])
        assert status == 303
        served.cookie = headers["set-cookie"].partition(";")[0]
        yield served
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE_S)
