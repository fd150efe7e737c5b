"""What the code of a plug-in raises ends a command in plain words, which name the plug-in."""

import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hftcl.api.continuous_learning import ContinuousLearning
from hftcl.errors import ConfigError, PlugInError, TrainingError
from hftcl.events import ignore
from hftcl.exam.student import compute_t_quantile
from hftcl.market.sessions import Calendar
from hftcl.market.sources import make_source, open_source
from hftcl.model.families import find_family
from hftcl.model.training import TrainingTask, train
from hftcl.plug_ins import SETTINGS, CallersOwn, find_plug_in_fault, name_plug_ins
from hftcl.settings import Market, Paths, Settings, Trade
from hftcl.trading.brokers import open_broker
from hftcl.trading.execute.patience import wait_for_all
from hftcl.trading.feeds import open_feed
from tests.in_process import call
from tests.installed import one_line, run

DAY = date(2025, 6, 4)
SMALL = '[market]\nwatchlist = ["AAPL"]\nlookback_days = 5\n'
SOURCE = "from hftcl.market.sources.synthetic import SyntheticSource as Base\n"
FEED = "from hftcl.trading.feeds.replay import StoredFeed as Base\n"
BROKER = "from hftcl.trading.brokers.paper import PaperBroker as Base\n"
FAMILY = "from hftcl.model.families.ridge import Ridge as Base\n"
LAYOUT = "from hftcl.market.layouts import Layout\n"
RAISES = "class Acme(Base):\n    name = 'acme'\n    def {method}(self, *given, **more):\n        {body}\n"
ODD = "raise ValueError('an odd thing\\nof two lines.')"
TOLD = "ValueError: an odd thing of two lines"


@dataclass(frozen=True, slots=True)
class Stranger:
    """A package with one plug-in, and the settings and the command that meet it."""

    group: str
    code: str
    toml: str
    command: str
    told: str
    status: int = 1


def of_source(body: str, told: str, method: str = "minutes", status: int = 1) -> Stranger:
    code = SOURCE + RAISES.format(method=method, body=body)
    return Stranger("sources", code, 'source = "acme"\n', "retrain", told, status)


def of_family(method: str, body: str = ODD, told: str = TOLD) -> Stranger:
    code = FAMILY + RAISES.format(method=method, body=body)
    return Stranger("families", code, '[model]\nfamily = "acme"\n', "retrain", told)


def of_broker(method: str, body: str = ODD, told: str = TOLD) -> Stranger:
    code = BROKER + RAISES.format(method=method, body=body)
    return Stranger("brokers", code, '[trade]\nbroker = "acme"\n', "doctor", told)


def of_layout(code: str, told: str, status: int = 1) -> Stranger:
    return Stranger("layouts", LAYOUT + code, "", "inspect bars", told, status)


STOPPED = "import os\n        try:\n            os.kill(os.getpid(), 15)\n        except BaseException:\n            "
WHERE = "failed in Acme.{} (acme_plug.py, line "
MADE = "could not be made: "
LOOSE = "Layout(name='acme', title='A', page='https://a', marks=frozenset({'a'}), "
POINTS = {
    "a source's factory": of_source(ODD, MADE + TOLD, "__init__"),
    "a source's exit": of_source("raise SystemExit(0)", MADE + "SystemExit: 0", "__init__"),
    "a source's import": Stranger(
        "sources", "raise ZeroDivisionError('no')\n", 'source = "acme"\n', "retrain",
        "cannot be imported (ZeroDivisionError: no)", 78,
    ),
    "a source's import that exits": Stranger(
        "sources", "raise SystemExit(0)\n", 'source = "acme"\n', "retrain", "cannot be imported (SystemExit: 0)", 78
    ),
    "a source's nothing": of_source("return None", "does not keep its promises: there is no name; ", "__new__"),
    "a source's fingerprint": of_source(ODD, WHERE.format("fingerprint"), "fingerprint"),
    "a source's bars": of_source(ODD, TOLD),
    "a source's splits": of_source(ODD, WHERE.format("splits"), "splits"),
    "a source's newest minute": of_source(ODD, WHERE.format("known_until"), "known_until"),
    "a source's broken pipe": of_source("raise BrokenPipeError(32, 'no reader')", "BrokenPipeError: [Errno 32] no"),
    "a source's full disk": of_source("raise OSError(28, 'no room')", "OSError: [Errno 28] no room"),
    "a source's own file": of_source("open('/no/such/file')", "FileNotFoundError: [Errno 2] No such file"),
    "a source's exit in the middle": of_source("exit(0)", "SystemExit: 0"),
    "a source's own word": of_source(
        "from hftcl.errors import SourceError; raise SourceError('acme rests on Sundays. Wait.')",
        "acme rests on Sundays. Wait.",
    ),
    "a family's factory": of_family("__init__", told=MADE + TOLD),
    "a family's parameters": of_family("parameters", told=WHERE.format("parameters")),
    "a family's check": of_family("check", told=WHERE.format("check")),
    "a broker's factory": of_broker("__init__", told=MADE + TOLD),
    "a broker's account": of_broker("account"),
    "a broker's account, though its end raises too": of_broker(
        "account", ODD + "\n    def close(self):\n        raise KeyError('late')"
    ),
    "a broker's exit": of_broker("account", "raise SystemExit(0)", "SystemExit: 0"),
    "a layout's import": of_layout("raise ValueError('no')", "cannot be imported (ValueError: no)", 78),
    "a layout's match": of_layout(
        f"def applies(sheet):\n    {ODD}\nAcme = {LOOSE}applies=applies)\n", "failed in applies (acme_plug.py, line 3)"
    ),
    "a layout's table": of_layout(
        f"def reshape(sheet):\n    {ODD}\nAcme = {LOOSE}applies=lambda sheet: True, reshape=reshape)\n",
        "failed in reshape (acme_plug.py, line 3)",
    ),
}  # fmt: skip


def install(site: Path, stranger: Stranger, name: str = "acme_plug") -> None:
    folder = site / f"{name}-1.0.dist-info"
    folder.mkdir(parents=True)
    (site / f"{name}.py").write_text(stranger.code)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(f"[hftcl.{stranger.group}]\nacme = {name}:Acme\n")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return where packages can be installed for this test."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    yield site
    sys.modules.pop("acme_plug", None)


def prepare(place: Path, stranger: Stranger) -> Path:
    install(place, stranger)
    home = place.parent / "home"
    home.mkdir()
    (home / "hftcl.toml").write_text(SMALL + stranger.toml)
    (home / "bars").mkdir()
    bars = "a,ts,open,high,low,close,volume\n1,2026-01-06T14:30:00Z,1.5,2,1,1.75,100\n"
    (home / "bars" / "AAPL.csv").write_text(bars)
    return home


@pytest.mark.parametrize("point", POINTS)
def test_what_a_plug_in_raises_is_told_in_plain_words_that_name_it(place: Path, point: str) -> None:
    stranger = POINTS[point]
    home = prepare(place, stranger)
    if stranger.group == "layouts":  # which a process looks for once
        done = run(home, *stranger.command.split(), PYTHONPATH=str(place))
    else:
        done = call(home, *stranger.command.split())
    told = one_line(done) if stranger.command != "doctor" else " ".join(done.stdout.split())
    assert stranger.told in told, done
    assert done.returncode == stranger.status, done
    assert "Traceback" not in done.stderr
    if "own word" not in point:
        assert f"The plug-in 'acme' of {SETTINGS[f'hftcl.{stranger.group}']}" in told


def test_a_traceback_of_a_plug_in_is_shown_where_it_is_asked_for(place: Path) -> None:
    home = prepare(place, POINTS["a source's bars"])
    done = call(home, "retrain", "-vv")
    assert (done.returncode, "acme_plug.py" in done.stderr, "Traceback" in done.stderr) == (1, True, True)


@pytest.mark.parametrize(("body", "told"), [(ODD, TOLD), ("raise SystemExit(0)", "SystemExit: 0")])
def test_what_a_family_raises_in_the_training_process_names_it_too(place: Path, body: str, told: str) -> None:
    install(place, of_family("fit", body))
    X = np.arange(40, dtype=np.float32).reshape(20, 2)
    fitted = np.arange(20) < 15
    task = TrainingTask(X=X, y=X[:, 0].copy(), fitted=fitted, held_out=~fitted, family="acme")
    with pytest.raises(TrainingError) as failed:
        train(task)
    where = "The plug-in 'acme' of [model] family failed in Acme.fit (acme_plug.py, line 5)"
    assert f"{where}: {told}." in str(failed.value)
    assert "Traceback" in "".join(failed.value.__notes__)


def test_a_python_program_gets_the_same_words_and_what_was_raised_as_their_cause(place: Path, tmp_path: Path) -> None:
    install(place, POINTS["a source's bars"])
    market = Market(source="acme", watchlist=("AAPL",), lookback_days=5)
    learner = ContinuousLearning(Settings(market=market, paths=Paths(home=str(tmp_path))), on_event=ignore)
    with pytest.raises(PlugInError, match=TOLD) as failed:
        learner.retrain(force=True)
    assert isinstance(failed.value.__cause__, ValueError)


OPENS: dict[str, tuple[str, str, Callable[[Path], object]]] = {
    "sources": (SOURCE, "minutes", lambda _: make_source(Settings(market=Market(source="acme")))),
    "sources, offered": (SOURCE, "report_steps", lambda _: make_source(Settings(market=Market(source="acme")))),
    "families": (FAMILY, "fit", lambda _: find_family("acme")),
    "families, offered": (FAMILY, "count_nodes", lambda _: find_family("acme")),
    "brokers": (BROKER, "fills", lambda folder: open_broker("acme", Settings(), folder=folder, durable=False)),
    "brokers, offered": (BROKER, "learn", lambda folder: open_broker("acme", Settings(), folder=folder, durable=False)),
    "feeds": (
        FEED.replace("as Base", "as Stored") + "class Base(Stored):\n    def __init__(self, *given): ...\n",
        "minute",
        lambda _: open_feed(Settings(trade=Trade(feed="acme")), Calendar("XNYS"), lambda: False, ignore),
    ),
}


@pytest.mark.parametrize("point", OPENS)
def test_a_plug_in_that_cannot_be_called_as_it_promises_is_refused_by_name_when_it_is_made(
    place: Path, point: str
) -> None:
    code, method, make = OPENS[point]
    group = point.partition(",")[0]
    install(place, Stranger(group, f"{code}class Acme(Base):\n    def {method}(self): ...\n", "", "", ""))
    with pytest.raises(PlugInError) as refused:
        make(place.parent)
    named = f"The plug-in 'acme' of {SETTINGS[f'hftcl.{group}']} does not keep its promises: {method}("
    assert str(refused.value).startswith(named)


CLOSES = "    def close(self):\n        import pathlib\n        pathlib.Path({closed!r}).touch(exist_ok=False)\n"
"""A file is there once it was closed; a second time is an error."""


@pytest.mark.parametrize("point", OPENS)
@pytest.mark.parametrize(("more", "notes"), [("", []), ("raise ValueError('an odd thing.')", ["an odd thing"])])
def test_a_plug_in_that_is_refused_when_it_is_made_is_closed(
    place: Path, point: str, more: str, notes: list[str]
) -> None:
    code, method, make = OPENS[point]
    closed = place / "closed"
    code += f"class Acme(Base):\n    def {method}(self): ...\n{CLOSES.format(closed=str(closed))}        {more}\n"
    install(place, Stranger(point.partition(",")[0], code, "", "", ""))
    with pytest.raises(PlugInError, match="does not keep its promises") as refused:
        make(place.parent)
    assert closed.exists()
    assert getattr(refused.value, "__notes__", []) == [f"And it could not be closed: ValueError: {n}" for n in notes]


def test_a_source_that_does_not_deliver_the_columns_is_closed(place: Path) -> None:
    closed = place / "closed"
    body = (
        f"class Acme(Base):\n    def __init__(self, settings): self.columns = ()\n{CLOSES.format(closed=str(closed))}"
    )
    install(place, Stranger("sources", SOURCE + body, "", "", ""))
    with pytest.raises(ConfigError, match="cannot deliver vwap"):
        open_source(Settings(market=Market(source="acme", columns=("vwap",))))
    assert closed.exists()


@pytest.mark.parametrize("method", ["__init__", "close"])
def test_a_stop_while_a_plug_in_is_refused_is_a_stop(place: Path, method: str) -> None:
    body = f"class Acme(Base):\n    minutes = None\n    def {method}(self, *given):\n        {STOPPED}pass\n"
    done = call(prepare(place, Stranger("sources", SOURCE + body, 'source = "acme"\n', "", "")), "retrain")
    assert done.returncode == 128 + signal.SIGTERM, done


def test_a_program_of_the_same_package_that_calls_us_is_not_taken_for_its_plug_in(place: Path) -> None:
    install(place, Stranger("sources", "def work(ask):\n    return ask(None)\n", "", "", ""))
    import acme_plug  # type: ignore[import-not-found]

    with pytest.raises(AttributeError) as failed:
        acme_plug.work(open_source)
    assert find_plug_in_fault(failed.value) is None


class GivenUpError(Exception):
    """What a program of the caller's raises to end the work."""


@pytest.mark.parametrize(
    "between", ["def work(self, tell):\n        tell(1)", "work = staticmethod(lambda tell: tell(1))"]
)
def test_what_the_callers_own_listener_raises_is_his_though_a_plug_in_lies_between(place: Path, between: str) -> None:
    install(place, Stranger("sources", f"{SOURCE}class Acme(Base):\n    {between}\n", "", "", ""))

    def listen(_: object) -> None:
        raise GivenUpError

    source: Any = make_source(Settings(market=Market(source="acme")))
    with pytest.raises(GivenUpError), name_plug_ins():
        call_from_ours(source.work, CallersOwn(listen))


OURS_RAISES = "a quantile at 2, and it must lie above 0.5 and below 1"


@pytest.mark.parametrize("body", ["tell(1, 2)", "sorted([2, 2], key=lambda number: tell(1, number))"])
def test_what_our_own_code_raises_beneath_a_plug_in_is_not_told_as_its_fault(place: Path, body: str) -> None:
    install(
        place,
        Stranger("sources", f"{SOURCE}class Acme(Base):\n    def work(self, tell):\n        {body}\n", "", "", ""),
    )
    source: Any = make_source(Settings(market=Market(source="acme")))
    with pytest.raises(ValueError, match=OURS_RAISES), name_plug_ins():
        call_from_ours(source.work, compute_t_quantile)


def test_what_our_own_code_raises_while_a_plug_in_is_made_is_not_told_as_its_fault(place: Path) -> None:
    code = (
        "class Base(Stored):\n    def __init__(self, settings, calendar, extended, on_event): extended()\nAcme = Base\n"
    )
    install(place, Stranger("feeds", FEED.replace("as Base", "as Stored") + code, "", "", ""))
    settings = Settings(trade=Trade(feed="acme"))
    with pytest.raises(ValueError, match=OURS_RAISES):
        open_feed(settings, Calendar("XNYS"), lambda: bool(compute_t_quantile(1, 2)), ignore)


def test_what_a_library_raises_beneath_a_plug_in_is_told_as_its_fault(place: Path) -> None:
    install(place, of_source("import json; json.loads('{')", ""))
    with pytest.raises(PlugInError, match=r"failed in Acme\.minutes .*JSONDecodeError"), name_plug_ins():
        call_from_ours(
            lambda _: make_source(Settings(market=Market(source="acme"))).minutes("AAPL", DAY, DAY), CallersOwn(ignore)
        )


def test_what_another_plug_in_raises_beneath_one_is_told_as_the_others(place: Path) -> None:
    install(place, Stranger("sources", f"{SOURCE}class Acme(Base):\n    def work(self, tell): tell(1)\n", "", "", ""))
    install(place, Stranger("feeds", f"class Acme:\n    def tell(number):\n        {ODD}\n", "", "", ""), "bank_plug")
    import bank_plug  # type: ignore[import-not-found]

    source: Any = make_source(Settings(market=Market(source="acme")))
    with (
        pytest.raises(PlugInError, match=r"The plug-in 'acme' of \[trade\] feed failed in Acme\.tell"),
        name_plug_ins(),
    ):
        call_from_ours(source.work, bank_plug.Acme.tell)


def call_from_ours(work: Callable[[Callable[..., object]], object], listener: Callable[..., object]) -> None:
    """Call `work` out of a frame of ours, which attribution begins with."""
    wait_for_all([lambda: work(listener)], lambda: False)


def test_a_listener_of_a_plug_ins_package_is_not_taken_for_the_plug_in(place: Path, tmp_path: Path) -> None:
    install(
        place,
        Stranger("sources", f"{SOURCE}class Acme(Base): ...\ndef stop(event):\n    raise OverflowError\n", "", "", ""),
    )
    import acme_plug

    market = Market(source="acme", watchlist=("AAPL",), lookback_days=5)
    settings = Settings(market=market, paths=Paths(home=str(tmp_path)))
    with pytest.raises(OverflowError):
        ContinuousLearning(settings, on_event=acme_plug.stop).retrain(force=True)


HONEST = {
    "a property that the vendor does not answer": (
        "from hftcl.errors import BrokerError\n    @property\n    def live_money(self): raise BrokerError('busy')"
    ),
    "a wrapper that hands over more": (
        "def wrapped(self, connection, client_order_id): return None\n"
        "    def find(self, *given): return self.wrapped('connection', *given)\n"
        "    find.__wrapped__ = wrapped"
    ),
    "any arguments": "def find(self, *given, **more): return None",
    "a static method": "find = staticmethod(lambda client_order_id: None)",
    "code in C": "find = {}.get",
    "an offer that raises": "@property\n    def learn(self): raise AttributeError('not here')",
}


@pytest.mark.parametrize("case", HONEST)
def test_a_plug_in_that_can_be_called_is_not_refused(place: Path, case: str) -> None:
    install(place, Stranger("brokers", f"{BROKER}class Acme(Base):\n    {HONEST[case]}\n", "", "", ""))
    open_broker("acme", Settings(), folder=place.parent, durable=False).close()


@pytest.mark.parametrize("method", ["__init__", "minutes"])
def test_a_stop_that_a_plug_in_makes_an_error_of_is_a_stop(place: Path, method: str) -> None:
    done = call(prepare(place, of_source(STOPPED + "raise ValueError from None", "", method)), "retrain")
    assert done.returncode == 128 + signal.SIGTERM, done


@pytest.mark.parametrize("raised", [SystemExit, GivenUpError])
def test_what_a_handler_of_signals_raises_is_not_told_as_the_plug_ins(place: Path, raised: type[BaseException]) -> None:
    def handle(*_: object) -> None:
        raise raised

    install(place, of_source("import os; os.kill(os.getpid(), 10)", ""))
    before = signal.signal(signal.SIGUSR1, handle)
    try:
        with pytest.raises(raised), name_plug_ins():
            make_source(Settings(market=Market(source="acme"))).minutes("AAPL", DAY, DAY)
    finally:
        signal.signal(signal.SIGUSR1, before)
