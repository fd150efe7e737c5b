"""What a person sees of `explain`, `reproduce` and the worth of an exam: whole in 80 columns, and in a pipe."""

import re
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from hftcl.exam.entry import NEVER
from hftcl.learning.reports import HeldReport, WorthReport
from hftcl.learning.why_reports import (
    DecidedOrderReport,
    DecidedReport,
    ExplainReport,
    ExplainRow,
    ModelDifference,
    ReproduceReport,
)
from hftcl.views.scores import draw_worth
from hftcl.views.why import draw_explanation, draw_reproduction

TS = datetime(2026, 1, 7, 15, 30, tzinfo=UTC)
DECIDED = DecidedReport(model_id="20260102_070000", prediction=0.3, target=0.01, code="trade", decided_at=TS)
ORDER = DecidedOrderReport(quantity=12.0, reference_price=101.5, state="refused", code="max_gross", reason="too much")


def explain_row(ticker: str, decided: DecidedReport | None = None, *, known: bool = True) -> ExplainRow:
    values = {"volume_vs_earlier_sessions": 1.5, "ret_1": -0.25}
    return ExplainRow(
        ticker=ticker,
        ts=TS,
        session=date(2026, 1, 7),
        bar={"open": 1234.5, "high": 1235.0, "low": 1230.25, "close": 1233.0, "volume": 1_234_567.0},
        features={**values, **({} if known else {"ret_1": None})},
        quantiles={"volume_vs_earlier_sessions": (0.9, 1.0), "ret_1": (0.1, 0.2) if known else None},
        prediction=0.31 if known else None,
        base=0.01 if known else None,
        contributions={"volume_vs_earlier_sessions": 0.1, "ret_1": 0.2} if known else None,
        novel=False,
        signal=int(known),
        target=0.0123,
        code=decided.code if decided else None,
        decided=decided,
        order=ORDER if decided else None,
    )


def explain_report(*rows: ExplainRow) -> ExplainReport:
    return ExplainReport(
        model_id="20260109_070000",
        family="lightgbm",
        threshold=0.25,
        idle=None,
        horizon_minutes=30,
        trained_from=date(2025, 11, 25),
        trained_to=date(2025, 12, 22),
        rows=rows,
        lacking=("V",),
        unexplained=None,
        zone="America/New_York",
        source="polygon",
        synthetic=False,
    )


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")


def read(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what was printed, without colours; no line is wider than the terminal."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert max(map(len, text.splitlines())) <= 80
    return text


@pytest.mark.usefixtures("terminal")
def test_one_bar_is_told_from_its_features_to_its_order(capsys: pytest.CaptureFixture[str]) -> None:
    draw_explanation(explain_report(explain_row("AAPL", DECIDED)))
    text = read(capsys)
    assert text.index("ret_1") < text.index("volume_vs_earlier_sessions"), "the greatest part comes first"
    for told in (
        "10:30 America/New_York",
        "90-100%",
        "+0.20000",
        "+0.31000",
        "long",
        "+1.230%",
        "max_gross",
        "12 shares",
    ):
        assert told in text
    assert "with another model, 20260102_070000" in " ".join(text.split())


@pytest.mark.usefixtures("terminal")
def test_a_bar_without_a_prediction_names_what_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    draw_explanation(explain_report(explain_row("AAPL", known=False)))
    text = " ".join(read(capsys).split())
    assert "because ret_1 is not known yet" in text
    assert "The bot decided nothing on this bar" in text


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("tickers", [("AAPL",), ("AAPL", "TSLA")], ids=["one", "several"])
def test_an_idle_model_and_a_novel_bar_are_told_and_no_threshold_that_none_is(
    capsys: pytest.CaptureFixture[str], tickers: tuple[str, ...]
) -> None:
    rows = [replace(explain_row(ticker), signal=0) for ticker in tickers]
    idle = replace(explain_report(*rows), threshold=NEVER, idle="none of 9 thresholds paid")
    draw_explanation(idle)
    text = " ".join(read(capsys).split())
    assert "the model trades nothing: none of 9 thresholds paid" in text.replace("The model", "the model")
    assert "340282" not in text
    draw_explanation(explain_report(*(replace(row, novel=True) for row in rows)))
    text = " ".join(read(capsys).split())
    assert "arther from the training than novelty allows" in text
    assert "+0.31" in text, "what it predicts is told all the same"


@pytest.mark.usefixtures("terminal")
def test_several_bars_are_a_line_each_and_who_has_none_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    draw_explanation(explain_report(explain_row("AAPL"), explain_row("TSLA", known=False)))
    text = read(capsys)
    assert "ret_1 +0.200" in text
    assert "no bar in this session: V" in text


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("equal", [True, False])
def test_a_reproduction_ends_with_its_conclusion(capsys: pytest.CaptureFixture[str], equal: bool) -> None:
    changed = (ModelDifference(what="the bars of AMD", was="those of 2025-12-19", is_="revised, lost or new"),)
    draw_reproduction(
        ReproduceReport(
            model_id="20260109_070000", equal=equal, differences=() if equal else changed, rows=10, was_rows=11,
            seconds=1.5, source="polygon", synthetic=False,
        )
    )  # fmt: skip
    text = read(capsys)
    assert text.splitlines()[-1].startswith("EQUAL" if equal else "DIFFERENT")
    assert ("2025-12-19" in text) is not equal


@pytest.mark.usefixtures("terminal")
def test_seven_horizons_fit_into_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    fades = tuple(
        HeldReport(minutes=m, signals=9, sessions=20, earned_bps=-12.3, error_bps=45.6, break_even_bps=-6.15)
        for m in (1, 5, 15, 30, 45, 60, 120)
    )
    draw_worth(WorthReport(break_even_bps=1.0, fades=fades, fault="cost", conclusion="The cost: it is dear."))
    text = read(capsys)
    assert "120 min" in " ".join(text.split())
    assert "The cost: it is dear." in text
    assert text.count("-6.15") == len(fades)


def test_a_ticker_without_a_model_of_its_own_is_told_as_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    row = replace(explain_row("JNJ"), prediction=None, base=None, contributions=None, signal=0)
    draw_explanation(explain_report(row))
    assert "Prediction: none, because the model holds none of JNJ." in " ".join(capsys.readouterr().out.split())
