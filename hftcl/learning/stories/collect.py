"""The story of the daily collection: bars into the store, and the sessions since the last one into the record.

So a retrain has nothing to catch up, and the record is as of today.
"""

from dataclasses import dataclass
from datetime import date

from hftcl.archive.deployment import ModelArchive
from hftcl.archive.record import RecordedSession
from hftcl.archive.records import Moment, read_moment
from hftcl.events import OnEvent
from hftcl.home import Home
from hftcl.learning.candidate import merge_params
from hftcl.learning.dataset import open_window
from hftcl.learning.record import catch_up
from hftcl.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """What is in the store now, up to `session`, and what was added to the record.

    silent: tickers that have bars in the window and none in `session`. left_out: ticker -> reason; context_left_out,
    context_silent: of context tickers. problem: why sessions that belong into the record could not be scored.
    corrected: recorded sessions whose bars were corrected since: until the next verdict the bot stands aside.
    """

    session: date
    tickers: tuple[str, ...]
    silent: tuple[str, ...]
    left_out: dict[str, str]
    context_left_out: dict[str, str]
    context_silent: tuple[str, ...]
    recorded: tuple[RecordedSession, ...]
    problem: str | None
    corrected: tuple[date, ...] = ()


def collect(settings: Settings, *, now: Moment, on_event: OnEvent) -> Collection:
    """Fetch what the store lacks, score the sessions since the last recorded one, and record them.

    now: UTC, or a clock. Each session is scored with the model that was current on it, as the next retrain would have.
    Raises HftclError where the source, the store or the registry fails; what came before is kept.
    """
    archive = ModelArchive(Home.of(settings).root)
    window = open_window(settings, as_of=None, now=read_moment(now), save=True, on_event=on_event)
    # where features can be computed of some sessions alone, those are that get a score: on most days one
    compute_rows = window.compute_rows if window.divisible else None
    data = window.assemble_bars() if compute_rows else window.assemble()
    params = merge_params(settings)
    record = catch_up(archive, data, settings, params=params, on_event=on_event, compute_rows=compute_rows)
    if record.added or record.dropped:
        archive.record_sessions(record.added, now=now, dropped=record.dropped)
    newest = data.sessions[-1]
    silent = [item for item in data.coverage if item.is_silent_on(newest)]
    return Collection(
        session=newest,
        tickers=data.tickers,
        silent=tuple(item.ticker for item in silent if not item.context),
        left_out=data.left_out,
        context_left_out=data.context_left_out,
        context_silent=tuple(item.ticker for item in silent if item.context),
        recorded=record.added,
        problem=record.problem,
        corrected=tuple(session.session for session in record.dropped),
    )
