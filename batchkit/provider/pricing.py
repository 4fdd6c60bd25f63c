"""The cost of answers: the installed prices of ``genai-prices`` or those of a profile, and what the dialect says about batches.

Nothing is fetched. An unknown price is None, and never zero; without the package (the extra ``annotate``) only the prices of a
profile are known. The package takes half a second to load, so that it is loaded where a price is asked for.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from functools import cache, cached_property, lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, NamedTuple

from batchkit.errors import ConfigurationError
from batchkit.models import Lane
from batchkit.provider.dialect import Prices
from batchkit.provider.stored import own_dialect, stored_dialect

if TYPE_CHECKING:
    from collections.abc import Iterable

_MILLION: Final = 1_000_000
_SECONDS_PER_HOUR: Final = 3_600


class _Rates(NamedTuple):
    """USD without discount; None is unknown."""

    per_prompt_token: float | None
    per_completion_token: float | None
    per_second: float | None
    per_character: float | None = None


class Pricing:
    """The prices of one provider's models, in a batch or (without a discount) in single calls."""

    def __init__(self, prices: Prices, lane: Lane = Lane.BATCH) -> None:
        # Single calls have the ordinary price.
        self._prices = prices if lane is Lane.BATCH else replace(prices, discount=0.0)
        #: Which prices they are, for people.
        self.kind = "batch prices" if lane is Lane.BATCH else "ordinary prices"

    def price(self, model: str, prompt_tokens: int, completion_tokens: int) -> float | None:
        """Return the price of tokens in USD; None if the model's price is unknown."""
        rates = self._rates_of_tokens(model)
        if rates.per_prompt_token is None or rates.per_completion_token is None:
            return None
        return self._discounted(prompt_tokens * rates.per_prompt_token + completion_tokens * rates.per_completion_token)

    def price_audio(self, model: str, seconds: float) -> float | None:
        """Return the price of one recording in USD, billed with its shortest length; None if the model's price is unknown."""
        rate = _rates(self._prices.catalogue, model).per_second
        return None if rate is None else self._discounted(max(seconds, self._prices.min_billed_seconds) * rate)

    def price_speech(self, model: str, characters: int) -> float | None:
        """Return the price of a text that is spoken, in USD; None if the model's price is unknown."""
        rate = _rates(self._prices.catalogue, model).per_character
        return None if rate is None else self._discounted(characters * rate)

    @property
    def discount(self) -> float | None:
        """The share of the ordinary price that a batch saves; None: unknown, so that every price is."""
        return self._prices.discount

    @property
    def described(self) -> str:
        """Which prices these are, with their date and source, for people."""
        return f"{self.kind} of {self.as_of}"

    @cached_property  # reading all prices of a provider takes milliseconds, and they are part of the installation
    def as_of(self) -> str:
        """The date and the package of the prices, for people: the newest start of a price, the only date in the data."""
        if self._prices.own:
            return "your own profile"
        if not has_catalogue():
            return "no list: genai-prices is not installed"
        from genai_prices.data import providers  # noqa: PLC0415 - an extra, and slow to load

        starts = [
            start
            for provider in providers
            if provider.id == self._prices.catalogue
            for model in provider.models
            for entry in (
                *(model.prices if isinstance(model.prices, list) else ()),
                *(getattr(model, "price_variants", None) or ()),
            )
            if (start := getattr(entry.constraint, "start_date", None)) is not None
        ]
        package = f"genai-prices {version('genai-prices')}"
        return f"{max(starts)} ({package})" if starts else package

    def _rates_of_tokens(self, model: str) -> _Rates:
        own = self._prices.own.get(model)
        if own is None:
            return _rates(self._prices.catalogue, model)
        return _Rates(own[0] / _MILLION, own[1] / _MILLION, None)

    def _discounted(self, usd: float) -> float | None:
        # 12 decimals are finer than every price of a token, and coarser than the noise of binary fractions.
        return None if self._prices.discount is None else round(usd * (1 - self._prices.discount), 12)


def check_prices(pricing: Pricing, models: Iterable[str]) -> None:
    """Raise ``ConfigurationError`` unless the prices of all models are known: without them a budget in USD cannot be kept."""
    unknown = sorted(
        model
        for model in set(models)
        if pricing.price(model, 1, 1) is None
        and pricing.price_audio(model, 1.0) is None
        and pricing.price_speech(model, 1) is None
    )
    if unknown:
        raise unknown_price(", ".join(unknown))


def unknown_price(models: str) -> ConfigurationError:
    """Return the error of a budget in USD for models whose price is not known."""
    return ConfigurationError(
        f"--max-cost cannot be kept: the price of {models or 'a request without a model'} is not known",
        hint="give --max-total-tokens N instead, or the price in batchkit.toml, under [provider.profile.token_prices]",
    )


@cache
def has_catalogue() -> bool:
    """Return whether the prices of the extra ``annotate`` are installed."""
    return find_spec("genai_prices") is not None


def pricing_of(provider: str, lane: Lane = Lane.BATCH) -> Pricing:
    """Return the prices of a provider in a lane, the user's own profile included; no price is known of one that is not known here."""
    own = own_dialect(provider)
    return _known(provider, lane) if own is None else Pricing(own.prices, lane)


@cache  # one for each provider and lane
def _known(provider: str, lane: Lane) -> Pricing:
    dialect = stored_dialect(provider)
    return Pricing(Prices() if dialect is None else dialect.prices, lane)


@lru_cache(maxsize=256)
def _rates(catalogue: str | None, model: str) -> _Rates:
    """Return a model's prices, cached: the package takes 50 microseconds for each."""
    if catalogue is None or not has_catalogue():
        return _Rates(None, None, None)
    from genai_prices import Usage, calc_price  # noqa: PLC0415 - an extra, and slow to load

    try:
        found = calc_price(Usage(), model, provider_id=catalogue).model_price
    except LookupError:
        found = None
    if found is None:
        return _Rates(None, None, None)
    per_hour = _rate(found, "input_audio_hours")
    return _Rates(
        _rate(found, "input_mtok", _MILLION),
        _rate(found, "output_mtok", _MILLION),
        None if per_hour is None else per_hour / _SECONDS_PER_HOUR,
        _rate(found, "input_mchars", _MILLION),
    )


def _rate(prices: object, name: str, divisor: int = 1) -> float | None:
    """Return one price; a price that depends on the amount counts as unknown."""
    found = getattr(prices, name, None)
    return float(found) / divisor if isinstance(found, Decimal) else None
