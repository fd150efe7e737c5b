"""How requests to Alpaca travel: each bounded by one total deadline."""

from collections.abc import Iterable
from typing import Any, Final

import requests
import urllib3
from requests.adapters import HTTPAdapter

from hftcl.market.sources.deadline import BoundedPool, BoundedSecurePool

# A handshake takes under a second; an order is due within its minute, so less than for downloads.
_CONNECT_S: Final = 5.0


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


def open_bounded_session(timeout_s: float) -> requests.Session:
    """Return a session whose requests end within `timeout_s` seconds and use neither proxies nor a .netrc."""
    session = requests.Session()
    session.trust_env = False  # a password of ~/.netrc would be sent beside the keys
    adapter = _BoundedAdapter(timeout_s)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def to_one_line(text: str, secrets: Iterable[str]) -> str:
    """Return `text` as one short printable line without `secrets`."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:200]
