"""The ways out that are set up: mail, the addresses of Apprise, a command.

A channel turns a message into an order to the sender; what cannot be ordered is its `fault`, which a person mends.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from hftcl.alerts.message import Rendered
from hftcl.errors import ConfigError, StorageError
from hftcl.settings import Alerts

Secrets = Callable[[str], str | None]
"""Returns the secret of a name such as "SMTP_PASSWORD"; None where it is not set. Raises ConfigError."""

# Shown by the doctor and kept in the outbox: under a new name, what waits there would never go out.
MAIL: Final = "mail"
# As MAIL; the doctor looks for a program under this name, where it tries all others by sending.
COMMAND: Final = "command"

# What people write in an .env file; anything else is refused, not guessed.
_TRUE, _FALSE = frozenset({"true", "1", "yes", "on"}), frozenset({"false", "0", "no", "off"})
# 64 and 255: the longest local part and domain, RFC 5321 4.5.3.1; no comma or < that would add a receiver.
_NAME_DIGITS: Final = 8  # enough to tell a dozen addresses apart, and to find nothing by
_ADDRESS: Final = re.compile(r"[^\s@,<>\"]{1,64}@[^\s@,<>\"]{1,255}")
# 255: the longest domain, RFC 5321 4.5.3.1.2; the colon is for IPv6 addresses.
_HOST: Final = re.compile(r"[A-Za-z0-9._:-]{1,255}")
# Submission with TLS from the first byte (RFC 8314) and with STARTTLS (RFC 6409).
_IMPLICIT_PORT, _SUBMISSION_PORT = 465, 587


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One way out. order: what the sender is told, secrets included, so it is never shown; None where `fault` is."""

    name: str
    order: Mapping[str, Any] | None = field(default=None, repr=False)
    fault: str = ""

    def build_order(self, message: Rendered, *, message_id: str) -> dict[str, Any]:
        """Return the order to send `message`. message_id: the same for each try, so that a mail box keeps one."""
        return {
            **(self.order or {}),
            "message_id": message_id,
            "subject": message.subject,
            "text": message.text,
            "html": message.html,
            "document": message.document,
        }


def find_channels(settings: Alerts, secrets: Secrets, *, host: str) -> tuple[Channel, ...]:
    """Return the channels that settings and secrets ask for; one that cannot work as it is set up carries its fault.

    Empty where nothing is asked for. host: the name of this machine.
    """
    channels: list[Channel] = []
    try:
        wanted = _wants_mail(settings, secrets)
        if wanted:
            channels += _divide_by_recipient(_build_mail_order(settings, secrets, host))
    except (ConfigError, StorageError) as error:
        channels.append(Channel(name=MAIL, fault=" ".join(str(error).splitlines())))
    try:
        urls = (secrets("ALERT_URLS") or "").split()
    except (ConfigError, StorageError) as error:
        channels.append(Channel(name="apprise", fault=" ".join(str(error).splitlines())))
        urls = []
    for url in dict.fromkeys(urls):
        # Its place in the list would be another channel's after a correction; the hash tells none of its secrets.
        name = f"apprise {_hash_name(url)} ({_read_scheme(url)})"
        channels.append(Channel(name=name, order={"way": "apprise", "url": url}))
    if settings.command:
        channels.append(Channel(name=COMMAND, order={"way": "command", "command": list(settings.command)}))
    return tuple(channels)


def _divide_by_recipient(order: Mapping[str, Any]) -> list[Channel]:
    """Return a channel for each address: one that its server refuses, for ever or for now, is told and tried again."""
    if len(order["to"]) == 1:
        return [Channel(name=MAIL, order=order)]
    return [Channel(name=_name_recipient(to), order={**order, "to": [to]}) for to in dict.fromkeys(order["to"])]


def _name_recipient(address: str) -> str:
    """Return what tells recipients apart and shows little of them: outbox and log keep it."""
    domain = address.rpartition("@")[2]
    return f"{MAIL} {_hash_name(address)} ({address[:1]}...@{domain})"


def _hash_name(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_NAME_DIGITS]


def _wants_mail(settings: Alerts, secrets: Secrets) -> bool:
    said = secrets("ALERT_EMAIL_ENABLED")
    if said is None:
        return settings.email
    if said.lower() not in _TRUE | _FALSE:
        raise ConfigError(f"ALERT_EMAIL_ENABLED = {said[:20]!r}, but it must be true or false.")
    return said.lower() in _TRUE


def _build_mail_order(settings: Alerts, secrets: Secrets, host: str) -> dict[str, Any]:
    """Return the order for mail, everything checked that needs no network; every fault is told at once."""
    server, user, password = secrets("SMTP_HOST"), secrets("SMTP_USER"), secrets("SMTP_PASSWORD")
    port = secrets("SMTP_PORT") or str(_SUBMISSION_PORT)
    to = [part.strip() for part in (secrets("ALERT_EMAIL_TO") or "").split(",") if part.strip()]
    sender = settings.sender or (user if user and _ADDRESS.fullmatch(user) else f"hftcl@{host}")
    faults = []
    if not to:
        faults.append("ALERT_EMAIL_TO is not set: which address should the mails go to?")
    faults += [
        f"{name} holds {bad[:40]!r}, which is no mail address."
        for name, bad in _find_bad_addresses(to, settings.sender)
    ]
    if server is None:
        faults.append("SMTP_HOST is not set: which server takes the mails?")
    elif not _HOST.fullmatch(server):
        faults.append(f"SMTP_HOST = {server[:40]!r} is no host name.")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        faults.append(f"SMTP_PORT = {port[:20]!r}, but it must be a number from 1 to 65535.")
    if (user is None) != (password is None):
        faults.append(f"{'SMTP_USER' if user is None else 'SMTP_PASSWORD'} is not set, and the other one is.")
    if faults:
        raise ConfigError(*faults)
    implicit = settings.smtp_tls == "implicit" or (settings.smtp_tls == "auto" and int(port) == _IMPLICIT_PORT)
    return {
        "way": "mail",
        "host": server,
        "port": int(port),
        "implicit_tls": implicit,
        "user": user,
        "password": password,
        "sender": sender,
        "to": to,
    }


def _find_bad_addresses(to: list[str], sender: str) -> list[tuple[str, str]]:
    named = [("ALERT_EMAIL_TO", address) for address in to] + ([("[alerts] sender", sender)] if sender else [])
    return [(name, address) for name, address in named if not _ADDRESS.fullmatch(address)]


def _read_scheme(url: str) -> str:
    scheme = url.partition("://")[0]
    return scheme if re.fullmatch(r"[A-Za-z0-9+-]{1,20}", scheme) else "?"
