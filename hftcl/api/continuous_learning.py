"""The loop for Python: `ContinuousLearning`, with the names of the user's guide.

Holds the settings and the clock; the stories themselves are in the modules beside it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar

from hftcl.api import load_settings
from hftcl.document import build_document
from hftcl.errors import UsageError
from hftcl.events import OnEvent
from hftcl.home import Home
from hftcl.learning.archive_reports import NoteReport, RollbackReport, UnpinReport
from hftcl.learning.backtest.reports import BacktestReport
from hftcl.learning.reports import CheckReport, ExamReport, FeaturesReport, ProofReport, RetrainReport
from hftcl.learning.stories import history
from hftcl.market.calendar_file import keep_calendars
from hftcl.plug_ins import CallersOwn, name_plug_ins
from hftcl.settings import Settings
from hftcl.views.progress import build_listener, end_display_after

if TYPE_CHECKING:
    import pandas as pd

    from hftcl.archive.artifact import Model
    from hftcl.learning.search.reports import SearchReport
    from hftcl.learning.stories.record import RecordRow
    from hftcl.learning.why_reports import ExplainReport, ReproduceReport

# What the guide's snippet prints: four columns, whole on one line of 80.
_GUIDE_COLUMNS: Final = ("model_id", "trained_date", "val_sharpe", "is_deployed")
Clock = Callable[[], datetime]
_Given = ParamSpec("_Given")
_Told = TypeVar("_Told")


def utc_now() -> datetime:
    """Return the time, UTC."""
    return datetime.now(UTC)  # noqa: TID251  # this is the edge


def _show(
    method: "Callable[Concatenate[ContinuousLearning, _Given], _Told]",
) -> "Callable[Concatenate[ContinuousLearning, _Given], _Told]":
    """Return `method`, which ends its own bars before it returns or fails."""

    @wraps(method)
    def show(self: "ContinuousLearning", /, *words: _Given.args, **options: _Given.kwargs) -> _Told:
        with end_display_after(self._on_event), name_plug_ins():
            return method(self, *words, **options)

    return show


class ContinuousLearning:
    """Keeps one model fresh. Every method may be called from a notebook, a script or a running event loop; all block.

    settings: from `hftcl.config.load(...)`; without them those that a command in the current folder would use, with
        the guide's names on top: retrain_frequency_days is [triggers] max_age_days, validation_threshold_sharpe is
        [promote] min_sharpe.
    on_event: called with each `hftcl.events.Event`. Without it progress is shown: bars on a terminal or in a notebook,
        lines on stderr elsewhere; `hftcl.events.ignore` shows nothing. clock: returns the time, UTC.
    Raises ConfigError for invalid settings. The methods raise HftclError, whose message says what to do; in their
    examples `learner` has a home with two models, 20260109_070000 and the one of an hour later, which serves.

    >>> import tempfile
    >>> from datetime import UTC, datetime
    >>> from hftcl.settings import Exam, Market, Model, Paths
    >>> with tempfile.TemporaryDirectory() as home:
    ...     settings = Settings(
    ...         paths=Paths(home=home),
    ...         market=Market(watchlist=("AAPL", "AMD"), lookback_days=46),
    ...         exam=Exam(sessions=10, min_sessions=10),
    ...         model=Model(n_estimators=8),
    ...     )
    ...     learner = ContinuousLearning(settings, clock=lambda: datetime(2026, 1, 9, 7, 0, tzinfo=UTC))
    ...     before = learner.should_retrain()
    ...     report = learner.retrain(force=True)
    ...     history = learner.get_model_history()
    >>> before
    (True, 'no_model: no model serves; age: no candidate was ever judged')
    >>> report.exam.sessions, list(history["model_id"])
    (10, ['20260109_070000'])
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        retrain_frequency_days: float | None = None,
        validation_threshold_sharpe: float | None = None,
        on_event: OnEvent | None = None,
        clock: Clock = utc_now,
    ) -> None:
        chosen = {
            "triggers.max_age_days": retrain_frequency_days,
            "promote.min_sharpe": validation_threshold_sharpe,
        }
        given = {name: value for name, value in chosen.items() if value is not None}
        if settings is not None and given:
            raise UsageError(f"Give settings or {', '.join(given)}, not both: the settings hold them already.")
        self.settings = load_settings(given) if settings is None else settings
        keep_calendars(Home.of(self.settings))
        self._on_event = build_listener(0) if on_event is None else CallersOwn(on_event)
        self._clock = CallersOwn(clock)

    @property
    def home(self) -> Path:
        """Folder of models, bars and registry.

        >>> (learner.home / "models" / "registry.sqlite").is_file()
        True
        """
        return Home.of(self.settings).root

    @_show
    def check(self, *, as_of: str | None = None) -> CheckReport:
        """Return whether a retrain is due, every trigger with its evidence. Changes nothing.

        >>> report = learner.check()
        >>> report.due, [trigger.name for trigger in report.triggers][:2]
        (False, ['no_model', 'age'])
        """
        from hftcl.learning.stories.check import check

        return check(self.settings, as_of=as_of, now=self._clock(), on_event=self._on_event)

    def should_retrain(self) -> tuple[bool, str]:
        """Return whether a retrain is due, and why.

        >>> learner.should_retrain()[0]
        False
        """
        report = self.check()
        return report.due, report.reason

    @_show
    def retrain(
        self,
        *,
        force: bool = False,
        dry_run: bool = False,
        params: Mapping[str, object] | Sequence[str] | None = None,
        as_of: str | None = None,
    ) -> RetrainReport:
        """Run the loop once: check, collect, train, examine, deploy what earned it. `force` skips the check only.

        >>> learner.retrain().outcome  # nothing is due
        'skipped'
        """
        from hftcl.model.training import TrainingPool

        with TrainingPool() as pool:
            if force:  # it will train: the child's libraries, which take the longest, load beside those of this process
                pool.prepare(self.settings.model.family)
            from hftcl.learning.stories.retrain import retrain

            return retrain(
                self.settings,
                force=force,
                dry_run=dry_run,
                params=params,
                as_of=as_of,
                clock=self._clock,
                on_event=self._on_event,
                pool=pool,
            )

    @_show
    def prove(self, *, cases: int = 200, seed: int = 0, as_of: str | None = None) -> ProofReport:
        """Show on these bars that no feature, prediction, position or label looks ahead. Changes nothing.

        >>> proof = learner.prove(cases=1)
        >>> proof.proved, proof.differences
        (True, 0)
        """
        from hftcl.learning.stories.prove import prove

        return prove(self.settings, cases=cases, seed=seed, as_of=as_of, now=self._clock(), on_event=self._on_event)

    @_show
    def features(self, *, as_of: str | None = None) -> FeaturesReport:
        """Return the features in force, and what each is worth on the training sessions. Changes nothing.

        >>> len(learner.features().features)
        31
        """
        from hftcl.learning.stories.features import describe_features

        return describe_features(self.settings, as_of=as_of, now=self._clock(), on_event=self._on_event)

    @_show
    def backtest(
        self, from_: date | str, to: date | str, *, search: bool = False, trials: int | None = None
    ) -> BacktestReport:
        """Replay the loop over the sessions `from_` to `to` (dates or ISO texts), and compare ways to run it.

        Changes nothing that serves; trainings are kept under <home>/backtest, so that a second call goes on there.

        >>> report = learner.backtest("2025-12-22", "2026-01-02")
        >>> report.trainings, report.sessions, "never retrain" in report.policies
        (3, 8, True)
        """
        from hftcl.learning.backtest.story import backtest

        return backtest(
            self.settings, from_, to, search=search, trials=trials, now=self._clock(), on_event=self._on_event
        )

    @_show
    def search(
        self, *, trials: int | None = None, minutes: float | None = None, as_of: str | None = None
    ) -> "SearchReport":
        """Try settings inside the training window, and examine the best of them once. The values of `search --json`.

        trials: in all, those of an earlier run counted; `[search] trials` where neither is given. minutes: no trial
        begins later. Changes no setting and nothing that serves. Needs the extra `hftcl[search]`.

        >>> learner.search(trials=1).distinct
        1
        """
        from hftcl.learning.search.story import search

        return search(
            self.settings, trials=trials, minutes=minutes, as_of=as_of, clock=self._clock, on_event=self._on_event
        )

    @_show
    def exam(self, model_id: str, from_: date | str, to: date | str) -> ExamReport:
        """Score an archived model on the sessions `from_` to `to` (dates or ISO texts), none of which it has seen.

        Changes nothing. The values of `exam --json`.

        >>> learner.exam("20260109_070000", "2025-12-29", "2026-01-08").sharpe > 0  # of a market with a planted edge
        True
        """
        from hftcl.learning.stories.exam import score

        return score(self.settings, model_id, from_, to, clock=self._clock, on_event=self._on_event)

    @_show
    def explain(self, model_id: str, at: tuple[str, str] | None = None) -> "ExplainReport":
        """Return what a model makes of one bar, and why; changes nothing. The values of `explain --json`.

        at: ticker and time (ISO 8601, by the exchange's clock without an offset); None: the newest bar of each ticker.

        >>> learner.explain("20260109_070000", ("AAPL", "2026-01-08T15:00")).family
        'ridge'
        """
        from hftcl.learning.stories.explain import explain

        return explain(self.settings, model_id, at, now=self._clock(), on_event=self._on_event)

    @_show
    def reproduce(self, model_id: str) -> "ReproduceReport":
        """Train an archived model again from the bars that it names, and compare; archives and deploys nothing.

        >>> learner.reproduce("20260109_070000").equal
        True
        """
        from hftcl.learning.stories.reproduce import reproduce

        return reproduce(self.settings, model_id, now=self._clock(), on_event=self._on_event)

    @_show
    def collect_training_data(self, lookback_days: int | None = None, *, as_of: str | None = None) -> "pd.DataFrame":
        """Return the window's bars with features and target: one row a bar, sorted by ticker and ts.

        Columns: ticker, ts (start of the minute, UTC), session, minute, session_minutes, regular, open, high, low,
        close, volume, the features (float32), target (float32, in trailing volatilities), label_end (UTC). NaN
        where a feature or the target is not known. lookback_days: calendar days; [market] lookback_days if left out.

        >>> df = learner.collect_training_data(lookback_days=7)
        >>> list(df.columns[:3]), sorted(df["ticker"].unique()), df.attrs["synthetic"]
        (['ticker', 'ts', 'session'], ['AAPL', 'AMD'], True)
        """
        from hftcl.learning.dataset import open_window, to_pandas

        settings = self.settings
        if lookback_days is not None:
            settings = replace(settings, market=replace(settings.market, lookback_days=lookback_days))
        data = open_window(settings, as_of=as_of, now=self._clock(), save=True, on_event=self._on_event).assemble()
        frame = to_pandas(data.frame)
        frame.attrs = {"source": data.source, "synthetic": data.synthetic, "left_out": data.left_out}
        return frame

    @_show
    def train_new_model(
        self, df: "pd.DataFrame", model_params: Mapping[str, object] | None = None
    ) -> "tuple[Model, dict[str, Any], int]":
        """Train on `df`, from `collect_training_data`, and examine on its last sessions. Archives and deploys nothing.

        Returns the model (`model.predict(X)` takes float32 rows of its features), the figures of its exam as in
        `retrain --json` under "challenger", and the number of training rows.

        >>> model, figures, rows = learner.train_new_model(learner.collect_training_data())
        >>> figures["sharpe"] > 0, rows > 10_000, len(model.meta.feature_names)
        (True, True, 31)
        """
        from hftcl.learning.stories.research import try_model

        candidate, report = try_model(
            df, self.settings, params=model_params, clock=self._clock, on_event=self._on_event
        )
        return candidate.model, build_document(report), candidate.rows

    def get_model_history(self, limit: int | None = None, *, all: bool = False) -> "pd.DataFrame":  # noqa: A002
        """Return the archive, newest first: model_id, trained_date, val_sharpe, is_deployed.

        all: every column of `history --json`: outcome, reason, served, source, synthetic, ...

        >>> learner.get_model_history()[["model_id", "is_deployed"]].values.tolist()
        [['20260109_080000', True], ['20260109_070000', False]]
        """
        import pandas as pd

        rows = [
            build_document(row)
            for row in history.history(self.home, calendar=self.settings.market.calendar, limit=limit)
        ]
        frame = pd.DataFrame(rows, columns=history.HISTORY_COLUMNS)
        frame["trained_date"] = pd.to_datetime(frame["trained_date"], utc=True, format="ISO8601")
        return frame if all else frame[list(_GUIDE_COLUMNS)]

    def rollback_to_previous_model(self, model_id: str | None = None, *, reason: str = "") -> RollbackReport:
        """Go back to the model that served before, or to a named one, and pin it there.

        >>> report = learner.rollback_to_previous_model(reason="until I have looked")
        >>> report.to_model, report.pinned
        ('20260109_070000', True)
        """
        plan = history.plan_rollback(self.settings, model_id)
        return history.rollback(self.home, model_id, plan, reason=reason, now=self._clock)

    def unpin(self) -> UnpinReport:
        """Let automatic deployment run again after a rollback.

        >>> learner.unpin().unpinned
        '20260109_070000'
        """
        return history.unpin(self.home, now=self._clock)

    def note(
        self, model_id: str, text: str | None = None, *, tags: Sequence[str] = (), untags: Sequence[str] = ()
    ) -> NoteReport:
        """Write a note on an archived model, put `tags` on it and take `untags` off; return all that is written on it.

        The values of `note --json`. Raises ModelNotFoundError; UsageError for a note or a tag that cannot be kept.

        >>> written = learner.note("20260109_070000", "the first one", tags=["baseline"])
        >>> [note.text for note in written.notes], written.tags
        (['the first one'], ('baseline',))
        """
        for name, words in (("tags", tags), ("untags", untags)):
            if isinstance(words, str):  # a tuple of one without its comma, which would be a tag a letter
                raise UsageError(f"Give {name} as a list: {name}=[{words!r}].")
        return history.note(self.home, model_id, text, tags, untags, now=self._clock)

    def list_record(self) -> "tuple[RecordRow, ...]":
        """Return every recorded session of the policy, oldest first, and whether it counts.

        >>> len(learner.list_record())
        10
        """
        from hftcl.learning.stories.record import list_record

        return list_record(self.settings)

    def begin_record_over(self, reason: str) -> "tuple[RecordRow, ...]":
        """Let nothing that was earned so far count, and return the record's rows; `reason` is kept and shown.

        >>> any(row.counts for row in learner.begin_record_over("another broker"))
        False
        """
        from hftcl.learning.stories.record import begin_over

        return begin_over(self.settings, reason=reason, now=self._clock)


__all__: Sequence[str] = ["ContinuousLearning"]
