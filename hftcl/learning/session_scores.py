"""How the model that serves did on each session that it has not seen; what was computed before is kept in the home.

A nightly check whose bars did not change computes no feature, and one with a new session those of that session. What
is kept is believed only where model, bars, settings, code and libraries are the very ones that it came from; a file
that is damaged or of another hftcl counts as none.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Final

import msgspec
import polars as pl

from hftcl import durable
from hftcl.archive.artifact import Model
from hftcl.archive.policy import hash_policy
from hftcl.compute.code_digest import hash_code, list_versions
from hftcl.compute.crew import count_cores
from hftcl.errors import StorageError
from hftcl.events import Event, Level, OnEvent
from hftcl.exam.drift import compute_stability, count_in_bins
from hftcl.exam.split import find_unseen, list_sessions
from hftcl.home import Home
from hftcl.learning.bars_digest import hash_bars
from hftcl.learning.dataset import Window
from hftcl.learning.score import run_model
from hftcl.model.features import WARMUP_SESSIONS, build_matrix

_FORMAT: Final = 1  # of the file: raise it when its fields change, and every session is scored again
# Of the window's sessions. Above it the whole window is computed, which a retrain that is due then needs anyway.
_MOST_APART: Final = 0.5


class SessionScore(msgspec.Struct, frozen=True, kw_only=True):
    """What the model did in one session.

    bars: SHA-256 of the bars that it came from. net: P&L after cost, a share of capital. observations: tickers with a
    row whose features are all known. counts: by feature, how many of these rows lie in each of the model's bins; None
    for a model without bins.
    """

    bars: str
    net: float
    observations: int
    counts: tuple[tuple[int, ...], ...] | None


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    """The file. key: of what else the scores came from. seal: SHA-256 of the others."""

    format: int
    key: str
    sessions: dict[date, SessionScore]
    seal: str = ""

    def add_seal(self) -> "_Kept":
        plain = msgspec.json.encode(msgspec.structs.replace(self, seal=""))
        return msgspec.structs.replace(self, seal=hashlib.sha256(plain).hexdigest())


@dataclass(frozen=True, slots=True, kw_only=True)
class UnseenScores:
    """The scores of the sessions that a model has not seen, oldest first."""

    model: Model
    sessions: Mapping[date, SessionScore]

    @property
    def net(self) -> dict[date, float]:
        """Net P&L by session."""
        return {day: score.net for day, score in self.sessions.items()}

    def compute_stability(self, days: Sequence[date]) -> dict[str, float] | None:
        """Return the population stability index of each feature over `days`.

        Empty where these have no row whose features are all known, None for a model without bins.
        """
        bins, names = self.model.meta.feature_bins, self.model.meta.feature_names
        scores = [self.sessions[day] for day in days]
        if bins is None:
            return None
        observations = sum(score.observations for score in scores)
        if not observations:
            return {}
        parts = [score.counts for score in scores if score.counts]
        counts = [[sum(of_bin) for of_bin in zip(*of_feature, strict=True)] for of_feature in zip(*parts, strict=True)]
        indices = compute_stability(bins, counts, observations=observations)
        return dict(zip(names, indices.tolist(), strict=True))


def score_unseen(window: Window, model: Model, last_label: datetime) -> UnseenScores:
    """Score `model` on the sessions of `window` that it has not seen, by the code of the exam.

    last_label: when the last label of its training ended, UTC. What is kept is read; what is new is kept where the
    window keeps bars, and where that fails it is told. Raises as `Window.assemble`.
    """
    bars, first = window.read_bars().bars, window.list_days()[0]
    sessions = list_sessions(_select_traded(window, bars).filter(pl.col("session") >= first))
    embargo = window.settings.exam.embargo_sessions
    days = [session.day for session in find_unseen(sessions, last_label, embargo_sessions=embargo)]
    if not days:
        return UnseenScores(model=model, sessions={})
    key, digests = _compute_key(window, model), _hash_sessions(window, bars, days)
    path = Home.of(window.settings).session_scores
    kept = {day: score for day, score in _read(path, key, window.on_event).items() if digests.get(day) == score.bars}
    lacking = [day for day in days if day not in kept]
    scores = {**kept, **_score(window, model, {day: digests[day] for day in lacking})}
    scores = {day: scores[day] for day in days}
    if lacking and window.save and not window.known_end.explicit:
        _write(path, _Kept(format=_FORMAT, key=key, sessions=scores), window.on_event)
    return UnseenScores(model=model, sessions=scores)


def _select_traded(window: Window, bars: pl.DataFrame) -> pl.DataFrame:
    """Return the bars that are rows of the window: a ticker that is only seen has none."""
    market = window.settings.market
    aside = [ticker for ticker in market.context if ticker not in market.watchlist]
    return bars.filter(~pl.col("ticker").is_in(aside)) if aside else bars


def _compute_key(window: Window, model: Model) -> str:
    """Return a digest of all that a score comes from, but for the bars."""
    settings = window.settings
    parts = {
        "model": model.sha256,
        "policy": hash_policy(settings, features=window.read_features()),
        "context": settings.market.context,
        "target_minutes": settings.model.target_minutes,
        "code": hash_code(),
        "libraries": list_versions(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _hash_sessions(window: Window, bars: pl.DataFrame, days: Sequence[date]) -> dict[date, str]:
    """Return of each day a SHA-256 of the bars that its rows come from: its own, and those of the sessions before."""
    jumps = repr(window.read_bars().jumps)
    if not window.divisible:
        return dict.fromkeys(days, hashlib.sha256(f"{hash_bars(bars)} {jumps}".encode()).hexdigest())
    all_days = bars["session"].unique().sort().to_list()
    first = max(0, all_days.index(days[0]) - WARMUP_SESSIONS)
    each = {day: hash_bars(bars.filter(pl.col("session") == day)) for day in all_days[first:]}
    digests = {}
    for day in days:
        place = all_days.index(day)
        read = " ".join(each[before] for before in all_days[max(0, place - WARMUP_SESSIONS) : place + 1])
        digests[day] = hashlib.sha256(f"{read} {jumps}".encode()).hexdigest()
    return digests


def _score(window: Window, model: Model, lacking: Mapping[date, str]) -> dict[date, SessionScore]:
    """Score the sessions of `lacking`, oldest first; its texts are the hashes of their bars."""
    if not lacking:
        return {}
    settings, days = window.settings, list(lacking)
    since, all_days = days[0], window.list_days()
    apart = sum(day >= since for day in all_days) + WARMUP_SESSIONS < _MOST_APART * len(all_days)
    frame = window.compute_rows(since) if apart and window.divisible else window.assemble().frame
    run = run_model(
        model,
        frame,
        days,
        cost_bps=settings.strategy.cost_bps,
        watchlist=settings.market.watchlist,
        jobs=count_cores(settings),
    )
    nets = zip(days, run.simulation.net.tolist(), strict=True)
    return {day: _count_rows(model, frame, day, net, lacking[day]) for day, net in nets}


def _count_rows(model: Model, frame: pl.DataFrame, day: date, net: float, bars: str) -> SessionScore:
    meta = model.meta
    rows = frame.filter((pl.col("session") == day) & meta.inputs.is_known())
    counts = (
        None if meta.feature_bins is None else count_in_bins(meta.feature_bins, build_matrix(rows, meta.feature_names))
    )
    return SessionScore(bars=bars, net=net, observations=rows["ticker"].n_unique(), counts=counts)


def _read(path: Path, key: str, on_event: OnEvent) -> dict[date, SessionScore]:
    """Return what is kept of `key`; nothing where the file is not whole, which is told."""
    if not path.exists():
        return {}
    kept, fault = None, "its seal does not fit"
    try:
        with durable.convert_storage_faults("reading the scores of sessions"):
            kept = msgspec.json.decode(durable.read_file(path), type=_Kept)
    except (msgspec.DecodeError, StorageError) as error:
        fault = str(error)
    if kept is None or kept != kept.add_seal():
        text = f"{path} is damaged or of another hftcl ({fault}): the sessions since the training are scored again"
        on_event(Event("check", text=text, level=Level.NOTE))
        return {}
    return kept.sessions if (kept.format, kept.key) == (_FORMAT, key) else {}


def _write(path: Path, kept: _Kept, on_event: OnEvent) -> None:
    try:
        with durable.convert_storage_faults("keeping the scores of sessions"):
            durable.write_atomically(path, msgspec.json.encode(kept.add_seal()))
    except StorageError as fault:  # what was computed holds all the same, and the next check computes it again
        on_event(Event("check", text=str(fault), level=Level.WARNING))
