"""Checks that refuse work on a workload before anything is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchkit.errors import ConfigurationError, SplitUnfinished
from batchkit.models import ShardState
from batchkit.owners import described, is_certainly_dead
from batchkit.provider.access import credential_digest
from batchkit.steps.split import check_provider
from batchkit.store import shards, workloads

if TYPE_CHECKING:
    from batchkit.models import WorkloadId
    from batchkit.settings import Settings
    from batchkit.store.engine import Store

#: A workload without a shard in any of these states has nothing at the provider: neither a file nor a batch.
_SENT = tuple(state for state in ShardState if state not in {ShardState.PLANNED, ShardState.WITHDRAWN})


def check_split(store: Store, workload_id: WorkloadId, *, now: float) -> None:
    """Check that the workload's input is completely split at ``now`` (Unix seconds): nothing may be sent before that.

    Raises ``SplitUnfinished``, which says who is splitting it or that its split was interrupted, and ``UnknownWorkload``.
    """
    with store.read() as connection:
        name = workloads.get(connection, workload_id).name
        status = workloads.split_status(connection, workload_id, now=now)
    if status.is_whole:
        return
    if status.owner is not None and not is_certainly_dead(status.owner):
        raise SplitUnfinished(
            f"workload {name!r} is being split by {described(status.owner)}; nothing of it is sent before it is split whole",
            hint="wait for that command, or stop it",
        )
    raise SplitUnfinished(
        f"workload {name!r}: its split was interrupted, and nothing of it was sent",
        hint=f"run the same `run` command again, which begins the split anew, or remove it with `batchkit clean {name}`",
    )


def check_same_database(store: Store, workload_id: WorkloadId, directory: str) -> None:
    """Check that the open workload of this id has this directory, so that another process's id means the same workload here.

    Raises ``ConfigurationError``.
    """
    with store.read() as connection:
        directories = {workload.id: workload.directory for workload in workloads.open_workloads(connection)}
    if directories.get(workload_id) != directory:
        raise ConfigurationError(
            f"a process that is to do work finds no such workload in {store.display_url}",
            hint="set the same BATCHKIT_DATABASE_URL in the environment of every worker",
        )


def check_credential(store: Store, workload_id: WorkloadId, settings: Settings) -> None:
    """Refuse another provider, key or address than the one that submitted: it would not see the batches, and would buy them again.

    The first key and address are stored as a digest. Raises ``ConfigurationError``, and ``WorkloadConflict`` for another provider.
    """
    key = settings.api_key
    digest = credential_digest(settings.address, key.get_secret_value() if key else "")
    with store.write() as connection:
        workload = workloads.get(connection, workload_id)
        check_provider(workload, settings.provider)
        if workload.credential == digest:
            return
        was_sent = shards.has_any(connection, workload_id, _SENT)
        if workload.credential is None or settings.accept_other_key or not was_sent:
            workloads.set_values(connection, workload_id, credential=digest)
        else:
            raise ConfigurationError(
                f"workload {workload.name!r} was submitted with another key or address than the present one",
                hint=f"set the {settings.dialect.key.variables[0]} and BATCHKIT_BASE_URL that submitted it; if both belong to the same"
                " organisation, say so with --accept-other-key",
            )
