"""How long an outage has lasted, and when the command gives up."""

from __future__ import annotations

from typing import Any

import pytest

from batchkit.engine.outage import DriveHealth
from batchkit.errors import ProviderUnreachable
from batchkit.steps.context import StepReport
from tests.cli.snapshots import NOW

LIMIT = 15.0
AWAY = "GET /batches: no connection"


def drive_health() -> DriveHealth:
    """Return the state that a drive keeps, with a limit of 15 s."""
    return DriveHealth(lambda: NOW, limit_seconds=LIMIT, first_wait_seconds=1.0)


def away(**fields: Any) -> StepReport:
    """Report a pass during which the provider was unreachable since ``NOW``."""
    values: dict[str, Any] = {"outage": AWAY, "outage_since": NOW}
    return StepReport({}, **(values | fields))


def test_an_outage_is_measured_from_the_first_failed_call():
    """A pass retries a call for seconds: they count for the limit and in the message."""
    health = drive_health()
    health.after_pass(away(), NOW + 7, wait_seconds=1)
    trouble = health.trouble
    assert trouble is not None
    assert (trouble.since, trouble.gives_up_at) == (NOW, NOW + LIMIT)
    assert trouble.what == f"the provider cannot be reached: {AWAY}"
    with pytest.raises(ProviderUnreachable) as caught:
        health.after_pass(away(), NOW + 15, wait_seconds=1)
    assert caught.value.message == f"the provider could not be reached for 15 s: {AWAY}"


def test_an_implausible_start_is_not_counted():
    """A start in the future, or far in the past because the machine slept, is ignored."""
    for since, counted in ((None, 0.0), (NOW + 99, 0.0), (NOW - 9_000, 300.0)):
        health = DriveHealth(lambda: NOW, limit_seconds=900.0, first_wait_seconds=1.0)
        health.after_pass(away(outage_since=since), NOW, wait_seconds=1)
        trouble = health.trouble
        assert trouble is not None
        assert (trouble.since, trouble.gives_up_at) == (NOW - counted, NOW + 900 - counted)


def test_a_provider_that_answers_is_not_called_unreachable():
    """It was reached, and did not answer as it should."""
    health = drive_health()
    endless = away(outage="the list cannot be read", is_reached=True)
    health.after_pass(endless, NOW + 1, wait_seconds=1)
    assert health.trouble is not None
    assert health.trouble.what == "the provider does not answer as it should: the list cannot be read"
    with pytest.raises(ProviderUnreachable, match="the provider did not answer as it should for 20 s: the list"):
        health.after_pass(endless, NOW + 20, wait_seconds=1)


def test_merged_reports_have_the_earliest_start_and_the_last_message():
    """The message is that of the last report, including whether the provider was reached."""
    reached = away(outage="a list without an end", outage_since=NOW + 5, is_reached=True)
    total = StepReport({}) + away() + reached + StepReport({"polled": 0})
    assert (total.outage, total.outage_since, total.is_reached) == ("a list without an end", NOW, True)
    total = reached + away(outage_since=None)
    assert (total.outage, total.outage_since, total.is_reached) == (AWAY, NOW + 5, False)
