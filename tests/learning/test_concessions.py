"""Which earlier champions bound a concession of `retrain`: those that gave way by the tolerance, no further back."""

import math
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from hftcl.archive.deployment import ModelArchive
from hftcl.archive.fitness import load_archived
from hftcl.events import ignore
from hftcl.exam.metrics import sharpe
from hftcl.exam.split import list_sessions, split_for_exam
from hftcl.learning.dataset import open_window
from hftcl.learning.examination import _list_conceding_sharpes, find_champion
from hftcl.learning.score import examine
from tests.loop_cases import NOW, small
from tests.trading.bot_stand import TRAINED, archived

FIRST, BEATEN_IT, CONCEDED, AGAIN = range(4)


def test_the_champions_that_gave_way_are_scored_back_to_the_last_that_was_beaten(tmp_path: Path) -> None:
    settings = small(tmp_path)
    ids = [
        archived(
            tmp_path,
            TRAINED + timedelta(hours=place),
            seed=place + 1,
            report={"edge": "live", "conceded": place in {CONCEDED, AGAIN}},
        )
        for place in (FIRST, BEATEN_IT, CONCEDED, AGAIN)
    ]
    archive = ModelArchive(tmp_path)
    assert [model.model_id for model in archive.trace_lineage()] == ids[::-1]
    data = open_window(settings, as_of=None, now=NOW, save=False, on_event=ignore).assemble()
    division = split_for_exam(list_sessions(data.frame), settings.exam, champion_last_label=None)

    def score(place: int) -> float:
        model = load_archived(archive, archive.find(ids[place]), None, data.features)
        cost_bps, watchlist = settings.strategy.cost_bps, settings.market.watchlist
        examined = examine(model, data.frame, division.exam_days, cost_bps=cost_bps, watchlist=watchlist, jobs=1)
        return sharpe(examined.simulation.net, sessions_per_year=252)

    champion = find_champion(archive, data, settings)
    assert champion is not None
    assert (champion.record.model_id, champion.problem) == (ids[AGAIN], None)
    assert _list_conceding_sharpes(archive, champion, data, division, settings) == (score(CONCEDED), score(BEATEN_IT))
    archive.locate_onnx(ids[CONCEDED]).unlink()
    told = _list_conceding_sharpes(archive, champion, data, division, settings)
    assert math.isnan(told[0]), "what cannot be scored has no figure"
    assert told[1:] == (score(BEATEN_IT),)
    beaten = replace(champion, record=archive.find(ids[BEATEN_IT]))
    assert _list_conceding_sharpes(archive, beaten, data, division, settings) == ()
