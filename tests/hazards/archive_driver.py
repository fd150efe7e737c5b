"""One command of the archive as a process of its own, to be killed, starved of disk or raced: see test_archive_hazards.

python -m tests.hazards.archive_driver HOME COMMAND [MODEL_ID]
"""

import contextlib
import itertools
import sys
from datetime import timedelta
from pathlib import Path

from hftcl.archive.deployment import ModelArchive
from hftcl.archive.record import RecordedSession
from hftcl.errors import HftclError, PinnedError, RollbackError, StorageError
from hftcl.schedule.claims import Occurrences
from tests.archive.sample_models import T0, added, archive_in

NOW = T0 + timedelta(weeks=20)


def retrain(archive: ModelArchive) -> None:
    """Change all that a retrain changes: its training is a process of its own, and keeps nothing."""
    model_id = added(archive, NOW, sessions=[session_of("")]).model_id
    archive.deploy(model_id, now=NOW, reason="better")
    with contextlib.suppress(StorageError):  # told as a warning: the new model serves
        archive.record_attempt(NOW, kind="forced", outcome="deployed", reason="better", model_id=model_id)


def schedule(home: Path) -> None:
    """Claim a job and say what became of it."""
    occurrences = Occurrences(home)
    occurrences.fail_abandoned(now=NOW)
    claim = occurrences.claim("check", NOW.date(), NOW, by="a test", now=NOW)
    if claim is not None:
        claim.finish("done", "nothing was due", now=NOW)


def run(home: Path, command: str, model_id: str) -> None:
    archive = archive_in(home)
    if command == "retrain":
        retrain(archive)
    elif command == "schedule":
        schedule(home)
    else:
        run_one(archive, home, command, model_id)


def run_one(archive: ModelArchive, home: Path, command: str, model_id: str) -> None:
    if command == "add":
        added(archive, NOW)
    elif command == "deploy":
        archive.deploy(model_id, now=NOW, reason="better")
    elif command == "compete":
        champion = archive.find_live()
        print("ready", flush=True)  # noqa: T201
        sys.stdin.readline()
        archive.deploy(model_id, now=NOW, reason="better", champion=champion.model_id if champion else None)
    elif command == "rollback":
        archive.rollback(now=NOW)
    elif command == "unpin":
        archive.unpin(now=NOW)
    elif command == "prune":
        archive.prune(1, now=NOW)
    elif command == "live on":
        live_on(home)


def session_of(model_id: str) -> RecordedSession:
    """Return a session of the policy's record."""
    return RecordedSession(
        session=NOW.date(),
        policy="p" * 16,
        bars="AAPL:1",
        net=0.001,
        gross=0.002,
        turnover=0.5,
        model_id=model_id,
        kind="scored",
        source="synthetic",
        synthetic=True,
    )


def live_on(home: Path) -> None:
    """Do everything an archive does, again and again, until killed."""
    archive = archive_in(home)
    print("ready", flush=True)  # noqa: T201
    for step in itertools.count():
        now = NOW + timedelta(minutes=step)
        model_id = added(archive, now).model_id
        try:
            archive.deploy(model_id, now=now, reason="better")
            if step % 3 == 2:
                archive.rollback(now=now)
        except (PinnedError, RollbackError):
            archive.unpin(now=now)
        archive.prune(4, now=now)


if __name__ == "__main__":
    try:
        run(Path(sys.argv[1]), sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else "")
    except HftclError as error:
        print(f"hftcl: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(error.exit_code) from None
