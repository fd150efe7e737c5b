"""A narrowly rejected candidate trades virtually beside production, in its own book and its own paper account."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from hftcl.archive.records import ModelRecord
from hftcl.archive.registry import Registry
from hftcl.home import Home
from hftcl.trading.decide.shadow import Shadow, list_narrow
from hftcl.trading.run.status import read_status
from tests.trading.bot_stand import DAY, TRAINED, archived, settings_of, some_minutes, stand

HOUR = timedelta(hours=1)
SHADOW: dict[str, dict[str, object]] = {"trade": {"shadow": True}}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a home with a model that serves and a narrowly rejected candidate."""
    archived(tmp_path)
    archived(tmp_path, TRAINED + HOUR, seed=2, deploy=False, outcome="rejected", report={"p_better": 0.55})
    return tmp_path


def ids(home: Path) -> tuple[str, str]:
    """Return the ids of the one that serves and of the candidate."""
    models = Registry(home).list_models()
    return models[1].model_id, models[0].model_id


def test_both_books_trade_the_same_minutes_with_their_own_models(home: Path) -> None:
    serving, candidate = ids(home)
    bot = stand(home, first=110, sections=SHADOW)
    bot.run(DAY, some_minutes(110, 12))
    production, shadow = bot.ledger.read_decisions("production"), bot.ledger.read_decisions("shadow")
    assert (set(production["model_id"]), set(shadow["model_id"])) == ({serving}, {candidate})
    assert production["ts"].to_list() == shadow["ts"].to_list()
    assert not production["target"].equals(shadow["target"])
    assert bot.ledger.read_fills("shadow").height > 0
    assert bot.ledger.read_positions("shadow") != bot.ledger.read_positions("production")
    ours = bot.loop.shadow
    assert ours is not None
    assert ours.broker.account().positions == bot.ledger.read_positions("shadow")
    assert bot.broker is not None
    assert bot.broker.account().positions == bot.ledger.read_positions("production")
    assert all("hftcl-s-" in name for name in bot.ledger.read_orders("shadow")["client_order_id"])


@pytest.mark.parametrize("other", [{"calendar": "XLON"}, {"extended_hours": True}], ids=["calendar", "hours"])
def test_a_candidate_of_another_market_than_the_model_that_serves_trades_nowhere_and_that_is_told(
    tmp_path: Path, other: dict[str, object]
) -> None:
    archived(tmp_path)
    report: dict[str, object] = {"p_better": 0.55}
    archived(tmp_path, TRAINED + HOUR, seed=2, deploy=False, outcome="rejected", report=report, **other)  # type: ignore[arg-type]
    bot = stand(tmp_path, first=110, sections=SHADOW)
    bot.run(DAY, some_minutes(110, 2))
    assert bot.ledger.read_decisions("shadow").is_empty()
    (told,) = [event.text for event in bot.events if event.text.startswith("no shadow: ")]
    assert f"Model {ids(tmp_path)[1]} was trained " in told


@pytest.mark.parametrize(
    "other",
    [{"calendar": "XLON"}, {"extended_hours": True}, {"synthetic": False}],
    ids=["calendar", "hours", "kind of bars"],
)
def test_a_newer_candidate_of_another_market_keeps_no_older_one_from_being_the_shadow(
    home: Path, other: dict[str, object]
) -> None:
    candidate = ids(home)[1]
    report: dict[str, object] = {"p_better": 0.55}
    archived(home, TRAINED + 2 * HOUR, seed=3, deploy=False, outcome="rejected", report=report, **other)  # type: ignore[arg-type]
    bot = stand(home, first=110, sections=SHADOW)
    bot.run(DAY, some_minutes(110, 2))
    assert set(bot.ledger.read_decisions("shadow")["model_id"]) == {candidate}


def test_production_trades_exactly_as_it_would_alone(home: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    together = stand(home, first=110, sections=SHADOW)
    together.run(DAY, some_minutes(110, 8))
    folder = tmp_path_factory.mktemp("alone")
    archived(folder)
    alone = stand(folder, first=110)
    alone.run(DAY, some_minutes(110, 8))
    assert together.ledger.read_decisions().equals(alone.ledger.read_decisions())
    assert together.ledger.read_orders().equals(alone.ledger.read_orders())
    assert together.ledger.read_equity().equals(alone.ledger.read_equity())


def test_a_shadow_s_account_holds_what_its_targets_are_parts_of(home: Path) -> None:
    large = {"trade": {"shadow": True, "capital": 250_000.0}, "paper": {"cash": 300_000.0}}
    shadow = Shadow.from_settings(settings_of(home, trade={"shadow": True}), Home.live(home), capital=250_000.0)
    assert shadow.broker.account().cash == 250_000.0
    shadow.broker.close()
    bot = stand(home, first=110, sections=large)
    bot.run(DAY, some_minutes(110, 12))
    assert bot.ledger.read_fills("shadow").height > 0
    assert bot.ledger.count_refusals("shadow") == {}
    assert bot.alerts == []
    bot.close()


def test_a_shadow_s_account_of_before_that_is_too_small_is_told(home: Path) -> None:
    Shadow.from_settings(settings_of(home), Home.live(home), capital=0.0).broker.close()  # begun with [paper] cash
    large = {"trade": {"shadow": True, "capital": 250_000.0}, "paper": {"cash": 300_000.0}}
    bot = stand(home, first=110, sections=large)
    assert [alert.subject for alert in bot.alerts] == ["the shadow's account is too small"]
    assert "began with 100,000.00 USD" in bot.alerts[0].text
    bot.close()


def test_the_status_has_a_row_for_each(home: Path) -> None:
    bot = stand(home, first=110, sections=SHADOW)
    bot.run(DAY, some_minutes(110, 4))
    found = read_status(settings_of(home))
    assert [(book.book, book.model_id) for book in found.books] == [
        ("production", ids(home)[0]),
        ("shadow", ids(home)[1]),
    ]
    assert found.books[1].equity is not None
    assert [event.kind for event in bot.ledger.read_events() if event.kind == "shadow"] == ["shadow"]


def test_a_damaged_candidate_is_told_and_production_trades_on(home: Path) -> None:
    path = Registry(home).locate_onnx(ids(home)[1])
    path.write_bytes(path.read_bytes()[:-100])
    bot = stand(home, first=110, sections=SHADOW)
    bot.run(DAY, some_minutes(110, 2))
    assert any("no shadow" in event.text for event in bot.events)
    assert bot.ledger.read_decisions("shadow").is_empty()
    assert bot.ledger.read_decisions().height == 6


def record(hours: int, outcome: str = "rejected", p_better: float | None = 0.55, **more: object) -> ModelRecord:
    values: dict[str, object] = {
        "model_id": f"20250601_{hours:02d}0000",
        "trained_at": datetime(2025, 6, 1, hours, tzinfo=UTC),
        "outcome": outcome,
        "reason": "",
        "source": "synthetic",
        "synthetic": True,
        "family": "forest",
        "rows": 1,
        "sessions": 1,
        "tickers": (),
        "trained_from": date(2025, 5, 1),
        "trained_to": date(2025, 5, 2),
        "label_end": datetime(2025, 5, 2, tzinfo=UTC),
        "exam_from": None,
        "exam_to": None,
        "val_sharpe": None,
        "report": {"p_better": p_better},
        "sha256": "",
        "pkl_sha256": "",
        "parent": None,
        "passed": False,
        "is_deployed": False,
        "served": (),
        "kept": True,
    }
    return ModelRecord(**{**values, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("models", "chosen"),
    [
        ([record(5)], 5),
        ([record(7), record(6), record(5)], 7),
        ([record(7, p_better=0.2), record(6)], 6),
        ([record(7, p_better=None), record(6, outcome="deployed")], None),
        ([record(7, kept=False)], None),
        ([], None),
    ],
)
def test_the_newest_narrow_candidate_since_the_model_that_serves_is_the_shadow(
    models: list[ModelRecord], chosen: int | None
) -> None:
    serving = record(4, outcome="deployed")
    found = list(list_narrow((*models, serving), serving, 0.4))
    assert (found[0].trained_at.hour if found else None) == chosen


def test_a_candidate_from_before_the_model_that_serves_was_compared_with_another_one() -> None:
    serving = record(4, outcome="deployed")
    assert not list(list_narrow((serving, record(3)), serving, 0.4))
    assert not list(list_narrow((serving, record(9)), serving, 0.4)), "whatever a clock that ran ahead has dated it"
