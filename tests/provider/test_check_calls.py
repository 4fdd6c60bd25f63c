"""What single calls of a check tell: headers, downloads, order and filters of the list, and the ordinary endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from batchkit.models import FileId, RemoteFile
from batchkit.provider.check_calls import content_call, ordinary_calls
from batchkit.provider.check_headers import SeenHeaders
from batchkit.provider.check_pages import check_list
from batchkit.provider.check_remote import Remote, Trial
from batchkit.provider.check_report import CheckReport, Verdict

from .server import answer, as_json, refusal

if TYPE_CHECKING:
    from pathlib import Path

    from batchkit.provider.client import BatchApi

    from .server import Reply, ScriptedServer


@pytest.fixture
def remote(provider: BatchApi, tmp_path: Path) -> Remote:
    """Return an empty check of the scripted server."""
    return Remote(provider, Trial(folder=tmp_path, may_create=lambda _costs: True), CheckReport())


def found(report: CheckReport) -> dict[str, str]:
    """Return what the server did, by subject."""
    return {fact.subject: fact.found for fact in report.facts}


def batch(number: int, **members: Any) -> dict[str, Any]:
    """Return a batch of a file of its own, created at second ``number``."""
    return {
        "id": f"batch_{number}",
        "status": "completed",
        "created_at": number,
        "input_file_id": f"file_{number}",
        **members,
    }


def page(*entries: dict[str, Any], **members: Any) -> Reply:
    """Answer with a page of the list."""
    return as_json({"object": "list", "data": list(entries), **members})


@pytest.mark.parametrize(
    ("part", "told"),
    [
        (answer(b"0123456789", 206, Content_Range="bytes 0-9/20"), "10 bytes"),
        (answer(b"0123456789" * 2), "status 200, 20 bytes"),
        (answer(b"0123", 206), "status 206, 4 bytes"),
    ],
)
def test_a_part_of_a_file_is_asked_for(server: ScriptedServer, remote: Remote, part: Reply, told: str) -> None:
    """A server may ignore that; the headers of the whole download are shown."""
    server.script(answer(b"0123456789" * 2, content_type="text/plain", Accept_Ranges="bytes"), part)
    content_call(remote, RemoteFile(FileId("file_1"), "a.jsonl", 20, "batch"))
    assert found(remote.report) == {
        "headers of a download": "content-type: text/plain, content-length: 20, accept-ranges: bytes",
        "Range: bytes=0-9": told,
    }
    assert server.seen[1].headers["range"] == "bytes=0-9"


def test_headers_of_limits_and_request_ids_are_told_by_the_kind_of_call(server: ScriptedServer, remote: Remote) -> None:
    """What no reply has is said too, and nothing of a header can break the table."""
    headers = SeenHeaders("/batches")
    remote.provider.http.on_reply = headers.see
    limits: dict[str, Any] = {"X_RateLimit_Remaining_Requests": "7", "x_request_id": "req_1", "retry_after": "x" * 500}
    server.script(page(), as_json({"object": "list", "data": []}, **limits), page())
    list(remote.provider.list_files())
    list(remote.provider.list_batches())
    remote.provider.list_models()
    headers.conclude(remote.report)
    told = found(remote.report)
    assert told["x-request-id"] == "on 1 of 3 replies"
    assert told["headers of limits on files"] == "none"
    assert told["headers of limits on batches"].startswith("x-ratelimit-remaining-requests: 7, retry-after: xxx")
    assert len(told["headers of limits on batches"]) < 150


@pytest.mark.parametrize(
    ("entries", "verdict", "told"),
    [
        ((batch(3), batch(2), batch(2)), Verdict.SAME, "newest first"),
        ((batch(1), batch(2)), Verdict.DIFFERS, "oldest first"),
        ((batch(1), batch(3), batch(2)), Verdict.DIFFERS, "no order of time"),
        ((batch(1), batch(1)), Verdict.OPEN, "there is only one batch, or no time"),
        ((), Verdict.OPEN, "there is only one batch, or no time"),
    ],
)
def test_the_order_of_the_list_is_compared(
    server: ScriptedServer, remote: Remote, entries: tuple[dict[str, Any], ...], verdict: Verdict, told: str
) -> None:
    """Our searches end early where the newest batch is the first."""
    server.otherwise = page(*entries)
    check_list(remote.provider, remote.report)
    (fact,) = (fact for fact in remote.report.facts if fact.subject == "order of the list")
    assert (fact.verdict, fact.found) == (verdict, told)


def test_limits_and_filters_of_the_list_are_told(server: ScriptedServer, remote: Remote) -> None:
    """A filter counts when what it leaves out was there without it."""
    several = (batch(2), batch(1, status="failed"))
    server.script(page(*several, paging={"next_cursor": "c"}), page(several[0]), page(several[0]), page(several[0]))
    check_list(remote.provider, remote.report)
    told = found(remote.report)
    assert told["a page of the list"] == "2 entries, and more follow"
    assert "members of the last page" not in told
    assert (told["limit=1"], told["list by input file"], told["list by status"]) == ("one entry", "offered", "offered")
    assert remote.report.corrections == {"files_per_lookup": 1}
    assert [seen.query for seen in server.seen[1:]] == [
        [("limit", "1")],
        [("input_file_ids", "file_2")],
        [("status", "completed")],
    ]


def test_a_server_that_refuses_a_filter_has_none(server: ScriptedServer, remote: Remote) -> None:
    """And the refusal is told."""
    several = (batch(2), batch(1, status="failed"))
    server.script(page(*several, has_more=False), refusal(400, "no limit"), refusal(400), refusal(400, "no status"))
    check_list(remote.provider, remote.report)
    told = found(remote.report)
    assert "no limit" in told["limit=1"]
    assert told["list by input file"] == "not offered"
    assert "no status" in told["list by status"]
    assert told["members of the last page"] == "has_more"
    assert remote.report.corrections == {}


def test_an_ordinary_call_tells_what_it_takes_from_the_limit(server: ScriptedServer, remote: Remote) -> None:
    """Whether a reservation is given back; and the refusal of the flex tier with its headers."""
    headers = SeenHeaders("/batches")
    remote.provider.http.on_reply = headers.see
    limits: dict[str, Any] = {"x_ratelimit_limit_tokens": "6000", "x_ratelimit_remaining_tokens": "5590"}
    reply = as_json({"usage": {"total_tokens": 12}, "service_tier": "on_demand"}, **limits)
    server.script(reply, refusal(498, "capacity exceeded", "capacity_exceeded", retry_after="3"))
    ordinary_calls(remote, headers, "m")
    told = found(remote.report)
    assert told["an ordinary call"] == (
        "answered by tier on_demand; 410 of 6,000 tokens are taken after a call that used 12 and asked for up to 400"
    )
    assert "capacity exceeded" in told["a call on the flex tier"]
    assert "(retry-after: 3)" in told["a call on the flex tier"]
    assert [seen.json.get("service_tier") for seen in server.seen] == [None, "flex"]


@pytest.mark.parametrize("body", [[], None, {"usage": 7, "service_tier": {}}, {"usage": {"total_tokens": []}}])
def test_a_strange_reply_to_an_ordinary_call_breaks_nothing(
    server: ScriptedServer, remote: Remote, body: object
) -> None:
    """Nor do headers that are no numbers."""
    headers = SeenHeaders("/batches")
    remote.provider.http.on_reply = headers.see
    server.otherwise = as_json(body, x_ratelimit_limit_tokens="9" * 50, x_ratelimit_remaining_tokens="many")
    ordinary_calls(remote, headers, "m")
    assert found(remote.report)["an ordinary call"] == "its tier is not told; no header tells the tokens that are left"
