"""What a provider accepts in the lines of an input file: values that its dialect has, with which the checks compare."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from batchkit.models import Lane

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from batchkit.preflight.findings import PreflightFindings

#: The shape of a line, which all these batch APIs share.
METHOD: Final = "POST"
CHAT: Final = "/v1/chat/completions"
TRANSCRIPTIONS: Final = "/v1/audio/transcriptions"
TRANSLATIONS: Final = "/v1/audio/translations"
SPEECH: Final = "/v1/audio/speech"
RESPONSES: Final = "/v1/responses"
EMBEDDINGS: Final = "/v1/embeddings"

#: No provider documents a limit that is larger. This one is ours, so that an id can be an index key.
CUSTOM_ID_MAX_CHARS: Final = 512
#: Every provider accepts this form.
CUSTOM_ID_PORTABLE: Final = r"[A-Za-z0-9_.:-]{1,64}"


class CheckBody(Protocol):
    """Checks the parameters of a request, beyond ``model``; a function of a module, so that it can be sent to another process."""

    def __call__(
        self, body: dict[str, Any], endpoint: str, model: str | None, line_bytes: int, findings: PreflightFindings
    ) -> None:
        """Add a finding for each parameter that the provider refuses, or that is unusual; never raises for JSON values."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LineRules:
    """The rules of one provider.

    ``page`` documents the shape of a line. ``model_endpoints`` has the urls of known models in lower case, none for models that
    the batch API does not serve; unknown models are accepted everywhere. Each file has requests to one endpoint, and with
    ``has_one_model`` to one model.

    Chats with only the parameters of ``plain_parameters``, valid by ``are_plain``, to models outside ``particular_models``,
    have no findings. ``reasoning_efforts`` has the values that a model accepts, by its name in lower case.

    These are the rules of batches. Single calls have the ``sync_endpoints`` as well, and the ``sync_models`` at their own urls:
    ``of_lane`` returns their rules, which accept every line that a batch takes.
    """

    page: str
    as_of: str
    endpoints: tuple[str, ...]
    check_body: CheckBody
    are_plain: Callable[[dict[str, Any]], bool]
    plain_parameters: frozenset[str]
    has_one_model: bool = False
    max_line_bytes: int | None = None
    max_custom_id_chars: int = CUSTOM_ID_MAX_CHARS
    model_endpoints: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    particular_models: frozenset[str] = frozenset()
    reasoning_efforts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sync_endpoints: tuple[str, ...] = ()
    sync_models: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    is_of_batches: bool = True

    def of_lane(self, lane: Lane) -> Self:
        """Return the rules of the lines that travel on a lane."""
        if lane is Lane.BATCH:
            return self
        return replace(
            self,
            endpoints=(*self.endpoints, *(url for url in self.sync_endpoints if url not in self.endpoints)),
            model_endpoints={**self.model_endpoints, **self.sync_models},
            is_of_batches=False,
        )
