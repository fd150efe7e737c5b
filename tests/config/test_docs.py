"""docs/configuration.md and hftcl.toml.example tell the truth about the settings."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from hftcl import config
from hftcl.config.suggest import GUIDE_NAMES
from hftcl.config.tree import Leaf, list_all_leaves
from hftcl.settings import Settings
from tests.config.configured import faults, loaded

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "hftcl.toml.example"
REFERENCE = ROOT / "docs" / "configuration.md"
WRITE_ANEW = """Write both anew, from the top of the repository:
python -c "from pathlib import Path; from hftcl import config; \\
Path('hftcl.toml.example').write_text(config.build_example()); \\
Path('docs/configuration.md').write_text(config.build_reference())"
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", REFERENCE.read_text(), flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(("file", "text"), [(EXAMPLE, config.build_example()), (REFERENCE, config.build_reference())])
def test_the_example_and_the_reference_are_current(file: Path, text: str) -> None:
    assert file.read_text() == text, WRITE_ANEW


def test_the_example_as_it_stands_is_the_defaults_and_names_every_setting(tmp_path: Path) -> None:
    assert not any(tomllib.loads(EXAMPLE.read_text()).values()), "what is not changed is a comment"
    written = re.sub(r"^# (?=\w+ = )", "", EXAMPLE.read_text(), flags=re.MULTILINE)
    document = tomllib.loads(written)
    assert [f"{section}.{name}" for section, content in document.items() for name in content] == list(list_all_leaves())
    with_file = loaded(tmp_path, written).settings
    (tmp_path / "hftcl.toml").unlink()
    assert with_file == loaded(tmp_path).settings


def test_what_is_chosen_at_the_start_is_no_comment() -> None:
    written = tomllib.loads(config.build_example({"market.source": "files"}))
    assert {section: content for section, content in written.items() if content} == {"market": {"source": "files"}}


def test_every_setting_of_the_example_stands_below_its_meaning_and_what_is_allowed() -> None:
    paragraphs = EXAMPLE.read_text().split("\n\n")
    for leaf in list_all_leaves().values():
        (paragraph,) = (
            text for text in paragraphs if f"\n# {leaf.name} = " in text and leaf.description in unwrapped(text)
        )
        assert unwrapped(paragraph).startswith(f"{leaf.description} Allowed: {leaf.allowed}.")


def unwrapped(text: str) -> str:
    return " ".join(line.removeprefix("# ") for line in text.strip().splitlines())


@pytest.mark.parametrize("leaf", list_all_leaves().values(), ids=lambda leaf: leaf.key)
def test_every_setting_has_a_meaning_and_says_what_is_allowed(leaf: Leaf) -> None:
    assert re.fullmatch(r"[A-Z\"].*\.", leaf.description)
    assert leaf.allowed != "a text"
    assert "None" not in leaf.allowed
    assert not leaf.allowed.endswith(".")


def test_the_constants_of_the_guide_are_the_defaults() -> None:
    tree = Settings()
    assert (tree.triggers.max_age_days, tree.triggers.min_recent_sharpe, tree.promote.min_sharpe) == (7, 0.3, 0.5)
    assert (tree.promote.tolerance, tree.market.lookback_days, tree.model.n_estimators) == (0.10, 60, 200)
    assert tree.trade.reload_interval_hours == 6
    assert (tree.schedule.check, tree.schedule.retrain) == ("02:00", "Sun 01:00")
    assert set(GUIDE_NAMES.values()) <= set(list_all_leaves())


def test_the_documented_variables_work_in_a_shell(tmp_path: Path) -> None:
    script = blocks("sh")[0] + "env -0"
    done = subprocess.run(
        ["/bin/sh", "-ec", script], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True
    )
    given = dict(line.split("=", 1) for line in done.stdout.split("\0") if line.startswith("HFTCL_"))
    tree = loaded(tmp_path, **given).settings
    assert tree.market.watchlist == ("AAPL", "MSFT")
    assert tree.market.extended_hours
    assert tree.files.columns == {"ts": "datetime", "close": "c"}


def test_the_documented_faults_are_what_is_told(tmp_path: Path) -> None:
    told = faults(tmp_path, "[model]\nn_estimator = 1\nmax_depth = 7.9", HFTCL_EXAM__SESSIONS="many")
    assert list(told) == blocks("text")[0].splitlines()


def test_the_documented_env_file_holds_what_it_says(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(blocks("sh")[1])
    tree = loaded(tmp_path).settings
    assert config.list_findings(tree) == (
        f"{tmp_path}/.env: everyone on this machine can read it. Run: chmod 600 {tmp_path}/.env",
    )
    assert config.read_secret("POLYGON_API_KEY", tree, {}) == "abc123"
    assert config.read_secret("SMTP_USER", tree, {}) == "single quotes keep everything as it is"
    (tmp_path / ".env").write_text(blocks("sh")[1].replace("and \\n for a line end", ""))
    assert config.read_secret("SMTP_PASSWORD", tree, {}) == 'double quotes know " for a quote, \\ for a backslash'
