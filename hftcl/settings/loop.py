"""When it learns, and what it tries: [triggers], [search], [schedule]."""

from __future__ import annotations  # texts until they are read, as `settings` says why

from dataclasses import field
from typing import Annotated

from msgspec import Meta

from hftcl.settings.forms import NAME_FORM, ZONE, text
from hftcl.values import Value, value_class

_CLOCK = r"([01]\d|2[0-3]):[0-5]\d"  # 24 hours, two digits: what sorts as text and has no a.m. to forget
# A day and a time, or the five fields of cron; `config.times` says what is wrong with them.
_TIMES = rf"^(((Mon|Tue|Wed|Thu|Fri|Sat|Sun) )?{_CLOCK}|\S+( \S+){{4}})$"
# What a setting that is searched may be: each value is judged by that setting, so the bounds are those of any of them.
_ANY = str | Annotated[int, Meta(ge=-(2**53), le=2**53)] | Annotated[float, Meta(ge=-1e12, le=1e12)] | bool
_DAYS = "the days are Mon, Tue, Wed, Thu, Fri, Sat, Sun"  # three letters, English, as cron and systemd take them


@value_class(frozen=True, slots=True, kw_only=True)
class Triggers(Value):
    """When a retrain is due."""

    max_age_days: Annotated[
        float, Meta(gt=0, le=3650, description="Days after which the model is old, to the hour.")
    ] = 7
    min_recent_sharpe: Annotated[float, Meta(ge=-100, le=100, description="A recent Sharpe below this is weak.")] = 0.3
    recent_sessions: Annotated[int, Meta(ge=2, le=1000, description="Sessions that count as recent.")] = 20
    alarm_sessions: Annotated[
        float,
        Meta(
            ge=2,
            le=100_000,
            description="Least mean distance of two alarms of the degradation detector while the true Sharpe is "
            "`min_recent_sharpe` or more, in sessions; more is slower.",
        ),
    ] = 126
    max_psi: Annotated[
        float,
        Meta(gt=0, le=100, description="A feature has drifted when its population stability index is above this."),
    ] = 1.5
    cooldown_hours: Annotated[
        float,
        Meta(
            ge=0,
            le=8760,
            description="Hours after a verdict in which no trigger makes a retrain due; at most `max_age_days`.",
        ),
    ] = 72


@value_class(frozen=True, slots=True, kw_only=True)
class Search(Value):
    """What `hftcl search` tries, inside the training window; of the extra `hftcl[search]`."""

    trials: Annotated[int, Meta(ge=1, le=100_000, description="Settings that are tried.")] = 60
    vary: Annotated[
        tuple[
            Annotated[
                str, text("", allowed='one of the words of docs/search.md, such as "horizon"', pattern=NAME_FORM)
            ],
            ...,
        ],
        Meta(max_length=100, description="What is varied, such as horizon and entry; empty: all but lookback."),
    ] = ()
    values: Annotated[
        dict[
            Annotated[str, text("", pattern=r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$")],
            Annotated[
                tuple[Annotated[_ANY, text("", allowed="a text, a number, true or false")], ...],
                Meta(min_length=1, max_length=100),
            ],
        ],
        text(
            "Your own values of a setting, in place of the usual ones.",
            allowed='a table such as { "model.horizon_minutes" = [5, 10, 20] }, each a list of 1 to 100',
        ),
    ] = field(default_factory=dict)
    folds: Annotated[
        int, Meta(ge=1, le=20, description="Parts of the inner walk-forward; each takes a training a trial.")
    ] = 3
    seed: Annotated[
        int, Meta(ge=0, le=2**32 - 1, description="Seed of what is tried; one worker tries the same again.")
    ] = 42
    workers: Annotated[
        int, Meta(ge=0, le=1024, description="Trials at the same time; 0 is one for each core of [compute] jobs.")
    ] = 0


@value_class(frozen=True, slots=True, kw_only=True)
class Schedule(Value):
    """When `hftcl schedule` acts; each job at most once a day."""

    timezone: Annotated[str, text("Time zone of the times below.", allowed=ZONE)] = "America/New_York"
    check: Annotated[
        str,
        text(
            "Daily check, which retrains if a retrain is due.",
            allowed='a time such as "02:00", a day and a time such as "Sun 02:00", or cron syntax such as "0 2 * * *"; '
            + _DAYS,
            pattern=_TIMES,
        ),
    ] = "02:00"
    retrain: Annotated[
        str,
        text(
            "Weekly forced retrain.",
            allowed='a day and a time such as "Sun 01:00", a time, or cron syntax such as "0 1 * * SUN"; ' + _DAYS,
            pattern=_TIMES,
        ),
    ] = "Sun 01:00"
    digest: Annotated[
        str,
        text(
            "Weekly digest, told as an alert.",
            allowed='a day and a time such as "Sun 08:00", a time, or cron syntax such as "0 8 * * SUN"; ' + _DAYS,
            pattern=_TIMES,
        ),
    ] = "Sun 08:00"
    collect_delay_minutes: Annotated[
        int,
        Meta(
            ge=0,
            le=1440,
            description="Minutes from a session's end, its extended hours included, to the collection of its bars.",
        ),
    ] = 20
