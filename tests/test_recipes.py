"""The recipes of docs/plugins.md are true: each block, as it stands there, is installed as a stranger's and used."""

import contextlib
import json
import os
import re
import runpy
import shutil
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

import polars as pl
import pytest

import hftcl
from hftcl.archive import artifact
from hftcl.contracts import check_broker, check_family, check_feed, check_source
from hftcl.events import OnEvent
from hftcl.home import Home
from hftcl.ledger.reader import LedgerReader
from hftcl.market.bars import MINUTE
from hftcl.market.hours import find_hours
from hftcl.market.sessions import Calendar
from hftcl.market.sources import find_source
from hftcl.market.sources.synthetic import SyntheticSource
from hftcl.model.families import find_family
from hftcl.settings import Settings
from hftcl.trading.brokers import find_broker
from hftcl.trading.feeds import Feed, find_feed
from hftcl.trading.run.clock import SimulatedClock
from hftcl.trading.run.controls import Controls
from hftcl.trading.run.guards import require_present
from hftcl.trading.run.live import trade
from hftcl.trading.run.present import Present
from tests.in_process import call
from tests.installed import give_calendar, one_line, run
from tests.loop_cases import QUICK_TOML, RETRAIN, small
from tests.trading.bot_stand import CALENDAR, DAY, archived, session_minutes
from tests.trading.trading_cases import NOW, an_order, bars

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "plugins.md"
Recipe = tuple[str, str]


def read_recipes() -> dict[str, Recipe]:
    """Return (module, pyproject.toml) of each recipe by its heading; the feature has no pyproject.toml."""
    sections = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]
    found = {}
    for section in sections:
        module = re.search(r"```python\n(.*?)```", section, flags=re.DOTALL)
        project = re.search(r"```toml\n(.*?)```", section, flags=re.DOTALL)
        assert module is not None, section
        found[section.partition("\n")[0]] = module[1], project[1] if project else ""
    return found


RECIPES: Final = read_recipes()
PLUGINS: Final = ("A family", "A source", "A feed", "A broker")


def install(site: Path, *headings: str) -> None:
    """Lay down each recipe as pip would: the module, and beside it the distribution's metadata."""
    for heading in headings:
        module, text = RECIPES[heading]
        project = tomllib.loads(text)["project"]
        groups = project["entry-points"]
        (target,) = {target for points in groups.values() for target in points.values()}
        site.mkdir(exist_ok=True)
        (site / f"{target.partition(':')[0]}.py").write_text(module)
        folder = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        )
        lines = [
            line
            for group, points in groups.items()
            for line in (f"[{group}]", *(f"{k} = {v}" for k, v in points.items()))
        ]
        (folder / "entry_points.txt").write_text("\n".join(lines) + "\n")


def write_database(path: Path, tickers: tuple[str, ...], first: date, last: date) -> None:
    """Write the table that the source reads, from the synthetic market."""
    market = SyntheticSource(small(Path()))
    frame = pl.concat(market.minutes(ticker, first, last) for ticker in tickers)
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE bars (ticker, ts, open, high, low, close, volume)")
        rows = frame.with_columns(pl.col("ts").dt.epoch("s")).iter_rows()
        database.executemany("INSERT INTO bars VALUES (?, ?, ?, ?, ?, ?, ?)", rows)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield a folder on this process's path that holds all four plug-ins; they are forgotten afterwards."""
    folder = tmp_path / "site"
    install(folder, *PLUGINS)
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if name.startswith("acme_"):
            del sys.modules[name]


def settings_with(home: Path, **sections: dict[str, object]) -> Settings:
    """Return settings whose source is the stranger's, on the table `bars.sqlite` of `home`."""
    settings = small(home, market={"source": "acme", "watchlist": ("AAPL", "AMD", "TSLA")}, **sections)
    kind: Any = find_source("acme").SETTINGS  # type: ignore[attr-defined]
    return replace(settings, plugins={"acme": kind(database=str(home / "bars.sqlite"))})


def test_every_recipe_is_there_and_short_enough_to_be_read() -> None:
    assert set(RECIPES) == {*PLUGINS, "A feature"}
    for heading, (module, project) in RECIPES.items():
        assert len([line for line in module.splitlines() if line.strip()]) <= 65, heading
        assert bool(project) == (heading in PLUGINS)


# ---- the promises ----------------------------------------------------------------------------------------------------


def test_the_family_keeps_its_promises(site: Path) -> None:
    assert check_family(find_family("extra")) == ()


def test_the_source_keeps_its_promises(site: Path, tmp_path: Path) -> None:
    first, last = date(2025, 6, 2), date(2025, 6, 4)
    write_database(tmp_path / "bars.sqlite", ("AAPL",), first, last)
    source = find_source("acme")(settings_with(tmp_path))
    assert check_source(source, "AAPL", first, last, datetime(2025, 6, 10, tzinfo=UTC)) == ()


def test_the_broker_keeps_its_promises(site: Path, tmp_path: Path) -> None:
    broker = find_broker("acmebank")(Settings(), folder=tmp_path)
    minutes = iter(range(1, 100))
    assert check_broker(broker, an_order(0), lambda: broker.on_bars(bars((next(minutes), "AAPL", 100.0)), NOW)) == ()


def test_the_feed_keeps_its_promises(site: Path, tmp_path: Path) -> None:
    write_database(tmp_path / "bars.sqlite", ("AAPL", "AMD", "TSLA"), CALENDAR.find_previous_session(DAY, 5), DAY)
    feed = find_feed("acme-asks")(settings_with(tmp_path), CALENDAR, lambda: False, lambda _: None)
    hours = find_hours(CALENDAR, DAY, extended_hours=False)
    assert check_feed(feed, hours, session_minutes()[60:64], lambda minute: minute + MINUTE) == ()


def test_the_feature_keeps_its_promises(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """As a script with nothing but its own imports; in this process, for another one would load for a second."""
    script = tmp_path / "feature.py"
    script.write_text(RECIPES["A feature"][0])
    runpy.run_path(str(script), run_name="__main__")
    assert capfd.readouterr() == ("ret_60 keeps its promises\n", "")


# ---- as a user -------------------------------------------------------------------------------------------------------


def test_a_retrain_and_a_replay_work_with_a_strangers_family_source_and_broker(site: Path, tmp_path: Path) -> None:
    """The retrain in processes of its own, as the training's; what follows in this one, which finds the same site."""
    home = tmp_path / "home"
    home.mkdir()
    write_database(home / "bars.sqlite", ("AAPL", "AMD"), date(2025, 10, 20), date(2025, 12, 15))
    text = QUICK_TOML.replace("[market]", '[market]\nsource = "acme"')
    text = text.replace('family = "ridge"', 'family = "extra"')
    (home / "hftcl.toml").write_text(
        text + '[trade]\nbroker = "acmebank"\nfeed = "acme-asks"\n'
        f'[acme]\ndatabase = "{home / "bars.sqlite"}"\n[extra]\ntrees = 9\n[acmebank]\ncash = 50000\n'
        "[exam]\nplausible_sharpe = 1000\n"  # its bars are said to be real, and hold an edge that no real ones do
    )
    done = run(home, *RETRAIN, PYTHONPATH=os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]).rstrip(":"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["outcome"] == "deployed", done.stdout
    meta = artifact.describe(Home.live(home).production)
    assert (meta.family, meta.params, meta.source) == ("extra", {"trees": 9, "leaf": 50}, "acme")
    for _ in range(2):  # the account of each replay is new
        done = call(home, "trade", "--replay", "2025-11-28", "--json")
        report = json.loads(done.stdout)
        assert (report["broker"], report["capital"], report["apart"]) == ("acmebank", 50_000.0, {}), done.stderr
        assert report["fills"] > 0
    done = call(home, "doctor", "--json")
    assert "acme answers" in [row["detail"] for row in json.loads(done.stdout) if row["name"] == "source"], done.stdout
    text = (site / "acme_broker.py").read_text()
    ends = "def close(self):\n        import pathlib\n        pathlib.Path(self.told).touch(exist_ok=False); {}['late']"
    closing = text.replace("def close(self):\n        pass", ends)
    for number, (change, status, told) in enumerate(
        [
            (('"acmebank", False', '"acmebank", True'), 78, "no replay moves money"),
            (("def account(self):", "def account(self):\n        {}['lost']"), 1, "KeyError: 'lost'"),
        ]
    ):
        closed = home / f"closed {number}"
        rewrite_broker(site, closing.replace(*change).replace("self.told", repr(str(closed))))
        refused = call(home, "trade", "--replay", "2025-11-28")
        assert (refused.returncode, told in one_line(refused), closed.exists()) == (status, True, True), refused
    rewrite_broker(site, text.replace("(replays=True)", "()").replace("self._cash =", "raise RuntimeError  #"))
    done = call(home, "trade", "--replay", "2025-11-28", "--json")
    assert json.loads(done.stdout)["broker"] == "paper", "a broker that does not say that it replays is never made"
    refused = call(home, "retrain", "--force", "--param", "trees=0")
    assert (refused.returncode, "not a whole number from 1 to 5000" in one_line(refused)) == (2, True)


def rewrite_broker(site: Path, text: str) -> None:
    """Write the broker's module over, and have this process load it when it next asks for it."""
    (site / "acme_broker.py").write_text(text)
    del sys.modules["acme_broker"]


class Ending(SimulatedClock):
    """A clock that has the bot stop at a moment."""

    def __init__(self, start: datetime, end: datetime, controls: Controls) -> None:
        super().__init__(start)
        self._end, self._controls = end, controls

    def wait_until(self, moment: datetime) -> bool:
        if moment >= self._end:
            self._controls.stop = True
        return super().wait_until(moment)


@dataclass
class Silent:
    """A supervisor that hears nothing."""

    def tell_ready(self) -> None: ...
    def tell_alive(self) -> None: ...
    def tell_status(self, text: str) -> None: ...
    def tell_stopping(self) -> None: ...


def test_a_strangers_source_trades_live_with_a_strangers_feed(site: Path, tmp_path: Path) -> None:
    write_database(tmp_path / "bars.sqlite", ("AAPL", "AMD", "TSLA"), CALENDAR.find_previous_session(DAY, 8), DAY)
    archived(tmp_path, source="acme", synthetic=False)
    settings = settings_with(tmp_path, trade={"feed": "acme-asks"})
    require_present(settings)
    minutes, controls = session_minutes(), Controls(halt_file=Home.live(tmp_path).halt_file)

    def feed(calendar: Calendar, extended: Callable[[], bool], hears: OnEvent) -> Feed:
        return find_feed(settings.trade.feed)(settings, calendar, extended, hears)

    present = Present(
        clock=Ending(minutes[60], minutes[90], controls),
        feed=feed,
        service=Silent(),
        controls=controls,
        on_event=lambda _: None,
        on_alert=lambda _: None,
    )
    report = trade(settings, present, real_money=False)
    assert report.halted is None
    assert report.decisions >= 3 * 25
    assert report.orders > 0
    with LedgerReader(Home.live(tmp_path).ledger) as ledger:
        assert (ledger.open_meta()["source"], ledger.open_meta()["synthetic"]) == ("acme", "0")
        assert ledger.read_fills().height > 0


def test_a_strangers_source_without_a_present_is_refused_as_ours_are(tmp_path: Path) -> None:
    site, home = tmp_path / "site", tmp_path / "home"
    home.mkdir()
    install(site, "A source")
    module = site / "acme_source.py"
    module.write_text(module.read_text().replace("    synthetic = False\n", "    synthetic = False\n    past = True\n"))
    (home / "hftcl.toml").write_text('[market]\nsource = "acme"\n')
    done = run(home, "trade", "--once", PYTHONPATH=str(site))
    assert (done.returncode, "'acme' has no bars of the present" in one_line(done)) == (78, True)


def test_a_retrain_works_with_the_feature_in_the_table(tmp_path: Path) -> None:
    package = tmp_path / "copy" / "hftcl"
    shutil.copytree(Path(hftcl.__file__).parent, package)  # as compiled: only the table is compiled again
    row = re.search(r"^FEATURE = (Feature\(.*?^\))", RECIPES["A feature"][0], flags=re.DOTALL | re.MULTILINE)
    table = package / "model" / "definitions.py"
    end = ')\n"""The model\'s input columns'
    assert row is not None
    assert table.read_text().count(end) == 1
    table.write_text(table.read_text().replace(end, f"    {row[1]},\n{end}"))
    home = tmp_path / "home"
    home.mkdir()
    (home / "hftcl.toml").write_text(QUICK_TOML)
    give_calendar(home)
    done = subprocess.run(
        [sys.executable, "-m", "hftcl", *RETRAIN],
        cwd=home,
        env={**os.environ, "PYTHONPATH": str(package.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert artifact.describe(Home.live(home).production).feature_names[-1] == "ret_60"
