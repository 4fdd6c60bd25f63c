"""Quirks of HTTP calls: lost replies, refusals, waits, and misleading lists. See ``test_quirks`` for the table."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import pytest

from batchkit.emulator.faults import batches, calls
from batchkit.errors import Forbidden, ProviderUnreachable
from batchkit.provider.groq.dialect import GROQ
from tests.steps.seen import COUNT, run, taking_turns
from tests.workloads import chat_line

CREATE = ("batches.create",)


@taking_turns(
    "faults",
    {
        "connection closed": [calls.LoseReply(on=CREATE, how="close")],
        "500": [calls.LoseReply(on=CREATE, how="500")],
        "a page with 502": [calls.LoseReply(on=CREATE, how="502")],
        "silence": [calls.LoseReply(on=CREATE, how="hang")],
        "missing from the list at first": [calls.LoseReply(on=CREATE), batches.ListLag()],
        "no metadata": [calls.LoseReply(on=CREATE), batches.OmitFields()],
    },
)
def test_quirk_21_a_create_without_an_answer_is_searched_for(open_harness, faults):
    """The batch exists although its creation got no reply: it is found in the list and adopted, never sent again."""
    harness = open_harness(*faults)
    harness.runner = harness.open_runner(http_timeout_seconds=0.3, settle_seconds=2)

    seen = run(harness)

    seen.check_all_succeeded()
    assert seen.noted("no answer to the creation of its batch, it will be looked for")
    assert any(entry.endswith("found in the list") for entry in seen.journal)
    assert seen.ledger.calls["batches.create"] == 2


@taking_turns(
    "fault",
    {
        "500": calls.RefuseCalls(on=CREATE, times=1),
        "a page with 503": calls.GatewayErrors(on=CREATE, times=1, status=503),
        "connection closed": calls.DropConnection(on=CREATE, times=1),
    },
)
def test_quirk_21_29_a_create_that_was_never_carried_out_is_sent_after_the_grace(open_harness, fault):
    """The creation is repeated only when a complete list, read after the grace period, shows no batch."""
    harness = open_harness(fault)
    harness.runner = harness.open_runner(settle_seconds=0.3)

    seen = run(harness)

    seen.check_all_succeeded()
    assert seen.noted("no batch was created, it will be submitted")
    assert (len(seen.ledger.batches), seen.ledger.calls["batches.create"]) == (2, 3)


@taking_turns("how", {"the same page again": "repeat", "400 for the cursor": "refuse-cursor"})
def test_quirk_24_a_list_without_an_end_proves_nothing(open_harness, how):
    """While the list cannot be read to its end, a lost batch is neither given up nor sent again (exit code 4).

    As soon as it can be read, the same run adopts the batch.
    """
    harness = open_harness(calls.LoseReply(on=CREATE, times=2), calls.ListPages(how=how), limits={"page_size": 1})
    harness.runner = harness.open_runner(settle_seconds=0.2, outage_seconds=0.4)

    with pytest.raises(ProviderUnreachable) as caught:
        run(harness)
    # The provider answers, so it is not reported as unreachable.
    said = r"the provider did not answer as it should for \d+ s: (1 batch creation was|2 batch creations were) not answered, and the list of batches"
    assert re.match(said, caught.value.message)

    assert caught.value.exit_code == 4
    assert harness.emulator.ledger().calls["batches.create"] == 2
    harness.emulator.set_scenario("clean")
    seen = run(harness)
    seen.check_all_succeeded()
    assert seen.ledger.calls["batches.create"] == 2


def test_quirk_25_more_batches_than_fit_one_question_are_asked_for_in_several(open_harness):
    """No call has more ids than the provider accepts, in whatever order it answers (the limit is scaled down to two)."""
    harness = open_harness(calls.IdFilter(on=("files.list",)), limits={"ids_per_query": 2})
    harness.runner.provider.dialect = replace(GROQ, api=replace(GROQ.api, ids_per_status_call=2))

    seen = run(harness, shard_lines=5)

    seen.check_all_succeeded()
    assert len(seen.ledger.batches) == 5
    assert "batches.retrieve" not in seen.ledger.calls


def test_quirk_26_the_free_plan_is_told_from_a_bad_key(open_harness):
    """403 not_available_for_plan ends the run at once (exit code 4) and says what to do; models can still be listed.

    With the plan in place, the same run finishes.
    """
    harness = open_harness(calls.PlanGate())

    with pytest.raises(Forbidden) as caught:
        run(harness)

    assert (caught.value.exit_code, caught.value.code) == (4, "not_available_for_plan")
    assert "upgrade the organisation to the Developer tier" in (caught.value.hint or "")
    assert harness.runner.provider.list_models()
    assert harness.emulator.ledger().totals.uploads == 0
    harness.emulator.set_scenario("clean")
    run(harness).check_all_succeeded()


@taking_turns(
    "fault",
    {
        "seconds": calls.RateLimit(on=("files.create", *CREATE), retry_after=0.05),
        "a Go duration": calls.RateLimit(on=("files.create", *CREATE), retry_after=0.05, form="duration"),
        "an HTTP date": calls.RateLimit(on=("files.create",), retry_after=1, form="date"),
        "only in the words": calls.RateLimit(on=("files.create", *CREATE), retry_after=None, wait="50ms"),
        "only in the reset header": calls.RateLimit(on=CREATE, retry_after=None, wait="", reset="50ms"),
        "nowhere": calls.RateLimit(on=CREATE, retry_after=None, wait=""),
    },
)
def test_quirk_27_a_rate_limit_is_waited_for(open_harness, fault):
    """The wait is kept however it is written; it costs no attempt, and no batch is created twice."""
    seen = run(open_harness(fault))

    seen.check_all_succeeded()
    assert {line["attempts"] for line in seen.lines} == {1}
    assert len(seen.ledger.batches) == 2
    assert seen.noted("the provider asks to wait") is ("batches.create" in fault.on)


@taking_turns(
    "waits",
    {
        "retry-after": {"retry_after": 578},
        "in words": {"retry_after": None, "wait": "9m38.016s"},
        "reset header": {"retry_after": None, "wait": "", "reset": "9m38.016s"},
    },
)
def test_quirk_27_a_long_wait_is_left_to_a_later_run(open_harness, waits):
    """A daily limit is neither slept through nor polled: the run ends when its time is up (exit code 4)."""
    harness = open_harness(calls.RateLimit(on=CREATE, times=None, **waits))
    harness.runner = harness.open_runner(poll_interval_seconds=1_000, max_poll_interval_seconds=1_000)

    # No wait is needed, because nothing is pending before the limit ends.
    seen = run(harness, stop_at=time.time() + 500)

    assert seen.exit_code == 4
    assert seen.ledger.calls["batches.create"] == 2
    assert seen.noted("Rate limit reached")
    harness.emulator.set_scenario("clean")
    harness.runner = harness.open_runner()
    harness.runner.clock = lambda: time.time() + 600
    run(harness).check_all_succeeded()


@pytest.mark.parametrize(
    ("on", "note"),
    [("batches.create", "shard 1 was refused"), ("files.create", "the provider takes no file that large")],
)
def test_quirk_27_a_413_for_tokens_waits_or_cuts_smaller(open_harness, on, note):
    """A file above the token limit waits, or its requests are sent again in halves; no request fails because of it."""
    seen = run(open_harness(calls.RequestTooLarge(on=(on,), times=1)), [chat_line("one"), chat_line("two")])

    seen.check_all_succeeded()
    assert seen.noted(note)
    assert len(seen.ledger.batches) == (1 if on == "batches.create" else 2)


def test_quirk_28_a_lack_of_capacity_at_creation_is_waited_for(open_harness):
    """498 asks to retry later and does not refuse the requests."""
    fault = calls.RefuseCalls(on=CREATE, times=1, status=498, type="capacity_exceeded", code="capacity_exceeded")

    seen = run(open_harness(fault))

    seen.check_all_succeeded()
    assert seen.noted("the provider asks to wait")
    assert (len(seen.ledger.batches), seen.ledger.totals.requests_executed) == (2, COUNT)
