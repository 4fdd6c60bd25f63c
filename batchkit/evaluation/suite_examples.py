"""The part of a suite that names answered questions, which are shown before each question (few-shot)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from batchkit import formatting
from batchkit.evaluation.suite_dataset import as_tuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from batchkit.evaluation.suite_parts import PromptMessages
    from batchkit.files.checked_yaml import Place

#: As many as ``annotate`` shows.
_COUNT = 5


class Examples(BaseModel):
    """Labelled rows, in a table of their own (``path``) or in the suite itself (``rows``).

    ``count`` of them are shown before each question: 5 of a table, or all of the suite's own. They are drawn by ``examples_seed``;
    with ``nearest`` each question gets those that are most like it. The answer is in the columns of its properties, or, if it is no JSON
    object, in the suite's ``expected`` column or else in ``answer``; ``columns`` maps these to others. See ``annotation.examples``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Annotated[tuple[str, ...], BeforeValidator(as_tuple)] = ()
    separator: str | None = None
    rows: tuple[dict[str, Any], ...] = ()
    count: int | None = Field(default=None, ge=1)
    examples_seed: int = Field(default=0, ge=0)
    nearest: bool = False
    columns: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _are_somewhere(self) -> Self:
        if bool(self.path) == bool(self.rows):
            raise ValueError("examples are either a list of rows, or in the table at `path`")
        return self

    @property
    def shown(self) -> int:
        """The number of examples that are shown before a question."""
        return self.count or len(self.rows) or _COUNT

    def contradictions(self, prompts: Mapping[str, PromptMessages], *, has_images: bool) -> Iterator[tuple[Place, str]]:
        """Yield what keeps examples from being shown."""
        if has_images:
            yield ("examples",), "examples cannot be shown with images"
        if len(prompts) > 1:
            yield ("examples",), "examples belong to one prompt: write one suite for each prompt"
        if any(prompt.named(name).turns for name, prompt in prompts.items()):
            yield (
                ("examples",),
                "write the examples among the `messages`: a chat of several questions has no place for others",
            )


def as_examples(value: Any) -> Any:
    """Return a list as the rows of examples."""
    return {"rows": value} if isinstance(value, list) else value


def examples_note(examples: Examples | None) -> Iterator[str]:
    """Yield what the reader of a run's figures must know about examples."""
    if examples is not None:
        shown = formatting.counted(examples.shown, "example")
        yield f"{shown} before each question; rows that ask what an example asks were left out"


def left_out_note(count: int) -> str:
    """Return a sentence about the rows that are not asked because they serve as examples."""
    if not count:
        return "no row asks what an example asks"
    rows = formatting.counted(count, "row")
    return (
        f"{rows} {'asks' if count == 1 else 'ask'} what an example asks, and {'is' if count == 1 else 'are'} left out"
    )
