"""A training of a test from its begin to its end."""

from typing import Any

from hftcl.model.training import Trained, Trainer, TrainingTask


def train_with(trainer: Trainer, task: TrainingTask, *given: Any, **options: Any) -> Trained:
    """Return the model; the rest is for `begin`."""
    with trainer.begin(task, *given, **options) as begun:
        return begun.finish()
