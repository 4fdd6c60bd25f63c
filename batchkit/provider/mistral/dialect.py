"""Mistral's Batch API (docs.mistral.ai, and the SDK mistralai 3.7.0) as a dialect: jobs with one model, in numbered pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from batchkit.provider import profiles
from batchkit.provider.dialect import ApiShape
from batchkit.sharding import hours_of

if TYPE_CHECKING:
    from batchkit.models import FileId

PROFILE: Final = profiles.read_profile("batchkit.provider.mistral", "profile.toml")
#: OpenAI's names of members, with Mistral's.
_NAMES: Final = {
    "output_file_id": "output_file",
    "error_file_id": "error_file",
    "in_progress_at": "started_at",
}
_COUNTS: Final = {"total": "total_requests", "completed": "succeeded_requests", "failed": "failed_requests"}


class MistralShape(ApiShape):
    """The model belongs to the job, which has a list of input files and its window in hours."""

    __slots__ = ()

    @property
    def batches_path(self) -> str:
        """The path of the list of jobs."""
        return "/batch/jobs"

    def creation_of(self, *, input_file_id: FileId, endpoint: str, model: str | None, window: str) -> dict[str, object]:
        """Return what the creation of a job says."""
        return {
            "input_files": [input_file_id],
            "endpoint": endpoint,
            "model": model,
            "timeout_hours": hours_of(window),
        }

    def batch_of(self, payload: object) -> object:
        """Return a job with the names of OpenAI's reference; one of several files has no single input."""
        if not isinstance(payload, Mapping):
            return payload
        files = payload.get("input_files")
        return {
            **payload,
            **{ours: payload.get(its) for ours, its in _NAMES.items()},
            "input_file_id": files[0] if isinstance(files, list) and len(files) == 1 else None,
            "request_counts": {ours: payload.get(its) for ours, its in _COUNTS.items()},
        }
