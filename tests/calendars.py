"""The calendar of New York, built once a session of tests: to build one takes half a second and pandas.

Touches the folder of the session, which the processes that the tests start share with them; loads pytest in none.
"""

import os
from pathlib import Path
from typing import Final

from hftcl.home import Home
from hftcl.market import calendar_file
from hftcl.market.sessions import Calendar
from tests.installed import keep_calendar

SESSION_HOME: Final = "PYTEST_HFTCL_HOME"  # the variable that names the folder of the session, set by conftest.py


def read_shared_calendar() -> None:
    """Have this process know New York's sessions from the calendar of the session; without a session, do nothing."""
    folder = os.environ.get(SESSION_HOME)
    if not folder:
        return
    before = calendar_file._home, calendar_file._writes
    calendar_file._home, calendar_file._writes = Home(keep_calendar(Path(folder))), False
    try:
        Calendar("XNYS")
    finally:
        calendar_file._home, calendar_file._writes = before
