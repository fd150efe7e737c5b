"""Draws the documentation: the words, or one of them with its page."""

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from hftcl.views import draw_table, find_terminal, say, write_out

if TYPE_CHECKING:
    from hftcl.manual.pages import Explanation


def draw_words(lists: Mapping[str, Mapping[str, str]]) -> None:
    """Draw what each word means, then the pages."""
    draw_table("", ("word", "means"), list(lists["words"].items()))
    draw_table("", ("page", "about"), list(lists["pages"].items()))
    say("`hftcl docs WORD` prints the page of a word, a command, a setting (edge.min_p_edge), or a page itself.")


def draw_explanation(told: "Explanation") -> None:
    """Draw a word's meaning, its page and where that lies: as Markdown in a pipe, long ones in a terminal's pager."""
    head = f"{told.word}: {told.meaning}.\n\n" if told.meaning else ""
    foot = f"{told.file}{', ' + told.heading if told.heading else ''}"
    console = find_terminal()
    if console is None:
        write_out(f"{head}{told.text.rstrip()}\n\n({foot})\n")
        return
    from rich.console import Group
    from rich.markdown import Markdown
    from rich.text import Text

    shown = Group(Text(head, "bold"), Markdown(told.text), Text(f"\n{foot}", "dim"))
    lines = console.render_lines(shown, pad=False)
    if len(lines) < console.height or not sys.stdin.isatty():
        console.print(shown)
        return
    os.environ.setdefault("LESS", "-R")  # which lets the pager show colours
    with console.pager(styles=True):
        console.print(shown)
