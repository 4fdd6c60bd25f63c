"""The cost of answers: the installed Groq prices of ``genai-prices``, and the batch discount.

Nothing is fetched. An unknown price is None, and never zero.
"""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from importlib.metadata import version
from typing import Final, NamedTuple

from genai_prices import Usage, calc_price
from genai_prices.data import providers

#: console.groq.com/docs/batch: "50% cost discount compared to synchronous APIs".
BATCH_DISCOUNT: Final = 0.5
#: console.groq.com/docs/speech-to-text: "Minimum Billed Length 10 seconds".
MIN_BILLED_SECONDS: Final = 10.0

_PROVIDER: Final = "groq"
_MILLION: Final = 1_000_000
_SECONDS_PER_HOUR: Final = 3_600


class _Rates(NamedTuple):
    """USD without discount; None is unknown."""

    per_prompt_token: float | None
    per_completion_token: float | None
    per_second: float | None


def price(model: str, prompt_tokens: int, completion_tokens: int, *, is_batch: bool = True) -> float | None:
    """Return the price of tokens in USD; None if the model's price is unknown."""
    rates = _rates(model)
    if rates.per_prompt_token is None or rates.per_completion_token is None:
        return None
    return _discounted(
        prompt_tokens * rates.per_prompt_token + completion_tokens * rates.per_completion_token, is_batch
    )


def price_audio(model: str, seconds: float, *, is_batch: bool = True) -> float | None:
    """Return the price of one recording in USD, billed as at least ten seconds; None if the model's price is unknown."""
    rate = _rates(model).per_second
    return None if rate is None else _discounted(max(seconds, MIN_BILLED_SECONDS) * rate, is_batch)


def _discounted(usd: float, is_batch: bool) -> float:
    # 12 decimals are finer than every price of a token, and coarser than the noise of binary fractions.
    return round(usd * (1 - BATCH_DISCOUNT) if is_batch else usd, 12)


@lru_cache(maxsize=256)
def _rates(model: str) -> _Rates:
    """Return a model's prices, cached: the package takes 50 microseconds for each."""
    try:
        found = calc_price(Usage(), model, provider_id=_PROVIDER).model_price
    except LookupError:
        return _Rates(None, None, None)
    per_hour = _rate(found, "input_audio_hours")
    return _Rates(
        _rate(found, "input_mtok", _MILLION),
        _rate(found, "output_mtok", _MILLION),
        None if per_hour is None else per_hour / _SECONDS_PER_HOUR,
    )


def _rate(prices: object, name: str, divisor: int = 1) -> float | None:
    """Return one price; a price that depends on the amount counts as unknown (Groq has none)."""
    found = getattr(prices, name, None)
    return float(found) / divisor if isinstance(found, Decimal) else None


def _dated() -> str:
    """Return the date of the prices for people: the newest start date of a Groq price, the only kind of date in the data."""
    starts = [
        start
        for provider in providers
        if provider.id == _PROVIDER
        for model in provider.models
        for entry in (
            *(model.prices if isinstance(model.prices, list) else ()),
            *(getattr(model, "price_variants", None) or ()),
        )
        if (start := getattr(entry.constraint, "start_date", None)) is not None
    ]
    package = f"genai-prices {version('genai-prices')}"
    return f"{max(starts)} ({package})" if starts else package


#: The date and the package of the prices, for people.
PRICES_AS_OF: Final = _dated()
