"""What is tried next, and what mattered: Optuna, over the places of the values in a space.

Optuna's study lives in memory; what is kept of a search is in `trials`. Each trial has a seed of its own, made from the
search's and its number, so that a search that was stopped goes on as it would have gone.
API: https://optuna.readthedocs.io/en/stable/tutorial/20_recipes/009_ask_and_tell.html
"""

import importlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from hftcl.errors import TrainingError
from hftcl.learning.search.space import Choice, Dimension, Space, Value

_FIRST: Final = 10  # trials by chance alone before the sampler learns from them: Optuna's own default
_LEAST_WEIGHED: Final = 20  # trials whose settings are weighed: the best tenth, by which they are, is two of them
_TRIES: Final = 50  # for a choice that was not tried: of a space that is all but tried, the next may be hard to find


def require_installed() -> None:
    """Raise TrainingError where Optuna is not installed."""
    _load()


def _load() -> Any:
    try:
        optuna = importlib.import_module("optuna")
    except ModuleNotFoundError as missing:
        if missing.name != "optuna":
            raise
        raise TrainingError(
            "The library optuna, which chooses what is tried, is not installed. It is an extra: "
            'pip install "hftcl[search]".'
        ) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # what it did is told by us
    return optuna


@dataclass(slots=True)
class TrialSampler:
    """Chooses trials by what came of the others: Optuna's tree-structured Parzen estimator. Not for several threads."""

    space: Space
    seed: int
    _optuna: Any = field(init=False, repr=False)
    _study: Any = field(init=False, repr=False)
    _asked: dict[int, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self._optuna = _load()
        self._study = self._optuna.create_study(direction="maximize", sampler=self._build_sampler(0, 0))

    def learn(self, chosen: Mapping[str, Value], worth: float | None) -> None:
        """Take in a trial of an earlier run; worth: None where it could not be tried."""
        if worth is None:
            return
        dimensions = {path: self.space.find(path) for path in chosen}
        self._study.add_trial(
            self._optuna.trial.create_trial(
                value=worth,
                params={path: dimensions[path].values.index(value) for path, value in chosen.items()},
                distributions={path: self._distribute(dimension) for path, dimension in dimensions.items()},
            )
        )

    def ask(self, number: int, tried: "set[str]") -> Choice | None:
        """Return what trial `number` tries; the configured settings for 0; None where nothing that is new was found.

        tried: `name_choice` of each choice that was tried, or is.
        """
        for attempt in range(_TRIES):
            self._study.sampler = self._build_sampler(number, attempt)
            if number == 0:
                configured = self.space.list_configured()
                places = {path: self.space.find(path).values.index(value) for path, value in configured.items()}
                self._study.enqueue_trial(places)
            trial = self._study.ask()
            chosen = self.space.choose(lambda dimension, trial=trial: self._pick(trial, dimension))  # type: ignore[misc]
            if name_choice(chosen) not in tried:
                self._asked[number] = trial
                return chosen
            self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)  # from which nothing is learnt
        return None

    def tell(self, number: int, worth: float | None) -> None:
        """Take in what came of trial `number`; worth: None where it could not be tried."""
        failed = self._optuna.trial.TrialState.FAIL if worth is None else None
        self._study.tell(self._asked.pop(number), worth, state=failed)

    def compute_importances(self) -> dict[str, float]:
        """Return, by setting, its share in what makes a trial one of the best tenth, the greatest first; sum 1.

        Source: Watanabe et al. (2023), "PED-ANOVA", IJCAI; settings that one family alone has are among them.
        Of a setting that few trials had it tells little. Empty where `explain_no_importances` says why.
        """
        if self.explain_no_importances():
            return {}
        with warnings.catch_warnings():
            # a line for each setting that hardly a trial has varied: the report says how many trials there were
            warnings.filterwarnings("ignore", "Some regimes for parameter", UserWarning)
            shares = self._optuna.importance.get_param_importances(self._study)
        return {path: float(share) for path, share in shares.items()}

    def explain_no_importances(self) -> str:
        """Return why no setting can be weighed, as a note; "" where they can."""
        states = (self._optuna.trial.TrialState.COMPLETE,)
        values = [trial.value for trial in self._study.get_trials(deepcopy=False, states=states)]
        if len(values) < _LEAST_WEIGHED:
            return (
                f"which setting made a trial good is told of {_LEAST_WEIGHED} trials or more, not of {len(values)}: "
                "the best tenth of so few is a single one"
            )
        return "" if len(set(values)) > 1 else "no setting made a difference: all trials came to the same"

    def _pick(self, trial: Any, dimension: Dimension) -> Value:
        last = len(dimension.values) - 1
        if dimension.is_ordered:
            place = int(trial.suggest_int(dimension.path, 0, last))
        else:
            place = int(trial.suggest_categorical(dimension.path, tuple(range(last + 1))))
        return dimension.values[place]

    def _distribute(self, dimension: Dimension) -> Any:
        last = len(dimension.values) - 1
        if dimension.is_ordered:
            return self._optuna.distributions.IntDistribution(0, last)
        return self._optuna.distributions.CategoricalDistribution(tuple(range(last + 1)))

    def _build_sampler(self, number: int, attempt: int) -> Any:
        (seed,) = np.random.SeedSequence((self.seed, number, attempt)).generate_state(1)
        return self._optuna.samplers.TPESampler(seed=int(seed), n_startup_trials=_FIRST)


def name_choice(chosen: Mapping[str, Value]) -> str:
    """Return a text that two choices share where they are the same."""
    return repr(sorted(chosen.items()))
