"""Which model of a policy was current when."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from hftcl.archive.records import ModelRecord
from hftcl.archive.registry import Registry


@dataclass(frozen=True, slots=True)
class Timeline:
    """Which model was current when: the one that served, and before any did, the last candidate."""

    served: tuple[tuple[datetime, ModelRecord], ...]
    tried: tuple[tuple[datetime, ModelRecord], ...]

    @classmethod
    def from_archive(
        cls, archive: Registry, *, synthetic: bool, is_ours: Callable[[ModelRecord], bool] = lambda model: True
    ) -> "Timeline":
        """Return it for models of one kind of bars. is_ours: whether a model is of the policy in question.

        A model that was promoted is current from the end of the bars by which it was judged, so that a loop replayed
        with --as-of is dated as it would have been; a rollback, from the moment a person made it.
        """
        of_kind = (model for model in archive.list_models() if model.synthetic == synthetic)
        models = {model.model_id: model for model in of_kind if is_ours(model)}
        changes = [change for change in archive.list_deployments() if change.model_id in models]
        return cls(
            served=tuple(
                (models[change.model_id].known_until if change.kind == "deploy" else change.at, models[change.model_id])
                for change in changes
            ),
            tried=tuple((model.known_until, model) for model in reversed(models.values())),
        )

    def find_at(self, start: datetime) -> ModelRecord | None:
        """Return the model that was current when a session began."""
        for since, model in (*reversed(self.served), *reversed(self.tried)):
            if since < start:
                return model
        return None
