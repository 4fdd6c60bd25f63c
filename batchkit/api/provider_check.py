"""Does the server of the settings do what its profile says?"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from batchkit.engine.composition import build_provider
from batchkit.errors import UsageError
from batchkit.provider import checking, profiles
from batchkit.provider.check_remote import Trial
from batchkit.provider.dialects import profile_named
from batchkit.provider.pricing import Pricing

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchkit.provider.check_remote import Costs
    from batchkit.provider.check_report import CheckReport
    from batchkit.provider.dialect import Dialect
    from batchkit.settings import Settings

_PATIENCE_SECONDS = 60.0
#: A short recording, for the price that is told before.
_RECORDING_SECONDS = 60.0


def check_provider(
    settings: Settings,
    *,
    may_create: Callable[[str, float | None], bool],
    model: str | None = None,
    audio: str | None = None,
    patience_seconds: float = _PATIENCE_SECONDS,
    save: Path | None = None,
) -> CheckReport:
    """Send a few lines through every call of the server, and compare what it does with its profile; nothing of it stays there.

    ``may_create`` is asked with the model, and what all answers cost at most in USD or None where that is unknown, before a batch is
    created. ``audio`` is the address of a short recording for lines that transcribe it, which are left out without it. Batches that
    still run after ``patience_seconds`` are cancelled. ``save`` takes the profile with what was found.

    Raises ``ConfigurationError`` without a key or an address, and ``UsageError`` when ``save`` cannot be written; nothing is sent
    then. What the server refuses is in the report.
    """
    dialect = settings.dialect
    if save is not None:
        _check_target(save, settings)
    with TemporaryDirectory(prefix="batchkit-check-") as folder:
        trial = Trial(
            folder=Path(folder),
            may_create=lambda costs: may_create(costs.model, _price(dialect, costs)),
            model=model,
            audio=audio,
            pause_seconds=min(2.0, settings.poll_interval_seconds),
            patience_seconds=patience_seconds,
        )
        report = checking.check(lambda changed: build_provider(settings, changed), dialect, trial)
    if save is not None and report.problem is None:
        save.write_text(_profile_text(settings, report), encoding="utf-8")
    return report


def _price(dialect: Dialect, costs: Costs) -> float | None:
    """Return what a check costs at most; an ordinary call costs twice a line of a batch, or less."""
    prices = Pricing(dialect.prices)
    line = prices.price(costs.model, *checking.TOKENS)
    speech = next(iter(dialect.models.transcription), None)
    recording = 0.0 if not costs.recordings or speech is None else prices.price_audio(speech, _RECORDING_SECONDS)
    if line is None or recording is None:
        return None
    return line * (costs.lines + 2 * costs.calls) + recording * costs.recordings


def _check_target(save: Path, settings: Settings) -> None:
    if profile_named(settings.provider) is None:
        raise UsageError(
            f"{settings.dialect.title} has no profile that could be saved; nothing was sent",
            hint="for a server of your own give --provider custom",
        )
    if save.exists():
        raise UsageError(f"{save} exists; nothing was sent", hint="name a file that does not exist")
    if not save.absolute().parent.is_dir():
        raise UsageError(f"{save} cannot be written: its folder does not exist; nothing was sent")


def _profile_text(settings: Settings, report: CheckReport) -> str:
    own = settings.provider_profile
    values = {} if own is None else own.model_dump(mode="json", exclude_none=True)
    note = f"what `batchkit provider check` found at {settings.address}"
    return profiles.written(settings.provider, settings.address, values | report.corrections, note=note)
