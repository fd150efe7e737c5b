"""The state of an installation as a text file for Prometheus, read by node_exporter's textfile collector.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/ (text, version 0.0.4).
"""

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from hftcl import __version__, durable
from hftcl.alerts.outbox import Outbox
from hftcl.archive.fitness import find_unfit_here
from hftcl.archive.permission import find_permission
from hftcl.archive.registry import Registry
from hftcl.doctor.row import Row
from hftcl.home import Home
from hftcl.ledger.meta import Fact
from hftcl.ledger.reader import LedgerReader
from hftcl.schedule.claims import Occurrences
from hftcl.settings import Settings

# In rising order: `max` finds the worst, and an alert rule can say `> 0`.
_CODES: Final = {"ok": 0, "warning": 1, "fault": 2}


@dataclass(frozen=True, slots=True)
class _Metric:
    """One metric: its name without "hftcl_", whether it is a gauge or a counter, what it says, (labels, value) each."""

    name: str
    kind: str
    help: str
    samples: Sequence[tuple[Mapping[str, str], float]]


def refresh(settings: Settings, now: datetime) -> None:
    """Write the state to `[log] prometheus`; nothing where that is not set. Raises HftclError."""
    if settings.log.prometheus:
        write(Path(settings.log.prometheus), settings, now)


def write(path: Path, settings: Settings, now: datetime, rows: Iterable[Row] = ()) -> None:
    """Replace `path` by the state at `now` (UTC), with the doctor's `rows` where there are some. Raises HftclError."""
    document = render_text(settings, now, rows)
    with durable.convert_storage_faults(f"writing {path}"):
        durable.require_regular(path)  # of a device that a person named, the machine would have none any more
        durable.write_atomically(path, document.encode())


def render_text(settings: Settings, now: datetime, rows: Iterable[Row] = ()) -> str:
    """Return the state at `now` (UTC), metrics in a fixed order; one that has no sample is left out."""
    home = Home.of(settings).root
    metrics = [
        _Metric("info", "gauge", "The program.", [({"version": __version__}, 1)]),
        _Metric("written_timestamp_seconds", "gauge", "When this file was written.", [({}, now.timestamp())]),
        *_measure_models(settings),
        *_measure_jobs(home),
        *_measure_bot(home),
        _Metric("alerts_waiting", "gauge", "Alerts that are not sent yet.", [({}, Outbox(home).count_waiting())]),
        *_measure_disk(home),
        _measure_rows(rows),
    ]
    return "".join(line for metric in metrics if metric.samples for line in _format_lines(metric))


def _measure_models(settings: Settings) -> Iterator[_Metric]:
    registry = Registry(Home.of(settings).root)
    live = registry.find_live()
    attempts = registry.list_attempts()
    serves = int(live is not None and find_unfit_here(settings) is None)
    yield _Metric("model_serves", "gauge", "Whether a registered model serves, and may here.", [({}, serves)])
    yield _Metric("pinned", "gauge", "Whether a rollback pins it.", [({}, int(registry.find_pin() is not None))])
    if live is not None:
        about = {"model_id": live.model_id, "source": live.source, "synthetic": str(live.synthetic).lower()}
        yield _Metric("model_info", "gauge", "The model that serves.", [(about, 1)])
        trained = live.trained_at.timestamp()
        yield _Metric("model_trained_timestamp_seconds", "gauge", "When it was trained.", [({}, trained)])
        if live.val_sharpe is not None:
            yield _Metric("model_exam_sharpe", "gauge", "Net annual Sharpe ratio of its exam.", [({}, live.val_sharpe)])
            sessions = live.judgement.exam_sessions
            if sessions is not None:
                yield _Metric("model_exam_sessions", "gauge", "Sessions of that exam.", [({}, sessions)])
    may_trade = int(find_permission(settings).edge == "live")  # 0 too where it cannot be told: an alert is to fire
    yield _Metric("edge_live", "gauge", "Whether the record lets the bot trade.", [({}, may_trade)])
    counted = Counter(attempt.outcome for attempt in attempts)
    samples = [({"outcome": outcome}, float(count)) for outcome, count in sorted(counted.items())]
    yield _Metric("retrains_total", "counter", "Runs that wanted a new model.", samples)
    if attempts:
        last = [({"outcome": attempts[0].outcome}, attempts[0].at.timestamp())]
        yield _Metric("last_retrain_timestamp_seconds", "gauge", "When the last of them was.", last)


def _measure_jobs(home: Path) -> Iterator[_Metric]:
    records = Occurrences(home).list_known()
    counted = Counter((record.job, record.state) for record in records)
    samples = [({"job": job, "state": state}, float(count)) for (job, state), count in sorted(counted.items())]
    yield _Metric("jobs_total", "counter", "What the scheduler has accounted for.", samples)
    yield _Metric("duties_total", "counter", "The same by its earlier name: alerts and graphs ask for it.", samples)
    last = {record.job: record.finished_at for record in records if record.state == "done" and record.finished_at}
    ends = [({"job": job}, at.timestamp()) for job, at in sorted(last.items())]
    yield _Metric("last_done_timestamp_seconds", "gauge", "When each job was last done.", ends)


def _measure_bot(home: Path) -> Iterator[_Metric]:
    with LedgerReader(Home(home).ledger) as ledger, ledger.snapshot():
        meta, latches, decided = ledger.open_meta(), ledger.read_latches(), ledger.find_last_decided()
        equity = ledger.read_last_equity()["equity"].to_list() if meta else []
    if meta:
        yield _Metric("bot_halted", "gauge", "Whether a latch keeps the bot from trading.", [({}, int(bool(latches)))])
        yield _Metric("bot_equity_usd", "gauge", "Its equity at the last minute.", [({}, value) for value in equity])
    if beat := meta.read_moment(Fact.HEARTBEAT):
        at = beat.timestamp()
        yield _Metric("bot_heartbeat_timestamp_seconds", "gauge", "When it last came round.", [({}, at)])
    if decided:
        at = decided.timestamp()
        yield _Metric("bot_last_decision_timestamp_seconds", "gauge", "The bar that it last decided on.", [({}, at)])


def _measure_disk(home: Path) -> Iterator[_Metric]:
    if home.is_dir():
        free = shutil.disk_usage(home).free
        yield _Metric("disk_free_bytes", "gauge", "Room on the disk of the home.", [({}, free)])


def _measure_rows(rows: Iterable[Row]) -> _Metric:
    worst: dict[str, int] = {}
    for row in rows:
        worst[row.name] = max(worst.get(row.name, 0), _CODES[row.status])
    samples = [({"name": name}, float(code)) for name, code in worst.items()]
    return _Metric("doctor_status", "gauge", "What the doctor found: 0 ok, 1 warning, 2 fault.", samples)


def _format_lines(metric: _Metric) -> Iterator[str]:
    yield f"# HELP hftcl_{metric.name} {metric.help}\n# TYPE hftcl_{metric.name} {metric.kind}\n"
    for labels, value in metric.samples:
        label_text = ",".join(f'{name}="{_escape(value)}"' for name, value in labels.items())
        yield f"hftcl_{metric.name}{f'{{{label_text}}}' if label_text else ''} {float(value)!r}\n"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
