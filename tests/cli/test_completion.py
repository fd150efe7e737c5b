"""What completes in a shell: model ids, the parameters of the family, units; nothing where the home is broken."""

from datetime import timedelta
from pathlib import Path

import pytest

from hftcl.cli.app import complete_models, complete_parameters
from hftcl.cli.doctor import _complete_units
from tests.trading.bot_stand import TRAINED, archived


def test_ids_parameters_and_units_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert complete_models("") == []
    one, other = (archived(tmp_path, TRAINED + timedelta(hours=n), deploy=False) for n in (0, 1))
    assert complete_models("") == [other, one]
    assert complete_models(one) == [one]
    assert complete_parameters("max_d") == ["max_depth="]
    assert _complete_units("t") == ["trade"]
    (tmp_path / "hftcl.toml").write_text("[nonsense")
    assert (complete_models(""), complete_parameters("")) == ([], [])
