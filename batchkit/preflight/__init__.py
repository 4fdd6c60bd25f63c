"""Checks request lines against the rules of their endpoint and model before anything is sent. Pure: no I/O.

::

    facts      the limits of Groq's documentation, with page and date
    findings   the findings of one line, as sentences
    envelope   inspect(): custom_id, method, url, body, model; the fast path
    plain      plain_ids(): whole blocks of plain text chats, faster still
    chat       the body of /v1/chat/completions
    audio      the body of /v1/audio/transcriptions and /v1/audio/translations
    available  model_warnings(): the models of the input against GET /models
    estimate   estimate_tokens(): a cheap estimate for a dry run

A line is refused only if a page of the documentation refuses it. An unusual or deprecated value, or one that other providers
refuse, is a warning. A parameter that no page mentions is accepted: a later API may know it.
"""

from __future__ import annotations

from batchkit.preflight.available import model_warnings
from batchkit.preflight.envelope import Inspection, inspect
from batchkit.preflight.estimate import ModelShare, TokenEstimate, estimate_tokens
from batchkit.preflight.facts import LIMITS_AS_OF
from batchkit.preflight.plain import PLAIN_ENDPOINT, plain_ids

__all__ = [
    "LIMITS_AS_OF",
    "PLAIN_ENDPOINT",
    "Inspection",
    "ModelShare",
    "TokenEstimate",
    "estimate_tokens",
    "inspect",
    "model_warnings",
    "plain_ids",
]
