"""The faults, and the catalogue of them."""

from __future__ import annotations

from batchkit.emulator.faults import answers, batches, calls, lines, lists, replies
from batchkit.emulator.faults.base import (
    OPERATIONS,
    BatchFault,
    Call,
    FamilyInfo,
    Fault,
    FaultInfo,
    HttpFault,
    LineFault,
    Selectable,
    describe,
    fault_families,
    suggestion,
)

__all__ = [
    "OPERATIONS",
    "BatchFault",
    "Call",
    "FamilyInfo",
    "Fault",
    "FaultInfo",
    "HttpFault",
    "LineFault",
    "Selectable",
    "answers",
    "batches",
    "calls",
    "describe",
    "fault_catalogue",
    "fault_families",
    "lines",
    "lists",
    "replies",
    "suggestion",
]


def fault_catalogue() -> list[FaultInfo]:
    """Return every fault with its explanation and parameters: lines first, then batches, then calls; each by name."""
    order = [family.name for family in fault_families()]
    return sorted(map(describe, Fault.registry.values()), key=lambda info: (order.index(info.family), info.name))
