"""What a person is told of a check, an exam, a proof and the features: conclusions, and what they stand on."""

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from hftcl.learning.reports import (
    CheckReport,
    ExamReport,
    FeatureReport,
    FeaturesReport,
    FindingReport,
    HeldReport,
    ProofReport,
    ScoreReport,
    SliceReport,
    WorthReport,
)
from hftcl.learning.triggers import Trigger
from hftcl.market.received import SessionCoverage, TickerCoverage
from hftcl.views import loop, scores
from hftcl.views.blocks import collect_blocks
from tests.views.drawn import find_style, list_grids, list_lines, read_columns, read_pairs

AT = datetime(2026, 1, 9, 2, 5, tzinfo=UTC)

# --- check ------------------------------------------------------------------------------------------------------------


def a_coverage(ticker: str, **changes: object) -> TickerCoverage:
    values: dict[str, object] = {
        "ticker": ticker,
        "sessions": 7,
        "expected": 2730,
        "received": 2700,
        "missing": 30,
        "quarantined": 1,
        "revised": 2,
        "incomplete": tuple(
            SessionCoverage(session=date(2026, 1, day), expected=390, received=390 - day, quarantined=0, revised=0)
            for day in range(1, 8)
        ),
        "context": False,
        "left_out": "",
        **changes,
    }
    return TickerCoverage(**values)  # type: ignore[arg-type]


CHECK = CheckReport(
    due=True,
    reason="age: 8.0 days",
    triggers=(
        Trigger(name="age", fired=True, value=8.0, threshold=7.0, evidence="8.0 days old"),
        Trigger(name="drift", fired=False, value=None, threshold=0.25, evidence="too few bars"),
    ),
    live="m",
    as_of=AT,
    as_of_note="the last close",
    source="polygon",
    synthetic=False,
    coverage=(
        a_coverage("AAPL"),
        a_coverage("XYZ", left_out="no bars"),
        a_coverage("SPY", left_out="delisted", context=True),
    ),
)


def test_a_check_answers_first_and_last_and_shows_each_trigger_with_its_evidence() -> None:
    blocks = collect_blocks(loop.draw_check, CHECK)
    lines = list_lines(blocks)
    assert lines[0] == lines[-1] == "A retrain is due: age: 8.0 days."
    (grid,) = list_grids(blocks)
    assert grid.title == "bars from polygon, known until 2026-01-09 02:05 UTC (the last close)"
    assert read_columns(grid) == [
        {"trigger": "age", "fired": "due", "value": "8.00", "threshold": "7.00", "evidence": "8.0 days old"},
        {"trigger": "drift", "fired": "no", "value": "-", "threshold": "0.25", "evidence": "too few bars"},
    ]
    calm = list_lines(collect_blocks(loop.draw_check, replace(CHECK, due=False, reason="nothing fired")))
    assert calm[0] == "A retrain is not due: nothing fired."


def test_a_check_says_which_tickers_are_left_out_those_that_trade_first() -> None:
    lines = list_lines(collect_blocks(loop.draw_check, CHECK))
    assert lines[1:-1] == ["left out: XYZ: no bars", "[market] context, left out: SPY: delisted"]


def test_with_v_a_check_shows_what_came_of_the_bars_and_the_newest_sessions_that_are_not_whole() -> None:
    _, grid = list_grids(collect_blocks(loop.draw_check, CHECK, 1))
    rows = [tuple(cell.text for cell in row) for row in grid.rows]
    assert rows[0] == ("AAPL", "7", "2,730", "2,700", "30", "1", "2")
    assert [row[1] for row in rows[1:6]] == [f"2026-01-0{day}" for day in range(3, 8)], "the five newest"
    assert rows[5] == ("", "2026-01-07", "390", "383", "7", "0", "0")
    assert rows[12][0] == "SPY (context)"


# --- exam -------------------------------------------------------------------------------------------------------------

WORTH = WorthReport(break_even_bps=0.75, fades=(), fault="cost", conclusion="The cost: it is dear.")
SCORE = ScoreReport(
    model_id="m",
    sharpe=1.5,
    sharpe_interval=(-0.25, 3.25),
    gross_sharpe=2.5,
    psr=0.9,
    pnl=0.01,
    gross_pnl=0.02,
    cost=0.0101,
    turnover=12.34,
    trades=1234,
    hit_rate=None,
    max_drawdown=0.002,
    exposure=0.25,
    information_coefficient=-0.01,
    pnl_by_session={f"2026-01-0{day}": 0.001 * day for day in range(5, 9)},
    pnl_by_ticker={"AAPL": 0.01},
    slices={},
    worth=WORTH,
    positions_sha256="a" * 64,
)


def test_a_score_is_told_net_before_gross_and_each_figure_by_its_own_name() -> None:
    assert [(name.strip(), form(SCORE)) for name, form in scores.SCORE_ROWS] == [
        ("Sharpe, net", "1.50 (4 sessions)"),
        ("90 % interval", "-0.2 to 3.2"),
        ("Sharpe, gross", "2.50 (4 sessions)"),
        ("P(true Sharpe > 0)", "0.90"),
        ("P&L, net", "+1.000%"),
        ("P&L, gross", "+2.000%"),
        ("cost", "1.010%"),
        ("break-even cost, bp a trade", "0.75"),
        ("turnover, x capital", "12.3"),
        ("trades", "1,234"),
        ("hit rate", "-"),
        ("max drawdown", "0.200%"),
        ("exposure", "25.0%"),
        ("information coefficient", "-0.0100"),
    ]


def test_an_exam_says_what_it_was_held_on_and_ends_with_what_a_replay_must_agree_with() -> None:
    fields = {name: getattr(SCORE, name) for name in ScoreReport.__dataclass_fields__}
    exam = ExamReport(
        **{**fields, "novel_share": 0.0123},
        from_=date(2026, 1, 5),
        to=date(2026, 1, 8),
        sessions=4,
        trials=1,
        effective_trials=1.0,
        dsr=None,
        tickers=("AAPL",),
        left_out={},
        trained_from=date(2025, 11, 3),
        trained_to=date(2025, 12, 5),
        source="synthetic",
        synthetic=True,
    )
    blocks = collect_blocks(loop.draw_exam, exam)
    lines = list_lines(blocks)
    assert lines[0] == "m, trained 2025-11-03 to 2025-12-05, on SYNTHETIC bars of 1 ticker"
    assert find_style(blocks, "m, trained") == "bold magenta"
    assert list_grids(blocks)[0].title == "Exam: 4 sessions, 2026-01-05 to 2026-01-08, unseen by the model"
    assert "1.2% of the bars lay too far from the training for a signal." in lines
    assert lines[-1] == f"positions_sha256 {'a' * 64}"
    silent = list_lines(collect_blocks(loop.draw_exam, replace(exam, novel_share=None)))
    assert not [line for line in silent if "too far" in line]


def test_the_parts_of_an_exam_are_named_in_full_only_where_a_part_is_several() -> None:
    part = SliceReport(
        name="high", detail="", net=0.01, gross=0.02, cost=0.01, turnover=3.21, trades=1000, held_share=0.5
    )
    score = replace(SCORE, slices={"price": (part,), "sector": (replace(part, detail="AAPL, AMD"), part)})
    price, sector, sessions = list_grids(collect_blocks(scores.draw_slices, score, "P&L"))
    assert price.columns == ("price", "net P&L", "gross P&L", "turnover", "trades", "held")
    assert [cell.text for cell in price.rows[0]] == ["high", "+1.000%", "+2.000%", "3.2", "1,000", "50.0%"]
    assert sector.columns[-1] == "which"
    assert [row[-1].text for row in sector.rows] == ["AAPL, AMD", ""]
    assert dict(read_pairs(sessions))["2026-01-08"] == "+0.800%"


def test_what_a_signal_is_worth_is_told_by_the_minutes_that_it_is_held() -> None:
    held = HeldReport(minutes=5, signals=10, sessions=4, earned_bps=1.25, error_bps=None, break_even_bps=-0.625)
    fades = (held, replace(held, minutes=30, earned_bps=-2.0, error_bps=0.5))
    blocks = collect_blocks(scores.draw_worth, replace(WORTH, fades=fades))
    (grid,) = list_grids(blocks)
    assert grid.columns == ("", "5 min", "30 min")
    assert [tuple(cell.text for cell in row) for row in grid.rows] == [
        ("a signal earns", "+1.2", "-2.0"),
        ("  standard error", "-", "0.5"),
        ("a trade may cost", "-0.62", "-0.62"),
    ]
    assert list_lines(collect_blocks(scores.draw_worth, WORTH)) == ["The cost: it is dear."]


def test_findings_are_summed_by_reason_until_a_person_asks_for_all() -> None:
    one = FindingReport(ticker="AAPL", reason="jump", count=1200, first=AT, detail="of 30 %")
    found = [one, replace(one, ticker="AMD", count=3), replace(one, reason="gap", count=2, first=None, detail="")]
    short = collect_blocks(scores.draw_findings, found, everything=False)
    assert list_lines(short) == ["findings in the bars: gap 2, jump 1,203 (-v lists them)"]
    (grid,) = list_grids(collect_blocks(scores.draw_findings, found, everything=True))
    assert [row["count"] for row in read_columns(grid)] == ["1,200", "3", "2"]
    assert [row["first, UTC"] for row in read_columns(grid)] == ["2026-01-09 02:05", "2026-01-09 02:05", "-"]
    assert collect_blocks(scores.draw_findings, [], everything=True) == ()


# --- proof ------------------------------------------------------------------------------------------------------------

PROOF = ProofReport(
    proved=True,
    cases=3,
    replacements=("nan", "huge"),
    values_compared=12_345,
    differences=0,
    frame_differences=1,
    label_differences=2,
    planted_leak_caught=True,
    label_overlap=4,
    streamed_bars=6_000,
    streaming_differences=5,
    closes_foretell=0.125,
    returns_repeat=None,
    gross_sharpe=None,
    gross_sharpe_a_minute_later=None,
    doubts=(),
    model_id=None,
    source="polygon",
    synthetic=False,
    as_of=AT,
    as_of_note="",
    sessions=2,
    tickers=("AAPL", "AMD"),
)


def test_a_proof_shows_each_count_beside_what_it_counts() -> None:
    (grid,) = list_grids(collect_blocks(loop.draw_proof, PROOF))
    assert grid.title == "3 cuts in 2 sessions of 2 tickers; decisions by a fixed sum of the features (no model serves)"
    told = [(name.text.split(" ")[:4], value.text) for name, value in grid.rows]
    assert [value for _, value in told] == ["0", "12,345", "1", "2", "yes", "4", "5", "6,000", "0.12", "-"]
    assert "when later bars were nan / huge" in grid.rows[0][0].text
    with_model = replace(
        PROOF, model_id="m", planted_leak_caught=False, gross_sharpe=3.0, gross_sharpe_a_minute_later=1.0
    )
    (grid,) = list_grids(collect_blocks(loop.draw_proof, with_model))
    assert grid.title.endswith("decisions by model m")
    assert grid.rows[4][1].text == "NO"
    assert [row[1].text for row in grid.rows[-2:]] == ["3.00", "1.00"]


@pytest.mark.parametrize(
    ("proved", "doubts", "told", "style"),
    [
        (True, (), "PROVED: nothing", "bold green"),
        (
            False,
            ("a Sharpe of 40", "a hit rate of 99 %"),
            "NOT PROVED, too good to be true: a Sharpe of 40; a",
            "bold red",
        ),
        (False, (), "NOT PROVED: something depends on later bars", "bold red"),
    ],
)
def test_a_proof_that_failed_says_so_first_and_last_and_not_to_trade(
    proved: bool, doubts: tuple[str, ...], told: str, style: str
) -> None:
    blocks = collect_blocks(loop.draw_proof, replace(PROOF, proved=proved, doubts=doubts, unfit="other bars"))
    lines = list_lines(blocks)
    assert lines[0].startswith(told)
    assert lines[0] == lines[-1]
    assert lines[0].endswith("Do not trade.") is not proved
    assert {block.style for block in blocks if getattr(block, "text", "") == lines[0]} == {style}  # type: ignore[union-attr]
    assert "What is deployed cannot serve this market, and is no part of this: other bars" in lines


# --- features ---------------------------------------------------------------------------------------------------------

FEATURE = FeatureReport(
    name="ret_5",
    group="momentum",
    lookback=5,
    sessions=0,
    own=False,
    formula="x",
    coverage=0.987,
    quantiles=(-0.1, 0.0, 0.00123, 0.1, 0.2),
    ic={"30": (-0.01, 0.02, 0.05), "60": (0.01, 0.02, 0.03)},
    importance=0.125,
    cost_us=1.234,
)
FEATURES = FeaturesReport(
    features=(
        FEATURE,
        replace(
            FEATURE,
            name="mine",
            own=True,
            quantiles=None,
            importance=None,
            ic={"30": None, "60": (-0.03, -0.02, -0.01)},
        ),
    ),
    left_out=("volume",),
    horizon_minutes=30,
    training_sessions=40,
    bars=123_456,
    model_id="m",
    source="polygon",
    synthetic=False,
    as_of=AT,
    as_of_note="",
)


def test_a_feature_is_shown_at_the_horizon_of_the_model_and_what_is_not_known_is_a_dash() -> None:
    blocks = collect_blocks(loop.draw_features, FEATURES)
    (grid,) = list_grids(blocks)
    assert grid.title.startswith("2 features on 123,456 bars of 40 training sessions;")
    first, own = read_columns(grid)
    assert first["IC at 30 min [90 %]"] == "+0.0200 [-0.0100, +0.0500]"
    assert (first["coverage"], first["median"], first["1 to 99 %"]) == ("98.7%", "0.00123", "-0.1 to 0.2")
    tiny = replace(FEATURE, ic={"30": (-0.01, -0.00001, 0.01)})
    (grid_of_tiny,) = list_grids(collect_blocks(loop.draw_features, replace(FEATURES, features=(tiny,))))
    assert read_columns(grid_of_tiny)[0]["IC at 30 min [90 %]"].startswith("+0.0000 "), "no minus before a zero"
    assert (first["weight"], first["us/bar"]) == ("12.5%", "1.23")
    assert [own[name] for name in ("median", "1 to 99 %", "IC at 30 min [90 %]", "weight")] == ["-"] * 4
    assert [row[0].style for row in grid.rows] == ["", "bold"], "those of the user stand out"
    assert list_lines(blocks)[1:] == [
        "2 of 3 intervals (all horizons: --html, --json) leave out zero; of features that are worth nothing "
        "about 0 would.",
        "Your own: mine.",
        "Left out by [features]: volume.",
        "weight: in the model that serves, m.",
    ]
    bare = list_lines(
        collect_blocks(loop.draw_features, replace(FEATURES, features=(FEATURE,), left_out=(), model_id=None))
    )
    assert len(bare) == 2
