"""`hftcl inspect` says what is in a folder, and `hftcl init --files` writes the settings that read it."""

import json
import subprocess
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from hftcl.archive.artifact import describe
from hftcl.errors import SourceError
from hftcl.events import ignore
from hftcl.market.inspect import inspect
from hftcl.settings import Files, Settings
from hftcl.views.inspect import draw_day
from tests.in_process import call
from tests.market.exchange import quiet_bars
from tests.market.layout_cases import CASES, bundle, centred, market, plain


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return call(home, *arguments, COLUMNS="200")


def naive_folder(home: Path) -> Path:
    folder = home / "data"
    folder.mkdir()
    plain(form="%Y-%m-%d %H:%M:%S", zone="America/New_York", shift=1)(folder)
    (folder / "notes.txt").write_text("bought in May\n")
    (folder / "logo.png").write_bytes(b"\x89PNG")
    (folder / "AAPL (1).csv").write_bytes((folder / "AAPL.csv").read_bytes())
    return folder


def test_inspect_names_zone_label_and_what_is_ignored_as_the_contract_says(tmp_path: Path) -> None:
    naive_folder(tmp_path)
    done = run(tmp_path, "inspect", "data", "--json")
    reports: list[dict[str, Any]] = json.loads(done.stdout)
    assert done.returncode == 1, "a zone that must be asked for is a refusal"
    by_file = {report["file"]: report for report in reports}
    found = by_file["AAPL.csv"]
    assert {key: found[key] for key in ("layout", "tickers", "interval_s", "zone", "label")} == {
        "layout": "generic", "tickers": ["AAPL"], "interval_s": 60, "zone": "America/New_York", "label": "end",
    }  # fmt: skip
    assert found["columns"]["close"] == "close"
    assert "[files] timezone" in found["refused"]
    assert found["coverage"] == 1.0
    assert [len(part) for part in found["day"]] == [330, 390, 240]
    assert sum(found["day"][0]) == 0 < sum(found["day"][1])
    ignored = {name: report["ignored"] for name, report in by_file.items() if report["ignored"]}
    assert set(ignored) == {"notes.txt", "logo.png", "AAPL (1).csv"}
    assert "second download of AAPL.csv" in ignored["AAPL (1).csv"]


@pytest.mark.parametrize("there", [False, True], ids=["missing", "empty"])
def test_a_folder_that_was_named_is_not_to_be_set(there: bool, tmp_path: Path) -> None:
    folder = tmp_path / "bars"
    if there:
        folder.mkdir()
    with pytest.raises(SourceError, match=r"^The folder .*/bars .* Name the folder that holds your bars\.$"):
        inspect(Settings(), folder, on_event=ignore)
    with pytest.raises(SourceError, match=r"^The folder .*/bars .* Set \[files\] folder to your bars\.$"):
        inspect(Settings(files=Files(folder=str(folder))), None, on_event=ignore)


def test_init_writes_what_reads_the_folder_and_inspect_then_has_no_question(tmp_path: Path) -> None:
    naive_folder(tmp_path)
    done = run(tmp_path, "init", "--files", "data")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "hftcl.toml").read_text()
    for line in ('source = "files"', 'watchlist = ["AAPL"]', 'folder = "data"', 'timezone = "America/New_York"', 'label = "end"'):  # fmt: skip  # noqa: E501
        assert f"\n{line}\n" in text
    again = run(tmp_path, "inspect", "--json")
    assert again.returncode == 0, again.stdout
    assert json.loads(again.stdout)[0]["sure"] is True
    assert run(tmp_path, "init", "--files", "data").returncode == 2, "it overwrites nothing"


def test_a_person_sees_the_day_against_the_exchanges_hours(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    plain()(folder)
    done = run(tmp_path, "inspect", "data")
    assert done.returncode == 0
    (drawn,) = [line for line in done.stdout.splitlines() if "[█" in line]
    assert "▇" not in drawn.partition("[")[0]
    assert "the busiest minute is the open in UTC" in done.stdout
    assert "columns: ts = 'ts', open = 'open'" in done.stdout
    assert "prices: as they are, adjusted for splits or not, not said" in done.stdout


def test_inspect_tells_unit_and_adjustment_of_the_prices(tmp_path: Path) -> None:
    (case,) = [case for case in CASES if case.name == "databento-fixed"]
    case.write(tmp_path)
    (fixed,) = json.loads(run(tmp_path, "inspect", ".", "--json").stdout)
    assert (fixed["price_unit"], fixed["adjusted"]) == (1e-9, False)
    folder = tmp_path / "data"
    folder.mkdir()
    plain(name="AAPL_UNADJUSTED.csv")(folder)
    (named,) = json.loads(run(tmp_path, "inspect", "data", "--json").stdout)
    assert (named["price_unit"], named["adjusted"]) == (1.0, False)


def test_what_is_not_known_is_asked_for_and_never_assumed(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    two_days = market("AAPL").head(780).drop("ticker").with_columns(pl.col("ts").dt.replace_time_zone(None))
    two_days.write_parquet(folder / "AAPL.parquet")
    done = run(tmp_path, "init", "--files", "data")
    question = "to decide: AAPL.parquet: the stamps name no zone. Set [files] timezone."
    assert question in done.stdout
    assert "set [market] watchlist" not in done.stdout, "both are set"
    assert '\n# timezone = ""\n' in (tmp_path / "hftcl.toml").read_text()
    (tmp_path / "hftcl.toml").unlink()
    done = run(tmp_path, "init", "--files", "data", "--json")
    assert [Path(path).name for path in json.loads(done.stdout)] == ["hftcl.toml"], ".env stands already"
    assert question in done.stderr, "a document of the files that were written does not hide it"


@pytest.mark.hazard(75)
@pytest.mark.parametrize("minutes", [pytest.param(5, marks=pytest.mark.slow), 15])
def test_other_intervals_stop_retrain_check_doctor_and_inspect(tmp_path: Path, minutes: int) -> None:
    (tmp_path / "data").mkdir()
    bundle(minutes=minutes, beside=True)(tmp_path / "data")
    (tmp_path / "hftcl.toml").write_text('[market]\nsource = "files"\nwatchlist = ["AAPL"]\nlookback_days = 12\n')
    for command in (("retrain", "--force"), ("check",), ("doctor",), ("inspect",)):
        done = run(tmp_path, *command)
        assert done.returncode == 1, (command, done.stdout)
        assert f"AAPL_full_{minutes}min.parquet" in done.stdout + done.stderr
        assert "AAPL_full_1min.parquet" in done.stdout + done.stderr


@pytest.mark.hazard(76)
def test_bars_built_with_the_future_stop_retrain_check_and_doctor(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    centred("close")(market("AAPL", first=date(2026, 5, 11))).write_parquet(tmp_path / "data" / "AAPL.parquet")
    (tmp_path / "hftcl.toml").write_text('[market]\nsource = "files"\nwatchlist = ["AAPL"]\nlookback_days = 30\n')
    for command in (("retrain", "--force"), ("check",), ("doctor",)):
        done = run(tmp_path, *command)
        assert done.returncode == 1, (command, done.stdout)
        assert "foretells" in done.stdout + done.stderr
    assert not (tmp_path / "trained_stock_model.onnx").exists()


def test_stamps_within_their_minute_are_told_before_a_collection_drops_them(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    late = market("AAPL").with_columns(pl.col("ts").dt.offset_by("59s"))
    late.write_parquet(tmp_path / "data" / "AAPL.parquet")
    (report,) = json.loads(run(tmp_path, "inspect", "data", "--json").stdout)
    assert report["sure"] is False
    assert any("are not on a whole minute, such as 13:30:59" in guess for guess in report["guesses"])


def test_prices_in_cents_are_not_sure_to_inspect_and_a_collection_asks_once(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for ticker in ("AAPL", "AMD"):
        dollars = market(ticker, first=date(2026, 5, 11))
        cents = dollars.with_columns((pl.col(name) * 100).round() for name in ("open", "high", "low", "close"))
        cents.write_parquet(tmp_path / "data" / f"{ticker}.parquet")
    for report in json.loads(run(tmp_path, "inspect", "data", "--json").stdout):
        assert (report["sure"], report["refused"]) == (False, None)
        assert any(guess.startswith("price unit: not sure; each price of") for guess in report["guesses"])
    assert "price unit: not sure" in run(tmp_path, "inspect", "data").stdout
    asked = run(tmp_path, "init", "--files", "data").stdout
    assert asked.count("to decide: AAPL.parquet: price unit: not sure; each price of") == 1
    assert asked.count("price unit") == 1
    (tmp_path / "hftcl.toml").write_text(
        '[market]\nsource = "files"\nwatchlist = ["AAPL", "AMD"]\nlookback_days = 30\n'
    )
    done = run(tmp_path, "check")
    assert done.returncode == 0, done.stderr
    assert " ".join(done.stderr.split()).count("AAPL and 1 more ticker: each price of") == 1


@pytest.mark.hazard(75)
def test_one_bad_ticker_is_left_out_loudly_and_never_sinks_the_others(tmp_path: Path) -> None:
    """Five-minute bars, values built with the future, and a file cut short, beside two tickers of good bars."""
    folder = tmp_path / "data"
    folder.mkdir()
    begin = date(2026, 3, 16)
    for ticker in ("AAPL", "AMD"):
        market(ticker, first=begin).write_parquet(folder / f"{ticker}.parquet")
    every_fifth = market("IBM", first=begin).filter(pl.col("ts").dt.minute() % 5 == 0)
    every_fifth.write_parquet(folder / "IBM.parquet")
    centred("close")(market("JNJ", first=begin)).write_parquet(folder / "JNJ.parquet")
    whole = (folder / "AMD.parquet").read_bytes()
    (folder / "TSLA.parquet").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "hftcl.toml").write_text(
        '[market]\nsource = "files"\nwatchlist = ["AAPL", "AMD", "IBM", "JNJ", "TSLA"]\nlookback_days = 90\n'
        '[model]\nfamily = "ridge"\n'
    )
    done = run(tmp_path, "check", "--json")
    assert done.returncode == 1
    coverage = {item["ticker"]: item for item in json.loads(done.stdout)["coverage"]}
    assert [ticker for ticker, item in coverage.items() if item["refused"]] == ["IBM", "JNJ", "TSLA"]
    assert [coverage[ticker]["left_out"] for ticker in ("AAPL", "AMD")] == ["", ""]
    for ticker, why in {"IBM": "5-minute bars", "JNJ": "foretells", "TSLA": "cannot be read"}.items():
        assert why in coverage[ticker]["left_out"]
    done = run(tmp_path, "doctor", "--json")
    assert done.returncode == 1
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert {name for name, row in rows.items() if row["status"] == "fault"} >= {"bars IBM", "bars JNJ", "bars TSLA"}
    assert {"bars AAPL", "bars AMD"}.isdisjoint(rows)
    assert [item["ticker"] for item in rows["coverage"]["coverage"]] == ["AAPL", "AMD", "IBM", "JNJ", "TSLA"]
    done = run(tmp_path, "retrain", "--force", "--json")
    assert done.returncode == 1, done.stderr
    assert done.stderr.count(" is left out: ") == 3
    report = json.loads(done.stdout)
    assert report["tickers"] == ["AAPL", "AMD"]
    assert sorted(report["left_out"]) == ["IBM", "JNJ", "TSLA"]
    assert report["challenger"] is not None
    (model,) = (tmp_path / "models").glob("*.onnx")
    kept = {item.ticker: item for item in describe(model).coverage or ()}
    assert [ticker for ticker, item in kept.items() if item.refused] == ["IBM", "JNJ", "TSLA"]
    assert kept["AAPL"].received == kept["AAPL"].expected > 20_000


@pytest.mark.parametrize(("width", "minutes"), [(40, 30), (80, 15), (120, 10), (240, 5), (1000, 1)])
def test_the_day_is_drawn_in_the_fewest_minutes_a_cell_that_fit(width: int, minutes: int) -> None:
    day = ([1.0] * 330, [9.0] * 30 + [4.0] * 360, [1.0] * 240)
    covered, line = draw_day(day, width)
    assert (covered, len(line) <= width - 2) == (minutes, True)
    before, inside = line.index("["), line.index("]") - line.index("[") - 1
    assert (before, inside) == (330 // minutes, 390 // minutes)
    assert line[before + 1 : before + 1 + 30 // minutes] == "█" * (30 // minutes)


def test_hours_without_trades_at_both_ends_of_the_day_leave_room_for_the_session() -> None:
    covered, line = draw_day(([0.0] * 330, [1.0] * 390, [0.0] * 240), 80)
    assert (covered, line) == (6, f"[{'█' * 65}]")


def test_the_span_and_the_coverage_are_those_of_the_whole_file(tmp_path: Path) -> None:
    months = quiet_bars("AAPL", first=date(2025, 6, 2), last=date(2025, 9, 30), extended=False)
    assert months.height > 30_000  # more than the newest month, by which zone and label are found
    gap = pl.col("ts").dt.date() == date(2025, 6, 3)
    (tmp_path / "data").mkdir()
    months.filter(~gap).drop("ticker").write_parquet(tmp_path / "data" / "AAPL.parquet")
    settings = Settings(files=Files(folder=str(tmp_path / "data"), timezone="UTC"))
    (report,) = inspect(settings, None, on_event=ignore)
    assert report.first == months["ts"][0]
    assert report.last == months["ts"][-1]
    assert report.coverage == pytest.approx(1 - 390 / months.height)  # of the session that is missing
