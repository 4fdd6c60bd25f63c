"""The active scenario, with its faults sorted by where they act."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from batchkit.emulator.contract.rules import BatchRules
from batchkit.emulator.faults import BatchFault, Fault, HttpFault, LineFault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchkit.emulator.faults import Call
    from batchkit.emulator.scenarios.scenario import Scenario

_Kind = TypeVar("_Kind", bound=Fault)


class Script:
    """Returns the scenario's decisions for a line, a batch or a call."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.seed = scenario.seed
        self.limits = scenario.limits
        self.replies = scenario.replies
        self.lines = self._of_kind(LineFault)
        self._batches = self._of_kind(BatchFault)
        self._calls = self._of_kind(HttpFault)

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
        )
        for fault in self._hitting(ordinal):
            rules = fault.govern(rules)
        return rules

    def show(self, ordinal: int, shown: dict[str, Any]) -> dict[str, Any]:
        """Return a batch object as a client sees it."""
        for fault in self._hitting(ordinal):
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
