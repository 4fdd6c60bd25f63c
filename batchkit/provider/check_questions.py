"""Questions that the documentation of batch APIs leaves open and that no check can answer, or not this one, with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from batchkit.preflight.rules import TRANSCRIPTIONS
from batchkit.provider.check_report import OpenQuestion

if TYPE_CHECKING:
    from batchkit.provider.check_report import CheckReport
    from batchkit.provider.dialect import Dialect

_NEVER: Final = (
    ("whether lines that fail with 5xx are tried again before they fail", "such a failure cannot be caused"),
    ("the headers of a refusal for want of capacity (498, 503)", "such a refusal cannot be caused"),
    ("whether a call that is broken off is executed and billed", "no call of the API shows a bill"),
    ("service tiers of speech and transcription", "nothing here calls these endpoints outside of batches"),
    ("models with tools of their own in a batch", "name one with --model: its lines then are the check"),
)
_WITHOUT_BATCHES: Final = (
    "bad lines, repeated custom_ids, lines of errors, cancelled batches, deleted inputs, spellings of windows, ordinary calls",
    "nothing that costs was sent: leave out --free",
)


def add_unanswered(report: CheckReport, dialect: Dialect, *, has_batches: bool, has_audio: bool) -> None:
    """Add what the check did not answer to its report."""
    window, size = dialect.windows.shortest, dialect.limits.max_bytes / 1e6
    questions = [
        ("the lines and files of an expired batch", f"that takes the shortest window, {window}"),
        ("the largest file that is taken, and its refusal", f"that takes an upload of more than {size:,.0f} MB"),
        *_NEVER,
    ]
    if not has_batches:
        questions.insert(0, _WITHOUT_BATCHES)
    if not has_audio and TRANSCRIPTIONS in dialect.rules.endpoints:
        questions.append(
            (
                "the endpoint of audio lines and of mixed files, the body of a transcript as text",
                "give the address of a short recording with --audio",
            )
        )
    report.unanswered += [OpenQuestion(question, reason) for question, reason in questions]
