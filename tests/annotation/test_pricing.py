"""Prices: the batch discount, what is not known, and that nothing is fetched."""

from __future__ import annotations

import pytest
from genai_prices import Usage, calc_price

from batchkit.annotation.pricing import PRICES_AS_OF, price, price_audio

MODEL = "llama-3.3-70b-versatile"


@pytest.mark.parametrize(("prompt", "completion"), [(1_000_000, 0), (0, 1_000_000), (123, 45), (0, 0)])
def test_tokens_cost_half_in_a_batch(prompt, completion):
    """The package's own price, and half of it (console.groq.com/docs/batch)."""
    whole = float(
        calc_price(Usage(input_tokens=prompt, output_tokens=completion), MODEL, provider_id="groq").total_price
    )
    assert price(MODEL, prompt, completion, is_batch=False) == pytest.approx(whole, abs=1e-12)
    assert price(MODEL, prompt, completion) == pytest.approx(whole / 2, abs=1e-12)


def test_recordings_cost_by_the_second_and_ten_at_least():
    """An hour has the price of an hour; a second that of ten."""
    hour = price_audio("whisper-large-v3-turbo", 3_600, is_batch=False)
    assert hour == pytest.approx(0.04)
    assert price_audio("whisper-large-v3-turbo", 3_600) == pytest.approx(0.02)
    assert price_audio("whisper-large-v3-turbo", 1) == price_audio("whisper-large-v3-turbo", 10) != 0


def test_unknown_is_none_and_never_zero():
    """A model that nobody has a price for, tokens of one that is paid by the hour, hours of one that is paid by tokens."""
    assert price("my/own-model", 10, 10) is None
    assert price("whisper-large-v3", 10, 10) is None
    assert price_audio(MODEL, 60) is None
    assert price_audio("my/own-model", 60) is None


def test_prices_say_what_they_are_of():
    """The package and its version are named."""
    assert "genai-prices" in PRICES_AS_OF
