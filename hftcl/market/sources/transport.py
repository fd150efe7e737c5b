"""One request to a vendor's REST service that ends in time: paced, tried again where that helps, its body bounded.

Sends its headers, and with them the key, to one host and nowhere else; what an answer means is left to the adapter.
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
from typing import Any, Final, TypeGuard
from urllib.parse import quote, unquote, urlsplit

import msgspec
import urllib3

from hftcl.errors import ConfigError, SourceError, fold_line
from hftcl.market.sources.rate_limit import RateLimiter
from hftcl.market.sources.vendor_time import VendorTime, read_steady_clock

log = logging.getLogger(__name__)

TRIES: Final = 5  # one, and one after each of the four waits below
TRIES_UNREACHED: Final = 2  # a dropped connection is worth a second try; a wrong address is not worth five
LONGEST_WAIT_S: Final = 120.0  # twice the minute that limits count; for an hour a person is told instead
LARGEST_BODY: Final = 64 * 2**20  # a full page of 50,000 bars is 5 MB
CONNECTIONS: Final = 16
"""Kept open between requests."""
_CONNECT_S: Final = 10.0  # a handshake across the world takes under a second; then the next address is tried
_BUSY_WAITS_S: Final = (5.0, 15.0, 30.0, 60.0)  # together more than the minute that the limit counts
_FAILED_WAITS_S: Final = (1.0, 2.0, 4.0, 8.0)  # chosen: doubled, 15 s together, then the fault is told
_BUSY_LEAST_S: Final = (1.0, 10.0, 20.0, 30.0)
"""Whatever Retry-After says: a service that says "at once" five times would be asked five times within a second."""
_GZIP_MAGIC: Final = b"\x1f\x8b"  # RFC 1952 2.3.1
_PORTS: Final = {"http": 80, "https": 443}  # RFC 9110 4.2: an address without a port means these


@dataclass(frozen=True, slots=True)
class Key:
    """A key or secret and the variable that it came from. Its repr holds no key."""

    variable: str
    value: str = field(repr=False)
    dashboard: str = "polygon.io"

    def __post_init__(self) -> None:
        # A line break or a typographic quote in it would end in an exception of the HTTP library that prints the key.
        if not re.fullmatch(r"[\x21-\x7e]+", self.value):
            raise ConfigError(
                f"{self.variable} is not a key: it is empty, or holds a blank, a line break or a character outside "
                f"ASCII. Copy it again from the dashboard of {self.dashboard}."
            )

    def redact(self, text: str) -> str:
        """Return `text` as one short printable line without the key."""
        # A key of few letters is one of a test; inside words it would blot out half of the message.
        edge = ("", "") if len(self.value) >= 8 else (r"(?<![0-9A-Za-z])", r"(?![0-9A-Za-z])")
        for form in {self.value, quote(self.value, safe=""), quote(self.value)}:
            text = re.sub(edge[0] + re.escape(form) + edge[1], "***", text)
        return fold_line(text)[:200]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the status, the headers (names in any case) and the body, cut off at LARGEST_BODY."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Vendor:
    """Whose service it is, for messages: its name, our section of settings, what address and pace are called there."""

    name: str
    section: str
    address: str = "base_url"
    pace: str = "calls_per_minute"


class Transport:
    """The service at `base_url`, asked at its pace."""

    def __init__(
        self,
        vendor: Vendor,
        base_url: str,
        connect: Callable[[], tuple[Any, Mapping[str, str]]],
        *,
        redact: Callable[[str], str],
        timeout_s: float,
        limiter: RateLimiter,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        tries: int = TRIES,
        steady: Callable[[], float] = read_steady_clock,
    ) -> None:
        """Prepare; nothing is sent yet. Raises ConfigError for an address that is none.

        connect: makes urllib3's pools, with the classes of `deadline`, and the headers that hold the key, on first
        use. redact: takes the key out of a text. timeout_s: the total time of one request, from the search for the
        address to the last byte. tries: at most, of one request.
        """
        self.scheme, self.host, self.port, self.prefix = _parse_address(base_url, vendor)
        self._vendor = vendor
        self._connect = connect
        self._redact = redact
        self._timeout_s = timeout_s
        self._limiter = limiter
        self._clock = clock
        self._sleep = sleep
        self._tries = tries
        self._pools: tuple[Any, Mapping[str, str]] | None = None
        self._making = threading.Lock()
        self.time = VendorTime(clock, steady)
        self._listener: tuple[int, Callable[[str], None]] | None = None

    def report_steps(self, on_step: Callable[[str], None] | None) -> None:
        """Call `on_step` with what each try asks for, where it is made in the thread that calls this; None ends it."""
        self._listener = (threading.get_ident(), on_step) if on_step else None

    @property
    def clock_ahead_s(self) -> float | None:
        """Seconds by which this machine's clock is ahead of the service's, see `VendorTime`; None without news."""
        return self.time.ahead_s

    def ask_time(self) -> None:
        """Have the service say what time it is, by whatever answer. Raises SourceError where none comes."""
        self.ask("/", "the time")

    def ask(self, target: str, what: str) -> Answer:
        """Send GET `target` until it is answered by something else than "busy" or "failed", at most `tries` times.

        Raises SourceError where no answer comes, or none but those.
        """
        unreached = 0
        for n in range(self._tries):
            if self._listener is not None and self._listener[0] == threading.get_ident():
                self._listener[1](f"{what}, try {n + 1}" if n else what)
            try:
                answer = self._send(target)
            except urllib3.exceptions.HTTPError as error:
                unreached += 1
                if unreached == TRIES_UNREACHED or n == self._tries - 1:
                    raise SourceError(self._explain_unreached(error, what)) from error
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
        pace = f"[{self._vendor.section}] {self._vendor.pace}"
        slower = f"Lower {pace} to what the plan allows, or end what else uses the key."
        remedy = slower if answer.status == 429 else "Try again later."
        raise SourceError(
            f"{self._vendor.name} answered {answer.status} to "
            f"{what}{_describe_tries(self._tries, ' in a row')}. {remedy}"
        )

    def describe(self, found: dict[str, Any] | None, answer: Answer) -> str:
        """Return ": " and what the service said, as one short line without the key; "" where it said nothing."""
        if found is None:
            line = self._redact(answer.body[:5000].decode(errors="replace"))[:60]  # in this order: no half a key
        else:
            line = self._redact(next((str(found[name]) for name in ("error", "message") if found.get(name)), ""))
        return f": {line.rstrip('.')}" if line else ""

    def _pause(self, answer: Answer, tries: int) -> float:
        """Seconds until the next try: what the service asks for where that makes sense, within bounds."""
        now = self._clock()
        asked = retry_after_s(answer.headers.get("Retry-After"), datetime.fromtimestamp(now, UTC))
        if asked is None:
            asked = _reset_s(answer.headers.get("X-RateLimit-Reset"), now) if answer.status == 429 else None
        if asked is None:
            return (_BUSY_WAITS_S if answer.status == 429 else _FAILED_WAITS_S)[tries]
        if asked > LONGEST_WAIT_S:
            log.warning("Retry-After is capped asked_s=%.0f wait_s=%.0f", asked, LONGEST_WAIT_S)
        least = (_BUSY_LEAST_S if answer.status == 429 else _FAILED_WAITS_S)[tries]
        return min(max(asked, least), LONGEST_WAIT_S)

    def _send(self, target: str) -> Answer:
        with self._making:
            if self._pools is None:
                self._pools = self._connect()
        pools, headers = self._pools
        host = f"[{self.host}]" if ":" in self.host else self.host
        counted = self._limiter.acquire(self._timeout_s)
        try:
            answer = pools.request(
                "GET",
                f"{self.scheme}://{host}:{self.port}{self.prefix}{target}",
                headers=headers,
                timeout=urllib3.Timeout(total=self._timeout_s, connect=min(self._timeout_s, _CONNECT_S)),
                retries=False,  # the tries are counted here, where the rate limit is known
                redirect=False,  # a redirect is an answer that nobody asked for
                preload_content=False,
            )
        finally:
            self._limiter.note_arrival(counted)
        self.time.note(answer.headers.get("Date"))
        try:
            body = _read_body(answer)
        except BaseException:
            answer.close()
            raise
        if len(body) >= LARGEST_BODY:
            answer.close()
        else:
            answer.release_conn()
        return Answer(answer.status, answer.headers, body)

    def _explain_unreached(self, error: urllib3.exceptions.HTTPError, what: str) -> str:
        place, section = f"{self.host}:{self.port}", self._vendor.section
        refused = isinstance(error, urllib3.exceptions.NewConnectionError)  # to urllib3 that is a kind of time-out
        if isinstance(error, urllib3.exceptions.TimeoutError) and not refused:
            return (
                f"{place} did not send {what} within {self._timeout_s:g} "
                f"s{_describe_tries(min(self._tries, TRIES_UNREACHED))}. "
                f"Try again later, or raise [{section}] timeout_s."
            )
        return (
            f"{what} could not be had from {place}: {self._redact(_find_cause(error))}. "
            f"Check the network and [{section}] {self._vendor.address}."
        )


def _read_body(answer: Any) -> bytes:
    """Return the body of urllib3's `answer`, LARGEST_BODY at most: what is cut off there is no JSON, and is refused.

    Raises urllib3's errors. Gzip is undone here, by ISA-L, in a third of the time that zlib takes: a page of 50,000
    bars is 1.6 MB on the line and 5.9 MB behind it.
    """
    if answer.headers.get("Content-Encoding", "").strip().lower() not in ("gzip", "x-gzip"):
        body: bytes = answer.read(LARGEST_BODY)
        return body
    from isal import isal_zlib  # here: what asks no vendor need not load it

    packed = answer.read(LARGEST_BODY, decode_content=False)
    parts: list[bytes] = []
    room = LARGEST_BODY
    while room and packed.startswith(_GZIP_MAGIC):  # of several members each is unpacked, as RFC 1952 2.2 wants
        member = isal_zlib.decompressobj(wbits=16 + isal_zlib.MAX_WBITS)
        try:
            parts.append(member.decompress(packed, room))
        except isal_zlib.error as error:  # type: ignore[misc]  # its stub knows an instance, not the class
            raise urllib3.exceptions.DecodeError(f"a body that is no gzip: {error}") from error
        room -= len(parts[-1])
        if not member.eof and room:
            raise urllib3.exceptions.DecodeError("a body of gzip that was cut short")
        packed = member.unused_data
    if packed and not parts:
        raise urllib3.exceptions.DecodeError("a body that is no gzip")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def decode(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object that `body` is; None where it is none."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):  # it takes no NaN, and no integer of 400 digits
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            return None
    return found if isinstance(found, dict) else None


def parse_figure(value: object) -> float | None:
    """Return a number of an answer as float; None for what is none, or too large for one."""
    try:
        return float(value) if is_number(value) else None
    except OverflowError:  # an integer of 400 digits
        return None


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether `value` is a number; a bool is an int to isinstance, and is none."""
    return type(value) is int or type(value) is float


def retry_after_s(header: str | None, now: datetime) -> float | None:
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


def _reset_s(header: str | None, now: float) -> float | None:
    """Seconds until X-RateLimit-Reset, Unix seconds, as Alpaca sends it; None for what makes no sense.

    Source: https://docs.alpaca.markets/docs/market-data-faq
    """
    if header is None or not re.fullmatch(r"\s*\d{9,11}\s*", header, re.ASCII):
        return None
    return max(0.0, float(header) - now)


def quote_ticker(ticker: str) -> str:
    """Return `ticker` as one segment of a path. Raises SourceError for what cannot be a ticker."""
    if not ticker or len(ticker) > 64 or not ticker.isprintable() or not ticker.strip("."):
        raise SourceError(f"{ticker[:64]!r} is not a ticker. Correct [market] watchlist.")
    return quote(ticker, safe="", errors="replace")


def is_same_path(path: str, expected: str) -> bool:
    """Whether two paths are the same once unquoted: services differ in which characters they quote."""
    return unquote(path) == unquote(expected)


def _describe_tries(tries: int, how: str = "") -> str:
    return f", {tries} times{how}" if tries > 1 else ""


def _parse_address(base_url: str, vendor: Vendor) -> tuple[str, str, int, str]:
    """Return (scheme, host, port, path before ours) of `base_url`; warn where the key would travel in the clear."""
    try:
        parts = urlsplit(base_url)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError:
        scheme, host, port = "", None, None
    if scheme not in _PORTS or not host or parts.query or parts.fragment or parts.username or parts.password:
        raise ConfigError(
            f"[{vendor.section}] {vendor.address} must be https://host, with a port or a path where needed, and "
            f"without a password, a query or a fragment{'' if '@' in base_url else f'; it is {base_url!r}'}."
        )
    if scheme == "http" and host not in ("127.0.0.1", "::1", "localhost"):
        log.warning("the key travels unencrypted, use https base_url=%s", base_url)
    return scheme, host, port or _PORTS[scheme], parts.path.rstrip("/")


def _find_cause(error: BaseException) -> str:
    """Return the innermost reason in the operating system's words: "Connection refused"."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OSError) and inner.strerror:
            return inner.strerror
        inner = inner.__cause__ or inner.__context__
    return str(error)
