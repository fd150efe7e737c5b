"""The command `dashboard`: the edge of the live page, where the socket, the token and the signals are."""

import os
import signal
import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from hftcl.cli.app import AsJson, app, format_example, tell
from hftcl.cli.invocation import now
from hftcl.errors import ConfigError, HftclError, UsageError

if TYPE_CHECKING:
    import socket

    from hftcl.dashboard.gate import Access
    from hftcl.dashboard.server import AddressReport
    from hftcl.settings import Settings

_PORT: Final = 8420  # chosen: registered for nothing at IANA, and not what notebooks and other dashboards take
_TOKEN: Final = "DASHBOARD_TOKEN"  # noqa: S105 - its name
_LAST_PORT: Final = 65_535  # of TCP
_NICENESS: Final = 10  # the bot on the same machine goes first


@app.command(epilog=format_example("dashboard --port 8420"))
def dashboard(
    ctx: typer.Context,
    port: Annotated[
        int, typer.Option("--port", min=0, max=_LAST_PORT, metavar="N", help="Port; 0 takes a free one.")
    ] = _PORT,
    listen: Annotated[
        str, typer.Option("--listen", metavar="ADDRESS", help="Another address than this machine's own; not encrypted.")
    ] = "127.0.0.1",
    as_json: AsJson = False,
) -> None:
    """Show everything on one local page, live.

    Reads, and changes nothing; runs beside the bot and the scheduler. Ctrl-C ends it.
    """
    _require_installed()
    configuration = ctx.obj.read_configuration()
    os.environ.setdefault("POLARS_MAX_THREADS", "1")  # before polars loads: the cores are the bot's
    from hftcl import logs
    from hftcl.dashboard.parts import DashboardInputs
    from hftcl.dashboard.server import ServerPresent, serve
    from hftcl.home import Home
    from hftcl.market.calendar_file import keep_calendars
    from hftcl.systemd import Notifier

    logs.configure(configuration.settings.log, ctx.obj.verbosity)
    keep_calendars(Home.of(configuration.settings), writes=False)
    place = _listen(listen, port)
    access = _build_access(configuration.settings, is_far=not _is_loopback(listen))
    service = Notifier.from_environment(os.environ, pid=os.getpid())
    os.nice(_NICENESS)

    def tell_ready() -> None:
        _tell_address(place, listen, access, as_json=as_json)
        service.tell_ready()

    inputs = DashboardInputs(configuration=configuration, environ=os.environ, now=now())
    heard = serve(inputs, access, place, ServerPresent(clock=now, on_ready=tell_ready, on_alive=service.tell_alive))
    if heard == signal.SIGINT:
        tell("")
        raise SystemExit(128 + signal.SIGINT)  # nothing was begun, so there is nothing to tell of it


def _require_installed() -> None:
    """Raise HftclError where the libraries of the page are not installed."""
    for name in ("starlette", "uvicorn", "jinja2"):
        try:
            __import__(name)
        except ModuleNotFoundError as missing:
            if missing.name != name:
                raise
            raise HftclError(
                f"The library {name}, which the page is made with, is not installed. It is an extra: "
                'pip install "hftcl[dashboard]".'
            ) from None


def _is_loopback(listen: str) -> bool:
    import ipaddress

    try:
        return ipaddress.ip_address(listen).is_loopback
    except ValueError:
        raise UsageError(f"--listen {listen[:60]!a} is no address. Give one in digits, such as 127.0.0.1.") from None


def _listen(listen: str, port: int) -> "socket.socket":
    """Return a socket that listens. Raises UsageError for an address or a port that cannot be had."""
    _is_loopback(listen)
    import socket  # here: `hftcl --help` need not wait for it

    family = socket.AF_INET6 if ":" in listen else socket.AF_INET
    place = socket.socket(family, socket.SOCK_STREAM)
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # the port of a run that has just ended is free
    try:
        place.bind((listen, port))
        place.listen()
    except OSError as error:
        place.close()
        text = f"Port {port} of {listen} cannot be had: {error.strerror}. Give another with --port; 0 takes a free one."
        raise UsageError(text) from error
    return place


def _build_access(settings: "Settings", *, is_far: bool) -> "Access":
    """Return who is let in: by DASHBOARD_TOKEN where it is set, else by a token of this run alone."""
    from hftcl.config import read_secret
    from hftcl.dashboard.gate import Access

    token = read_secret(_TOKEN, settings, os.environ)
    if token is None and "NOTIFY_SOCKET" in os.environ:
        raise ConfigError(
            "A service has no terminal to print its address on, and a token does not belong in the journal. Set "
            f"{_TOKEN} in {settings.paths.env_file}: `openssl rand -hex 24` makes one."
        )
    try:
        return Access.create(token, any_address=is_far)
    except ValueError as error:
        raise ConfigError(f"{_TOKEN} can be guessed: {error}. `openssl rand -hex 24` makes one.") from error


def _tell_address(place: "socket.socket", listen: str, access: "Access", *, as_json: bool) -> None:
    """Print where the page is, with the token where it is of this run alone: one that is kept is a secret."""
    from hftcl.dashboard.server import AddressReport
    from hftcl.views import show

    port = place.getsockname()[1]
    from socket import gethostname

    host = {"0.0.0.0": gethostname(), "::": gethostname()}.get(listen, listen)  # noqa: S104 - compared
    base = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
    url = f"{base}?token={'...' if access.is_kept else access.token}"
    report = AddressReport(url=url, address=listen, port=port, pid=os.getpid())
    show(report, _write_address, as_json)
    sys.stdout.flush()
    if access.any_address:
        tell(
            f"hftcl: listens on {listen}: other machines can ask for the page, and what it answers is not "
            "encrypted. Safer: leave --listen out, and `ssh -L` (docs/dashboard.md)."
        )


def _write_address(report: "AddressReport") -> None:
    """Write it as it is: a terminal's table or line end in it would break what a person copies."""
    sys.stdout.write(f"{report.url}\n")
