"""Requests that carry a file of this machine, and answers that are one.

A recording is named in its request by path, size and digest, and read from the disk as it is sent. A binary answer is a file in the
spool, written and synced before the journal names it; its output line has a JSON object in place of the audio::

    {"path": below the spool, "bytes": size, "sha256": hex, "content_type": of the reply, "characters": of the text that was spoken}
"""

from __future__ import annotations

import hashlib
import re
import secrets
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from msgspec import Raw, Struct

from batchkit.errors import SpoolError
from batchkit.files import jsonl
from batchkit.preflight.rules import SPEECH
from batchkit.provider.call_bodies import FileBody

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchkit.provider.call_reply import CallReply

#: The folder of the spool with all binary answers: those of a workload are in a folder of its directory's name below it.
AUDIO_FOLDER: Final = "audio"
#: How the bodies of binary answers begin, as a pattern of SQL.
FILE_ANSWERS: Final = '{"path":"audio/%'
_ENDING_CHARS: Final = 8
#: What a server writes in an answer of its own must lead nowhere else.
_PATH: Final = re.compile(r"audio/\w[\w.-]*/\w[\w.-]*/\w[\w.-]*", re.ASCII)
_WRITTEN: Final = {True: "true", False: "false"}


class FileAnswer(Struct, kw_only=True, forbid_unknown_fields=True):
    """A binary answer, as its output line and the database have it; ``path`` is below the spool."""

    path: str
    bytes: int
    sha256: str
    content_type: str | None = None
    characters: int | None = None


_read_answer: Final = jsonl.typed_reader(FileAnswer)


def file_answer(body: bytes | None) -> FileAnswer | None:
    """Read a body that is a binary answer; None for any other one."""
    if body is None or not body.startswith(b'{"path":"audio/'):
        return None
    try:
        found = _read_answer(body)
    except jsonl.UNREADABLE:
        return None
    return found if _PATH.fullmatch(found.path) else None


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
