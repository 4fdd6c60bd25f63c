"""The scope of a refusal: the account, a lost input file, capacity, or the content."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from batchkit.errors import AccountRefused, Forbidden, ProviderRefused, RateLimited, Unauthorized
from batchkit.models import BatchId, FileId, RefusalKind
from batchkit.provider.refusals import refusal_kind

from .server import as_json, refusal

if TYPE_CHECKING:
    from batchkit.provider.client import BatchApi

    from .conftest import FakeTime
    from .server import Reply, ScriptedServer

ACCOUNT: list[tuple[int | None, str | None, str | None]] = [
    (401, "invalid_api_key", "Invalid API Key"),
    (401, None, None),
    (402, None, "anything"),
    (403, "not_available_for_plan", "Batch API is not available for your plan"),
    (403, None, None),
    (403, "permissions_error", "Your key may not do that"),
    (400, "blocked_api_access", "API access is blocked: the spend limit was reached"),
    (400, "Blocked_API_Access", None),
    (None, "blocked_api_access", "no more"),
    (400, None, "Your organization has reached its monthly spend limit"),
    (400, "invalid_request_error", "Spend limit exceeded for this organization"),
    (None, "batch_failed", "Your API access is blocked because the spending limit has been reached."),
    (400, "organization_restricted", "Organization has been restricted. Please reach out to support."),
    (400, None, "Organization org_01 has been restricted"),
    (400, "invalid_request_error", "Your account is suspended"),
    (429, "insufficient_quota", "You exceeded your current quota, please check your plan and billing details."),
    (429, None, "You exceeded your current quota, please check your plan and billing details."),
    (429, None, "Your account is not active, please check your billing details on our website."),
    (400, None, "Your credit balance is too low to access the API."),
    (400, None, "Insufficient Balance"),
    (400, "budget_exceeded", "Budget has been exceeded! Current cost: 10"),
    (400, None, "ExceededBudget: over budget, the budget was exceeded"),
    (400, "Arrearage", "Access denied, please make sure your account is in good standing."),
    (200, "access_terminated", "no"),
    (0, None, "Incorrect API key provided"),
]

LOST: list[tuple[int | None, str | None, str | None, str | None]] = [
    (None, None, "Cannot find file file-abc", None),
    (None, "batch_failed", "cannot find file file_01jzk4x9f2", None),
    (None, "invalid_request", "The input file could not be found: cannot locate the input file", None),
    (400, "invalid_request_error", "No such file: file-abc", None),
    (404, "not_found", "No such File object: file-abc", None),
    (404, None, "File file_01 does not exist", None),
    (404, None, "File not found", None),
    (None, "file_not_found", "gone", None),
    (None, "input_file_not_found", None, None),
    (None, "missing_file", None, None),
    (None, None, "Input file file-abc no longer exists.", None),
    (None, None, "the file file-abc has been deleted", None),
    (None, None, "Your file file-abc has expired", None),
    (None, None, "Failed to retrieve input file", None),
    (None, None, "Unable to read the batch file", None),
    (400, "invalid_value", "Unknown id", "input_file_id"),
    (400, None, None, "input_file_id"),
    (404, "not_found", "nothing here", "file_id"),
    (403, None, "You may not read this", "input_file_id"),
    (400, "invalid_request_error", "file_not_found", None),
]

NO_ROOM: list[tuple[int | None, str | None, str | None]] = [
    (429, "rate_limit_exceeded", "Rate limit reached for model `x` in organization `y` on tokens per minute (TPM)"),
    (429, None, None),
    (429, "tokens", "please slow down"),
    (498, "capacity_exceeded", "`flex` tier capacity exceeded"),
    (498, None, None),
    (503, None, "Service Unavailable"),
    (413, "rate_limit_exceeded", "Request too large for model `x`: Limit 6000, Requested 12328"),
    (None, "token_limit_exceeded", "Enqueued token limit reached for gpt-4o. Limit: 90,000 enqueued tokens."),
    (None, None, "Enqueued token limit reached for x in organization y. Limit: 90,000 enqueued tokens."),
    (None, "too_many_tasks", "Too many tasks"),
    (None, "batch_failed", "Too many batches are running"),
    (None, "batch_failed", "Too many concurrent jobs"),
    (None, "batch_failed", "There is no capacity for this batch now"),
    (None, "batch_failed", "Not enough capacity is left"),
    (None, None, "At capacity"),
    (None, "batch_failed", "capacity limit exceeded"),
    (None, "batch_failed", "The queue is full, try again later"),
    (400, "invalid_request_error", "Queue limit reached"),
    (None, "quota_exceeded", "no"),
    (None, None, "Quota for batches exceeded"),
    (None, "http_400", "Please try again in 4.77s"),
    (None, "server_error", "The model is overloaded"),
    (None, "", "The service is temporarily unavailable"),
    (None, "RESOURCE_EXHAUSTED", "no"),
    (400, None, "Rate limit exceeded"),
    (None, "batch_failed", "Too many requests"),
]

CONTENT: list[tuple[int | None, str | None, str | None, str | None]] = [
    (400, "invalid_request_error", "Invalid JSON in file at line 3", None),
    (None, "batch_failed", "Invalid JSON in file at line 3", None),
    (None, "invalid_json_line", "This line is not parseable as valid JSON.", None),
    (None, "batch_failed", "Cannot read file: line 7 is no JSON object", None),
    (None, "batch_failed", "line 3: file not found", None),
    (400, None, "Invalid file format for Batch API. Must be .jsonl", "input_file_id"),
    (400, None, "The file is too large", "input_file_id"),
    (400, None, "The input file exceeds 50,000 lines", "input_file_id"),
    (400, None, "File has the wrong purpose", "file_id"),
    (None, "empty_file", "The file is empty", None),
    (None, "duplicate_custom_id", "duplicate", None),
    (None, "invalid_method", "Invalid value: 'GET'. Supported values are: 'POST'", "method"),
    (404, "model_not_found", "The model `queue-capacity` does not exist", None),
    (400, "model_decommissioned", "The model has been decommissioned", None),
    (404, None, "The model `x` does not exist or you do not have access to it.", None),
    (403, "model_permission_blocked_project", "The model `x` is blocked at the project level", None),
    (403, "model_permission_blocked_org", "The model `x` is blocked at the organization level", None),
    (403, None, "The model `x` is blocked at the project level. Please ask an admin", None),
    (403, "permissions_error", "Project `p` does not have access to model `x`", None),
    (400, "model_terms_required", "The model requires terms acceptance", None),
    (400, "json_validate_failed", "Failed to generate JSON: 'the queue is full, try again later'", None),
    (400, "tool_use_failed", "cannot find file notes.txt: rate limit exceeded; spend limit reached", None),
    (400, None, "Invalid value 'queue' for 'mode'", None),
    (400, None, "Unknown parameter: 'rate_limit'", None),
    (400, None, "property 'capacity' is missing", None),
    (400, None, "'quota' is not one of the allowed values", None),
    (400, None, "Failed to download file: image at https://x.example/a.png was not found", None),
    (400, None, "could not read file: the audio is broken", None),
    (400, None, "The property 'file' is unsupported", None),
    (400, None, "Too many requests in file: 60,000, at most 50,000", None),
    (400, None, "messages.0.content: billing question is not a valid role", None),
    (400, None, "Unknown parameter: 'spend_limit'", None),
    (400, "context_length_exceeded", "Please reduce the length of the messages", None),
    (413, "request_too_large", "Request Entity Too Large", None),
]

UNCLEAR: list[tuple[int | None, str | None, str | None, str | None]] = [
    (None, None, None, None),
    (400, None, None, None),
    (422, None, "Semantic error, retry your request", None),
    (400, None, "`service_tier` `auto` is not available for this org", None),
    (500, "internal_server_error", "oops", None),
    (400, "E1234", "Something went wrong", None),
    (None, "batch_failed", "The provider refused the batch", None),
    (400, None, "Bad Request", None),
]


@pytest.mark.parametrize(("status", "code", "message"), ACCOUNT)
def test_the_account_is_refused(status: int | None, code: str | None, message: str | None) -> None:
    """Key, plan, billing, spend limit and blocked access are recognised by status, by code, or else by the message."""
    assert refusal_kind(status=status, code=code, message=message) is RefusalKind.ACCOUNT


@pytest.mark.parametrize(("status", "code", "message", "param"), LOST)
def test_the_input_file_is_lost(status: int | None, code: str | None, message: str | None, param: str | None) -> None:
    """A new upload helps."""
    assert refusal_kind(status=status, code=code, message=message, param=param) is RefusalKind.LOST_FILE


@pytest.mark.parametrize(("status", "code", "message"), NO_ROOM)
def test_there_is_no_capacity(status: int | None, code: str | None, message: str | None) -> None:
    """This includes refusals that only the message explains, as under ``batch_failed``."""
    assert refusal_kind(status=status, code=code, message=message) is RefusalKind.NO_ROOM


@pytest.mark.parametrize(("status", "code", "message", "param"), CONTENT)
def test_a_refusal_that_names_a_part_of_a_line_concerns_the_content(
    status: int | None, code: str | None, message: str | None, param: str | None
) -> None:
    """Words that a line quotes, or that only resemble another kind, change nothing."""
    assert refusal_kind(status=status, code=code, message=message, param=param) is RefusalKind.CONTENT


@pytest.mark.parametrize(("status", "code", "message", "param"), UNCLEAR)
def test_an_unexplained_refusal_is_unclear(
    status: int | None, code: str | None, message: str | None, param: str | None
) -> None:
    """It proves nothing against a line."""
    assert refusal_kind(status=status, code=code, message=message, param=param) is RefusalKind.UNCLEAR


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (refusal(429, "You exceeded your current quota", "insufficient_quota", retry_after="1"), AccountRefused),
        (as_json({"error": {"message": "no", "type": "insufficient_quota", "code": None}}, 429), AccountRefused),
        (refusal(400, "no", "blocked_api_access"), AccountRefused),
        (refusal(402, "pay"), AccountRefused),
        (refusal(404, "Your organization has been suspended"), AccountRefused),
        (refusal(401), Unauthorized),
        (refusal(403), Forbidden),
        (refusal(403, "The model `x` is blocked", "model_permission_blocked_project"), ProviderRefused),
        (refusal(400, "Too many batches"), ProviderRefused),
    ],
)
def test_account_refusals_are_raised_at_once(
    server: ScriptedServer, provider: BatchApi, time: FakeTime, reply: Reply, kind: type[ProviderRefused]
) -> None:
    """This includes statuses that would otherwise be waited for; the error says what to do next."""
    server.otherwise = reply
    for call in (
        lambda: provider.get_batch(BatchId("batch_1")),
        lambda: provider.create_batch(input_file_id=FileId("f"), endpoint="/v1", window="24h", metadata={}),
    ):
        with pytest.raises(ProviderRefused) as caught:
            call()
        assert type(caught.value) is kind
        assert caught.value.hint is not None or not issubclass(kind, AccountRefused)
    assert len(server.seen) == 2
    assert time.slept == []


def test_an_ordinary_rate_limit_is_still_waited_for(server: ScriptedServer, provider: BatchApi) -> None:
    """Only a message about the account makes it final."""
    server.otherwise = refusal(429, "Rate limit reached for tokens per day", "rate_limit_exceeded")
    with pytest.raises(RateLimited):
        provider.get_batch(BatchId("batch_1"))
    assert len(server.seen) == 3
