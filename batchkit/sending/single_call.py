"""One request of a shard's file as a call of an ordinary endpoint."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from msgspec import Raw, Struct

from batchkit.files import jsonl
from batchkit.files.spool import disk_errors
from batchkit.preflight.rules import TRANSCRIPTIONS, TRANSLATIONS
from batchkit.sending.media import answer_name, form_of

if TYPE_CHECKING:
    from batchkit.provider.call_reply import CallReply
    from batchkit.provider.calls import CallClient
    from batchkit.sending.lane_shard import LaneCall

_OF_RECORDINGS: Final = frozenset({TRANSCRIPTIONS, TRANSLATIONS})


class _RequestLine(Struct, gc=False):
    custom_id: str
    url: str
    body: Raw


_read_line: Final = jsonl.typed_reader(_RequestLine)


def send_call(client: CallClient, call: LaneCall) -> CallReply:
    """Send a request. Its recording is read from the disk as it is sent, and a binary answer is on the disk when this returns.

    Raises ``SpoolError``, also for a recording that is not what it was.
    """
    url, body = _request_of(call)
    headers = {"X-Client-Request-Id": call.request_id}
    folder = call.shard.folder
    if folder is not None:
        target = folder / answer_name(call.custom_id, jsonl.loads_exactly(body))
        return client.call_to_file(url, body, target, headers=headers)
    if url not in _OF_RECORDINGS or not isinstance((asked := jsonl.loads_exactly(body)).get("file"), dict):
        return client.call(url, body, headers=headers)
    form = form_of(asked)
    with disk_errors("read", form.source):
        return client.call(url, form, headers=headers)


def _request_of(call: LaneCall) -> tuple[str, bytes]:
    shard = call.shard
    with disk_errors("read", shard.path):
        line = os.pread(shard.descriptor, call.length, call.offset)
    record = _read_line(line)
    body = bytes(record.body)
    if call.key.tier and b'"service_tier"' not in body:
        body = jsonl.dumps({**jsonl.loads_exactly(body), "service_tier": call.key.tier})
    return record.url, body
