"""The baseline of an exam: the family `ridge`, trained and scored on the very rows. It decides nothing.

A model that is no better than a weighted sum of its features has learnt what a weighted sum says too.
"""

from dataclasses import replace
from typing import Final

from hftcl.archive.policy import complete_params
from hftcl.compute.crew import count_cores
from hftcl.errors import HftclError
from hftcl.events import Event, Level, OnEvent, ignore
from hftcl.exam.split import ExamSplit
from hftcl.learning.candidate import train_unarchived
from hftcl.learning.dataset import Dataset
from hftcl.learning.reports import ScoreReport
from hftcl.learning.score import examine
from hftcl.model.training import Trainer
from hftcl.settings import Settings

BASELINE: Final = "ridge"


def score_baseline(
    data: Dataset, division: ExamSplit, settings: Settings, *, pool: Trainer, on_event: OnEvent
) -> ScoreReport | None:
    """Return what the baseline would have earned in this exam, by the same strategy; None where the model is one.

    It is no trial: no verdict reads it, and a person who then trains that family is counted with it. Where it fails,
    that is told, and the exam of the candidate stands.
    """
    if settings.model.family == BASELINE or not division.exam:
        return None
    settings = replace(settings, model=replace(settings.model, family=BASELINE))
    try:
        model = train_unarchived(
            data.frame,
            division,
            settings,
            model_id=BASELINE,
            params=complete_params(settings),
            features=data.features,
            source=data.source,
            synthetic=data.synthetic,
            pool=pool,
            on_event=ignore,
        ).open()
    except HftclError as fault:
        on_event(Event("exam", text=f"the baseline {BASELINE} could not be trained: {fault}", level=Level.WARNING))
        return None
    cost_bps, watchlist = settings.strategy.cost_bps, settings.market.watchlist
    jobs = count_cores(settings)
    return examine(model, data.frame, division.exam_days, cost_bps=cost_bps, watchlist=watchlist, jobs=jobs).report
