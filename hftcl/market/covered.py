"""What came of the bars of a window, without a call to a service: of files by a look into them, else of the store."""

from datetime import date, datetime

from hftcl.errors import NoDataError
from hftcl.market.received import TickerCoverage, list_stored
from hftcl.market.sources import BarSource, as_local
from hftcl.market.store import BarStore
from hftcl.settings import Settings


def read_covered(
    settings: Settings, source: BarSource, store: BarStore, days: tuple[date, ...], as_of: datetime
) -> tuple[TickerCoverage, ...]:
    """Return what came of the window's bars: of files by looking into them, of a service by what is stored.

    Raises HftclError where no ticker's files can be used; a service is not asked for bars to find out.
    """
    if not days:
        return ()
    if as_local(source) is None:
        tickers = (*settings.market.watchlist, *settings.market.context)
        covered = tuple(store.read_coverage(ticker, days) for ticker in tickers)
        stored = list_stored(covered, days)
        return covered if stored in {days, ()} else tuple(store.read_coverage(ticker, stored) for ticker in tickers)
    try:
        return store.collect(
            settings.market.watchlist,
            days[0],
            days[-1],
            as_of=as_of,
            extended_hours=settings.market.extended_hours,
            min_coverage=0.0,
            context=settings.market.context,
            save=False,
        ).coverage
    except NoDataError:
        return ()  # too few bars: the rows of the tickers tell what is stored
