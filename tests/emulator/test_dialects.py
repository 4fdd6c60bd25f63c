"""How the emulated providers differ, one sentence each."""

import time
from datetime import UTC, datetime

import httpx
import orjson
import pytest

from batchkit.emulator import (
    DEFAULT_PROVIDER,
    Scenario,
    ScenarioLimits,
    Timing,
    provider_names,
    scenario_names,
)
from batchkit.emulator.dialects.providers import DIALECTS
from batchkit.emulator.faults import batches, lines
from tests.emulator.dialects import (
    FILES_AT_ONCE,
    OPENAI_SHAPED,
    SLOW,
    batches_path,
    create,
    creation_for,
    ended,
    lines_for,
    made,
    result_lines,
    run,
    upload,
)
from tests.emulator.support import jsonl

OTHERS = tuple(name for name in provider_names() if name != DEFAULT_PROVIDER)
COMPLETED = {"together": "COMPLETED", "mistral": "SUCCESS"} | dict.fromkeys(OPENAI_SHAPED, "completed")
EXPIRED = {"together": "EXPIRED", "mistral": "TIMEOUT_EXCEEDED"} | dict.fromkeys(OPENAI_SHAPED, "expired")
RUNNING = {"VALIDATING", "IN_PROGRESS", "QUEUED", "RUNNING"}


@pytest.mark.parametrize("provider", OTHERS)
def test_every_provider_has_the_faults_and_the_ledger(serve, provider):
    """Refused, expired and shuffled requests come back in every provider's shape; the ledger counts nothing twice."""
    client = serve(provider)
    dialect, requests = client.emulator.dialect, lines_for(client, 20)
    ids = [request["custom_id"] for request in requests]
    refused, late = frozenset(ids[:2]), frozenset(ids[2:5])
    missing = lines.DropLines(custom_ids=late) if dialect.never_expires else lines.ExpireLines(custom_ids=late)
    faults = (lines.FailLines(custom_ids=refused), missing, batches.ShuffleOutput())
    client.emulator.set_scenario(Scenario(timing=FILES_AT_ONCE, faults=faults))
    batch = run(client, requests)
    assert batch["status"] == (COMPLETED if dialect.never_expires else EXPIRED)[provider]
    answered, others = result_lines(client, batch)
    names_the_late = dialect.unexecuted_lines_listed and not dialect.never_expires
    assert {record["custom_id"] for record in others} == (refused | late if names_the_late else refused)
    assert all("response" not in record for record in others) == (dialect.error_lines == "error")
    assert sorted(record["custom_id"] for record in answered) == sorted(ids[5:])
    assert [record["custom_id"] for record in answered] != ids[5:]
    totals = client.emulator.ledger().totals
    assert (totals.requests_carried, totals.requests_succeeded, totals.bought_twice) == (20, 15, 0)


@pytest.mark.parametrize("provider", ["together", "mistral"])
def test_every_scenario_keeps_the_shape(serve, provider):
    """No ready-made scenario breaks a provider's objects: a batch ends, and its list can be read."""
    client = serve(provider)
    dialect, requests = client.emulator.dialect, lines_for(client, 10)
    path = "/files/upload" if dialect.upload_by_redirect else "/files"
    form = {
        "data": {"purpose": dialect.upload_purpose, "file_name": "a.jsonl"},
        "files": {"file": ("a.jsonl", jsonl(requests))},
    }

    def insist(method, path, **more):
        for _ in range(20):
            try:
                reply = client.http.request(method, path, **more)
            except httpx.TransportError:
                continue
            if reply.status_code == 200:
                return reply.json()
        raise AssertionError(path)

    for scenario in set(scenario_names()) - {"stuck", "free-plan", "expire-30", "missing-lines", "out-of-order"}:
        client.emulator.set_scenario(scenario)
        body = insist("POST", dialect.batches_path, json=creation_for(client, insist("POST", path, **form)["id"]))
        batch_id = body.get("job", body)["id"]
        while insist("GET", f"{dialect.batches_path}/{batch_id}")["status"] in RUNNING:
            time.sleep(0.002)  # noqa: TID251 - as above
        assert insist("GET", dialect.batches_path) is not None


@pytest.mark.parametrize("provider", provider_names())
def test_the_address_and_the_key_are_the_providers(serve, provider):
    """The base path differs; Azure alone takes the key in a header of its own; refusals have the provider's body."""
    client = serve(provider, api_key="right")
    dialect = client.emulator.dialect
    assert client.emulator.base_url == client.emulator.root_url + dialect.base_path
    assert client.http.get("/files").status_code == 200
    wrong = client.http.get("/files", headers={"authorization": "Bearer wrong"})
    own = client.http.get("/files", headers={"authorization": "", "api-key": "right"}).status_code
    assert (wrong.status_code, own) == (401, 200 if provider == "azure" else 401)
    error = {"message": "Invalid API Key", "type": "invalid_request_error", "code": "invalid_api_key"}
    expected = {"groq": {"error": error}, "mistral": {"detail": "Invalid API Key"}}
    assert wrong.json() == expected.get(provider, {"error": {**error, "param": None}})


@pytest.mark.parametrize("provider", OTHERS)
def test_another_purpose_is_refused(serve, provider):
    """Together wants batch-api and refuses batch; the others want batch and refuse batch-api."""
    client = serve(provider)
    other = "batch" if provider == "together" else "batch-api"
    path = "/files/upload" if provider == "together" else "/files"
    reply = client.http.post(path, data={"purpose": other}, files={"file": ("a.jsonl", b"{}\n")})
    assert reply.status_code == (422 if provider == "mistral" else 400)
    assert "purpose" in reply.text


@pytest.mark.parametrize(
    ("provider", "accepted", "refused"),
    [
        ("openai", ["24h"], ["1d", "48h", "12h"]),
        ("azure", ["24h"], ["48h"]),
        ("qwen", ["24h", "336h", "14d"], ["12h", "337h"]),
        ("kimi", ["12h", "1d", "3d", "7d"], ["11h", "8d"]),
        ("ogx", ["24h"], ["25h"]),
        ("together", ["24h"], ["48h"]),
    ],
)
def test_windows_are_the_providers(serve, provider, accepted, refused):
    """Each provider offers its own windows, and refuses the others by name."""
    client = serve(provider, timing=Timing(**SLOW.model_dump() | {"file_ready_seconds": 0}))
    file_id = upload(client, lines_for(client, 1))
    assert [create(client, file_id, completion_window=window).status_code for window in accepted] == [200] * len(
        accepted
    )
    for window in refused:
        reply = create(client, file_id, completion_window=window)
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, "completion_window")


def test_mistral_counts_hours(serve):
    """The window is a number of hours, 24 unless it is given, and bounds the job."""
    client = serve("mistral", lines.ExpireLines(count=1))
    job = made(client, lines_for(client, 2), timeout_hours=3)
    done = ended(client, job)
    assert (done["status"], done["completed_at"] - done["created_at"]) == ("TIMEOUT_EXCEEDED", 3 * 3_600)
    for hours in (0, "3", True, 1_000):
        assert create(client, job["input_files"][0], timeout_hours=hours).status_code == 422


def test_azure_files_are_processed_first(serve):
    """A create before the file is processed is 400; the status says when it can be tried again."""
    client = serve("azure", timing=Timing(file_ready_seconds=1e9))
    file_id = upload(client, lines_for(client, 1))
    assert client.http.get(f"/files/{file_id}").json()["status"] == "pending"
    assert create(client, file_id).json()["error"]["code"] == "invalid_file_status"
    client.emulator.set_scenario("clean")
    assert client.emulator.world.script.file_ready_seconds() == 120
    file_id = upload(client, lines_for(client, 1))
    while client.http.get(f"/files/{file_id}").json()["status"] == "pending":
        time.sleep(0.002)  # noqa: TID251 - a real server is polled
    assert create(client, file_id).status_code == 200


def test_azure_never_expires(serve):
    """A batch with requests that are never reached stays open past its expires_at, and a cancel ends it."""
    client = serve("azure", lines.ExpireLines(count=1))
    batch = made(client, lines_for(client, 2))
    path = f"/batches/{batch['id']}"
    while client.emulator.world.clock.now() < batch["expires_at"] + 3_600:
        assert client.http.get(path).json()["status"] in {"validating", "in_progress"}
    client.http.post(f"{path}/cancel")
    done = ended(client, batch)
    answered, others = result_lines(client, done)
    assert (done["status"], len(answered), others[0]["error"]["code"]) == ("cancelled", 1, "batch_cancelled")


def test_azure_names_an_error_file_without_bytes(serve):
    """A batch without failures has an error file of zero bytes; OpenAI's has none."""
    client = serve("azure")
    done = run(client, lines_for(client, 1))
    assert client.http.get(f"/files/{done['error_file_id']}").json()["bytes"] == 0
    client = serve("openai")
    assert run(client, lines_for(client, 1))["error_file_id"] is None


def test_no_file_is_written_in_three_ways(serve):
    """A missing file is null for OpenAI, an empty text for Qwen, and an absent member for Kimi."""
    shown = {name: made(client, lines_for(client, 1)) for name in ("openai", "qwen", "kimi") if (client := serve(name))}
    assert (shown["openai"]["output_file_id"], shown["qwen"]["output_file_id"]) == (None, "")
    assert "output_file_id" not in shown["kimi"]


@pytest.mark.parametrize(
    ("provider", "url", "model"),
    [("openai", "invalid_url", "mismatched_model"), ("azure", "url_mismatch", "model_mismatch")],
)
def test_files_are_not_mixed(serve, provider, url, model):
    """Another url than the batch's, and a second model, fail the batch; the lines are named, in an errors object."""
    client = serve(provider)
    requests = lines_for(client, 4)
    requests[1]["url"] = "/v1/embeddings"
    second = client.http.get("/models").json()["data"][1]["id"]
    requests[2]["body"]["model"] = second
    requests[3]["body"]["model"] = "nobody"
    shown = run(client, requests)
    assert shown["status"] == "failed"
    assert shown["errors"]["object"] == "list"
    assert [(error["code"], error["line"]) for error in shown["errors"]["data"]] == [
        (url, 2),
        (model, 3),
        ("model_not_found", 4),
    ]
    assert client.emulator.ledger().totals.requests_executed == 0


def test_ogx_runs_other_models_and_unknown_ones_fail_their_line_with_litellm(serve):
    """Where files may be mixed they run; a proxy refuses an unknown model in its line alone."""
    client = serve("litellm")
    requests = lines_for(client, 2)
    requests[1]["body"]["model"] = "nobody"
    done = run(client, requests)
    _, others = result_lines(client, done)
    assert (done["status"], others[0]["response"]["status_code"]) == ("completed", 404)


def test_lines_of_together_and_mistral_need_no_url(serve):
    """custom_id and body are enough; Mistral's model is the job's, and an id of 65 characters is too long for Together."""
    client = serve("mistral")
    requests = [{"custom_id": "a", "body": {"messages": [{"role": "user", "content": "x"}]}}]
    answered, _ = result_lines(client, run(client, requests))
    assert answered[0]["response"]["body"]["model"] == creation_for(client, "")["model"]
    client = serve("together")
    requests = lines_for(client, 2)
    requests[1]["custom_id"] = "x" * 65
    shown = run(client, requests)
    assert (shown["status"], shown["error"]) == (
        "FAILED",
        "line 2: Invalid 'custom_id': it has more than 64 characters.",
    )


def test_mistral_counts_equal_errors(serve):
    """The errors of a job are texts with their number, without lines."""
    client = serve("mistral")
    shown = run(client, [*lines_for(client, 1), b"{", b"{"])
    assert shown["errors"] == [{"message": "This line is not parseable as valid JSON.", "count": 2}]


def test_limits_are_the_providers_unless_the_scenario_has_some(serve):
    """Bytes of a file, bytes of a line and the number of files are bounded; the defaults differ."""
    client = serve("qwen", limits=ScenarioLimits(max_line_bytes=300))
    requests = lines_for(client, 2)
    requests[1]["body"]["user"] = "x" * 300
    assert [error["line"] for error in run(client, requests)["errors"]["data"]] == [2]
    client = serve("kimi", limits=ScenarioLimits(max_files=1))
    file_id = upload(client, lines_for(client, 1))
    assert client.post_file(jsonl(lines_for(client, 1))).json()["error"]["code"] == "file_limit_exceeded"
    client.http.delete(f"/files/{file_id}")
    assert client.post_file(jsonl(lines_for(client, 1))).status_code == 200
    assert (DIALECTS["together"].max_bytes, DIALECTS["nebius"].max_lines, DIALECTS["ogx"].max_lines) == (
        10**8,
        5 * 10**6,
        None,
    )


def test_openai_refuses_what_it_does_not_know(serve):
    """A member that a create does not have is 400 unknown_parameter; Kimi ignores it."""
    client = serve("openai")
    refused = create(client, "file-x", idempotency_key="k")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "idempotency_key")
    assert create(client, "file-x", output_expires_after={"anchor": "created_at", "seconds": 3_600}).status_code == 200
    assert create(serve("kimi"), "file-x", idempotency_key="k").status_code == 200


def test_ogx_creates_once_for_a_key(serve):
    """The same key and parameters give the same batch, in whatever order; other parameters are a conflict."""
    client = serve("ogx")
    first = create(client, "file-x", idempotency_key="k", metadata={"a": "1", "b": "2"}).json()
    again = create(client, "file-x", idempotency_key="k", metadata={"b": "2", "a": "1"}).json()
    assert first["id"] == again["id"]
    same = {"idempotency_key": "k", "metadata": {"a": "1", "b": "2"}}
    assert create(client, "file-y", **same).status_code == 409
    assert create(client, "file-x", **same | {"metadata": {"a": "1"}}).status_code == 409
    assert create(client, "file-x").json()["id"] != first["id"]
    assert client.emulator.ledger().totals.batches == 2


def test_ogx_writes_bodies_as_text(serve):
    """Bodies of answers are JSON in a text, and refusals stand at the top of their line, without a response."""
    client = serve("ogx", lines.FailLines(count=1))
    answered, others = result_lines(client, run(client, lines_for(client, 2)))
    assert orjson.loads(answered[0]["response"]["body"])["choices"]
    assert "response" not in others[0]
    assert others[0]["error"]["message"]


@pytest.mark.parametrize(
    ("provider", "kept"),
    [
        ("openai", {"ds_name": "n", "k": "v"}),
        ("qwen", {"ds_name": "n"}),
        ("mistral", {"ds_name": "n", "k": "v"}),
        ("together", None),
    ],
)
def test_metadata_is_kept_in_part(serve, provider, kept):
    """Qwen keeps its two names only, Together nothing, without a refusal."""
    client = serve(provider)
    shown = made(client, lines_for(client, 1), metadata={"ds_name": "n", "k": "v"})
    assert shown.get("metadata") == kept
    assert ("metadata" in shown) == (provider != "together")


def test_together_shows_progress_and_iso_times(serve):
    """There are no counts; a job has a percentage, times are texts, and cancelling and finalizing have no word."""
    client = serve("together", timing=Timing(validating_seconds=0, seconds_per_line=8_640, finalizing_seconds=8_640))
    job = made(client, lines_for(client, 2))
    seen = {job["status"]}
    while job["status"] not in {"COMPLETED", "EXPIRED"}:
        job = client.http.get(f"/batches/{job['id']}").json()
        seen.add(job["status"])
    assert seen <= {"VALIDATING", "IN_PROGRESS", "COMPLETED"}
    assert (job["progress"], "request_counts" in job) == (100, False)
    created, finished, deadline = (
        datetime.fromisoformat(job[key]) for key in ("created_at", "completed_at", "job_deadline")
    )
    assert (created.tzinfo, (deadline - created).total_seconds()) == (UTC, 86_400)
    assert created < finished < deadline


def test_expired_lines_are_listed_by_openai_alone(serve):
    """OpenAI names what expired in the error file as batch_expired; Together and Mistral name it nowhere."""
    for provider in ("openai", "together", "mistral"):
        client = serve(provider, lines.ExpireLines(count=1))
        answered, others = result_lines(client, run(client, lines_for(client, 3)))
        codes = [record["error"]["code"] for record in others]
        assert (len(answered), codes) == (2, ["batch_expired"] if provider == "openai" else [])


@pytest.mark.parametrize("provider", provider_names())
def test_unknown_objects_are_404(serve, provider):
    """Batches and files that do not exist are 404 in every provider's error body."""
    client = serve(provider)
    path = batches_path(client)
    for reply in (
        client.http.get(f"{path}/x"),
        client.http.post(f"{path}/x/cancel"),
        client.http.get("/files/x"),
        client.http.get("/nothing"),
    ):
        assert reply.status_code == 404
        body = reply.json()
        assert body["detail"] if provider == "mistral" else body["error"]["message"]


@pytest.mark.parametrize(
    ("provider", "status"), [("openai", 409), ("azure", 409), ("kimi", 400), ("together", 400), ("mistral", 400)]
)
def test_cancelling_what_has_ended_is_refused_differently(serve, provider, status):
    """The status is the provider's, and a fault chooses another."""
    client = serve(provider)
    done = run(client, lines_for(client, 1))
    path = f"{batches_path(client)}/{done['id']}/cancel"
    assert client.http.post(path).status_code == status
    client.emulator.set_scenario(Scenario(timing=FILES_AT_ONCE, faults=(batches.CancelEnded(status=200),)))
    done = run(client, lines_for(client, 1))
    assert client.http.post(f"{batches_path(client)}/{done['id']}/cancel").status_code == 200


@pytest.mark.parametrize(
    ("url", "body", "member"),
    [
        ("/v1/completions", {"prompt": ["a", "b"]}, "choices"),
        ("/v1/embeddings", {"input": ["a", "b"]}, "data"),
        ("/v1/moderations", {"input": "kill"}, "results"),
        ("/v1/responses", {"input": [{"role": "user", "content": "hello"}]}, "output"),
    ],
)
def test_openais_other_endpoints_are_answered(serve, url, body, member):
    """Completions, embeddings, moderations and responses run in batches; a wrong type fails its line."""
    client = serve("openai")
    requests = lines_for(client, 2)
    model = requests[0]["body"]["model"]
    requests[0] |= {"url": url, "body": {"model": model, **body}}
    requests[1] |= {"url": url, "body": {"model": model, **dict.fromkeys(body, 5)}}
    answered, others = result_lines(client, run(client, requests, endpoint=url))
    assert answered[0]["response"]["body"][member]
    assert [record["response"]["status_code"] for record in others] == [400]
