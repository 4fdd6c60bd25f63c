"""Together's Batch API (docs.together.ai, and the SDK together 3.1.1) as a dialect: no metadata, no pages, one sentence as error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from batchkit.provider import profiles
from batchkit.provider.dialect import ApiShape

PROFILE: Final = profiles.read_profile("batchkit.provider.together", "profile.toml")


class TogetherShape(ApiShape):
    """A creation is answered with ``{job, warning}``; a batch has no counts, one text as ``error``, and ISO 8601 times.

    The SDK uploads by a redirect to a storage; the form that takes the file itself is documented for plain HTTP.
    """

    __slots__ = ()

    @property
    def upload_path(self) -> str:
        """The path that takes a file."""
        return "/files/upload"

    def upload_fields(self, filename: str) -> dict[str, str]:
        """Return the fields of an upload, which name the file once more."""
        return {"purpose": self.purpose, "file_name": filename, "file_type": "jsonl"}

    def batch_of(self, payload: object) -> object:
        """Return a job, with or without the wrapper of its creation, with the names of OpenAI's reference."""
        job = payload.get("job", payload) if isinstance(payload, Mapping) else payload
        if not isinstance(job, Mapping):
            return job
        return {**job, "expires_at": job.get("job_deadline"), "errors": job.get("error")}
