"""One call to Polygon's REST service: a JSON object that may be trusted, or a plain error.

The official client (`massive` where it is installed, else `polygon`) brings key, headers and certificates. Its own
paging and error handling are not used: they end silently at a page that is not JSON, lose status and Retry-After, know
no total deadline, and follow a next_url for ever.
"""

import json
import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import quote, unquote, urlencode, urlsplit

import urllib3

from hftcl.errors import ConfigError, SourceError
from hftcl.market.sources.deadline import BoundedPool, BoundedSecurePool
from hftcl.market.sources.rate_limit import RateLimiter

log = logging.getLogger(__name__)

TRIES: Final = 5  # one, and one after each of the four waits below
# A dropped connection is worth a second try; a wrong address or no network is not worth five.
TRIES_UNREACHED: Final = 2
# Twice the minute that the limit counts; where a server asks for an hour, a person is told instead.
LONGEST_WAIT_S: Final = 120.0
LARGEST_BODY: Final = 64 * 2**20  # a full page of 50,000 bars is 5 MB
CONNECTIONS: Final = 16
"""Kept open between requests."""
# A handshake across the world takes under a second; after ten, the next address of the host is tried.
_CONNECT_S: Final = 10.0
_BUSY_WAITS_S: Final = (5.0, 15.0, 30.0, 60.0)  # together more than the minute that the limit counts
# Chosen: doubled, to give a failing server air; 15 s together, then the fault is told.
_FAILED_WAITS_S: Final = (1.0, 2.0, 4.0, 8.0)
# The old and the new name of one service: a page of one may point to the other, and may have the key.
_VENDOR_HOSTS: Final = frozenset({"api.polygon.io", "api.massive.com"})
# RFC 9110 4.2: an address without a port means these, so that both spellings are one server.
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Key:
    """The key and the variable that it came from. Its repr holds no key."""

    variable: str
    value: str = field(repr=False)

    def __post_init__(self) -> None:
        # A line break or a typographic quote in it would end in an exception of the HTTP library that prints the key.
        if not re.fullmatch(r"[\x21-\x7e]+", self.value):
            raise ConfigError(
                f"{self.variable} is not a key: it is empty, or holds a blank, a line break or a character outside "
                "ASCII. Copy it again from the dashboard of polygon.io."
            )

    def redact(self, text: str) -> str:
        """Return `text` as one short printable line without the key."""
        # A key of few letters is one of a test; inside words it would blot out half of the message.
        edge = ("", "") if len(self.value) >= 8 else (r"(?<![0-9A-Za-z])", r"(?![0-9A-Za-z])")
        for form in {self.value, quote(self.value, safe=""), quote(self.value)}:
            text = re.sub(edge[0] + re.escape(form) + edge[1], "***", text)
        return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:200]


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    retry_after: str | None
    body: bytes


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
    ) -> None:
        """Prepare; nothing is sent yet. Raises ConfigError for an address that is none.

        timeout_s: the total time of one request, from the connection to the last byte. tries: at most, of one request.
        """
        self._scheme, self._host, self._port, self._prefix = _parse_address(base_url)
        self._key = key
        self._timeout_s = timeout_s
        self._limiter = limiter
        self._clock = clock
        self._sleep = sleep
        self._tries = tries
        self._client: Any = None
        self._making = threading.Lock()

    def get(self, path: str, query: Mapping[str, str], what: str) -> dict[str, Any]:
        """Return the JSON object that the service answers; its status is OK or DELAYED.

        path: as sent, that is quoted. what: what is asked for, as the messages call it: "page 2 of AAPL 2026-01-05".
        Raises SourceError: refused key or plan (not retried), no answer, still busy or failing after `tries` tries, or
        an answer that is not what was asked for.
        """
        target = path + (f"?{urlencode(query)}" if query else "")
        answer = self._ask(target, what)
        found = _decode(answer.body)
        status = found.get("status") if found is not None else None
        said = self._quote_answer(found, answer)
        if answer.status in (401, 403) or status == "NOT_AUTHORIZED":
            raise SourceError(self._describe_refusal(answer.status, said, what))
        if answer.status != 200:
            raise SourceError(
                f"Polygon answered {answer.status} to {what}{said}. Check the ticker and [polygon] base_url."
            )
        if found is None:
            raise SourceError(
                f"Polygon: {what} is not JSON{said}. The range is incomplete and is not used; try again later."
            )
        if status not in ("OK", "DELAYED"):
            raise SourceError(
                f"Polygon answered {what} with the status {self._key.redact(str(status))!r}{said}. "
                "The range is incomplete and is not used; try again later."
            )
        return found

    def parse_next_url(self, next_url: object, what: str) -> tuple[str, str]:
        """Return (path, query) of the next page, to be sent to our own host.

        The vendor's two hosts are taken as ours, since both names are in use. Raises SourceError for any other host.
        """
        try:
            parts = urlsplit(next_url if isinstance(next_url, str) else "")
            place = (parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme))
        except ValueError:
            parts, place = urlsplit(""), ("", None, None)
        ours = place == (self._scheme, self._host, self._port)
        theirs = place[1] in _VENDOR_HOSTS and place == ("https", place[1], 443)
        if not (ours or theirs):
            named = f"{place[0]}://{place[1]}:{place[2]}" if place[1] else str(next_url)
            raise SourceError(
                f"Polygon: {what} names a next page at {self._key.redact(named)!r}, which is not [polygon] base_url. "
                "The key was not sent there; the range is incomplete and is not used."
            )
        path = parts.path.removeprefix(self._prefix) if ours else parts.path
        return path, parts.query

    def _ask(self, target: str, what: str) -> _Answer:
        """Send the request until it is answered by something else than "busy" or "failed", at most `tries` times."""
        unreached = 0
        for n in range(self._tries):
            self._limiter.acquire()
            try:
                answer = self._send(target)
            except urllib3.exceptions.HTTPError as error:
                unreached += 1
                if unreached == TRIES_UNREACHED or n == self._tries - 1:
                    raise SourceError(self._describe_unreached(error, what)) from error
                wait = _FAILED_WAITS_S[n]
                log.warning("no answer, asking again what=%r error=%s wait_s=%.0f", what, type(error).__name__, wait)
            else:
                if answer.status != 429 and answer.status < 500:
                    return answer
                if n == self._tries - 1:
                    break
                wait = self._pause(answer, n)
                log.warning("busy or failing, asking again what=%r status=%d wait_s=%.0f", what, answer.status, wait)
            self._sleep(wait)
        remedy = (
            "Lower [polygon] calls_per_minute to what the plan allows, or end what else uses the key."
            if answer.status == 429
            else "Try again later."
        )
        raise SourceError(f"Polygon answered {answer.status} to {what}{_times(self._tries, ' in a row')}. {remedy}")

    def _pause(self, answer: _Answer, tries: int) -> float:
        """Seconds until the next try: Retry-After where it makes sense, at most LONGEST_WAIT_S."""
        asked = parse_retry_after_s(answer.retry_after, datetime.fromtimestamp(self._clock(), UTC))
        if asked is None:
            return (_BUSY_WAITS_S if answer.status == 429 else _FAILED_WAITS_S)[tries]
        if asked > LONGEST_WAIT_S:
            log.warning("Retry-After is capped asked_s=%.0f wait_s=%.0f", asked, LONGEST_WAIT_S)
        return min(asked, LONGEST_WAIT_S)

    def _send(self, target: str) -> _Answer:
        with self._making:
            if self._client is None:
                self._client = _build_official_client(
                    self._key.value, f"{self._scheme}://{self._host}", self._timeout_s
                )
        host = f"[{self._host}]" if ":" in self._host else self._host
        answer = self._client.client.request(
            "GET",
            f"{self._scheme}://{host}:{self._port}{self._prefix}{target}",
            headers=self._client.headers,
            # To connect counts anew for each address of the host, hence the smaller share.
            timeout=urllib3.Timeout(total=self._timeout_s, connect=min(self._timeout_s, _CONNECT_S)),
            retries=False,  # the tries are counted here, where the rate limit is known
            redirect=False,  # a redirect is an answer that nobody asked for
            preload_content=False,
        )
        try:
            body = answer.read(LARGEST_BODY)  # what is cut off here is no JSON, and is refused for that
        except BaseException:
            answer.close()
            raise
        if len(body) == LARGEST_BODY:
            answer.close()
        else:
            answer.release_conn()
        return _Answer(answer.status, answer.headers.get("Retry-After"), body)

    def _quote_answer(self, found: dict[str, Any] | None, answer: _Answer) -> str:
        """Return ": " and what the service said, as one short line without the key; "" where it said nothing."""
        if found is None:
            line = self._key.redact(answer.body[:5000].decode(errors="replace"))[:60]  # in this order: no half a key
        else:
            line = self._key.redact(next((str(found[name]) for name in ("error", "message") if found.get(name)), ""))
        return f": {line.rstrip('.')}" if line else ""

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

    def _describe_unreached(self, error: urllib3.exceptions.HTTPError, what: str) -> str:
        place = f"{self._host}:{self._port}"
        refused = isinstance(error, urllib3.exceptions.NewConnectionError)  # to urllib3 that is a kind of time-out
        if isinstance(error, urllib3.exceptions.TimeoutError) and not refused:
            return (
                f"{place} did not send {what} within {self._timeout_s:g} s{_times(min(self._tries, TRIES_UNREACHED))}. "
                "Try again later, or raise [polygon] timeout_s."
            )
        return (
            f"{what} could not be had from {place}: {self._key.redact(_find_cause(error))}. "
            "Check the network and [polygon] base_url."
        )


def _times(tries: int, how: str = "") -> str:
    return f", {tries} times{how}" if tries > 1 else ""


def parse_retry_after_s(header: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for, 0 or more; None for none, or one that makes no sense.

    Source: RFC 9110, section 10.2.3: a number of seconds, or a date.
    """
    if header is None:
        return None
    if re.fullmatch(r"\s*\d{1,12}\s*", header, re.ASCII):
        return float(header)
    try:
        when = parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        return None
    return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - now).total_seconds())


def quote_ticker(ticker: str) -> str:
    """Return `ticker` as one segment of a path. Raises SourceError for what cannot be a ticker."""
    if not ticker or len(ticker) > 64 or not ticker.isprintable() or not ticker.strip("."):
        raise SourceError(f"{ticker[:64]!r} is not a ticker. Correct [market] watchlist.")
    return quote(ticker, safe="", errors="replace")


def is_same_path(path: str, expected: str) -> bool:
    """Whether two paths are the same once unquoted: services differ in which characters they quote."""
    return unquote(path) == unquote(expected)


def _parse_address(base_url: str) -> tuple[str, str, int, str]:
    """Return (scheme, host, port, path before ours) of `base_url`; warn where the key would travel in the clear."""
    try:
        parts = urlsplit(base_url)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError:
        scheme, host, port = "", None, None
    if scheme not in _PORTS or not host or parts.query or parts.fragment or parts.username or parts.password:
        raise ConfigError(
            "[polygon] base_url must be https://host, with a port or a path where needed, and without a password, "
            f"a query or a fragment{'' if '@' in base_url else f'; it is {base_url!r}'}."
        )
    if scheme == "http" and host not in ("127.0.0.1", "::1", "localhost"):
        log.warning("the key travels unencrypted, use https base_url=%s", base_url)
    return scheme, host, port or _PORTS[scheme], parts.path.rstrip("/")


def _build_official_client(key: str, base: str, timeout_s: float) -> Any:
    """Return the RESTClient of the newest official client, its connections bounded by a total deadline."""
    try:
        from massive import RESTClient
    except ImportError:
        from polygon import RESTClient
    logging.getLogger("RESTClient").handlers.clear()  # the library logs to stdout, where only our JSON may be
    client = RESTClient(api_key=key, base=base, connect_timeout=timeout_s, read_timeout=timeout_s, retries=0)
    client.client.pool_classes_by_scheme = {"http": BoundedPool, "https": BoundedSecurePool}
    client.client.connection_pool_kw["maxsize"] = CONNECTIONS  # else every request but one at a time shakes hands anew
    return client


def _decode(body: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _find_cause(error: BaseException) -> str:
    """Return the innermost reason in the operating system's words: "Connection refused"."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OSError) and inner.strerror:
            return inner.strerror
        inner = inner.__cause__ or inner.__context__
    return str(error)
