"""Faults in the answers of synchronous calls, and a server that has room for so many calls at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field
from starlette.responses import Response

from batchkit.emulator.contract.replies import ApiError, CutReply, html_reply, is_refusal
from batchkit.emulator.faults.base import ON, Call, Fraction, HttpFault
from batchkit.emulator.faults.calls import flex_is_full

if TYPE_CHECKING:
    from collections.abc import Callable

_ON_SYNCHRONOUS = ("synchronous",)
_JSON = "application/json"
_STRANGE: dict[str, Callable[[], Response]] = {
    "text": lambda: Response("upstream connect error or disconnect/reset before headers", media_type="text/plain"),
    "html": lambda: html_reply(200, "OK"),
    "empty": lambda: Response(b"", media_type=_JSON),
    "null": lambda: Response(b"null", media_type=_JSON),
    "list": lambda: Response(b"[]", media_type=_JSON),
    "object": lambda: Response(b'{"object":"chat.completion"}', media_type=_JSON),
    "not-utf8": lambda: Response(b'{"choices":[{"message":{"content":"\xff\xfe"}}]}', media_type=_JSON),
}


class CutReplies(HttpFault):
    """Requests are executed, but their answers lose their end: the connection breaks, or the shorter length is stated."""

    name: ClassVar[str] = "cut-replies"
    on: tuple[str, ...] = Field(default=_ON_SYNCHRONOUS, description=ON)
    keep: Fraction = Field(default=0.5, description="the share of the bytes that arrives")
    how: Literal["content-length", "clean"] = Field(
        default="content-length",
        description="the connection closes before the stated length, or the shorter length is stated (broken JSON)",
    )

    def alter(self, call: Call, response: Response) -> Response:  # noqa: ARG002 - the hook's signature
        """Shorten the answer."""
        if is_refusal(response):
            return response
        kept = bytes(response.body)[: int(len(response.body) * self.keep)]
        if self.how == "clean":
            return Response(kept, response.status_code, media_type=response.headers.get("content-type"))
        return CutReply(response, kept)


class StrangeReplies(HttpFault):
    """Requests are executed, but their answers are status 200 with something else than the expected JSON."""

    name: ClassVar[str] = "strange-replies"
    on: tuple[str, ...] = Field(default=_ON_SYNCHRONOUS, description=ON)
    how: Literal["text", "html", "empty", "null", "list", "object", "not-utf8"] = Field(
        default="text", description="what comes instead"
    )

    def alter(self, call: Call, response: Response) -> Response:  # noqa: ARG002 - the hook's signature
        """Replace the answer."""
        return response if is_refusal(response) else _STRANGE[self.how]()


class RedirectCalls(HttpFault):
    """Calls are redirected, and nothing is done."""

    name: ClassVar[str] = "redirect-calls"
    on: tuple[str, ...] = Field(default=_ON_SYNCHRONOUS, description=ON)
    status: Literal[301, 302, 303, 307, 308] = Field(default=307, description="the HTTP status")
    to: str = Field(default="http://127.0.0.1:9/elsewhere", description="the location header")

    def refuse(self, call: Call) -> Response | None:  # noqa: ARG002 - the hook's signature
        """Redirect."""
        return Response(b"", self.status, headers={"location": self.to})


class LimitedCapacity(HttpFault):
    """The server works on a number of calls at once; those above it wait, slow all down, or are refused.

    The calls of all operations that the fault names share the room. Its greatest rate is at_once / seconds.
    """

    name: ClassVar[str] = "limited-capacity"
    on: tuple[str, ...] = Field(default=_ON_SYNCHRONOUS, description=ON)
    at_once: int = Field(default=8, ge=1, description="the number of calls that it works on at once")
    seconds: float = Field(default=0.05, ge=0, description="real seconds of work on a call")
    above: Literal["queue", "slow", "refuse"] = Field(
        default="queue",
        description="calls above it wait in a queue, take longer the more there are, or are refused with status",
    )
    status: Literal[429, 498, 500, 503] = Field(default=503, description="the status of a refusal")
    changes: tuple[tuple[float, float], ...] = Field(
        default=(),
        description="pairs of provider seconds since the scenario was set and a factor for at_once from then on, by time",
    )

    def slots(self, elapsed: float) -> int:
        """Return the number of calls that are worked on at once, this many provider seconds after the scenario was set."""
        factor = next((factor for since, factor in reversed(self.changes) if since <= elapsed), 1.0)
        return max(1, round(self.at_once * factor))

    def refusal(self) -> ApiError:
        """Return the refusal of a call for which there is no room."""
        if self.status == 429:  # noqa: PLR2004 - an HTTP status
            message = "Too many requests are in flight. Please try again later."
            return ApiError(429, message, kind="requests", code="rate_limit_exceeded")
        if self.status == 498:  # noqa: PLR2004 - an HTTP status
            return flex_is_full()
        if self.status == 500:  # noqa: PLR2004 - an HTTP status
            return ApiError(500, "Internal Server Error", kind="internal_server_error")
        return ApiError(503, "Service Unavailable: over capacity", kind="internal_server_error")
