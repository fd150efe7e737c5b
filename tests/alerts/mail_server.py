"""A mail server on 127.0.0.1 that speaks SMTP over TLS, with certificates made for the test; see `serving`."""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

import trustme
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

USER, PASSWORD = "trader@example.org", "canary-password-7731"


@dataclass
class Mailbox:
    """What arrived, and what the server was told. refuse: answer to DATA instead of taking it."""

    port: int = 0
    mails: list[EmailMessage] = field(default_factory=list)
    logins: list[tuple[str, str, bool]] = field(default_factory=list)
    connections: int = 0
    refuse: str = ""
    bad_recipients: frozenset[str] = frozenset()

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:  # noqa: N802
        if address in self.bad_recipients:
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's names
        if self.refuse:
            return self.refuse
        mail = message_from_bytes(envelope.content, policy=default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        return "250 OK"

    def authenticate(self, server: Any, session: Any, envelope: Any, mechanism: str, data: LoginPassword) -> AuthResult:
        user, password = data.login.decode(), data.password.decode()
        self.logins.append((user, password, session.ssl is not None or server.transport.get_extra_info("ssl_object")))
        return AuthResult(success=(user, password) == (USER, PASSWORD), handled=False)


def context_for(ca: trustme.CA, *names: str) -> ssl.SSLContext:
    """Return the server's side of TLS, with a certificate of `ca` for `names`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert(*names).configure_cert(context)
    return context


@contextlib.contextmanager
def serving(context: ssl.SSLContext | None, *, implicit: bool = False) -> Iterator[Mailbox]:
    """Run a mail server; without a `context` it offers no STARTTLS. implicit: TLS from the first byte."""
    mailbox = Mailbox()
    loop = asyncio.new_event_loop()

    def protocol() -> SMTP:
        mailbox.connections += 1
        return SMTP(
            mailbox,
            hostname="127.0.0.1",
            tls_context=None if implicit else context,
            require_starttls=context is not None and not implicit,
            authenticator=mailbox.authenticate,
            auth_require_tls=not implicit and context is not None,
            loop=loop,
        )

    server = loop.run_until_complete(loop.create_server(protocol, "127.0.0.1", 0, ssl=context if implicit else None))
    mailbox.port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield mailbox
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        if pending := asyncio.all_tasks(loop):
            for task in pending:
                task.cancel()
            loop.run_until_complete(asyncio.wait(pending))
        loop.close()
