"""A universe of more rows than `[model] max_rows`: it is said wherever a model is, and the model comes out again."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from hftcl import ContinuousLearning
from hftcl.archive import artifact
from hftcl.archive.policy import hash_policy
from hftcl.archive.registry import Registry
from hftcl.errors import NoDataError
from hftcl.events import Event, go_on, ignore
from hftcl.exam.split import list_sessions, split
from hftcl.learning.candidate import merge_params
from hftcl.learning.dataset import open_window
from hftcl.learning.inside import Training, choose
from hftcl.learning.training_rows import TrainingRows
from hftcl.model import file_size
from hftcl.model.families import find_family
from hftcl.model.features import is_known
from hftcl.model.file_size import count_most_bytes
from hftcl.model.training import TrainingPool
from hftcl.settings import Settings
from tests.loop_cases import NOW, small

MOST = 4_000
"""Of 20,000 rows: three tickers in 18 sessions make 54 groups of some 360 rows, of which eleven fit."""


def limited(home: Path, family: str, **sections: dict[str, object]) -> Settings:
    model: dict[str, object] = {"n_estimators": 8} if family == "forest" else {"family": family}
    return small(home, model={**model, "max_rows": MOST}, **sections)


def learning(settings: Settings) -> ContinuousLearning:
    return ContinuousLearning(settings, clock=lambda: NOW, on_event=ignore)


@pytest.mark.parametrize("family", ["forest", "ridge"])
def test_file_verdict_and_history_say_it_and_the_model_comes_out_again_to_the_bit(family: str, tmp_path: Path) -> None:
    settings = limited(tmp_path, family)
    report = learning(settings).retrain(force=True)
    assert report.max_rows == MOST
    assert report.model_id is not None
    meta = artifact.describe(Registry(tmp_path).locate_onnx(report.model_id))
    assert meta.max_rows == MOST
    assert meta.rows == report.rows
    assert (report.rows > MOST) == (family == "forest"), "a forest draws from all rows, a ridge has the sample alone"
    again = learning(replace(settings, model=replace(settings.model, max_rows=0))).reproduce(report.model_id)
    assert (again.equal, again.differences) == (True, ())
    assert learning(settings).get_model_history(all=True)["max_rows"].tolist() == [MOST]
    for bar in learning(settings).explain(report.model_id).rows:
        assert bar.contributions is not None
        assert bar.prediction is not None
        assert bar.base is not None
        assert sum(bar.contributions.values()) + bar.base == pytest.approx(bar.prediction, abs=1e-4)


def test_a_sample_reaches_no_further_and_no_less_far_than_all_rows_do(tmp_path: Path) -> None:
    """What a model has seen is told of all that it might have drawn: an exam must not begin too early."""
    window = open_window(limited(tmp_path, "ridge"), as_of=None, now=NOW, save=False, on_event=ignore)
    frame, names = window.assemble().frame, window.read_features().names
    division = split(list_sessions(frame), exam_sessions=10, embargo_sessions=1)
    one = TrainingRows.gather(frame, division, limited(tmp_path, "ridge"), names, go_on)
    every = TrainingRows.gather(frame, division, small(tmp_path), names, go_on)
    assert one.frame.height == len(one.X) == len(one.y) <= MOST < every.frame.height
    assert one.groups is None
    assert every.max_rows == 0
    assert (one.first, one.last, one.label_end) == (every.first, every.last, every.label_end)
    may = frame.filter(is_known(names) & pl.col("target").is_not_null() & division.mask_training(frame))
    drawn = may.join(
        one.frame.with_columns(pl.Series(names[0], one.X[:, 0])), on=["ts", "target", names[0]], how="semi"
    )
    sizes, whole = (rows.group_by("ticker", "session").len() for rows in (drawn, may))
    assert sizes.join(whole, on=["ticker", "session", "len"]).height == sizes.height, "whole sessions of tickers"
    assert drawn["target"].to_list() == one.y.tolist()
    assert may["target"].to_list() == every.y.tolist()


def test_the_bound_of_the_file_reckons_with_the_sample_that_a_tree_learns_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: dict[str, object] = {"n_estimators": 2, "max_depth": 16, "min_samples_leaf": 2, "max_rows": MOST}
    settings = small(tmp_path, model=model)
    most = count_most_bytes(find_family("forest"), merge_params(settings), [MOST])
    monkeypatch.setattr(file_size, "MAX_BYTES", most)  # of this process alone: the one that trains has the real one
    frame = open_window(settings, as_of=None, now=NOW, save=False, on_event=ignore).assemble().frame
    division = split(list_sessions(frame), exam_sessions=10, embargo_sessions=1)
    told: list[Event] = []
    with TrainingPool() as pool:
        for limit in (MOST, 0):
            one = replace(settings, model=replace(settings.model, max_rows=limit))
            training = Training(settings=one, params=merge_params(one), pool=pool, on_event=told.append)
            choose(frame, division, artifact.list_our_features(), training).learn()
            warned = ["the model may take up to" in event.text for event in told]
            assert any(warned) == (limit == 0), "twenty thousand rows might fill more"


def test_another_limit_is_another_policy_and_the_default_is_none_of_its_own(tmp_path: Path) -> None:
    plain = small(tmp_path)
    assert hash_policy(plain) != hash_policy(limited(tmp_path, "ridge"))
    assert replace(plain, model=replace(plain.model, max_rows=Settings().model.max_rows)) == plain


def test_where_no_bar_can_train_the_bars_and_the_reason_of_the_training_sessions_are_told(tmp_path: Path) -> None:
    window = open_window(small(tmp_path), as_of=None, now=NOW, save=False, on_event=ignore)
    frame, names = window.assemble().frame, window.read_features().names
    days = list_sessions(frame)[-3:]
    few = frame.filter(pl.col("session").is_in([session.day for session in days])).with_columns(target=None)
    division = split(days, exam_sessions=1, embargo_sessions=1)
    with pytest.raises(NoDataError) as raised:
        TrainingRows.gather(few, division, small(tmp_path), names, go_on)
    told = str(raised.value)
    assert f"None of the {few.filter(division.mask_training(few)).height} bars of 1 training session has" in told
    assert "the session before, which the first one that the source has lacks" in told
    assert "Where the source has earlier bars, raise [market] lookback_days; else" in told
