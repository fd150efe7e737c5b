"""The state for Prometheus: what an alert rule reads of models, jobs, the bot and the doctor's rows."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from hftcl.doctor.prometheus import render_text
from hftcl.doctor.row import Row, fault, report_ok, report_warning
from hftcl.home import Home
from hftcl.ledger.meta import Fact
from hftcl.ledger.rows import EquityRow
from hftcl.ledger.writer import Ledger
from hftcl.schedule.claims import Occurrences
from tests.archive.sample_models import T0, archive_in, deployed
from tests.config.configured import loaded
from tests.trading.trading_cases import a_decision, at

NOW = datetime(2026, 1, 20, tzinfo=UTC)


def read_state(home: Path, rows: tuple[Row, ...] = ()) -> dict[str, float]:
    """Return the value of each sample, by its name and labels."""
    text = render_text(loaded(home).settings, NOW, rows)
    samples = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name.removeprefix("hftcl_"): float(value) for name, _, value in samples}


def test_an_empty_home_says_that_no_model_serves_and_nothing_may_trade_and_no_more_than_it_knows(
    tmp_path: Path,
) -> None:
    state = read_state(tmp_path)
    assert (state["model_serves"], state["pinned"], state["edge_live"], state["alerts_waiting"]) == (0, 0, 0, 0)
    assert state["written_timestamp_seconds"] == NOW.timestamp()
    assert state["disk_free_bytes"] > 0
    assert "hftcl_retrains_total" not in render_text(loaded(tmp_path).settings, NOW), "no head without a figure"
    unknown = ("model_info", "model_exam_sharpe", "last_retrain_timestamp_seconds", "bot_halted", "doctor_status")
    assert not [name for name in state if name.startswith(unknown)]


def test_a_model_that_serves_is_told_with_its_age_and_its_exam_and_a_rollback_pins_it(tmp_path: Path) -> None:
    models = archive_in(tmp_path)
    first, second = deployed(models, 2)
    models.record_attempt(T0, kind="check", outcome="rejected", reason="x")
    models.record_attempt(T0 + timedelta(days=9), kind="check", outcome="deployed", reason="x")
    state = read_state(tmp_path)
    assert state[f'model_info{{model_id="{second}",source="synthetic",synthetic="true"}}'] == 1
    assert state["model_trained_timestamp_seconds"] == (T0 + timedelta(weeks=1)).timestamp()
    assert (state["model_exam_sharpe"], state["model_exam_sessions"]) == (-1.25, 1)
    assert state["pinned"] == 0
    assert state['retrains_total{outcome="rejected"}'] == 1
    assert state['last_retrain_timestamp_seconds{outcome="deployed"}'] == (T0 + timedelta(days=9)).timestamp()
    models.rollback(now=T0 + timedelta(days=10))
    after = read_state(tmp_path)
    assert after["pinned"] == 1
    assert any(name.startswith(f'model_info{{model_id="{first}"') for name in after)


def test_each_job_is_counted_by_what_became_of_it_and_dated_by_the_last_that_was_done(tmp_path: Path) -> None:
    archive_in(tmp_path)
    jobs = Occurrences(tmp_path)
    for day, end in ((1, "done"), (2, "done"), (3, "failed")):
        due = datetime(2026, 1, day, tzinfo=UTC)
        claim = jobs.claim("check", due.date(), due, by="a test", now=due)
        assert claim is not None
        claim.finish(end, "x", now=due + timedelta(hours=1))  # type: ignore[arg-type]
    state = read_state(tmp_path)
    assert state['jobs_total{job="check",state="done"}'] == 2
    assert state['jobs_total{job="check",state="failed"}'] == 1
    assert state['duties_total{job="check",state="failed"}'] == 1, "graphs of 0.1.0 ask for it by this name"
    assert state['last_done_timestamp_seconds{job="check"}'] == datetime(2026, 1, 2, 1, tzinfo=UTC).timestamp()


def test_a_bot_is_told_with_its_equity_its_heartbeat_and_the_bar_that_it_last_decided_on(tmp_path: Path) -> None:
    rows = [
        EquityRow(
            book="production",
            ts=at(minute),
            session=at(minute).date(),
            equity=equity,
            cash=equity,
            gross=0.0,
            net=0.0,
            realised=0.0,
        )
        for minute, equity in ((0, 100_000.0), (1, 99_500.0))
    ]
    with Ledger(Home(tmp_path).ledger, durable=False) as ledger:
        ledger.set_meta(**{Fact.HEARTBEAT: at(2).isoformat()})
        ledger.write_decisions([a_decision(0), a_decision(1)])
        ledger.write_outcomes(equity=rows)
        state = read_state(tmp_path)
        assert (state["bot_halted"], state["bot_equity_usd"]) == (0, 99_500.0)
        assert state["bot_heartbeat_timestamp_seconds"] == at(2).timestamp()
        assert state["bot_last_decision_timestamp_seconds"] == at(1).timestamp()
        ledger.latch("kill_switch", "a halt", at(3))
    assert read_state(tmp_path)["bot_halted"] == 1


def test_of_rows_of_one_name_the_worst_is_told_whatever_comes_last(tmp_path: Path) -> None:
    rows = (
        fault("bars", "a", "b"),
        report_ok("bars", "a"),
        report_warning("lock", "a", "b"),
        report_ok("disk", "a"),
    )
    state = read_state(tmp_path, rows)
    assert [state[f'doctor_status{{name="{name}"}}'] for name in ("bars", "lock", "disk")] == [2, 1, 0]


def test_a_name_with_quotes_and_ends_of_line_stays_one_line_of_the_format(tmp_path: Path) -> None:
    text = render_text(loaded(tmp_path).settings, NOW, [report_ok('a"b\\c\nd', "x")])
    assert 'hftcl_doctor_status{name="a\\"b\\\\c\\nd"} 0.0\n' in text


def test_every_metric_says_once_what_it_is_before_its_samples(tmp_path: Path) -> None:
    models = archive_in(tmp_path)
    deployed(models, 1)
    models.record_attempt(T0, kind="check", outcome="rejected", reason="x")
    lines = render_text(loaded(tmp_path).settings, NOW, [report_ok("a", "x"), report_ok("b", "x")]).splitlines()
    named: list[str] = []
    for line in lines:
        if line.startswith("# HELP "):
            named.append(line.split(" ")[2])
        elif line.startswith("# TYPE "):
            assert line.split(" ")[2] == named[-1]
            assert line.split(" ")[3] in {"gauge", "counter"}
            assert line.endswith("counter") == named[-1].endswith("_total"), "as Prometheus names what only grows"
        else:
            assert line.partition("{")[0].partition(" ")[0] == named[-1]
    assert len(named) == len(set(named))
