"""The parameters of a chat request that a recipe sets for all rows."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

ResponseFormat = Literal["text", "json_object", "json_schema"]


class Parameters(BaseModel):
    """Parameters of /v1/chat/completions (console.groq.com/docs/api-reference); None is not sent: the model's default.

    ``max_completion_tokens`` includes reasoning tokens. ``seed`` belongs to the first sample; each further sample of a row gets the
    next number. With ``response_format`` None the answer rules and the model decide.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: float | None = None
    top_p: float | None = None
    max_completion_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    tools: tuple[dict[str, Any], ...] = ()
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    reasoning_format: str | None = None
    reasoning_effort: str | None = None
    include_reasoning: bool | None = None

    def body(self, *, sample: int = 1) -> dict[str, Any]:
        """Return the members of a request's body, without ``response_format``, for the ``sample``-th answer (from 1)."""
        given = self.model_dump(exclude_none=True, exclude={"response_format"})
        for name in ("stop", "tools"):
            if given[name]:
                given[name] = list(given[name])
            else:
                del given[name]
        if self.seed is not None:
            given["seed"] = self.seed + sample - 1
        return given


class Audio(BaseModel):
    """The parameters of a transcription (console.groq.com/docs/speech-to-text).

    ``column`` holds the addresses. ``language`` is an ISO-639-1 code, ``prompt`` a template of at most 224 tokens, ``temperature``
    from 0 to 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    column: str
    translate: bool = False
    language: str | None = None
    prompt: str | None = None
    timestamps: tuple[Literal["segment", "word"], ...] = Field(default=("segment",), min_length=1)
    temperature: float | None = None


class Speech(BaseModel):
    """The parameters of a request for speech (console.groq.com/docs/text-to-speech). ``column`` holds the texts; None is not sent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    column: str
    voice: str = Field(min_length=1)
    response_format: str = Field(default="wav", pattern="^[a-z0-9]{1,8}$")
    speed: float | None = None
