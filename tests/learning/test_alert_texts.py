"""What a person hears about the loop, from real retrains, rollbacks and errors."""

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hftcl.alerts import Kind
from hftcl.archive.records import Outcome
from hftcl.errors import SourceError
from hftcl.learning.alert_texts import build_digest, build_error_alert, build_retrain_alerts
from hftcl.learning.reports import RetrainReport
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


def test_a_refit_that_was_deployed_is_named_as_what_serves_and_its_twin_as_what_was_examined(
    rejected: RetrainReport,
) -> None:
    refit, twin = "20260105_020001", "20260105_020000"
    report = replace(rejected, outcome="deployed", reason="cleared every bar", model_id=refit, twin=twin, serves=refit)
    (alert,) = build_retrain_alerts(report, NOW)
    assert (alert.kind, alert.model_id, alert.subject) == (Kind.DEPLOYED, refit, f"New model {refit} deployed")
    assert f"It is the refit on all sessions of model {twin}, which was examined." in alert.text


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
        T0 + timedelta(days=7),
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
