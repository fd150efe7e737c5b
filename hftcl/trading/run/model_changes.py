"""The models of a running bot: taken up between two minutes, and what a person hears of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from hftcl.alerts import Alert, Kind
from hftcl.archive.fitness import describe_untrained_of
from hftcl.errors import HftclError
from hftcl.events import BANNER, Event, Level, OnEvent
from hftcl.ledger.rows import LedgerEvent
from hftcl.ledger.writer import Ledger
from hftcl.trading.decide.bot import Bot
from hftcl.trading.decide.model_in_use import ProductionLook, ProductionWatch
from hftcl.trading.decide.shadow import Shadow
from hftcl.trading.run import STAGE


@dataclass(slots=True, kw_only=True)
class ModelChanges:
    """Which models decide. watchlist: the tickers of the session."""

    bot: Bot
    ledger: Ledger
    serving: ProductionWatch
    on_event: OnEvent
    on_alert: Callable[[Alert], None]
    reloads: int = 0
    watchlist: tuple[str, ...] = ()
    _untrained: str | None = field(default=None, init=False)
    _hold: str = field(default="", init=False)

    def adopt(self) -> None:
        """Let the bot use the model that the serving has loaded before the loop began."""
        in_use = self.serving.in_use
        if in_use is not None:
            self.bot.use(in_use)
            self.ledger.set_meta(model_id=in_use.model_id, model_since=in_use.since.isoformat())

    def choose_shadow(self, shadow: Shadow | None, now: datetime) -> None:
        """Let the newest narrow candidate trade beside production, from this session on."""
        serving, side = self.serving.in_use, self.bot.shadow
        if shadow is None or side is None or serving is None:
            return
        try:
            candidate = shadow.load_candidate(serving, now)
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
            self.ledger.write_event(LedgerEvent(at=now, kind="shadow", text=f"{name} trades virtually", model_id=name))

    def take(self, look: ProductionLook, now: datetime) -> None:
        """Take what a look at the production file has brought."""
        if look.outcome == "refused":
            stays = f"Model {look.before} stays" if look.before else "Nothing is traded"
            text = f"{look.reason} {stays}."
            self.ledger.write_event(LedgerEvent(at=now, kind="reload_refused", text=text, model_id=look.before))
            self.on_event(Event(STAGE, text=text, level=Level.WARNING))
            self.on_alert(Alert(Kind.RELOAD_REFUSED, "the production model was refused", text, now, look.before))
        if look.outcome == "reloaded" and self.serving.in_use is not None:
            self.bot.use(self.serving.in_use)
            self.reloads += look.before is not None
            self.ledger.set_meta(model_id=str(look.after), model_since=now.isoformat(), reloads=str(self.reloads))
            text = f"{look.before or 'none'} -> {look.after}"
            self.ledger.write_event(LedgerEvent(at=now, kind="reloaded", text=text, model_id=look.after))
            if look.before is not None:
                for line in look.banner:
                    self.on_event(Event(BANNER, text=line, level=Level.NOTE))
            self.tell_untrained()
        self.tell_hold(now)

    def tell_untrained(self) -> None:
        """Name the tickers that the model in use was not trained on, once for each model."""
        in_use = self.serving.in_use
        text = describe_untrained_of(in_use.model.meta, self.watchlist) if in_use else None
        if text and text != self._untrained:
            self.on_event(Event(STAGE, text=text, level=Level.WARNING))
        self._untrained = text

    def tell_hold(self, now: datetime) -> None:
        """Tell why nothing is traded, in the minute in which it begins; of a model that is too old, once each day."""
        in_use = self.serving.in_use
        hold = self.bot.explain_hold(now)
        if hold and hold != self._hold:
            self.on_event(Event(STAGE, text=hold, level=Level.WARNING))
            self.on_alert(Alert(Kind.HALTED, "nothing is traded", hold, now, in_use.model_id if in_use else None))
        self._hold = hold
