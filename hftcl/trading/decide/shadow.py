"""The shadow: a candidate that was rejected narrowly trades virtually beside the model that serves.

It has a paper account of its own and the book `shadow` of the same ledger; it never moves money.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from hftcl.archive.artifact import FeatureSet, list_our_features
from hftcl.archive.fitness import MarketKind, load_archived
from hftcl.archive.records import ModelRecord
from hftcl.archive.registry import Registry
from hftcl.errors import UnfitModelError
from hftcl.home import Home
from hftcl.settings import Settings
from hftcl.trading.brokers import Broker, open_broker
from hftcl.trading.decide.model_in_use import ModelInUse


@dataclass(slots=True, kw_only=True)
class Shadow:
    """Which candidate trades as the shadow, chosen again before each session."""

    home: Path
    broker: Broker
    min_p_better: float
    features: FeatureSet

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        home: Home,
        *,
        capital: float = 0.0,
        durable: bool = True,
        features: FeatureSet | None = None,
    ) -> "Shadow":
        """Return the shadow of a bot whose files lie at `home`; its account begins with at least `capital`, USD.

        features: what the bot computes; where left out, the files of `settings` are read.
        """
        folder = home.shadow
        settings = replace(settings, paper=replace(settings.paper, cash=max(settings.paper.cash, capital)))
        return cls(
            home=Home.of(settings).root,
            broker=open_broker("paper", settings, folder=folder, durable=durable),
            min_p_better=settings.trade.shadow_min_p_better,
            features=features or list_our_features(settings),
        )

    def load_candidate(self, serving: ModelInUse, now: datetime) -> ModelInUse | None:
        """Return, loaded, the newest candidate since `serving` that was rejected narrowly and may serve where it does.

        None for none. Raises IntegrityError for a file that is not what was archived, UnfitModelError, of the newest,
        where all are of another market.
        """
        registry = Registry(self.home)
        trades = serving.model.meta
        market = MarketKind(calendar=trades.calendar, synthetic=trades.synthetic, extended_hours=trades.extended_hours)
        unfit: UnfitModelError | None = None
        for record in list_narrow(registry.list_models(), serving.record, self.min_p_better):
            try:
                model = load_archived(registry, record, market, self.features)
            except UnfitModelError as fault:
                unfit = unfit or fault
            else:
                return ModelInUse(model=model, since=now, record=record)
        if unfit is not None:
            raise unfit
        return None


def list_narrow(models: Iterable[ModelRecord], serving: ModelRecord, min_p_better: float) -> Iterator[ModelRecord]:
    """Yield those of `models` (newest first) that were rejected although P(better than the champion) came close.

    Only candidates trained after the model that serves count: what an older one was compared with is gone.
    """
    for record in models:
        if record.model_id == serving.model_id:  # by the order in which they came: a clock may once have run ahead
            return
        p_better = record.judgement.p_better
        if record.outcome == "rejected" and p_better is not None and p_better >= min_p_better and record.kept:
            yield record
