"""The page of a search: whole without network and script, every trial on it, the same bytes for the same result."""

import re
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from hftcl import pages as page
from hftcl.learning.search.reports import InnerReport, SearchExamReport, SearchReport, TrialReport, WinnerReport
from hftcl.pages.chart_data import read_script
from hftcl.views.search import draw_search
from tests.pages.test_backtest_page import HOSTILE, Tags

TRIALS = tuple(
    TrialReport(
        number=number,
        settings={"model.horizon_minutes": 10 * number, "features.drop": ("volume", HOSTILE)},
        inner_sharpe=None if number == 3 else 1.0 - number,
        pnl=0.01,
        turnover=12.0,
        trades=9,
        fault=f"no rows {HOSTILE}" if number == 3 else "",
        seconds=1.0,
    )
    for number in range(5)
)
EXAM = SearchExamReport(
    from_=date(2025, 6, 2),
    to=date(2025, 6, 27),
    sessions=20,
    outcome="rejected",
    reason=f"net Sharpe {HOSTILE}",
    sharpe=0.25,
    sharpe_interval=(-5.0, 5.5),
    gross_sharpe=1.0,
    psr=0.5,
    pnl=0.001,
    turnover=4.0,
    pnl_by_session={"2025-06-02": 0.001},
    positions_sha256="ab",
    trials=2,
    effective_trials=1.9,
    dsr=0.44,
    champion_sharpe=None,
    p_better=None,
    edge="stand aside",
    edge_reason="the record is short",
    p_edge=0.5,
)
REPORT = SearchReport(
    trials=TRIALS,
    distinct=4,
    others=57,
    effective_trials=49.25,
    winner=WinnerReport(number=0, settings={}, inner_sharpe=1.0, inner_interval=(-3.0, 5.0), dsr=0.4),
    changes={"features.drop": ("volume",)},
    difference=" [features]\n-drop = []\n+drop = [" + HOSTILE + "]",
    best_of_worthless=1.7,
    exam=EXAM,
    reason=f"trial 0 is the best {HOSTILE}",
    importances={"model.horizon_minutes": 0.75, "features.drop": 0.25},
    inner=InnerReport(from_=date(2025, 5, 14), to=date(2025, 5, 28), sessions=10, folds=3, training_sessions=21),
    resumed=2,
    space=12.0,
    notes=("a new search begins",),
    cost_bps=1.0,
    tickers=("AAPL", "A&B"),
    left_out={},
    source="files",
    synthetic=False,
    as_of=datetime(2025, 6, 27, 20, 0, tzinfo=UTC),
    as_of_note="as asked",
    sessions_per_year=252,
    timings_s={"total": 12.0},
)
NOTHING = replace(
    REPORT,
    trials=(),
    distinct=0,
    others=0,
    effective_trials=0.0,
    winner=None,
    changes={},
    exam=None,
    best_of_worthless=None,
    importances={},
    difference="",
)


def test_the_same_search_gives_the_same_bytes_whatever_it_took() -> None:
    slower = tuple(replace(trial, seconds=9.0) for trial in TRIALS)
    assert page.draw_search(replace(REPORT, trials=slower, timings_s={"total": 99.0}, resumed=0)) == page.draw_search(
        REPORT
    )


@pytest.mark.parametrize("report", [REPORT, NOTHING], ids=["found", "nothing"])
def test_it_is_well_formed_and_nothing_but_its_own_script_runs(report: SearchReport) -> None:
    text = page.draw_search(report)
    tags = Tags(text)
    assert tags.open == []
    assert tags.count("link") == tags.count("img") == 0
    assert not [tag for tag, attributes in tags.found if {"src", "href", "style"} & set(attributes)]
    assert re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL) == [read_script()]
    assert not re.search(r"\bnan\b|\binf\b|None", text.replace(read_script(), ""))


def test_every_trial_that_was_scored_is_a_mark_and_every_trial_a_row_the_best_first() -> None:
    text = page.draw_search(REPORT)
    tags = Tags(text)
    assert tags.count("circle", "class", "mark") == 4
    assert tags.count("circle", "fill", "good") == 1, "the winner"
    table = text[text.index("All trials") :]
    assert re.findall(r"<tr><td[^>]*>(\d)</td>", table) == ["0", "1", "2", "4", "3"]
    assert HOSTILE in tags.text, "it is shown as it is"


def test_the_line_of_the_worthless_lies_between_the_figures_that_it_lies_between() -> None:
    text = page.draw_search(replace(REPORT, best_of_worthless=0.5))
    line = re.search(r'stroke-dasharray="6 3" data-series="1" points="56,([\d.]+) ', text)
    assert line
    first, second = re.findall(r'<circle class="mark"[^>]*cy="([\d.]+)"', text)[:2]
    assert float(line[1]) == pytest.approx((float(first) + float(second)) / 2, abs=0.1), "between 1.0 and 0.0"


def test_a_pipe_gets_the_best_trials_the_exam_and_the_difference(capsys: pytest.CaptureFixture[str]) -> None:
    draw_search(replace(REPORT, difference=" [features]\n-drop = []\n+drop = ['volume']"))
    told = capsys.readouterr().out
    assert "# 5 trials of 12, the best first: 10 sessions inside the training window" in told
    assert told.index("\n    0 ") < told.index("\n    4 ") < told.index("\n    3 ")
    assert "the best of as many worthless ones" in told
    assert "\n [features]\n-drop = []\n+drop = ['volume']\n" in told
    assert "Nothing was changed." in told
    draw_search(NOTHING)
    assert "Nothing was changed" not in capsys.readouterr().out
