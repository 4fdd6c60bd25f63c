"""Ids and frozen records that the layers hand to each other. No logic beyond what a record knows of itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NewType

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

WorkloadId = NewType("WorkloadId", int)
ShardId = NewType("ShardId", int)
BatchId = NewType("BatchId", str)
FileId = NewType("FileId", str)


class ShardState(StrEnum):
    """Where a shard is on its one-way road; ``lifecycle.SHARD_TRANSITIONS`` has the edges."""

    PLANNED = "planned"
    UPLOADED = "uploaded"
    SUBMITTING = "submitting"
    SUBMITTED = "submitted"
    ENDED = "ended"
    MERGED = "merged"
    WITHDRAWN = "withdrawn"


class RequestState(StrEnum):
    """Where one input line is; ``lifecycle.REQUEST_TRANSITIONS`` has the edges."""

    PENDING = "pending"
    IN_FLIGHT = "in_flight"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class BatchStatus(StrEnum):
    """The provider's words for a batch (console.groq.com/docs/batch); others are met and treated as running."""

    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


TERMINAL_STATUSES = frozenset(
    {BatchStatus.COMPLETED, BatchStatus.EXPIRED, BatchStatus.CANCELLED, BatchStatus.FAILED},
)


#: The status that we write when the provider does not know a batch any more; no provider uses the word.
GONE = "gone"


@dataclass(frozen=True, slots=True)
class RequestCounts:
    """What the provider says it counted; never proof of completeness."""

    total: int = 0
    completed: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class BatchProblem:
    """One entry of a batch's ``errors``; ``line`` starts at 1 and is None when the whole file is meant."""

    message: str
    code: str | None = None
    line: int | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """The provider's object as it last told us. Times are Unix seconds, None when absent.

    ``status`` is a plain string: a word we do not know is kept and treated as running. ``raw`` is the object as received.
    Of a batch read from the store, ``missing_since`` is set when the provider did not know it when it was asked last, and
    ``seen_at`` is when something new was written of it.
    """

    id: BatchId
    status: str
    endpoint: str = ""
    input_file_id: FileId | None = None
    output_file_id: FileId | None = None
    error_file_id: FileId | None = None
    completion_window: str = ""
    created_at: int | None = None
    expires_at: int | None = None
    counts: RequestCounts = field(default_factory=RequestCounts)
    metadata: Mapping[str, str] = field(default_factory=dict)
    problems: Sequence[BatchProblem] = ()
    raw: Mapping[str, Any] = field(default_factory=dict)
    missing_since: float | None = field(default=None, compare=False)
    seen_at: float | None = field(default=None, compare=False)

    @property
    def is_terminal(self) -> bool:
        """Whether the status can no longer change."""
        return self.status in TERMINAL_STATUSES


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that the work needs is away. Times are Unix seconds of this machine.

    ``what`` is a sentence without a full stop ("the provider cannot be reached: connection refused"). ``tries`` counts failed
    tries from 1. ``gives_up_at`` is when the command ends with exit code 4 if it lasts; None when that is not known yet.
    """

    what: str
    since: float
    tries: int
    gives_up_at: float | None = None


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file at the provider; ``size_bytes`` is None when it was not told."""

    id: FileId
    filename: str
    size_bytes: int | None
    purpose: str
    created_at: int | None = None


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """An entry of GET /models; a model that is listed but not ``active`` is shut down."""

    id: str
    active: bool


@dataclass(frozen=True, slots=True)
class Download:
    """A file brought here whole: checked against the announced length and synced to disk."""

    path: Path
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer, or of many added up."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class RefusalKind(StrEnum):
    """What a refusal of the provider concerns. Decided by the provider's package; steps act on the kind alone."""

    #: The account: key, plan, billing, spend limit, blocked access. Nothing that it sends will be taken.
    ACCOUNT = "account"
    #: The provider cannot find the input file of a batch; a new upload helps.
    LOST_FILE = "lost_file"
    #: There is no room now (rate, queue, capacity); the same file is taken later, or a smaller one.
    NO_ROOM = "no_room"
    #: What the file's lines say: the same bytes will be refused again.
    CONTENT = "content"
    #: A refusal whose words say nothing that is known. It proves nothing against a line.
    UNCLEAR = "unclear"


class OutcomeKind(StrEnum):
    """What came back for one request of a batch."""

    SUCCEEDED = "succeeded"
    REFUSED = "refused"
    TRANSIENT = "transient"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    MISSING = "missing"
    INVALID = "invalid"
    ACCOUNT = "account"


@dataclass(frozen=True, slots=True)
class OutputLine:
    """One line of an output or error file, read leniently.

    ``status_code`` is None when there is no response, 0 when the provider reported 0. ``body`` is the parsed response body.
    """

    custom_id: str
    status_code: int | None
    request_id: str | None
    body: Any
    error_code: str | None
    error_message: str | None
    has_error: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """The verdict on one output line: its kind and the provider's words for a failure."""

    kind: OutcomeKind
    status_code: int | None = None
    code: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Shard:
    """A row of ``shards``. Times are Unix seconds (float); ``path`` is relative to the spool.

    ``key`` is ours alone and travels in the batch's metadata, so that a batch whose creation was not answered can be
    found again. ``refusals`` counts how often the provider turned the shard away (while ``submitted``: how often its batch
    was found overdue), ``waits`` how often in a row its requests, in whichever shard, found no room. ``next_lines`` and
    ``next_window`` are what its merge learned for the requests that must be sent again. ``looks`` counts how often since
    ``submitting_since`` the whole list of batches was read without its batch in it.
    """

    id: ShardId
    workload_id: WorkloadId
    number: int
    state: ShardState
    endpoint: str
    window: str
    key: str
    path: str
    sha256: str
    line_count: int
    byte_count: int
    first_seq: int
    last_seq: int
    input_file_id: FileId | None
    batch_id: BatchId | None
    submitting_since: float | None
    not_before: float
    refusals: int
    waits: int
    next_lines: int
    next_window: str
    list_scans: int


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often one request may be sent.

    ``max_attempts`` counts attempts that ended in an error, ``max_expiries`` attempts that were not executed
    (expired, missing, cancelled by the provider). Both start at 1. ``max_invalid`` is ``max_attempts`` for an attempt whose answer broke the
    workload's own rules: each such answer is paid for.
    """

    max_attempts: int = 5
    max_expiries: int = 10
    max_invalid: int = 3


@dataclass(frozen=True, slots=True)
class Workload:
    """A row of ``workloads``. Times are Unix seconds, sizes bytes.

    ``request_count`` is None until the split has been committed whole. ``directory`` is its folder in the spool. ``window``
    and ``max_window`` are the provider's spellings (``24h``, ``7d``): the first try, and the longest the user allows.
    ``credential`` is a digest of the key that submitted, never the key. ``answer_rules`` says as JSON what an answer must be to
    count (see ``batchkit.answers``), ``recipe`` what the requests were made of; both are None for a workload made of requests.
    ``output`` is where the results are to be written, as JSON (see ``batchkit.api.remembered``). ``stopped_at`` and
    ``stopped_reason`` say when and why the last command stopped before the end; both are None while one works.
    """

    id: WorkloadId
    name: str
    created_at: float
    source: str
    directory: str
    input_sha256: str | None
    request_count: int | None
    window: str
    max_window: str
    shard_lines: int
    shard_bytes: int
    policy: RetryPolicy
    credential: str | None
    cancel_requested_at: float | None
    answer_rules: str | None = None
    recipe: str | None = None
    output: str | None = None
    stopped_at: float | None = None
    stopped_reason: str | None = None
    lease_owner: str | None = None
    lease_until: float | None = None


@dataclass(frozen=True, slots=True)
class RequestCountsByState:
    """How many requests of a workload are in each state; they sum to ``total``."""

    total: int = 0
    pending: int = 0
    in_flight: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0

    @property
    def unresolved(self) -> int:
        """Requests that have no final result yet."""
        return self.pending + self.in_flight


@dataclass(frozen=True, slots=True)
class FailureReason:
    """Failures that share a code, with one of the provider's messages as a sample."""

    code: str
    status_code: int | None
    count: int
    sample: str
