"""The leases of this process: renewed while it works, given up when it ends, taken from processes that are certainly dead."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from batchkit.errors import SpoolError, StoreError
from batchkit.owners import dead_among, is_certainly_dead
from batchkit.store import shard_leases, workloads

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from batchkit.files.spool import Spool
    from batchkit.models import ShardId, WorkloadId
    from batchkit.store.engine import Store

logger = logging.getLogger(__name__)


class LeaseKeeper:
    """A thread that calls ``renew`` every ``interval_seconds`` until closed. An error of one call is left to the next."""

    def __init__(self, renew: Callable[[], None], interval_seconds: float) -> None:
        self._renew = renew
        self._interval_seconds = interval_seconds
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="batchkit-leases", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._closing.wait(self._interval_seconds):
            try:
                self._renew()
            except Exception:  # noqa: BLE001, S112 - the next guarded write finds out that a lease could not be renewed
                continue

    def close(self) -> None:
        """Stop renewing."""
        self._closing.set()
        self._thread.join()


class ProcessLeases:
    """The leases that ``owner``, this process, holds on shards and workloads. May be used in any thread.

    ``clock`` returns Unix seconds. No lease is renewed before the first ``hold``.
    """

    def __init__(
        self, store: Store, spool: Spool, *, owner: str, clock: Callable[[], float], lease_seconds: float
    ) -> None:
        self._store = store
        self._spool = spool
        self._owner = owner
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._lock = threading.Lock()
        self._are_dead_owners_freed = False
        #: The thread that renews; None before the first ``hold``.
        self.keeper: LeaseKeeper | None = None

    def hold(self) -> None:
        """Start renewing our leases, and free those of processes of this machine that are dead; later calls do nothing."""
        with self._lock:
            if self.keeper is None:
                self.keeper = LeaseKeeper(self._renew, self._lease_seconds / 3)
        if self._are_dead_owners_freed:
            return
        with self._store.write() as connection:
            for owner in dead_among(shard_leases.lease_owners(connection) | workloads.lease_owners(connection)):
                shard_leases.release(connection, owner)
                workloads.release_lease(connection, owner)
        self._are_dead_owners_freed = True
        try:
            self._spool.sweep(is_certainly_dead)
        except SpoolError as error:
            # The files of dead processes only take space: the next process tries again to delete them.
            logger.warning("%s; the work continues without that", error.message)

    def take_split(self, workload_id: WorkloadId) -> bool:
        """Take the lease of an interrupted split, so that no other process repeats it; return whether it was free."""
        with self._store.write() as connection:
            return workloads.take_lease(
                connection, workload_id, owner=self._owner, now=self._clock(), lease_seconds=self._lease_seconds
            )

    def take_over(self, shard_ids: Sequence[ShardId], *, owner: str) -> tuple[ShardId, ...]:
        """Take the shards that ``owner`` still holds; return them by number."""
        with self._store.write() as connection:
            until = self._clock() + self._lease_seconds
            return shard_leases.hand_over(connection, shard_ids, owner=owner, to=self._owner, until=until)

    def give_up(self) -> None:
        """Stop renewing and give all leases up. While the database is unreachable, they expire by themselves."""
        if self.keeper is None:
            return
        self.keeper.close()
        with suppress(StoreError), self._store.write() as connection:
            shard_leases.leave_submitting(connection, self._owner, now=self._clock())
            shard_leases.release(connection, self._owner)
            workloads.release_lease(connection, self._owner)

    def _renew(self) -> None:
        until = self._clock() + self._lease_seconds
        with self._store.write() as connection:
            shard_leases.renew_leases(connection, self._owner, until)
            workloads.renew_leases(connection, self._owner, until)
