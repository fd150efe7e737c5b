"""What is trained: [model], [features], and the families with settings of their own."""

from __future__ import annotations  # texts until they are read, as `settings` says why

from typing import Annotated, Literal

from msgspec import Meta

from hftcl.settings.forms import NAME_FORM, text
from hftcl.values import Value, value_class

_FAMILIES = '"forest", "ridge", "lightgbm", "xgboost", "vote", or an installed plug-in'


@value_class(frozen=True, slots=True, kw_only=True)
class Model(Value):
    """The model that is trained."""

    family: Annotated[str, text("Kind of model.", allowed=_FAMILIES)] = "forest"
    n_estimators: Annotated[int, Meta(ge=1, le=10_000, description="Trees.")] = 200
    max_depth: Annotated[int, Meta(ge=1, le=64, description="Greatest depth of a tree.")] = 12
    min_samples_leaf: Annotated[int, Meta(ge=1, le=1_000_000, description="Fewest training rows in a leaf.")] = 50
    min_samples_split: Annotated[int, Meta(ge=2, le=1_000_000, description="Fewest training rows to split a node.")] = 2
    max_features: Annotated[
        Literal["sqrt", "log2"] | Annotated[float, Meta(gt=0, le=1)],
        text('Features tried per split: "sqrt", "log2", or a share such as 1.0.'),
    ] = "sqrt"
    seed: Annotated[int, Meta(ge=0, le=2**32 - 1, description="Seed of the training.")] = 42
    horizon_minutes: Annotated[
        Literal["auto"] | Annotated[int, Meta(ge=1, le=240)],
        text(
            'Minutes that the target reaches ahead, and that a signal is held; "auto" is the one of `horizons` that '
            "earned most after cost on the sessions that set the entry threshold."
        ),
    ] = 30
    horizons: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=240)], ...],
        Meta(min_length=1, max_length=20, description='Minutes that are tried where horizon_minutes is "auto".'),
    ] = (10, 20, 30, 60)
    half_life_days: Annotated[
        float,
        Meta(
            ge=0,
            le=3650,
            description="Calendar days after which a training row weighs half; 0: all weigh the same.",
        ),
    ] = 0.0
    novelty: Annotated[
        float,
        Meta(
            ge=0,
            lt=1,
            description="A bar farther from the training rows than this quantile of them, such as 0.99, gives no "
            "signal; 0: every bar may.",
        ),
    ] = 0.0

    per: Annotated[
        Literal["watchlist", "ticker"],
        text(
            'One model for the whole watchlist, or "ticker": one for each ticker, of its rows alone. A ticker with '
            "fewer than 1,000 rows to learn from gets none, and is held."
        ),
    ] = "watchlist"
    max_rows: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000_000,
            description="Most rows that one fit, or one tree of a forest, copies into memory; 0: no limit. Above it "
            "each tree draws its own sample of whole sessions of tickers, and another family learns from one. Trees "
            "grow at the same time where the memory that is free has room for their samples.",
        ),
    ] = 5_000_000

    @property
    def target_minutes(self) -> int:
        """How far the target of a frame reaches: the horizon; where it is yet to be chosen, the longest one."""
        return max(self.horizons) if self.horizon_minutes == "auto" else self.horizon_minutes


@value_class(frozen=True, slots=True, kw_only=True)
class Features(Value):
    """The features that a model reads: ours, and those of your own files."""

    modules: Annotated[
        tuple[Annotated[str, text("", allowed='a Python file such as "my_features.py"', pattern=r"\.py$")], ...],
        Meta(
            max_length=32,
            description="Your own features: Python files, each with a tuple FEATURES; they are run. "
            "Relative to hftcl.toml, and there below its folder; elsewhere write the whole path.",
        ),
    ] = ()
    use: Annotated[
        tuple[Annotated[str, text("", allowed="a feature or a group of features", pattern=NAME_FORM)], ...],
        Meta(max_length=1000, description="Features, or groups, that a model is trained on; empty: all."),
    ] = ()
    drop: Annotated[
        tuple[Annotated[str, text("", allowed="a feature or a group of features", pattern=NAME_FORM)], ...],
        Meta(max_length=1000, description="Features, or groups, that are left out."),
    ] = ()
    drop_below: Annotated[
        Literal["off"] | Annotated[float, Meta(ge=-1, le=1)],
        text(
            "A feature leaves whose loss, on the sessions that set the entry threshold, costs the information "
            'coefficient less than this, such as 0.0005; the model file says which and why. "off": all stay.'
        ),
    ] = "off"


@value_class(frozen=True, slots=True, kw_only=True)
class Ridge(Value):
    """The family `ridge`: a weighted sum of the features, the baseline that a forest must beat."""

    alpha: Annotated[
        float, Meta(ge=0, le=1e9, description="Penalty on the squared weights of the standardised features.")
    ] = 100.0


@value_class(frozen=True, slots=True, kw_only=True)
class LightGBM(Value):
    """The family `lightgbm`, of the extra `hftcl[boosting]`: trees that each mend what those before left over."""

    n_estimators: Annotated[int, Meta(ge=1, le=10_000, description="Boosted trees of LightGBM.")] = 100
    learning_rate: Annotated[float, Meta(gt=0, le=1, description="How much of its mending each tree may do.")] = 0.05
    max_depth: Annotated[int, Meta(ge=1, le=64, description="Greatest depth of a boosted tree.")] = 5
    min_samples_leaf: Annotated[int, Meta(ge=1, le=1_000_000, description="Fewest rows in a leaf (LightGBM).")] = 100
    max_features: Annotated[
        Literal["sqrt", "log2"] | Annotated[float, Meta(gt=0, le=1)],
        text('Features that LightGBM tries per split: "sqrt", "log2", or a share such as 1.0.'),
    ] = "sqrt"


@value_class(frozen=True, slots=True, kw_only=True)
class XGBoost(Value):
    """The family `xgboost`, of the extra `hftcl[boosting]`: the same idea, another library."""

    n_estimators: Annotated[int, Meta(ge=1, le=10_000, description="Boosted trees of XGBoost.")] = 100
    learning_rate: Annotated[float, Meta(gt=0, le=1, description="How much each tree of XGBoost may mend.")] = 0.05
    max_depth: Annotated[int, Meta(ge=1, le=64, description="Greatest depth of a tree of XGBoost.")] = 5
    min_samples_leaf: Annotated[int, Meta(ge=1, le=1_000_000, description="Fewest rows in a leaf (XGBoost).")] = 100
    max_features: Annotated[
        Literal["sqrt", "log2"] | Annotated[float, Meta(gt=0, le=1)],
        text('Features that XGBoost tries per split: "sqrt", "log2", or a share such as 1.0.'),
    ] = "sqrt"


@value_class(frozen=True, slots=True, kw_only=True)
class Vote(Value):
    """The family `vote`: forest (of [model]), LightGBM and XGBoost, averaged; of the extra `hftcl[boosting]`."""

    weight_forest: Annotated[float, Meta(ge=0, le=1000, description="What the forest's vote weighs.")] = 1.0
    weight_lightgbm: Annotated[float, Meta(ge=0, le=1000, description="What LightGBM's vote weighs.")] = 1.0
    weight_xgboost: Annotated[float, Meta(ge=0, le=1000, description="What XGBoost's vote weighs.")] = 1.0
    fit_weights: Annotated[
        bool, text("Fit the weights on the sessions that set the entry threshold, in place of those above.")
    ] = False
    boosting_n_estimators: Annotated[int, Meta(ge=1, le=10_000, description="Trees of each boosted member.")] = 100
    boosting_learning_rate: Annotated[float, Meta(gt=0, le=1, description="How much each of them may mend.")] = 0.05
    boosting_max_depth: Annotated[int, Meta(ge=1, le=64, description="Greatest depth of the boosted members.")] = 5
