"""Train and examine on a frame that a researcher holds. Of it the archive keeps that the exam was looked at."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

import polars as pl

from hftcl.archive.artifact import list_our_features
from hftcl.archive.deployment import ModelArchive
from hftcl.archive.policy import hash_policy
from hftcl.archive.records import build_model_id
from hftcl.compute.crew import count_cores
from hftcl.errors import UsageError
from hftcl.events import OnEvent
from hftcl.exam.split import list_sessions, split_for_exam
from hftcl.home import Home
from hftcl.learning.candidate import Candidate, merge_params, train_candidate
from hftcl.learning.reports import ScoreReport
from hftcl.learning.score import examine
from hftcl.learning.trials import record_look
from hftcl.market.bars import BAR_SCHEMA, TS
from hftcl.market.columns import extend_schema
from hftcl.model.feature import Feature, list_columns
from hftcl.model.features import FEATURES
from hftcl.model.training import TrainingPool
from hftcl.settings import Settings

if TYPE_CHECKING:
    import pandas as pd


def try_model(
    df: "pd.DataFrame",
    settings: Settings,
    *,
    params: Mapping[str, object] | None,
    clock: Callable[[], datetime],
    on_event: OnEvent,
) -> tuple[Candidate, ScoreReport]:
    """Return the candidate trained on `df` and its exam on the last sessions of `df`.

    Writes that these sessions were looked at: who chooses by such figures has tried, as with a dry run.
    """
    features = list_our_features(settings)
    frame = from_pandas(df, features.table)
    division = split_for_exam(list_sessions(frame), settings.exam)
    chosen, synthetic = merge_params(settings, params), bool(df.attrs.get("synthetic", False))
    with TrainingPool() as pool:
        candidate = train_candidate(
            frame,
            division,
            settings,
            model_id=build_model_id(clock()),
            params=chosen,
            features=features,
            source=str(df.attrs.get("source", "frame")),
            synthetic=synthetic,
            pool=pool,
            on_event=on_event,
        )
    examined = examine(
        candidate.model,
        frame,
        division.exam_days,
        cost_bps=settings.strategy.cost_bps,
        watchlist=settings.market.watchlist,
        jobs=count_cores(settings),
    )
    record_look(
        ModelArchive(Home.of(settings).root),
        examined.report,
        policy=hash_policy(settings, chosen, features=features),
        synthetic=synthetic,
        now=clock,
        on_event=on_event,
    )
    return candidate, examined.report


def from_pandas(df: "pd.DataFrame", table: tuple[Feature, ...] = FEATURES) -> pl.DataFrame:
    """Return the frame of `collect_training_data` as the rooms know it, NaN as null. Raises UsageError without it."""
    # The columns of the training matrix: a frame of a user is brought to the same types.
    schema: dict[str, pl.DataType | type[pl.DataType]] = {
        **extend_schema(BAR_SCHEMA, list_columns(table)),
        **{feature.name: pl.Float32 for feature in table},
        "target": pl.Float32,
        "label_end": TS,
    }
    missing = [name for name in schema if name not in df.columns]
    if missing:
        raise UsageError(
            f"The frame lacks {', '.join(missing[:5])}{' ...' if len(missing) > 5 else ''}. "
            "Give the one that collect_training_data returned; rows may be left out, columns not."
        )
    columns = []
    for name, dtype in schema.items():
        values = df[name]
        if dtype == TS:
            naive = values.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy().astype("datetime64[us]")
            columns.append(pl.Series(name, naive).dt.replace_time_zone("UTC"))
        elif dtype in (pl.String, pl.Date):
            columns.append(pl.Series(name, values.tolist(), dtype=dtype))
        else:
            columns.append(pl.Series(name, values.to_numpy(), nan_to_null=True).cast(dtype))
    return pl.DataFrame(columns).sort("ticker", "ts")
