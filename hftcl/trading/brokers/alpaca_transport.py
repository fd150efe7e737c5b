"""How requests to Alpaca travel: each bounded by one total deadline, and counted against the plan."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import requests
import urllib3
from requests.adapters import HTTPAdapter

from hftcl.errors import fold_line
from hftcl.market.sources.deadline import BoundedPool, BoundedSecurePool

# A handshake takes under a second; an order is due within its minute, so less than for downloads.
_CONNECT_S: Final = 5.0
_MINUTE_S: Final = 60.0  # seconds: the limit of calls counts in minutes


class _BoundedAdapter(HTTPAdapter):  # type: ignore[misc]
    """Sends over connections whose whole answer, body included, comes within `timeout_s`."""

    def __init__(self, timeout_s: float) -> None:
        # To connect counts anew for each address of the host, hence the smaller share.
        self._timeout = urllib3.Timeout(total=timeout_s, connect=min(timeout_s, _CONNECT_S))
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": BoundedPool, "https": BoundedSecurePool}

    def send(self, request: Any, **options: Any) -> Any:
        return super().send(request, **options | {"timeout": self._timeout})


class Pace:
    """How many calls a minute has left: what the answers say, else what was counted.

    Alpaca tells X-RateLimit-Limit, -Remaining and -Reset (Unix seconds) with each answer:
    https://alpaca.markets/support/usage-limit-api-calls
    """

    def __init__(self, calls_per_minute: int, clock: Callable[[], float]) -> None:
        self._most, self._clock = calls_per_minute, clock
        self._calls: deque[float] = deque()
        self._told: tuple[int, float] | None = None

    def note(self, headers: Mapping[str, str]) -> None:
        """Take an answer's headers. Called from several threads; each step is atomic."""
        self._calls.append(self._clock())
        try:
            self._told = int(headers["X-RateLimit-Remaining"]), float(headers["X-RateLimit-Reset"])
        except (KeyError, ValueError):
            return

    def room(self) -> int:
        """Return how many calls may be made now."""
        now = self._clock()
        while self._calls and not 0 <= now - self._calls[0] < _MINUTE_S:
            self._calls.popleft()
        counted = max(0, self._most - len(self._calls))
        broker_count = self._told
        return min(counted, broker_count[0]) if broker_count is not None and now < broker_count[1] else counted

    def find_end(self) -> datetime | None:
        """Return when the minute that is used up ends, None where Alpaca has not said so."""
        return datetime.fromtimestamp(self._told[1], UTC) if self._told else None


def open_bounded_session(timeout_s: float, on_headers: Callable[[Mapping[str, str]], None]) -> requests.Session:
    """Return a session whose requests end within `timeout_s` seconds and use neither proxies nor a .netrc.

    on_headers: hears the headers of each answer.
    """
    session = requests.Session()
    session.hooks["response"].append(lambda answer, *_, **__: on_headers(answer.headers))
    session.trust_env = False  # a password of ~/.netrc would be sent beside the keys
    adapter = _BoundedAdapter(timeout_s)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def to_one_line(text: str, secrets: Iterable[str]) -> str:
    """Return `text` as one short printable line without `secrets`."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return fold_line(text)[:200]
