"""The whole loop on bars that are missing, too few or dirty, and with secrets that must not get out. Real processes."""

import contextlib
import json
import re
import socket
import zlib
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from hftcl.market.sources.synthetic import SyntheticSource
from hftcl.settings import Settings
from tests.hazards.loop_processes import Case, contents, left_behind
from tests.in_process import answer_here, call
from tests.installed import PATIENCE_S, one_line
from tests.loop_cases import QUICK_TOML, RETRAIN
from tests.shared_data import DIRTY, REAL_BARS, needs_dirty_bars, needs_real_bars

pytestmark = pytest.mark.usefixtures("warm_trainers")

NEW_YORK_ENDS = 'timezone = "America/New_York"\nlabel = "end"\ncolumns = { ts = "datetime" }\n'


def bars_of(folder: Path, *tickers: str, first: date = date(2025, 10, 15), last: date = date(2025, 12, 15)) -> None:
    """Write a Parquet file of bars for each ticker."""
    folder.mkdir()
    market = SyntheticSource(Settings())
    for ticker in tickers:
        market.minutes(ticker, first, last).write_parquet(folder / f"{ticker}.parquet")


def from_files(
    home: Path, *watchlist: str, folder: Path | str = "data", files: str = "", market: str = "", days: int = 46
) -> None:
    """Configure `home` for bars from `folder`."""
    (home / "hftcl.toml").write_text(
        f'[market]\nsource = "files"\nwatchlist = {json.dumps(watchlist)}\nlookback_days = {days}\n{market}'
        f'[model]\nfamily = "ridge"\n[files]\nfolder = "{folder}"\n{files}'
    )


def test_a_ticker_without_bars_is_left_out_loudly_and_the_others_go_on(tmp_path: Path) -> None:
    bars_of(tmp_path / "data", "AAPL", "AMD")
    from_files(tmp_path, "AAPL", "NOBARS", "AMD")
    done = call(tmp_path, "retrain", "--force", "--json")
    assert done.returncode == 0, done.stderr
    why = f"no bars; the folder {tmp_path / 'data'} has AAPL, AMD; a file without a ticker column is named after"
    assert f"warning: NOBARS is left out: {why}" in done.stderr
    report = json.loads(done.stdout)
    assert report["left_out"]["NOBARS"].startswith(why)
    assert report["tickers"] == ["AAPL", "AMD"]


def test_a_ticker_with_too_few_sessions_is_left_out_loudly_too(tmp_path: Path) -> None:
    bars_of(tmp_path / "data", "AAPL")
    SyntheticSource(Settings()).minutes("AMD", date(2025, 12, 11), date(2025, 12, 15)).write_parquet(
        tmp_path / "data" / "AMD.parquet"
    )
    from_files(tmp_path, "AAPL", "AMD")
    done = call(tmp_path, "retrain", "--force", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^warning: AMD is left out: coverage 3 of 3\d sessions", done.stderr, re.MULTILINE)
    assert re.search(r"^left out: AMD: coverage 3 of 3\d sessions", done.stdout, re.MULTILINE)


def test_no_ticker_with_bars_is_status_one_naming_them(tmp_path: Path) -> None:
    bars_of(tmp_path / "data", "OTHER", first=date(2025, 12, 15))
    from_files(tmp_path, "AAPL", "AMD")
    for arguments in (("retrain", "--force"), ("retrain", "--force", "--as-of", "2025-12-15"), ("retrain",)):
        done = call(tmp_path, *arguments)
        assert done.returncode == 1
        told = one_line(done)
        assert "AAPL" in told
        assert "AMD" in told
        assert "[market]" in told


@pytest.mark.parametrize(
    ("market", "told"),
    [("", r"AAPL: coverage 1 of \d+ sessions"), ("min_coverage = 0\n", "1 session with bars, needs 3 or more")],
)
def test_one_session_only_is_status_one_and_says_how_many_there_should_be(
    tmp_path: Path, market: str, told: str
) -> None:
    bars_of(tmp_path / "data", "AAPL", first=date(2025, 12, 15))
    from_files(tmp_path, "AAPL", market=market)
    done = call(tmp_path, "retrain", "--force", "--json")
    assert done.returncode == 1
    assert re.search(told, one_line(done)), done.stderr
    assert answer_here(tmp_path, "history") == []
    assert left_behind(tmp_path) == []


@needs_dirty_bars
@pytest.mark.parametrize(
    ("folder", "watchlist", "files", "told", "checks"),
    [
        ("alphavantage_2019_02_right_labelled", ["AAPL"], "", 'timezone = "America/New_York" and label = "end"', 1),
        (
            "alphavantage_2019_02_right_labelled",
            ["AAPL", "VIX"],
            NEW_YORK_ENDS,
            "needs rows from 4 or more sessions",
            0,
        ),
        ("alphavantage_2019_02_right_labelled", ["VIX"], NEW_YORK_ENDS, "VIX", 0),
        ("injected_faults", ["AMD"], "", "AMD_clean.csv and AMD_dirty.csv disagree", 1),
        ("injected_faults", ["NOBARS"], "", "NOBARS", 1),
    ],
)
def test_a_folder_of_dirty_bars_that_is_not_enough_is_one_clear_line(
    tmp_path: Path, folder: str, watchlist: list[str], files: str, told: str, checks: int
) -> None:
    """checks: what `check` exits with: 1 where the folder cannot be read, is refused, or has no file of the ticker."""
    from_files(tmp_path, *watchlist, folder=DIRTY / folder, files=files, days=5)
    done = call(tmp_path, "retrain", "--force", "--json")
    assert done.returncode == 1, done.stderr
    assert told in one_line(done)
    assert left_behind(tmp_path) == []
    assert call(tmp_path, "check").returncode == checks


@needs_dirty_bars
@needs_real_bars
def test_a_dirty_week_among_clean_ones_is_trained_without_its_faults_and_they_are_told(tmp_path: Path) -> None:
    """The week from 27 November holds 34 faults that somebody labelled; the weeks before are as they were traded."""
    (tmp_path / "data").mkdir()
    real = pl.read_parquet(REAL_BARS / "AMD.parquet")
    until = pl.datetime(2024, 11, 27, time_zone="UTC")
    real.filter(pl.col("ts") < until).write_parquet(tmp_path / "data" / "AMD.parquet")
    dirty = (DIRTY / "injected_faults" / "AMD_dirty.csv").read_bytes()
    (tmp_path / "data" / "AMD_dirty.csv").write_bytes(dirty)
    from_files(tmp_path, "AMD", days=60)
    report = answer_here(tmp_path, "retrain", "--force")
    assert report["outcome"] == "rejected"  # a first model without an edge on real bars does not pass min_sharpe
    assert len({finding["reason"] for finding in report["findings"]}) >= 5
    assert abs(report["challenger"]["gross_sharpe"]) < 100, "a tenfold price that got through would make a fortune"


# --- secrets ----------------------------------------------------------------------------------------------------------

SECRETS: Any = {
    "POLYGON_API_KEY": "canary-polygon-8f3b1c",
    "MASSIVE_API_KEY": "canary-massive-2d9e77",
    "SMTP_PASSWORD": "canary-smtp-55aa01",
    "ALPACA_API_SECRET_KEY": "canary-alpaca-c0ffee",
}


def told_secrets(data: bytes) -> list[str]:
    """Return the names of the secrets in `data`, also where it is compressed as joblib does."""
    with contextlib.suppress(zlib.error):
        data += zlib.decompress(data)
    return [name for name, value in SECRETS.items() if value.encode() in data]


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.hazard(59)
def test_no_secret_gets_into_a_file_the_output_or_the_training_process(tmp_path: Path) -> None:
    (tmp_path / "hftcl.toml").write_text(QUICK_TOML)
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in SECRETS.items()))
    (tmp_path / ".env").chmod(0o600)
    case = Case()
    training = case.start(tmp_path, *RETRAIN, "-vv", environment=SECRETS)
    assert training.stderr is not None
    said = ""
    while "fit: 0" not in said:
        said += training.stderr.readline()
        assert training.poll() is None, said
    children = [pid for pid in case.alive() if pid != training.pid]
    assert children, "the training process is there to be looked at"
    for name in ("environ", "cmdline"):
        assert [told for pid in children for told in told_secrets(Path(f"/proc/{pid}/{name}").read_bytes())] == []
    out, err = training.communicate(timeout=PATIENCE_S)
    assert training.returncode == 0
    assert told_secrets((out + said + err).encode()) == []
    wrong = ("retrain", "--force", "-vv", "--param", "n_estimators=none")
    for arguments in (("check", "-vv"), ("init", "--show"), ("init", "--show", "--json"), ("rollback", "-vv"), wrong):
        done = call(tmp_path, *arguments, **SECRETS)
        assert told_secrets((done.stdout + done.stderr).encode()) == [], arguments
    (tmp_path / ".env").unlink()
    assert {name: told for name, data in contents(tmp_path).items() if (told := told_secrets(data))} == {}


@pytest.mark.hazard(59)
@pytest.mark.parametrize("address", ["http://127.0.0.1:{port}", "http://no-such-host.invalid"])
def test_a_source_that_fails_tells_no_secret_not_even_in_a_traceback(tmp_path: Path, address: str) -> None:
    (tmp_path / "hftcl.toml").write_text(
        f'[market]\nsource = "polygon"\nwatchlist = ["AAPL"]\n'
        f'[polygon]\nbase_url = "{address.format(port=closed_port())}"\ntimeout_s = 5\n'
    )
    for arguments in (("retrain", "--force", "-vv"), ("check", "-vv")):
        done = call(tmp_path, *arguments, **SECRETS)
        assert done.returncode == (1 if arguments[0] == "retrain" else 0), done.stderr
        assert ("Traceback" in done.stderr) is (arguments[0] == "retrain")
        assert told_secrets((done.stdout + done.stderr).encode()) == []
    assert {name: told for name, data in contents(tmp_path).items() if (told := told_secrets(data))} == {}


@needs_real_bars
@pytest.mark.parametrize("said", ["start", pytest.param("end", marks=pytest.mark.slow)])
def test_bars_that_would_be_known_a_minute_early_are_refused_cold_and_cached(tmp_path: Path, said: str) -> None:
    """Stamped at the start, taken for the end: every bar is known a minute before it was."""
    (tmp_path / "hftcl.toml").write_text(
        f'[market]\nsource = "files"\nwatchlist = ["AAPL", "GS", "JNJ", "TSLA"]\nlookback_days = 30\n'
        f'[files]\nfolder = "{REAL_BARS}"\nlabel = "{said}"\n[model]\nfamily = "ridge"\n'
    )
    for _ in ("cold", "cached"):
        done = call(tmp_path, "retrain", "--force", "--json")
        if said == "start":
            assert done.returncode == 0, done.stderr
            assert "label" not in [finding["reason"] for finding in json.loads(done.stdout)["findings"]]
        else:
            assert done.returncode == 1
            assert "stands -1 minutes after the open of XNYS in most sessions. Set [files] timezone" in done.stderr
