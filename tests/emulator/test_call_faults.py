import io
import threading
import time
from email.utils import parsedate_to_datetime

import httpx
import pytest

from batchkit.emulator.faults import calls
from tests.emulator.support import chat_lines, jsonl


@pytest.mark.parametrize(
    ("how", "outcome"),
    [("close", httpx.RemoteProtocolError), ("500", 500), ("502", 502), ("hang", httpx.RemoteProtocolError)],
)
def test_a_lost_create_reply_still_made_a_batch(emulate, how, outcome):
    """The batch exists although the client got no usable reply; a second create makes a second one."""
    client = emulate(calls.LoseReply(on=("batches.create",), how=how, hang_seconds=0.05))
    file_id = client.upload(chat_lines(1))
    if isinstance(outcome, int):
        assert client.post_batch(file_id).status_code == outcome
    else:
        with pytest.raises((outcome, httpx.ReadError)):
            client.post_batch(file_id)
    client.create(file_id)
    assert [batch.input_file_id for batch in client.emulator.ledger().batches].count(file_id) == 2


def test_a_client_that_times_out_frees_the_hanging_call(emulate):
    """The call ends with the client's own timeout."""
    client = emulate(calls.LoseReply(on=("batches.create",), how="hang", hang_seconds=30))
    file_id = client.upload(chat_lines(1))
    body = {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    with pytest.raises(httpx.ReadTimeout):
        client.http.post("/batches", json=body, timeout=0.5)
    assert client.emulator.ledger().batches[-1].input_file_id == file_id


def test_lost_upload_and_cancel_replies_were_carried_out(emulate):
    """The ready-made scenario loses the first reply of upload, create and cancel, each of which was carried out."""
    client = emulate("lost-replies")
    before = client.emulator.ledger().totals
    for lose in (lambda: client.post_file(jsonl(chat_lines(1))), lambda: client.post_batch("file_x")):
        with pytest.raises(httpx.TransportError):
            lose()
    after = client.emulator.ledger().totals
    assert (after.uploads - before.uploads, after.batches - before.batches) == (1, 1)


def test_refused_replies_are_not_lost(emulate):
    """A call that was refused keeps its refusal."""
    client = emulate(calls.LoseReply(on=("batches.create",)))
    assert client.post_batch("file_x", completion_window="1h").status_code == 400


def test_a_dropped_connection_did_nothing(emulate):
    """The connection is closed before the call is carried out."""
    client = emulate(calls.DropConnection(on=("batches.create",), times=1))
    file_id = client.upload(chat_lines(1))
    before = client.emulator.ledger().totals.batches
    with pytest.raises(httpx.TransportError):
        client.post_batch(file_id)
    assert client.emulator.ledger().totals.batches == before
    assert client.post_batch(file_id).status_code == 200


def test_refusals_have_the_status_and_message_of_the_fault(emulate):
    """A refused call gets this reply and has no effect."""
    client = emulate(
        calls.RefuseCalls(on=("batches.create",), status=503, message="Busy", code="busy", headers={"retry-after": "2"})
    )
    response = client.post_batch("file_x")
    assert response.status_code == 503
    assert response.json()["error"] == {"message": "Busy", "type": "internal_server_error", "code": "busy"}
    assert response.headers["retry-after"] == "2"


@pytest.mark.parametrize(("retry_after", "header"), [(0.5, "0.5"), (30, "30"), (None, None)])
def test_rate_limits_come_with_or_without_a_header(emulate, retry_after, header):
    """429 states the wait in its message, and by default in a header; the next call succeeds."""
    client = emulate(calls.RateLimit(retry_after=retry_after, wait="9m38.016s"))
    data = jsonl(chat_lines(100))
    response = client.post_file(data)
    assert response.status_code == 429
    assert response.headers.get("retry-after") == header
    assert response.json()["error"]["code"] == "rate_limit_exceeded"
    assert "9m38.016s" in response.json()["error"]["message"]
    assert client.post_file(data).status_code == 200


def test_the_wait_of_a_rate_limit_can_be_an_http_date(emulate):
    """The date is relative to the reply's own Date header."""
    client = emulate(calls.RateLimit(on=("models.list",), retry_after=90, form="date"))
    headers = client.http.get("/models").headers
    wait = parsedate_to_datetime(headers["retry-after"]) - parsedate_to_datetime(headers["date"])
    assert wait.total_seconds() == 90


def test_the_wait_of_a_rate_limit_can_be_a_go_duration(emulate):
    """It is in retry-after, in the reset header of the tokens, or nowhere."""
    client = emulate(calls.RateLimit(on=("models.list",), retry_after=1.5, form="duration"))
    assert client.http.get("/models").headers["retry-after"] == "1.5s"
    client = emulate(calls.RateLimit(on=("models.list",), retry_after=None, reset="2m59.56s", wait=""))
    response = client.http.get("/models")
    assert "retry-after" not in response.headers
    assert response.headers["x-ratelimit-reset-tokens"] == "2m59.56s"
    assert response.headers["x-ratelimit-remaining-tokens"] == "0"
    assert "try again" not in response.json()["error"]["message"]


def test_a_413_can_mean_tokens(emulate):
    """The 413 of a synchronous request names the model; any other call can be refused in the same way."""
    client = emulate(calls.RequestTooLarge(on=("chat.completions", "batches.create"), times=1))
    body = {"model": "openai/gpt-oss-20b", "messages": [{"role": "user", "content": "x"}]}
    for response in (client.http.post("/chat/completions", json=body), client.post_batch("file_x")):
        assert response.status_code == 413
        assert (response.json()["error"]["type"], response.json()["error"]["code"]) == ("tokens", "rate_limit_exceeded")
    assert client.http.post("/chat/completions", json=body).status_code == 200


def test_an_upload_can_be_reset_in_the_middle(emulate):
    """The connection is reset before most of the file has been sent, and no file exists; the next upload succeeds."""
    client = emulate(calls.CutUploads(after_bytes=100_000, times=1))
    before = client.emulator.ledger().totals.uploads
    data = b"{}\n" + b"x" * 30_000_000
    read = io.BytesIO(data)
    with pytest.raises((httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError)):
        client.http.post("/files", data={"purpose": "batch"}, files={"file": ("a.jsonl", read)})
    assert read.tell() < len(data)
    assert client.emulator.ledger().totals.uploads == before
    assert client.post_file(jsonl(chat_lines(1))).status_code == 200


@pytest.mark.parametrize(("say", "shown"), [("absent", {}), ("null", {"bytes": None}), ("zero", {"bytes": 0})])
def test_the_size_of_a_file_can_be_missing(emulate, say, shown):
    """Its object has no size, null or zero; the content is complete."""
    client = emulate(calls.FileSizes(say=say))
    data = jsonl(chat_lines(2))
    file_id = client.post_file(data).json()["id"]
    told = client.http.get(f"/files/{file_id}").json()
    assert {key: value for key, value in told.items() if key == "bytes"} == shown
    assert told["filename"] == "input.jsonl"
    assert client.content(file_id) == data


def test_the_size_of_a_file_can_be_wrong(emulate):
    """The object states another number than the content has bytes; a refusal is unchanged."""
    client = emulate(calls.FileSizes(say="wrong"))
    data = jsonl(chat_lines(2))
    assert client.http.get(f"/files/{client.post_file(data).json()['id']}").json()["bytes"] == len(data) + 1
    assert client.http.get("/files/file_x").json()["error"]["param"] == "id"


@pytest.mark.parametrize(("how", "found"), [("last-only", [1]), ("joined", []), ("ignored", [0, 1, 2])])
def test_the_filter_by_id_can_be_misread(emulate, how, found):
    """The call asks for two of three batches; the reply has one of them, none, or a whole page with other batches."""
    client = emulate(calls.IdFilter(how=how))
    ids = [client.create(client.upload(chat_lines(1)))["id"] for _ in range(3)]
    shown = client.http.get("/batches", params=[("id", ids[0]), ("id", ids[1])]).json()["data"]
    assert {batch["id"] for batch in shown} & set(ids) == {ids[index] for index in found}
    assert how == "ignored" or len(shown) == len(found)


def test_ids_joined_by_a_comma_are_one_id(client):
    """Groq's own SDK writes a list in this way: ``id=A%2CB`` names one batch, which does not exist."""
    ids = [client.create(client.upload(chat_lines(1)))["id"] for _ in range(2)]
    assert client.http.get("/batches", params={"id": ",".join(ids)}).json()["data"] == []
    shown = client.http.get("/batches", params=[("id", batch_id) for batch_id in ids]).json()["data"]
    assert {batch["id"] for batch in shown} == set(ids)


def test_the_free_plan_has_models_only(emulate):
    """Files and batches are 403 not_available_for_plan, models are listed."""
    client = emulate("free-plan")
    for response in (
        client.http.get("/files"),
        client.post_file(b"{}"),
        client.post_batch("file_x"),
        client.http.get("/batches"),
    ):
        assert response.status_code == 403
        assert response.json()["error"]["code"] == "not_available_for_plan"
        assert response.json()["error"]["type"] == "permissions_error"
    assert client.http.get("/models").status_code == 200


def test_a_key_can_be_revoked(emulate):
    """Every call is 401."""
    assert emulate(calls.BadKey()).http.get("/models").json()["error"]["code"] == "invalid_api_key"


def test_gateways_answer_with_an_html_page(emulate):
    """An HTML page replaces the JSON reply."""
    response = emulate(calls.GatewayErrors(status=503)).http.get("/batches")
    assert response.status_code == 503
    assert response.headers["content-type"].startswith("text/html")


def test_large_uploads_can_be_refused(emulate):
    """Only bodies above the size are 413, and a large one is read completely so that the refusal arrives."""
    client = emulate(calls.UploadTooLarge(above_bytes=5_000_000))
    assert client.post_file(b"{}\n" + b"x" * 8_000_000).status_code == 413
    assert client.post_file(jsonl(chat_lines(1))).status_code == 200
    refused = emulate(calls.UploadTooLarge(status=400)).post_file(jsonl(chat_lines(1)))
    assert (refused.status_code, refused.json()["error"]["message"]) == (400, "File is too large.")


def test_replies_can_be_slow(emulate):
    """The reply comes after the delay, and other calls are not delayed."""
    client = emulate(calls.SlowReplies(on=("batches.list",), seconds=0.6))
    url, headers = f"{client.emulator.base_url}/batches", {"authorization": "Bearer x"}
    slow = threading.Thread(target=lambda: httpx.get(url, headers=headers))
    started = time.monotonic()
    slow.start()
    client.http.get("/models")
    assert time.monotonic() - started < 0.5
    slow.join()
    assert time.monotonic() - started >= 0.6


class TestCutDownloads:
    """Downloads that are cut."""

    @pytest.mark.parametrize("how", ["content-length", "chunked"])
    def test_a_broken_connection_shows_the_cut(self, emulate, how):
        """The client gets half of the bytes and an error; the second download is complete."""
        client = emulate(calls.CutDownloads(how=how, times=1))
        data = jsonl(chat_lines(2_000))
        file_id = client.post_file(data).json()["id"]
        received = bytearray()
        with client.http.stream("GET", f"/files/{file_id}/content") as response:
            pieces = response.iter_raw()
            with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):  # noqa: PT012 - reads until it breaks
                while True:
                    received += next(pieces)
        assert received
        assert data.startswith(received)
        assert client.content(file_id) == data

    @pytest.mark.parametrize("how", ["close-delimited", "clean"])
    def test_a_clean_end_hides_the_cut(self, emulate, how):
        """The client seems to have the whole file; only the size in the file object differs."""
        client = emulate(calls.CutDownloads(how=how, keep=0.4, times=1))
        data = jsonl(chat_lines(2_000))
        shown = client.post_file(data).json()
        assert client.content(shown["id"]) == data[: int(len(data) * 0.4)]
        assert shown["bytes"] == len(data)
        assert client.content(shown["id"]) == data

    def test_a_cut_can_fall_between_lines(self, emulate):
        """There is not even a torn last line."""
        client = emulate(calls.CutDownloads(how="clean", at_line_end=True))
        data = jsonl(chat_lines(100))
        received = client.content(client.post_file(data).json()["id"])
        assert received.endswith(b"}\n")
        assert len(received) < len(data)

    def test_each_file_can_be_cut_once(self, emulate):
        """Counting by object cuts the first download of each file."""
        client = emulate("cut-downloads")
        data = jsonl(chat_lines(10))
        for file_id in [client.post_file(data).json()["id"] for _ in range(2)]:
            assert [len(client.content(file_id)) == len(data) for _ in range(2)] == [False, True]


def test_a_new_file_can_be_invisible_at_first(emulate):
    """The first read and the first create do not find the file, and the second ones do."""
    client = emulate(calls.FileLag())
    file_id = client.upload(chat_lines(1))
    assert [client.http.get(f"/files/{file_id}").status_code for _ in range(2)] == [404, 200]
    assert [client.post_batch(file_id).status_code for _ in range(2)] == [404, 200]


def test_result_files_can_be_gone(emulate):
    """After retention a result file is 404 although the batch names it."""
    client = emulate(calls.GoneFiles(on=("files.content",)))
    batch = client.run(chat_lines(1))
    assert client.http.get(f"/files/{batch['output_file_id']}/content").status_code == 404


class TestWhichCalls:
    """The calls that a fault hits."""

    @pytest.mark.parametrize(
        ("selection", "refused"),
        [
            ({"times": 2}, [1, 1, 0, 0, 0, 0]),
            ({"times": 1, "skip": 2}, [0, 0, 1, 0, 0, 0]),
            ({"every": 2}, [0, 1, 0, 1, 0, 1]),
            ({"every": 3, "times": 1}, [0, 0, 1, 0, 0, 0]),
            ({"skip": 4}, [0, 0, 0, 0, 1, 1]),
        ],
    )
    def test_calls_are_counted_from_the_start_of_the_scenario(self, emulate, selection, refused):
        """times, skip and every select by ordinal."""
        client = emulate(calls.RefuseCalls(on=("models.list",), **selection))
        assert [int(client.http.get("/models").status_code == 500) for _ in range(6)] == refused

    def test_a_share_of_the_calls_is_selected_by_the_seed(self, emulate):
        """The same scenario refuses the same calls again."""

        def refused():
            client = emulate(calls.RefuseCalls(on=("models",), fraction=0.4), seed=3)
            return [client.http.get("/models").status_code for _ in range(30)]

        first = refused()
        assert first == refused()
        assert 4 < first.count(500) < 22
