"""The story of `features`: what is in force, and what each feature is worth on the user's own bars. Changes nothing.

It looks at the training sessions alone: a feature that is chosen by what it does in the exam has seen the exam.
"""

import math
from collections.abc import Sequence
from datetime import datetime
from time import perf_counter
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from hftcl.archive import artifact
from hftcl.archive.fitness import find_market_kind, find_unfit
from hftcl.archive.registry import Registry
from hftcl.errors import HftclError
from hftcl.events import Event, OnEvent
from hftcl.exam.importance import compute_parts
from hftcl.exam.split import list_sessions, split_for_exam
from hftcl.exam.student import compute_t_quantile
from hftcl.home import Home
from hftcl.learning.dataset import open_window
from hftcl.learning.reports import FeatureReport, FeaturesReport
from hftcl.market.bars import BAR_SCHEMA
from hftcl.model.feature import Feature, list_columns
from hftcl.model.features import FEATURES, evaluate
from hftcl.model.grid import EARLIER_SESSIONS, MinuteGrid, build_grid
from hftcl.model.target import evaluate_target
from hftcl.settings import Settings

_HORIZONS: Final = (5, 15, 30, 60)  # minutes; [model] horizon_minutes stands beside them
_QUANTILES: Final = (0.01, 0.25, 0.5, 0.75, 0.99)  # the middle, and both tails without their single worst bars
_INTERVAL: Final = 0.90  # as the intervals of exam and backtest
_FEWEST_BARS: Final = 30  # fewer make no correlation worth a number
_TIMES: Final = 3  # the quickest of three: what else runs on the machine only makes one slower

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.integer]


def describe_features(settings: Settings, *, as_of: str | None, now: datetime, on_event: OnEvent) -> FeaturesReport:
    """Return each feature that a model would be trained on, in its order.

    Raises FeatureError for one of the user's that breaks a promise, NoDataError where the window holds no training
    session beside the exam.
    """
    data = open_window(settings, as_of=as_of, now=now, save=False, on_event=on_event).assemble()
    division = split_for_exam(list_sessions(data.frame), settings.exam)
    days = [session.day for session in division.train]
    rows = data.frame.filter(pl.col("session").is_in(days)).sort("session", "ticker", "ts")
    horizons = tuple(sorted({*_HORIZONS, settings.model.target_minutes}))
    worth = _correlate(rows, data.features.names, horizons, on_event)
    last = rows.filter(pl.col("session").is_in(days[-EARLIER_SESSIONS - 1 :]))
    columns = list_columns(data.features.chosen)
    grid = build_grid(last.select(*BAR_SCHEMA.names(), *columns), columns)
    model_id, importances = _read_importances(settings)
    return FeaturesReport(
        features=tuple(
            FeatureReport(
                name=feature.name,
                group=feature.group,
                lookback=feature.lookback,
                sessions=feature.sessions,
                own=bool(feature.source),
                formula=feature.formula,
                coverage=1 - rows[feature.name].null_count() / rows.height,
                quantiles=_find_quantiles(rows[feature.name]),
                ic=worth[feature.name],
                importance=importances.get(feature.name),
                cost_us=_measure_cost(grid, feature),
            )
            for feature in data.features.chosen
        ),
        left_out=tuple(feature.name for feature in FEATURES if feature.name not in data.features.names),
        horizon_minutes=settings.model.target_minutes,
        training_sessions=len(days),
        bars=rows.height,
        model_id=model_id,
        source=data.source,
        synthetic=data.synthetic,
        as_of=data.as_of.at,
        as_of_note=data.as_of.note,
    )


def _find_quantiles(values: pl.Series) -> tuple[float, ...] | None:
    known = values.drop_nulls()
    if known.is_empty():
        return None
    return tuple(float(known.quantile(share, "linear")) for share in _QUANTILES)  # type: ignore[arg-type]


def _correlate(
    rows: pl.DataFrame, names: Sequence[str], horizons: Sequence[int], on_event: OnEvent
) -> dict[str, dict[str, tuple[float, float, float] | None]]:
    """Return by feature and horizon the interval's low end, the information coefficient, and the high end.

    It is the rank correlation of feature and target over all bars, of which each session has a part, see
    `compute_parts`. No target reaches into another session, so the interval takes sessions as independent.
    """
    grid = build_grid(rows.select(BAR_SCHEMA.names()))
    session = rows["session"].rank("dense").to_numpy()
    columns = {name: rows[name].to_numpy() for name in names}
    found: dict[str, dict[str, tuple[float, float, float] | None]] = {name: {} for name in names}
    for done, horizon in enumerate(horizons):
        target = evaluate_target(grid, horizon)["target"].to_numpy()
        for name in names:
            found[name][str(horizon)] = measure_worth(columns[name], target, session)
        on_event(Event("correlate", done + 1, len(horizons)))
    return found


def measure_worth(
    values: npt.NDArray[np.floating], target: npt.NDArray[np.floating], session: IntArray
) -> tuple[float, float, float] | None:
    """Return the rank correlation over all rows that have both, between the ends of its 90 % interval.

    values, target, session: (n,), NaN where there is none, and each row's session. None for rows of fewer than two
    sessions, fewer than 30 rows, or where one of both does not vary.
    """
    both = np.isfinite(values) & np.isfinite(target)
    if both.sum() < _FEWEST_BARS or np.ptp(values[both]) == 0 or np.ptp(target[both]) == 0:
        return None
    x, y = (pl.Series(part[both]).rank().to_numpy() for part in (values, target))
    return _compute_interval(compute_parts(x, y, np.unique(session[both], return_inverse=True)[1]))


def _compute_interval(by_session: FloatArray) -> tuple[float, float, float] | None:
    """Return the mean between the ends of its 90 % interval, by Student's t; None for fewer than two sessions.

    Not by drawing sessions again: the percentiles of 5 hold the truth in some 70 of 100 cases, of 20 in 85.
    """
    n = by_session.size
    if n < 2:
        return None
    mean, error = float(by_session.mean()), float(by_session.std(ddof=1)) / math.sqrt(n)
    half = compute_t_quantile(n - 1, (1 + _INTERVAL) / 2) * error
    return max(mean - half, -1.0), mean, min(mean + half, 1.0)


def _read_importances(settings: Settings) -> tuple[str | None, dict[str, float]]:
    """Return the model that serves here and its importances by feature; none where no file of it can be read."""
    registry = Registry(Home.of(settings).root)
    live = registry.find_live()
    if live is None:
        return None, {}
    try:
        meta = artifact.describe(registry.production)
    except HftclError:  # `doctor` tells of a file that is damaged
        return None, {}
    if find_unfit(registry, find_market_kind(settings)) is not None:  # it has no importances here
        return None, {}
    return meta.model_id, dict(zip(meta.feature_names, meta.importances or (), strict=False))


def _measure_cost(grid: MinuteGrid, feature: Feature) -> float:
    """Return microseconds a bar of the feature's expression, beside what all features share; on one core, about."""
    took = []
    for _ in range(_TIMES):
        began = perf_counter()
        evaluate(grid, (feature,))
        took.append(perf_counter() - began)
    return 1e6 * min(took) / max(grid.rows.size, 1)
