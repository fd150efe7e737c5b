"""The outbox and the other ways out: what waits, what is counted, what is tried again, and that nobody is held up."""

import contextlib
import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hftcl import durable
from hftcl.alerts import Alert, Alerts, Kind
from hftcl.alerts.outbox import KEPT, OUTBOX, RETRIES_S
from hftcl.alerts.sending import _wait_for_group as wait_for_group
from hftcl.home import Home
from hftcl.settings import Alerts as AlertSettings
from hftcl.settings import Settings
from hftcl.sqlite.opening import _read_version as read_version
from tests.installed import PATIENCE_S
from tests.processes import lives, wait_until_ended

NOW = datetime(2026, 1, 5, 7, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def told_to(home: Path, *command: str, urls: str = "", **settings: object) -> Alerts:
    """Return alerts of `home` that go to a command and to addresses of Apprise."""
    tree = Settings()
    paths = replace(tree.paths, home=str(home), env_file=str(home / "none.env"))
    section = replace(AlertSettings(), command=command, **settings)  # type: ignore[arg-type]
    return Alerts.from_settings(replace(tree, paths=paths, alerts=section), {"ALERT_URLS": urls})


def writing(home: Path) -> tuple[str, ...]:
    """Return a command that appends what it gets to the file `heard`."""
    return ("/bin/sh", "-c", f"cat >> '{home}/heard'")


def heard(home: Path) -> list[dict[str, object]]:
    path = home / "heard"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def error(at: datetime, text: str = "The source is down, try 3.") -> Alert:
    return Alert(Kind.ERROR, "The daily check failed", text, at)


def test_a_command_gets_the_event_as_json_on_stdin(tmp_path: Path) -> None:
    alerts = told_to(tmp_path, *writing(tmp_path))
    alerts.tell(Alert(Kind.DEPLOYED, "New model", "It cleared every bar.", NOW, "m1", (("Sharpe", "1.2"),)))
    assert alerts.deliver(NOW).sent == 1
    (event,) = heard(tmp_path)
    assert (event["kind"], event["model_id"], event["facts"]) == ("deployed", "m1", [["Sharpe", "1.2"]])
    assert event["at"] == NOW.isoformat()


def test_the_same_fault_again_and_again_is_one_message_with_a_count_and_then_one_a_day(tmp_path: Path) -> None:
    alerts = told_to(tmp_path, *writing(tmp_path))
    for minute in range(3):
        alerts.tell(error(NOW + timedelta(minutes=minute), f"The source is down, try {minute}."))
    alerts.deliver(NOW + timedelta(minutes=3))
    for hour in range(1, 24):
        alerts.tell(error(NOW + hour * HOUR))
        alerts.deliver(NOW + hour * HOUR)
    assert [event["count"] for event in heard(tmp_path)] == [3]
    alerts.deliver(NOW + 25 * HOUR)
    assert [(event["count"], event["again"]) for event in heard(tmp_path)] == [(3, False), (23, True)]
    alerts.tell(error(NOW + timedelta(days=9)))
    alerts.deliver(NOW + timedelta(days=9))
    assert [(event["count"], event["again"]) for event in heard(tmp_path)][2:] == [(1, False)]


def test_what_cannot_be_stored_is_sent_all_the_same_once_and_tried_until_it_arrives(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "alerts.sqlite").mkdir(parents=True)  # nothing can be written where the outbox is to be
    late = home / "arrived"
    command = ("/bin/sh", "-c", f"test -e '{late}' && cat >> '{home}/heard'")
    alerts = told_to(home, *command)
    for minute in range(3):  # a full disk is told again with every minute
        alerts.tell(error(NOW + timedelta(minutes=minute), "Nothing can be written."))
    done = alerts.deliver(NOW)
    assert (done.sent, heard(home)) == (0, [])
    assert any("command" in fault for fault in done.faults)
    late.touch()
    assert alerts.deliver(NOW + HOUR).sent == 1
    assert [event["text"] for event in heard(home)] == ["Nothing can be written."]
    assert alerts.deliver(NOW + HOUR).sent == 0
    (home / "alerts.sqlite").rmdir()
    alerts.tell(error(NOW + 2 * HOUR, "It can be written again."))
    assert alerts.deliver(NOW + 2 * HOUR).sent == 1
    assert len(heard(home)) == 2


def test_another_fault_and_a_verdict_are_told_at_once_each_time(tmp_path: Path) -> None:
    alerts = told_to(tmp_path, *writing(tmp_path))
    verdict = Alert(Kind.REJECTED, "Candidate rejected", "P(better) 0.50, needs 0.60", NOW)
    for each in (error(NOW), error(NOW, "The disk is full."), verdict, verdict):
        alerts.tell(each)
    assert alerts.deliver(NOW).sent == 4


def test_what_fails_is_tried_again_later_and_later_and_given_up_after_two_weeks(tmp_path: Path) -> None:
    alerts = told_to(tmp_path, "/bin/sh", "-c", f"echo x >> {tmp_path}/tries; echo 'no way' >&2; exit 7")
    alerts.tell(error(NOW))
    at = NOW
    done = alerts.deliver(at)
    assert done.faults == ("command: /bin/sh failed with status 7: no way",)
    for number, delay in enumerate((*RETRIES_S, RETRIES_S[-1]), start=1):
        assert alerts.deliver(at + timedelta(seconds=delay - 1)).faults == ()
        at += timedelta(seconds=delay)
        assert alerts.deliver(at).faults != ()
        assert len((tmp_path / "tries").read_text().splitlines()) == number + 1
    assert alerts.find_oldest_stuck() == (NOW, "command: /bin/sh failed with status 7: no way")
    assert alerts.deliver(NOW + KEPT + HOUR).waiting == 0


def test_a_clock_that_was_ahead_does_not_keep_a_message_for_years(tmp_path: Path) -> None:
    alerts = told_to(tmp_path, *writing(tmp_path))
    alerts.tell(error(NOW + timedelta(days=3650)))
    assert alerts.deliver(NOW).sent == 1


def test_one_way_that_fails_does_not_keep_a_message_from_the_others_nor_send_it_twice(tmp_path: Path) -> None:
    alerts = told_to(tmp_path, *writing(tmp_path), urls="nonsense://CANARY-TOKEN")
    alerts.tell(error(NOW))
    done = alerts.deliver(NOW)
    assert (done.sent, done.waiting, len(done.faults)) == (1, 1, 1)
    alerts.deliver(NOW + timedelta(minutes=2))
    assert len(heard(tmp_path)) == 1
    assert "CANARY" not in str(done) + repr(alerts.channels)


def test_a_message_whose_channel_was_corrected_meanwhile_goes_out_on_the_new_one_once(tmp_path: Path) -> None:
    with listening() as (address, requests):
        told_to(tmp_path, urls="nonsense://CANARY-TOKEN").tell(error(NOW))
        corrected = told_to(tmp_path, urls=f"json://{address}")
        corrected.deliver(NOW)
        assert corrected.deliver(NOW).sent == 1
        assert corrected.deliver(NOW + HOUR).waiting == 0
    assert len(requests) == 1


def test_a_channel_keeps_its_name_where_another_is_put_before_it(tmp_path: Path) -> None:
    before = told_to(tmp_path, urls="json://one").channels
    after = told_to(tmp_path, urls="json://two json://one").channels
    assert before[0].name == after[1].name
    assert after[0].name != after[1].name


def test_a_fault_that_lasts_is_logged_once_and_not_at_every_round(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    alerts = told_to(tmp_path, *writing(tmp_path))
    alerts.tell(error(NOW))
    (tmp_path / "alerts.sqlite").write_bytes(b"x" * 8192)
    for _ in range(20):
        assert alerts.deliver(NOW).faults
    assert caplog.text.count("alerts not delivered") == 1


@contextlib.contextmanager
def listening(status: int = 200) -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """Yield the address of a web server, without scheme, and the (method, body) of every request."""
    requests: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append((self.command, self.rfile.read(int(self.headers.get("Content-Length", 0)))))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_GET  # noqa: N815 - http.server's name

        def log_message(self, *_: object) -> None:
            """Say nothing: what arrived is in `requests`."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}", requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_apprise_brings_an_alert_to_whatever_the_user_has(tmp_path: Path) -> None:
    with listening() as (address, requests):
        alerts = told_to(tmp_path, urls=f"json://{address}/hook")
        alerts.tell(Alert(Kind.DEPLOYED, "New model", "It cleared every bar.", NOW, "m1", (("Sharpe", "1.2"),)))
        assert alerts.deliver(NOW).sent == 1
    ((method, body),) = requests
    document = json.loads(body)
    assert (method, document["title"]) == ("POST", "[hftcl] New model")
    assert "It cleared every bar." in document["message"]
    assert "Sharpe  1.2" in document["message"]


def test_the_heartbeat_is_fetched_and_its_failure_is_no_error(tmp_path: Path) -> None:
    assert told_to(tmp_path).send_heartbeat()
    with listening() as (address, requests):
        assert told_to(tmp_path, heartbeat_url=f"http://{address}/ping").send_heartbeat()
    assert [method for method, _ in requests] == ["GET"]
    with listening(500) as (address, _):
        assert not told_to(tmp_path, heartbeat_url=f"http://{address}/ping").send_heartbeat()
    assert not told_to(tmp_path, heartbeat_url="http://127.0.0.1:9/ping").send_heartbeat()


def test_a_command_that_never_ends_is_ended_with_what_it_started(tmp_path: Path) -> None:
    child = tmp_path / "child"
    script = f"sleep 300 & echo $! > '{child}.new'; mv '{child}.new' '{child}'; sleep 300"
    for limit_s in (0.7, 7.0, 70.0):  # a loaded machine may need more than the first to start a shell and a program
        alerts = told_to(tmp_path / f"{limit_s}", "/bin/sh", "-c", script, timeout_s=limit_s)
        alerts.tell(error(NOW))
        assert "did not end within" in alerts.deliver(NOW).faults[0]
        if child.exists():
            break
    wait_until_ended(int(child.read_text()), limit_s=60)


def test_what_a_command_started_is_waited_for_before_the_next_is_sent() -> None:
    with subprocess.Popen(["/bin/sleep", "300"], start_new_session=True) as child:

        def end() -> None:
            child.kill()
            child.wait()

        threading.Timer(0.1, end).start()
        wait_for_group(child.pid, PATIENCE_S)
        assert not lives(child.pid)


def test_what_cannot_be_killed_is_not_waited_for_longer_than_told() -> None:
    with subprocess.Popen(["/bin/sleep", "300"], start_new_session=True) as child:
        wait_for_group(child.pid, 0.1)
        assert lives(child.pid)
        child.kill()


def test_a_command_does_not_get_our_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYGON_API_KEY", "canary")
    monkeypatch.setenv("HARMLESS", "kept")
    alerts = told_to(tmp_path, "/bin/sh", "-c", f"env > '{tmp_path}/env'")
    alerts.tell(error(NOW))
    assert alerts.deliver(NOW).sent == 1
    assert "HARMLESS=kept" in (tmp_path / "env").read_text()
    assert "canary" not in (tmp_path / "env").read_text()


def test_one_process_sends_at_a_time_and_the_other_goes_on_at_once(tmp_path: Path) -> None:
    alerts = told_to(tmp_path, *writing(tmp_path))
    alerts.tell(error(NOW))
    with durable.lock(Home(tmp_path).alerts_lock, "delivery of alerts"):
        assert alerts.deliver(NOW).waiting == 1
    assert alerts.deliver(NOW).sent == 1


def test_a_bot_does_not_wait_for_its_alerts(tmp_path: Path) -> None:
    alerts = told_to(tmp_path, "/bin/sh", "-c", f"cat > '{tmp_path}/heard'")
    alerts.tell(error(NOW))
    alerts.deliver_in_background(lambda: NOW)
    thread = next(each for each in threading.enumerate() if each.name == "alerts")
    thread.join()
    assert len(heard(tmp_path)) == 1


def test_many_processes_tell_at_once_and_each_fault_is_counted(tmp_path: Path) -> None:
    script = (
        "import sys; from datetime import UTC, datetime; from pathlib import Path\n"
        "from hftcl.alerts import Alert, Alerts, Kind; from hftcl.settings import Alerts as Section\n"
        "alerts = Alerts(Path(sys.argv[1]), Section(command=('x',)), lambda name: None)\n"
        "for n in range(8): alerts.tell(Alert(Kind.ERROR, 'it failed', f'{n}', datetime(2026, 1, 5, tzinfo=UTC)))\n"
    )
    children = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path)]) for _ in range(3)]
    assert [child.wait(PATIENCE_S) for child in children] == [0, 0, 0]
    told_to(tmp_path, *writing(tmp_path)).deliver(NOW)
    assert [event["count"] for event in heard(tmp_path)] == [24]


class Overtaken(sqlite3.Connection):
    """A connection before whose second look another process makes the outbox."""

    home = Path()

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        rows = super().execute(sql, *values)
        if sql == "PRAGMA user_version" and not (self.home / "alerts.sqlite").stat().st_size:
            first = rows.fetchall()
            told_to(self.home, "x").tell(error(NOW))
            return super().execute("SELECT ?", first[0])
        return rows


def test_an_outbox_that_another_process_makes_meanwhile_is_no_other_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "alerts.sqlite").touch()
    monkeypatch.setattr(Overtaken, "home", tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / "alerts.sqlite", factory=Overtaken)) as overtaken:
        assert read_version(overtaken, tmp_path / "alerts.sqlite", OUTBOX) == OUTBOX.version


@pytest.mark.hazard(62)
def test_an_outbox_that_cannot_be_written_raises_nothing_and_the_alert_is_logged_and_sent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "alerts.sqlite").mkdir()
    alerts = told_to(tmp_path, *writing(tmp_path))
    alerts.tell(error(NOW))
    assert alerts.deliver(NOW).sent == 1
    assert "The source is down" in caplog.text
    assert len(heard(tmp_path)) == 1


def test_a_damaged_outbox_raises_nothing_even_while_another_process_sends(tmp_path: Path) -> None:
    (tmp_path / "alerts.sqlite").write_bytes(b"x" * 8192)
    alerts = told_to(tmp_path, *writing(tmp_path))
    with durable.lock(Home(tmp_path).alerts_lock, "delivery of alerts"):
        (fault,) = alerts.deliver(NOW).faults
    assert str(tmp_path / "alerts.sqlite") in fault
    assert "Move it away" in fault


def test_a_message_that_cannot_be_read_is_a_fault_and_no_crash(tmp_path: Path) -> None:
    alerts = told_to(tmp_path, *writing(tmp_path))
    alerts.tell(error(NOW))
    with contextlib.closing(sqlite3.connect(tmp_path / "alerts.sqlite")) as db:
        db.execute("UPDATE messages SET kind = 'of another release'")
        db.commit()
    assert "the row messages 1 is not what was written" in alerts.deliver(NOW).faults[0]


def test_an_outbox_of_a_newer_hftcl_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    alerts = told_to(tmp_path, *writing(tmp_path))
    alerts.tell(error(NOW))
    with contextlib.closing(sqlite3.connect(tmp_path / "alerts.sqlite")) as db:
        db.execute("PRAGMA user_version = 99")
    alerts.tell(error(NOW))
    assert "newer hftcl" in alerts.deliver(NOW).faults[0]
    assert "newer hftcl" in caplog.text


def test_a_muted_kind_and_a_home_without_channels_write_nothing(tmp_path: Path) -> None:
    told_to(tmp_path).tell(error(NOW))
    told_to(tmp_path, *writing(tmp_path), mute=("error",)).tell(error(NOW))
    assert list(tmp_path.iterdir()) == []


def test_a_channel_that_is_no_longer_set_up_does_not_keep_its_messages(tmp_path: Path) -> None:
    told_to(tmp_path, "/bin/false").tell(error(NOW))
    done = told_to(tmp_path).deliver(NOW)
    assert (done.sent, done.waiting, done.faults) == (0, 0, ())


def test_to_tell_loads_no_library_that_sends() -> None:
    code = "import sys; import hftcl.alerts; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"apprise", "smtplib", "requests", "polars"}.isdisjoint(done.stdout.split())
