"""Mail, to a real server: over TLS that is verified, or not at all; and what is told where it does not go out."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from hftcl import sqlite
from hftcl.alerts import Alert, Alerts, Kind
from hftcl.alerts.outbox import OUTBOX
from hftcl.settings import Alerts as AlertSettings
from hftcl.settings import Settings
from tests.alerts.mail_server import PASSWORD, USER, Mailbox, context_for, serving

NOW = datetime(2026, 1, 5, 7, 0, tzinfo=UTC)
DEPLOYED = Alert(
    Kind.DEPLOYED,
    "New model 20260105_070000 deployed",
    "DEPLOYED: cleared every bar.",
    NOW,
    "20260105_070000",
    (("Sharpe 1.30, needs more than 0.50", "ok"), ("P(better) 0.71, needs 0.60", "ok")),
)


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusted(ca: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """Let every process of this test trust `ca`, as an administrator does for a mail server of their own."""
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return ca


def mailing(home: Path, port: int, *, tls: str = "auto", timeout_s: str = "20", **secrets: str) -> Alerts:
    settings = Settings()
    settings = replace(
        settings,
        paths=replace(settings.paths, home=str(home), env_file=str(home / ".env")),
        alerts=AlertSettings(smtp_tls=tls, timeout_s=float(timeout_s)),  # type: ignore[arg-type]
    )
    environ = {
        "ALERT_EMAIL_ENABLED": "true",
        "ALERT_EMAIL_TO": "a@example.org",
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(port),
        "SMTP_USER": USER,
        "SMTP_PASSWORD": PASSWORD,
    }
    return Alerts.from_settings(settings, environ | secrets)


@pytest.mark.parametrize(("implicit", "tls"), [(False, "auto"), (True, "implicit")])
def test_an_alert_arrives_as_text_and_html_with_the_verdict_s_table(
    trusted: trustme.CA, tmp_path: Path, implicit: bool, tls: str
) -> None:
    with serving(context_for(trusted, "127.0.0.1"), implicit=implicit) as mailbox:
        alerts = mailing(tmp_path, mailbox.port, tls=tls)
        alerts.tell(DEPLOYED)
        done = alerts.deliver(NOW)
    assert (done.sent, done.waiting, done.faults) == (1, 0, ())
    (mail,) = mailbox.mails
    assert mail["Subject"] == "[hftcl] New model 20260105_070000 deployed"
    assert mail["To"] == "a@example.org"
    assert mail["From"] == USER
    assert mail["Auto-Submitted"] == "auto-generated"
    plain, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert plain is not None
    assert html is not None
    for part in (plain.get_content(), html.get_content()):
        assert "Sharpe 1.30, needs more than 0.50" in part
        assert "P(better) 0.71" in part
    assert "<table" in html.get_content()
    assert [login[:2] for login in mailbox.logins] == [(USER, PASSWORD)]
    assert mailbox.logins[0][2], "the password went over TLS"


def refused_for_safety(home: Path, mailbox: Mailbox, **options: str) -> str:
    """Return why an alert was not sent; it waits, and neither mail nor password have reached the server."""
    alerts = mailing(home, mailbox.port, **options)
    alerts.tell(DEPLOYED)
    done = alerts.deliver(NOW)
    assert (done.sent, done.waiting) == (0, 1)
    assert (mailbox.mails, mailbox.logins) == ([], [])
    (fault,) = done.faults
    return fault


@pytest.mark.hazard(62)
def test_a_server_without_starttls_gets_neither_password_nor_mail(tmp_path: Path) -> None:
    with serving(None) as mailbox:
        assert "STARTTLS" in refused_for_safety(tmp_path, mailbox)


@pytest.mark.hazard(62)
@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("flaw", ["unknown authority", "other name"])
def test_a_certificate_that_cannot_be_verified_ends_it(
    trusted: trustme.CA, tmp_path: Path, flaw: str, implicit: bool
) -> None:
    context = context_for(trusted, "other.example") if flaw == "other name" else context_for(trustme.CA(), "127.0.0.1")
    with serving(context, implicit=implicit) as mailbox:
        fault = refused_for_safety(tmp_path, mailbox, tls="implicit" if implicit else "starttls")
    assert "certificate that cannot be trusted" in fault


@pytest.mark.hazard(62)
@pytest.mark.hazard(59)
def test_a_refused_login_is_told_and_the_password_is_nowhere(
    trusted: trustme.CA, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(context_for(trusted, "127.0.0.1")) as mailbox:
        alerts = mailing(tmp_path, mailbox.port, SMTP_PASSWORD="another-canary-992")  # noqa: S106 - a canary
        alerts.tell(replace(DEPLOYED, text="the password is another-canary-992"))
        done = alerts.deliver(NOW)
    assert "refused SMTP_USER or SMTP_PASSWORD" in done.faults[0]
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"another-canary-992" not in written
    assert b"[SMTP_PASSWORD]" in written
    assert "another-canary-992" not in caplog.text + repr(alerts.channels) + str(done)


@pytest.mark.hazard(62)
def test_a_password_that_is_not_ascii_is_told_and_not_quoted(trusted: trustme.CA, tmp_path: Path) -> None:
    umlaut = "geheimnis-\u00fc"
    with serving(context_for(trusted, "127.0.0.1")) as mailbox:
        alerts = mailing(tmp_path, mailbox.port, SMTP_PASSWORD=umlaut)
        alerts.tell(DEPLOYED)
        (fault,) = alerts.deliver(NOW).faults
    assert "SMTP_PASSWORD has a character that is not ASCII" in fault
    assert "\u00fc" not in fault
    assert "xfc" not in fault


def test_what_a_server_refuses_waits_and_is_sent_when_it_takes_it(trusted: trustme.CA, tmp_path: Path) -> None:
    with serving(context_for(trusted, "127.0.0.1")) as mailbox:
        mailbox.refuse = "451 greylisted, try again"
        alerts = mailing(tmp_path, mailbox.port)
        alerts.tell(DEPLOYED)
        assert "451" in alerts.deliver(NOW).faults[0]
        mailbox.refuse = ""
        assert alerts.deliver(NOW + timedelta(seconds=59)).sent == 0, "it is not tried at once"
        assert alerts.deliver(NOW + timedelta(seconds=61)).sent == 1
    assert len(mailbox.mails) == 1


def test_a_recipient_that_is_refused_is_told_and_tried_again_and_keeps_the_mail_from_none(
    trusted: trustme.CA, tmp_path: Path
) -> None:
    with serving(context_for(trusted, "127.0.0.1")) as mailbox:
        mailbox.bad_recipients = frozenset({"bob@example.org"})
        alerts = mailing(tmp_path, mailbox.port, ALERT_EMAIL_TO="a@example.org, bob@example.org")
        number = alerts.put(DEPLOYED)
        done = alerts.deliver(NOW)
        assert (done.sent, done.waiting) == (1, 1)
        assert "(b...@example.org): " in done.faults[0]
        assert "refused the recipient: 5" in done.faults[0]
        assert number is not None
        assert len(alerts.find_unsent(number)) == 1, "a test alert is not said to have gone out"
        mailbox.bad_recipients = frozenset()
        assert alerts.deliver(NOW + timedelta(seconds=61)).sent == 1
    assert [mail["To"] for mail in mailbox.mails] == ["a@example.org", "bob@example.org"]


@contextlib.contextmanager
def trickling(every_s: float) -> Iterator[int]:
    """Yield the port of a server that greets, and never ends its line: a byte each `every_s` seconds."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        closing = threading.Event()

        def serve() -> None:
            with contextlib.suppress(OSError), listening.accept()[0] as connection:
                connection.sendall(b"220 ")
                while not closing.wait(every_s):
                    connection.sendall(b"x")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            closing.set()
            # a sender that ran out of time before it called leaves `accept` waiting, which a close would not wake
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.hazard(62)
@pytest.mark.parametrize("every_s", [0.2, 60], ids=["trickles", "silent"])
def test_a_server_that_does_not_come_to_the_point_is_left_in_time(tmp_path: Path, every_s: float) -> None:
    with trickling(every_s) as port:
        alerts = mailing(tmp_path, port, timeout_s="1")
        alerts.tell(DEPLOYED)
        done = alerts.deliver(NOW, timeout_s=5)  # without a limit this never returns
    assert (done.sent, done.waiting) == (0, 1)


@pytest.mark.hazard(61)
def test_line_ends_in_what_is_told_make_no_header_and_markup_no_html(trusted: trustme.CA, tmp_path: Path) -> None:
    hostile = Alert(
        Kind.ERROR,
        "it failed\r\nBcc: thief@example.org\r\n\r\nbody",
        "<script>alert(1)</script>\x1b[2J\r\n.\r\nMAIL FROM:<x>\x00",
        NOW,
        "x\r\nX-Evil: 1",
        (("=cmd|' /C calc'!A0\r\nBcc: t@example.org", "<b>\x1b]0;title\x07"),),
    )
    with serving(context_for(trusted, "127.0.0.1")) as mailbox:
        alerts = mailing(tmp_path, mailbox.port)
        alerts.tell(hostile)
        assert alerts.deliver(NOW).sent == 1
    (mail,) = mailbox.mails
    assert mail["Bcc"] is None
    assert mail["X-Evil"] is None
    assert mail["Subject"] == "[hftcl] it failed Bcc: thief@example.org body"
    html, plain = mail.get_body(("html",)), mail.get_body(("plain",))
    assert html is not None
    assert plain is not None
    assert "<script" not in html.get_content()
    assert not {"\x1b", "\x00", "\x07"} & set(html.get_content() + plain.get_content())


@pytest.mark.parametrize(
    ("secrets", "told"),
    [
        ({"SMTP_HOST": ""}, "SMTP_HOST is not set"),
        ({"ALERT_EMAIL_TO": ""}, "ALERT_EMAIL_TO is not set"),
        ({"ALERT_EMAIL_TO": "nobody"}, "no mail address"),
        ({"SMTP_PORT": "smtp"}, "SMTP_PORT"),
        ({"SMTP_PORT": "0"}, "SMTP_PORT"),
        ({"SMTP_HOST": "host name"}, "no host name"),
        ({"SMTP_PASSWORD": ""}, "SMTP_PASSWORD is not set"),
        ({"ALERT_EMAIL_ENABLED": "perhaps"}, "true or false"),
    ],
)
def test_a_mail_set_up_that_cannot_work_is_told_and_its_alerts_wait(
    tmp_path: Path, secrets: dict[str, str], told: str
) -> None:
    alerts = mailing(tmp_path, 25, **secrets)
    alerts.tell(DEPLOYED)
    done = alerts.deliver(NOW)
    assert told in done.faults[0]
    assert done.waiting == 1


def test_no_mail_is_set_up_unless_it_is_asked_for(tmp_path: Path) -> None:
    assert mailing(tmp_path, 25, ALERT_EMAIL_ENABLED="false").channels == ()
    alerts = mailing(tmp_path, 25, ALERT_EMAIL_ENABLED="")
    assert alerts.channels == ()
    alerts.tell(DEPLOYED)
    assert alerts.deliver(NOW).waiting == 0
    assert list(tmp_path.iterdir()) == []


def test_each_try_of_one_alert_is_the_same_mail_to_a_mail_box(trusted: trustme.CA, tmp_path: Path) -> None:
    with serving(context_for(trusted, "127.0.0.1")) as mailbox:
        alerts = mailing(tmp_path, mailbox.port)
        alerts.tell(DEPLOYED)
        alerts.deliver(NOW)
        with contextlib.closing(sqlite.open_to_write(tmp_path / "alerts.sqlite", OUTBOX)) as db:
            db.execute("UPDATE deliveries SET ended = NULL")  # as after a kill between sending and recording it
        alerts.deliver(NOW)
    first, second = mailbox.mails
    assert first["Message-ID"] == second["Message-ID"]
