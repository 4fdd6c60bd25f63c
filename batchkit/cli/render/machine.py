"""What ``--json`` prints: the shapes that scripts depend on.

A workload is the same object everywhere. ``status NAME`` prints it with ``schema_version`` in front, ``status`` prints
``{"schema_version", "workloads": [...]}``, both with the ``evaluation`` of each workload, and ``run``, ``submit``, ``watch NAME``, ``cancel`` and ``resubmit`` print it with
``schema_version``, ``exit_code`` and ``output`` (the exported file or null). ``watch`` without a name prints
``{"schema_version", "exit_code", "workloads": [...]}``. Keys may be added under the same version;
removing one, or changing its meaning, needs a new version. Times are Unix seconds or null.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from batchkit.cli.render.priced import estimate_for_machines
from batchkit.engine import situation
from batchkit.engine.progress import WorkloadState
from batchkit.models import OnLate, ShardState
from batchkit.reports.costs import costs_of, doubts_usd

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from batchkit.annotation.estimate import Estimate
    from batchkit.doctor import Finding
    from batchkit.engine.deadline import DeadlinePlan, Standing
    from batchkit.engine.progress import Progress
    from batchkit.engine.situation import Waiting
    from batchkit.models import Batch, Workload
    from batchkit.steps.split_plan import SplitPlan
    from batchkit.store.evaluations import RunOf
    from batchkit.store.runners import RunnerRow

SCHEMA_VERSION = 1
NO_RUNS: Final[Mapping[str, RunOf]] = MappingProxyType({})


def status_of_one(progress: Progress, run: RunOf | None = None) -> dict[str, Any]:
    """Return the JSON of ``status NAME``; ``run`` is the evaluation run that it belongs to."""
    return {"schema_version": SCHEMA_VERSION, **workload(progress), "evaluation": _evaluation(run)}


def status_of_all(snapshots: Sequence[Progress], runs: Mapping[str, RunOf] = NO_RUNS) -> dict[str, Any]:
    """Return the JSON of ``status``; the oldest workload comes first. ``runs`` are evaluation runs by the names of their workloads."""
    return {
        "schema_version": SCHEMA_VERSION,
        "workloads": [
            {**workload(progress), "evaluation": _evaluation(runs.get(progress.workload.name))}
            for progress in snapshots
        ],
    }


def _evaluation(run: RunOf | None) -> dict[str, Any] | None:
    """Return the run that a workload belongs to, null for any other workload; ``verdict`` is unfinished until it has one."""
    return None if run is None else {"run": run.run, "suite": run.suite, "verdict": run.verdict or "unfinished"}


def outcome(progress: Progress, *, exit_code: int, output: Path | None) -> dict[str, Any]:
    """Return the JSON result of a command that drove a workload."""
    return {
        "schema_version": SCHEMA_VERSION,
        "exit_code": exit_code,
        "output": None if output is None else str(output),
        **workload(progress),
    }


def outcome_of_all(snapshots: Sequence[Progress], *, exit_code: int, errors: Sequence[str] = ()) -> dict[str, Any]:
    """Return the JSON result of ``watch`` without a name; ``errors`` maps workloads to the errors that ended the work on them."""
    return {
        "schema_version": SCHEMA_VERSION,
        "exit_code": exit_code,
        "errors": list(errors),
        "workloads": [workload(progress) for progress in snapshots],
    }


def plan(
    name: str, plan: SplitPlan, estimate: Estimate | None = None, deadline: DeadlinePlan | None = None
) -> dict[str, Any]:
    """Return the JSON of ``--dry-run``; sizes are in bytes, tokens are estimates. Times are Unix seconds, null when unknown.

    Of the ``requests``, the ``reused`` and the ``repeated`` ones would not be sent; the other figures are without them.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "requests": plan.requests,
        "bytes": plan.bytes,
        "shard_lines": plan.shard_lines,
        "window": plan.window,
        "lane": plan.lane.value,
        "max_cost_usd": plan.budget.max_cost_usd,
        "max_total_tokens": plan.budget.max_total_tokens,
        "shards": [{"endpoint": endpoint, "lines": lines, "bytes": size} for endpoint, lines, size in plan.shards],
        "endpoints": plan.endpoints,
        "models": plan.models,
        "prompt_tokens": plan.prompt_tokens,
        "max_completion_tokens": plan.completion_tokens,
        "warnings": plan.warnings,
        "blank_lines": plan.blank_lines,
        "reused": plan.reused,
        "repeated": plan.repeated,
        "estimate": None if estimate is None else estimate_for_machines(estimate),
        "deadline": None if deadline is None else _planned_deadline(deadline),
    }


def _planned_deadline(found: DeadlinePlan) -> dict[str, Any]:
    """Return what a deadline means: ``drainable`` requests can be answered by single calls in the time, all if they start by ``start_by``."""
    return {
        "at": found.terms.at,
        "cutoff_at": found.cutoff,
        "window_is_in_time": found.is_in_time,
        "requests_per_second": found.terms.rate,
        "drainable": found.drainable,
        "start_by": found.start_by,
    }


def findings(found: Sequence[Finding]) -> dict[str, Any]:
    """Return the JSON of ``doctor``; ``level`` is ok, warning or failed."""
    return {
        "schema_version": SCHEMA_VERSION,
        "findings": [
            {"check": one.check, "level": one.level.value, "message": one.message, "advice": one.advice}
            for one in found
        ],
    }


def workload(progress: Progress) -> dict[str, Any]:
    """Return the JSON of one workload.

    ``requests`` sum to ``total``, which counts only the requests cut so far while ``state`` is ``splitting``. ``shards`` has
    every state, ``open_batches`` the statuses that occur, in the provider's spelling. ``remote_done`` counts the requests that the
    provider reports as done in open batches. ``attention`` lists up to 50 batches with problems.

    ``adopted_at`` is when its batches were adopted; while it ``holds``, nothing is sent again before ``resubmit``.
    ``skipped_rows`` rows of its table have no request. ``reused`` requests got an answer that the database had, and ``repeated`` ones
    get that of another request of the workload, on which ``following`` of those in flight still wait: neither are sent. ``answered`` requests have their answer or error, here or at the provider;
    ``fetched`` ones have it here; ``not_sent`` ones are in a shard without a batch (they are part of ``in_flight``). These figures
    are those of the time ``as_of``: of ``read_at`` while a process works on the workload and reaches the provider, else of the
    provider's last news. ``waiting_for`` is the first of the ``waits``, with its ``since`` and ``until``: the latest end, or the
    earliest if ``is_not_before``; null if unknown or finished. ``runners`` are the processes that work on it; without one,
    ``stopped_at`` and ``stopped_reason`` are those of the last command. ``lane`` is what the user chose. ``in_doubt`` are single calls
    that may have been paid for twice: tokens and cost are estimates, the cost null where the model or its price is not known.
    ``cost`` has what is spent, in flight and to come, and the budget; with one, its figures include the workloads that share it. A
    figure is null where a price is not known, or ``to_come_usd`` before the first answer; ``estimated_usd`` is the sum of the three.
    """
    own = progress.workload
    counts = progress.counts
    waits = situation.waits(progress)
    first = waits[0] if waits else None
    return {
        "name": own.name,
        "state": progress.state.value,
        "created_at": own.created_at,
        "read_at": progress.read_at,
        "as_of": situation.known_at(progress) or progress.read_at,
        "last_merged_at": progress.last_merged_at,
        "cancel_requested_at": own.cancel_requested_at,
        "source": own.source,
        "adopted_at": own.adopted_at,
        "holds": own.holds,
        "skipped_rows": own.skipped_rows,
        "reuse": own.reuse or "off",
        "reused": own.reused_requests,
        "repeated": own.repeated_requests,
        "deadline": None if progress.deadline is None else _deadline(progress.deadline, own),
        "window": own.window,
        "max_window": own.max_window,
        "shard_lines": own.shard_lines,
        "shard_bytes": own.shard_bytes,
        "max_attempts": own.policy.max_attempts,
        "max_expiries": own.policy.max_expiries,
        "requests": {
            "total": counts.total,
            "pending": counts.pending,
            "in_flight": counts.in_flight,
            "succeeded": counts.succeeded,
            "failed": counts.failed,
            "cancelled": counts.cancelled,
        },
        "following": counts.following,
        "shards": {state.value: progress.shards.get(state, 0) for state in ShardState},
        "open_batches": dict(sorted(progress.batches.items())),
        "remote_done": progress.remote_done,
        "answered": progress.answered,
        "fetched": progress.fetched,
        "not_sent": progress.not_sent,
        "waiting_for": None if first is None else first.text,
        "since": None if first is None else first.since,
        "until": None if first is None else first.until,
        "waits": [_wait(wait) for wait in waits],
        "runners": [_runner(row) for row in progress.runners],
        "stopped_at": own.stopped_at,
        "stopped_reason": own.stopped_reason,
        "lane": own.lane_choice.value,
        "in_doubt": {
            "requests": progress.doubts,
            "tokens": progress.doubt_tokens,
            "cost_usd": doubts_usd(progress),
        },
        "cost": _cost(progress),
        "expired_attempts": progress.expired_attempts,
        "expired_rides": progress.expired_attempts,  # the name until 0.1, kept for one version
        "failures": [
            {"code": reason.code, "status_code": reason.status_code, "count": reason.count, "sample": reason.sample}
            for reason in progress.failures
        ],
        "usage": {
            "prompt_tokens": progress.usage.prompt_tokens,
            "completion_tokens": progress.usage.completion_tokens,
            "total_tokens": progress.usage.total_tokens,
        },
        "attention": [_batch(batch) for batch in progress.attention],
    }


def _cost(progress: Progress) -> dict[str, Any]:
    costs, budget = costs_of(progress), progress.budget
    return {
        "estimated_usd": costs.estimated_usd,
        "spent_usd": costs.spent_usd,
        "in_flight_usd": costs.in_flight_usd,
        "to_come_usd": costs.to_come_usd,
        "spent_tokens": round(progress.usage.total_tokens if budget is None else budget.ledger.spent.tokens),
        "in_flight_tokens": None if budget is None else round(budget.ledger.expected.tokens),
        "max_cost_usd": None if budget is None else budget.budget.max_cost_usd,
        "max_total_tokens": None if budget is None else budget.budget.max_total_tokens,
        "stopped_by_budget": progress.state is WorkloadState.STOPPED_BY_BUDGET,
    }


def _deadline(found: Standing, own: Workload) -> dict[str, Any]:
    """Return where a workload stands before its deadline; ``outlook`` is on_time, at_risk, unknown, met or missed."""
    return {
        "at": found.at,
        "late": OnLate.STOP.value if own.stops_late else OnLate.FINISH.value,
        "outlook": found.outlook.value,
        "missing": found.missing,
        "cutoff_at": found.cutoff,
        "drain_since": own.drain_since,
        "expected_at": found.expected_at,
        "ended_at": found.ended_at,
        "answers_in_time": {lane.value: count for lane, count in found.in_time.items()},
        "answers_late": {lane.value: count for lane, count in found.late.items()},
    }


def _wait(wait: Waiting) -> dict[str, Any]:
    return {
        "kind": wait.kind.value,
        "text": wait.text,
        "count": wait.count,
        "since": wait.since,
        "until": wait.until,
        "is_not_before": wait.is_not_before,
    }


def _runner(row: RunnerRow) -> dict[str, Any]:
    return {
        "verb": row.verb,
        "host": row.host,
        "pid": int(row.pid) if row.pid is not None and row.pid.isdecimal() else None,
        "seen_at": row.seen_at,
        "waiting_for": row.waiting_for,
        "since": row.since,
        "until": row.until,
    }


def _batch(batch: Batch) -> dict[str, Any]:
    return {
        "id": batch.id,
        "status": batch.status,
        "created_at": batch.created_at,
        "expires_at": batch.expires_at,
        "total": batch.counts.total,
        "completed": batch.counts.completed,
        "failed": batch.counts.failed,
        "problems": [
            {"code": problem.code, "message": problem.message, "line": problem.line} for problem in batch.problems
        ],
    }
