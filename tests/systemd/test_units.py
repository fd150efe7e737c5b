"""The units under a real systemd, booted in a container: kill, watchdog, stop, an invalid configuration, a burst.

The container is this machine's own tree, mounted a second time, under a writable layer in memory,
`systemd-nspawn --volatile=overlay`: nothing of the machine changes but the folder of the test. Skipped by name where
that cannot be done.
"""

import json
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hftcl.doctor.units import FAILED, NAMES, Installation, build_unit
from tests.config.configured import loaded

NSPAWN = shutil.which("systemd-nspawn")
UNSHARE = shutil.which("unshare")
DRILL = Path(__file__).with_name("drill.sh")
SHORT = "[Unit]\nStartLimitBurst=5\n[Service]\nRestartSec=1s\nWatchdogSec=30s\n"
"""A drop-in: the times of a drill, where the unit has those of a service."""
FREE_PORT = "[Service]\nExecStart=\nExecStart={} -m hftcl --config {} dashboard --port 0\n"
"""The same for the dashboard: the container shares this machine's network, where its own port may be taken."""
_DAY_S = 86_400
BOOT_S = 600  # a boot takes 20 s, the drill three minutes; a loaded machine takes its time

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(NSPAWN is None, reason="systemd-nspawn is not installed (apt-get install systemd-container)"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can boot a container"),
]


def tell_into(file: Path) -> str:
    """Return the setting of a program that adds each alert to `file`."""
    return json.dumps(["/bin/sh", "-c", f"cat >> {file}"])


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a new folder outside /tmp, which the units have of their own (PrivateTmp=yes)."""
    with tempfile.TemporaryDirectory(prefix="hftcl-drill-", dir="/srv") as path:
        yield Path(path)


@pytest.fixture
def findings(folder: Path) -> set[str]:
    """Return what a container in which the units are installed has found."""
    home, units, tree = folder / "home", folder / "units", folder / "tree"
    for path in (home, units, tree):
        path.mkdir()
    (home / "told").touch()
    another = time.strftime("%a", time.gmtime(time.time() + _DAY_S))  # a job runs once a day: today's is the drill's
    (home / "hftcl.toml").write_text(
        f'[alerts]\ncommand = {tell_into(home / "told")}\n[schedule]\ntimezone = "UTC"\ndigest = "{another} 08:00"\n'
        '[market]\nwatchlist = ["AAPL", "AMD"]\nlookback_days = 46\n[model]\nfamily = "ridge"\n'
    )
    (home / ".env").write_text("DASHBOARD_TOKEN=0123456789abcdef0123456789abcdef\n")
    place = Installation.find(loaded(home, (home / "hftcl.toml").read_text()))
    texts = {f"hftcl-{name}.service": build_unit(name, place) for name in NAMES}
    texts[f"hftcl-{FAILED}@.service"] = build_unit(FAILED, place)
    texts["hftcl-drill.service"] = (
        "[Unit]\nDescription=the drill\nFailureAction=poweroff-immediate\n"
        "[Service]\nType=oneshot\nTimeoutStartSec=infinity\n"
        f"ExecStart={DRILL} {folder}\n"
    )
    for file, text in texts.items():
        (units / file).write_text(text.replace("User=hftcl\n", "User=root\n"))
    for name, text in {"schedule": SHORT, "dashboard": FREE_PORT.format(place.python, place.config)}.items():
        short = units / f"hftcl-{name}.service.d"
        short.mkdir()
        (short / "short.conf").write_text(text)
    binds = [f"--bind-ro={path}:/etc/systemd/system/{path.name}" for path in sorted(units.iterdir())]
    machine = [str(NSPAWN), f"--directory={tree}", "--volatile=overlay", f"--bind={folder}", *binds]
    command = shlex.join([*machine, "--register=no", "--keep-unit", "--boot", "systemd.unit=hftcl-drill.service"])
    # systemd-nspawn takes no overlay over `/` itself; mounted again it does, here where no other process sees it
    again = f"mount --bind / {shlex.quote(str(tree))} && exec {command}"
    done = subprocess.run(
        [str(UNSHARE), "--mount", "--propagation", "private", "/bin/sh", "-c", again],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=BOOT_S,
    )
    result = folder / "result"
    if not result.exists():
        pytest.skip(f"systemd-nspawn boots no container here: {(done.stderr or done.stdout)[-200:]!r}")
    return set(result.read_text().splitlines())


@pytest.mark.hazard(48)
@pytest.mark.hazard(90)
def test_the_units_keep_their_promises_under_a_real_systemd(findings: set[str]) -> None:
    assert findings >= {
        "ready notify",
        "shared memory is its own",
        "restarted after kill",
        "kill told by the next start",
        "restarted by the watchdog",
        "stopped in time",
        "a stop is no failure",
        "a stop at the start is no failure",
        "the dashboard is ready",
        "it cannot write",
        "the dashboard stops",
        "an invalid configuration is not restarted",
        "a job missed while stopped is caught up",
        "given up after a burst",
        "the dead service is told",
        "done",
    }
