"""Two calls determine whether a batch API answers at the address."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from batchkit.errors import (
    AccountRefused,
    Forbidden,
    OutcomeUnknown,
    ProviderRefused,
    ProviderUnreachable,
    RateLimited,
    Unauthorized,
    WrongAddress,
)

from .server import answer, as_json, hang_up, refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchkit.provider.client import BatchApi

    from .conftest import FakeTime
    from .server import Reply, ScriptedServer

LIST = as_json({"object": "list", "data": []})
PAGE = answer(b"<html>Welcome</html>", content_type="text/html; charset=utf-8")
UNKNOWN_URL = refusal(404, "Unknown request URL: GET /v1/models", "unknown_url")


def page_with(status: int) -> Reply:
    """Return a reply with an HTML page."""
    return answer(b"<html>no</html>", status, content_type="text/html")


def test_a_batch_api_is_asked_twice_and_nothing_is_changed(server: ScriptedServer, provider: BatchApi) -> None:
    """The calls are the list of models, then one page of batches, however many pages there are."""
    server.script(LIST, as_json({"data": [{"id": "batch_1"}], "paging": {"next_cursor": "more"}}))
    assert provider.check() is None
    assert server.calls() == ["GET /models", "GET /batches"]


ELSEWHERE: dict[str, Reply] = {
    "a page": PAGE,
    "a page with 403": page_with(403),
    "a page with 404": page_with(404),
    "a page with 405": page_with(405),
    "plain text": answer(b"It works!", content_type="text/plain"),
    "an empty success": answer(b""),
    "unknown_url": UNKNOWN_URL,
    "404 without a code": refusal(404),
    "404 without a body": answer(b"", 404),
    "405": refusal(405),
    "410": refusal(410),
    "JSON that is no list": as_json({"ok": True}),
    "a bare list": as_json([]),
    "a string": as_json("hello"),
    "a redirect": answer(b"", 301, location="https://www.example/login"),
    "a redirect with a page": answer(b"<html>", 302, content_type="text/html", location="/login"),
}


@pytest.mark.parametrize("reply", ELSEWHERE.values(), ids=ELSEWHERE.keys())
def test_something_else_at_the_address_is_named_at_once(
    server: ScriptedServer, provider: BatchApi, time: FakeTime, reply: Reply
) -> None:
    """The error names the address and the correction, means exit code 2, and no reply is waited for twice."""
    server.otherwise = reply
    with pytest.raises(WrongAddress) as caught:
        provider.check()
    assert server.base_url in caught.value.message
    assert "GET /batches" in caught.value.message
    assert "/openai/v1 belongs to it" in (caught.value.hint or "")
    assert caught.value.exit_code == 2
    assert server.calls() == ["GET /models", "GET /batches"]
    assert time.slept == []


def test_the_message_for_a_redirect_names_its_target(server: ScriptedServer, provider: BatchApi) -> None:
    """The address in the message identifies a login page."""
    server.otherwise = ELSEWHERE["a redirect"]
    with pytest.raises(WrongAddress, match=r"a redirect to https://www\.example/login"):
        provider.check()


@pytest.mark.parametrize(
    "models", [PAGE, UNKNOWN_URL, refusal(404), refusal(400), refusal(405), as_json({"no": "list"})]
)
def test_a_server_without_models_gets_a_warning(server: ScriptedServer, provider: BatchApi, models: Reply) -> None:
    """Only the batch endpoint must exist."""
    server.script(models, LIST)
    warning = provider.check()
    assert warning is not None
    assert "GET /models" in warning
    assert "no batch API" not in warning


@pytest.mark.parametrize("place", ["models", "batches"])
@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (refusal(401, code="invalid_api_key"), Unauthorized),
        (refusal(402), AccountRefused),
        (refusal(403), Forbidden),
        (refusal(403, code="not_available_for_plan"), Forbidden),
        (refusal(400, code="blocked_api_access"), AccountRefused),
    ],
)
def test_an_account_without_access_is_reported(
    server: ScriptedServer, provider: BatchApi, place: str, reply: Reply, kind: type[AccountRefused]
) -> None:
    """The refusal is recognised at either call."""
    server.script(*([reply] if place == "models" else [LIST, reply]))
    with pytest.raises(AccountRefused) as caught:
        provider.check()
    assert type(caught.value) is kind


def test_temporary_trouble_is_waited_for(server: ScriptedServer, provider: BatchApi, time: FakeTime) -> None:
    """A gateway's 502 and a broken connection say nothing about the address."""
    server.script(page_with(502), hang_up, LIST, refusal(429, retry_after="2"), LIST)
    assert provider.check() is None
    assert len(time.slept) == 3


@pytest.mark.parametrize("reply", [page_with(502), refusal(500), hang_up])
def test_an_outage_is_no_wrong_address(server: ScriptedServer, provider: BatchApi, reply: Reply) -> None:
    """The error is that of every other call: exit code 4, and the same command resumes."""
    server.otherwise = reply
    with pytest.raises(OutcomeUnknown):
        provider.check()


def test_no_server_at_the_address_is_unreachable(connect: Callable[..., BatchApi]) -> None:
    """A server may be down for a moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ProviderUnreachable):
        connect(base_url=f"http://127.0.0.1:{port}/openai/v1").check()


def test_a_long_wait_is_left_to_the_caller(server: ScriptedServer, provider: BatchApi) -> None:
    """The API itself asks for the wait."""
    server.script(LIST, refusal(429, retry_after="600"))
    with pytest.raises(RateLimited):
        provider.check()


def test_a_refusal_of_the_list_is_no_wrong_address(server: ScriptedServer, provider: BatchApi) -> None:
    """A server that has the path and refuses the call gives its reason."""
    server.script(LIST, refusal(400, "limit is required"))
    with pytest.raises(ProviderRefused, match="limit is required"):
        provider.check()
