"""Homes for `hftcl schedule` as a process: one job that is due now, or none, whatever the hour of the test."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.loop_cases import QUICK_TOML

NEVER = "0 0 29 2 MON"
"""A day that is years away, for the jobs that a test does not want."""


def a_home(folder: Path, *, due: str | None = "check", trees: int = 0, more: str = "") -> Path:
    """Return a home in which the job `due` came due a minute ago, and no other comes near; None: none at all.

    trees: of a training that is to be met at work; LightGBM's process begins in a third of the time of a forest's.
    """
    folder.mkdir(exist_ok=True)
    now = datetime.now(UTC) - timedelta(minutes=1)  # noqa: TID251 - the process has the clock of this machine
    times = {"check": NEVER, "retrain": NEVER, "digest": NEVER}
    if due is not None:
        times[due] = f"{now.minute} {now.hour} * * *"
    section = "".join(f'{name} = "{text}"\n' for name, text in times.items())
    toml = QUICK_TOML
    if trees:
        toml = toml.replace('family = "ridge"', f'family = "lightgbm"\n\n[lightgbm]\nn_estimators = {trees}')
    toml += f'\n[exam]\nsessions = 5\nmin_sessions = 5\n\n[schedule]\ntimezone = "UTC"\n{section}'
    toml += f"collect_delay_minutes = {delay_out_of_the_way(now.hour * 60 + now.minute)}\n{more}"
    (folder / "hftcl.toml").write_text(toml)
    return folder


def delay_out_of_the_way(minute: int) -> int:
    """Return a delay with which no collection comes due around `minute` of a UTC day, whatever the day and season."""
    closes = (21 * 60, 22 * 60, 24 * 60, 25 * 60)  # 17:00 and 20:00 in New York
    apart = {d: min(abs((minute - c - d + 720) % 1440 - 720) for c in closes) for d in range(0, 1440, 60)}
    return max(apart, key=lambda delay: apart[delay])
