"""The answer to one request of a row. Quick to load: the process of a user's scorer needs no more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class RequestAnswer:
    """The result of one request of a row.

    ``seq`` is its place in the workload from 0, ``sample`` starts at 1. ``status`` is the request's state. ``value`` is the value of
    the answer, as ``batchkit.answers.check.Reading`` returns it, None unless the request succeeded; ``text`` is the model's text, also of
    a rejected answer. The tokens are those of all answers to the request, including rejected ones that were requested again;
    ``cost_usd`` is their cost at batch prices, None if it is unknown. ``reused_from`` names the request that was answered, if that is
    another one (see ``ExportRow``); then nothing was used. ``executed_tools`` are those that a compound system has run; None without
    an answer, and for other models.
    """

    custom_id: str
    seq: int
    prompt: str
    model: str
    sample: int
    status: str
    value: Any
    text: str | None
    error_code: str | None
    error_message: str | None
    finish_reason: str | None
    attempts: int
    prompt_tokens: int | None
    completion_tokens: int | None
    cost_usd: float | None
    batch_id: str | None
    shard_id: int
    reused_from: str | None = None
    executed_tools: list[Any] | None = None
