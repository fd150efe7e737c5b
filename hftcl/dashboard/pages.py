"""The HTML of the dashboard: readings in, text out. Jinja2 escapes whatever it is given."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

import jinja2
from markupsafe import Markup

from hftcl import __version__
from hftcl.dashboard import charts
from hftcl.dashboard.contents import (
    AlertsContent,
    BotContent,
    Content,
    ModelContent,
    ModelsContent,
    PerformanceContent,
    RecordContent,
    ScheduleContent,
    TickerContent,
)
from hftcl.dashboard.parts import PARTS, Part
from hftcl.dashboard.reader import PartFault, Reading
from hftcl.formats import SYNTHETIC, count, format_clock_to_second, format_moment, format_money, format_sharpe, number
from hftcl.home import Home
from hftcl.logs import to_one_line
from hftcl.pages import performance_charts
from hftcl.pages.chart_data import SCRIPT, ChartData, enliven
from hftcl.pages.drawing import CHART_STYLE, STYLE, draw_both
from hftcl.pages.performance import STYLE as REPORT_STYLE
from hftcl.pages.performance import draw_equity_key, draw_tiles
from hftcl.settings import Settings
from hftcl.views import performance as performance_view
from hftcl.views.blocks import Block, Grid, collect_blocks, take_lines

_FOLDER: Final = Path(__file__).parent
_STATIC: Final = {
    "app.css": "text/css",
    "app.js": "text/javascript",
    "charts.js": "text/javascript",
    "worker.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
"""What pages load, with its type: nothing else is sent, whatever name is asked for."""
_RELOAD_S: Final = 15  # of a page without JavaScript: the bot decides once a minute


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What every page shows around its own content. contact: the time of the last look, UTC; version: of the parts."""

    settings: Settings
    readings: Mapping[str, Reading]
    looked_at: datetime
    version: int
    drawn: dict[str, tuple[int, Markup]]
    """The parts as they were drawn last, with the version that was drawn: the same for every tab."""


@cache
def _build_environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["plain"] = to_one_line
    environment.tests["grid"] = lambda block: isinstance(block, Grid)
    environment.globals.update(
        money=format_money, number=number, moment=format_moment, count=count, sharpe_ratio=format_sharpe
    )
    return environment


@cache
def read_static(name: str) -> tuple[bytes, str] | None:
    """Return a file that pages load, with its type; None where there is no such file."""
    if name not in _STATIC:
        return None
    data = (SCRIPT if name == SCRIPT.name else _FOLDER / "static" / name).read_bytes()  # charts: the reports' script
    if name == "app.css":  # what charts and tables of the reports look like is one text
        data = f"{STYLE}\n{CHART_STYLE}{REPORT_STYLE}\n".encode() + data
    return data, f"{_STATIC[name]}; charset=utf-8"


def draw_overview(frame: Frame) -> str:
    """Return the first page: the verdict, then every part."""
    readings = frame.readings
    parts = {part.name: _draw_part(frame, part) for part in PARTS}
    head = _draw("verdict.html", **_build_verdict(readings))
    verdict = _wrap("verdict", head)
    return _draw_page(frame, "overview.html", "Overview", parts=parts, verdict=verdict, tickers=_list_tickers(frame))


def draw_subject(frame: Frame, template: str, title: str, content: Content | PartFault, **more: object) -> str:
    """Return the page of a model, of a ticker or of all models."""
    fault = content if isinstance(content, PartFault) else None
    body = _draw(template, fault=fault, content=None if fault else content, title=title, **more)
    return _draw_page(frame, "subject.html", title, body=_wrap("subject", body), tickers=_list_tickers(frame))


def draw_model(frame: Frame, model_id: str, content: Content | PartFault) -> str:
    """Return the page of one model."""
    more: dict[str, Any] = {"earned": None, "content_earned": (), "chart": "", "problem": ""}
    performance = frame.readings["performance"].content
    if isinstance(performance, PerformanceContent):
        more["earned"] = [model for model in performance.report.models if model.model_id == model_id]
        more["content_earned"] = collect_blocks(
            performance_view.draw_models, more["earned"], performance.report.ledger
        )[:1]
    if isinstance(content, ModelContent):
        importances = content.importances
        more["problem"] = importances.problem
        if importances.shares:
            more["chart"] = _draw_both(lambda width: performance_charts.draw_importances(importances.shares, width))
    return draw_subject(frame, "model.html", f"Model {model_id}", content, **more)


def draw_ticker(frame: Frame, ticker: str, content: Content | PartFault) -> str:
    """Return the page of one ticker."""
    chart = ""
    earned = None
    if isinstance(content, TickerContent) and (day := content.day) is not None:
        chart = _draw_both(lambda width: charts.draw_day(day, width), data=charts.build_day_chart(day))
    performance = frame.readings["performance"].content
    if isinstance(performance, PerformanceContent):
        earned = [part for part in performance.report.tickers if part.name == ticker]
    blocks = collect_blocks(performance_view.draw_parts, "ticker", earned) if earned else ()
    more = {"ticker": ticker, "chart": chart, "earned": earned, "content_earned": blocks}
    return draw_subject(frame, "ticker.html", ticker, content, **more)


def list_tickers(settings: Settings, readings: Mapping[str, Reading]) -> tuple[str, ...]:
    """Return the watchlist, and what else the bot holds or traded."""
    names = list(settings.market.watchlist)
    bot, performance = (readings[name].content for name in ("bot", "performance"))
    if isinstance(bot, BotContent):
        names += bot.status.positions
    if isinstance(performance, PerformanceContent):
        names += [part.name for part in performance.report.tickers]
    return tuple(dict.fromkeys(names))


def _list_tickers(frame: Frame) -> list[dict[str, Any]]:
    bot, performance = (frame.readings[name].content for name in ("bot", "performance"))
    held = bot.status.positions if isinstance(bot, BotContent) else {}
    parts = (
        {part.name: part for part in performance.report.tickers} if isinstance(performance, PerformanceContent) else {}
    )
    names = list_tickers(frame.settings, frame.readings)
    return [{"name": name, "shares": held.get(name), "part": parts.get(name)} for name in names]


def _build_verdict(readings: Mapping[str, Reading]) -> dict[str, Any]:
    """Return what stands at the top: what the bot says of itself first, what the newest verdict says, the figures."""
    bot, models, coming = (readings[name].content for name in ("bot", "models", "schedule"))
    alerts, doctor = (readings[name].content for name in ("alerts", "doctor"))
    lines: list[Block] = []
    if isinstance(bot, Content):
        lines += take_lines(bot.blocks)
    if isinstance(models, ModelsContent):
        lines += models.edge
    return {
        "lines": lines,
        "faults": [content for content in (bot, models) if isinstance(content, PartFault)],
        "status": bot.status if isinstance(bot, BotContent) else None,
        "serves": models.serves if isinstance(models, ModelsContent) else None,
        "next": coming.coming[0] if isinstance(coming, ScheduleContent) and coming.coming else None,
        "waiting": sum(1 for row in alerts.alerts if row.waits) if isinstance(alerts, AlertsContent) else None,
        "sound": doctor.blocks[-1] if isinstance(doctor, Content) else None,
    }


def _draw_part(frame: Frame, part: Part) -> Markup:
    reading = frame.readings[part.name]
    version, drawn = frame.drawn.get(part.name, (-1, Markup()))
    if version != reading.version:
        drawn = _wrap(part.name, _draw_body(part, reading.content))
        frame.drawn[part.name] = reading.version, drawn
    return drawn


def _draw_body(part: Part, content: Content | PartFault | None) -> Markup:
    more: dict[str, Any] = {"chart": "", "tiles": "", "key": ""}
    if isinstance(content, PerformanceContent):
        report = content.report
        more["tiles"] = Markup(draw_tiles(report))  # noqa: S704 - the reports' own, which escape
        more["key"] = Markup(draw_equity_key(report))  # noqa: S704
        more["chart"] = _draw_both(
            lambda width: performance_charts.draw_equity(report, width),
            data=performance_charts.build_equity_chart(report),
        )
        more["report"] = report
    if isinstance(content, RecordContent):
        rows = content.rows
        more["chart"] = _draw_both(
            lambda width: charts.draw_record(rows, width),
            charts.HALF,
            charts.build_record_chart(rows),
        )
    blocks = content.blocks if isinstance(content, Content) else ()
    return _draw(
        f"parts/{part.name}.html" if (_FOLDER / "templates" / "parts" / f"{part.name}.html").exists() else "part.html",
        part=part,
        waiting=content is None,
        fault=content if isinstance(content, PartFault) else None,
        content=content if isinstance(content, Content) else None,
        blocks=blocks,
        **more,
    )


def _draw_both(draw: Callable[[float], str], wide_units: float = charts.WIDE, data: ChartData | None = None) -> Markup:
    """Return a chart twice, for a screen and for a phone; the style shows the one that fits. data: its figures."""
    both = draw_both(draw, wide_units)
    return Markup(enliven(both, data) if both and data else both)  # noqa: S704


def _wrap(name: str, body: str) -> Markup:
    """Return a part with the digest by which a page that is open sees what has changed."""
    digest = hashlib.sha256(body.encode()).hexdigest()[:16]
    return Markup(f'<section id="{name}" data-part data-digest="{digest}">{body}</section>')  # noqa: S704 - Jinja2's


def _draw_page(frame: Frame, template: str, title: str, **more: object) -> str:
    bot = frame.readings["bot"].content
    synthetic = isinstance(bot, BotContent) and bot.status.synthetic
    return _draw(
        template,
        title=title,
        contact=format_clock_to_second(frame.looked_at),
        version=frame.version,
        reload_s=_RELOAD_S,
        home=str(Home.of(frame.settings).root.absolute()),
        synthetic=SYNTHETIC if synthetic else "",
        release=__version__,
        **more,
    )


def _draw(template: str, **values: object) -> Markup:
    return Markup(_build_environment().get_template(template).render(**values))  # noqa: S704 - it has escaped
