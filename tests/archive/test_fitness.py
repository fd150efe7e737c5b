"""One answer to "may this model serve this market", and what stands on it: rollback, the edge, synthetic bars."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hftcl import ContinuousLearning
from hftcl.archive.fitness import MarketKind, find_first_unseen, find_market_kind, require_fitness
from hftcl.archive.registry import Registry
from hftcl.errors import ConfigError, UnfitModelError
from hftcl.home import Home
from hftcl.market.sessions import Calendar, HorizonError
from hftcl.settings import Settings
from hftcl.trading.decide.model_in_use import ProductionWatch
from tests.archive.sample_models import T0, added, archive_in, deployed
from tests.loop_cases import small
from tests.trading.bot_stand import TRAINED, archived

HERE = MarketKind(calendar="XNYS", synthetic=True, extended_hours=False)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("market", "why"),
    [
        (replace(HERE, synthetic=False), "trained on synthetic bars, and these are real ones"),
        (replace(HERE, calendar="24/7"), "sessions of XNYS, and .* calendar is 24/7"),
        (replace(HERE, extended_hours=True), "without extended hours, and these sessions are with them"),
    ],
    ids=["another kind of bars", "another calendar", "other hours"],
)
def test_a_model_of_another_market_is_unfit_and_the_reason_names_the_remedy(
    tmp_path: Path, market: MarketKind, why: str
) -> None:
    archived(tmp_path)
    watch = ProductionWatch(tmp_path, HERE, policy="p", interval_s=1)
    watch.look(TRAINED)
    assert watch.in_use is not None
    meta = watch.in_use.model.meta
    require_fitness(meta, HERE)
    require_fitness(meta, replace(HERE, extended_hours=None))
    with pytest.raises(UnfitModelError, match=rf"{why}.*(retrain|rollback)"):
        require_fitness(meta, market)


def test_the_kind_of_a_market_is_known_without_a_key_of_its_source() -> None:
    settings = Settings()
    polygon = replace(settings, market=replace(settings.market, source="polygon"))
    assert (find_market_kind(settings).synthetic, find_market_kind(polygon).synthetic) == (True, False)


@pytest.mark.hazard(80)
def test_a_rollback_to_a_model_that_the_bot_would_refuse_moves_nothing_and_offers_one_that_may_serve(
    tmp_path: Path,
) -> None:
    fit = archived(tmp_path)
    other = archived(tmp_path, TRAINED + HOUR, seed=2, calendar="24/7")
    archived(tmp_path, TRAINED + 2 * HOUR, seed=3)
    before = Registry(tmp_path).production.read_bytes()
    learning = ContinuousLearning(small(tmp_path), clock=lambda: TRAINED + 3 * HOUR)
    with pytest.raises(UnfitModelError, match=rf"Nothing was rolled back.*{other}.*`hftcl rollback {fit}`"):
        learning.rollback_to_previous_model()
    registry = Registry(tmp_path)
    assert registry.production.read_bytes() == before
    assert registry.find_pin() is None
    assert learning.rollback_to_previous_model(fit).to_model == fit


@pytest.mark.hazard(81)
def test_the_newest_model_is_the_one_archived_last_also_after_a_clock_that_ran_ahead(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    ahead = added(archive, T0 + timedelta(days=400)).model_id
    back = added(archive, T0).model_id
    assert [record.model_id for record in archive.list_models()] == [back, ahead]
    ids = deployed(archive, 3)
    assert archive.prune(1, now=T0) == (ahead, back)
    assert archive.list_models(limit=1)[0].model_id == ids[-1]


def test_a_verdict_on_synthetic_bars_lets_no_model_of_real_bars_trade(tmp_path: Path) -> None:
    archived(tmp_path, synthetic=False, source="files", report={"edge": "stand aside", "policy_digest": "p"})
    watch = ProductionWatch(tmp_path, replace(HERE, synthetic=False), policy="p", interval_s=1)
    archived(
        tmp_path,
        TRAINED + HOUR,
        seed=2,
        deploy=False,
        outcome="rejected",
        report={"edge": "live", "policy_digest": "p"},
    )
    watch.look(TRAINED + 2 * HOUR)
    assert watch.edge == "stand aside"


@pytest.mark.hazard(79)
def test_synthetic_bars_never_replace_a_model_of_real_ones(tmp_path: Path) -> None:
    archived(tmp_path, synthetic=False, source="files")
    before = Registry(tmp_path).production.read_bytes()
    learning = ContinuousLearning(small(tmp_path), clock=lambda: TRAINED + HOUR)
    with pytest.raises(ConfigError, match=r"synthetic bars never replace real ones.*--config PATH"):
        learning.retrain(force=True)
    assert Registry(tmp_path).production.read_bytes() == before
    assert len(Registry(tmp_path).list_models()) == 1


def test_a_search_whose_winner_could_not_be_examined_tries_nothing_and_no_advice_goes_in_a_circle(
    tmp_path: Path,
) -> None:
    archived(tmp_path, synthetic=False, source="files")
    learning = ContinuousLearning(small(tmp_path), clock=lambda: TRAINED + HOUR)
    with pytest.raises(ConfigError, match="synthetic bars never replace real ones"):
        learning.search(trials=1)
    assert not Home(tmp_path).searches.exists(), "no trial"
    assert not Home(tmp_path).bars.exists(), "and nothing collected"
    told = " ".join(trigger.evidence for trigger in learning.check().triggers)
    assert "give these a [paths] home of their own" in told
    assert "`hftcl retrain` on these" not in told, "which is refused here"


@pytest.mark.parametrize(
    ("calendar", "last_label", "embargo_sessions", "first"),
    [
        ("XNYS", datetime(2026, 7, 1, 20, tzinfo=UTC), 1, "2026-07-06"),  # July 2 is the embargo, July 3 a holiday
        ("XNYS", datetime(2026, 7, 1, 13, tzinfo=UTC), 1, "2026-07-02"),  # before the open: July 1 is the embargo
        ("XSHG", datetime(2009, 9, 30, 7, tzinfo=UTC), 1, "2009-10-12"),  # a week without a session, and a weekend
        ("XSHG", datetime(2002, 2, 8, 7, tzinfo=UTC), 1, "2002-02-26"),  # 16 days without a session
        ("XNYS", datetime(2001, 9, 10, 20, tzinfo=UTC), 1, "2001-09-18"),
        ("XNYS", datetime(2025, 10, 31, 20, tzinfo=UTC), 60, "2026-01-30"),  # the 61st: 19 in November, 22, 20
        ("24/7", datetime(2025, 12, 31, 23, 59, tzinfo=UTC), 2, "2026-01-03"),
    ],
)
def test_a_model_may_be_scored_from_the_first_session_behind_its_labels_and_the_embargo(
    calendar: str, last_label: datetime, embargo_sessions: int, first: str
) -> None:
    assert str(find_first_unseen(Calendar(calendar), last_label, embargo_sessions=embargo_sessions)) == first


def test_where_the_calendar_ends_no_session_is_unseen_and_that_is_told_as_its_end() -> None:
    calendar = Calendar("XNYS")
    last = calendar.reach[1]
    close = calendar.find_close(last)
    before = calendar.find_close(calendar.find_previous_session(last))
    assert find_first_unseen(calendar, before, embargo_sessions=0) == last, "the last session of all is known"
    for label, embargo_sessions in ((close, 0), (before, 1), (before, 60)):
        with pytest.raises(HorizonError, match="reaches from"):
            find_first_unseen(calendar, label, embargo_sessions=embargo_sessions)
