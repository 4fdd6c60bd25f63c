"""Realistic requests and answers: 600 to 900 bytes in, 900 to 1,500 bytes out, a quarter not ASCII, 2 % errors."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from batchkit.files import jsonl

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_WORDS = [
    "delivery",
    "late",
    "broken",
    "refund",
    "excellent",
    "battery",
    "screen",
    "colour",
    "cheap",
    "quality",
    "packaging",
    "support",
    "replied",
    "never",
    "again",
    "returned",
    "size",
    "fits",
    "perfectly",
    "stopped",
    "working",
    "after",
    "week",
    "would",
    "recommend",
    "friend",
    "waste",
    "money",
    "surprisingly",
    "good",
]
_FOREIGN = ["größe", "très", "déçu", "電池", "とても良い", "отлично", "доставка", "很好", "质量", "naïve", "café"]
_ERROR_EVERY = 50


def write_requests(path: Path, count: int, *, seed: int = 7) -> None:
    """Write ``count`` chat requests; the same seed gives the same bytes."""
    rng = random.Random(seed)  # noqa: S311 - data, not a secret
    with path.open("wb", buffering=1 << 20) as handle:
        for number in range(count):
            handle.write(jsonl.dumps(_request(rng, number)) + b"\n")


def _request(rng: random.Random, number: int) -> dict[str, Any]:
    words = _WORDS + _FOREIGN if number % 4 == 0 else _WORDS
    text = " ".join(rng.choices(words, k=rng.randint(42, 66)))
    return {
        # In random order, so that the cost of an index shows.
        "custom_id": f"review-{rng.getrandbits(80):020x}",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {
            "model": "openai/gpt-oss-20b",
            "messages": [
                {
                    "role": "system",
                    "content": "Label the review as positive, negative or mixed, and say why in one line.",
                },
                {"role": "user", "content": text},
            ],
            "temperature": 0.2,
            "max_completion_tokens": 200,
        },
    }


def write_answers(requests: Iterable[bytes], output: Path, error: Path, *, seed: int = 7) -> tuple[int, int]:
    """Write the shuffled output file and the error file of a batch; return the number of lines of each."""
    rng = random.Random(seed)  # noqa: S311 - data, not a secret
    answered: list[bytes] = []
    refused: list[bytes] = []
    for number, line in enumerate(requests):
        custom_id = jsonl.loads(line)["custom_id"]
        if number % _ERROR_EVERY == _ERROR_EVERY - 1:
            refused.append(jsonl.dumps(_refusal(custom_id, number)))
        else:
            answered.append(jsonl.dumps(_answer(rng, custom_id, number)))
    rng.shuffle(answered)
    for path, lines in ((output, answered), (error, refused)):
        with path.open("wb", buffering=1 << 20) as handle:
            handle.writelines(line + b"\n" for line in lines)
    return len(answered), len(refused)


def _answer(rng: random.Random, custom_id: str, number: int) -> dict[str, Any]:
    words = _WORDS + _FOREIGN if number % 4 == 0 else _WORDS
    completion = rng.randint(30, 90)
    body = {
        "id": f"chatcmpl-{rng.getrandbits(128):032x}",
        "object": "chat.completion",
        "created": 1_790_000_000 + number,
        "model": "openai/gpt-oss-20b",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": " ".join(rng.choices(words, k=rng.randint(30, 60))),
                    "reasoning": " ".join(rng.choices(_WORDS, k=rng.randint(15, 40))),
                },
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "queue_time": 0.05,
            "prompt_tokens": 120,
            "prompt_time": 0.004,
            "completion_tokens": completion,
            "completion_time": 0.3,
            "total_tokens": 120 + completion,
            "total_time": 0.304,
        },
        "usage_breakdown": None,
        "system_fingerprint": "fp_44e9f3f20c",
        "x_groq": {"id": f"req_{rng.getrandbits(100):026x}", "seed": rng.getrandbits(31)},
        "service_tier": "batch",
    }
    return {
        "id": f"batch_req_{rng.getrandbits(100):026x}",
        "custom_id": custom_id,
        "response": {"status_code": 200, "request_id": f"req_{rng.getrandbits(100):026x}", "body": body},
        "error": None,
    }


def _refusal(custom_id: str, number: int) -> dict[str, Any]:
    error = {"message": "The request was refused.", "type": "invalid_request_error", "code": "bad_thing"}
    return {
        "id": f"batch_req_{number:026x}",
        "custom_id": custom_id,
        "response": {"status_code": 400, "request_id": f"req_{number:026x}", "body": {"error": error}},
        "error": None,
    }
