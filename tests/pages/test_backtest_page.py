"""The HTML report: whole without network and script, the same bytes for the same input, and a browser can draw it."""

import base64
import hashlib
import json
import math
import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftcl import pages as page
from hftcl.errors import StorageError, UsageError
from hftcl.exam.metrics import max_drawdown
from hftcl.learning.backtest.reports import AttemptReport, BacktestReport, DifferenceReport, PolicyReport, ServedReport
from hftcl.pages.chart_data import read_script
from hftcl.performance.risk import compute_risk
from tests.browser import PATIENCE_MS
from tests.in_process import call
from tests.installed import one_line

NAMES = ("policy", "policy, ungated", "never retrain", "always newest", "stand aside")
HOSTILE = '<script src="http://x/y.js">&"\'</script>'
DAYS = [date(2025, 1, 6) + timedelta(days=n) for n in range(60) if (date(2025, 1, 6) + timedelta(days=n)).weekday() < 5]
VOID = {"meta", "br"}


def policy(seed: int, deployments: int) -> PolicyReport:
    net = np.random.default_rng(seed).normal(0.0004, 0.003, len(DAYS)) if seed else np.zeros(len(DAYS))
    served = tuple(
        ServedReport(model_id=f"m{n}", from_=DAYS[5 * n], reason=f"because {HOSTILE}") for n in range(deployments)
    )
    return PolicyReport(
        rule="a rule",
        sharpe=1.25 if seed else None,
        interval=(-1.5, 4.0) if seed else None,
        gross_sharpe=2.0 if seed else None,
        pnl=float(net.sum()),
        gross_pnl=float(net.sum()),
        turnover=12.0,
        max_drawdown=0.01,
        traded_sessions=len(DAYS) if seed else 0,
        deployments=deployments,
        served=served,
        pnl_by_session={day.isoformat(): float(each) for day, each in zip(DAYS, net, strict=True)},
        risk=compute_risk(net, DAYS, np.empty(0), sessions_per_year=252),
    )


def attempt(week: int) -> AttemptReport:
    return AttemptReport(
        model_id=f"m{week}",
        at=datetime(2025, 1, 3, 21, 0, tzinfo=UTC) + timedelta(days=7 * week),
        outcome="deployed" if week % 2 else "rejected",
        reason=f"Sharpe {HOSTILE}",
        exam_sessions=20,
        sharpe=1.0,
        champion=None,
        champion_sharpe=None,
        p_better=None,
        edge="live" if week >= 3 else "stand aside",
        edge_reason="the record holds",
        p_edge=0.85,
        record_sessions=20 + 5 * week,
    )


REPORT = BacktestReport(
    conclusion="not shown",
    reason=f"the interval includes 0 {HOSTILE}",
    policies={name: policy(place % 4, min(place, 4)) for place, name in enumerate(NAMES, start=1)},
    differences=(
        DifferenceReport(
            policy="policy",
            against="never retrain",
            difference=0.5,
            interval=(-1.0, 2.0),
            standard_error=0.9,
            p_better=0.7,
        ),
        DifferenceReport(
            policy="policy",
            against="stand aside",
            difference=None,
            interval=None,
            standard_error=None,
            p_better=None,
        ),
    ),
    attempts=tuple(attempt(week) for week in range(6)),
    from_=DAYS[0],
    to=DAYS[-1],
    sessions=len(DAYS),
    sessions_per_year=252,
    trainings=9,
    resumed=0,
    tickers=("AAPL", "A&B"),
    left_out={},
    notes=("the bars begin late",),
    promote_policy="guarded",
    cost_bps=1.0,
    source="files",
    synthetic=True,
    as_of=datetime(2025, 3, 6, 21, 0, tzinfo=UTC),
    as_of_note="as asked",
    timings_s={"total": 12.0},
)


class Tags(HTMLParser):
    """Hold every element and text, and refuse one that is not closed in its place."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def count(self, tag: str, name: str = "", value: str = "") -> int:
        return sum(each == tag and value in (attrs.get(name) or "") for each, attrs in self.found)


def test_the_same_report_gives_the_same_bytes_whatever_it_took() -> None:
    text = page.draw_backtest(REPORT)
    assert page.draw_backtest(replace(REPORT, timings_s={"total": 99.0}, resumed=9)) == text


def test_it_is_well_formed_and_nothing_is_fetched_and_only_its_own_script_runs() -> None:
    text = page.draw_backtest(REPORT)
    tags = Tags(text)
    assert tags.open == []
    assert tags.count("link") == tags.count("img") == tags.count("iframe") == 0
    scripts = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    assert scripts == [read_script()]
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    for tag, attributes in tags.found:
        assert not {"src", "href", "style"} & set(attributes), tag
        assert not [name for name in attributes if name.startswith("on")], tag
    assert "url(" not in page.draw_backtest(REPORT)
    assert "@import" not in page.draw_backtest(REPORT)
    policies = [attributes["content"] for tag, attributes in tags.found if tag == "meta" and "http-equiv" in attributes]
    assert policies == [f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"]


def test_a_text_from_elsewhere_stays_a_text() -> None:
    hostile = replace(REPORT, policies={HOSTILE: policy(1, 2), **REPORT.policies})
    tags = Tags(page.draw_backtest(hostile))
    assert tags.open == []
    assert not [tag for tag, attributes in tags.found if "src" in attributes]
    assert HOSTILE in tags.text, "it is shown as it is"


def test_every_policy_has_a_curve_and_every_deployment_a_mark_on_it() -> None:
    tags = Tags(page.draw_backtest(REPORT))
    assert tags.count("polyline") == 3 * len(NAMES) - 1, "as it is, at equal risk, and its drawdown; one is an area"
    deployments = sum(each.deployments for each in REPORT.policies.values())
    assert tags.count("circle", "class", "mark") == 2 * deployments
    for name in NAMES:
        assert name in tags.text
    for _, attributes in tags.found:
        if (points := attributes.get("points")) and "data-run" in attributes:
            assert len(points.split()) == len(DAYS) + 1


def test_what_is_read_out_are_the_policies_own_figures() -> None:
    text = page.draw_backtest(REPORT)
    held = {
        name: json.loads(data)
        for name, data in re.findall(
            r'id="chart-([\w-]+)">.*?<script type="application/json">(.*?)</script>', text, flags=re.DOTALL
        )
    }
    assert set(held) == {"wealth", "equal-risk", "drawdown"}
    for line, (name, told) in zip(held["wealth"]["series"], REPORT.policies.items(), strict=True):
        net = np.array(list(told.pnl_by_session.values()))
        assert line["name"] == name
        assert line["y"] == pytest.approx(np.concatenate([[0.0], 100 * net.cumsum()]), abs=1e-3)
        falls = next(each["y"] for each in held["drawdown"]["series"] if each["name"] == name)
        assert min(falls) == pytest.approx(-100 * max_drawdown(net), abs=1e-3), "as the tables count it"
    assert held["wealth"]["labels"][1:] == [str(day) for day in DAYS]


def test_each_policy_that_traded_has_its_months_and_a_year_adds_up() -> None:
    text = page.draw_backtest(REPORT)
    traded = [name for name, told in REPORT.policies.items() if any(told.pnl_by_session.values())]
    assert 2 < len(traded) < len(NAMES)
    for name in NAMES:
        title = f'aria-label="Net P&amp;L of {name} by month in percent of capital"'
        assert (title in text) == (name in traded)
    drawn = text.split('aria-label="Net P&amp;L of policy by month', 1)[1].partition("</svg>")[0]
    figures = [float(value) for value in re.findall(r">([+-]\d+\.\d\d)<", drawn)]
    whole = 100 * sum(REPORT.policies["policy"].pnl_by_session.values())
    assert figures[-1] == pytest.approx(whole, abs=0.006)
    assert sum(figures[:-1]) == pytest.approx(whole, abs=0.02)


def test_each_policy_that_traded_has_its_risk_and_the_configured_one_its_falls_and_sessions() -> None:
    text = page.draw_backtest(REPORT)
    risk = text.partition("<h2>Risk beside return</h2>")[2].partition("<h2>")[0]
    rows = re.findall(r"<tr><td.*?</tr>", risk)
    traded = {name: made for name, made in REPORT.policies.items() if any(made.pnl_by_session.values())}
    assert len(traded) == len(NAMES) - 1
    for row, (name, made) in zip(rows, traded.items(), strict=False):
        net = np.array(list(made.pnl_by_session.values()))
        shown = re.findall(r"<td[^>]*>(.*?)</td>", row)
        assert shown[0] == name
        assert shown[2] == f"{net.std(ddof=1) * math.sqrt(252):.2%}"
        assert shown[-2:] == [f"{net.max():+.2%}", f"{net.min():+.2%}"]
    deepest = rows[len(traded)]
    assert f">{max_drawdown(np.array(list(REPORT.policies['policy'].pnl_by_session.values()))):.2%}<" in deepest
    assert sum(int(many) for many in re.findall(r"<title>(\d+) sessions? from ", risk)) == len(DAYS)


def test_a_backtest_in_which_nothing_traded_says_so_instead_of_a_table() -> None:
    text = page.draw_backtest(replace(REPORT, policies={"stand aside": policy(0, 0)}))
    assert text.partition("Risk beside return</h2>")[2].strip().startswith('<p class="soft">No policy traded.')


def test_marks_lie_on_their_curve_at_the_session_from_which_the_model_serves() -> None:
    text = page.draw_backtest(REPORT)
    first = text[text.index('<svg viewBox="0 0 960') : text.index("The same at equal risk")]
    lines = [set(points.split()) for points in re.findall(r'points="([^"]+)"', first)]
    marks = re.findall(r'<circle class="mark"[^>]*cx="([\d.]+)" cy="([\d.]+)"', first)
    assert all(any(f"{x},{y}" in line for line in lines) for x, y in marks)
    weeks = {f"{56 + (960 - 56 - 16) * 5 * week / len(DAYS):.1f}" for week in range(4)}
    assert {x for x, _ in marks} == weeks


def test_the_strip_is_green_from_the_week_in_which_the_record_let_the_policy_trade() -> None:
    bars = re.findall(r'<rect class="(live|aside)" x="([\d.]+)"[^>]*width="([\d.]+)"', page.draw_backtest(REPORT))
    (aside, x, width), (live, start, _) = bars[:2]
    assert (aside, live) == ("aside", "live")
    assert float(x) + float(width) == pytest.approx(float(start), abs=0.11)
    assert float(start) == pytest.approx(56 + (960 - 56 - 16) * 15 / len(DAYS), abs=0.1), "15 sessions are 3 weeks"


def test_what_is_undefined_is_a_dash_and_no_nan_is_drawn() -> None:
    empty = replace(REPORT, differences=(), attempts=(), policies={"policy": policy(0, 0)})
    for each in (REPORT, empty):
        text = page.draw_backtest(each)
        assert Tags(text).open == []
        assert not re.search(r"\bnan\b|\binf\b|None", text.replace(read_script(), ""))


def test_synthetic_bars_are_called_so() -> None:
    assert "SYNTHETIC" in page.draw_backtest(REPORT)
    assert "SYNTHETIC" not in page.draw_backtest(replace(REPORT, synthetic=False))


@given(low=st.floats(-1e4, 1e4), span=st.floats(1e-3, 1e4))
@settings(max_examples=100)
def test_ticks_are_round_and_lie_within_the_axis(low: float, span: float) -> None:
    found = page.choose_ticks(low, low + span)
    assert len(found) <= 8
    assert all(low - 1e-6 * span <= value <= low + span + 1e-6 * span for value in found)
    if len(found) > 1:
        step = found[1] - found[0]
        assert f"{step:.0e}"[0] in "125"


def test_a_place_that_cannot_hold_the_file_is_refused_before_the_work(tmp_path: Path) -> None:
    done = call(tmp_path, "backtest", "--from", "2025-01-06", "--to", "2025-02-03", "--html", "missing/page.html")
    assert (done.returncode, done.stdout) == (2, "")
    assert "the folder" in one_line(done)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match="is a folder"):
        page.require_place(tmp_path)


def test_a_page_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"page\.html"):
        page.write(tmp_path / "gone" / "page.html", "<!doctype html>")


@pytest.mark.browser
def test_a_browser_draws_it_in_light_and_in_dark(tmp_path: Path, browser: Any) -> None:
    page.write(tmp_path / "page.html", page.draw_backtest(REPORT))
    shots = {}
    for scheme in ("light", "dark"):
        context = browser.new_context(viewport={"width": 1100, "height": 1800}, color_scheme=scheme)
        context.set_default_timeout(PATIENCE_MS)
        tab, told = context.new_page(), list[str]()
        tab.on("console", lambda message, told=told: told.append(message.text))
        tab.goto((tmp_path / "page.html").as_uri())
        shots[scheme] = tab.screenshot()
        assert told == [], "the page asked for something that its own policy forbids"
        context.close()
    assert min(map(len, shots.values())) > 50_000, "a blank page of this size has about 10 kB"
    assert shots["light"] != shots["dark"]
