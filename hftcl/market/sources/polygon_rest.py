"""One call to Polygon's REST service: a JSON object that may be trusted, or a plain error.

The official client (`massive` where it is installed, else `polygon`) brings key, headers and certificates. Its own
paging and error handling are not used: they end silently at a page that is not JSON, lose status and Retry-After, know
no total deadline, and follow a next_url for ever.
"""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from hftcl.errors import SourceError
from hftcl.market.sources.deadline import BoundedPool, BoundedSecurePool
from hftcl.market.sources.rate_limit import RateLimiter
from hftcl.market.sources.transport import (
    CONNECTIONS,
    TRIES,
    Key,
    Transport,
    Vendor,
    decode,
    is_same_path,
    quote_ticker,
)
from hftcl.market.sources.vendor_time import read_steady_clock

__all__ = ["CONNECTIONS", "TRIES", "Key", "Rest", "is_same_path", "quote_ticker"]

_VENDOR_HOSTS: Final = frozenset({"api.polygon.io", "api.massive.com"})
_VENDOR: Final = Vendor("Polygon", "polygon")
_PORTS: Final = {"http": 80, "https": 443}  # RFC 9110 4.2: an address without a port means these


class Rest:
    """The service at `base_url`: sends the key there and nowhere else."""

    def __init__(
        self,
        base_url: str,
        key: Key,
        *,
        timeout_s: float,
        limiter: RateLimiter,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        tries: int = TRIES,
        steady: Callable[[], float] = read_steady_clock,
    ) -> None:
        """Prepare; nothing is sent yet. Raises ConfigError for an address that is none.

        timeout_s: the total time of one request, from the connection to the last byte. tries: at most, of one request.
        """
        self._key = key

        def connect() -> tuple[Any, Mapping[str, str]]:
            client = _build_official_client(key.value, f"{self.transport.scheme}://{self.transport.host}", timeout_s)
            return client.client, client.headers

        self.transport = Transport(
            _VENDOR,
            base_url,
            connect,
            redact=key.redact,
            timeout_s=timeout_s,
            limiter=limiter,
            clock=clock,
            sleep=sleep,
            tries=tries,
            steady=steady,
        )

    def get(
        self,
        path: str,
        query: Mapping[str, str],
        what: str,
        *,
        decode_body: Callable[[bytes], dict[str, Any] | None] = decode,
    ) -> dict[str, Any]:
        """Return the JSON object that the service answers; its status is OK or DELAYED.

        path: as sent, that is quoted. what: what is asked for, as the messages call it: "page 2 of AAPL 2026-01-05".
        decode_body: what makes an object of the body, None where it is none.
        Raises SourceError: refused key or plan (not retried), no answer, still busy or failing after `tries` tries, or
        an answer that is not what was asked for.
        """
        answer = self.transport.ask(path + (f"?{urlencode(query)}" if query else ""), what)
        document = decode_body(answer.body)
        status = document.get("status") if document is not None else None
        said = self.transport.describe(document, answer)
        if answer.status in (401, 403) or status == "NOT_AUTHORIZED":
            raise SourceError(self._describe_refusal(answer.status, said, what))
        if answer.status != 200:
            raise SourceError(
                f"Polygon answered {answer.status} to {what}{said}. Check the ticker and [polygon] base_url."
            )
        if document is None:
            raise SourceError(
                f"Polygon: {what} is not JSON{said}. The range is incomplete and is not used; try again later."
            )
        if status not in ("OK", "DELAYED"):
            raise SourceError(
                f"Polygon answered {what} with the status {self._key.redact(str(status))!r}{said}. "
                "The range is incomplete and is not used; try again later."
            )
        return document

    def parse_next_url(self, next_url: object, what: str) -> tuple[str, str]:
        """Return (path, query) of the next page, to be sent to our own host.

        The vendor's two hosts are taken as ours, since both names are in use. Raises SourceError for any other host.
        """
        same_place = self.transport
        try:
            parts = urlsplit(next_url if isinstance(next_url, str) else "")
            place = (parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme))
        except ValueError:
            parts, place = urlsplit(""), ("", None, None)
        is_ours = place == (same_place.scheme, same_place.host, same_place.port)
        is_theirs = place[1] in _VENDOR_HOSTS and place == ("https", place[1], 443)
        if not (is_ours or is_theirs):
            named = f"{place[0]}://{place[1]}:{place[2]}" if place[1] else str(next_url)
            raise SourceError(
                f"Polygon: {what} names a next page at {self._key.redact(named)!r}, which is not [polygon] base_url. "
                "The key was not sent there; the range is incomplete and is not used."
            )
        path = parts.path.removeprefix(same_place.prefix) if is_ours else parts.path
        return path, parts.query

    def _describe_refusal(self, status: int, said: str, what: str) -> str:
        if status == 401:
            return (
                f"Polygon refused the key in {self._key.variable}{said}. "
                "Correct it in the environment or the .env file."
            )
        return (
            f"The plan of the key in {self._key.variable} does not cover {what}{said}. "
            "Shorten [market] lookback_days, or use a key of a larger plan."
        )


def _build_official_client(key: str, base: str, timeout_s: float) -> Any:
    """Return the RESTClient of the newest official client, its connections bounded by a total deadline."""
    try:
        from massive import RESTClient
    except ImportError:
        from polygon import RESTClient
    logging.getLogger("RESTClient").handlers.clear()  # the library logs to stdout, where only our JSON may be
    client = RESTClient(api_key=key, base=base, connect_timeout=timeout_s, read_timeout=timeout_s, retries=0)
    client.client.pool_classes_by_scheme = {"http": BoundedPool, "https": BoundedSecurePool}
    client.client.connection_pool_kw["maxsize"] = CONNECTIONS  # else every request but one at a time shakes hands again
    return client
