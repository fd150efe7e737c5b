"""What completes in a shell: model ids, the parameters of the family, units; nothing where the home is broken."""

from datetime import timedelta
from pathlib import Path

import pytest

from hftcl.cli.app import complete_models, complete_parameters, complete_words
from hftcl.cli.doctor import _complete_units
from tests.trading.bot_stand import TRAINED, archived


def test_ids_parameters_and_units_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert complete_models("") == []
    one, other = (archived(tmp_path, TRAINED + timedelta(hours=n), deploy=False) for n in (0, 1))
    assert complete_models("") == [other, one]
    assert complete_models(one) == [one]
    assert complete_parameters("max_d") == ["max_depth=", "max_depth=12"], "after one alone a shell puts a space"
    assert complete_words("EDGE.min_p") == ["edge.min_p_edge", "edge.min_psr"]
    assert complete_words("stand") == [], "a shell would take it for two words"
    assert _complete_units("t") == ["trade"]
    (tmp_path / "hftcl.toml").write_text("[nonsense")
    assert (complete_models(""), complete_parameters("")) == ([], [])
