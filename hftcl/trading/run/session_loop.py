"""The loop around the bot: sessions, minutes, reloads, stops. One and the same live and in a replay."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from hftcl.alerts import Alert, Kind
from hftcl.errors import BrokerError, HftclError, SourceError
from hftcl.events import BANNER, Event, Level, OnEvent
from hftcl.ledger import rows
from hftcl.ledger.writer import Ledger
from hftcl.market.bars import BAR_SCHEMA, MINUTE
from hftcl.market.hours import Hours
from hftcl.trading.decide.bot import KILL_SWITCH, Bot, Minute
from hftcl.trading.decide.model_in_use import Look, ProductionWatch
from hftcl.trading.decide.shadow import Shadow
from hftcl.trading.execute.reconciliation import LATCH as UNEXPLAINED
from hftcl.trading.feeds import Delivery, Feed
from hftcl.trading.run.clock import Clock

log = logging.getLogger(__name__)

STAGE: Final = "trade"  # the name by which a view shows progress


SILENCE_MINUTES: Final = 5
"""Regular minutes without a bar of any ticker after which a person is told."""
HELD_SILENCE_MINUTES: Final = 15
"""The same of one ticker that is held, while others trade: it may be halted, or its feed broken."""


@dataclass(slots=True)
class Controls:
    """What a person wants of a running bot. Signal handlers set these; the halt file is the one that outlives it."""

    halt_file: Path | None = None
    stop: bool = False
    look: bool = False
    halt: bool = False

    def read_halt(self) -> str:
        """Return why the kill switch is pressed, "" where it is not."""
        if self.halt:
            return "the signal SIGUSR1 was received"
        if self.halt_file is not None and self.halt_file.exists():
            return f"the file {self.halt_file.name} exists{_read_reason(self.halt_file)}"
        return ""


def _read_reason(path: Path) -> str:
    """Return what a person, or `--flatten`, wrote into the file, as one line; it halts whatever it says."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            said = " ".join(file.read(200).split())
    except OSError:
        return ""
    return f": {said}" if said else ""


@dataclass(slots=True, kw_only=True)
class Loop:
    """A bot at work."""

    bot: Bot
    ledger: Ledger
    serving: ProductionWatch
    feed: Feed
    clock: Clock
    grace: timedelta
    controls: Controls
    on_event: OnEvent
    on_alert: Callable[[Alert], None]
    on_minute: Callable[[Minute], None] = lambda _: None
    shadow: Shadow | None = None
    reconcile: Callable[[], bool] = lambda: True
    """Make ledger and broker agree, and say whether they do; in a replay nobody else trades in the account."""
    alive: Callable[[], None] = lambda: None
    """Called whenever the loop has looked around: at least each second while it waits."""
    reloads: int = 0
    _problem: str = field(default="", init=False)
    _hold: str = field(default="", init=False)
    _silent: int = field(default=0, init=False)
    _stuck: set[str] = field(default_factory=set, init=False)

    def trade_session(self, hours: Hours, minutes: Iterable[datetime]) -> None:
        """Trade one session: decide on each of `minutes`, unless stopped before."""
        waiting = iter(minutes)
        first = next(waiting, None)
        if first is None:
            return
        self.look_if_due()
        self._choose_shadow()
        # what ended before the first of them is history; the first itself is decided on, be it just over
        known_at = min(first, self.clock.now())
        self.bot.begin(hours, self.feed.begin(hours, known_at), self.clock.now())
        for minute in (first, *waiting):
            self.wait_until(minute + MINUTE + self.grace)
            if self.controls.stop:
                self.bot.leave()
                return
            self._decide(minute, hours)
            self.look_if_due()
        if minute >= hours.ends - MINUTE:
            self.bot.end(self.clock.now())
        else:
            self.bot.leave()

    def stand_by(self, hours: Hours) -> None:
        """Be able to close what is held although no bars can be had: for the kill switch, and near the close."""
        now = self.clock.now()
        if not hours.begins <= now < hours.ends:
            return
        self.bot.stand_by(hours)
        if self.ledger.latches():
            self.bot.flatten(now)
        else:
            self.bot.close_if_late(now)

    def wait_until(self, moment: datetime) -> None:
        """Wait for a minute to end or a session to begin, with an eye on the controls and the production file."""
        self._glance()
        while not (self.controls.stop or self.clock.wait_until(moment)):
            self._glance()
            self.look_if_due()
        self._glance()

    def _glance(self) -> None:
        """Act on the kill switch at once, not with the next minute."""
        self.alive()
        reason = self.controls.read_halt()
        if reason and self.bot.latch(KILL_SWITCH, reason, self.clock.now()):
            self.bot.flatten(self.clock.now())
        self.controls.halt = False

    def compare(self) -> None:
        """Make ledger and broker agree; while they do not, the bot sends nothing. Raises BrokerError."""
        self.bot.agreed = self.reconcile()

    def _compare_if_cleared(self) -> None:
        """Compare again once a person has cleared a difference, which takes the broker's side."""
        if self.bot.agreed or self.ledger.is_latched(UNEXPLAINED):
            return
        try:
            self.compare()
        except BrokerError as error:  # in the middle of a session it must not end the bot
            self.bot.latch(UNEXPLAINED, f"the broker could not be asked what is held: {error}", self.clock.now())
        self.bot.resume()

    def _decide(self, minute: datetime, hours: Hours) -> None:
        self._compare_if_cleared()
        try:
            delivery = self.feed.minute(minute, self.clock.now())
        except SourceError as error:
            self.tell_fault("no bars", str(error))
            delivery = Delivery(minute=minute, bars=BAR_SCHEMA.to_frame())
        self.on_minute(self.bot.decide_minute(delivery, self.clock.now()))
        self._tell_hold()
        self._tell_silence(delivery, hours)
        problem = self.feed.problem()
        if problem and problem != self._problem:
            self.tell_fault("the feed has a problem", problem)
        self._problem = problem
        for finding in delivery.findings:
            text = f"{finding.ticker}: {finding.count} bar dropped, {finding.reason}"
            self.on_event(Event(STAGE, text=text, level=Level.WARNING))

    def _tell_silence(self, delivery: Delivery, hours: Hours) -> None:
        """Tell once of a market in which no ticker trades any more: a feed may fail and find nothing wrong with it."""
        regular = hours.opens <= delivery.minute < hours.closes
        if not regular or delivery.bars.height:
            self._silent = 0
            if regular:
                self._tell_stuck(delivery.minute)
            return
        self._silent += 1
        if self._silent == SILENCE_MINUTES:
            text = (
                f"No ticker has had a bar for {SILENCE_MINUTES} minutes, and the session is open: nothing is traded, "
                "and what is held stays until bars come or the close is near. Look at the vendor, or for a halt."
            )
            self.tell_fault("no bars of any ticker", text)

    def _tell_stuck(self, minute: datetime) -> None:
        """Tell once of a ticker that is held and has fallen silent alone."""
        silent = {
            ticker for ticker, n in self.bot.count_minutes_without_bars(minute).items() if n >= HELD_SILENCE_MINUTES
        }
        for ticker in sorted(silent - self._stuck):
            text = (
                f"{ticker} is held and has had no bar for {HELD_SILENCE_MINUTES} minutes, while others trade: it is "
                "not traded, and stays until its bars come or the close is near. Look at the vendor, or for a halt."
            )
            self.tell_fault(f"no bars of {ticker}, which is held", text)
        self._stuck = silent

    def tell_fault(self, subject: str, text: str) -> None:
        """Tell a person, the log and the ledger that bars are missing."""
        now = self.clock.now()
        self.ledger.write_event(rows.LedgerEvent(at=now, kind="data", text=text))
        self.on_event(Event(STAGE, text=text, level=Level.WARNING))
        self.on_alert(Alert(Kind.DATA_HOLE, subject, text, now))

    # --- the model --------------------------------------------------------------------------------------------------

    def adopt(self) -> None:
        """Let the bot use the model that the serving has loaded before the loop began."""
        in_use = self.serving.in_use
        if in_use is not None:
            self.bot.use(in_use)
            self.ledger.set_meta(model_id=in_use.model_id, model_since=in_use.since.isoformat())

    def _choose_shadow(self) -> None:
        """Let the newest narrow candidate trade beside production, from this session on."""
        serving, side = self.serving.in_use, self.bot.shadow
        if self.shadow is None or side is None or serving is None:
            return
        now = self.clock.now()
        try:
            found = self.shadow.load_candidate(serving, now)
        except HftclError as error:
            self.on_event(Event(STAGE, text=f"no shadow: {error}", level=Level.WARNING))
            found = None
        if (found.model_id if found else None) != (side.in_use.model_id if side.in_use else None):
            self.bot.use(found, side)
            self.ledger.set_meta(
                shadow_model_id=found.model_id if found else "", shadow_model_since=now.isoformat() if found else ""
            )
            name = found.model_id if found else "none"
            self.ledger.write_event(
                rows.LedgerEvent(at=now, kind="shadow", text=f"{name} trades virtually", model_id=name)
            )

    def look_if_due(self) -> None:
        """Look at the production file where it is time to, or a person asked for it."""
        now = self.clock.now()
        if self.controls.look or self.serving.is_due(now):
            self.controls.look = False
            self._take(self.serving.look(now), now)

    def _take(self, look: Look, now: datetime) -> None:
        if look.outcome == "refused":
            stays = f"Model {look.before} stays" if look.before else "Nothing is traded"
            text = f"{look.reason} {stays}."
            self.ledger.write_event(rows.LedgerEvent(at=now, kind="reload_refused", text=text, model_id=look.before))
            self.on_event(Event(STAGE, text=text, level=Level.WARNING))
            self.on_alert(Alert(Kind.RELOAD_REFUSED, "the production model was refused", text, now, look.before))
        if look.outcome == "reloaded" and self.serving.in_use is not None:
            self.bot.use(self.serving.in_use)
            self.reloads += look.before is not None
            self.ledger.set_meta(model_id=str(look.after), model_since=now.isoformat(), reloads=str(self.reloads))
            self.ledger.write_event(
                rows.LedgerEvent(
                    at=now, kind="reloaded", text=f"{look.before or 'none'} -> {look.after}", model_id=look.after
                )
            )
            if look.before is not None:
                for line in look.banner:
                    self.on_event(Event(BANNER, text=line, level=Level.NOTE))
        self._tell_hold()

    def _tell_hold(self) -> None:
        """Tell why nothing is traded, in the minute in which it begins; of a model that is too old, each day anew."""
        now, in_use = self.clock.now(), self.serving.in_use
        hold = self.bot.explain_hold(now)
        if hold and hold != self._hold:
            self.on_event(Event(STAGE, text=hold, level=Level.WARNING))
            self.on_alert(Alert(Kind.HALTED, "nothing is traded", hold, now, in_use.model_id if in_use else None))
        self._hold = hold
