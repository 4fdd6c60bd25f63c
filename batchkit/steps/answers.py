"""Reading a batch's files: every line finds its request by custom_id, and each request keeps its best line.

One shard at a time. The answers go to the store some megabytes at a time; what stays in memory is a few numbers per request.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from batchkit.answers import reason_of_refusal
from batchkit.files import jsonl
from batchkit.files.spool import disk_errors
from batchkit.lifecycle import classify, decide, outranks
from batchkit.models import Outcome, OutcomeKind, RequestState
from batchkit.steps.answer_facts import facts_of
from batchkit.steps.plain_answers import plain_answers
from batchkit.store.bulk import Successes
from batchkit.store.rows import AnswerFacts, AttemptRow, ResultRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from batchkit.answers import AnswerCheck, Reading
    from batchkit.lifecycle import Verdict
    from batchkit.models import BatchProblem, OutputLine, RetryPolicy, Shard
    from batchkit.steps.plain_answers import PlainAnswers
    from batchkit.store.bulk import Bulk, NewBody, StateChange
    from batchkit.store.requests import ShardRequests

#: So much of answers waits in memory to be stored in input order; an export finds them side by side then.
_HELD_BYTES = 16_000_000
_BLOCK_BYTES = 1 << 18
_MAX_STORED_MESSAGE = 2_000

_first = itemgetter(0)

_UNANSWERED = {
    OutcomeKind.MISSING: Outcome(
        OutcomeKind.MISSING, None, "missing", "the provider returned no line for this request"
    ),
    OutcomeKind.EXPIRED: Outcome(
        OutcomeKind.EXPIRED, None, "batch_expired", "the completion window ran out before this request was executed"
    ),
    OutcomeKind.CANCELLED: Outcome(OutcomeKind.CANCELLED, None, "batch_cancelled", "the batch was cancelled"),
}


@dataclass(slots=True)
class Tally:
    """What a batch's files held, and what it means for the requests; the rows are ready for the store.

    ``successes`` and ``results`` have no request in common. ``account_refusal`` is what the first line said that was refused
    because of the account.
    """

    lines: int = 0
    malformed: int = 0
    unknown: int = 0
    duplicate: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0
    unmentioned: int = 0
    again: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    ends_torn: bool = False
    account_refusal: str | None = None
    states: list[StateChange] = field(default_factory=list)
    successes: Successes = field(default_factory=Successes)
    results: list[ResultRow] = field(default_factory=list)
    attempts: list[AttemptRow] = field(default_factory=list)


class AnswerReader:
    """Sorts the lines of one shard's batch to its requests. Call ``read`` for each file, then ``conclude`` once.

    A request is known by its place in the shard. Of a plain success the result is complete as soon as its line is read: such
    places are in ``_settled``. What the best line means of the others waits in ``_outcomes`` for the end.
    """

    def __init__(
        self,
        shard_requests: ShardRequests,
        *,
        shard: Shard,
        bulk: Bulk,
        policy: RetryPolicy,
        cancelling: bool,
        check: AnswerCheck | None = None,
        is_of_the_account: Callable[[OutputLine], bool] = lambda _line: False,
        keep_alive: Callable[[], object] = lambda: None,
    ) -> None:
        self._shard_requests = shard_requests
        self._by_id = dict(zip(shard_requests.custom_ids, range(len(shard_requests.seqs)), strict=True))
        self._settled: set[int] = set()
        self._outcomes: dict[int, Outcome] = {}
        self._told: dict[int, tuple[str | None, AnswerFacts]] = {}
        self._shard = shard
        self._bulk = bulk
        self._policy = policy if check is None else replace(policy, max_invalid=check.rules.tries)
        self._cancelling = cancelling
        self._check = check
        self._is_of_the_account = is_of_the_account
        self._keep_alive = keep_alive
        self._bodies: dict[int, str] = {}
        self._held_bytes = 0
        self.tally = Tally()

    def read(self, path: Path) -> None:
        """Read an output or error file. Lines that are broken, name nobody, or repeat an answer are counted."""
        with disk_errors("read", path):
            for block in _blocks(path):
                # Answers that are slow to check must not look like a process that stands still.
                self._keep_alive()
                whole = block.rfind(b"\n") + 1
                answers = plain_answers(block[:whole]) if whole else None
                if answers is None or not self._take_answers(answers):
                    for line in block[:whole].split(b"\n"):
                        self._take_line(line, is_torn=False)
                # Behind the last newline, if anything, is a line as well: the end of a file that may be torn.
                self._take_line(block[whole:], is_torn=True)

    def _take_answers(self, answers: PlainAnswers) -> bool:
        """Take plain answers, each the first one to its request; False, and nothing taken, when any is not."""
        indices = [self._by_id.get(custom_id, -1) for custom_id in answers.custom_ids]
        fresh = set(indices)
        if -1 in fresh or len(fresh) < len(indices) or not fresh.isdisjoint(self._settled):
            return False
        if not fresh.isdisjoint(self._outcomes):
            return False
        if self._check is None:
            self._take_successes(answers, indices)
            return True
        readings = list(map(self._check.read, answers.bodies))
        for place, reading in enumerate(readings):
            if reading.code is not None:
                self._take_breach(answers, place, indices[place], reading)
        good = [place for place, reading in enumerate(readings) if reading.code is None]
        self._take_successes(answers.chosen(good), [indices[place] for place in good])
        return True

    def _take_breach(self, answers: PlainAnswers, place: int, index: int, reading: Reading) -> None:
        """Take an answer that breaks the workload's rules: it was paid for, and is kept."""
        self.tally.lines += 1
        self._outcomes[index] = Outcome(OutcomeKind.INVALID, 200, reading.code, reading.message)
        self._told[index] = (
            answers.request_ids[place],
            AnswerFacts(*(column[place] for column in answers.facts)),
        )
        self._put(index, answers.bodies[place])

    def _take_successes(self, answers: PlainAnswers, indices: list[int]) -> None:
        self._settled.update(indices)
        seqs = list(map(self._shard_requests.seqs.__getitem__, indices))
        self._hold(zip(seqs, answers.bodies, strict=True), sum(map(len, answers.bodies)))
        attempts = list(map(self._shard_requests.attempts.__getitem__, indices))
        self.tally.successes.extend(Successes(seqs, attempts, answers.request_ids, answers.facts))
        self.tally.lines += len(indices)
        self.tally.succeeded += len(indices)

    def _take_line(self, line: bytes, *, is_torn: bool) -> None:
        """Take any line, ``is_torn`` when no newline ended it."""
        if not line or line.isspace():
            return
        self.tally.lines += 1
        try:
            record = jsonl.loads_leniently(line)
        except jsonl.MalformedJson:
            self.tally.malformed += 1
            self.tally.ends_torn |= is_torn
        else:
            self._take(record, line)

    def _take(self, record: Any, line: bytes) -> None:
        answer = jsonl.read_output_line(record)
        index = self._by_id.get(answer.custom_id) if answer is not None else None
        if answer is None or index is None:
            self.tally.unknown += 1
            return
        outcome = self._by_the_account(self._by_the_rules(classify(answer), answer), answer)
        known = self._outcomes.get(index)
        if known is not None or index in self._settled:
            self.tally.duplicate += 1
            if known is None or not outranks(outcome.kind, known.kind):
                return
        self._outcomes[index] = outcome
        is_paid = outcome.kind is OutcomeKind.INVALID
        if is_paid or self._verdict(index, outcome).state in {RequestState.SUCCEEDED, RequestState.FAILED}:
            self._keep(index, answer, line)

    def _by_the_rules(self, outcome: Outcome, answer: OutputLine) -> Outcome:
        """Look whether a success is one by the workload's own rules, and whether a refusal was the model's failure."""
        if self._check is None:
            return outcome
        if outcome.kind is OutcomeKind.SUCCEEDED:
            reading = self._check.read(jsonl.dumps(answer.body))
            if reading.code is None:
                return outcome
            return Outcome(OutcomeKind.INVALID, outcome.status_code, reading.code, reading.message)
        reason = reason_of_refusal(outcome.status_code, outcome.code, outcome.message)
        if reason is None:
            return outcome
        return Outcome(OutcomeKind.INVALID, outcome.status_code, reason, outcome.message)

    def _by_the_account(self, outcome: Outcome, answer: OutputLine) -> Outcome:
        """Take an account's refusal for what it is: it says nothing about the request."""
        is_error = outcome.kind in {OutcomeKind.REFUSED, OutcomeKind.TRANSIENT}
        if not is_error or not self._is_of_the_account(answer):
            return outcome
        if self.tally.account_refusal is None:
            self.tally.account_refusal = f"{outcome.code}: {outcome.message}"
        return Outcome(OutcomeKind.ACCOUNT, outcome.status_code, outcome.code, outcome.message)

    def _verdict(self, index: int, outcome: Outcome) -> Verdict:
        return decide(
            outcome.kind,
            attempts=self._shard_requests.attempts[index],
            expiries=self._shard_requests.expiries[index],
            policy=self._policy,
            cancelling=self._cancelling,
        )

    def _keep(self, index: int, answer: OutputLine, line: bytes) -> None:
        """Put the answer's body into the chunk as its line has it, and its few numbers aside for the result."""
        self._told[index] = (answer.request_id, facts_of(answer.body))
        if answer.body is not None:
            self._put(index, jsonl.body_text(line, answer.body))

    def _put(self, index: int, text: str) -> None:
        self._hold(((self._shard_requests.seqs[index], text),), len(text))

    def _hold(self, bodies: Iterable[NewBody], size: int) -> None:
        self._bodies.update(bodies)
        self._held_bytes += size
        if self._held_bytes >= _HELD_BYTES:
            self._flush()

    def _flush(self) -> None:
        self._bulk.add_bodies(self._shard.id, sorted(self._bodies.items(), key=_first))
        self._bodies.clear()
        self._held_bytes = 0

    def conclude(self, *, unanswered: OutcomeKind, named: Mapping[int, BatchProblem]) -> Tally:
        """Decide every request. Those without a line count as ``unanswered``, unless the batch's errors name their line.

        ``named`` maps line numbers of the shard file, from 1, to the provider's words.
        """
        self._flush()
        for index in range(len(self._shard_requests.seqs)):
            if index in self._settled:
                continue
            outcome = self._outcomes.get(index)
            if outcome is None:
                problem = named.get(index + 1)
                self.tally.unmentioned += problem is None
                outcome = _UNANSWERED[unanswered] if problem is None else _refused_by(problem)
            self._decide(index, outcome)
        facts = dict(zip(AnswerFacts._fields, self.tally.successes.facts, strict=True))
        self.tally.prompt_tokens += sum(filter(None, facts["prompt_tokens"]))
        self.tally.completion_tokens += sum(filter(None, facts["completion_tokens"]))
        return self.tally

    def _decide(self, index: int, outcome: Outcome) -> None:
        tally, seq = self.tally, self._shard_requests.seqs[index]
        verdict = self._verdict(index, outcome)
        request_id, facts = self._told.get(index, (None, AnswerFacts()))
        message = outcome.message[:_MAX_STORED_MESSAGE] if outcome.message else None
        if outcome.kind in {OutcomeKind.SUCCEEDED, OutcomeKind.INVALID}:
            tally.prompt_tokens += facts.prompt_tokens or 0
            tally.completion_tokens += facts.completion_tokens or 0
        if verdict.state is RequestState.SUCCEEDED:
            tally.succeeded += 1
        else:
            tally.states.append((seq, verdict.state.value, verdict.attempts, verdict.expiries))
            tally.attempts.append(
                AttemptRow(
                    shard_id=self._shard.id,
                    seq=seq,
                    workload_id=self._shard.workload_id,
                    attempt=self._shard_requests.attempts[index],
                    kind=outcome.kind.value,
                    status_code=outcome.status_code,
                    error_code=outcome.code,
                    error_message=message,
                    prompt_tokens=facts.prompt_tokens,
                    completion_tokens=facts.completion_tokens,
                )
            )
            tally.expired += verdict.expiries - self._shard_requests.expiries[index]
            tally.failed += verdict.state is RequestState.FAILED
            tally.cancelled += verdict.state is RequestState.CANCELLED
            tally.again += verdict.state is RequestState.PENDING
            if verdict.state is not RequestState.FAILED:
                return
        tally.results.append(
            ResultRow(
                workload_id=self._shard.workload_id,
                seq=seq,
                state=verdict.state.value,
                shard_id=self._shard.id,
                attempt=verdict.attempts - 1,
                status_code=outcome.status_code,
                request_id=request_id,
                error_code=outcome.code,
                error_message=message,
                facts=facts,
            )
        )


def _blocks(path: Path) -> Iterator[bytes]:
    r"""Give a file in blocks of whole lines, about a quarter of a megabyte each; the last one may lack its ``\n``."""
    held = bytearray()
    with path.open("rb", buffering=0) as handle:
        while chunk := handle.read(_BLOCK_BYTES):
            end = chunk.rfind(b"\n") + 1
            if end:
                yield b"".join((held, memoryview(chunk)[:end]))
                held = bytearray()
            held += chunk[end:]
    if held:
        yield bytes(held)


def _refused_by(problem: BatchProblem) -> Outcome:
    code = jsonl.storable_word(problem.code) or "invalid_line"
    return Outcome(OutcomeKind.REFUSED, None, code, jsonl.storable_text(problem.message))
