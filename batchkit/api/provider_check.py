"""Does the server of the settings do what its profile says?"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from batchkit.annotation.pricing import Pricing
from batchkit.engine.composition import build_provider
from batchkit.errors import UsageError
from batchkit.provider import checking, profiles
from batchkit.provider.dialects import profile_named

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchkit.provider.check_report import CheckReport
    from batchkit.settings import Settings

_PATIENCE_SECONDS = 60.0


def check_provider(
    settings: Settings,
    *,
    may_create: Callable[[str, float | None], bool],
    model: str | None = None,
    patience_seconds: float = _PATIENCE_SECONDS,
    save: Path | None = None,
) -> CheckReport:
    """Send one line through every call of the server, and compare what it does with its profile; nothing of it stays there.

    ``may_create`` is asked with the model, and the price of the answer in USD or None where it is unknown, before a batch is
    created. A batch that still runs after ``patience_seconds`` is cancelled. ``save`` takes the profile with what was found.

    Raises ``ConfigurationError`` without a key or an address, and ``UsageError`` when ``save`` cannot be written; nothing is sent
    then. What the server refuses is in the report.
    """
    dialect = settings.dialect
    if save is not None:
        _check_target(save, settings)
    prices = Pricing(dialect.prices)
    with TemporaryDirectory(prefix="batchkit-check-") as folder:
        trial = checking.Trial(
            folder=Path(folder),
            may_create=lambda chosen: may_create(chosen, prices.price(chosen, *checking.TOKENS)),
            model=model,
            pause_seconds=min(2.0, settings.poll_interval_seconds),
            patience_seconds=patience_seconds,
        )
        report = checking.check(lambda changed: build_provider(settings, changed), dialect, trial)
    if save is not None and report.problem is None:
        save.write_text(_profile_text(settings, report), encoding="utf-8")
    return report


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
