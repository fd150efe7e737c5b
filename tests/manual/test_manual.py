"""What `hftcl docs` tells: every word has its page, every command and setting is found, a slip is answered."""

import tomllib
from pathlib import Path

import pytest

from hftcl.config.tree import list_all_leaves
from hftcl.errors import UsageError
from hftcl.manual.pages import explain_word, find_folder, list_pages
from hftcl.manual.words import WORDS, describe_word
from tests.in_process import call

ROOT = Path(__file__).resolve().parents[2]
LINE = 100  # characters: a meaning is read at a glance, and folds once at 80 columns


@pytest.mark.parametrize("word", WORDS)
def test_each_word_has_a_short_meaning_and_a_page_that_uses_it(word: str) -> None:
    told = explain_word(word)
    assert told.meaning == WORDS[word].meaning
    assert len(describe_word(word)) <= LINE
    assert told.text.strip()
    assert not told.heading or told.text.splitlines()[0].lstrip("# ") == told.heading


def test_commands_settings_and_pages_are_found_whatever_their_case() -> None:
    assert explain_word("Retrain").heading == "hftcl retrain"
    assert explain_word("hftcl record").page == "commands"
    assert explain_word("record").page == "judging", "the word goes before the command"
    assert explain_word("edge.md").text.startswith("# Your own edge")
    assert explain_word("  STAND   ASIDE ").word == "stand aside"
    row = explain_word("edge.min_p_edge").text
    assert "`edge.min_p_edge`" in row
    assert row.count("\n") == 3, "a head and one line"
    missing = [leaf.key for leaf in list_all_leaves().values() if explain_word(leaf.key).heading != f"[{leaf.section}]"]
    assert missing == []


@pytest.mark.parametrize(
    ("asked", "meant"), [("egde", "edge"), ("retrian", "retrain"), ("edge.min_pedge", "edge.min_p_edge")]
)
def test_a_slip_is_answered_with_the_word_that_is_near(asked: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f"Did you mean .*{meant}"):
        explain_word(asked)


def test_a_word_of_two_needs_no_quotes(tmp_path: Path) -> None:
    told = call(tmp_path, "docs", "stand", "aside")
    assert (told.returncode, told.stdout.splitlines()[0]) == (0, describe_word("stand aside") + ".")


def test_what_is_near_nothing_is_told_where_the_words_are() -> None:
    with pytest.raises(UsageError, match="`hftcl docs` lists the words"):
        explain_word("q" * 5000)


def test_the_wheel_brings_the_pages_to_where_they_are_looked_for() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"] == {"docs": "hftcl/docs"}
    assert find_folder() == ROOT / "docs", "of a checkout, those that are edited"
    assert {"commands", "judging", "quickstart"} <= set(list_pages())
