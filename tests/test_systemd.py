"""What a service tells systemd, and the units that start it."""

import os
import re
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hftcl import config
from hftcl.doctor.units import (
    FAILED,
    NAMES,
    VERSION,
    WRITING,
    Installation,
    build_unit,
    read_program,
    read_variables,
    read_version,
)
from hftcl.errors import UsageError
from hftcl.systemd import Notifier
from tests.config.configured import loaded
from tests.installed import PATIENCE_S

DOCS = Path(__file__).resolve().parents[1] / "docs" / "systemd"
DOCUMENTED = Installation(
    python=Path("/opt/hftcl/bin/python"),
    code=(Path("/opt/hftcl"),),
    config=Path("/etc/hftcl/hftcl.toml"),
    home=Path("/var/lib/hftcl"),
    env_file=Path("/etc/hftcl/hftcl.env"),
    user="hftcl",
)
ANALYZE = shutil.which("systemd-analyze") or ""
needs_systemd_analyze = pytest.mark.skipif(not ANALYZE, reason="systemd-analyze is not installed")


@pytest.mark.parametrize("abstract", [False, True])
def test_each_message_is_one_datagram_to_the_socket_of_systemd(tmp_path: Path, abstract: bool) -> None:
    address = f"@hftcl-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{address[1:]}" if abstract else address)
        listening.settimeout(5)
        notifier = Notifier.from_environment(
            {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "600000000", "WATCHDOG_PID": "7"}, pid=7
        )
        notifier.tell_ready()
        notifier.tell_alive()
        notifier.tell_status("next check\nREADY=1 \x1b[2J")
        notifier.tell_stopping()
        heard = [listening.recv(4096).decode() for _ in range(4)]
    assert heard == ["READY=1", "WATCHDOG=1", "STATUS=next check READY=1 [2J", "STOPPING=1"]
    assert notifier.watchdog_s == 600


def test_outside_systemd_and_with_nobody_listening_nothing_happens(tmp_path: Path) -> None:
    for environ in ({}, {"NOTIFY_SOCKET": str(tmp_path / "gone")}):
        notifier = Notifier.from_environment(environ)
        notifier.tell_ready()
        notifier.tell_alive()
        assert notifier.watchdog_s is None


@pytest.mark.parametrize("usec", ["0", "", "soon", "-5"])
def test_a_watchdog_for_another_process_or_none_is_none(usec: str) -> None:
    assert Notifier.from_environment({"WATCHDOG_USEC": usec}).watchdog_s is None
    assert Notifier.from_environment({"WATCHDOG_USEC": "5", "WATCHDOG_PID": "1"}, pid=2).watchdog_s is None


@pytest.mark.parametrize("name", [*NAMES, FAILED])
def test_the_documented_unit_is_what_the_doctor_prints(name: str) -> None:
    file = f"hftcl-{name}{'@' if name == FAILED else ''}.service"
    assert (DOCS / file).read_text() == build_unit(name, DOCUMENTED)


@pytest.mark.hazard(48)
@pytest.mark.parametrize("name", WRITING)
def test_a_unit_limits_bursts_and_leaves_an_invalid_configuration_alone(name: str) -> None:
    lines = build_unit(name, DOCUMENTED).splitlines()
    assert {
        "Type=notify",
        "Restart=always",
        "RestartPreventExitStatus=78",
        "SuccessExitStatus=143",
        "StartLimitBurst=5",
        "StateDirectory=hftcl",
        "LoadCredential=env:/etc/hftcl/hftcl.env",
        "TemporaryFileSystem=/dev/shm:mode=1777,nosuid,nodev",  # else it is the host's, and writable
        "PrivateTmp=yes",
        "ProtectSystem=strict",
    } <= set(lines)
    assert any(line.startswith("WatchdogSec=") for line in lines)
    assert (
        f"ExecStopPost=/opt/hftcl/bin/python -m hftcl --config /etc/hftcl/hftcl.toml doctor --stopped {name} --later"
        in lines
    )


@pytest.mark.parametrize("home", ["/var/lib/hftcl", "/home/me/trading"])
def test_the_dashboard_sees_the_home_and_may_not_write_it(home: str) -> None:
    lines = build_unit("dashboard", replace(DOCUMENTED, home=Path(home))).splitlines()
    assert {"Restart=always", "ProtectSystem=strict", f"WorkingDirectory={home}", "WatchdogSec=2min"} <= set(lines)
    assert (f"BindReadOnlyPaths=-{home}" in lines) == home.startswith("/home")
    assert not any(line.startswith(("StateDirectory", "ReadWritePaths", "BindPaths", "ExecStopPost")) for line in lines)


@pytest.mark.hazard(90)
def test_the_dead_service_is_told_by_a_unit_that_has_credentials_of_its_own() -> None:
    for name in NAMES:
        assert f"OnFailure=hftcl-failed@{name}.service" in build_unit(name, DOCUMENTED).splitlines()
    lines = build_unit(FAILED, DOCUMENTED).splitlines()
    assert "ExecStart=/opt/hftcl/bin/python -m hftcl --config /etc/hftcl/hftcl.toml doctor --stopped %i" in lines
    assert {"Type=oneshot", "LoadCredential=env:/etc/hftcl/hftcl.env", "User=hftcl", "StateDirectory=hftcl"} <= set(
        lines
    )
    assert not any(line.startswith(("OnFailure=", "Restart=", "WatchdogSec=")) for line in lines)


@needs_systemd_analyze
@pytest.mark.parametrize("name", NAMES)
def test_systemd_finds_nothing_to_complain_about(name: str, tmp_path: Path) -> None:
    # This interpreter and user stand in for those of the documentation, which a machine of tests does not have.
    place = Installation(
        python=Path(sys.executable),
        code=(),
        config=None,
        home=Path("/var/lib/hftcl"),
        env_file=None,
        user="root",
    )
    path = tmp_path / f"hftcl-{name}.service"
    path.write_text(build_unit(name, place))
    done = subprocess.run(
        [ANALYZE, "verify", str(path)], capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_systemd_analyze
@pytest.mark.parametrize("folder", ["my trading", "50%", "a$b", "d\u00fcsseldorf", 'a"b', "a:b"])
def test_systemd_takes_a_unit_of_whatever_folder(folder: str, tmp_path: Path) -> None:
    home = tmp_path / folder
    home.mkdir()
    (home / ".env").write_text("SMTP_HOST=h\n")
    place = replace(Installation.find(loaded(home, "")), python=Path(sys.executable), user="root")
    path = tmp_path / "hftcl-schedule.service"
    path.write_text(build_unit("schedule", place))
    done = subprocess.run(
        [ANALYZE, "verify", str(path)], capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"LoadCredential=env:{home}/.env\n".replace("%", "%%") in path.read_text()


@needs_systemd_analyze
@pytest.mark.parametrize("name", NAMES)
def test_the_exposure_of_a_unit_is_at_most_one_and_a_half(name: str) -> None:
    done = subprocess.run(
        [ANALYZE, "security", "--offline=true", str(DOCS / f"hftcl-{name}.service")],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    found = re.search(r"Overall exposure level for .*: ([0-9.]+)", done.stdout)
    assert found is not None, done.stderr
    assert float(found[1]) <= 1.5


def test_a_colon_in_a_path_is_no_separator_and_two_dots_are_gone(tmp_path: Path) -> None:
    (tmp_path / "a:b").mkdir()
    found = Installation.find(loaded(tmp_path / "a:b", '[paths]\nhome = "../c/../d:e"\n'))
    assert found.home == tmp_path / "d:e"
    place = replace(found, home=Path("/home/me/d:e"), config=Path("/home/me/a:b/hftcl.toml"), code=())
    lines = build_unit("schedule", place).splitlines()
    assert 'BindPaths="/home/me/d:e"' in lines
    assert 'BindReadOnlyPaths="-/home/me/a:b"' in lines
    assert "WorkingDirectory=/home/me/d:e" in lines
    assert replace(place, home=Path("/var/lib/a:b")).state == "", "StateDirectory= takes a colon for a link"
    with pytest.raises(UsageError, match="do not print"):
        build_unit("schedule", replace(place, home=Path("/srv/a\nUser=root")))


def test_a_unit_carries_what_the_configuration_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "tell me"
    program.write_text("#!/bin/sh\n")
    monkeypatch.setenv("HFTCL_MODEL__SEED", "9")
    monkeypatch.setenv("HFTCL_SIGNING_KEY", "CANARY")
    (tmp_path / "hftcl.toml").write_text(
        f'[files]\nfolder = "bars/../my bars"\n[alerts]\ncommand = ["{program}", "--now"]\n'
    )
    found = Installation.find(config.load(None, environ=os.environ, cwd=tmp_path))
    assert found.variables == {"HFTCL_MODEL__SEED": "9"}
    assert (tmp_path / "my bars" in found.readable, program.parent in found.readable) == (True, True)
    lines = build_unit("schedule", replace(found, readable=(Path("/home/me/my bars"), Path("/srv/x")))).splitlines()
    assert "Environment=HFTCL_MODEL__SEED=9" in lines
    assert 'BindReadOnlyPaths="-/home/me/my bars"' in lines
    assert "CANARY" not in "\n".join(lines)
    quoted = build_unit("schedule", replace(found, variables={"HFTCL_X__Y": 'a "b" 50%'}))
    assert 'Environment="HFTCL_X__Y=a \\"b\\" 50%%"' in quoted


def test_a_unit_shows_the_folders_of_features_and_splits_that_lie_elsewhere(tmp_path: Path) -> None:
    """Else the service ends with 78 where the same command by hand works, or reads a file that was replaced since."""
    text = '[features]\nmodules = ["mine.py", "/home/me/f/more.py"]\n[files]\nsplits = "/home/me/s/splits.json"\n'
    found = Installation.find(loaded(tmp_path, text))
    assert {tmp_path, Path("/home/me/f"), Path("/home/me/s")} <= set(found.readable)
    lines = build_unit("trade", found).splitlines()
    assert "BindReadOnlyPaths=-/home/me/f" in lines
    assert "BindReadOnlyPaths=-/home/me/s" in lines
    inside = Installation.find(loaded(tmp_path, '[files]\nfolder = "/home/me/bars"\nsplits = "splits.json"\n'))
    binds = [line for line in build_unit("trade", inside).splitlines() if "ReadOnlyPaths=-/home/me" in line]
    assert binds == ["BindReadOnlyPaths=-/home/me/bars"]
    bare = Installation.find(loaded(tmp_path, '[files]\nsplits = "/home/splits.json"\n'))
    assert "BindReadOnlyPaths=-/home/splits.json" in build_unit("trade", bare).splitlines(), "never all of /home"


@pytest.mark.parametrize("file", ["/home/me/mine.py", "/root/mine.py", "/run/user/1000/mine.py"])
def test_a_unit_shows_a_file_that_lies_among_all_of_a_person_by_itself(file: str, tmp_path: Path) -> None:
    """Its folder holds keys, too."""
    found = Installation.find(loaded(tmp_path, f'[features]\nmodules = ["{file}"]\n'))
    assert Path(file) in found.readable
    assert Path(file).parent not in found.readable


def test_a_unit_shows_what_a_linked_file_is_a_link_to(tmp_path: Path) -> None:
    """Else the link leads nowhere, and the service ends with 78, which is not started again."""
    target = tmp_path / "repository" / "mine.py"
    target.parent.mkdir()
    target.write_text("FEATURES = ()\n")
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "mine.py").symlink_to(target)
    found = Installation.find(loaded(tmp_path, '[features]\nmodules = ["conf/mine.py"]\n'))
    assert {tmp_path / "conf", target.parent} <= set(found.readable)


def test_modules_of_the_environment_are_told_as_what_they_came_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service works in the home, where the same words would name another file."""
    (tmp_path / "mine.py").write_text("FEATURES = ()\n")
    monkeypatch.setenv("HFTCL_FEATURES__MODULES", '["mine.py"]')
    monkeypatch.setenv("HFTCL_PATHS__HOME", "home")
    by_hand = config.load(None, environ=os.environ, cwd=tmp_path)
    unit = build_unit("schedule", Installation.find(by_hand))
    as_service = config.load(None, environ=read_variables(unit), cwd=tmp_path / "home")
    assert as_service.settings.features.modules == by_hand.settings.features.modules == (str(tmp_path / "mine.py"),)


def test_a_unit_is_fitted_to_the_installation_it_is_printed_in(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SMTP_HOST=h\n")
    printed = build_unit("schedule", Installation.find(loaded(tmp_path, "[log]\nprometheus = 'out/hftcl.prom'\n")))
    assert read_program(printed) == sys.executable
    assert f"--config {tmp_path}/hftcl.toml schedule" in printed
    assert f"WorkingDirectory={tmp_path}\n" in printed
    assert f"LoadCredential=env:{tmp_path}/.env\n" in printed
    assert f"ReadWritePaths={tmp_path}/out\n" in printed
    assert read_version(printed) == VERSION
    with pytest.raises(UsageError, match="schedule, trade"):
        build_unit("scheduler", DOCUMENTED)


def test_what_lies_under_home_is_shown_to_the_service_and_nothing_else_there() -> None:
    place = Installation(
        python=Path("/home/me/venv/bin/python"),
        code=(Path("/home/me/venv"), Path("/usr")),
        config=Path("/home/me/my trading/hftcl.toml"),
        home=Path("/home/me/my trading"),
        env_file=None,
        user="me",
    )
    printed = build_unit("trade", place)
    assert "ProtectHome=tmpfs\n" in printed
    assert "BindReadOnlyPaths=-/home/me/venv\n" in printed
    assert 'BindPaths="/home/me/my trading"\n' in printed
    assert "StateDirectory" not in printed
    assert '--config "/home/me/my trading/hftcl.toml" trade' in printed


def test_a_percent_or_dollar_in_a_path_is_no_specifier() -> None:
    place = Installation(
        python=Path('/opt/100%/"p$y'), code=(), config=None, home=Path("/srv/50%"), env_file=None, user="me"
    )
    printed = build_unit("schedule", place)
    assert "WorkingDirectory=/srv/50%%\n" in printed
    assert read_program(printed) == '/opt/100%/"p$y'


def test_a_credential_of_the_unit_is_a_secret_and_stands_in_for_the_env_file(tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    settings = loaded(tmp_path).settings
    (tmp_path / ".env").write_text("SMTP_HOST=file\nSMTP_USER=file\nPOLYGON_API_KEY=file\n")
    environ = {"CREDENTIALS_DIRECTORY": str(credentials)}
    assert config.read_secret("SMTP_HOST", settings, environ) == "file"
    (credentials / "env").write_text("SMTP_HOST=credential\nPOLYGON_API_KEY=credential\n")
    (credentials / "POLYGON_API_KEY").write_text("single\n")
    assert config.read_secret("SMTP_HOST", settings, environ) == "credential"
    assert config.read_secret("SMTP_USER", settings, environ) is None
    assert config.read_secret("POLYGON_API_KEY", settings, environ) == "single"
    assert config.read_secret("POLYGON_API_KEY", settings, {**environ, "POLYGON_API_KEY": "variable"}) == "variable"
