"""What the bars of one ticker are worth: are they true, and are they enough? Pure.

A ticker whose bars cannot be true, or are too few, is left out with the reason; the others go on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

import polars as pl

from hftcl.errors import ImplausibleBarsError, RefusedBarsError
from hftcl.formats import count, format_moment_to_second
from hftcl.market import bars as market
from hftcl.market.bars import Finding
from hftcl.market.collect_window import CollectWindow
from hftcl.market.coverage import Coverage, measure_coverage
from hftcl.market.doubts import FATAL, find_doubts, find_whole_prices, find_wrong_hour
from hftcl.market.month_files import HeldSession
from hftcl.market.received import TickerCoverage, count_received
from hftcl.market.sessions import Calendar
from hftcl.market.shelf import keep_days, sort_bars
from hftcl.market.sources import BarSource, Split, as_local
from hftcl.market.splits import adjust_for_splits, drop_past, find_unannounced_splits

_CONTINUOUS: Final = "24/7"  # the calendar without a close, of exchange_calendars
BY_REQUEST: Final = frozenset({"future", "still_open"})
"""Reasons to drop a bar that lie in when we asked, not in the vendor: the next collection has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TickerShare:
    """One ticker's share of what is collected; `left_out` says why it has none, "" where only the source knows.

    refused: the error of the source, where it refuses the bars of this ticker alone.
    """

    bars: pl.DataFrame
    findings: list[Finding]
    left_out: str
    fetched: int
    covered: TickerCoverage
    jumps: tuple[Finding, ...] = ()
    refused: RefusedBarsError | None = None

    @property
    def fatal(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.reason in FATAL]


def judge_ticker(
    ticker: str,
    bars: pl.DataFrame,
    splits: Sequence[Split],
    window: CollectWindow,
    findings: Sequence[Finding],
    *,
    fetched: int,
    held: Mapping[date, HeldSession],
    source: BarSource,
    calendar: Calendar,
) -> TickerShare:
    """Return the bars of the window labelled, limited to what was known and adjusted for splits, and what they show.

    bars: of `ticker` as `month_files` reads them, unadjusted. findings: of fetching them. fetched: sessions that were
    asked for. held: what the cache holds of each session. source: only what it says of itself is looked at.
    """
    findings = list(findings)
    bars = sort_bars(keep_days(bars, window.days))
    labelled = market.label(bars, window.sessions, getattr(source, "columns", ()))
    if labelled.height < bars.height:  # the calendar was corrected since they were stored
        findings.append(Finding(ticker, "outside_session", bars.height - labelled.height))
    if labelled.height and labelled["ts"][-1] + market.MINUTE > window.as_of:
        labelled = labelled.filter(pl.col("ts") + market.MINUTE <= window.as_of)
    known = getattr(source, "label_known", False)
    doubts = () if known else market.find_label_doubt(labelled, ticker=ticker)
    jumps = find_unannounced_splits(labelled, splits)
    labelled = labelled if window.keep_past else drop_past(labelled, jumps)
    adjusted = adjust_for_splits(labelled, splits)
    if not source.synthetic:
        if not as_local(source):  # whose own look at its files says what to set
            doubts = (*doubts, *find_wrong_hour(labelled, calendar, ticker=ticker))
        doubts = (*doubts, *find_whole_prices(labelled, ticker=ticker))
        doubts = (*doubts, *find_doubts(adjusted, ticker=ticker, continuous=calendar.name == _CONTINUOUS))
    if not window.extended_hours:
        adjusted = adjusted.filter("regular")
    covered = measure_coverage(adjusted, window.closed, ticker=ticker)
    received = count_received(
        adjusted, window.closed, ticker=ticker, quarantined=sum_dropped(findings),
        revised={day: session.revisions for day, session in held.items()},
    )  # fmt: skip
    return TickerShare(
        bars=adjusted,
        findings=[*findings, *doubts, *jumps, *covered.findings],
        left_out=_explain_untruth(doubts) or _explain_lack(adjusted, covered, window, findings, jumps),
        fetched=fetched,
        covered=received,
        jumps=jumps,
    )


def _explain_untruth(doubts: Sequence[Finding]) -> str:
    """Say what shows that bars cannot be true; "" for nothing."""
    fatal = dict.fromkeys(doubt.detail for doubt in [doubt for doubt in doubts if doubt.reason in FATAL][:3])
    return f"its bars cannot be true: {'; '.join(fatal)}" if fatal else ""


def _explain_lack(
    bars: pl.DataFrame, covered: Coverage, window: CollectWindow, findings: Sequence[Finding], jumps: Sequence[Finding]
) -> str:
    """Say why `bars`, what is left of a ticker's, are too few, as far as its `findings` tell; "" where they are not."""
    if bars.is_empty():
        return _explain_drops(findings)
    if not covered.expected_sessions or covered.share >= window.min_coverage:
        return ""
    text = (
        f"coverage {covered.sessions} of {count(covered.expected_sessions, 'session')}, and [market] "
        f"min_coverage asks for {window.min_coverage:.0%} of them{_explain_beginning(bars, window)}"
    )
    if jumps and not window.keep_past:
        text += (
            f". What lies before was left out: {jumps[-1].detail}, near the ratio of a split that the source "
            "does not announce"
        )
    return text


def build_implausible_error(fatal: Sequence[Finding]) -> ImplausibleBarsError:
    """Return the error of a window of which every ticker is left out; fatal: what says that bars cannot be true."""
    details = [f"{finding.ticker}: {finding.detail}" for finding in fatal]
    more = f"; {len(details) - 3} more findings" if len(details) > 3 else ""
    return ImplausibleBarsError(
        f"These bars cannot be true, and no model is trained on them: {'; '.join(details[:3])}{more}. "
        "Correct the bars or take the tickers from [market] watchlist; `hftcl inspect` shows a folder of files."
    )


def join_refusals(refused: Sequence[RefusedBarsError]) -> RefusedBarsError:
    """Return the error of a window of which every ticker is left out: the reasons, each once."""
    reasons = list(dict.fromkeys(map(str, refused)))
    more = f" {len(reasons) - 2} more are refused like it." if len(reasons) > 2 else ""
    return RefusedBarsError(" ".join(reasons[:2]) + more)


def sum_dropped(findings: Sequence[Finding]) -> dict[date, int]:
    """Return how many rows of each session were dropped."""
    counts: dict[date, int] = {}
    for finding in findings:
        if finding.session is not None and finding.reason in market.DROPPED and finding.reason not in BY_REQUEST:
            counts[finding.session] = counts.get(finding.session, 0) + finding.count
    return counts


def _explain_drops(findings: Sequence[Finding]) -> str:
    """Return why no bar was left: the reasons with counts, and the first bar of the commonest."""
    dropped = [finding for finding in market.merge_findings(findings) if finding.reason in market.DROPPED]
    if not dropped:
        return ""
    dropped.sort(key=lambda finding: -finding.count)
    reasons = [f"{finding.count:,} because {market.DROPPED[finding.reason]}" for finding in dropped]
    first = dropped[0].first
    example = f", the first at {format_moment_to_second(first)} UTC" if first else ""
    total = sum(finding.count for finding in dropped)
    return f"no bars were left: {total} were dropped ({'; '.join(reasons)}{example})"


def _explain_beginning(bars: pl.DataFrame, window: CollectWindow) -> str:
    """Return what to set where the bars begin long after the window does."""
    first, last = bars["session"].min(), window.days[-1]
    if not isinstance(first, date) or (first - window.days[0]).days <= 7:
        return ""
    return f"; they begin on {first}: set [market] lookback_days = {(last - first).days + 1} or less"
