"""Compares the models of an input with those that the key may use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from batchkit.formatting import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from batchkit.models import RemoteModel

_SHOWN_CHARS: Final = 100


def model_warnings(models: Iterable[str], available: Sequence[RemoteModel]) -> list[str]:
    """Return a warning for each model that GET /models does not list or lists as inactive, sorted by model.

    It is only a warning: the list may have changed when the batch runs days later.
    """
    active = {model.id: model.active for model in available}
    spelling = {model.id.lower(): model.id for model in available}
    warnings = []
    for model in sorted(set(models)):
        name = printable(model, _SHOWN_CHARS)
        if model in active:
            if not active[model]:
                warnings.append(f"model {name} is listed as inactive")
        elif (listed := spelling.get(model.lower())) is not None:
            warnings.append(f"model {name} is listed as {listed}: write it the same way")
        else:
            warnings.append(f"model {name} is not listed for this key")
    return warnings
