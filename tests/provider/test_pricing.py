"""Prices: the batch discount, what is not known, and that nothing is fetched."""

from __future__ import annotations

import pytest
from genai_prices import Usage, calc_price

from batchkit.errors import ConfigurationError
from batchkit.provider.dialect import Prices
from batchkit.provider.pricing import Pricing, pricing_of
from batchkit.settings import load_settings

MODEL = "llama-3.3-70b-versatile"
GROQS = pricing_of("groq")


@pytest.mark.parametrize(("prompt", "completion"), [(1_000_000, 0), (0, 1_000_000), (123, 45), (0, 0)])
def test_tokens_cost_half_in_a_batch(prompt, completion):
    """The package's own price, and half of it (console.groq.com/docs/batch)."""
    whole = float(
        calc_price(Usage(input_tokens=prompt, output_tokens=completion), MODEL, provider_id="groq").total_price
    )
    assert GROQS.price(MODEL, prompt, completion) == pytest.approx(whole / 2, abs=1e-12)


def test_recordings_cost_by_the_second_and_ten_at_least():
    """An hour has the price of an hour; a second that of ten."""
    assert GROQS.price_audio("whisper-large-v3-turbo", 3_600) == pytest.approx(0.02)
    assert GROQS.price_audio("whisper-large-v3-turbo", 1) == GROQS.price_audio("whisper-large-v3-turbo", 10) != 0


def test_unknown_is_none_and_never_zero():
    """A model that nobody has a price for, tokens of one that is paid by the hour, hours of one that is paid by tokens."""
    assert GROQS.price("my/own-model", 10, 10) is None
    assert GROQS.price("whisper-large-v3", 10, 10) is None
    assert GROQS.price_audio(MODEL, 60) is None
    assert GROQS.price_audio("my/own-model", 60) is None


def test_prices_say_what_they_are_of():
    """The package and its version are named."""
    assert "genai-prices" in GROQS.as_of


@pytest.mark.parametrize("provider", ["vllm", "of another version"])
def test_no_price_is_known_without_a_catalogue(provider):
    """A server of one's own has no list of prices; neither has a provider that this installation does not know."""
    assert pricing_of(provider).price(MODEL, 10, 10) is None


def test_a_discount_that_is_not_known_leaves_the_price_unknown():
    """The ordinary price would be an answer to another question."""
    assert Pricing(Prices(catalogue="groq")).price(MODEL, 10, 10) is None


OWN = """\
[provider]
name = "gpu"
base_url = "https://gpu.example/v1"

[provider.profile.token_prices]
"my/own-model" = { prompt = 0.2, completion = 1.5 }
"""


def test_a_profile_of_the_users_own_has_prices(tmp_path, monkeypatch):
    """They are what a batch costs, or what its discount is taken from; without the profile no price is known."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "batchkit.toml").write_text(OWN)
    load_settings()
    assert pricing_of("gpu").price("my/own-model", 1_000_000, 2_000_000) == pytest.approx(3.2)
    assert pricing_of("gpu").price("another", 10, 10) is None
    assert pricing_of("gpu").as_of == "your own profile"
    (tmp_path / "batchkit.toml").write_text(
        OWN.replace("[provider.profile.", "[provider.profile]\ndiscount = 0.5\n[provider.profile.")
    )
    load_settings()
    assert pricing_of("gpu").price("my/own-model", 1_000_000, 2_000_000) == pytest.approx(1.6)
    (tmp_path / "batchkit.toml").unlink()
    load_settings()
    assert pricing_of("gpu").price("my/own-model", 10, 10) is None


def test_prices_of_a_profile_correct_those_of_a_known_provider(tmp_path, monkeypatch):
    """Other models keep their own; the provider's discount stays."""
    monkeypatch.chdir(tmp_path)
    text = OWN.replace('"gpu"', '"openai"').replace('base_url = "https://gpu.example/v1"', "")
    (tmp_path / "batchkit.toml").write_text(text)
    before = pricing_of("openai").price("gpt-4.1-mini", 1_000_000, 0)
    load_settings()
    assert pricing_of("openai").price("my/own-model", 1_000_000, 0) == pytest.approx(0.1)
    assert pricing_of("openai").price("gpt-4.1-mini", 1_000_000, 0) == before != 0


@pytest.mark.parametrize(
    "price", ["{ prompt = -1, completion = 1 }", "{ prompt = 1 }", "3", "{ prompt = 1, completion = 1, x = 1 }"]
)
def test_a_wrong_price_of_a_profile_is_refused(tmp_path, monkeypatch, price):
    """With its line."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "batchkit.toml").write_text(OWN.replace("{ prompt = 0.2, completion = 1.5 }", price))
    with pytest.raises(ConfigurationError, match=r"batchkit.toml:6: "):
        load_settings()
