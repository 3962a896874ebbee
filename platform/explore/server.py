"""The server behind the page: JSON from the checkpoints, on this machine alone unless asked otherwise.

What is typed is data: nothing of it becomes a path or markup. A request has to name this server as its host, so that a
page elsewhere cannot read from here under a name of its own (DNS rebinding), and its body is bounded while it is read.
"""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import Response, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ladder.models.errors import InputError
from ladder.platform.explore import views
from ladder.platform.explore.page import FOLDER, POLICY, SCRIPTS, saved_page
from ladder.platform.explore.shelf import Shelf
from ladder.platform.explore.views import Question

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
MOST_BODY = 200_000
"""Bytes of a request: a text of the most characters, with room for JSON's escapes."""
FILES = {"/": "page.html", "/page.css": "page.css"} | {f"/{name}": name for name in SCRIPTS}
TYPES = {"html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
VIEWS: dict[str, Callable[[Shelf, Question], Any]] = {
    "next": views.answer_next,
    "endings": views.answer_endings,
    "surprise": views.answer_surprise,
    "attention": views.answer_attention,
    "lens": views.answer_lens,
}


def make_app(shelf: Shelf, state: dict[str, Any], hosts: tuple[str, ...] = LOOPBACK) -> ASGIApp:
    """The application; `hosts` are the names by which a browser may call it, none meaning any."""
    app = FastAPI(title="ladder explore", docs_url=None, redoc_url=None, openapi_url=None)
    for path, name in FILES.items():
        app.get(path)(_make_sender(name))

    @app.get("/api/state")
    async def tell() -> Response:
        return _json(state)

    @app.post("/api/ladder")
    async def ladder(request: Request) -> Response:
        question = await _question(request)
        return StreamingResponse(_lines(shelf, question), media_type="application/x-ndjson")

    @app.post("/api/save/{view}")
    async def save(view: str, request: Request) -> Response:
        question = await _question(request)
        answers = await run_in_threadpool(views.answer_all, shelf, question)
        headers = {"Content-Disposition": 'attachment; filename="explore.html"'}
        return Response(saved_page(state, question, answers, view), media_type=TYPES["html"], headers=headers)

    @app.post("/api/{view}")
    async def answer(view: str, request: Request) -> Response:
        if view not in VIEWS:
            raise InputError(f"no view {view!r}; there are ladder, {', '.join(VIEWS)}")
        question = await _question(request)
        return _json(await run_in_threadpool(VIEWS[view], shelf, question))

    @app.exception_handler(InputError)
    async def refuse(_: Request, error: InputError) -> Response:
        return _json({"problem": str(error)}, status=422)

    return _Guard(app, hosts)


def open_socket(host: str, port: int) -> socket.socket:
    """A socket that listens; InputError where the port is taken or the address is not of this machine."""
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen()  # a browser may come before the server is up: it waits
    except (OSError, OverflowError) as error:
        listening.close()
        raise InputError(f"port {port} of {host} cannot be used: {error}. Name another with --port.") from error
    return listening


def serve(shelf: Shelf, state: dict[str, Any], listening: socket.socket, host: str) -> None:
    """Answer until Ctrl-C; the checkpoints that fit are opened meanwhile."""
    hosts = LOOPBACK if host in LOOPBACK else () if host in ("0.0.0.0", "::") else (host, *LOOPBACK)
    config = uvicorn.Config(make_app(shelf, state, hosts), log_level="warning", lifespan="off", access_log=False)
    threading.Thread(target=shelf.fill, name="opening checkpoints", daemon=True).start()
    uvicorn.Server(config).run(sockets=[listening])


class _Guard:
    """Refuses requests of strangers, and sends the headers that keep a page to itself."""

    def __init__(self, app: ASGIApp, hosts: tuple[str, ...]) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        problem = self._stranger(Headers(scope=scope))
        app = self.app if problem is None else _json({"problem": problem}, status=403)
        await app(scope, receive, send_guarded)

    def _stranger(self, headers: Headers) -> str | None:
        """Why a request is refused: its host is not ours, or another site's page sent it."""
        host = headers.get("host", "")
        if self.hosts and host.rpartition(":")[0] not in self.hosts and host not in self.hosts:
            return f"this server is not called {host[:100]!r}; open it by the address that `ladder explore` printed"
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            return f"a page of {origin[:100]!r} asked, and only this server's own may"
        return None


def _make_sender(name: str) -> Callable[[], Any]:
    """A handler that sends a file of the page, read anew so that a change shows at a reload."""

    async def send() -> Response:
        return Response((FOLDER / name).read_bytes(), media_type=TYPES[name.rpartition(".")[2]])

    return send


def _lines(shelf: Shelf, question: Question) -> Iterator[str]:
    """The rows of the ladder, one JSON line each; a browser that turns away ends it before the next checkpoint."""
    try:
        for row in views.answer_ladder(shelf, question):
            yield json.dumps(row) + "\n"
    except InputError as error:
        yield json.dumps({"problem": str(error)}) + "\n"


async def _question(request: Request) -> Question:
    """The question in a request; InputError where there is none."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BODY:
            raise InputError(f"the request has more than {MOST_BODY:,} bytes; wanted a shorter text")
    try:
        given = json.loads(body)
        given["candidates"] = tuple(given.get("candidates", ()))
        return Question(**given)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"the request is no question of this page: {str(error)[:200]}") from error


def _json(value: Any, *, status: int = 200) -> Response:
    """A response in ASCII, which carries bytes that are no UTF-8 as escapes."""
    return Response(json.dumps(value), status, media_type="application/json")
