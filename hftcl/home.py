"""Where each file of hftcl lies under the home. Names only: nothing is opened, made or looked at.

The functions at the end are for who is handed a folder or a file, not the home: a broker its own folder, a store that
of its bars, a ledger its file.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from hftcl.values import Value, value_class

if TYPE_CHECKING:  # `hftcl --help` names no file, and need not wait for the settings
    from hftcl.settings import Settings

CLAIMS: Final = ".model_*.claim"
"""The pattern of the files that reserve a model's id while it is trained."""
MODELS: Final = "model_*.onnx"
"""The pattern of the archived model files."""
PICKLES: Final = "model_*.pkl"
"""The pattern of the archived estimators."""


@value_class(frozen=True, slots=True)
class Home(Value):
    """The home and every file in it; of the bot that trades, or of a replay, which never touches those of the other.

    >>> Home(Path("/var/lib/hftcl")).locate_onnx("20260109_020000").as_posix()
    '/var/lib/hftcl/models/model_20260109_020000.onnx'
    >>> Home.replay(Path("/var/lib/hftcl")).ledger.as_posix()
    '/var/lib/hftcl/replay/ledger.sqlite'
    """

    root: Path
    is_replay: bool = False

    @classmethod
    def of(cls, settings: "Settings") -> Self:
        """Return the home that `settings` name."""
        return cls(Path(settings.paths.home))

    @classmethod
    def live(cls, home: Path) -> Self:
        """Return where the bot that trades, paper included, keeps its files."""
        return cls(home)

    @classmethod
    def replay(cls, home: Path) -> Self:
        """Return where a replay keeps its files."""
        return cls(home, is_replay=True)

    # The bot's, or a replay's.

    @property
    def folder(self) -> Path:
        """The folder of the broker's own files."""
        return self.root / "replay" if self.is_replay else self.root

    @property
    def ledger(self) -> Path:
        """What was decided, ordered and filled."""
        return self.folder / "ledger.sqlite"

    @property
    def decisions(self) -> Path:
        """The decisions of ended sessions, a file a month: YYYY-MM.parquet."""
        return locate_decisions(self.ledger)

    @property
    def lock(self) -> Path:
        """The lock of the one bot, or of the one replay."""
        return self.folder / (".lock" if self.is_replay else ".trading.lock")

    @property
    def halt_file(self) -> Path:
        """A file that halts the bot as long as it exists."""
        return self.folder / "trade.halt"

    @property
    def reserve(self) -> Path:
        """Room on the disk for the last things that the bot must write."""
        return self.folder / ".reserve"

    @property
    def shadow(self) -> Path:
        """The folder of the paper account of the candidate that trades virtually."""
        return self.folder / "shadow"

    @property
    def plugin_broker(self) -> Path:
        """The folder that a replay hands to the broker of a plug-in, emptied before each."""
        return self.folder / "broker"

    # The models'.

    @property
    def models(self) -> Path:
        """The folder of the archived models."""
        return self.root / "models"

    @property
    def registry(self) -> Path:
        """What is known of each model, of what served, and of what the scheduler did."""
        return self.models / "registry.sqlite"

    @property
    def registry_lock(self) -> Path:
        """The lock of one change of the archive."""
        return self.models / ".lock"

    @property
    def training_lock(self) -> Path:
        """The lock of one retrain."""
        return self.models / ".training.lock"

    @property
    def registry_rebuilt(self) -> Path:
        """A registry that is being rebuilt, until it takes the place of the damaged one."""
        return self.models / ".registry.rebuilt"

    def locate_damaged_registry(self, stamp: str) -> Path:
        """Return where the registry that was found damaged is kept. stamp: when it was found, as a model's id is."""
        return self.models / f"registry.{stamp}.damaged"

    @property
    def csv(self) -> Path:
        """The history for people, a copy of the registry."""
        return self.models / "model_metadata.csv"

    @property
    def production(self) -> Path:
        """The model file that serves."""
        return self.root / "trained_stock_model.onnx"

    @property
    def production_pkl(self) -> Path:
        """The same model for the user's own scripts."""
        return self.root / "trained_stock_model.pkl"

    def locate_onnx(self, model_id: str) -> Path:
        """Return the archived file of a model."""
        return self.models / f"model_{model_id}.onnx"

    def locate_pkl(self, model_id: str) -> Path:
        """Return the archived scikit-learn estimator of a model."""
        return self.models / f"model_{model_id}.pkl"

    @property
    def session_scores(self) -> Path:
        """How the model that serves did on each session that it has not seen; it may be deleted at any time."""
        return self.models / ".session-scores.json"

    @property
    def folds(self) -> Path:
        """The folds of a record's walk-forward that came back before another one failed."""
        return self.models / "folds"

    def locate_fold(self, digest: str) -> Path:
        """Return the file of a kept fold. digest: hexadecimal, of all that it was trained on."""
        return self.folds / f"{digest[:32]}.onnx"

    def claim(self, model_id: str) -> Path:
        """Return the file that reserves a model's id while it is trained."""
        return self.models / f".model_{model_id}.claim"

    def schedule_lock(self, job: str) -> Path:
        """Return the lock of one job of the scheduler."""
        return self.models / f".schedule-{job}.lock"

    # The rest.

    def locate_failure_note(self, service: str) -> Path:
        """Return the note that a service such as "trade" ended by a failure, which a person was not told of yet."""
        return self.root / f".stopped-{service}"

    @property
    def configuration(self) -> Path:
        """The path of the configuration that this home was last used with, where that lies elsewhere."""
        return self.root / ".configuration"

    @property
    def bars(self) -> Path:
        """The folder of the stored minute bars."""
        return self.root / "bars"

    def locate_feed_bars(self, feed: str) -> Path:
        """Return the folder of the bars of a feed that is not the source: each would throw the other's away."""
        return self.bars / f"feed-{feed}"

    @property
    def files_index(self) -> Path:
        """What was found in each file of [files] folder, so that one that did not change is not opened again."""
        return self.bars / ".files-index.json"

    @property
    def session_ends(self) -> Path:
        """What the schedule needs of the exchange's calendar."""
        return self.root / ".sessions.json"

    def locate_calendar(self, name: str) -> Path:
        """Return the file of an exchange's sessions, such as "XNYS" or "24/7"; it may be deleted at any time."""
        return self.root / f".calendar-{name.replace('/', '-')}"

    @property
    def polygon_calls(self) -> Path:
        """The count of calls to Polygon, which collector and bot share."""
        return self.bars / ".polygon_calls"

    @property
    def alpaca_calls(self) -> Path:
        """The count of calls to Alpaca's market data, which collector and bot share."""
        return self.bars / ".alpaca_calls"

    @property
    def backtest(self) -> Path:
        """The folder of the backtest's caches, which may be deleted whenever no backtest runs."""
        return self.root / "backtest"

    @property
    def backtest_lock(self) -> Path:
        """The lock of one backtest."""
        return self.backtest / ".lock"

    @property
    def searches(self) -> Path:
        """The trials of each search, which may be deleted at any time: a search then begins over."""
        return self.root / "search.sqlite"

    @property
    def weekly_searches(self) -> Path:
        """The trials of the searches of a backtest, among its caches."""
        return self.backtest / "search.sqlite"

    @property
    def search_lock(self) -> Path:
        """The lock of one search."""
        return self.root / ".search.lock"

    @property
    def alerts(self) -> Path:
        """The alerts that wait."""
        return self.root / "alerts.sqlite"

    @property
    def alerts_lock(self) -> Path:
        """The lock of the one process that sends alerts."""
        return self.root / ".alerts.lock"


def read_claim(path: Path) -> str:
    """Return the id of the model that a file of CLAIMS reserves."""
    return path.name.removeprefix(".model_").removesuffix(".claim")


def locate_paper(folder: Path) -> Path:
    """Return the account of the broker `paper` that is handed `folder`: apart from the ledger, as a broker's books are.

    >>> locate_paper(Home(Path("/var/lib/hftcl")).shadow).as_posix()
    '/var/lib/hftcl/shadow/paper.sqlite'
    """
    return folder / "paper.sqlite"


def locate_strict_paper(folder: Path) -> Path:
    """Return what happened at the broker `strict-paper` that is handed `folder`, a line each."""
    return folder / "strict-paper.jsonl"


def locate_decisions(ledger: Path) -> Path:
    """Return the folder beside a ledger that keeps the decisions of its ended sessions."""
    return ledger.parent / "decisions"


def locate_synthetic(bars: Path) -> Path:
    """Return where the made-up bars of a store lie, so that they are never mistaken for real ones."""
    return bars / "synthetic"


def locate_collection_lock(bars: Path) -> Path:
    """Return the lock beside the bars: two collections would write the same files and ask the vendor twice."""
    return bars / ".collect.lock"


def locate_columns(bars: Path, name: str) -> Path:
    """Return the folder of the bars with further columns. name: of the set of columns.

    No ticker's folder is called so: lower case is encoded there.
    """
    return bars / "with" / name


def locate_month(folder: Path, month: str) -> Path:
    """Return the file of a month such as "2026-01", of a ticker's bars or of decisions."""
    return folder / f"{month}.parquet"


def locate_month_record(month: Path) -> Path:
    """Return the record of what the file of a month of bars holds, beside it."""
    return month.with_suffix(".json")
