import io
import re
import zlib

import httpx
import pytest

from batchkit.emulator import Scenario, ScenarioLimits, Timing
from tests.emulator.support import chat_line, chat_lines, jsonl

TYPE_ID = re.compile(r"file_[0-7][0-9a-hjkmnp-tv-z]{25}")


def test_upload_shows_the_file_object(client):
    """An upload returns Groq's file object, with the keys in Groq's order."""
    data = jsonl(chat_lines(2))
    shown = client.post_file(data, "questions.jsonl").json()
    assert list(shown) == ["id", "object", "bytes", "created_at", "filename", "purpose"]
    assert TYPE_ID.fullmatch(shown["id"])
    assert (shown["object"], shown["bytes"], shown["filename"], shown["purpose"]) == (
        "file",
        len(data),
        "questions.jsonl",
        "batch",
    )
    assert client.http.get(f"/files/{shown['id']}").json() == shown
    assert shown in client.http.get("/files").json()["data"]


def test_content_is_returned_byte_for_byte(client):
    """A download has a Content-Length and the uploaded bytes, even without a final newline."""
    data = jsonl([chat_line("a", "Grüße \u2028 日本")])[:-1]
    file_id = client.post_file(data).json()["id"]
    response = client.http.get(f"/files/{file_id}/content")
    assert response.content == data
    assert response.headers["content-length"] == str(len(data))
    assert response.headers["content-type"] == "application/octet-stream"


def test_delete_makes_the_file_unknown(client):
    """The deletion is confirmed once, and afterwards the file is 404."""
    file_id = client.upload(chat_lines(1))
    assert client.http.delete(f"/files/{file_id}").json() == {"id": file_id, "object": "file", "deleted": True}
    for response in (
        client.http.get(f"/files/{file_id}"),
        client.http.get(f"/files/{file_id}/content"),
        client.http.delete(f"/files/{file_id}"),
    ):
        assert response.status_code == 404
        assert response.json()["error"]["type"] == "invalid_request_error"
    assert file_id not in [shown["id"] for shown in client.http.get("/files").json()["data"]]


def test_a_file_deleted_while_its_batch_runs_is_still_read(make_client):
    """A running batch keeps the bytes of its deleted input until it has ended, and no longer."""
    client = make_client(Scenario(timing=Timing(seconds_per_line=600)), speed=86_400)
    file_id = client.upload(chat_lines(20))
    batch = client.create(file_id)
    client.wait(batch["id"], "in_progress")
    client.http.delete(f"/files/{file_id}")
    assert client.wait(batch["id"])["request_counts"]["completed"] == 20
    assert not (client.emulator.directory / "files" / file_id).exists()


@pytest.mark.parametrize(
    ("data", "filename", "purpose", "words"),
    [
        (b"{}\n", "input.json", "batch", "jsonl"),
        (b"{}\n", "input.jsonl", "fine-tune", "purpose"),
        (b"", "input.jsonl", "batch", "empty"),
        (b"not json\n", "input.jsonl", "batch", "line 1"),
    ],
)
def test_unusable_uploads_are_refused(client, data, filename, purpose, words):
    """A wrong extension or purpose, an empty file, and a first line that is no object are 400."""
    response = client.post_file(data, filename, purpose)
    assert response.status_code == 400
    assert words in response.json()["error"]["message"]


def test_a_file_above_the_limit_is_refused(emulate):
    """A file with more bytes than the limit is refused; one of exactly the limit is not."""
    data = jsonl(chat_lines(3))
    client = emulate(limits=ScenarioLimits(max_bytes=len(data)))
    assert client.post_file(data).status_code == 200
    response = client.post_file(data + b"\n")
    assert response.status_code == 400
    assert "too large" in response.json()["error"]["message"]


def test_upload_without_a_file_is_refused(client):
    """A form without the file, and a body that is no form, are 400."""
    assert client.http.post("/files", files={"purpose": (None, "batch")}).status_code == 400
    assert client.http.post("/files", json={"purpose": "batch"}).status_code == 400


def test_chunked_uploads_are_accepted(client):
    """An upload without Content-Length arrives completely."""
    data = jsonl(chat_lines(500))
    request = httpx.Request(
        "POST", "http://x", data={"purpose": "batch"}, files={"file": ("a.jsonl", io.BytesIO(data))}
    )
    body = request.read()
    pieces = (body[start : start + 1_000] for start in range(0, len(body), 1_000))
    shown = client.http.post("/files", content=pieces, headers={"content-type": request.headers["content-type"]}).json()
    assert zlib.crc32(client.content(shown["id"])) == zlib.crc32(data)


@pytest.mark.parametrize("header", [None, "", "Bearer", "Basic abc", "gsk_emulator"])
def test_calls_without_a_bearer_key_are_refused(client, header):
    """A missing or malformed Authorization header is 401 invalid_api_key."""
    headers = {} if header is None else {"authorization": header}
    response = httpx.get(f"{client.emulator.base_url}/files", headers=headers)
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "invalid_api_key"


def test_the_key_is_compared_if_one_is_set(make_client):
    """With a key set, only that key is accepted, whatever the case of the scheme."""
    client = make_client(api_key="gsk_right")
    url = f"{client.emulator.base_url}/models"
    assert httpx.get(url, headers={"authorization": "bearer gsk_right"}).status_code == 200
    assert httpx.get(url, headers={"authorization": "Bearer gsk_wrong"}).status_code == 401


def test_unknown_urls_have_the_providers_error_body(client):
    """An unknown path, such as a doubled prefix, is a JSON 404."""
    response = client.http.get("/openai/v1/files")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "unknown_url"


def test_replies_have_the_providers_headers(client):
    """Every reply has a request id and the emulator's own Date header."""
    headers = client.http.get("/files").headers
    assert headers["x-request-id"].startswith("req_")
    assert headers["date"].endswith("GMT")
