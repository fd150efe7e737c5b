"""The page of a home with models and a ledger: it tells what the commands tell, changes nothing, and stays up."""

import contextlib
import hashlib
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from html import unescape
from pathlib import Path

import pytest

from hftcl.alerts import Alert, Kind
from hftcl.alerts.outbox import KEPT, Outbox
from hftcl.archive.registry import Registry
from hftcl.document import build_document
from hftcl.home import Home
from hftcl.learning.stored_report import read_report
from hftcl.ledger.rows import LedgerEvent
from hftcl.ledger.writer import Ledger
from tests.dashboard.served import Served, serving
from tests.in_process import call
from tests.installed import PATIENCE_S, one_line, run
from tests.ledger.ledger_cases import write_ledger
from tests.loop_cases import deploy_once
from tests.trained import Homes

EVIL = "E<b>"
HOSTILE = "<script>alert(1)</script>\x1b[31m"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, homes: Homes) -> Path:
    """Return a home with a deployed model, a ledger of a month, a halt with a hostile reason, and an alert."""
    home = tmp_path_factory.mktemp("dashboard") / "home"
    homes.copy(home, deploy_once)
    write_ledger(home / "ledger.sqlite", tickers=("AAPL", "AMD", EVIL))
    now = datetime(2025, 6, 30, 15, 0, tzinfo=UTC)
    with Ledger(home / "ledger.sqlite") as ledger:
        ledger.latch("kill_switch", HOSTILE, now)
        ledger.write_event(LedgerEvent(at=now, kind="error", text=HOSTILE))
    Outbox(home).put(Alert(kind=Kind.HALTED, subject=HOSTILE, text="x", at=now), ["mail"], repeat=KEPT)
    return home


@pytest.fixture(scope="module")
def served(home: Path) -> Iterator[Served]:
    with serving(home) as page:
        yield page


def words(html: str) -> str:
    """Return what a reader sees, blanks as one."""
    text = re.sub(r"<(style|title)>.*?</\1>|<[^>]*>", " ", html, flags=re.DOTALL)
    return " ".join(unescape(text).split())


def read_all(page: Served) -> str:
    """Return the first page once every part was read."""
    return page.wait_for("/", lambda text: "Is being read" not in text)


def digest_tree(home: Path) -> dict[str, str]:
    """Return the content of every file by its name; SQLite's index of a log is no content, nor is an empty log.

    Whoever closes a ledger last deletes them: here the page of the other tests, which reads it at its own times.
    """
    files = [path for path in home.rglob("*") if path.is_file() and not path.name.endswith("-shm")]
    contents = {path: path.read_bytes() for path in sorted(files)}
    return {
        str(path.relative_to(home)): hashlib.sha256(content).hexdigest()
        for path, content in contents.items()
        if content or not path.name.endswith("-wal")
    }


def test_it_tells_what_the_commands_tell_in_their_words(home: Path, served: Served) -> None:
    shown = words(read_all(served))
    for arguments in (("trade", "--status"), ("history",), ("record",), ("schedule", "--preview", "3")):
        said = call(home, *arguments).stdout
        for line in said.splitlines():
            for cell in re.split(r"  +", line.strip()):
                assert " ".join(cell.replace("\x1b", r"\x1b").split()) in shown, (arguments, line)


def test_each_model_and_each_ticker_has_a_page(home: Path, served: Served) -> None:
    read_all(served)
    model = Registry(home).list_models()[0]
    page = words(served.get(f"/model/{model.model_id}"))
    assert "Challenger by ticker" in page
    assert f"{model.outcome.upper()} {model.model_id}: {model.reason}" in page
    assert model.model_id in words(served.get("/models"))
    first = served.get("/ticker/AAPL")
    assert "2025-06-30" in words(first)
    assert first.count('class="bought"') + first.count('class="sold"') > 4
    before = served.get("/ticker/AAPL?session=2025-06-02")
    assert "2025-06-03" in words(before)
    assert '<polyline class="curve close"' not in before, "the store has no bars of that day, and none are made up"
    assert served.ask("/ticker/NONE")[0] == served.ask("/model/x")[0] == served.ask("/nothing")[0] == 404
    assert "is no date" in words(served.get("/ticker/AAPL?session=soon"))


def test_stored_bars_are_drawn_under_the_decisions(home: Path, served: Served) -> None:
    session = Registry(home).list_models()[0].exam_from
    page = served.get(f"/ticker/AAPL?session={session}")
    drawn = re.search(r'<polyline class="curve close" points="([^"]*)"', page)
    assert drawn is not None
    assert 300 < len(drawn[1].split()) <= 391


def test_hostile_texts_are_shown_and_do_nothing(served: Served) -> None:
    page = read_all(served)
    for text in (page, served.get("/ticker/E%3Cb%3E")):
        assert "<script>alert" not in text
        assert "E<b>" not in text
        assert "\x1b" not in text
        assert "E<b>" in words(text)
    assert r"<script>alert(1)</script>\x1b[31m" in words(page)


def test_twenty_pages_are_one_reading(served: Served) -> None:
    """Each part was read for all of them together: what the pages show is equal, and so is what they are told."""
    read_all(served)
    pages = {re.sub("<time>.*?</time>", "", served.get()) for _ in range(20)}
    assert len(pages) == 1
    with contextlib.ExitStack() as stack:
        versions = {stack.enter_context(served.listen())()["version"] for _ in range(20)}
    assert versions == {re.search(r'data-version="(\d+)"', pages.pop())[1]}  # type: ignore[index]


def test_a_change_of_the_ledger_is_told_and_shown(home: Path, served: Served) -> None:
    read_all(served)
    with served.listen() as read_next:
        first = read_next()
        with Ledger(home / "ledger.sqlite") as ledger:
            ledger.latch("daily_loss", "a change of the ledger", datetime(2025, 6, 30, 16, 0, tzinfo=UTC))
        while read_next()["version"] == first["version"]:
            pass
    assert "a change of the ledger" in served.get()


def test_it_changes_nothing_and_ends_at_sigterm_with_connections_open_and_at_ctrl_c(home: Path) -> None:
    for cache in (".calendar-XNYS", ".sessions.json"):
        (home / cache).unlink(missing_ok=True)
    before = digest_tree(home)
    with serving(home) as page, page.listen() as read_next:
        read_all(page)
        page.get("/ticker/AAPL")
        page.get(f"/model/{Registry(home).list_models()[0].model_id}")
        read_next()
        page.process.send_signal(signal.SIGTERM)
        assert page.process.wait(PATIENCE_S) == 0
    assert digest_tree(home) == before
    with serving(home) as page:
        page.process.send_signal(signal.SIGINT)
        assert page.process.wait(PATIENCE_S) == 130
        assert page.process.stderr is not None
        assert page.process.stderr.read() == "\n"


def test_a_damaged_registry_is_told_as_the_commands_tell_it_and_mended_is_shown(home: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(home, broken)
    registry, ledger = Home(broken).registry, Home(broken).ledger
    sound = registry.read_bytes()
    registry.write_bytes(sound[:5000])
    ledger.write_bytes(b"no database at all, but long enough to be one" * 100)
    Home(broken).alerts.unlink()
    told = one_line(call(broken, "history")).removeprefix("hftcl: ")
    of_ledger = one_line(call(broken, "trade", "--status")).removeprefix("hftcl: ")
    with serving(broken) as page:
        shown = words(read_all(page))
        assert " ".join(told.split()) in shown
        assert " ".join(of_ledger.split()) in shown
        assert "No alert in the last" in shown
        registry.write_bytes(sound)
        assert "deployed" in words(page.wait_for("/", lambda text: told not in unescape(text)))


def test_an_empty_folder_has_a_page_too(tmp_path: Path) -> None:
    with serving(tmp_path) as page:
        shown = words(read_all(page))
    assert "No bot has traded here yet." in shown
    assert "No model yet." in shown
    assert sorted(path.name for path in tmp_path.iterdir()) == []


def test_without_its_libraries_one_sentence_says_how_to_get_them(home: Path) -> None:
    code = (
        "import sys; sys.modules['uvicorn'] = None; sys.argv = ['hftcl', 'dashboard']; import hftcl.cli as c; c.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=home, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "hftcl: The library uvicorn, which the page is made with, is not installed. It is an extra: "
        'pip install "hftcl[dashboard]".\n'
    )


def test_a_port_that_is_taken_and_an_address_that_is_none_are_told(home: Path, served: Served) -> None:
    taken = run(home, "dashboard", "--port", str(served.port))
    assert (taken.returncode, "Give another with --port" in taken.stderr) == (2, True)
    assert run(home, "dashboard", "--listen", "everywhere").returncode == 2


def test_a_service_needs_a_token_of_its_own_and_never_prints_it(home: Path) -> None:
    unset = run(home, "dashboard", "--port", "0", NOTIFY_SOCKET="/nowhere")
    assert (unset.returncode, "DASHBOARD_TOKEN" in unset.stderr) == (78, True)
    short = run(home, "dashboard", "--port", "0", DASHBOARD_TOKEN="tooshort")  # noqa: S106 - of a test
    assert (short.returncode, "tooshort" in short.stderr) == (78, False)


def test_a_token_that_is_kept_is_never_printed(tmp_path: Path) -> None:
    with serving(tmp_path, token="kept" * 6) as page:
        assert page.url == f"http://127.0.0.1:{page.port}/?token=..."
        assert page.ask("/")[0] == 200


def test_the_report_of_a_model_is_read_back_whole_and_one_of_an_earlier_hftcl_is_none(home: Path) -> None:
    stored = Registry(home).list_models()[0].report
    assert build_document(read_report(stored)) == stored
    assert read_report({name: value for name, value in stored.items() if name != "dry_run"}) is None
    assert read_report({**stored, "rows": "many"}) is None
