"""Sentences about budgets, for terminals, JSON, notifications and reports. Pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchkit import formatting
from batchkit.engine.progress import WorkloadState

if TYPE_CHECKING:
    from batchkit.budget import Budget
    from batchkit.engine.progress import Progress


def limits_text(budget: Budget) -> str:
    """Return the limits of a budget: ``$25.00``, ``100,000 tokens``, or both; empty without any."""
    limits = [] if budget.max_cost_usd is None else [formatting.usd(budget.max_cost_usd)]
    if budget.max_total_tokens is not None:
        limits.append(f"{budget.max_total_tokens:,} tokens")
    return " and ".join(limits)


def budget_text(progress: Progress) -> str:
    """Return what the budget stops or holds back, what is spent and in flight, and what to raise; empty where it has room."""
    state = progress.budget
    if state is None or not progress.is_held_by_budget:
        return ""
    budget, ledger = state.budget, state.ledger
    counts = formatting.counted(progress.not_sent + progress.counts.pending, "request")
    is_of_tokens = budget.max_total_tokens is not None and state.lacks_tokens
    spent, in_flight = (
        (f"{ledger.spent.tokens:,.0f} tokens", f"{ledger.expected.tokens:,.0f}")
        if is_of_tokens
        else (formatting.usd(ledger.spent.usd), formatting.usd(ledger.expected.usd))
    )
    option = "--max-total-tokens" if is_of_tokens else "--max-cost"
    wait = "waits" if progress.not_sent + progress.counts.pending == 1 else "wait"
    what = "stopped" if progress.state is WorkloadState.STOPPED_BY_BUDGET else "held back"
    return f"{what} by the budget: {spent} spent, {in_flight} in flight; {counts} {wait}; raise {option} to continue"
