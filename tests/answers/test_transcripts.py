"""Transcripts: text, segments, and the flag that says whether to trust them."""

from __future__ import annotations

import pytest

from batchkit.answers.check import AnswerCheck
from batchkit.answers.rules import AnswerRules
from batchkit.answers.transcripts import read_transcript
from batchkit.files import jsonl

FINE = {
    "start": 0.0,
    "end": 4.2,
    "text": " Hello there.",
    "avg_logprob": -0.1,
    "no_speech_prob": 0.01,
    "compression_ratio": 1.4,
}


def test_text_and_segments_are_read():
    """A verbose transcript gives its text, language, duration and segments with their three numbers."""
    body = {
        "task": "transcribe",
        "language": "en",
        "duration": 4.2,
        "text": " Hello there. ",
        "segments": [{"id": 0, **FINE}],
    }
    assert read_transcript(body) == {
        "text": "Hello there.",
        "language": "en",
        "duration": 4.2,
        "segments": [{**FINE, "text": "Hello there.", "quality": "ok"}],
        "quality": "ok",
    }


@pytest.mark.parametrize(
    ("change", "quality"),
    [
        ({}, "ok"),
        ({"avg_logprob": -0.5}, "low_confidence"),
        ({"avg_logprob": -0.49}, "ok"),
        ({"compression_ratio": 2.5}, "repetitive"),
        ({"compression_ratio": 2.5, "avg_logprob": -0.9}, "repetitive"),
        ({"no_speech_prob": 0.7, "compression_ratio": 2.5}, "no_speech"),
        ({"avg_logprob": None, "no_speech_prob": "?", "compression_ratio": True}, "ok"),
    ],
    ids=repr,
)
def test_the_worst_sign_names_the_segment_and_the_transcript(change, quality):
    """A segment has the quality of its worst number, and the transcript that of its worst segment."""
    found = read_transcript({"text": "a", "segments": [FINE, {**FINE, **change}, FINE]})
    assert found is not None
    assert [segment["quality"] for segment in found["segments"]] == ["ok", quality, "ok"]
    assert found["quality"] == quality


def test_plain_transcripts_have_no_flag():
    """Without segments there is nothing to judge by: the flag is null, not fine."""
    for body in ({"text": "Hello"}, "Hello", {"text": "Hello", "segments": None}):
        found = read_transcript(body)
        assert found is not None
        assert (found["text"], found["quality"], found["segments"]) == ("Hello", None, [])


def test_silence_is_an_answer():
    """A recording without a word is transcribed as nothing: to ask again would cost as much and say as little."""
    check = AnswerCheck(AnswerRules(format="transcript"))
    assert check.read(jsonl.dumps({"text": ""})).code is None
    assert check.read(jsonl.dumps({"choices": []})).code == "answer_invalid"
    assert check.read(b"not json").code == "answer_invalid"
