"""Whole runs on each emulated provider: its dialect reads what the server sends, and nothing is bought twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from batchkit.emulator import Timing
from batchkit.emulator.dialects.providers import DIALECTS
from batchkit.emulator.faults import batches, calls, lines
from batchkit.errors import AccountRefused
from batchkit.provider.dialects import DEFAULT
from tests.emulator.dialects import two_models
from tests.steps.seen import Seen, run
from tests.workloads import chat_line

if TYPE_CHECKING:
    from tests.steps.conftest import Harness

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
OTHERS = [name for name in DIALECTS if name != DEFAULT]
#: A new file is ready at once: waiting for it is tested with the calls.
READY = Timing(file_ready_seconds=0)
#: Gateways that write the error of the server behind them into a message.
RELAYING = [name for name in OTHERS if DIALECTS[name].relayed_error is not None]
#: One for each way of listing batches and of telling whose they are.
LISTS = ["openai", "qwen", "ogx", "together", "mistral"]


def chats(harness: Harness, count: int) -> list[dict[str, Any]]:
    """Return chats with two models of the provider: one a file where a file may have one only."""
    models = two_models(harness.emulator.dialect.name)
    return [chat_line(f"row-{number:03d}", f"Line {number}", model=models[number % 8 == 7]) for number in range(count)]


def check_places(seen: Seen) -> None:
    """Check for one line for each request in the order of the input, and the answer to its own question on each."""
    assert [line["custom_id"] for line in seen.lines] == [line["custom_id"] for line in seen.sent]
    for request, line in zip(seen.sent, seen.lines, strict=True):
        if line["status"] == "succeeded":
            assert line["response"]["body"]["model"] == request["body"]["model"]
            assert request["body"]["messages"][0]["content"] in str(line["response"]["body"]["choices"])
    assert seen.ledger.totals.bought_twice == 0


@pytest.mark.parametrize("provider", OTHERS)
def test_a_workload_with_expired_and_refused_requests_ends_on_every_provider(open_harness, provider):
    """What expired is sent again, what was refused fails with its reason, the rest is answered once."""
    lateness = lines.DropLines if DIALECTS[provider].never_expires else lines.ExpireLines
    late = lateness(fraction=0.2, attempts=1)
    refused = lines.FailLines(custom_ids=frozenset({"row-003", "row-030"}), code="bad_prompt")
    harness = open_harness(late, refused, batches.ShuffleOutput(), provider=provider, timing=READY)
    seen = run(harness, chats(harness, 200), shard_lines=60)
    check_places(seen)
    code = "bad_prompt" if DIALECTS[provider].relayed_error is None else "http_400"
    assert [(line["custom_id"], line["error"]["code"]) for line in seen.with_status("failed")] == [
        ("row-003", code),
        ("row-030", code),
    ]
    assert len(seen.with_status("succeeded")) == 198
    assert {line["attempts"] for line in seen.lines} == {1, 2}
    assert seen.ledger.totals.requests_succeeded == 198


@pytest.mark.parametrize("provider", RELAYING)
def test_a_request_whose_error_passes_at_the_server_behind_is_sent_again(open_harness, provider):
    """A gateway writes one code for every error of the engine: a busy engine is asked again, a refusal is final."""
    busy = lines.FailLines(custom_ids=frozenset({"row-003"}), status=503, attempts=1)
    refused = lines.FailLines(custom_ids=frozenset({"row-005"}), status=422)
    harness = open_harness(busy, refused, provider=provider)
    seen = run(harness, chats(harness, 20), shard_lines=20)
    check_places(seen)
    assert {line["custom_id"]: line["attempts"] for line in seen.lines if line["attempts"] > 1} == {"row-003": 2}
    assert [(line["custom_id"], line["error"]["code"]) for line in seen.with_status("failed")] == [
        ("row-005", "http_422")
    ]


@pytest.mark.parametrize("provider", RELAYING)
def test_a_refused_account_at_the_server_behind_fails_no_request(open_harness, provider):
    """The engine's refusal of the gateway's own key is about no request: they wait, and are answered after the correction."""
    refused = lines.FailLines(fraction=1.0, status=401, message="Incorrect API key provided", attempts=1)
    harness = open_harness(refused, provider=provider)
    sent = chats(harness, 5)
    with pytest.raises(AccountRefused, match="http_401"):
        run(harness, sent, shard_lines=5)
    seen = run(harness, sent, shard_lines=5)
    check_places(seen)
    assert {line["status"] for line in seen.lines} == {"succeeded"}


@pytest.mark.parametrize("provider", LISTS)
def test_a_lost_creation_is_found_in_every_kind_of_list(open_harness, provider):
    """By the key in its metadata, or by its input file where a batch has no metadata; the list lacks it at first."""
    lost = calls.LoseReply(on=("batches.create",), times=2)
    harness = open_harness(lost, batches.ListLag(), provider=provider, timing=READY)
    harness.runner = harness.open_runner(settle_seconds=2)
    seen = run(harness, chats(harness, 60), shard_lines=20)
    check_places(seen)
    assert {line["status"] for line in seen.lines} == {"succeeded"}
    assert sum(entry.endswith("found in the list") for entry in seen.journal) == 2
    assert seen.ledger.calls["batches.create"] == len(seen.ledger.batches)


@pytest.mark.parametrize("provider", ["openai", "together", "mistral"])
def test_a_creation_that_never_arrived_is_sent_once(open_harness, provider):
    """A whole list without the batch, read after the grace period, is the proof."""
    harness = open_harness(calls.DropConnection(on=("batches.create",), times=1), provider=provider, timing=READY)
    harness.runner = harness.open_runner(settle_seconds=0.3)
    seen = run(harness, chats(harness, 20), shard_lines=20)
    check_places(seen)
    assert {line["status"] for line in seen.lines} == {"succeeded"}
    assert seen.noted("no batch was created, it will be submitted")


@pytest.mark.parametrize("how", ["repeat", "overlap", "empty-page", "no-paging", "null-cursor"])
def test_numbered_pages_are_read_to_their_end_or_not_believed(open_harness, how):
    """A lost creation is found behind odd pages; a list that repeats itself proves nothing, so nothing is sent again."""
    lost = calls.LoseReply(on=("batches.create",), times=1)
    harness = open_harness(lost, calls.ListPages(how=how), provider="mistral", timing=READY)
    seen = run(harness, chats(harness, 20), shard_lines=5)
    check_places(seen)
    assert {line["status"] for line in seen.lines} == {"succeeded"}
    assert seen.ledger.calls["batches.create"] == len(seen.ledger.batches)
