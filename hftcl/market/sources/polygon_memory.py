"""Answers of Polygon that were not stored, kept for some minutes: the retrain that follows a check asks the same."""

from typing import Final

import polars as pl

from hftcl.market.sources import Question

_REMEMBERED_ROWS: Final = 2_000_000
"""Bars of recent answers that are kept, 100 MB, so that a check and the retrain after it ask once."""
_REMEMBERED_S: Final = 600.0  # seconds: a check and the retrain after it


class Memory:
    """Answers of the last minutes that were not stored, shared by the sources of this process; each is told once."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, Question], tuple[float, pl.DataFrame]] = {}

    def has(self, place: str, question: Question, now: float) -> bool:
        """Return whether the answer is known. place: of the service and the account; now: seconds."""
        known = self._answers.get((place, question))
        return known is not None and 0 <= now - known[0] < _REMEMBERED_S

    def take(self, place: str, question: Question, now: float) -> pl.DataFrame | None:
        """Return the answer and forget it; None where it is not known, or too old."""
        fresh = self.has(place, question, now)
        known = self._answers.pop((place, question), None)
        return known[1] if known is not None and fresh else None

    def put(self, place: str, question: Question, bars: pl.DataFrame, now: float) -> None:
        """Keep an answer that holds bars; what came empty is worth another question."""
        if bars.is_empty():
            return
        self._answers.pop((place, question), None)
        self._answers[place, question] = now, bars
        rows = sum(frame.height for _, frame in self._answers.values())
        for key in list(self._answers):
            if rows <= _REMEMBERED_ROWS:
                break
            rows -= self._answers.pop(key)[1].height


REMEMBERED: Final = Memory()
"""The one of this process."""
