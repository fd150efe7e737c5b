"""How an alert reads: subject, plain text, HTML, and the JSON of `[alerts] command`. Pure."""

from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Any, Final

from hftcl.alerts.alert import FAULTS, Kind, Message
from hftcl.formats import format_moment

# Green for what went well, amber for what a person may want to look at; dark enough to read on white.
_FAULT, _NEUTRAL = "#b42318", "#344054"  # red for faults, grey for all other kinds; dark enough to read on white
_COLOURS: Final = {
    Kind.STOPPED: _FAULT,
    Kind.DEPLOYED: "#1a7f37",
    Kind.REJECTED: "#9a6700",
    Kind.INCONCLUSIVE: "#9a6700",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """One message as it goes out. `document`: plain values for JSON."""

    subject: str
    text: str
    html: str
    document: dict[str, Any]


def render_message(message: Message, *, host: str, version: str) -> Rendered:
    """Return `message` as it reads on every channel; `host` and `version` say which box and which hftcl it is from."""
    alert = message.alert
    times = f" ({message.count} times)" if message.count > 1 else ""
    notes = [*_describe_repetition(message), _write_footer(message, host, version)]
    document = {
        "kind": str(alert.kind),
        "subject": alert.subject,
        "text": alert.text,
        "at": alert.at.isoformat(),
        "last_at": message.last_at.isoformat(),
        "count": message.count,
        "again": message.again,
        "model_id": alert.model_id,
        "facts": [list(fact) for fact in alert.facts],
        "host": host,
    }
    return Rendered(
        subject=f"[hftcl] {alert.subject}{times}",
        text="\n\n".join(part for part in (alert.text, _write_table(alert.facts), *notes) if part) + "\n",
        html=_write_html(message, notes),
        document=document,
    )


def _describe_repetition(message: Message) -> list[str]:
    first, last = _format_time(message.alert.at), _format_time(message.last_at)
    if message.again:
        times = f"{message.count} more times, from {first} to {last}" if message.count > 1 else f"again, on {first}"
        return [f"It goes on: this has happened {times}, since it was last told."]
    return [f"This happened {message.count} times, from {first} to {last}."] if message.count > 1 else []


def _write_footer(message: Message, host: str, version: str) -> str:
    model = f", model {message.alert.model_id}" if message.alert.model_id else ""
    return f"{_format_time(message.last_at)}{model}, from hftcl {version} on {host}"


def _format_time(at: datetime) -> str:
    return f"{format_moment(at)} UTC"


def _write_table(facts: tuple[tuple[str, str], ...]) -> str:
    width = max((len(name) for name, _ in facts), default=0)
    return "\n".join(f"{name:<{width}}  {value}".rstrip() for name, value in facts)


def _write_html(message: Message, notes: list[str]) -> str:
    alert = message.alert
    colour = _FAULT if alert.kind in FAULTS else _COLOURS.get(alert.kind, _NEUTRAL)
    cell = "border-bottom:1px solid #eaecf0;padding:4px 16px 4px 0;text-align:left;vertical-align:top"
    rows = "".join(
        f'<tr><th scope="row" style="{cell};font-weight:normal">{escape(name)}</th>'
        f'<td style="{cell}">{escape(value)}</td></tr>'
        for name, value in alert.facts
    )
    return (
        '<!doctype html><html lang="en"><body style="font-family:sans-serif;font-size:14px;color:#101828">'
        f'<h1 style="font-size:18px;color:{colour}">{escape(alert.subject)}</h1>'
        + "".join(f"<p>{escape(line)}</p>" for line in alert.text.split("\n") if line.strip())
        + (f'<table style="border-collapse:collapse">{rows}</table>' if rows else "")
        + "".join(f'<p style="color:#667085">{escape(note)}</p>' for note in notes)
        + "</body></html>\n"
    )
