"""The bot put together from settings: ledger, broker, desks, rules, loop."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Literal

from hftcl.alerts import Alert, Kind
from hftcl.archive.artifact import FeatureSet
from hftcl.archive.fitness import MarketKind
from hftcl.archive.policy import hash_policy
from hftcl.durable import convert_storage_faults, lock, make_folder
from hftcl.errors import ConfigError, StorageError
from hftcl.events import Event, Level, OnEvent
from hftcl.home import Home
from hftcl.ledger import rows
from hftcl.ledger.writer import Ledger
from hftcl.market.pairs import spell
from hftcl.settings import Settings
from hftcl.strategy.risk import Limits
from hftcl.trading.brokers import Broker
from hftcl.trading.decide.bot import Bot, Minute
from hftcl.trading.decide.model_in_use import ModelInUse, ProductionWatch
from hftcl.trading.decide.rules import Rules
from hftcl.trading.decide.shadow import Shadow
from hftcl.trading.execute.desk import Desk
from hftcl.trading.feeds import Feed
from hftcl.trading.run import STAGE
from hftcl.trading.run.clock import Clock
from hftcl.trading.run.controls import Controls
from hftcl.trading.run.session_loop import Loop

Mode = Literal["paper", "live", "replay"]


_NEARLY: Final = 0.99  # what rounding and adopted differences may take from the sum of the fills


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What differs between the present and a replay, and who is told."""

    mode: Mode
    home: Home
    ledger: Ledger
    broker: Broker
    feed: Feed
    clock: Clock
    serving: ProductionWatch
    controls: Controls
    source: str
    synthetic: bool
    on_event: OnEvent
    on_alert: Callable[[Alert], None]
    account_id: str = ""
    shadow_broker: Broker | None = None
    on_minute: Callable[[Minute], None] = lambda _: None

    def tell_fault(self, text: str, at: datetime) -> None:
        """Tell a person, the log and the ledger of a fault of the broker."""
        self._tell(Alert(Kind.ERROR, f"the broker {self.broker.name} has a fault", text, at))

    def tell(self, kind: Kind, subject: str, text: str, at: datetime) -> None:
        """Tell a person, the log and the ledger."""
        self._tell(Alert(kind, subject, text, at, self.ledger.open_meta().get("model_id")))

    def _tell(self, alert: Alert) -> None:
        self.ledger.write_event(rows.LedgerEvent(at=alert.at, kind="error", text=alert.text))
        self.on_event(Event(STAGE, text=alert.text, level=Level.WARNING))
        self.on_alert(alert)


@contextmanager
def hold_lock(home: Home, what: str) -> Iterator[None]:
    """Hold the lock of a bot or a replay. Raises LockHeldError where another one runs."""
    with convert_storage_faults("preparing the folder of the ledger"):
        make_folder(home.folder)
    with ExitStack() as held:
        try:
            held.enter_context(lock(home.lock, what))
        except OSError as error:
            raise StorageError(
                f"The lock {home.lock} cannot be had: {error.strerror or error}. The folder {home.folder} must be "
                "on a disk that may be written and that knows file locks (flock). Set [paths] home to such a folder."
            ) from error
        yield


def read_interval_s(settings: Settings) -> float:
    """Return how often the production file is looked at, seconds."""
    trade = settings.trade
    return 60.0 * trade.reload_interval_minutes or 3600.0 * trade.reload_interval_hours


def read_capital(ledger: Ledger, settings: Settings, broker: Broker) -> float:
    """Return the USD that targets are fractions of: what the ledger began with, and the first time what it shall be.

    It stays what it was, so that profits are not reinvested and sessions add up, as in the exam. Raises ConfigError
    where a paper account does not hold it.
    """
    stored_capital = ledger.open_meta().number("capital")
    if stored_capital is not None:
        return stored_capital
    asked, equity = settings.trade.capital, broker.account().equity
    if not broker.live_money and asked > equity:
        raise ConfigError(
            f"[trade] capital is {asked:,.2f} USD, and the account of the broker {broker.name} holds {equity:,.2f}: "
            "most orders would be refused. Lower it, set it to 0 for what the account holds, or raise the cash there."
        )
    return asked or equity


def watch_production(settings: Settings, market: MarketKind, features: FeatureSet) -> ProductionWatch:
    """Return the watch of the production model of `settings`, which has not looked yet."""
    return ProductionWatch(
        find_home(settings),
        market,
        policy=hash_policy(settings, features=features),
        interval_s=read_interval_s(settings),
        features=features,
    )


def is_trading_extended(settings: Settings, serving: ProductionWatch) -> bool:
    """Return whether extended hours are traded: those of the model, where there is one."""
    return serving.in_use.model.meta.extended_hours if serving.in_use else settings.market.extended_hours


def open_shadow(
    settings: Settings, home: Home, ledger: Ledger, broker: Broker, features: FeatureSet, *, durable: bool = True
) -> Shadow | None:
    """Return the shadow, whose account begins with what production has; None where [trade] shadow is off."""
    if not settings.trade.shadow:
        return None
    capital = read_capital(ledger, settings, broker)
    return Shadow.from_settings(settings, home, capital=capital, durable=durable, features=features)


def assemble(settings: Settings, parts: Parts) -> Loop:
    """Return the loop of a bot that is ready for its first session. The ledger learns what it is the ledger of."""
    capital = read_capital(parts.ledger, settings, parts.broker)
    _note_what_runs(settings, parts, capital)
    limits = _find_limits(settings, parts.broker, capital)

    def may_trade(_: ModelInUse) -> bool:
        return not parts.broker.live_money or settings.trade.override_edge or parts.serving.edge == "live"

    replayed = parts.mode == "replay"
    grace = timedelta(0) if replayed else timedelta(seconds=settings.trade.grace_s)
    rules = Rules(
        limits=limits,
        watchlist=settings.market.watchlist,
        flat_minutes=settings.strategy.flat_minutes_before_close,
        grace=grace,
        max_model_age_days=None if replayed else settings.trade.max_model_age_days,
        may_trade=may_trade,
        features=parts.serving.features.table,
    )
    shadow = None
    if parts.shadow_broker is not None:
        shadow = _build_desk(settings, parts, "shadow", parts.shadow_broker, capital, limits)
        if text := _explain_lack(shadow, capital):
            parts.tell(Kind.ERROR, "the shadow's account is too small", text, parts.clock.now())
    production = _build_desk(settings, parts, "production", parts.broker, capital, limits)
    return Loop(
        bot=Bot(parts.ledger, production, rules, on_alert=parts.on_alert, shadow=shadow),
        ledger=parts.ledger,
        serving=parts.serving,
        feed=parts.feed,
        clock=parts.clock,
        grace=grace,
        controls=parts.controls,
        on_event=parts.on_event,
        on_alert=parts.on_alert,
        on_minute=parts.on_minute,
    )


def _note_what_runs(settings: Settings, parts: Parts, capital: float) -> None:
    parts.ledger.set_meta(
        capital=repr(capital),
        mode=parts.mode,
        source=parts.source,
        synthetic=str(int(parts.synthetic)),
        cost_bps=repr(settings.strategy.cost_bps),
        broker=parts.broker.name,
        account_id=parts.account_id,
        started_at=parts.clock.now().isoformat(),
        reloads="0",
    )


def _find_limits(settings: Settings, broker: Broker, capital: float) -> Callable[[int, int], Limits]:
    """Return what says for (tickers, flat minutes before the close) what no order may lead beyond."""

    def build_limits(tickers: int, flat_minutes: int) -> Limits:
        return Limits.from_settings(
            settings.risk,
            capital=capital,
            tickers=max(tickers, 1),
            flat_minutes=flat_minutes,
            shorting=broker.shorting,
        )

    return build_limits


def _build_desk(
    settings: Settings,
    parts: Parts,
    book: rows.BookName,
    broker: Broker,
    capital: float,
    limits: Callable[[int, int], Limits],
) -> Desk:
    return Desk(
        book=book,
        broker=broker,
        ledger=parts.ledger,
        capital=capital,
        fractional=settings.trade.fractional,
        limits=limits(len(settings.market.watchlist), settings.strategy.flat_minutes_before_close),
        on_fault=parts.tell_fault,
        tell=parts.tell,
        hands_off=spell(settings.trade.hands_off),
    )


def _explain_lack(shadow: Desk, capital: float) -> str:
    """Say that the shadow's account, begun by an older hftcl with less, does not hold what its targets are parts of."""
    began_with = shadow.broker.account().cash + shadow.ledger.read_account("shadow").paid
    if began_with >= _NEARLY * capital:
        return ""
    return (
        f"The shadow's paper account began with {began_with:,.2f} USD, and its targets are fractions of "
        f"{capital:,.2f}: orders beyond its buying power are refused. Move its folder `shadow` away while the bot "
        "stands still: it begins again with enough."
    )


def find_home(settings: Settings) -> Path:
    """Return the folder of all that hftcl keeps."""
    return Home.of(settings).root
