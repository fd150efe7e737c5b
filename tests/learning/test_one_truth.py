"""What serves, what was judged and what may trade have one answer each, for whoever asks."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from hftcl import ContinuousLearning
from hftcl.archive import artifact
from hftcl.archive.deployment import ModelArchive
from hftcl.archive.export import write_csv
from hftcl.archive.fitness import find_market_kind
from hftcl.archive.policy import hash_policy
from hftcl.archive.record import find_edge_in_force
from hftcl.archive.registry import Registry
from hftcl.dashboard.contents import ModelsContent
from hftcl.dashboard.parts import PARTS, DashboardInputs
from hftcl.doctor import prometheus
from hftcl.doctor.archive import check_edge
from hftcl.doctor.row import Context
from hftcl.errors import IntegrityError
from hftcl.formats import describe_edge
from hftcl.learning import score
from hftcl.learning.alert_texts import build_digest
from hftcl.learning.dataset import add_features
from hftcl.learning.reports import CheckReport
from hftcl.learning.score import examine
from hftcl.learning.stories.record import list_record
from hftcl.learning.triggers import Trigger
from hftcl.settings import Settings
from hftcl.trading.decide.model_in_use import ProductionWatch
from hftcl.views.blocks import Line, collect_blocks
from hftcl.views.loop import draw_proof
from tests.archive.sample_models import T0, added, archive_in
from tests.config.configured import loaded
from tests.threads import note_threads
from tests.trading.bot_stand import DAY, TRAINED, archived, bars_of, model_file, settings_of

HOUR = timedelta(hours=1)


def test_digest_mail_and_prometheus_tell_the_edge_in_force_and_not_that_of_the_day_of_deployment(
    tmp_path: Path,
) -> None:
    settings = settings_of(tmp_path)
    archived(tmp_path)
    assert "hftcl_edge_live 1" in prometheus.render_text(settings, TRAINED + HOUR)
    report: dict[str, object] = {
        "edge": "stand aside",
        "edge_reason": "P(edge) 0.31",
        "policy_digest": hash_policy(settings),
    }
    archived(tmp_path, TRAINED + HOUR, seed=2, deploy=False, outcome="rejected", report=report)
    facts = dict(build_digest(settings, TRAINED, TRAINED + 2 * HOUR).facts)
    assert facts["edge"] == "MAY NOT TRADE: P(edge) 0.31"
    assert "hftcl_edge_live 0" in prometheus.render_text(settings, TRAINED + 2 * HOUR)


def ask_everywhere(settings: Settings, now: datetime) -> dict[str, str]:
    """Return what each place says of whether the bot may trade."""
    home = Path(settings.paths.home)
    configuration = replace(loaded(home), settings=settings)
    (models,) = (part for part in PARTS if part.name == "models")
    content = models.read(DashboardInputs(configuration=configuration, environ={}, now=now))
    assert isinstance(content, ModelsContent)
    watch = ProductionWatch(home, find_market_kind(settings), policy=hash_policy(settings), interval_s=60)
    watch.look(now)
    (row,) = check_edge(Context(configuration=configuration, environ={}, now=now))
    in_metrics = "hftcl_edge_live 1" in prometheus.render_text(settings, now)
    return {
        "bot": f"{describe_edge(watch.edge)}: {watch.edge_reason}".rstrip(": "),
        "digest": dict(build_digest(settings, now - HOUR, now).facts)["edge"],
        "dashboard": next(block.text for block in content.edge if isinstance(block, Line)),
        "doctor": row.detail.partition(". The bot trades with paper")[0],  # why an "ok" stands beside it
        "prometheus": "MAY TRADE" if in_metrics else "MAY NOT TRADE",
    }


def test_whoever_is_asked_says_the_same_of_whether_the_bot_may_trade(tmp_path: Path) -> None:
    """Of the newest verdict, of another policy than that verdict's, and after the record began over."""
    ours = settings_of(tmp_path)
    archived(tmp_path)
    situations = {"MAY TRADE": ours, "MAY NOT TRADE": settings_of(tmp_path, strategy={"cost_bps": 9.0})}
    for answer, settings in situations.items():
        said = ask_everywhere(settings, TRAINED + HOUR)
        assert {text.partition(":")[0] for text in said.values()} == {answer}, said
        assert {said[who] for who in ("digest", "dashboard", "doctor")} == {said["bot"]}
    ModelArchive(tmp_path).begin_record_over(synthetic=True, reason="stale opens", now=TRAINED + HOUR)
    said = ask_everywhere(ours, TRAINED + 2 * HOUR)
    assert {said[who] for who in ("digest", "dashboard", "doctor")} == {said["bot"]}
    assert said["bot"].endswith("stale opens")
    assert said["prometheus"] == "MAY NOT TRADE"


@pytest.mark.parametrize("kind", ["no model", "bars of another kind", "an earlier hftcl"])
def test_where_nothing_was_judged_on_such_bars_each_place_says_that_the_bot_may_not_trade(
    tmp_path: Path, kind: str
) -> None:
    """It would open nothing: an alert on `hftcl_edge_live == 0` fires, and the doctor warns."""
    if kind != "no model":
        archived(
            tmp_path,
            synthetic=kind != "bars of another kind",
            report=None if kind == "bars of another kind" else {"edge": None},
        )
    settings = settings_of(tmp_path, trade={"live": True})
    said = ask_everywhere(settings, TRAINED + HOUR)
    assert {text.partition(":")[0] for text in said.values()} == {"MAY NOT TRADE"}, said
    assert {said[who] for who in ("digest", "dashboard", "doctor")} == {said["bot"]}
    assert "hftcl_edge_live 0" in prometheus.render_text(settings, TRAINED + HOUR)
    configuration = replace(loaded(tmp_path), settings=settings)
    (row,) = check_edge(Context(configuration=configuration, environ={}, now=TRAINED))
    assert row.status == "warning"


def test_the_doctor_warns_who_wants_real_money_traded_and_may_not(tmp_path: Path) -> None:
    archived(tmp_path, report={"edge": "stand aside", "edge_reason": "P(edge) 0.31"})
    rows = {}
    wanted: dict[str, dict[str, object]] = {
        "paper": {},
        "live": {"live": True},
        "word": {"live": True, "override_edge": True},
    }
    for name, trade in wanted.items():
        configuration = replace(loaded(tmp_path), settings=settings_of(tmp_path, trade=trade))
        (rows[name],) = check_edge(Context(configuration=configuration, environ={}, now=TRAINED))
    assert {name: row.status for name, row in rows.items()} == {"paper": "ok", "live": "warning", "word": "ok"}


@pytest.mark.hazard(87)
def test_no_story_takes_an_emptied_registry_for_a_home_without_models(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    live = archived(tmp_path)
    Registry(tmp_path).database.write_bytes(b"")
    loop = ContinuousLearning(settings, clock=lambda: TRAINED + HOUR)
    stories: dict[str, Callable[[], object]] = {
        "history": lambda: loop.get_model_history(all=True),
        "check": loop.check,
        "exam": lambda: loop.exam(live, DAY, DAY),
        "retrain": lambda: loop.retrain(force=True),
        "rollback": loop.rollback_to_previous_model,
        "record": lambda: list_record(settings),
        "mail": lambda: build_digest(settings, TRAINED, TRAINED + HOUR),
        "prometheus": lambda: prometheus.render_text(settings, TRAINED + HOUR),
    }
    for name, tell in stories.items():
        with pytest.raises(IntegrityError, match=r"knows no model.*doctor --repair"):
            raise AssertionError(f"{name} answered {tell()}")


def test_a_model_of_another_market_is_neither_what_prove_looks_at_nor_what_features_weighs(tmp_path: Path) -> None:
    """Whatever lies in the production file: the bot would refuse it here."""
    archived(tmp_path, calendar="XLON")
    loop = ContinuousLearning(settings_of(tmp_path, market={"lookback_days": 25}), clock=lambda: TRAINED + HOUR)
    proof = loop.prove(cases=1)
    assert proof.model_id is None
    assert "was trained on sessions of XLON" in (proof.unfit or "")
    told = [block.text for block in collect_blocks(draw_proof, proof) if isinstance(block, Line)]
    assert any("cannot serve this market" in text for text in told)
    weighed = loop.features()
    assert (weighed.model_id, {feature.importance for feature in weighed.features}) == (None, {None})


def test_the_csv_lists_models_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    archive: ModelArchive = archive_in(tmp_path)
    ahead = added(archive, T0 + timedelta(days=365)).model_id
    back = added(archive, T0).model_id
    lines = archive.csv.read_text().splitlines()[1:]
    assert [line.split(",")[0] for line in lines] == [back, ahead]
    assert archive.csv.read_bytes() == write_csv(archive.list_models()), "else the doctor would warn for a year"


def test_a_ticker_without_bars_earns_nothing_and_does_not_raise_the_others() -> None:
    """The same session alone in a watchlist of one and of four: a quarter of the P&L, as the bot makes it."""
    model = artifact.load(model_file("20250531_120000"))
    bars = bars_of(DAY)
    frame = add_features(bars.filter(bars["ticker"] == "AAPL"), 30)
    alone = examine(model, frame, [DAY], cost_bps=1.0, watchlist=["AAPL"]).simulation.net
    of_four = examine(model, frame, [DAY], cost_bps=1.0, watchlist=["AAPL", "AMD", "TSLA", "JNJ"]).simulation.net
    assert alone[0] != 0
    assert of_four[0] == pytest.approx(alone[0] / 4)


def test_an_exam_takes_the_cores_that_it_is_given_and_one_where_others_are_held_beside_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = artifact.load(model_file("20250531_120000"))
    frame = add_features(bars_of(DAY), 30)
    begun = note_threads(monkeypatch)
    monkeypatch.setattr(score, "_BLOCK_ROWS", 50)
    found = []
    for options in ({}, {"jobs": 3}):
        begun.clear()
        found.append((examine(model, frame, [DAY], cost_bps=1.0, watchlist=["AAPL"], **options).report, len(begun)))
    (alone, one), (shared, more) = found
    assert alone == shared, "to the bit"
    assert (one, more > 1, more <= 3) == (1, True, True)


@pytest.mark.parametrize(
    ("report", "waits"),
    [
        ({"waits_beside": "20250531_120000"}, True),
        ({"waits_beside": "20240101_000000"}, False),
        ({"implausible": ["net Sharpe 51.4"], "evidence": [{"name": "plausibility"}]}, True),
        ({"implausible": ["net Sharpe 51.4"], "evidence": [{"name": "sessions"}]}, False),
        ({}, False),
    ],
    ids=["beside the one that serves", "beside an earlier one", "doubted", "confirmed", "too few sessions"],
)
def test_a_candidate_that_waits_for_a_person_is_not_trained_again_each_night(
    tmp_path: Path, report: dict[str, object], waits: bool
) -> None:
    settings = settings_of(tmp_path)
    live = archived(tmp_path)
    assert live == "20250531_120000"
    archive = ModelArchive(tmp_path)
    archive.record_attempt(TRAINED, kind="retrain", outcome="deployed", reason="", model_id=live)
    late = TRAINED + timedelta(days=8)
    waiting = archived(tmp_path, late, seed=2, deploy=False, outcome="inconclusive", report=report or {"edge": None})
    archive.record_attempt(late, kind="retrain", outcome="inconclusive", reason="", model_id=waiting)
    checked = ContinuousLearning(settings, clock=lambda: late + timedelta(days=1)).check()
    (age,) = (trigger for trigger in checked.triggers if trigger.name == "age")
    assert age.fired is not waits
    of_then = ContinuousLearning(settings, clock=lambda: late + timedelta(days=30)).check(as_of=late.isoformat())
    assert trigger_of(of_then, "age").fired is not waits, "the same at that minute, asked later"


def trigger_of(report: CheckReport, name: str) -> Trigger:
    (trigger,) = (trigger for trigger in report.triggers if trigger.name == name)
    return trigger


def test_a_doubted_candidate_is_no_answer_to_a_model_that_cannot_serve(tmp_path: Path) -> None:
    """It waits for a person, and not beside the model that serves: that one is as unfit as before."""
    settings = settings_of(tmp_path)
    archived(tmp_path, features_hash="0" * 64)
    report: dict[str, object] = {"evidence": [{"name": "plausibility"}]}
    late = TRAINED + timedelta(days=4)
    doubted = archived(tmp_path, late, deploy=False, outcome="inconclusive", report=report)
    ModelArchive(tmp_path).record_attempt(late, kind="retrain", outcome="inconclusive", reason="", model_id=doubted)
    checked = ContinuousLearning(settings, clock=lambda: late + HOUR).check()
    assert trigger_of(checked, "no_model").fired
    assert trigger_of(checked, "age").evidence.startswith(f"candidate {doubted}")


@pytest.mark.parametrize(
    ("market", "counts"),
    [
        ({"calendar": "XNYS", "extended_hours": False}, True),
        ({"calendar": "XLON", "extended_hours": False}, False),
        ({"calendar": "XNYS", "extended_hours": True}, False),
    ],
)
def test_which_market_a_verdict_was_about_is_known_without_the_model_s_file(
    tmp_path: Path, market: dict[str, object], counts: bool
) -> None:
    judged = archived(tmp_path, deploy=False, outcome="rejected", report=market)
    archive = ModelArchive(tmp_path)
    archive.record_attempt(TRAINED, kind="retrain", outcome="rejected", reason="", model_id=judged)
    archive.locate_onnx(judged).unlink()
    checked = ContinuousLearning(settings_of(tmp_path), clock=lambda: TRAINED + HOUR).check()
    assert trigger_of(checked, "age").evidence.startswith("candidate ") is counts


def test_each_place_says_that_a_model_of_another_market_does_not_serve_here(tmp_path: Path) -> None:
    archived(tmp_path, calendar="XLON")
    settings = settings_of(tmp_path)
    now = TRAINED + HOUR
    assert "hftcl_model_serves 0" in prometheus.render_text(settings, now)
    assert "trained on sessions of XLON" in dict(build_digest(settings, now - HOUR, now).facts)["but serves not here"]
    (models,) = (part for part in PARTS if part.name == "models")
    content = models.read(
        DashboardInputs(configuration=replace(loaded(tmp_path), settings=settings), environ={}, now=now)
    )
    assert isinstance(content, ModelsContent)
    told = [block.text for block in content.edge if isinstance(block, Line)]
    assert any(text.startswith("It cannot serve this market: Model ") for text in told), told


def test_a_model_of_features_that_are_computed_no_more_is_no_model_until_a_candidate_waits(tmp_path: Path) -> None:
    """The bot refuses it at its next start, whatever its age is."""
    settings = settings_of(tmp_path)
    live = archived(tmp_path, features_hash="0" * 64)
    archive = ModelArchive(tmp_path)
    archive.record_attempt(TRAINED, kind="retrain", outcome="deployed", reason="", model_id=live)
    late = TRAINED + timedelta(days=4)
    report = ContinuousLearning(settings, clock=lambda: late).check()
    (told,) = (trigger for trigger in report.triggers if trigger.name == "no_model")
    assert (told.fired, report.due) == (True, True)
    assert "was trained on other features than this hftcl computes" in told.evidence
    waiting = archived(tmp_path, late, deploy=False, outcome="inconclusive", report={"waits_beside": live})
    archive.record_attempt(late, kind="retrain", outcome="inconclusive", reason="", model_id=waiting)
    assert not ContinuousLearning(settings, clock=lambda: late + timedelta(days=4)).check().due


def test_the_age_counts_from_the_last_attempt_that_was_judged(tmp_path: Path) -> None:
    archived(tmp_path)
    archive = ModelArchive(tmp_path)
    for day, outcome in enumerate(["deployed", "rejected", "inconclusive", "skipped", "failed"]):
        at = TRAINED + timedelta(days=day)
        archive.record_attempt(at, kind="forced", outcome=outcome, reason="r", model_id=None)
    report = ContinuousLearning(settings_of(tmp_path), clock=lambda: TRAINED + timedelta(days=6)).check()
    (age,) = (trigger for trigger in report.triggers if trigger.name == "age")
    assert age.evidence == "the last candidate was judged 5.0 days ago (rejected)"


def test_what_one_policy_was_allowed_lets_no_other_trade(tmp_path: Path) -> None:
    archived(tmp_path)
    registry = Registry(tmp_path)
    ours, dearer = settings_of(tmp_path), settings_of(tmp_path, strategy={"cost_bps": 9.0})
    allowed = find_edge_in_force(registry, synthetic=True, policy=hash_policy(ours))
    refused = find_edge_in_force(registry, synthetic=True, policy=hash_policy(dearer))
    assert (allowed.edge, refused.edge) == ("live", "stand aside")
    assert "another policy" in refused.reason
    none = find_edge_in_force(registry, synthetic=False, policy=hash_policy(ours))
    assert (none.edge, none.reason) == ("stand aside", "no retrain has judged the record on real bars yet")
