"""The line of hftcl.toml that a message names."""

import pytest

from hftcl.config.lines import find_line

TEXT = """# [model]
top = 1
[market]   # bars
"source" = "files"
 [ model ]
# seed = 3
seed=4
[model.x]
seed = 5
"""


@pytest.mark.parametrize(
    ("section", "name", "line"),
    [("", "top", 2), ("market", "", 3), ("market", "source", 4), ("model", "seed", 7), ("model", "source", None)],
)
def test_a_setting_is_found_under_its_own_section(section: str, name: str, line: int | None) -> None:
    assert find_line(TEXT, section, name) == line


def test_what_stands_in_an_inline_table_has_no_line() -> None:
    assert find_line("model = { seed = 1 }", "model", "seed") is None
