from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from batchkit.flows.reporting import Reporter

from batchkit.engine.driver import WaveKind
from batchkit.errors import ProviderUnreachable
from batchkit.models import WorkloadId
from batchkit.steps.context import StepReport
from tests.flows.support import make_batch, make_progress, make_wait, make_wave

NAMES = {WorkloadId(1): "work"}


class RecordingSink:
    """Keeps what it is given; raises ``trouble`` while there is one."""

    def __init__(self):
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.trouble: Exception | None = None

    def __getattr__(self, name):
        def call(*arguments, **keywords):
            self.calls.append((name, arguments, keywords))
            if self.trouble is not None:
                raise self.trouble

        return call

    def of(self, name):
        """Give the arguments of the calls of a name."""
        return [arguments for called, arguments, _keywords in self.calls if called == name]


class HangingSink:
    """Never comes back from its first call until it is let go."""

    def __init__(self):
        self.let_go = threading.Event()

    def __getattr__(self, name):
        return lambda *_arguments, **_keywords: self.let_go.wait(30)


def say_everything(reporter):
    """Call every method that reports."""
    reporter.tag("batchkit")
    reporter.wave(make_wave(), StepReport({"merged": 2, "expired": 3}, ("odd",)))
    reporter.wait(make_wait(5))
    reporter.picture(make_progress(succeeded=4))
    reporter.failed("work", ProviderUnreachable("no connection"))
    reporter.finished(make_progress(attention=(make_batch(),)))


def test_a_sink_that_hangs_holds_up_nothing():
    """Reports to a server that does not answer return at once, however many, and closing takes no longer than allowed."""
    sink = HangingSink()
    reporter = Reporter(sink, NAMES)
    started = time.monotonic()

    for _ in range(100):
        say_everything(reporter)
    reporter.close(0.05)

    assert time.monotonic() - started < 2
    sink.let_go.set()


@pytest.mark.parametrize("trouble", [ConnectionError("refused"), RuntimeError("anything"), RecursionError()])
def test_a_sink_that_raises_is_not_heard_of(trouble):
    """Whatever the sink raises stays in the reporter's thread, which goes on."""
    sink = RecordingSink()
    sink.trouble = trouble
    reporter = Reporter(sink, NAMES)

    say_everything(reporter)
    reporter.close()

    assert len(sink.of("event")) == 3


def test_a_log_that_raises_is_not_heard_of():
    """A log line that cannot be written does not reach the work."""

    def broken(_line):
        raise ValueError("closed file")

    reporter = Reporter(RecordingSink(), NAMES, log=broken)
    say_everything(reporter)
    reporter.close()


def test_progress_pauses_after_a_failure(clock):
    """After a failure, passing reports are left out for a while; those that matter are tried all the same."""
    sink = RecordingSink()
    sink.trouble = ConnectionError("refused")
    reporter = Reporter(sink, NAMES, clock=clock)
    reporter.tag("batchkit")
    reporter.picture(make_progress(succeeded=1))
    reporter.finished(make_progress())
    reporter.close()

    assert [name for name, _arguments, _keywords in sink.calls] == ["tag", "progress", "markdown", "event"]
    assert sink.of("progress")[0][1] == 100


def test_progress_is_shown_now_and_then(clock):
    """Pictures are wanted every ten seconds, not at every wait, and one that says the same is not shown again."""
    sink = RecordingSink()
    reporter = Reporter(sink, NAMES, clock=clock)

    for _ in range(30):
        reporter.wait(make_wait(5))
        clock.advance(1)
    reporter.picture(make_progress(succeeded=9))
    reporter.close()

    assert [percent for _key, percent, _line in sink.of("progress")] == [30, 90]


def test_batches_that_need_attention_are_shown_seldom(clock):
    """The table of troubled batches is written at most every ten minutes, and at the end."""
    sink = RecordingSink()
    reporter = Reporter(sink, NAMES, clock=clock)

    for minute in range(15):
        reporter.picture(make_progress(succeeded=4, attention=(make_batch(expires_at=minute),)))
        clock.advance(60)
    reporter.finished(make_progress(attention=(make_batch(),)))
    reporter.close()

    assert [key for key, _rows, _description in sink.of("table")] == ["batchkit-attention-work"] * 3


def test_expiry_and_resubmission_are_events():
    """What expired and what was resubmitted is told as events that name the workload."""
    sink = RecordingSink()
    reporter = Reporter(sink, NAMES)
    reporter.wave(make_wave(), StepReport({"merged": 2, "expired": 7}))
    reporter.wave(make_wave(WaveKind.RESUBMIT, 0), StepReport({"resubmitted": 7, "shards cut": 1}))
    reporter.close()

    assert [
        (name, resource["prefect.resource.id"], payload["requests"]) for name, resource, payload in sink.of("event")
    ] == [
        ("batchkit.requests.expired", "batchkit.workload.work", 7),
        ("batchkit.requests.resubmitted", "batchkit.workload.work", 7),
    ]


@pytest.mark.parametrize(("failed", "outcome"), [(0, "succeeded"), (2, "some-failed")])
def test_a_finished_workload_is_an_event_and_a_summary(failed, outcome):
    """The end of a workload is told with its counts and how it came out."""
    sink = RecordingSink()
    reporter = Reporter(sink, NAMES)
    reporter.finished(make_progress(succeeded=10 - failed, failed=failed))
    reporter.close()

    ((name, resource, payload),) = sink.of("event")
    assert (name, resource["batchkit.outcome"]) == ("batchkit.workload.finished", outcome)
    assert (payload["succeeded"], payload["failed"]) == (10 - failed, failed)
    assert sink.of("markdown")[0][0] == "batchkit-summary-work"


def test_a_run_that_stops_early_is_not_told_as_finished():
    """A run that ends with the workload unfinished shows how far it came and nothing more."""
    sink = RecordingSink()
    reporter = Reporter(sink, NAMES)
    reporter.finished(make_progress(succeeded=4))
    reporter.close()

    assert [name for name, _arguments, _keywords in sink.calls] == ["progress"]


def test_the_words_of_an_unexpected_error_stay_here():
    """An error that was not meant for the user is told by its kind only: its text may hold anything."""
    sink = RecordingSink()
    reporter = Reporter(sink, NAMES)
    reporter.failed("work", RuntimeError("postgresql://me:secret@host"))
    reporter.failed("work", ProviderUnreachable("no connection"))
    reporter.close()

    assert [payload["message"] for _name, _resource, payload in sink.of("event")] == ["", "no connection"]
