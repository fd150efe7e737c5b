"""How the views draw: what a terminal of some width, and a pipe, get to see of a table."""

import io
import re
import threading
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import ClassVar

import pytest

from hftcl.config.documents import EffectiveSetting
from hftcl.events import Event
from hftcl.learning.archive_reports import HistoryRow
from hftcl.schedule.rules import Job, Occurrence
from hftcl.views import draw_lines, draw_table
from hftcl.views.archive import draw_history, draw_lineage
from hftcl.views.blocks import Block, Grid, Line, Styled
from hftcl.views.installation import draw_settings
from hftcl.views.schedule import LivePage
from hftcl.views.terminal import _BREAKING, _CUTTING

COLUMNS = ("model", "rows", "bars", "why")
ROWS = [("20260101_060000", "123456", "synthetic bars", "it was better than the model before it")]


def drawn(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int) -> str:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    draw_table("", COLUMNS, ROWS, numbers=frozenset({1}), spare=("rows", "bars"))
    return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)


# 15 + 6 + 14 + 38 characters, and 13 of frames, are 86
@pytest.mark.parametrize(("width", "missing"), [(86, []), (85, ["rows"]), (60, ["rows", "bars"])])
def test_a_narrow_terminal_goes_without_what_can_be_spared_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int, missing: list[str]
) -> None:
    told = drawn(monkeypatch, capsys, width)
    assert "20260101_060000" in told
    assert ("123456" in told, "synthetic" in told) == ("rows" not in missing, "bars" not in missing)
    assert ("Too narrow for: " + "; ".join(missing) + "." in told) == bool(missing)
    assert all(len(line) <= width for line in told.splitlines())


def test_a_pipe_gets_everything_however_narrow(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "20")
    draw_table("", COLUMNS, ROWS, numbers=frozenset({1}), spare=("rows", "bars"))
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == list(COLUMNS)
    assert row.split("  ")[0] == "20260101_060000"
    assert row.endswith(ROWS[0][-1])


def test_a_terminal_has_no_column_in_which_no_row_says_anything(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = [("bars", "ok", ""), ("disk", "ok", "")]
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    draw_table("", ("check", "result", "what to do"), grid, spare=("what to do",))
    told = capsys.readouterr().out
    assert "result" in told
    assert "what to do" not in told
    draw_table("", ("check", "result", "what to do"), [*grid, ("edge", "warning", "wait")])
    assert "what to do" in capsys.readouterr().out


def test_a_name_stays_whole_where_what_stands_beside_it_can_be_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    name, address = "  strategy.flat_minutes_before_close", "wss://stream.data.alpaca.markets/v2"
    draw_table("", ("setting", "value", "from"), [(name, "2", "default"), ("  url", address, "default")])
    told = capsys.readouterr().out
    assert name in told
    assert address not in told, "there is no room for both"


def test_a_table_without_rows_is_its_head(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    draw_table("", COLUMNS, [], spare=("rows",))
    assert "model" in capsys.readouterr().out


FILE = "/srv/trading/a/folder/with/a/long/name/hftcl.toml"


def test_the_settings_name_their_file_once_and_mark_what_is_not_the_default(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    rows = [
        EffectiveSetting(key="market.lookback_days", value=60, origin=FILE, description=""),
        EffectiveSetting(key="model.seed", value=9, origin="HFTCL_MODEL__SEED", description="", is_default=False),
        EffectiveSetting(
            key="polygon.websocket_url", value="wss://socket.polygon.io/stocks", origin=FILE, description=""
        ),
    ]
    draw_settings(rows)
    told = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert told.count(FILE) == 1
    assert "* model.seed " in told
    assert told.count("* ") == 2, "one setting, and what the mark means"
    assert '"wss://socket.polygon.io/stocks"' in told
    assert "HFTCL_MODEL__SEED" not in told
    assert all(len(line) <= 80 for line in told.splitlines())


@pytest.mark.parametrize("width", [80, 100])
def test_a_table_that_is_squeezed_breaks_between_words_and_gives_room_to_what_is_longest(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the history at 80 characters: "2026-11-3", and a 0 below it."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    row = ("20261130_023328", "2.88 (-5.4 to 11.2)", "deployed", "now, since 2026-11-30", "SYNTHETIC", "met " * 30)
    draw_table("", ("model", "Sharpe (90 %)", "verdict", "serves", "bars", "why"), [row])
    told = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert all(len(line) <= width for line in told.splitlines())
    words = set(re.findall(r"[\w.,()-]+", told))
    assert words >= {"20261130_023328", "2.88", "(-5.4", "11.2)", "deployed", "2026-11-30", "SYNTHETIC"}
    assert told.count("met") == 30


def test_a_figure_with_its_interval_stays_on_one_line_where_prose_can_be_folded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the history at 110 characters: "11.41 (3.0 to", and "19.8)" below it."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "110")
    columns = ("model", "Sharpe (90 %)", "verdict", "may trade", "serves", "bars", "why")
    row = ("20261130_023328", "11.41 (3.0 to 19.8)", "deployed", "MAY NOT TRADE", "now, since 2026-11-30", "SYNTHETIC")
    draw_table("", columns, [(*row, "met " * 30)], numbers=frozenset({1}))
    told = capsys.readouterr().out
    assert "11.41 (3.0 to 19.8)" in told
    assert told.count("met") == 30


@pytest.mark.parametrize("width", [80, 120])
def test_an_interval_is_never_broken_and_no_title_is_folded_into_a_narrow_table(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the history: "(-10.1" and "to 2.3)" below it at 80 characters, "Sharpe (90" and "%)" in the head at 120."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    columns = ("model", "Sharpe (90 %)", "verdict", "serves", "why")
    row = ("20261130_023328", "-3.90 (-10.1 to 2.3)", "deployed", "2026-12-01 to 2026-12-01", "met " * 28)
    draw_table("", columns, [row], numbers=frozenset({1}))
    draw_table("On the 20 sessions of both exams, 2025-05-16 to 2025-06-13", ("", "a", "b"), [("Sharpe", "1", "2")])
    told = capsys.readouterr().out
    for whole in ("(-10.1 to 2.3)", "(90 %)", "On the 20 sessions of both exams, 2025-05-16 to 2025-06-13"):
        assert whole in told
    assert told.count("met") == 28


def test_an_interval_stays_whole_beside_a_reason_that_has_a_figure_in_brackets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the history of a second candidate: "2.60 (-3.6 to", and "8.8)" below it."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    columns = ("model", "Sharpe (90 %)", "verdict", "serves", "why")
    why = "one of 3 candidates that were tried on these sessions (3.00 by the sessions in common): deflated 0.12"
    rows = [
        ("20261201_134732", "2.60 (-3.6 to 8.8)", "rejected", "never", why),
        ("20261201_133242", "1.99 (-4.2 to 8.2)", "deployed", "now, since 2026-12-01", "met every condition"),
    ]
    draw_table("", columns, rows, numbers=frozenset({1}))
    assert "(-3.6 to 8.8)" in capsys.readouterr().out


def test_no_blank_comes_between_a_bracket_and_what_follows_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in doctor: "minutes (100.0%) , 0 missing"."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    draw_table("", ("check", "found"), [("coverage", "received all of its minutes (100.0%), 0 missing; " * 2)])
    assert capsys.readouterr().out.count("(100.0%), 0") == 2


@pytest.mark.parametrize("width", [78, 80, 90])
def test_prose_is_never_folded_into_single_words_to_keep_a_figure_on_one_line(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the history at 80 characters, whose reasons stood in a column of ten and took eleven lines each."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    columns = ("model", "Sharpe (90 %)", "verdict", "serves", "why")
    row = ("20261130_023328", "11.41 (3.0 to 19.8)", "deployed", "now, since 2026-11-30", "met " * 28)
    draw_table("", columns, [row], numbers=frozenset({1}))
    told = capsys.readouterr().out
    assert told.count("met") == 28
    assert len([line for line in told.splitlines() if "met" in line]) <= 28 / 4, "four words a line and more"


def test_the_live_line_fits_its_terminal_and_moves_with_each_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINES", "24")
    begin = datetime(2026, 1, 6, 21, 40, 5, tzinfo=UTC)
    due = begin + timedelta(days=3, hours=4)
    shown = {}
    for width in (150, 100, 60):
        monkeypatch.setenv("COLUMNS", str(width))
        terminal = io.StringIO()
        line = LivePage(terminal, UTC, lambda: ())
        line.hear_wait(Occurrence(Job.RETRAIN, date(2026, 1, 10), due), begin)
        line.hear_wait(Occurrence(Job.RETRAIN, date(2026, 1, 10), due), begin + timedelta(seconds=5))
        first, second = (re.sub(r"\x1b\[[JK]", "", text) for text in terminal.getvalue().split("\r")[1:])
        assert first != second, "a clock that stands still looks like a program that hangs"
        assert max(len(first), len(second)) < width
        shown[width] = first
    assert shown[100].endswith(" | 21:40:05 | Ctrl-C ends it")
    assert shown[60].endswith(" | 21:40:05")
    assert "in 3 d 4 h" in shown[60]


def read_screen(drawn: str) -> list[str]:
    """Return the lines that a terminal of 80 characters shows after `drawn`, as far as the page's own moves go."""
    lines, row = [""], 0
    for part in re.split(r"(\n|\r|\x1b\[\d*[AJK])", re.sub(r"\x1b\[[\d;]*m", "", drawn)):
        if part == "\n":
            row += 1
            lines += [""] if row == len(lines) else []
        elif part.endswith("A") and part.startswith("\x1b"):
            row -= int(part[2:-1])
        elif part == "\x1b[J":
            del lines[row + 1 :]
            lines[row] = ""
        elif part == "\x1b[K":
            lines[row] = ""
        elif part != "\r":
            assert len(part) < 80, "a line that breaks moves all others"
            lines[row] += part
    return lines


def test_the_page_of_a_terminal_stands_once_under_the_log_and_fits_whatever_its_height(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    begin = datetime(2026, 1, 6, 21, 40, 5, tzinfo=UTC)
    occurrence = Occurrence(Job.RETRAIN, date(2026, 1, 10), begin + timedelta(hours=5))
    words = " ".join(f"word{place}" for place in range(30))
    blocks: dict[int, tuple[Block, ...]] = {
        0: (Line("MAY NOT TRADE: too short"), Grid("", ("job", "outcome"), ((Styled("check"), Styled(words)),))),
        1: (Line("MAY TRADE"),),
    }
    for height in (5, 24):
        monkeypatch.setenv("LINES", str(height))
        terminal, shown = io.StringIO(), [0]
        page = LivePage(terminal, UTC, lambda shown=shown: blocks[shown[-1]])  # type: ignore[misc]
        page.hear_wait(occurrence, begin)
        page.write("the first line of the log\n")
        page.hear_wait(occurrence, begin)
        first = read_screen(terminal.getvalue())
        assert first[:2] == ["the first line of the log", "MAY NOT TRADE: too short"]
        assert first[-1].startswith("next: retrain Wed 02:40 UTC, in 5 h")
        assert len(first) <= height, "with the line of the log"
        assert ("word29" in " ".join(first)) == (height == 24)
        assert (first[-2] == "…") == (height == 5), "what is cut off is told"
        shown += [1]
        page.hear_begin(occurrence)
        assert read_screen(terminal.getvalue())[1:] == ["MAY TRADE", "retrain of 2026-01-10 begins"]
        page.hear_wait(occurrence, begin)
        page.write("the second line of the log\n")
        page.hear_stop()
        last = read_screen(terminal.getvalue())
        assert last[:3] == ["the first line of the log", "the second line of the log", "MAY TRADE"]
        assert last[3].startswith("next: ")
        assert last[4:] == [""], "the shell's next line begins under it"


def test_a_model_that_served_and_whose_file_is_gone_is_not_said_to_have_never_served(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    day = date(2026, 1, 5)
    draw_history(
        [
            HistoryRow(
                model_id="model_20260109_020000",
                trained_date=datetime(2026, 1, 9, 2, tzinfo=UTC),
                val_sharpe=1.0,
                sharpe_interval=None,
                is_deployed=False,
                pinned=False,
                outcome="deployed",
                reason="met every condition",
                served=((datetime(2026, 1, 9, 2, tzinfo=UTC), None),),
                parent=None,
                source="files",
                synthetic=False,
                family="forest",
                trained_from=day,
                trained_to=day,
                exam_from=day,
                exam_to=day,
                exam_sessions=4,
                rows=1,
                sessions=1,
                tickers=("AAPL",),
                sha256="0" * 64,
                kept=True,
                edge=None,
                twin=None,
            )
        ]
    )
    told = capsys.readouterr().out
    assert "never" not in told
    assert "1.00 (4 sessions)" in told.replace("\n", " "), "of so few it never stands alone"
    assert "from 2026-01-09 on, and its file is gone" in told


def test_a_lineage_without_a_model_that_serves_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    draw_lineage([])
    assert capsys.readouterr().out.startswith("No model serves")


class Looked(tuple[Block, ...]):
    """A summary that counts how often it is drawn."""

    __slots__ = ()
    times: ClassVar[list[int]] = []

    def __iter__(self) -> Iterator[Block]:
        self.times.append(1)
        return super().__iter__()


def test_a_summary_is_read_each_15_seconds_of_a_job_and_drawn_where_it_has_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    Looked.times.clear()
    seconds, reads = [0.0], []
    same = Looked((Line("MAY NOT TRADE"),))

    def read() -> Looked:
        reads.append(seconds[-1])
        return same

    page = LivePage(io.StringIO(), UTC, read, lambda: seconds[-1])
    page.hear_begin(Occurrence(Job.RETRAIN, date(2026, 1, 10), datetime(2026, 1, 10, 6, tzinfo=UTC)))
    for done in range(600):
        seconds.append(done / 20)
        page.hear_event(Event("fit", done, 600))
    assert reads == [0.0, 15.0]
    assert len(Looked.times) == 1, "it is the same"


class Watched(io.StringIO):
    """A terminal that takes a moment to write. clashes: how often two threads wrote at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.busy, self.clashes = threading.Lock(), 0

    def write(self, text: str, /) -> int:
        if not self.busy.acquire(blocking=False):
            self.clashes += 1
            return 0
        time.sleep(0.002)
        self.busy.release()
        return super().write(text)


def test_what_another_thread_logs_while_the_foot_is_drawn_waits_for_its_turn() -> None:
    terminal = Watched()
    page = LivePage(terminal, UTC, lambda: (Line("x" * 60, "red"), Line("short")))
    threads = [threading.Thread(target=lambda: [page.write(f"line {n}\n") for n in range(10)]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for done in range(20):
        page.hear_event(Event("fit", done, 600))
    for thread in threads:
        thread.join()
    page.hear_stop()
    assert terminal.clashes == 0


# 60 characters on 40 take two rows where they are broken again; xterm, here begun from GNOME's terminal, cuts them
@pytest.mark.parametrize(
    ("names", "rows"),
    [
        (("VTE_VERSION",), 3),
        (("VTE_VERSION", "XTERM_VERSION"), 2),
        ((), 2),
        (("STY", "TMUX"), 3),
        (("STY", "TMUX", "TERM=screen.tmux-256color"), 2),
    ],
    ids=["gnome", "xterm", "not known", "tmux", "screen inside tmux"],
)
def test_a_terminal_that_was_made_narrower_loses_no_line_of_the_log(
    monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], rows: int
) -> None:
    for name in _BREAKING | _CUTTING:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "tmux-256color")
    for name in names:
        monkeypatch.setenv(name.partition("=")[0], name.partition("=")[2] or "1")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    terminal = io.StringIO()
    page = LivePage(terminal, UTC, lambda: (Line("x" * 60, "red"), Line("short")))
    page.hear_begin(Occurrence(Job.RETRAIN, date(2026, 1, 10), datetime(2026, 1, 10, 6, tzinfo=UTC)))
    monkeypatch.setenv("COLUMNS", "40")
    drawn = len(terminal.getvalue())
    page.write("a line of the log\n")
    assert terminal.getvalue()[drawn:].startswith(f"\r\x1b[{rows}A\x1b[J")


def test_a_table_without_lines_has_the_room_that_the_lines_would_take() -> None:
    cell = Styled("four five")
    grid = Grid("", ("a", "b", "c"), ((cell, cell, cell),))
    assert len(draw_lines((grid,), 3 * len("four five") + 2 * 2, 24)) == 2, "a heading and a row, unfolded"
    assert draw_lines((Line("one"), Line("two"), Line("three")), 20, 2)[1] == "…"
