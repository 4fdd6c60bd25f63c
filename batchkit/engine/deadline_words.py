"""Sentences about deadlines, for terminals, logs and dry runs. Pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchkit import formatting
from batchkit.engine.deadline import Outlook
from batchkit.models import Lane

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchkit.engine.deadline import DeadlinePlan, Standing
    from batchkit.engine.progress import Progress

_LANES = {Lane.BATCH: "in batches", Lane.SYNC: "one by one"}


def plan_lines(plan: DeadlinePlan) -> Iterator[str]:
    """Return what a deadline means, before anything is sent: the lanes, what can be answered in time, and when it is too late."""
    at, now = plan.terms.at, plan.now
    yield f"{formatting.when(at, now)} (local time), in {formatting.duration(at - now)}"
    if plan.problem is not None:
        earliest = "" if plan.earliest is None else f"; the earliest possible time is {_soonest(plan.earliest, now)}"
        yield f"it cannot be met: {plan.problem}{earliest}"
        return
    if plan.lane is Lane.SYNC:
        yield "all requests are sent one by one"
    else:
        ends = "" if plan.is_in_time else ", which do not end in time"
        yield (
            f"in batches with a window of {plan.window}{ends}; what is missing at about {formatting.when(plan.cutoff, now)}"
            " is sent one by one"
        )
    if plan.drainable is None or plan.start_by is None:
        yield "how many single calls the account takes is not known (--rpm, --tpm), nor whether the deadline can be kept"
        return
    rate = f"{(plan.terms.rate or 0.0) * 60:,.3g} single calls a minute"
    yield f"{rate}: {plan.drainable:,} of {formatting.counted(plan.requests, 'request')} can be answered so in the time"
    if plan.drainable < plan.requests:
        yield "the others have to be answered in batches: that they are is likely, and not certain"
    else:
        yield f"it cannot be promised any more from {formatting.when(plan.start_by, now)} on"


def _soonest(at: float, now: float) -> str:
    """Write the first whole minute from a time on."""
    return formatting.when(at + 60, now)


def standing_text(found: Standing, now: float) -> str:
    """Return where a workload stands before its deadline, or how it ended."""
    at = formatting.when(found.at, now)
    match found.outlook:
        case Outlook.MET:
            early = formatting.duration(found.at - (found.ended_at or found.at))
            return f"{at} met, {early} before it"
        case Outlook.MISSED:
            late = formatting.duration((found.ended_at or now) - found.at)
            return f"{at} missed, {'by' if found.ended_at is not None else 'so far by'} {late}"
    parts = [at]
    if found.cutoff is not None:
        parts.append(
            f"what is missing at {formatting.when(found.cutoff, now)} is sent one by one"
            if found.cutoff > now
            else "what is missing is sent one by one now"
        )
    words = {
        Outlook.ON_TIME: "it will be met",
        Outlook.AT_RISK: "it is met only if the batches answer in time",
        Outlook.UNKNOWN: "whether it is met is not known before the first single calls",
    }
    if found.outlook is Outlook.AT_RISK and found.cutoff is None:
        words[Outlook.AT_RISK] = f"it will be missed: the last answer is expected {_expected(found, now)}"
    return "; ".join([*parts, words[found.outlook]])


def _expected(found: Standing, now: float) -> str:
    return "later" if found.expected_at is None else f"at {formatting.when(found.expected_at, now)}"


def lanes_text(found: Standing) -> str:
    """Return how many answers came in time, by lane, and how many came late; empty before the first one."""
    in_time = [f"{count:,} {_LANES[lane]}" for lane, count in found.in_time.items()]
    late = [f"{count:,} {_LANES[lane]}" for lane, count in found.late.items()]
    parts = [f"in time: {', '.join(in_time)}"] if in_time else []
    return "; ".join([*parts, *([f"late: {', '.join(late)}"] if late else [])])


def summary_text(progress: Progress) -> str:
    """Return whether the deadline of a finished workload was met, per lane; empty without a deadline."""
    if progress.deadline is None:
        return ""
    text = f"deadline {standing_text(progress.deadline, progress.read_at)}"
    lanes = lanes_text(progress.deadline)
    return f"{text} ({lanes})" if lanes else text
