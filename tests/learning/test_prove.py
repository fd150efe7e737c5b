"""The look-ahead proof: it holds on our features, and it can fail."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hftcl import ContinuousLearning
from hftcl.errors import NoDataError
from hftcl.learning.reports import ProofReport
from hftcl.learning.stories import prove as proof
from hftcl.market.window import open_market
from hftcl.model.features import FEATURES, Feature
from tests.loop_cases import small

NOW = datetime(2026, 1, 9, 7, 0, tzinfo=UTC)


def proved(home: Path, monkeypatch: pytest.MonkeyPatch, feature: Feature | None = None) -> ProofReport:
    if feature is not None:
        monkeypatch.setattr(proof, "FEATURES", (feature, *FEATURES[1:]))
    settings = small(home, market={"lookback_days": 20})
    return ContinuousLearning(settings, clock=lambda: NOW).prove(cases=3)


def test_nothing_looks_ahead_and_the_planted_leak_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = proved(tmp_path, monkeypatch)
    assert report.proved
    assert (report.differences, report.streaming_differences, report.label_overlap) == (0, 0, 0)
    assert report.planted_leak_caught
    assert report.values_compared > 10_000
    assert report.streamed_bars > 500
    assert list(tmp_path.iterdir()) == [], "a proof changes nothing"


@pytest.mark.parametrize(
    "expr",
    [
        pl.col("close").shift(-1) / pl.col("close") - 1,
        pl.col("close") / pl.col("close").mean() - 1,
        pl.col("close").backward_fill() / pl.col("close").last() - 1,
    ],
    ids=["the next bar", "the mean of the whole session", "the session's last bar"],
)
def test_a_feature_that_looks_ahead_is_found(expr: pl.Expr, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = FEATURES[0]
    cheat = Feature(name=original.name, group="x", expr=expr, lookback=0, formula="", reason="")
    report = proved(tmp_path, monkeypatch, cheat)
    assert not report.proved
    assert report.differences > 0
    assert report.streaming_differences > 0


def test_each_replacement_leaves_no_later_bar_as_it_was(tmp_path: Path) -> None:
    settings = small(tmp_path)
    source, calendar = open_market(settings)
    from hftcl.market.bars import BAR_SCHEMA, clean

    sessions = calendar.sessions(datetime(2026, 1, 5, tzinfo=UTC).date(), datetime(2026, 1, 5, tzinfo=UTC).date())
    raw = source.minutes("AAPL", sessions["session"][0], sessions["session"][0])
    bars, _ = clean(raw, sessions, ticker="AAPL")
    random = np.random.default_rng(0)
    for name, later in proof.TAMPERINGS.items():
        tampered = later(bars, random, calendar).select(BAR_SCHEMA.names())
        kept = bars.join(tampered, on=["ticker", "ts", "open", "high", "low", "close"], how="semi")
        assert kept.height == 0, name


def test_too_few_sessions_prove_nothing(tmp_path: Path) -> None:
    with pytest.raises(NoDataError, match="needs 7"):
        ContinuousLearning(small(tmp_path, market={"lookback_days": 5}), clock=lambda: NOW).prove(cases=1)
