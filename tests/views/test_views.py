"""The pens of the views: what a terminal of some width, and a pipe, get to see of a table."""

import re

import pytest

from hftcl.views import draw_table

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


def test_a_table_without_rows_is_its_head(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    draw_table("", COLUMNS, [], spare=("rows",))
    assert "model" in capsys.readouterr().out
