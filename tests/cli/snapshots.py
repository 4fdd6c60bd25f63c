"""Snapshots of workloads, built by hand."""

from __future__ import annotations

from typing import Any

from batchkit.engine.progress import Progress, WorkloadState
from batchkit.models import (
    Batch,
    BatchId,
    FailureReason,
    RequestCounts,
    RequestCountsByState,
    RetryPolicy,
    ShardState,
    Usage,
    Workload,
    WorkloadId,
)
from batchkit.store.waits import OpenShards

NOW = 1_750_000_000.0


def workload(name: str = "nightly", **fields: Any) -> Workload:
    """Return a workload that was created an hour before ``NOW``."""
    values: dict[str, Any] = {
        "id": WorkloadId(1),
        "name": name,
        "created_at": NOW - 3_600,
        "source": "nightly.jsonl",
        "directory": "nightly-0123abcd",
        "input_sha256": "0" * 64,
        "request_count": 10_000,
        "window": "24h",
        "max_window": "7d",
        "shard_lines": 1_000,
        "shard_bytes": 100_000_000,
        "policy": RetryPolicy(),
        "credential": None,
        "cancel_requested_at": None,
        "provider": "groq",
    }
    return Workload(**(values | fields))


def open_shards(shards: int = 5, requests: int = 5_000, **fields: Any) -> OpenShards:
    """Return the figures of open shards of one state, whose batches were created an hour before ``NOW`` with a window of a day."""
    values: dict[str, Any] = {
        "done": 1_200,
        "refused": 0,
        "refused_requests": 0,
        "refused_until": None,
        "since": NOW - 3_600,
        "expires_at": NOW + 82_800,
        "missing": 0,
    }
    return OpenShards(shards, requests, **(values | fields))


def snapshot(**fields: Any) -> Progress:
    """Return a snapshot of a half-finished workload; ``fields`` replace its values."""
    values: dict[str, Any] = {
        "workload": workload(),
        "state": WorkloadState.RUNNING,
        "counts": RequestCountsByState(
            total=10_000, pending=1_000, in_flight=5_000, succeeded=3_900, failed=90, cancelled=10
        ),
        "shards": {ShardState.SUBMITTED: 5, ShardState.MERGED: 4},
        "batches": {"in_progress": 4, "validating": 1},
        "remote_done": 1_200,
        "failures": (
            FailureReason("invalid_request", 400, 80, "max_tokens is too large"),
            FailureReason("json_validate_failed", 400, 10, "the answer is no JSON"),
        ),
        "usage": Usage(1_234_567, 7_654, 1_242_221),
        "expired_attempts": 42,
        "attention": (batch(),),
        "last_merged_at": NOW - 60,
        "read_at": NOW,
        "open_work": {ShardState.SUBMITTED: open_shards()},
        "resubmit_at": NOW + 120,
    }
    return Progress(**(values | fields))


def finished(*, failed: int = 0, cancelled: int = 0, total: int = 10_000, **fields: Any) -> Progress:
    """Return a snapshot of a finished workload."""
    values: dict[str, Any] = {
        "state": WorkloadState.FINISHED,
        "counts": RequestCountsByState(
            total=total, succeeded=total - failed - cancelled, failed=failed, cancelled=cancelled
        ),
        "shards": {ShardState.MERGED: 10},
        "batches": {},
        "remote_done": 0,
        "failures": (FailureReason("invalid_request", 400, failed, "max_tokens is too large"),) if failed else (),
        "expired_attempts": 0,
        "attention": (),
        "open_work": {},
        "resubmit_at": None,
    }
    return snapshot(**(values | fields))


def batch(status: str = "expired", **fields: Any) -> Batch:
    """Return a batch with problems."""
    values: dict[str, Any] = {"created_at": 1_749_990_000, "expires_at": 1_750_076_400}
    counts = RequestCounts(total=1_000, completed=700, failed=3)
    return Batch(id=BatchId("batch_01m82wjhbsebta5nr0gp0hmtf2"), status=status, counts=counts, **(values | fields))
