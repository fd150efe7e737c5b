"""What is computed of a wide watchlist a few tickers at a time is to the bit what is computed of all at once."""

import contextlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy.typing as npt
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hftcl.archive import artifact
from hftcl.events import go_on, ignore
from hftcl.exam import split
from hftcl.learning import inside, score, training_rows
from hftcl.learning.dataset import add_features, open_window
from hftcl.learning.training_rows import TrainingRows
from hftcl.market.ticker_blocks import cut_by_ticker
from hftcl.model import grid
from tests.loop_cases import NOW, small
from tests.trading.bot_stand import DAY, bars_of, model_file


@pytest.mark.parametrize("frame_minutes", [30, 15])
def test_an_exam_of_one_ticker_after_another_is_to_the_bit_that_of_all_at_once(
    frame_minutes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """frame_minutes: the horizon of the frame's target; the model's is 30, and its own target is computed then."""
    model = artifact.load(model_file("20250531_120000"))
    bars = bars_of(DAY)
    # one ticker lacks a session and one a minute, so that no two tickers have the same rows
    lacks = ((pl.col("ticker") == "AMD") & (pl.col("session") == DAY - timedelta(days=3))) | (
        (pl.col("ticker") == "AAPL") & (pl.col("minute") == 200)
    )
    frame = add_features(bars.filter(~lacks).sort("ticker", "ts"), frame_minutes)
    days, watchlist = frame["session"].unique().sort().to_list(), frame["ticker"].unique().to_list()
    # one that has bars in the window, and none in the exam
    gone = frame.filter(pl.col("ticker") == "AMD", ~pl.col("session").is_in(days[2:])).with_columns(ticker=pl.lit("B"))
    frame, days = pl.concat([frame, gone]).sort("ticker", "ts"), days[2:]
    assert len(watchlist) > 1
    assert gone.height
    results = []
    for rows in (1, frame.height):
        monkeypatch.setattr(score, "_PART_ROWS", rows)
        exam = score.examine(model, frame, days, cost_bps=1.0, watchlist=watchlist)
        run = score.run_model(model, frame, days, cost_bps=1.0, watchlist=watchlist)
        late = score.run_late(model, run.predicted, frame, days, cost_bps=1.0, watchlist=watchlist)
        runs = (exam.simulation, run.simulation, late)
        simulated = [one.gross.tobytes() + one.turnover.tobytes() for one in runs]
        per_ticker = [one.tickers for one in runs]
        predicted = exam.predictions.tobytes(), run.predictions.tobytes()
        results.append((exam.report, exam.slices, predicted, simulated, per_ticker, run.positions))
    assert results[0][0].trades > 0
    assert results[0][:-1] == results[1][:-1]
    assert results[0][-1].equals(results[1][-1])


def test_an_exam_reads_the_target_of_the_models_horizon_whatever_that_of_the_frame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = artifact.load(model_file("20250531_120000"))
    assert model.meta.horizon_minutes == 30
    bars, reports = bars_of(DAY).sort("ticker", "ts"), []
    for minutes, rows in ((30, bars.height), (15, bars.height), (15, 1)):
        monkeypatch.setattr(score, "_PART_ROWS", rows)
        frame = add_features(bars, minutes)
        reports.append(score.examine(model, frame, [DAY], cost_bps=1.0, watchlist=["AAPL"]).report)
    assert reports[0].information_coefficient
    assert reports[1] == reports[0]
    assert reports[2] == reports[0]


def test_pnl_and_positions_of_rows_in_any_order_are_those_of_sorted_ones() -> None:
    model = artifact.load(model_file("20250531_120000"))
    frame = add_features(bars_of(DAY).sort("ticker", "ts"), 30)
    mixed = frame.sort("ts", "ticker")
    reports = [score.examine(model, rows, [DAY], cost_bps=1.0, watchlist=["AAPL"]).report for rows in (frame, mixed)]
    assert (reports[0].pnl, reports[0].positions_sha256) == (reports[1].pnl, reports[1].positions_sha256)


def test_the_targets_of_one_ticker_after_another_are_those_of_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = add_features(bars_of(DAY).sort("ticker", "ts"), 30)
    frame = frame.filter((pl.col("ticker") != "AMD") | (pl.col("minute") < 300))  # its sessions end earlier
    whole = inside.set_target(frame, 15)
    monkeypatch.setattr(inside, "_PART_ROWS", 1)
    assert_frame_equal(inside.set_target(frame, 15), whole, check_exact=True)
    assert not whole["target"].equals(frame["target"])


def test_tickers_are_cut_into_parts_that_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [name for place, name in enumerate("ABCDE") for _ in range(3 * place + 1)]
    frame = pl.DataFrame({"ticker": names})
    monkeypatch.setattr("hftcl.market.ticker_blocks._LOOK_ROWS", 4)
    cuts = cut_by_ticker(frame, rows=5)
    parts = [frame[cut]["ticker"].unique().to_list() for cut in cuts]
    assert sorted(name for part in parts for name in part) == list("ABCDE"), "each ticker in one part"
    assert pl.concat(frame[cut] for cut in cuts).equals(frame)
    assert len(cuts) > 2
    assert cut_by_ticker(frame.reverse(), rows=5) == [slice(0, frame.height)], "not sorted: all at once"
    assert cut_by_ticker(frame.clear(), rows=5) == []


def test_sessions_are_listed_the_same_a_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    bars = bars_of(DAY)
    whole = split.list_sessions(bars)
    monkeypatch.setattr(split, "_BLOCK_BARS", 100)
    assert split.list_sessions(bars) == whole
    assert split.list_sessions(bars.clear()) == ()
    minutes = bars.head(800).select("session", pl.col("minute").cast(pl.Int32))  # of one ticker: each bar counts
    sessions = grid.find_sessions(minutes, [DAY + timedelta(days=1)])
    assert sessions.height > 2
    monkeypatch.setattr(grid, "_BLOCK_BARS", 1)
    assert_frame_equal(grid.find_sessions(minutes, [DAY + timedelta(days=1)]), sessions, check_exact=True)
    assert grid.find_sessions(minutes.clear()).is_empty()


def test_the_rows_that_train_lie_in_a_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    window = open_window(small(tmp_path), as_of=None, now=NOW, save=False, on_event=ignore)
    frame, names = window.assemble().frame, window.read_features().names
    division = split.split(split.list_sessions(frame), exam_sessions=10, embargo_sessions=1)
    whole = TrainingRows.gather(frame, division, window.settings, names, go_on)
    monkeypatch.setattr(training_rows, "_BLOCK_ROWS", 1_000)
    (tmp_path / "files").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "files"))
    rows = TrainingRows.gather(frame, division, window.settings, names, go_on)
    assert_frame_equal(rows.frame, whole.frame, check_exact=True)
    assert rows.X.tobytes() == whole.X.tobytes()
    content = rows.X.nbytes + rows.frame.height * (8 + 4 + 8 + 4)  # ts, session, label_end, target
    assert content <= measure_unnamed_files(tmp_path / "files") < content + (1 << 16)
    held = [rows.X, rows.y, *(column.to_physical().to_numpy() for column in rows.frame)]
    assert all(lies_in_file(array, tmp_path / "files") for array in held), "a copy of it stays in memory"


def test_of_the_rows_of_a_model_a_ticker_the_ticker_is_known_too(tmp_path: Path) -> None:
    settings = small(tmp_path, model={"per": "ticker"})
    window = open_window(settings, as_of=None, now=NOW, save=False, on_event=ignore)
    frame, names = window.assemble().frame, window.read_features().names
    division = split.split(split.list_sessions(frame), exam_sessions=10, embargo_sessions=1)
    rows = TrainingRows.gather(frame, division, settings, names, go_on)
    both = frame.select("ticker", "ts", "target", *names).join(
        rows.frame.select("ticker", "ts"), on=["ticker", "ts"], maintain_order="right"
    )
    assert rows.y.tobytes() == both["target"].to_numpy().tobytes()
    assert rows.features.tobytes() == both.select(names).to_numpy().tobytes()
    numbers = dict(enumerate(rows.inputs.tickers))
    assert [numbers[int(number)] for number in rows.X[:, -1]] == both["ticker"].to_list()


def lies_in_file(array: npt.NDArray[Any], folder: Path) -> bool:
    """Whether an array's first byte is one of a file in `folder`, which this process has mapped."""
    begin = array.__array_interface__["data"][0]
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, last = (int(place, 16) for place in line.split()[0].split("-"))
        if first <= begin < last:
            return str(folder) in line
    return False


def measure_unnamed_files(folder: Path) -> int:
    """Return how many bytes the unnamed files of this process take in a folder that lists none."""
    sizes = {}
    for one in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that by which they are listed
            if one.readlink().is_relative_to(folder):
                status = one.stat()
                sizes[status.st_ino] = 512 * status.st_blocks
    return sum(sizes.values())
