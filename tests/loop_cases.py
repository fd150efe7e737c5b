"""A small market and a quick forest, so that the whole loop runs in seconds; built by the tests of learning and cli."""

from dataclasses import replace
from pathlib import Path

from hftcl.settings import Settings

SMALL_TOML = """\
[market]
watchlist = ["AAPL", "AMD", "TSLA"]
lookback_days = 46

[synthetic]
edge = 4.0

[exam]
sessions = 10

[model]
n_estimators = 24
"""


def small(home: Path, **sections: dict[str, object]) -> Settings:
    """Return settings for three tickers, 46 days, 24 trees and an edge that no luck hides; `sections` change values."""
    settings = Settings()
    settings = replace(
        settings,
        paths=replace(settings.paths, home=str(home)),
        market=replace(settings.market, watchlist=("AAPL", "AMD", "TSLA"), lookback_days=46),
        synthetic=replace(settings.synthetic, edge=4.0),
        exam=replace(settings.exam, sessions=10),
        model=replace(settings.model, n_estimators=24),
    )
    for name, values in sections.items():
        settings = replace(settings, **{name: replace(getattr(settings, name), **values)})
    return settings
