"""Workloads that are being made: a row without a number of requests, whose lease its maker holds. Nobody sends anything of them."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from batchkit.errors import SpoolError
from batchkit.store import workloads

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection

    from batchkit.models import Workload
    from batchkit.steps.context import StepContext


def begin(context: StepContext, name: str, add: Callable[[Connection], bool]) -> Workload | None:
    """Insert a workload with our lease by ``add``, replacing one that was not made whole; None when another runner holds the lease."""
    with context.store.write() as connection:
        found = workloads.find(connection, name)
        if found is not None:
            if found.request_count is not None or not _take_lease(context, connection, found):
                return None
            if workloads.get(connection, found.id).request_count is not None:
                # Its runner finished it while we waited for the row: its batches may exist already.
                workloads.release_lease(connection, context.owner)
                return None
    if found is not None:
        _remove_files(context, found.directory)
    with context.store.write() as connection:
        if found is not None:
            if not workloads.holds_lease(connection, found.id, context.owner):
                return None
            workloads.remove(connection, found.id)
        if not add(connection):
            return None
        workload = workloads.find(connection, name)
        if workload is None or not _take_lease(context, connection, workload):
            return None
    return workload


def is_ours(context: StepContext, workload: Workload) -> bool:
    """Return whether we still hold the lease."""
    with context.store.write() as connection:
        return workloads.holds_lease(connection, workload.id, context.owner)


def abandon(context: StepContext, workload: Workload) -> None:
    """Remove everything of a workload that could not be made whole; nothing of it was sent."""
    if not is_ours(context, workload):
        return
    # The error that ended it is being raised already.
    with suppress(SpoolError):
        _remove_files(context, workload.directory)
    with context.store.write() as connection:
        if workloads.holds_lease(connection, workload.id, context.owner):
            workloads.remove(connection, workload.id)


def _take_lease(context: StepContext, connection: Connection, workload: Workload) -> bool:
    return workloads.take_lease(
        connection,
        workload.id,
        owner=context.owner,
        now=context.clock(),
        lease_seconds=context.timing.lease_seconds,
    )


def _remove_files(context: StepContext, directory: str) -> None:
    """Delete the files. If that fails, the lease is given up and the row stays, because only it names the folder."""
    try:
        context.spool.remove_tree(directory)
    except SpoolError:
        with context.store.write() as connection:
            workloads.release_lease(connection, context.owner)
        raise
