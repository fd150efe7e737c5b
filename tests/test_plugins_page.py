"""docs/plugins.md is a stranger's package: its blocks are installed as they stand there, and used as a user would."""

import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from hftcl.contracts import check_broker, check_feed
from hftcl.events import ignore
from hftcl.market.bars import MINUTE
from hftcl.market.hours import find_hours
from hftcl.market.sessions import Calendar
from hftcl.market.sources.synthetic import SyntheticSource
from hftcl.settings import Market, Settings
from tests.installed import answer, run
from tests.trading.trading_cases import NOW, an_order
from tests.trading.trading_cases import bars as some_bars

PAGE = Path(__file__).resolve().parents[1] / "docs" / "plugins.md"
FIRST, LAST = date(2025, 4, 21), date(2025, 6, 6)
CALENDAR = Calendar("XNYS")
SECTIONS = {"source": "acme", "feed": "acme", "family": "acme-trees", "broker": "acme-broker"}
SETTINGS = {  # of each kind of plug-in: one of its settings, a value, one that is not allowed, and one misspelt
    "source": ("folder", '"vendor"', "7", "foldr"),
    "feed": ("folder", '"vendor"', "7", "foldr"),
    "family": ("trees", "20", "0", "tres"),
    "broker": ("tag", '"desk-1"', "7", "tagg"),
}
NAMED = {
    "source": '[market]\nsource = "acme"\n',
    "feed": '[trade]\nfeed = "acme"\n',
    "family": '[model]\nfamily = "acme-trees"\n',
    "broker": '[trade]\nbroker = "acme"\n',
}


def list_blocks(language: str) -> dict[str, str]:
    """Return the blocks of the page by the file's name, or what else is in the comment that opens each."""
    found = re.findall(rf"```{language}\n# ([^\n]*)\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    return dict(found)


def install(site: Path) -> None:
    """Write the package of the page into `site` as pip would have installed it."""
    for name, code in list_blocks("python").items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(code)
    project = tomllib.loads(list_blocks("toml")["pyproject.toml of your package"])["project"]
    info = site / f"{project['name']}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items()) for group, points in groups
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))


def write_vendor_files(folder: Path) -> None:
    """Write the vendor's files: one CSV for each ticker."""
    folder.mkdir(parents=True)
    for ticker in ("AAPL", "AMD"):
        bars = SyntheticSource(Settings()).minutes(ticker, FIRST, LAST).drop("ticker")
        bars.with_columns(pl.col("ts").dt.strftime("%Y-%m-%dT%H:%M:%SZ")).write_csv(folder / f"{ticker}.csv")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder to run in, beside the installed package of the page."""
    install(tmp_path / "site")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path / "site"), os.getenv("PYTHONPATH")])))
    home = tmp_path / "home"
    home.mkdir()
    return home


@pytest.fixture
def acme(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return what imports a module of the package into this process."""
    monkeypatch.syspath_prepend(str(home.parent / "site"))
    yield importlib.import_module
    for name in list(sys.modules):
        if name.startswith("acme_"):
            del sys.modules[name]


def test_the_package_of_the_page_keeps_its_promises(home: Path) -> None:
    write_vendor_files(home / "vendor")
    script = home.parent / "site" / "test_acme.py"
    done = subprocess.run([sys.executable, script], cwd=home, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_package_of_the_page_trains_and_shows_its_settings(home: Path) -> None:
    write_vendor_files(home / "vendor")
    (home / "hftcl.toml").write_text(list_blocks("toml")["hftcl.toml of its user"])
    retrained = answer(home, "retrain", "--force")
    assert retrained["model_id"], retrained
    (model,) = answer(home, "history")
    assert model["source"] == "acme"
    shown = {row["key"]: row["value"] for row in answer(home, "init", "--show")}
    assert (shown["acme-trees.trees"], shown["acme-broker.tag"]) == (20, "desk-1")


def test_the_feed_of_the_page_keeps_its_promises(home: Path, acme: Any) -> None:
    write_vendor_files(home / "vendor")
    source, feed = acme("acme_source"), acme("acme_feed")
    settings = Settings(
        market=Market(source="acme", watchlist=("AAPL", "AMD")),
        plugins={"acme": source.Acme(folder=str(home / "vendor"))},
    )
    object.__setattr__(settings.paths, "home", str(home))
    hours = find_hours(CALENDAR, LAST, extended_hours=False)
    minutes = [hours.begins + (60 + n) * MINUTE for n in range(4)]
    made = feed.AcmeFeed(settings, CALENDAR, lambda: False, ignore)
    assert check_feed(made, hours, minutes, lambda minute: minute + MINUTE + timedelta(seconds=3)) == ()


def test_the_broker_of_the_page_keeps_its_promises_and_sends_what_it_took(home: Path, acme: Any) -> None:
    module = acme("acme_broker")
    broker = module.AcmeBroker(Settings(plugins={"acme-broker": module.Desk(tag="desk-1")}), folder=home, durable=False)
    minutes = iter(range(1, 100))
    order = an_order(0)
    assert check_broker(broker, order, lambda: broker.on_bars(some_bars((next(minutes), "AAPL", 100.0)), NOW)) == ()
    broker.close()
    slips = (home / "slips.txt").read_text().splitlines()
    assert slips[0] == f"desk-1 {order.client_order_id} 10 AAPL"
    assert len(slips) == len(set(slips))


@pytest.mark.parametrize("kind", sorted(SETTINGS))
def test_the_section_of_each_kind_of_plug_in_is_shown_with_its_origin(home: Path, kind: str) -> None:
    name, value, _, _ = SETTINGS[kind]
    (home / "hftcl.toml").write_text(f"{NAMED[kind]}[{SECTIONS[kind]}]\n{name} = {value}\n")
    rows = {row["key"]: row for row in json.loads(run(home, "init", "--show", "--json").stdout)}
    row = rows[f"{SECTIONS[kind]}.{name}"]
    assert (row["value"], row["origin"]) == (json.loads(value), str(home / "hftcl.toml"))
    assert row["description"]


@pytest.mark.parametrize("kind", sorted(SETTINGS))
def test_faults_in_the_section_of_each_kind_of_plug_in_are_told(home: Path, kind: str) -> None:
    name, _, wrong, misspelt = SETTINGS[kind]
    key = f"{SECTIONS[kind]}.{name}"
    (home / "hftcl.toml").write_text(f"{NAMED[kind]}[{SECTIONS[kind]}]\n{name} = {wrong}\n{misspelt} = 1\n")
    done = run(home, "check")
    assert done.returncode == 78
    assert f"{key} = {wrong}, but it must be" in done.stderr
    assert f"there is no setting {SECTIONS[kind]}.{misspelt}; did you mean {key}?" in done.stderr
