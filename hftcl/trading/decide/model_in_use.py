"""The model in use: a changed production file is read once, verified, and swapped in whole between two minutes.

The registry says which file may serve; nothing here writes.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Literal

from hftcl import durable
from hftcl.archive import artifact
from hftcl.archive.artifact import FeatureSet, Model
from hftcl.archive.fitness import MarketKind, load_fit, require_fitness
from hftcl.archive.record import find_edge_in_force
from hftcl.archive.records import ModelRecord
from hftcl.archive.registry import Registry
from hftcl.errors import HftclError, IntegrityError
from hftcl.formats import format_moment_to_second

RULE: Final = "=" * 60  # 60, as docs/trading.md shows the banner: it stands out in a log, and scripts may look for it
_LOOKS: Final = 5  # a deployment replaces file and registry within milliseconds: five in a row are a fault, not a race


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInUse:
    """The model that decides. since: when the bot took it up; trained_at: from the registry; both UTC."""

    model: Model
    since: datetime
    record: ModelRecord

    @property
    def model_id(self) -> str:
        """The id in the registry."""
        return self.record.model_id

    def compute_age_days(self, now: datetime) -> float:
        """Days since it was trained; negative in a replay of bars older than the model."""
        return (now - self.record.trained_at) / timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductionLook:
    """What a look at the production file found. `reason` says why it was refused, `before` and `after` are ids."""

    outcome: Literal["same", "reloaded", "refused"]
    at: datetime
    before: str | None
    after: str | None
    reason: str = ""

    @property
    def banner(self) -> tuple[str, ...]:
        """What the log shows of a reload, as the user's guide has it."""
        change = f"{self.before or 'no model'} -> {self.after}"
        return (
            RULE,
            "NEW MODEL DETECTED - RELOADING",
            RULE,
            f"Model reloaded at {format_moment_to_second(self.at)} UTC: {change}",
            RULE,
        )


class ProductionWatch:
    """The production model of `home`, looked at every `interval_s` seconds or when asked.

    A file that may not serve changes nothing: the model in use stays, and the refusal is told once for each file.
    policy: of the settings, see `archive.policy`. features: what the bot computes; None: ours.
    """

    def __init__(
        self, home: Path, market: MarketKind, *, policy: str, interval_s: float, features: FeatureSet | None = None
    ) -> None:
        self._registry = Registry(home)
        self._market = market
        self._policy = policy
        self._interval = timedelta(seconds=interval_s)
        self._features = features
        self._mark: tuple[int, int, int] | Literal["never"] | None = "never"
        self._looked: datetime | None = None
        self.in_use: ModelInUse | None = None
        self.refused = ""
        self.edge: str | None = None
        """Whether the record of this policy lets it trade: "live", "stand aside"; None before the first look."""
        self.edge_reason = ""

    @property
    def features(self) -> FeatureSet:
        """What the bot computes, read once: the model that serves, the shadow and the minutes are of the same file."""
        if self._features is None:
            self._features = artifact.list_our_features()
        return self._features

    def is_due(self, now: datetime) -> bool:
        """Whether it is time for the next look. A clock that was set back does not put it off."""
        return self._looked is None or not timedelta(0) <= now - self._looked < self._interval

    def look(self, now: datetime) -> ProductionLook:
        """Look at the production file, and take it up where it is another registered model that may serve here."""
        self._looked = now
        before = self.in_use.model_id if self.in_use else None
        mark = durable.read_stamp(self._registry.production)
        try:
            self._read_edge()
            if mark == self._mark:
                return ProductionLook(outcome="same", at=now, before=before, after=before)
            model = self._load(now)
        except HftclError as error:
            # The registry or the disk may be at fault, and not the file: what was refused is looked at again.
            self._mark = "never"
            last_refusal, self.refused = self.refused, str(error)
            outcome: Literal["same", "refused"] = "same" if last_refusal == self.refused else "refused"
            return ProductionLook(outcome=outcome, at=now, before=before, after=before, reason=self.refused)
        self._mark, self.refused = mark, ""
        if before == model.model_id:
            return ProductionLook(outcome="same", at=now, before=before, after=before)
        self.in_use = model
        return ProductionLook(outcome="reloaded", at=now, before=before, after=model.model_id)

    def _read_edge(self) -> None:
        now_in_force = find_edge_in_force(self._registry, synthetic=self._market.synthetic, policy=self._policy)
        self.edge, self.edge_reason = now_in_force.edge, now_in_force.reason

    def _load(self, now: datetime) -> ModelInUse:
        """Return the production model, verified. Raises HftclError saying why it may not serve."""
        for remaining in reversed(range(_LOOKS)):
            state = self._registry.read_state()
            production = state.production
            if production.model_id is None or production.sha256 is None:
                was_deployed = state.intended_id is not None
                raise IntegrityError(_explain_not_ours(self._registry.production, production.state, was_deployed))
            try:
                # The hash before the content: what is not registered is never parsed.
                model = load_fit(
                    self._registry.production, sha256=production.sha256, market=None, features=self.features
                )
            except IntegrityError:
                if remaining and self._registry.read_production().sha256 != production.sha256:
                    continue  # it was replaced between the two readings
                raise
            require_fitness(model.meta, self._find_market())
            return ModelInUse(model=model, since=now, record=state.find_record(production.model_id))
        raise AssertionError("unreachable")

    def _find_market(self) -> MarketKind:
        """Return what a model must fit. The hours are the first one's: others need a bot that is started again."""
        if self.in_use is None:
            return self._market
        return replace(self._market, extended_hours=self.in_use.model.meta.extended_hours)


def _explain_not_ours(path: Path, state: str, was_deployed: bool) -> str:
    fault = "is missing" if state == "missing" else "is not a model of this archive"
    if was_deployed:
        return (
            f"{path} {fault}. Any command that changes the archive restores the one that was deployed: `hftcl unpin`."
        )
    return f"{path} {fault}, and no model was deployed yet: `hftcl retrain --force` trains and examines one."
