"""A shard in the sync lane, and its requests that wait or are being sent: what the lane knows of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING

from batchkit.sending.reservations import Amounts, Reservation

if TYPE_CHECKING:
    from pathlib import Path

    from batchkit.models import ShardId, WorkloadId
    from batchkit.sending.gates import GateKey
    from batchkit.sending.journal import Journal


@dataclass(slots=True, eq=False)
class LaneCall:
    """A request that waits for its turn, or is being sent; ``characters`` are those of a text that is to be spoken."""

    shard: LaneShard
    custom_id: str
    key: GateKey
    amounts: Amounts
    offset: int
    length: int
    characters: int | None = None
    tries: int = 0
    refusals: int = 0
    reservation: Reservation = field(init=False)

    @property
    def request_id(self) -> str:
        """The same for every attempt of a request, so that a provider's log shows them together; it reveals nothing of it."""
        return blake2b(f"{self.shard.directory}\n{self.custom_id}".encode(), digest_size=16).hexdigest()

    def __post_init__(self) -> None:
        self.reservation = Reservation(self.amounts)


@dataclass(slots=True, eq=False)
class LaneShard:
    """A shard in the lane, with the directory of its workload.

    ``valid_until`` (Unix seconds) is the end of its lease as last read: nothing is sent after it. Where its answers are binary, they are
    written into ``folder``, which is ``folder_name`` in the spool.
    """

    id: ShardId
    workload_id: WorkloadId
    directory: str
    path: Path
    journal: Journal
    tiers: tuple[str, ...]
    valid_until: float
    folder_name: str
    folder: Path | None = None
    descriptor: int = -1
    waiting: int = 0
    in_flight: int = 0
    answered: int = 0
    is_halted: bool = False
    error: Exception | None = field(default=None, repr=False)

    @property
    def is_over(self) -> bool:
        """Whether nothing more of it will be sent or answered."""
        return self.in_flight == 0 and (self.waiting == 0 or self.is_halted)
