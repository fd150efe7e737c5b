"""The page of the features: whole without network and script, each feature on it, whatever its file names it."""

import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from hftcl import pages as page
from hftcl.learning.reports import FeatureReport, FeaturesReport
from hftcl.views.loop import draw_features
from tests.pages.test_backtest_page import HOSTILE, Tags

WORTHLESS = FeatureReport(
    name="ret_5",
    group="momentum",
    lookback=30,
    sessions=0,
    own=False,
    formula="ln(c[t] / c[t-5])",
    coverage=0.92,
    quantiles=(-3.0, -0.5, 0.125, 0.5, 3.0),
    ic={"5": (-0.02, 0.01, 0.04), "30": (-0.04, -0.01, 0.02)},
    importance=0.25,
    cost_us=0.5,
)
REPORT = FeaturesReport(
    features=(
        WORTHLESS,
        replace(WORTHLESS, name="stretch", own=True, formula=HOSTILE, ic={"5": None, "30": (-0.25, -0.2, -0.15)}),
        replace(WORTHLESS, name="silent", quantiles=None, ic={"5": None, "30": None}, importance=None),
    ),
    left_out=("ret_1",),
    horizon_minutes=30,
    training_sessions=1,
    bars=1234,
    model_id="20260109_020000",
    source="files",
    synthetic=False,
    as_of=datetime(2025, 6, 27, 20, 0, tzinfo=UTC),
    as_of_note="as asked",
)
NOTHING = replace(REPORT, features=REPORT.features[2:], left_out=(), model_id=None)


@pytest.mark.parametrize("report", [REPORT, NOTHING], ids=["found", "nothing"])
def test_the_page_of_the_features_is_well_formed_and_nothing_on_it_runs(report: FeaturesReport) -> None:
    text = page.draw_features(report)
    tags = Tags(text)
    assert tags.open == []
    assert tags.count("script") == tags.count("link") == tags.count("img") == 0
    assert not re.search(r"\bnan\b|\binf\b|None", text)
    assert "1 training session;" in tags.text


def test_each_feature_is_on_the_page_with_every_horizon_and_what_its_file_says_is_shown_as_it_is() -> None:
    tags = Tags(page.draw_features(REPORT))
    assert HOSTILE in tags.text
    assert "1 of 3 intervals leaves out zero; of features that are worth nothing about 0 would." in tags.text
    assert "-0.0100 [-0.0400, +0.0200]" in tags.text
    assert "+0.0100 [-0.0200, +0.0400]" in tags.text, "the horizon of five minutes"
    assert "Left out by [features]: ret_1." in tags.text
    assert "Your own, in bold: stretch." in tags.text
    assert "Your own" not in Tags(page.draw_features(NOTHING)).text


def test_the_page_of_the_features_says_until_when_the_bars_were_known() -> None:
    assert (
        "Bars from files, known until 2025-06-27 20:00 UTC (as asked); 1,234 bars of"
        in Tags(page.draw_features(REPORT)).text
    )
    bare = Tags(page.draw_features(replace(REPORT, as_of_note="")))
    assert "known until 2025-06-27 20:00 UTC; 1,234 bars" in bare.text


def test_an_interval_lies_where_its_figures_are_and_one_without_zero_has_another_colour() -> None:
    text = page.draw_features(REPORT)
    worthless, stretch, *on_a_phone = re.findall(r'stroke="var\(--(c\d)\)" d="M([\d.]+) [\d.]+H([\d.]+)M', text)
    assert [color for color, *_ in on_a_phone] == ["c0", "c2"]
    assert "Orange: an interval without zero." in text
    zero = re.search(r'class="zero" d="M([\d.]+)', text)
    assert zero
    assert (worthless[0], stretch[0]) == ("c0", "c2")
    assert float(worthless[1]) < float(zero[1]) < float(worthless[2])
    assert float(stretch[2]) < float(worthless[1])
    by_unit = (float(stretch[2]) - float(stretch[1])) / 0.10
    assert (float(worthless[2]) - float(worthless[1])) / 0.06 == pytest.approx(by_unit, rel=0.01)


def test_on_a_terminal_of_80_characters_an_interval_stays_on_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    longest = replace(WORTHLESS, name="volume_vs_earlier_sessions")
    draw_features(replace(REPORT, features=(longest,)))
    assert "-0.0100 [-0.0400, +0.0200]" in capsys.readouterr().out


def test_a_name_without_room_beside_its_line_stands_above_it_and_what_is_undefined_is_a_dash() -> None:
    """A name of a user's own lay over the line of its feature."""
    for name, at in (("vol", "230"), ("volume_" * 6, "16")):
        text = page.draw_features(
            replace(REPORT, features=(replace(WORTHLESS, name=name, ic={"30": (0.0, 0.0, 0.0)}),))
        )
        wide = text[text.index('viewBox="0 0 960') :].partition("</svg>")[0]
        begin = re.search(r'class="zero" d="M([\d.]+)', wide)
        assert begin
        assert float(begin[1]) == pytest.approx((float(at) + 944) / 2, abs=0.1)
    nothing = page.draw_features(NOTHING)
    assert "<td></td>" not in nothing
    assert len(re.findall("<td[^>]*>-</td>", nothing)) == 2 + 5 + 1, "horizons, quantiles, weight"
