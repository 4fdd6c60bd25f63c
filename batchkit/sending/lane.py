"""The sync lane of one process: it sends the requests of its shards one by one, in threads, as the limits allow.

A dispatcher admits requests, a thread each makes the calls, and one thread writes the journals. A request leaves its place in the
window when its answer is on the disk. Calls are not repeated here: what was not executed waits to be sent, and everything
else is a line of the journal, which the merge decides.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from batchkit.errors import BatchkitError, SpoolError
from batchkit.files import jsonl
from batchkit.files.spool import disk_errors
from batchkit.models import Trouble
from batchkit.preflight.rules import CHAT, RESPONSES
from batchkit.provider.call_verdicts import CallJudgement, CallVerdict
from batchkit.sending.estimate import estimate
from batchkit.sending.gates import GateKey
from batchkit.sending.journal import JournalWriter
from batchkit.sending.lane_shard import LaneCall, LaneShard
from batchkit.sending.media import answers_with_file, body_of_file
from batchkit.sending.reply_lines import line_of
from batchkit.sending.single_call import send_call
from batchkit.sending.threads import WorkerThreads

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from batchkit.models import ShardId, WorkloadId
    from batchkit.provider.call_reply import CallReply
    from batchkit.provider.calls import CallClient
    from batchkit.sending.gates import Gates
    from batchkit.sending.reservations import Amounts

#: A server error is an answer, but often passes: the request gets this many tries before its attempt has failed.
_TRIES_OF_SERVER_ERRORS: Final = 3
#: A tier that has no room so often for a request is left for the next one that the user allows.
_REFUSALS_OF_A_TIER: Final = 3
_CAPACITY_EXCEEDED: Final = 498  # of a service tier (console.groq.com/docs/flex-processing)
#: With fewer requests that wait, another shard is taken.
_LEAST_WAITING: Final = 20
#: A rate is known after so many answers in the time that it is measured over.
_LEAST_MEASURED: Final = 20
_MEASURED_SECONDS: Final = 60
#: The dispatcher asks again after this long even if nobody told it that something changed.
_LONGEST_PAUSE_SECONDS: Final = 1.0


class SyncLane:
    """Sends requests; one for a process, used by any number of workloads. ``clock`` returns Unix seconds.

    ``judge`` says what a reply means, and ``refused`` makes the error of a refusal that is about the account or the settings: with it
    all shards are halted.
    """

    def __init__(
        self,
        client: CallClient,
        gates: Gates,
        *,
        clock: Callable[[], float],
        judge: Callable[[CallReply], CallJudgement],
        refused: Callable[[CallReply, CallJudgement], BatchkitError],
    ) -> None:
        self._client = client
        self._gates = gates
        self._clock = clock
        self._judge = judge
        self._refused = refused
        self._writer = JournalWriter()
        self._threads = WorkerThreads(name="batchkit-call")
        self._changed = threading.Condition()
        self._queues: dict[GateKey, deque[LaneCall]] = {}
        self._shards: dict[ShardId, LaneShard] = {}
        self._is_closed = False
        self._trouble: Trouble | None = None
        self._dispatcher = threading.Thread(target=self._dispatch, name="batchkit-lane", daemon=True)
        self._dispatcher.start()

    # What steps ask

    def holds(self, shard_id: ShardId) -> bool:
        """Return whether the lane sends this shard."""
        return shard_id in self._shards

    def begin(self, shard: LaneShard) -> None:
        """Take a shard whose file is at ``shard.path``. Raises ``SpoolError``."""
        calls = self._calls_of(shard)
        with disk_errors("read", shard.path):
            shard.descriptor = os.open(shard.path, os.O_RDONLY)
        with self._changed:
            shard.waiting = len(calls)
            self._shards[shard.id] = shard
            for call in calls:
                self._queues.setdefault(call.key, deque()).append(call)
            self._changed.notify_all()

    def extend(self, shard_id: ShardId, valid_until: float) -> None:
        """Note that the lease of a shard holds until then."""
        with self._changed:
            self._shards[shard_id].valid_until = valid_until
            self._changed.notify_all()

    def halt(self, shard_ids: Sequence[ShardId]) -> None:
        """Send nothing more of some shards; calls under way end."""
        with self._changed:
            for shard_id in shard_ids:
                if (shard := self._shards.get(shard_id)) is not None:
                    shard.is_halted = True
            self._changed.notify_all()

    def of_workload(self, workload_id: WorkloadId) -> list[LaneShard]:
        """Return the shards of a workload that are in the lane."""
        with self._changed:
            return [shard for shard in self._shards.values() if shard.workload_id == workload_id]

    def wait(self, workload_id: WorkloadId, seconds: float, *, stopping: threading.Event) -> None:
        """Wait until a shard of the workload is over, for at most so many seconds."""
        ends_at = time.monotonic() + seconds
        with self._changed:
            while (left := ends_at - time.monotonic()) > 0 and not stopping.is_set():
                mine = [shard for shard in self._shards.values() if shard.workload_id == workload_id]
                if not mine or any(shard.is_over for shard in mine):
                    return
                self._changed.wait(min(left, 0.2))

    def wait_over(self, shard_id: ShardId, seconds: float) -> None:
        """Wait until a shard is over, for at most so many seconds."""
        ends_at = time.monotonic() + seconds
        with self._changed:
            while not self._shards[shard_id].is_over and (left := ends_at - time.monotonic()) > 0:
                self._changed.wait(left)

    def release(self, shard_id: ShardId) -> None:
        """Forget a shard that is over, and close its files."""
        with self._changed:
            shard = self._shards.pop(shard_id)
            shard.is_halted = True
            for queue in self._queues.values():
                for call in [call for call in queue if call.shard is shard]:
                    queue.remove(call)
        shard.journal.close()
        with suppress(OSError):
            os.close(shard.descriptor)

    def room(self, *, shard_lines: int) -> int:
        """Return how many more shards of this size keep the lane busy."""
        with self._changed:
            waiting = sum(shard.waiting for shard in self._shards.values() if not shard.is_halted)
            # As few as keep the window full: a lost machine takes the answers of its shards with it.
            wanted = max(2 * self._in_flight(), _LEAST_WAITING)
        return max(-(-(wanted - waiting) // shard_lines), 0)

    def idle_until(self, workload_id: WorkloadId) -> float | None:
        """Return until when nothing of the workload can be sent (Unix seconds); None while calls are under way or due."""
        with self._changed:
            mine = [shard for shard in self._shards.values() if shard.workload_id == workload_id]
            if not mine or any(shard.in_flight or shard.is_over for shard in mine):
                return None
            keys = {queue[0].key for queue in self._queues.values() if queue}
        parked = {park.key: park.until for park in self._gates.parked(time.monotonic())}
        if not keys or not keys <= parked.keys():
            return None
        return self._clock() + max(min(parked[key] for key in keys) - time.monotonic(), 0.0)

    def pauses(self) -> list[tuple[str, str, float]]:
        """Return the models that nothing is sent for, as (model, reason, until in Unix seconds)."""
        now = time.monotonic()
        return [
            (park.key.model, park.reason, self._clock() + max(park.until - now, 0.0))
            for park in self._gates.parked(now)
        ]

    def answers_per_second(self, workload_id: WorkloadId) -> float | None:
        """Return how many answers a second came over the last minute; None while few have come, or none of the workload are due."""
        with self._changed:
            is_busy = any(shard.workload_id == workload_id and not shard.is_over for shard in self._shards.values())
        if not is_busy:
            return None
        rate = self._gates.answers_per_second(time.monotonic())
        return rate if rate * _MEASURED_SECONDS >= _LEAST_MEASURED else None

    def trouble(self) -> Trouble | None:
        """Return the outage: calls have failed since then, without an answer in between; None without one."""
        return self._trouble

    @property
    def in_flight(self) -> int:
        """How many calls are under way."""
        with self._changed:
            return self._in_flight()

    def close(self, grace_seconds: float) -> int:
        """Send nothing more, and wait so long for calls under way; return how many got no answer. Later calls return 0."""
        with self._changed:
            if self._is_closed:
                return 0
            self._is_closed = True
            self._changed.notify_all()
            ends_at = time.monotonic() + grace_seconds
            try:
                while self._in_flight() and (left := ends_at - time.monotonic()) > 0:
                    self._changed.wait(min(left, 0.2))
            finally:
                left_over = self._in_flight()
        self._client.abort()
        self._threads.close()
        self._writer.close()
        self._client.close()
        return left_over

    def _in_flight(self) -> int:
        return sum(shard.in_flight for shard in self._shards.values())

    # The dispatcher

    def _calls_of(self, shard: LaneShard) -> list[LaneCall]:
        calls: list[LaneCall] = []
        offset = 0
        with disk_errors("read", shard.path), shard.path.open("rb") as handle:
            for line in handle:
                try:
                    record = jsonl.loads_leniently(line)
                    custom_id, body = record["custom_id"], record["body"]
                    amounts = estimate(body, record["url"])
                except (jsonl.MalformedJson, KeyError, TypeError, AttributeError) as error:
                    raise SpoolError(
                        f"{shard.path} has a line that is no request", hint="put BATCHKIT_HOME back as it was"
                    ) from error
                model = body.get("model")
                tiers = shard.tiers if record["url"] in _WITH_TIERS else ()
                key = GateKey(model if isinstance(model, str) else "", self._tier_of(body, tiers))
                characters = len(str(body.get("input"))) if answers_with_file(record["url"]) else None
                calls.append(LaneCall(shard, custom_id, key, amounts, offset, len(line), characters))
                offset += len(line)
        return calls

    @staticmethod
    def _tier_of(body: dict[str, object], tiers: tuple[str, ...]) -> str | None:
        own = body.get("service_tier")
        return own if isinstance(own, str) else tiers[0] if tiers else None

    def _dispatch(self) -> None:
        while True:
            with self._changed:
                if self._is_closed:
                    return
                try:
                    pause = self._admit_all()
                except Exception as error:  # noqa: BLE001 - the steps that end the shards raise it
                    self._halt_all(error)
                    pause = _LONGEST_PAUSE_SECONDS
                if pause > 0:
                    self._changed.wait(min(pause, _LONGEST_PAUSE_SECONDS))

    def _admit_all(self) -> float:
        """Start what may be sent now; return for how many seconds nothing more may be."""
        soonest = float("inf")
        for key, queue in list(self._queues.items()):
            while queue:
                call = queue[0]
                if call.shard.is_halted:
                    queue.popleft()
                    continue
                if self._clock() >= call.shard.valid_until:
                    queue.rotate(-1)
                    soonest = min(soonest, _LONGEST_PAUSE_SECONDS)
                    break
                now = time.monotonic()
                at = self._gates.try_admit(key, call.reservation, now)
                if at:
                    soonest = min(soonest, at - now)
                    break
                queue.popleft()
                self._start(call)
            if not queue:
                del self._queues[key]
        return max(soonest, 0.001)

    def _halt_all(self, error: Exception) -> None:
        for shard in self._shards.values():
            shard.is_halted = True
            shard.error = shard.error or error
        self._changed.notify_all()

    def _start(self, call: LaneCall) -> None:
        shard = call.shard
        try:
            # Before the call: after a death the journal names what was under way.
            shard.journal.sent(call.custom_id, self._clock())
        except SpoolError as error:
            self._gates.give_back(call.key, call.reservation, time.monotonic())
            shard.is_halted, shard.error = True, error
            return
        shard.waiting -= 1
        shard.in_flight += 1
        self._threads.do(lambda: self._send(call))

    # A call, in its thread

    def _send(self, call: LaneCall) -> None:
        try:
            self._conclude(call, send_call(self._client, call))
        except Exception as error:  # noqa: BLE001 - the step that ends the shard raises it
            with self._changed:
                call.shard.is_halted = True
                call.shard.error = call.shard.error or error
            self._leave(call, CallJudgement(verdict=CallVerdict.IN_DOUBT, message=str(error)))

    def _conclude(self, call: LaneCall, reply: CallReply) -> None:
        judgement = self._judge(reply)
        verdict = judgement.verdict
        self._note(judgement)
        if verdict in _NOT_EXECUTED:
            next_key = self._next_key(call) if reply.status == _CAPACITY_EXCEEDED else None
            self._requeue(call, judgement, next_key)
        elif verdict is CallVerdict.SERVER_ERROR and call.tries + 1 < _TRIES_OF_SERVER_ERRORS:
            call.tries += 1
            self._requeue(call, judgement)
        elif verdict in _OF_THE_ACCOUNT:
            with self._changed:
                self._halt_all(self._refused(reply, judgement))
            self._requeue(call, judgement)
        else:
            self._write(call, reply, judgement)

    def _note(self, judgement: CallJudgement) -> None:
        if judgement.verdict not in _BROKEN:
            self._trouble = None
            return
        known = self._trouble
        since, tries = (self._clock(), 0) if known is None else (known.since, known.tries)
        self._trouble = Trouble(judgement.message, since, tries + 1)

    def _write(self, call: LaneCall, reply: CallReply, judgement: CallJudgement) -> None:
        file = body_of_file(reply, call.shard.folder_name, characters=call.characters)
        line, used = line_of(call.custom_id, reply, judgement, file=file)

        def written(error: Exception | None) -> None:
            with self._changed:
                shard = call.shard
                if error is None:
                    shard.answered += 1
                else:
                    shard.is_halted, shard.error = True, shard.error or error
            self._leave(call, judgement, used)

        self._writer.append(call.shard.journal, line, written)

    @staticmethod
    def _next_key(call: LaneCall) -> GateKey | None:
        """Return the key of the next tier that the user allows, when the present one keeps refusing; None: stay."""
        call.refusals += 1
        tiers = call.shard.tiers
        if call.refusals < _REFUSALS_OF_A_TIER or call.key.tier not in tiers[:-1]:
            return None
        call.refusals = 0
        return call.key._replace(tier=tiers[tiers.index(call.key.tier) + 1])

    def _requeue(self, call: LaneCall, judgement: CallJudgement, key: GateKey | None = None) -> None:
        """Put a request that was not executed back to the front, of the queue of another key if one is given."""
        try:
            call.shard.journal.unsent(call.custom_id)
        except SpoolError as error:
            with self._changed:
                call.shard.is_halted, call.shard.error = True, call.shard.error or error
        # First, so that its next admission has a ticket of its own.
        self._gates.ended(call.key, call.reservation, judgement, time.monotonic())
        call.key = key or call.key
        with self._changed:
            call.shard.waiting += 1
            call.shard.in_flight -= 1
            if not call.shard.is_halted:
                self._queues.setdefault(call.key, deque()).appendleft(call)
            self._changed.notify_all()

    def _leave(self, call: LaneCall, judgement: CallJudgement, used: Amounts | None = None) -> None:
        """Give back a call's place in the window."""
        try:
            self._gates.ended(call.key, call.reservation, judgement, time.monotonic(), used=used)
        finally:
            with self._changed:
                call.shard.in_flight -= 1
                self._changed.notify_all()


#: Service tiers are documented for these alone (console.groq.com/docs/service-tiers).
_WITH_TIERS: Final = frozenset({CHAT, RESPONSES})
_NOT_EXECUTED: Final = frozenset(
    {CallVerdict.LIMITED_SHORT, CallVerdict.LIMITED_LONG, CallVerdict.CAPACITY, CallVerdict.NOT_SENT}
)
_BROKEN: Final = frozenset({CallVerdict.NOT_SENT, CallVerdict.SERVER_ERROR, CallVerdict.IN_DOUBT})
_OF_THE_ACCOUNT: Final = frozenset(
    {CallVerdict.ACCOUNT, CallVerdict.TIER, CallVerdict.REDIRECT, CallVerdict.WRONG_ADDRESS}
)
