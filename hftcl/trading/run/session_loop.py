"""The loop around the bot: sessions, minutes, reloads, stops. One and the same live and in a replay."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Final, Protocol, TypeVar

from hftcl.alerts import Alert, Kind
from hftcl.errors import BrokerError, IntegrityError, LockHeldError, SourceError, StorageError, WaitEndedError
from hftcl.events import Event, Level, OnEvent
from hftcl.ledger import rows
from hftcl.ledger.rows import BARRED
from hftcl.ledger.writer import Ledger
from hftcl.market.bars import BAR_SCHEMA, MINUTE
from hftcl.market.hours import Hours
from hftcl.trading.decide.bot import CLEAR, KILL_SWITCH, Bot, Minute
from hftcl.trading.decide.model_in_use import ProductionWatch
from hftcl.trading.decide.shadow import Shadow
from hftcl.trading.execute.patience import Look as LookAround
from hftcl.trading.execute.reconciliation import HANDED
from hftcl.trading.execute.reconciliation import LATCH as UNEXPLAINED
from hftcl.trading.feeds import Delivery, Feed
from hftcl.trading.run import STAGE
from hftcl.trading.run.clock import Clock
from hftcl.trading.run.clock_watch import ClockWatch, Offsets, measure_by_vendor, measure_offsets
from hftcl.trading.run.controls import Controls
from hftcl.trading.run.late_bars import LateBars
from hftcl.trading.run.model_changes import ModelChanges
from hftcl.trading.run.pauses import hold_back_collector, set_apart_what_stays
from hftcl.trading.run.reserve import LEAST_FREE, Reserve
from hftcl.trading.run.silence import Silence
from hftcl.trading.run.splits import DueSplits

log = logging.getLogger(__name__)

DISK_FULL: Final = "disk_full"
DISPUTED_MINUTES: Final = 5
"""Minutes in which fills that are told late may still explain a difference."""
ASK_TAKES: Final = timedelta(seconds=30)
"""What a wait must still last for the broker to be asked the time in it: one that hangs takes 11 s as configured."""
_T = TypeVar("_T")


class Patiently(Protocol):
    """Does what takes long."""

    def __call__(self, call: Callable[[], _T], look: LookAround) -> _T:
        """Return what `call` gives. Raises WaitEndedError where `look` said not to wait any longer."""
        ...


def _call_at_once(call: Callable[[], _T], look: LookAround) -> _T:
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
    patiently: Patiently = _call_at_once
    """Does what takes long, and looks around meanwhile; at once in a replay."""
    splits: Callable[[date], DueSplits] = lambda _: {}
    """(session) -> the splits that what is held has not met yet."""
    note_splits: Callable[[], None] = lambda: None
    """Called once those splits are booked."""
    their_time: Callable[[], datetime | None] = lambda: None
    """What time it is at the broker, None where it does not say."""
    reserve: Reserve | None = None
    """Room on the disk, given up when it is full; None in a replay."""
    late: LateBars = field(default_factory=LateBars)
    _disk_told: bool = field(default=False, init=False)
    _unwritable: str = field(default="", init=False)
    _pressed: bool = field(default=False, init=False)
    _acting: bool = field(default=False, init=False)
    _unprepared: str = field(default="", init=False)
    _problem: str = field(default="", init=False)
    _clock_watch: ClockWatch = field(default_factory=ClockWatch, init=False)
    _models: ModelChanges = field(init=False)
    _silence: Silence = field(init=False)

    def __post_init__(self) -> None:
        self._models = ModelChanges(
            bot=self.bot, ledger=self.ledger, serving=self.serving, on_event=self.on_event, on_alert=self.on_alert
        )
        self._silence = Silence(tell=self.tell_fault, count_held=self.bot.count_minutes_without_bars)

    def trade_session(self, hours: Hours, minutes: Iterable[datetime]) -> bool:
        """Trade one session: decide on each of `minutes`, unless stopped before; return False where the clock was put
        into another minute, whose session and minutes are to be found first.
        """
        waiting = iter(minutes)
        first = next(waiting, None)
        if first is None:
            return True
        self.look_if_due()
        self.compare_clocks()
        self._look_at_disk()
        self._models.choose_shadow(self.shadow, self.clock.now())
        if self.patiently is not _call_at_once:
            self.stand_by(hours)  # bars may take long to collect, and the kill switch does not wait for them
        # what ended before the first of them is history; the first itself is decided on, be it just over
        known_at = min(first, self.clock.now())
        try:
            morning = self.patiently(lambda: self.feed.begin(hours, known_at), self._act_around)
        except WaitEndedError:
            return True
        self.bot.begin(hours, morning, self.clock.now(), self.splits(hours.session))
        self.note_splits()
        self._unprepared = ""
        self._silence.note_left_out(morning)
        self._models.watchlist = (*morning.tickers, *morning.left_out)
        self._models.tell_untrained()
        with set_apart_what_stays():
            for minute in (first, *waiting):
                if not self._await(minute + MINUTE + self.grace):
                    self._leave(hours, is_over=not self.controls.stop and self.clock.now() >= hours.ends)
                    return self.controls.stop
                with hold_back_collector():
                    self._decide(minute, hours)
                self.look_if_due()
                self._catch_up()
                self.compare_clocks()  # behind the orders, for a broker that hangs is waited for
        self._leave(hours, is_over=minute >= hours.ends - MINUTE)
        return True

    def _leave(self, hours: Hours, *, is_over: bool) -> None:
        """End the session where it is over, be it because the clock was put; else note what a stop would lose."""
        if is_over:
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
        if self.ledger.read_latches():
            self.bot.flatten(now)
        else:
            self.bot.close_if_late(now)

    def wait_until(self, moment: datetime) -> bool:
        """Wait for a minute to end or a session to begin, with an eye on the controls and the production file.

        A clock that is put ends the wait, so that its caller looks for session and minute again; False then.
        """
        self._glance()
        has_come = False
        while not (self.controls.stop or has_come):
            has_come = self.clock.wait_until(moment)
            self._glance()
            was_put = self._clock_watch.notice(self.clock)
            has_time = not has_come and moment - self.clock.now() > ASK_TAKES
            if was_put or has_time:  # a clock that is put back must not let a session pass in silence
                self.compare_clocks()
            if was_put:
                return False
            if not has_come:
                self.look_if_due()
        return True

    def _await(self, moment: datetime) -> bool:
        """Wait for a minute's bars; return False for a stop, and where the clock was put into another minute."""
        while not self.wait_until(moment):
            if abs(self.clock.now() - moment) > MINUTE:
                return False
        return not self.controls.stop

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
        if self.bot.is_correction_due():

            def look() -> bool:  # what has begun is finished: it takes seconds, and the kill switch acts meanwhile
                self._glance()
                return False

            self.patiently(self.bot.correct, look)

    def compare_clocks(self) -> None:
        """Compare this machine's time with broker's and vendor's where that is due, see `ClockWatch`; a difference is
        told.
        """
        if self._clock_watch.is_due(self.clock):
            self._judge_clock(measure_offsets(self.clock, self.their_time, self.feed))

    def _judge_clock(self, offsets: Offsets) -> None:
        news = self._clock_watch.judge(offsets)
        self.bot.clock_off = self._clock_watch.stops
        if news:
            self.tell_fault("the clock is wrong", news)

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
        meta, desk = self.ledger.open_meta(), self.bot.production.desk
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
        if self._clock_watch.is_unknown:  # the bars may have brought the vendor's time, and be of the wrong minute
            self._judge_clock(measure_by_vendor(self.feed))
        if not self._decide_minute(delivery):
            return
        if self._pressed:
            self._glance()
        self._settle_dispute()
        self.grace = self.bot.grace = self.late.note(delivery, self.grace)
        self._models.tell_hold(self.clock.now())
        self._silence.note(delivery, hours)
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
                self.bot.latch(DISK_FULL, self._unwritable, now, is_told=self._disk_told)  # it may be written again
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
            reason = f"{error} What is held is closed; free some space"
            latched = self.bot.latch(DISK_FULL, reason, now, is_told=not news)
            self._unwritable = ""
            self.bot.flatten(now)
        except StorageError as again:
            self._unwritable = str(again)
            if news and not latched and not self.ledger.is_latched(DISK_FULL):  # else the latch has told it
                text = (
                    f"{error} Nothing is opened, and what is held is closed by what the broker says. Free some space; "
                    f"then {CLEAR}"
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

    @property
    def reloads(self) -> int:
        """How many times another model was taken up."""
        return self._models.reloads

    def adopt(self) -> None:
        """Let the bot use the model that the serving has loaded before the loop began."""
        self._models.adopt()

    def look_if_due(self) -> None:
        """Look at the production file where it is time to, or a person asked for it."""
        now = self.clock.now()
        if self.controls.look or self.serving.is_due(now):
            self.controls.look = False
            self._models.take(self.serving.look(now), now)
