"""Servers of OpenAI's shape, as their profiles describe them: lists, creations, files, keys."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from batchkit.errors import ConfigurationError, ListingIncomplete, OutcomeUnknown
from batchkit.models import BatchId, BatchStatus, FileId
from batchkit.provider import profiles
from batchkit.provider.client import BatchApi
from batchkit.provider.dialects import dialect_named, names

from .conftest import KEY
from .server import as_json, refusal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from batchkit.provider.dialect import ApiShape

    from .conftest import FakeTime
    from .server import Reply, ScriptedServer


def batch(number: int, **fields: Any) -> dict[str, Any]:
    """Return a batch object."""
    return {"id": f"batch_{number}", "object": "batch", "status": "in_progress", **fields}


def page(*numbers: int, **members: Any) -> Reply:
    """Answer with one page of the list."""
    return as_json({"object": "list", "data": [batch(number) for number in numbers], **members})


@pytest.fixture
def of(connect: Callable[..., BatchApi]) -> Callable[..., BatchApi]:
    """Return a function that connects to a server of a profile; changes are those of the shape of its calls."""

    def build(name: str = "openai", **changes: Any) -> BatchApi:
        dialect = dialect_named(name)
        shape: ApiShape = replace(dialect.api, **changes)
        return connect(dialect=replace(dialect, api=shape))

    return build


def create(provider: BatchApi) -> Any:
    """Create a batch as a step does."""
    return provider.create_batch(
        input_file_id=FileId("file_1"),
        endpoint="/v1/chat/completions",
        window="24h",
        metadata={"batchkit_workload": "evals", "batchkit_key": "abc"},
    )


def test_pages_are_asked_for_after_the_last_id(server: ScriptedServer, of: Callable[..., BatchApi]) -> None:
    """A page says whether there is more; its last id asks for the next one."""
    server.script(page(3, 2, has_more=True, last_id="batch_2"), page(1, has_more=False))
    assert [found.id for found in of().list_batches()] == ["batch_3", "batch_2", "batch_1"]
    assert [seen.query for seen in server.seen] == [[("limit", "100")], [("limit", "100"), ("after", "batch_2")]]


def test_a_full_page_that_does_not_say_whether_there_is_more_is_followed(
    server: ScriptedServer, of: Callable[..., BatchApi]
) -> None:
    """A list is never taken for whole because a member is absent."""
    server.script(page(3, 2), page(1))
    assert len(list(of(page_size=2).list_batches())) == 3


def test_a_server_that_ignores_after_has_no_whole_list(server: ScriptedServer, of: Callable[..., BatchApi]) -> None:
    """It answers with its first page again and again."""
    server.script(page(3, 2, has_more=True), page(3, 2, has_more=True))
    with pytest.raises(ListingIncomplete, match="same page again"):
        list(of().list_batches())


def test_open_batches_are_found_in_the_list(server: ScriptedServer, of: Callable[..., BatchApi]) -> None:
    """Without a call for several ids one page shows a hundred batches; reading stops when all are found."""
    server.script(page(9, 4, 3, has_more=True), page(2, 1, 0, has_more=True))
    wanted = [BatchId(f"batch_{number}") for number in range(5)]
    assert list(of().get_batches(wanted)) == wanted
    assert all(("id", "batch_0") not in seen.query for seen in server.seen)


def test_a_few_batches_are_left_to_single_reads(server: ScriptedServer, of: Callable[..., BatchApi]) -> None:
    """A page of the list would be larger than their replies."""
    assert of().get_batches([BatchId("batch_1"), BatchId("batch_2")]) == {}
    assert server.seen == []


def test_a_batch_far_down_the_list_is_left_to_a_single_read(
    server: ScriptedServer, of: Callable[..., BatchApi]
) -> None:
    """However long the account's list is, a poll reads a few pages of it."""
    server.script(*(page(100 + number, has_more=True) for number in range(30)))
    assert of().get_batches([BatchId(f"batch_{number}") for number in range(5)]) == {}
    assert len(server.seen) == 10


def test_batches_of_some_input_files_are_asked_for_where_the_list_has_such_a_filter(
    server: ScriptedServer, of: Callable[..., BatchApi]
) -> None:
    """As many files in a call as the provider takes, and every page of the reply; without the filter the list is read."""
    server.script(page(9, has_more=True, last_id="batch_9"), page(8), page(7), page(6, 5))
    files = [FileId(f"file-{number}") for number in range(3)]
    assert [found.id for found in of("qwen", files_per_lookup=2).list_batches(of_files=files)] == [
        "batch_9",
        "batch_8",
        "batch_7",
    ]
    asked = [dict(seen.query).get("input_file_ids") for seen in server.seen]
    assert asked == ["file-0,file-1", "file-0,file-1", "file-2"]
    assert len(list(of("openai").list_batches(of_files=files))) == 2
    assert server.seen[-1].query == [("limit", "100")]


def test_the_whole_list_is_read_for_many_files(server: ScriptedServer, of: Callable[..., BatchApi]) -> None:
    """From there on it takes fewer calls."""
    server.script(page(1))
    files = [FileId(f"file-{number}") for number in range(201)]
    assert len(list(of("qwen").list_batches(of_files=files))) == 1
    assert server.seen[0].query == [("limit", "100")]


def test_only_metadata_that_the_provider_keeps_is_sent(server: ScriptedServer, of: Callable[..., BatchApi]) -> None:
    """Qwen keeps one name: it carries the key of the shard, and is read back as that."""
    server.script(as_json(batch(1, metadata={"ds_name": "abc"})))
    assert create(of("qwen")).metadata == {"batchkit_key": "abc"}
    assert server.seen[0].json["metadata"] == {"ds_name": "abc"}
    server.script(as_json(batch(1)))
    create(of(metadata_names={}))
    assert "metadata" not in server.seen[1].json


def test_the_key_of_the_shard_makes_a_creation_idempotent_where_that_exists(
    server: ScriptedServer, of: Callable[..., BatchApi]
) -> None:
    """OGX returns the first batch for a repeated creation."""
    server.script(as_json(batch(1)))
    create(of("ogx"))
    assert server.seen[0].json["idempotency_key"] == "abc"


def test_a_file_is_waited_for_until_it_is_ready(
    server: ScriptedServer, of: Callable[..., BatchApi], tmp_path: Path
) -> None:
    """Azure refuses a batch of a file that it has not processed; a new file may be unknown for a moment."""
    path = tmp_path / "shard.jsonl"
    path.write_bytes(b"{}\n")
    pending = as_json({"id": "file_1", "status": "pending"})
    server.script(pending, refusal(404), pending, as_json({"id": "file_1", "status": "processed"}))
    assert of("azure").upload_file(path, "shard.jsonl").id == "file_1"
    assert [seen.method for seen in server.seen] == ["POST", "GET", "GET", "GET"]


def test_a_file_that_is_never_ready_is_given_up(
    server: ScriptedServer, of: Callable[..., BatchApi], time: FakeTime, tmp_path: Path
) -> None:
    """The upload is repeated later; nothing was bought."""
    path = tmp_path / "shard.jsonl"
    path.write_bytes(b"{}\n")
    server.script(*(as_json({"id": "file_1", "status": "error"}) for _ in range(1_000)))
    with pytest.raises(OutcomeUnknown, match="still error 600 s after its upload"):
        of("azure").upload_file(path, "shard.jsonl")
    assert time.seconds < 700


def test_the_key_travels_in_the_header_of_the_provider(server: ScriptedServer, of: Callable[..., BatchApi]) -> None:
    """Azure takes it as ``api-key``; the others as a bearer's token."""
    for name, header in (("azure", ("api-key", KEY)), ("openai", ("authorization", f"Bearer {KEY}"))):
        server.script(page())
        list(of(name).list_batches())
        sent = {key.lower(): value for key, value in server.seen[-1].headers.items()}
        assert [(key, sent[key]) for key in ("api-key", "authorization") if key in sent] == [header]


def test_status_words_are_translated(server: ScriptedServer, connect: Callable[..., BatchApi]) -> None:
    """In whatever case the server writes them; a word that nobody knows stays, and counts as running."""
    dialect = replace(dialect_named("openai"), statuses={"progress": BatchStatus.IN_PROGRESS})
    server.script(
        as_json(batch(1, status="PROGRESS")), as_json(batch(1, status="COMPLETED")), as_json(batch(1, status="New"))
    )
    provider = connect(dialect=dialect)
    seen = [provider.get_batch(BatchId("batch_1")) for _ in range(3)]
    assert [(one.status, one.is_terminal) for one in seen] == [
        ("in_progress", False),
        ("completed", True),
        ("New", False),
    ]


def test_a_server_of_ones_own_needs_an_address() -> None:
    """It is said before anything is sent."""
    with pytest.raises(ConfigurationError, match="no address of its own"):
        BatchApi(dialect_named("vllm"), api_key=KEY)


@pytest.mark.parametrize("name", names())
def test_each_provider_can_be_used_as_it_is(name: str) -> None:
    """Its dialect has an endpoint, room for a line, a window, and a variable for its key; a wait has an end."""
    dialect = dialect_named(name)
    assert "/v1/chat/completions" in dialect.rules.endpoints
    assert dialect.windows.hours(dialect.windows.shortest) <= dialect.windows.hours(dialect.windows.longest)
    assert 0 < dialect.limits.default_bytes <= dialect.limits.max_bytes
    assert 0 < dialect.limits.default_lines(10**9) <= dialect.limits.max_lines
    assert dialect.key.variables[0].endswith("_API_KEY"), "such variables are kept from the processes that we start"
    assert dialect.verified


def test_a_profile_names_its_mistakes() -> None:
    """Each with its place, and before anything is sent."""
    wrong = {
        "title": "Mine",
        "page": "example.org",
        "key_variable": "MY_API_KEY",
        "max_lines": {"is": "many", "mark": "S"},
    }
    with pytest.raises(ConfigurationError) as caught:
        profiles.parse(wrong, place="mine.toml")
    assert "max_lines.is: " in caught.value.message
    assert "max_lines.date: Field required" in caught.value.message
