"""What a person hears about the loop, from real retrains, rollbacks and errors."""

import json
import shutil
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from hftcl.alerts import Kind
from hftcl.archive.records import Outcome
from hftcl.errors import SourceError
from hftcl.learning.alert_texts import build_digest, build_error_alert, build_retrain_alerts, build_rollback_alert
from hftcl.learning.archive_reports import RollbackReport
from hftcl.learning.reports import EvidenceReport, ExamSpan, RetrainReport, ScoreReport, WorthReport
from hftcl.settings import Paths, Settings
from tests.archive.sample_models import T0, added, archive_in, deployed
from tests.in_process import call
from tests.loop_cases import first_retrain
from tests.trained import Homes

NOW = datetime(2026, 1, 5, 7, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def home_of_rejected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rejected") / "home"


@pytest.fixture(scope="module")
def rejected(homes: Homes, home_of_rejected: Path) -> RetrainReport:
    report: RetrainReport = homes.copy(home_of_rejected, first_retrain, outcome="rejected", promote={"min_sharpe": 100})
    return report


def test_a_rejected_candidate_is_told_with_the_condition_that_it_missed(rejected: RetrainReport) -> None:
    assert rejected.outcome == "rejected"
    (alert,) = build_retrain_alerts(rejected, NOW)
    assert (alert.kind, alert.model_id) == (Kind.REJECTED, rejected.model_id)
    assert "needs more than 100.00" in alert.subject
    assert "SYNTHETIC" in alert.text
    missed = [name for name, value in alert.facts if value == "MISSED" and not name.startswith("edge: ")]
    assert len(missed) == 1
    assert "needs more than 100.00" in missed[0]


def test_a_refit_that_was_deployed_is_named_as_what_serves_and_the_other_as_what_was_examined(
    rejected: RetrainReport,
) -> None:
    refit, examined = "20260105_020001", "20260105_020000"
    report = replace(
        rejected, outcome="deployed", reason="cleared every bar", model_id=refit, twin=examined, serves=refit
    )
    (alert,) = build_retrain_alerts(report, NOW)
    assert (alert.kind, alert.model_id, alert.subject) == (Kind.DEPLOYED, refit, f"New model {refit} deployed")
    assert f"It is the refit on all sessions of model {examined}, which was examined." in alert.text


def test_the_weekly_retrain_is_told_as_done_beside_its_verdict(rejected: RetrainReport) -> None:
    assert [alert.kind for alert in build_retrain_alerts(rejected, NOW, weekly=True)] == [Kind.REJECTED, Kind.RETRAINED]


def test_a_dry_run_and_a_check_that_finds_none_due_are_not_told(tmp_path: Path) -> None:
    common = {"reason": "x", "source": "synthetic", "synthetic": True, "as_of": NOW, "as_of_note": ""}
    assert build_retrain_alerts(RetrainReport(outcome="skipped", dry_run=False, **common), NOW) == ()  # type: ignore[arg-type]
    assert build_retrain_alerts(RetrainReport(outcome="deployed", dry_run=True, **common), NOW) == ()  # type: ignore[arg-type]


def test_an_error_of_ours_is_told_as_it_is_and_another_one_by_its_type() -> None:
    assert (
        build_error_alert(SourceError("It is down. Wait."), "the daily check", NOW).subject == "The daily check failed"
    )
    assert build_error_alert(SourceError("It is down. Wait."), "x", NOW).text.startswith("It is down. Wait.")
    assert "unexpected ZeroDivisionError" in build_error_alert(ZeroDivisionError("1/0"), "x", NOW).text


def test_the_digest_says_what_serves_and_counts_what_happened_since(tmp_path: Path) -> None:
    archive, settings = archive_in(tmp_path), Settings(paths=Paths(home=str(tmp_path)))
    assert ("serving model", "none") in build_digest(settings, T0, T0).facts
    _, second = deployed(archive, 2)
    refused: Outcome = "rejected"
    added(archive, T0 + timedelta(days=8), refused, "P(better) 0.50, needs 0.60")
    for day, outcome in ((-1, "deployed"), (1, "rejected"), (2, "rejected"), (3, "skipped")):
        archive.record_attempt(T0 + timedelta(days=7 + day), kind="check", outcome=outcome, reason="because")
    archive.rollback(now=T0 + timedelta(days=9))
    alert = build_digest(
        Settings(paths=Paths(home=str(tmp_path))),
        T0 + timedelta(days=6, hours=23),
        T0 + timedelta(days=14),
        (("missed", "1 check"),),
    )
    assert "2 rejected" in alert.subject
    assert "1 skipped" in alert.subject
    assert "deployed" not in alert.subject
    facts = [" ".join(fact) for fact in alert.facts]
    assert any("pinned" in fact for fact in facts)
    assert any(f"deploy of model {second}" in fact for fact in facts)
    assert any("rollback of model" in fact for fact in facts)
    assert facts[-1] == "missed 1 check"


TOML = """\
[market]
watchlist = ["AAPL", "AMD", "TSLA"]
lookback_days = 46
source = "{source}"
[synthetic]
edge = 4.0
[exam]
sessions = 10
[model]
n_estimators = 4
[promote]
min_sharpe = 100
[alerts]
command = ["/bin/sh", "-c", "cat >> heard; exit 9"]
"""


@pytest.mark.hazard(62)
def test_a_command_tells_its_verdict_a_rollback_and_an_error_and_a_failing_delivery_changes_nothing(
    home_of_rejected: Path, rejected: RetrainReport, tmp_path: Path
) -> None:
    home = Path(shutil.copytree(home_of_rejected, tmp_path / "home"))
    (home / "hftcl.toml").write_text(TOML.format(source="synthetic"))
    verdict = call(home, "retrain", "--force", "--json", "--as-of", "2025-12-15")
    assert (verdict.returncode, json.loads(verdict.stdout)["outcome"]) == (0, "rejected")
    assert call(home, "rollback", str(rejected.model_id), "--reason", "to see", "--yes").returncode == 0
    (home / "hftcl.toml").write_text(TOML.format(source="files"))
    assert call(home, "retrain", "--force").returncode == 1
    assert call(home, "retrain", "--force", "--param", "nonsense=1").returncode == 2
    heard = [json.loads(line) for line in (home / "heard").read_text().splitlines()]
    assert [event["kind"] for event in heard] == ["rejected", "rollback", "error"]
    assert (heard[2]["subject"], heard[2]["count"]) == ("The retrain failed", 1)


def test_where_nobody_is_to_be_told_no_outbox_is_made(tmp_path: Path) -> None:
    deployed(archive_in(tmp_path), 1)
    assert call(tmp_path, "rollback", "--yes").returncode == 1
    assert not (tmp_path / "alerts.sqlite").exists()


# --- texts, of reports that are made by hand --------------------------------------------------------------------------

SCORE = ScoreReport(
    model_id="new",
    sharpe=1.5,
    sharpe_interval=(-0.5, 3.5),
    gross_sharpe=2.0,
    psr=0.9,
    pnl=0.01,
    gross_pnl=0.02,
    cost=0.01,
    turnover=12.34,
    trades=56,
    hit_rate=0.5,
    max_drawdown=0.01,
    exposure=0.1,
    information_coefficient=0.01,
    pnl_by_session={f"2025-12-0{day}": 0.001 for day in range(1, 5)},
    pnl_by_ticker={},
    slices={},
    worth=WorthReport(break_even_bps=None, fades=(), fault="cost", conclusion="x"),
    positions_sha256=None,
)
FACT = EvidenceReport(name="sharpe", value=1.0, threshold=0.3, passed=True, decides=True, text="Sharpe 1.00")
REPORT = RetrainReport(
    outcome="deployed",
    reason="met every condition",
    model_id="new",
    dry_run=False,
    source="polygon",
    synthetic=False,
    as_of=NOW,
    as_of_note="",
    rows=1,
    sessions=40,
    tickers=("AAPL", "AMD"),
    left_out={"XYZ": "no bars"},
    challenger=SCORE,
    champion=replace(SCORE, model_id="old", sharpe=None, sharpe_interval=None, pnl=-0.002),
    exam=ExamSpan(
        from_=date(2025, 12, 1),
        to=date(2025, 12, 4),
        sessions=4,
        overlap_challenger=0,
        overlap_champion=0,
        noise_deviation=None,
        chance_of_noise=None,
    ),
    evidence=(FACT, replace(FACT, text="hit rate", decides=False, passed=False)),
    edge="live",
    edge_reason="the record holds",
    edge_evidence=(replace(FACT, text="P(edge) 0.31", passed=False),),
    serves="new",
    repaired=("the registry",),
    timings_s={"total": 61.6},
)


def test_a_verdict_is_told_with_both_exams_each_condition_and_what_it_was_trained_on() -> None:
    (alert,) = build_retrain_alerts(REPORT, NOW)
    assert alert.text == "DEPLOYED: met every condition.\nMAY TRADE: the record holds."
    assert alert.facts == (
        ("exam", "4 sessions, 2025-12-01 to 2025-12-04"),
        ("challenger new, net Sharpe", "1.50 (4 sessions) (90 %: -0.5 to 3.5)"),
        ("challenger new, net P&L", "+1.000% of capital, 56 trades, turnover 12.3"),
        ("champion old, net Sharpe", "undefined"),
        ("champion old, net P&L", "-0.200% of capital, 56 trades, turnover 12.3"),
        ("Sharpe 1.00", "ok"),
        ("hit rate", "for information"),
        ("edge: P(edge) 0.31", "MISSED"),
        ("trained on", "1 row, 40 sessions, 2 tickers"),
        ("left out: XYZ", "no bars"),
        ("repaired", "the registry"),
    )


def test_tickers_that_are_left_out_are_one_fact_a_reason_and_what_follows_is_still_told() -> None:
    left_out = {f"T{number:03}": "no bars" if number else "halted" for number in range(500)}
    (alert,) = build_retrain_alerts(replace(REPORT, left_out=left_out), NOW)
    assert [fact for fact in alert.facts if "left out" in fact[0]] == [
        ("left out: T001, T002, T003, T004, T005 and 494 more", "no bars"),
        ("left out: T000", "halted"),
    ]
    assert alert.facts[-1] == ("repaired", "the registry")


def test_a_verdict_that_deploys_nothing_says_which_model_serves_on() -> None:
    (alert,) = build_retrain_alerts(replace(REPORT, outcome="inconclusive", reason="too short", serves="old"), NOW)
    assert (alert.kind, alert.subject) == (Kind.INCONCLUSIVE, "Exam inconclusive: too short")
    assert "Model old serves on." in alert.text.splitlines()
    unexamined = replace(REPORT, serves=None, exam=None, challenger=None, champion=None)
    bare = replace(unexamined, outcome="rejected", edge="stand aside")
    (alert,) = build_retrain_alerts(bare, NOW)
    assert "No model serves." in alert.text.splitlines()
    assert alert.text.endswith("MAY NOT TRADE: the record holds.")
    assert alert.facts[0] == ("Sharpe 1.00", "ok"), "without an exam there is no score to tell"


def test_the_weekly_retrain_says_how_long_it_took_where_that_is_known_also_where_none_was_due() -> None:
    *_, weekly = build_retrain_alerts(REPORT, NOW, weekly=True)
    assert (weekly.subject, weekly.text) == (
        "Weekly retrain completed: deployed",
        "DEPLOYED: met every condition. It took 62 s.",
    )
    (skipped,) = build_retrain_alerts(replace(REPORT, outcome="skipped", timings_s={}), NOW, weekly=True)
    assert (skipped.kind, skipped.text) == (Kind.RETRAINED, "SKIPPED: met every condition.")


def test_a_rollback_is_told_with_what_it_replaced_and_the_reason_that_a_person_gave() -> None:
    report = RollbackReport(
        rolled_back=True, from_model=None, to_model="old", pinned=True, reason="", repaired=("the registry",)
    )
    alert = build_rollback_alert(report, NOW)
    assert (alert.kind, alert.model_id, alert.facts) == (Kind.ROLLBACK, "old", (("repaired", "the registry"),))
    assert "serves in place of none, and is pinned" in alert.text
    assert alert.text.endswith("until `hftcl unpin`.")
    told = build_rollback_alert(replace(report, from_model="new", reason="it lost"), NOW).text
    assert "in place of new," in told
    assert told.endswith("The reason given: it lost.")


def test_what_was_added_to_an_error_on_its_way_is_told_with_it() -> None:
    error = SourceError("It is down. Wait.")
    error.add_note("The bars of yesterday are kept.")
    alert = build_error_alert(error, "the daily check", NOW)
    assert alert.facts == (("note", "The bars of yesterday are kept."),)
    assert alert.text.endswith("\nWhat served still serves.")


def test_a_digest_of_an_hour_is_of_a_day_and_tells_the_age_of_what_serves(tmp_path: Path) -> None:
    (model,) = deployed(archive_in(tmp_path), 1)
    settings = Settings(paths=Paths(home=str(tmp_path)))
    alert = build_digest(settings, T0 + timedelta(hours=35), T0 + timedelta(hours=36))
    assert alert.subject == "The last day: no retrain"
    facts = dict(alert.facts)
    assert facts["serving model"] == f"{model}, 1.5 days old, exam Sharpe -1.25 (1 session), on SYNTHETIC bars"
    assert facts["retrains"] == "none"
    assert facts["edge"] == (f"MAY NOT TRADE: the newest verdict, of model {model}, says nothing of the record"), (
        "its retrain reported nothing of it"
    )
