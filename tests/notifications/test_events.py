"""Which events are written: each once, in the transaction of its cause."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from batchkit.emulator import Scenario
from batchkit.emulator.faults.answers import WrongAnswers
from batchkit.emulator.faults.calls import PlanGate
from batchkit.emulator.faults.lines import FailLines
from batchkit.engine.announcements import Announcer
from batchkit.engine.waves import Done, DriveUntil, Wait
from batchkit.errors import AccountRefused, ProviderUnreachable, StoreUnavailable
from batchkit.evaluation import runs
from batchkit.models import WorkloadId
from batchkit.notifications.delivery import Delivery
from batchkit.notifications.targets import WEB, WebTarget
from batchkit.steps.cancel import cancel
from batchkit.store import notifications
from batchkit.store.engine import Store
from tests.evaluation.support import SMALL, reviews_suite
from tests.workloads import write_mixed


def is_written(runner):
    """Return whether an event waits for its delivery."""
    with runner.store.read() as connection:
        return notifications.is_due(connection, WEB, since=0)


def submitted(harness, runner, tmp_path, count=60):
    """Submit a workload, and do no more."""
    workload = harness.split(write_mixed(tmp_path / "input.jsonl", count), shard_lines=20)
    runner.process(workload.id, until=DriveUntil.SUBMITTED)
    return workload


def test_two_runners_that_finish_one_workload_report_it_once(open_harness, hook, tmp_path):
    """Both drive it at the same time until it is finished, and both deliver."""
    harness = open_harness()
    two = [harness.open_runner(notify_url=hook.url) for _ in range(2)]
    workload = submitted(harness, two[0], tmp_path)
    with ThreadPoolExecutor(2) as pool:
        assert all(end.is_finished for end in pool.map(lambda runner: runner.process(workload.id), two))
        list(pool.map(lambda runner: runner.notify(10), two))
    (report,) = hook.reports
    assert (report["version"], report["kind"], report["workload"], report["exit_code"]) == (1, "finished", "work", 0)
    assert (report["requests"]["succeeded"], report["requests"]["total"]) == (60, 60)
    assert hook.headers[0]["X-Batchkit-Event"] == report["id"]


def test_the_event_is_committed_with_the_merge_that_finishes_the_workload(open_harness, hook, tmp_path):
    """A process that is killed right after that commit has written the event, although its drive is not over."""
    harness = open_harness()
    runner = harness.open_runner(notify_url=hook.url)
    workload = submitted(harness, runner, tmp_path, count=20)
    drive = runner.drive(workload.id)
    while not runner.progress(workload.id).is_finished:
        assert not is_written(runner)
        action = drive.next()
        assert not isinstance(action, Done)
        if not isinstance(action, Wait):
            drive.report(runner.run_waves(action))
    assert is_written(runner)


def test_a_workload_with_failed_requests_is_reported_with_codes_but_without_quotations(open_harness, hook):
    """Codes and counts are reported; the provider's messages, which may quote a prompt or an answer, are not."""
    harness = open_harness(FailLines(count=2, status=400, message="no such colour: octarine"))
    harness.runner = harness.open_runner(notify_url=hook.url)
    harness.run(40)
    harness.runner.notify(10)
    (report,) = hook.reports
    assert (report["kind"], report["exit_code"], report["requests"]["failed"]) == ("failed", 3, 6)
    assert [(found["status_code"], found["count"]) for found in report["failures"]] == [(400, 6)]
    assert b"octarine" not in hook.bodies[0]
    assert harness.emulator.api_key.encode() not in hook.bodies[0]


def test_a_second_end_is_a_second_event_but_a_second_report_is_none(open_harness, hook):
    """Driving a finished workload again reports nothing; sending its failed requests again reports their end."""
    harness = open_harness(FailLines(count=2, status=400))
    silent = harness.runner
    ended = harness.run(40)
    harness.runner = harness.open_runner(notify_url=hook.url)
    assert harness.runner.process(ended.workload.id).is_finished
    harness.runner.notify(10)
    assert hook.kinds == [], "it was finished before anybody wanted to know"
    harness.emulator.set_scenario(Scenario())
    silent.reopen("work", failed=True)
    harness.runner.process(ended.workload.id)
    harness.runner.notify(10)
    assert hook.kinds == ["finished"]


def test_a_cancelled_workload_reports_its_end(open_harness, hook, tmp_path):
    """It is finished, but not every request succeeded."""
    harness = open_harness()
    runner = harness.open_runner(notify_url=hook.url)
    workload = harness.split(write_mixed(tmp_path / "input.jsonl", 20), shard_lines=20)
    runner.request_cancel("work")
    cancel(runner._context(), workload.id)
    assert is_written(runner), "in the transaction that cancelled the last request"
    assert runner.process(workload.id).is_finished
    runner.notify(10)
    assert hook.kinds == ["failed"]
    assert hook.reports[0]["requests"]["cancelled"] == 20


def test_an_outage_that_stops_a_command_is_reported_once(open_harness, hook, tmp_path):
    """A second drive of the same process with the same outage is not reported; the next process's is."""
    harness = open_harness()
    options = {"notify_url": hook.url, "outage_seconds": 0.2, "http_attempts": 1, "base_url": "http://127.0.0.1:9/v1"}
    runner = harness.open_runner(**options)
    workload = harness.split(write_mixed(tmp_path / "input.jsonl", 20))
    for _ in range(2):
        with pytest.raises(ProviderUnreachable):
            runner.process(workload.id)
    runner.notify(10)
    (report,) = hook.reports
    assert (report["kind"], report["workload"], report["exit_code"]) == ("stopped", "work", 4)
    assert "could not be reached" in report["reason"]
    assert report["requests"]["total"] == 20
    other = harness.open_runner(**options)
    with pytest.raises(ProviderUnreachable):
        other.process(workload.id)
    other.notify(10)
    assert hook.kinds == ["stopped", "stopped"]
    assert hook.reports[0]["id"] != hook.reports[1]["id"]


def test_a_refusal_of_the_account_is_reported_once_by_all_passes(open_harness, hook, tmp_path):
    """Schedules and workers continue to make passes; they send one event until the next merge."""
    harness = open_harness(PlanGate())
    workload = harness.split(write_mixed(tmp_path / "input.jsonl", 20))
    two = [harness.open_runner(notify_url=hook.url) for _ in range(2)]
    for runner in two * 2:
        with pytest.raises(AccountRefused):
            runner.process(workload.id, until=DriveUntil.ONE_PASS)
        runner.notify(10)
    assert [(report["kind"], report["exit_code"]) for report in hook.reports] == [("stopped", 4)]


def test_an_outage_ends_a_single_pass_and_is_no_event(open_harness, hook, tmp_path):
    """The next pass of the schedule comes automatically: no command has given up."""
    harness = open_harness()
    runner = harness.open_runner(notify_url=hook.url, http_attempts=1, base_url="http://127.0.0.1:9/v1")
    workload = harness.split(write_mixed(tmp_path / "input.jsonl", 20))
    runner.process(workload.id, until=DriveUntil.ONE_PASS)
    runner.notify(10)
    assert hook.kinds == []


def test_a_stop_because_of_an_unreachable_database_is_reported_without_it(hook):
    """The event cannot be written, so the process delivers it from memory."""
    store = Store("postgresql+psycopg://nobody@127.0.0.1:1/nothing")
    announcer = Announcer(store, [WEB], owner="me", clock=lambda: 1.0)
    for _ in range(2):
        announcer.ended(WorkloadId(3), StoreUnavailable("the database is away"), is_finished=False, is_one_pass=False)
    passing = Announcer(store, [WEB], owner="me", clock=lambda: 1.0)
    passing.ended(WorkloadId(3), StoreUnavailable("the database is away"), is_finished=False, is_one_pass=True)
    assert passing.take_unsaved() == [], "a single pass gives nothing up"
    target = WebTarget(hook.url, is_slack=False, allow_insecure_http=False)
    delivery = Delivery(store, {WEB: target}, owner="me", clock=lambda: 1.0, wait=lambda _seconds: None)
    delivery.deliver(10, announcer.take_unsaved())
    store.close()
    assert [(report["kind"], report["reason"]) for report in hook.reports] == [("stopped", "the database is away")]


def test_a_regressed_evaluation_is_reported_once_and_its_workloads_are_not(open_harness, hook, tmp_path):
    """The verdict is the event, whichever process concludes the run."""
    harness = open_harness()
    runner = harness.runner = harness.open_runner(notify_url=hook.url)

    def night():
        evaluation = runs.begin(runner, reviews_suite(tmp_path, 60))
        while (workload := runs.next_workload(runner, evaluation)) is not None:
            runner.process(workload.id)
        runs.conclude(runner, evaluation)
        runs.conclude(harness.open_runner(notify_url=hook.url), evaluation)
        runner.notify(10)

    night()
    wrong = WrongAnswers(
        contents=('{"label":"positive"}', '{"label":"negative"}'), fraction=0.4, models=frozenset({SMALL})
    )
    harness.emulator.set_scenario(Scenario(faults=(wrong,)))
    night()
    told = [(report["kind"], report["run"], report["exit_code"]) for report in hook.reports]
    assert told == [("finished", "reviews-1", 0), ("regressed", "reviews-2", 5)]
    end = hook.reports[1]["evaluation"]
    assert (end["suite"], end["verdict"], end["previous"]) == ("reviews", "regressed", "reviews-1")


def test_without_a_target_nothing_is_written(open_harness):
    """The outbox of a user without notifications stays empty."""
    harness = open_harness()
    harness.run(20)
    assert not is_written(harness.runner)
