"""The end of a service by a failure: noted by the dying unit, told by whatever runs next.

A process of ExecStopPost= has no credentials of the unit any more (https://github.com/systemd/systemd/issues/32583), so
that it knows no receiver. It only writes a note into the home; the next start of a service tells it, and the unit
`hftcl-failed@`, which has credentials of its own, where systemd has given up.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from hftcl import durable
from hftcl.alerts import Alert, Kind
from hftcl.doctor.units import NAMES
from hftcl.errors import ConfigError
from hftcl.home import Home

_LARGEST: Final = 4096  # bytes: a note is one line of facts
# Each fact by its name for ExecStopPost=, systemd.exec(5), then for a unit of OnFailure=, which is called MONITOR_...
_FACTS: Final = {"result": "SERVICE_RESULT", "code": "EXIT_CODE", "status": "EXIT_STATUS"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """How a service ended, as systemd calls it, and how often since it was last told."""

    result: str
    code: str
    status: str
    times: int = 1


def read_failure(environ: Mapping[str, str]) -> Failure | None:
    """Return what systemd says about the service that has ended; None where it ended well, or outside systemd."""
    facts = {field: environ.get(name) or environ.get(f"MONITOR_{name}", "") for field, name in _FACTS.items()}
    return (
        None
        if facts["result"] in {"", "success"}
        else Failure(result=facts["result"], code=facts["code"], status=facts["status"])
    )


def keep_failure(home: Path, name: str, failure: Failure) -> None:
    """Note `failure` in the home, with those of `name` that were not told yet. Raises StorageError."""
    path = Home(home).locate_failure_note(name)
    before = _read(path)
    kept = Failure(**{**asdict(failure), "times": failure.times + (before.times if before else 0)})
    with durable.convert_storage_faults("noting the end of the service"):
        durable.write_atomically(path, json.dumps(asdict(kept)).encode())


def take_failures(home: Path) -> Iterator[tuple[str, Failure]]:
    """Yield (service, failure) for each note in the home; each is deleted once the caller has dealt with it."""
    for name in NAMES:
        path = Home(home).locate_failure_note(name)
        failure = _read(path)
        if failure is not None:
            yield name, failure
            with durable.convert_storage_faults("deleting the note of a failure"):
                path.unlink(missing_ok=True)


def _read(path: Path) -> Failure | None:
    """Return the note at `path`, None where there is none; of one that is damaged, that nothing is known."""
    if not path.is_file():
        return None
    with durable.convert_storage_faults("reading the note of a failure"):
        data = path.read_bytes()[:_LARGEST]
    try:
        told = json.loads(data)
        result, code, status = (str(told[field]) for field in _FACTS)
        return Failure(result=result, code=code, status=status, times=max(1, int(told["times"])))
    except (ValueError, TypeError, KeyError, OverflowError):
        return Failure(result="unknown", code="", status="")


def build_failure_alert(name: str, failure: Failure, at: datetime, *, given_up: bool = False) -> Alert:
    """Return the alert about a service that ended by a failure. at: UTC. given_up: systemd does not start it again."""
    if failure.status == str(ConfigError.exit_code):
        after = "It is not started again: the configuration is invalid. `hftcl doctor` says what is wrong with it."
    elif given_up:
        after = (
            "systemd has given up and does not start it again. Mend what ended it, then run "
            f"`systemctl reset-failed hftcl-{name}` and `systemctl start hftcl-{name}`."
        )
    else:
        after = (
            "systemd starts it again, at most five times within half an hour; `systemctl status` says whether it runs."
        )
    often = f" It did so {failure.times} times." if failure.times > 1 else ""
    end = "has ended, and is not started again" if given_up else "ended by a failure"
    return Alert(
        kind=Kind.STOPPED if given_up else Kind.ERROR,
        subject=f"The service hftcl-{name} {end}",
        text=f"systemd calls it {failure.result!r}: {failure.code} {failure.status}.{often}\n{after}\n"
        f"`journalctl -u hftcl-{name}` shows its last lines.",
        at=at,
    )
