"""What the doctor says of old bars, of a family that is not there, and of what differs from the defaults."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from hftcl.doctor import machine
from hftcl.doctor.market import _describe_bars
from hftcl.doctor.row import Context
from tests.config.configured import loaded

NOW = datetime(2026, 11, 29, tzinfo=UTC)


def test_bars_that_ended_long_ago_are_told_with_their_age_and_are_not_fresh() -> None:
    held, old = _describe_bars("bars from files", "3 of 3 tickers", 60, 10**6, datetime(2025, 6, 30, tzinfo=UTC), NOW)
    assert (held.status, "fresh" in held.detail) == ("ok", False)
    assert (old.status, old.detail.split(":")[0]) == ("warning", "bars from files end 2025-06-30, 17 months ago")
    (fresh,) = _describe_bars("bars from files", "3 of 3 tickers", 60, 10**6, NOW - timedelta(days=4), NOW)
    assert "3 of 3 tickers whole and fresh" in fresh.detail
    *_, days = _describe_bars("bars from files", "3 of 3 tickers", 60, 10**6, NOW - timedelta(days=20), NOW)
    assert "20 days ago" in days.detail


def test_a_family_that_is_not_installed_is_a_fault_with_those_that_are(tmp_path: Path) -> None:
    (row,) = machine.check_family(
        Context(configuration=loaded(tmp_path, '[model]\nfamily = "forrest"\n'), environ={}, now=NOW)
    )
    assert (row.status, row.name) == ("fault", "family")
    assert "'forrest'" in row.detail
    assert "ridge" in row.remedy
    (row,) = machine.check_family(
        Context(configuration=loaded(tmp_path, '[model]\nfamily = "ridge"\n'), environ={}, now=NOW)
    )
    assert row.status == "ok"


def test_what_stands_in_the_file_as_the_default_is_no_difference(tmp_path: Path) -> None:
    text = '[model]\nfamily = "ridge"\nseed = 42\n[paths]\nhome = "."\n'
    row, *_ = machine.check_configuration(Context(configuration=loaded(tmp_path, text), environ={}, now=NOW))
    assert "; 1 setting differs from the defaults;" in row.detail
