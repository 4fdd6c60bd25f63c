"""The official SDKs of other providers work unchanged against the emulator as that provider; only the address is ours."""

import time

import orjson
import pytest

from batchkit.emulator import Scenario
from batchkit.emulator.faults import lines
from tests.emulator.dialects import OPENAI_SHAPED, SLOW, lines_for, model_of
from tests.emulator.support import CHAT, ids_of, jsonl
from tests.lazy import LazyModule

mistral_sdk = LazyModule("mistralai.client")
openai = LazyModule("openai")
together = LazyModule("together")

REFUSE_LAST = Scenario(faults=(lines.FailLines(custom_ids=frozenset({"last"})),))


def until(read, *statuses):
    """Poll until a batch has one of the statuses."""
    deadline = time.monotonic() + 15
    while (batch := read()).status not in statuses:
        assert time.monotonic() < deadline, batch
        time.sleep(0.005)  # noqa: TID251 - a real server is polled
    return batch


def input_of(client):
    """Return three requests, of which the emulator refuses the last."""
    requests = lines_for(client, 3)
    requests[-1]["custom_id"] = "last"
    return requests


def records(content):
    """Return the lines of a file."""
    return [orjson.loads(line) for line in content.splitlines()]


@pytest.mark.parametrize("provider", OPENAI_SHAPED)
def test_openai_runs_a_batch(make_client, provider):
    """Upload, create, poll, both result files and deletion return the openai SDK's types, with every OpenAI-shaped provider."""
    client = make_client(REFUSE_LAST, provider=provider)
    requests = input_of(client)
    with openai.OpenAI(base_url=client.emulator.base_url, api_key=client.emulator.api_key) as sdk:
        uploaded = sdk.files.create(file=("a.jsonl", jsonl(requests)), purpose="batch")
        until(lambda: sdk.files.retrieve(uploaded.id), "processed")
        created = sdk.batches.create(
            completion_window="24h", endpoint=CHAT, input_file_id=uploaded.id, metadata={"ds_name": "mine"}
        )
        batch = until(lambda: sdk.batches.retrieve(created.id), "completed")
        assert (batch.object, batch.metadata, batch.errors) == ("batch", {"ds_name": "mine"}, None)
        counts = batch.request_counts
        assert (counts.completed, counts.failed, counts.total) == (2, 1, 3)
        assert batch.created_at <= batch.in_progress_at <= batch.completed_at
        answered = records(sdk.files.content(batch.output_file_id).content)
        refused = records(sdk.files.content(batch.error_file_id).content)
        assert (ids_of(answered), ids_of(refused)) == (ids_of(requests[:2]), ["last"])
        assert {record["response"]["status_code"] for record in answered} == {200}
        assert uploaded.id in [listed.id for listed in sdk.files.list()]
        assert sdk.files.delete(uploaded.id).deleted
        with pytest.raises(openai.NotFoundError):
            sdk.files.retrieve(uploaded.id)


@pytest.mark.parametrize("provider", ["openai", "kimi"])
def test_openai_pages_and_cancels(make_client, provider):
    """The SDK follows the pages by itself, newest first; a running batch is cancelled, and an ended one is refused."""
    client = make_client(Scenario(timing=SLOW), provider=provider)
    options = {"base_url": client.emulator.base_url, "api_key": client.emulator.api_key, "max_retries": 0}
    with openai.OpenAI(**options) as sdk:
        file_id = sdk.files.create(file=("a.jsonl", jsonl(lines_for(client, 1))), purpose="batch").id
        made = [sdk.batches.create(completion_window="24h", endpoint=CHAT, input_file_id=file_id).id for _ in range(5)]
        assert [batch.id for batch in sdk.batches.list(limit=2)] == made[::-1]
        assert sdk.batches.cancel(made[0]).status == "cancelling"
        until(lambda: sdk.batches.retrieve(made[0]), "cancelled")
        assert sdk.batches.cancel(made[0]).status == "cancelled"
        client.emulator.set_scenario("clean")
        failed = sdk.batches.create(completion_window="24h", endpoint=CHAT, input_file_id="file-none")
        ended = until(lambda: sdk.batches.retrieve(failed.id), "failed")
        assert [(error.code, error.line) for error in ended.errors.data] == [("invalid_request", None)]
        refusal = openai.ConflictError if provider == "openai" else openai.BadRequestError
        with pytest.raises(refusal, match="Cannot cancel"):
            sdk.batches.cancel(failed.id)


def test_azure_takes_its_own_header(make_client):
    """The SDK's Azure client, which sends the key as ``api-key``, reads files; another key is refused."""
    client = make_client(provider="azure", api_key="the-key")
    options = {"base_url": client.emulator.base_url, "api_version": "preview", "max_retries": 0}
    with openai.AzureOpenAI(**options, api_key="the-key") as sdk:
        assert list(sdk.files.list()) == []
    with openai.AzureOpenAI(**options, api_key="another") as sdk, pytest.raises(openai.AuthenticationError):
        sdk.files.list()


def test_together_runs_a_batch(make_client, tmp_path):
    """Upload by redirect, create, poll, list, both result files, cancel and deletion return the together SDK's types."""
    client = make_client(REFUSE_LAST, provider="together")
    requests = input_of(client)
    path = tmp_path / "a.jsonl"
    path.write_bytes(jsonl(requests))
    with together.Together(
        base_url=client.emulator.root_url, api_key=client.emulator.api_key, max_retries=0, timeout=20
    ) as sdk:
        uploaded = sdk.files.upload(file=path, purpose="batch-api", check=False)
        assert (uploaded.purpose, uploaded.bytes, uploaded.filename) == ("batch-api", path.stat().st_size, "a.jsonl")
        job = sdk.batches.create(endpoint=CHAT, input_file_id=uploaded.id).job
        batch = until(lambda: sdk.batches.retrieve(job.id), "COMPLETED")
        assert (batch.progress, batch.error, batch.input_file_id) == (100, None, uploaded.id)
        assert batch.created_at <= batch.completed_at <= batch.job_deadline
        answered = records(sdk.files.content(batch.output_file_id).read())
        refused = records(sdk.files.content(batch.error_file_id).read())
        assert (ids_of(answered), ids_of(refused)) == (ids_of(requests[:2]), ["last"])
        assert refused[0]["error"]["message"]
        assert uploaded.id in [listed.id for listed in sdk.files.list().data]
        client.emulator.set_scenario(Scenario(timing=SLOW))
        made = [sdk.batches.create(endpoint=CHAT, input_file_id=uploaded.id).job.id for _ in range(25)]
        assert [listed.id for listed in sdk.batches.list()] == [*made[::-1], job.id]
        sdk.batches.cancel(made[0])
        until(lambda: sdk.batches.retrieve(made[0]), "CANCELLED")
        with pytest.raises(together.BadRequestError, match="Cannot cancel"):
            sdk.batches.cancel(job.id)
        assert sdk.files.delete(uploaded.id).deleted
        with pytest.raises(together.NotFoundError):
            sdk.files.retrieve(uploaded.id)


def test_mistral_runs_a_job(make_client):
    """Upload, create, poll, numbered pages, both result files, cancel and deletion return the mistralai SDK's types."""
    client = make_client(REFUSE_LAST, provider="mistral")
    requests, model = input_of(client), model_of(client)
    with mistral_sdk.Mistral(server_url=client.emulator.root_url, api_key=client.emulator.api_key) as sdk:
        uploaded = sdk.files.upload(file={"file_name": "a.jsonl", "content": jsonl(requests)}, purpose="batch")
        assert (uploaded.sample_type, uploaded.size_bytes) == ("batch_request", len(jsonl(requests)))
        create = {"endpoint": CHAT, "input_files": [uploaded.id], "model": model}
        made = sdk.batch.jobs.create(**create, metadata={"shard": "3"}, timeout_hours=12)
        job = until(lambda: sdk.batch.jobs.get(job_id=made.id), "SUCCESS")
        assert (job.input_files, job.metadata, job.model, job.errors) == ([uploaded.id], {"shard": "3"}, model, [])
        assert (job.total_requests, job.completed_requests, job.succeeded_requests, job.failed_requests) == (3, 3, 2, 1)
        answered = records(sdk.files.download(file_id=job.output_file).read())
        refused = records(sdk.files.download(file_id=job.error_file).read())
        assert (ids_of(answered), ids_of(refused)) == (ids_of(requests[:2]), ["last"])
        assert uploaded.id in [listed.id for listed in sdk.files.list().data]
        client.emulator.set_scenario(Scenario(timing=SLOW))
        jobs = [sdk.batch.jobs.create(**create).id for _ in range(4)]
        pages = [sdk.batch.jobs.list(page=number, page_size=2) for number in range(4)]
        assert [job.id for page in pages for job in page.data] == [*jobs[::-1], made.id]
        assert {page.total for page in pages} == {5}
        assert sdk.batch.jobs.cancel(job_id=jobs[0]).status == "CANCELLATION_REQUESTED"
        until(lambda: sdk.batch.jobs.get(job_id=jobs[0]), "CANCELLED")
        with pytest.raises(mistral_sdk.errors.SDKError, match="Cannot cancel"):
            sdk.batch.jobs.cancel(job_id=made.id)
        with pytest.raises(mistral_sdk.errors.SDKError, match=r"422.*timeout_hours"):
            sdk.batch.jobs.create(**create, timeout_hours=500)
        assert sdk.files.delete(file_id=uploaded.id).deleted
        with pytest.raises(mistral_sdk.errors.SDKError):
            sdk.files.retrieve(file_id=uploaded.id)
