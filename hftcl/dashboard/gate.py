"""Who may see the page: the token, the cookie in its place, the name that was asked for, and what a browser may load.

An ASGI application around another one: nothing behind it runs for who is not let in.
"""

import hmac
import ipaddress
import secrets
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode

from hftcl.values import Value, value_class

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE: Final = "hftcl_dashboard"
"""How the cookie's name begins: a browser sends the cookies of an address to every port of it, so the port ends it."""
PARAMETER: Final = "token"
POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; worker-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Nothing inline, nothing from elsewhere: https://developer.mozilla.org/docs/Web/HTTP/Headers/Content-Security-Policy"""

_HEADERS: Final = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_SHORTEST: Final = 16  # characters of a token that a person chose: what is shorter can be tried out
_METHODS: Final = frozenset({"GET", "HEAD"})


@value_class(frozen=True, slots=True, kw_only=True)
class Access(Value):
    """What lets a browser in. token: in the address that is printed; cookie: what takes its place after that.

    any_address: whether the page listens on another address than this machine's own. is_kept: whether the token is a
    secret that outlives this run. names: of this machine, in small letters, by which other machines may ask for it.
    """

    token: str
    cookie: str
    any_address: bool
    is_kept: bool = False
    names: frozenset[str] = frozenset()

    @classmethod
    def create(cls, token: str | None, *, any_address: bool) -> "Access":
        """Return access by `token`, or by one that cannot be guessed. Raises ValueError for one that is too short."""
        if token is not None and len(token) < _SHORTEST:
            raise ValueError(f"a token has {_SHORTEST} characters or more")
        return cls(
            token=token or secrets.token_urlsafe(32),
            cookie=secrets.token_urlsafe(32),
            any_address=any_address,
            is_kept=token is not None,
            names=_find_own_names() if any_address else frozenset(),
        )


class Gate:
    """Lets those through who have the token or its cookie, and asked this machine by a name of its own."""

    def __init__(self, app: App, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on to the application."""
        if scope["type"] != "http":
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "")
        if not is_own_name(host, any_address=self._access.any_address, names=self._access.names):
            await _refuse(send, 421, "This page is asked for by the address that `hftcl dashboard` printed.")
        elif scope["method"] not in _METHODS:
            await _refuse(send, 405, "This page is read-only.")
        elif (token := _find_token(scope)) is not None:
            await self._admit(token, name_cookie(host), scope, send)
        elif _matches(_read_cookie(headers.get(b"cookie", ""), name_cookie(host)), self._access.cookie):
            await self._app(scope, receive, _add_headers(send))
        else:
            await _refuse(send, 403, "Open the address that `hftcl dashboard` printed: it holds the token.")

    async def _admit(self, token: str, name: str, scope: Scope, send: Send) -> None:
        if not _matches(token, self._access.token):
            await _refuse(send, 403, "The token is not the one of this run. Open the address that it printed.")
            return
        rest = [(key, value) for key, value in _parse_query(scope) if key != PARAMETER]
        # // at the beginning would be another machine's name
        place = "/" + quote(scope["path"].lstrip("/")) + (f"?{urlencode(rest)}" if rest else "")
        cookie = f"{name}={self._access.cookie}; Path=/; HttpOnly; SameSite=Strict"
        await _answer(send, 303, "", ((b"location", place.encode()), (b"set-cookie", cookie.encode())))


def _find_own_names() -> frozenset[str]:
    """Return this machine's names, in small letters; may ask a name server, so not while pages wait."""
    return frozenset(name.lower() for name in (socket.gethostname(), socket.getfqdn()))


def is_own_name(host: str, *, any_address: bool, names: frozenset[str] = frozenset()) -> bool:
    """Whether a Host header names this machine by what no stranger's name server can say.

    A page elsewhere may let its own name lead here (DNS rebinding); then its name stands in this header. An address in
    digits and `localhost` cannot be given another meaning. any_address: other addresses than the loopback are fine.
    names: other names of this machine, in small letters.

    >>> is_own_name("127.0.0.1:8420", any_address=False), is_own_name("evil.example:8420", any_address=False)
    (True, False)
    """
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    name = name.strip("[]").rstrip(".").lower()
    if name == "localhost":
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name in names
    return any_address or address.is_loopback


def _matches(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())


def _parse_query(scope: Scope) -> list[tuple[str, str]]:
    return parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True, max_num_fields=20)


def _find_token(scope: Scope) -> str | None:
    try:
        return next((value for key, value in _parse_query(scope) if key == PARAMETER), None)
    except ValueError:  # more fields than any page of ours has
        return None


def name_cookie(host: str) -> str:
    """Return the cookie's name by the port that the browser asked, which SSH may have led here from another machine.

    >>> name_cookie("127.0.0.1:8420"), name_cookie("[::1]")
    ('hftcl_dashboard_8420', 'hftcl_dashboard')
    """
    port = host.rpartition(":")[2]
    return f"{COOKIE}_{port}" if port.isascii() and port.isdigit() else COOKIE


def _read_cookie(header: str, name: str) -> str:
    """Return the value of a cookie of ours, "" where there is none.

    By hand: a browser sends those of every program on this machine, whatever its port, and http.cookies reads none
    where one of them has a name that it does not like.
    """
    pairs = (part.strip().partition("=") for part in header.split(";"))
    return next((value for key, _, value in pairs if key == name), "")


def _add_headers(send: Send) -> Send:
    async def send_on(message: Message) -> None:
        if message["type"] == "http.response.start":
            names = {name for name, _ in message["headers"]}
            more = [pair for pair in (*_HEADERS, (b"cache-control", b"no-store")) if pair[0] not in names]
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return send_on


async def _refuse(send: Send, status: int, text: str) -> None:
    await _answer(send, status, text + "\n", ())


async def _answer(send: Send, status: int, text: str, headers: tuple[tuple[bytes, bytes], ...]) -> None:
    body = text.encode()
    about = ((b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode()), *headers)
    start: Message = {"type": "http.response.start", "status": status, "headers": list(about)}
    await _add_headers(send)(start)
    await send({"type": "http.response.body", "body": body})
