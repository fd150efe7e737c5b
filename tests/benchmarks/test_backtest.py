"""How long the loop takes to replay, on the ten real shares and on the synthetic market, and what it shows there."""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.installed import HFTCL
from tests.shared_data import REAL_BARS, needs_real_bars

TICKERS = ("AAPL", "ABBV", "AMD", "AMZN", "GS", "JNJ", "META", "NVDA", "TSLA", "V")


def timed(home: Path, start: str, end: str) -> tuple[dict[str, Any], float, float]:
    """Return the report, the seconds on the wall, and those of the processor, children included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    done = subprocess.run(
        [HFTCL, "backtest", "--from", start, "--to", end, "--json", "--html", "page.html"],
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return json.loads(done.stdout), wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def told(report: dict[str, Any], wall: float, processor: float) -> str:
    rows = [
        f"{report['sessions']} sessions, {report['trainings']} trainings: {wall:.0f} s, processor {processor:.0f} s"
    ]
    for name, each in report["policies"].items():
        sharpe = "-" if each["sharpe"] is None else f"{each['sharpe']:.2f}"
        rows.append(f"  {name:<26}{sharpe:>7}{100 * each['pnl']:>+8.2f} %{each['deployments']:>4}")
    return "\n".join([*rows, f"  {report['conclusion']}: {report['reason']}", ""])


@pytest.mark.bench
@needs_real_bars
def test_ten_months_of_ten_real_shares_take_a_quarter_of_an_hour_at_most(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hftcl.toml").write_text(
        f'[market]\nsource = "files"\nwatchlist = {list(TICKERS)}\n[files]\nfolder = "{REAL_BARS}"\n'.replace("'", '"')
    )
    report, wall, processor = timed(tmp_path, "2024-09-03", "2025-06-30")
    with capsys.disabled():
        sys.stdout.write("\n" + told(report, wall, processor))
    assert report["sessions"] > 150
    assert wall <= 15 * 60


@pytest.mark.bench
def test_where_there_is_an_edge_half_a_year_shows_it_and_the_record_lets_the_bot_trade(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hftcl.toml").write_text("")
    report, wall, processor = timed(tmp_path, "2025-01-06", "2025-06-30")
    with capsys.disabled():
        sys.stdout.write("\n" + told(report, wall, processor))
    assert report["policies"]["policy"]["interval"][0] > 0, "the planted edge is a true net Sharpe near 10"
    assert report["policies"]["policy"]["traded_sessions"] > 90
    assert wall <= 15 * 60
