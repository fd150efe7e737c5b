"""What was traded, for Python: `PerformanceTracker`, with the names of the user's guide.

It stands above the views because it prints; the story itself, which prints nothing, is `trading.tracker`.
"""

from datetime import date
from typing import TYPE_CHECKING

from hftcl.api import load_settings
from hftcl.errors import NoDataError
from hftcl.home import Home
from hftcl.market.calendar_file import keep_calendars
from hftcl.plug_ins import name_plug_ins
from hftcl.settings import Settings

if TYPE_CHECKING:
    from hftcl.performance.reports import PerformanceReport


class PerformanceTracker:
    """Reads the ledger of the bot and the registry of the models; changes neither, and works while the bot trades.

    settings: from `hftcl.config.load(...)`; without them those that a command in the current folder would use.
    replay: read the ledger of the last replay instead of the live one. Days are dates or ISO texts, both included.
    The methods raise HftclError; where nothing was traded `report` raises NoDataError, and `print_report` says so.
    In their examples `tracker` reads the ledger of a month.

    >>> import tempfile
    >>> from hftcl.errors import NoDataError
    >>> from hftcl.settings import Paths
    >>> with tempfile.TemporaryDirectory() as home:
    ...     tracker = PerformanceTracker(Settings(paths=Paths(home=home)))
    ...     try:
    ...         tracker.report("2026-01-05")
    ...     except NoDataError as nothing:
    ...         print(str(nothing).partition(":")[0])
    Nothing has been traded yet
    """

    def __init__(self, settings: Settings | None = None, *, replay: bool = False) -> None:
        self.settings = load_settings() if settings is None else settings
        keep_calendars(Home.of(self.settings))
        self._replay = replay

    def report(
        self, start_date: date | str | None = None, end_date: date | str | None = None, *, all_trades: bool = False
    ) -> "PerformanceReport":
        """Return the figures of the sessions `start_date` to `end_date`: the values of `report --json`.

        all_trades: list every trade, not the newest 200.

        >>> report = tracker.report("2025-06-02", "2025-06-06")
        >>> len(report.pnl_by_session), [part.name for part in report.tickers]
        (5, ['AAPL', 'AMD', 'TSLA'])
        """
        from hftcl.market.window import parse_day
        from hftcl.performance.reports import TRADES_SHOWN
        from hftcl.performance.story import measure_performance

        with name_plug_ins():
            return measure_performance(
                self.settings,
                replay=self._replay,
                since=None if start_date is None else parse_day("The first day", start_date),
                until=None if end_date is None else parse_day("The last day", end_date),
                most_trades=None if all_trades else TRADES_SHOWN,
            )

    def print_report(self, start_date: date | str | None = None, end_date: date | str | None = None) -> None:
        """Print the same: tables on a terminal, one line a row elsewhere; a sentence where nothing was traded.

        >>> from contextlib import redirect_stdout
        >>> from io import StringIO
        >>> with redirect_stdout(StringIO()) as printed:
        ...     tracker.print_report("2025-06-02", "2025-06-06")
        >>> printed.getvalue().splitlines()[0]
        'bars from files, paper ledger, 5 sessions, 2025-06-02 to 2025-06-06, capital 100,000 USD'
        """
        from hftcl.views import performance, say

        try:
            report = self.report(start_date, end_date)
        except NoDataError as nothing:
            say(str(nothing))
        else:
            performance.draw_performance(report)

    def html(self, report: "PerformanceReport") -> str:
        """Return `report` as one self-contained page, with what its newest model looks at, and its tickers' prices.

        >>> tracker.html(tracker.report()).startswith("<!doctype html>")
        True
        """
        from hftcl import pages as page
        from hftcl.performance.prices import read_prices
        from hftcl.performance.story import read_importances

        importances = read_importances(Home.of(self.settings).root, report.model_id)
        return page.draw_performance(report, importances, read_prices(self.settings, report))
