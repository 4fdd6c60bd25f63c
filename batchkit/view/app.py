"""The addresses of the pages, and what becomes of their errors."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from batchkit.errors import BatchkitError, StoreError, UnknownWorkload, UsageError
from batchkit.store import evaluations
from batchkit.view.changes import Changes
from batchkit.view.reader import NothingYet, Reader
from batchkit.view.rendering import respond

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from starlette.requests import Request

    from batchkit.settings import Settings
    from batchkit.view.reviewing import Reviewing

    Handler = Callable[["View", Request], Response]

_KEPT: Final = 512
_LARGE_KEPT: Final = 16


class Kept:
    """Values that are dear to read and do not change while their key stays the same: the last ``most`` of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._values: OrderedDict[Hashable, Any] = OrderedDict()

    def get(self, key: Hashable, read: Callable[[], Any]) -> Any:
        """Return the value of a key; ``read`` is called if it is not kept."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = read()
        with self._lock:
            self._values[key] = value
            while len(self._values) > self._most:
                self._values.popitem(last=False)
        return value


class View:
    """What all pages share. ``change_token`` is the token that a change must bring."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.reader = Reader(settings)
        self.changes = Changes(self.reader)
        self.change_token = ""
        self.kept = Kept(_KEPT)
        #: Whole pages and lists of rows.
        self.large = Kept(_LARGE_KEPT)
        self._lock = threading.Lock()
        self._reviewing: Reviewing | None = None

    @property
    def reviewing(self) -> Reviewing:
        """Return what reviews are stored with: the only connections that can write, opened by the first reviewer."""
        from batchkit.view.reviewing import Reviewing  # noqa: PLC0415 - needs the extra for tables

        with self._lock:
            if self._reviewing is None:
                self._reviewing = Reviewing(self.settings, self.reader)
            return self._reviewing

    def is_run(self, name: str) -> bool:
        """Return whether a name is that of an evaluation run. Raises ``UnknownWorkload`` if it is no workload's either."""

        def read() -> bool:
            with self.reader.store.read() as connection:
                return evaluations.find(connection, name) is not None

        is_run = self.reader.checked(read)
        if not is_run:
            self.reader.checked(lambda: self.reader.find(name))
        return is_run

    def close(self) -> None:
        """Close all connections."""
        if self._reviewing is not None:
            self._reviewing.close()
        self.reader.close()


def make_app(view: View) -> Starlette:
    """Return the application. Handlers run in threads; what they share is ``view``."""
    from batchkit.view import downloads, home, requests, review_calls, suites, workload  # noqa: PLC0415 - they need ``View``

    pages: dict[str, Handler] = {
        "/": home.home,
        "/workload": workload.workload,
        "/annotation": workload.annotation,
        "/requests": requests.table,
        "/request": requests.one,
        "/suite": suites.suite,
        "/run": suites.run,
        "/compare": suites.compare,
        "/review": review_calls.page,
        "/download": downloads.download,
        "/answer": downloads.answer,
        "/report": downloads.report,
    }
    changes: dict[str, Handler] = {
        "/review/next": review_calls.take,
        "/review/hold": review_calls.hold,
        "/review/decide": review_calls.decide,
        "/review/undo": review_calls.undo,
        "/review/skip": review_calls.skip,
    }

    async def events(_request: Request) -> Response:
        return StreamingResponse(view.changes.listen(), media_type="text/event-stream")

    async def not_found(request: Request, _error: Exception) -> Response:
        return respond(
            "error.html", token=view.change_token, status=404, title="No such page", why=request.url.path[:200], hint=""
        )

    return Starlette(
        routes=[
            Route("/events", events),
            Route("/favicon.ico", lambda _request: Response(status_code=204)),
            *(Route(path, _answering(view, handler)) for path, handler in pages.items()),
            *(Route(path, _answering(view, handler), methods=["POST"]) for path, handler in changes.items()),
        ],
        exception_handlers={404: not_found},
    )


def _answering(view: View, handler: Handler) -> Callable[[Request], Any]:
    from starlette.concurrency import run_in_threadpool  # noqa: PLC0415 - beside its one use

    def answer(request: Request) -> Response:
        try:
            return view.reader.checked(lambda: handler(view, request))
        except BatchkitError as error:
            return _explained(view, request, error)

    async def endpoint(request: Request) -> Response:
        if request.method == "POST":
            request.state.given = await _form(request)
        return await run_in_threadpool(answer, request)

    return endpoint


async def _form(request: Request) -> dict[str, str]:
    """Read the few short fields of a change."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_FORM_BYTES:
            return {}
    from urllib.parse import parse_qsl  # noqa: PLC0415 - beside its one use

    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))


_MOST_FORM_BYTES: Final = 1_000_000


def _explained(view: View, request: Request, error: BatchkitError) -> Response:
    status = 404 if isinstance(error, UnknownWorkload) else 400 if isinstance(error, UsageError) else 503
    if request.method == "POST":
        return PlainTextResponse(error.message, status_code=status)
    if isinstance(error, NothingYet):
        return respond(
            "error.html", token=view.change_token, title="Nothing yet", why=error.message, hint=error.hint or ""
        )
    title = {404: "Not found", 400: "Not possible"}.get(status, "Not available now")
    if isinstance(error, StoreError):
        title = "The database cannot be read now"
    return respond(
        "error.html", token=view.change_token, status=status, title=title, why=error.message, hint=error.hint or ""
    )
