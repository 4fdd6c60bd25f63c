from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest
from batchkit.flows.reporting import PrefectObserver, ReportThread

from batchkit.engine.waves import WaveKind
from batchkit.errors import ProviderUnreachable
from batchkit.models import WorkloadId
from batchkit.steps.context import StepReport
from tests.flows.support import Kept, make_batch, make_progress, make_wait, make_wave, make_workload

NAMES = {WorkloadId(1): "work"}


class HangingSink:
    """Never returns from its first call until it is released."""

    def __init__(self):
        self.let_go = threading.Event()

    def __getattr__(self, name):
        return lambda *_arguments, **_keywords: self.let_go.wait(30)


def say_everything(reporter):
    """Call every method that reports."""
    reporter.tag("batchkit")
    reporter.wave_ended(make_wave(), StepReport({"merged": 2, "expired": 3}, ("odd",)))
    reporter.wave_ended(make_wave(), ValueError("a wave that failed"))
    reporter.waiting(WorkloadId(1), make_wait(5))
    reporter.named_failed("work", ProviderUnreachable("no connection"))
    reporter.finished(make_progress(attention=(make_batch(),)))


def test_a_sink_that_hangs_delays_nothing():
    """Reports to a server that does not answer return at once, however many, and closing takes no longer than allowed."""
    sink = HangingSink()
    thread = ReportThread()
    reporter = PrefectObserver(sink, thread, NAMES)
    started = time.monotonic()

    for _ in range(100):
        say_everything(reporter)
    thread.close(0.05)

    assert time.monotonic() - started < 2
    sink.let_go.set()


@pytest.mark.parametrize("trouble", [ConnectionError("refused"), RuntimeError("anything"), RecursionError()])
def test_an_error_of_the_sink_stays_in_its_thread(trouble):
    """Every exception of the sink stays in the reporter's thread, and the thread continues."""
    sink = Kept()
    sink.trouble = trouble
    thread = ReportThread()
    reporter = PrefectObserver(sink, thread, NAMES)

    say_everything(reporter)
    thread.close()

    assert len(sink.of("event")) == 3


def test_an_error_of_the_log_does_not_reach_the_work():
    """A log line that cannot be written does not affect the work."""

    def broken(_line):
        raise ValueError("closed file")

    thread = ReportThread()
    reporter = PrefectObserver(Kept(), thread, NAMES, log=broken)
    say_everything(reporter)
    thread.close()


def test_progress_pauses_after_a_failure(clock):
    """After a failure, progress reports pause for a while; important reports are tried anyway."""
    sink = Kept()
    sink.trouble = ConnectionError("refused")
    thread = ReportThread(clock=clock)
    reporter = PrefectObserver(sink, thread, NAMES, clock=clock)
    reporter.tag("batchkit")
    reporter.waiting(WorkloadId(1), make_wait(5))
    reporter.finished(make_progress())
    thread.close()

    assert [name for name, _arguments, _keywords in sink.calls] == ["tag", "progress", "markdown", "event"]
    assert sink.of("progress")[0][1] == 100


def test_progress_is_shown_periodically(clock):
    """Snapshots are written every ten seconds, not at every wait, and an unchanged one is not shown again."""
    sink = Kept()
    thread = ReportThread(clock=clock)
    reporter = PrefectObserver(sink, thread, NAMES, clock=clock)

    for _ in range(30):
        reporter.waiting(WorkloadId(1), make_wait(5))
        clock.advance(1)
    thread.close()

    assert [percent for _key, percent, _line in sink.of("progress")] == [30]


def test_progress_is_read_after_a_wave_periodically(clock):
    """While waves follow each other without a wait, a snapshot is read every ten seconds, by the sending thread."""
    sink = Kept()
    thread = ReportThread(clock=clock)
    read_in: list[str] = []

    def read(workload_id):
        read_in.append(threading.current_thread().name)
        return make_progress(make_workload(int(workload_id)), succeeded=len(read_in))

    reporter = PrefectObserver(sink, thread, NAMES, read=read, clock=clock)
    for _ in range(25):
        reporter.wave_ended(make_wave(), StepReport({"merged": 2}))
        clock.advance(1)
    thread.close()

    assert [percent for _key, percent, _line in sink.of("progress")] == [10, 20, 30]
    assert set(read_in) == {"batchkit-reporting"}


def test_batches_with_problems_are_shown_rarely(clock):
    """The table of batches with problems is written at most every ten minutes, and at the end."""
    sink = Kept()
    thread = ReportThread(clock=clock)
    reporter = PrefectObserver(sink, thread, NAMES, clock=clock)

    for minute in range(15):
        progress = make_progress(succeeded=4, attention=(make_batch(expires_at=minute),))
        reporter.waiting(WorkloadId(1), replace(make_wait(5), progress=progress))
        clock.advance(60)
    reporter.finished(make_progress(attention=(make_batch(),)))
    thread.close()

    assert [key for key, _rows, _description in sink.of("table")] == ["batchkit-attention-work"] * 3


def test_expiry_and_resubmission_are_events():
    """Expired and resubmitted requests are reported as events that name the workload."""
    sink = Kept()
    thread = ReportThread()
    reporter = PrefectObserver(sink, thread, NAMES)
    reporter.wave_ended(make_wave(), StepReport({"merged": 2, "expired": 7}))
    reporter.wave_ended(make_wave(WaveKind.RESUBMIT, 0), StepReport({"resubmitted": 7, "shards cut": 1}))
    thread.close()

    assert [
        (name, resource["prefect.resource.id"], payload["requests"]) for name, resource, payload in sink.of("event")
    ] == [
        ("batchkit.requests.expired", "batchkit.workload.work", 7),
        ("batchkit.requests.resubmitted", "batchkit.workload.work", 7),
    ]


@pytest.mark.parametrize(("failed", "outcome"), [(0, "succeeded"), (2, "some-failed")])
def test_a_finished_workload_is_an_event_and_a_summary(failed, outcome):
    """The end of a workload is reported with its counts and its outcome."""
    sink = Kept()
    thread = ReportThread()
    reporter = PrefectObserver(sink, thread, NAMES)
    reporter.finished(make_progress(succeeded=10 - failed, failed=failed))
    thread.close()

    ((name, resource, payload),) = sink.of("event")
    assert (name, resource["batchkit.outcome"]) == ("batchkit.workload.finished", outcome)
    assert (payload["succeeded"], payload["failed"]) == (10 - failed, failed)
    assert sink.of("markdown")[0][0] == "batchkit-summary-work"


def test_a_run_that_stops_early_is_not_reported_as_finished():
    """A run that ends with the workload unfinished shows its progress and nothing more."""
    sink = Kept()
    thread = ReportThread()
    reporter = PrefectObserver(sink, thread, NAMES)
    reporter.finished(make_progress(succeeded=4))
    thread.close()

    assert [name for name, _arguments, _keywords in sink.calls] == ["progress"]


def test_the_message_of_an_unexpected_error_is_not_sent():
    """Only the type of an unexpected error is reported: its message may contain anything."""
    sink = Kept()
    thread = ReportThread()
    reporter = PrefectObserver(sink, thread, NAMES)
    reporter.named_failed("work", RuntimeError("postgresql://me:secret@host"))
    reporter.named_failed("work", ProviderUnreachable("no connection"))
    thread.close()

    assert [payload["message"] for _name, _resource, payload in sink.of("event")] == ["", "no connection"]
