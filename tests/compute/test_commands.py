"""The commands on a real Dask cluster: what they keep, what travels, who is let in, and that the bot needs none."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import trustme

from hftcl.archive.record import read_all
from hftcl.archive.registry import Registry
from hftcl.learning.orders import select_settings
from hftcl.settings import Alerts, Compute, Features, Files, Paths, Polygon, Settings
from tests.compute.processes import (
    BEHIND,
    PATIENCE_S,
    Cluster,
    list_descendants,
    run_cluster,
    wait_for,
    wait_until_ended,
)
from tests.in_process import call
from tests.installed import HFTCL, give_calendar, one_line, run

distributed = pytest.importorskip("distributed", reason="the extra hftcl[dask] is not installed")

pytestmark = pytest.mark.usefixtures("warm_trainers")

TOML = """\
[market]
watchlist = ["AAPL", "AMD"]
lookback_days = 46

[synthetic]
edge = 1.0

[exam]
sessions = 12
min_sessions = 5

[model]
family = "ridge"

[alerts]
heartbeat_url = "https://hc-ping.example/CANARY-heartbeat"
"""
BACKTEST = ("backtest", "--from", "2025-08-04", "--to", "2025-08-15")
RETRAIN = ("retrain", "--force", "--as-of", "2025-08-28")
SECRETS = {
    "POLYGON_API_KEY": "CANARY-polygon",
    "SMTP_PASSWORD": "CANARY-smtp",
    "HFTCL_SIGNING_KEY": "CANARY-signing-key",
}


def write_home(home: Path, compute: str = "") -> Path:
    home.mkdir(exist_ok=True)
    (home / "hftcl.toml").write_text(f"{TOML}\n[compute]\n{compute}")
    (home / ".env").write_text("APCA_API_SECRET_KEY=CANARY-alpaca\n")
    (home / ".env").chmod(0o600)
    return home


def on(url: str, *more: str) -> str:
    return "\n".join(['backend = "dask"', f'scheduler = "{url}"', *more])


def start(home: Path, *arguments: str, before: Sequence[str] = ()) -> "subprocess.Popen[str]":
    """Start a backtest."""
    give_calendar(home)
    environment = {**os.environ, **SECRETS}
    pipe = subprocess.PIPE
    command = [*before, HFTCL, *(arguments or BACKTEST)]
    return subprocess.Popen(command, cwd=home, env=environment, stdout=pipe, stderr=pipe, text=True)


def finish(home: Path, *arguments: str) -> Any:
    done = run(home, *arguments, "--json", **SECRETS)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def read_models(home: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (home / "backtest").glob("*/*.onnx")}


def without_times(report: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in report.items() if name not in {"timings_s", "resumed"}}


def read_record(home: Path) -> list[tuple[object, ...]]:
    rows = (row for row, _ in read_all(Registry(home), synthetic=True))
    return [(row.session, row.net, row.gross, row.turnover, row.kind, row.policy, row.bars) for row in rows]


@dataclass(slots=True)
class Wire:
    """A relay before a scheduler, which keeps every byte that a client sends and gets."""

    to: tuple[str, int]
    bytes: bytearray = field(default_factory=bytearray)
    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))

    @property
    def url(self) -> str:
        return f"tcp://127.0.0.1:{self.listener.getsockname()[1]}"

    def serve(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:  # closed
                return
            server = socket.create_connection(self.to)
            for one, other in ((client, server), (server, client)):
                threading.Thread(target=self.copy, args=(one, other), daemon=True).start()

    def copy(self, one: socket.socket, other: socket.socket) -> None:
        try:
            while chunk := one.recv(1 << 20):
                self.bytes += chunk
                other.sendall(chunk)
        except OSError:
            pass
        for end in (one, other):
            end.close()


@pytest.fixture(scope="module")
def plain(warm_trainers: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, object], dict[str, bytes]]:
    """Return the report and the models of a backtest on this machine."""
    home = write_home(tmp_path_factory.mktemp("plain"))
    done = call(home, *BACKTEST, "--json", **SECRETS)
    assert done.returncode == 0, done.stderr
    return without_times(json.loads(done.stdout)), read_models(home)


def test_a_backtest_and_a_first_record_of_a_cluster_are_those_of_this_machine_to_the_bit_and_no_secret_travels(
    plain: tuple[dict[str, object], dict[str, bytes]], tmp_path: Path
) -> None:
    here = write_home(tmp_path / "here")
    assert call(here, *RETRAIN).returncode == 0
    with run_cluster(tmp_path) as cluster:
        host, _, port = cluster.url.removeprefix("tcp://").partition(":")
        wire = Wire((host, int(port)))
        threading.Thread(target=wire.serve, daemon=True).start()
        home = write_home(tmp_path / "home", on(wire.url, "min_feature_bars = 0"))
        done = finish(home, *BACKTEST)
        learnt = run(home, *RETRAIN, **SECRETS)
        wire.listener.close()
    report, models = plain
    assert without_times(done) == report
    assert read_models(home) == models
    assert learnt.returncode == 0, learnt.stderr
    assert len(read_record(home)) == 12
    assert read_record(home) == read_record(here)
    sent = bytes(wire.bytes)
    assert b"train_unit" in sent, "what travels can be read"
    assert b"train_fold" in sent
    assert sent.count(b"hftcl the features of AAPL to AMD") >= 2, "of both commands"
    assert b"entry threshold" in sent, "a fold tells of its steps"
    assert re.findall(rb"CANARY.{0,20}", sent) == []
    assert str(home).encode() not in sent, "nor where anything lies"


@pytest.mark.slow
def test_a_scheduler_that_dies_costs_nothing_of_what_is_done(
    plain: tuple[dict[str, object], dict[str, bytes]], tmp_path: Path
) -> None:
    with run_cluster(tmp_path, workers=0) as cluster:
        cluster.start_worker(before=BEHIND)
        home = write_home(tmp_path / "home", on(cluster.url, "wait_s = 60"))
        command = start(home)
        wait_for(home, "backtest/*/*.onnx")
        cluster.scheduler.kill()
        out, told = command.communicate(timeout=PATIENCE_S)
        assert (command.returncode, out) == (1, "")
        last = told.strip().rpartition("\n")[2]
        assert last.startswith(f"hftcl: The Dask scheduler {cluster.url} is gone. What is done is kept: run the same")
        write_home(home, on(cluster.url, "wait_s = 5"))
        gone = run(home, *BACKTEST, **SECRETS)
        assert gone.returncode == 1
        assert one_line(gone).startswith(f"hftcl: The Dask scheduler {cluster.url} does not answer")
    kept = len(read_models(home))
    assert 1 <= kept < len(plain[1])
    write_home(home)  # it goes on here as well
    report = finish(home, *BACKTEST)
    assert report["resumed"] == kept
    assert (without_times(report), read_models(home)) == plain


def test_ctrl_c_ends_the_trainings_of_a_cluster_of_this_machine_and_its_processes(tmp_path: Path) -> None:
    home = write_home(tmp_path / "home", 'backend = "dask"\njobs = 2')
    command = start(home, *BACKTEST[:-1], "2025-09-26", before=BEHIND)  # more trainings: most of them never begin
    wait_for(home, "backtest/*/*.onnx")
    started = list_descendants(command.pid)
    assert len(started) >= 3, "the cluster and its workers"
    command.send_signal(signal.SIGINT)
    _, told = command.communicate(timeout=PATIENCE_S)
    assert command.returncode == 130, told
    assert "Traceback" not in told
    wait_until_ended(started)


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the certificate of an authority, and one that it has signed with its key."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(folder / "stranger.pem")
    return folder


def test_over_tls_the_doctor_counts_the_workers_and_a_stranger_is_not_let_in(
    certificates: Path, tmp_path: Path
) -> None:
    ca, cert, key = (str(certificates / f"{name}.pem") for name in ("ca", "cert", "key"))
    given = ("--tls-ca-file", ca, "--tls-cert", cert, "--tls-key", key)
    cluster = Cluster(tmp_path)
    try:
        cluster.start_scheduler(*given, host="tls://127.0.0.1:0")
        cluster.start_worker(*given)
        lines = (f'tls_ca_file = "{ca}"', f'tls_cert = "{cert}"', f'tls_key = "{key}"', "wait_s = 60")
        home = write_home(tmp_path / "home", on(cluster.url, *lines))
        row = next(each for each in json.loads(call(home, "doctor", "--json").stdout) if each["name"] == "compute")
        assert (row["status"], row["detail"]) == (
            "ok",
            f"{cluster.url} answers: 1 worker of these versions, 1 thread",
        )
        stranger = (lines[0], f'tls_cert = "{certificates / "stranger.pem"}"', "wait_s = 2")
        write_home(home, on(cluster.url, *stranger))
        told = call(home, *BACKTEST)
        assert told.returncode == 1
        assert one_line(told).startswith(f"hftcl: The Dask scheduler {cluster.url} does not answer")
    finally:
        cluster.stop()


# --- what travels, and what does not ----------------------------------------------------------------------------------


def test_no_path_and_no_address_of_the_settings_travels() -> None:
    settings = replace(
        Settings(),
        paths=Paths(home="/CANARY/home", env_file="/CANARY/env"),
        files=Files(folder="/CANARY/bars"),
        polygon=Polygon(base_url="https://CANARY.example"),
        alerts=Alerts(heartbeat_url="https://hc-ping.example/CANARY"),
        features=Features(modules=("/CANARY/mine.py",), drop=("volume",)),
        compute=Compute(scheduler="tcp://CANARY:1", tls_key="/CANARY/key.pem", jobs=3),
    )
    selected = select_settings(settings)
    assert "CANARY" not in repr(selected)
    assert (selected.market, selected.features.drop, selected.compute.jobs) == (settings.market, ("volume",), 3)


def test_the_bot_needs_no_cluster_and_loads_nothing_of_it(tmp_path: Path) -> None:
    home = write_home(tmp_path / "home", on("tcp://127.0.0.1:1", "wait_s = 0.1"))
    script = """
import sys
from hftcl.cli import main
try:
    main()
finally:
    print(sorted({"distributed", "dask", "hftcl.compute"} & sys.modules.keys()))
"""
    give_calendar(home)
    done = subprocess.run(
        [sys.executable, "-c", script, "trade", "--replay", "2025-12-01..2025-12-02"],
        cwd=home,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.stdout.strip().rpartition("\n")[2] == "[]", done.stderr
