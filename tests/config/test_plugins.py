"""A stranger's plug-in brings its own section of hftcl.toml, held to what ours are held to."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from hftcl.cli.process import _unwind
from hftcl.config.plugins import _add_section
from hftcl.entry_points import list_entry_points
from hftcl.market.layouts import find_layouts
from hftcl.market.sources import find_source
from hftcl.model.families import find_family
from hftcl.trading.brokers import find_broker
from hftcl.trading.feeds import find_feed
from tests.installed import one_line, run
from tests.test_entry_points import install

PLUGIN = '''
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from hftcl.market.sources.synthetic import SyntheticSource
from hftcl.settings import setting

Path(__file__).with_name("imported").touch()


@dataclass(frozen=True, slots=True, kw_only=True)
class Acme:
    """The source `acme`."""

    drift: Annotated[float, setting("Daily drift.", ge=0, le=1)] = 0.5
    side: Annotated[Literal["bid", "ask"], setting("Side of the book.")] = "bid"


class AcmeSource(SyntheticSource):
    name = "acme"
    SETTINGS = Acme

    def __init__(self, settings):
        super().__init__(settings)
        self.own = settings.of_plugin(Acme)

    def fingerprint(self, ticker):
        Path("told.txt").write_text(repr(self.own))
        return super().fingerprint(ticker)
'''

MINE = '[market]\nsource = "acme"\nwatchlist = ["AAPL"]\nlookback_days = 5\n[acme]\n'


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a folder to run in, beside an installed package `acme_bars` with one source."""
    site = tmp_path / "site"
    folder = site / "acme_bars-1.0.dist-info"
    folder.mkdir(parents=True)
    (site / "acme_bars.py").write_text(PLUGIN)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-bars\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[hftcl.sources]\nacme = acme_bars:AcmeSource\n")
    home = tmp_path / "home"
    home.mkdir()
    return home


def on_path(home: Path) -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join([str(home.parent / "site"), os.environ.get("PYTHONPATH", "")]).rstrip(":")}


def was_imported(home: Path) -> bool:
    return (home.parent / "site" / "imported").exists()


def test_what_a_stranger_brings_is_shown_with_its_origin(home: Path) -> None:
    (home / "hftcl.toml").write_text(MINE + "drift = 0.25\n")
    done = run(home, "init", "--show", "--json", **on_path(home), HFTCL_ACME__SIDE="ask")
    rows = {row["key"]: row for row in json.loads(done.stdout)}
    assert (rows["acme.drift"]["value"], rows["acme.drift"]["description"]) == (0.25, "Daily drift.")
    assert (rows["acme.side"]["value"], rows["acme.side"]["origin"]) == ("ask", "HFTCL_ACME__SIDE")


def test_every_fault_in_a_strangers_section_is_told_with_ours(home: Path) -> None:
    (home / "hftcl.toml").write_text(MINE + "drift = 2\nsid = 'bid'\n[model]\nmax_depth = 0\n")
    done = run(home, "check", **on_path(home))
    assert done.returncode == 78
    assert "acme.drift = 2, but it must be a number from 0 to 1" in done.stderr
    assert "there is no setting acme.sid; did you mean acme.side?" in done.stderr
    assert "model.max_depth = 0" in done.stderr


def test_a_section_of_a_stranger_that_is_misspelt_is_a_fault(home: Path) -> None:
    (home / "hftcl.toml").write_text(MINE.replace("[acme]", "[acmee]"))
    assert "did you mean [acme]?" in one_line(run(home, "check", **on_path(home)))


def test_the_values_reach_the_stranger_as_its_own_type(home: Path) -> None:
    (home / "hftcl.toml").write_text(MINE + "drift = 0.25\n")
    done = run(home, "prove", **on_path(home))
    assert (home / "told.txt").read_text() == "Acme(drift=0.25, side='bid')", done.stderr


@pytest.mark.parametrize("command", ["--help", "history", "trade --status"])
def test_a_command_without_use_for_a_stranger_does_not_import_it(home: Path, command: str) -> None:
    (home / "hftcl.toml").write_text(MINE + "drift = 0.25\n")
    done = run(home, *command.split(), **on_path(home))
    assert (done.returncode, was_imported(home)) == (0, False), done.stderr


BRINGS = '''
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from {module} import {base}
from hftcl.settings import setting

Path(__file__).with_name("imported").touch()


@dataclass(frozen=True, slots=True, kw_only=True)
class AcmeSettings:
    """What acme needs."""

    depth: Annotated[int, setting("How deep.", ge=1, le=9)] = 3


class Acme({base}):
    name = "acme"
    SETTINGS = AcmeSettings
'''
KINDS = {
    "source": ("hftcl.sources", "market", "hftcl.market.sources.synthetic", "SyntheticSource"),
    "feed": ("hftcl.feeds", "trade", "hftcl.trading.feeds.replay", "StoredFeed"),
    "broker": ("hftcl.brokers", "trade", "hftcl.trading.brokers.paper", "PaperBroker"),
    "family": ("hftcl.families", "model", "hftcl.model.families.forest", "Forest"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_plug_in_brings_a_section_that_is_judged_and_shown(home: Path, kind: str) -> None:
    group, section, module, base = KINDS[kind]
    site = home.parent / "site"
    (site / "acme_bars.py").write_text(BRINGS.format(module=module, base=base))
    (site / "acme_bars-1.0.dist-info" / "entry_points.txt").write_text(f"[{group}]\nacme = acme_bars:Acme\n")
    toml = home / "hftcl.toml"

    toml.write_text(f'[{section}]\n{kind} = "acme"\n[acme]\ndepth = 4\n')
    assert run(home, "history", **on_path(home)).returncode == 0
    assert not was_imported(home), "history has no use for it"
    done = run(home, "init", "--show", "--json", **on_path(home))
    (row,) = [row for row in json.loads(done.stdout) if row["key"] == "acme.depth"]
    assert (row["value"], row["description"]) == (4, "How deep.")
    done = run(home, "init", "--show", "--json", HFTCL_ACME__DEPTH="5", **on_path(home))
    assert {"acme.depth": 5}.items() <= {row["key"]: row["value"] for row in json.loads(done.stdout)}.items()

    toml.write_text(f'[{section}]\n{kind} = "acme"\n[acme]\ndepth = 10\ndept = 1\n[acmee]\ndepth = 4\n')
    done = run(home, "check", **on_path(home))
    assert done.returncode == 78
    assert "acme.depth = 10, but it must be an integer from 1 to 9" in done.stderr
    assert "there is no setting acme.dept; did you mean acme.depth?" in done.stderr
    assert "there is no section [acmee]; did you mean [acme]?" in done.stderr


def test_a_stranger_that_is_not_in_use_keeps_its_section_and_is_not_imported(home: Path) -> None:
    (home / "hftcl.toml").write_text("[acme]\ndrift = 0.25\n")
    assert (run(home, "check", **on_path(home)).returncode, was_imported(home)) == (0, False)


def test_a_stranger_whose_section_has_a_number_without_bounds_is_refused(home: Path) -> None:
    (home / "hftcl.toml").write_text(MINE)
    module = home.parent / "site" / "acme_bars.py"
    module.write_text(PLUGIN.replace(", ge=0, le=1", ""))
    done = run(home, "check", **on_path(home))
    assert (done.returncode, "acme.drift is a number without a least and a greatest value" in done.stderr) == (78, True)


@pytest.mark.parametrize(
    ("group", "load"),
    [
        ("sources", lambda: _add_section({}, list_entry_points("hftcl.sources")["mine"])),
        ("sources", lambda: find_source("mine")),
        ("families", lambda: find_family("mine")),
        ("feeds", lambda: find_feed("mine")),
        ("brokers", lambda: find_broker("mine")),
        ("layouts", find_layouts.__wrapped__),
    ],
    ids=["section", "source", "family", "feed", "broker", "layout"],
)
def test_a_plug_in_that_makes_something_else_of_a_stop_is_stopped_all_the_same(
    group: str, load: Callable[[], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "import os\ntry:\n    os.kill(os.getpid(), 15)\nexcept BaseException:\n    raise ImportError from None\n"
    (tmp_path / "that_is_stopped.py").write_text(text)
    install(tmp_path, "that_is_stopped", f"hftcl.{group}", "mine")
    monkeypatch.syspath_prepend(tmp_path)
    before = signal.signal(signal.SIGTERM, _unwind)
    try:
        with pytest.raises(SystemExit) as stopped:
            load()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert stopped.value.code == 128 + signal.SIGTERM
