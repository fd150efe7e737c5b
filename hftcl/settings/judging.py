"""What a candidate must show: [exam], [promote], [edge]."""

from __future__ import annotations  # texts until they are read, as `settings` says why

from typing import Annotated, Literal

from msgspec import Meta

from hftcl.settings.forms import text
from hftcl.values import Value, value_class


@value_class(frozen=True, slots=True, kw_only=True)
class Exam(Value):
    """The newest sessions, kept from the candidate in training and used to judge it and the model that serves."""

    sessions: Annotated[int, Meta(ge=2, le=1000, description="Sessions held out for the exam.")] = 20
    embargo_sessions: Annotated[
        int, Meta(ge=1, le=60, description="Whole sessions dropped between training and exam.")
    ] = 1
    min_sessions: Annotated[
        int,
        Meta(
            ge=2,
            le=1000,
            description="An exam with fewer shared sessions is inconclusive; not above `sessions`, and lowered to it "
            "where only that is set.",
        ),
    ] = 10
    plausible_sharpe: Annotated[
        float,
        Meta(
            gt=0,
            le=1000,
            description="On real bars a net Sharpe above this that chance does not explain is doubted, as are other "
            "figures that belong to it: the exam is inconclusive and the bot stands aside until a person confirms it.",
        ),
    ] = 8.0


@value_class(frozen=True, slots=True, kw_only=True)
class Promote(Value):
    """What a candidate must show before it replaces the model that serves."""

    policy: Annotated[
        Literal["seed", "guarded", "balanced", "strict"],
        text(
            '"seed" is the plain rule on paired scores, and what passes it trades; the others ask for P(better) too, '
            "and for a record before the bot trades: see [edge]."
        ),
    ] = "guarded"
    min_sharpe: Annotated[float, Meta(ge=-100, le=100, description="The exam's net Sharpe must be above this.")] = 0.5
    tolerance: Annotated[
        float,
        Meta(ge=0, lt=1, description="How far below the current model's Sharpe a candidate may be, as a share of it."),
    ] = 0.10
    min_p_better: Annotated[
        float, Meta(ge=0, lt=1, description='Least P(better than the current model), unless policy is "seed".')
    ] = 0.60
    refit_on_promote: Annotated[
        bool,
        text(
            "Refit what is promoted on all sessions, the exam's included, and deploy that; the examined twin is kept "
            "and stands for it in later exams and in the record."
        ),
    ] = False
    when_champion_cannot_be_scored: Annotated[
        Literal["wait", "deploy"],
        text(
            "A model that serves and cannot be scored, such as one with features of an earlier release: the candidate "
            'is judged against min_sharpe and against no position, and "wait" leaves it to a person to let it serve.'
        ),
    ] = "wait"


@value_class(frozen=True, slots=True, kw_only=True)
class Edge(Value):
    """What the policy's own record must show before the bot trades, and below what it stands aside again."""

    min_p_edge: Annotated[
        float, Meta(ge=0, lt=1, description='Least P(true net Sharpe > 0); under "strict" at least 0.95.')
    ] = 0.80
    min_psr: Annotated[
        float,
        Meta(ge=0, lt=1, description='Least probabilistic Sharpe ratio of the record; asked for under "guarded" only.'),
    ] = 0.90
    stand_down_below: Annotated[
        float,
        Meta(
            ge=0, lt=1, description="While it may trade, the bot stands aside when P(true net Sharpe > 0) is below it."
        ),
    ] = 0.50
    min_sessions: Annotated[int, Meta(ge=2, le=1000, description="Fewest sessions that a record is judged by.")] = 20
