"""`hftcl trade` as a user meets it: real processes on a market that never closes, against servers on this machine."""

import json
import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hftcl.cli.process import load_app
from hftcl.errors import HftclError
from hftcl.home import Home
from hftcl.ledger.writer import Ledger
from tests.in_process import answer_here, call
from tests.installed import HFTCL, PATIENCE_S, run
from tests.loop_cases import SMALL_TOML
from tests.polygon_server import PolygonServer
from tests.processes import wait_until
from tests.trading.bot_stand import archived
from tests.trading.websocket_server import PolygonSocket, minute_message

TICKER = "X:BTCUSD"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYGON_API_KEY", "k")


def coin_rows(now: datetime) -> list[dict[str, Any]]:
    """Return a week of minutes up to an hour from `now`, as the service writes them."""
    start = (now - timedelta(days=7)).replace(second=0, microsecond=0)
    count = 7 * 1440 + 60
    random = np.random.default_rng(5)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.0005, count)))
    first = int(start.timestamp() * 1000)
    return [
        {"t": first + n * 60_000, "o": c, "h": c * 1.0002, "l": c * 0.9998, "c": c, "v": 1000.0}
        for n, c in enumerate(close.tolist())
    ]


@pytest.fixture(scope="module")
def service() -> Iterator[PolygonServer]:
    with PolygonServer({TICKER: coin_rows(datetime.now(UTC))}) as server:  # noqa: TID251 - a market of the present
        yield server


@pytest.fixture
def home(service: PolygonServer, tmp_path: Path) -> Path:
    """Return a home with a real-time source and a model that was trained a day ago."""
    (tmp_path / "hftcl.toml").write_text(
        f"""[market]
source = "polygon"
watchlist = ["{TICKER}"]
calendar = "24/7"
[polygon]
base_url = "{service.url}"
calls_per_minute = 1000
[trade]
feed = "polygon-rest"
grace_s = 0
"""
    )
    yesterday = datetime.now(UTC) - timedelta(days=1)  # noqa: TID251 - a market of the present
    archived(tmp_path, yesterday.replace(microsecond=0), synthetic=False, source="polygon", calendar="24/7", seed=1)
    return tmp_path


def test_once_decides_on_the_newest_minute_of_a_live_market(home: Path) -> None:
    done = run(home, "trade", "--once", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["mode"], report["decisions"]) == ("paper", 1)
    status = read_status(home)
    assert (status["running"], status["mode"], status["source"]) == (False, "paper", "polygon")
    assert status["model_id"] == report["model_id"]
    assert datetime.fromisoformat(status["last_decision"]) >= datetime.fromisoformat(report["started_at"]) - timedelta(
        minutes=2
    )
    assert status["data_lag_s"] < 90
    again = call(home, "trade", "--once")
    assert again.returncode == 0
    assert "One minute of session" in again.stdout


def read_status(home: Path) -> dict[str, Any]:
    status: dict[str, Any] = answer_here(home, "trade", "--status", "--json")
    return status


def lines_until(bot: "subprocess.Popen[str]", what: str) -> list[str]:
    """Read the log up to the line that holds `what`."""
    assert bot.stderr is not None
    told: list[str] = []
    while True:
        line = bot.stderr.readline()
        assert line, told
        told.append(line.rstrip("\n"))
        if what in line:
            return told


def test_a_running_bot_reloads_halts_is_cleared_and_stops_by_signals(home: Path, service: PolygonServer) -> None:
    with PolygonSocket() as socket:
        text = (home / "hftcl.toml").read_text().replace("polygon-rest", "polygon-websocket")
        text = text.replace("calls_per_minute", f'websocket_url = "{socket.url}"\ncalls_per_minute')
        (home / "hftcl.toml").write_text(text)
        bot = subprocess.Popen([HFTCL, "trade"], cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            lines_until(bot, "decided minute=")
            socket.wait_for(1)
            assert socket.topics == [{f"AM.{TICKER}"}]
            row = service.bars[TICKER][-60]
            socket.send(minute_message(TICKER, row["t"], (row["o"], row["h"], row["l"], row["c"], row["v"])))
            assert call(home, "trade", "--once").returncode == 75, "one bot a home"
            status = read_status(home)
            assert (status["running"], status["pid"], status["halted"]) == (True, bot.pid, None)

            now = datetime.now(UTC).replace(microsecond=0)  # noqa: TID251 - a market of the present
            new = archived(home, now, synthetic=False, source="polygon", calendar="24/7", seed=2)
            bot.send_signal(signal.SIGHUP)
            told = lines_until(bot, "Model reloaded at")
            assert told[-4:-1] == ["=" * 60, "NEW MODEL DETECTED - RELOADING", "=" * 60]
            assert told[-1].endswith(new)

            bot.send_signal(signal.SIGUSR1)
            wait_until(lambda: read_status(home)["halted"], "The halt")
            status = read_status(home)
            assert "kill_switch" in status["halted"]
            assert (status["model_id"], status["reloads"]) == (new, 1)
            cleared = json.loads(call(home, "trade", "--clear", "--yes", "--json").stdout)
            assert cleared["cleared"] == ["kill_switch"]

            bot.send_signal(signal.SIGTERM)
            out, _ = bot.communicate(timeout=PATIENCE_S)
            assert bot.returncode == 0
            assert "Stopped as asked." in out
        finally:
            bot.kill()
            bot.communicate(timeout=PATIENCE_S)


def test_flatten_without_a_bot_latches_and_the_next_bot_trades_nothing(home: Path) -> None:
    lost = call(home, "trade", "--flatten")
    assert (lost.returncode, lost.stdout) == (1, "")
    assert lost.stderr.startswith("hftcl: No bot has ever traded in")
    assert not (home / "trade.halt").exists(), "the real bot, elsewhere, would trade on"
    Ledger(Home.live(home).ledger).close()
    done = call(home, "trade", "--flatten", "--json")
    assert done.returncode == 0, done.stderr
    assert (home / "trade.halt").exists()
    report = json.loads(done.stdout)
    assert (report["halted"], report["by_bot"], report["positions"]) == (True, False, {})
    assert json.loads(call(home, "trade", "--once", "--json").stdout)["halted"].startswith("kill_switch")
    asked = subprocess.run(
        [HFTCL, "trade", "--clear"],
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
        input="n\n",
        timeout=PATIENCE_S,
    )
    assert asked.returncode == 1
    assert (home / "trade.halt").exists(), "a person said no"
    assert "kill_switch" in call(home, "trade", "--clear", "--yes").stdout
    assert not (home / "trade.halt").exists()
    assert "Nothing was halted" in call(home, "trade", "--clear", "--yes").stdout


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("--replay", "2025-06-02", "--once"), 2, "Give one of --replay and --once"),
        (("--status", "--flatten"), 2, "Give one of --status and --flatten"),
        (("--live", "--replay", "2025-06-02"), 2, "--replay moves no real money"),
        (("--live", "--flatten"), 2, "--flatten needs no --live: it closes what is held, also with real money"),
        (("--json",), 2, "--json goes with"),
        (("--replay", "soon"), 2, "is no span of days"),
        (("--replay", "2025-06-02"), 1, "no model to replay with"),
        ((), 78, "has no bars of the present"),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], status: int, said: str
) -> None:
    (tmp_path / "hftcl.toml").write_text(SMALL_TOML)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HftclError, match=said) as refused:
        load_app()(["-q", "trade", *arguments], standalone_mode=False)
    assert refused.value.exit_code == status
    assert len(str(refused.value).splitlines()) <= 2


def test_a_refusal_is_a_line_on_stderr_and_nothing_on_stdout(tmp_path: Path) -> None:
    (tmp_path / "hftcl.toml").write_text(SMALL_TOML)
    done = call(tmp_path, "-q", "trade")
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr.startswith("hftcl: [market] source = 'synthetic' has no bars of the present")
    assert len(done.stderr.splitlines()) == 1


def test_a_plan_that_is_too_slow_for_the_watchlist_is_said_at_the_start(home: Path) -> None:
    text = (home / "hftcl.toml").read_text().replace("calls_per_minute = 1000", "calls_per_minute = 1")
    (home / "hftcl.toml").write_text(text.replace(f'["{TICKER}"]', f'["{TICKER}", "X:ETHUSD"]'))
    done = call(home, "trade")
    assert done.returncode == 78
    assert "one call a minute for each of 2 tickers" in done.stderr
