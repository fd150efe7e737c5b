"""A small market and a quick forest, so that the whole loop runs in seconds; built by the tests of learning and cli."""

from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from hftcl import ContinuousLearning
from hftcl.learning.reports import RetrainReport
from hftcl.settings import Settings
from tests.installed import answer

SMALL_TOML = """\
[market]
watchlist = ["AAPL", "AMD"]
lookback_days = 46

[synthetic]
edge = 4.0

[exam]
sessions = 10

[model]
family = "ridge"
"""


def small(home: Path, **sections: dict[str, object]) -> Settings:
    """Return settings for two tickers, 46 days and an edge that no luck hides; `sections` change values.

    The model is a ridge, which trains in a moment; a forest where the test says something of trees.
    """
    family = "forest" if "n_estimators" in sections.get("model", {}) else "ridge"
    settings = Settings()
    settings = replace(
        settings,
        paths=replace(settings.paths, home=str(home)),
        market=replace(settings.market, watchlist=("AAPL", "AMD"), lookback_days=46),
        synthetic=replace(settings.synthetic, edge=4.0),
        exam=replace(settings.exam, sessions=10),
        model=replace(settings.model, family=family),
    )
    for name, values in sections.items():
        settings = replace(settings, **{name: replace(getattr(settings, name), **values)})
    return settings


QUICK_TOML = """\
[market]
watchlist = ["AAPL", "AMD"]
lookback_days = 46

[model]
family = "ridge"

[promote]
min_sharpe = -100
tolerance = 0.99
min_p_better = 0
"""
"""Two synthetic tickers and a model that trains in a moment; asked as of one day again and again, each candidate equals
its champion and is promoted, so that every retrain comes to the deployment."""

FOREST_TOML = QUICK_TOML.replace('family = "ridge"', "n_estimators = 8")
"""The same with a forest of eight trees, whose files are larger and whose training can be made long."""

AS_OF = "2025-12-15"
RETRAIN = ("retrain", "--force", "--json", "--as-of", AS_OF)
NOW = datetime(2026, 1, 9, 7, 0, tzinfo=UTC)
"""A Friday, 02:00 in New York; the last complete session is Thursday's."""


SHORT_DAY = date(2025, 12, 24)
"""A session of 210 minutes: the bot takes seconds for a whole one."""
BEFORE_SHORT_DAY = "2025-12-23"


def first_retrain(
    home: Path, *, outcome: str = "deployed", as_of: str | None = None, **sections: dict[str, object]
) -> RetrainReport:
    """Make `home` one after its first retrain on the small market, by the Python API; return its report."""
    report = ContinuousLearning(small(home, **sections), clock=lambda: NOW).retrain(force=True, as_of=as_of)
    assert report.outcome == outcome, report.reason
    return report


def deploy_once(home: Path) -> dict[str, Any]:
    """Make `home` one with cached bars and a deployed model, by the command; return the report."""
    (home / "hftcl.toml").write_text(QUICK_TOML)
    report: dict[str, Any] = answer(home, *RETRAIN)
    assert report["outcome"] == "deployed", report
    return report
