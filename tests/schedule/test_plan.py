"""The ends of the sessions: shipped or kept in the home, and always what the calendar says."""

import json
from datetime import date, timedelta
from itertools import islice
from pathlib import Path

import pytest

from hftcl.home import Home
from hftcl.market.sessions import Calendar
from hftcl.schedule import new_york
from hftcl.schedule.plan import SessionEnds
from tests.schedule.new_york import build_table

FIRST = date(2025, 11, 20)


def home_in(folder: Path) -> Home:
    """Return a home that is in use: in another folder nothing is kept."""
    home = Home(folder)
    home.models.mkdir(exist_ok=True)
    return home


def said_by_the_calendar(first: date, count: int, name: str = "XLON") -> list[tuple[object, object]]:
    table = Calendar(name).list_sessions(first, first + timedelta(days=2 * count))
    return list(zip(table["session"].to_list(), table["extended_close"].to_list(), strict=True))[:count]


@pytest.mark.parametrize("first", [FIRST, FIRST + timedelta(days=90), FIRST - timedelta(days=30)])
def test_what_is_kept_says_what_the_calendar_says_beyond_its_end_and_before_its_beginning_too(
    tmp_path: Path, first: date
) -> None:
    assert list(islice(SessionEnds(home_in(tmp_path), "XLON").list_from(FIRST), 5)) == said_by_the_calendar(FIRST, 5)
    assert list(islice(SessionEnds(home_in(tmp_path), "XLON").list_from(first), 150)) == said_by_the_calendar(
        first, 150
    )


@pytest.mark.parametrize(
    "damage",
    [{"version": "0"}, {"calendar": "XNYS"}, {"ends": {"2025-11-20": "never"}}, {"from": 7}],
    ids=["another version of the library", "another exchange", "no time", "no date"],
)
def test_what_was_kept_by_another_library_or_was_damaged_is_not_believed(
    tmp_path: Path, damage: dict[str, object]
) -> None:
    expected = list(islice(SessionEnds(home_in(tmp_path), "XLON").list_from(FIRST), 9))
    kept = json.loads(Home(tmp_path).session_ends.read_text())
    wrong = {"ends": {"2025-11-20": "2000-01-01T00:00:00+00:00"}}
    Home(tmp_path).session_ends.write_text(json.dumps({**kept, **wrong, **damage}))
    assert list(islice(SessionEnds(home_in(tmp_path), "XLON").list_from(FIRST), 9)) == expected


def test_beyond_the_calendar_there_is_no_session_and_no_error(tmp_path: Path) -> None:
    last = Calendar("XLON").reach[1]
    ends = list(SessionEnds(home_in(tmp_path), "XLON").list_from(last - timedelta(days=9)))
    assert ends[-1][0] == last
    assert list(SessionEnds(home_in(tmp_path), "XLON").list_from(last + timedelta(days=400))) == []


def test_the_shipped_table_is_what_the_installed_calendar_says() -> None:
    assert json.loads(new_york.TABLE.read_bytes()) == build_table(), "run: python -m tests.schedule.new_york"


@pytest.mark.usefixtures("_installed_table")
@pytest.mark.parametrize("first", [FIRST, date(2025, 1, 1)])
def test_the_sessions_of_new_york_are_told_from_the_table_and_nothing_is_kept(tmp_path: Path, first: date) -> None:
    home = home_in(tmp_path)
    for name in ("XNYS", "XNAS"):
        assert list(islice(SessionEnds(home, name).list_from(first), 250)) == said_by_the_calendar(first, 250, "XNYS")
    assert not home.session_ends.exists()


@pytest.mark.parametrize("version", [None, "0", "999.0"])
def test_whichever_library_is_installed_its_sessions_are_told(
    tmp_path: Path, version: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of another version than the table's a session that this one does not know is no session; one of a newer is."""
    if version is not None:
        other = tmp_path / "other.json"
        other.write_text(json.dumps({**build_table(), "version": version, "closed": ["2025-11-21"], "short": []}))
        monkeypatch.setattr(new_york, "TABLE", other)
    assert list(islice(SessionEnds(home_in(tmp_path), "XNYS").list_from(FIRST), 60)) == said_by_the_calendar(
        FIRST, 60, "XNYS"
    )


def test_where_the_table_ends_or_is_of_another_library_the_calendar_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long_ago = date(2024, 7, 1)
    before = list(islice(SessionEnds(home_in(tmp_path), "XNYS").list_from(long_ago), 250))
    assert before == said_by_the_calendar(long_ago, 250, "XNYS"), "it goes on in the table"
    beyond = new_york.read_shipped().last + timedelta(days=1)
    assert list(SessionEnds(home_in(tmp_path), "XNYS").list_from(beyond)) == []
    other = tmp_path / "other.json"
    other.write_text(json.dumps({**build_table(), "version": "0", "closed": ["2025-11-20"]}))
    monkeypatch.setattr(new_york, "TABLE", other)
    assert list(islice(SessionEnds(home_in(tmp_path), "XNYS").list_from(FIRST), 9)) == said_by_the_calendar(
        FIRST, 9, "XNYS"
    )


@pytest.mark.usefixtures("_installed_table")
def test_beyond_both_ends_of_the_table_one_object_believes_nothing_of_it(tmp_path: Path) -> None:
    """A weekday beyond them that is not listed as closed is no session for that: Christmas before, New Year after."""
    table, ends = new_york.read_shipped(), SessionEnds(home_in(tmp_path), "XNYS")
    early, christmas = table.first + timedelta(days=5), table.first - timedelta(days=10)
    assert list(islice(ends.list_from(early), 3)) == said_by_the_calendar(early, 3, "XNYS")
    assert list(islice(ends.list_from(christmas), 30)) == said_by_the_calendar(christmas, 30, "XNYS")
    days = [day for day, _ in ends.list_from(table.last - timedelta(days=30))]
    assert days == list(table.list_ends(table.last - timedelta(days=30), table.last))
