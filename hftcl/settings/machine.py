"""The machine around it: [paths], [alerts], [log], [archive], [compute]."""

from __future__ import annotations  # texts until they are read, as `settings` says why

from typing import Annotated, Literal

from msgspec import Meta

from hftcl.settings.forms import text
from hftcl.values import Value, value_class


@value_class(frozen=True, slots=True, kw_only=True)
class Paths(Value):
    """Where hftcl keeps its files."""

    home: Annotated[
        str, text("Models, bars and registry are here; relative to hftcl.toml.", allowed="a folder", least=1)
    ] = "."
    env_file: Annotated[str, text("Secrets, KEY=value a line; relative to hftcl.toml.", allowed="a file", least=1)] = (
        ".env"
    )


@value_class(frozen=True, slots=True, kw_only=True)
class Alerts(Value):
    """Who is told what happened. Addresses and passwords are secrets: ALERT_EMAIL_TO, SMTP_HOST, ALERT_URLS, ..."""

    email: Annotated[
        bool, text("Send alerts by mail, over verified TLS; ALERT_EMAIL_ENABLED, where it is set, goes before this.")
    ] = False
    sender: Annotated[
        str, text("Address that mails come from.", allowed='a mail address, or "" for SMTP_USER or hftcl@<host name>')
    ] = ""
    smtp_tls: Annotated[
        Literal["auto", "starttls", "implicit"],
        text('How the mail server begins TLS; "auto" is implicit on port 465, STARTTLS on any other.'),
    ] = "auto"
    command: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        text("A program, with arguments, that gets each alert as JSON on stdin.", allowed="a list of texts"),
    ] = ()
    heartbeat_url: Annotated[
        str,
        text(
            "Address that is fetched after each finished job: its owner sees when this machine is dead.",
            allowed='an address such as "https://hc-ping.com/...", or "" for none',
            pattern=r"^(https?://[^\s@]+)?$",
        ),
    ] = ""
    mute: Annotated[
        tuple[
            Literal[
                "deployed",
                "rejected",
                "inconclusive",
                "retrained",
                "error",
                "rollback",
                "halted",
                "reload_refused",
                "data_hole",
                "behind",
                "digest",
            ],
            ...,
        ],
        Meta(max_length=11, description="Kinds of alerts that are not sent."),
    ] = ()
    repeat_hours: Annotated[
        float, Meta(ge=0, le=8760, description="Hours in which a fault that goes on is told once, then with a count.")
    ] = 24
    timeout_s: Annotated[
        float, Meta(gt=0, le=600, description="Most seconds for one alert on one way, after which it waits.")
    ] = 20.0


@value_class(frozen=True, slots=True, kw_only=True)
class Log(Value):
    """What is said on stderr while a command works."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        text("Least level that `schedule` and `trade` show; other commands show warnings, and with -v this."),
    ] = "info"
    format: Annotated[
        Literal["text", "json"],
        text('"text" is a line of key=value, "json" one JSON object a line.'),
    ] = "text"
    prometheus: Annotated[
        str,
        text(
            "The scheduler keeps the state here for node_exporter; relative to hftcl.toml.",
            allowed='a file whose name ends in .prom, or "" for none',
            pattern=r"^(.*\.prom)?$",
        ),
    ] = ""


@value_class(frozen=True, slots=True, kw_only=True)
class Archive(Value):
    """The models kept."""

    keep: Annotated[
        int,
        Meta(
            ge=2,
            le=100_000,
            description="Newest models whose files are kept; the one that serves and its parents always are.",
        ),
    ] = 200


@value_class(frozen=True, slots=True, kw_only=True)
class Compute(Value):
    """Where features, the trainings of `backtest`, trials of `search` and folds of a record run: docs/scale.md."""

    backend: Annotated[
        Literal["local", "dask"],
        text('"local" is this machine; "dask" a Dask cluster, or processes of this machine where none is named.'),
    ] = "local"
    jobs: Annotated[
        int,
        Meta(ge=0, le=1024, description="Processor cores for features, training and exams here; 0 is all of them."),
    ] = 0
    scheduler: Annotated[
        str,
        text(
            "Address of the Dask scheduler.",
            allowed='an address such as "tcp://10.0.0.1:8786" or "tls://10.0.0.1:8786", or "" for none',
            pattern=r"^(t(cp|ls)://[^\s@/]+:[0-9]+)?$",
        ),
    ] = ""
    scheduler_file: Annotated[
        str,
        text(
            "The file that `dask scheduler --scheduler-file` writes, in place of an address; relative to hftcl.toml.",
            allowed='a file, or "" for none',
        ),
    ] = ""
    storage: Annotated[
        str,
        text(
            "Bars and training rows lie here for the workers, by the hash of their content, in place of being sent.",
            allowed='a folder that this machine and each worker know by the same path, or "" for none',
        ),
    ] = ""
    tls_ca_file: Annotated[
        str,
        text(
            "Certificate of the authority that scheduler and workers are trusted by; relative to hftcl.toml.",
            allowed='a PEM file, or "" for what the configuration of Dask says',
        ),
    ] = ""
    tls_cert: Annotated[
        str,
        text(
            "Certificate by which the cluster trusts this machine; relative to hftcl.toml.",
            allowed='a PEM file, or "" for what the configuration of Dask says',
        ),
    ] = ""
    tls_key: Annotated[
        str,
        text(
            "Private key of that certificate; relative to hftcl.toml.",
            allowed='a PEM file, or "" where the certificate\'s file holds it',
        ),
    ] = ""
    wait_s: Annotated[
        float,
        Meta(gt=0, le=86_400, description="Seconds to wait for the scheduler, and for a worker where there is none."),
    ] = 60.0
    min_feature_bars: Annotated[
        int,
        Meta(
            ge=0,
            le=10_000_000_000,
            description="Bars of a window, of all tickers together, from which on a cluster that is named computes "
            "features; with fewer it spares less than it takes to ask it.",
        ),
    ] = 5_000_000
    # 320 tickers of 60 days. To join a cluster takes 0.6 to 0.8 s of processor time, and of 6 us a bar 3 stay here:
    # on two cores that is repaid from 1 to 8 million bars on (three runs of tests.benchmarks.feature_tasks).
    max_training_hours: Annotated[
        float, Meta(gt=0, le=168, description="Hours after which one training that has not ended is stopped.")
    ] = 12

    @property
    def names_cluster(self) -> bool:
        """Whether tasks run on a cluster that was started elsewhere."""
        return self.backend == "dask" and bool(self.scheduler or self.scheduler_file)
