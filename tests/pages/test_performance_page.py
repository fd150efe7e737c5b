"""`hftcl report` and its page as a user meets them: real ledgers, real processes, a page that needs no network."""

import base64
import hashlib
import json
import os
import pty
import re
import subprocess
from dataclasses import fields, replace
from datetime import date
from pathlib import Path

import pytest

from hftcl import PerformanceTracker
from hftcl import pages as page
from hftcl.document import document
from hftcl.errors import IntegrityError
from hftcl.performance.reports import PerformanceReport
from hftcl.performance.story import Importances, performance
from hftcl.settings import Settings
from tests.installed import HFTCL, one_line, run
from tests.ledger.ledger_cases import write_ledger
from tests.pages.test_backtest_page import HOSTILE, Tags

SHARES = Importances(shares=(("ret_5", 0.7), ("vol_30", 0.3)))
SPAN = (date(2025, 6, 2), date(2025, 7, 31))


def at(home: Path) -> Settings:
    return replace(Settings(), paths=replace(Settings().paths, home=str(home)))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home with a paper ledger of two months and a replay's of a week, both on synthetic bars."""
    home = tmp_path_factory.mktemp("reported")
    about = {"synthetic": "1", "source": "synthetic"}
    write_ledger(home / "ledger.sqlite", first=SPAN[0], last=SPAN[1], meta=about)
    replay = {**about, "mode": "replay"}
    write_ledger(home / "replay" / "ledger.sqlite", last=date(2025, 6, 6), meta=replay, seed=1)
    return home


@pytest.fixture(scope="module")
def found(home: Path) -> PerformanceReport:
    return performance(at(home))


def test_the_same_ledger_gives_the_same_bytes(home: Path, found: PerformanceReport) -> None:
    text = page.performance(found, SHARES)
    assert page.performance(performance(at(home)), SHARES) == text
    assert len(text) < 150_000


def test_the_page_is_well_formed_and_fetches_nothing(found: PerformanceReport) -> None:
    text = page.performance(found, SHARES)
    tags = Tags(text)
    assert tags.open == []
    assert tags.count("link") == tags.count("img") == tags.count("iframe") == 0
    for tag, attributes in tags.found:
        assert not {"src", "href", "style"} & set(attributes), tag
        assert not [name for name in attributes if name.startswith("on")], tag
    assert "url(" not in text
    assert "@import" not in text


def test_its_own_script_and_no_other_may_run(found: PerformanceReport) -> None:
    text = page.performance(found, SHARES)
    script = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    assert len(script) == 1
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def test_the_series_lie_in_the_page_as_json(found: PerformanceReport) -> None:
    text = page.performance(found, SHARES)
    (held,) = re.findall(r'<script type="application/json" id="series">(.*?)</script>', text, flags=re.DOTALL)
    series = json.loads(held)
    assert dict(zip(series["sessions"], series["pnl"], strict=True)) == found.pnl_by_session
    assert [model for _, model in series["models"]] == [swap.model_id for swap in found.swaps]
    assert len(series["curve"]) == len(found.curve)
    assert series["curve"][-1][2] == pytest.approx(100 * found.total.pnl, abs=1e-4)


def test_every_part_is_drawn_and_every_swap_is_a_mark_on_the_curve(found: PerformanceReport) -> None:
    text = page.performance(found, SHARES)
    tags = Tags(text)
    for title in ("Equity", "Drawdown", "Sharpe ratio over 20 sessions", "Months", "Models", "Cost", "Trades"):
        assert title in tags.text
    assert tags.count("circle", "class", "mark") == len(found.swaps) == 2
    for model in found.models:
        assert model.model_id in tags.text
    assert tags.count("rect", "class", "share") == 2
    months = [f"{100 * value:+.2f}" for value in found.months.values()]
    assert len(months) == 2
    assert all(month in tags.text for month in months)


def test_marks_lie_on_the_equity_curve(found: PerformanceReport) -> None:
    text = page.performance(found, SHARES)
    (curve,) = re.findall(r'<polyline class="curve main" stroke="var\(--c0\)" points="([^"]+)"', text)
    marks = re.findall(r'<circle class="mark"[^>]*cx="([\d.]+)" cy="([\d.]+)"', text)
    assert all(f"{x},{y}" in curve.split() for x, y in marks)


def test_a_text_from_elsewhere_stays_a_text(found: PerformanceReport) -> None:
    hostile = replace(
        found,
        synthetic=False,
        source=HOSTILE,
        ledger=HOSTILE,
        models=tuple(replace(each, model_id=HOSTILE) for each in found.models),
        swaps=tuple(replace(each, model_id=HOSTILE) for each in found.swaps),
        tickers=tuple(replace(each, name=HOSTILE) for each in found.tickers),
        trades=tuple(replace(each, ticker=HOSTILE, model_id=HOSTILE) for each in found.trades),
        notes=(HOSTILE,),
    )
    for shares in (Importances(shares=((HOSTILE, 1.0),)), Importances(shares=(), problem=HOSTILE)):
        tags = Tags(page.performance(hostile, shares))
        assert tags.open == []
        assert tags.count("script") == 2, "the series and our own"
        assert not [tag for tag, attributes in tags.found if "src" in attributes]
        assert HOSTILE in tags.text, "it is shown as it is"


def test_what_is_undefined_is_a_dash_and_no_nan_is_drawn(home: Path) -> None:
    day = performance(at(home), until=SPAN[0])
    nothing = replace(day.total, sharpe=None, hit_rate=None, cost_bps=None, break_even_bps=None, exposure=None)
    bare = replace(day, total=nothing, benchmark=None, trades=(), trade_bins=(), models=(), swaps=(), notes=())
    for each in (day, bare):
        text = page.performance(each, Importances(shares=(), problem="no model decided"))
        assert Tags(text).open == []
        assert not re.search(r"\bnan\b|\binf\b|None", text)
        assert "A curve needs 21 sessions" in text


def test_synthetic_is_labelled_on_the_page(found: PerformanceReport) -> None:
    assert "SYNTHETIC" in page.performance(found, SHARES)
    assert "SYNTHETIC" not in page.performance(replace(found, synthetic=False, source="files"), SHARES)


# --- the command ------------------------------------------------------------------------------------------------------


def test_piped_each_row_is_one_line_and_the_last_one_is_the_course(home: Path) -> None:
    done = run(home, "report", "--since", "2025-06-10")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("SYNTHETIC bars, paper ledger, 36 sessions, 2025-06-10 to 2025-07-31")
    assert sum(line.startswith("AAPL") for line in lines) == 1
    assert {"Mon", "Tue", "Wed", "Thu", "Fri"} <= {line.split()[0] for line in lines}
    assert re.match(r"Equity, 2025-06-10 to 2025-07-31: [▁▂▃▄▅▆▇█]+ [+-]\d+\.\d\d% of capital$", lines[-1])
    assert "\x1b" not in done.stdout


def test_json_is_the_report_with_every_field(home: Path, found: PerformanceReport) -> None:
    done = run(home, "report", "--json")
    assert done.stderr == ""
    told = json.loads(done.stdout)
    assert told == json.loads(json.dumps(document(found)))
    assert set(told) == {item.name.rstrip("_") for item in fields(PerformanceReport)}


def test_the_replay_is_another_ledger_and_html_is_written(home: Path, tmp_path: Path) -> None:
    done = run(home, "report", "--replay", "--html", str(tmp_path / "r.html"), "--until", "2025-06-05")
    assert done.returncode == 0, done.stderr
    assert "replay ledger, 4 sessions" in done.stdout
    text = (tmp_path / "r.html").read_text()
    assert "replay ledger" in text
    assert "Not known: No model 20250613_010000 is in the archive" in text


def on_a_terminal(home: Path, columns: int) -> str:
    """Return what `report` shows on a terminal that is `columns` wide."""
    primary, secondary = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns)}
    with subprocess.Popen([HFTCL, "report"], cwd=home, stdout=secondary, env=environment) as process:
        os.close(secondary)
        shown = b""
        while True:
            try:
                chunk = os.read(primary, 65536)
            except OSError:  # the other end is closed
                break
            if not chunk:
                break
            shown += chunk
    os.close(primary)
    assert process.returncode == 0
    return shown.decode()


def test_on_a_terminal_it_is_tables_and_80_columns_break_no_number(home: Path, found: PerformanceReport) -> None:
    assert any(abs(part.net_usd) >= 1000 for part in found.tickers)
    shown = on_a_terminal(home, 80)
    assert "┏" in shown
    assert "Performance, net of every cost" in shown
    for part in (*found.tickers, *found.weekdays, *found.hours):
        assert f"{part.net_usd:+,.2f} " in shown


def test_a_terminal_of_another_alphabet_gets_the_report_without_its_sparkline(home: Path) -> None:
    done = run(home, "report", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "By hour" in done.stdout


def test_an_empty_ledger_is_one_sentence_and_status_one(tmp_path: Path) -> None:
    done = run(tmp_path, "report", "--html", "page.html")
    assert (done.returncode, done.stdout) == (1, "")
    assert one_line(done).startswith("hftcl: Nothing has been traded yet")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(("--since", "last week"), "is no date"), (("--html", "missing/page.html"), "does not exist")],
)
def test_wrong_input_is_told_in_a_line(home: Path, arguments: tuple[str, ...], told: str) -> None:
    done = run(home, "report", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in one_line(done)


def test_a_damaged_ledger_is_named(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(b"SQLite format 3\x00" + b"\xff" * 5000)
    with pytest.raises(IntegrityError, match=r"ledger\.sqlite is damaged"):
        PerformanceTracker(at(tmp_path)).report()


# --- from Python ------------------------------------------------------------------------------------------------------


def test_the_guide_s_call_prints_the_report_from_that_day_on(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)
    PerformanceTracker().print_report(start_date="2025-07-01")
    assert "2025-07-01 to 2025-07-31" in capsys.readouterr().out
    tracker = PerformanceTracker(at(home), replay=True)
    assert tracker.report(start_date=date(2025, 6, 4)).total.sessions == 3
    assert capsys.readouterr().out == ""
    assert tracker.html(tracker.report()).startswith("<!doctype html>")
