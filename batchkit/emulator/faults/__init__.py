"""The faults, and the catalogue of them."""

from __future__ import annotations

from batchkit.emulator.faults import batches, calls, lines
from batchkit.emulator.faults.base import (
    OPERATIONS,
    BatchFault,
    Call,
    Fault,
    FaultInfo,
    HttpFault,
    LineFault,
    Selectable,
    describe,
    suggestion,
)

__all__ = [
    "OPERATIONS",
    "BatchFault",
    "Call",
    "Fault",
    "FaultInfo",
    "HttpFault",
    "LineFault",
    "Selectable",
    "batches",
    "calls",
    "describe",
    "fault_catalogue",
    "lines",
    "suggestion",
]


def fault_catalogue() -> list[FaultInfo]:
    """List every fault with its explanation and parameters: lines first, then batches, then calls; each by name."""
    order = {"lines": 0, "batches": 1, "calls": 2}
    return sorted(map(describe, Fault.registry.values()), key=lambda info: (order[info.family], info.name))
