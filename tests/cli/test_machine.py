"""The JSON that scripts depend on. A change here is a change of the interface."""

from __future__ import annotations

from pathlib import Path

from batchkit.cli.render import machine
from batchkit.doctor import Finding, Level
from batchkit.files import jsonl
from batchkit.models import BatchProblem
from batchkit.steps.split_plan import SplitPlan
from batchkit.store.evaluations import RunOf
from batchkit.store.runners import RunnerRow
from tests.cli.snapshots import NOW, batch, finished, snapshot, workload

WORKLOAD = {
    "name": "nightly",
    "state": "running",
    "created_at": NOW - 3_600,
    "read_at": NOW,
    "as_of": NOW,
    "last_merged_at": NOW - 60,
    "cancel_requested_at": None,
    "skipped_rows": 0,
    "reuse": "off",
    "reused": 0,
    "repeated": 0,
    "following": 0,
    "source": "nightly.jsonl",
    "adopted_at": None,
    "holds": False,
    "deadline": None,
    "window": "24h",
    "max_window": "7d",
    "shard_lines": 1_000,
    "shard_bytes": 100_000_000,
    "max_attempts": 5,
    "max_expiries": 10,
    "requests": {
        "total": 10_000,
        "pending": 1_000,
        "in_flight": 5_000,
        "succeeded": 3_900,
        "failed": 90,
        "cancelled": 10,
    },
    "shards": {
        "planned": 0,
        "uploaded": 0,
        "submitting": 0,
        "submitted": 5,
        "sending": 0,
        "ended": 0,
        "merged": 4,
        "withdrawn": 0,
    },
    "open_batches": {"in_progress": 4, "validating": 1},
    "remote_done": 1_200,
    "answered": 5_190,
    "fetched": 3_990,
    "not_sent": 0,
    "waiting_for": "5 batches at the provider (4 in_progress, 1 validating)",
    "since": NOW - 3_600,
    "until": NOW + 82_800,
    "waits": [
        {
            "kind": "batches",
            "text": "5 batches at the provider (4 in_progress, 1 validating)",
            "count": 5,
            "since": NOW - 3_600,
            "until": NOW + 82_800,
            "is_not_before": False,
        },
        {
            "kind": "again",
            "text": "1,000 requests to be sent again",
            "count": 1_000,
            "since": None,
            "until": NOW + 120,
            "is_not_before": True,
        },
    ],
    "runners": [],
    "stopped_at": None,
    "stopped_reason": None,
    "lane": "batch",
    "in_doubt": {"requests": 0, "tokens": 0, "cost_usd": 0.0},
    "cost": {
        "estimated_usd": None,
        "spent_usd": None,
        "in_flight_usd": None,
        "to_come_usd": None,
        "spent_tokens": 1_242_221,
        "in_flight_tokens": None,
        "max_cost_usd": None,
        "max_total_tokens": None,
        "stopped_by_budget": False,
    },
    "expired_attempts": 42,
    "expired_rides": 42,
    "failures": [
        {"code": "invalid_request", "status_code": 400, "count": 80, "sample": "max_tokens is too large"},
        {"code": "json_validate_failed", "status_code": 400, "count": 10, "sample": "the answer is no JSON"},
    ],
    "usage": {"prompt_tokens": 1_234_567, "completion_tokens": 7_654, "total_tokens": 1_242_221},
    "attention": [
        {
            "id": "batch_01m82wjhbsebta5nr0gp0hmtf2",
            "status": "failed",
            "created_at": 1_749_990_000,
            "expires_at": 1_750_076_400,
            "total": 1_000,
            "completed": 700,
            "failed": 3,
            "problems": [{"code": "invalid_json_line", "message": "line 3 is bad", "line": 3}],
        }
    ],
}


def shown():
    """Return the snapshot that ``WORKLOAD`` describes."""
    problem = BatchProblem("line 3 is bad", code="invalid_json_line", line=3)
    return snapshot(attention=(batch("failed", problems=(problem,)),))


def written(value):
    """Write a value as JSON and read it back, as a script does."""
    return jsonl.loads(jsonl.dumps(value))


def test_the_status_of_one_workload_is_stable():
    """``status NAME --json`` is the workload, preceded by a schema version."""
    assert written(machine.status_of_one(shown())) == {"schema_version": 1, **WORKLOAD, "evaluation": None}


def test_the_status_of_all_is_a_list():
    """``status --json`` is a list of the same objects."""
    one = {**WORKLOAD, "evaluation": None}
    assert written(machine.status_of_all([shown()])) == {"schema_version": 1, "workloads": [one]}
    assert written(machine.status_of_all([])) == {"schema_version": 1, "workloads": []}


def test_the_status_names_the_run_that_a_workload_belongs_to():
    """A run without a verdict is unfinished."""
    name = shown().workload.name
    for verdict, told in (("passed", "passed"), (None, "unfinished")):
        run = RunOf("reviews-1", "reviews", verdict, name)
        expected = {"run": "reviews-1", "suite": "reviews", "verdict": told}
        assert machine.status_of_one(shown(), run)["evaluation"] == expected
        assert machine.status_of_all([shown()], {name: run})["workloads"][0]["evaluation"] == expected


def test_runners_and_the_stop_reason_are_included():
    """Each runner has verb, host and process; the last stop reason is included."""
    row = RunnerRow("host|boot|42|7|abc", "watch", "host", None, NOW, "5 batches", NOW - 9, NOW + 9)
    value = written(
        machine.status_of_one(snapshot(runners=(row,), workload=workload(stopped_at=NOW, stopped_reason="x")))
    )
    assert value["runners"] == [
        {
            "verb": "watch",
            "host": "host",
            "pid": 42,
            "seen_at": NOW,
            "waiting_for": "5 batches",
            "since": NOW - 9,
            "until": NOW + 9,
        }
    ]
    assert (value["stopped_at"], value["stopped_reason"]) == (NOW, "x")


def test_an_outcome_adds_the_exit_code_and_the_file():
    """``run --json`` and similar commands state their exit code and the location of the results."""
    value = written(machine.outcome(shown(), exit_code=4, output=None))
    assert value == {"schema_version": 1, "exit_code": 4, "output": None, **WORKLOAD}
    value = written(machine.outcome(finished(), exit_code=0, output=Path("out.jsonl")))
    assert (value["exit_code"], value["output"], value["state"]) == (0, "out.jsonl", "finished")
    value = written(machine.outcome_of_all([shown()], exit_code=3))
    assert value == {"schema_version": 1, "exit_code": 3, "workloads": [WORKLOAD], "errors": []}


def test_a_plan_is_stable():
    """``run --dry-run --json`` has shards, endpoints, models and estimates."""
    plan = SplitPlan(1, 200, (("/v1/x", 1, 200),), {"/v1/x": 1}, {"m": 1}, 10, 20, 1_000, "24h", {"odd": 1})
    assert written(machine.plan("nightly", plan)) == {
        "schema_version": 1,
        "name": "nightly",
        "requests": 1,
        "bytes": 200,
        "shard_lines": 1_000,
        "window": "24h",
        "lane": "batch",
        "max_cost_usd": None,
        "max_total_tokens": None,
        "shards": [{"endpoint": "/v1/x", "lines": 1, "bytes": 200}],
        "endpoints": {"/v1/x": 1},
        "models": {"m": 1},
        "prompt_tokens": 10,
        "max_completion_tokens": 20,
        "warnings": {"odd": 1},
        "blank_lines": 0,
        "reused": 0,
        "repeated": 0,
        "estimate": None,
        "deadline": None,
    }


def test_doctor_checks_are_stable():
    """``doctor --json`` lists its checks with their levels."""
    assert written(machine.findings([Finding("disk", Level.WARNING, "low", "make room")])) == {
        "schema_version": 1,
        "findings": [{"check": "disk", "level": "warning", "message": "low", "advice": "make room"}],
    }
