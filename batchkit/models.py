"""Ids and frozen records that the layers exchange. They hold no logic beyond properties of one record."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, NewType

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

WorkloadId = NewType("WorkloadId", int)
ShardId = NewType("ShardId", int)
BatchId = NewType("BatchId", str)
FileId = NewType("FileId", str)


class Lane(StrEnum):
    """How requests travel."""

    #: In files, as batches.
    BATCH = "batch"
    #: One by one, to the provider's ordinary endpoints.
    SYNC = "sync"


class LaneChoice(StrEnum):
    """How the requests of a workload are to travel."""

    BATCH = "batch"
    SYNC = "sync"
    #: As batches where endpoint, size and the account's plan allow, otherwise one by one.
    AUTO = "auto"


class OnDoubt(StrEnum):
    """What becomes of a request that may have been paid for without an answer."""

    RESEND = "resend"
    FAIL = "fail"


class ShardState(StrEnum):
    """The state of a shard; ``lifecycle.SHARD_TRANSITIONS`` has the transitions."""

    PLANNED = "planned"
    UPLOADED = "uploaded"
    SUBMITTING = "submitting"
    SUBMITTED = "submitted"
    SENDING = "sending"
    ENDED = "ended"
    MERGED = "merged"
    WITHDRAWN = "withdrawn"


class RequestState(StrEnum):
    """The state of one request; ``lifecycle.REQUEST_TRANSITIONS`` has the transitions."""

    PENDING = "pending"
    IN_FLIGHT = "in_flight"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class ReuseMode(StrEnum):
    """Which requests get an answer that the database already holds for the same body, and are not sent."""

    #: None.
    OFF = "off"
    #: Those without the address of a remote image or recording, whose content may change.
    ON = "on"
    #: Those with such an address, too.
    URLS = "urls"


class BatchStatus(StrEnum):
    """The provider's statuses of a batch (console.groq.com/docs/batch); unknown ones count as running."""

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


#: The status that we store when the provider no longer knows a batch; no provider uses it.
GONE = "gone"
#: The status that we store for answers in files of the user: no provider is asked about them.
IMPORTED = "imported"
#: The status of the answers to requests of the sync lane, which have no batch; it is stored nowhere.
SENT = "sent"


@dataclass(frozen=True, slots=True)
class RequestCounts:
    """The provider's counts; they never prove completeness."""

    total: int = 0
    completed: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class BatchProblem:
    """One entry of a batch's ``errors``; ``line`` starts at 1, None for the whole file."""

    message: str
    code: str | None = None
    line: int | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """The provider's object as last received. Times are Unix seconds, None when absent.

    ``status`` is a plain string: an unknown status is kept and counts as running. ``raw`` is the object as received.
    For a batch from the store, ``missing_since`` is set when the provider did not know it at the last probe, and ``seen_at`` is
    when a change of it was stored.
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
    """An outage of something that the work needs. Times are Unix seconds of this machine.

    ``what`` is a sentence without a full stop ("the provider cannot be reached: connection refused"). ``tries`` counts failed
    tries from 1. ``gives_up_at`` is when the command ends with exit code 4 if the outage lasts; None when not known yet.
    """

    what: str
    since: float
    tries: int
    gives_up_at: float | None = None


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file at the provider; what is unknown is None."""

    id: FileId
    filename: str
    size_bytes: int | None
    purpose: str
    created_at: int | None = None
    status: str | None = None


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """An entry of GET /models; a model that is listed but not ``active`` is shut down."""

    id: str
    active: bool


@dataclass(frozen=True, slots=True)
class Download:
    """A complete downloaded file: checked against the announced length and synced to disk."""

    path: Path
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer, or the sum of many."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class RefusalKind(StrEnum):
    """The kind of a provider's refusal. The provider's package decides it; steps act on the kind alone."""

    #: The account: key, plan, billing, spend limit, blocked access. All its requests will be refused.
    ACCOUNT = "account"
    #: The provider cannot find the input file of a batch; a new upload helps.
    LOST_FILE = "lost_file"
    #: There is no room now (rate, queue, capacity); the same file, or a smaller one, is accepted later.
    NO_ROOM = "no_room"
    #: The content of the file's lines: the same bytes will be refused again.
    CONTENT = "content"
    #: Unclear: neither code nor message is known. It proves nothing against a line.
    UNCLEAR = "unclear"


class OutcomeKind(StrEnum):
    """The outcome of one request of a batch."""

    SUCCEEDED = "succeeded"
    REFUSED = "refused"
    TRANSIENT = "transient"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    MISSING = "missing"
    INVALID = "invalid"
    ACCOUNT = "account"
    #: It was sent, and its process ended before an answer was on the disk: it may have been executed and paid for.
    IN_DOUBT = "in_doubt"
    #: It was sent, and no readable answer came: it may have been executed and paid for.
    NO_ANSWER = "no_answer"
    #: It was never sent, although its shard was begun.
    UNSENT = "unsent"


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
class LineOutcome:
    """The outcome of one output line: its kind, and the provider's code and message for a failure."""

    kind: OutcomeKind
    status_code: int | None = None
    code: str | None = None
    message: str | None = None


class Destination(NamedTuple):
    """Where the requests of one file go: the endpoint, and the model where a file may have one only (None: any)."""

    endpoint: str
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Shard:
    """A row of ``shards``. Times are Unix seconds (float); ``path`` is relative to the spool.

    ``key`` is unique and part of the batch's metadata, so that a batch whose creation was not answered can be found again.
    ``refusals`` counts how often the provider refused the shard (while ``submitted``: how many waits for its overdue batch have
    begun), ``waits`` how often in a row its requests, in any shard, found no room. ``next_lines`` and ``next_window`` are the size
    and window for its requests that must be sent again. ``model`` is that of all its requests where a file may have one only.
    ``list_scans`` counts the complete scans of the list of batches since
    ``submitting_since`` that lacked its batch.

    A shard with ``is_adopted`` has a batch that something else created: its file is that batch's input, byte for byte, or unknown, and
    then ``path`` and ``sha256`` are None. ``id_prefix`` stands before the custom_ids of that file in the rows of its requests. Its
    ``line_count`` changes while its requests are in flight in several batches.

    A shard of the ``lane`` ``sync`` has no batch: its requests are sent one by one, and ``answered`` of them have an answer or an
    error in its journal.

    Under a budget ``estimated_tokens`` and ``estimated_usd`` are reserved for it; None: not yet.
    """

    id: ShardId
    workload_id: WorkloadId
    number: int
    state: ShardState
    endpoint: str
    window: str
    key: str
    path: str | None
    sha256: str | None
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
    model: str | None = None
    is_adopted: bool = False
    id_prefix: str | None = None
    lane: Lane = Lane.BATCH
    answered: int = 0
    estimated_tokens: float | None = None
    estimated_usd: float | None = None


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often one request may be sent.

    ``max_attempts`` counts attempts that ended in an error, ``max_expiries`` attempts that were not executed
    (expired, missing, cancelled by the provider). Both start at 1. ``max_invalid`` limits attempts whose answer broke the workload's
    rules, because each such answer is paid for. With ``resends_doubts`` a request that may have been paid for without an answer is sent
    again; otherwise it fails.
    """

    max_attempts: int = 5
    max_expiries: int = 10
    max_invalid: int = 3
    resends_doubts: bool = True


class OnLate(StrEnum):
    """What becomes of a workload that is not finished at its deadline."""

    #: It continues.
    FINISH = "finish"
    #: Nothing more of it is sent.
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Workload:
    """A row of ``workloads``. Times are Unix seconds, sizes bytes.

    ``request_count`` is None until the split has been committed whole. ``directory`` is its folder in the spool. ``window``
    and ``max_window`` are completion windows as the provider writes them (``24h``, ``7d``): the first one, and the longest one that
    the user allows. ``provider`` is the name of its dialect. ``credential`` is a digest of the key that submitted, never the key. ``answer_rules`` are the rules that an
    answer must keep, as JSON (see ``batchkit.answers``), ``recipe`` is what the requests were made from; both are None for a
    workload made from requests. ``skipped_rows`` rows of its table have no request. ``reuse`` is a ``ReuseMode``, None without
    reuse: of its requests ``reused_requests`` got answers that the database had, and ``repeated_requests`` ask what an earlier request
    of it asks; neither are sent. ``output`` is where the results are written, as JSON (see ``batchkit.api.remembered``).
    ``stopped_at`` and ``stopped_reason`` say when and why the last command stopped before the end; both are None while one works.
    ``adopted_at`` is when its batches were adopted. While it ``holds``, nothing of it is sent again: a request without an answer fails.
    New shards of it are of the ``lane``, which the user chose unless ``is_lane_auto``; ``tiers`` are the service tiers of its calls on the sync lane, the first choice first, with
    commas. ``max_cost_usd`` and ``max_total_tokens`` are its budget; with ``budget_of`` it shares that of another workload instead.
    ``deadline`` is when it is to be finished, given at ``deadline_since``, both None without one; one that ``stops_late`` sends nothing more from then on.
    ``sync_rate`` is how many requests per second the sync lane is expected to answer, None when nothing is known of it, and
    ``drain_since`` when its requests began to leave their batches for the sync lane, so that the deadline is kept.
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
    provider: str
    answer_rules: str | None = None
    recipe: str | None = None
    skipped_rows: int = 0
    reuse: str | None = None
    reused_requests: int = 0
    repeated_requests: int = 0
    output: str | None = None
    stopped_at: float | None = None
    stopped_reason: str | None = None
    lease_owner: str | None = None
    lease_until: float | None = None
    adopted_at: float | None = None
    holds: bool = False
    lane: Lane = Lane.BATCH
    is_lane_auto: bool = False
    tiers: str | None = None
    max_cost_usd: float | None = None
    max_total_tokens: int | None = None
    budget_of: WorkloadId | None = None
    deadline: float | None = None
    deadline_since: float | None = None
    stops_late: bool = False
    sync_rate: float | None = None
    drain_since: float | None = None

    @property
    def may_have_budget(self) -> bool:
        """Whether it has a budget, or shares one that another workload may have."""
        return self.budget_of is not None or self.max_cost_usd is not None or self.max_total_tokens is not None

    def is_stopped_late(self, now: float) -> bool:
        """Return whether nothing more of it may be sent, because its deadline has passed."""
        return self.stops_late and self.deadline is not None and now >= self.deadline

    @property
    def lane_choice(self) -> LaneChoice:
        """What the user chose."""
        return LaneChoice.AUTO if self.is_lane_auto else LaneChoice(self.lane)

    @property
    def unsent_requests(self) -> int:
        """How many requests are never sent, because another answer serves them."""
        return self.reused_requests + self.repeated_requests


@dataclass(frozen=True, slots=True)
class RequestCountsByState:
    """How many requests of a workload are in each state; they sum to ``total``.

    ``following`` ones of those in flight are not sent themselves: they wait for the answer to another request that asks the same.
    """

    total: int = 0
    pending: int = 0
    in_flight: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    following: int = 0

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
