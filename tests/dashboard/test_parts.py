"""What the parts and pages read: which model serves and why, the newest of everything, and a ticker's sessions."""

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from hftcl.alerts import Alert, Kind
from hftcl.alerts.outbox import KEPT, Outbox
from hftcl.archive.deployment import ModelArchive
from hftcl.archive.registry import Registry
from hftcl.dashboard import pages
from hftcl.dashboard.contents import (
    BotContent,
    Content,
    ModelContent,
    ModelsContent,
    OrdersContent,
    PerformanceContent,
    ScheduleContent,
)
from hftcl.dashboard.parts import MODELS_SHOWN, ORDERS_SHOWN, PARTS, DashboardInputs
from hftcl.dashboard.reader import PartFault, Reading, read_safely
from hftcl.dashboard.subjects import list_sessions, read_ticker
from hftcl.dashboard.summary import Summary
from hftcl.formats import SYNTHETIC, describe_edge
from hftcl.home import Home
from hftcl.learning.stored_report import read_report
from hftcl.ledger.rows import ADOPTED, SPLIT, Decision, FillRecord, OrderRecord
from hftcl.ledger.writer import Ledger
from hftcl.performance.story import Importances
from hftcl.schedule.claims import Occurrences
from hftcl.views import archive
from hftcl.views.blocks import Grid, Line, collect_blocks
from tests.archive.sample_models import T0, added, archive_in, deployed
from tests.config.configured import loaded
from tests.ledger.ledger_cases import write_ledger
from tests.loop_cases import deploy_once
from tests.trained import Homes

Kind_ = TypeVar("Kind_", bound=Content)
LATER = T0 + timedelta(days=30)


def inputs_of(home: Path, now: datetime = LATER) -> DashboardInputs:
    return DashboardInputs(configuration=loaded(home), environ={}, now=now)


def read_part(home: Path, name: str, kind: type[Kind_], now: datetime = LATER) -> Kind_:
    (part,) = (part for part in PARTS if part.name == name)
    content = part.read(inputs_of(home, now))
    assert isinstance(content, kind)
    return content


def list_rows(blocks: object) -> list[list[str]]:
    """Return the rows of the first table."""
    grid = next(block for block in blocks if isinstance(block, Grid))  # type: ignore[attr-defined]
    return [[cell.text for cell in row] for row in grid.rows]


def read_lines(home: Path) -> list[str]:
    """Return the lines at the top of the page that tell of models."""
    content = read_part(home, "models", ModelsContent)
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
    report = read_report(Registry(tmp_path / "home").list_models()[0].report)
    assert report is not None
    assert collect_blocks(archive.draw_serving, "m", None, None) == ()
    (line,) = collect_blocks(archive.draw_serving, "m", None, report)
    assert isinstance(line, Line)
    assert line.text == f"Its own retrain said {describe_edge(report.edge)}: {report.edge_reason}"


def test_after_a_rollback_the_page_tells_what_the_retrain_of_the_older_model_said(tmp_path: Path, homes: Homes) -> None:
    home = tmp_path / "home"
    homes.copy(home, deploy_once)
    first, models = Registry(home).list_models()[0], archive_in(home)
    report = read_report(first.report)
    assert report is not None
    own = f"Its own retrain said {describe_edge(report.edge)}: {report.edge_reason}"
    assert own not in read_lines(home), "the newest verdict is its own"
    now = first.trained_at + timedelta(days=40)
    second = added(models, now)
    models.deploy(second.model_id, now=now, reason="better")
    assert own not in read_lines(home)
    ModelArchive(home).rollback(first.model_id, now=now + timedelta(days=1), reason="it trades too much")
    assert own in read_lines(home)


def test_a_model_that_serves_is_told_also_where_it_is_older_than_the_verdicts_that_are_shown(tmp_path: Path) -> None:
    models = archive_in(tmp_path)
    (serving,) = deployed(models, 1)
    for day in range(1, MODELS_SHOWN + 2):
        added(models, T0 + timedelta(days=day), "rejected", "no better")
    content = read_part(tmp_path, "models", ModelsContent)
    assert content.serves is not None
    assert content.serves.model_id == serving
    rows = list_rows(content.blocks)
    assert len(rows) == MODELS_SHOWN
    assert serving not in str(rows)


OPENS = datetime(2025, 6, 2, 13, 30, tzinfo=UTC)


def write_orders(home: Path, count: int) -> None:
    """Write an order a minute of AMD, in a session that began at OPENS, and one of the session before."""
    stamps = [OPENS - timedelta(days=3), *(OPENS + timedelta(minutes=n) for n in range(count))]
    about = {"book": "production", "ticker": "AMD", "model_id": "m"}
    decisions = [
        Decision(**about, ts=ts, features_hash=None, prediction=0.1, target=0.1, code="trade", decided_at=ts)  # type: ignore[arg-type]
        for ts in stamps
    ]
    orders = [
        OrderRecord(
            **about,  # type: ignore[arg-type]
            client_order_id=f"{number}",
            ts=ts,
            session=ts.date(),
            quantity=1.0,
            reference_price=100.0 + number,
            state="filled",
            code="",
            reason="",
            created_at=ts,
            updated_at=ts,
        )
        for number, ts in enumerate(stamps)
    ]
    with Ledger(home / "ledger.sqlite") as ledger:
        ledger.write_decisions(decisions, orders)
        ledger.set_meta(session_opened=OPENS.isoformat(), equity_at_open_production=f"{OPENS.date()} 100000.0")


def test_the_newest_orders_of_the_session_are_shown_the_last_one_first_and_all_are_counted(tmp_path: Path) -> None:
    write_orders(tmp_path, ORDERS_SHOWN + 5)
    content = read_part(tmp_path, "orders", OrdersContent)
    assert content.count == ORDERS_SHOWN + 5, "without that of the session before"
    rows = list_rows(content.blocks)
    assert len(rows) == ORDERS_SHOWN
    assert (rows[0][0], rows[-1][0]) == ("2025-06-02 14:14", "2025-06-02 13:35")
    assert list_sessions(inputs_of(tmp_path)) == (OPENS.date(),), "it is open: the ledger has no close of it yet"


def test_the_jobs_that_ran_last_are_shown_the_newest_first(tmp_path: Path) -> None:
    archive_in(tmp_path)
    added(archive_in(tmp_path))
    for day in range(12):
        due = T0 + timedelta(days=day)
        claim = Occurrences(tmp_path).claim("check", due.date(), due, by="a test", now=due)
        assert claim is not None
        claim.finish("done", f"run {day}", now=due)
    content = read_part(tmp_path, "schedule", ScheduleContent, T0 + timedelta(days=10, hours=1))
    told = re.findall(r"run \d+", str(content.blocks))
    assert told == [f"run {day}" for day in range(10, 2, -1)], "and none that is not due yet"


# --- a ticker ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def traded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home with a ledger of a week, and a fill before the regular open."""
    home = tmp_path_factory.mktemp("traded")
    write_ledger(home / "ledger.sqlite", last=date(2025, 6, 6), meta={"synthetic": "1"})
    early = datetime(2025, 6, 4, 12, 0, tzinfo=UTC)
    fill = FillRecord(
        fill_id="early", client_order_id="early", book="production", ts=early, ticker="AAPL", model_id="m",
        quantity=7.0, price=50.0, commission=0.0, reference_price=50.0, filled_at=early,
    )  # fmt: skip
    with Ledger(home / "ledger.sqlite") as ledger:
        ledger.write_outcomes(fills=[fill])
        ledger.latch("kill_switch", "a halt", early)
    return home


def test_a_ticker_s_page_leads_to_the_sessions_beside_it(traded: Path) -> None:
    days = [date(2025, 6, day) for day in (2, 3, 4, 5, 6)]
    around = {}
    for day in days:
        content = read_ticker(inputs_of(traded), "AAPL", day.isoformat())
        assert content.day is not None
        assert content.day.session == day
        around[day] = (content.before, content.after)
    assert around == dict(zip(days, zip([None, *days], [*days[1:], None], strict=False), strict=True))
    newest = read_ticker(inputs_of(traded), "AAPL", None)
    assert newest.day is not None
    assert newest.day.session == days[-1]


def test_a_ticker_s_fills_are_those_of_the_whole_extended_day_the_newest_first(traded: Path) -> None:
    content = read_ticker(inputs_of(traded), "AAPL", "2025-06-04")
    times = [row[0] for row in list_rows(content.fills)]
    assert len(times) > 3
    assert times == sorted(times, reverse=True)
    assert times[-1] == "2025-06-04 12:00"


def test_shares_that_a_split_made_are_no_fill_of_a_ticker_s_day(tmp_path: Path) -> None:
    """An arrow at the old price would tell of a sale that was none."""
    at = OPENS + timedelta(minutes=1)
    about = {"book": "production", "ts": at, "ticker": "AMD", "model_id": None, "commission": 0.0, "filled_at": at}
    rows = [
        ("bought", "1", 10.0, 100.0),
        (f"{SPLIT}-1", SPLIT, -10.0, 100.0),
        (f"{SPLIT}-2", SPLIT, 40.0, 25.0),
        (f"{ADOPTED}-1", ADOPTED, 3.0, 25.0),
    ]
    fills = [
        FillRecord(**about, fill_id=name, client_order_id=order, quantity=quantity, price=price, reference_price=price)  # type: ignore[arg-type]
        for name, order, quantity, price in rows
    ]
    write_orders(tmp_path, 1)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.write_outcomes(fills=fills)
    content = read_ticker(inputs_of(tmp_path), "AMD", None)
    assert content.day is not None
    assert content.day.fills["fill_id"].to_list() == ["bought"]
    assert len(list_rows(content.fills)) == 1


# --- pages ------------------------------------------------------------------------------------------------------------


def draw_pages(home: Path) -> tuple[pages.Frame, str]:
    """Return what every page stands in, and the first page."""
    inputs = inputs_of(home)
    readings = {part.name: Reading(content=read_safely(partial(part.read, inputs)), version=1) for part in PARTS}
    frame = pages.Frame(settings=inputs.settings, readings=readings, looked_at=LATER, version=1, drawn={})
    return frame, pages.draw_overview(frame)


def cut_section(page: str, name: str) -> str:
    found = re.search(rf'<section id="{name}".*?</section>', page, flags=re.DOTALL)
    assert found is not None
    return found[0]


def test_the_first_page_says_at_its_top_what_the_bot_says_first_and_which_alerts_wait(traded: Path) -> None:
    at = datetime(2025, 6, 6, 21, 0, tzinfo=UTC)
    outbox = Outbox(traded)
    outbox.put(Alert(kind=Kind.HALTED, subject="told", text="x", at=at), ["mail"], repeat=KEPT)
    for waiting in outbox.list_due(at):
        outbox.record_sent(waiting, at)
    outbox.put(Alert(kind=Kind.HALTED, subject="waits", text="x", at=at), ["mail"], repeat=KEPT)
    frame, page = draw_pages(traded)
    bot, verdict = frame.readings["bot"].content, cut_section(page, "verdict")
    assert isinstance(bot, BotContent)
    first = next(place for place, block in enumerate(bot.blocks) if isinstance(block, Grid))
    lines = [block.text for block in bot.blocks[:first] if isinstance(block, Line)]
    assert len(lines) > 1
    assert "MAY NOT TRADE: no retrain has judged the record" in verdict
    assert verdict.count('<p class="line') == len(lines) + 1
    assert re.findall(r'Alerts that wait</span><b class="(\w*)">(\d+)', verdict) == [("warn", "1")]
    assert f'<span class="synthetic">{SYNTHETIC}</span>' in page


def test_a_fault_of_what_is_asked_first_stands_at_the_top(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(b"no database at all, but long enough to be one" * 100)
    frame, page = draw_pages(tmp_path)
    told = frame.readings["bot"].content
    assert not isinstance(told, Content)
    assert told is not None
    assert told.lines[0][:40] in cut_section(page, "verdict")


def test_a_part_is_drawn_anew_only_where_it_was_read_anew(traded: Path) -> None:
    frame, before = draw_pages(traded)
    kept = dict(frame.drawn)
    assert pages.draw_overview(frame) == before
    assert all(frame.drawn[name] is each for name, each in kept.items())
    newer = replace(frame.readings["orders"], content=PartFault(lines=("Something else.",)), version=2)
    after = pages.draw_overview(replace(frame, readings={**frame.readings, "orders": newer}))
    assert "Something else." in cut_section(after, "orders")
    assert frame.drawn["record"] is kept["record"]


def test_a_ticker_s_and_a_model_s_page_tell_what_that_one_earned(traded: Path) -> None:
    frame, _ = draw_pages(traded)
    performance = frame.readings["performance"].content
    assert isinstance(performance, PerformanceContent)
    page = pages.draw_ticker(frame, "AAPL", read_ticker(inputs_of(traded), "AAPL", None))
    earned = page.partition("What it brought")[2].partition("<h2>Fills")[0]
    assert "AAPL" in earned
    assert "TSLA" not in earned
    one, other = (model.model_id for model in performance.report.models[:2])
    empty = ModelContent(blocks=(), verdict=(), lineage=(), importances=Importances(shares=()))
    shown = pages.draw_model(frame, one, empty).partition("What it earned")[2].partition("Its exam")[0]
    assert one in shown
    assert other not in shown


def test_what_the_bot_holds_has_a_page_also_where_the_watchlist_lacks_it(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.set_meta(mode="paper")
    frame, _ = draw_pages(tmp_path)
    bot = frame.readings["bot"].content
    assert isinstance(bot, BotContent)
    held = replace(bot, status=replace(bot.status, positions={"ZZZ": 5.0}))
    readings = {**frame.readings, "bot": replace(frame.readings["bot"], content=held)}
    assert "ZZZ" not in pages.list_tickers(frame.settings, frame.readings)
    assert pages.list_tickers(frame.settings, readings)[-1] == "ZZZ"
    assert "<b>+5</b>" in pages.draw_overview(replace(frame, readings=readings, drawn={}))


@pytest.mark.parametrize("in_lines", [False, True])
def test_room_on_the_disk_is_told_to_a_log_where_it_becomes_scarce_and_on_a_screen_as_it_is(
    tmp_path: Path, in_lines: bool
) -> None:
    summary = Summary(inputs_of(tmp_path), with_bot=False, in_lines=in_lines)
    bars = Home(tmp_path).bars / "2026-01.parquet"
    bars.parent.mkdir()

    def read_after(minutes: int, size: int) -> str:
        with bars.open("wb") as file:
            file.truncate(size)  # it takes no room
        blocks = summary.read(LATER + timedelta(minutes=minutes))
        return next(block.text for block in blocks if isinstance(block, Line) and block.text.startswith("disk: "))

    first = read_after(0, 1_000)
    assert (read_after(11, 5_000_000) == first) == in_lines
    assert "Free space there" in read_after(22, 4_000_000_000_000)
