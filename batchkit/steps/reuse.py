"""reuse: the requests of a split that need not be sent, because their answer is here, or an earlier request asks the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from batchkit.answers.rules import check_for
from batchkit.errors import StateConflict, UnknownWorkload
from batchkit.models import RequestState, WorkloadId
from batchkit.steps.block_check import lines_of
from batchkit.steps.shard_file import RequestLines
from batchkit.store import reuse, workloads
from batchkit.store.bulk import bulk_for
from batchkit.store.reuse import AnsweredBy

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy.engine import Connection

    from batchkit.models import ShardId, Workload
    from batchkit.steps.input_check import CheckedBlock
    from batchkit.steps.request_digests import RequestDigests
    from batchkit.steps.shard_file import ShardFile
    from batchkit.store.bulk import NewFollower, NewRequest
    from batchkit.store.engine import Store
    from batchkit.store.reuse import KnownRequest

#: When so many requests wait to be inserted, they are.
_MOST_WAITING = 20_000


_CHECKED_AT_ONCE = 64


class _Follower(NamedTuple):
    seq: int
    custom_id: str
    leader_seq: int


class ValidAnswers:
    """Finds requests whose answers are valid by the ``answer_rules`` of a workload (see ``Workload``).

    An answer to which other rules applied is checked by these, also one that its own rules rejected.
    """

    def __init__(self, store: Store, answer_rules: str | None) -> None:
        self._store = store
        self._answer_rules = answer_rules
        self._check = None if answer_rules is None else check_for(answer_rules)
        # The code of a user's model may have changed since.
        self._checks_all = self._check is not None and self._check.rules.model_path is not None
        self._rules_of: dict[WorkloadId, str | None] = {}

    def find(self, digests: Iterable[bytes], *, own: WorkloadId | None = None) -> dict[bytes, KnownRequest]:
        """Return a request with a valid answer for each digest that has one, or the unanswered request of ``own`` with it.

        A workload that is being split has answers, too: those that it reused from a workload that was cleaned meanwhile.
        """
        found: dict[bytes, KnownRequest] = {}
        doubtful: list[KnownRequest] = []
        with self._store.read() as connection:
            for known in reuse.find_known(connection, list(digests)):
                if known.workload_id == own and known.result_state is None:
                    found[known.digest] = known
                elif known.result_state is None or known.digest in found:
                    continue
                elif known.result_state == RequestState.SUCCEEDED and self._is_trusted(connection, known.workload_id):
                    found[known.digest] = known
                elif self._may_be_valid(connection, known):
                    doubtful.append(known)
        left = [known for known in doubtful if known.digest not in found]
        for start in range(0, len(left), _CHECKED_AT_ONCE):
            some = {(known.workload_id, known.seq): known for known in left[start : start + _CHECKED_AT_ONCE]}
            with self._store.read() as connection:
                kept = reuse.kept_answers(connection, list(some.values()))
            # Outside of the transaction, because a check may take long.
            for answer in kept:
                known = some[answer.workload_id, answer.seq]
                if known.digest not in found and self._is_valid(answer.body):
                    found[known.digest] = known._replace(result_shard_id=answer.shard_id)
        return found

    def _is_trusted(self, connection: Connection, workload_id: WorkloadId) -> bool:
        """Return whether a success of a workload is valid without being checked."""
        return self._check is None or (not self._checks_all and self._has_same_rules(connection, workload_id))

    def _may_be_valid(self, connection: Connection, known: KnownRequest) -> bool:
        is_success = known.result_state == RequestState.SUCCEEDED
        return is_success or self._checks_all or not self._has_same_rules(connection, known.workload_id)

    def _is_valid(self, body: str) -> bool:
        return self._check is None or self._check.read(body).code is None

    def _has_same_rules(self, connection: Connection, workload_id: WorkloadId) -> bool:
        if workload_id not in self._rules_of:
            try:
                self._rules_of[workload_id] = workloads.get(connection, workload_id).answer_rules
            except UnknownWorkload:
                # It has been cleaned since its request was found: its answers are not found either.
                return False
        return self._rules_of[workload_id] == self._answer_rules


class SplitReuse:
    """Sorts the requests of a split: what is sent, what has an answer, and what follows an earlier request with the same body.

    ``reused`` and ``repeated`` count the latter two. Memory holds what is not committed yet.
    """

    def __init__(self, store: Store, workload: Workload, digests: RequestDigests) -> None:
        self._workload_id = workload.id
        self._digests = digests
        self._answers = ValidAnswers(store, workload.answer_rules)
        #: Requests that are sent and not committed yet, by what they ask.
        self._fresh: dict[bytes, int] = {}
        self._answered: list[tuple[NewRequest, AnsweredBy]] = []
        self._followers: list[_Follower] = []
        self._placed: list[NewFollower] = []
        self.reused = 0
        self.repeated = 0

    @property
    def is_full(self) -> bool:
        """Whether enough requests wait to be inserted."""
        return len(self._answered) + len(self._placed) + len(self._followers) >= _MOST_WAITING

    @property
    def has_many_followers(self) -> bool:
        """Whether so many requests wait for the shards of others that the open shards are to be committed, too."""
        return len(self._followers) >= _MOST_WAITING // 2

    def left_to_send(self, block: CheckedBlock) -> tuple[RequestLines, list[int]]:
        """Return the lines of a block that are sent, and their indexes in it; the others are kept."""
        lines = lines_of(block.data)
        digests = self._digests.of_lines(lines, block=block.data)
        asked = {digest for digest in digests if digest is not None and digest not in self._fresh}
        known = self._answers.find(asked, own=self._workload_id) if asked else {}
        chosen: list[int] = []
        for place, digest in enumerate(digests):
            seq = block.first_seq + place
            if digest is None:
                chosen.append(place)
            elif digest in self._fresh:
                self._followers.append(_Follower(seq, block.custom_ids[place], self._fresh[digest]))
            elif digest in known:
                self._take_known(seq, block.custom_ids[place], known[digest])
            else:
                self._fresh[digest] = seq
                chosen.append(place)
        if len(chosen) == len(lines):
            seqs: Sequence[int] = range(block.first_seq, block.first_seq + len(lines))
            return RequestLines(seqs, block.custom_ids, block.lengths, block.data, digests), chosen
        data = b"".join(lines[place] + b"\n" for place in chosen)
        return RequestLines(
            [block.first_seq + place for place in chosen],
            [block.custom_ids[place] for place in chosen],
            [block.lengths[place] for place in chosen],
            data,
            [digests[place] for place in chosen],
        ), chosen

    def _take_known(self, seq: int, custom_id: str, known: KnownRequest) -> None:
        request = (seq, custom_id, known.shard_id, known.line_offset, known.line_length)
        if known.result_shard_id is None:
            self._placed.append((*request, known.seq))
        else:
            self._answered.append((request, AnsweredBy(seq, known.workload_id, known.seq, known.result_shard_id)))

    def insert(self, connection: Connection, committed: Sequence[tuple[ShardId, ShardFile]]) -> None:
        """Insert the requests that are not sent, except those that follow a request of a shard that is not committed.

        ``committed`` are the shards whose requests are inserted in this transaction. Raises ``StateConflict`` when an answer is
        gone.
        """
        self._place_followers(committed)
        bulk = bulk_for(connection)
        bulk.add_followers(self._workload_id, self._placed)
        answers = [answered_by for _, answered_by in self._answered]
        if answers:
            reuse.hold_workloads(connection, list({answer.workload_id for answer in answers}))
            bulk.add_answered_requests(self._workload_id, [request for request, _ in self._answered])
            if reuse.add_answered(connection, self._workload_id, answers) != len(answers):
                raise StateConflict("answers that were to be reused have been cleaned")
        self.repeated += len(self._placed)
        self.reused += len(answers)
        self._placed.clear()
        self._answered.clear()

    def _place_followers(self, committed: Sequence[tuple[ShardId, ShardFile]]) -> None:
        followed = {follower.leader_seq for follower in self._followers}
        places: dict[int, tuple[ShardId, int, int]] = {}
        for shard_id, shard in committed:
            for digest in shard.digests:
                if digest is not None:
                    self._fresh.pop(digest, None)
            if followed:
                places |= {
                    seq: (shard_id, offset, length)
                    for seq, offset, length in zip(shard.seqs, shard.offsets, shard.lengths, strict=False)
                    if seq in followed
                }
        waiting: list[_Follower] = []
        for follower in self._followers:
            place = places.get(follower.leader_seq)
            if place is None:
                waiting.append(follower)
            else:
                self._placed.append((follower.seq, follower.custom_id, *place, follower.leader_seq))
        self._followers = waiting
