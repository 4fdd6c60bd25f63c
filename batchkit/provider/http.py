"""HTTP to one API with one key: connections, timeouts, retries. Knows nothing of a particular provider.

Every method returns or raises a ``ProviderError`` (or ``SpoolError`` for a local file), never an exception of the HTTP library.
Safe to use from several threads.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from batchkit.errors import (
    ConfigurationError,
    OutcomeUnknown,
    ProviderRefused,
    ProviderUnreachable,
    RateLimited,
    SpoolError,
    WrongAddress,
)
from batchkit.files.jsonl import MalformedJson, dumps, loads_leniently
from batchkit.provider.access import parse_base_url, reveal_key
from batchkit.provider.atomic_download import AtomicDownload
from batchkit.provider.connections import Connections, new_client, trust
from batchkit.provider.dialect import AuthStyle
from batchkit.provider.failures import (
    Explain,
    Quoter,
    from_response,
    from_transport,
    parsed,
    unreadable,
    without_frames,
)
from batchkit.provider.health import Health
from batchkit.provider.multipart import FileForm
from batchkit.provider.pace import Pace
from batchkit.provider.reading import Reply, TooLong, decoded, read_whole
from batchkit.provider.retry import NotTheApi, Retry, TryAgain, once
from batchkit.provider.torn import no_file_reason, torn, torn_reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pydantic import SecretStr

    from batchkit.models import Download
    from batchkit.provider.connections import Connection
    from batchkit.provider.options import HttpOptions

logger = logging.getLogger(__name__)

T = TypeVar("T")

_JSON = {"Content-Type": "application/json"}
# Content-Length counts the encoded bytes; unencoded, these are the file.
_UNENCODED = {"Accept": "application/octet-stream", "Accept-Encoding": "identity"}


class ApiClient:
    """A client of one API with one key, for any number of threads.

    ``auth`` is the header that carries the key. ``explain`` reads the provider's error bodies; ``address_hint`` is the hint when only a wrong address explains a reply.

    Raises ``ConfigurationError`` for an address or a key that cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        api_key: SecretStr | str,
        *,
        auth: AuthStyle = AuthStyle.BEARER,
        explain: Explain,
        address_hint: str,
        options: HttpOptions,
    ) -> None:
        self._base_url = parse_base_url(base_url, allow_insecure_http=options.allow_insecure_http)
        self._quote = Quoter(reveal_key(api_key))
        self._explain = explain
        self._address_hint = address_hint
        self._options = options
        self._clock = options.clock
        self.health = Health(clock=options.clock, now=options.now)
        #: Called with the method, the path and the headers of each reply.
        self.on_reply: Callable[[str, str, Mapping[str, str]], object] = lambda _method, _path, _headers: None
        self._retry = Retry(
            attempts=options.attempts,
            cap_seconds=options.retry_after_cap_seconds,
            sleep=options.sleep,
            clock=options.clock,
            jitter=options.jitter,
        )
        timeout = httpx.Timeout(
            options.connect_timeout_seconds, read=options.read_timeout_seconds, write=options.write_timeout_seconds
        )
        try:
            verify = trust(self._base_url)
            self._connections = Connections(
                lambda: new_client(self._base_url, api_key, auth, timeout, verify),
                most=options.max_connections,
                longest_wait_seconds=options.pool_timeout_seconds,
            )
        except (OSError, ValueError, ImportError, httpx.InvalidURL):
            # The environment may hold a proxy's password, so it is not quoted.
            raise ConfigurationError(
                "the proxy or certificate settings in the environment cannot be used",
                hint="check HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE and SSL_CERT_DIR",
            ) from None

    def __repr__(self) -> str:
        return f"ApiClient({str(self._base_url)!r})"

    def close(self) -> None:
        """Close the connections; a later call raises ``ProviderUnreachable``."""
        self._connections.close()

    def get(self, path: str, query: Sequence[tuple[str, str]] = ()) -> Any:
        """GET a JSON value; retried on errors. A name may occur in ``query`` several times."""
        return self._repeat(lambda: self._json("GET", path, params=list(query) or None))

    def fetch(self, path: str, headers: Mapping[str, str]) -> Reply:
        """GET a body that fits in memory, whatever it is, with its status and headers; retried on errors."""
        return self._repeat(lambda: self._send("GET", path, headers={**_UNENCODED, **headers}))

    def probe(self, path: str) -> Any:
        """GET a JSON value as ``get`` does, but raise ``WrongAddress`` at once for a reply that a batch API never sends."""

        def ask() -> Any:
            try:
                return self._json("GET", path)
            except NotTheApi as reply:
                error = reply.error
            raise self.wrong_address(error.message) from error

        return self._repeat(ask)

    def wrong_address(self, reason: str) -> WrongAddress:
        """Return the error for an address where another server answers."""
        return WrongAddress(f"there is no batch API at {self._base_url}: {reason}", hint=self._address_hint)

    def post(self, path: str) -> Any:
        """POST without a body and read JSON; retried on errors, so only for calls that may happen twice."""
        return self._repeat(lambda: self._json("POST", path))

    def post_once(self, path: str, payload: object, *, before_sending: Callable[[], object] | None = None) -> Any:
        """POST a JSON value exactly once, on its own connection.

        ``before_sending`` is called between the headers and the body: its errors are raised, and the server has an incomplete
        request that it cannot process. Raises ``OutcomeUnknown`` unless it is certain that nothing was processed (see
        ``failures``).
        """
        content = dumps(payload)

        def body() -> Iterator[bytes]:
            if before_sending is not None:
                before_sending()
            yield content

        headers = {**_JSON, "Content-Length": str(len(content))}
        return once(
            lambda: self._watched(
                lambda: self._json("POST", path, must_be_certain=True, content=body(), headers=headers)
            )
        )

    def delete(self, path: str) -> None:
        """DELETE; retried on errors. Any 2xx is a success, whatever its body."""
        self._repeat(lambda: self._send("DELETE", path))
        self.health.note_answer()

    def upload(self, path: str, *, fields: Mapping[str, str], field: str, source: Path, filename: str) -> Any:
        """POST a file as multipart/form-data (RFC 7578) and read JSON; retried on errors, each time from the start.

        ``fields`` come first, then the file under the name ``field``. The file is read as it is sent, a chunk at a time.
        Raises ``SpoolError`` when it cannot be read.
        """
        call = f"POST {path}"

        def body(form: FileForm, connection: Connection) -> Iterator[bytes]:
            pace = Pace(self._options.lowest_speed, self._clock)
            for chunk in form:
                yield chunk
                # The system has taken the chunk now; its buffers hide a little of the server's slowness.
                if pace.is_fast_enough(len(chunk)) is False:
                    error = OutcomeUnknown(f"{call}: given up, because it took fewer than {self._options.lowest_speed}")
                    raise TryAgain(error, repeats=False)
            connection.cut_after(self._options.total_seconds)

        def send() -> Any:
            try:
                with source.open("rb") as handle:
                    form = FileForm(handle, fields=fields.items(), field=field, filename=filename)
                    return self._json(
                        "POST",
                        path,
                        seconds=self._options.transfer_seconds,
                        body=lambda connection: body(form, connection),
                        headers=form.headers,
                    )
            except OSError as error:
                reason = error.strerror or str(error)
            raise SpoolError(f"{source} cannot be read: {reason}", hint="is the spool folder still there?")

        return self._repeat(send, is_transfer=True)

    def download(
        self, path: str, destination: Path, *, expected_bytes: int | None, accept_unframed: bool = True
    ) -> Download:
        """GET a body into a file; retried on errors, each time from the start.

        ``expected_bytes`` is the size that the provider states elsewhere; None or 0 when unknown. ``accept_unframed`` False
        refuses a body that ends with the connection: it cannot be distinguished from a truncated one.

        Raises ``TornDownload`` when no attempt returned the whole body, ``SpoolError`` for an error of the disk.
        """
        call = f"GET {path}"
        deadline = self._clock() + self._options.transfer_seconds

        def receive(response: httpx.Response, connection: Connection) -> Download:
            if not response.is_success:
                self._judge(self._read(response, call), call)
            if reason := no_file_reason(response):
                raise torn(call, reason)
            connection.cut_after(max(0.0, deadline - self._clock()))
            with AtomicDownload(destination) as target:
                self._receive(response, connection, target, call, expected_bytes)
                if reason := torn_reason(response, target.size_bytes, expected_bytes, accept_unframed):
                    raise torn(call, reason)
                return target.commit()

        download = self._repeat(
            lambda: self._exchange("GET", path, receive, seconds=self._options.total_seconds, headers=_UNENCODED),
            is_transfer=True,
        )
        self.health.note_answer()
        return download

    def _repeat(self, send: Callable[[], T], *, is_transfer: bool = False) -> T:
        total_seconds = self._options.transfer_seconds if is_transfer else self._options.total_seconds
        try:
            return self._retry.call(lambda: self._watched(send, is_transfer=is_transfer), total_seconds=total_seconds)
        except RateLimited:
            # From here on the caller waits.
            self.health.note_answer()
            raise

    def _watched(self, send: Callable[[], T], *, is_transfer: bool = False) -> T:
        """Make one try and record its failure."""
        began = None if is_transfer else self._clock()
        try:
            return send()
        except TryAgain as again:
            self.health.note_failure(again.error, began=began)
            raise
        except (ProviderUnreachable, OutcomeUnknown) as error:
            self.health.note_failure(error, began=began)
            raise

    def _exchange(
        self,
        method: str,
        path: str,
        use: Callable[[httpx.Response, Connection], T],
        *,
        seconds: float,
        fresh: bool = False,
        body: Callable[[Connection], Iterator[bytes]] | None = None,
        **content: Any,
    ) -> T:
        """Send one request, pass the response to ``use``, and translate the library's exceptions."""
        call = f"{method} {path}"
        if self._connections.is_closed:
            raise ProviderUnreachable(f"{call}: not sent, the client is closed")
        started = self._clock()
        try:
            with self._connections.lend(fresh=fresh) as connection:
                if body is not None:
                    content["content"] = body(connection)
                with connection.exchange(method, path, seconds=seconds, **content) as response:
                    request_id = self._quote(response.headers.get("x-request-id", "-"))
                    took = self._clock() - started
                    logger.debug("%s -> %d in %.3f s, x-request-id %s", call, response.status_code, took, request_id)
                    self.health.note_date(response.headers)
                    self.on_reply(method, path, response.headers)
                    return use(response, connection)
        except (httpx.RequestError, httpx.InvalidURL) as error:
            logger.debug("%s -> %s in %.3f s", call, type(error).__name__, self._clock() - started)
            failure = from_transport(error, call, self._quote)
        # Raised outside the handler, as everywhere in this package: as the context of our error, the library's exception would
        # carry frames whose variables hold the Authorization header.
        raise failure

    def _receive(
        self,
        response: httpx.Response,
        connection: Connection,
        target: AtomicDownload,
        call: str,
        expected_bytes: int | None,
    ) -> None:
        pace = Pace(self._options.lowest_speed, self._clock)
        cause: Exception | None = None
        try:
            for piece in decoded(response):
                target.write(piece)
                if expected_bytes and target.size_bytes > expected_bytes:
                    return
                verdict = pace.is_fast_enough(len(piece))
                if verdict is False:
                    raise torn(call, f"given up, because fewer than {self._options.lowest_speed} came", repeats=False)
                if verdict:
                    self.health.note_answer()
        except httpx.RequestError as error:
            cause = without_frames(error, self._quote)
        if connection.is_cut:
            raise torn(call, f"it was still going on after {self._options.transfer_seconds:g} s")
        if cause is not None:
            reason = f"it broke off after {target.size_bytes:,} bytes ({type(cause).__name__})"
            raise torn(call, reason, cause=cause)

    def _json(self, method: str, path: str, **content: Any) -> Any:
        if "body" in content:
            # An upload has no time limit to report.
            reply = self._send(method, path, **content)
        else:
            with self.health.awaiting(f"{method} {path}", seconds=self._options.total_seconds):
                reply = self._send(method, path, **content)
        try:
            value = loads_leniently(reply.content)
        except MalformedJson:
            failure = unreadable(f"{method} {path}", reply, self._quote, address_hint=self._address_hint)
        else:
            self.health.note_answer()
            return value
        raise failure

    def _send(
        self, method: str, path: str, *, must_be_certain: bool = False, seconds: float | None = None, **content: Any
    ) -> Reply:
        """Make one attempt. Raises ``TryAgain`` or a ``ProviderError`` unless the reply is a success.

        ``must_be_certain`` uses its own connection: a kept-alive one may be closed by the server at this moment, which would
        leave the outcome unknown unnecessarily.
        """
        call = f"{method} {path}"
        reply = self._exchange(
            method,
            path,
            lambda response, _connection: self._read(response, call),
            seconds=self._options.total_seconds if seconds is None else seconds,
            fresh=must_be_certain,
            **content,
        )
        self._judge(reply, call, must_be_certain=must_be_certain)
        return reply

    def _read(self, response: httpx.Response, call: str) -> Reply:
        try:
            return read_whole(
                response, max_bytes=self._options.max_reply_bytes, max_values=self._options.max_reply_values
            )
        except TooLong as limit:
            message = f"{call}: HTTP {response.status_code}, but its body has more than {limit}"
        raise OutcomeUnknown(message, hint="no reply of the API is that long: is another server in between?")

    def _judge(self, reply: Reply, call: str, *, must_be_certain: bool = False) -> None:
        if reply.is_success:
            return
        failure = from_response(
            reply,
            call,
            explain=self._explain,
            quote=self._quote,
            now=self._options.now(),
            must_be_certain=must_be_certain,
            address_hint=self._address_hint,
        )
        if isinstance(failure, ProviderRefused) and isinstance(parsed(reply), dict):
            self.health.note_answer()
        raise failure
