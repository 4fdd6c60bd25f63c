"""What a provider's batch API is: the fields in which providers differ.

The rest of the emulator works on one inner form, which is Groq's: its statuses, its batch object, its lines. A dialect says
how a client writes and reads them, what is refused, and what is not kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from batchkit.emulator.contract.windows import Windows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batchkit.emulator.contract.ids import IdStyle

Shape = Literal["groq", "openai", "together", "mistral"]
ListStyle = Literal["cursor", "after", "page", "bare"]
ResultFile = Literal["output", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One provider. Sizes are bytes, times are provider seconds; None for a limit means that there is none.

    ``shape`` is the form of objects and error bodies. Calls have the ``endpoints`` of batches and ``also_synchronous`` ones;
    ``requests_header`` is the period that their headers count requests by. ``models`` None lists Groq's, each until its shutdown. ``create_fields`` are
    the members of a create; others are refused, or ignored if it is None. ``codes`` renames the codes of validation,
    ``status_words`` the statuses. ``relayed_error`` are the members of the error of a failed line in place of the server's that
    refused it, whose ``{status}`` and ``{message}`` they may name.
    """

    name: str
    title: str
    shape: Shape = "openai"

    # Where it is, and who may use it.
    base_path: str = "/v1"
    batches_path: str = "/batches"
    key_variable: str
    key_headers: tuple[str, ...] = ("authorization",)
    default_key: str = "sk-emulator"
    models: tuple[str, ...] | None = None
    ids: IdStyle = "openai"

    # Files.
    upload_purpose: str = "batch"
    upload_by_redirect: bool = False
    file_ready_seconds: float = 0.0
    max_bytes: int | None = 200_000_000
    max_files: int | None = None

    # Lines.
    max_lines: int | None = 50_000
    max_line_bytes: int | None = None
    max_id_characters: int | None = None
    endpoints: tuple[str, ...]
    also_synchronous: tuple[str, ...] = ()
    line_keys: tuple[str, ...] = ("custom_id", "method", "url", "body")
    model_of_job: bool = False
    single_url: bool = True
    single_model: bool = True
    unknown_models: Literal["fail-line", "fail-batch"] = "fail-batch"
    unknown_parameters: Literal["refused", "accepted"] = "accepted"
    codes: Mapping[str, str] = field(default_factory=dict)

    # Creation.
    windows: Windows = field(default_factory=lambda: Windows(only="24h"))
    never_expires: bool = False
    create_fields: frozenset[str] | None = None
    create_wrapper: str | None = None
    metadata: Literal["full", "named", "none"] = "full"
    metadata_lengths: Mapping[str, int] = field(default_factory=dict)
    idempotency_field: str | None = None

    # Synchronous calls.
    requests_header: Literal["day", "minute"] = "minute"

    # The batch and its results.
    status_words: Mapping[str, str] = field(default_factory=dict)
    absent_members: frozenset[str] = frozenset()
    no_file: Literal["null", "empty", "absent"] = "null"
    empty_files: frozenset[ResultFile] = frozenset()
    unexecuted_lines_listed: bool = True
    error_lines: Literal["response", "error"] = "response"
    bodies_as_text: bool = False
    relayed_error: Mapping[str, str] | None = None
    cancel_ended_status: Literal[200, 400, 409] = 409

    # Lists.
    list_style: ListStyle = "after"
    page_size: int = 20
    max_page_size: int = 100
    lookup: Literal["ids", "input-files"] | None = None
