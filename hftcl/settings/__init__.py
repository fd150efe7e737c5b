"""The typed tree of settings with its defaults, a file a group of sections. Pure: values only; `config` reads file,
environment and flags into it.

Each leaf carries its range and one sentence of meaning in `msgspec.Meta`; `config` validates by it, and the
configuration reference and hftcl.toml.example are held to it by tests.
"""

# Annotations are texts until `config` reads one: each command would else build hundreds for the few that a file sets.
from __future__ import annotations

from dataclasses import field, fields
from typing import Any, TypeVar

from hftcl.settings.bars import DEFAULT_WATCHLIST, Files, Market, Polygon, Synthetic
from hftcl.settings.forms import setting
from hftcl.settings.judging import Edge, Exam, Promote
from hftcl.settings.loop import Schedule, Search, Triggers
from hftcl.settings.machine import Alerts, Archive, Compute, Log, Paths
from hftcl.settings.models import Features, LightGBM, Model, Ridge, Vote, XGBoost
from hftcl.settings.trading import Alpaca, Paper, Risk, Side, Strategy, StrictPaper, Trade
from hftcl.values import Value, value_class

__all__ = [
    "DEFAULT_WATCHLIST",
    "Alerts",
    "Alpaca",
    "Archive",
    "Compute",
    "Edge",
    "Exam",
    "Features",
    "Files",
    "LightGBM",
    "Log",
    "Market",
    "Model",
    "Paper",
    "Paths",
    "Polygon",
    "Promote",
    "Ridge",
    "Risk",
    "Schedule",
    "Search",
    "Settings",
    "Side",
    "Strategy",
    "StrictPaper",
    "Synthetic",
    "Trade",
    "Triggers",
    "Vote",
    "XGBoost",
    "setting",
]

P = TypeVar("P")
"""The settings of a plug-in."""


@value_class(frozen=True, slots=True, kw_only=True)
class Settings(Value):
    """Every setting. Immutable: `dataclasses.replace` makes a changed one.

    >>> Settings().market.source
    'synthetic'
    """

    paths: Paths = field(default_factory=Paths)
    market: Market = field(default_factory=Market)
    files: Files = field(default_factory=Files)
    polygon: Polygon = field(default_factory=Polygon)
    synthetic: Synthetic = field(default_factory=Synthetic)
    model: Model = field(default_factory=Model)
    features: Features = field(default_factory=Features)
    ridge: Ridge = field(default_factory=Ridge)
    lightgbm: LightGBM = field(default_factory=LightGBM)
    xgboost: XGBoost = field(default_factory=XGBoost)
    vote: Vote = field(default_factory=Vote)
    strategy: Strategy = field(default_factory=Strategy)
    exam: Exam = field(default_factory=Exam)
    promote: Promote = field(default_factory=Promote)
    edge: Edge = field(default_factory=Edge)
    triggers: Triggers = field(default_factory=Triggers)
    search: Search = field(default_factory=Search)
    schedule: Schedule = field(default_factory=Schedule)
    trade: Trade = field(default_factory=Trade)
    risk: Risk = field(default_factory=Risk)
    paper: Paper = field(default_factory=Paper)
    strict_paper: StrictPaper = field(default_factory=StrictPaper)
    alpaca: Alpaca = field(default_factory=Alpaca)
    alerts: Alerts = field(default_factory=Alerts)
    log: Log = field(default_factory=Log)
    archive: Archive = field(default_factory=Archive)
    compute: Compute = field(default_factory=Compute)
    plugins: dict[str, Any] = field(default_factory=dict)
    """The sections of the plug-ins in use, by name; `of_plugin` finds one by its type."""

    def of_plugin(self, kind: type[P]) -> P:
        """Return the section whose dataclass is `kind`; with every default where none was read from hftcl.toml."""
        sections = (*(getattr(self, item.name) for item in fields(self)), *self.plugins.values())
        return next((section for section in sections if isinstance(section, kind)), kind())
