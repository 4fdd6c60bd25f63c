"""The active scenario, with its faults sorted by where they act."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from batchkit.emulator.contract.rates import PLANS
from batchkit.emulator.contract.rules import BatchRules, Limits
from batchkit.emulator.faults import BatchFault, Fault, HttpFault, LineFault, calls

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchkit.emulator.dialects.dialect import Dialect
    from batchkit.emulator.faults import Call
    from batchkit.emulator.scenarios.scenario import Scenario

_Kind = TypeVar("_Kind", bound=Fault)


class Script:
    """Returns the scenario's decisions for a line, a batch or a call."""

    def __init__(self, scenario: Scenario, dialect: Dialect) -> None:
        self.scenario = scenario
        self.dialect = dialect
        self.seed = scenario.seed
        self.limits = _limits(scenario, dialect)
        self.replies = scenario.replies
        self.lines = self._of_kind(LineFault)
        self._batches = self._of_kind(BatchFault)
        self.plan = PLANS[scenario.plan]
        gate: tuple[HttpFault, ...] = () if self.plan.batches else (calls.PlanGate(),)
        self._calls = (*gate, *self._of_kind(HttpFault))

    def _of_kind(self, kind: type[_Kind]) -> tuple[_Kind, ...]:
        return tuple(fault for fault in self.scenario.faults if isinstance(fault, kind))

    def rules(self, ordinal: int) -> BatchRules:
        """Return the rules for the ``ordinal``-th batch created since the scenario was set."""
        timing = self.scenario.timing
        rules = BatchRules(
            validating_seconds=timing.validating_seconds,
            seconds_per_line=timing.seconds_per_line,
            finalizing_seconds=timing.finalizing_seconds,
            cancelling_seconds=timing.cancelling_seconds,
            single_url=self.dialect.single_url,
            single_model=self.dialect.single_model,
            expired_lines_listed=self.dialect.unexecuted_lines_listed,
            cancelled_lines_listed=self.dialect.unexecuted_lines_listed,
            empty_files=self.dialect.empty_files,
            never_expires=self.dialect.never_expires,
            cancel_ended_status=self.dialect.cancel_ended_status,
        )
        for fault in self._hitting(ordinal):
            rules = fault.govern(rules)
        return rules

    def file_ready_seconds(self) -> float:
        """Return for how long a new file cannot be used."""
        chosen = self.scenario.timing.file_ready_seconds
        return self.dialect.file_ready_seconds if chosen is None else chosen

    def show(self, ordinal: int, shown: dict[str, Any], listings: int | None) -> dict[str, Any]:
        """Return a batch object as a client sees it, in a list if ``listings`` counts the list calls since its creation."""
        for fault in self._hitting(ordinal):
            if listings is not None:
                fault.show_listed(shown, listings)
            fault.show(shown)
        return shown

    def hides(self, ordinal: int, status: str, listings: int, *, in_list: bool) -> bool:
        """Return whether a batch cannot be found."""
        return any(fault.hides(status, listings, in_list=in_list) for fault in self._hitting(ordinal))

    def _hitting(self, ordinal: int) -> Iterator[BatchFault]:
        return (fault for fault in self._batches if fault.hits(ordinal, self.seed))

    def call_faults(self, call: Call) -> list[HttpFault]:
        """Return the faults that hit a call, in the scenario's order."""
        return [fault for fault in self._calls if fault.hits(call, self.seed)]


def _limits(scenario: Scenario, dialect: Dialect) -> Limits:
    given = scenario.limits
    return Limits(
        max_lines=given.max_lines or dialect.max_lines,
        max_bytes=given.max_bytes or dialect.max_bytes,
        max_line_bytes=given.max_line_bytes or dialect.max_line_bytes,
        max_files=given.max_files or dialect.max_files,
        ids_per_query=given.ids_per_query,
        page_size=given.page_size or dialect.page_size,
        max_page_size=dialect.max_page_size,
        errors_shown=given.errors_shown,
    )
