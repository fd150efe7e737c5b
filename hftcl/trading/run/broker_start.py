"""A start with the broker: its account waited for, what it says of it told, the ledger compared with what it holds."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from hftcl.alerts import Alert, Kind
from hftcl.errors import BrokerError
from hftcl.events import Event, Level
from hftcl.ledger import rows
from hftcl.ledger.writer import Ledger
from hftcl.settings import Settings
from hftcl.trading.brokers import Account, Broker, read_traits
from hftcl.trading.decide.bot import KILL_SWITCH
from hftcl.trading.execute.patience import Look, PatientBroker
from hftcl.trading.run import STAGE
from hftcl.trading.run.present import Present
from hftcl.trading.run.session_loop import Loop

_ASK_AGAIN: Final = timedelta(seconds=30)
"""Between two questions to a broker that does not answer at the start."""
_SPARE_S: Final = 1.0  # the request's own end comes first, and says more


@dataclass(slots=True)
class Around:
    """Looks around while the broker is waited for: as the loop does, and before there is one as far as may be."""

    ledger: Ledger
    present: Present
    loop: Loop | None = None

    def look(self) -> bool:
        """Return whether not to wait any longer."""
        if self.loop is not None:
            return self.loop.look_around()
        self.present.service.tell_alive()
        reason = self.present.controls.read_halt()
        if reason:
            self.ledger.latch(KILL_SWITCH, reason, self.present.clock.now())
            self.present.controls.halt = False
        return self.present.controls.stop


def make_patient(broker: Broker, look: Look, settings: Settings) -> Broker:
    """Return `broker`; one whose calls travel so that they are waited for while the bot looks around."""
    if not read_traits(broker).remote:
        return broker
    return PatientBroker(broker, look, settings.alpaca.timeout_s + _SPARE_S)


def await_account(broker: Broker, ledger: Ledger, present: Present, around: Around, *, once: bool) -> Account | None:
    """Ask for the account until the broker answers; None where the bot was stopped before.

    A broker that is down is waited for: to end would have the service started again five times and then given up.
    """
    is_reported = False
    while True:
        try:
            return broker.account()
        except BrokerError as error:
            if once and not present.controls.stop:
                raise
            if not is_reported and not present.controls.stop:
                is_reported = True
                now, text = present.clock.now(), f"{error} The bot waits until it answers, and asks each half minute."
                ledger.write_event(rows.LedgerEvent(at=now, kind="error", text=text))
                present.on_event(Event(STAGE, text=text, level=Level.WARNING))
                present.on_alert(Alert(Kind.ERROR, f"the broker {broker.name} does not answer at the start", text, now))
        until = present.clock.now() + _ASK_AGAIN
        while not (around.look() or present.clock.wait_until(until)):
            pass
        if present.controls.stop:
            return None
        if isinstance(broker, PatientBroker):
            broker.begin_minute()


def compare_at_start(loop: Loop, *, once: bool) -> bool:
    """Make ledger and broker agree before anything is decided; False where the bot was stopped before they did."""
    while not loop.controls.stop:
        try:
            loop.compare()
        except BrokerError as error:
            if once and not loop.controls.stop:
                raise
            loop.tell_fault("ledger and broker cannot be compared yet", f"{error} The bot waits, and asks again.")
            loop.wait_until(loop.clock.now() + _ASK_AGAIN)
        else:
            return True
    return False


def tell_flags(account: Account, broker: Broker, ledger: Ledger, present: Present) -> None:
    """Tell what the broker says of the account that keeps it from trading as it might; sell nothing short then."""
    if not account.flags.shorting and isinstance(broker, PatientBroker):
        broker.shorting = False
    said = (*account.flags.blocks, *account.flags.notes)
    if said:
        now, text = present.clock.now(), f"The broker says of the account: {'; '.join(said)}."
        ledger.write_event(rows.LedgerEvent(at=now, kind="broker", text=text))
        present.on_event(Event(STAGE, text=text, level=Level.WARNING))
        present.on_alert(Alert(Kind.ERROR, f"the account at {broker.name} is restricted", text, now))
