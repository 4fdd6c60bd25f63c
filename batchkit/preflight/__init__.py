"""What a request line must be for its endpoint and its model, checked before anything is sent. Pure: no I/O.

::

    facts      what Groq's documentation says, with page and date
    findings   collecting what is wrong with one line, in words
    envelope   inspect(): custom_id, method, url, body, model; the fast path
    plain      plain_ids(): whole blocks of plain text chats, faster still
    chat       the body of /v1/chat/completions
    audio      the body of /v1/audio/transcriptions and /v1/audio/translations
    available  model_warnings(): the models of the input against GET /models
    estimate   estimate_tokens(): a cheap guess for a dry run

A line is refused only for what a page of the documentation refuses. What is merely odd, deprecated or refused by other
providers is a warning, and a parameter that no page mentions passes without a word: tomorrow's API may know it.
"""

from __future__ import annotations

from batchkit.preflight.available import model_warnings
from batchkit.preflight.envelope import Inspection, inspect
from batchkit.preflight.estimate import TokenEstimate, estimate_tokens
from batchkit.preflight.facts import LIMITS_AS_OF
from batchkit.preflight.plain import PLAIN_ENDPOINT, plain_ids

__all__ = [
    "LIMITS_AS_OF",
    "PLAIN_ENDPOINT",
    "Inspection",
    "TokenEstimate",
    "estimate_tokens",
    "inspect",
    "model_warnings",
    "plain_ids",
]
