"""A feature of the user's own goes the whole way: checked, trained on, in the model file, examined, and traded."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from hftcl import ContinuousLearning
from hftcl.archive import artifact
from hftcl.archive.registry import Registry
from hftcl.doctor.prometheus import render_text
from hftcl.errors import ConfigError, FeatureError, IntegrityError
from hftcl.events import Event, ignore
from hftcl.home import Home
from hftcl.learning.alert_texts import build_digest
from hftcl.learning.backtest.trainings import build_shop
from hftcl.learning.dataset import open_window
from hftcl.learning.reports import FeaturesReport
from hftcl.learning.stories.features import measure_worth
from hftcl.learning.stories.history import plan_rollback
from hftcl.model.features import FEATURE_NAMES
from hftcl.settings import Settings
from tests.in_process import answer_here
from tests.loop_cases import NOW, QUICK_TOML, RETRAIN, first_retrain, small

OWN = '''\
"""A feature of mine."""
import polars as pl
from hftcl.model.features import Feature
from hftcl.model.grid import divide_by_volatility
SECRET_SAUCE = 60
FEATURES = (
    Feature(
        name="ret_60",
        group="mine",
        expr=divide_by_volatility((pl.col("close") / pl.col("close").shift(SECRET_SAUCE)).log(), 60),
        lookback=60,
        formula="ln(c[t] / c[t-60]) / (vol_30 * sqrt(60))",
        reason="Momentum over twice the horizon.",
    ),
)
'''


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, Path]:
    """Make a home whose model of ours serves, and whose next one has a feature of the user's."""
    home = tmp_path_factory.mktemp("grown")
    first_retrain(home)
    file = home / "my_features.py"
    file.write_text(OWN)
    return small(home, features={"modules": (str(file),)}, promote={"policy": "seed", "tolerance": 0.99}), file


def learning(settings: Settings) -> ContinuousLearning:
    return ContinuousLearning(settings, clock=lambda: NOW)


def test_a_champion_without_the_feature_defends_itself_and_the_file_holds_no_code(grown: tuple[Settings, Path]) -> None:
    settings, file = grown
    report = learning(settings).retrain(force=True)
    assert report.champion is not None
    assert report.challenger is not None
    assert report.champion.sharpe is not None, "the model of 31 features is scored beside the one of 32"
    assert report.outcome == "deployed"
    missing = replace(settings, features=replace(settings.features, modules=(str(file.with_name("missing.py")),)))
    assert plan_rollback(missing).target.model_id == report.champion.model_id, "ours need no file of the user's"
    data = (Home.of(settings).root / "models" / f"model_{report.model_id}.onnx").read_bytes()
    meta = artifact.describe(data)
    assert meta.feature_names[-1] == "ret_60"
    assert [bool(source) for source in meta.feature_sources] == [False] * 31 + [True]
    assert b"SECRET_SAUCE" not in data
    assert artifact.load(data, expected_features=artifact.list_our_features(settings)).meta == meta
    dropped = artifact.list_our_features(replace(settings, features=replace(settings.features, drop=("mine",))))
    assert dropped.names == FEATURE_NAMES
    assert artifact.load(data, expected_features=dropped.narrow(meta.feature_names)).meta == meta, (
        "it defends itself against the first model without the feature"
    )
    with pytest.raises(IntegrityError, match="ret_60 is gone"):
        artifact.load(data, expected_features=artifact.list_our_features().narrow(meta.feature_names))
    original = file.read_text()
    file.write_text(original.replace("= 60\n", "= 59\n"))
    with pytest.raises(IntegrityError, match="the file of ret_60 was changed since"):
        artifact.load(data, expected_features=artifact.list_our_features(settings))
    file.write_text(original)


def test_a_feature_that_looks_ahead_is_refused_before_anything_is_trained(grown: tuple[Settings, Path]) -> None:
    settings, file = grown
    leak = file.parent / "leak.py"
    leak.write_text(OWN.replace("= 60\n", "= -30\n").replace("lookback=60", "lookback=30").replace("ret_60", "peek"))
    before = sorted(path.name for path in file.parent.rglob("*"))
    planted = replace(settings, features=replace(settings.features, modules=(str(leak),)))
    with pytest.raises(FeatureError, match="The feature peek breaks a promise: a value never changes"):
        learning(planted).retrain(force=True)
    with pytest.raises(ConfigError, match="cannot be read"):
        learning(replace(settings, features=replace(settings.features, modules=("no.py",)))).check()
    assert sorted(path.name for path in file.parent.rglob("*")) == before


@pytest.mark.parametrize("stage", ["features", "exam"])
def test_a_file_that_is_changed_while_a_training_runs_ends_it(grown: tuple[Settings, Path], stage: str) -> None:
    settings, file = grown
    original = file.read_text()

    def change(event: Event) -> None:
        if event.stage == stage and event.total and event.done == event.total:
            file.write_text(original.replace("= 60\n", "= 59\n"))

    before = [model.model_id for model in Registry(Home.of(settings).root).list_models()]
    try:
        with pytest.raises(FeatureError, match=r"a file was changed while this ran \(.*my_features\.py\)"):
            ContinuousLearning(settings, clock=lambda: NOW, on_event=change).retrain(force=True)
    finally:
        file.write_text(original)
    assert [model.model_id for model in Registry(Home.of(settings).root).list_models()] == before


def test_a_file_that_is_changed_while_folds_are_trained_ends_a_retrain_that_only_tells(
    grown: tuple[Settings, Path],
) -> None:
    """One that deploys looks again before it does."""
    settings, file = grown
    settings = replace(settings, strategy=replace(settings.strategy, cost_bps=2.0))  # a policy without a record
    original = file.read_text()

    def change(event: Event) -> None:
        if event.stage == "record" and event.text == "walk-forward":
            file.write_text(original.replace("= 60\n", "= 59\n"))

    try:
        with pytest.raises(FeatureError, match=r"a file was changed while this ran \(.*my_features\.py\)"):
            ContinuousLearning(settings, clock=lambda: NOW, on_event=change).retrain(force=True, dry_run=True)
    finally:
        file.write_text(original)


def test_a_file_that_is_changed_while_weeks_are_searched_ends_the_backtest(grown: tuple[Settings, Path]) -> None:
    settings, file = grown
    data = open_window(settings, as_of=None, now=NOW, save=False, on_event=ignore).assemble()
    original = file.read_text()
    assert build_shop(settings, data, {}, frame_minutes=10).features.definitions_hash == data.features.definitions_hash
    try:
        file.write_text(original.replace("= 60\n", "= 59\n"))
        with pytest.raises(FeatureError, match="a file was changed while this ran"):
            build_shop(settings, data, {}, frame_minutes=10)
    finally:
        file.write_text(original)


@pytest.mark.parametrize("text", [None, "1 / 0\n"], ids=["missing", "broken"])
def test_a_file_that_cannot_be_run_blocks_neither_metrics_nor_the_digest(
    grown: tuple[Settings, Path], text: str | None
) -> None:
    settings, file = grown
    lame = file.parent / "lame.py"
    if text is not None:
        lame.write_text(text)
    settings = replace(settings, features=replace(settings.features, modules=(str(lame),)))
    assert "hftcl_model_info" in render_text(settings, NOW)
    edge = dict(build_digest(settings, NOW - timedelta(days=7), NOW).facts)["edge"]
    assert edge.startswith(f"cannot be told: [features] modules: {lame}")


@pytest.fixture(scope="module")
def report(grown: tuple[Settings, Path]) -> FeaturesReport:
    return learning(grown[0]).features()


def test_features_tells_what_each_is_worth_on_the_training_sessions_alone(
    grown: tuple[Settings, Path], report: FeaturesReport
) -> None:
    settings, _ = grown
    mine = report.features[-1]
    assert (mine.name, mine.group, mine.own, mine.lookback) == ("ret_60", "mine", True, 60)
    assert len(report.features) == 32
    assert report.intervals == 32 * 4
    assert report.training_sessions + settings.exam.sessions < 46
    planted = {feature.name: feature for feature in report.features}["vwap_dist"]
    low, value, high = planted.ic["30"] or (0.0, 0.0, 0.0)
    assert low < value < high < 0, "the synthetic market's edge is that prices come back"
    assert all(0 <= feature.coverage <= 1 and feature.cost_us > 0 for feature in report.features)
    assert mine.coverage < planted.coverage, "an hour of each session is its look-back"


def test_the_information_coefficient_is_the_rank_correlation_over_all_bars(
    grown: tuple[Settings, Path], report: FeaturesReport
) -> None:
    from scipy.stats import spearmanr

    frame = learning(grown[0]).collect_training_data()
    days = sorted(frame["session"].unique())[: report.training_sessions]
    both = frame[frame["session"].isin(days)].dropna(subset=["ret_60", "target"])
    ic = report.features[-1].ic["30"]
    assert ic is not None
    assert ic[1] == pytest.approx(spearmanr(both["ret_60"], both["target"]).statistic, abs=1e-9)


def test_an_interval_of_what_foretells_nothing_leaves_out_zero_in_one_walk_of_ten() -> None:
    """Where the price stands in its session, of walks at random; beside the session's own mean, all of them would."""
    found = []
    for seed in range(100):
        price = np.random.default_rng(seed).normal(size=(40, 390)).cumsum(axis=1)
        target = np.full_like(price, np.nan)
        target[:, :-30] = price[:, 30:] - price[:, :-30]
        low, _, high = measure_worth(price.ravel(), target.ravel(), np.repeat(np.arange(40), 390)) or (0.0, 0.0, 0.0)
        found.append(low > 0 or high < 0)
    assert 3 <= sum(found) <= 22, "10, by a binomial of 100 within 1 of 10,000 but for the few sessions"


def test_an_interval_of_a_few_sessions_holds_what_is_true_as_often_as_it_says() -> None:
    """Noise on noise; percentiles of sessions that are drawn again hold 0 in some 80 of 100 where there are five."""
    session, held, worlds = np.repeat(np.arange(5), 40), 0, 400
    for seed in range(worlds):
        values, target = np.random.default_rng(seed).normal(size=(2, session.size))
        low, value, high = measure_worth(values, target, session) or (1.0, 1.0, 1.0)
        assert -1 <= low <= value <= high <= 1
        held += low <= 0 <= high
    assert 0.85 <= held / worlds <= 0.95


def test_a_worth_that_is_not_defined_is_none() -> None:
    values, session = np.arange(60.0), np.repeat([4, 9], 30)
    assert measure_worth(values, values, session) == pytest.approx((1.0, 1.0, 1.0))
    assert measure_worth(values, values, np.full(60, 4)) is None, "one session has no interval"
    assert measure_worth(values, np.ones(60), session) is None
    assert measure_worth(np.where(values < 29, values, np.nan), values, session) is None


@pytest.mark.slow
def test_the_bot_trades_a_model_with_an_own_feature_as_the_exam_did(tmp_path: Path) -> None:
    (tmp_path / "hftcl.toml").write_text(QUICK_TOML + '[features]\nmodules = ["my_features.py"]\n')
    (tmp_path / "my_features.py").write_text(OWN)
    model = answer_here(tmp_path, *RETRAIN)["model_id"]
    replayed = answer_here(tmp_path, "trade", "--replay", "2025-12-11")
    examined = answer_here(tmp_path, "exam", model, "--from", "2025-12-11", "--to", "2025-12-11")
    assert replayed["positions_sha256"] == examined["positions_sha256"]
    assert replayed["codes"]["hold_warmup"] > 60, "an hour of the session is the feature's look-back"
