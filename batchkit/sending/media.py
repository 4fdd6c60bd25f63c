"""Requests that carry a file of this machine, and answers that are one.

A recording is named in its request by path, size and digest, and read from the disk as it is sent. A binary answer is a file in the
spool, written and synced before the journal names it; its output line has a JSON object in place of the audio::

    {"path": below the spool, "bytes": size, "sha256": hex, "content_type": of the reply, "characters": of the text that was spoken}
"""

from __future__ import annotations

import hashlib
import secrets
import stat
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from msgspec import Raw, Struct

from batchkit.answers.file_answers import AUDIO_FOLDER
from batchkit.errors import SpoolError
from batchkit.files import jsonl
from batchkit.preflight.rules import SPEECH
from batchkit.provider.call_bodies import FileBody

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchkit.provider.call_reply import CallReply

_ENDING_CHARS: Final = 8
_WRITTEN: Final = {True: "true", False: "false"}


class _Response(Struct, gc=False):
    body: Raw = Raw(b"null")


class _Line(Struct, gc=False):
    response: _Response | None = None


_read_line: Final = jsonl.typed_reader(_Line)


def body_of_line(line: bytes) -> bytes | None:
    """Return the body that an output line has, as it is written there; None for a line without one."""
    try:
        response = _read_line(line).response
    except jsonl.UNREADABLE:
        return None
    return None if response is None else bytes(response.body)


def answer_folder(directory: str, shard_key: str) -> str:
    """Return the folder in the spool of a shard's binary answers; ``directory`` is that of its workload."""
    return f"{AUDIO_FOLDER}/{directory}/{shard_key}"


def answers_with_file(url: str) -> bool:
    """Return whether an endpoint answers with bytes and not with JSON."""
    return url == SPEECH


def answer_name(custom_id: str, body: dict[str, Any]) -> str:
    """Return a new name for the file of an answer: no attempt ever replaces the file of another one."""
    wanted = body.get("response_format")
    ending = wanted if isinstance(wanted, str) and wanted.isalnum() and len(wanted) <= _ENDING_CHARS else "wav"
    digest = blake2b(custom_id.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
    return f"{digest}-{secrets.token_hex(4)}.{ending.lower()}"


def body_of_file(reply: CallReply, folder: str, *, characters: int | None) -> bytes | None:
    """Return the body of a binary answer, whose file lies in ``folder`` of the spool; None for a reply that is none."""
    if reply.file is None or not reply.file.size_bytes:
        return None
    kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
    return jsonl.dumps(
        {
            "path": f"{folder}/{reply.file.path.name}",
            "bytes": reply.file.size_bytes,
            "sha256": reply.file.sha256,
            "content_type": kind or None,
            "characters": characters,
        }
    )


def form_of(body: dict[str, Any]) -> FileBody:
    """Return the form that sends the recording which ``body["file"]`` names. Raises ``SpoolError`` if it is not what it was."""
    named = body["file"]
    path = Path(named["path"])
    try:
        found = path.stat()
        # A device or a pipe would never end.
        if not stat.S_ISREG(found.st_mode) or found.st_size != named["bytes"]:
            raise _lost(path, "was changed after the requests were made")
        with path.open("rb") as handle:
            digest = hashlib.file_digest(handle, "sha256").hexdigest()
    except (OSError, ValueError) as error:
        raise _lost(path, f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if digest != named["sha256"]:
        raise _lost(path, "was changed after the requests were made")
    fields = [field for name, value in body.items() if name != "file" for field in _fields(name, value)]
    return FileBody(source=path, fields=fields, filename=path.name)


def _fields(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield a member of a JSON body as fields of a form: a list has a field for each entry."""
    if isinstance(value, list):
        for entry in value:
            yield f"{name}[]", _text(entry)
    elif value is not None:
        yield name, _text(value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return _WRITTEN[value]
    return value if isinstance(value, str) else jsonl.dumps(value).decode()


def _lost(path: Path, why: str) -> SpoolError:
    return SpoolError(
        f"the recording {path} {why}",
        hint="put it back as it was, and the same command resumes; or `batchkit cancel` the workload and start a new one",
    )
