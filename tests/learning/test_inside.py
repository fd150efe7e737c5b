"""What is chosen inside the training window: told, in the model file, and the same in exam and bot to the bit."""

import time
import weakref
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from hftcl.archive import artifact
from hftcl.archive.fitness import load_archived
from hftcl.archive.policy import hash_policy
from hftcl.archive.registry import Registry
from hftcl.document import build_document
from hftcl.errors import ConfigError
from hftcl.events import ignore
from hftcl.exam.entry import NEVER, QUANTILES
from hftcl.exam.metrics import expected_maximum
from hftcl.exam.split import list_sessions, split, split_for_refit, split_inner
from hftcl.learning.candidate import merge_params, train_candidate
from hftcl.learning.dataset import open_window
from hftcl.learning.inside import Training, choose_net_horizon
from hftcl.learning.reports import RetrainReport
from hftcl.learning.score import examine
from hftcl.learning.stories.exam import score
from hftcl.learning.stories.explain import explain
from hftcl.learning.stories.history import history
from hftcl.learning.training_rows import TrainingRows, weigh_rows
from hftcl.ledger.reader import LedgerReader
from hftcl.model.families.ridge import Ridge
from hftcl.model.features import build_matrix, is_known
from hftcl.model.novelty import measure_novelty
from hftcl.model.training import TrainingPool
from hftcl.settings import Features, Model, Settings, Strategy
from hftcl.strategy.weights import measure_volatility
from hftcl.trading.run.controls import Controls
from hftcl.trading.run.replay import replay
from hftcl.views.archive import draw_lineage
from tests.loop_cases import BEFORE_SHORT_DAY, NOW, SHORT_DAY, first_retrain, small
from tests.trained import Homes

LATER = datetime(2026, 1, 12, 12, tzinfo=UTC)
Chosen = dict[str, dict[str, object]]
LAX: Chosen = {"promote": {"min_sharpe": -100}}


def retrain(home: Path, chosen: Chosen, *, outcome: str = "deployed") -> RetrainReport:
    """Make `home` one after a first retrain as of the day before the short one; return its report."""
    return first_retrain(home, outcome=outcome, as_of=BEFORE_SHORT_DAY, **chosen)


@pytest.fixture(scope="module")
def plain(homes: Homes, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RetrainReport]:
    """Return a home after a retrain that chooses nothing, and the report."""
    home = tmp_path_factory.mktemp("plain") / "home"
    return home, homes.copy(home, retrain, chosen=LAX)


@pytest.fixture(scope="module")
def choosy(homes: Homes, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RetrainReport]:
    """Return a home after a retrain that let features go, and the report."""
    home = tmp_path_factory.mktemp("choosy") / "home"
    return home, homes.copy(home, retrain, chosen=CHOOSY)


def frame_of(home: Path, chosen: Chosen) -> pl.DataFrame:
    """Return the rows of that retrain."""
    return (
        open_window(small(home, **chosen), as_of=BEFORE_SHORT_DAY, now=NOW, save=False, on_event=ignore)
        .assemble()
        .frame
    )


def replayed_and_examined(home: Path, settings: Settings, model_id: str) -> tuple[str | None, str | None]:
    """Return the hash of the positions of the bot, and that of the exam, on a session that the model has not seen."""
    bot = replay(
        settings,
        f"{SHORT_DAY}..{SHORT_DAY}",
        now=LATER,
        stopwatch=time.perf_counter,
        controls=Controls(),
        on_event=ignore,
        on_alert=lambda _: None,
    )
    exam = score(settings, model_id, SHORT_DAY, SHORT_DAY, clock=lambda: LATER, on_event=ignore)
    return bot.positions_sha256, exam.positions_sha256


# --- the entry threshold ----------------------------------------------------------------------------------------------


NET: Chosen = {**LAX, "strategy": {"entry": "net"}}


@pytest.fixture(scope="module")
def net(homes: Homes, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RetrainReport]:
    """Return a home after a retrain whose threshold is the one that pays, and the report."""
    home = tmp_path_factory.mktemp("net") / "home"
    return home, homes.copy(home, retrain, chosen=NET)


def test_the_threshold_that_pays_is_told_and_in_the_model_file(net: tuple[Path, RetrainReport]) -> None:
    home, report = net
    meta = artifact.describe(home / "trained_stock_model.onnx")
    assert report.entry is not None
    assert meta.entry == report.entry
    assert [one.quantile for one in report.entry.tried] == list(QUANTILES)
    paying = {one.quantile: one for one in report.entry.tried if one.net > one.standard_error}
    best = paying[max(paying, key=lambda quantile: paying[quantile].net)]
    assert (report.entry.quantile, report.entry.threshold) == (best.quantile, best.threshold)
    assert meta.threshold == report.threshold == best.threshold
    told = build_document(report)["entry"]
    assert told["quantile"] == best.quantile
    assert told["reason"].startswith(f"quantile {best.quantile:g} earned most of 9 thresholds on ")
    assert meta.idle == ""


def test_the_quantile_of_the_settings_is_among_those_tried_to_the_bit(
    net: tuple[Path, RetrainReport], plain: tuple[Path, RetrainReport]
) -> None:
    """The same model of the same rows sets both; so one threshold is the other's to the bit."""
    assert plain[1].entry is None
    assert net[1].entry is not None
    at_90 = next(one for one in net[1].entry.tried if one.quantile == Strategy().entry_quantile)
    assert at_90.threshold == plain[1].threshold


def require_earned(home: Path, report: RetrainReport, settings: Settings, frame: pl.DataFrame) -> None:
    """Find it a second way: by a model of the fitted sessions, of a retrain of its own, examined on those held out."""
    assert report.entry is not None
    served = artifact.describe(home / "trained_stock_model.onnx")
    division = split(list_sessions(frame), exam_sessions=10, embargo_sessions=1)
    inner = split_inner(division.train, embargo_sessions=1)
    with TrainingPool() as pool:
        early = train_candidate(
            frame,
            inner,
            small(home),
            model_id="inner",
            params=merge_params(settings),
            features=artifact.list_our_features(),
            source="synthetic",
            synthetic=True,
            pool=pool,
            on_event=ignore,
        )
    hand = replace(
        early.model.meta,
        side=served.side,
        volatility=served.volatility,
        novelty=served.novelty,
        format=served.format,
    )
    for one in report.entry.tried[::4]:
        meta = replace(hand, threshold=one.threshold)
        model = artifact.load(artifact.build(early.trained.onnx, meta, np.zeros((1, 31), dtype=np.float32)))
        found = examine(model, frame, inner.exam_days, cost_bps=1.0, watchlist=settings.market.watchlist).simulation.net
        assert one.net == pytest.approx(found.mean(), rel=1e-9)
        assert one.standard_error == pytest.approx(found.std(ddof=1) / np.sqrt(len(found)), rel=1e-9)


def test_what_a_threshold_is_said_to_earn_is_what_an_exam_of_those_sessions_finds(
    net: tuple[Path, RetrainReport],
) -> None:
    home, report = net
    settings = small(home, **NET)
    require_earned(home, report, settings, frame_of(home, NET))


HAND: Chosen = {
    **LAX,
    "model": {"novelty": 0.9},
    "strategy": {"entry": "net", "side": "short", "weighting": "inverse_volatility"},
}


def test_a_threshold_is_chosen_by_the_side_the_weights_and_the_novelty_that_the_model_trades_by(tmp_path: Path) -> None:
    """And those are measured on the sessions that train, not on the exam."""
    report = retrain(tmp_path, HAND)
    frame = frame_of(tmp_path, HAND)
    require_earned(tmp_path, report, small(tmp_path, **HAND), frame)
    division = split(list_sessions(frame), exam_sessions=10, embargo_sessions=1)
    trains = frame.filter(division.mask_training(frame))
    served = artifact.describe(tmp_path / "trained_stock_model.onnx")
    of_training = frame.filter(pl.col("session").is_in(division.train_days))
    assert served.volatility == measure_volatility(of_training) != measure_volatility(frame)
    known = trains.filter(is_known(served.feature_names))
    assert served.novelty == measure_novelty(build_matrix(known, served.feature_names), 0.9)


DEAR: Chosen = {**LAX, "strategy": {"entry": "net", "cost_bps": 500.0}}


def test_a_model_that_finds_nothing_worth_its_cost_trades_nothing_and_says_so(tmp_path: Path) -> None:
    report = retrain(tmp_path, DEAR, outcome="rejected")
    assert report.entry is not None
    assert report.entry.quantile is None
    assert report.challenger is not None
    assert (report.challenger.trades, report.challenger.turnover) == (0, 0.0)
    assert report.reason.startswith(
        "the challenger would trade nothing: none of 9 thresholds earned more than its standard error"
    )
    archive = Registry(tmp_path)
    (attempt,) = archive.list_attempts()
    assert (attempt.outcome, attempt.model_id) == ("rejected", report.model_id), "else another is trained every night"
    (record,) = archive.list_models()
    model = load_archived(archive, record, None, artifact.list_our_features())
    assert model.meta.threshold == NEVER
    assert model.meta.idle == report.entry.reason
    explained = explain(small(tmp_path, **DEAR), str(report.model_id), now=LATER, on_event=ignore)
    assert explained.idle == report.entry.reason


# --- what a policy is -------------------------------------------------------------------------------------------------


def test_settings_that_change_what_is_traded_make_another_policy_and_their_defaults_leave_old_records_alone() -> None:
    assert hash_policy(Settings()) == "e12587361c748dfd", "of the release before these settings"
    policies = [
        hash_policy(Settings(strategy=Strategy(**chosen)))  # type: ignore[arg-type]
        for chosen in ({}, {"entry": "net"}, {"side": "long"}, {"side": "short"}, {"weighting": "inverse_volatility"})
    ]
    policies += [
        hash_policy(Settings(model=Model(horizon_minutes="auto", horizons=tried))) for tried in ((10, 20), (10, 30))
    ]
    assert hash_policy(Settings(model=Model(horizons=(7,)))) == policies[0], "a list that is not read"
    policies.append(hash_policy(Settings(model=Model(novelty=0.99))))
    policies.append(hash_policy(Settings(model=Model(half_life_days=30.0))))
    policies.append(hash_policy(Settings(model=Model(per="ticker"))))
    policies.append(hash_policy(Settings(features=Features(drop_below=0.0))))
    assert len(set(policies)) == len(policies)


# --- side and weights -------------------------------------------------------------------------------------------------


THREE: dict[str, object] = {"watchlist": ("AAPL", "AMD", "TSLA")}
"""So many that on the bot's day there are signals of both sides."""
SHORT: Chosen = {**LAX, "market": THREE, "strategy": {"side": "short", "weighting": "inverse_volatility"}}
WARY: Chosen = {**SHORT, "model": {"novelty": 0.9}}


@pytest.fixture(scope="module")
def wary(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RetrainReport, pl.DataFrame]:
    """Return a home whose model has one side, weights and a limit of novelty, the report, and what the bot decided.

    Exam and bot agree on every position.
    """
    home = tmp_path_factory.mktemp("wary")
    report = retrain(home, WARY)
    bot, exam = replayed_and_examined(home, small(home, **WARY), str(report.model_id))
    assert bot == exam is not None
    with LedgerReader(home / "replay" / "ledger.sqlite") as ledger:
        return home, report, ledger.read_decisions()


def test_exam_and_bot_agree_on_one_side_with_weights_by_volatility(
    wary: tuple[Path, RetrainReport, pl.DataFrame],
) -> None:
    home, report, decisions = wary
    meta = artifact.describe(home / "trained_stock_model.onnx")
    assert (meta.side, meta.format) == ("short", artifact.FORMAT_OF_HAND), "an older hftcl refuses it"
    assert meta.volatility is not None
    assert set(meta.volatility) == {"AAPL", "AMD", "TSLA"}
    assert report.model_id is not None
    assert report.challenger is not None
    assert report.challenger.trades > 0
    of_side = {part.name: part.trades for part in report.challenger.slices["side"]}
    assert of_side.get("long", 0) == 0
    for above, signal in ((pl.col("prediction") > meta.threshold, 0), (pl.col("prediction") < -meta.threshold, -1)):
        at = decisions.filter(above).row(0, named=True)
        bar = (at["ticker"], at["ts"].isoformat())
        (row,) = explain(small(home, **WARY), report.model_id, bar, now=LATER, on_event=ignore).rows
        assert row.signal == signal, "a long signal counts as none"


def test_a_file_without_these_settings_is_one_that_an_older_hftcl_reads(plain: tuple[Path, RetrainReport]) -> None:
    meta = artifact.describe(plain[0] / "trained_stock_model.onnx")
    assert (meta.side, meta.volatility, meta.entry, meta.format) == ("both", None, None, 1)


# --- the horizon ------------------------------------------------------------------------------------------------------


AUTO: Chosen = {**LAX, "model": {"horizon_minutes": "auto", "horizons": (5, 20)}}


def test_the_horizon_that_pays_is_taken_and_gives_the_very_model_of_that_horizon(tmp_path: Path) -> None:
    report = retrain(tmp_path / "auto", AUTO)
    assert report.horizon is not None
    assert [one.horizon_minutes for one in report.horizon.tried] == [5, 20]
    best = max(report.horizon.tried, key=lambda one: one.best.net)
    meta = artifact.describe(tmp_path / "auto" / "trained_stock_model.onnx")
    assert (meta.horizon_minutes, meta.horizon) == (best.horizon_minutes, report.horizon)
    by_hand = retrain(tmp_path / "hand", {**LAX, "model": {"horizon_minutes": best.horizon_minutes}})
    assert by_hand.challenger is not None
    assert report.challenger is not None
    assert replace(report.challenger, model_id=None) == replace(by_hand.challenger, model_id=None), "to the bit"
    assert report.policy_digest != by_hand.policy_digest


def test_the_information_coefficient_is_that_of_the_model_s_own_horizon_whatever_the_frame_s(
    plain: tuple[Path, RetrainReport],
) -> None:
    """Of a model of a fixed horizon too, where the settings have another one now."""
    home, _ = plain
    model = artifact.load(home / "trained_stock_model.onnx")
    own, other = (
        frame_of(home, {"model": {"horizon_minutes": horizon}})
        for horizon in (model.meta.horizon_minutes, 2 * model.meta.horizon_minutes)
    )
    assert not own["target"].equals(other["target"])
    watchlist, days = small(home).market.watchlist, own["session"].unique().sort().to_list()[-5:]
    examined = [examine(model, frame, days, cost_bps=1.0, watchlist=watchlist).report for frame in (own, other)]
    assert examined[0].information_coefficient == examined[1].information_coefficient


def test_the_rows_of_one_horizon_are_gone_when_those_of_the_next_are_gathered(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gathered: list[weakref.ref[object]] = []
    gather = TrainingRows.gather

    def watch(*given: Any) -> TrainingRows:
        assert [one() for one in gathered] == [None] * len(gathered)
        rows = gather(*given)
        gathered.append(weakref.ref(rows.X))
        return rows

    settings = small(tmp_path, **AUTO)
    frame = frame_of(tmp_path, AUTO)
    division = split(list_sessions(frame), exam_sessions=10, embargo_sessions=1)
    monkeypatch.setattr(TrainingRows, "gather", watch)
    names, params = artifact.list_our_features().names, merge_params(settings)
    with TrainingPool() as pool:
        training = Training(settings=settings, params=params, pool=pool, on_event=ignore)
        choose_net_horizon(frame, division, training, names=names, weight=1.0)
    assert len(gathered) == 2


# --- the refit --------------------------------------------------------------------------------------------------------


REFIT: Chosen = {
    "promote": {"min_sharpe": -100, "refit_on_promote": True},
    "model": {"horizon_minutes": "auto", "horizons": (5, 20), "half_life_days": 7.0},
    "features": {"drop_below": 0.002},
    "strategy": {"entry": "net"},
}
BEFORE_EMBARGO = "2025-12-22"
"""A refit has seen every session that is known, and the one after them is embargoed: the short day follows it."""


@pytest.fixture(scope="module")
def refitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RetrainReport]:
    """Return a home whose model has each thing that is chosen inside and was refitted, and the report."""
    home = tmp_path_factory.mktemp("refitted")
    return home, first_retrain(home, outcome="deployed", as_of=BEFORE_EMBARGO, **REFIT)


def test_exam_and_bot_agree_on_every_position_of_a_model_of_all_that_was_chosen_inside(
    refitted: tuple[Path, RetrainReport],
) -> None:
    home, report = refitted
    meta = artifact.describe(home / "trained_stock_model.onnx")
    assert meta.model_id == report.model_id
    assert (meta.horizon_minutes in {5, 20}, meta.half_life_days) == (True, 7.0)
    assert len(meta.feature_names) < 31
    assert meta.entry_quantile != Strategy().entry_quantile
    bot, exam = replayed_and_examined(home, small(home, **REFIT), meta.model_id)
    assert bot == exam is not None
    with LedgerReader(home / "replay" / "ledger.sqlite") as ledger:
        assert (ledger.read_decisions()["target"] != 0).any(), "of a model that holds nothing all would agree"


def test_a_refit_has_what_its_examined_model_chose_and_chooses_nothing_by_the_sessions_of_the_exam(
    refitted: tuple[Path, RetrainReport], tmp_path: Path
) -> None:
    home, report = refitted
    refit, examined = (
        artifact.describe(Registry(home).locate_onnx(str(model_id))) for model_id in (report.model_id, report.twin)
    )
    assert examined.entry is not None
    assert examined.horizon is not None
    assert examined.selection is not None
    assert len(examined.feature_names) < 31
    assert (examined.entry.errors, examined.entry.trials) == (1.0 + expected_maximum(2), 9 * 2), (
        "of two horizons the better"
    )
    assert {one.best.quantile for one in examined.horizon.tried} != {0.9}, "each horizon at its best threshold"
    assert (refit.horizon_minutes, refit.feature_names) == (examined.horizon_minutes, examined.feature_names)
    assert refit.entry_quantile == examined.entry.quantile
    assert (refit.horizon, refit.entry, refit.selection) == (None, None, None)
    assert (report.threshold, report.features) == (refit.threshold, refit.feature_names)
    assert (report.horizon, report.entry, report.selection) == (None, None, None)
    assert report.challenger is not None
    assert report.challenger.model_id == report.twin, "the exam is that of the examined model"
    by_hand: Chosen = {
        **LAX,
        "model": {"horizon_minutes": examined.horizon_minutes, "half_life_days": 7.0},
        "features": {"use": examined.feature_names},
        "strategy": {"entry_quantile": examined.entry.quantile},
    }
    settings = small(tmp_path, **by_hand)
    data = open_window(settings, as_of=BEFORE_EMBARGO, now=NOW, save=False, on_event=ignore).assemble()
    with TrainingPool() as pool:
        same = train_candidate(
            data.frame,
            split_for_refit(list_sessions(data.frame)),
            settings,
            model_id="by_hand",
            params=merge_params(settings),
            features=data.features,
            source="synthetic",
            synthetic=True,
            pool=pool,
            on_event=ignore,
        ).model.meta
    assert (same.data_digest, same.threshold) == (refit.data_digest, refit.threshold), "target and rows, to the bit"


# --- the weights of rows ----------------------------------------------------------------------------------------------


def test_a_row_a_half_life_older_counts_half_and_without_one_all_count_alike() -> None:
    days = pl.Series([date(2026, 1, 5), date(2026, 1, 15), date(2026, 1, 25)])
    weights = weigh_rows(days, 10.0)
    assert weights is not None
    assert weights.tolist() == [0.25, 0.5, 1.0]
    assert weigh_rows(days, 0.0) is None
    oldest = weigh_rows(pl.Series([date(2016, 1, 1), date(2026, 1, 1)]), 0.5)
    assert oldest is not None
    assert oldest[0] > 0, "a weight of 0 would be refused"


def test_a_half_life_is_another_model_and_told_in_its_file(plain: tuple[Path, RetrainReport], tmp_path: Path) -> None:
    half: Chosen = {**LAX, "model": {"half_life_days": 7.0}}
    weighted = retrain(tmp_path, half)
    assert plain[1].challenger is not None
    assert weighted.challenger is not None
    assert plain[1].challenger.positions_sha256 != weighted.challenger.positions_sha256
    assert artifact.describe(tmp_path / "trained_stock_model.onnx").half_life_days == 7.0


def test_a_family_that_takes_no_weights_is_refused_before_anything_is_collected(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delattr(Ridge, "takes_weights")  # as a stranger's family, which need not know of them
    with pytest.raises(ConfigError, match="half_life_days: the family ridge takes no weights"):
        merge_params(small(tmp_path, model={"half_life_days": 7.0}))


# --- rows unlike the training -----------------------------------------------------------------------------------------


def test_a_bar_unlike_the_training_gives_no_signal_in_the_exam_and_the_same_in_the_bot(
    wary: tuple[Path, RetrainReport, pl.DataFrame], tmp_path: Path
) -> None:
    home, report, decisions = wary
    bold = retrain(tmp_path, SHORT)
    assert report.challenger is not None
    assert bold.challenger is not None
    assert report.challenger.novel_share == pytest.approx(0.1, abs=0.07), "the exam is like the training, nearly"
    assert bold.challenger.novel_share is None
    assert report.challenger.positions_sha256 != bold.challenger.positions_sha256
    assert artifact.describe(home / "trained_stock_model.onnx").format == artifact.FORMAT_OF_HAND
    novel = decisions.filter(pl.col("code") == "hold_novel")
    assert 0.02 < novel.height / decisions.height < 0.3
    assert novel["prediction"].is_null().all()
    assert novel["target"].is_not_null().all(), "earlier signals run off"
    ticker, ts = novel.row(0, named=True)["ticker"], novel["ts"][0].isoformat()
    (row,) = explain(small(home, **WARY), str(report.model_id), (ticker, ts), now=LATER, on_event=ignore).rows
    assert (row.novel, row.signal) == (True, 0)
    assert row.prediction is not None
    assert row.contributions is not None
    assert row.base is not None
    assert row.base + sum(row.contributions.values()) == pytest.approx(row.prediction, abs=1e-6)


# --- features that leave ----------------------------------------------------------------------------------------------


CHOOSY: Chosen = {**LAX, "features": {"drop_below": 0.002}}


def test_features_that_are_worth_little_leave_with_the_reason(
    choosy: tuple[Path, RetrainReport], capsys: pytest.CaptureFixture[str]
) -> None:
    home, report = choosy
    meta = artifact.describe(home / "trained_stock_model.onnx")
    assert meta.selection is not None
    assert meta.selection == report.selection
    division = split(list_sessions(frame_of(home, CHOOSY)), exam_sessions=10, embargo_sessions=1)
    assert meta.selection.sessions == len(split_inner(division.train, embargo_sessions=1).exam), "not those fitted on"
    kept = {worth.name for worth in meta.selection.kept}
    assert 0 < len(kept) < 31
    assert {worth.importance < 0.002 for worth in meta.selection.dropped} == {True}
    ours = artifact.list_our_features()
    assert meta.feature_names == report.features == tuple(name for name in ours.names if name in kept)
    assert meta.features_hash == ours.narrow(meta.feature_names).definitions_hash
    (row,) = history(home, calendar="XNYS", lineage=True)
    assert row.features == meta.feature_names
    assert row.dropped == {worth.name: worth.importance for worth in meta.selection.dropped}
    draw_lineage([row, replace(row, model_id="before", features=(*row.features[1:], "another"), dropped={})])
    said = " ".join(capsys.readouterr().out.split())
    assert f"{row.model_id} reads {len(kept)} features; " in said
    assert f"against before: +{row.features[0]} -another" in said


def test_another_seed_exchanges_the_rows_otherwise(choosy: tuple[Path, RetrainReport], tmp_path: Path) -> None:
    """A ridge draws nothing, so what differs are the draws by which a feature's worth is measured."""
    worths = []
    for report in (choosy[1], retrain(tmp_path, {**CHOOSY, "model": {"seed": Settings().model.seed + 1}})):
        assert report.selection is not None
        worths.append({worth.name: worth.importance for worth in (*report.selection.kept, *report.selection.dropped)})
    assert worths[0] != worths[1]


def test_what_is_left_is_what_a_choice_by_hand_would_train(choosy: tuple[Path, RetrainReport], tmp_path: Path) -> None:
    """The same rows, the same features: the same positions to the bit."""
    by_hand = retrain(tmp_path, {**LAX, "features": {"use": choosy[1].features}})
    assert choosy[1].challenger is not None
    assert by_hand.challenger is not None
    assert choosy[1].challenger.positions_sha256 == by_hand.challenger.positions_sha256


# --- the baseline -----------------------------------------------------------------------------------------------------


FOREST: Chosen = {**LAX, "model": {"n_estimators": 8}}


def test_a_forest_is_told_beside_a_ridge_of_the_same_rows_that_decides_nothing(
    plain: tuple[Path, RetrainReport], tmp_path: Path
) -> None:
    report = retrain(tmp_path / "forest", FOREST)
    ridge = plain[1]
    assert report.baseline is not None
    assert ridge.challenger is not None
    assert ridge.baseline is None, "it would be the model itself"
    assert report.baseline.model_id == "ridge"
    assert report.baseline.positions_sha256 == ridge.challenger.positions_sha256
    assert report.baseline.pnl_by_session == ridge.challenger.pnl_by_session
    assert (report.trials, [record.family for record in Registry(tmp_path / "forest").list_models()]) == (1, ["forest"])
    assert not [fact for fact in report.evidence if "ridge" in fact.text]
