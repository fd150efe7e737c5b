"""The line of a terminal that shows that the bot lives."""

import io
from datetime import UTC, datetime, timedelta

import pytest

from hftcl.systemd import Notifier
from hftcl.views.bot_events import StatusLine


def test_the_line_moves_with_the_clock_and_what_is_logged_goes_above_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    now, terminal = datetime(2026, 1, 5, 12, 0, tzinfo=UTC), io.StringIO()
    line = StatusLine(terminal, Notifier(), lambda: now)
    line.tell_status("waiting for session 2026-01-05, 14:30 UTC; paper money")
    line.tell_alive()
    assert terminal.getvalue().count("12:00:00 UTC | waiting for session") == 1, "nothing has changed"
    now += timedelta(seconds=1)
    line.tell_alive()
    line.write("a line of the log\n")
    line.tell_stopping()
    drawn = [part for part in terminal.getvalue().split("\r\x1b[K") if part]
    assert drawn[1].startswith("12:00:01 UTC | waiting")
    assert drawn[2].startswith("a line of the log\n12:00:01 UTC | waiting")
    assert drawn[2].endswith("\n")
    assert all(len(text) < 40 for part in drawn for text in part.splitlines())
