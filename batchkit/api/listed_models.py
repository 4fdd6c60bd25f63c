"""Does the provider list the models of a new workload? Without it every request for them would fail after hours."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from batchkit.engine.composition import build_provider
from batchkit.errors import ProviderError, UsageError
from batchkit.models import RemoteModel
from batchkit.preflight import model_warnings

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from batchkit.engine.observer import Observer
    from batchkit.settings import Settings

#: The most models that are asked for by their names.
_ASKED_BY_NAME = 20
#: The check is made once, before anything is sent: an outage is for whoever sends.
_QUICK = {"http_attempts": 1, "http_timeout_seconds": 10.0, "connect_timeout_seconds": 5.0}


def model_check(
    settings: Settings, observer: Observer, *, is_dry_run: bool = False
) -> Callable[[Collection[str]], None]:
    """Return a function that takes models, and raises ``UsageError`` for those that the provider neither lists nor knows by name.

    Where it cannot be asked, nothing is refused: a dry run says so, and a run meets the same trouble when it sends.
    """

    def check(models: Collection[str]) -> None:
        try:
            with closing(build_provider(settings.model_copy(update=_QUICK))) as provider:
                listed = provider.list_models()
                names = {model.id for model in listed}
                unlisted = sorted(set(models) - names)
                if listed and len(unlisted) <= _ASKED_BY_NAME:
                    listed += [RemoteModel(model, active=True) for model in unlisted if provider.has_model(model)]
        except (ProviderError, UsageError) as error:
            if is_dry_run:
                observer.note(f"warning: whether the provider lists the models is not known: {error.message}")
            return
        problems = model_warnings(models, listed) if listed else []
        if problems:
            raise UsageError(
                f"{settings.address}: {'; '.join(problems)}",
                hint="name a model that the provider lists for this key; nothing was sent",
            )

    return check
