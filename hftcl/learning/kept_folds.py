"""The folds of a walk-forward that came back before another one failed: kept in the home, for the command that goes on.

Nothing is written where all come back. A file holds a whole model, by the digest of all that it was trained on. Who
holds the lock of the retrain keeps and deletes folds; anybody else, as a dry run, only reads them.
"""

import contextlib
import hashlib
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import polars as pl

from hftcl import durable
from hftcl.archive import artifact
from hftcl.archive.artifact import Model
from hftcl.archive.fitness import load_fit
from hftcl.errors import IntegrityError, NewerVersionError
from hftcl.exam.split import ExamSplit
from hftcl.home import Home
from hftcl.learning.bars_digest import hash_bars
from hftcl.learning.candidate import Unarchived
from hftcl.learning.dataset import Dataset
from hftcl.learning.training_digest import hash_training
from hftcl.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFolds:
    """The folds that are kept of these settings and rows. params: complete. model_id: under which they are scored.

    may_change: whether the caller holds the lock of the retrain; without it nothing is kept or deleted.
    """

    data: Dataset = field(repr=False)
    settings: Settings
    params: Mapping[str, object]
    model_id: str
    may_change: bool

    @property
    def _home(self) -> Home:
        return Home.of(self.settings)

    def find(self, parts: Sequence[ExamSplit]) -> dict[ExamSplit, Model]:
        """Return the models of those that are kept. What cannot be read, or is not whole, is trained again."""
        if not self._home.folds.is_dir():
            return {}
        found = {}
        for part, path in self._locate(parts).items():
            try:
                meta = load_fit(path, sha256=None, market=None, features=self.data.features).meta
                graph = artifact.read_graph(path)
            except (IntegrityError, NewerVersionError):  # none, or a damaged one
                continue
            found[part] = Unarchived(onnx=graph, meta=replace(meta, model_id=self.model_id)).open()
        return found

    def keep(self, trained: Mapping[ExamSplit, Unarchived], found: Collection[ExamSplit]) -> None:
        """Write the models of some folds beside those `found`, where this is a home, and delete those of another walk:
        settings or bars change from day to day. Raises StorageError; IntegrityError, TrainingError for a graph that no
        file may hold.
        """
        if not (self.may_change and trained) or not self._home.models.is_dir():
            return
        places = self._locate([*found, *trained])
        with durable.convert_storage_faults("keeping the folds that are trained"):
            durable.make_folder(self._home.folds)
            for other in set(self._home.folds.iterdir()) - set(places.values()):
                other.unlink(missing_ok=True)
            for part, one in trained.items():
                durable.write_atomically(places[part], artifact.sign(_pack(one)))

    def delete(self) -> None:
        """Delete all that is kept: the walk-forward is done, or it is of other bars by now."""
        if not self.may_change:
            return
        with (
            durable.convert_storage_faults("deleting folds that were kept"),
            contextlib.suppress(FileNotFoundError),  # none
        ):
            shutil.rmtree(self._home.folds)

    def _locate(self, parts: Sequence[ExamSplit]) -> dict[ExamSplit, Path]:
        """Return the place of each: its name tells what it is trained on, to the bit."""
        of_all = hash_training(self.settings, self.params, self.data.features, self.data.source)
        places = {}
        for part in parts:
            days = part.train_days
            rows = self.data.frame.filter(pl.col("session").is_between(days[0], days[-1]))
            told = f"{of_all} {self.data.synthetic} {part} {hash_bars(rows)}"
            places[part] = self._home.locate_fold(hashlib.sha256(told.encode()).hexdigest())
        return places


def _pack(trained: Unarchived) -> bytes:
    """Return a model file, whose canary is a row of zeros: who reads it trained it, and asks nothing more of it."""
    return artifact.build(trained.onnx, trained.meta, np.zeros((1, trained.meta.inputs.width), dtype=np.float32))
