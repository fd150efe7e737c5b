"""The judge: who is examined on which bars. Pure; the one place that knows what is purged and embargoed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import count as counting
from itertools import pairwise
from typing import Final

import polars as pl

from hftcl import settings
from hftcl.errors import NoDataError
from hftcl.formats import count

# A quarter of the training sessions: of 20, five, which hold enough predictions for a quantile of 0.90, and the model
# that makes them still learns from 14.
_INNER_SHARE: Final = 0.25
_BLOCK_BARS: Final = 1_000_000  # what is grouped at a time, 4 MB of numbers; 10 tickers of 60 days are one block
_MIN_INNER_SESSIONS: Final = 4  # one held out, one of embargo, two to fit on


@dataclass(frozen=True, slots=True, order=True)
class Session:
    """One exchange day that has bars, and the start of its first bar (UTC): before it, none of it was known.

    >>> from datetime import UTC, date, datetime
    >>> session = Session(day=date(2025, 6, 2), start=datetime(2025, 6, 2, 13, 30, tzinfo=UTC))
    >>> session.day.isoformat()
    '2025-06-02'
    """

    start: datetime
    day: date


def list_sessions(bars: pl.DataFrame) -> tuple[Session, ...]:
    """Return the sessions of `bars` (session, ts), oldest first, over all tickers.

    >>> stamps = [datetime(2026, 1, 5, 14, 30 + n) for n in range(2)]
    >>> bars = pl.DataFrame({"session": [date(2026, 1, 5)] * 2, "ts": stamps})
    >>> [(session.day.isoformat(), session.start.minute) for session in list_sessions(bars)]
    [('2026-01-05', 30)]
    """
    # a part at a time: a grouping holds the numbers of all its rows
    parts = [
        bars[begin : begin + _BLOCK_BARS].group_by("session").agg(pl.col("ts").min())
        for begin in range(0, bars.height or 1, _BLOCK_BARS)
    ]
    starts = pl.concat(parts).group_by("session").agg(pl.col("ts").min()).sort("session")
    return tuple(Session(start=start, day=day) for day, start in starts.select("session", "ts").iter_rows())


@dataclass(frozen=True, slots=True, kw_only=True)
class ExamSplit:
    """Who sees what. `train`, `embargoed`, `exam` and `withheld` are parts of one window, each oldest first."""

    train: tuple[Session, ...]
    embargoed: tuple[Session, ...]
    """Whole sessions between training and exam, seen by neither: features look back over days."""
    exam: tuple[Session, ...]
    """On which challenger and champion are scored. May be empty where the champion has seen all of it."""
    withheld: tuple[Session, ...]
    """Sessions of the challenger's exam that the champion has seen, or that lie in its embargo; no model is scored."""

    @property
    def train_days(self) -> tuple[date, ...]:
        """Dates of the training sessions."""
        return tuple(session.day for session in self.train)

    @property
    def exam_days(self) -> tuple[date, ...]:
        """Dates of the exam sessions."""
        return tuple(session.day for session in self.exam)

    @property
    def cut(self) -> datetime:
        """Start (UTC) of the first session after training: a label must end before it. The end of time for a refit."""
        later = self.embargoed + self.withheld + self.exam
        return later[0].start if later else datetime.max.replace(tzinfo=UTC)

    def mask_training(self, rows: pl.DataFrame) -> pl.Series:
        """Return, row for row, whether a row may be trained on.

        rows: session (Date), label_end (UTC; null where the target is undefined). False outside the training
        sessions, and for a label that ends at or after `cut`: it would have seen what is embargoed or examined.
        """
        kept = pl.col("session").is_in(self.train_days) & (pl.col("label_end") < self.cut)
        return rows.select(kept.fill_null(value=False).alias("trains")).to_series()

    def mask_exam(self, rows: pl.DataFrame) -> pl.Series:
        """Return, row for row, whether a row lies in a session of the exam. rows: session (Date)."""
        return rows["session"].is_in(self.exam_days)

    def count_purged(self, rows: pl.DataFrame) -> int:
        """Return how many rows of the training sessions are dropped because their label ends at or after `cut`."""
        reaches = pl.col("session").is_in(self.train_days) & (pl.col("label_end") >= self.cut)
        return int(rows.select(reaches.sum()).item())

    def count_overlap(self, last_label: datetime) -> int:
        """Return how many exam sessions a model has seen whose last label ends at `last_label` (UTC); must be 0."""
        return sum(session.start <= last_label for session in self.exam)


def split(
    sessions: Sequence[Session],
    *,
    exam_sessions: int,
    embargo_sessions: int,
    champion_last_label: datetime | None = None,
) -> ExamSplit:
    """Divide a window of sessions, oldest first, into training, embargo and exam.

    The exam is the last `exam_sessions` sessions where that leaves at least three quarters as many to train on; in a
    shorter window training and exam get half each. So 60 calendar days, 40 to 42 sessions, give an exam of 20 and 19 to
    21 to train on, and 21 sessions give 10 + 1 + 10. An exam that came out too short is for the verdict to call
    inconclusive, not for the split to hide.

    champion_last_label: when the last label of the champion's training ended (UTC), from its own file. Both models are
    then scored only on sessions that are unseen by both: see `find_unseen`; the rest of the exam is `withheld`.
    Raises NoDataError for fewer than 2 + embargo_sessions sessions (one to train, one to examine), for sessions that
    are not in order, and for an exam or embargo below 1 session.

    >>> from datetime import timedelta
    >>> first = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
    >>> days = [Session(first + timedelta(days=n), (first + timedelta(days=n)).date()) for n in range(21)]
    >>> parts = split(days, exam_sessions=20, embargo_sessions=1)
    >>> len(parts.train), len(parts.embargoed), len(parts.exam)
    (10, 1, 10)
    """
    n, needed = len(sessions), 2 + embargo_sessions
    if exam_sessions < 1 or embargo_sessions < 1:
        raise NoDataError(
            f"An exam of {exam_sessions} and an embargo of {count(embargo_sessions, 'session')}: "
            "both must be 1 or more."
        )
    if n < needed:
        raise NoDataError(
            f"{count(n, 'session')} with bars, needs {needed} or more: 1 to train, "
            f"{embargo_sessions} embargoed, 1 to examine. Collect more days."
        )
    if any(later <= earlier for earlier, later in pairwise(sessions)):
        raise NoDataError("The sessions of a split must be in order, each once.")
    fits = 4 * (n - embargo_sessions - exam_sessions) >= 3 * exam_sessions
    first = n - (exam_sessions if fits else min(exam_sessions, (n - embargo_sessions) // 2))
    held_out = tuple(sessions[first:])
    shared = set(held_out)
    if champion_last_label is not None:
        shared &= set(find_unseen(sessions, champion_last_label, embargo_sessions=embargo_sessions))
    return ExamSplit(
        train=tuple(sessions[: first - embargo_sessions]),
        embargoed=tuple(sessions[first - embargo_sessions : first]),
        exam=tuple(session for session in held_out if session in shared),
        withheld=tuple(session for session in held_out if session not in shared),
    )


def split_for_exam(
    sessions: Sequence[Session], rule: settings.Exam, *, champion_last_label: datetime | None = None
) -> ExamSplit:
    """Divide a window as `split` does, with the exam and the embargo of `[exam]`.

    >>> from datetime import timedelta
    >>> first = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
    >>> days = [Session(first + timedelta(days=n), (first + timedelta(days=n)).date()) for n in range(42)]
    >>> len(split_for_exam(days, settings.Exam()).exam)
    20
    """
    return split(
        sessions,
        exam_sessions=rule.sessions,
        embargo_sessions=rule.embargo_sessions,
        champion_last_label=champion_last_label,
    )


def split_inner(sessions: Sequence[Session], *, embargo_sessions: int, share: float = _INNER_SHARE) -> ExamSplit:
    """Divide the sessions that a model trains on once more, oldest first: to fit on, embargoed, held out.

    A model of the fitted ones predicts the held out ones, the newest `share` of all and at least one, and from its
    predictions comes the entry threshold. Embargo and purge are those of every exam.
    Raises NoDataError where that leaves no session to fit on, or with fewer than four.

    >>> from datetime import timedelta
    >>> first = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
    >>> days = [Session(first + timedelta(days=n), (first + timedelta(days=n)).date()) for n in range(8)]
    >>> inner = split_inner(days, embargo_sessions=1)
    >>> len(inner.train), len(inner.embargoed), len(inner.exam)
    (5, 1, 2)
    """
    needed = _count_least(embargo_sessions, share)
    if len(sessions) < needed:
        raise NoDataError(
            f"Training needs rows from {needed} or more sessions, got {len(sessions)}: at their end "
            f"{count(_count_held_out(needed, share), 'session')} for the entry threshold, before that "
            f"{count(embargo_sessions, 'session')} of embargo. Use more bars ([market] lookback_days)."
        )
    held_out = _count_held_out(len(sessions), share)
    fitted = len(sessions) - held_out - embargo_sessions
    return ExamSplit(
        train=tuple(sessions[:fitted]),
        embargoed=tuple(sessions[fitted:-held_out]),
        exam=tuple(sessions[-held_out:]),
        withheld=(),
    )


def _count_held_out(sessions: int, share: float) -> int:
    return max(1, round(share * sessions))


def _count_least(embargo_sessions: int, share: float = _INNER_SHARE) -> int:
    """Return how many sessions an inner split needs: with one fewer, and with any fewer, none is left to fit on."""
    enough = (n for n in counting(_MIN_INNER_SESSIONS) if n - _count_held_out(n, share) - embargo_sessions >= 1)
    return next(enough)


def split_walk_forward(
    sessions: Sequence[Session], *, folds: int, embargo_sessions: int, longest: int | None = None
) -> tuple[ExamSplit, ...]:
    """Divide the sessions that a model trains on, oldest first, into parts that are held out one after the other.

    The newer half is held out, in at most `folds` parts of equal size (the last may be smaller); a model for each part
    is fitted on what lies before it, less the embargo, as every candidate is. longest: most sessions that it is fitted
    on; all where left out. Raises NoDataError where the first part leaves fewer to fit on than `split_inner` needs.

    >>> from datetime import timedelta
    >>> first = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
    >>> days = [Session(first + timedelta(days=n), (first + timedelta(days=n)).date()) for n in range(20)]
    >>> parts = split_walk_forward(days, folds=3, embargo_sessions=1)
    >>> [(len(part.train), len(part.embargoed), len(part.exam)) for part in parts]
    [(10, 1, 3), (13, 1, 3), (16, 1, 3)]
    """
    held_out = (len(sessions) - embargo_sessions) // 2
    first = len(sessions) - held_out
    least = _count_least(embargo_sessions)
    if first - embargo_sessions < least:
        needed = 2 * least - 1 + embargo_sessions  # least 4: of seven the newer half is three
        raise NoDataError(
            f"A walk-forward inside the training window needs {needed} or more training sessions, got {len(sessions)}. "
            "Use more bars ([market] lookback_days)."
        )
    size = -(-held_out // folds)
    return tuple(
        ExamSplit(
            train=tuple(sessions[: start - embargo_sessions][-(longest or start) :]),
            embargoed=tuple(sessions[start - embargo_sessions : start]),
            exam=tuple(sessions[start : start + size]),
            withheld=(),
        )
        for start in range(first, len(sessions), size)
    )


def split_for_refit(sessions: Sequence[Session]) -> ExamSplit:
    """Return the split of a refit: all of `sessions` train, none is left to examine.

    >>> from datetime import timedelta
    >>> first = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
    >>> days = [Session(first + timedelta(days=n), (first + timedelta(days=n)).date()) for n in range(8)]
    >>> len(split_for_refit(days).train), split_for_refit(days).exam
    (8, ())
    """
    return ExamSplit(train=tuple(sessions), embargoed=(), exam=(), withheld=())


def split_as_trained(sessions: Sequence[Session], first: date, last: date) -> ExamSplit:
    """Return the split of a model that is trained again: its sessions, `first` to `last`, train.

    What came later is embargoed, so that no label reaches into it.

    >>> from datetime import timedelta
    >>> begin = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
    >>> days = [Session(begin + timedelta(days=n), (begin + timedelta(days=n)).date()) for n in range(8)]
    >>> parts = split_as_trained(days, date(2026, 1, 5), date(2026, 1, 9))
    >>> len(parts.train), len(parts.embargoed)
    (5, 3)
    """
    train = tuple(session for session in sessions if first <= session.day <= last)
    return ExamSplit(train=train, embargoed=tuple(sessions[len(train) :]), exam=(), withheld=())


def find_unseen(sessions: Sequence[Session], last_label: datetime, *, embargo_sessions: int) -> tuple[Session, ...]:
    """Return the sessions, oldest first, that a model may be scored on whose last label ends at `last_label` (UTC).

    Those that start strictly after it, less the first `embargo_sessions` of them. Where `last_label` lies before the
    first session, the embargo is taken from the window's own sessions: nothing tells how many lie between.

    >>> from datetime import timedelta
    >>> first = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
    >>> days = [Session(first + timedelta(days=n), (first + timedelta(days=n)).date()) for n in range(8)]
    >>> unseen = find_unseen(days, days[2].start + timedelta(hours=6), embargo_sessions=1)
    >>> [session.day.day for session in unseen]
    [9, 10, 11, 12]
    """
    return tuple(session for session in sessions if session.start > last_label)[embargo_sessions:]
