"""The page of `hftcl report`: what was traded, what it made, and whose work it was.

Whole without JavaScript; the little script reads the series, which lie in the page as JSON, out under the pointer and
sorts the tables.
"""

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Final

from hftcl.formats import (
    count,
    format_annual,
    format_basis_points,
    format_interval,
    format_moment,
    format_money,
    format_sharpe,
    number,
)
from hftcl.pages import performance_charts as charts
from hftcl.pages.chart_data import enliven, escape_json, read_script
from hftcl.pages.drawing import CHART_STYLE, draw_both, draw_page, draw_table, name_bars
from hftcl.pages.price_charts import draw_prices
from hftcl.pages.risk import draw_drawdowns, draw_sessions

if TYPE_CHECKING:
    from hftcl.performance.prices import PriceCharts
    from hftcl.performance.reports import PartFigures, PerformanceReport
    from hftcl.performance.story import Importances

_LEDGERS: Final = {"live": "LIVE ledger", "paper": "paper ledger", "replay": "replay ledger"}  # capitals: real money
_MODELS_DRAWN: Final = 12  # the newest: three months of weekly models fit one screen
_ROWS_OPEN: Final = 30  # rows of a table that is open at once; a longer one would hide what stands below it
# Beside the style of every page, for what only this page has.
STYLE: Final = """
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(172px,1fr));gap:10px;margin:18px 0}
.tile{background:var(--box);padding:10px 12px;border-radius:6px}.tile b{display:block;font-size:20px;line-height:1.3;
font-variant-numeric:tabular-nums}.tile span{color:var(--soft);font-size:13px;display:block}
details>summary{cursor:pointer;color:var(--soft);margin:6px 0}
th.sorts{cursor:pointer}th.sorts:hover{color:var(--text)}
@media (max-width:640px){body{padding:14px 10px 32px}h1{font-size:21px}.tiles{grid-template-columns:1fr 1fr}}
"""
# Whole without it: tables that sort by a click on a heading.
_SORT: Final = """
(function(){
function value(row,i){var t=row.cells[i].textContent,n=/^[+-]?[0-9,.]+(?=$|[ %])/.exec(t);
return n?parseFloat(n[0].replace(/,/g,"")):t}
document.querySelectorAll("table").forEach(function(t){
Array.prototype.forEach.call(t.tHead.rows[0].cells,function(th,i){
th.className+=" sorts";var up=false;th.addEventListener("click",function(){
up=!up;Array.prototype.slice.call(t.tBodies[0].rows).sort(function(a,b){
var p=value(a,i),q=value(b,i),c=typeof p===typeof q?(p<q?-1:p>q?1:0):(typeof p==="number"?-1:1);
return up?-c:c}).forEach(function(r){t.tBodies[0].appendChild(r)})})})})
})();
"""


def draw_performance(
    report: "PerformanceReport", importances: "Importances", prices: "PriceCharts | None" = None
) -> str:
    """Return the page of a PerformanceReport with the Importances of the model in use, and the prices of its trades."""
    return draw_page(
        "hftcl report",
        _draw_body(report, importances, prices),
        style=STYLE.strip() + "\n" + CHART_STYLE,
        script=read_script() + _SORT,
    )


def _draw_body(report: "PerformanceReport", importances: "Importances", prices: "PriceCharts | None") -> list[str]:
    return [
        *_draw_header(report),
        draw_tiles(report),
        "<h2>Equity, % of capital</h2>",
        enliven(charts.draw_equity(report), charts.build_equity_chart(report)),
        draw_equity_key(report),
        "<h2>Drawdown, % of capital</h2>",
        charts.draw_drawdown(report),
        draw_drawdowns(report.risk.drawdowns),
        f"<h2>Sharpe ratio over {count(report.rolling_sessions, 'session')}</h2>",
        _draw_rolling(report),
        "<h2>Months, net P&amp;L in % of capital</h2>",
        charts.draw_monthly(report.months),
        "<h2>Sessions</h2>",
        *draw_sessions(report.risk, report.total.sessions),
        f"<h2>Models: the exam, and the {escape(report.ledger)} ledger</h2>",
        *_draw_models(report),
        "<h2>Cost</h2>",
        _draw_cost(report),
        "<h2>Weekday and hour of the session, net P&amp;L in USD</h2>",
        charts.draw_weekly(report),
        '<p class="soft">A position belongs to the hour in which it was opened, counted from the open.</p>',
        "<h2>Tickers</h2>",
        _fold(_draw_parts("ticker", report.tickers), len(report.tickers), "tickers", "ticker"),
        *(draw_prices(prices, report) if prices else ()),
        "<h2>Trades</h2>",
        *_draw_trades(report),
        *_draw_importances(report, importances),
        f'<script type="application/json" id="series">{_write_series(report)}</script>',
    ]


def _draw_header(report: "PerformanceReport") -> list[str]:
    kind = name_bars(report.source, synthetic=report.synthetic)
    model = f"; model in use {escape(report.model_id)}" if report.model_id else ""
    return [
        "<header>",
        "<h1>What was traded</h1>",
        f'<p class="soft">{kind}; {_LEDGERS.get(report.ledger, escape(report.ledger))}; '
        f"{count(report.total.sessions, 'session')}, {report.from_} to {report.to}; "
        f"capital {number(report.capital_usd, ',.0f')} USD{model}; as of {format_moment(report.as_of)} UTC.</p>",
        *(f'<p class="soft">Note: {escape(note)}.</p>' for note in report.notes),
        "</header>",
    ]


def draw_tiles(report: "PerformanceReport") -> str:
    """Return the figures that a reader asks for first, a tile each."""
    total, risk = report.total, report.risk
    factor, sessions = total.profit_factor, total.sessions
    shown = (
        ("Net P&L", number(total.pnl, "+.2%"), f"{format_money(total.net_usd, signed=True)} USD"),
        ("Sharpe ratio", format_sharpe(total.sharpe, sessions), f"90 %: {format_interval(total.sharpe_interval)}"),
        ("Drawdown", number(total.max_drawdown, ".2%"), "deepest, session to session"),
        ("Win rate", number(total.hit_rate, ".1%"), f"of {count(total.trades, 'trade')}"),
        ("Profit factor", number(factor), "won / lost"),
        ("Turnover", f"{total.turnover:,.1f}", f"x capital, in {count(total.fills, 'fill')}"),
        ("Exposure", number(total.exposure, ".1%"), "mean gross, of capital"),
        ("Cost", format_basis_points(total.cost_bps), f"assumed {format_basis_points(report.assumed_cost_bps)}"),
        ("Break-even cost", format_basis_points(total.break_even_bps), "of turnover"),
        ("CAGR", format_annual(risk.cagr, sessions, "+.2%"), "were profits reinvested"),
        ("Volatility", format_annual(risk.volatility, sessions, ".2%"), "a year"),
        ("Sortino ratio", format_annual(risk.sortino, sessions, ".2f"), "by falls alone"),
        ("Calmar ratio", format_annual(risk.calmar, sessions, ".2f"), "CAGR / drawdown"),
        ("VaR, 95 %", number(risk.var, "+.2%"), "one session in 20 is worse"),
        ("CVaR, 95 %", number(risk.cvar, "+.2%"), "mean of those"),
        ("Best session", number(risk.best, "+.2%"), str(risk.best_session or "")),
        ("Worst session", number(risk.worst, "+.2%"), str(risk.worst_session or "")),
        ("Average win", format_money(risk.average_win_usd, signed=True), "USD a trade"),
        ("Average loss", format_money(risk.average_loss_usd, signed=True), "USD a trade"),
    )
    tiles = "".join(
        f'<div class="tile"><span>{escape(name)}</span><b>{escape(value)}</b><span>{escape(detail)}</span></div>'
        for name, value, detail in shown
    )
    return f'<section class="tiles">{tiles}</section>'


def draw_equity_key(report: "PerformanceReport") -> str:
    """Return what the equity curve shows beside the line itself."""
    bench = report.benchmark
    text = "Dots: from there on another model decided. Net of every cost; profits are not reinvested."
    if bench is None:
        return f'<p class="soft">{text}</p>'
    legend = (
        f"Dashed: equal amounts of {count(len(bench.tickers), 'ticker')}, bought once and held: "
        f"{number(bench.pnl, '+.2%')}, Sharpe "
        f"{format_sharpe(bench.sharpe, len(bench.pnl_by_session))} ({format_interval(bench.sharpe_interval)}). "
        f"Sharpe of the bot less its: {number(bench.difference, '+.2f')} "
        f"({format_interval(bench.difference_interval)})."
    )
    if bench.equal_risk_share is not None:
        legend += (
            f" Dotted: as much of it as moves as the bot did, {number(bench.equal_risk_share, '.0%')} of the capital: "
            f"{number(bench.equal_risk_pnl, '+.2%')}; that share is known only afterwards."
        )
    note = f" Note: {escape(bench.note)}." if bench.note else ""
    return f'<p class="soft">{text} {legend}{note}</p>'


def _draw_rolling(report: "PerformanceReport") -> str:
    if len(report.rolling) < 2:
        needed, span_sessions = report.rolling_sessions + 1, report.total.sessions
        return (
            f'<p class="soft">A curve needs {count(needed, "session")}; the ledger has {span_sessions} in '
            "this span.</p>"
        )
    return charts.draw_rolling(report)


def _draw_models(report: "PerformanceReport") -> list[str]:
    columns = (
        "model",
        "sessions",
        "from",
        "to",
        "net USD",
        f"Sharpe {report.ledger}",
        "exam",
        "trades",
        "won",
        "cost bp",
    )
    rows = [
        (
            f"<span>{escape(model.model_id)}{'&nbsp;<b>in&nbsp;use</b>' if model.in_use else ''}</span>",
            str(model.live.sessions),
            str(model.from_),
            str(model.to),
            format_money(model.live.net_usd, signed=True),
            format_sharpe(model.live.sharpe, model.live.sessions),
            format_sharpe(model.exam_sharpe, model.exam_sessions),
            f"{model.live.trades:,}",
            number(model.live.hit_rate, ".1%"),
            number(model.live.cost_bps),
        )
        for model in report.models
    ]
    newest = report.models[-_MODELS_DRAWN:]
    return [
        charts.draw_exam_against_ledger(newest, report.ledger),
        '<p class="soft">Grey: what the exam said, with its 90 % interval. Blue: what it made in the '
        f"{escape(report.ledger)} ledger.</p>",
        _fold(draw_table(columns, rows), len(rows), "models", "model"),
    ]


def _draw_cost(report: "PerformanceReport") -> str:
    total = report.total
    if total.cost_bps is None:
        return '<p class="soft">Nothing was traded.</p>'
    verdict = "less" if total.cost_bps <= report.assumed_cost_bps else "more"
    return (
        f"<p>{format_money(total.commission_usd)} USD of commission and {format_money(total.slippage_usd)} "
        "USD of slippage against "
        f"the decision's reference price: {format_basis_points(total.cost_bps)} of each unit of turnover, "
        f"{verdict} than the "
        f"{format_basis_points(report.assumed_cost_bps)} that exams assume. Gross P&amp;L "
        f"{format_money(total.gross_usd, signed=True)} USD: it would be used up at "
        f"{format_basis_points(total.break_even_bps)}.</p>"
    )


def _draw_parts(kind: str, parts: "Sequence[PartFigures]") -> str:
    columns = (kind, "net USD", "net P&L", "turnover", "trades", "won", "profit factor", "cost bp")
    rows = [
        (
            escape(part.name),
            format_money(part.net_usd, signed=True),
            number(part.pnl, "+.3%"),
            number(part.turnover, ".1f"),
            f"{part.trades:,}",
            number(part.hit_rate, ".1%"),
            number(part.profit_factor),
            number(part.cost_bps),
        )
        for part in sorted(parts, key=lambda figures: -figures.net_usd)
    ]
    return draw_table(columns, rows)


def _fold(content: str, rows: int, many: str, one: str = "") -> str:
    opened = " open" if rows <= _ROWS_OPEN else ""
    return f"<details{opened}><summary>{count(rows, one or many, many)}</summary>{content}</details>"


def _draw_trades(report: "PerformanceReport") -> list[str]:
    if not report.total.trades:
        return ['<p class="soft">No trade has ended in this span.</p>']
    columns = ("opened, UTC", "closed, UTC", "ticker", "shares", "entry", "exit", "net USD", "held, min", "model")
    rows = [
        (
            format_moment(trade.opened),
            format_moment(trade.closed),
            escape(trade.ticker),
            number(trade.quantity, "+,.6g"),
            f"{trade.entry:,.4f}",
            f"{trade.exit:,.4f}",
            f'<span class="{"good" if trade.net_usd > 0 else "bad"}">{format_money(trade.net_usd, signed=True)}</span>',
            f"{(trade.closed - trade.opened).total_seconds() / 60:.0f}",
            escape(trade.model_id),
        )
        for trade in report.trades
    ]
    return [
        *_draw_trade_bins(report),
        _fold(draw_table(columns, rows), len(rows), f"newest of {count(report.total.trades, 'trade')}"),
    ]


def _draw_trade_bins(report: "PerformanceReport") -> list[str]:
    if not report.trade_bins:
        return ['<p class="soft">No trade made or lost anything.</p>']
    nothing = report.total.trades - sum(part.trades for part in report.trade_bins)
    rest = f" {count(nothing, 'trade')} made exactly nothing, without a bar." if nothing else ""
    return [
        charts.trade_bins(report.trade_bins),
        f'<p class="soft">How many trades made how much, in USD; the outer bars hold all beyond them.{rest}</p>',
    ]


def _draw_importances(report: "PerformanceReport", importances: "Importances") -> list[str]:
    if not importances.shares or report.model_id is None:
        return ["<h2>Feature importance</h2>", f'<p class="soft">Not known: {escape(importances.problem)}</p>']
    return [
        f"<h2>Feature importance of {escape(report.model_id)}</h2>",
        draw_both(lambda width: charts.draw_importances(importances.shares, width)),
        '<p class="soft">Impurity decrease in training; it tells what the model looks at, not what earns.</p>',
    ]


def _write_series(report: "PerformanceReport") -> str:
    """Return the series as JSON, for who wants them from the page."""
    return escape_json(
        {
            "sessions": list(report.pnl_by_session),
            "pnl": list(report.pnl_by_session.values()),
            "buy_and_hold": list(report.benchmark.pnl_by_session.values()) if report.benchmark else None,
            "rolling": [[point.session.isoformat(), point.sharpe] for point in report.rolling],
            "models": [[swap.ts.isoformat(), swap.model_id] for swap in report.swaps],
        }
    )
