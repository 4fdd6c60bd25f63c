"""Evaluations on a schedule: submitted without waiting, collected later, shown in Prefect, and safe under odd schedules."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from batchkit.flows import entry
from batchkit.flows.reporting import PrefectObserver, ReportThread

from batchkit.api.collecting import collect, is_due
from batchkit.api.serving import serve
from batchkit.emulator import Emulator
from batchkit.engine.runtime import Runner
from batchkit.errors import ConfigurationError, UsageError
from batchkit.evaluation import runs
from batchkit.evaluation.open_runs import open_runs
from batchkit.evaluation.results import Change, EvaluationSummary, Metric, summary
from batchkit.evaluation.suite import Schedule
from batchkit.evaluation.suite_file import suites_in
from batchkit.reports import evaluation_markdown
from batchkit.settings import load_settings
from tests.evaluation.support import REVIEWS, reviews_suite, write_reviews, write_suite
from tests.flows.support import Kept, wait_until

SCHEDULED = REVIEWS + 'schedule: {cron: "0 2 * * *", timezone: Europe/Berlin}\n'

# As for the other tests with a real engine.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")


def make_summary(*, is_alarm: bool) -> EvaluationSummary:
    """Return the summary of a run with one metric that fell."""
    return EvaluationSummary(
        suite="reviews",
        run="reviews-2",
        previous="reviews-1",
        suite_version="0" * 64,
        workload_names=("reviews-2",),
        started_at=1.0,
        finished_at=2.0,
        metrics=(Metric("accuracy", "prompt", "m|x", None, 300, 0.75, 0.7, 0.8, "Wilson 95 %", 0),),
        changes=(
            Change(
                "accuracy", "prompt", "m|x", 0.9, 0.75, -0.15, -0.2, -0.1, 0.001, "McNemar exact", 300,
                is_alarm, 0.05, 50, 5, 0.0005,
            ),
        ),
        judge_agreement=(),
        verdict="regressed" if is_alarm else "passed",
    )  # fmt: skip


@pytest.mark.parametrize("is_alarm", [True, False])
def test_a_run_is_shown_with_its_metrics_and_a_fall_is_an_event(tmp_path, is_alarm):
    """Prefect gets a table of metrics, a text with the link to the report, and an event; a second event only for a fall."""
    sink = Kept()
    thread = ReportThread()
    PrefectObserver(sink, thread, {}).evaluated(make_summary(is_alarm=is_alarm), tmp_path / "report.html")
    thread.close()
    sent = {arguments[0]: arguments[1:] for _name, arguments, _keywords in sink.calls}
    assert sent["batchkit-eval-reviews-metrics"][0][0]["mean"] == 0.75
    assert (tmp_path / "report.html").as_uri() in sent["batchkit-eval-reviews"][0]
    assert "m x" in sent["batchkit-eval-reviews"][0]
    resource, payload = sent["batchkit.eval.finished"]
    assert (resource["prefect.resource.id"], payload["verdict"]) == (
        "batchkit.eval.reviews",
        "regressed" if is_alarm else "passed",
    )
    assert ("batchkit.eval.regressed" in sent) == is_alarm
    if is_alarm:
        (alarm,) = sent["batchkit.eval.regressed"][1]["alarms"]
        assert (alarm["before"], alarm["after"], alarm["threshold"]) == (0.9, 0.75, 0.05)


def test_model_names_do_not_break_the_table():
    """The text of a cell stays in its cell."""
    assert "m|x" not in evaluation_markdown.text(make_summary(is_alarm=True), None)


def test_collecting_without_runs_makes_one_query(open_settings):
    """An idle tick costs one query."""
    with Runner(open_settings()) as runner:
        assert not is_due(runner)
        assert collect(runner) == []


def test_serve_scores_finished_runs(open_settings, tmp_path):
    """One tick moves the batches, a later one reports how the run ended; a run with open batches waits."""
    settings = open_settings()
    file = reviews_suite(tmp_path, 4)
    with Runner(settings) as runner:
        runs.next_workload(runner, runs.begin(runner, file))
        notes: list[str] = []
        serve(settings, interval_seconds=0.1, on_note=notes.append, ticks=1)
        assert [run.name for run in open_runs(runner)] == ["reviews-1"]

        def is_scored() -> bool:
            serve(settings, interval_seconds=0.1, on_note=notes.append, ticks=1)
            return not open_runs(runner)

        assert wait_until(is_scored)
        assert summary(runner, "reviews-1").verdict == "first"
    assert "reviews-1: first" in notes


@pytest.mark.parametrize(
    ("hours_late", "expected"), [(0, False), (5, False), (23.9, False), (24, True), (24.1, True), (80, True)]
)
def test_a_start_superseded_by_the_next_one_does_nothing(hours_late, expected):
    """Starts that pile up while no worker runs end at once; one that is late by less than a period does its work."""
    from batchkit.flows.evaluate import is_superseded  # noqa: PLC0415 - imports Prefect

    scheduled = datetime(2026, 1, 10, 1, tzinfo=UTC)  # 02:00 in Berlin
    schedule = Schedule(cron="0 2 * * *", timezone="Europe/Berlin")
    now = scheduled + timedelta(hours=hours_late)
    assert asyncio.run(is_superseded(schedule, scheduled, now)) is expected


def test_the_nightly_run_is_submitted_and_collected(prefect_api, prefect_server, tmp_path, monkeypatch):
    """Two flows of one moment make one run; neither waits; the collection scores it and shows it in Prefect."""
    from batchkit.flows.advance_workloads import advance_workloads  # noqa: PLC0415 - as above
    from batchkit.flows.evaluate import collect_evaluations, evaluate  # noqa: PLC0415 - as above
    from prefect.client.orchestration import get_client  # noqa: PLC0415 - takes more than a second to load

    with Emulator(tmp_path / "emulator", speed=432_000.0) as emulator:
        prefect_api(prefect_server.api_url)
        for name, value in {
            "GROQ_API_KEY": emulator.api_key,
            "BATCHKIT_BASE_URL": emulator.base_url,
            "BATCHKIT_HOME": str(tmp_path / "home"),
            "BATCHKIT_POLL_INTERVAL_SECONDS": "0.05",
        }.items():
            monkeypatch.setenv(name, value)
        write_reviews(tmp_path, 4)
        suite = str(write_suite(tmp_path))
        moment = datetime(2026, 1, 10, 1, tzinfo=UTC)
        monkeypatch.setattr("prefect.runtime.flow_run.get_scheduled_start_time", lambda: moment)
        states = [asyncio.run(evaluate(suite, return_state=True)) for _ in range(2)]
        assert [state.name for state in states] == ["Completed", "Completed"], states
        assert "reviews-20260110T010000Z: 8 of 8 requests are in flight" in str(states[0].message)
        monkeypatch.setattr("prefect.runtime.flow_run.get_scheduled_start_time", lambda: datetime.now(UTC))  # noqa: TID251 - Prefect's time
        with Runner(load_settings()) as runner:
            assert wait_until(
                lambda: asyncio.run(advance_workloads(return_state=True)).is_completed() and not runner.open_workloads()
            )
            state = asyncio.run(collect_evaluations(return_state=True))
            assert "reviews-20260110T010000Z: first" in str(state.message)
            assert len(runner.all_workloads()) == 1
        assert emulator.ledger().totals.requests_executed == 8
        with get_client(sync_client=True) as client:
            keys = {artifact.key for artifact in client.read_latest_artifacts()}
        assert {"batchkit-eval-reviews", "batchkit-eval-reviews-metrics"} <= keys


def test_suites_in_a_folder_become_deployments(prefect_api, prefect_server, tmp_path):
    """Each has its cron and time zone, a repetition changes nothing, and a suite without a schedule is left out."""
    from prefect.client.orchestration import get_client  # noqa: PLC0415 - takes more than a second to load

    prefect_api(prefect_server.api_url)
    write_suite(tmp_path, SCHEDULED)
    write_suite(tmp_path, REVIEWS.replace("name: reviews", "name: by-hand"), "by-hand.yaml")
    with get_client(sync_client=True) as client:
        from prefect.client.schemas.actions import WorkPoolCreate  # noqa: PLC0415 - as above

        client.create_work_pool(WorkPoolCreate(name="nights", type="process"))
        for _ in range(2):
            lines = entry.deploy(tmp_path, pool="nights")
        assert [line.partition(": ")[2] for line in lines] == [
            "no schedule, not deployed",
            "evaluate/reviews in the pool nights",
        ]
        deployment = client.read_deployment_by_name("evaluate/reviews")
    assert deployment.entrypoint == "batchkit.flows.evaluate.evaluate"
    assert deployment.parameters == {"suite": str(tmp_path / "reviews.yaml")}
    (schedule,) = deployment.schedules
    assert (schedule.schedule.cron, schedule.schedule.timezone) == ("0 2 * * *", "Europe/Berlin")  # type: ignore[union-attr] # a cron


def test_a_folder_that_cannot_be_deployed_is_an_error(tmp_path):
    """A folder without suites, two suites of one name, or a missing server: a usage error, and nothing is deployed."""
    from batchkit.flows.deployments import deploy_suites  # noqa: PLC0415 - imports Prefect

    with pytest.raises(UsageError, match="there is no suite"):
        suites_in(tmp_path)
    write_suite(tmp_path, SCHEDULED)
    with pytest.raises(ConfigurationError, match="no Prefect server is configured"):
        deploy_suites(tmp_path, pool="nights")
    write_suite(tmp_path, SCHEDULED, "copy.yaml")
    with pytest.raises(UsageError, match="both called 'reviews'"):
        suites_in(tmp_path)
