"""A kept calendar says what the library says, or is not believed."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from hftcl.home import Home
from hftcl.market import sessions
from hftcl.market.calendar_file import keep_calendars, read_kept, write_kept
from hftcl.market.sessions import Calendar


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """Return a home in which this process keeps its calendars until the test has ended."""
    found = Home(tmp_path)
    found.models.mkdir()
    keep_calendars(found)
    sessions._find_table.cache_clear()
    yield found
    keep_calendars(Home(tmp_path / "none"))
    sessions._find_table.cache_clear()


def all_of(name: str) -> tuple[str, int, pl.DataFrame]:
    calendar = Calendar(name)
    return calendar.zone, calendar.sessions_per_year, calendar.list_sessions(*calendar.reach)


def ask_again(name: str) -> tuple[str, int, pl.DataFrame]:
    """Ask as another process would."""
    sessions._find_table.cache_clear()
    return all_of(name)


@pytest.mark.parametrize("name", ["XNYS", "XLON", "24/7"])
def test_what_is_kept_is_what_the_library_says(home: Home, name: str) -> None:
    built = all_of(name)
    assert home.locate_calendar(name).is_file()
    again = ask_again(name)
    assert again[:2] == built[:2]
    assert again[2].equals(built[2])
    assert again[2].schema == built[2].schema


def change_a_byte(data: bytes) -> bytes:
    return data[:-9000] + bytes([data[-9000] ^ 1]) + data[-8999:]


def with_head(old: str, new: str) -> Callable[[bytes], bytes]:
    """Change the head and seal it again, as no accident does: another version, another day."""

    def change(data: bytes) -> bytes:
        rest = data.partition(b"\n")[2].replace(old.encode(), new.encode(), 1)
        return hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest

    return change


def with_day(days: int) -> Callable[[bytes], bytes]:
    """Move the day on which the calendar was built, and seal it again."""

    def change(data: bytes) -> bytes:
        built = json.loads(data.split(b"\n")[1])["built"]
        return with_head(built, (datetime.fromisoformat(built) + timedelta(days=days)).isoformat())(data)

    return change


@pytest.mark.parametrize(
    "damage",
    [
        change_a_byte,
        lambda data: data[:5000],
        lambda data: b"",
        with_head("XNYS", "XLON"),
        with_head('"version": "', '"version": "0'),
        with_day(-9),
        with_day(2),
    ],
    ids=["one bit", "cut short", "empty", "another exchange", "another version", "nine days old", "from a day to come"],
)
def test_what_is_damaged_old_or_of_something_else_is_built_again(home: Home, damage: Callable[[bytes], bytes]) -> None:
    built = all_of("XNYS")
    kept = home.locate_calendar("XNYS").read_bytes()
    home.locate_calendar("XNYS").write_bytes(damage(kept))
    assert read_kept("XNYS") is None
    assert ask_again("XNYS")[2].equals(built[2])
    assert home.locate_calendar("XNYS").read_bytes() == kept


def test_a_folder_that_is_no_home_and_one_that_may_not_be_written_keep_nothing(tmp_path: Path) -> None:
    keep_calendars(Home(tmp_path))
    write_kept("XNYS", "UTC", b"")
    (tmp_path / "models").mkdir()
    Home(tmp_path).locate_calendar("XNYS").mkdir()
    write_kept("XNYS", "UTC", b"")
    assert read_kept("XNYS") is None
    assert {path.name for path in tmp_path.iterdir()} == {"models", ".calendar-XNYS"}
    keep_calendars(Home(tmp_path / "none"))


def test_a_process_that_finds_one_loads_neither_pandas_nor_the_library(home: Home) -> None:
    all_of("XNYS")
    script = (
        "import sys; from pathlib import Path\n"
        "from hftcl.home import Home; from hftcl.market.calendar_file import keep_calendars\n"
        "from hftcl.market.sessions import Calendar\n"
        f"keep_calendars(Home(Path({str(home.root)!r})))\n"
        "print(Calendar('XNYS').sessions_per_year, *{'pandas', 'exchange_calendars'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("252", "")
