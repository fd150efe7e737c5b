"""The story of `record`: the sessions that let the bot trade, whose they are, and how to begin over."""

from dataclasses import dataclass, replace
from datetime import date

from hftcl.archive.deployment import ModelArchive
from hftcl.archive.fitness import find_market_kind
from hftcl.archive.policy import hash_policy
from hftcl.archive.record import Beginning, RecordedSession, read_all, read_beginning
from hftcl.archive.records import Moment
from hftcl.archive.registry import Registry
from hftcl.home import Home
from hftcl.learning.gaps import find_holes
from hftcl.market.sessions import Calendar
from hftcl.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRow:
    """One recorded session: net P&L as a fraction of capital, and what earned it.

    policy: digest; None in a row of an earlier hftcl, which did not say. bars: "TICKER:digest" of each ticker that had
    bars. source: of the bars. counts: whether P(edge) reads it; why: why it does not. lacking_before: sessions of
    the calendar between the row that counts before it and this one, which counts, that the record lacks.
    """

    session: date
    net: float
    model_id: str
    kind: str
    policy: str | None
    bars: str
    source: str
    synthetic: bool
    counts: bool
    why: str
    lacking_before: int = 0


def list_record(settings: Settings) -> tuple[RecordRow, ...]:
    """Return every recorded session on bars of the configured kind, oldest first.

    A row counts where it is of the policy that is configured, and was earned since the record last began over. Whether
    its bars are still the same, the next collection or retrain finds.
    """
    registry, synthetic = Registry(Home.of(settings).root), find_market_kind(settings).synthetic
    policy, beginning = hash_policy(settings), read_beginning(registry, synthetic=synthetic)
    rows = []
    for session, current in read_all(registry, synthetic=synthetic):
        why = _explain_not_counted(session, beginning, policy, current=current)
        rows.append(
            RecordRow(
                session=session.session,
                net=session.net,
                model_id=session.model_id,
                kind=session.kind,
                policy=session.policy or None,
                bars=session.bars,
                source=session.source,
                synthetic=session.synthetic,
                counts=not why,
                why=why,
            )
        )
    days = [row.session for row in rows if row.counts]
    holes = find_holes(days, Calendar(settings.market.calendar))
    after = {next(day for day in days if day > last): n for _, last, n in holes}
    return tuple(replace(row, lacking_before=after.get(row.session, 0) if row.counts else 0) for row in rows)


def _explain_not_counted(session: RecordedSession, beginning: Beginning | None, policy: str, *, current: bool) -> str:
    if not session.policy:
        return "of an unknown policy: an earlier hftcl recorded it"
    if not current:
        return f"before the record began over ({beginning.reason})" if beginning else "before the record began over"
    return "" if session.policy == policy else "of another policy than the one that is configured"


def begin_over(settings: Settings, *, reason: str, now: Moment) -> tuple[RecordRow, ...]:
    """Let no session count that was earned so far, and return the rows. Raises UsageError without a reason."""
    archive = ModelArchive(Home.of(settings).root)
    archive.begin_record_over(synthetic=find_market_kind(settings).synthetic, reason=reason, now=now)
    return list_record(settings)
