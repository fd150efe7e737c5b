"""What the parts of the page read: which model serves and why, also after a person went back to an older one."""

from datetime import timedelta
from pathlib import Path

from hftcl.archive.registry import Registry
from hftcl.dashboard.contents import ModelsContent
from hftcl.dashboard.parts import PARTS, Sight
from hftcl.formats import describe_edge
from hftcl.learning.stored_report import read_report
from hftcl.views import archive
from hftcl.views.blocks import Line, collect_blocks
from tests.archive.sample_models import T0, archive_in, deployed
from tests.config.configured import loaded
from tests.loop_cases import deploy_once
from tests.trained import Homes


def read_lines(home: Path) -> list[str]:
    """Return the lines at the top of the page that tell of models."""
    (part,) = (part for part in PARTS if part.name == "models")
    content = part.read(Sight(configuration=loaded(home), environ={}, now=T0 + timedelta(days=30)))
    assert isinstance(content, ModelsContent)
    return [block.text for block in content.edge if isinstance(block, Line)]


def test_it_is_told_since_when_a_model_serves_and_why(tmp_path: Path) -> None:
    models = archive_in(tmp_path)
    first, second, third = deployed(models, 3)
    (line,) = [line for line in read_lines(tmp_path) if " serves since " in line]
    assert line.startswith(f"{third} serves since 20")
    assert ", by deploy" in line
    assert "pinned" not in line
    models.rollback(None, now=T0 + timedelta(days=20), reason="it trades too much")
    (line,) = [line for line in read_lines(tmp_path) if " serves since " in line]
    assert line.startswith(f"{second} serves since 20")
    assert line.endswith("by rollback, pinned: it trades too much")
    models.unpin(now=T0 + timedelta(days=21))
    (line,) = [line for line in read_lines(tmp_path) if " serves since " in line]
    assert "pinned" not in line
    assert first not in line


def test_after_a_rollback_its_own_retrain_is_told_too(tmp_path: Path, homes: Homes) -> None:
    homes.copy(tmp_path / "home", deploy_once)
    report = read_report(Registry(tmp_path / "home").models()[0].report)
    assert report is not None
    assert collect_blocks(archive.draw_serving, "m", None, None) == ()
    (line,) = collect_blocks(archive.draw_serving, "m", None, report)
    assert isinstance(line, Line)
    assert line.text == f"Its own retrain said {describe_edge(report.edge)}: {report.edge_reason}"
