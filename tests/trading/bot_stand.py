"""A bot on a bench: a real model of the synthetic market, stored bars, a simulated clock, the real ledger and paper."""

import json
import tempfile
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from hftcl.alerts import Alert
from hftcl.archive import artifact
from hftcl.archive.artifact import ModelMeta
from hftcl.archive.deployment import ModelArchive
from hftcl.archive.fitness import MarketKind
from hftcl.archive.policy import hash_policy
from hftcl.archive.records import NewModel
from hftcl.events import Event
from hftcl.home import Home
from hftcl.ledger.writer import Ledger
from hftcl.market.bars import label
from hftcl.market.hours import Hours, find_hours
from hftcl.market.sessions import Calendar
from hftcl.market.sources.synthetic import SyntheticSource
from hftcl.model.families.forest import Forest
from hftcl.model.features import FEATURE_NAMES, features
from hftcl.model.serving import Predictor
from hftcl.model.target import compute_targets
from hftcl.settings import Settings
from hftcl.trading.brokers import Broker, find_broker
from hftcl.trading.decide.bot import Minute
from hftcl.trading.decide.model_in_use import ProductionWatch
from hftcl.trading.decide.shadow import Shadow
from hftcl.trading.feeds import Feed
from hftcl.trading.feeds.replay import StoredFeed
from hftcl.trading.run.clock import SimulatedClock
from hftcl.trading.run.controls import Controls
from hftcl.trading.run.session_loop import Loop
from hftcl.trading.run.wiring import Parts, assemble, read_interval_s
from tests.calendars import read_shared_calendar
from tests.loop_cases import small

TICKERS = ("AAPL", "AMD", "TSLA")
DAY = date(2025, 6, 2)
HALF_DAY = date(2025, 7, 3)
"""210 minutes: half the time of a full session."""
TRAINED = datetime(2025, 5, 31, 12, 0, tzinfo=UTC)
read_shared_calendar()  # for the processes that stand here: they would build it
CALENDAR = Calendar("XNYS")


def settings_of(home: Path, **sections: dict[str, object]) -> Settings:
    """Return settings of the small synthetic market, with a home."""
    return small(home, **{**sections, "market": {"watchlist": TICKERS, **sections.get("market", {})}})


@cache
def market_bars(first: date, last: date, tickers: tuple[str, ...] = TICKERS) -> pl.DataFrame:
    """Return BAR_SCHEMA bars of the synthetic market."""
    sessions = CALENDAR.list_sessions(first, last)
    source = SyntheticSource(small(Path()))
    parts = [label(source.minutes(ticker, first, last), sessions) for ticker in tickers]
    return pl.concat(parts).sort("ticker", "ts")


@cache
def bars_of(day: date, sessions_before: int = 5) -> pl.DataFrame:
    """Return the bars of a session and of those before it that features read."""
    return market_bars(CALENDAR.find_previous_session(day, sessions_before), day)


@cache
def trained_graph(
    seed: int = 1, names: tuple[str, ...] = FEATURE_NAMES
) -> tuple[bytes, npt.NDArray[np.float32], float]:
    """Return a forest of the synthetic market as ONNX, some of its rows, and a threshold that lets it trade often."""
    bars = market_bars(date(2025, 5, 1), date(2025, 5, 20))
    rows = pl.concat([features(bars), compute_targets(bars, 30)], how="horizontal").drop_nulls()
    X = np.ascontiguousarray(rows.select(names).to_numpy(), dtype=np.float32)
    y = rows["target"].to_numpy()
    params = {**Forest().parameters(), "n_estimators": 16, "max_depth": 8, "min_samples_leaf": 50}
    fitted = Forest().fit(X, y, params, seed=seed, jobs=1, on_step=lambda done, total: None)
    threshold = float(np.quantile(np.abs(Predictor(fitted.onnx, X.shape[1]).predict(X)), 0.7))
    return fitted.onnx, X, threshold


def meta_of(model_id: str, *, names: tuple[str, ...] = FEATURE_NAMES, **changes: object) -> ModelMeta:
    """Return what a model of the synthetic market says about itself. names: of the features that it reads."""
    ours, (_, X, threshold) = artifact.list_our_features().narrow(names), trained_graph(names=names)
    meta = ModelMeta(
        model_id=model_id,
        feature_names=ours.names,
        feature_formulae=ours.formulae,
        features_hash=ours.definitions_hash,
        target="open to open over trailing volatility",
        horizon_minutes=30,
        threshold=threshold,
        entry_quantile=0.7,
        cost_bps=1.0,
        flat_minutes_before_close=2,
        tickers=TICKERS,
        calendar="XNYS",
        extended_hours=False,
        trained_from=date(2025, 5, 1),
        trained_to=date(2025, 5, 20),
        label_end=datetime(2025, 5, 20, 20, 0, tzinfo=UTC),
        exam_from=None,
        exam_to=None,
        rows=len(X),
        data_digest="0" * 64,
        family="forest",
        params={},
        seed=1,
        versions=artifact.find_library_versions("test"),
        source="synthetic",
        synthetic=True,
        importances=None,
    )
    return replace(meta, **changes)  # type: ignore[arg-type]


def model_file(model_id: str, *, seed: int = 1, names: tuple[str, ...] = FEATURE_NAMES, **changes: object) -> bytes:
    """Return the bytes of a model file."""
    onnx, X, _ = trained_graph(seed, names)
    return artifact.build(onnx, meta_of(model_id, names=names, **changes), artifact.pick_canary_rows(X))


def archived(
    home: Path,
    at: datetime = TRAINED,
    *,
    seed: int = 1,
    deploy: bool = True,
    outcome: str = "deployed",
    report: dict[str, object] | None = None,
    names: tuple[str, ...] = FEATURE_NAMES,
    **changes: object,
) -> str:
    """Archive a model that was trained at `at`, and deploy it; return its id."""
    if not (home / "models").exists() and all(isinstance(value, Hashable) for value in changes.values()):
        told = "" if report is None else json.dumps(report)  # as the registry keeps it
        model_id, files = _files_of_first(at, seed, deploy, outcome, told, names, tuple(sorted(changes.items())))
        for name, content in files.items():
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (home / name).write_bytes(content)
        return model_id
    return _archive(home, at, seed, deploy, outcome, report, names, changes)


@cache
def _files_of_first(
    at: datetime,
    seed: int,
    deploy: bool,
    outcome: str,
    told: str,
    names: tuple[str, ...],
    changes: tuple[tuple[str, object], ...],
) -> tuple[str, dict[str, bytes]]:
    """Return the id of the first model of a home, and all files of that home: hundreds of tests begin with them."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        report = json.loads(told) if told else None
        model_id = _archive(home, at, seed, deploy, outcome, report, names, dict(changes))
        files = {str(file.relative_to(home)): file.read_bytes() for file in home.rglob("*") if file.is_file()}
    return model_id, files


def _archive(
    home: Path,
    at: datetime,
    seed: int,
    deploy: bool,
    outcome: str,
    report: dict[str, object] | None,
    names: tuple[str, ...],
    changes: dict[str, object],
) -> str:
    archive = ModelArchive(home)
    model_id = archive.claim_id(at)
    meta = meta_of(model_id, names=names, **changes)
    archive.add(
        NewModel(
            model_id=model_id,
            trained_at=at,
            outcome=outcome,  # type: ignore[arg-type]
            reason="a test",
            source=meta.source,
            synthetic=meta.synthetic,
            family="forest",
            rows=meta.rows,
            sessions=13,
            tickers=meta.tickers,
            trained_from=meta.trained_from,
            trained_to=meta.trained_to,
            label_end=meta.label_end,
            exam_from=None,
            exam_to=None,
            val_sharpe=1.0,
            report=report or {"edge": "live", "policy_digest": hash_policy(settings_of(home))},
        ),
        model_file(model_id, seed=seed, names=names, **changes),
        b"pkl",
        now=at,
    )
    if deploy:
        archive.deploy(model_id, now=at, reason="a test")
    return model_id


class PutBack(SimulatedClock):
    """Is put by `by` while `at` is waited for, and then tells so once."""

    def __init__(self, start: datetime, at: datetime, by: timedelta) -> None:
        super().__init__(start)
        self.at, self.by, self.put = at, by, False
        self.news: list[bool] = []

    def was_set(self) -> bool:
        return bool(self.news) and self.news.pop()

    def wait_until(self, moment: datetime) -> bool:
        if moment >= self.at and not self.put:
            self._now, self.put = self.at + self.by, True
            self.news.append(True)
        elif self.news:
            raise AssertionError("a clock that was put is compared before anything is waited for again")
        else:
            return super().wait_until(moment)
        return self._now >= moment


@dataclass(slots=True)
class Stand:
    """One bot, from its start to its end or its death; another one in the same home is a restart."""

    home: Path
    settings: Settings
    bars: pl.DataFrame
    start: datetime
    mode: str = "paper"
    feed: Feed | None = None
    broker: Broker | None = None
    controls: Controls = field(default_factory=Controls)
    events: list[Event] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    minutes: list[Minute] = field(default_factory=list)
    loop: Loop = field(init=False)
    clock: SimulatedClock = field(init=False)
    ledger: Ledger = field(init=False)

    def __post_init__(self) -> None:
        places = Home.live(self.home)
        self.clock = SimulatedClock(self.start)
        self.ledger = Ledger(places.ledger, durable=False)
        self.broker = self.broker or find_broker("paper")(self.settings, folder=places.folder, durable=False)
        tickers = tuple(self.bars["ticker"].unique().sort().to_list())
        serving = ProductionWatch(
            self.home,
            MarketKind(calendar="XNYS", synthetic=True),
            policy=hash_policy(self.settings),
            interval_s=read_interval_s(self.settings),
        )
        shadow = Shadow.from_settings(self.settings, places, durable=False) if self.settings.trade.shadow else None
        self.loop = assemble(
            self.settings,
            Parts(
                mode=self.mode,  # type: ignore[arg-type]
                home=places,
                ledger=self.ledger,
                broker=self.broker,
                feed=self.feed or StoredFeed(self.bars, tickers),
                clock=self.clock,
                serving=serving,
                controls=self.controls,
                source="synthetic",
                synthetic=True,
                on_event=self.events.append,
                on_alert=self.alerts.append,
                shadow_broker=shadow.broker if shadow else None,
                on_minute=self.minutes.append,
            ),
        )
        self.loop.shadow = shadow

    def run(self, day: date = DAY, minutes: Iterable[datetime] | None = None) -> None:
        """Trade a session, or some minutes of it."""
        hours = find_hours(CALENDAR, day, extended_hours=False)
        self.loop.trade_session(hours, hours.list_minutes(hours.begins) if minutes is None else minutes)

    def close(self) -> None:
        """End as a process does: what is in the files stays."""
        self.ledger.close()
        assert self.broker is not None
        self.broker.close()


def session_minutes(day: date = DAY) -> Sequence[datetime]:
    """Return the minutes of a session."""
    hours: Hours = find_hours(CALENDAR, day, extended_hours=False)
    return hours.list_minutes(hours.begins)


def some_minutes(first: int, count: int, day: date = DAY) -> Sequence[datetime]:
    """Return `count` minutes of a session from its minute `first` on."""
    return session_minutes(day)[first : first + count]


def stand(home: Path, first: int = 0, day: date = DAY, bars: pl.DataFrame | None = None, **options: object) -> Stand:
    """Return a bot in `home` that starts as minute `first` of the session begins."""
    sections = options.pop("sections", {})
    return Stand(
        home,
        settings_of(home, **sections),  # type: ignore[arg-type]
        bars_of(day) if bars is None else bars,
        session_minutes(day)[first],
        **options,  # type: ignore[arg-type]
    )
