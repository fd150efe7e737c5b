"""What a retrain's screen says: the verdict first and last, whether the bot may trade, what to do after a rejection."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hftcl.learning.reports import RetrainReport
from hftcl.views.next_steps import list_next_steps
from hftcl.views.retrain import draw_retrain
from tests.loop_cases import first_retrain
from tests.trained import Homes


@pytest.fixture(scope="module")
def rejected(homes: Homes, tmp_path_factory: pytest.TempPathFactory) -> RetrainReport:
    home = tmp_path_factory.mktemp("rejected") / "home"
    report: RetrainReport = homes.copy(home, first_retrain, outcome="rejected", promote={"min_sharpe": 100})
    return report


def read_screen(report: RetrainReport, capsys: pytest.CaptureFixture[str]) -> str:
    draw_retrain(report)
    return capsys.readouterr().out


def test_the_verdict_and_whether_the_bot_may_trade_stand_first_and_last(
    rejected: RetrainReport, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = read_screen(rejected, capsys).splitlines()
    assert lines[0].startswith(f"REJECTED {rejected.model_id}: Sharpe ")
    assert lines[1].startswith("MAY NOT TRADE: no model serves")
    assert lines[-2:] == lines[:2]
    allowed = read_screen(replace(rejected, edge="live", edge_reason="the record holds"), capsys).splitlines()
    assert allowed[-1] == "MAY TRADE: the record holds"


def test_what_decides_nothing_carries_no_ok_and_each_word_is_explained_once(
    rejected: RetrainReport, capsys: pytest.CaptureFixture[str]
) -> None:
    told = read_screen(rejected, capsys)
    for fact in (*rejected.evidence, *rejected.edge_evidence):
        (line,) = (line for line in told.splitlines() if line.startswith(fact.text + "  "))
        wanted = "for information" if not fact.decides else "ok" if fact.passed else "missed"
        assert line.endswith(wanted)
    for word in ("exam", "edge", "record", "policy", "stand aside"):
        assert told.count(f"\n{word}: ") == 1


def test_a_rejection_on_real_bars_says_what_this_exam_says_of_the_next_steps(rejected: RetrainReport) -> None:
    assert list_next_steps(rejected) == (), "SYNTHETIC bars are no market"
    assert rejected.challenger is not None
    score = replace(rejected.challenger, gross_pnl=0.002, cost=0.004, turnover=40.0)
    score = replace(score, worth=replace(score.worth, break_even_bps=0.5))
    steps = list_next_steps(replace(rejected, synthetic=False, challenger=score))
    assert "usual result" in steps[0]
    assert "gross +0.200% against cost 0.400%: 1 bp a trade was reckoned" in steps[1]
    assert "below 0.50 bp" in steps[1]
    best = max(score.worth.fades, key=lambda held: held.earned_bps)
    told = f"- another horizon: held {best.minutes} min a signal earns {best.earned_bps:.1f}"
    assert steps[2].startswith(told), "it may be a shorter one"
    assert f"{score.information_coefficient:+.4f}" in steps[3]
    assert "`hftcl search`" in steps[4]
    losing = replace(score, worth=replace(score.worth, break_even_bps=-0.1))
    assert "no cost is low enough" in list_next_steps(replace(rejected, synthetic=False, challenger=losing))[1]
    assert list_next_steps(replace(rejected, synthetic=False, outcome="deployed")) == ()


def test_a_retrain_that_was_not_due_says_nothing_of_trading(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    now = datetime(2026, 1, 5, tzinfo=UTC)
    told = read_screen(
        RetrainReport(
            outcome="skipped", reason="not due", dry_run=False, source="x", synthetic=False, as_of=now, as_of_note=""
        ),
        capsys,
    )
    assert told.startswith("SKIPPED: not due")
    assert "MAY" not in told
