"""The server of the page: its addresses, the events that say that something changed, and its end.

Starlette and uvicorn, of the extra `hftcl[dashboard]`: https://www.starlette.io/, https://www.uvicorn.org/settings/
"""

import asyncio
import contextlib
import json
import signal
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import unquote

import uvicorn
from markupsafe import Markup
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from hftcl.archive.records import parse_model_id
from hftcl.dashboard import pages, subjects
from hftcl.dashboard.contents import Content
from hftcl.dashboard.gate import Access, Gate
from hftcl.dashboard.parts import DashboardInputs
from hftcl.dashboard.reader import PartFault, Reader
from hftcl.errors import UsageError
from hftcl.formats import format_clock_to_second

_FIRST_S: Final = 20.0  # for the first reading of a damaged disk; an idle one takes a tenth of a second
_SIGN_S: Final = 5.0  # between two signs of life; the page waits for four
_PACE_S: Final = 1.0  # between two events: what changed in between is one change
_MOST_EVENTS: Final = 64  # open connections of that kind: a browser needs one for all its tabs
_END_S: Final = 1  # for answers that are under way when it ends
_OPEN_AT_MOST: Final = 256  # connections: a page is for a few people


class Site:
    """What is served: pages from what the reader has, and the events."""

    def __init__(self, inputs: DashboardInputs, clock: Callable[[], datetime]) -> None:
        self._settings = inputs.settings
        self._loop = asyncio.get_running_loop()
        self._drawn: dict[str, tuple[int, Markup]] = {}
        self._listeners: set[asyncio.Event] = set()
        self.reader = Reader(inputs, clock, self._tell_change)
        self.stopping = asyncio.Event()
        self.app = Starlette(
            routes=[
                Route("/", self._show_overview),
                Route("/models", self._show_models),
                Route("/model/{model_id}", self._show_model),
                Route("/ticker/{ticker:path}", self._show_ticker),
                Route("/events", self._stream_events),
                Route("/static/{name}", self._send_static),
            ],
            exception_handlers={HTTPException: _explain},
        )

    def end(self) -> None:
        """Let everything that is open end."""
        self.reader.stop()
        self.stopping.set()
        self._wake()

    def _wake(self) -> None:
        for listener in self._listeners:
            listener.set()

    def _tell_change(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile: there is no page to tell
            self._loop.call_soon_threadsafe(self._wake)

    async def _build_frame(self) -> pages.Frame:
        await run_in_threadpool(self.reader.wait_first, _FIRST_S)
        return pages.Frame(
            settings=self._settings,
            readings=self.reader.list_readings(),
            looked_at=self.reader.looked_at,
            version=self.reader.version,
            drawn=self._drawn,
        )

    async def _ask(self, key: object, read: Callable[[DashboardInputs], Content]) -> Content | PartFault:
        return await asyncio.wrap_future(self.reader.ask(key, read))

    async def _show_overview(self, _: Request) -> Response:
        return HTMLResponse(pages.draw_overview(await self._build_frame()))

    async def _show_models(self, _: Request) -> Response:
        frame = await self._build_frame()
        content = await self._ask("models", subjects.read_all_models)
        return HTMLResponse(pages.draw_subject(frame, "models.html", "Models", content))

    async def _show_model(self, request: Request) -> Response:
        try:
            model_id = parse_model_id(request.path_params["model_id"])
        except UsageError as error:
            raise HTTPException(404, str(error)) from error
        frame = await self._build_frame()
        content = await self._ask(("model", model_id), lambda inputs: subjects.read_model(inputs, model_id))
        return HTMLResponse(pages.draw_model(frame, model_id, content))

    async def _show_ticker(self, request: Request) -> Response:
        frame = await self._build_frame()
        ticker = unquote(request.path_params["ticker"])
        if ticker not in pages.list_tickers(self._settings, frame.readings):
            raise HTTPException(404, "The watchlist has no such ticker, and the bot has traded none.")
        session = request.query_params.get("session")
        key = ("ticker", ticker, session)
        content = await self._ask(key, lambda inputs: subjects.read_ticker(inputs, ticker, session))
        return HTMLResponse(pages.draw_ticker(frame, ticker, content))

    async def _send_static(self, request: Request) -> Response:
        found = pages.read_static(request.path_params["name"])
        if found is None:
            raise HTTPException(404, "There is no such file.")
        data, kind = found
        return Response(data, media_type=kind, headers={"cache-control": "no-cache"})

    async def _stream_events(self, _: Request) -> Response:
        if len(self._listeners) >= _MOST_EVENTS:
            raise HTTPException(503, "Too many pages are open.")
        return StreamingResponse(self._list_events(), media_type="text/event-stream")

    async def _list_events(self) -> AsyncIterator[str]:
        """Yield what a page needs to know, at each change and every few seconds, until this ends."""
        changed = asyncio.Event()
        self._listeners.add(changed)
        try:
            while not self.stopping.is_set():
                changed.clear()
                self.reader.watch()
                said = {"version": str(self.reader.version), "at": format_clock_to_second(self.reader.looked_at)}
                if self.reader.is_alive:  # else a page hears nothing, and says so
                    yield f"data: {json.dumps(said)}\n\n"
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.stopping.wait(), _PACE_S)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), _SIGN_S - _PACE_S)
        finally:
            self._listeners.discard(changed)


async def _explain(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    detail = error.detail if isinstance(error, HTTPException) else ""
    return PlainTextResponse(f"{detail}\n", status_code=status)


class _Server(uvicorn.Server):
    """uvicorn's, whose signals are heard by us: it would raise them again at its end, as if they had been failures."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressReport:
    """Where the page is: url with the token where it is of this run alone, address and port."""

    url: str
    address: str
    port: int
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerPresent:
    """What the server needs of the present. on_ready: once it answers; on_alive: every few seconds while it does."""

    clock: Callable[[], datetime]
    on_ready: Callable[[], None]
    on_alive: Callable[[], None]


def serve(inputs: DashboardInputs, access: Access, place: socket.socket, present: ServerPresent) -> int:
    """Serve the page on `place`, which listens already, until SIGTERM or Ctrl-C; return which of them it was."""
    return asyncio.run(_serve(inputs, access, place, present))


async def _serve(inputs: DashboardInputs, access: Access, place: socket.socket, present: ServerPresent) -> int:
    site = Site(inputs, present.clock)
    config = uvicorn.Config(
        Gate(site.app, access),
        log_config=None,
        access_log=False,  # it would write the token
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        http="h11",
        loop="asyncio",
        limit_concurrency=_OPEN_AT_MOST,
        timeout_graceful_shutdown=_END_S,
    )
    server, heard = _Server(config), []

    def end(number: int) -> None:
        heard.append(number)
        site.end()
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, number)
    site.reader.start()
    tending = asyncio.ensure_future(_tend(server, site, present))
    try:
        await server.serve(sockets=[place])
    finally:
        site.end()
        tending.cancel()
    return heard[0] if heard else signal.SIGTERM


async def _tend(server: uvicorn.Server, site: Site, present: ServerPresent) -> None:
    """Say when it is ready, and then, as long as its reader gets on, that it lives."""
    while not server.started:
        await asyncio.sleep(0.01)  # uvicorn tells when by nothing else
    present.on_ready()
    while True:
        if site.reader.is_alive:
            present.on_alive()
        await asyncio.sleep(_SIGN_S)
