"""The command `trade`: the edge of the bot, where clock, signals and systemd are."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Annotated, TextIO, cast

import typer

from hftcl.cli.app import AsJson, app, confirm, format_example, remember, tell
from hftcl.cli.invocation import now
from hftcl.cli.looks import show_status
from hftcl.cli.telling import tell_failures
from hftcl.errors import HftclError, UsageError

if TYPE_CHECKING:
    from hftcl.alerts import Alert
    from hftcl.config import Configuration
    from hftcl.settings import Settings
    from hftcl.trading.run.clock import SystemClock
    from hftcl.trading.run.controls import Controls
    from hftcl.trading.run.present import Service


@app.command(epilog=format_example("trade --replay 2026-01-05..2026-01-09"))
def trade(
    ctx: typer.Context,
    replay: Annotated[
        str | None,
        typer.Option("--replay", metavar="FROM..TO", help="The very bot over stored bars, as fast as it can."),
    ] = None,
    rehearse: Annotated[
        str | None,
        typer.Option(
            "--rehearse",
            metavar="FROM..TO",
            help="The same against strict-paper, which refuses, delays and falls silent as a real broker does.",
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Decide on the minute that has just ended, and exit.")] = False,
    status: Annotated[bool, typer.Option("--status", help="What the bot is doing; disturbs nothing.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="With --status: again whenever it changes.")] = False,
    flatten: Annotated[
        bool, typer.Option("--flatten", help="Kill switch: close every position, and trade no more until --clear.")
    ] = False,
    clear: Annotated[bool, typer.Option("--clear", help="Let it trade again after a halt; asks first.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    live: Annotated[bool, typer.Option("--live", help="Real money; takes [trade] live and MAY TRADE too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run the bot: decide once a minute, and trade.

    The production model decides. It is paper money unless --live is given.
    """
    chosen = [name for name, given in _read_modes(replay, rehearse, once, status, flatten, clear).items() if given]
    if len(chosen) > 1:
        raise UsageError(f"Give one of {' and '.join(chosen)}, not both.")
    if live and chosen not in ([], ["--once"]):
        why = "needs no --live: it closes what is held, also with real money" if flatten else "moves no real money"
        raise UsageError(f"--live is for trading; {chosen[0]} {why}.")
    if as_json and not chosen:
        raise UsageError("--json goes with --replay, --rehearse, --once, --status, --flatten, --clear: a bot runs on.")
    _require_watchable(status=status, watch=watch, as_json=as_json)
    if watch:
        _watch(ctx.obj.read_configuration_without_plugins())
        return
    if status:
        show_status(ctx.obj, as_json=as_json)
        return
    configuration = ctx.obj.read_configuration()
    settings = configuration.settings
    if flatten:
        _flatten(settings, ctx.obj.verbosity, as_json)
    elif clear:
        _clear(settings, yes, as_json)
    elif replay is not None or rehearse is not None:
        _replay(settings, replay or rehearse or "", ctx.obj.verbosity, as_json, rehearse=rehearse is not None)
    else:
        remember(configuration)
        tell_failures(settings)
        _trade(settings, ctx.obj.verbosity, once=once, live=live, as_json=as_json)


def _read_modes(
    replay: str | None, rehearse: str | None, once: bool, status: bool, flatten: bool, clear: bool
) -> dict[str, bool]:
    named = {"--replay": replay is not None, "--rehearse": rehearse is not None, "--once": once, "--status": status}
    return {**named, "--flatten": flatten, "--clear": clear}


def _require_watchable(*, status: bool, watch: bool, as_json: bool) -> None:
    if watch and not status:
        raise UsageError("--watch goes with --status.")
    if watch and as_json:
        raise UsageError("--watch has no end, and --json is one document. Ask --status --json again and again.")


_LOOK_S = 1.0  # between two looks at the files: the bot writes once a minute, and a look costs no read


def _watch(configuration: "Configuration") -> None:
    """Show the status, and what the schedule shows of the rest, again whenever one changes, until Ctrl-C."""
    from hftcl.dashboard.parts import DashboardInputs
    from hftcl.dashboard.summary import Summary
    from hftcl.trading.run.status import read_stamps, read_status
    from hftcl.views import trading
    from hftcl.views.blocks import Block, collect_blocks, take_lines
    from hftcl.views.watch import open_screen

    settings, seen, bot = configuration.settings, cast("object", None), cast("tuple[Block, ...]", ())
    inputs = DashboardInputs(configuration=configuration, environ=os.environ, now=now())
    try:
        with open_screen() as screen:
            summary = Summary(inputs, with_bot=False, in_lines=screen.in_lines)
            while True:
                stamps = read_stamps(settings)
                if stamps != seen:
                    seen, bot = stamps, collect_blocks(trading.draw_status, read_status(settings))
                first = take_lines(bot)  # its tables last: they alone would fill a small terminal
                screen.draw((*first, *summary.read(now()), *bot[len(first) :]), now())
                time.sleep(_LOOK_S)
    except KeyboardInterrupt:
        tell("")
        raise SystemExit(128 + signal.SIGINT) from None  # nothing was begun, so there is nothing to tell of it


def _find_person() -> str:
    import getpass  # here: `--status` need not wait for it

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in containers: the kill switch works all the same
        return f"user {os.getuid()}"


def _flatten(settings: "Settings", verbosity: int, as_json: bool) -> None:
    from hftcl.trading.run.clock import SystemClock
    from hftcl.trading.run.kill_switch import flatten
    from hftcl.views import show, trading
    from hftcl.views.progress import build_listener

    listener = build_listener(verbosity if verbosity < 0 else 1)
    reason = f"{_find_person()} asked for it (--flatten)"
    report = flatten(settings, clock=SystemClock(), reason=reason, on_event=listener)
    if as_json or report.halted or report.by_bot:
        show(report, trading.draw_halt, as_json)
    if shortfall := report.shortfall or ("" if report.halted else report.note):
        raise HftclError(shortfall)


def _clear(settings: "Settings", yes: bool, as_json: bool) -> None:
    from hftcl.trading.run.kill_switch import clear
    from hftcl.views import show, trading

    if not yes:
        confirm("Let the bot trade again?")
    show(clear(settings, by=_find_person(), now=now()), trading.draw_clear, as_json)


def _replay(settings: "Settings", span: str, verbosity: int, as_json: bool, *, rehearse: bool) -> None:
    from hftcl import logs
    from hftcl.trading.run.controls import Controls
    from hftcl.trading.run.replay import replay
    from hftcl.views import show, trading
    from hftcl.views.bot_events import Listening
    from hftcl.views.progress import build_listener

    logs.configure(settings.log, verbosity)
    controls = Controls()
    with _signals(controls, stops=False):
        report = replay(
            settings,
            span,
            now=now(),
            stopwatch=time.perf_counter,
            controls=controls,
            on_event=Listening(build_listener(verbosity)),
            on_alert=lambda _: None,
            rehearse=rehearse,
        )
    show(report, trading.draw_replay, as_json)
    if report.shortfall:
        raise HftclError(report.shortfall)


def _trade(settings: "Settings", verbosity: int, *, once: bool, live: bool, as_json: bool) -> None:
    from hftcl import logs
    from hftcl.alerts import Alerts
    from hftcl.cli.service import watch_code
    from hftcl.home import Home
    from hftcl.systemd import Notifier
    from hftcl.trading.feeds import open_feed
    from hftcl.trading.feeds.context import widen
    from hftcl.trading.run.clock import SystemClock
    from hftcl.trading.run.controls import Controls
    from hftcl.trading.run.guards import require_present
    from hftcl.trading.run.live import trade
    from hftcl.trading.run.present import Present
    from hftcl.views import show, trading
    from hftcl.views.bot_events import Logging, StatusLine

    require_present(settings)
    service: Service = Notifier.from_environment(os.environ, pid=os.getpid())
    line = None
    if not once and sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and verbosity >= 0:
        service = line = StatusLine(sys.stderr, service, now)
    stream = cast("TextIO | None", line)
    logs.configure(settings.log, verbosity, service=not once, stream=stream)
    clock = SystemClock()
    controls = Controls(halt_file=Home.of(settings).halt_file)
    listener, alerts = (
        Logging(as_text=settings.log.format == "text", stream=stream),
        Alerts.from_settings(settings, os.environ),
    )

    def tell(alert: "Alert") -> None:
        alerts.tell(alert)
        alerts.deliver_in_background(now)

    present = Present(
        clock=clock,
        feed=lambda calendar, extended, hears: open_feed(widen(settings), calendar, extended, hears),
        service=service,
        controls=controls,
        on_event=listener,
        on_alert=tell,
        is_replaced=watch_code(os.environ),
    )
    with _signals(controls, stops=True, clock=clock):
        report = trade(settings, present, real_money=live, once=once)
    show(report, trading.draw_trade, as_json)
    raise typer.Exit(0)


@contextlib.contextmanager
def _signals(controls: "Controls", *, stops: bool, clock: "SystemClock | None" = None) -> Iterator[None]:
    """While the bot works: SIGHUP looks for a new model, SIGUSR1 halts; with `stops`, SIGTERM and Ctrl-C end it."""

    def hear(number: int, _: FrameType | None) -> None:
        if number == signal.SIGHUP:
            controls.look = True
        elif number == signal.SIGUSR1:
            controls.halt = True
        else:
            controls.stop = True
        if clock is not None:
            clock.wake()

    numbers = [signal.SIGHUP, signal.SIGUSR1, *([signal.SIGTERM, signal.SIGINT] if stops else [])]
    before = {number: signal.signal(number, hear) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
