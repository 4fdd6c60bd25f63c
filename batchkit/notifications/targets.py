"""The targets of notifications. Both have a time limit, and their errors contain no address and no secret."""

from __future__ import annotations

import logging
import os
import queue
import shlex
import signal
import subprocess
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

import batchkit
from batchkit.child_environment import environment_for_others
from batchkit.files import jsonl
from batchkit.notifications.sentence import sentence_of
from batchkit.provider.access import is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchkit.settings import Settings

logger = logging.getLogger(__name__)

#: The names of the targets in the rows of the outbox.
WEB, COMMAND = "web", "command"

_WEB_SECONDS = 5.0
_COMMAND_SECONDS = 10.0
_KILLED_SECONDS = 1.0
_LOGGED_CHARACTERS = 2_000
_SERVER_ERROR = 500
#: Transient refusals: request timeout, too many requests.
_TRANSIENT = frozenset({408, 429})


class NotDelivered(Exception):
    """A try failed; ``is_transient`` says whether another try may succeed. The message contains no address."""

    def __init__(self, message: str, *, is_transient: bool) -> None:
        super().__init__(message)
        self.is_transient = is_transient


class Target(Protocol):
    """A receiver of reports."""

    def send(self, report: dict[str, Any], *, within_seconds: float) -> None:
        """Deliver one report, within the target's own limit and ``within_seconds``. Raises ``NotDelivered``."""


def targets_of(settings: Settings) -> dict[str, Target]:
    """Return the targets in the settings, by their names in the outbox."""
    found: dict[str, Target] = {}
    if settings.notify_url is not None:
        found[WEB] = WebTarget(
            settings.notify_url,
            is_slack=settings.notify_format == "slack",
            allow_insecure_http=settings.allow_insecure_http,
        )
    if settings.on_finish is not None:
        found[COMMAND] = CommandTarget(settings.on_finish)
    return found


class WebTarget:
    """Sends a report with POST. Redirects are not followed; http:// is allowed only to this machine, unless the settings allow it."""

    def __init__(self, url: str, *, is_slack: bool, allow_insecure_http: bool) -> None:
        self._url = url
        self._is_slack = is_slack
        address = urlsplit(url)
        self._host = address.hostname or ""
        self._is_refused = address.scheme == "http" and not allow_insecure_http and not is_loopback(self._host)
        # A proxy cannot reach this machine.
        proxies = [ProxyHandler({})] if is_loopback(self._host) else []
        self._opener = build_opener(_NoRedirects, *proxies)

    def send(self, report: dict[str, Any], *, within_seconds: float) -> None:
        """POST the report, or a text for Slack; any 2xx is success."""
        if self._is_refused:
            raise NotDelivered(
                f"{self._host}: the address begins with http:// and is not on this machine; nothing was sent",
                is_transient=False,
            )
        seconds = min(_WEB_SECONDS, within_seconds)
        body = jsonl.dumps({"text": _for_slack(sentence_of(report))} if self._is_slack else report)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"batchkit/{batchkit.__version__}",
            "X-Batchkit-Event": report["id"],
        }
        _within(seconds, lambda: self._post(body, headers, seconds), late=f"{self._host}: no answer in {seconds:.0f} s")

    def _post(self, body: bytes, headers: dict[str, str], seconds: float) -> None:
        try:
            request = Request(self._url, data=body, headers=headers, method="POST")  # noqa: S310 - the settings allow only http and https
            self._opener.open(request, timeout=seconds).close()
        except HTTPError as error:
            error.close()
            is_transient = error.code >= _SERVER_ERROR or error.code in _TRANSIENT
            raise NotDelivered(f"{self._host}: HTTP {error.code}", is_transient=is_transient) from None
        except Exception as error:  # noqa: BLE001 - the message of any error may quote the address
            raise NotDelivered(f"{self._host}: {_reason_of(error)}", is_transient=True) from None


class CommandTarget:
    """Runs a command without a shell; the report is one line of JSON on its stdin. Its environment has no secret of batchkit."""

    def __init__(self, command: str) -> None:
        self._arguments = shlex.split(command)

    def send(self, report: dict[str, Any], *, within_seconds: float) -> None:
        """Run the command. An exit code other than 0 is only logged: the report was delivered."""
        seconds = min(_COMMAND_SECONDS, within_seconds)
        name = os.path.basename(self._arguments[0])  # noqa: PTH119 - the user's text
        try:
            process = subprocess.Popen(  # noqa: S603 - the user's own command
                self._arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment_for_others(),
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise NotDelivered(f"{name} cannot be started: {_reason_of(error)}", is_transient=False) from None
        try:
            output, _ = process.communicate(jsonl.dumps(report) + b"\n", timeout=seconds)
        except subprocess.TimeoutExpired:
            _kill(process)
            raise NotDelivered(f"{name} took more than {seconds:.0f} s and was killed", is_transient=False) from None
        logger.debug("%s: %s", name, output.decode(errors="replace")[:_LOGGED_CHARACTERS].rstrip())
        if process.returncode:
            logger.warning("the command for notifications, %s, ended with exit code %d", name, process.returncode)


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_arguments: object) -> None:
        """Treat the redirect as an error: another host must not get the report."""


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a command and all processes that it started."""
    # All of them may have ended meanwhile.
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    # A process that left the group may keep the pipe open; it must not hold up the delivery.
    with suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=_KILLED_SECONDS)


def _within(seconds: float, call: Callable[[], None], *, late: str) -> None:
    """Run a call in a thread for at most ``seconds``: the timeout of a connection covers only each of its steps."""
    ended: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def work() -> None:
        try:
            call()
        except Exception as error:  # noqa: BLE001 - raised in the thread that waits
            ended.put(error)
        else:
            ended.put(None)

    threading.Thread(target=work, name="batchkit-notify-try", daemon=True).start()
    try:
        error = ended.get(timeout=seconds)
    except queue.Empty:
        raise NotDelivered(late, is_transient=True) from None
    if error is not None:
        raise error


def _reason_of(error: Exception) -> str:
    """Return the name of an error without its message."""
    cause = error.reason if isinstance(error, URLError) and isinstance(error.reason, OSError) else error
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno > 0:
        return os.strerror(cause.errno)
    return type(cause).__name__


def _for_slack(text: str) -> str:
    for sign, written in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(sign, written)
    return text
