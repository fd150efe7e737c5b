"""What a view draws, kept for a page: the same words as printed, and nothing printed meanwhile."""

import threading

import pytest

from hftcl.views import Styled, draw_table, say
from hftcl.views.blocks import Grid, Line, collect_blocks, format_plainly


def draw(count: int, *, title: str = "") -> None:
    draw_table(title, ("ticker", "shares"), [("AAPL", Styled(str(count), "red"))], numbers=frozenset({1}))
    say("that is all", "bold")


def test_a_view_is_kept_as_it_would_have_been_printed(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = collect_blocks(draw, 12, title="Held")
    assert capsys.readouterr().out == ""
    grid = Grid("Held", ("ticker", "shares"), ((Styled("AAPL"), Styled("12", "red")),), frozenset({1}))
    assert blocks == (grid, Line("that is all", "bold"))
    draw(12, title="Held")
    assert capsys.readouterr().out.splitlines() == [line for block in blocks for line in format_plainly(block)]


def test_another_thread_and_what_comes_after_a_failure_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(_: int) -> None:
        thread = threading.Thread(target=say, args=("of another thread",))
        thread.start()
        thread.join()
        raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        collect_blocks(fail, 1)
    say("afterwards")
    assert capsys.readouterr().out == "of another thread\nafterwards\n"
