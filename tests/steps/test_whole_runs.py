"""Whole runs through what is no quirk of an API: plain runs, broken networks, exhausted budgets, adjustments after expiry."""

from __future__ import annotations

import pytest

from batchkit.emulator.faults import calls, lines
from batchkit.errors import ProviderUnreachable
from tests.provider.conftest import tls_server as tls_server  # noqa: PLC0414 - a fixture
from tests.steps.conftest import SPEED
from tests.steps.seen import COUNT, run, taking_turns
from tests.workloads import chat_line

ROUGH = {
    "replies of uploads lost": [calls.LoseReply(on=("files.create",))],
    "uploads reset in their middle": [calls.CutUploads(after_bytes=500, times=1)],
    "connections closed before anything": [calls.DropConnection(on=("files.create", "files.content"), times=1)],
    "answers that are slow": [calls.SlowReplies(on=("files", "batches.list"), seconds=0.05)],
    "answers slower than anybody waits": [calls.SlowReplies(on=("files.create",), seconds=0.4, times=1)],
}


@pytest.mark.parametrize("count", [1, 60])
def test_a_plain_run(open_harness, count):
    """Nothing fails: one batch per shard, one attempt per request, one line per request in input order."""
    requests = [chat_line(f"row-{number}", f"Line {number}") for number in range(count)]

    # A provider day takes seconds here, so that a machine that stalls for a second does not look like a provider fault.
    harness = open_harness(speed=SPEED / 20)
    harness.runner = harness.open_runner(stuck_seconds=60, settle_seconds=20)
    seen = run(harness, requests, shard_lines=20)

    seen.check_all_succeeded()
    assert {line["attempts"] for line in seen.lines} == {1}
    assert len(seen.ledger.batches) == -(-count // 20)
    assert seen.ledger.totals.requests_executed == count
    assert seen.notes == []


@taking_turns("faults", ROUGH)
def test_a_network_that_breaks(open_harness, faults):
    """Uploads, polls and downloads are repeated until they succeed; every request is executed once."""
    harness = open_harness(*faults)
    harness.runner = harness.open_runner(http_timeout_seconds=0.25)

    seen = run(harness)

    seen.check_all_succeeded()
    assert len(seen.ledger.batches) == 2
    assert seen.ledger.totals.requests_executed == COUNT


@taking_turns(
    "fault",
    {
        "a server error": lines.FailLines(count=2, attempts=1, status=503),
        "a success without a body": lines.HollowSuccesses(count=2, attempts=1, how="null-body"),
        "a success without a response": lines.HollowSuccesses(count=2, attempts=1, how="null-response"),
        "a success with an error": lines.HollowSuccesses(count=2, attempts=1),
        "a time-out": lines.TimeOutLines(count=2, attempts=1),
    },
)
def test_a_request_that_fails_once_is_sent_again(open_harness, fault):
    """A temporary error costs that request one more attempt; no success is bought twice."""
    seen = run(open_harness(fault))

    seen.check_all_succeeded()
    assert [line["attempts"] for line in seen.lines].count(2) == 4
    assert seen.ledger.totals.requests_executed == COUNT + 4


def test_a_request_that_always_fails_ends(open_harness):
    """A request whose every attempt gets a server error fails after exactly ``max_attempts`` attempts."""
    seen = run(
        open_harness(lines.FailLines(custom_ids=frozenset({"row-0000000"}), status=500, code="oops")), max_attempts=3
    )

    seen.check_failed(1, "oops")
    assert (seen.lines[0]["status"], seen.lines[0]["attempts"]) == ("failed", 3)
    assert seen.ledger.executions("row-0000000") == 3


def test_a_request_that_always_expires_ends(open_harness):
    """A request that expires every time fails after its own budget, with expiry as the reason."""
    seen = run(open_harness(lines.ExpireLines(custom_ids=frozenset({"row-0000000"}))), max_expiries=2)

    seen.check_failed(1, "batch_expired")
    assert (seen.lines[0]["status"], seen.lines[0]["attempts"]) == ("failed", 2)
    assert seen.ledger.executions("row-0000000") == 0


def test_after_expiry_shards_are_smaller_and_windows_longer(open_harness):
    """Expired requests are sent again with half the lines and twice the window, within the user's limit."""
    requests = [chat_line(f"row-{number}", f"Line {number}") for number in range(300)]

    seen = run(open_harness(lines.ExpireLines(attempts=1)), requests, shard_lines=300, max_window="36h")

    assert [(batch.window, batch.total) for batch in seen.ledger.batches] == [("24h", 300), ("36h", 150), ("36h", 150)]


@taking_turns(
    "address,reason",
    {
        "a name that nobody has": ("https://no-such-host.invalid/openai/v1", "ConnectError"),
        "a certificate that nobody has signed": ("tls_server", "CERTIFICATE_VERIFY_FAILED"),
    },
)
def test_an_address_that_cannot_be_reached_safely_ends_the_run(open_harness, request, address, reason):
    """The run ends (exit code 4) and says why; nothing was sent, and with the right address it finishes."""
    harness = open_harness()
    right, wrong = harness.runner, address if "://" in address else request.getfixturevalue(address).base_url
    harness.runner = harness.open_runner(base_url=wrong, outage_seconds=0.1, http_attempts=1)

    with pytest.raises(ProviderUnreachable, match=f"could not be reached .*no connection .*{reason}") as caught:
        run(harness)

    assert caught.value.exit_code == 4
    assert caught.value.hint == "nothing is lost: run the same command again later"
    harness.runner = right
    seen = run(harness)
    seen.check_all_succeeded()
    assert seen.ledger.calls["files.create"] == seen.ledger.calls["batches.create"] == 2
