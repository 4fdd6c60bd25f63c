"""A peer that is stopped (SIGSTOP) at a commit while it holds locks: another runner does the rest, then the peer continues."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchkit.store.engine import TransactionLimits
from tests.proof.command_process import is_stopped, wait_until
from tests.proof.harness import LONGEST_COMMAND_SECONDS
from tests.proof.promises import Violations, check_promises
from tests.proof.sweep import expected_outcome_of, harness_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.proof.fault_points import FaultPoint
    from tests.proof.harness import ProofHarness
    from tests.proof.scenarios import ProofScenario
    from tests.proof.sweep import Backend, Baseline

_NOT_FINISHED = 4
#: The server's limit for an idle transaction: shorter or longer than the other runner waits for a lock in total.
_IDLE_SECONDS = {True: 2.0, False: 8.0}
_WAITS = {
    True: {"BATCHKIT_LEASE_SECONDS": "1", "BATCHKIT_OUTAGE_SECONDS": "30"},
    False: {"BATCHKIT_LEASE_SECONDS": "1", "BATCHKIT_OUTAGE_SECONDS": "3"},
}
_HOLDER_MESSAGES = ("held by session", "is being split by")


@dataclass(frozen=True)
class StoppedPeerOutcome:
    """The planned point, whether the peer was stopped there, whether the server ended its session, and the violations."""

    scenario: str
    point: FaultPoint
    is_ended: bool
    was_stopped: bool
    violations: Violations


def commit_points(baseline: Baseline) -> list[FaultPoint]:
    """Return the points before and after each commit of a scenario's first command."""
    return [point for index, point in baseline.points if index == 0 and point.kind == "commit"]


def stop_peer(scenario: ProofScenario, backend: Backend, point: FaultPoint, *, is_ended: bool) -> StoppedPeerOutcome:
    """Stop a scenario's first command at a point, run it again beside that, continue the first one, and check the promises.

    With ``is_ended`` the server ends the session of the stopped peer, and the other runner must finish. Without it the other
    runner may also end with exit code 4 and name the holder of the lock.
    """
    during = Violations()
    (command,) = scenario.commands
    limits = TransactionLimits(lock_seconds=1.0, idle_seconds=_IDLE_SECONDS[is_ended], statement_seconds=30.0)
    with backend.database() as url, harness_for(scenario, url, limits=limits, waits=_WAITS[is_ended]) as harness:
        scenario.prepare(harness)
        peer = harness.start_to_stop(command.arguments, point)
        if not wait_until(
            lambda: peer.exitcode is not None or is_stopped(peer), within_seconds=LONGEST_COMMAND_SECONDS
        ):
            during.add(5, "the peer reached neither its point nor its end")
        printed = len(harness.output())
        was_stopped = peer.exitcode is None
        other = _run_beside(harness, command.arguments)
        if other == _NOT_FINISHED and not is_ended:
            if not any(message in harness.output()[printed:] for message in _HOLDER_MESSAGES):
                during.add(8, f"the output does not name the holder: {harness.output()[printed:][-2000:]}")
            _check_rest(during, harness, point)
        elif other not in command.codes:
            during.add(5, f"the other runner ended with {other}: {harness.output()[printed:][-2000:]}")
        if peer.exitcode is None:
            os.kill(peer.pid, signal.SIGCONT)
        peer.join(LONGEST_COMMAND_SECONDS)
        if peer.exitcode is None:
            peer.kill()
        if peer.exitcode not in {*command.codes, _NOT_FINISHED}:
            during.add(5, f"the peer ended with {peer.exitcode}: {harness.output()[-2000:]}")
        if other == peer.exitcode == _NOT_FINISHED and (code := harness.run(command.arguments)) not in command.codes:
            during.add(5, f"the same command again ended with {code}: {harness.output()[-2000:]}")
        violations = check_promises(harness, expected_outcome_of(scenario), [])
    violations.broken += during.broken
    return StoppedPeerOutcome(scenario.name, point, is_ended, was_stopped, violations)


def _run_beside(harness: ProofHarness, arguments: Sequence[str]) -> int | None:
    process = harness.start(arguments)
    process.join(LONGEST_COMMAND_SECONDS)
    if process.exitcode is None:
        process.kill()
        process.join()
        return None
    return int(process.exitcode)


def _check_rest(during: Violations, harness: ProofHarness, point: FaultPoint) -> None:
    """Check that all shards but the held one are merged."""
    if "steps/merge" not in point.label:
        return
    with harness.database() as store:
        if store is None:
            return
        with store.read() as connection:
            query = "SELECT count(*) FROM shards WHERE state NOT IN ('merged', 'withdrawn')"
            count = connection.exec_driver_sql(query).scalar_one()
    if count > 1:
        during.add(5, f"{count} shards are unfinished although only one is held")
