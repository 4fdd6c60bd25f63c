"""Faults in HTTP calls: refusals, lost replies, slow replies, and incomplete downloads."""

from __future__ import annotations

from email.utils import formatdate
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import orjson
from pydantic import Field

from batchkit.emulator.contract.ids import fraction_of
from batchkit.emulator.contract.replies import ApiError, CutMode, Download, HangUp, html_reply, is_refusal, json_reply
from batchkit.emulator.faults.base import ON, Call, Fraction, HttpFault

if TYPE_CHECKING:
    from starlette.responses import Response


class RefuseCalls(HttpFault):
    """Calls are refused with a status and an error body of your choice, and nothing is done."""

    name: ClassVar[str] = "refuse-calls"
    status: int = Field(default=500, ge=400, le=599, description="the HTTP status")
    message: str = Field(default="Internal Server Error", description="the error's message")
    type: str = Field(default="internal_server_error", description="the error's type")
    code: str | None = Field(default=None, description="the error's code")
    headers: dict[str, str] = Field(default={}, description="further response headers")

    def refuse(self, call: Call) -> Response | None:  # noqa: ARG002 - the hook's signature
        """Refuse."""
        return ApiError(self.status, self.message, kind=self.type, code=self.code, headers=self.headers).reply()


class BadKey(HttpFault):
    """The API key is refused with 401 invalid_api_key, as after it was revoked."""

    name: ClassVar[str] = "bad-key"
    on: tuple[str, ...] = Field(default=("*",), description=ON)

    def refuse(self, call: Call) -> Response | None:  # noqa: ARG002 - the hook's signature
        """Refuse."""
        return ApiError(401, "Invalid API Key", code="invalid_api_key").reply()


class PlanGate(HttpFault):
    """Files and batches are refused with 403 not_available_for_plan, as on the free plan, while models still work."""

    name: ClassVar[str] = "plan-gate"
    on: tuple[str, ...] = Field(default=("files", "batches"), description=ON)

    def refuse(self, call: Call) -> Response | None:
        """Refuse."""
        what = call.operation.partition(".")[0]
        message = f"The {what} API is not available for your plan. Please upgrade at https://console.groq.com/settings/billing"
        return ApiError(403, message, kind="permissions_error", code="not_available_for_plan").reply()


class RateLimit(HttpFault):
    """Calls are refused with 429; the wait is in a header, in another one, in the message only, or nowhere."""

    name: ClassVar[str] = "rate-limit"
    on: tuple[str, ...] = Field(default=("files.create",), description=ON)
    times: int | None = Field(default=1, ge=1, description="only this many calls of each operation")
    retry_after: float | None = Field(default=1.0, ge=0, description="seconds in retry-after; none leaves it out")
    form: Literal["seconds", "duration", "date"] = Field(
        default="seconds", description="retry-after as a number, in Go's spelling (1.5s), or as an HTTP date"
    )
    reset: str = Field(default="", description="a duration in x-ratelimit-reset-tokens, in Go's spelling")
    wait: str = Field(default="1s", description="the duration in the message, in Go's spelling such as 9m38.016s")

    def refuse(self, call: Call) -> Response | None:
        """Refuse."""
        message = "Rate limit reached for organization on tokens per minute."
        if self.wait:
            message += f" Please try again in {self.wait}."
        # The date from which the wait counts: at a high speed, minutes pass before the reply gets its own date.
        headers = {"date": formatdate(call.at, usegmt=True)}
        if self.retry_after is not None:
            headers["retry-after"] = self._written(self.retry_after, call.at)
        if self.reset:
            headers |= {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": self.reset}
        return ApiError(429, message, kind="tokens", code="rate_limit_exceeded", headers=headers).reply()

    def _written(self, seconds: float, now: float) -> str:
        if self.form == "date":
            return formatdate(now + seconds, usegmt=True)
        return f"{seconds:g}" + ("s" if self.form == "duration" else "")


class GatewayErrors(HttpFault):
    """Calls are answered by an HTML page of the CDN, and nothing is done."""

    name: ClassVar[str] = "gateway-errors"
    on: tuple[str, ...] = Field(default=("*",), description=ON)
    status: Literal[502, 503, 504] = Field(default=502, description="the HTTP status")

    def refuse(self, call: Call) -> Response | None:  # noqa: ARG002 - the hook's signature
        """Refuse."""
        return _gateway_page(self.status)


class UploadTooLarge(HttpFault):
    """Uploads are refused as too large, whatever their size or only above a size."""

    name: ClassVar[str] = "upload-too-large"
    on: tuple[str, ...] = Field(default=("files.create",), description=ON)
    above_bytes: int = Field(default=0, ge=0, description="only when the call's body is larger than this")
    status: Literal[400, 413] = Field(default=413, description="the HTTP status: 413, or 400 as by OpenAI")

    def refuse(self, call: Call) -> Response | None:
        """Refuse bodies above the size."""
        if int(call.body.get("content_length", 0)) <= self.above_bytes:
            return None
        if self.status == 413:  # noqa: PLR2004 - an HTTP status
            return ApiError(413, "Request Entity Too Large", code="request_too_large").reply()
        return ApiError(400, "File is too large.", param="file").reply()


class RequestTooLarge(HttpFault):
    """Calls alone exceed the tokens per minute and are refused with 413 rate_limit_exceeded."""

    name: ClassVar[str] = "request-too-large"
    on: tuple[str, ...] = Field(default=("chat.completions",), description=ON)

    def refuse(self, call: Call) -> Response | None:
        """Refuse."""
        model = call.body.get("model")
        message = (
            f"Request too large for {f'model `{model}`' if model else 'organization'} on tokens per minute (TPM): "
            "Limit 6000, Requested 12328, please reduce your message size and try again."
        )
        return ApiError(413, message, kind="tokens", code="rate_limit_exceeded").reply()


class FlexFull(HttpFault):
    """Synchronous requests of the flex tier are refused with 498 capacity_exceeded; other tiers are not."""

    name: ClassVar[str] = "flex-full"
    on: tuple[str, ...] = Field(default=("synchronous",), description=ON)

    def refuse(self, call: Call) -> Response | None:
        """Refuse the flex tier."""
        return flex_is_full().reply() if call.body.get("service_tier") == "flex" else None


class DropConnection(HttpFault):
    """The connection is closed or reset before anything is done."""

    name: ClassVar[str] = "drop-connection"
    how: Literal["close", "reset"] = Field(default="close", description="an orderly close, or a reset (RST)")

    def refuse(self, call: Call) -> Response | None:  # noqa: ARG002 - the hook's signature
        """Close the connection."""
        return HangUp(reset=self.how == "reset")


class CutUploads(HttpFault):
    """The connection breaks while the client is still sending, and nothing is done."""

    name: ClassVar[str] = "cut-uploads"
    on: tuple[Literal["files.create"], ...] = Field(default=("files.create",), description="uploads alone")
    after_bytes: int = Field(default=1, ge=1, description="bytes of the request's body that are read first")

    def refuse(self, call: Call) -> Response | None:  # noqa: ARG002 - the hook's signature
        """Close the connection in the middle of the body."""
        return HangUp(after_bytes=self.after_bytes)


class LoseReply(HttpFault):
    """The call is executed, but the client gets no usable answer, so a repeated create makes a second batch."""

    name: ClassVar[str] = "lose-reply"
    times: int | None = Field(default=1, ge=1, description="only this many calls of each operation")
    how: Literal["close", "reset", "500", "502", "hang"] = Field(
        default="close",
        description="the connection closes or is reset, a JSON 500, an HTML 502, or silence until it closes",
    )
    hang_seconds: float = Field(default=5.0, ge=0, description="real seconds of silence")

    def alter(self, call: Call, response: Response) -> Response:  # noqa: ARG002 - the hook's signature
        """Withhold the answer of a call that was executed."""
        if is_refusal(response):
            return response
        match self.how:
            case "close":
                return HangUp()
            case "reset":
                return HangUp(reset=True)
            case "hang":
                return HangUp(self.hang_seconds)
            case "500":
                return ApiError(500, "Internal Server Error", kind="internal_server_error").reply()
            case "502":
                return _gateway_page(502)


class SlowReplies(HttpFault):
    """Calls are answered late: what they ask for is done at once, so a client that gives up has bought it.

    Calls of files and batches are delayed before they are carried out.
    """

    name: ClassVar[str] = "slow-replies"
    on: tuple[str, ...] = Field(default=("*",), description=ON)
    seconds: float = Field(default=0.5, ge=0, description="real seconds before the answer")
    up_to: float | None = Field(default=None, ge=0, description="the delay varies evenly between seconds and this")

    def delay_seconds(self, call: Call) -> float:
        """Return the delay in real seconds."""
        if self.up_to is None:
            return self.seconds
        return self.seconds + fraction_of(self.name, call.operation, call.ordinal) * (self.up_to - self.seconds)


class CutDownloads(HttpFault):
    """Downloads lose their end, either detectable in HTTP (content-length, chunked) or silently (close-delimited, clean)."""

    name: ClassVar[str] = "cut-downloads"
    on: tuple[str, ...] = Field(default=("files.content",), description=ON)
    how: CutMode = Field(default="content-length", description="how the body is framed")
    keep: Fraction = Field(default=0.5, description="the share of the bytes that arrives")
    at_line_end: bool = Field(
        default=False, description="cut after a complete line, so that no torn line shows the loss"
    )

    def alter(self, call: Call, response: Response) -> Response:  # noqa: ARG002 - the hook's signature
        """Shorten a download."""
        if isinstance(response, Download):
            response.keep(self.keep, self.how, at_line_end=self.at_line_end)
        return response


class FileSizes(HttpFault):
    """File objects have no size, or a wrong one."""

    name: ClassVar[str] = "file-sizes"
    on: tuple[str, ...] = Field(default=("files.retrieve",), description=ON)
    say: Literal["absent", "null", "zero", "wrong"] = Field(
        default="absent", description="bytes has no key, is null, is 0, or is one too many"
    )

    def alter(self, call: Call, response: Response) -> Response:  # noqa: ARG002 - the hook's signature
        """Rewrite the size in a file object."""
        shown = None if is_refusal(response) else orjson.loads(response.body)
        if not isinstance(shown, dict) or "bytes" not in shown:
            return response
        if self.say == "absent":
            del shown["bytes"]
        else:
            shown["bytes"] = {"null": None, "zero": 0, "wrong": shown["bytes"] + 1}[self.say]
        return json_reply(shown)


class FileLag(HttpFault):
    """A file just uploaded is not found by the first calls that use it."""

    name: ClassVar[str] = "file-lag"
    on: tuple[str, ...] = Field(default=("files.retrieve", "files.content", "batches.create"), description=ON)
    times: int | None = Field(default=1, ge=1, description="only this many calls of each operation")
    per_object: bool = Field(default=True, description="count calls for each file or batch of its own")

    def refuse(self, call: Call) -> Response | None:
        """Answer that the file does not exist."""
        return no_such_file(call.object_id).reply()


class GoneFiles(HttpFault):
    """Files are gone, as after their retention ran out."""

    name: ClassVar[str] = "gone-files"
    on: tuple[str, ...] = Field(default=("files.retrieve", "files.content"), description=ON)

    def refuse(self, call: Call) -> Response | None:
        """Answer that the file does not exist."""
        return no_such_file(call.object_id).reply()


class UnknownFileRefused(HttpFault):
    """A create that names an unknown or deleted file is refused at once, not accepted and failed later."""

    name: ClassVar[str] = "unknown-file-refused"
    on: tuple[str, ...] = Field(default=("batches.create",), description=ON)
    status: Literal[400, 404] = Field(default=404, description="the HTTP status")

    def refusal(self, file_id: str) -> ApiError:
        """Return the refusal for a file that does not exist."""
        return no_such_file(file_id, self.status)


class ListPages(HttpFault):
    """The pages of the list of batches end or follow each other wrongly."""

    name: ClassVar[str] = "list-pages"
    on: tuple[str, ...] = Field(default=("batches.list",), description=ON)
    how: Literal["no-paging", "null-cursor", "repeat", "overlap", "empty-page", "refuse-cursor", "single-page"] = Field(
        default="repeat",
        description=(
            "no-paging: no paging key on the last page; null-cursor: next_cursor null there; repeat: the cursor is ignored "
            "forever; overlap: a page starts with the last batch of the one before; empty-page: an empty page with a cursor "
            "comes first; refuse-cursor: 400 for every cursor; single-page: only the first page, without a cursor"
        ),
    )


class IdFilter(HttpFault):
    """The filter by id of the list of batches is not understood as documented."""

    name: ClassVar[str] = "id-filter"
    on: tuple[str, ...] = Field(default=("batches.list",), description=ON)
    how: Literal["ignored", "last-only", "joined"] = Field(
        default="ignored",
        description=(
            "ignored: a page of all batches comes; last-only: only the last of several ids counts; joined: several ids are "
            "taken for one, as they are when a client writes id=A%2CB, so that none is found"
        ),
    )


def flex_is_full() -> ApiError:
    """Return the refusal for a flex tier without capacity (console.groq.com/docs/flex-processing)."""
    message = "`flex` tier capacity exceeded. Please try again later or use another service tier."
    return ApiError(498, message, kind="capacity_exceeded", code="capacity_exceeded")


def no_such_file(file_id: str, status: int = 404) -> ApiError:
    """Return the refusal for an unknown file id."""
    return ApiError(status, f"No such File object: {file_id}", param="id")


def no_such_batch(batch_id: str, status: int = 404) -> ApiError:
    """Return the refusal for an unknown batch id."""
    return ApiError(status, f"No batch found with id '{batch_id}'.", code="not_found")


def _gateway_page(status: int) -> Response:
    titles: dict[int, Any] = {502: "Bad Gateway", 503: "Service Temporarily Unavailable", 504: "Gateway Time-out"}
    return html_reply(status, titles[status])
