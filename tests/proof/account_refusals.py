"""Refusals of the account: the provider refuses one kind of call until the command has ended, then the command is repeated."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from batchkit.emulator import Scenario
from batchkit.emulator.faults import batches, calls, lines
from tests.proof import scenarios
from tests.proof.promises import Violations, check_promises
from tests.proof.sweep import expected_outcome_of, harness_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchkit.emulator.faults import Fault
    from tests.proof.harness import ProofHarness
    from tests.proof.scenarios import ProofScenario
    from tests.proof.sweep import Backend

#: One for each status; for 402 only the message says what is wrong.
_REFUSALS: tuple[dict[str, Any], ...] = (
    {
        "status": 400,
        "code": "blocked_api_access",
        "message": "Organization has been blocked from API access: it has reached its spend limit.",
    },
    {"status": 401, "code": "invalid_api_key", "message": "Invalid API Key"},
    {"status": 402, "code": None, "message": "Payment required."},
    {"status": 403, "code": "not_available_for_plan", "message": "The Batch API is not available for your plan."},
)
#: The number of calls that may be in flight when the first one is refused.
_MOST_REFUSED_CALLS = 16
_NOT_FINISHED = 4
_SHORTEST_HINT = re.compile(r"^hint: \S+ ", re.MULTILINE)


@dataclass(frozen=True)
class RefusalCase:
    """A scenario, the refused operation (None: within output lines), and the number of calls before the first refusal.

    ``extra_faults`` are faults that cause the calls. If ``may_pass``, the refusal does not affect the outcome, so that the
    command may also end as if nothing had been refused.
    """

    scenario: ProofScenario
    operation: str | None
    refusal: dict[str, Any]
    skip: int = 0
    extra_faults: tuple[Fault, ...] = ()
    may_pass: bool = False

    def __str__(self) -> str:
        where = "in an output line" if self.operation is None else f"at {self.operation}, after {self.skip} calls"
        return f"{self.scenario.name}, {self.refusal['status']} {where}"

    @property
    def fault(self) -> Fault:
        """Return the fault that refuses the calls."""
        if self.operation is None:
            return lines.FailLines(custom_ids=frozenset({"row-3", "row-5"}), **self.refusal)
        return calls.RefuseCalls(on=(self.operation,), skip=self.skip, type="invalid_request_error", **self.refusal)


@dataclass(frozen=True)
class RefusalOutcome:
    """The violations of one case."""

    case: RefusalCase
    violations: Violations


def all_refusal_cases() -> list[RefusalCase]:
    """Return every kind of refusal at every kind of call that the commands make."""
    return [case for refusal in _REFUSALS for case in _places(refusal)]


def _places(refusal: dict[str, Any]) -> Iterator[RefusalCase]:
    run, verbs = scenarios.RUN, scenarios.CANCELLED
    # A request that was refused in an output line is executed again.
    resent = replace(run, executions=None)
    # `files.retrieve` only reads the size of a file; its content may still be readable.
    size = {"may_pass": refusal["status"] == 403}
    for operation, skips, more in (
        ("models.list", (0,), {}),
        ("files.create", (0, 1), {}),
        ("batches.create", (0, 1), {}),
        ("batches.list", (0, 1, 2), {}),
        ("batches.list", (1,), {"extra_faults": (calls.LoseReply(on=("batches.create",)),)}),
        ("batches.retrieve", (0,), {"extra_faults": (batches.AbsentBatches(),)}),
        ("files.retrieve", (0, 1), size),
        ("files.content", (0, 1), {}),
        (None, (0,), {}),
    ):
        for skip in skips:
            yield RefusalCase(run if operation else resent, operation, refusal, skip, **more)
    for operation, skip in (
        ("batches.cancel", 0),
        ("batches.cancel", 1),
        ("files.list", 0),
        ("files.delete", 0),
        ("files.delete", 2),
    ):
        yield RefusalCase(verbs, operation, refusal, skip)


def run_refusal_case(case: RefusalCase, backend: Backend) -> RefusalOutcome:
    """Run a scenario until the refusal ends a command; then remove the refusal, repeat the command, and check the promises."""
    during = Violations()
    scenario = case.scenario
    is_met = False
    faults = (*scenario.faults, *case.extra_faults)
    with backend.database() as url, harness_for(scenario, url) as harness:
        harness.change(Scenario(faults=(*faults, case.fault)))
        scenario.prepare(harness)
        for command in scenario.commands:
            code = harness.run(command.arguments)
            if code not in command.codes and not is_met:
                is_met = True
                _check_end(during, harness, case, code)
                harness.change(Scenario(faults=faults))
                code = harness.run(command.arguments)
            if code not in command.codes:
                during.add(5, f"{' '.join(command.arguments)} ended with {code}: {harness.output()[-2000:]}")
        if not is_met and not case.may_pass:
            during.add(8, "no command was refused")
        violations = check_promises(harness, expected_outcome_of(scenario), [])
    violations.broken += during.broken
    return RefusalOutcome(case, violations)


def _check_end(violations: Violations, harness: ProofHarness, case: RefusalCase, code: int | None) -> None:
    if code != _NOT_FINISHED:
        violations.add(8, f"the refused command ended with {code}: {harness.output()[-2000:]}")
    if not _SHORTEST_HINT.search(harness.output()):
        violations.add(8, f"no hint says what to do: {harness.output()[-2000:]}")
    if case.operation is not None:
        made = harness.ledger().calls.get(case.operation, 0) - case.skip
        if not 0 < made <= _MOST_REFUSED_CALLS:
            violations.add(8, f"{made} calls of {case.operation} were refused")
    with harness.database() as store:
        if store is None:
            violations.add(5, "there is no database")
            return
        with store.read() as connection:
            rows = connection.exec_driver_sql("SELECT custom_id FROM requests WHERE state = 'failed'").all()
    failed = {row.custom_id for row in rows} - set(case.scenario.failing)
    violations.lost += len(failed)
    if failed:
        violations.add(1, f"failed by the refusal: {sorted(failed)}")
