"""The loop around the bot: sessions, minutes, reloads, stops. One and the same live and in a replay."""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Protocol, TypeVar

from hftcl import durable
from hftcl.alerts import Alert, Kind
from hftcl.archive.fitness import describe_untrained
from hftcl.errors import (
    BrokerError,
    HftclError,
    IntegrityError,
    LockHeldError,
    SourceError,
    StorageError,
    WaitEndedError,
)
from hftcl.events import BANNER, Event, Level, OnEvent
from hftcl.ledger import rows
from hftcl.ledger.rows import BARRED
from hftcl.ledger.writer import Ledger
from hftcl.market.bars import BAR_SCHEMA, MINUTE
from hftcl.market.hours import Hours
from hftcl.trading.decide.bot import KILL_SWITCH, Bot, Minute
from hftcl.trading.decide.model_in_use import Look, ProductionWatch
from hftcl.trading.decide.shadow import Shadow
from hftcl.trading.execute.patience import Look as LookAround
from hftcl.trading.execute.reconciliation import HANDED
from hftcl.trading.execute.reconciliation import LATCH as UNEXPLAINED
from hftcl.trading.feeds import Delivery, Feed, Morning, VendorClock
from hftcl.trading.run.clock import Clock
from hftcl.trading.run.late_bars import LateBars
from hftcl.trading.run.reserve import LEAST_FREE, Reserve

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

    def urgent(self) -> bool:
        """Whether a person wants something that nothing may be waited for: a stop, or the kill switch."""
        return self.stop or bool(self.read_halt())

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
        said = " ".join(durable.read_file(path)[:200].decode(errors="replace").split())
    except OSError:
        return ""
    return f": {said}" if said else ""


CLOCK_TOLD_S: Final = 3.0  # a machine with NTP is off by milliseconds; a few seconds cost the grace of the bars
CLOCK_STOPS_S: Final = 60.0
"""Seconds by which clocks may differ before a person is told, and before nothing is opened any more: a minute's bars
would be taken for another's."""
DISK_FULL: Final = "disk_full"
DISPUTED_MINUTES: Final = 5
"""Minutes in which fills that are told late may still explain a difference."""
_CLOCK_LOOKED_EACH: Final = timedelta(hours=1)  # a clock drifts by a second a day at worst

_T = TypeVar("_T")


class Patiently(Protocol):
    """Does what takes long."""

    def __call__(self, call: Callable[[], _T], look: LookAround) -> _T:
        """Return what `call` gives. Raises WaitEndedError where `look` said not to wait any longer."""
        ...


def _at_once(call: Callable[[], _T], look: LookAround) -> _T:
    return call()


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
    """Make ledger and broker agree, and say whether they do; in a replay the account is the bot's alone."""
    alive: Callable[[], None] = lambda: None
    """Called whenever the loop has looked around: at least each second while it waits."""
    patiently: Patiently = _at_once
    """Does what takes long, and looks around meanwhile; at once in a replay."""
    splits: Callable[[Hours, tuple[str, ...]], Mapping[str, float]] = lambda _, __: {}
    """(session, tickers) -> new shares for an old one, of the splits that take effect in it."""
    their_time: Callable[[], datetime | None] = lambda: None
    """What time it is at the broker, None where it does not say."""
    reloads: int = 0
    reserve: Reserve | None = None
    """Room on the disk, given up when it is full; None in a replay."""
    late: LateBars = field(default_factory=LateBars)
    _disk_told: bool = field(default=False, init=False)
    _unwritable: str = field(default="", init=False)
    _pressed: bool = field(default=False, init=False)
    _acting: bool = field(default=False, init=False)
    _left_out: frozenset[str] = field(default=frozenset(), init=False)
    _watchlist: tuple[str, ...] = field(default=(), init=False)
    _untrained: str | None = field(default=None, init=False)
    _clock_looked: datetime | None = field(default=None, init=False)
    _clock_told: bool = field(default=False, init=False)
    _unprepared: str = field(default="", init=False)
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
        self._look_at_disk()
        self._choose_shadow()
        if self.patiently is not _at_once:
            self.stand_by(hours)  # bars may take long to collect, and the kill switch does not wait for them
        # what ended before the first of them is history; the first itself is decided on, be it just over
        known_at = min(first, self.clock.now())
        try:
            morning = self.patiently(lambda: self.feed.begin(hours, known_at), self._act_around)
        except WaitEndedError:
            return
        self.bot.begin(hours, morning, self.clock.now(), self.splits(hours, morning.tickers))
        self._unprepared = ""
        self._tell_left_out(morning)
        self._watchlist = (*morning.tickers, *morning.left_out)
        self._tell_untrained()
        for minute in (first, *waiting):
            self.wait_until(minute + MINUTE + self.grace)
            if self.controls.stop:
                self.bot.leave()
                return
            self._compare_clocks()
            self._decide(minute, hours)
            self.look_if_due()
            self._catch_up()
        if minute >= hours.ends - MINUTE:
            self.bot.end(self.clock.now())
            self._archive(hours)
        else:
            self.bot.leave()

    def _archive(self, hours: Hours) -> None:
        """Sum up the fills and move the decisions of ended sessions out of the ledger; else they wait."""
        try:
            self.ledger.write_snapshots(hours.ends)
            self.patiently(lambda: self.ledger.archive(hours.ends), self.look_around)
        except WaitEndedError:
            return  # a person wants a stop
        except (StorageError, IntegrityError, LockHeldError) as error:
            self.tell_fault("the decisions of the session could not be archived", str(error))

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

    def look_around(self) -> bool:
        """Look around while something is waited for; return whether not to wait any longer.

        A kill switch that is pressed is on disk before anything else is done. While its orders go out only a stop ends
        a wait.
        """
        self.alive()
        reason = self.controls.read_halt()
        if reason and not self._acting and not self._pressed:
            try:
                self._pressed = self.bot.latch(KILL_SWITCH, reason, self.clock.now())
            except StorageError as error:
                self._pressed, self._unwritable = True, str(error)
            self.controls.halt = False
        return self.controls.stop or (self._pressed and not self._acting)

    def _glance(self) -> None:
        """Act on the kill switch at once, not with the next minute."""
        self.look_around()
        if self._pressed and not self._acting:
            self._acting = True
            try:
                self.bot.flatten(self.clock.now())
            except StorageError as error:
                self._close_without_disk(error)
            finally:
                self._acting = self._pressed = False

    def _act_around(self) -> bool:
        """Look around while bars are waited for, and act on the kill switch; return whether to stop."""
        self._glance()
        return self.controls.stop

    def _catch_up(self) -> None:
        """Compute again from corrected bars, the orders of the minute being out."""
        if self.bot.correction_due():

            def look() -> bool:  # what has begun is finished: it takes seconds, and the kill switch acts meanwhile
                self._glance()
                return False

            self.patiently(self.bot.correct, look)

    def _compare_clocks(self) -> None:
        """Compare this machine's time with broker's and vendor's, at the start and each hour; a difference is told."""
        now = self.clock.now()
        if self._clock_looked is not None and timedelta(0) <= now - self._clock_looked < _CLOCK_LOOKED_EACH:
            return
        self._clock_looked = now
        offsets = self._measure_clocks()
        stopped, self.bot.clock_off = self.bot.clock_off, ""
        whose, ahead_s = max(offsets.items(), key=lambda item: abs(item[1]), default=("", 0.0))
        before, self._clock_told = self._clock_told, abs(ahead_s) > CLOCK_TOLD_S
        if not self._clock_told:
            return
        text = (
            f"This machine's clock is {abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} the {whose}'s. "
            "Set it by NTP (`timedatectl`)."
        )
        if abs(ahead_s) > CLOCK_STOPS_S:
            self.bot.clock_off = f"{text} Nothing is opened while it is more than {CLOCK_STOPS_S:g} s off."
        if not before or (self.bot.clock_off and not stopped):
            self.tell_fault("the clock is wrong", self.bot.clock_off or text)

    def _measure_clocks(self) -> dict[str, float]:
        """Return the seconds by which this machine's clock is ahead of the broker's and the vendor's, as they say."""
        offsets: dict[str, float] = {}
        try:
            broker_time = self.their_time()
        except BrokerError:
            broker_time = None  # that it does not answer is told by the desk
        if broker_time is not None:
            offsets["broker"] = (self.clock.now() - broker_time).total_seconds()
        vendor_s = self.feed.clock_ahead_s() if isinstance(self.feed, VendorClock) else None
        if vendor_s is not None:
            offsets["vendor"] = vendor_s
        return offsets

    def _tell_left_out(self, morning: Morning) -> None:
        """Name the tickers that are left out of a session, and the weight that the others keep."""
        left_out = frozenset(morning.left_out)
        if left_out - self._left_out:
            names = "; ".join(f"{ticker}: {morning.left_out[ticker]}" for ticker in sorted(left_out))
            count = len(morning.tickers)
            text = (
                f"Not traded in this session: {names}. Each of the other {count} keeps its weight, "
                f"1/{count + len(left_out)} of the capital, as in the exam. A ticker that is delisted or has a new "
                "name belongs out of [market] watchlist."
            )
            self.tell_fault(f"left out: {', '.join(sorted(left_out))}", text)
        self._left_out = left_out

    def _tell_untrained(self) -> None:
        """Name the tickers that the model in use was not trained on, once for each model."""
        in_use = self.serving.in_use
        text = describe_untrained(in_use.model_id, in_use.model.meta.tickers, self._watchlist) if in_use else None
        if text and text != self._untrained:
            self.on_event(Event(STAGE, text=text, level=Level.WARNING))
        self._untrained = text

    def compare(self) -> None:
        """Make ledger and broker agree; while they do not, the bot sends nothing. Raises BrokerError."""
        self.bot.agreed = self.reconcile()

    def _compare_if_cleared(self) -> None:
        """Compare again once a person has cleared a difference, which takes the broker's side."""
        if self.bot.agreed or self.ledger.is_latched(UNEXPLAINED):
            return
        try:
            self.compare()
        except WaitEndedError:
            return  # a person wants a stop
        except BrokerError as error:  # in the middle of a session it must not end the bot
            self.bot.latch(UNEXPLAINED, f"the broker could not be asked what is held: {error}", self.clock.now())
        self.bot.resume()

    def _take_clearance(self) -> None:
        """Take what a person has cleared or handed over while the bot runs."""
        meta, desk = self.ledger.meta(), self.bot.production.desk
        if meta.get(HANDED):
            desk.adopt_foreign(self.clock.now())
            self.ledger.set_meta(**{HANDED: ""})
        if desk.barred and not meta.get(BARRED):
            desk.barred = ""

    def _settle_dispute(self) -> None:
        """Where ledger and broker have differed for minutes, look closely, which latches what cannot be explained."""
        if self.bot.agreed and self.bot.production.desk.disputed_minutes >= DISPUTED_MINUTES:
            try:
                self.compare()
            except BrokerError:
                return  # told by the desk; looked at again with the next minute
            self.bot.resume()

    def _decide(self, minute: datetime, hours: Hours) -> None:
        self._take_clearance()
        self._compare_if_cleared()
        try:
            delivery = self.patiently(lambda: self.feed.minute(minute, self.clock.now()), self._act_around)
        except WaitEndedError:
            delivery = Delivery(minute=minute, bars=BAR_SCHEMA.to_frame())
        except SourceError as error:
            self.tell_fault("no bars", str(error))
            delivery = Delivery(minute=minute, bars=BAR_SCHEMA.to_frame())
        if not self._decide_minute(delivery):
            return
        if self._pressed:
            self._glance()
        self._settle_dispute()
        self.grace = self.bot.grace = self.late.note(delivery, self.grace)
        self._tell_hold()
        self._tell_silence(delivery, hours)
        problem = self.feed.problem()
        if problem and problem != self._problem:
            self.tell_fault("the feed has a problem", problem)
        self._problem = problem
        for finding in delivery.findings:
            text = f"{finding.ticker}: {finding.count} bar dropped, {finding.reason}"
            self.on_event(Event(STAGE, text=text, level=Level.WARNING))

    def _decide_minute(self, delivery: Delivery) -> bool:
        """Decide on a minute; False where nothing can be written, and what is held is closed by the broker's word."""
        now = self.clock.now()
        try:
            if self._unwritable:
                self.bot.latch(DISK_FULL, self._unwritable, now)  # it may be written again
                self._unwritable = ""
                self.compare()  # what was closed meanwhile is taken over
                self.bot.resume()
            self.on_minute(self.bot.decide_minute(delivery, self.clock.now()))
            self._disk_told = False
        except StorageError as error:
            self._close_without_disk(error)
            return False
        except BrokerError as error:
            self.fault_once("ledger and broker cannot be compared yet", str(error))
            return False
        return True

    def _close_without_disk(self, error: StorageError) -> None:
        """Give up the reserve, so that latch and closing orders can be written; else latch in memory and close."""
        now, news, self._disk_told = self.clock.now(), not self._disk_told, True
        self._unwritable = str(error)
        if self.reserve is not None:
            self.reserve.give_up()
        if news:
            log.error("nothing can be written why=%s", error)
        latched = False
        try:
            latched = self.bot.latch(DISK_FULL, f"{error} What is held is closed; free some space", now)
            self._unwritable = ""
            self.bot.flatten(now)
        except StorageError as again:
            self._unwritable = str(again)
            if news and not latched and not self.ledger.is_latched(DISK_FULL):  # else the latch has told it
                text = (
                    f"{error} Nothing is opened, and what is held is closed by what the broker says. Free some space."
                )
                self.on_event(Event(STAGE, text=text, level=Level.WARNING))
                self.on_alert(Alert(Kind.HALTED, "nothing can be written: everything is closed", text, now))
            try:
                self.bot.close_without_ledger(now)
            except BrokerError as fault:  # tried again with the next minute
                log.error("nothing can be closed why=%s", fault)  # noqa: TRY400 - no traceback needed

    def _look_at_disk(self) -> None:
        """Keep the reserve, and tell early where the disk fills up."""
        if self.reserve is None:
            return
        kept, free = self.reserve.keep(), self.reserve.free()
        if free < LEAST_FREE or not kept:
            text = (
                f"{free / 1e6:,.0f} MB are free in {self.reserve.home}. When nothing can be written any more the bot "
                "closes everything. Free some space."
            )
            self.tell_fault("the disk is nearly full", text)

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

    def fault_once(self, subject: str, text: str) -> None:
        """Tell a person of a fault that is looked at again each minute, when it begins or becomes another."""
        if self._unprepared != text:
            self._unprepared = text
            self.tell_fault(subject, text)

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
            candidate = self.shadow.load_candidate(serving, now)
        except HftclError as error:
            self.on_event(Event(STAGE, text=f"no shadow: {error}", level=Level.WARNING))
            candidate = None
        if (candidate.model_id if candidate else None) != (side.in_use.model_id if side.in_use else None):
            self.bot.use(candidate, side)
            self.ledger.set_meta(
                shadow_model_id=candidate.model_id if candidate else "",
                shadow_model_since=now.isoformat() if candidate else "",
            )
            name = candidate.model_id if candidate else "none"
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
            self._tell_untrained()
        self._tell_hold()

    def _tell_hold(self) -> None:
        """Tell why nothing is traded, in the minute in which it begins; of a model that is too old, once each day."""
        now, in_use = self.clock.now(), self.serving.in_use
        hold = self.bot.explain_hold(now)
        if hold and hold != self._hold:
            self.on_event(Event(STAGE, text=hold, level=Level.WARNING))
            self.on_alert(Alert(Kind.HALTED, "nothing is traded", hold, now, in_use.model_id if in_use else None))
        self._hold = hold
