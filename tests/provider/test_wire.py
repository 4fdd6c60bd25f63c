from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchkit.errors import ListingIncomplete, OutcomeUnknown, ProviderError
from batchkit.files.jsonl import dumps, loads_leniently
from batchkit.models import Batch, BatchId, BatchProblem, FileId, RequestCounts
from batchkit.provider import wire
from batchkit.provider.client import BatchApi
from batchkit.provider.groq.dialect import GROQ
from batchkit.provider.options import HttpOptions

from .conftest import KEY
from .server import ScriptedServer, answer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REAL = {
    "id": "batch_01jxy0000000000000000000aa",
    "object": "batch",
    "endpoint": "/v1/chat/completions",
    "input_file_id": "file_01jxy0000000000000000000ab",
    "completion_window": "24h",
    "status": "completed",
    "output_file_id": "file_01jxy0000000000000000000ac",
    "error_file_id": None,
    "created_at": 1_750_000_000,
    "in_progress_at": 1_750_000_001,
    "finalizing_at": 1_750_000_002,
    "completed_at": 1_750_000_003,
    "failed_at": None,
    "cancelling_at": None,
    "cancelled_at": None,
    "expires_at": 1_750_086_400,
    "expired_at": None,
    "request_counts": {"completed": 3, "failed": 0, "total": 3},
    "metadata": {"batchkit_key": "k1"},
    "errors": None,
    "project_id": "project_1",
}


def read(**fields: Any) -> Batch:
    """Read the real object with some fields changed."""
    batch = wire.batch(REAL | fields)
    assert batch is not None
    return batch


def test_a_real_object() -> None:
    """An object as Groq writes it is read completely, and unknown fields stay in ``raw``."""
    batch = read()
    assert batch.id == REAL["id"]
    assert (batch.status, batch.endpoint, batch.completion_window) == ("completed", "/v1/chat/completions", "24h")
    assert (batch.input_file_id, batch.output_file_id) == (REAL["input_file_id"], REAL["output_file_id"])
    assert batch.error_file_id is None
    assert (batch.created_at, batch.expires_at) == (1_750_000_000, 1_750_086_400)
    assert batch.counts == RequestCounts(total=3, completed=3, failed=0)
    assert batch.metadata == {"batchkit_key": "k1"}
    assert batch.problems == ()
    assert batch.raw["project_id"] == "project_1"
    assert batch.is_terminal


@pytest.mark.parametrize("nothing", [None, "", {}, [], " ", False, True])
@pytest.mark.parametrize("name", ["input_file_id", "output_file_id", "error_file_id"])
def test_every_form_of_no_file(name: str, nothing: object) -> None:
    """Null, empty, blank and {} all mean that there is no file."""
    assert getattr(read(**{name: nothing}), name) is None


def test_only_an_id_is_needed() -> None:
    """A batch that has only an id is a running one."""
    batch = wire.batch({"id": "batch_1"})
    assert batch == Batch(id=BatchId("batch_1"), status="unknown", raw={"id": "batch_1"})
    assert not batch.is_terminal


@pytest.mark.parametrize("payload", [None, [], "batch_1", 1, {}, {"id": None}, {"id": ""}, {"id": {}}, {"id": ["a"]}])
def test_without_an_id_it_is_no_batch(payload: object) -> None:
    """An object without an id gives None, not a guess."""
    assert wire.batch(payload) is None
    assert wire.remote_file(payload) is None
    assert wire.model(payload) is None


@pytest.mark.parametrize(
    ("given_status", "status"),
    [
        ("in_progress", "in_progress"),
        ("COMPLETED", "completed"),
        (" Expired ", "expired"),
        ("Paused", "Paused"),
        (None, "unknown"),
        ({}, "unknown"),
        (7, "7"),
    ],
)
def test_status(given_status: object, status: str) -> None:
    """Known statuses are recognised in any case, unknown ones are kept unchanged."""
    assert read(status=given_status).status == status


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (1_750_000_000, 1_750_000_000),
        (1_750_000_000.9, 1_750_000_000),
        ("1750000000", 1_750_000_000),
        ("2025-06-15T15:06:40Z", 1_750_000_000),
        ("2025-06-15T15:06:40", 1_750_000_000),
        ("2025-06-15T17:06:40.5+02:00", 1_750_000_000),
        (0, None),
        (-5, None),
        (None, None),
        ("", None),
        ({}, None),
        (True, None),
        ("soon", None),
        (10**30, None),
        ("1e400", None),
    ],
)
def test_times(value: object, seconds: int | None) -> None:
    """Times may be numbers, strings or datetimes; zero means that no time was set."""
    assert read(expires_at=value).expires_at == seconds


@pytest.mark.parametrize(
    ("value", "counts"),
    [
        (None, RequestCounts()),
        ({}, RequestCounts()),
        ([1, 2], RequestCounts()),
        ({"total": None, "completed": "2", "failed": 1.0}, RequestCounts(total=0, completed=2, failed=1)),
        ({"total": -1, "completed": 10**40, "failed": True}, RequestCounts(total=0, completed=10**9, failed=0)),
    ],
)
def test_counts(value: object, counts: RequestCounts) -> None:
    """Missing or odd counts are zero, and none exceeds a database column."""
    assert read(request_counts=value).counts == counts


FULL = {"code": "invalid_method", "message": "Invalid value: 'GET'.", "param": "method", "line": 4}
PROBLEM = BatchProblem(message="Invalid value: 'GET'.", code="invalid_method", line=4, param="method")


@pytest.mark.parametrize(
    ("errors", "found"),
    [
        (None, ()),
        ({}, ()),
        ([], ()),
        ("", ()),
        (False, ()),
        (True, ()),
        ({"object": "list", "data": []}, ()),
        ({"object": "list", "data": None}, ()),
        ([None, {}, ""], ()),
        ([FULL], (PROBLEM,)),
        ({"object": "list", "data": [FULL]}, (PROBLEM,)),
        ({"data": FULL}, (PROBLEM,)),
        (FULL, (PROBLEM,)),
        (["first", "second"], (BatchProblem("first"), BatchProblem("second"))),
        ("whole file is bad", (BatchProblem("whole file is bad"),)),
        ([{"message": "late", "line": None}], (BatchProblem("late"),)),
        ([{"message": "odd", "line": 0, "code": 400}], (BatchProblem("odd", code="400"),)),
        ([{"message": "odd", "line": "7"}], (BatchProblem("odd", line=7),)),
        ([{"code": "only_code"}], (BatchProblem("only_code", code="only_code"),)),
        ([{"reason": "other words"}], (BatchProblem('{"reason":"other words"}'),)),
        ([["nested"]], (BatchProblem('["nested"]'),)),
    ],
)
def test_problems(errors: object, found: tuple[BatchProblem, ...]) -> None:
    """Both documented shapes of ``errors``, and those of other servers, give the same problems."""
    assert read(errors=errors).problems == found


def test_long_problems_are_cut() -> None:
    """A message that quotes a whole body is cut; ``raw`` keeps it."""
    (problem,) = read(errors=["x" * 5_000]).problems
    assert len(problem.message) == 1_000


def test_metadata_is_text() -> None:
    """Metadata values are text; other values are dropped."""
    batch = read(metadata={"a": "b", "n": 3, "null": None, "list": [], "": "x"})
    assert batch.metadata == {"a": "b", "n": "3"}


def test_text_fits_every_database() -> None:
    """U+0000 and lone surrogates, which databases refuse, are replaced; pairs and astral characters stay."""
    value = loads_leniently(b'{"id": "b\\u0000\\ud800", "status": "\\ud83d\\ude00 \\u2028"}')
    batch = wire.batch(value)
    assert batch is not None
    assert (batch.id, batch.status) == ("b\ufffd\ufffd", "\U0001f600 \u2028")


@pytest.mark.parametrize(
    ("value", "size"),
    [(5, 5), (0, 0), ("12", 12), (7.0, 7), (None, None), ({}, None), (-1, None), (2**70, None), (True, None)],
)
def test_file_sizes(value: object, size: int | None) -> None:
    """A missing or impossible size is None."""
    file = wire.remote_file({"id": "file_1", "bytes": value})
    assert file is not None
    assert (file.size_bytes, file.filename, file.purpose) == (size, "", "")


@pytest.mark.parametrize(
    ("payload", "message", "code"),
    [
        ({"error": {"message": "no", "code": "c"}}, "no", "c"),
        ({"error": {"message": "no", "code": 7}}, "no", "7"),
        ({"error": "no"}, "no", None),
        ({"message": "no"}, "no", None),
        ({"detail": "no"}, "no", None),
        ({"error": None, "detail": "no"}, "no", None),
        ({"error": {}}, None, None),
        ([], None, None),
        (None, None, None),
    ],
)
def test_error_bodies(payload: object, message: str | None, code: str | None) -> None:
    """The documented error body is read, and so are those of common gateways."""
    refusal = wire.explain(400, payload, hints=GROQ.hints)
    assert (refusal.message, refusal.code) == (message, code)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(10**40), max_value=10**40)
    | st.floats()
    | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
names = st.sampled_from(
    [
        *REAL,
        "bytes",
        "filename",
        "purpose",
        "active",
        "data",
        "paging",
        "next_cursor",
        "has_more",
        "error",
        "message",
        "total",
        "completed",
        "failed",
        "line",
        "code",
        "param",
        "type",
        "detail",
    ]
)
objects = st.dictionaries(names, json_values | st.dictionaries(names, json_values, max_size=4), max_size=8)


@given(objects | json_values, st.integers(min_value=0, max_value=999))
def test_no_json_value_crashes_the_readers(payload: Any, status: int) -> None:
    """Any JSON value in any field gives a record that can be stored, or None."""
    if isinstance(payload, dict):
        payload = {"id": "batch_1"} | payload
    batch = wire.batch(payload)
    if batch is not None:
        for word in (batch.id, batch.status, batch.endpoint, *batch.metadata, *batch.metadata.values()):
            assert "\x00" not in word
            word.encode()
        for problem in batch.problems:
            assert problem.message
            problem.message.encode()
        for seconds in (batch.created_at, batch.expires_at):
            assert seconds is None or seconds > 0
        assert all(0 <= count < 2**31 for count in (batch.counts.total, batch.counts.completed, batch.counts.failed))
        dumps(batch.raw)
    file = wire.remote_file(payload)
    assert file is None or file.size_bytes is None or 0 <= file.size_bytes < 2**63
    wire.model(payload)
    wire.page(payload)
    wire.explain(status, payload, hints=GROQ.hints)


@pytest.fixture(scope="module")
def echo() -> Iterator[tuple[ScriptedServer, BatchApi]]:
    """Keep one server for all examples; they only change its reply."""
    with (
        ScriptedServer() as server,
        BatchApi(
            GROQ,
            base_url=server.base_url,
            api_key=KEY,
            options=HttpOptions(attempts=1),
        ) as provider,
    ):
        yield server, provider


@settings(max_examples=25, deadline=None)
@given(objects | json_values, st.sampled_from([200, 200, 200, 201, 400, 403, 404, 409, 429, 500]))
def test_no_reply_crashes_a_call(
    echo: tuple[ScriptedServer, BatchApi], tmp_path_factory: pytest.TempPathFactory, payload: Any, status: int
) -> None:
    """Whatever JSON comes back, every call returns or raises a ``ProviderError``."""
    server, provider = echo
    server.otherwise = answer(dumps(payload), status)
    target = tmp_path_factory.getbasetemp() / "reply.jsonl"
    calls = [
        lambda: provider.get_batch(BatchId("batch_1")),
        lambda: provider.get_batches([BatchId("batch_1")]),
        lambda: next(provider.list_batches(), None),
        lambda: next(provider.list_files(), None),
        lambda: provider.cancel_batch(BatchId("batch_1")),
        lambda: provider.delete_file(FileId("file_1")),
        provider.list_models,
        lambda: provider.download_file(FileId("file_1"), target),
        lambda: provider.create_batch(input_file_id=FileId("f"), endpoint="/v1", window="24h", metadata={}),
    ]
    for call in calls:
        with suppress(ProviderError):
            call()


def test_lone_surrogates_do_not_hide_a_created_batch(echo: tuple[ScriptedServer, BatchApi]) -> None:
    """A reply that a strict parser refuses is still read: the batch in it has been bought."""
    server, provider = echo
    server.otherwise = answer(b'{"id": "batch_1", "status": "validating", "metadata": {"a": "\\ud800"}, "x": NaN}')
    batch = provider.create_batch(input_file_id=FileId("f"), endpoint="/v1", window="24h", metadata={})
    assert (batch.id, batch.metadata) == ("batch_1", {"a": "\ufffd"})


def test_unreadable_replies_are_provider_errors(echo: tuple[ScriptedServer, BatchApi], tmp_path: Path) -> None:
    """An upload reply without an id, and a list that is not a list, are provider errors."""
    server, provider = echo
    server.otherwise = answer(b'{"object": "file"}')
    shard = tmp_path / "shard.jsonl"
    shard.write_bytes(b"{}\n")
    with pytest.raises(OutcomeUnknown, match="no file id"):
        provider.upload_file(shard, "shard.jsonl")
    with pytest.raises(ListingIncomplete):
        list(provider.list_files())
