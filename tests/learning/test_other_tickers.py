"""A watchlist with tickers on which the model was not trained: retrain, check, exam and trade name them."""

import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from hftcl import ContinuousLearning
from hftcl.events import Event
from hftcl.settings import Settings
from hftcl.trading.run.controls import Controls
from hftcl.trading.run.replay import replay
from tests.loop_cases import small

NOW = datetime(2026, 1, 9, 7, 0, tzinfo=UTC)


def of(home: Path, *tickers: str) -> Settings:
    settings = small(home, promote={"min_sharpe": -100.0, "min_p_better": 0.0})
    return replace(
        settings,
        market=replace(settings.market, watchlist=tickers),
        model=replace(settings.model, n_estimators=4, max_depth=4),
    )


def test_what_a_model_was_not_trained_on_is_named_by_whatever_uses_it(tmp_path: Path) -> None:
    told: list[str] = []

    def hear(event: Event) -> None:
        told.append(event.text)

    def heard() -> list[str]:
        texts = [text for text in told if "was trained without" in text]
        told.clear()
        return texts

    first = ContinuousLearning(of(tmp_path, "AAPL", "AMD"), clock=lambda: NOW, on_event=hear)
    model_id = first.retrain(force=True, as_of="2025-11-26").model_id
    assert model_id is not None
    assert first.get_model_history()["is_deployed"].tolist() == [True]
    assert heard() == []

    settings = of(tmp_path, "AAPL", "AMD", "TSLA", "JNJ")
    other = ContinuousLearning(settings, clock=lambda: NOW, on_event=hear)
    expected = [
        f"Model {model_id} was trained without JNJ, TSLA: what it says of them is untried. `hftcl retrain --force` "
        "trains on them."
    ]
    other.check(as_of="2025-12-01")
    assert heard() == expected
    other.exam(model_id, "2025-11-28", "2025-12-01")
    assert heard() == expected
    replay(
        settings,
        "2025-11-28",  # a session of 210 minutes
        now=NOW,
        stopwatch=time.perf_counter,
        controls=Controls(),
        on_event=hear,
        on_alert=lambda _: None,
    )
    assert heard() == expected, "once, not each session"
    other.retrain(force=True, dry_run=True, as_of="2025-12-01")
    assert heard() == expected
