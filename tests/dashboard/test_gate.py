"""Who is let in: the token, its cookie, the name that was asked for, and nothing but reading."""

import asyncio
import socket
from typing import Any

import pytest

from hftcl.dashboard.gate import POLICY, Access, Gate, Message, Receive, Scope, Send, name_cookie

ACCESS = Access(token="t" * 20, cookie="c" * 20, any_address=False)
FAR = Access(token="t" * 20, cookie="c" * 20, any_address=True)


async def inside(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"inside"})


def ask(
    path: str = "/", *, host: str = "127.0.0.1:8420", cookie: str = "", query: str = "", method: str = "GET",
    access: Access = ACCESS,
) -> tuple[int, dict[bytes, bytes], bytes]:  # fmt: skip
    """Return status, headers and body of what the gate answers."""
    said: list[Message] = []

    async def send(message: Message) -> None:
        said.append(message)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    scope: dict[str, Any] = {
        "type": "http", "method": method, "path": path, "query_string": query.encode(),
        "headers": [(b"host", host.encode()), (b"cookie", cookie.encode())],
    }  # fmt: skip
    asyncio.run(Gate(inside, access)(scope, receive, send))
    return said[0]["status"], dict(said[0]["headers"]), said[1]["body"]


NAME = name_cookie("127.0.0.1:8420")
IN = f"{NAME}={ACCESS.cookie}"


def test_the_cookie_lets_in_and_every_answer_forbids_what_is_not_ours() -> None:
    status, headers, body = ask(cookie=f"other=1; {IN}")
    assert (status, body) == (200, b"inside")
    assert headers[b"content-security-policy"] == POLICY.encode()
    assert "unsafe" not in POLICY
    assert headers[b"cache-control"] == b"no-store"
    assert headers[b"referrer-policy"] == b"no-referrer"


@pytest.mark.parametrize("cookie", ["", f"{NAME}=", f"{NAME}={ACCESS.token}", f"{NAME}={'c' * 19}", "a=b;;=;"])
def test_without_its_cookie_nothing_is_shown(cookie: str) -> None:
    status, headers, body = ask(cookie=cookie)
    assert (status, b"inside" in body) == (403, False)
    assert b"content-security-policy" in headers


def test_the_token_becomes_a_cookie_that_no_script_and_no_other_site_uses() -> None:
    status, headers, _ = ask("/ticker/BRK.B", query=f"session=2026-01-05&token={ACCESS.token}")
    assert (status, headers[b"location"]) == (303, b"/ticker/BRK.B?session=2026-01-05")
    assert headers[b"set-cookie"] == f"{IN}; Path=/; HttpOnly; SameSite=Strict".encode()
    assert ask(query="token=" + "t" * 19, cookie=IN)[0] == 403, "a wrong token is told, whatever the cookie"
    assert ask("//elsewhere.example/x", query=f"token={ACCESS.token}")[1][b"location"] == b"/elsewhere.example/x"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:8420",
        "evil.example",
        "",
        "127.0.0.1.evil.example",
        "10.0.0.7:8420",
        "localhost.evil",
        "evil.example.",
    ],
)
def test_a_strangers_name_that_leads_here_is_refused(host: str) -> None:
    """DNS rebinding: the browser asks this machine, in the belief that it asks `evil.example`."""
    assert ask(host=host, cookie=IN)[0] == 421
    assert ask(host=host, query=f"token={ACCESS.token}")[0] == 421


@pytest.mark.parametrize(
    "host", ["127.0.0.1:9", "localhost:9000", "LOCALHOST", "[::1]:8420", "127.0.0.2", "localhost."]
)
def test_this_machine_may_be_asked_by_its_own_names_through_any_port(host: str) -> None:
    assert ask(host=host, cookie=f"{name_cookie(host)}={ACCESS.cookie}")[0] == 200


def test_a_query_with_more_fields_than_any_page_has_and_a_cookie_that_is_none_end_in_a_refusal_not_in_a_fault() -> None:
    many = "&".join(f"a{number}=1" for number in range(30))
    assert ask(query=f"{many}&token={ACCESS.token}")[0] == 403
    assert ask(query=many, cookie=IN)[0] == 200, "the page does without them"
    assert ask(cookie="a/b=c")[0] == 403
    assert ask(cookie=f"a/b=c; {IN}; =;")[0] == 200, "another program of this machine may set what it likes"


def test_two_pages_of_one_machine_do_not_take_each_other_s_cookie() -> None:
    other = Access(token="o" * 20, cookie="p" * 20, any_address=False)
    first = ask(query=f"token={ACCESS.token}")[1][b"set-cookie"].split(b";")[0]
    second = ask(host="127.0.0.1:8421", query=f"token={other.token}", access=other)[1][b"set-cookie"].split(b";")[0]
    kept = dict(pair.decode().split("=") for pair in (first, second))  # as a browser does: by name, whatever the port
    both = "; ".join(f"{name}={value}" for name, value in kept.items())
    assert ask(cookie=both)[0] == ask(host="127.0.0.1:8421", cookie=both, access=other)[0] == 200


def test_on_another_address_it_is_asked_by_that_address_and_by_no_foreign_name() -> None:
    assert ask(host="10.0.0.7:8420", cookie=IN, access=FAR)[0] == 200
    assert ask(host="evil.example", cookie=IN, access=FAR)[0] == 421


def test_names_of_this_machine_are_looked_up_once_and_not_for_each_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    names = iter(["Trader.Example"])  # a second look-up would raise
    monkeypatch.setattr(socket, "getfqdn", lambda: next(names))
    access = Access.create("t" * 20, any_address=True)
    assert ask(host="trader.example:8420", query=f"token={access.token}", access=access)[0] == 303
    assert [ask(host=f"{n}.example", access=access)[0] for n in range(3)] == [421] * 3
    assert Access.create(None, any_address=False).names == frozenset()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_it_only_reads(method: str) -> None:
    assert ask(method=method, cookie=IN)[0] == 405


def test_a_token_that_can_be_tried_out_is_refused_and_one_of_its_own_is_long() -> None:
    with pytest.raises(ValueError, match="16 characters"):
        Access.create("short", any_address=False)
    one, other = (Access.create(None, any_address=False) for _ in range(2))
    assert len(one.token) >= 40
    assert len({one.token, one.cookie, other.token, other.cookie}) == 4
