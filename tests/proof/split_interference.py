"""Commands beside a split: the splitter is stopped at each of its points, other commands run, then the splitter continues."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

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

#: The commands, and a function of the package, that run beside the split.
INTERFERING_COMMANDS = (
    ("watch", "w", "--no-prefect"),
    ("cancel", "w"),
    ("resubmit", "w", "--no-prefect"),
    ("python", "watch", "w"),
)
#: The exit codes for a workload that is not completely split, or that does not exist yet.
_REFUSED = {2, 4}
#: A splitter that is stopped within a transaction holds its locks; commands that wait for them are killed after this time.
_LONGEST_TRY_SECONDS = 4.0
#: The point from which other commands may work on the workload.
_SPLIT_COMPLETE = "commit in steps/split.split, after"


@dataclass(frozen=True)
class InterferenceOutcome:
    """The point at which the splitter was stopped, and the violations that were found."""

    scenario: str
    point: FaultPoint
    violations: Violations


def points_during_split(baseline: Baseline) -> list[FaultPoint]:
    """Return the points of a scenario's first command at which its input is not completely split."""
    points = [point for index, point in baseline.points if index == 0]
    labels = [point.label for point in points]
    return points[: labels.index(_SPLIT_COMPLETE)]


def interfere_with_split(scenario: ProofScenario, backend: Backend, point: FaultPoint) -> InterferenceOutcome:
    """Stop the first command at a point of its split, run other commands, let the first one finish, and check the promises."""
    during = Violations()
    (command,) = scenario.commands
    with backend.database() as url, harness_for(scenario, url) as harness:
        scenario.prepare(harness)
        splitter = harness.start_to_stop(command.arguments, point)
        if not wait_until(
            lambda: splitter.exitcode is not None or is_stopped(splitter), within_seconds=LONGEST_COMMAND_SECONDS
        ):
            during.add(5, "the splitter reached neither its point nor its end")
        for arguments, code in _run_all(harness):
            if code is not None and code not in _REFUSED:
                during.add(4, f"{' '.join(arguments)} ended with {code}: {harness.output()[-2000:]}")
        # The splitter itself looks up the models, which buys nothing.
        calls = {name: count for name, count in harness.ledger().calls.items() if not name.startswith("models.")}
        if calls and splitter.exitcode is None:
            during.add(4, f"sent while the input was being split: {calls}")
        if splitter.exitcode is None:
            os.kill(splitter.pid, signal.SIGCONT)
        splitter.join(LONGEST_COMMAND_SECONDS)
        if splitter.exitcode not in command.codes:
            splitter.kill()
            during.add(5, f"the splitter ended with {splitter.exitcode}: {harness.output()[-2000:]}")
        violations = check_promises(harness, expected_outcome_of(scenario), [])
    violations.broken += during.broken
    return InterferenceOutcome(scenario.name, point, violations)


def _run_all(harness: ProofHarness) -> list[tuple[Sequence[str], int | None]]:
    """Run all commands at the same time; return their exit codes, None for those that wait for a lock."""
    attempts = [(arguments, harness.start(arguments)) for arguments in INTERFERING_COMMANDS]
    wait_until(
        lambda: all(process.exitcode is not None for _, process in attempts), within_seconds=_LONGEST_TRY_SECONDS
    )
    codes: list[tuple[Sequence[str], int | None]] = []
    for arguments, process in attempts:
        codes.append((arguments, process.exitcode))
        process.kill()
        process.join()
    return codes
