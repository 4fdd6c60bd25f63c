"""Checks request lines against the rules of a provider before anything is sent. Pure: no I/O.

::

    rules      LineRules: what a provider accepts; its dialect has one
    findings   the findings of one line, as sentences
    envelope   inspect(): custom_id, method, url, body, model; the fast path
    plain      plain_chats(): whole blocks of plain text chats, faster still
    messages   the texts of a chat
    available  model_warnings(): the models of the input against GET /models
    estimate   estimate_tokens(): a cheap estimate for a dry run

A line is refused only if a page of the documentation refuses it. An unusual or deprecated value, or one that other providers
refuse, is a warning. A parameter that no page mentions is accepted: a later API may know it.
"""

from __future__ import annotations

from batchkit.preflight.available import model_warnings
from batchkit.preflight.envelope import Inspection, inspect
from batchkit.preflight.estimate import ModelShare, TokenEstimate, estimate_tokens
from batchkit.preflight.plain import PLAIN_ENDPOINT, plain_chats
from batchkit.preflight.rules import LineRules

__all__ = [
    "PLAIN_ENDPOINT",
    "Inspection",
    "LineRules",
    "ModelShare",
    "TokenEstimate",
    "estimate_tokens",
    "inspect",
    "model_warnings",
    "plain_chats",
]
