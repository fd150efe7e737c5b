"""Log lines as an operator and a program read them: one a line, with what they are about, and without a secret."""

import io
import json
import logging
import os
import subprocess
import sys
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hftcl import logs
from hftcl.settings import Log

CANARY = "canary-9f/secret+key"


def lines(settings: Log, *, journal: bool = False, verbosity: int = 0, service: bool = True) -> io.StringIO:
    stream = io.StringIO()
    logs.configure(settings, verbosity, service=service, stream=stream, journal=journal)
    return stream


def document(stream: io.StringIO) -> dict[str, Any]:
    (line,) = stream.getvalue().splitlines()
    found = json.loads(line)
    assert isinstance(found, dict)
    return found


def test_a_line_says_when_how_bad_who_what_and_which_job_and_model() -> None:
    stream = lines(Log())
    with logs.bind_fields(job="check", model_id=None), logs.bind_fields(model_id="20260105_070000"):
        logging.getLogger("hftcl.market.store").warning("bars quarantined ticker=%s count=%d", "AAPL", 3)
    time, line = stream.getvalue().rstrip("\n").split(" ", 1)
    assert time.endswith("Z")
    assert line == (
        "WARNING hftcl.market.store bars quarantined ticker=AAPL count=3 job=check model_id=20260105_070000"
    )


def test_in_json_a_line_is_one_object() -> None:
    stream = lines(Log(format="json"))
    with logs.bind_fields(job="retrain"):
        logging.getLogger("hftcl.x").error("it failed", extra={"count": 3, "who": 'a "b"'})
    found = document(stream)
    assert found.pop("time").endswith("Z")
    assert found == {
        "level": "error",
        "logger": "hftcl.x",
        "event": "it failed",
        "job": "retrain",
        "count": 3,
        "who": 'a "b"',
    }


def test_what_is_bound_ends_with_its_block() -> None:
    stream = lines(Log())
    with logs.bind_fields(job="check"):
        pass
    logging.getLogger("hftcl").info("idle")
    assert "job=" not in stream.getvalue()


@pytest.mark.hazard(59)
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_secret_is_masked_in_every_line_of_ours_and_of_libraries(form: str) -> None:
    logs.hide("POLYGON_API_KEY", CANARY)
    stream = lines(Log(format=form))  # type: ignore[arg-type]
    logging.getLogger("urllib3").error("GET /v2?apiKey=%s", CANARY)
    logging.getLogger("urllib3").error("GET /v2?apiKey=%s", CANARY.replace("/", "%2F").replace("+", "%2B"))
    try:
        int(CANARY)
    except ValueError:
        logging.getLogger("hftcl").exception("it failed", extra={"key": CANARY})
    with logs.bind_fields(job=CANARY):
        logging.getLogger("other").warning({"key": CANARY})
    told = stream.getvalue()
    assert "canary-9f" not in told
    assert told.count("[POLYGON_API_KEY]") >= 5
    assert "ValueError" in told


@pytest.mark.hazard(59)
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_secret_of_quotes_and_invisible_letters_is_masked_however_it_is_written(form: str) -> None:
    awkward = "q'\"\\ /\u00f6\u200bzz"
    logs.hide("SMTP_PASSWORD", awkward)
    stream = lines(Log(format=form))  # type: ignore[arg-type]
    ways = (awkward, repr(awkward), quote(awkward), json.dumps(awkward), json.dumps(awkward, ensure_ascii=False))
    for text in ways:
        logging.getLogger("other").warning("sent %s", text)
        logging.getLogger("other").warning("sent", extra={"it": text})
    assert stream.getvalue().count("[SMTP_PASSWORD]") == 2 * len(ways)
    assert "zz" not in stream.getvalue()


def test_a_host_or_a_switch_is_no_secret() -> None:
    logs.hide("SMTP_HOST", "mail.example.org")
    logs.hide("ALERT_EMAIL_ENABLED", "true")
    assert logs.mask("mail.example.org is true") == "mail.example.org is true"


def test_each_of_several_addresses_is_a_secret() -> None:
    logs.hide("ALERT_URLS", "slack://T1/B2/canary77 tgram://canary88/1")
    assert logs.mask("to tgram://canary88/1 failed") == "to [ALERT_URLS] failed"


@pytest.mark.hazard(61)
@given(text=st.text(max_size=60))
def test_whatever_is_logged_is_one_printable_line(text: str) -> None:
    for form in ("text", "json"):
        stream = lines(Log(format=form))
        logging.getLogger("hftcl").error("heard %s", text, extra={"said": text})
        (line,) = stream.getvalue().split("\n")[:-1]
        assert line.isprintable()
    assert json.loads(line)["said"] == logs.mask(text)


@pytest.mark.parametrize(
    ("settings", "verbosity", "service", "shown"),
    [
        (Log(), 0, False, "WE"),
        (Log(), 1, False, "IWE"),
        (Log(), 0, True, "IWE"),
        (Log(), -1, True, "WE"),
        (Log(level="error"), 0, True, "E"),
        (Log(level="debug"), 1, True, "DIWE"),
    ],
)
def test_the_level_is_the_setting_s_and_the_command_s(settings: Log, verbosity: int, service: bool, shown: str) -> None:
    stream = lines(settings, verbosity=verbosity, service=service)
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        logging.getLogger("hftcl.a").log(level, "x")
    assert "".join(line.split()[1][0] for line in stream.getvalue().splitlines()) == shown


def test_the_journal_gets_the_priority_and_no_second_time() -> None:
    stream = lines(Log(), journal=True)
    logging.getLogger("hftcl").warning("careful")
    assert stream.getvalue() == "<4>WARNING hftcl careful\n"


def test_the_journal_is_known_by_its_stream() -> None:
    script = (
        "import os, sys, logging; from hftcl import logs; from hftcl.settings import Log\n"
        "about = os.fstat(2); os.environ['JOURNAL_STREAM'] = f'{about.st_dev}:{about.st_ino + int(sys.argv[1])}'\n"
        "logs.configure(Log()); logging.getLogger('hftcl').error('x')"
    )
    for other, begins in ((0, "<3>ERROR"), (1, "20")):
        done = subprocess.run(
            [sys.executable, "-c", script, str(other)], capture_output=True, text=True, check=True, env=dict(os.environ)
        )
        assert done.stderr.startswith(begins)


def test_warnings_of_libraries_are_lines_too() -> None:
    script = (
        "import warnings; from hftcl import logs; from hftcl.settings import Log\n"
        "logs.hide('SMTP_PASSWORD', 'canary-1'); logs.configure(Log(format='json')); warnings.warn('it is canary-1')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    (line,) = done.stderr.splitlines()
    assert "it is [SMTP_PASSWORD]" in json.loads(line)["event"]
