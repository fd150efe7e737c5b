"""The process that sends one message: an order as JSON on stdin, `{"fault": ..., "note": ...}` on stdout.

Started by `sending`, which kills it when its time is up: name servers, TLS and the libraries behind Apprise can all
hang in ways that no time-out reaches. The order comes on stdin because arguments are there for everybody to read.
"""

import json
import smtplib
import ssl
import sys
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate
from typing import Any, Final

from hftcl import __version__
from hftcl.errors import fold_line

_LONGEST_FAULT: Final = 300  # characters: a server's reason fits; a page of HTML that a proxy sent is cut


class UndeliveredError(Exception):
    """The message did not go out; the text says why."""


def main() -> None:
    """Carry out the order on stdin."""
    order = json.load(sys.stdin)
    try:
        note = {"mail": _send_mail, "apprise": _notify_apprise, "heartbeat": _send_heartbeat}[order["way"]](order)
    except UndeliveredError as error:
        answer = {"fault": str(error)[:_LONGEST_FAULT], "note": ""}
    else:
        answer = {"fault": "", "note": note[:_LONGEST_FAULT]}
    json.dump(answer, sys.stdout)


def _send_mail(order: dict[str, Any]) -> str:
    """Send a mail to the order's one recipient; without a `subject` only connect, log in and leave."""
    try:
        with _connect_encrypted(order) as server:
            if order["user"]:
                _log_in(server, order)
            if "subject" not in order:
                server.noop()
                return ""
            server.send_message(_build_mail(order), order["sender"], order["to"])
    except (OSError, smtplib.SMTPException) as error:
        raise UndeliveredError(f"{order['host']} port {order['port']} {_explain(error)}") from error
    return ""


def _log_in(server: smtplib.SMTP, order: dict[str, Any]) -> None:
    try:
        server.login(order["user"], order["password"])
    except UnicodeEncodeError:  # smtplib logs in with ASCII alone; the error's own text would quote the password
        fault = "SMTP_USER or SMTP_PASSWORD has a character that is not ASCII: set another one; nothing was sent"
        raise UndeliveredError(fault) from None


def _connect_encrypted(order: dict[str, Any]) -> smtplib.SMTP:
    """Return a connection over TLS to a server whose certificate is verified; before that no password is sent."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if order["implicit_tls"]:
        return smtplib.SMTP_SSL(order["host"], order["port"], timeout=order["timeout_s"], context=context)
    server = smtplib.SMTP(order["host"], order["port"], timeout=order["timeout_s"])
    try:
        server.starttls(context=context)  # raises where the server does not offer it
        server.ehlo()
    except BaseException:
        server.close()
        raise
    return server


def _explain(error: OSError | smtplib.SMTPException) -> str:
    """Return what went wrong with a mail server, as the end of a sentence."""
    match error:
        case smtplib.SMTPNotSupportedError():
            return f"cannot take a mail safely ({error}); nothing was sent"  # no STARTTLS, no way to log in
        case smtplib.SMTPAuthenticationError():
            return f"refused SMTP_USER or SMTP_PASSWORD: {error.smtp_code} {_to_text(error.smtp_error)}"
        case smtplib.SMTPRecipientsRefused():
            code, text = next(iter(error.recipients.values()))
            return f"refused the recipient: {code} {_to_text(text)}"
        case smtplib.SMTPResponseException():
            return f"refused: {error.smtp_code} {_to_text(error.smtp_error)}"
        case ssl.SSLCertVerificationError():
            return f"has a certificate that cannot be trusted ({error.verify_message}); nothing was sent"
        case ssl.SSLError():
            return f"speaks no TLS that is safe ({error.reason or error}); nothing was sent"
        case TimeoutError():
            return "did not answer in time"
        case _:
            return f"cannot be used: {_to_text(getattr(error, 'strerror', None) or str(error))}"


def _build_mail(order: dict[str, Any]) -> EmailMessage:
    mail = EmailMessage(policy=SMTP)
    mail["Subject"] = order["subject"]
    mail["From"] = order["sender"]
    mail["To"] = ", ".join(order["to"])
    mail["Date"] = formatdate(usegmt=True)
    mail["Message-ID"] = order["message_id"]
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no vacation notice in reply, please
    mail["X-Mailer"] = f"hftcl {__version__}"
    mail.set_content(order["text"])
    mail.add_alternative(order["html"], subtype="html")
    return mail


def _notify_apprise(order: dict[str, Any]) -> str:
    """Notify the address; without a `subject` only see whether Apprise knows it, which calls no server."""
    import logging

    import apprise as library

    apprise: Any = library  # its types differ from one release to the next
    service = apprise.Apprise.instantiate(order["url"], suppress_exceptions=True)
    if service is None:
        raise UndeliveredError("Apprise does not know such an address: check this part of ALERT_URLS")
    if "subject" not in order:
        return ""
    sender = apprise.Apprise()
    sender.add(service)
    with apprise.LogCapture(level=logging.WARNING, fmt="%(message)s") as said:
        done = sender.notify(body=order["text"], title=order["subject"], body_format=apprise.NotifyFormat.TEXT)
        why = said.getvalue().strip().splitlines()
    if not done:
        raise UndeliveredError(_to_text(why[-1]) if why else "the service did not take it")
    return ""


def _send_heartbeat(order: dict[str, Any]) -> str:
    import urllib.request

    request = urllib.request.Request(order["url"], headers={"User-Agent": f"hftcl/{__version__}"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=order["timeout_s"]):  # noqa: S310 - settings allow http(s) only
            return ""
    except OSError as error:  # an answer other than 2xx, too
        raise UndeliveredError(f"no answer: {error}") from error


def _to_text(raw: bytes | str) -> str:
    text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
    return fold_line(text)
