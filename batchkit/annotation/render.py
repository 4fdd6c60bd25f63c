"""From a row to its requests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from batchkit.annotation.audio import InvalidAudio, NoAudio, audio_body, endpoint_of
from batchkit.annotation.conversations import InvalidConversation, NoConversation, conversation
from batchkit.annotation.examples import chosen_for
from batchkit.annotation.ids import RequestIds
from batchkit.annotation.image_files import ImageFolder
from batchkit.annotation.images import ImageReader, InvalidImage, NoImage
from batchkit.annotation.recording_files import RecordingFiles
from batchkit.annotation.response_format import plan_response_format
from batchkit.annotation.skipped import SkippedRow
from batchkit.annotation.template import Template, Unrendered, unknown_column
from batchkit.datasets.values import text_of
from batchkit.errors import InputProblem, UsageError
from batchkit.files import jsonl
from batchkit.formatting import printable
from batchkit.preflight.rules import CHAT, METHOD, SPEECH

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from batchkit.annotation.parameters import Audio, Speech
    from batchkit.annotation.recipe import Prompt, Recipe
    from batchkit.preflight.rules import LineRules
    from batchkit.provider.dialect import Dialect

#: The most bytes of a line beside its messages: ids, parameters, names.
_LINE_BYTES = 2_000
#: A reason may quote a cell, which may be as large as a book.
_REASON_CHARS = 300

#: Why a row has no request, for programs.
NOTHING_TO_ASK = "nothing_to_ask"
PROMPT_FAILED = "prompt_failed"
KEY_EMPTY = "key_empty"
KEY_REPEATED = "key_repeated"
IMAGE_INVALID = "image_invalid"
AUDIO_INVALID = "audio_invalid"
REQUEST_REFUSED = "request_refused"


class RowProblem(ValueError):
    """A row that has no request: ``number`` starts at 1, ``column`` is empty if the reason concerns no single column.

    ``code`` is the reason for programs, ``reason`` for people: of bounded length, and safe for a terminal.
    """

    def __init__(self, number: int, column: str, why: str, code: str) -> None:
        self.number = number
        self.code = code
        self.reason = printable(f"{column}: {why}" if column else why, _REASON_CHARS)
        super().__init__(f"row {number:,}{', ' if column else ': '}{self.reason}")

    @property
    def is_empty(self) -> bool:
        """Whether the row has nothing that could be asked; else what it has cannot be asked."""
        return self.code == NOTHING_TO_ASK

    def skipped(self) -> SkippedRow:
        """Return the row as one that is skipped."""
        return SkippedRow(self.number, self.code, self.reason)


@dataclass(frozen=True, slots=True)
class BadRow(InputProblem):
    """A problem of a row for people; ``line`` is the row's number."""

    def __str__(self) -> str:
        return f"{self.source}, row {self.line:,}: {self.reason}"


class _NothingToAsk(Unrendered):
    """A row that has no question."""


def is_blank(value: Any) -> bool:
    """Whether a cell is empty or has only blanks; tables of numbers have NaN in empty cells."""
    return not isinstance(value, (list, dict)) and not text_of(value).strip()


def _titles(recipe: Recipe, prompt: Prompt) -> dict[str, str]:
    """Return what people call the templates of a prompt; moderation's are columns that they name with an option."""
    if recipe.kind == "moderate":
        return {"user": "--text" if prompt.prefill is None else "--prompt-column", "assistant": "--text"}
    return {"system": "system message", "user": "prompt", "assistant": "prefilled answer"}


class _Texts(NamedTuple):
    """The rendered messages of a prompt: the ``turns`` before the question, and the other texts ``by_role``."""

    turns: list[dict[str, str]]
    by_role: dict[str, str]

    @property
    def bytes_of_utf8(self) -> int:
        """The length of all texts."""
        return sum(len(text.encode()) for text in (*self.by_role.values(), *(turn["content"] for turn in self.turns)))


class _Messages:
    """The messages of one prompt, checked against the columns; ``texts`` are its templates by role, beside the ``turns``.

    With ``is_about_text`` a row whose columns are all empty is refused. ``titles`` are the templates by role, for errors.
    """

    def __init__(
        self,
        prompt: Prompt,
        columns: Sequence[str],
        *,
        is_named: bool,
        is_about_text: bool,
        titles: Mapping[str, str],
    ) -> None:
        of_which = f" of the prompt {prompt.name!r}" if is_named else ""
        given = {"system": prompt.system, "user": prompt.user or None, "assistant": prompt.prefill}
        self.texts = {
            role: Template(text, columns, title=titles[role] + of_which)
            for role, text in given.items()
            if text is not None
        }
        self.turns = [
            (turn.role, Template(turn.content, columns, title=f"message {number}{of_which}"))
            for number, turn in enumerate(prompt.turns, 1 if prompt.system is None else 2)
        ]
        templates = (*self.texts.values(), *(template for _, template in self.turns))
        self.columns = {column for template in templates for column in template.columns}
        self._is_about_text = is_about_text and bool(self.columns)

    def render(self, row: Mapping[str, Any]) -> _Texts:
        """Return the messages' texts. Raises ``Unrendered``, also for a message that is empty."""
        if self._is_about_text and all(is_blank(row[column]) for column in self.columns):
            are = "is" if len(self.columns) == 1 else "are"
            raise _NothingToAsk(f"{' and '.join(sorted(self.columns))} {are} empty, so the row has no question")
        turns = [{"role": role, "content": _filled(template, row)} for role, template in self.turns]
        return _Texts(turns, {role: _filled(template, row) for role, template in self.texts.items()})


def _filled(template: Template, row: Mapping[str, Any]) -> str:
    text = template.render(row)
    if not text.strip():
        raise _NothingToAsk(f"the {template.title} is empty")
    return text


class Renderer:
    """Makes the requests of rows by a recipe, for the provider of ``dialect``. Relative paths begin in ``folder``.

    The requests are checked by ``rules``, by default those of batches.

    ``columns`` are the columns that it reads, in the table's order. Raises ``UsageError`` for templates and columns that do not fit
    the table's ``columns``.
    """

    def __init__(
        self,
        recipe: Recipe,
        columns: Sequence[str],
        *,
        dialect: Dialect,
        folder: Path | None = None,
        rules: LineRules | None = None,
    ) -> None:
        self.recipe = recipe
        self.dialect = dialect
        self.rules = rules or dialect.rules
        self._ids = RequestIds(recipe)
        self._audio_prompt = _audio_prompt(recipe, columns)
        is_named = len(recipe.prompts) > 1
        self._prompts = [
            _Messages(
                prompt,
                columns,
                is_named=is_named,
                is_about_text=not recipe.images and recipe.messages is None,
                titles=_titles(recipe, prompt),
            )
            for prompt in recipe.prompts
        ]
        files = ImageFolder(folder or Path(), allow_outside=recipe.allow_paths)
        audio_files = ImageFolder(folder or Path(), allow_outside=recipe.allow_paths, what="a recording")
        self._recording_files = RecordingFiles(audio_files, dialect.models.uploads)
        self._images = ImageReader(recipe.images, files=files, shrink=recipe.shrink_images, limits=dialect.models)
        self._requests = [self._bodies(prompt) for prompt in recipe.prompts]
        read = self._columns_read()
        for column, what in _named_columns(recipe):
            if column not in columns:
                raise unknown_column(column, columns, reader=what)
            read.add(column)
        self.columns = tuple(column for column in columns if column in read)

    def key_of(self, row: dict[str, Any] | None, number: int) -> str:
        """Return the part of the custom_ids that identifies a row."""
        return self._ids.key_of(row, number)

    def requests(self, row: dict[str, Any], number: int) -> list[bytes]:
        r"""Return a row's requests as lines with their ``\n``, in the order of ``Recipe``; ``number`` starts at 1.

        Raises ``RowProblem``.
        """
        try:
            bodies = self._bodies_of(row)
        except (_NothingToAsk, NoImage, NoAudio) as trouble:
            raise RowProblem(number, self._column_of(trouble), str(trouble), NOTHING_TO_ASK) from None
        except NoConversation as trouble:
            raise RowProblem(number, self.recipe.messages or "", str(trouble), NOTHING_TO_ASK) from None
        except InvalidConversation as trouble:
            raise RowProblem(number, self.recipe.messages or "", str(trouble), PROMPT_FAILED) from None
        except Unrendered as trouble:
            raise RowProblem(number, "", str(trouble), PROMPT_FAILED) from None
        except InvalidImage as trouble:
            raise RowProblem(number, self._column_of(trouble), str(trouble), IMAGE_INVALID) from None
        except InvalidAudio as trouble:
            raise RowProblem(number, self._column_of(trouble), str(trouble), AUDIO_INVALID) from None
        # After the question: a row without either has nothing to ask.
        if self.recipe.key is not None and is_blank(row[self.recipe.key]):
            raise RowProblem(number, self.recipe.key, "the key is empty", KEY_EMPTY)
        ids = iter(self._ids.of_key(self._ids.key_of(row, number)))
        url = CHAT if self.recipe.audio is None else endpoint_of(self.recipe.audio)
        url = url if self.recipe.speech is None else SPEECH
        return [
            jsonl.dumps({"custom_id": next(ids), "method": METHOD, "url": url, "body": body}) + b"\n" for body in bodies
        ]

    def _bodies_of(self, row: Mapping[str, Any]) -> list[dict[str, Any]]:
        if self.recipe.speech is not None:
            return self._spoken(row, self.recipe.speech)
        return self._chats(row) if self.recipe.audio is None else self._recordings(row, self.recipe.audio)

    def _column_of(self, trouble: Exception) -> str:
        if isinstance(trouble, InvalidImage):
            return trouble.column
        return self.recipe.audio.column if isinstance(trouble, InvalidAudio) and self.recipe.audio is not None else ""

    def _columns_read(self) -> set[str]:
        read = {column for messages in self._prompts for column in messages.columns}
        if self._audio_prompt is not None:
            read |= self._audio_prompt.columns
        others = (self.recipe.messages, self.recipe.audio, self.recipe.speech)
        if not read and not self.recipe.images and all(other is None for other in others):
            raise UsageError(
                "the prompt names no column, so every row would get the same question",
                hint="write {{ column }} where the row's text belongs",
            )
        return read

    def _bodies(self, prompt: Prompt) -> list[tuple[dict[str, Any], str | None]]:
        """Return the bodies of a prompt's requests without messages, each with the instruction for its system message."""
        prepared = []
        for model in self.recipe.models:
            plan = plan_response_format(self.recipe, model, self.dialect.models, has_prefill=prompt.prefill is not None)
            for sample in range(1, self.recipe.samples + 1):
                parameters = self.recipe.parameters.body(sample=sample)
                body = {"model": model, "messages": [], **parameters, **plan.members}
                prepared.append((body, plan.instruction))
        return prepared

    def _chats(self, row: Mapping[str, Any]) -> list[dict[str, Any]]:
        texts = [messages.render(row) for messages in self._prompts]
        said = self._conversation(row)
        parts: list[dict[str, Any]] = []
        if self.recipe.images:
            text_bytes = max(texts_of.bytes_of_utf8 for texts_of in texts)
            fixed = max(
                len(jsonl.dumps(body)) + len(instruction or "") for made in self._requests for body, instruction in made
            )
            parts = self._images.parts(row, other_bytes=2 * text_bytes + fixed + _LINE_BYTES)
        return [
            {**body, "messages": _messages(texts_of.by_role, instruction, self._before(said, texts_of), parts)}
            for texts_of, made in zip(texts, self._requests, strict=True)
            for body, instruction in made
        ]

    def _conversation(self, row: Mapping[str, Any]) -> list[dict[str, str]]:
        """Return what was said before the question. Raises ``InvalidConversation``."""
        if self.recipe.messages is None:
            return []
        said = conversation(row[self.recipe.messages])
        if said[-1]["role"] != "user" and any(not prompt.user for prompt in self.recipe.prompts):
            raise InvalidConversation("the last message is not the user's, and there is no --prompt after it")
        return said

    def _before(self, said: list[dict[str, str]], texts: _Texts) -> list[dict[str, str]]:
        """Return what stands between the system message and the question."""
        return [*said, *self._examples(texts.by_role), *texts.turns]

    def _examples(self, texts: Mapping[str, str]) -> Iterator[dict[str, str]]:
        """Yield the messages of the examples for a question."""
        if self.recipe.examples:
            for example in chosen_for(self.recipe, texts.get("user", "")):
                yield {"role": "user", "content": example.user}
                yield {"role": "assistant", "content": example.assistant}

    def _spoken(self, row: Mapping[str, Any], speech: Speech) -> list[dict[str, Any]]:
        if is_blank(row[speech.column]):
            raise _NothingToAsk(f"{speech.column} is empty, so there is nothing to speak")
        speed = {} if speech.speed is None else {"speed": speech.speed}
        said = {
            "input": text_of(row[speech.column]),
            "voice": speech.voice,
            "response_format": speech.response_format,
            **speed,
        }
        return [{"model": model, **said} for model in self.recipe.models]

    def _recordings(self, row: Mapping[str, Any], audio: Audio) -> list[dict[str, Any]]:
        prompt = None if self._audio_prompt is None else self._audio_prompt.render(row)
        body = audio_body(audio, row[audio.column], prompt, self._recording_files)
        return [{"model": made["model"], **body} for prepared in self._requests for made, _ in prepared]


def _messages(
    texts: Mapping[str, str], instruction: str | None, before: list[dict[str, str]], images: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    system = "\n\n".join(text for text in (texts.get("system"), instruction) if text)
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    messages += before
    user = texts.get("user")
    if images:
        content = [{"type": "text", "text": user}, *images] if user else images
        messages.append({"role": "user", "content": content})
    elif user is not None:
        messages.append({"role": "user", "content": user})
    if "assistant" in texts:
        messages.append({"role": "assistant", "content": texts["assistant"]})
    return messages


def _audio_prompt(recipe: Recipe, columns: Sequence[str]) -> Template | None:
    if recipe.audio is None or recipe.audio.prompt is None:
        return None
    return Template(recipe.audio.prompt, columns, title="prompt")


def _named_columns(recipe: Recipe) -> list[tuple[str, str]]:
    named = [(column, "--image") for column in recipe.images]
    if recipe.messages is not None:
        named.append((recipe.messages, "--messages"))
    if recipe.audio is not None:
        named.append((recipe.audio.column, "--audio"))
    if recipe.speech is not None:
        named.append((recipe.speech.column, "--text"))
    if recipe.key is not None:
        named.append((recipe.key, "--key"))
    return named
