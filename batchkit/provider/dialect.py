"""What is particular to a provider: everything that other rooms may ask about it, as one value.

``dialects`` finds it by name. Everything that is a number here is data with a date (``verified``): the provider may have changed it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from batchkit.lifecycle import LineCodes
from batchkit.provider.rate_limits import LimitPeriod

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batchkit.models import BatchStatus, FileId
    from batchkit.preflight.rules import LineRules
    from batchkit.sharding import ShardLimits, Windows


#: Without a call that reads batches by their ids, this many are looked for in the list at once.
_BATCHES_PER_POLL = 200
_SECONDS_PER_DAY = 86_400
#: When less than this share of the days is left for which results are kept, they are fetched first, and the user is told.
_WARNED_SHARE = 0.25


class ListStyle(StrEnum):
    """How a provider pages its lists."""

    #: ``cursor`` in the query, ``paging.next_cursor`` in the reply.
    CURSOR = "cursor"
    #: ``after`` in the query: the id of the last entry; ``has_more`` in the reply.
    AFTER = "after"
    #: ``page`` in the query: numbers from 0; perhaps ``total`` in the reply.
    PAGE = "page"
    #: One reply has everything.
    WHOLE = "whole"


class AuthStyle(StrEnum):
    """The header that carries the key."""

    BEARER = "bearer"
    API_KEY = "api-key"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySource:
    """Where the key comes from: the environment's ``variables``, the first one first, and the ``page`` that gives one out."""

    variables: tuple[str, ...]
    page: str | None = None
    auth: AuthStyle = AuthStyle.BEARER


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiShape:
    """The calls of the API; a provider that differs in more than a field has a class of its own.

    ``purpose`` is that of an input file; it is ready for a batch when its status is one of ``ready_statuses`` (empty: at once).
    ``ids_per_status_call`` batches are read in one GET; 0: no call reads several by their ids. ``page_size`` is asked for in lists,
    None: not at all. The list takes ``files_per_lookup`` input files as a filter; 0: there is no such filter. ``metadata_names`` renames the only pairs of metadata that are kept (None: all are). ``creation`` are members
    that every creation has besides ours. ``idempotency_field`` names the member that makes a repeated creation return the first
    batch.
    """

    purpose: str = "batch"
    ready_statuses: frozenset[str] = frozenset()
    ids_per_status_call: int = 0
    listing: ListStyle = ListStyle.AFTER
    page_size: int | None = 100
    files_per_lookup: int = 0
    metadata_names: Mapping[str, str] | None = None
    creation: Mapping[str, object] = field(default_factory=dict)
    idempotency_field: str | None = None

    @property
    def file_filter(self) -> str:
        """The name in the query of the list that asks for the batches of some input files, with commas between their ids."""
        return "input_file_ids"

    @property
    def batches_path(self) -> str:
        """The path of the list of batches, below which each batch has its own."""
        return "/batches"

    @property
    def upload_path(self) -> str:
        """The path that takes a file."""
        return "/files"

    def upload_fields(self, filename: str) -> dict[str, str]:  # noqa: ARG002 - other shapes need it
        """Return the fields that an upload has besides the file."""
        return {"purpose": self.purpose}

    def creation_of(self, *, input_file_id: FileId, endpoint: str, model: str | None, window: str) -> dict[str, object]:  # noqa: ARG002 - as above
        """Return what a creation says, metadata aside. ``model`` is that of all lines where a file may have one only."""
        return {"input_file_id": input_file_id, "endpoint": endpoint, "completion_window": window}

    def batch_of(self, payload: object) -> object:
        """Return a batch object with the names of OpenAI's reference; its other members stay."""
        return payload

    def page_query(self, cursor: str | None) -> list[tuple[str, str]]:
        """Return the query of a page of a list; None asks for the first one."""
        if self.listing is ListStyle.WHOLE:
            return []
        size_name = "page_size" if self.listing is ListStyle.PAGE else "limit"
        sized = [] if self.page_size is None else [(size_name, str(self.page_size))]
        return sized if cursor is None else [*sized, (self.listing.value, cursor)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    """What to do after a refusal, for people. ``account`` is the hint for any refusal of the account without another one."""

    address: str
    account: str
    by_status: Mapping[int, str] = field(default_factory=dict)
    by_code: Mapping[str, str] = field(default_factory=dict)
    limits_page: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioUploads:
    """What recordings may be sent as files: the most bytes of a free plan and of any, and the endings of their names.

    ``page`` documents it.
    """

    free_bytes: int
    max_bytes: int
    kinds: tuple[str, ...]
    page: str


#: Of OpenAI's reference: platform.openai.com/docs/guides/speech-to-text.
_OPENAI_UPLOADS = AudioUploads(
    free_bytes=25_000_000,
    max_bytes=25_000_000,
    kinds=("mp3", "mp4", "mpeg", "mpga", "m4a", "wav", "webm", "flac", "ogg"),
    page="platform.openai.com/docs/guides/speech-to-text",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What is documented of models, by their names in lower case.

    ``schema`` models take a JSON Schema for their answers, ``strict_schema`` ones guarantee it; None: every model does.
    ``max_completion_tokens`` is the limit of output tokens where it is below the length of the context. ``chat``,
    ``transcription``, ``guard`` and ``speech`` models are offered by the completion of commands. Models of ``runs_tools`` are systems
    that run tools themselves, and tell which. ``uploads`` are the recordings that may be sent as files. A request has at most ``max_images`` and, with
    images in base64, ``max_base64_request_bytes``.
    """

    schema: frozenset[str] | None = frozenset()
    strict_schema: frozenset[str] | None = frozenset()
    max_completion_tokens: Mapping[str, int] = field(default_factory=dict)
    chat: tuple[str, ...] = ()
    transcription: tuple[str, ...] = ()
    guard: tuple[str, ...] = ()
    speech: tuple[str, ...] = ()
    runs_tools: frozenset[str] = frozenset()
    uploads: AudioUploads = _OPENAI_UPLOADS
    max_images: int = sys.maxsize
    max_base64_request_bytes: int = sys.maxsize

    def takes_schema(self, model: str) -> bool:
        """Whether the model takes a JSON Schema for its answers."""
        return self.schema is None or model.lower() in self.schema

    def is_strict(self, model: str) -> bool:
        """Whether the model guarantees answers that conform to a strict schema."""
        return self.strict_schema is None or model.lower() in self.strict_schema


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """How answers are billed. ``catalogue`` is the provider's name in genai-prices, None without known prices.

    ``own`` are prices that the user gave, by model: USD per million tokens of prompts and of completions. ``discount`` is the share of the ordinary price that a batch saves; None: unknown. Recordings are billed as at least
    ``min_billed_seconds``.
    """

    catalogue: str | None = None
    own: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    discount: float | None = None
    min_billed_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """For how many days the provider keeps files; None: unknown. Times are Unix seconds of the provider's clock."""

    input_days: int | None = None
    output_days: int | None = None

    def vanishes_at(self, created_at: float | None) -> float | None:
        """Return when the results of a batch may be deleted at the earliest; None when that is not known.

        They are kept from their own creation on, which is later than that of the batch.
        """
        return (
            None if self.output_days is None or created_at is None else created_at + self.output_days * _SECONDS_PER_DAY
        )

    def vanishing_before(self, now: float) -> float | None:
        """Return before which time a batch was created of whose days less than ``_WARNED_SHARE`` are left; None: not known."""
        if self.output_days is None:
            return None
        return now - (1 - _WARNED_SHARE) * self.output_days * _SECONDS_PER_DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class OrdinaryCalls:
    """The ordinary endpoints. ``requests_header`` and ``tokens_header`` are the periods that the ``x-ratelimit-*`` headers count over."""

    requests_header: LimitPeriod = LimitPeriod.MINUTE
    tokens_header: LimitPeriod = LimitPeriod.MINUTE


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One provider. ``name`` is what commands take and databases hold; ``title`` is for people.

    ``base_url`` is None where every user has another one. ``cancel_minutes`` is how long a cancellation may take.
    ``free_request`` are the url and the model of requests that cost nothing.
    ``statuses`` translates status words, in lower case, that are not ours. ``verified`` says how and when these values were checked.
    """

    name: str
    title: str
    verified: str
    base_url: str | None
    key: KeySource
    rules: LineRules
    limits: ShardLimits
    windows: Windows
    api: ApiShape
    hints: Hints
    codes: LineCodes = field(default_factory=LineCodes)
    statuses: Mapping[str, BatchStatus] = field(default_factory=dict)
    models: ModelFacts = field(default_factory=ModelFacts)
    prices: Prices = field(default_factory=Prices)
    retention: Retention = field(default_factory=Retention)
    calls: OrdinaryCalls = field(default_factory=OrdinaryCalls)
    cancel_minutes: int = 10
    free_request: tuple[str, str] | None = None

    def problems_of_sizes(
        self,
        *,
        window: str | None = None,
        max_window: str | None = None,
        shard_lines: int | None = None,
        shard_bytes: int | None = None,
    ) -> dict[str, str]:
        """Return why the provider takes no windows and files like these, by name; empty if it does. None is not asked for."""
        found: dict[str, str] = {}
        for name, given in (("window", window), ("max_window", max_window)):
            try:
                _ = given is None or self.windows.hours(given)
            except ValueError:
                found[name] = f"{given} is no window of {self.title}, which has {self.windows.described}"
        for name, size, most in (
            ("shard_lines", shard_lines, self.limits.max_lines),
            ("shard_bytes", shard_bytes, self.limits.max_bytes),
        ):
            if size is not None and size > most:
                found[name] = f"{size:,} is too many: a file of {self.title} has at most {most:,}"
        return found

    @property
    def batches_per_poll(self) -> int:
        """How many batches one call of ``Provider.get_batches`` may ask for."""
        return self.api.ids_per_status_call or _BATCHES_PER_POLL

    @property
    def key_hint(self) -> str:
        """What to do without a key."""
        page = f" ({self.key.page})" if self.key.page else ""
        return f"set {self.key.variables[0]}{page}, or try everything without one: `batchkit demo`"

    def __repr__(self) -> str:
        return f"Dialect({self.name!r})"
