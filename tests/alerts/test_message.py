"""How an alert reads on every way out, and what is taken out of it before; a fault is known again by its words."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from hftcl.alerts import Alert, Kind
from hftcl.alerts.alert import Message, clean_alert
from hftcl.alerts.message import Rendered, render_message

AT = datetime(2026, 1, 9, 2, 5, 59, tzinfo=UTC)
LATER = AT + timedelta(hours=2)
ALERT = Alert(
    kind=Kind.REJECTED,
    subject="Candidate rejected",
    text="It lost.\n\nIt will be tried again.",
    at=AT,
    model_id="m",
    facts=(("exam", "10 sessions"), ("a longer name", "")),
)
ONCE = Message(number=7, alert=ALERT, count=1, last_at=AT, again=False)


def render(message: Message) -> Rendered:
    return render_message(message, host="box", version="1.2")


def test_an_alert_is_its_text_then_its_facts_in_columns_then_when_and_where_it_is_from() -> None:
    rendered = render(ONCE)
    assert rendered.subject == "[hftcl] Candidate rejected"
    assert rendered.text == (
        "It lost.\n\nIt will be tried again.\n\n"
        "exam           10 sessions\n"
        "a longer name\n\n"
        "2026-01-09 02:05 UTC, model m, from hftcl 1.2 on box\n"
    )
    bare = render(replace(ONCE, alert=replace(ALERT, facts=(), model_id=None)))
    assert bare.text.endswith("tried again.\n\n2026-01-09 02:05 UTC, from hftcl 1.2 on box\n")


@pytest.mark.parametrize(
    ("count", "again", "last_at", "subject", "told"),
    [
        (3, False, LATER, " (3 times)", "This happened 3 times, from 2026-01-09 02:05 UTC to 2026-01-09 04:05 UTC."),
        (
            3,
            True,
            LATER,
            " (3 times)",
            "It goes on: this has happened 3 more times, from 2026-01-09 02:05 UTC to 2026-01-09 04:05 UTC, since it "
            "was last told.",
        ),
        (1, True, AT, "", "It goes on: this has happened again, on 2026-01-09 02:05 UTC, since it was last told."),
    ],
)
def test_a_fault_that_comes_again_says_how_often_and_whether_it_was_told_before(
    count: int, again: bool, last_at: datetime, subject: str, told: str
) -> None:
    rendered = render(replace(ONCE, count=count, again=again, last_at=last_at))
    assert rendered.subject == f"[hftcl] Candidate rejected{subject}"
    assert f"\n\n{told}\n\n{last_at:%Y-%m-%d %H:%M} UTC, model m" in rendered.text, "it is dated by the last time"
    assert f">{told}</p>" in rendered.html
    assert (rendered.document["count"], rendered.document["again"]) == (count, again)
    assert rendered.document["last_at"] == last_at.isoformat()


def test_the_document_for_a_command_of_the_users_has_every_field_as_a_plain_value() -> None:
    assert render(ONCE).document == {
        "kind": "rejected",
        "subject": "Candidate rejected",
        "text": "It lost.\n\nIt will be tried again.",
        "at": "2026-01-09T02:05:59+00:00",
        "last_at": "2026-01-09T02:05:59+00:00",
        "count": 1,
        "again": False,
        "model_id": "m",
        "facts": [["exam", "10 sessions"], ["a longer name", ""]],
        "host": "box",
    }


def test_a_fault_and_the_end_of_a_service_are_red_and_a_deployment_is_green() -> None:
    colours = {}
    for kind in Kind:
        html = render(replace(ONCE, alert=replace(ALERT, kind=kind))).html
        colours[kind] = html.partition('<h1 style="font-size:18px;color:')[2].partition('"')[0]
    red = {str(kind) for kind, colour in colours.items() if colour == "#b42318"}
    assert red == {"error", "halted", "reload_refused", "data_hole", "behind", "stopped"}
    assert colours[Kind.DEPLOYED] == "#1a7f37"
    assert colours[Kind.REJECTED] == colours[Kind.INCONCLUSIVE] == "#9a6700"
    assert colours[Kind.DIGEST] == colours[Kind.TEST] == "#344054"


def test_markup_in_an_alert_is_text_in_its_html_and_an_empty_line_no_paragraph() -> None:
    alert = replace(ALERT, subject="<b>s</b>", text="a < b\n \nc", facts=(("<i>", "&"),))
    html = render(replace(ONCE, alert=alert)).html
    assert "<h1 " in html
    assert ">&lt;b&gt;s&lt;/b&gt;</h1><p>a &lt; b</p><p>c</p><table" in html
    assert ">&lt;i&gt;</th>" in html
    assert ">&amp;</td>" in html
    assert "<table" not in render(replace(ONCE, alert=replace(alert, facts=()))).html


# --- what is sent of it -----------------------------------------------------------------------------------------------


def mask(text: str) -> str:
    return text.replace("hunter2", "***")


def test_secrets_and_control_characters_leave_every_part_of_an_alert() -> None:
    alert = Alert(
        kind=Kind.ERROR,
        subject="a\r\nBcc: x hunter2\x1b[2J",
        text="one\x00hunter2\r\ntwo\rthree\n",
        at=AT,
        model_id="m\nhunter2",
        facts=(("name\nhunter2", "value\thunter2"),),
    )
    cleaned = clean_alert(alert, mask)
    assert cleaned.subject == "a Bcc: x *** [2J"
    assert cleaned.text == "one ***\ntwo\nthree"
    assert cleaned.model_id == "m ***"
    assert cleaned.facts == (("name ***", "value ***"),)
    assert clean_alert(replace(alert, model_id=None), mask).model_id is None


def test_an_alert_is_cut_to_what_a_mail_box_takes_and_a_cut_is_marked() -> None:
    alert = replace(ALERT, subject="x" * 201, text="y" * 20_001, facts=tuple((str(n), "v" * 200) for n in range(201)))
    cleaned = clean_alert(alert, mask)
    assert cleaned.subject == "x" * 196 + " ..."
    assert len(cleaned.text) == 20_000
    assert len(cleaned.facts) == 200
    assert cleaned.facts[-1] == ("199", "v" * 200), "a line of just that length is whole"


def test_a_fault_is_the_same_whatever_its_figures_and_another_where_its_words_or_its_kind_differ() -> None:
    fault = replace(ALERT, kind=Kind.DATA_HOLE, subject="no bars", text="None since 14:31, for 12 minutes.")
    assert fault.key == replace(fault, text="None since 9:05, for 120 minutes.", at=AT + timedelta(1)).key
    assert fault.key != replace(fault, text="None since 14:31, for 12 hours.").key
    assert fault.key != replace(fault, subject="late bars").key
    assert fault.key != replace(fault, kind=Kind.BEHIND).key
    told_once = {"error", "halted", "reload_refused", "data_hole", "behind"}
    assert {str(kind) for kind in Kind if replace(fault, kind=kind).key is not None} == told_once
