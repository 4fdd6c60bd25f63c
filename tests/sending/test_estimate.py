from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchkit.sending.estimate import DEFAULT_OUTPUT_TOKENS, RunningRatio, estimate

CHAT = "/v1/chat/completions"


def chat(content: object, **more: object) -> dict[str, object]:
    """Return the body of a chat."""
    return {"model": "m", "messages": [{"role": "user", "content": content}], "max_tokens": 10, **more}


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        (chat("a" * 400), 105),
        (chat("\u3042" * 100), 105),  # 300 bytes
        (chat(""), 5),
        (
            chat(
                [
                    {"type": "text", "text": "a" * 398},
                    {"type": "image_url", "image_url": {"url": "data:" + "A" * 10**6}},
                ]
            ),
            1_105.5,
        ),
        (chat([{"type": "input_audio", "input_audio": {"data": "A" * 10**6}}]), 505),
        ({"model": "m", "input": ["a" * 40, "b" * 40]}, 20),
        ({"model": "m", "prompt": "a" * 40}, 10),
        (chat("a" * 400, metadata={"note": "x" * 4_000}), 105),
        (chat("a" * 400, tools=[{"name": "a" * 400}]), 205),
        ({}, 0),
        ({"messages": None, "input": None}, 2),
    ],
)
def test_the_input_is_estimated_by_its_length(body, tokens):
    """Four characters of ASCII, three bytes of other text, four tokens a message; media by constants. The role has a token."""
    assert estimate(body, CHAT).input_tokens == pytest.approx(tokens)


@pytest.mark.parametrize(
    ("more", "endpoint", "tokens"),
    [
        ({"max_tokens": 50}, CHAT, 50),
        ({"max_completion_tokens": 60, "max_tokens": 50}, CHAT, 60),
        ({"max_output_tokens": 70, "max_tokens": None}, "/v1/responses", 70),
        ({"max_tokens": 50, "n": 3}, CHAT, 150),
        ({"max_tokens": None}, CHAT, DEFAULT_OUTPUT_TOKENS),
        ({"max_tokens": "many"}, CHAT, DEFAULT_OUTPUT_TOKENS),
        ({"max_tokens": -1}, CHAT, DEFAULT_OUTPUT_TOKENS),
        ({"max_tokens": True}, CHAT, DEFAULT_OUTPUT_TOKENS),
        ({"max_tokens": 1e300}, CHAT, DEFAULT_OUTPUT_TOKENS),
        ({}, "/v1/embeddings", 0),
        ({}, "/v1/audio/speech", 0),
    ],
)
def test_the_output_is_what_the_request_asks_for(more, endpoint, tokens):
    """Its limit, for each choice; a usual one without a limit."""
    assert estimate(chat("", **more), endpoint).output_tokens == tokens


def test_recordings_have_seconds_and_no_tokens():
    """The caller knows their length, or not."""
    found = estimate({"model": "whisper", "prompt": "names"}, "/v1/audio/transcriptions", audio_seconds=61.5)
    assert (found.requests, found.tokens, found.audio_seconds) == (1, 0, 61.5)


@given(
    st.dictionaries(
        st.sampled_from(["messages", "input", "n", "max_tokens", "tools"]),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=9),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "text", "content"]), inner)
            ),
        ),
    )
)
def test_no_body_breaks_the_estimate(body):
    """It is a number, whatever the body has."""
    found = estimate(body, CHAT)
    assert 0 <= found.input_tokens < 1e9
    assert 0 <= found.output_tokens <= 1e7


def test_a_deep_body_does_not_overflow():
    """Nesting is followed for a while only."""
    body: object = "x"
    for _ in range(50_000):
        body = [body]
    assert estimate({"input": body}, CHAT).input_tokens == 0


def test_the_ratio_follows_the_answers():
    """After 20 answers of one kind it is theirs; it has bounds, and ignores empty answers."""
    ratio = RunningRatio()
    assert ratio.value == 1.0
    for _ in range(20):
        ratio.add(used=200, estimated=100)
    assert ratio.value == pytest.approx(2.0)
    for _ in range(60):
        ratio.add(used=50, estimated=100)
    assert ratio.value == pytest.approx(0.5, rel=0.15)
    ratio.add(used=0, estimated=100)
    ratio.add(used=100, estimated=0)
    assert ratio.value == pytest.approx(0.5, rel=0.15)
    for _ in range(200):
        ratio.add(used=1e9, estimated=1)
    assert ratio.value == 10.0
