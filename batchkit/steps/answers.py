"""Reading a batch's files: every line is matched to its request by custom_id, and each request keeps its best line.

One shard at a time. Answers go to the store some megabytes at a time; only a few numbers per request stay in memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from batchkit.answers.reasons import is_final, reason_of_refusal
from batchkit.files import jsonl
from batchkit.files.spool import disk_errors
from batchkit.lifecycle import as_relayed, classify, decide, outranks
from batchkit.models import LineOutcome, OutcomeKind, RequestState
from batchkit.steps.answer_facts import facts_of
from batchkit.steps.plain_answers import plain_answers
from batchkit.store.bulk import Successes
from batchkit.store.rows import AnswerFacts, AttemptRow, ResultRow

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from batchkit.answers.check import AnswerCheck, Reading
    from batchkit.lifecycle import LineCodes, RequestDecision
    from batchkit.models import BatchProblem, OutputLine, RetryPolicy, Shard
    from batchkit.steps.plain_answers import PlainAnswers
    from batchkit.store.bulk import Bulk, NewBody, StateChange
    from batchkit.store.requests import ShardRequests

#: Answers wait in memory up to this size and are stored in input order, so that an export finds them side by side.
_HELD_BYTES = 16_000_000
_BLOCK_BYTES = 1 << 18
_MAX_STORED_MESSAGE = 2_000

_first = itemgetter(0)

_UNANSWERED = {
    OutcomeKind.MISSING: LineOutcome(
        OutcomeKind.MISSING, None, "missing", "the provider returned no line for this request"
    ),
    OutcomeKind.EXPIRED: LineOutcome(
        OutcomeKind.EXPIRED, None, "batch_expired", "the completion window ran out before this request was executed"
    ),
    OutcomeKind.UNSENT: LineOutcome(OutcomeKind.UNSENT, None, "unsent", "it was not sent before the work stopped"),
    OutcomeKind.CANCELLED: LineOutcome(OutcomeKind.CANCELLED, None, "batch_cancelled", "the batch was cancelled"),
}


_VANISHED = LineOutcome(
    OutcomeKind.MISSING, None, "vanished", "the provider deleted the file with its answer before it was fetched"
)


@dataclass(slots=True)
class ShardAnswers:
    """Counts of a batch's files, and the rows for the store.

    ``successes`` and ``results`` have no request in common. ``account_refusal`` is the message of the first line that was
    refused because of the account. ``paid`` has the facts of answers that are no ``successes``, but have tokens.
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
    paid: list[AnswerFacts] = field(default_factory=list)

    def tokens_by_model(self) -> tuple[dict[str | None, tuple[int, int]], int]:
        """Return the tokens of the prompts and of the completions by the model that answered, and how many answers tell theirs."""
        of_successes = dict(zip(AnswerFacts._fields, self.successes.facts, strict=True))
        columns = [of_successes[name] for name in ("model", "prompt_tokens", "completion_tokens")]
        paid = ((facts.model, facts.prompt_tokens, facts.completion_tokens) for facts in self.paid)
        used: dict[str | None, tuple[int, int]] = {}
        metered = 0
        for model, prompt, completion in chain(zip(*columns, strict=True), paid):
            metered += prompt is not None
            before = used.get(model, (0, 0))
            used[model] = (before[0] + (prompt or 0), before[1] + (completion or 0))
        return used, metered


class AnswerReader:
    """Matches the lines of one shard's batch to its requests. Call ``read`` for each file, then ``conclude`` once.

    A request is identified by its place in the shard. The result of a plain success is complete when its line is read: its
    place is in ``_settled``. For other requests the outcome of the best line is kept in ``_outcomes`` until the end. ``elsewhere`` are
    the custom_ids of requests that have a line in the shard's file, and got their result from another batch.
    """

    def __init__(
        self,
        shard_requests: ShardRequests,
        *,
        shard: Shard,
        bulk: Bulk,
        policy: RetryPolicy,
        codes: LineCodes,
        cancelling: bool,
        holding: bool = False,
        elsewhere: Collection[str] = (),
        check: AnswerCheck | None = None,
        is_of_the_account: Callable[[OutputLine], bool] = lambda _line: False,
        keep_alive: Callable[[], object] = lambda: None,
    ) -> None:
        self._shard_requests = shard_requests
        self._by_id = dict(zip(_sent_ids(shard_requests, shard), range(len(shard_requests.seqs)), strict=True))
        self._elsewhere = elsewhere
        self._settled: set[int] = set()
        self._outcomes: dict[int, LineOutcome] = {}
        self._details: dict[int, tuple[str | None, AnswerFacts]] = {}
        self._shard = shard
        self._bulk = bulk
        self._policy = policy if check is None else replace(policy, max_invalid=check.rules.tries)
        self._codes = codes
        self._cancelling = cancelling
        self._holding = holding
        self._check = check
        self._is_of_the_account = is_of_the_account
        self._keep_alive = keep_alive
        self._bodies: dict[int, str] = {}
        self._held_bytes = 0
        self.shard_answers = ShardAnswers()

    def read(self, path: Path) -> None:
        """Read an output or error file. Malformed lines, lines for unknown requests and repeated answers are counted."""
        with disk_errors("read", path):
            for block in _blocks(path):
                # Checking answers may be slow, and Postgres must not end the transaction as idle.
                self._keep_alive()
                whole = block.rfind(b"\n") + 1
                answers = plain_answers(block[:whole]) if whole else None
                if answers is None or not self._take_answers(answers):
                    for line in block[:whole].split(b"\n"):
                        self._take_line(line, is_torn=False)
                # Bytes after the last newline are a line as well: the end of a file that may be torn.
                self._take_line(block[whole:], is_torn=True)

    def _take_answers(self, answers: PlainAnswers) -> bool:
        """Take plain answers if each is the first one for its request; else take none and return False."""
        indices = [self._by_id.get(custom_id, -1) for custom_id in answers.custom_ids]
        fresh = set(indices)
        if -1 in fresh or len(fresh) < len(indices) or not fresh.isdisjoint(self._settled):
            return False
        if not self._outcomes.keys().isdisjoint(fresh):
            return False
        if self._check is None:
            self._take_successes(answers, indices)
            return True
        readings = [self._reading(body) for body in answers.bodies]
        for place, reading in enumerate(readings):
            if reading.code is not None:
                self._take_breach(answers, place, indices[place], reading)
        good = [place for place, reading in enumerate(readings) if reading.code is None]
        self._take_successes(answers.chosen(good), [indices[place] for place in good])
        return True

    def _reading(self, body: bytes | str) -> Reading:
        """Return the reading of an answer; a model defined by the user may take seconds for one."""
        if self._check is None:
            raise RuntimeError("a workload without rules reads no answers")
        self._keep_alive()
        return self._check.read(body)

    def _take_breach(self, answers: PlainAnswers, place: int, index: int, reading: Reading) -> None:
        """Take an answer that breaks the workload's rules: it was paid for, so its body is kept."""
        self.shard_answers.lines += 1
        self._outcomes[index] = LineOutcome(OutcomeKind.INVALID, 200, reading.code, reading.message)
        self._details[index] = (
            answers.request_ids[place],
            AnswerFacts(*(column[place] for column in answers.facts)),
        )
        self._put(index, answers.bodies[place])

    def _take_successes(self, answers: PlainAnswers, indices: list[int]) -> None:
        self._settled.update(indices)
        seqs = list(map(self._shard_requests.seqs.__getitem__, indices))
        self._hold(zip(seqs, answers.bodies, strict=True), sum(map(len, answers.bodies)))
        attempts = list(map(self._shard_requests.attempts.__getitem__, indices))
        self.shard_answers.successes.extend(Successes(seqs, attempts, answers.request_ids, answers.facts))
        self.shard_answers.lines += len(indices)
        self.shard_answers.succeeded += len(indices)

    def _take_line(self, line: bytes, *, is_torn: bool) -> None:
        """Take any line; ``is_torn``: it does not end with a newline."""
        if not line or line.isspace():
            return
        self.shard_answers.lines += 1
        try:
            record = jsonl.loads_leniently(line)
        except jsonl.MalformedJson:
            self.shard_answers.malformed += 1
            self.shard_answers.ends_torn |= is_torn
        else:
            self._take(record, line)

    def _take(self, record: Any, line: bytes) -> None:
        answer = jsonl.read_output_line(record)
        index = self._by_id.get(answer.custom_id) if answer is not None else None
        if answer is None or index is None:
            self.shard_answers.unknown += answer is None or answer.custom_id not in self._elsewhere
            return
        answer = as_relayed(answer, self._codes)
        outcome = self._apply_account(self._apply_rules(classify(answer, self._codes), answer), answer)
        known = self._outcomes.get(index)
        if known is not None or index in self._settled:
            self.shard_answers.duplicate += 1
            if known is None or not outranks(outcome.kind, known.kind):
                return
        self._outcomes[index] = outcome
        is_paid = outcome.kind is OutcomeKind.INVALID
        if is_paid or self._verdict(index, outcome).state in {RequestState.SUCCEEDED, RequestState.FAILED}:
            self._keep(index, answer, line)

    def _apply_rules(self, outcome: LineOutcome, answer: OutputLine) -> LineOutcome:
        """Return ``INVALID`` for a success that breaks the workload's rules, and for a refusal that was the model's failure."""
        if self._check is None:
            return outcome
        if outcome.kind is OutcomeKind.SUCCEEDED:
            reading = self._reading(jsonl.dumps(answer.body))
            if reading.code is None:
                return outcome
            return LineOutcome(OutcomeKind.INVALID, outcome.status_code, reading.code, reading.message)
        reason = reason_of_refusal(outcome.status_code, outcome.code, outcome.message)
        if reason is None:
            return outcome
        return LineOutcome(OutcomeKind.INVALID, outcome.status_code, reason, outcome.message)

    def _apply_account(self, outcome: LineOutcome, answer: OutputLine) -> LineOutcome:
        """Return ``ACCOUNT`` for a refusal of the account: it proves nothing about the request."""
        is_error = outcome.kind in {OutcomeKind.REFUSED, OutcomeKind.TRANSIENT}
        if not is_error or not self._is_of_the_account(answer):
            return outcome
        if self.shard_answers.account_refusal is None:
            self.shard_answers.account_refusal = f"{outcome.code}: {outcome.message}"
        return LineOutcome(OutcomeKind.ACCOUNT, outcome.status_code, outcome.code, outcome.message)

    def _verdict(self, index: int, outcome: LineOutcome) -> RequestDecision:
        return decide(
            outcome.kind,
            attempts=self._shard_requests.attempts[index],
            expiries=self._shard_requests.expiries[index],
            policy=replace(self._policy, max_invalid=1) if is_final(outcome.code) else self._policy,
            cancelling=self._cancelling,
            holding=self._holding,
        )

    def _keep(self, index: int, answer: OutputLine, line: bytes) -> None:
        """Keep the answer's body as its line has it, and its facts for the result."""
        self._details[index] = (answer.request_id, facts_of(answer.body))
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

    def conclude(
        self, *, unanswered: OutcomeKind, named: Mapping[int, BatchProblem], vanished: bool = False
    ) -> ShardAnswers:
        """Decide every request. Those without a line count as ``unanswered``, unless the batch's errors name their line.

        ``vanished``: a file that the batch names is gone, which the error of those that are missing tells.

        ``named`` maps places of the shard's requests, from 0, to the provider's problems.
        """
        self._flush()
        for index in range(len(self._shard_requests.seqs)):
            if index in self._settled:
                continue
            outcome = self._outcomes.get(index)
            if outcome is None:
                problem = named.get(index)
                self.shard_answers.unmentioned += problem is None
                silence = _VANISHED if vanished and unanswered is OutcomeKind.MISSING else _UNANSWERED[unanswered]
                outcome = silence if problem is None else _refused_by(problem)
            self._decide(index, outcome)
        facts = dict(zip(AnswerFacts._fields, self.shard_answers.successes.facts, strict=True))
        self.shard_answers.prompt_tokens += sum(filter(None, facts["prompt_tokens"]))
        self.shard_answers.completion_tokens += sum(filter(None, facts["completion_tokens"]))
        return self.shard_answers

    def _decide(self, index: int, outcome: LineOutcome) -> None:
        answers, seq = self.shard_answers, self._shard_requests.seqs[index]
        verdict = self._verdict(index, outcome)
        request_id, facts = self._details.get(index, (None, AnswerFacts()))
        message = outcome.message[:_MAX_STORED_MESSAGE] if outcome.message else None
        if outcome.kind in {OutcomeKind.SUCCEEDED, OutcomeKind.INVALID}:
            answers.prompt_tokens += facts.prompt_tokens or 0
            answers.completion_tokens += facts.completion_tokens or 0
            answers.paid.append(facts)
        if verdict.state is RequestState.SUCCEEDED:
            answers.succeeded += 1
        else:
            answers.states.append((seq, verdict.state.value, verdict.attempts, verdict.expiries))
            if outcome.kind is not OutcomeKind.UNSENT:
                answers.attempts.append(
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
            if outcome.kind is not OutcomeKind.IN_DOUBT:
                answers.expired += verdict.expiries - self._shard_requests.expiries[index]
            answers.failed += verdict.state is RequestState.FAILED
            answers.cancelled += verdict.state is RequestState.CANCELLED
            answers.again += verdict.state is RequestState.PENDING
            if verdict.state is not RequestState.FAILED:
                return
        answers.results.append(
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


def _sent_ids(shard_requests: ShardRequests, shard: Shard) -> Sequence[str]:
    """Return the custom_ids as the shard's file has them."""
    if shard.id_prefix is None:
        return shard_requests.custom_ids
    return [custom_id.removeprefix(shard.id_prefix) for custom_id in shard_requests.custom_ids]


def _blocks(path: Path) -> Iterator[bytes]:
    r"""Yield a file in blocks of whole lines, about a quarter of a megabyte each; the last one may lack its ``\n``."""
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


def _refused_by(problem: BatchProblem) -> LineOutcome:
    code = jsonl.storable_word(problem.code) or "invalid_line"
    return LineOutcome(OutcomeKind.REFUSED, None, code, jsonl.storable_text(problem.message))
