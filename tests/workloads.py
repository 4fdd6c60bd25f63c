"""Inputs for tests: request lines as users write them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batchkit.files import jsonl

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

CHAT = "/v1/chat/completions"
TRANSCRIPTION = "/v1/audio/transcriptions"


def chat_line(custom_id: str, text: str = "What is the capital of Peru?", **body: Any) -> dict[str, Any]:
    """Return a chat request."""
    messages = [{"role": "user", "content": text}]
    return {
        "custom_id": custom_id,
        "method": "POST",
        "url": CHAT,
        "body": {"model": "openai/gpt-oss-20b", "messages": messages, **body},
    }


def vision_line(custom_id: str) -> dict[str, Any]:
    """Return a chat request with an image."""
    content = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": f"https://example.com/{custom_id}.jpg"}},
    ]
    line = chat_line(custom_id)
    line["body"] = {
        "model": "meta-llama/llama-4-scout-17b-16e-instruct",
        "messages": [{"role": "user", "content": content}],
    }
    return line


def audio_line(custom_id: str) -> dict[str, Any]:
    """Return a transcription request."""
    body = {"model": "whisper-large-v3", "url": f"https://example.com/{custom_id}.mp3", "response_format": "json"}
    return {"custom_id": custom_id, "method": "POST", "url": TRANSCRIPTION, "body": body}


def mixed_line(number: int) -> dict[str, Any]:
    """Return line ``number`` of a mixed workload: mostly chat, some vision, some audio."""
    match number % 10:
        case 3:
            return vision_line(f"picture-{number:07d}")
        case 7:
            return audio_line(f"sound-{number:07d}")
        case _:
            return chat_line(
                f"row-{number:07d}", f"Line {number}: naïve café, 日本語 and \u2028 separators", max_tokens=64
            )


def write_lines(path: Path, lines: Iterable[Any]) -> Path:
    """Write lines to a file: bytes unchanged, anything else as JSON."""
    with path.open("wb") as handle:
        for line in lines:
            handle.write(line if isinstance(line, bytes) else jsonl.dumps(line))
            handle.write(b"\n")
    return path


def write_mixed(path: Path, count: int) -> Path:
    """Write a mixed workload."""
    return write_lines(path, (mixed_line(number) for number in range(count)))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return all lines of a JSONL file."""
    with path.open("rb") as handle:
        return [jsonl.loads(line) for line in handle]
